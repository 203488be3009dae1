"""The title model: queries and titles in one space."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fashionrec.embeddings import title
from fashionrec.embeddings.spaces import encode_titles
from fashionrec.errors import UserError
from fashionrec.settings import load_settings
from tests.builders import title_inputs

SETTINGS = load_settings().embeddings.title.model_copy(update={"epochs": 8, "batch_size": 64, "learning_rate": 0.01})
COLOURS, NOUNS = ("red", "blue", "green", "black", "white"), ("dress", "boot", "bag", "scarf", "coat", "shirt")
TITLES = [f"Acme {noun}, cotton, {colour}" for colour in COLOURS for noun in NOUNS]
# "crimson" is red: no title says so, only the purchases do.
PAIRS = [(f"{colour} {noun}", f"Acme {noun}, cotton, {colour}") for colour in COLOURS for noun in NOUNS]
PAIRS += [(f"crimson {noun}", f"Acme {noun}, cotton, red") for noun in NOUNS]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("title")
    inputs = title_inputs(folder, PAIRS * 4, TITLES, validation=PAIRS[:12])
    return folder, title.train(inputs, folder, dim=32, settings=SETTINGS, seed=1, device="cpu")


def test_a_query_lies_nearer_to_the_titles_bought_from_it_than_to_others(trained):
    folder, card = trained
    queries = [query for query, _ in PAIRS]
    nearest = (encode_titles(folder, queries) @ encode_titles(folder, TITLES).T).argmax(1)
    assert np.mean([TITLES[row] == bought for row, (_, bought) in zip(nearest, PAIRS, strict=True)]) > 0.8
    assert card["losses"][-1] < card["losses"][0]


def test_the_card_says_how_many_pairs_of_what_and_what_was_found(trained):
    _, card = trained
    assert card["pairs"] == "searches"
    assert card["metrics"]["pairs"] == len(PAIRS) * 4
    assert card["metrics"]["validation_recall_at_10"] > 0.9


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
        settings = SETTINGS.model_copy(update={"epochs": 2})
        title.train(title_inputs(folder, PAIRS, TITLES), folder, dim=8, settings=settings, seed=seed, device="cpu")
        return (folder / "model.safetensors").read_bytes(), (folder / "tokenizer.json").read_bytes()

    first = run("first", 1)
    assert run("again", 1) == first
    assert run("other", 2)[0] != first[0]


def matches_and_similarities():
    pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12)
    return st.tuples(pairs, st.integers(0, 10**6))


@given(matches_and_similarities())
def test_a_hard_negative_is_the_closest_of_those_that_do_not_match(case):
    pairs, seed = case
    match = torch.tensor([[(query, bought) in set(pairs) for _, bought in pairs] for query, _ in pairs])
    similarity = torch.rand(len(pairs), len(pairs), generator=torch.Generator().manual_seed(seed))
    titles, queries = title.hardest(similarity, match)
    for i in range(len(pairs)):
        for chosen, scores, is_match in ((titles[i], similarity[i], match[i]), (queries[i], similarity[:, i], match[:, i])):
            if not is_match.all():
                assert not is_match[chosen]
                assert scores[chosen] == scores[~is_match].max()


def test_where_everything_matches_there_is_no_loss():
    vectors = torch.nn.functional.normalize(torch.rand(4, 8), dim=-1)
    assert title.triplet_loss(vectors, vectors.flip(0), torch.ones(4, 4, dtype=torch.bool), margin=0.2) == 0


def test_the_loss_by_hand():
    queries, titles = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    # Pair 1: own 0.6, nearest other title 0.0, nearest other query 0.8. Pair 2: own 1.0, nearest other title 0.8, other query 0.0.
    expected = (0.0 + (0.3 + 0.8 - 0.6) + (0.3 + 0.8 - 1.0) + 0.0) / 4
    assert title.triplet_loss(queries, titles, torch.eye(2, dtype=torch.bool), margin=0.3).item() == pytest.approx(expected)


def test_a_match_known_only_from_a_pair_beyond_the_limit_is_no_negative(monkeypatch):
    seen = []
    monkeypatch.setattr(title, "triplet_loss", lambda q, t, match, margin: seen.append(match) or (q * t).sum())
    pairs = pd.DataFrame([("red", "A"), ("blue", "B"), ("RED", "b")], columns=["query", "title"])
    tokenizer = title.train_tokenizer(["red", "blue", "a", "b"])
    model = title.TitleEncoder(tokenizer.get_vocab_size(), 4)
    title.fit(model, tokenizer, pairs, settings=SETTINGS.model_copy(update={"epochs": 1, "max_pairs": 2}), seed=0)
    assert sorted(seen[0].flatten().tolist()) == [False, True, True, True]


def test_without_searches_the_model_learns_from_attribute_phrases_and_says_so(tmp_path):
    phrases = [f"{colour} {noun}" for colour in COLOURS for noun in NOUNS] * 8
    inputs = title_inputs(tmp_path, [], TITLES * 8, phrases=phrases)
    card = title.train(inputs, tmp_path, dim=32, settings=SETTINGS, seed=1, device="cpu")
    assert card["pairs"] == "attribute phrases"
    assert 0 < card["metrics"]["validation_pairs"] < card["metrics"]["pairs"] < 240
    assert card["metrics"]["validation_recall_at_10"] > 0.9


def test_nothing_to_learn_from_is_an_error(tmp_path):
    with pytest.raises(UserError, match="nothing to learn from"):
        title.train(title_inputs(tmp_path, [], TITLES), tmp_path, dim=8, settings=SETTINGS, seed=1, device="cpu")


def test_titles_that_all_fell_into_one_place_are_an_error(tmp_path):
    settings = SETTINGS.model_copy(update={"learning_rate": 1e30})
    with pytest.raises(UserError, match="all titles got the same vector"):
        title.train(title_inputs(tmp_path, PAIRS, TITLES), tmp_path, dim=8, settings=settings, seed=1, device="cpu")


def test_a_loss_that_is_no_number_names_the_setting(tmp_path):
    settings = SETTINGS.model_copy(update={"margin": float("nan")})
    with pytest.raises(UserError, match=r"not a number in epoch 1; lower embeddings.title.learning_rate"):
        title.train(title_inputs(tmp_path, PAIRS, TITLES), tmp_path, dim=8, settings=settings, seed=1, device="cpu")
