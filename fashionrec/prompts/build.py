"""Sequences and the memory's answers to the table `prompts`, in Spark."""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.prompts.answer import ID_PATTERN, render_answer
from fashionrec.prompts.render import Example, Product, PromptError, render_prompt, render_response
from fashionrec.prompts.template import Template
from fashionrec.prompts.tokens import token_counter

# What rendering reads of an action; times and sessions stay in Spark.
_ACTION_FIELDS = ("action", "query", "item_id", "title", "brand", "colour", "size", "price", "attributes")
_KEPT = ("example_id", "user_id", "category", "split", "target_item_id")
_RENDERED = t.StructType(
    [
        *(t.StructField(name, t.StringType()) for name in (*_KEPT, "prompt", "response")),
        *(t.StructField(name, t.IntegerType()) for name in ("token_count", "action_count", "dropped_action_count", "memory_product_count")),
    ]
)
_ARROW = pa.schema([(field.name, pa.string() if isinstance(field.dataType, t.StringType) else pa.int32()) for field in _RENDERED])


def build_prompts(
    sequences: DataFrame,
    query_hits: DataFrame | None,
    *,
    template: Template,
    tokenizer_path: str,
    tokenizer_revision: str,
    max_tokens: int,
    answer_tokens: int,
    products_per_query: int,
    attributes: bool,
) -> DataFrame:
    """Return one prompt per example (schema `prompts` without `run_date`): prompt and answer together keep to `max_tokens`.

    Args:
        sequences: table `sequences` of one run.
        query_hits: table `query_hits` of the same run; None leaves the memory out (an ablation of the paper).
        template: the prompt's words.
        tokenizer_path: folder or hub name of the base model, whose tokenizer counts.
        tokenizer_revision: revision on the hub; empty for a folder.
        max_tokens: budget of prompt and answer together.
        answer_tokens: what of it is kept free for the answer.
        products_per_query: most products of the memory below a search.
        attributes: whether item attributes are rendered (an ablation of the paper).

    Raises:
        TokenizerError: the base model's tokenizer cannot be read.
        PromptError: the budget has hardly room beside the template's own text.
        AnswerError: the target of an example has an ID that no answer can name.
    """
    # Workers would raise the same, but as a Spark error of many lines.
    own_tokens = token_counter(tokenizer_path, tokenizer_revision)(template.instruction + template.input + template.answer)
    if own_tokens + _LEAST_ROOM > max_tokens - answer_tokens:
        raise PromptError(
            f"prompts.max_tokens {max_tokens} less {answer_tokens} for the answer leaves under {_LEAST_ROOM} tokens beside the "
            f"{own_tokens} of template {template.label}; raise prompts.max_tokens"
        )
    check_targets(sequences)
    examples = sequences.select(
        *_KEPT,
        "as_of_date",
        "target_title",
        f.transform("actions", lambda action: f.struct(*(action[name].alias(name) for name in _ACTION_FIELDS))).alias("actions"),
    )
    examples = _with_shown(examples, query_hits, products_per_query)

    def render(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        count_tokens = token_counter(tokenizer_path, tokenizer_revision)

        def rendered(row: Mapping[str, Any]) -> dict[str, Any]:
            shown = {hit["query"]: [Product(p["item_id"], p["title"]) for p in hit["products"]] for hit in row["shown"] or ()}
            example = Example(row["category"], row["as_of_date"], [_action(action) for action in row["actions"]], shown)
            prompt = render_prompt(
                example,
                template,
                count_tokens=count_tokens,
                budget=max_tokens - answer_tokens,
                products_per_query=products_per_query,
                attributes=attributes,
            )
            response = None
            if row["target_item_id"] is not None:
                response = render_response(
                    row["target_item_id"], row["target_title"] or "", count_tokens=count_tokens, budget=answer_tokens
                )
            return {**{name: row[name] for name in _KEPT}, "response": response, **prompt._asdict()}

        for batch in batches:
            # Rows as Python objects take many times their Arrow size, so only a slice of the batch at a time.
            for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                rows = batch.slice(start, _ROWS_AT_ONCE).to_pylist()
                yield pa.RecordBatch.from_pylist([rendered(row) for row in rows], schema=_ARROW)

    prompts = examples.mapInArrow(render, _RENDERED)
    fingerprint = f.sha2(f.concat_ws("\n", f.lit(template.label), "prompt"), 256)
    return prompts.withColumn("template", f.lit(template.label)).withColumn("fingerprint", fingerprint)


def check_targets(sequences: DataFrame) -> None:
    """Raise AnswerError where a target's ID cannot be an answer's."""
    bad = sequences.where(~f.col("target_item_id").rlike(f"^{ID_PATTERN}$")).select("target_item_id").first()
    if bad:
        render_answer(bad["target_item_id"], "")


def _with_shown(examples: DataFrame, query_hits: DataFrame | None, products_per_query: int) -> DataFrame:
    """Add `shown`: per example an array of (query, products) as the memory stood at the example's as-of date; null where it has nothing."""
    if query_hits is None or products_per_query == 0:
        return examples.withColumn("shown", f.lit(None).cast(_SHOWN))
    hits = query_hits.where(f.size("products") > 0).select(
        "as_of_date",
        "category",
        "query",
        f.transform(
            f.slice("products", 1, products_per_query), lambda p: f.struct(p["item_id"].alias("item_id"), p["title"].alias("title"))
        ).alias("products"),
    )
    searched = f.array_distinct(f.transform("actions", lambda action: action["query"]))
    shown = (
        examples.select("example_id", "as_of_date", "category", f.explode(searched).alias("query"))
        .join(hits, ["as_of_date", "category", "query"])
        .groupBy("example_id")
        .agg(f.collect_list(f.struct("query", "products")).alias("shown"))
    )
    return examples.join(shown, "example_id", "left")


def _action(action: Mapping[str, Any]) -> dict[str, Any]:
    # Arrow gives a map as pairs.
    return {**action, "attributes": dict(action["attributes"] or ())}


_ROWS_AT_ONCE = 500
# Tokens that must be left for a path beside the template's own text.
_LEAST_ROOM = 100
_SHOWN = "array<struct<query: string, products: array<struct<item_id: string, title: string>>>>"
