"""The title model: queries and titles in one space."""

import numpy as np
import pytest
import torch

from fashionrec.embeddings import title
from fashionrec.embeddings.spaces import encode_titles
from fashionrec.embeddings.title_training import train
from fashionrec.errors import UserError
from fashionrec.settings import load_settings
from tests.builders import title_inputs

BASE = load_settings().llm.base
SETTINGS = load_settings().embeddings.title.model_copy(update={"epochs": 8, "patience": 8, "batch_size": 64, "learning_rate": 0.01})
COLOURS, NOUNS = ("red", "blue", "green", "black", "white"), ("dress", "boot", "bag", "scarf", "coat", "shirt")
TITLES = [f"Acme {noun}, cotton, {colour}" for colour in COLOURS for noun in NOUNS]
# "crimson" is red: no title says so, only the purchases do.
PAIRS = [(f"{colour} {noun}", f"Acme {noun}, cotton, {colour}") for colour in COLOURS for noun in NOUNS]
PAIRS += [(f"crimson {noun}", f"Acme {noun}, cotton, red") for noun in NOUNS]


def trained_by(inputs, folder, *, dim=32, seed=1, base=BASE, **settings):
    return train(inputs, folder, dim=dim, settings=SETTINGS.model_copy(update=settings), base=base, seed=seed, device="cpu")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("title")
    inputs = title_inputs(folder, PAIRS * 4, TITLES, validation=PAIRS[:12])
    return folder, trained_by(inputs, folder)


def test_a_query_lies_nearer_to_the_titles_bought_from_it_than_to_others(trained):
    folder, card = trained
    queries = [query for query, _ in PAIRS]
    nearest = (encode_titles(folder, queries) @ encode_titles(folder, TITLES).T).argmax(1)
    assert np.mean([TITLES[row] == bought for row, (_, bought) in zip(nearest, PAIRS, strict=True)]) > 0.8
    losses = [row["loss"] for row in card["history"] if "loss" in row]
    assert losses[-1] < losses[0]


def test_the_card_says_how_many_pairs_of_what_and_what_was_found(trained):
    _, card = trained
    assert card["pairs"] == "searches"
    assert card["metrics"]["pairs"] == len(PAIRS) * 4
    assert card["metrics"]["validation_recall_at_10"] > 0.9
    assert card["metrics"]["left_out_in_batches"] > 0
    assert card["metrics"]["loss"] in [row.get("loss") for row in card["history"]]


@pytest.mark.parametrize("bidirectional", [False, True])
def test_padding_changes_no_vector_in_either_direction(bidirectional):
    torch.manual_seed(0)
    model = title.TitleEncoder(50, 8, bidirectional=bidirectional).eval()
    short, long = [2, 7, 9], [4, 4, 5, 30, 8, 12, 51]
    with torch.inference_mode():
        beside, alone = model(title.pad([short, long]))[0], model(title.pad([short]))[0]
        turned = model(title.pad([short[::-1]]))[0]
    assert torch.allclose(beside, alone, atol=1e-6)
    assert not torch.allclose(turned, alone, atol=1e-3)


def test_a_bidirectional_network_is_saved_and_read_as_one(tmp_path):
    trained_by(title_inputs(tmp_path, PAIRS, TITLES), tmp_path, dim=8, epochs=2, bidirectional=True)
    model, _ = title.load(tmp_path)
    assert model.lstm.bidirectional
    assert encode_titles(tmp_path, ["red dress"]).shape == (1, 8)


def test_the_tokenizer_may_be_the_base_models(tmp_path, tiny_falcon):
    trained_by(title_inputs(tmp_path, PAIRS * 4, TITLES), tmp_path, tokenizer="llm", base=tiny_falcon, epochs=20)
    _, tokenizer = title.load(tmp_path)
    assert "<|endoftext|>" in tokenizer.get_vocab()
    nearest = (encode_titles(tmp_path, [query for query, _ in PAIRS]) @ encode_titles(tmp_path, TITLES).T).argmax(1)
    assert np.mean([TITLES[row] == bought for row, (_, bought) in zip(nearest, PAIRS, strict=True)]) > 0.8


def test_a_base_without_a_tokenizer_is_one_clear_line(tmp_path):
    base = BASE.model_copy(update={"path": str(tmp_path)})
    with pytest.raises(UserError, match=r"no readable tokenizer\.json.*set embeddings\.title\.tokenizer=catalogue") as error:
        trained_by(title_inputs(tmp_path, PAIRS, TITLES), tmp_path, tokenizer="llm", base=base)
    assert "\n" not in str(error.value)


def test_case_and_spaces_make_no_difference(trained):
    folder, _ = trained
    vectors = encode_titles(folder, ["Acme boot, cotton, blue", "ACME  boot, Cotton, blue "])
    assert np.array_equal(vectors[0], vectors[1])


def test_vectors_have_length_one_and_do_not_depend_on_their_neighbours_in_the_batch(trained):
    folder, _ = trained
    together = encode_titles(folder, ["red dress", "", "Acme boot, cotton, blue, with a very long tail of words " * 9, "red dress"])
    assert together.shape == (4, 32)
    assert together.dtype == np.float32
    assert np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.array_equal(together[0], together[3])
    assert np.allclose(encode_titles(folder, ["red dress"])[0], together[0], atol=1e-5)


def test_one_seed_gives_the_same_model_file(tmp_path):
    def run(name, seed):
        folder = tmp_path / name
        folder.mkdir()
        card = trained_by(title_inputs(folder, PAIRS, TITLES), folder, dim=8, seed=seed, epochs=3, mine_every=1)
        history = [{key: value for key, value in row.items() if key != "examples_per_second"} for row in card["history"]]
        return (folder / "model.safetensors").read_bytes(), (folder / "tokenizer.json").read_bytes(), history

    first = run("first", 1)
    assert run("again", 1) == first
    assert run("other", 2)[0] != first[0]


def test_without_searches_the_model_learns_from_attribute_phrases_and_says_so(tmp_path):
    phrases = [f"{colour} {noun}" for colour in COLOURS for noun in NOUNS] * 8
    inputs = title_inputs(tmp_path, [], TITLES * 8, phrases=phrases)
    card = trained_by(inputs, tmp_path)
    assert card["pairs"] == "attribute phrases"
    assert 0 < card["metrics"]["validation_pairs"] < card["metrics"]["pairs"] < 240
    assert card["metrics"]["validation_recall_at_10"] > 0.9


def test_without_searches_and_attributes_the_model_learns_from_garbled_titles_and_says_so(tmp_path):
    card = trained_by(title_inputs(tmp_path, [], TITLES * 8), tmp_path)
    assert card["pairs"] == "garbled titles"
    assert card["metrics"]["validation_recall_at_10"] > 0.9


def test_nothing_to_learn_from_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing to learn from"):
        trained_by(title_inputs(tmp_path, [], ["Dress"]), tmp_path)


def test_titles_that_all_fell_into_one_place_are_an_error(tmp_path):
    with pytest.raises(UserError, match="all titles got the same vector"):
        trained_by(title_inputs(tmp_path, PAIRS, TITLES[:4]), tmp_path, dim=8, learning_rate=1e30)


def test_a_loss_that_is_no_number_names_the_setting(tmp_path):
    with pytest.raises(UserError, match=r"not a number in epoch 1; lower embeddings.title.learning_rate"):
        trained_by(title_inputs(tmp_path, PAIRS, TITLES), tmp_path, dim=8, margin=float("nan"))
