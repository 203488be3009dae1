"""Which title and which query are wrong, and which of them is nearest."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fashionrec.embeddings import title_epochs
from fashionrec.embeddings.epochs import Training
from fashionrec.embeddings.title import TitleEncoder, token_count, train_tokenizer
from fashionrec.embeddings.title_negatives import hardest, matches_of, mine_negatives, triplet_loss
from fashionrec.embeddings.title_recall import noisy_pairs
from fashionrec.settings import load_settings

SETTINGS = load_settings().embeddings.title.model_copy(update={"epochs": 1, "noise_rate": 0.0, "mine_every": 0})


def matches_and_similarities():
    pairs = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=2, max_size=12)
    return st.tuples(pairs, st.integers(0, 10**6))


@given(matches_and_similarities())
def test_a_hard_negative_is_the_closest_of_those_that_do_not_match(case):
    pairs, seed = case
    match = torch.tensor([[(query, bought) in set(pairs) for _, bought in pairs] for query, _ in pairs])
    similarity = torch.rand(len(pairs), len(pairs), generator=torch.Generator().manual_seed(seed))
    titles, queries = hardest(similarity, match)
    for i in range(len(pairs)):
        for chosen, scores, is_match in ((titles[i], similarity[i], match[i]), (queries[i], similarity[:, i], match[:, i])):
            if not is_match.all():
                assert not is_match[chosen]
                assert scores[chosen] == scores[~is_match].max()


def test_where_everything_matches_there_is_no_loss():
    vectors = torch.nn.functional.normalize(torch.rand(4, 8), dim=-1)
    assert triplet_loss(vectors, vectors.flip(0), torch.ones(4, 4, dtype=torch.bool), margin=0.2, pairs=4) == 0


def test_the_loss_by_hand():
    queries, titles = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[0.6, 0.8], [0.0, 1.0]])
    # Pair 1: own 0.6, nearest other title 0.0, nearest other query 0.8. Pair 2: own 1.0, nearest other title 0.8, other query 0.0.
    expected = (0.0 + (0.3 + 0.8 - 0.6) + (0.3 + 0.8 - 1.0) + 0.0) / 4
    assert triplet_loss(queries, titles, torch.eye(2, dtype=torch.bool), margin=0.3, pairs=2).item() == pytest.approx(expected)
    # As the one pair, with the second query and title as mined ones: only the first pair's own two triplets count.
    assert triplet_loss(queries, titles, torch.eye(2, dtype=torch.bool), margin=0.3, pairs=1).item() == pytest.approx(0.5 / 2)


def test_a_title_matches_what_it_was_bought_from_and_what_it_holds_every_word_of():
    pairs = [("Red  Dress", "Acme dress, RED"), ("crimson", "Acme dress, red"), ("red dress", "Bolt skirt")]
    matches, queries, titles = matches_of([q for q, _ in pairs], [t for _, t in pairs], ["Women's red dress", "Red boots"])
    assert (queries.tolist(), titles.tolist()) == ([0, 1, 0], [0, 0, 1])
    everything = np.arange(len(matches.queries)), np.arange(len(matches.titles))
    bought, by_words = matches.of(*everything)
    assert bought.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert by_words.tolist() == [[False, False, True, False], [False] * 4]
    more, numbers = matches.with_queries(["dress womens", "RED dress", "acme unheard"], np.array([2, 3, 0]))
    assert numbers.tolist() == [2, 0, 3]
    bought, by_words = more.of(np.array([2, 0, 3]), everything[1])
    assert bought.tolist() == [[False, False, True, False], [True, True, False, True], [True, False, False, False]]
    assert by_words.tolist() == [[False] * 4, [False, False, True, False], [False] * 4]
    every = np.tile(everything[1], (3, 1))
    for asked, one_by_one in zip((bought, by_words), more.of_each(np.array([2, 0, 3]), every), strict=True):
        assert np.array_equal(asked, one_by_one)


def fit(pairs, monkeypatch, titles=(), **settings):
    """Train an epoch on pairs and return, of each batch, what matches and how many pairs it has."""
    seen = []
    monkeypatch.setattr(title_epochs, "triplet_loss", lambda q, t, match, margin, pairs: seen.append((match, pairs)) or (q.sum() + t.sum()))
    learnt = pd.DataFrame(pairs, columns=["query", "title"])
    items = pd.DataFrame({"title": list(titles), "category": "x", "values": [{} for _ in titles]})
    tokenizer = train_tokenizer([*learnt["query"], *learnt.title])
    model = TitleEncoder(token_count(tokenizer), 4, bidirectional=False)
    optimiser = torch.optim.SGD(model.parameters(), lr=0.01)
    training = Training("title", "embeddings.title", model, [optimiser], torch.Generator().manual_seed(0))
    held_out = learnt.head(1).assign(category="x")
    chosen = SETTINGS.model_copy(update=settings)
    monkeypatch.setattr(
        title_epochs, "run_epochs", lambda training, epochs, train_epoch, **_: [train_epoch(i, Shown()) for i in range(epochs)]
    )
    title_epochs.fit(training, tokenizer, learnt, held_out, items, settings=chosen, seed=0, saved=None)
    return seen, training


class Shown:
    def add(self, loss, examples):
        """Nothing is shown."""


def test_a_match_known_only_from_a_pair_beyond_the_limit_is_no_negative(monkeypatch):
    seen, _ = fit([("red", "A"), ("blue", "B"), ("RED", "b")], monkeypatch, max_pairs=2)
    ((match, pairs),) = seen
    assert sorted(match.flatten().tolist()) == [False, True, True, True]
    assert pairs == 2


def test_noise_is_a_share_of_the_epoch_and_matches_its_own_title(monkeypatch):
    titles = [f"Title number {i} of many" for i in range(50)]
    seen, _ = fit([("red", "A"), ("blue", "B")] * 3, monkeypatch, titles=titles, noise_rate=0.75)
    ((match, pairs),) = seen
    assert pairs == 24
    assert match.diagonal().all()
    assert not match.all()


def test_titles_whose_noise_is_validated_on_are_not_garbled_in_training(monkeypatch):
    drawn, garble = [], title_epochs.noisy_titles
    monkeypatch.setattr(title_epochs, "noisy_titles", lambda titles, *others: drawn.extend(titles) or garble(titles, *others))
    titles = [f"Title number {i} of many" for i in range(300)]
    fit([("red", "A"), ("blue", "B")] * 9, monkeypatch, titles=titles, noise_rate=0.99)
    items = pd.DataFrame({"title": titles, "category": "x", "values": [{} for _ in titles]})
    validated = set(noisy_pairs(items, 0).title)
    assert len(validated) == 60
    assert set(drawn) == set(titles) - validated


def test_mined_texts_join_the_batch_from_the_second_round_on_and_match_what_they_match(monkeypatch):
    pairs = [(f"colour{i}", f"thing{i}") for i in range(6)]
    seen, training = fit(pairs, monkeypatch, titles=["colour0 thing9"], epochs=3, mine_every=2, batch_size=2)
    assert [match.shape[0] for match, _ in seen[:6]] == [2] * 6
    assert all(min(match.shape) > pairs for match, pairs in seen[6:])
    assert (training.memory["mined_titles"] >= 0).all()
    # Query 0 may have any title but its own and the one that holds its word.
    assert training.memory["mined_titles"][0] not in (0, 6)


def test_mining_takes_the_nearest_that_neither_a_purchase_nor_its_words_make_a_match():
    matches, _, _ = matches_of(["red dress", "boots"], ["dress one", "boots"], ["dress red new", "coat"])
    queries = np.array([[1.0, 0.0], [0.0, 1.0]], dtype=np.float32)
    titles = np.array([[1.0, 0.0], [0.1, 0.9], [0.9, 0.1], [0.6, 0.4]], dtype=np.float32)
    # Nearest to "red dress": its own, then the one that holds its words, then the coat.
    title, query, left_out = mine_negatives(matches, queries, titles, wanted=np.array([0, 1]))
    assert title.tolist() == [3, 3]
    assert query.tolist() == [1, 0, -1, -1]
    assert left_out == 1
    nothing_else, _, _ = matches_of(["red"], ["red coat"], [])
    assert mine_negatives(nothing_else, queries[:1], titles[:1], wanted=np.array([0]))[0].tolist() == [-1]
