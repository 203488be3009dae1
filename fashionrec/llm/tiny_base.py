"""Make the tiny base model that the repository carries: a byte-level tokenizer and a small Falcon with generic skills.

    python -m fashionrec.llm.tiny_base

It learns to copy, to pick a line, and to answer made-up prompts of this project's template. It is trained on nothing else: no user, item or
event of the demo's world, no real data. What a shop's customers like is left to fine-tuning, as with any base model.
"""

import argparse
import copy
import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, NamedTuple

from fashionrec.llm.tiny_tasks import LONG, SHORT, Sample, Task, pick, prompt, repeat
from fashionrec.llm.tiny_text import ATTRIBUTES, KINDS, IdStyle, all_words, random_query, random_title
from fashionrec.prompts import Template, load_template
from fashionrec.settings import resource

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from torch import Tensor
    from transformers import FalconForCausalLM

END = "<|endoftext|>"
VOCABULARY = 2048
POSITIONS = 2048


def make_tokenizer(template_text: str, seed: int = 17) -> "Tokenizer":
    """Return a byte-level BPE tokenizer of 2,048 tokens, trained on the words, made-up titles and the template's own text.

    Every digit is a token of its own: a model that copies tokens can then copy any ID.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_tokenizer_texts(template_text, seed), trainer)
    return tokenizer


def _tokenizer_texts(template_text: str, seed: int) -> list[str]:
    rng = Random(seed)
    words = all_words()
    # Each word within a line, at its start, and capitalised; then words as often as titles use them.
    texts = [f"{word} {word} {word.title()} {word.title()}" for word in words for _ in range(6)]
    texts += [word.title() for word in words] + [template_text] * 50
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
    """A part of the curriculum: optimiser steps, examples per step, and what they are drawn from, each task with its share."""

    name: str
    steps: int
    batch_size: int
    tasks: tuple[tuple[float, Task], ...]


def curriculum(tokenizer: "Tokenizer", template: Template) -> tuple[Stage, ...]:
    """Return the stages: copy first, then pick a line, then prompts, short before long.

    Straight from prompts a model this small learns no exact copy: nobody can predict an ID, and that dominates the loss.
    """
    end = int(tokenizer.token_to_id(END) or 0)

    def echo(rng: Random) -> Sample:
        return repeat(rng, VOCABULARY, end)

    def choose(rng: Random) -> Sample:
        return pick(rng, tokenizer, end)

    def short(rng: Random) -> Sample:
        return prompt(rng, tokenizer, end, template, SHORT)

    def long(rng: Random) -> Sample:
        return prompt(rng, tokenizer, end, template, LONG)

    return (
        Stage("copy", 450, 64, ((1.0, echo),)),
        Stage("pick", 300, 16, ((0.9, choose), (0.1, echo))),
        Stage("short", 300, 16, ((0.8, short), (0.2, choose))),
        Stage("long", 250, 8, ((0.7, long), (0.3, short))),
    )


def train(model: "FalconForCausalLM", stages: Sequence[Stage], *, seed: int, peak: float, after: Callable[[str, int, float], None]) -> None:
    """Train in place and call `after(stage, step, loss)` after every step. AdamW, warm-up, cosine to a tenth of `peak`."""
    import torch

    optimiser = torch.optim.AdamW(model.parameters(), lr=peak, betas=(0.9, 0.98), weight_decay=0.01)
    total = sum(stage.steps for stage in stages)
    rate = torch.optim.lr_scheduler.LambdaLR(
        optimiser, lambda step: min(1.0, (step + 1) / 50) * (0.55 + 0.45 * math.cos(math.pi * min(1.0, step / total)))
    )
    rng = Random(seed)
    for stage in stages:
        weights, tasks = zip(*stage.tasks, strict=True)
        for step in range(stage.steps):
            # One task per batch: samples of one length waste no padding.
            task = rng.choices(tasks, weights)[0]
            samples = [task(rng) for _ in range(stage.batch_size)]
            with torch.autocast("cpu", torch.bfloat16):
                loss = _loss(model, samples)
            optimiser.zero_grad()
            torch.autograd.backward(loss)
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimiser.step()
            rate.step()
            after(stage.name, step, float(loss.detach()))


def exact_rate(model: "FalconForCausalLM", task: Task, *, count: int, seed: int) -> float:
    """Return the share of held-out samples whose whole answer is the model's first choice, token by token (greedy decoding gives it)."""
    import torch

    rng = Random(seed)
    right = 0
    with torch.inference_mode():
        for start in range(0, count, 8):
            samples = [task(rng) for _ in range(min(8, count - start))]
            tokens, _, _ = _padded(samples)
            best = model(tokens).logits.argmax(-1)
            for row, sample in enumerate(samples):
                first, last = sample.answer_start, len(sample.tokens)
                right += bool((best[row, first - 1 : last - 1] == tokens[row, first:last]).all())
    return right / count


