"""Make the tiny base model that the repository carries: a byte-level tokenizer and a small Falcon with generic skills.

    python -m tools.tiny_base.make

It learns to repeat, to copy lines, and to answer made-up prompts of this project's template. It is trained on nothing else: no user, item
or event of the demo's world, no real data. What a shop's customers like is left to fine-tuning, as with any base model.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from fashionrec.prompts import Template, load_template
from fashionrec.settings import resource
from tools.tiny_base.check import exact_rate
from tools.tiny_base.tasks import END, Sample, Task, padded, tasks
from tools.tiny_base.text import ATTRIBUTES, KINDS, IdStyle, all_words, random_query, random_title

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import FalconForCausalLM

VOCABULARY = 2048
POSITIONS = 2048
SEED = 17
PEAK_RATE = 1.5e-3


def make_tokenizer(template: Template, seed: int = SEED) -> "Tokenizer":
    """Return a byte-level BPE tokenizer of 2,048 tokens, trained on the words, made-up titles and the template's own lines.

    Numbers are cut into pairs of digits, each a token: a model that copies tokens can copy any ID, and prompts are shorter than with single
    digits. With three, the first token of an ID that no prompt names is one of a thousand, and other words come up in its place.
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Split(Regex(r"\d{1,2}"), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_tokenizer_texts(template, seed), trainer)
    return tokenizer


def _tokenizer_texts(template: Template, seed: int) -> list[str]:
    rng = Random(seed)
    words = all_words()
    # Each word within a line, at its start, and capitalised; then words as often as titles use them.
    texts = [f"{word} {word} {word.title()} {word.title()}" for word in words for _ in range(6)]
    texts += [word.title() for word in words]
    # What stands in every prompt takes the fewest tokens.
    fixed = [template.begin, template.instruction, template.input, template.end, template.no_holidays, *template.actions.values()]
    fixed += [step.line for step in template.since] + [f"({name} x, {name} x, {name} x)" for name in template.attributes]
    texts += ["\n".join(fixed)] * 1000
    # Each pair of digits becomes a token before any word does.
    texts += [f"{pair:02}" for pair in range(100) for _ in range(3000)]
    for _ in range(3000):
        title = random_title(rng, rng.choice(list(KINDS)))
        values = ", ".join(f"{name} {rng.choice(words)}" for name in rng.sample(list(ATTRIBUTES), 2))
        style = IdStyle(rng)
        texts += [f"{style(rng)} | {title} ({values})", f" {random_query(rng, title)}"]
    return texts


