"""Let a newly trained language model take over, if it is better than the one that serves."""

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.errors import UserError
from fashionrec.evaluate.protocol import answered_examples
from fashionrec.evaluate.rows import SERVED
from fashionrec.pipeline.models import ModelVersion
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.pipeline.steps.evaluate import answer_ranker
from fashionrec.pipeline.steps.llm import answered_by

# Validation purchases that both answer: a difference of a few percent is no accident, and one engine takes minutes.
_EXAMPLES = 1000


def promote_llm(run: StepRun) -> None:
    """Let champion and challenger answer the same validation prompts; the challenger takes over from the next run on where it is better.

    Better: its mean NDCG@k, ranked as it is served, is higher. The test split plays no part, so that it stays a fair test.
    """
    models = run.workspace.models
    champion, challenger = models.champion("llm"), models.challenger("llm")
    if champion == challenger:
        run.notes.append(f"{champion.label} is champion, and nothing newer was trained")
        return
    prompts = run.read("prompts").where("split = 'validation'")
    if prompts.isEmpty():
        raise UserError(f"promote_llm: no validation prompts on {run.run_date} to compare by; {champion.label} stays champion")
    prompts = prompts.orderBy(f.xxhash64("example_id"), "example_id").limit(_EXAMPLES)
    sequences, rank = run.read("sequences"), answer_ranker(run)
    old, new = (_figures(rank(answered_examples(_answers(run, version, prompts), sequences))) for version in (champion, challenger))
    k = run.settings.evaluate.k
    better = new["ndcg"] > old["ndcg"]
    why = (
        f"{challenger.label} {'is better than' if better else 'is not better than'} {champion.label} on {new['examples']:,.0f} validation "
        f"purchases of {run.run_date}: NDCG@{k} {new['ndcg']:.4f} against {old['ndcg']:.4f}, "
        f"Recall@{k} {new['recall']:.4f} against {old['recall']:.4f}"
    )
    if better:
        models.promote(challenger, why)
    else:
        models.refuse(challenger, why)
    run.notes.append(f"{why}; {challenger.label if better else champion.label} answers from the next run on")
    run.figures |= {"champion_ndcg": round(old["ndcg"], 4), "challenger_ndcg": round(new["ndcg"], 4)}


def _answers(run: StepRun, version: ModelVersion, prompts: DataFrame) -> DataFrame:
    """Return a version's answers, staged: the engine answers once, whatever reads them."""
    staged = run.staging(f"answers_{version.version}")
    answered_by(run, version, prompts).write.mode("overwrite").parquet(staged)
    return run.spark.read.parquet(staged)


def _figures(ranked: DataFrame) -> dict[str, float]:
    """Return the mean recall and ndcg of answers ranked as it is served, and examples, their number."""
    means = [f.avg("recall").alias("recall"), f.avg("ndcg").alias("ndcg"), f.count("*").alias("examples")]
    (row,) = ranked.where(f.col("method") == SERVED).agg(*means).collect()
    return {name: float(value) for name, value in row.asDict().items()}


STEPS: tuple[Step, ...] = (
    Step(
        "promote_llm",
        reads=("prompts", "sequences", "indexes", "model/llm", "model/id", "model/title"),
        writes=(),
        run=promote_llm,
        about="Compare the newest language model with the one that serves, on validation purchases, and let the better one serve.",
    ),
)
