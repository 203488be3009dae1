"""The page on the training of the spaces: what it says, what it must not hide, and pictures that can be trusted as far as it says."""

import re
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fashionrec.reports import embeddings
from fashionrec.reports.embeddings import write_training
from fashionrec.reports.projection import project, trust
from fashionrec.reports.trained import Trained
from tests.unit.test_report import EVIL, Tags

HISTORY = [
    {"epoch": 0, "validation_recall_at_10": 0.1, "validation_noisy_recall_at_10": 0.5},
    {"epoch": 1, "loss": 3.0, "examples_per_second": 900.0, "validation_recall_at_10": 0.3, "validation_noisy_recall_at_10": 0.7},
    {"epoch": 2, "loss": 2.0, "examples_per_second": 800.0, "validation_recall_at_10": 0.45, "validation_noisy_recall_at_10": 0.6},
    {"epoch": 3, "loss": 1.0, "examples_per_second": 700.0, "validation_recall_at_10": 0.4, "validation_noisy_recall_at_10": 0.6},
]


def ids(**card):
    metrics = {"kept_epoch": 2, "validation_recall_at_10": 0.4567, "examples": 1234, "items": 30}
    given = {"metrics": metrics, "history": HISTORY, "softmax": "full", **card}
    return Trained("id", "7", Path("id"), "0123abc", {"encoder": "trm", "epochs": 30}, given, 61.0)


def titles(**card):
    given = {"metrics": {"kept_epoch": 2, "validation_recall_at_10": 0.1, "pairs": 55}, "history": HISTORY, "pairs": "searches", **card}
    return Trained("title", "8", Path("title"), "4567def", {"epochs": 3}, given, 5.0)


def clusters(per_category, categories, *, dim=8, trained=True, spread=0.1):
    """Return a sample in which the items of a category lie around a point of their own."""
    dice = np.random.default_rng(4)
    centres = dice.normal(size=(len(categories), dim))
    rows = []
    for centre, category in zip(centres, categories, strict=True):
        for _ in range(per_category):
            vector = centre + spread * dice.normal(size=dim)
            unit = (vector / np.linalg.norm(vector)).astype(np.float32).tolist()
            rows.append({"category": category, "trained": trained, "id_vector": unit, "title_vector": unit})
    return pd.DataFrame(rows)


def page(folder, *models, sample=None, categories=None, synthetic=False):
    return write_training(
        folder,
        run_date=date(2026, 3, 1),
        synthetic=synthetic,
        models=models or (ids(), titles()),
        categories=categories or {"Shoes": 30, EVIL: 10},
        sample=clusters(10, ["Shoes", EVIL]) if sample is None else sample,
    ).read_text(encoding="utf-8")


def test_the_page_says_what_was_reached_kept_and_registered(tmp_path):
    found = page(tmp_path)
    assert "<b>45.7%</b><span>of held-out purchases among the first 10 of all items of their category</span>" in found
    assert "<b>1,234</b>" in found
    assert "The dashed line marks epoch 2, whose weights were kept" in found
    assert "3, of which number 2 was kept (loss 2.0000)<" in found
    for words in ("61 s, 800 examples a second", "version 7", "0123abc", "CORE-trm", "all items", "Recall@10 of garbled titles"):
        assert words in found


def test_the_last_epoch_allowed_is_said_to_be_the_last(tmp_path):
    assert "the last that is allowed, more might do better" in page(tmp_path, titles()._replace(params={"epochs": 2}))
    assert "the last that is allowed" not in page(tmp_path, titles())


def test_phrases_in_the_place_of_searches_are_said_loudly_and_only_then(tmp_path):
    assert "so phrases made of the items" in page(tmp_path, ids(), titles(pairs="attribute phrases"))
    assert "titles, garbled as a language model garbles them, stood in" in page(tmp_path, ids(), titles(pairs="garbled titles"))
    assert "Not learnt from searches." not in page(tmp_path)


def test_an_encoder_taken_as_it_is_has_no_curves(tmp_path):
    found = page(tmp_path, titles(history=[], encoder="clip"))
    assert "Nothing was trained" in found
    assert "clip, taken as it is" in found


