"""A title training that was killed goes on where it was, mined negatives and all, and ends with the same bytes."""

import json

from fashionrec.embeddings.train import train_in_own_process
from fashionrec.settings import load_settings
from tests.builders import title_inputs
from tests.models.test_resume import BASE, KILLED_AFTER, kill_in_the_middle
from tests.models.test_title import PAIRS, TITLES

MORE = [f"Other thing, {number}" for number in range(240)]
# Mined before the third and the seventh epoch: the fourth to sixth need what the killed process had mined.
SETTINGS = load_settings(
    overrides=[
        f"embeddings.{line}"
        for line in (
            "title.epochs=8",
            "title.patience=8",
            "title.batch_size=32",
            "title.learning_rate=0.005",
            "title.mine_every=2",
            "dim=16",
        )
    ]
).embeddings


def losses(card):
    return [row.get("loss") for row in card["history"]]


def test_killed_in_the_middle_it_ends_with_the_same_model(tmp_path, capfd):
    title_inputs(tmp_path, PAIRS * 4, [*TITLES, *MORE], validation=PAIRS[:12])
    undisturbed, killed = tmp_path / "undisturbed/run", tmp_path / "killed/first"
    undisturbed.mkdir(parents=True)
    expected = train_in_own_process("title", str(tmp_path), undisturbed, SETTINGS, BASE)
    assert kill_in_the_middle("title", tmp_path, killed, SETTINGS) == KILLED_AFTER
    assert not (killed / "card.json").exists()
    second = killed.with_name("second")
    second.mkdir()
    card = train_in_own_process("title", str(tmp_path), second, SETTINGS, BASE)
    assert "goes on after epoch" in capfd.readouterr().out
    for name in ("model.safetensors", "tokenizer.json"):
        assert (second / name).read_bytes() == (undisturbed / name).read_bytes()
    assert losses(card) == losses(expected)
    assert {key: value for key, value in card["metrics"].items() if key != "examples_per_second"} == {
        key: value for key, value in expected["metrics"].items() if key != "examples_per_second"
    }
    assert json.loads((second / "card.json").read_text()) == card
    assert not list(second.parent.glob("checkpoint-*"))
