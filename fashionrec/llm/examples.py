"""Training examples as token ids: a prompt, its response, and the end-of-sequence token; only the response is learnt."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np
from numpy.typing import NDArray

from fashionrec.llm.base import LanguageModelError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
_CHUNK = 1000


class Example(TypedDict):
    """Token ids, int32 of shape (tokens,), and how many of them, from the left, are the prompt's."""

    input_ids: NDArray[np.int32]
    prompt_length: int


@dataclass(frozen=True)
class Examples:
    """What a folder holds, and how many of its prompts were cut."""

    rows: list[Example]
    cut_count: int


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of prompts, the same in training and generation: without an end-of-sequence token that the tokenizer adds."""
    if not prompts:
        return []
    rows: list[list[int]] = tokenizer(list(prompts)).input_ids
    return [row[:-1] if row and row[-1] == tokenizer.eos_token_id else row for row in rows]


def read_examples(folder: Path, tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int) -> Examples:
    """Return the examples of Parquet files with the columns prompt and response, in the files' order.

    What is longer than `max_tokens` loses the prompt's left end, never the response.

    Raises:
        LanguageModelError: a response has no tokens, or leaves no room for any prompt.
    """
    import pyarrow.dataset as ds

    rows: list[Example] = []
    cut_count = 0
    for batch in ds.dataset(folder, format="parquet").to_batches(columns=["prompt", "response"], batch_size=_CHUNK):
        prompts = prompt_ids(tokenizer, batch["prompt"].to_pylist())
        responses = tokenizer(batch["response"].to_pylist(), add_special_tokens=False).input_ids if batch.num_rows else []
        for prompt, response in zip(prompts, responses, strict=True):
            room = max_tokens - len(response) - 1
            if not prompt or not response or room < 1:
                raise LanguageModelError(
                    f"a training example has a prompt of {len(prompt)} and a response of {len(response)} tokens; both need one at least, "
                    f"and prompts.max_tokens leaves {max_tokens - 2} for the response; build the prompts again"
                )
            kept = prompt[-room:]
            cut_count += len(kept) < len(prompt)
            ids = np.array([*kept, *response, tokenizer.eos_token_id], np.int32)
            rows.append(Example(input_ids=ids, prompt_length=len(kept)))
    return Examples(rows, cut_count)


def collate(examples: Sequence[Example], *, pad_id: int) -> dict[str, Any]:
    """Return a batch padded on the left, so that the responses end together and logits are needed for the last places only.

    `input_ids`, `attention_mask` and `position_ids` are int64 of shape (batch, longest); `labels` (batch, logits_to_keep), with -100 for
    whatever is not response; `logits_to_keep` is one more than the longest response.
    """
    import torch

    longest = max(len(example["input_ids"]) for example in examples)
    keep = 1 + max(len(example["input_ids"]) - example["prompt_length"] for example in examples)
    ids = torch.full((len(examples), longest), pad_id)
    mask = torch.zeros_like(ids)
    labels = torch.full((len(examples), keep), IGNORED)
    for row, example in enumerate(examples):
        tokens = torch.from_numpy(example["input_ids"].astype(np.int64))
        ids[row, longest - len(tokens) :] = tokens
        mask[row, longest - len(tokens) :] = 1
        response = tokens[example["prompt_length"] :]
        labels[row, keep - len(response) :] = response
    return {
        "input_ids": ids,
        "attention_mask": mask,
        "position_ids": (mask.cumsum(1) - 1).clamp(min=0),
        "labels": labels,
        "logits_to_keep": keep,
    }
