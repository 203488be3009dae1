"""CORE: sessions and items in one space (Hou et al., SIGIR 2022; paper section 4.4).

A session's vector is a convex combination of its items' own vectors; a small transformer says with which weights (CORE-trm), or all weigh
the same (CORE-ave). Initialisation, dropout and normalisation are the published ones.
Imports torch: training, and workers that encode sessions.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from fashionrec.embeddings.item_table import COLD
from fashionrec.settings.model import Core as CoreSettings

PADDING, FIRST = -1, COLD + 1  # no row, and the row of the first item
_LAYERS, _HEADS = 2, 2
MAX_SCORES = 2**25  # scores held at once (128 MiB as float32)


class Core(nn.Module):
    """The session encoder over a table of a cold item and `items` items, (items + 1, dim)."""

    def __init__(self, items: int, *, dim: int, settings: CoreSettings, sparse: bool = False) -> None:
        super().__init__()
        self.temperature = settings.temperature
        self.table = nn.Embedding(items + FIRST, dim, sparse=sparse)
        self.item_dropout = nn.Dropout(settings.item_dropout)
        self.weigh = _Weights(dim, settings.max_actions, settings.encoder_dropout) if settings.encoder == "trm" else None
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -(dim**-0.5), dim**-0.5)

    def weights(self, vectors: Tensor) -> Tensor:
        """Return the weight of each action in each prefix, (batch, prefixes, actions) float32: not negative, 1 in sum.

        Prefix p holds the actions 0 to p; those of padding mean nothing. `vectors` are the actions' own, (batch, actions, dim).
        """
        actions = vectors.shape[1]
        later = torch.ones(actions, actions, dtype=torch.bool, device=vectors.device).triu(1)
        logits = torch.zeros_like(vectors[..., 0]) if self.weigh is None else self.weigh(vectors, later)
        return torch.softmax(logits[:, None, :].masked_fill(later, -torch.inf), dim=-1)

    def prefixes(self, sessions: Tensor) -> Tensor:
        """Return the vector of every prefix, (batch, prefixes, dim) float32, L2-normalised.

        Args:
            sessions: rows of the table, oldest to newest, (batch, actions) int64, padded on the right with PADDING.
        """
        vectors = self.item_dropout(self.table(sessions.clamp(min=0)))
        return functional.normalize(self.weights(vectors) @ vectors, dim=-1)

    def forward(self, sessions: Tensor) -> Tensor:
        """Return the sessions' vectors, (batch, dim) float32, L2-normalised; see `prefixes`."""
        last = (sessions != PADDING).sum(1) - 1
        return self.prefixes(sessions)[torch.arange(len(sessions), device=sessions.device), last]

    def candidates(self, rows: Tensor | None = None) -> Tensor:
        """Return the vectors that sessions are compared with, L2-normalised: of `rows` (any shape), or of the whole table."""
        vectors = self.table.weight if rows is None else self.table(rows)
        return functional.normalize(self.item_dropout(vectors), dim=-1)


class _Weights(nn.Module):
    """The published transformer: an action's logit depends on it and the actions before it."""

    def __init__(self, dim: int, max_actions: int, dropout: float) -> None:
        super().__init__()
        self.places = nn.Embedding(max_actions, dim)
        self.norm = nn.LayerNorm(dim, eps=1e-12)
        self.dropout = nn.Dropout(dropout)
        heads = _HEADS if dim % _HEADS == 0 else 1
        layer = nn.TransformerEncoderLayer(dim, heads, 4 * dim, dropout, activation="gelu", layer_norm_eps=1e-12, batch_first=True)
        layer.dropout.p = 0.0  # between the two linear layers the published model has none
        self.encoder = nn.TransformerEncoder(layer, _LAYERS, enable_nested_tensor=False)
        self.logit = nn.Linear(dim, 1)

    def forward(self, vectors: Tensor, later: Tensor) -> Tensor:
        """Return the logits, (batch, actions) float32, for vectors (batch, actions, dim) and the mask of what comes later."""
        places = self.places(torch.arange(vectors.shape[1], device=vectors.device))
        states = self.encoder(self.dropout(self.norm(vectors + places)), mask=later)
        logits: Tensor = self.logit(states).squeeze(-1)
        return logits


def pad(sessions: Sequence[NDArray[np.int64]], padding: int = PADDING) -> Tensor:
    """Return sessions side by side, (batch, longest) int64, padded on the right."""
    rows = [torch.from_numpy(session) for session in sessions]
    return nn.utils.rnn.pad_sequence(rows, batch_first=True, padding_value=padding)


