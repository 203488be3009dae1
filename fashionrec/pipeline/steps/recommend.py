"""Indexes, recommendations, the campaign feed."""

from functools import partial

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as f

from fashionrec.embeddings.item_table import item_vectors
from fashionrec.embeddings.spaces import encode_titles
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.recommend.assemble import as_popular, assemble
from fashionrec.recommend.campaign import campaign_feed, suppressed_users
from fashionrec.recommend.popular import popular_items
from fashionrec.retrieval import indexes
from fashionrec.retrieval.search import open_category


def build_indexes(run: StepRun) -> None:
    """Place every item of the snapshot in both spaces, one pair of indexes per category."""
    items, ids, titles = run.read("items"), run.model("id"), run.model("title")
    folder = run.workspace.item_indexes
    built = indexes.build_indexes(
        items,
        folder,
        id_vectors=partial(item_vectors, ids.folder),
        encode=partial(encode_titles, titles.folder),
        build={"id": ids.version, "title": titles.version, "items": _fingerprint(items)},
        staging=folder.with_name(f".{folder.name}.{run.run_id}"),
    )
    run.rows_written["indexes"] = sum(one.item_count for one in built.values())
    run.figures["categories"] = len(built)
    run.figures["untrained_item_rate"] = round(sum(one.untrained_count for one in built.values()) / run.rows_written["indexes"], 4)


def recommend(run: StepRun) -> None:
    """Turn each answer into products in stock, filled up with what is popular."""
    generations, items, interactions, titles = run.read("generations"), run.read("items"), run.read("interactions"), run.model("title")
    settings = run.settings
    folder = run.workspace.item_indexes
    build = indexes.check_build(folder, {"title": titles.version, "items": _fingerprint(items)})
    per_category, days = settings.recommend.per_category, settings.sequences.history_days
    # Categories x per_category rows: nothing that grows with the users.
    popular = popular_items(items, interactions, run_date=run.run_date, history_days=days, count=per_category).collect()
    rows = assemble(
        generations,
        open_category=partial(
            open_category,
            folder,
            encode=partial(encode_titles, titles.folder),
            candidates=settings.retrieval.candidates,
            m=settings.retrieval.mixup_m,
        ),
        popular=as_popular([row.asDict() for row in popular], history_days=days),
        per_category=per_category,
        models=f"{build['id']}/{titles.version}",
        partitions=settings.spark.shuffle_partitions,
    )
    seen = Observation()
    first = f.col("rank") == 1
    rows = rows.observe(
        seen,
        f.count_if(first).alias("lists"),
        f.count_if(first & f.col("parsed")).alias("parsed"),
        f.count_if(first & f.col("parsed") & ~f.col("known_id")).alias("unknown"),
        f.count_if(f.col("source") == "popular").alias("popular"),
    )
    written = run.write("recommendations", rows.drop("parsed", "known_id"))
    answers = generations.where("split = 'score'").count()
    counts = seen.get
    run.figures["fallback_rate"] = round(counts["popular"] / written, 4)
    run.figures["unknown_id_rate"] = round(counts["unknown"] / max(counts["parsed"], 1), 4)
    run.figures["unparsed_rate"] = round(1 - counts["parsed"] / counts["lists"], 4)
    if counts["lists"] < answers:
        run.warnings.append(f"{answers - counts['lists']:,} of {answers:,} answers got no row: nothing of their category is in stock")


def publish_campaign(run: StepRun) -> None:
    """Make one e-mail's products for each user that may be mailed; the suppression list joins last."""
    suppressed = suppressed_users(run.spark, run.settings.campaign.suppression)
    campaign = run.settings.campaign
    feed = campaign_feed(
        run.read("recommendations"),
        run.read("items"),
        run.read("interactions"),
        run_date=run.run_date,
        max_items=campaign.max_items,
        valid_days=campaign.valid_days,
    )
    seen = Observation()
    feed = feed.observe(seen, f.count(f.lit(1)).alias("users"))
    mailed = run.write("campaign_feed", feed.join(suppressed, "user_id", "left_anti"))
    run.figures["users_mailed"] = mailed
    run.figures["users_suppressed"] = seen.get["users"] - mailed


def _fingerprint(items: DataFrame) -> str:
    """Return a name of what the indexes hold of a snapshot, whatever the table's version and the order of its rows."""
    row = items.agg(f.count("*"), f.bit_xor(f.xxhash64("item_id", "title", "category", "in_stock"))).first()
    return f"{row[0]}-{row[1] & 0xFFFFFFFFFFFFFFFF:016x}" if row else "0"


STEPS: tuple[Step, ...] = (
    Step(
        "build_indexes",
        reads=("items", "model/id", "model/title"),
        writes=("indexes",),
        run=build_indexes,
        about="Build a pair of FAISS indexes (ID space, title space) for every category.",
    ),
    Step(
        "recommend",
        reads=("generations", "items", "interactions", "indexes", "model/title"),
        writes=("recommendations",),
        run=recommend,
        about="Turn generated IDs and titles into products in stock for every user and category.",
    ),
    Step(
        "publish_campaign",
        reads=("recommendations", "items", "interactions"),
        writes=("campaign_feed",),
        run=publish_campaign,
        about="Write the products to mail to each user that may be mailed.",
    ),
)
