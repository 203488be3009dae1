"""What the tiny base can do, on made-up samples that its training did not draw.

python -m tools.tiny_base.check
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from fashionrec.prompts import load_template
from fashionrec.settings import resource
from tools.tiny_base.tasks import PRODUCT, Task, padded, tasks

if TYPE_CHECKING:
    from tokenizers import Tokenizer
    from transformers import FalconForCausalLM


def exact_rate(model: "FalconForCausalLM", task: Task, *, count: int, seed: int) -> float:
    """Return the share of held-out samples whose answers are all the model's first choice, token by token (greedy decoding gives them)."""
    import torch

    rng = Random(seed)
    right = 0
    with torch.inference_mode():
        for _ in range(count // 16):
            tokens, answers, _ = padded([task(rng) for _ in range(16)])
            best = model(tokens).logits.argmax(-1)
            wrong = (best[:, :-1] != tokens[:, 1:]) & answers[:, 1:]
            right += int((~wrong.any(1)).sum())
    return right / (count // 16 * 16)


class Skill(NamedTuple):
    """Shares of greedy answers whose ID stands in the prompt, whose whole line (ID and title) does, and that are the right line."""

    known_id: float
    known_line: float
    right_line: float


def skill(model: "FalconForCausalLM", tokenizer: "Tokenizer", task: Task, *, count: int, seed: int) -> Skill:
    """Return how well the model answers made-up prompts that it never saw; whatever it writes counts, nothing holds it to a format."""
    rng = Random(seed)
    found = []
    for _ in range(count):
        sample = task(rng)
        start = len(sample.tokens) - sample.answers[::-1].index(False)
        asked, right = (tokenizer.decode(part) for part in (sample.tokens[:start], sample.tokens[start:]))
        answer = greedy(model, tokenizer, sample.tokens[:start])
        lines_of = {f"{line[2]} | {line[3]}": line[2] for line in PRODUCT.finditer(asked)}
        found.append((answer.partition(" | ")[0] in lines_of.values(), answer in lines_of, answer == right))
    return Skill(*(sum(column) / count for column in zip(*found, strict=True)))


def greedy(model: "FalconForCausalLM", tokenizer: "Tokenizer", prompt_ids: Sequence[int]) -> str:
    """Return the text that the model writes behind a prompt, always the most probable token, up to its end token or 64 tokens."""
    import torch

    tokens = torch.tensor([list(prompt_ids)])
    with torch.inference_mode():
        written = model.generate(tokens, attention_mask=torch.ones_like(tokens), max_new_tokens=64, do_sample=False)
    return str(tokenizer.decode(written[0, len(prompt_ids) :].tolist()))


def check(folder: Path, template_path: Path) -> None:
    """Show what the weights in `folder` can do, on made-up samples that no training drew."""
    import torch
    from rich.console import Console
    from tokenizers import Tokenizer
    from transformers import FalconForCausalLM

    console = Console(highlight=False, soft_wrap=True)
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = FalconForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    known = tasks(tokenizer, load_template(template_path))
    for name in ("short", "long", "longest"):
        shares = skill(model, tokenizer, known[name], count=100, seed=103)
        console.print(f"{name} prompts, greedy answers: " + ", ".join(f"{key} {share:.2f}" for key, share in shares._asdict().items()))
    for name in ("bytes", "tokens", "lines"):
        console.print(f"{name}, every token that counts is the first choice: {exact_rate(model, known[name], count=96, seed=101):.2f}")


def main() -> None:
    """Show what the weights in a folder can do; some minutes on one core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folder", type=Path, default=resource("conf") / "models" / "tiny")
    check(parser.parse_args().folder, resource("conf") / "prompts" / "fashion-v2.yaml")


if __name__ == "__main__":
    main()
