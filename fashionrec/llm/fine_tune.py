"""QLoRA fine-tuning (paper sections 4.2 and 5.1)."""

import json
import os
import resource
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig, PeftModel, get_peft_model, prepare_model_for_kbit_training
from torch.distributed.tensor import DTensor
from transformers import PreTrainedTokenizerBase, TrainingArguments, set_seed
from transformers.trainer_callback import PrinterCallback

from fashionrec.llm import checkpoints
from fashionrec.llm.examples import Example, collate
from fashionrec.llm.perplexity import Surprise, surprise
from fashionrec.llm.quantised import compute_dtype, count_4bit_modules, load_quantised
from fashionrec.llm.rounds import hardest, random_share, training_order
from fashionrec.llm.watch import SavingTrainer, Watch, finite
from fashionrec.settings.model import Llm

_BINS = 40  # of the picture of the perplexities


def fine_tune(
    llm: Llm, tokenizer: PreTrainedTokenizerBase, train: Sequence[Example], held_out: Sequence[Example], *, work: Path, adapter: Path
) -> dict[str, Any]:
    """Train an adapter on the 4-bit base, save it in `adapter`, and return the card.

    The card holds `metrics`: `loss_before` and `loss_after` (mean over the held-out slice, nats per response token), `modules_4bit`,
    `trainable_parameters`, `steps`, `train_tokens` (padding apart), `train_seconds` (of the steps that this process took),
    `tokens_per_second`, `peak_gib` (of the GPU's memory, or of the process's); `history`: step, loss and tokens seen of each step; and
    `perplexity` of the training prompts under the base (see `_distribution`; none where it was not measured).

    Killed and called again with the same examples and settings, it goes on from the last checkpoint below `work` and takes the same steps
    as if it had not been killed (to the bit on CPU with the same number of threads).

    Raises:
        LanguageModelError: the base cannot be quantised, the loss is no number or rises away, a checkpoint cannot be written.
    """
    folder = work / checkpoints.fingerprint(llm.model_dump(mode="json"), train, held_out)
    folder.mkdir(parents=True, exist_ok=True)
    arguments = training_arguments(llm, folder)
    _ = arguments.device  # joins the ranks
    set_seed(llm.seed)
    model = with_adapter(llm)
    measure = partial(surprise, pad_id=tokenizer.pad_token_id, batch_size=llm.device_batch_size)
    # A new adapter adds nothing yet, and passing by it takes half the time of a small base.
    with model.disable_adapter():
        loss_before = finite(measure(model, held_out).loss)
        scored = _scored(measure, model, train, folder) if llm.hard_rate else None
    order = _order(llm, train, scored)
    trainer = SavingTrainer(
        model=model,
        args=arguments,
        train_dataset=[train[place] for place in order],
        data_collator=partial(collate, pad_id=tokenizer.pad_token_id),
        # Prompts that come again and again are the harder ones.
        callbacks=[Watch(max(loss_before, scored.of(order).loss if scored else 0.0))],
    )
    trainer.remove_callback(PrinterCallback)
    found = checkpoints.newest_whole(folder)
    if found and trainer.is_world_process_zero():
        print(f"  going on from {found.name} of a training that did not end", flush=True)  # noqa: T201
    start = time.monotonic()
    trainer.train(resume_from_checkpoint=str(found) if found else None)
    seconds = time.monotonic() - start
    loss_after = finite(measure(trainer.model_wrapped, held_out).loss)
    weights = trained_weights(model)
    if trainer.is_world_process_zero():
        model.save_pretrained(str(adapter), state_dict=weights, safe_serialization=True)
    tokens = int(trainer.state.num_input_tokens_seen)
    metrics = {
        "loss_before": loss_before,
        "loss_after": loss_after,
        "modules_4bit": count_4bit_modules(model),
        "trainable_parameters": sum(p.numel() for p in model.parameters() if p.requires_grad),
        "steps": trainer.state.global_step,
        "train_tokens": tokens,
        "train_seconds": seconds,
        "tokens_per_second": (tokens - _tokens_at(found)) / seconds,
        "peak_gib": peak_gib(),
    }
    return {"metrics": metrics, "history": _history(trainer), "perplexity": _distribution(llm, scored) if scored else None}


def with_adapter(llm: Llm) -> PeftModel:
    """Return the 4-bit base with a new LoRA adapter on every layer that the settings name, ready to train."""
    device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if llm.device == "cuda" else "cpu"
    model = load_quantised(llm.base, device=device, sharded=llm.sharding == "fsdp")
    model = prepare_model_for_kbit_training(
        model,
        use_gradient_checkpointing=llm.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if llm.gradient_checkpointing else None,
    )
    model.config.use_cache = False
    return get_peft_model(model, lora_config(llm))


