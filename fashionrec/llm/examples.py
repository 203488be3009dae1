"""Training examples as token ids: a prompt, its response, and the end-of-sequence token; only the response is learnt."""

from collections.abc import Sequence
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


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of prompts, the same in training and generation: without an end-of-sequence token that the tokenizer adds."""
    if not prompts:
        return []
    rows: list[list[int]] = tokenizer(list(prompts)).input_ids
    return [row[:-1] if row and row[-1] == tokenizer.eos_token_id else row for row in rows]


def read_examples(folder: Path, tokenizer: "PreTrainedTokenizerBase", *, max_tokens: int) -> list[Example]:
    """Return the examples of Parquet files with the columns prompt and response, in the files' order.

    Raises:
        LanguageModelError: a prompt or a response has no tokens, or both together more than `max_tokens`. Prompts that were built for this
            base keep to it, so nothing is cut here.
    """
    import pyarrow.dataset as ds

    rows: list[Example] = []
    too_long: list[int] = []
    for batch in ds.dataset(folder, format="parquet").to_batches(columns=["prompt", "response"], batch_size=_CHUNK):
        prompts = prompt_ids(tokenizer, batch["prompt"].to_pylist())
        responses = tokenizer(batch["response"].to_pylist(), add_special_tokens=False).input_ids if batch.num_rows else []
        for prompt, response in zip(prompts, responses, strict=True):
            if not prompt or not response:
                raise LanguageModelError(
                    f"a training example has a prompt of {len(prompt)} and a response of {len(response)} tokens; both need one at least; "
                    "build the prompts again"
                )
            ids = np.array([*prompt, *response, tokenizer.eos_token_id], np.int32)
            rows.append(Example(input_ids=ids, prompt_length=len(prompt)))
            if len(ids) > max_tokens:
                too_long.append(len(ids))
    if too_long:
        raise LanguageModelError(
            f"{len(too_long):,} of {len(rows):,} training examples are longer than prompts.max_tokens={max_tokens} (the longest has "
            f"{max(too_long):,} tokens): they were built for another base or budget; build the prompts again with these settings"
        )
    return rows


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
