"""CORE: sessions and items in one space (Hou et al., SIGIR 2022), of which only the item table is kept (section 4.4).

A session's vector is a convex combination of its items' own vectors; a small transformer says with which weights.
Imports torch: training process only.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fashionrec.embeddings.progress import finite, say
from fashionrec.errors import UserError
from fashionrec.settings.model import Core as CoreSettings

PADDING, COLD, FIRST = 0, 1, 2  # rows of the table before the first item
_LAYERS, _HEADS, _DROPOUT = 2, 2, 0.2
_MAX_SCORES = 2**25  # scores held at once (128 MiB as float32): larger catalogues are trained in smaller pieces


class Core(nn.Module):
    """The session encoder over an item table of `items` items, a cold one and padding."""

    def __init__(self, items: int, *, dim: int, max_actions: int, temperature: float, item_dropout: float) -> None:
        super().__init__()
        self.temperature = temperature
        self.table = nn.Embedding(items + FIRST, dim, padding_idx=PADDING)
        nn.init.uniform_(self.table.weight[FIRST - 1 :], -(dim**-0.5), dim**-0.5)
        self.places = nn.Embedding(max_actions, dim)
        heads = _HEADS if dim % _HEADS == 0 else 1
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, _DROPOUT, activation="gelu", batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.weigh = nn.Linear(dim, 1)
        self.dropout = nn.Dropout(item_dropout)

    def weights(self, sessions: Tensor) -> Tensor:
        """Return the weight of each action, (batch, actions) float32: not negative, 0 at padding, 1 in sum."""
        vectors = self.dropout(self.table(sessions))
        # Counted from the newest action, so that a place means the same in short and long sessions (padding is on the left).
        places = torch.arange(sessions.shape[1] - 1, -1, -1, device=sessions.device)
        states = self.encoder(vectors + self.places(places), src_key_padding_mask=sessions == PADDING)
        return torch.softmax(self.weigh(states).squeeze(-1).masked_fill(sessions == PADDING, -torch.inf), dim=1)

    def forward(self, sessions: Tensor) -> Tensor:
        """Return the sessions' vectors, (batch, dim) float32, L2-normalised, for rows of the table (batch, actions) int64."""
        combined = torch.einsum("ba,bad->bd", self.weights(sessions), self.dropout(self.table(sessions)))
        return functional.normalize(combined, dim=-1)

    def scores(self, sessions: Tensor) -> Tensor:
        """Return the logits over cold and all items, (batch, items + 1): cosine over temperature."""
        candidates = functional.normalize(self.dropout(self.table.weight[COLD:]), dim=-1)
        scores: Tensor = self(sessions) @ candidates.T / self.temperature
        return scores


def train(inputs: str, folder: Path, *, dim: int, settings: CoreSettings, seed: int, device: str) -> dict[str, Any]:
    """Train on `inputs`/examples and `inputs`/items, save the item table below `folder` and return its card.

    Saved: `table.safetensors` (vectors (items, dim) and cold (dim,), float32, L2-normalised) and `item_ids.json` in the order of the rows.

    Raises:
        UserError: no training examples, or a loss that is not a number.
    """
    torch.manual_seed(seed)
    examples = pq.read_table(f"{inputs}/examples").to_pandas().sort_values("example_id", ignore_index=True)
    items = pq.read_table(f"{inputs}/items", columns=["item_id", "category"]).to_pandas()
    learnt, held_out = (examples[examples.split == split] for split in ("train", "validation"))
    if learnt.empty:
        raise UserError("model id: no training example holds an item; widen sequences.history_days or lower sequences.min_actions")
    item_ids = sorted({*learnt.item_ids.explode(), *learnt.target_item_id} & set(items.item_id))
    rows = pd.Index(item_ids)
    model = Core(
        len(item_ids), dim=dim, max_actions=settings.max_actions, temperature=settings.temperature, item_dropout=settings.item_dropout
    ).to(device)
    losses = fit(model, table_rows(learnt.item_ids, rows), _rows_of(learnt.target_item_id, rows), settings=settings, seed=seed)
    recall = validate(model, held_out, items, rows) if len(held_out) else float("nan")
    metrics = {"loss": losses[-1], "examples": len(learnt), "items": len(item_ids), "validation_examples": len(held_out)}
    metrics |= {"validation_recall_at_10": recall} if len(held_out) else {}
    _save(model, item_ids, folder)
    return {"metrics": metrics, "losses": losses}