def _loss(model: "FalconForCausalLM", samples: Sequence[Sample]) -> "Tensor":
    """Return the mean loss of the final answers plus that of the other lines that count: one answer would drown among many easy copies."""
    import torch

    tokens, learn, answer = _padded(samples)
    # Padding stands at the end, which causal attention never looks at. Logits are made only where they count.
    hidden = model.transformer(tokens[:, :-1]).last_hidden_state
    losses = [
        torch.nn.functional.cross_entropy(model.lm_head(hidden[part]), tokens[:, 1:][part])
        for part in (answer[:, 1:], (learn & ~answer)[:, 1:])
        if part.any()
    ]
    return torch.stack(losses).sum()


def _padded(samples: Sequence[Sample]) -> tuple["Tensor", "Tensor", "Tensor"]:
    """Return tokens, which of them count, and which are the final answer, all (samples, longest)."""
    import torch

    longest = max(len(sample.tokens) for sample in samples)
    tokens = torch.zeros(len(samples), longest, dtype=torch.long)
    learn, answer = torch.zeros_like(tokens, dtype=torch.bool), torch.zeros_like(tokens, dtype=torch.bool)
    for row, sample in enumerate(samples):
        tokens[row, : len(sample.tokens)] = torch.tensor(sample.tokens)
        learn[row, : len(sample.tokens)] = torch.tensor(sample.learn)
        answer[row, sample.answer_start : len(sample.tokens)] = True
    return tokens, learn, answer


def main() -> None:
    """Make tokenizer and weights below --out; about half an hour on one core. Progress is shown every 25 steps."""
    import torch
    from rich.console import Console
    from transformers import FalconConfig, FalconForCausalLM
    from transformers.utils import logging

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=resource("conf") / "models" / "tiny")
    parser.add_argument("--resume", choices=("pick", "short", "long"), help="begin with this stage from the weights in --out")
    parser.add_argument("--seed", type=int, default=17, help="another one where training resumes: the same would draw the same samples")
    parser.add_argument("--template", type=Path, default=resource("conf") / "prompts" / "fashion-v2.yaml")
    arguments = parser.parse_args()
    logging.disable_progress_bar()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    tokenizer = make_tokenizer(arguments.template.read_text(encoding="utf-8"))
    save_tokenizer(tokenizer, arguments.out)
    stages = curriculum(tokenizer, load_template(arguments.template))
    model = FalconForCausalLM(FalconConfig(**model_config()))
    if arguments.resume:
        stages = stages[[stage.name for stage in stages].index(arguments.resume) :]
        model = FalconForCausalLM.from_pretrained(arguments.out, dtype=torch.float32)
    console, start = Console(), time.monotonic()
    held_out = {stage.name: stage.tasks[0][1] for stage in stages}
    best: dict[str, float] = {}

    def after(stage: str, step: int, loss: float) -> None:
        if step % 25 == 24:
            exact = exact_rate(model, held_out[stage], count=48, seed=99)
            console.print(f"{time.monotonic() - start:6.0f} s  {stage} {step + 1}: loss {loss:.3f}, exact {exact:.2f}", highlight=False)
            if exact >= best.get(stage, 0.0):
                best[stage] = exact
                save_weights(model, arguments.out)

    train(model, stages, seed=arguments.seed, peak=2e-3, after=after)
    for name, task in held_out.items():
        console.print(f"{name}: exact {exact_rate(model, task, count=400, seed=101):.3f}", highlight=False)
    save_weights(model, arguments.out)


def save_weights(model: "FalconForCausalLM", folder: Path) -> None:
    """Write the weights in half precision: they are carried in the repository."""
    import torch

    copy.deepcopy(model).to(torch.float16).save_pretrained(folder)
    for path in folder.iterdir():
        path.chmod(0o644)


if __name__ == "__main__":
    main()
