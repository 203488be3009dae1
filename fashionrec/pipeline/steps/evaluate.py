"""The evaluation: the purchases to predict, ranked among all items of their category."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

from pyspark.sql import DataFrame

from fashionrec.embeddings.spaces import encode_titles, session_vectors
from fashionrec.errors import UserError
from fashionrec.evaluate.protocol import answered_examples, copying, coverage, metric_rows, rank_examples, train_purchases
from fashionrec.evaluate.rows import CategoryItems
from fashionrec.index_folders import slug
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.retrieval.indexes import check_build, load_index, vectors


def evaluate(run: StepRun) -> None:
    """Rank the last purchase of every test path among all items of its category, by the system and by simple methods."""
    sequences = run.read("sequences")
    answers, prompts = (run.read(table).where("split = 'test'") for table in ("generations", "prompts"))
    examples = answered_examples(answers, sequences)
    if examples.isEmpty():
        raise UserError(f"evaluate: no answers to test prompts on {run.run_date}; generate with test among generation.splits")
    ranked = answer_ranker(run)(examples).cache()
    run.write("evaluations", metric_rows(ranked, k=run.settings.evaluate.k))
    run.figures |= coverage(ranked) | copying(answers, prompts)
    missing = sequences.where("split = 'test'").count() - int(run.figures["test_examples"])
    if missing:
        run.warnings.append(f"evaluate: {missing:,} test paths have no answer and are not evaluated")
    ranked.unpersist()


def answer_ranker(run: StepRun) -> Callable[[DataFrame], DataFrame]:
    """Return what ranks answered examples (see `protocol.rank_examples`) by the day's indexes and the champions of both spaces."""
    ids, title = run.model("id"), run.model("title")
    folder = run.workspace.item_indexes
    check_build(folder, {"id": ids.version, "title": title.version})
    purchases: dict[str, dict[str, int]] = {}
    for row in train_purchases(run.read("sequences")).toLocalIterator():  # at most one row per item of the catalogue
        purchases.setdefault(row["category"], {})[row["item_id"]] = row["purchase_count"]
    return partial(
        rank_examples,
        load=partial(_load, folder),
        encode=partial(encode_titles, title.folder),
        encode_sessions=partial(session_vectors, ids.folder),
        purchases=purchases,
        m=run.settings.retrieval.mixup_m,
        k=run.settings.evaluate.k,
    )


def _load(folder: Path, category: str) -> CategoryItems | None:
    """Return the items of a category, none where it has no index: all of its items have left the catalogue."""
    path = folder / slug(category)
    if not path.is_dir():
        return None
    index = load_index(path)
    return CategoryItems(index.item_ids, vectors(index.ids), vectors(index.title), index.trained)


STEPS: tuple[Step, ...] = (
    Step(
        "evaluate",
        reads=("prompts", "generations", "sequences", "indexes", "model/id", "model/title"),
        writes=("evaluations",),
        run=evaluate,
        about="Rank the purchases to predict among all items of their category and write the metrics.",
    ),
)
