"""QLoRA fine-tuning (paper sections 4.2 and 5.1), one call per rank; runs in processes of its own, never in Spark's driver."""

import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionrec.errors import UserError
from fashionrec.llm.base import LanguageModelError, load_tokenizer
from fashionrec.llm.examples import Example, collate, read_examples
from fashionrec.llm.merge import merge_adapter
from fashionrec.llm.quantised import count_4bit_modules, load_quantised
from fashionrec.settings.model import Llm

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase, TrainerCallback

_PROGRESS_LINES = 20


@dataclass(frozen=True)
class TrainingJob:
    """What a rank needs to know.

    Attributes:
        llm: the settings of base model, adapter and optimiser.
        max_tokens: most tokens of prompt and response together.
        train, held_out: folders of Parquet files with the columns prompt and response.
        work: scratch folder.
        output: folder that gets `adapter/` and `merged/`.
    """

    llm: Llm
    max_tokens: int
    train: Path
    held_out: Path
    work: Path
    output: Path


def train_rank(job: TrainingJob) -> dict[str, Any]:
    """Train one rank and, on the first, merge; return the figures, or {"error": text} where the job can be mended by its user.

    An error that is raised here would reach the driver as the tail of torchrun's log only.
    """
    _prepare_process()
    try:
        return _train_and_merge(job)
    except UserError as error:
        return {"error": str(error)}


def _train_and_merge(job: TrainingJob) -> dict[str, Any]:
    tokenizer = load_tokenizer(job.llm.base.path, job.llm.base.revision)
    train = read_examples(job.train, tokenizer, max_tokens=job.max_tokens)
    held_out = read_examples(job.held_out, tokenizer, max_tokens=job.max_tokens).rows
    figures = fine_tune(job, tokenizer, train.rows, held_out) | {"cut_examples": train.cut_count}
    if os.environ.get("RANK", "0") == "0":
        figures |= merge_adapter(
            job.llm.base, tokenizer, held_out, adapter=job.output / "adapter", merged=job.output / "merged", device=job.llm.device
        )
    return figures


def fine_tune(job: TrainingJob, tokenizer: "PreTrainedTokenizerBase", train: list[Example], held_out: list[Example]) -> dict[str, float]:
    """Train an adapter on the 4-bit base, save it, and return the figures.

    These are `loss_before` and `loss_after` (mean over the held-out slice, nats per response token), `modules_4bit`,
    `trainable_parameters`, `steps`, `train_tokens` (padding apart) and `tokens_per_second`.

    Raises:
        LanguageModelError: the loss is no number, or the base cannot be quantised.
    """
    from transformers import Trainer, set_seed
    from transformers.trainer_callback import PrinterCallback

    set_seed(job.llm.seed)
    model = _with_adapter(job.llm)
    trainer = Trainer(
        model=model,
        args=_arguments(job),
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=partial(collate, pad_id=tokenizer.pad_token_id),
        callbacks=[_progress(lambda: trainer.state.num_input_tokens_seen)],
    )
    trainer.remove_callback(PrinterCallback)
    loss_before = _finite(trainer.evaluate()["eval_loss"])
    start = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - start
    loss_after = _finite(trainer.evaluate()["eval_loss"])
    if trainer.is_world_process_zero():
        model.save_pretrained(str(job.output / "adapter"), safe_serialization=True)
    tokens = int(trainer.state.num_input_tokens_seen)
    return {
        "loss_before": loss_before,
        "loss_after": loss_after,
        "modules_4bit": count_4bit_modules(model),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps": trainer.state.global_step,
        "train_tokens": tokens,
        "tokens_per_second": tokens / seconds,
    }


def _with_adapter(llm: Llm) -> "PreTrainedModel":
    from peft import LoraConfig, get_peft_model, prepare_model_for_kbit_training

    cuda = llm.device == "cuda"
    model = load_quantised(llm.base, device=f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if cuda else "cpu")
    # Activations are recomputed where memory is scarce, which on CPU it is not: there it would only cost time.
    model = prepare_model_for_kbit_training(
        model, use_gradient_checkpointing=cuda, gradient_checkpointing_kwargs={"use_reentrant": False} if cuda else None
    )
    config = LoraConfig(
        r=llm.lora_rank,
        lora_alpha=llm.lora_alpha,
        lora_dropout=llm.lora_dropout,
        target_modules=list(llm.base.lora_targets),
        task_type="CAUSAL_LM",
    )
    model.config.use_cache = False
    return get_peft_model(model, config)


def _arguments(job: TrainingJob) -> Any:
    from transformers import TrainingArguments

    llm = job.llm
    cuda = llm.device == "cuda"
    return TrainingArguments(
        output_dir=str(job.work / "trainer"),
        optim="adamw_torch",
        learning_rate=llm.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        num_train_epochs=llm.epochs,
        max_steps=llm.max_steps or -1,
        # Trainer gives each rank its own share of the examples.
        per_device_train_batch_size=max(1, llm.batch_size // llm.ranks),
        per_device_eval_batch_size=llm.batch_size,
        train_sampling_strategy="group_by_length",
        seed=llm.seed,
        use_cpu=not cuda,
        bf16=cuda,
        gradient_checkpointing=cuda,
        gradient_checkpointing_kwargs={"use_reentrant": False} if cuda else None,
        ddp_find_unused_parameters=False,
        logging_strategy="steps",
        logging_steps=1,
        # A loss that is no number must be seen, not replaced by the mean so far.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
    )


def _progress(tokens_seen: Callable[[], int]) -> "TrainerCallback":
    """Return a callback that prints a line at about every 20th of the steps, and stops at a loss that is no number."""
    from transformers import TrainerCallback

    class Progress(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
            self.start = time.monotonic()

        def on_log(self, args: Any, state: Any, control: Any, logs: Mapping[str, float] | None = None, **kwargs: Any) -> None:
            if not logs or "loss" not in logs:
                return
            loss = _finite(logs["loss"])
            every = max(1, state.max_steps // _PROGRESS_LINES)
            if state.is_world_process_zero and (state.global_step % every == 0 or state.global_step in (1, state.max_steps)):
                speed = tokens_seen() / max(1e-9, time.monotonic() - self.start)
                print(  # noqa: T201
                    f"  training step {state.global_step}/{state.max_steps}, loss {loss:.3f}, {speed:,.0f} tokens/s", flush=True
                )

    return Progress()


def _prepare_process() -> None:
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


def _finite(loss: float) -> float:
    if not math.isfinite(loss):
        raise LanguageModelError(f"training stopped: the loss is {loss}; lower llm.learning_rate, or look at the training prompts")
    return float(loss)
