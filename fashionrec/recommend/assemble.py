"""Answers of the model x indexes -> recommendations, in Spark's workers."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.candidates import Candidate, Retrieve, Retrieved

if TYPE_CHECKING:
    import pandas as pd

_ROWS = (
    "user_id string, category string, rank int, item_id string, title string, source string, similarity double, reason string, "
    "models string, parsed boolean, known_id boolean"
)


class Popular(NamedTuple):
    """A product of the fallback."""

    item_id: str
    title: str
    reason: str


OpenCategory = Callable[[str], Retrieve]
_NOTHING = Retrieved(False, ())


def assemble(
    generations: DataFrame,
    *,
    open_category: OpenCategory,
    popular: Mapping[str, Sequence[Popular]],
    per_category: int,
    models: str,
    partitions: int,
) -> DataFrame:
    """Return at most `per_category` rows for each answer of the split score: what was retrieved in order, then what is popular.

    An answer that could not be read gets popular items only. Beside the table's columns: parsed and known_id, facts about the
    answer for the figures.

    Args:
        generations: the table of that name.
        open_category: opens a category's indexes in a worker; what it retrieves is in stock and holds no item twice.
        popular: the fallback of each category, at least `per_category` items where there are as many.
        models: versions of the other models, appended to the language model's.
        partitions: tasks; one task holds whole batches of a category, a large category is spread over several.
    """

    def in_worker(batches: Iterator["pd.DataFrame"]) -> Iterator["pd.DataFrame"]:
        opened: dict[str, Retrieve] = {}
        for batch in batches:
            for name, answers in batch.groupby("category", sort=False):
                category = str(name)
                if category not in opened:
                    opened[category] = open_category(category)
                yield recommend(answers, retrieve=opened[category], popular=popular.get(category, ()), per_category=per_category)

    return (
        generations.where("split = 'score'")
        .select("user_id", "category", "item_id", "title", "parse_error", f.concat("model_version", f.lit(f"/{models}")).alias("models"))
        .repartition(partitions, "category", f.pmod(f.xxhash64("user_id"), f.lit(partitions)))
        # A fixed order, so that batches, and with them the last digits of similarities, are the same in every run.
        .sortWithinPartitions("category", "user_id")
        .mapInPandas(in_worker, _ROWS)
    )


def recommend(answers: "pd.DataFrame", *, retrieve: Retrieve, popular: Sequence[Popular], per_category: int) -> "pd.DataFrame":
    """Return the rows of one category's answers (columns of `_ROWS`); no item stands twice, ranks have no gaps."""
    import pandas as pd

    read = answers[answers.parse_error.isna()]
    titles = [title if isinstance(title, str) else None for title in read.title]
    found = dict(zip(read.index, retrieve(read.item_id.tolist(), titles), strict=True))
    rows = []
    for answer in answers.itertuples():
        retrieved = found.get(answer.Index, _NOTHING)
        picked = [(*one, _why(one)) for one in retrieved.candidates[:per_category]]
        have = {row[0] for row in picked}
        fill = [(p.item_id, p.title, "popular", None, p.reason) for p in popular if p.item_id not in have]
        picked += fill[: per_category - len(picked)]
        facts = (answer.models, answer.Index in found, retrieved.known_id)
        rows += [(answer.user_id, answer.category, rank, *row, *facts) for rank, row in enumerate(picked, start=1)]
    return pd.DataFrame(rows, columns=[column.split()[0] for column in _ROWS.split(", ")])


def as_popular(rows: Sequence[Mapping[str, Any]], *, history_days: int) -> dict[str, list[Popular]]:
    """Return rows of `popular_items` by category, in their order, each with its reason."""
    by_category: dict[str, list[Popular]] = {}
    for row in sorted(rows, key=lambda row: (row["category"], row["rank"])):
        times = row["purchase_count"]
        reason = f"bought {times:,} times in {history_days} days" if times > 1 else f"in stock in {row['category']}"
        by_category.setdefault(row["category"], []).append(Popular(row["item_id"], row["title"], reason))
    return by_category


def _why(candidate: Candidate) -> str:
    similarity = candidate.similarity
    if candidate.source == "title":
        return f"title like that of the product expected next ({similarity:.2f})"
    if similarity >= 0.9999:
        return "the product expected next"
    return f"bought along with products like the one expected next ({similarity:.2f})"
