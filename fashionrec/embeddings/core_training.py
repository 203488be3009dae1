"""Training CORE: next clicks and purchases of each path up to the training cut, by the softmax over all items or over a sample of them.

Imports torch: training process only.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions, functional

from fashionrec.embeddings import checkpoint
from fashionrec.embeddings.core import MAX_SCORES, PADDING, Core, pad, rank_targets, rows_of, save, table_rows
from fashionrec.embeddings.epochs import Figures, Progress, Training, kept_figures, run_epochs
from fashionrec.embeddings.item_table import COLD
from fashionrec.errors import UserError
from fashionrec.settings.model import Core as CoreSettings

_VALIDATION_EXAMPLES = 5000  # enough for one figure; their IDs are hashes, so the first ones are a sample
NO_TARGET = -100
_SORTED_TOGETHER = 32  # batches among whose sessions those of like length are put together


def train(inputs: str, folder: Path, *, dim: int, settings: CoreSettings, seed: int, device: str) -> dict[str, Any]:
    """Train on `inputs`/examples and `inputs`/items, save the model below `folder` (see `core.save`) and return its card.

    Raises:
        UserError: no training example, a loss that is not a number, or validation below the untrained model's.
    """
    torch.manual_seed(seed)
    examples = pq.read_table(f"{inputs}/examples").to_pandas().sort_values(["example_id", "split"], ignore_index=True)
    items = pq.read_table(f"{inputs}/items", columns=["item_id", "category"]).to_pandas().sort_values("item_id", ignore_index=True)
    held_out = examples[examples.split == "validation"].head(_VALIDATION_EXAMPLES)
    learnt = examples[examples.split != "validation"]
    if learnt.empty:
        raise UserError("model id: no training example holds an item; widen sequences.history_days or lower sequences.min_actions")
    # Items that have left the catalogue are learnt, too: they say what the paths that hold them are about.
    item_ids = sorted({*learnt.item_ids.explode(), *learnt.target_item_id})
    rows = pd.Index(item_ids)
    sampled = len(item_ids) > settings.full_softmax_up_to
    model = Core(len(item_ids), dim=dim, settings=settings, sparse=sampled).to(device)
    facts = {**settings.model_dump(), "dim": dim, "seed": seed, "device": device}
    saved = folder.parent / f"checkpoint-{checkpoint.fingerprint(facts, examples, items)}.safetensors"

    def validate() -> Figures:
        return {"validation_recall_at_10": float(np.mean(within(rank_targets(model, held_out, items, rows), 10)))}

    history = fit(
        model,
        sessions_of(learnt, rows),
        settings=settings,
        seed=seed,
        saved=saved,
        validate=validate if len(held_out) else None,
        held_out=len(held_out),
    )
    save(model, item_ids, settings, folder)
    saved.unlink(missing_ok=True)
    metrics = {**kept_figures(history), "examples": len(learnt), "items": len(item_ids), "validation_examples": len(held_out)}
    return {"metrics": metrics, "history": history, "softmax": "sampled" if sampled else "full"}


@dataclass(frozen=True)
class Sessions:
    """Training data: per session the rows of its items, oldest to newest, and per item the row that comes next.

    The next row is NO_TARGET where it is not learnt. All arrays are (items of the session,) int64.
    """

    items: list[NDArray[np.int64]]
    targets: list[NDArray[np.int64]]

    @property
    def target_count(self) -> int:
        return int(sum((targets != NO_TARGET).sum() for targets in self.targets))


def sessions_of(examples: pd.DataFrame, rows: "pd.Index[str]") -> Sessions:
    """Return the sessions of examples: of those of the split `path` every next item is learnt, of the others the purchase at the end."""
    items = table_rows(examples.item_ids, rows)
    targets = []
    for session, last, split in zip(items, rows_of(examples.target_item_id, rows), examples.split, strict=True):
        following = session[1:] if split == "path" else np.full(len(session) - 1, NO_TARGET)
        targets.append(np.append(following, last))
    return Sessions(items, targets)


def fit(
    model: Core,
    sessions: Sessions,
    *,
    settings: CoreSettings,
    seed: int,
    saved: Path,
    validate: Callable[[], Figures] | None = None,
    held_out: int = 0,
) -> list[Figures]:
    """Train in place and return one row per epoch; see `epochs.run_epochs`.

    Args:
        model: what to train; with a sparse table by sampled softmax, else by the softmax over all items.
        sessions: what to learn.
        settings: see embeddings.core.
        seed: of the order, of what is replaced by the cold item and of the sampled items.
        saved: the checkpoint's file.
        validate, held_out: see `epochs.run_epochs`.
    """
    device = model.table.weight.device
    dice = torch.Generator().manual_seed(seed)
    sample = Sample(sessions, model.table.num_embeddings, settings.sampled_items, dice) if model.table.sparse else None
    training = Training("id", "embeddings.core", model, _optimisers(model, settings.learning_rate), dice)
    lengths = torch.tensor([len(items) for items in sessions.items])

    def train_epoch(_: int, progress: Progress) -> None:
        for batch in batches(lengths, settings.batch_size, dice):
            seen = with_cold(pad([sessions.items[i] for i in batch.tolist()]), settings.cold_rate, dice)
            wanted = pad([sessions.targets[i] for i in batch.tolist()], NO_TARGET)
            learnt = wanted != NO_TARGET
            targets = with_cold(wanted[learnt], settings.cold_rate, dice).to(device)
            for optimiser in training.optimisers:
                optimiser.zero_grad()
            vectors = model.prefixes(seen.to(device))[learnt.to(device)]
            loss = over_sample(model, vectors, targets, sample) if sample else over_all(model, vectors, targets)
            (loss / len(targets)).backward()  # type: ignore[no-untyped-call]
            for optimiser in training.optimisers:
                optimiser.step()
            progress.add(loss.item(), len(targets))

    return run_epochs(
        training,
        epochs=settings.epochs,
        patience=settings.patience,
        examples=sessions.target_count,
        train_epoch=train_epoch,
        validate=validate,
        held_out=held_out,
        saved=saved,
    )


def batches(lengths: Tensor, size: int, dice: torch.Generator) -> list[Tensor]:
    """Return the places of sessions, given their lengths (sessions,), in batches of `size` and in random order.

    Sessions of like length go together: padding costs time.
    """
    drawn = []
    for part in torch.randperm(len(lengths), generator=dice).split(size * _SORTED_TOGETHER):  # type: ignore[no-untyped-call]
        drawn += part[lengths[part].argsort(stable=True)].split(size)
    return [drawn[place] for place in torch.randperm(len(drawn), generator=dice).tolist()]


def over_all(model: Core, vectors: Tensor, targets: Tensor) -> Tensor:
    """Return the summed cross-entropy of targets (targets,) among ALL items, for sessions' vectors (targets, dim).

    The matrix of targets x items is never held whole: torch goes through it in pieces of at most MAX_SCORES scores.
    """
    items = model.table.num_embeddings
    pieces = LinearCrossEntropyOptions(batch_chunk_size=max(1, min(len(targets), MAX_SCORES // items)))
    return functional.linear_cross_entropy(vectors / model.temperature, model.candidates(), targets, reduction="sum", options=pieces)


class Sample:
    """Draws the items that stand for all others in a sampled softmax: half of them at random, half as often as they are targets."""

    def __init__(self, sessions: Sessions, items: int, size: int, dice: torch.Generator) -> None:
        targets = np.concatenate(sessions.targets)
        counts = torch.from_numpy(np.bincount(targets[targets != NO_TARGET], minlength=items))
        self._chances = 0.5 / items + 0.5 * counts / counts.sum()
        self._ends = self._chances.cumsum(0)
        self._size, self._dice = size, dice

    def draw(self) -> tuple[Tensor, Tensor]:
        """Return rows of the table, some of them repeated, (size,) int64, and the logarithms of their expected counts, (size,) float32."""
        dice = torch.rand(self._size, generator=self._dice, dtype=torch.float64)
        rows = torch.searchsorted(self._ends, dice).clamp(max=len(self._ends) - 1)
        return rows, (self._size * self._chances[rows]).log().float()


def over_sample(model: Core, vectors: Tensor, targets: Tensor, sample: Sample) -> Tensor:
    """Return an estimate of `over_all` from sampled items.

    In the softmax's sum each sampled item stands for 1 / expected count of its kind (Bengio and Senecal 2008). The target is in every sum
    for certain, so it is not corrected, and it is left out where it was drawn.
    """
    rows, expected = (drawn.to(vectors.device) for drawn in sample.draw())
    scaled = vectors / model.temperature
    target_scores = (scaled * model.candidates(targets)).sum(-1)
    others = torch.addmm(-expected, scaled, model.candidates(rows).T).masked_fill(targets[:, None] == rows, -torch.inf)
    return (torch.logaddexp(target_scores, others.logsumexp(1)) - target_scores).sum()


def with_cold(rows: Tensor, rate: float, dice: torch.Generator) -> Tensor:
    """Return rows with a share of the item occurrences replaced by the cold one, so that it is learnt."""
    return rows.masked_fill((torch.rand(rows.shape, generator=dice) < rate) & (rows != PADDING), COLD)


def within(ranks: NDArray[np.int64], k: int) -> NDArray[np.bool_]:
    """Return which ranks are among the first k, (examples,); 0 is no rank."""
    return (ranks > 0) & (ranks <= k)


def _optimisers(model: Core, learning_rate: float) -> list[torch.optim.Optimizer]:
    if not model.table.sparse:
        return [torch.optim.Adam(model.parameters(), lr=learning_rate)]
    # Only the rows of a step are touched: a step's cost does not grow with the catalogue.
    encoder = [parameter for parameter in model.parameters() if parameter is not model.table.weight]
    sparse = torch.optim.SparseAdam([model.table.weight], lr=learning_rate)
    return [sparse, torch.optim.Adam(encoder, lr=learning_rate)] if encoder else [sparse]
