"""Learn how to fuse the sources' lists, make a release of what was trained, and let it serve where its lists are better for sure."""

import json

import numpy as np
import pyarrow.parquet as pq
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.errors import UserError
from fashionrec.lake import storage
from fashionrec.metrics import interval, ndcg_at_k, resampled_sums
from fashionrec.pipeline import releases
from fashionrec.pipeline.models import ModelVersion
from fashionrec.pipeline.releases import Release
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.lists import ASKED, INDEXED, build_spaces, requests_of
from fashionrec.pipeline.steps.llm import answered_by
from fashionrec.retrieval.candidates import SOURCES
from fashionrec.retrieval.fusion import SERVED, WITHOUT_LLM, Fusion, Lists, learn
from fashionrec.retrieval.lists import Retrieval, learnt_lists, ranked_targets

# Validation lists that are learnt from, by a hash of their example. Their features are held in the driver's memory, twice while weights are
# fitted: 200 KB for the 700 candidates of one.
_LISTS = 5_000
# Validation purchases by which two releases are compared: a difference of a few percent is no accident, and one engine takes minutes.
_JUDGED = 1_000
_FILE = "fusion.json"


def train_fusion(run: StepRun) -> None:
    """Answer validation prompts with the newest language model, learn the fusion from all lists, and register the candidate release."""
    names = ("llm", "id", "title", "id_serving", "title_serving")
    parts = {name: run.newest(name) for name in names}
    paths = _drawn(run.read("sequences").where("split = 'validation'"), _LISTS)
    retrieval = build_spaces(run, parts["id"], parts["title"], run.settings.retrieval.attributes)
    lists, features, sources = _collect(run, retrieval, requests_of(run, retrieval, paths, _answers(run, parts["llm"], paths)))
    fusion = learn(
        lists,
        features,
        sources,
        attributes=retrieval.attributes,
        made_with={name: parts[name].label for name in names},
        serves=run.settings.retrieval.fusion,
    )
    folder = run.workspace.models.new_folder("fusion", run.run_id)
    (folder / _FILE).write_text(json.dumps(fusion.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    metrics = {"lists": float(len(lists.users)), "features": float(len(features))}
    if fusion.rivals:
        nearest = min((rival for name, rival in fusion.rivals.items() if name != WITHOUT_LLM), key=lambda rival: rival.low)
        metrics |= {"ndcg_at_10": nearest.ndcg + nearest.gain, "lowest_gain": nearest.low}
    params = {"serves": fusion.serves, "why": fusion.why, "mixup_m": fusion.mixup_m}
    version = run.workspace.models.register("fusion", folder, params, metrics, run.versions_read, trained_for=run.run_date)
    release = releases.make_release(
        run.workspace.models,
        {**parts, "fusion": version},
        run_id=run.run_id,
        inputs=run.versions_read,
        metrics=metrics,
        trained_for=run.run_date,
    )
    run.figures |= metrics
    run.notes.append(f"{release.label} serves lists of {fusion.serves}: {fusion.why}")


def promote_release(run: StepRun) -> None:
    """Compare the newest release with the one that serves by the final lists of validation purchases, asked overnight.

    It takes over from the next run on where the lower bound of its gain in NDCG@k is above zero, or where none serves yet.
    """
    models = run.workspace.models
    candidate = run.candidate()
    if not models.has_champion("release"):
        releases.promote(models, candidate, "the first release: there was none to compare with")
        run.notes.append(f"{candidate.label} serves: it is the first")
        return
    serving = run.release()
    if serving.version == candidate.version:
        run.notes.append(f"{serving.label} serves, and nothing newer was made")
        return
    paths = _drawn(run.read("sequences").where("split = 'validation' AND horizon = 'overnight'"), _JUDGED)
    if paths.isEmpty():
        raise UserError(f"promote_release: no validation purchases on {run.run_date} to compare by; {serving.label} stays")
    k = run.settings.evaluate.k
    old, new = (_values(run, release, paths, k) for release in (serving, candidate))
    both = sorted(old.keys() & new.keys())
    users = np.array([old[example][0] for example in both], np.int64).view(np.uint64)
    gains = np.array([new[example][1] - old[example][1] for example in both])
    sums = resampled_sums(users, np.stack([gains, np.ones(len(gains))], axis=1))
    low, high = interval(sums[:, 0], sums[:, 1])
    means = [float(np.mean([one[example][1] for example in both])) for one in (new, old)]
    better = low > 0
    why = (
        f"{candidate.label} is {'better than' if better else 'not better for sure than'} {serving.label} on {len(both):,} validation "
        f"purchases of {run.run_date}, overnight: NDCG@{k} {means[0]:.4f} against {means[1]:.4f}, gain {low:+.4f} to {high:+.4f}"
    )
    if better:
        releases.promote(models, candidate, why)
    else:
        releases.refuse(models, candidate, why)
    run.notes.append(f"{why}; {(candidate if better else serving).label} serves from the next run on")
    run.figures |= {"candidate_ndcg": round(means[0], 4), "serving_ndcg": round(means[1], 4), "gain_low": round(low, 4)}


def fusion_of(release: Release) -> Fusion:
    """Return the fusion of a release.

    Raises:
        UserError: it was learnt with other models than the release's: its weights would not fit their scores.
    """
    fusion = Fusion.model_validate_json((release.parts["fusion"].folder / _FILE).read_text(encoding="utf-8"))
    others = [
        f"{name} {label} instead of {release.parts[name].label}"
        for name, label in fusion.made_with.items()
        if release.parts[name].label != label
    ]
    if others:
        raise UserError(f"{release.label}: its fusion was learnt with {', '.join(others)}; run the training steps again")
    return fusion


def _drawn(paths: DataFrame, count: int) -> DataFrame:
    """Return a fixed draw of paths: the same on every run of the day."""
    return paths.orderBy(f.xxhash64("example_id"), "example_id").limit(count)


def _answers(run: StepRun, llm: ModelVersion, paths: DataFrame) -> DataFrame:
    """Return a language model's answers to paths, staged: the engine answers once, whatever reads them."""
    prompts = run.read("prompts").join(paths.select("example_id"), "example_id", "left_semi")
    staged = run.staging(f"answers_{llm.version}")
    if not storage.exists(run.workspace.session, staged):
        answered_by(run, llm, prompts).write.parquet(staged)
    return run.spark.read.parquet(staged)


def _values(run: StepRun, release: Release, paths: DataFrame, k: int) -> dict[str, tuple[int, float]]:
    """Return the shopper and NDCG@k of each path's target in the final list of a release."""
    fusion = fusion_of(release)
    retrieval = build_spaces(run, release.parts["id"], release.parts["title"], fusion.attributes)
    judged = paths.withColumn("protocols", f.array().cast("array<string>"))
    requests = requests_of(run, retrieval, judged, _answers(run, release.parts["llm"], paths))
    ranked = ranked_targets(requests, retrieval, fusion, (SERVED,), partitions=run.settings.spark.shuffle_partitions)
    rows = ranked.select("example_id", "user", "rank").collect()  # at most _JUDGED
    return {row["example_id"]: (row["user"], float(ndcg_at_k(np.array([row["rank"]]), k)[0])) for row in rows}


def _collect(run: StepRun, retrieval: Retrieval, requests: DataFrame) -> tuple[Lists, list[str], list[str]]:
    """Return the validation lists, the names of their features, and the sources that these speak for, in the driver.

    They are read from files: a gigabyte of them through the JVM would end a driver of the usual heap.
    """
    staged = run.staging("lists")
    learnt_lists(requests, retrieval, partitions=run.settings.spark.shuffle_partitions).write.mode("overwrite").parquet(staged)
    folder = storage.copied(run.workspace.session, staged, storage.scratch(run.run_id, "lists"))
    rows = pq.read_table(folder).sort_by("example_id")
    asked = rows.select(["category", "user", "horizon", "state"]).to_pandas()
    lengths = rows["is_target"].combine_chunks().value_lengths().to_numpy(zero_copy_only=False)
    has, users = lengths > 0, asked.user.to_numpy().view(np.uint64)
    of = np.repeat(np.arange(has.sum()), lengths[has])
    is_target, ranks, values = (
        rows[name].combine_chunks().flatten().to_numpy(zero_copy_only=False) for name in ("is_target", "ranks", "values")
    )
    overnight = (asked.horizon == "overnight").to_numpy()
    first = int(has.argmax()) if has.any() else 0
    names, sources = (rows[name][first].as_py() if has.any() else [] for name in ("names", "sources"))
    lists = Lists(
        of,
        ranks.reshape(len(of), len(SOURCES)).T.astype(np.int64),
        values.reshape(len(of), len(names)),
        is_target.astype(bool),
        asked.category.to_numpy()[has],
        asked.state.to_numpy()[has].astype(np.int64),
        overnight[has],
        users[has],
        users[~has & overnight],
    )
    return lists, names, sources


STEPS: tuple[Step, ...] = (
    Step(
        "train_fusion",
        reads=(
            *("prompts", *ASKED, *INDEXED),
            *("model/llm", "model/id", "model/title", "model/id_serving", "model/title_serving"),
        ),
        writes=("model/fusion", "model/release"),
        run=train_fusion,
        about="Learn from validation purchases how to fuse all sources' lists, and make a release of what was trained.",
    ),
    Step(
        "promote_release",
        reads=("prompts", *ASKED, *INDEXED, "model/release"),
        writes=("release",),
        run=promote_release,
        about="Compare the newest release with the one that serves, on validation purchases, and let the better one serve.",
    ),
)