def test_a_training_without_validation_says_that_nothing_chose_its_epoch(tmp_path):
    found = page(tmp_path, titles(metrics={"pairs": 5, "kept_epoch": 1}, history=[{"epoch": 1, "loss": 1.0, "examples_per_second": 9.0}]))
    assert "marks epoch 1, whose weights were kept, the last: nothing was held out to choose by." in found


def test_sampled_comparison_is_named(tmp_path):
    assert "corrected for how often each is drawn" in page(tmp_path, ids(softmax="sampled"))


def test_text_of_the_catalogue_cannot_become_part_of_the_page_and_nothing_is_loaded(tmp_path):
    found = page(tmp_path)
    tags = Tags(found)
    assert "script" not in tags.seen
    assert not tags.open, "every tag is closed"
    assert not re.search(r"https?:|//\w|@import", found)


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_data_is_named_as_such_and_only_then(tmp_path, synthetic):
    assert ("synthetic" in page(tmp_path, synthetic=synthetic)) == synthetic


def test_two_thousand_items_make_a_small_page(tmp_path, monkeypatch):
    # Where they lie makes no page larger, and t-SNE of so many takes seconds.
    monkeypatch.setattr(embeddings, "project", lambda vectors: (vectors[:, :2], "t-SNE"))
    names = [f"Category {number}" for number in range(10)]
    sample, counts = clusters(200, names, dim=64), {name: 1000 - number for number, name in enumerate(names)}
    first = page(tmp_path, sample=sample, categories=counts)
    assert len(first.encode()) < 400 * 1024
    assert "2 smaller categories" in first
    assert first.count('var(--quiet)"><title>') == 4, "the two smallest are quiet in both spaces"


def test_the_same_training_gives_the_same_bytes(tmp_path):
    sample = clusters(60, ["Shoes", EVIL])
    assert page(tmp_path, sample=sample) == page(tmp_path, sample=sample)


def test_items_that_training_never_saw_are_left_out_of_the_id_space_and_counted(tmp_path):
    sample = pd.concat([clusters(10, ["Shoes"]), clusters(3, ["Shoes"], trained=False)], ignore_index=True)
    found = page(tmp_path, sample=sample)
    assert "10 items, laid out by PCA; 3 of the sample that training never saw share one vector and are left out" in found
    assert "13 items, laid out by PCA</p>" in found


def test_the_share_never_seen_weighs_categories_by_their_items(tmp_path):
    sample = pd.concat([clusters(10, ["Shoes"]), clusters(10, [EVIL], trained=False)], ignore_index=True)
    label = "</b><span>of the catalogue never seen: one vector for all</span>"
    assert f"<b>about 20.0%{label}" in page(tmp_path, sample=sample, categories={"Shoes": 40, EVIL: 10})
    assert f"<b>50.0%{label}" in page(tmp_path, sample=sample, categories={"Shoes": 10, EVIL: 10})


def test_a_space_of_fewer_than_two_items_has_no_picture(tmp_path):
    found = page(tmp_path, sample=clusters(2, ["Shoes"], trained=False))
    assert "Too few items: training never saw 2 of the sample, and those share one vector." in found


def test_neighbours_that_lie_together_are_laid_out_together():
    sample = clusters(60, ["a", "b", "c"])
    vectors = np.stack(sample.id_vector.tolist()).astype(np.float32)
    places, method = project(vectors)
    assert (method, places.shape, places.dtype) == ("t-SNE", (180, 2), np.float32)
    found = trust(vectors, places, sample.category.to_numpy())
    assert found["own_category"] == 1
    assert found["by_chance"] == pytest.approx(59 / 179)
    assert found["kept"] > 0.3
    elsewhere = np.random.default_rng(0).permutation(places)
    assert trust(vectors, elsewhere, sample.category.to_numpy())["kept"] < 0.15


def test_neighbours_as_counted_by_hand():
    vectors = np.array([[1, 0], [1, 0.1], [0, 1]], np.float32)
    found = trust(vectors, vectors, np.array(["a", "a", "b"]))
    # Two others each: one of the two is of the category for a, none for b.
    assert found == {"own_category": pytest.approx(1 / 3), "by_chance": pytest.approx(1 / 3), "kept": 1.0}
