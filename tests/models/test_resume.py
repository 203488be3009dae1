"""A training that was killed goes on where it was and ends with the same bytes."""

import json

import numpy as np
import pandas as pd
import pytest
import torch

from fashionrec.embeddings import checkpoint
from fashionrec.embeddings.epochs import Training, kept_figures, run_epochs
from fashionrec.embeddings.train import main
from fashionrec.errors import UserError
from fashionrec.settings import load_settings
from tests.builders import title_inputs
from tests.models.conftest import train_and_be_killed
from tests.models.test_core import PAIRS, follow, write_inputs
from tests.models.test_title import PAIRS as QUERIES
from tests.models.test_title import TITLES

KILLED_AFTER = 3
CORE = ("core.epochs=8", "core.patience=8", "core.batch_size=16", "core.learning_rate=0.01", "dim=16")
# Mined before the third and the seventh epoch: the fourth to sixth need what the killed process had mined.
TITLE = ("title.epochs=8", "title.patience=8", "title.batch_size=32", "title.learning_rate=0.005", "title.mine_every=2", "dim=16")


@pytest.fixture
def train():
    """Return a function that does a training's job, in this process and by its threads, and returns the card."""
    yield lambda job: main(job) or json.loads((job["folder"] / "card.json").read_text())
    torch.use_deterministic_algorithms(False)


@pytest.fixture
def killed(tmp_path, train, capfd):
    """Return a function that trains undisturbed, and killed and run again: of each the folder and the card."""

    def kill(name, *overrides):
        settings = load_settings(overrides=[f"embeddings.{line}" for line in overrides])
        job = {"name": name, "inputs": str(tmp_path), "settings": settings.embeddings.model_dump(mode="json")}
        job["base"] = settings.llm.base.model_dump()
        # A rerun has another run's folder beside the first.
        undisturbed, first, second = (tmp_path / folder for folder in ("undisturbed/run", "killed/first", "killed/second"))
        for folder in (undisturbed, first, second):
            folder.mkdir(parents=True)
        expected = train({**job, "folder": undisturbed})
        train_and_be_killed("embeddings", {**job, "folder": str(first)}, after=KILLED_AFTER)
        assert not (first / "card.json").exists()
        capfd.readouterr()
        card = train({**job, "folder": second})
        assert f"goes on after epoch {KILLED_AFTER} of" in capfd.readouterr().out
        assert not list(second.parent.glob("checkpoint-*"))
        files, wanted = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in (second, undisturbed))
        assert files.pop("card.json")
        assert wanted.pop("card.json")
        assert "model.safetensors" in wanted
        assert files == wanted
        return without_speed(expected), without_speed(card)

    return kill


def without_speed(card):
    """Return a card without how many examples a second it took, in its history and its metrics."""
    if isinstance(card, list):
        return [without_speed(row) for row in card]
    return {key: without_speed(value) for key, value in card.items() if key != "examples_per_second"} if isinstance(card, dict) else card


@pytest.mark.parametrize("softmax", ["full", "sampled"])
def test_core_killed_in_the_middle_ends_with_the_same_model(tmp_path, killed, softmax):
    write_inputs(tmp_path, follow(PAIRS, 20), follow(PAIRS, 3))
    sampled = ("core.full_softmax_up_to=10", "core.sampled_items=16") if softmax == "sampled" else ()
    expected, card = killed("id", *CORE, *sampled)
    assert card == expected
    assert card["softmax"] == softmax


def test_titles_killed_in_the_middle_end_with_the_same_model_mined_negatives_and_all(tmp_path, killed):
    title_inputs(tmp_path, QUERIES * 4, [*TITLES, *(f"Other thing, {number}" for number in range(240))], validation=QUERIES[:12])
    expected, card = killed("title", *TITLE)
    assert card == expected


def training(learning_rate=0.1):
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(model.weight)
    optimiser = torch.optim.SGD(model.parameters(), lr=learning_rate)
    return Training("id", "embeddings.core", model, [optimiser], torch.Generator().manual_seed(0))


