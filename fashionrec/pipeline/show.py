"""What the command shows to people: a run's figures, one user's path to the products, the tables."""

import json
from pathlib import Path
from typing import Any

from pyspark.sql import DataFrame, Row
from pyspark.sql import functions as f
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fashionrec.errors import UserError
from fashionrec.evaluate.report import metrics_table
from fashionrec.lake import tables as lake
from fashionrec.lake.spec import Column, TableSpec, table_spec, table_specs
from fashionrec.pipeline.show_memory import titles
from fashionrec.pipeline.step import Run


def summary(run: Run, console: Console) -> None:
    """Print what the run cost, the evaluation that it made, and the products of two users with their journeys."""
    manifest = Path(run.path("manifests", str(run.run_date), f"{run.run_id}.json"))
    steps = json.loads(manifest.read_text(encoding="utf-8"))["steps"]
    seconds, peak = sum(step["seconds"] for step in steps), max(step["peak_gib"] for step in steps)
    console.print(f"{len(steps)} steps, {seconds:.0f} s, peak {peak:.1f} GiB", style="bold", highlight=False)
    console.print(f"manifest: {manifest}", highlight=False, soft_wrap=True)
    if any(step["step"] == "evaluate" for step in steps):
        console.print(metrics_table([row.asDict() for row in run.read("evaluations").collect()]))
    if any(step["step"] == "recommend" for step in steps):
        for user_id in example_users(run, 2):
            user(run, user_id, console, with_prompt=False)


def example_users(run: Run, count: int) -> list[str]:
    """Return users of the run date with an answer from the model, in the order of their names."""
    rows = run.read("recommendations").where("source <> 'popular'").select("user_id").distinct().orderBy("user_id").limit(count)
    return [row.user_id for row in rows.collect()]


def user(run: Run, user_id: str, console: Console, *, with_prompt: bool = True) -> None:
    """Print a user's journey, prompt, answer and products with why, for each category.

    Raises:
        UserError: the run date has no recommendations for the user.
    """
    if user_id == "any":
        user_id = (example_users(run, 1) or [""])[0]
    products = _rows(run, "recommendations", user_id)
    if not products:
        raise UserError(
            f"user {user_id!r} has no recommendations on {run.run_date}; tables hold pseudonyms (fashionrec pseudonym); "
            "'fashionrec show any' takes a user who has some"
        )
    answers = {row.category: row for row in _rows(run, "generations", user_id, "split = 'score'")}
    hits = _hits(run, user_id)
    prompts = {row.category: row for row in _rows(run, "prompts", user_id, "split = 'score'")}
    for path in sorted(_rows(run, "sequences", user_id, "split = 'score'"), key=lambda row: row.category):
        console.rule(f"[bold]user {escape(user_id)}[/] · {escape(path.category)} · {run.run_date}", align="left")
        _journey(path, hits, console)
        prompt = prompts.get(path.category)
        if prompt and with_prompt:
            console.print(f"\n[bold]The prompt[/] ({_prompt_words(prompt)})", highlight=False)
            console.print(escape(prompt.prompt), style="dim", highlight=False)
        answer = answers.get(path.category)
        if answer:
            say = answer.answer if answer.parse_error is None else f"{answer.answer!r}: not usable, {answer.parse_error}"
            probability = "" if answer.log_prob is None else f"  (log-probability {answer.log_prob:.2f}, {answer.model_version})"
            console.print(f"\n[bold]The answer[/]  {escape(say)}{probability}", highlight=False)
        table = Table("#", "item", "product", "why", box=None, pad_edge=False)
        for row in sorted((row for row in products if row.category == path.category), key=lambda row: row.rank):
            table.add_row(str(row["rank"]), row.item_id, escape(row.title), escape(row.reason))
        console.print("\n[bold]Recommended[/]")
        console.print(table)


def _rows(run: Run, table: str, user_id: str, where: str = "true") -> list[Row]:
    return run.read(table).where(f.col("user_id") == user_id).where(where).collect()


def _hits(run: Run, user_id: str) -> dict[tuple[str, str], Row]:
    """Return the memory's answers to the queries of a user's open paths, by category and query."""
    paths = run.read("sequences").where("split = 'score'").where(f.col("user_id") == user_id)
    asked = paths.select("as_of_date", "category", f.explode("actions.query").alias("query")).distinct()
    hits = run.read("query_hits").join(asked, ["as_of_date", "category", "query"]).collect()
    return {(row.category, row["query"]): row for row in hits}


