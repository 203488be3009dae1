"""A training job as one rank does it; runs in processes of its own, never in Spark's driver."""

import logging
import os
from typing import Any

from fashionrec.errors import UserError
from fashionrec.llm.base import load_tokenizer
from fashionrec.llm.examples import read_examples
from fashionrec.llm.job import TrainingJob
from fashionrec.llm.memorisation import exposure_figures, measure_memorisation
from fashionrec.llm.merge import finish_adapter


def train_rank(job: TrainingJob) -> dict[str, Any]:
    """Train one rank and, on the first, merge; return the card (see `fine_tune`), or {"error": text} where its user can mend the job.

    An error that is raised here would reach the driver as the tail of torchrun's log only.
    """
    prepare_process()
    try:
        return _train_and_merge(job)
    except UserError as error:
        return {"error": str(error)}


def _train_and_merge(job: TrainingJob) -> dict[str, Any]:
    from fashionrec.llm.fine_tune import fine_tune  # here, so that no driver imports torch

    tokenizer = load_tokenizer(job.llm.base.path, job.llm.base.revision)
    train = read_examples(job.train, tokenizer, max_tokens=job.max_tokens)
    held_out = read_examples(job.held_out, tokenizer, max_tokens=job.max_tokens)
    card = fine_tune(job.llm, tokenizer, train, held_out, work=job.work, adapter=job.output / "adapter")
    if os.environ.get("RANK", "0") == "0":
        if job.canaries:
            report = measure_memorisation(job.llm, tokenizer, job.canaries, adapter=job.output / "adapter")
            card["memorisation"] = report
            card["metrics"] |= exposure_figures(report)
        card["metrics"] |= finish_adapter(job.llm.base, tokenizer, held_out, folder=job.output, device=job.llm.device)
    return card


def prepare_process() -> None:
    """Choose threads, and leave progress lines and errors only, for the driver shows what a rank prints."""
    # Said, so that accelerate does not announce it; before torch is imported, which reads it then.
    os.environ.setdefault("OMP_NUM_THREADS", str(len(os.sched_getaffinity(0))))
    # Threads that spin while another process wants the core cost both their speed.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # bitsandbytes warns of a kernel for inference that it could download.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    from transformers.utils import logging as transformers_logging

    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
