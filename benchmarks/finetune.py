"""Fine-tuning: tokens per second, memory, and what is learnt: make bench-finetune [SCALE=0.1].

Without a GPU it trains the tiny base on 800 times SCALE SYNTHETIC prompts of up to 512 tokens (those that the tiny base is made from, of
another seed), in steps of 8; with one, a model of Falcon-7B's exact shape with RANDOM weights on random tokens, with the paper's settings,
in steps of 4 x 1,024 tokens. Three ways, each in a process of its own, one after the other in the same session:

- qlora: this project's fine-tuning as a run does it;
- lora: the same on the unquantised base;
- recipe: the usual few lines of transformers and PEFT (4-bit base, random order, padding on the right, logits of every place).

Model FLOPs utilisation counts 4 operations per parameter and token, for frozen weights get no gradient of their own: forward 2, backward 2,
attention, embeddings and what is computed twice left out; its 100% is the speed of a large matrix product in the same number format,
measured in the same process. The last line is JSON.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import torch
from falcon_like import falcon_like
from peft import PeftModel, get_peft_model, prepare_model_for_kbit_training
from rich.console import Console
from rich.table import Table
from transformers import (
    BitsAndBytesConfig,
    DataCollatorForSeq2Seq,
    FalconConfig,
    FalconForCausalLM,
    PreTrainedTokenizerFast,
    Trainer,
    set_seed,
)

from fashionrec.llm.base import load_base, load_tokenizer
from fashionrec.llm.examples import IGNORED, Example, collate
from fashionrec.llm.fine_tune import fine_tune, lora_config, peak_gib, training_arguments
from fashionrec.llm.quantised import compute_dtype, count_4bit_modules
from fashionrec.llm.rounds import training_order
from fashionrec.llm.train import prepare_process
from fashionrec.prompts import Renderer, load_template, parse_answer, token_counter
from fashionrec.settings import load_settings, resource
from fashionrec.settings.model import BaseLanguageModel, Llm
from tools.tiny_base.tasks import SHORT, made_up_example, right_answer

PROMPTS, MAX_TOKENS, ANSWER_TOKENS = 800, 512, 64
GPU_STEPS, GPU_TOKENS, GPU_RESPONSE = 30, 1024, 40
COPIES_ASKED = 100
VARIANTS = ("qlora", "lora", "recipe")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--variant", choices=VARIANTS, help="measure this one only, in this process")
    parser.add_argument("--base", help="folder of the base, where a variant is measured")
    options = parser.parse_args()
    cuda = torch.cuda.is_available()
    if options.variant:
        print(json.dumps(measure(options.variant, options.base, options.scale, cuda)))
        return
    with tempfile.TemporaryDirectory(prefix="fashionrec-bench-", dir=os.environ.get("TMPDIR")) as folder:
        base = falcon_7b_shape(Path(folder)) if cuda else Path(load_settings().llm.base.path)
        found = {variant: _in_own_process(variant, base, options.scale) for variant in VARIANTS}
    _show(found, torch.cuda.get_device_name() if cuda else f"CPU, {len(os.sched_getaffinity(0))} cores")
    others = {f"{variant}_{name}": found[variant][name] for variant in VARIANTS[1:] for name in ("tokens_per_second", "peak_gib")}
    others["recipe_linear4bit_modules"] = found["recipe"]["linear4bit_modules"]
    print(json.dumps({**found["qlora"], **others, "device": torch.cuda.get_device_name() if cuda else "cpu"}))


def falcon_7b_shape(folder: Path) -> Path:
    """Write a model of Falcon-7B's shape with random weights, bfloat16, and a tokenizer of its size; return their folder."""
    tokenizer = falcon_like(folder / "falcon")
    PreTrainedTokenizerFast(tokenizer_file=str(tokenizer / "tokenizer.json"), eos_token="<|endoftext|>").save_pretrained(tokenizer)
    torch.manual_seed(0)
    torch.set_default_dtype(torch.bfloat16)
    config = FalconConfig(
        vocab_size=65024, hidden_size=4544, num_hidden_layers=32, num_attention_heads=71, multi_query=True, parallel_attn=True, bias=False
    )
    with torch.device("cuda"):
        model = FalconForCausalLM(config)
    model.save_pretrained(tokenizer, safe_serialization=True)
    torch.set_default_dtype(torch.float32)
    return tokenizer


