"""One pair of indexes per category: written whole, found again, refused when they do not belong."""

from functools import partial

import numpy as np
import pandas as pd
import pytest

from fashionrec.index_folders import slug
from fashionrec.retrieval import indexes
from fashionrec.retrieval.indexes import RetrievalError, build_indexes, check_build, load_index, vectors
from fashionrec.retrieval.search import open_category
from tests.builders import table_rows

ITEMS = [{"item_id": f"{c}{i}", "title": f"{c} {i}", "category": c, "in_stock": i != 2} for c in ("Bags", "Shoes") for i in range(6)]


def on_circle(texts):
    """Return vectors by the number at the end of each text: 10 degrees apart, so that neighbours are known."""
    angles = np.radians([10.0 * int(text[-1]) for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def id_vectors(item_ids):
    """Return the same circle for items 0 to 3, and the shared vector of the untrained for 4 and 5."""
    trained = np.array([int(item_id[-1]) < 4 for item_id in item_ids])
    return np.where(trained[:, None], on_circle(item_ids), np.float32([-1, 0])), trained


def failing_on_shoes(texts):
    if texts[0].startswith("Shoes"):
        raise RuntimeError("killed in the middle")
    return on_circle(texts)


def build(spark, folder, run="1", items=ITEMS, encode=on_circle):
    frame = table_rows(spark, "items", *items)
    staging = folder.with_name(f".{folder.name}.{run}")
    return build_indexes(frame, folder, id_vectors=id_vectors, encode=encode, build={"items": run}, staging=staging)


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes") / "2026-03-01"
    return folder, build(spark, folder)


def test_every_item_of_each_category_is_found_by_its_own_vectors(built):
    folder, counts = built
    assert counts == {"Bags": (6, 2), "Shoes": (6, 2)}
    index = load_index(folder / slug("Shoes"))
    assert index.item_ids == [f"Shoes{i}" for i in (0, 1, 3, 4, 5, 2)]
    assert index.in_stock_count == 5
    assert np.array_equal(vectors(index.title), on_circle(index.titles))
    _, nearest = index.title.search(on_circle(index.titles), 1)
    assert nearest[:, 0].tolist() == list(range(6))


def test_the_generated_item_comes_first_then_its_neighbours_by_title_without_what_is_out_of_stock(built):
    folder, _ = built
    retrieve = open_category(folder, "Bags", encode=on_circle, candidates=4, m=1)
    (answer,) = retrieve(["Bags3"], ["like 0"])
    assert answer.known_id
    # Titles in order of nearness: 0 (skipped by the mixup, so last), 1, 2 (not in stock), 3 (stands already), 4.
    assert [(c.item_id, c.source) for c in answer.candidates] == [
        ("Bags3", "id"),
        ("Bags1", "title"),
        ("Bags4", "title"),
        ("Bags0", "title"),
    ]
    assert [c.similarity for c in answer.candidates] == pytest.approx([1, *np.cos(np.radians([10, 40, 0]))], abs=1e-6)


def test_an_unknown_id_leaves_the_titles_and_a_missing_title_the_ids(built):
    folder, _ = built
    retrieve = open_category(folder, "Bags", encode=on_circle, candidates=3, m=1)
    unknown, untitled = retrieve(["Shoes1", "Bags0"], ["like 0", None])
    assert not unknown.known_id
    assert [(c.item_id, c.source) for c in unknown.candidates] == [("Bags0", "title"), ("Bags1", "title"), ("Bags3", "title")]
    assert [(c.item_id, c.source) for c in untitled.candidates] == [("Bags0", "id"), ("Bags1", "id"), ("Bags3", "id")]


def test_an_answered_item_out_of_stock_leaves_before_the_lists_are_mixed(built):
    retrieve = open_category(built[0], "Bags", encode=on_circle, candidates=3, m=1)
    (answer,) = retrieve(["Bags2"], ["like 4"])
    assert answer.known_id
    # The head is one of its neighbours in stock, both of which are as near, and titles fill the list.
    assert (answer.candidates[0].item_id in ("Bags1", "Bags3"), answer.candidates[0].source) == (True, "id")
    assert [c.source for c in answer.candidates[1:]] == ["title", "title"]
    assert "Bags2" not in [c.item_id for c in answer.candidates]


@pytest.mark.parametrize(
    ("in_stock", "length"), [(lambda number: number % 10 == 1, 20), (lambda number: False, 0)], ids=["a tenth", "none"]
)
def test_lists_are_full_where_little_is_in_stock_and_empty_where_nothing_is(tmp_path, in_stock, length):
    rows = [{"item_id": f"{n:03}", "title": f"{n % 10}", "category": "Bags", "in_stock": in_stock(n)} for n in range(500)]
    trained = np.ones(len(rows), bool)
    indexes.write_category(pd.DataFrame(rows), tmp_path, id_vectors=lambda ids: (on_circle(ids), trained), encode=on_circle)
    (answer,) = open_category(tmp_path, "Bags", encode=on_circle, candidates=20, m=1)(["007"], ["9"])
    assert len(answer.candidates) == length
    assert all(in_stock(int(candidate.item_id)) for candidate in answer.candidates)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0])
