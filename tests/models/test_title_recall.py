"""The figures of a title space."""

import numpy as np
import pandas as pd

from fashionrec.embeddings.title_recall import figures, noisy_pairs, recall_at_10

ITEMS = pd.DataFrame({"title": [f"t{i}" for i in range(30)], "category": ["a"] * 20 + ["b"] * 10, "values": [{} for _ in range(30)]})


def on_a_line(texts):
    """Encode q5 and t5 as the same angle, so that near numbers are near."""
    angles = np.array([float(text[1:]) / 100 for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def pairs(*rows):
    return pd.DataFrame(rows, columns=["category", "query", "title"])


def test_a_hit_is_among_the_ten_nearest_of_its_own_category():
    wanted = pairs(("a", "q0", "t9"), ("b", "q0", "t29"), ("a", "q0", "t10"), ("b", "q20", "T29 "), ("a", "q3", "t50"))
    # t9 is the tenth from q0, t10 the eleventh; category b has ten titles only; t50 is no item and the farthest.
    assert recall_at_10(on_a_line, wanted, ITEMS).tolist() == [True, True, False, True, False]


def test_ties_count_against_the_title():
    wanted = pairs(("a", "q0", "t0"), ("b", "q0", "t20"))
    assert recall_at_10(lambda texts: np.ones((len(texts), 2), dtype=np.float32), wanted, ITEMS).tolist() == [False, True]


def test_a_title_that_many_items_have_is_one():
    items = pd.concat(
        [ITEMS[ITEMS.category == "a"], *[ITEMS[ITEMS.title == "t3"].replace("t3", variant) for variant in ("T3", " t3", "t3 ")] * 4]
    )
    assert recall_at_10(on_a_line, pairs(("a", "q0", "t9")), items).tolist() == [True]


def test_the_noisy_sample_is_fixed_by_its_seed_and_a_fifth_of_the_distinct_titles():
    items = pd.DataFrame({"title": [f"Acme thing, {i}" for i in range(250)] * 2, "category": "a", "values": [{"brand": "Acme"}] * 500})
    first, again, other = (noisy_pairs(items, seed) for seed in (1, 1, 2))
    assert len(first) == first.title.nunique() == 50
    assert first.equals(again)
    assert not first.equals(other)
    assert (first["query"] != first.title).all()
    assert set(first.columns) == {"category", "query", "title"}
    assert noisy_pairs(items[items.title != "Acme thing, 7"], 1).empty


def test_figures_are_given_where_there_is_something_to_measure():
    noisy = pairs(("a", "q2", "t2"), ("a", "q0", "t15"))
    assert figures(on_a_line, pairs(("a", "q0", "t0")), noisy, ITEMS) == {
        "validation_recall_at_10": 1.0,
        "validation_noisy_recall_at_10": 0.5,
    }
    assert figures(on_a_line, pairs(), noisy, ITEMS) == {"validation_noisy_recall_at_10": 0.5}