def _in_own_process(variant: str, base: Path, scale: float) -> dict[str, Any]:
    command = [sys.executable, __file__, "--variant", variant, "--base", str(base), "--scale", str(scale)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *said, last = done.stdout.splitlines()
    print(f"{variant}:", *said[-1:], sep="\n")
    figures: dict[str, Any] = json.loads(last)
    return figures


def measure(variant: str, base: str, scale: float, cuda: bool) -> dict[str, Any]:
    """Return the figures of one way of training."""
    prepare_process()
    device, dtype = ("cuda", "bfloat16") if cuda else ("cpu", "float32")
    settings = [
        "llm.hard_rate=0",
        f"llm.device={device}",
        f"llm.batch_size={4 if cuda else 8}",
        f"llm.device_batch_size={4 if cuda else 8}",
    ]
    settings += [f"llm.gradient_checkpointing={str(cuda).lower()}", "llm.checkpoint_steps=100000"]
    settings += [] if cuda else ["llm.learning_rate=1e-3"]
    llm = load_settings(overrides=settings).llm
    llm = llm.model_copy(update={"base": llm.base.model_copy(update={"path": base, "dtype": dtype})})
    tokenizer = load_tokenizer(base)
    train = random_tokens(4 * GPU_STEPS) if cuda else made_up(tokenizer, round(PROMPTS * scale), llm.base, seed=1)
    held_out = train[:8] if cuda else made_up(tokenizer, COPIES_ASKED, llm.base, seed=2)
    with tempfile.TemporaryDirectory(dir=os.environ.get("TMPDIR")) as work:
        ways: dict[str, Callable[[], dict[str, Any]]] = {
            "qlora": lambda: fine_tune(llm, tokenizer, train, held_out, work=Path(work), adapter=Path(work, "adapter")),
            "lora": lambda: _train(_lora(llm), llm, train, partial(collate, pad_id=tokenizer.pad_token_id), Path(work), grouped=True),
            "recipe": lambda: _train(_recipe(llm), llm, _labelled(train), DataCollatorForSeq2Seq(tokenizer), Path(work), grouped=False),
        }
        card = ways[variant]()
        copied = copy_rate(llm, tokenizer, held_out, Path(work, "adapter")) if variant == "qlora" and not cuda else None
    metrics, losses = card["metrics"], [row["loss"] for row in card["history"]]
    return {
        "linear4bit_modules": metrics["modules_4bit"],
        "trainable_parameters": metrics["trainable_parameters"],
        "tokens_per_second": round(metrics["tokens_per_second"], 1),
        "peak_gib": round(metrics["peak_gib"], 2),
        "model_flops_utilisation": round(4 * _parameters(llm.base) * metrics["tokens_per_second"] / matrix_speed(device), 4),
        "id_copy_rate": copied,
        "loss_first": round(float(np.mean(losses[:5])), 4),
        "loss_last": round(float(np.mean(losses[-5:])), 4),
    }


def made_up(tokenizer: Any, count: int, base: BaseLanguageModel, *, seed: int) -> list[Example]:
    """Return examples of made-up shoppers, rendered as a run renders them."""
    budget = MAX_TOKENS - ANSWER_TOKENS
    renderer = Renderer(
        load_template(resource("conf") / "prompts" / "fashion-v2.yaml"),
        token_counter(base.path, base.revision),
        budget=budget,
        answer_tokens=ANSWER_TOKENS,
        products_per_query=5,
        attributes=True,
    )
    rng, examples = Random(seed), []
    for _ in range(count):
        asked = renderer.prompt(made_up_example(rng, SHORT)).prompt
        prompt = tokenizer(asked).input_ids
        response = tokenizer(renderer.response(*right_answer(asked)), add_special_tokens=False).input_ids
        ids = np.array([*prompt, *response, tokenizer.eos_token_id], np.int32)
        examples.append(Example(input_ids=ids, prompt_length=len(prompt)))
    return examples


def random_tokens(count: int) -> list[Example]:
    """Return examples of random tokens, all as long as the paper's budget: what they say changes neither speed nor memory."""
    rng = np.random.default_rng(3)
    rows = rng.integers(1, 65_000, (count, GPU_TOKENS), dtype=np.int32)
    return [Example(input_ids=row, prompt_length=GPU_TOKENS - GPU_RESPONSE) for row in rows]


def _lora(llm: Llm) -> PeftModel:
    model = load_base(llm.base, dtype=compute_dtype(llm.device)).to(llm.device)
    model.config.use_cache = False
    if llm.gradient_checkpointing:
        model.enable_input_require_grads()
    return get_peft_model(model, lora_config(llm))


def _recipe(llm: Llm) -> PeftModel:
    quantised = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute_dtype(llm.device),
    )
    model = load_base(llm.base, quantization_config=quantised, device_map={"": llm.device})
    model = prepare_model_for_kbit_training(model, use_gradient_checkpointing=llm.gradient_checkpointing)
    model.config.use_cache = False
    return get_peft_model(model, lora_config(llm))


