"""Our CORE beside RecBole's, an independent implementation by the authors of CORE, on one toy shop.

What RecBole came to was recorded by benchmarks/recbole_core.py; RecBole itself is not needed here. Two implementations agree in a figure
when the means over three seeds differ by no more than the larger of the two ranges (highest less lowest seed). The figures are the
training loss of every epoch, and on the test examples the loss without dropout, Recall@10, NDCG@10 and the MRR over the full ranking.
"""

import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fashionrec.embeddings import core_training
from fashionrec.embeddings.core import FIRST, Core, pad
from fashionrec.metrics import ndcg_at_k, recall_at_k, reciprocal_rank
from fashionrec.settings import load_settings
from tests.models.core_toy import ITEMS, examples, given_weights

RECBOLE = json.loads(Path(__file__).with_name("recbole_core.json").read_text(encoding="utf-8"))
TRAIN, TEST = examples()
# RecBole's names of weights on the left of ours; its layers are given in full.
NAMES = {
    "item_embedding": "table",
    "net.position_embedding": "weigh.places",
    "net.LayerNorm": "weigh.norm",
    "net.fn": "weigh.logit",
}
LAYER_NAMES = {
    "multi_head_attention.dense": "self_attn.out_proj",
    "multi_head_attention.LayerNorm": "norm1",
    "feed_forward.dense_1": "linear1",
    "feed_forward.dense_2": "linear2",
    "feed_forward.LayerNorm": "norm2",
}
ATTENTION = ("query", "key", "value")


def settings(kind, **given):
    """Return the settings that RecBole ships, and those of the recorded training; nothing is masked by the cold item."""
    theirs, training = RECBOLE["settings"], RECBOLE["training"]
    assert theirs["sess_dropout"] == theirs["item_dropout"]
    assert theirs["hidden_dropout_prob"] == theirs["attn_dropout_prob"]
    same = {
        "encoder": kind,
        "temperature": theirs["temperature"],
        "item_dropout": theirs["item_dropout"],
        "encoder_dropout": theirs["hidden_dropout_prob"],
        "max_actions": max(len(example.items) for example in TRAIN + TEST) + 1,
        "epochs": training["epochs"],
        "batch_size": training["batch_size"],
        "learning_rate": training["learning_rate"],
        "cold_rate": 0.0,
    }
    return load_settings().embeddings.core.model_copy(update={**same, **given})


def sessions(rows):
    """Return examples as training takes them: only what follows the last item is learnt."""
    items = [np.array(row.items) + FIRST for row in rows]
    unlearnt = [np.full(len(row.items) - 1, core_training.NO_TARGET) for row in rows]
    return core_training.Sessions(items, [np.append(none, row.target + FIRST) for none, row in zip(unlearnt, rows, strict=True)])


def make_core(kind, **given):
    return Core(ITEMS, dim=RECBOLE["settings"]["embedding_size"], settings=settings(kind, **given))


def train_all(folder, kind, **given):
    """Return one run per seed like RecBole's: losses and test figures."""
    torch.set_num_threads(1)
    return [one_run(folder / f"checkpoint-{seed}.safetensors", kind, seed, given) for seed in RECBOLE["training"]["seeds"]]


def pessimistic_rank(scores, targets):
    """Return the rank of each row's target, 1 is the top, ties broken against it."""
    return (~(scores < scores[np.arange(len(targets)), targets][:, None])).sum(axis=1)


def one_run(saved, kind, seed, given):
    torch.manual_seed(seed)
    model = make_core(kind, **given)
    history = core_training.fit(model, sessions(TRAIN), settings=settings(kind, **given), seed=seed, saved=saved)
    model.eval()
    targets = np.array([row.target for row in TEST])
    with torch.no_grad():
        logits = model(pad(sessions(TEST).items)) @ model.candidates().T / model.temperature
    ranks = pessimistic_rank(logits[:, FIRST:].numpy(), targets)
    figures = {
        "loss": functional.cross_entropy(logits, torch.from_numpy(targets + FIRST)).item(),
        "recall@10": recall_at_k(ranks, 10).mean(),
        "ndcg@10": ndcg_at_k(ranks, 10).mean(),
        "mrr": reciprocal_rank(ranks).mean(),
    }
    return {"losses": [row["loss"] for row in history], "test": figures}