def trained_weights(model: PeftModel) -> dict[str, torch.Tensor]:
    """Return the adapter's weights, whole: every rank has to call this, since ranks that share a model hold a part each."""
    trained = {name: weights.detach() for name, weights in model.named_parameters() if weights.requires_grad}
    return {name: weights.full_tensor() if isinstance(weights, DTensor) else weights for name, weights in trained.items()}


def lora_config(llm: Llm) -> LoraConfig:
    """Return the adapter's shape (paper section 5.1)."""
    return LoraConfig(
        r=llm.lora_rank,
        lora_alpha=llm.lora_alpha,
        lora_dropout=llm.lora_dropout,
        target_modules=list(llm.base.lora_targets),
        task_type="CAUSAL_LM",
    )


def training_arguments(llm: Llm, folder: Path) -> TrainingArguments:
    """Return the trainer's arguments; checkpoints go to `folder`."""
    cuda = llm.device == "cuda"
    return TrainingArguments(
        output_dir=str(folder),
        optim=llm.optimiser,
        learning_rate=llm.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=0.03,
        num_train_epochs=1,  # the examples come in the order of their rounds
        train_sampling_strategy="sequential",
        max_steps=llm.max_steps or -1,
        per_device_train_batch_size=llm.device_batch_size,
        gradient_accumulation_steps=llm.batch_size // (llm.ranks * llm.device_batch_size),
        seed=llm.seed,
        use_cpu=not cuda,
        bf16=compute_dtype(llm.device) == torch.bfloat16,
        fp16=compute_dtype(llm.device) == torch.float16,
        gradient_checkpointing=llm.gradient_checkpointing,
        gradient_checkpointing_kwargs={"use_reentrant": False} if llm.gradient_checkpointing else None,
        ddp_find_unused_parameters=False,
        fsdp=llm.sharding == "fsdp",
        logging_strategy="steps",
        logging_steps=1,
        # A loss that is no number must be seen, not replaced by the mean so far.
        logging_nan_inf_filter=False,
        include_num_input_tokens_seen="non_padding",
        save_strategy="steps",
        save_steps=llm.checkpoint_steps,
        # The one before stays until the newest is whole.
        save_total_limit=2,
        report_to="none",
        disable_tqdm=True,
        remove_unused_columns=False,
        dataloader_pin_memory=cuda,
    )


def _scored(measure: Callable[..., Surprise], model: PeftModel, train: Sequence[Example], folder: Path) -> Surprise:
    """Return how surprising each training prompt's response is to the base, from a killed training's work where it got so far."""
    saved = folder / "scored.npz"
    if saved.exists():
        with np.load(saved, allow_pickle=False) as known:
            return Surprise(known["nats"], known["tokens"])
    found = measure(model, train, label="perplexity under the base")
    if os.environ.get("RANK", "0") == "0":
        staged = saved.with_suffix(".part.npz")
        np.savez(staged, nats=found.nats, tokens=found.tokens)
        staged.replace(saved)
    return found


def _order(llm: Llm, train: Sequence[Example], scored: Surprise | None) -> NDArray[np.int64]:
    epochs = np.where(_hard(llm, scored), llm.hard_epochs, llm.epochs) if scored else np.full(len(train), llm.epochs)
    lengths = [len(example["input_ids"]) for example in train]
    return training_order(lengths, epochs, batch_size=llm.batch_size, seed=llm.seed)


def _hard(llm: Llm, scored: Surprise) -> NDArray[np.bool_]:
    perplexity = scored.perplexity
    return (
        hardest(perplexity, llm.hard_rate) if llm.hard_by == "perplexity" else random_share(len(perplexity), llm.hard_rate, seed=llm.seed)
    )


def _distribution(llm: Llm, scored: Surprise) -> dict[str, Any]:
    """Return the picture of the perplexities: `edges` (bins + 1), `counts` and of them `hard_counts` (bins), and the `median`."""
    perplexity = scored.perplexity
    low, high = max(1.0, float(perplexity.min())), float(perplexity.max())
    edges = np.geomspace(low, max(high, low * 1.01), _BINS + 1)
    bins = np.clip(np.searchsorted(edges, perplexity, side="right") - 1, 0, _BINS - 1)
    return {
        "edges": edges.tolist(),
        "counts": np.bincount(bins, minlength=_BINS).tolist(),
        "hard_counts": np.bincount(bins[_hard(llm, scored)], minlength=_BINS).tolist(),
        "median": float(np.median(perplexity)),
    }


def _history(trainer: SavingTrainer) -> list[dict[str, float]]:
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return [{"step": row["step"], "loss": row["loss"], "tokens": row["num_input_tokens_seen"]} for row in rows]


def _tokens_at(checkpoint: Path | None) -> int:
    if checkpoint is None:
        return 0
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return int(state["num_input_tokens_seen"])


def peak_gib() -> float:
    """Return the most GiB so far of the GPU's memory, or of this process's where there is no GPU."""
    if torch.cuda.is_available():
        return float(torch.cuda.max_memory_reserved() / 2**30)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