def test_a_vector_that_is_none_is_refused_when_the_index_is_built(tmp_path, wrong):
    def spoilt(texts):
        found = on_circle(texts)
        found[3] = wrong
        return found

    with pytest.raises(RetrievalError, match=r"index of Bags, title space: the vectors of 1 items \(Bags3\) are not of length 1"):
        indexes.write_category(pd.DataFrame(ITEMS[:6]).assign(in_stock=True), tmp_path, id_vectors=id_vectors, encode=spoilt)


def test_a_query_that_is_no_vector_finds_nothing(built):
    retrieve = open_category(built[0], "Bags", encode=lambda texts: np.full((len(texts), 2), np.nan, np.float32), candidates=3, m=1)
    (answer,) = retrieve(["unknown"], ["like 4"])
    assert answer.candidates == []


def test_an_untrained_item_is_near_nothing_but_itself(built):
    folder, _ = built
    retrieve = open_category(folder, "Bags", encode=on_circle, candidates=6, m=3)
    (answer,) = retrieve(["Bags5"], [None])
    assert [c.item_id for c in answer.candidates] == ["Bags5"]


def test_a_build_that_dies_leaves_the_old_indexes_and_the_next_one_replaces_them(spark, tmp_path):
    folder = tmp_path / "day"
    build(spark, folder, "first")
    with pytest.raises(Exception, match="killed in the middle"):
        build(spark, folder, "second", items=[{**row, "title": row["title"] + "9"} for row in ITEMS], encode=failing_on_shoes)
    assert load_index(folder / slug("Bags")).titles[0] == "Bags 0"
    assert check_build(folder, {"items": "first"})
    build(spark, folder, "third", items=ITEMS[:3])
    assert len(load_index(folder / slug("Bags")).item_ids) == 3
    assert not (folder / slug("Shoes")).exists()
    assert [path.name for path in tmp_path.iterdir()] == ["day"]


def test_indexes_of_another_model_or_snapshot_are_refused(built):
    folder, _ = built
    with pytest.raises(RetrievalError, match=r"items 1 instead of 2, title None instead of 7; run the step build_indexes again"):
        check_build(folder, {"items": "2", "title": "7"})
    with pytest.raises(RetrievalError, match=r"none under .*; run the step build_indexes first"):
        check_build(folder / "missing", {})


def cut(folder, built):
    path = folder / "title.faiss"
    path.write_bytes(path.read_bytes()[:-8])


def remove(folder, built):
    (folder / "items.json").unlink()


def swap_for_another_size(folder, built):
    (folder / "id.faiss").write_bytes((built / "id.faiss").read_bytes())


def zero_the_vectors(folder, built):
    path = folder / "id.faiss"
    path.write_bytes(path.read_bytes()[:-32] + bytes(32))


@pytest.mark.parametrize("damage", [cut, remove, swap_for_another_size, zero_the_vectors])
def test_a_damaged_index_is_an_error_and_not_garbage(damage, built, tmp_path):
    frame = pd.DataFrame(ITEMS[:4])
    indexes.write_category(frame, tmp_path, id_vectors=id_vectors, encode=on_circle)
    folder = tmp_path / slug("Bags")
    assert load_index(folder)
    damage(folder, built[0] / slug("Bags"))
    with pytest.raises(RetrievalError, match="run the step build_indexes again"):
        load_index(folder)


def test_categories_with_like_names_have_folders_of_their_own():
    assert slug("Luggage & Bags").startswith("luggage-bags-")
    assert slug("Luggage & Bags") != slug("Luggage / Bags")
    assert slug("靴") != slug("鞄")


def test_a_category_without_an_index_is_an_error(built):
    with pytest.raises(RetrievalError, match="cannot be read"):
        partial(open_category, built[0], encode=on_circle, candidates=1, m=1)("Hats")
