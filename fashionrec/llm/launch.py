"""Start training: Spark's TorchDistributor runs the ranks in processes of their own, so the driver imports no torch."""

from collections.abc import Callable
from typing import Any

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from fashionrec.lake.session import is_local
from fashionrec.llm.base import LanguageModelError
from fashionrec.llm.golden import check_served
from fashionrec.llm.job import TrainingJob
from fashionrec.llm.train import train_rank


def train(spark: SparkSession, job: TrainingJob) -> dict[str, Any]:
    """Fine-tune by a job, check what vLLM serves of it, and return the card (see `fine_tune`) with the figures of both.

    With a local master the ranks run on this machine; with a cluster's, one in each of `llm.ranks` barrier tasks.

    Raises:
        LanguageModelError: training failed, or vLLM answers otherwise than what was trained.
    """
    card = _run(spark, train_rank, job, ranks=job.llm.ranks)
    # Only now, with training's processes gone, is the device free for vLLM.
    card["metrics"] |= _run(spark, check_served, job, ranks=1)
    return card


def _run(spark: SparkSession, function: Callable[[TrainingJob], dict[str, Any]], job: TrainingJob, *, ranks: int) -> dict[str, Any]:
    local = is_local(spark)
    # Local ranks find the machine's GPUs themselves; asking Spark for them would need GPU resources declared for the driver.
    distributor = TorchDistributor(ranks, local_mode=local, use_gpu=job.llm.device == "cuda" and not local)
    distributor.logger.setLevel("WARNING")
    try:
        found: dict[str, Any] = distributor.run(function, job) or {"error": f"{function.__name__} returned nothing"}
    except RuntimeError as error:
        raise LanguageModelError(f"{function.__name__} failed in its own process; its messages stand above") from error
    if "error" in found:
        raise LanguageModelError(found["error"])
    return found
