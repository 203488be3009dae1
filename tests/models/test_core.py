"""CORE: sessions and items in one space."""

import numpy as np
import pandas as pd
import pytest
import torch

from fashionrec.embeddings import core
from fashionrec.embeddings.spaces import item_vectors
from fashionrec.errors import UserError
from fashionrec.settings import load_settings

SETTINGS = load_settings().embeddings.core.model_copy(update={"epochs": 30, "batch_size": 32, "learning_rate": 0.01})


def write_inputs(folder, train, validation=(), extra_items=()):
    """Write examples as (items, target) and a catalogue of all of them; return the folder's name."""
    rows = [
        {"example_id": f"{split}{i:04}", "split": split, "category": "Bags", "item_ids": list(items), "target_item_id": target}
        for split, examples in (("train", train), ("validation", validation))
        for i, (items, target) in enumerate(examples)
    ]
    items = sorted({i for row in rows for i in (*row["item_ids"], row["target_item_id"])} | set(extra_items))
    pd.DataFrame(rows).to_parquet(folder / "examples")
    pd.DataFrame({"item_id": items, "category": "Bags"}).to_parquet(folder / "items")
    return str(folder)


def follow(pairs, times):
    """Return sessions in which the first of each pair, after some other item, is followed by the second."""
    firsts = [first for first, _ in pairs]
    return [((firsts[(i + n) % len(firsts)], first), second) for n in range(1, times + 1) for i, (first, second) in enumerate(pairs)]


PAIRS = [(f"a{i}", f"b{i}") for i in range(12)]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("core")
    inputs = write_inputs(folder, follow(PAIRS, 10), follow(PAIRS, 11)[-12:], extra_items=[f"new{i}" for i in range(30)])
    return folder, core.train(inputs, folder, dim=16, settings=SETTINGS, seed=1, device="cpu")


def test_an_item_lies_nearest_to_the_one_that_always_follows_it(trained):
    folder, _ = trained
    ids = [i for pair in PAIRS for i in pair]
    vectors, known = item_vectors(folder, ids)
    assert known.all()
    similarity = vectors @ vectors.T - 2 * np.eye(len(ids))
    nearest = [ids[i] for i in similarity.argmax(1)]
    assert np.mean([nearest[2 * i] == second for i, (_, second) in enumerate(PAIRS)]) > 0.9


def test_training_learns_and_finds_the_next_item_among_all_of_the_category(trained):
    _, card = trained
    assert card["losses"][-1] < 0.7 * card["losses"][0]
    assert card["metrics"]["validation_recall_at_10"] > 0.9
    assert card["metrics"]["items"] == 24


def test_items_that_training_never_saw_share_one_normalised_vector_that_was_learnt(trained):
    folder, _ = trained
    vectors, known = item_vectors(folder, ["a0", "new1", "never heard of"])
    assert known.tolist() == [True, False, False]
    assert np.array_equal(vectors[1], vectors[2])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.dtype == np.float32


def test_the_cold_item_takes_the_place_of_inputs_and_of_targets():
    def fitted(rate):
        torch.manual_seed(0)
        model = core.Core(3, dim=8, max_actions=5, temperature=0.07, item_dropout=0.0)
        settings = SETTINGS.model_copy(update={"epochs": 1, "cold_rate": rate})
        losses = core.fit(model, [np.array([2, 3])] * 64, np.full(64, 4), settings=settings, seed=0)
        cold, *items = core.functional.normalize(model.table.weight.detach()[core.COLD :], dim=-1)
        return losses[0], cold @ (items[0] + items[1])

    # With every item replaced, session and target are the same vector: nothing is left to lose.
    assert fitted(1.0)[0] < 0.1 < fitted(0.0)[0]
    # As a mere class of the softmax it is pushed away from sessions; in the place of items it is pulled as well.
    assert fitted(0.5)[1] > fitted(0.0)[1]


def test_one_seed_gives_the_same_losses_and_vectors_and_another_seed_others(tmp_path):
    def run(name, seed):
        folder = tmp_path / name
        folder.mkdir()
        settings = SETTINGS.model_copy(update={"epochs": 3})
        card = core.train(write_inputs(folder, follow(PAIRS, 5)), folder, dim=8, settings=settings, seed=seed, device="cpu")
        return card["losses"], (folder / "table.safetensors").read_bytes()

    first = run("first", 1)
    assert run("again", 1) == first
    assert run("other", 2)[0] != first[0]


def test_a_session_is_a_convex_combination_of_its_items():
    torch.manual_seed(0)
    model = core.Core(20, dim=8, max_actions=6, temperature=0.07, item_dropout=0.2).eval()
    sessions = core.pad([np.array([2, 5, 9]), np.array([7]), np.array([3, 3, 4, 8, 20])])
    weights = model.weights(sessions)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(1), torch.ones(3))
    assert (weights[sessions == core.PADDING] == 0).all()
    combined = torch.stack([weights[i] @ model.table(sessions[i]) for i in range(3)])
    assert torch.allclose(model(sessions), core.functional.normalize(combined, dim=-1), atol=1e-6)


def test_a_session_of_one_item_is_that_item():
    model = core.Core(4, dim=8, max_actions=6, temperature=0.07, item_dropout=0.2).eval()
    assert model.scores(torch.tensor([[3]]))[0].argmax().item() == 3 - core.COLD


def test_a_large_catalogue_is_trained_in_pieces_with_the_same_result(monkeypatch):
    def losses():
        torch.manual_seed(0)
        model = core.Core(10, dim=8, max_actions=5, temperature=0.07, item_dropout=0.0)
        for module in model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
            if isinstance(module, torch.nn.MultiheadAttention):
                module.dropout = 0.0
        settings = SETTINGS.model_copy(update={"epochs": 3, "cold_rate": 0.0})
        sessions = [np.array([2 + i % 10, 2 + (i + 3) % 10]) for i in range(40)]
        return core.fit(model, sessions, np.array([2 + (i + 1) % 10 for i in range(40)]), settings=settings, seed=0)

    whole = losses()
    monkeypatch.setattr(core, "_MAX_SCORES", 5 * 12)
    assert losses() == pytest.approx(whole, rel=1e-4)


def test_an_untrained_target_ranks_after_all_that_share_its_vector(tmp_path):
    # The session itself lies at the cold vector, so the 30 untrained items lead the ranking, all alike.
    validation = [(("new1", "new2"), "new0")]
    inputs = write_inputs(tmp_path, follow(PAIRS, 3), validation, extra_items=[f"new{i}" for i in range(30)])
    card = core.train(inputs, tmp_path, dim=8, settings=SETTINGS.model_copy(update={"epochs": 1}), seed=0, device="cpu")
    assert card["metrics"]["validation_recall_at_10"] == 0


def test_a_loss_that_is_no_number_names_the_setting(tmp_path):
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match=r"not a number in epoch \d+; lower embeddings.core.learning_rate"):
        core.train(write_inputs(tmp_path, follow(PAIRS, 5)), tmp_path, dim=8, settings=settings, seed=0, device="cpu")


def test_no_training_example_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no training example holds an item"):
        core.train(write_inputs(tmp_path, [], [(("a",), "b")]), tmp_path, dim=8, settings=SETTINGS, seed=0, device="cpu")
