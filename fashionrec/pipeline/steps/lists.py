"""What every step that makes lists shares: the indexes of two spaces, and the requests of paths."""

from datetime import date
from functools import partial

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.embeddings.item_table import item_vectors
from fashionrec.embeddings.spaces import encode_titles, session_vectors
from fashionrec.index_folders import find_build
from fashionrec.ingest.versions import intervals
from fashionrec.lake import storage
from fashionrec.pipeline.models import ModelVersion
from fashionrec.pipeline.step import StepRun
from fashionrec.retrieval.catalogue import purchases_by_category, rankable_items
from fashionrec.retrieval.indexes import build_indexes
from fashionrec.retrieval.lists import Retrieval
from fashionrec.retrieval.requests import list_requests

# What `build_spaces` reads; a step that calls it declares it.
INDEXED = ("items", "item_versions", "interactions")
# What `requests_of` reads.
ASKED = ("sequences", "query_hits")

_EPOCH = date(1970, 1, 1)


def build_spaces(run: StepRun, ids: ModelVersion, titles: ModelVersion, attributes: tuple[str, ...]) -> Retrieval:
    """Return what makes lists by two spaces as of the run date; their indexes are built where the date has none of them with this data.

    `attributes` are those of a release's fusion, whatever the settings name since: its weights are of no others.
    """
    settings = run.settings
    pointer = run.workspace.item_pointer(f"{ids.label}-{titles.label}")
    bought = run.read("interactions").where("action = 'purchase'")
    items = rankable_items(
        run.read("items"),
        intervals(run.read("item_versions")),
        run.snapshots("items", days=settings.sequences.history_days),
        bought.select("item_id", "event_date"),
        run_date=run.run_date,
        history_days=settings.sequences.history_days,
        family=settings.retrieval.family,
        attributes=attributes,
    )
    made_from = {"id": ids.sha256, "title": titles.sha256, "attributes": ",".join((settings.retrieval.family, *attributes))}
    made_from |= {f"table {name}": str(run.versions_read[name]) for name in INDEXED}
    found = find_build(run.workspace.session, pointer)
    if found and found.made_from == made_from:
        place = found.place
    else:
        write = partial(
            build_indexes,
            items,
            purchases_by_category(bought, items),
            as_of=(run.run_date - _EPOCH).days,
            id_vectors=partial(item_vectors, ids.folder),
            encode=partial(encode_titles, titles.folder),
        )
        place, built = run.make_build(pointer, lambda folder, staging: write(folder, staging=staging), made_from=made_from)
        count = sum(one.item_count for one in built.values())
        run.rows_written["indexes"] = run.rows_written.get("indexes", 0) + count
        run.figures["categories"] = len(built)
        run.figures["untrained_item_rate"] = round(sum(one.untrained_count for one in built.values()) / max(count, 1), 4)
    return Retrieval(
        storage.fetch(run.workspace.session, place),
        encode=partial(encode_titles, titles.folder),
        encode_sessions=partial(session_vectors, ids.folder),
        candidates=settings.retrieval.candidates,
        attributes=attributes,
        bought_again=settings.recommend.bought_again,
    )


def requests_of(run: StepRun, retrieval: Retrieval, paths: DataFrame, answers: DataFrame) -> DataFrame:
    """Return the requests of paths, rows of the table `sequences`, with the language model's answers; `user` is a number of the shopper."""
    open_paths = run.read("sequences").where("split = 'score'")
    requests = list_requests(paths, open_paths, run.read("query_hits"), answers, attributes=retrieval.attributes)
    return requests.withColumn("user", f.xxhash64("user_id"))