def table_rows(sessions: "pd.Series[list[str]]", rows: "pd.Index[str]") -> list[NDArray[np.int64]]:
    """Return each session's items as rows of the table, oldest to newest; items without a row become the cold one."""
    lengths = sessions.map(len).to_numpy()
    return np.split(rows_of(sessions.explode(), rows), np.cumsum(lengths)[:-1])


def rows_of(item_ids: "pd.Series[Any]", rows: "pd.Index[str]") -> NDArray[np.int64]:
    """Return each item's row of the table, (items,), the cold one where it has none."""
    return np.asarray(rows.get_indexer(pd.Index(item_ids)), dtype=np.int64) + FIRST


def encode(model: Core, sessions: Sequence[NDArray[np.int64]], batch_size: int = 1024) -> NDArray[np.float32]:
    """Return the vectors of sessions of at least one row each, (sessions, dim) float32, L2-normalised."""
    model.eval()
    device = model.table.weight.device
    vectors = np.empty((len(sessions), model.table.embedding_dim), np.float32)
    order = np.argsort([len(session) for session in sessions], kind="stable")
    # Sessions of like length go together, so that little is padded.
    for start in range(0, len(order), batch_size):
        places = order[start : start + batch_size]
        with torch.inference_mode():
            vectors[places] = model(pad([sessions[place] for place in places]).to(device)).cpu().numpy()
    return vectors


def rank_targets(model: Core, examples: pd.DataFrame, items: pd.DataFrame, rows: "pd.Index[str]") -> NDArray[np.int64]:
    """Return the rank of each example's target among ALL items of its category by CORE's own ranking, (examples,); 0: not in the catalogue.

    Ties count against the target: items that training never saw share one vector, so they all stand before such a target.

    Args:
        model: the trained network.
        examples: item_ids (not empty), target_item_id, category.
        items: the catalogue: item_id, category.
        rows: the item IDs in the order of the table.
    """
    sessions = encode(model, table_rows(examples.item_ids, rows))
    ranks = np.zeros(len(examples), np.int64)
    for category, of_category in items.groupby("category"):
        places = np.flatnonzero(((examples.category == category) & examples.target_item_id.isin(of_category.item_id)).to_numpy())
        # The cold vector is compared once and counted as often as it is shared: equal columns of a product may differ in their last bit.
        distinct, counts = np.unique(rows_of(of_category.item_id, rows), return_counts=True)
        with torch.inference_mode():
            candidates = model.candidates(torch.from_numpy(distinct).to(model.table.weight.device)).cpu().numpy()
        size = max(1, MAX_SCORES // len(distinct))
        for start in range(0, len(places), size):
            part = places[start : start + size]
            scores = sessions[part] @ candidates.T
            targets = np.searchsorted(distinct, rows_of(examples.target_item_id.iloc[part], rows))
            target_scores = np.take_along_axis(scores, targets[:, None], axis=1)
            ranks[part] = ((~(scores < target_scores)) * counts).sum(1)
    return ranks


def save(model: Core, item_ids: Sequence[str], settings: CoreSettings, folder: Path) -> None:
    """Write `model.safetensors` (table.weight (items + 1, dim) float32, its first row the cold one, and the encoder's weights),
    `item_ids.json` in the order of the rows, and `core.json` with the settings."""
    from safetensors.torch import save_file

    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    (folder / "item_ids.json").write_text(json.dumps(list(item_ids)), encoding="utf-8")
    (folder / "core.json").write_text(settings.model_dump_json(), encoding="utf-8")


def load(folder: Path) -> tuple[Core, "pd.Index[str]", int]:
    """Return the saved network, on the CPU, the item IDs in the order of its table's rows, and how many actions it reads."""
    from safetensors.torch import load_file

    settings = CoreSettings.model_validate_json((folder / "core.json").read_text(encoding="utf-8"))
    weights = load_file(folder / "model.safetensors")
    items, dim = weights["table.weight"].shape
    with torch.device("meta"):  # no memory for weights that are replaced
        model = Core(items - FIRST, dim=dim, settings=settings)
    model.load_state_dict(weights, assign=True)
    return model.eval(), pd.Index(json.loads((folder / "item_ids.json").read_text(encoding="utf-8"))), settings.max_actions
