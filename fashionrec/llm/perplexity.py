"""How surprising responses are to a model, given their prompts."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fashionrec.llm.examples import IGNORED, Example, collate

if TYPE_CHECKING:
    import torch
    from torch import nn

_SECONDS_BETWEEN_LINES = 10.0


class Surprise(NamedTuple):
    """Of each example: the summed loss of its response, nats, (examples,) float32; and its tokens, end included, (examples,) int64."""

    nats: NDArray[np.float32]
    tokens: NDArray[np.int64]

    def of(self, places: NDArray[np.int64]) -> "Surprise":
        """Return that of the examples at these places, any of them as often as it is named."""
        return Surprise(self.nats[places], self.tokens[places])

    @property
    def loss(self) -> float:
        """Return the mean loss over all response tokens, nats."""
        return float(self.nats.sum(dtype=np.float64) / self.tokens.sum())

    @property
    def perplexity(self) -> NDArray[np.float32]:
        """Return each response's perplexity (paper section 5.1), (examples,) float32."""
        values: NDArray[np.float32] = np.exp(self.nats / self.tokens).astype(np.float32)
        return values


def surprise(model: "nn.Module", examples: Sequence[Example], *, pad_id: int, batch_size: int, label: str = "") -> Surprise:
    """Measure a model on examples; ranks that train together share the work and all get the whole.

    Args:
        pad_id: any token; padded places are masked.
        batch_size: examples at once on a device.
        label: names the progress lines, which only a job longer than ten seconds shows; "" for none.
    """
    import torch
    from accelerate import PartialState
    from accelerate.utils import gather_object

    ranks = PartialState()
    lengths = np.array([len(example["input_ids"]) for example in examples])
    # Of one length in a batch, so that little is padding. Every rank has as many batches, for a shared model needs all ranks at each pass.
    batches = [part for part in np.array_split(np.argsort(lengths, kind="stable"), -(-len(lengths) // batch_size)) if len(part)]
    rounds = -(-len(batches) // ranks.num_processes)
    of_this_rank = [batches[(number * ranks.num_processes + ranks.process_index) % len(batches)] for number in range(rounds)]
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    found: list[tuple[int, float, int]] = []
    shown = time.monotonic()
    for number, part in enumerate(of_this_rank):
        with torch.no_grad():
            nats, tokens = _response_nats(model, collate([examples[place] for place in part], pad_id=pad_id), device)
        found += zip(part.tolist(), nats, tokens, strict=True)
        if label and ranks.is_main_process and time.monotonic() - shown > _SECONDS_BETWEEN_LINES:
            shown = time.monotonic()
            print(f"  {label}: {(number + 1) / rounds:.0%} of {len(examples):,}", flush=True)  # noqa: T201
    model.train(was_training)
    everything = gather_object(found) if ranks.num_processes > 1 else found
    result = Surprise(np.zeros(len(examples), np.float32), np.ones(len(examples), np.int64))
    for place, nats_of_one, tokens_of_one in everything:
        result.nats[place], result.tokens[place] = nats_of_one, tokens_of_one
    return result


def _response_nats(model: "nn.Module", batch: dict[str, Any], device: "torch.device") -> tuple[list[float], list[int]]:
    import torch

    labels = batch.pop("labels")[:, 1:].to(device)
    logits = model(**{key: value.to(device) if hasattr(value, "to") else value for key, value in batch.items()}).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), labels, ignore_index=IGNORED, reduction="none")
    return losses.sum(1).tolist(), (labels != IGNORED).sum(1).tolist()
