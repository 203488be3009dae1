"""Sequences and the memory's answers to the table `prompts`, in Spark."""

import gc
import os
from collections.abc import Iterator
from functools import lru_cache

import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.prompts.answer import ID_PATTERN, render_answer
from fashionrec.prompts.calendar import Calendar
from fashionrec.prompts.columns import examples_of
from fashionrec.prompts.render import Rendered, Renderer
from fashionrec.prompts.template import Template
from fashionrec.prompts.tokens import token_counter

_KEPT = ("example_id", "user_id", "category", "split", "target_item_id")
_RENDERED = t.StructType(
    [
        *(t.StructField(name, t.StringType()) for name in (*_KEPT, "response", "prompt")),
        *(t.StructField(name, t.IntegerType()) for name in Rendered._fields[1:]),
    ]
)
_ARROW = pa.schema([(field.name, pa.string() if isinstance(field.dataType, t.StringType) else pa.int32()) for field in _RENDERED])


def build_prompts(
    sequences: DataFrame,
    query_hits: DataFrame | None,
    *,
    template: Template,
    calendar: Calendar,
    holiday_days: int,
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
        calendar: seasons and holidays by market.
        holiday_days: days ahead for which a holiday is coming.
        tokenizer_path: folder or hub name of the base model, whose tokenizer counts.
        tokenizer_revision: revision on the hub; empty for a folder.
        max_tokens: budget of prompt and answer together.
        answer_tokens: what of it is kept free for the answer.
        products_per_query: most products of the memory below a search.
        attributes: whether item attributes are rendered (an ablation of the paper).

    Raises:
        TokenizerError: the base model's tokenizer cannot be read.
        PromptError: the budget has no room for a search beside the template's own text.
        AnswerError: the target of an example has an ID that no answer can name.
    """

    def renderer() -> Renderer:
        return _renderer(
            template, tokenizer_path, tokenizer_revision, max_tokens - answer_tokens, answer_tokens, products_per_query, attributes
        )

    def render(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        # A worker has one core; the tokenizer's own threads would take those of its neighbours.
        os.environ["TOKENIZERS_PARALLELISM"] = "false"
        rendering = renderer()
        # Nothing here makes cycles, and looking for them among so many small objects takes longer than making them.
        gc.disable()
        try:
            for batch in batches:
                # Paths as Python objects take many times their Arrow size, so only a slice of the batch at a time.
                for start in range(0, batch.num_rows, _ROWS_AT_ONCE):
                    yield _rendered(batch.slice(start, _ROWS_AT_ONCE), rendering, calendar, holiday_days)
        finally:
            gc.enable()

    # Workers would raise the same, but as a Spark error of many lines.
    renderer()
    check_targets(sequences)
    prompts = _columns(sequences, query_hits, products_per_query).mapInArrow(render, _RENDERED)
    fingerprint = f.sha2(f.concat_ws("\n", f.lit(template.content_hash), "prompt"), 256)
    return prompts.withColumn("template", f.lit(template.label)).withColumn("fingerprint", fingerprint)


def check_targets(sequences: DataFrame) -> None:
    """Raise AnswerError where a target's ID cannot be an answer's."""
    bad = sequences.where(~f.col("target_item_id").rlike(f"^{ID_PATTERN}$")).select("target_item_id").first()
    if bad:
        render_answer(bad["target_item_id"], "")


@lru_cache(1)
def _renderer(
    template: Template, path: str, revision: str, budget: int, answer_tokens: int, products_per_query: int, attributes: bool
) -> Renderer:
    """Return the renderer of this process: the lines that it remembers outlive a task."""
    return Renderer(
        template,
        token_counter(path, revision),
        budget=budget,
        answer_tokens=answer_tokens,
        products_per_query=products_per_query,
        attributes=attributes,
    )


def _rendered(batch: pa.RecordBatch, renderer: Renderer, calendar: Calendar, holiday_days: int) -> pa.RecordBatch:
    prompts = [renderer.prompt(example) for example in examples_of(batch, calendar, holiday_days=holiday_days)]
    targets = zip(batch["target_item_id"].to_pylist(), batch["target_title"].to_pylist(), strict=True)
    responses = [None if item_id is None else renderer.response(item_id, title or "") for item_id, title in targets]
    columns = [*(batch[name] for name in _KEPT), responses, *zip(*prompts, strict=True)]
    return pa.RecordBatch.from_arrays([pa.array(c, field.type) for c, field in zip(columns, _ARROW, strict=True)], schema=_ARROW)


def _columns(sequences: DataFrame, query_hits: DataFrame | None, products_per_query: int) -> DataFrame:
    """Return what rendering reads. The actions stay whole: to take single fields out of them costs more than to carry the others."""
    examples = sequences.select(*_KEPT, "as_of_date", "marketplace", "target_title", "actions")
    if query_hits is None or products_per_query == 0:
        return examples.withColumn("shown", f.lit(None).cast(_SHOWN))
    return examples.join(_shown(sequences, query_hits, products_per_query), "example_id", "left")


def _shown(sequences: DataFrame, query_hits: DataFrame, products_per_query: int) -> DataFrame:
    """Return per example `shown`, an array of (query, products) as the memory stood at its as-of date; no row where it has nothing."""
    products = f.slice("products", 1, products_per_query).cast(_PRODUCTS)
    hits = query_hits.where(f.size("products") > 0).select("as_of_date", "category", "query", products.alias("products"))
    searched = sequences.select("example_id", "as_of_date", "category", f.explode(f.array_distinct("actions.query")).alias("query"))
    found = searched.where("query IS NOT NULL").join(hits, ["as_of_date", "category", "query"])
    return found.groupBy("example_id").agg(f.collect_list(f.struct("query", "products")).cast(_SHOWN).alias("shown"))


_ROWS_AT_ONCE = 500
_PRODUCTS = "array<struct<item_id: string, title: string, score: double>>"
_SHOWN = f"array<struct<query: string, products: {_PRODUCTS}>>"
