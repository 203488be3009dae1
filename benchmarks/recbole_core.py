"""Train RecBole's CORE on the toy shop of tests/models/core_toy.py and record what came of it in tests/models/recbole_core.json.

RecBole is an independent implementation by the authors of CORE; it is no dependency of ours. Its model, loss, full ranking and metrics are
what runs here, with the settings that it ships, in a plain loop. To make the file anew, in the root of the repository:

    pip install --no-deps --target FOLDER recbole==1.2.1 colorlog==4.7.2 colorama==0.4.4 texttable tensorboard absl-py
    PYTHONPATH=FOLDER python -m benchmarks.recbole_core
"""

import hashlib
import importlib.metadata
import importlib.resources
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
import yaml

from tests.models.core_toy import ITEMS, MOST_ITEMS, Example, examples, given_weights

RECORD = Path("tests/models/recbole_core.json")
SEEDS = (1, 2, 3)
EPOCHS, BATCH, LEARNING_RATE, STEPS = 14, 64, 0.001, 20
# What RecBole's configuration says of any sequential model; the model's own settings come from its file.
_GENERAL = {
    "USER_ID_FIELD": "user_id",
    "ITEM_ID_FIELD": "item_id",
    "LIST_SUFFIX": "_list",
    "ITEM_LIST_LENGTH_FIELD": "item_length",
    "NEG_PREFIX": "neg_",
    "MAX_ITEM_LIST_LENGTH": MOST_ITEMS,
    "device": "cpu",
}


def main() -> None:
    np.float = float  # type: ignore[attr-defined]  # RecBole's metrics use a name that NumPy has dropped
    torch.set_num_threads(1)
    train, test = examples()
    runs = {kind: [trained(kind, seed, train, test) for seed in SEEDS] for kind in ("ave", "trm")}
    record = {
        "what": "RecBole's CORE on the toy shop of tests/models/core_toy.py; made by benchmarks/recbole_core.py",
        "recbole": importlib.metadata.version("recbole"),
        "torch": torch.__version__.partition("+")[0],
        "settings": model_settings(),
        "training": {"epochs": EPOCHS, "batch_size": BATCH, "learning_rate": LEARNING_RATE, "optimiser": "Adam", "seeds": SEEDS},
        "examples": {"train": len(train), "test": len(test), "sha256": fingerprint(train, test)},
        "runs": runs,
        "steps_from_given_weights": {kind: steps(kind, train) for kind in runs},
    }
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    for kind, of_kind in runs.items():
        print(kind, *({key: round(value, 4) for key, value in run["test"].items()} for run in of_kind), sep="\n  ")


def fingerprint(*parts: Sequence[Example]) -> str:
    """Return the SHA-256 of examples."""
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def model_settings() -> dict[str, Any]:
    """Return the settings of CORE that RecBole ships."""
    shipped = importlib.resources.files("recbole") / "properties/model/CORE.yaml"
    settings: dict[str, Any] = yaml.safe_load(shipped.read_text(encoding="utf-8"))
    return {**settings, "layer_norm_eps": float(settings["layer_norm_eps"])}


def make_model(kind: str) -> Any:
    """Return RecBole's CORE with the encoder `ave` or `trm`; its row 0 is padding, item i its row i + 1."""
    from recbole.model.sequential_recommender.core import CORE

    shop = SimpleNamespace(num=lambda _: ITEMS + 1, field2seqlen={"item_id_list": MOST_ITEMS})
    return CORE({**_GENERAL, **model_settings(), "dnn_type": kind}, shop)


def trained(kind: str, seed: int, train: Sequence[Example], test: Sequence[Example]) -> dict[str, Any]:
    """Return a seed's mean training loss of each epoch, and its loss (without dropout) and metrics on the test examples."""
    torch.manual_seed(seed)
    model = make_model(kind)
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for _ in range(EPOCHS):
        model.train()
        total = 0.0
        for batch in batches([train[i] for i in torch.randperm(len(train)).tolist()]):
            optimiser.zero_grad()
            loss = model.calculate_loss(batch)
            loss.backward()
            optimiser.step()
            total += loss.item() * len(batch["item_id"])
        losses.append(total / len(train))
    return {"seed": seed, "losses": losses, "test": evaluated(model, test)}


def steps(kind: str, train: Sequence[Example]) -> list[float]:
    """Return the losses of the first steps from given weights, without dropout and in the examples' order: nothing left to chance."""
    model = make_model(kind).eval()
    for name, weights in model.named_parameters():
        weights.data.copy_(torch.from_numpy(given_weights(name, tuple(weights.shape))))
    optimiser = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE)
    losses = []
    for batch in batches(train[: STEPS * BATCH]):
        optimiser.zero_grad()
        loss = model.calculate_loss(batch)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    return losses


def evaluated(model: Any, test: Sequence[Example]) -> dict[str, float]:
    """Return loss, recall@10, ndcg@10 and mrr by RecBole's own metrics over its full ranking, padding left out."""
    from recbole.evaluator.metrics import MRR, NDCG, Recall

    model.eval()
    (whole,) = batches(test, size=len(test))
    with torch.no_grad():
        loss = model.calculate_loss(whole).item()
        scores = model.full_sort_predict(whole)[:, 1:].numpy()
    targets = whole["item_id"].numpy()[:, None] - 1
    is_target = np.arange(ITEMS) == targets
    # The best score first; behind all its equals the target.
    hits = np.take_along_axis(is_target, np.lexsort((is_target, -scores)), axis=1)
    hits_of_top = {"rec.topk": torch.from_numpy(np.hstack([hits, np.ones((len(test), 1), dtype=bool)]).astype(int))}
    config = {"topk": [10, ITEMS], "metric_decimal_place": 9}
    found = {name: float(value) for metric in (Recall, NDCG, MRR) for name, value in metric(config).calculate_metric(hits_of_top).items()}
    return {"loss": loss, "recall@10": found["recall@10"], "ndcg@10": found["ndcg@10"], "mrr": found[f"mrr@{ITEMS}"]}


def batches(rows: Sequence[Example], size: int = BATCH) -> Iterator[dict[str, torch.Tensor]]:
    """Yield RecBole's interactions: sessions padded on the right with 0, and the item that followed."""
    for start in range(0, len(rows), size):
        part = rows[start : start + size]
        padded = [[item + 1 for item in row.items] + [0] * (MOST_ITEMS - len(row.items)) for row in part]
        yield {
            "item_id_list": torch.tensor(padded),
            "item_length": torch.tensor([len(row.items) for row in part]),
            "item_id": torch.tensor([row.target + 1 for row in part]),
        }


if __name__ == "__main__":
    main()