def steps(run, figures, tmp_path, **settings):
    """Train a weight towards 1 with the given validation figures, one per validation; return its history."""
    given = iter(figures)

    def epoch(_, progress):
        loss = ((run.model.weight - 1) ** 2).sum()
        run.optimisers[0].zero_grad()
        loss.backward()
        run.optimisers[0].step()
        progress.add(loss.item(), 1)

    plain = {"epochs": 10, "patience": 2, "examples": 1, "held_out": 1000, "saved": tmp_path / "checkpoint-x.safetensors", **settings}
    return run_epochs(run, train_epoch=epoch, validate=(lambda: {"validation_recall_at_10": next(given)}) if figures else None, **plain)


def test_training_ends_when_validation_stops_rising_and_keeps_the_best_epoch(tmp_path):
    two, all_of_them = training(), training()
    steps(two, [0.1, 0.2, 0.5], tmp_path, epochs=2, saved=tmp_path / "checkpoint-two.safetensors")
    history = steps(all_of_them, [0.1, 0.2, 0.5, 0.4, 0.5, 0.9], tmp_path)
    assert [row["epoch"] for row in history] == [0, 1, 2, 3, 4]
    assert all_of_them.model.weight.item() == two.model.weight.item()
    assert kept_figures(history)["kept_epoch"] == 2


def test_without_validation_all_epochs_are_done(tmp_path):
    history = steps(training(), [], tmp_path)
    assert [row["epoch"] for row in history] == list(range(1, 11))
    assert kept_figures(history)["kept_epoch"] == 10


def test_validation_below_that_of_the_untrained_model_is_an_error(tmp_path):
    with pytest.raises(UserError, match=r"fell from 0.5000 before training to at best 0.4000.*lower embeddings.core.learning_rate"):
        steps(training(), [0.5, 0.4, 0.3, 0.2], tmp_path)
    # Among 20 examples such a fall is chance.
    few = steps(training(), [0.5, 0.4, 0.3, 0.2], tmp_path, held_out=20, saved=tmp_path / "checkpoint-few.safetensors")
    assert [row["epoch"] for row in few] == [0, 1, 2, 3]


def test_a_checkpoint_of_other_data_is_removed_and_not_read(tmp_path):
    (tmp_path / "checkpoint-other.safetensors").write_bytes(b"broken")
    steps(training(), [], tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-x.safetensors"]


def test_a_state_comes_back_as_it_was(tmp_path):
    state = {"a": {1: torch.arange(3), "b": [torch.ones(2), 0.5, None]}, "c": {}, "d": "text"}
    checkpoint.save(tmp_path / "s.safetensors", state)
    back = checkpoint.load(tmp_path / "s.safetensors")
    assert torch.equal(back["a"].pop(1), torch.arange(3))
    assert torch.equal(back["a"]["b"].pop(0), torch.ones(2))
    assert back == {"a": {"b": [0.5, None]}, "c": {}, "d": "text"}


def test_a_fingerprint_changes_with_any_cell_and_any_setting():
    frame = pd.DataFrame({"items": [["a", "b"], ["c"]], "target": ["x", "y"]})
    first = checkpoint.fingerprint({"dim": 8}, frame)
    assert checkpoint.fingerprint({"dim": 8}, frame.copy()) == first
    others = [
        frame.assign(target=["x", "z"]),
        frame.assign(items=[["a", "b"], ["d"]]),
        frame.assign(items=[["a"], ["b", "c"]]),
        # What is read from Parquet is arrays, and a long one is not written out.
        frame.assign(items=[np.array([*"abcdefgh" * 400]), np.array(["c"])]),
        frame.assign(items=[np.array([*"abcdefgh" * 200, "!", *"bcdefgh", *"abcdefgh" * 199]), np.array(["c"])]),
        frame.iloc[::-1],
        frame.head(0),
    ]
    assert len({first, checkpoint.fingerprint({"dim": 9}, frame), *(checkpoint.fingerprint({"dim": 8}, other) for other in others)}) == 9