def fit(
    model: Core, sessions: Sequence[NDArray[np.int64]], targets: NDArray[np.int64], *, settings: CoreSettings, seed: int
) -> list[float]:
    """Train in place and return the mean loss of each epoch.

    Args:
        model: what to train.
        sessions: rows of the table, oldest to newest, per example.
        targets: row of the table, (examples,).
        settings: see embeddings.core.
        seed: of the order and of what is replaced by the cold item.
    """
    device = model.table.weight.device
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    dice = torch.Generator().manual_seed(seed)
    # The gradient of a batch is summed over pieces whose scores over all items fit in memory.
    piece = max(1, min(settings.batch_size, _MAX_SCORES // model.table.num_embeddings))
    losses = []
    for epoch in range(settings.epochs):
        model.train()
        total = 0.0
        for batch in _pieces(torch.randperm(len(targets), generator=dice), settings.batch_size):
            optimiser.zero_grad()
            for part in _pieces(batch, piece):
                wanted = _with_cold(torch.from_numpy(targets[part.numpy()]), settings.cold_rate, dice)
                seen = _with_cold(pad([sessions[i] for i in part.tolist()]), settings.cold_rate, dice)
                loss = functional.cross_entropy(model.scores(seen.to(device)), wanted.to(device) - COLD, reduction="sum")
                (loss / len(batch)).backward()  # type: ignore[no-untyped-call]
                total += loss.item()
            optimiser.step()
        losses.append(finite(total / len(targets), "id", epoch, "embeddings.core.learning_rate"))
        say("id", epoch, settings.epochs, losses[-1])
    return losses


def validate(model: Core, examples: pd.DataFrame, items: pd.DataFrame, rows: "pd.Index[Any]") -> float:
    """Return Recall@10 of the session encoder among ALL items of the target's category; items without a row share the cold one.

    Ties count against the target, so an untrained target is found only where its category's untrained items are few.
    """
    model.eval()
    hits = 0
    for category, of_category in items.groupby("category"):
        wanted = examples[examples.category == category]
        table = _rows_of(of_category.item_id, rows)
        columns = torch.from_numpy(table - COLD)
        for start in range(0, len(wanted), 256):
            some = wanted.iloc[start : start + 256]
            with torch.inference_mode():
                scores = model.scores(pad(table_rows(some.item_ids, rows)).to(model.table.weight.device)).cpu()
            target = _rows_of(some.target_item_id, rows)
            own = scores.gather(1, torch.from_numpy(target - COLD)[:, None])
            rank = (scores[:, columns] >= own).sum(1)
            # A target outside of the catalogue cannot be ranked in it.
            hits += int(((rank <= 10).numpy() & some.target_item_id.isin(of_category.item_id).to_numpy()).sum())
    return hits / len(examples)


def table_rows(sessions: "pd.Series[Any]", rows: "pd.Index[Any]") -> list[NDArray[np.int64]]:
    """Return each session's items as rows of the table, oldest to newest; items without a row become the cold one."""
    lengths = sessions.map(len).to_numpy()
    return np.split(_rows_of(sessions.explode(), rows), np.cumsum(lengths)[:-1])


def pad(sessions: Sequence[NDArray[np.int64]]) -> Tensor:
    """Return sessions side by side, (batch, longest) int64, padded on the left."""
    longest = max(len(session) for session in sessions)
    return torch.from_numpy(np.stack([np.pad(session, (longest - len(session), 0), constant_values=PADDING) for session in sessions]))


def _rows_of(item_ids: "pd.Series[Any]", rows: "pd.Index[Any]") -> NDArray[np.int64]:
    found = rows.get_indexer(pd.Index(item_ids)).astype(np.int64)
    return np.where(found < 0, COLD, found + FIRST)


def _pieces(rows: Tensor, size: int) -> Iterator[Tensor]:
    for start in range(0, len(rows), size):
        yield rows[start : start + size]


def _with_cold(rows: Tensor, rate: float, dice: torch.Generator) -> Tensor:
    """Return rows with a share of the item occurrences replaced by the cold one, so that it is learnt."""
    return rows.masked_fill((torch.rand(rows.shape, generator=dice) < rate) & (rows != PADDING), COLD)


def _save(model: Core, item_ids: list[str], folder: Path) -> None:
    from safetensors.torch import save_file

    vectors = functional.normalize(model.table.weight.detach(), dim=-1).cpu()
    save_file({"vectors": vectors[FIRST:].contiguous(), "cold": vectors[COLD].clone()}, folder / "table.safetensors")
    (folder / "item_ids.json").write_text(json.dumps(item_ids), encoding="utf-8")
