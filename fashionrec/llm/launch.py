"""Start training: Spark's TorchDistributor runs the ranks in processes of their own, so the driver imports no torch."""

from typing import Any

from pyspark.ml.torch.distributor import TorchDistributor
from pyspark.sql import SparkSession

from fashionrec.llm.base import LanguageModelError
from fashionrec.llm.train import TrainingJob, train_rank


def train(spark: SparkSession, job: TrainingJob) -> dict[str, float]:
    """Fine-tune and merge by a job; return its figures (see `fine_tune` and `merge_adapter`).

    With a local master the ranks run on this machine; with a cluster's, one in each of `llm.ranks` barrier tasks.

    Raises:
        LanguageModelError: the ranks cannot share a batch, or training failed.
    """
    if job.llm.batch_size % job.llm.ranks:
        raise LanguageModelError(f"llm.batch_size={job.llm.batch_size} cannot be shared by llm.ranks={job.llm.ranks}; make it a multiple")
    local = str(spark.sparkContext.master).startswith("local")
    # Local ranks find the machine's GPUs themselves; asking Spark for them would need GPU resources declared for the driver.
    distributor = TorchDistributor(job.llm.ranks, local_mode=local, use_gpu=job.llm.device == "cuda" and not local)
    distributor.logger.setLevel("WARNING")
    try:
        figures: dict[str, Any] = distributor.run(train_rank, job) or {"error": "training gave no figures"}
    except RuntimeError as error:
        raise LanguageModelError("training failed in its own process; its messages stand above") from error
    if "error" in figures:
        raise LanguageModelError(figures["error"])
    return figures
