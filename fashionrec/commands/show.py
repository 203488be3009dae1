"""What the command shows of a run and of one user's path to the products."""

from collections.abc import Mapping
from typing import Any

from pyspark.sql import Row
from pyspark.sql import functions as f
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fashionrec.commands.memory import titles
from fashionrec.errors import UserError
from fashionrec.pipeline.runner import manifest_path
from fashionrec.pipeline.workspace import Workspace
from fashionrec.reports.day import metrics_table
from fashionrec.reports.journeys import with_shown_times


def summary(workspace: Workspace, manifest: Mapping[str, Any], console: Console) -> None:
    """Print what a run cost, the evaluation that it made, and the products of two users with their journeys."""
    steps = manifest["steps"]
    seconds, peak = sum(step["seconds"] for step in steps), max(step["peak_gib"] for step in steps)
    console.print(Text(f"{len(steps)} steps, {seconds:.0f} s, peak {peak:.1f} GiB", "bold"))
    console.print(Text(f"manifest: {manifest_path(workspace, manifest['run_id'])}"), soft_wrap=True)
    names = {step["step"] for step in steps}
    if "evaluate" in names:
        console.print(metrics_table([row.asDict() for row in workspace.read("evaluations").collect()]))
    if "recommend" in names:
        for user_id in example_users(workspace, 2):
            user(workspace, user_id, console, with_prompt=False)


def example_users(workspace: Workspace, count: int) -> list[str]:
    """Return users of the date with an answer from the model, in the order of their names."""
    users = workspace.read("recommendations").where("NOT startswith(source, 'popularity')").select("user_id").distinct()
    return [row.user_id for row in users.orderBy("user_id").limit(count).collect()]


def user(workspace: Workspace, user_id: str, console: Console, *, with_prompt: bool = True) -> None:
    """Print a user's journey, prompt, answer and products with why, for each category.

    Raises:
        UserError: the date has no recommendations for the user.
    """
    if user_id == "any":
        user_id = (example_users(workspace, 1) or [""])[0]
    products = _rows(workspace, "recommendations", user_id)
    if not products:
        raise UserError(
            f"user {user_id!r} has no recommendations on {workspace.run_date}; tables hold pseudonyms (fashionrec pseudonym); "
            "'fashionrec show any' takes a user who has some"
        )
    answers = {row.category: row for row in _rows(workspace, "generations", user_id, "split = 'score'")}
    hits = _hits(workspace, user_id)
    prompts = {row.category: row for row in _rows(workspace, "prompts", user_id, "split = 'score'")}
    paths = workspace.read("sequences").where((f.col("user_id") == user_id) & (f.col("split") == "score"))
    for path in sorted(with_shown_times(paths, "yyyy-MM-dd HH:mm").collect(), key=lambda row: row.category):
        console.rule(Text.assemble((f"user {user_id}", "bold"), f" · {path.category} · {workspace.run_date}"), align="left")
        _journey(path, hits, console)
        prompt = prompts.get(path.category)
        if prompt and with_prompt:
            console.print(Text.assemble("\n", ("The prompt", "bold"), f" ({_prompt_words(prompt)})"))
            console.print(Text(prompt.prompt, "dim"))
        answer = answers.get(path.category)
        if answer:
            said = answer.answer if answer.parse_error is None else f"{answer.answer!r}: not usable, {answer.parse_error}"
            probability = "" if answer.log_prob is None else f"  (log-probability {answer.log_prob:.2f}, {answer.model_version})"
            console.print(Text.assemble("\n", ("The answer", "bold"), f"  {said}{probability}"))
        table = Table("#", "item", "product", "why", box=None, pad_edge=False)
        for row in sorted((row for row in products if row.category == path.category), key=lambda row: row.rank):
            table.add_row(str(row["rank"]), *map(Text, (row.item_id, row.title, row.reason)))
        console.print(Text("\nRecommended", "bold"))
        console.print(table)


def _rows(workspace: Workspace, table: str, user_id: str, where: str = "true") -> list[Row]:
    return workspace.read(table).where(f.col("user_id") == user_id).where(where).collect()


def _hits(workspace: Workspace, user_id: str) -> dict[tuple[str, str], Row]:
    """Return the memory's answers to the queries of a user's open paths, by category and query."""
    paths = workspace.read("sequences").where("split = 'score'").where(f.col("user_id") == user_id)
    asked = paths.select("as_of_date", "category", f.explode("actions.query").alias("query")).distinct()
    hits = workspace.read("query_hits").join(asked, ["as_of_date", "category", "query"]).collect()
    return {(row.category, row["query"]): row for row in hits}


def _journey(path: Row, hits: dict[tuple[str, str], Row], console: Console) -> None:
    console.print(Text.assemble(("The journey", "bold"), ", times in UTC, and what the memory knows of its searches"))
    for action, shown_at in zip(path.actions, path.shown_times, strict=True):
        what = f"“{action.query}”" if action.action == "search" else f"{action.title} ({action.item_id})"
        console.print(Text(f"  {shown_at}  {action.action:<8}  {what}"))
        if hit := hits.get((path.category, action.query)):
            console.print(Text(f"    {_hit_words(hit)}", "dim"), no_wrap=True, overflow="ellipsis")


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