def _labelled(examples: Sequence[Example]) -> list[dict[str, list[int]]]:
    rows = []
    for example in examples:
        ids, start = example["input_ids"].tolist(), example["prompt_length"]
        rows.append({"input_ids": ids, "attention_mask": [1] * len(ids), "labels": [IGNORED] * start + ids[start:]})
    return rows


def _train(model: PeftModel, llm: Llm, rows: Sequence[Any], collator: Any, work: Path, *, grouped: bool) -> dict[str, Any]:
    """Train with transformers' own trainer and return a card as `fine_tune` does."""
    set_seed(llm.seed)
    arguments = training_arguments(llm, work)
    if grouped:
        lengths = [len(row["input_ids"]) for row in rows]
        rows = [rows[place] for place in training_order(lengths, np.ones(len(rows), int), batch_size=llm.batch_size, seed=llm.seed)]
    else:
        arguments.train_sampling_strategy = "random"
    trainer = Trainer(model=model, args=arguments, train_dataset=list(rows), data_collator=collator)
    start = time.monotonic()
    trainer.train()
    seconds = time.monotonic() - start
    metrics = {
        "modules_4bit": count_4bit_modules(model),
        "trainable_parameters": sum(weights.numel() for weights in model.parameters() if weights.requires_grad),
        "tokens_per_second": trainer.state.num_input_tokens_seen / seconds,
        "peak_gib": peak_gib(),
    }
    return {"metrics": metrics, "history": [row for row in trainer.state.log_history if "loss" in row]}


def copy_rate(llm: Llm, tokenizer: Any, examples: Sequence[Example], adapter: Path) -> float:
    """Return the share of greedy answers whose ID is that of a product of their prompt."""
    model = PeftModel.from_pretrained(load_base(llm.base), str(adapter)).eval()
    right = 0
    for example in examples:
        ids = torch.from_numpy(example["input_ids"][: example["prompt_length"]]).long()[None]
        with torch.inference_mode():
            answer = model.generate(
                input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=ANSWER_TOKENS, do_sample=False, pad_token_id=0
            )
        found = parse_answer(tokenizer.decode(answer[0, ids.shape[1] :], skip_special_tokens=True)).item_id
        right += found is not None and f" {found} | " in tokenizer.decode(ids[0])
    return right / len(examples)


def _parameters(base: BaseLanguageModel) -> int:
    """Return the weights of the linear layers that every token passes."""
    with torch.device("meta"):
        model = FalconForCausalLM(FalconConfig.from_pretrained(base.path))
    return sum(weights.numel() for name, weights in model.transformer.h.named_parameters() if weights.ndim == 2)


def matrix_speed(device: str) -> float:
    """Return the operations per second of a large matrix product, the best of ten."""
    size = 8192 if device == "cuda" else 2048
    matrix = torch.randn(size, size, device=device, dtype=compute_dtype(device))
    best = float("inf")
    for _ in range(10):
        start = time.perf_counter()
        float((matrix @ matrix)[0, 0])  # waits for the device
        best = min(best, time.perf_counter() - start)
    return float(2 * size**3 / best)


def _show(found: dict[str, dict[str, Any]], device: str) -> None:
    names = (
        "linear4bit_modules",
        "trainable_parameters",
        "tokens_per_second",
        "peak_gib",
        "model_flops_utilisation",
        "loss_first",
        "loss_last",
    )
    table = Table(title=f"Fine-tuning on {device} (synthetic)")
    table.add_column("")
    for variant in found:
        table.add_column(variant, justify="right")
    for name in names:
        table.add_row(name, *(f"{figures[name]:,}" for figures in found.values()))
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