def differing(ours, theirs):
    """Return the figures in which two sets of runs do not agree, with both means and the range allowed."""
    found = {}
    for name, (here, other) in {name: (figures(ours)[name], figures(theirs)[name]) for name in figures(theirs)}.items():
        allowed = max(np.ptp(here), np.ptp(other))
        if abs(np.mean(here) - np.mean(other)) > allowed:
            found[name] = tuple(round(float(value), 4) for value in (np.mean(here), np.mean(other), allowed))
    return found


def figures(runs):
    losses = np.array([run["losses"] for run in runs])
    per_epoch = {f"loss of epoch {epoch + 1}": of_epoch for epoch, of_epoch in enumerate(losses.T)}
    return {**per_epoch, **{f"test {name}": [run["test"][name] for run in runs] for name in runs[0]["test"]}}


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return {kind: train_all(tmp_path_factory.mktemp(kind), kind) for kind in ("ave", "trm")}


def test_the_toy_shop_is_the_one_that_recbole_was_trained_on():
    assert hashlib.sha256(json.dumps([TRAIN, TEST]).encode()).hexdigest() == RECBOLE["examples"]["sha256"]
    seen = {item for row in TRAIN for item in (*row.items, row.target)}
    assert seen == set(range(ITEMS)), "every item occurs in training"


@pytest.mark.parametrize("kind", ["ave", "trm"])
def test_from_the_same_weights_and_without_dropout_both_take_the_same_steps(kind):
    model = make_core(kind, item_dropout=0.0, encoder_dropout=0.0)
    give_weights(model)
    optimiser = torch.optim.Adam(model.parameters(), lr=RECBOLE["training"]["learning_rate"])
    losses, size = [], RECBOLE["training"]["batch_size"]
    for start in range(0, size * len(RECBOLE["steps_from_given_weights"][kind]), size):
        batch = sessions(TRAIN[start : start + size])
        targets = torch.tensor([row.target + FIRST for row in TRAIN[start : start + size]])
        optimiser.zero_grad()
        loss = core_training.over_all(model, model(pad(batch.items)), targets) / len(targets)
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses == pytest.approx(RECBOLE["steps_from_given_weights"][kind], rel=1e-4)


def give_weights(model):
    """Give our network the weights that RecBole's was given; our attention has its three matrices in one."""
    names = {f"{ours}.{part}": f"{theirs}.{part}" for theirs, ours in NAMES.items() for part in ("weight", "bias")}
    for number in (0, 1):
        published, other = f"weigh.encoder.layers.{number}", f"net.trm_encoder.layer.{number}"
        pairs = [(ours, theirs, part) for theirs, ours in LAYER_NAMES.items() for part in ("weight", "bias")]
        names |= {f"{published}.{ours}.{part}": f"{other}.{theirs}.{part}" for ours, theirs, part in pairs}
    for name, weights in model.named_parameters():
        layer, _, part = name.rpartition(".self_attn.in_proj_")
        if layer:
            other = f"{layer.replace('weigh.encoder.layers', 'net.trm_encoder.layer')}.multi_head_attention"
            shape = (len(weights) // len(ATTENTION), *weights.shape[1:])
            given = np.concatenate([given_weights(f"{other}.{one}.{part}", shape) for one in ATTENTION])
        else:
            given = given_weights(names[name], tuple(weights.shape))
        weights.data.copy_(torch.from_numpy(given))


@pytest.mark.parametrize("kind", ["ave", "trm"])
def test_losses_and_ranking_metrics_agree_within_the_spread_of_three_seeds(ours, kind):
    assert not differing(ours[kind], RECBOLE["runs"][kind])


def test_a_mean_in_place_of_learned_weights_would_be_seen(ours):
    assert {"test recall@10", "test ndcg@10", "test mrr"} <= set(differing(ours["ave"], RECBOLE["runs"]["trm"]))


@pytest.mark.parametrize("wrong", [{"temperature": 0.1}, {"item_dropout": 0.0}, {"learning_rate": 0.002}], ids=str)
def test_another_setting_would_be_seen(tmp_path, wrong):
    assert differing(train_all(tmp_path, "ave", **wrong), RECBOLE["runs"]["ave"])


def test_items_that_are_not_normalised_in_training_would_be_seen(tmp_path, monkeypatch):
    normalised = Core.candidates
    monkeypatch.setattr(Core, "candidates", lambda self: self.item_dropout(self.table.weight) if self.training else normalised(self))
    assert differing(train_all(tmp_path, "ave"), RECBOLE["runs"]["ave"])
