"""CORE: sessions and items in one space."""

import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
import torch

from fashionrec.embeddings import core, core_training
from fashionrec.embeddings.item_table import COLD, item_vectors
from fashionrec.embeddings.spaces import session_vectors
from fashionrec.errors import UserError
from fashionrec.settings import load_settings

DEFAULT = load_settings().embeddings.core
SETTINGS = DEFAULT.model_copy(update={"epochs": 30, "patience": 30, "batch_size": 32, "learning_rate": 0.01, "encoder_dropout": 0.2})


def write_inputs(folder, train, validation=(), paths=(), extra_items=()):
    """Write examples as (items, target) and a catalogue of all of them; return the folder's name."""
    rows = [
        {"example_id": f"{split}{i:04}", "split": split, "category": "Bags", "item_ids": list(items), "target_item_id": target}
        for split, examples in (("train", train), ("validation", validation), ("path", paths))
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


def train(inputs, folder, settings=SETTINGS, dim=16, seed=1):
    folder.mkdir(exist_ok=True)
    return core_training.train(str(inputs), folder, dim=dim, settings=settings, seed=seed, device="cpu")


def network(items=20, dim=8, sparse=False, **settings):
    torch.manual_seed(0)
    plain = {"max_actions": 6, "item_dropout": 0.0, "encoder_dropout": 0.0, "cold_rate": 0.0, **settings}
    return core.Core(items, dim=dim, settings=SETTINGS.model_copy(update=plain), sparse=sparse)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("core")
    write_inputs(folder, follow(PAIRS, 10), follow(PAIRS, 11)[-12:], extra_items=[f"new{i}" for i in range(30)])
    return folder / "model", train(folder, folder / "model")


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
    losses = [row["loss"] for row in card["history"] if "loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    assert card["metrics"]["validation_recall_at_10"] > 0.9
    assert card["metrics"]["items"] == 24
    assert card["softmax"] == "full"


def test_items_that_training_never_saw_share_one_normalised_vector_that_was_learnt(trained):
    folder, _ = trained
    vectors, known = item_vectors(folder, ["a0", "new1", "never heard of"])
    assert known.tolist() == [True, False, False]
    assert np.array_equal(vectors[1], vectors[2])
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert vectors.dtype == np.float32


def test_the_saved_encoder_ranks_as_the_trained_one_did(trained):
    folder, card = trained
    ids = [i for pair in PAIRS for i in pair] + [f"new{i}" for i in range(30)]
    validation = follow(PAIRS, 11)[-12:]
    sessions = session_vectors(folder, [items for items, _ in validation])
    scores = sessions @ item_vectors(folder, ids)[0].T
    of_targets = scores[np.arange(12), [ids.index(target) for _, target in validation]]
    assert np.mean((scores >= of_targets[:, None]).sum(1) <= 10) == card["metrics"]["validation_recall_at_10"]
    assert np.allclose(np.linalg.norm(sessions, axis=1), 1, atol=1e-5)


def test_a_session_vector_depends_on_nothing_but_its_newest_items(trained):
    folder, _ = trained
    long = ["b3", *(f"a{i % 12}" for i in range(SETTINGS.max_actions))]
    together = session_vectors(folder, [["a0", "b1"], [], long, ["never heard of"]])
    assert np.array_equal(together[1], np.zeros(16))
    assert np.allclose(together[2], session_vectors(folder, [long[1:]])[0], atol=1e-5)
    assert np.allclose(together[0], session_vectors(folder, [["a0", "b1"]])[0], atol=1e-5)
    assert np.allclose(together[3], item_vectors(folder, ["another"])[0], atol=1e-5)


def test_the_cold_item_takes_the_place_of_inputs_and_of_targets(tmp_path):
    def fitted(rate):
        model = network(items=3)
        settings = SETTINGS.model_copy(update={"epochs": 1, "cold_rate": rate})
        sessions = core_training.Sessions([np.array([1, 2])] * 64, [np.array([core_training.NO_TARGET, 3])] * 64)
        (row,) = core_training.fit(model, sessions, settings=settings, seed=0, saved=tmp_path / f"checkpoint-{rate}.safetensors")
        cold, *items = core.functional.normalize(model.table.weight.detach(), dim=-1)
        return row["loss"], cold @ (items[0] + items[1])

    # With every item replaced, session and target are the same vector: nothing is left to lose.
    assert fitted(1.0)[0] < 0.1 < fitted(0.0)[0]
    # As a mere class of the softmax it is pushed away from sessions; in the place of items it is pulled as well.
    assert fitted(0.5)[1] > fitted(0.0)[1]


def test_of_a_path_every_next_item_is_learnt_and_of_an_example_the_purchase():
    examples = pd.DataFrame({"item_ids": [["a", "b", "?"], ["a", "b"]], "target_item_id": ["c", "c"], "split": ["path", "train"]})
    sessions = core_training.sessions_of(examples, pd.Index(["a", "b", "c"]))
    assert [items.tolist() for items in sessions.items] == [[1, 2, COLD], [1, 2]]
    assert [targets.tolist() for targets in sessions.targets] == [[2, COLD, 3], [core_training.NO_TARGET, 3]]
    assert sessions.target_count == 4


def test_an_item_that_was_only_clicked_is_learnt_from_paths(tmp_path):
    write_inputs(tmp_path, follow(PAIRS, 3), paths=[(("a0", "only clicked"), "a1")])
    train(tmp_path, tmp_path / "model", SETTINGS.model_copy(update={"epochs": 1}))
    assert item_vectors(tmp_path / "model", ["only clicked"])[1].all()


def test_items_that_have_left_the_catalogue_are_learnt(tmp_path):
    write_inputs(tmp_path, follow(PAIRS, 3))
    items = pd.read_parquet(tmp_path / "items")
    items[items.item_id != "a0"].to_parquet(tmp_path / "items")
    train(tmp_path, tmp_path / "model", SETTINGS.model_copy(update={"epochs": 1}))
    assert item_vectors(tmp_path / "model", ["a0", "a1"])[1].all()


def test_every_session_is_in_one_batch_of_an_epoch_beside_others_of_like_length():
    lengths = torch.randint(1, 51, (1000,), generator=torch.Generator().manual_seed(0))
    drawn = core_training.batches(lengths, 16, torch.Generator().manual_seed(1))
    assert sorted(torch.cat(drawn).tolist()) == list(range(1000))
    assert np.mean([float(lengths[batch].max() - lengths[batch].min()) for batch in drawn]) < 3
    again, other = (core_training.batches(lengths, 16, torch.Generator().manual_seed(seed)) for seed in (1, 2))
    assert torch.equal(torch.cat(again), torch.cat(drawn))
    assert not torch.equal(torch.cat(other), torch.cat(drawn))


def test_one_seed_gives_the_same_history_and_model_and_another_seed_others(tmp_path):
    write_inputs(tmp_path, follow(PAIRS, 5))

    def run(name, seed):
        card = train(tmp_path, tmp_path / name, SETTINGS.model_copy(update={"epochs": 3}), seed=seed)
        return [row["loss"] for row in card["history"]], (tmp_path / name / "model.safetensors").read_bytes()

    first = run("first", 1)
    assert run("again", 1) == first
    assert run("other", 2)[0] != first[0]


@pytest.mark.parametrize("encoder", ["trm", "ave"])
def test_every_prefix_of_a_session_is_a_convex_combination_of_its_items(encoder):
    model = network(encoder=encoder).eval()
    sessions = core.pad([np.array([2, 5, 9]), np.array([7]), np.array([3, 3, 4, 8, 20])])
    weights, vectors = model.weights(model.table(sessions.clamp(min=0))), model.prefixes(sessions)
    assert (weights >= 0).all()
    assert torch.allclose(weights.sum(2), torch.ones(3, 5))
    for row, session in enumerate(([2, 5, 9], [7], [3, 3, 4, 8, 20])):
        for end in range(1, len(session) + 1):
            assert (weights[row, end - 1, end:] == 0).all()
            combined = weights[row, end - 1, :end] @ model.table(torch.tensor(session[:end]))
            assert torch.allclose(vectors[row, end - 1], core.functional.normalize(combined, dim=-1), atol=1e-6)
            # What comes later changes nothing: all prefixes are learnt in one pass.
            assert torch.allclose(model(core.pad([np.array(session[:end])]))[0], vectors[row, end - 1], atol=1e-5)
    assert encoder == "trm" or torch.allclose(weights[0, 2, :3], torch.full((3,), 1 / 3))


def test_a_session_of_one_item_is_that_item():
    model = network(items=4).eval()
    assert (model(torch.tensor([[3]])) @ model.candidates().T)[0].argmax().item() == 3


def test_all_parameters_start_uniform_within_one_over_the_root_of_the_dimension():
    model = network(items=500, dim=16)
    for name, parameter in model.named_parameters():
        assert parameter.abs().max() <= 0.25, name
    values = model.table.weight.detach().flatten().numpy()
    assert abs(values.std() - 0.25 / 3**0.5) < 0.01


def gradients(loss, model):
    model.zero_grad()
    loss.backward()
    return {name: p.grad.to_dense().clone() for name, p in model.named_parameters() if p.grad is not None}


def test_the_loss_in_pieces_is_the_loss_over_the_whole_matrix(monkeypatch):
    model = network(items=50)
    sessions, targets = torch.randint(1, 51, (24, 5)), torch.randint(1, 51, (24,))
    whole = core.functional.cross_entropy(model(sessions) @ model.candidates().T / model.temperature, targets, reduction="sum")
    expected = gradients(whole, model)
    monkeypatch.setattr(core_training, "MAX_SCORES", 3 * 51)
    loss = core_training.over_all(model, model(sessions), targets)
    assert loss.item() == pytest.approx(whole.item(), rel=1e-5)
    for name, gradient in gradients(loss, model).items():
        assert torch.allclose(gradient, expected[name], atol=1e-4), name


def test_the_loss_over_all_never_holds_sessions_times_items():
    # 300 targets x 200,000 items are 229 MiB of scores, and as much of their gradient.
    code = f"""
import resource, torch
from fashionrec.embeddings import core, core_training
from fashionrec.settings.model import Core as CoreSettings
core_training.MAX_SCORES = 2**20
model = core.Core(200_000, dim=8, settings=CoreSettings.model_validate_json({SETTINGS.model_dump_json()!r}))
def step(targets):
    core_training.over_all(model, model(torch.ones(targets, 2, dtype=torch.int64)), torch.ones(targets, dtype=torch.int64)).backward()
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
few = step(2)
print(step(300) - few)
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert float(ran.stdout) < 100


def test_the_sampled_loss_and_its_gradient_come_near_the_full_ones_on_average():
    model, full = network(items=400, dim=8, sparse=True), network(items=400, dim=8)
    dice = torch.Generator().manual_seed(0)
    items = torch.randint(1, 401, (64, 5), generator=dice)
    targets = (torch.rand(64, generator=dice) ** 3 * 400).long() + 1  # some are much more frequent than others
    data = core_training.Sessions([np.array([1])] * 64, [np.array([t]) for t in targets.tolist()])
    sample = core_training.Sample(data, 401, 2048, dice)
    expected = core_training.over_all(full, full(items), targets)
    wanted = gradients(expected, full)["table.weight"]
    losses, total = [], torch.zeros_like(wanted)
    for _ in range(200):
        loss = core_training.over_sample(model, model(items), targets, sample)
        losses.append(loss.item())
        total += gradients(loss, model)["table.weight"] / 200
    assert np.mean(losses) == pytest.approx(expected.item(), rel=0.01)
    assert torch.nn.functional.cosine_similarity(total.flatten(), wanted.flatten(), dim=0) > 0.98


def test_a_target_that_was_drawn_does_not_stand_against_itself():
    model = network(items=50, sparse=True)
    targets = torch.arange(1, 51)
    sessions = targets[:, None]  # its own item: the target is nearly all of the softmax's sum
    sample = core_training.Sample(core_training.Sessions([np.array([1])], [targets.numpy()]), 51, 500, torch.Generator().manual_seed(0))
    expected = core_training.over_all(network(items=50), model(sessions), targets).item()
    assert core_training.over_sample(model, model(sessions), targets, sample).item() == pytest.approx(expected, rel=0.1)


def test_half_of_a_sample_is_drawn_at_random_and_half_as_often_as_items_are_targets():
    data = core_training.Sessions([np.array([1])] * 4, [np.array([t]) for t in (1, 1, 1, 2)])
    sample = core_training.Sample(data, 10, 100_000, torch.Generator().manual_seed(0))
    rows, expected = sample.draw()
    drawn = torch.bincount(rows, minlength=10) / len(rows)
    assert torch.allclose(drawn, torch.tensor([0.05, 0.425, 0.175, *[0.05] * 7]), atol=0.01)
    assert torch.allclose(expected.exp(), 100_000 * torch.tensor([0.05, 0.425, 0.175, *[0.05] * 7])[rows], rtol=1e-4)


def test_above_a_size_training_samples_and_still_learns(tmp_path):
    write_inputs(tmp_path, follow(PAIRS, 10), follow(PAIRS, 11)[-12:])
    settings = SETTINGS.model_copy(update={"full_softmax_up_to": 10, "sampled_items": 16})
    card = train(tmp_path, tmp_path / "model", settings)
    assert card["softmax"] == "sampled"
    assert card["metrics"]["validation_recall_at_10"] > 0.9


def test_an_untrained_target_ranks_after_all_that_share_its_vector(tmp_path):
    # The session itself lies at the cold vector, so the 30 untrained items lead the ranking, all alike.
    validation = [(("new1", "new2"), "new0")]
    write_inputs(tmp_path, follow(PAIRS, 3), validation, extra_items=[f"new{i}" for i in range(30)])
    card = train(tmp_path, tmp_path / "model", SETTINGS.model_copy(update={"epochs": 1}), dim=8)
    assert card["metrics"]["validation_recall_at_10"] == 0


def test_a_target_that_left_the_catalogue_has_no_rank():
    model = network(items=2)
    examples = pd.DataFrame({"item_ids": [["a"], ["a"]], "target_item_id": ["b", "gone"], "category": "Bags"})
    items = pd.DataFrame({"item_id": ["a", "b"], "category": "Bags"})
    ranks = core.rank_targets(model, examples, items, pd.Index(["a", "b"]))
    assert ranks.tolist() == [2, 0]
    assert core_training.within(ranks, 10).tolist() == [True, False]


def test_a_loss_that_is_no_number_names_the_setting(tmp_path):
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    write_inputs(tmp_path, follow(PAIRS, 5))
    with pytest.raises(UserError, match=r"not a number in epoch \d+; lower embeddings.core.learning_rate"):
        train(tmp_path, tmp_path / "model", settings, dim=8)


def test_no_training_example_is_an_error(tmp_path):
    write_inputs(tmp_path, [], [(("a",), "b")])
    with pytest.raises(UserError, match="no training example holds an item"):
        train(tmp_path, tmp_path / "model", dim=8)