def _journey(path: Row, hits: dict[tuple[str, str], Row], console: Console) -> None:
    console.print("[bold]The journey[/], and what the memory knows of its searches")
    for action in path.actions:
        what = f"“{action.query}”" if action.action == "search" else f"{action.title} ({action.item_id})"
        console.print(f"  {action.event_at:%Y-%m-%d %H:%M}  {action.action:<8}  {escape(what)}", highlight=False)
        if hit := hits.get((path.category, action.query)):
            console.print(f"    {escape(_hit_words(hit))}", style="dim", highlight=False, no_wrap=True, overflow="ellipsis")


def _hit_words(hit: Row) -> str:
    """Return in one line which remembered queries answered, and with which products."""
    if hit.match == "none":
        return "nothing like it is remembered"
    likes = ", ".join(f"“{one['query']}” {one.similarity:.2f}" for one in hit.neighbours)
    how = "remembered" if hit.match == "exact" else f"like {likes}"
    return f"{how}: {titles(hit.products)}"


def _prompt_words(prompt: Row) -> str:
    """Return how long a prompt is, what stands in it and what was left out."""
    dropped = {"action": "oldest actions", "attribute": "attributes", "product": "products of the memory"}
    left_out = [f"{count} {words}" for name, words in dropped.items() if (count := prompt[f"dropped_{name}_count"])]
    return (
        f"{prompt.token_count} tokens with {prompt.action_count} actions and {prompt.memory_product_count} products of the memory; "
        f"dropped: {', '.join(left_out) or 'nothing'}"
    )


def tables(run: Run, name: str, console: Console) -> None:
    """Print every table with its newest day and rows, or the columns of one."""
    if name:
        try:
            console.print(_columns(table_spec(name)))
        except KeyError as error:
            raise UserError(str(error.args[0])) from None
        return
    listing = Table("table", "grain", "newest day", title=f"Tables of {run.path('lake')}", title_justify="left")
    listing.add_column("rows that day", justify="right")
    listing.add_column("version", justify="right")
    for spec in table_specs():
        if spec.kind == "raw":
            continue
        path = run.path("lake", spec.table)
        if not lake.table_exists(run.spark, path):
            listing.add_row(spec.table, spec.grain, "-", "-", "-")
            continue
        newest = _newest_day(run.spark.read.format("delta").load(path), spec)
        day, count = (str(newest[0]), f"{newest[1]:,}") if newest else ("empty", "0")
        listing.add_row(spec.table, spec.grain, day, count, str(lake.table_version(run.spark, path)))
    console.print(listing)


def _newest_day(frame: DataFrame, spec: TableSpec) -> Any:
    return frame.groupBy(spec.day_column).count().orderBy(f.desc(spec.day_column)).first()


def _columns(spec: TableSpec) -> Table:
    table = Table("column", "type", "null", "meaning", title=f"{spec.table}: {spec.grain}", title_justify="left")
    for column, field in zip(spec.columns, spec.struct, strict=True):
        table.add_row(column.name, field.dataType.simpleString(), "yes" if column.nullable else "", _meaning(column))
    for constraint in spec.constraints:
        table.add_row(constraint.name, "check", "", f"{constraint.check}: {constraint.why}")
    return table


def data_dictionary() -> str:
    """Return the data dictionary of all tables as Markdown, made from schemas/."""
    parts = ["# Tables", "", "Made from `schemas/` by `make docs`; do not edit."]
    for spec in table_specs():
        key = ", ".join(spec.primary_key) or "none"
        parts += ["", f"## {spec.table}", "", f"One row: {spec.grain}. Key: {key}."]
        if spec.partitioned_by:
            parts[-1] += f" Partitioned by {', '.join(spec.partitioned_by)}."
        if spec.retention_days:
            parts[-1] += f" Kept {spec.retention_days} days."
        parts += ["", "| column | type | null | meaning |", "|---|---|---|---|"]
        for column, field in zip(spec.columns, spec.struct, strict=True):
            kind = field.dataType.simpleString().replace(",", ", ")
            parts.append(f"| {column.name} | `{kind}` | {'yes' if column.nullable else ''} | {_meaning(column)} |")
        if spec.constraints:
            parts += ["", "Constraints, refused on write:", ""]
            parts += [f"- `{c.name}`: `{c.check}` ({c.why})" for c in spec.constraints]
    return "\n".join(parts) + "\n"


def _meaning(column: Column) -> str:
    words = column.description + (f" [{column.unit}]" if column.unit else "") + (f"; {column.formula}" if column.formula else "")
    return words + (" (personal)" if column.pii else "")