def model_config() -> dict[str, Any]:
    """Return the architecture: Falcon's rotary positions, one key-value head, attention beside the MLP; four layers, 192 wide."""
    return {
        "architectures": ["FalconForCausalLM"],
        "model_type": "falcon",
        "vocab_size": VOCABULARY,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "num_kv_heads": 1,
        "multi_query": True,
        "parallel_attn": True,
        "new_decoder_architecture": False,
        "bias": False,
        "alibi": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "max_position_embeddings": POSITIONS,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def save_tokenizer(tokenizer: "Tokenizer", folder: Path) -> None:
    """Write `tokenizer.json` and what transformers and vLLM read beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


class Stage(NamedTuple):
    """A part of the curriculum: optimiser steps, examples per step, and what they are drawn from, each task with its share of the steps."""

    name: str
    steps: int
    batch_size: int
    shares: dict[str, float]


# Short and dense first: straight from prompts a model this small learns no exact copy, for nobody can predict an ID, and that dominates the
# loss. Each later stage keeps a share of what came before, which is forgotten otherwise.
STAGES = (
    Stage("bytes", 150, 32, {"bytes": 1.0}),
    Stage("tokens", 350, 32, {"tokens": 0.85, "bytes": 0.15}),
    Stage("lines", 500, 16, {"lines": 0.85, "tokens": 0.15}),
    Stage("short", 750, 16, {"short": 0.8, "lines": 0.15, "tokens": 0.05}),
    Stage("long", 750, 12, {"long": 0.45, "new": 0.3, "short": 0.1, "longest": 0.05, "lines": 0.06, "tokens": 0.04}),
)


def train(
    model: "FalconForCausalLM", stages: Sequence[Stage], known: Mapping[str, Task], *, seed: int, after: Callable[[str, int, float], None]
) -> None:
    """Train in place and call `after(stage, step, loss)` after every step. AdamW, warm-up, cosine to a twentieth of the peak."""
    import torch

    # Adam moves every embedding at every step, also those of tokens that did not occur: at the full rate, rare ones drift until they look
    # alike, and are copied no more.
    words = model.transformer.word_embeddings.weight
    others = [parameter for parameter in model.parameters() if parameter is not words]
    groups = [{"params": others, "lr": PEAK_RATE}, {"params": [words], "lr": PEAK_RATE / 10, "weight_decay": 0.0}]
    optimiser = torch.optim.AdamW(groups, betas=(0.9, 0.98), weight_decay=0.01)
    total = sum(stage.steps for stage in stages)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 50) * (0.525 + 0.475 * math.cos(math.pi * min(1.0, step / total)))
    )
    rng = Random(seed)
    for stage in stages:
        for step, samples in enumerate(_batches(stage, known, rng)):
            with torch.autocast("cpu", torch.bfloat16):
                loss = _loss(model, samples)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            rate.step()
            after(stage.name, step, float(loss.detach()))


def _batches(stage: Stage, known: Mapping[str, Task], rng: Random) -> Iterator[list[Sample]]:
    """Yield the stage's batches, each of one task and of samples of about one length: padding costs as much as text."""
    waiting: dict[str, list[list[Sample]]] = {name: [] for name in stage.shares}
    for _ in range(stage.steps):
        (name,) = rng.choices(list(stage.shares), list(stage.shares.values()))
        if not waiting[name]:
            samples = sorted((known[name](rng) for _ in range(8 * stage.batch_size)), key=lambda sample: len(sample.tokens))
            waiting[name] = [samples[start : start + stage.batch_size] for start in range(0, len(samples), stage.batch_size)]
            rng.shuffle(waiting[name])
        yield waiting[name].pop()


def _loss(model: "FalconForCausalLM", samples: Sequence[Sample]) -> "Tensor":
    """Return the mean loss of the answers plus that of the other lines that count: answers would drown among many easy copies."""
    import torch

    tokens, answers, repeats = padded(samples)
    # Padding stands at the end, which causal attention never looks at. Logits are made only where they count.
    hidden = model.transformer(tokens[:, :-1]).last_hidden_state
    losses = [
        torch.nn.functional.cross_entropy(model.lm_head(hidden[part]), tokens[:, 1:][part])
        for part in (answers[:, 1:], repeats[:, 1:])
        if part.any()
    ]
    return torch.stack(losses).sum()


def make(out: Path, template_path: Path, stages: Sequence[Stage] = STAGES, *, seed: int = SEED, **shape: Any) -> None:
    """Write tokenizer and weights to `out`; progress is shown. The same arguments give the same bytes on the same kind of processor.

    Args:
        shape: entries of `model_config` to replace.
    """
    import torch
    from rich.console import Console
    from transformers import FalconConfig, FalconForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    torch.manual_seed(seed)
    torch.set_num_threads(1)
    template = load_template(template_path)
    tokenizer = make_tokenizer(template)
    save_tokenizer(tokenizer, out)
    known = tasks(tokenizer, template)
    model = FalconForCausalLM(FalconConfig(**model_config() | shape))
    # Tokens differ from the start by more than they will be moved.
    torch.nn.init.normal_(model.transformer.word_embeddings.weight, std=0.1)
    torch.nn.init.constant_(model.transformer.ln_f.weight, 0.5)
    console, start = Console(highlight=False, soft_wrap=True), time.monotonic()
    practised = {stage.name: stage.shares for stage in stages}

    def after(stage: str, step: int, loss: float) -> None:
        if step % 100 == 99:
            exact = "  ".join(f"{name} {exact_rate(model, known[name], count=32, seed=99):.2f}" for name in practised[stage])
            console.print(f"{time.monotonic() - start:6.0f} s  {stage} {step + 1}: loss {loss:.3f}; exact: {exact}")

    train(model, stages, known, seed=seed, after=after)
    save_weights(model, out)


def save_weights(model: "FalconForCausalLM", folder: Path) -> None:
    """Write the weights in half precision: they are carried in the repository."""
    import torch

    copy.deepcopy(model).to(torch.float16).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


def main() -> None:
    """Make tokenizer and weights below --out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=resource("conf") / "models" / "tiny")
    make(parser.parse_args().out, resource("conf") / "prompts" / "fashion-v2.yaml")


if __name__ == "__main__":
    main()
