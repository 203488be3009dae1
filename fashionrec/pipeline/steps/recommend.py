"""Indexes, recommendations, the campaign feed."""

from pyspark.sql import DataFrame, Observation
from pyspark.sql import functions as f

from fashionrec.errors import UserError
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.fusion import fusion_of
from fashionrec.pipeline.steps.lists import ASKED, INDEXED, build_spaces, requests_of
from fashionrec.recommend.campaign import campaign_feed, suppressed_users
from fashionrec.retrieval.lists import served_lists


def build_indexes(run: StepRun) -> None:
    """Place every item of the catalogue in the spaces of the release that serves, one folder per category."""
    release = run.release()
    build_spaces(run, release.parts["id_serving"], release.parts["title_serving"], fusion_of(release).attributes)


def recommend(run: StepRun) -> None:
    """Turn each answer into a list of products in stock: candidates of all sources, in the order of the release's fusion."""
    settings, release = run.settings, run.release()
    fusion = fusion_of(release)
    answers = run.read("generations").where("split = 'score'")
    _require_answers_of(release.parts["llm"].label, answers)
    retrieval = build_spaces(run, release.parts["id_serving"], release.parts["title_serving"], fusion.attributes)
    paths = run.read("sequences").where("split = 'score'")
    rows = served_lists(
        requests_of(run, retrieval, paths, answers),
        retrieval,
        fusion,
        per_category=settings.recommend.per_category,
        partitions=settings.spark.shuffle_partitions,
    )
    seen = Observation()
    first = f.col("rank") == 1
    rows = rows.withColumn("release", f.lit(release.label)).observe(
        seen,
        f.count_if(first).alias("lists"),
        f.count_if(first & f.col("parsed")).alias("parsed"),
        f.count_if(first & f.col("parsed") & ~f.col("known_id")).alias("unknown"),
        f.count_if(f.col("source").startswith("popularity")).alias("popular"),
    )
    written = run.write("recommendations", rows.drop("parsed", "known_id"))
    counts = seen.get
    run.figures["fallback_rate"] = round(counts["popular"] / max(written, 1), 4)
    run.figures["unknown_id_rate"] = round(counts["unknown"] / max(counts["parsed"], 1), 4)
    run.figures["unparsed_rate"] = round(1 - counts["parsed"] / max(counts["lists"], 1), 4)
    run.notes.append(f"{release.label} serves lists of {fusion.serves}")
    asked = paths.count()
    if counts["lists"] < asked:
        run.warnings.append(
            f"{asked - counts['lists']:,} of {asked:,} paths got no row: nothing of their category is in stock, or the catalogue has "
            "no such category any more"
        )


def _require_answers_of(llm: str, answers: DataFrame) -> None:
    """Raise UserError where answers are another language model's: its probabilities are not those that the fusion learnt from."""
    other = answers.where(f.col("model_version") != llm).select("model_version").first()
    if other:
        raise UserError(
            f"generations: answers of {other['model_version']}, while {llm} belongs to the release; run the step generate again"
        )


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
        bought_again=run.settings.recommend.bought_again,
    )
    seen = Observation()
    feed = feed.observe(seen, f.count(f.lit(1)).alias("users"))
    mailed = run.write("campaign_feed", feed.join(suppressed, "user_id", "left_anti"))
    run.figures["users_mailed"] = mailed
    run.figures["users_suppressed"] = seen.get["users"] - mailed


STEPS: tuple[Step, ...] = (
    Step(
        "build_indexes",
        reads=(*INDEXED, "release"),
        writes=("indexes",),
        run=build_indexes,
        about="Build the indexes of both spaces for every category, with what is known of its items and purchases.",
    ),
    Step(
        "recommend",
        reads=("generations", *ASKED, *INDEXED, "indexes", "release"),
        writes=("recommendations",),
        run=recommend,
        about="Find candidates for every user and category and put them in the order of the release's fusion.",
    ),
    Step(
        "publish_campaign",
        reads=("recommendations", "items", "interactions"),
        writes=("campaign_feed",),
        run=publish_campaign,
        about="Write the products to mail to each user that may be mailed.",
    ),
)
