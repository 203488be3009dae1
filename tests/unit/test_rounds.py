"""The order of training: who comes how often, and with whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionrec.llm.rounds import hardest, random_share, training_order

COUNTS = st.lists(st.integers(1, 4), min_size=1, max_size=60)


@given(epochs=COUNTS, batch_size=st.integers(1, 9), seed=st.integers(0, 99))
def test_every_example_comes_as_often_as_its_epochs_say(epochs, batch_size, seed):
    order = training_order([10] * len(epochs), np.array(epochs), batch_size=batch_size, seed=seed)
    assert np.bincount(order, minlength=len(epochs)).tolist() == epochs


@given(epochs=COUNTS, seed=st.integers(0, 99))
def test_no_example_comes_twice_in_a_round(epochs, seed):
    epochs = np.array(epochs)
    order = training_order([10] * len(epochs), epochs, batch_size=4, seed=seed)
    rounds, seen = 1, set()
    for place in order:
        if place in seen:
            rounds, seen = rounds + 1, set()
        seen.add(place)
    assert rounds <= epochs.max()


def test_a_third_of_the_steps_hold_a_third_of_each_kind():
    epochs = np.where(np.arange(3000) < 600, 3, 1)
    order = training_order([10] * 3000, epochs, batch_size=8, seed=1)
    third = order[: len(order) // 3]
    assert (third < 600).sum() == pytest.approx(600, abs=8)
    assert (third >= 600).sum() == pytest.approx(800, abs=60)


def test_batches_hold_like_lengths_and_come_in_random_order():
    lengths = np.random.default_rng(0).integers(50, 1000, 1024)
    order = training_order(lengths, np.ones(1024, int), batch_size=8, seed=1)
    batches = lengths[order].reshape(-1, 8)
    assert (batches.max(1) * 8).sum() < 1.1 * lengths.sum()
    longest = batches.max(1).astype(float)
    assert abs(np.corrcoef(longest, np.arange(len(longest)))[0, 1]) < 0.3


def test_a_seed_gives_one_order_and_another_seed_another():
    first, again, other = (training_order(range(1, 101), np.ones(100, int), batch_size=4, seed=seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


def test_the_hardest_are_those_of_the_highest_perplexity():
    assert hardest(np.array([3, 9, 1, 7, 2], np.float32), 0.4).tolist() == [False, True, False, True, False]
    assert not hardest(np.array([3, 9], np.float32), 0).any()


def test_the_control_draws_as_many_whatever_their_perplexity():
    drawn = random_share(1000, 0.2, seed=3)
    assert drawn.sum() == 200
    assert drawn.tolist() == random_share(1000, 0.2, seed=3).tolist() != random_share(1000, 0.2, seed=4).tolist()
