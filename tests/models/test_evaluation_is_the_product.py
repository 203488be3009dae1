"""The rank that the evaluation gives an item is the place at which the product shows it."""

import numpy as np
import pandas as pd
import pytest

from fashionrec.evaluate.rows import SERVED, Answers, Batch, Catalogue, CategoryItems, Space, rank_batch
from fashionrec.index_folders import slug
from fashionrec.retrieval.indexes import load_index, vectors, write_category
from fashionrec.retrieval.search import open_category

ITEMS, DIM = 40, 8
UNTRAINED = range(30, 40)


def unit(array):
    return (array / np.linalg.norm(array, axis=-1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    """A category of 40 items, the last 10 unknown to the ID space; "title n" lies near item n's title, not on it."""
    folder, dice = tmp_path_factory.mktemp("indexes"), np.random.default_rng(3)
    ids, titles = unit(dice.normal(size=(ITEMS, DIM))), unit(dice.normal(size=(ITEMS, DIM)))
    ids[UNTRAINED] = ids[UNTRAINED[0]]
    near = unit(titles + 0.2 * dice.normal(size=titles.shape))

    def encode(texts):
        return np.array([near[int(text.split()[1])] if text.startswith("title") else titles[int(text)] for text in texts], np.float32)

    frame = pd.DataFrame(
        {"item_id": [f"{n:02}" for n in range(ITEMS)], "title": [str(n) for n in range(ITEMS)], "category": "Shoes", "in_stock": True}
    )
    trained = np.array([n not in UNTRAINED for n in range(ITEMS)])
    write_category(frame, folder, id_vectors=lambda _: (ids, trained), encode=encode)
    return folder, encode


@pytest.mark.parametrize("m", [0, 1, 2, 3])
@pytest.mark.parametrize("answer", ["07", "33", "unknown"], ids=["trained", "untrained", "unknown"])
def test_every_item_has_its_place_in_the_products_full_list(shop, answer, m):
    folder, encode = shop
    shown = open_category(folder, "Shoes", encode=encode, candidates=ITEMS, m=m)([answer], ["title 12"])[0].candidates
    assert len(shown) == ITEMS
    index = load_index(folder / slug("Shoes"))
    catalogue = Catalogue(CategoryItems(index.item_ids, vectors(index.ids), vectors(index.title), index.trained), {})
    answers = Answers(catalogue.positions([answer] * ITEMS), np.ones(ITEMS, bool), encode(["title 12"] * ITEMS))
    nothing = np.full(ITEMS, -1), np.zeros(ITEMS, bool), np.zeros((ITEMS, DIM), np.float32)
    batch = Batch(np.arange(ITEMS), nothing[0], answers, *nothing[1:])
    ranks = rank_batch(catalogue, batch, m=m)
    assert ranks[SERVED].tolist() == [1 + [one.item_id for one in shown].index(item) for item in index.item_ids]


def test_equal_vectors_have_equal_scores_to_the_last_bit():
    dice = np.random.default_rng(0)
    vectors_ = unit(dice.normal(size=(1001, 64)))
    same = dice.choice(1001, 300, replace=False)
    vectors_[same] = vectors_[same[0]]
    space, queries = Space(vectors_), unit(dice.normal(size=(64, 64)))
    assert all(len(np.unique(row[same])) == 1 for row in space.scores(queries))
    # Whether a product over all of them would differ hangs on the machine's matrix library; that each is multiplied once does not.
    assert len(space._distinct) == 1001 - 299
