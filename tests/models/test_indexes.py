"""What is known of a category: written whole, found again, refused when it is damaged or does not belong."""

import numpy as np
import pytest

from fashionrec.index_folders import slug
from fashionrec.lake.storage import folder_hash
from fashionrec.retrieval.indexes import RetrievalError, build_indexes, load_index
from fashionrec.retrieval.purchases import bought_together, popularity
from tests.unit.category_made import LAST, TONIGHT, category, on_circle

COLUMNS = (
    "item_id string, title string, category string, in_stock boolean, family string, tastes array<string>, price float, "
    "on_sale_from int, on_sale_to int, sold_out array<int>"
)
# Purchases of an item that no category holds any more are in a group of their own.
BOUGHT = [("Bags", "u", "Bags1", 5), ("Bags", "u", "Bags3", 6), ("Bags", "v", "Bags1", 7), ("Hats", "u", "Hats1", 5)]


def rows_of(*categories):
    """Return six items of each category 10 degrees apart, the third of which is out of stock."""
    return [
        (f"{c}{i}", f"{c} {i}", c, i != 2, None if i == 5 else c, ["red", None], 5.0, 0, LAST, [TONIGHT, 7] if i == 2 else [])
        for c in categories
        for i in range(6)
    ]


def id_vectors(item_ids):
    """Return the same circle for items 0 to 3, and the shared vector of the untrained for 4 and 5."""
    trained = np.array([int(item_id[-1]) < 4 for item_id in item_ids])
    return np.where(trained[:, None], on_circle(item_ids), np.float32([-1, 0])), trained


def build(spark, folder, staging=None):
    return build_indexes(
        spark.createDataFrame(rows_of("Bags", "Shoes"), COLUMNS),
        spark.createDataFrame(BOUGHT, "category string, user_id string, item_id string, day int"),
        folder,
        as_of=TONIGHT,
        id_vectors=id_vectors,
        encode=on_circle,
        staging=staging,
    )


@pytest.fixture(scope="module")
def built(spark, tmp_path_factory):
    folder = tmp_path_factory.mktemp("indexes") / "2026-03-01"
    return folder, build(spark, folder)


def test_every_item_of_each_category_is_found_by_its_own_vectors(built):
    folder, counts = built
    assert counts == {"Bags": (6, 2), "Shoes": (6, 2)}
    index = load_index(folder / slug("Shoes"))
    assert index.item_ids.tolist() == [f"Shoes{i}".encode() for i in (0, 1, 3, 4, 5, 2)]
    assert (index.in_stock_count, index.item_count, index.as_of) == (5, 6, TONIGHT)
    _, nearest = index.title.search(on_circle(index.titles.to_pylist()), 1)
    assert nearest[:, 0].tolist() == list(range(6))
    assert index.rows_of(["Shoes2", "Shoes", "Bags0", None, "Shoes0"]).tolist() == [5, -1, -1, -1, 0]


def test_rows_keep_what_is_known_of_their_items(built):
    index = load_index(built[0] / slug("Bags"))
    assert index.trained.tolist() == [True, True, True, False, False, True]
    assert index.family.tolist() == [1, 1, 1, 1, 0, 1]
    assert index.tastes.tolist() == [[1, 0]] * 6
    assert index.taste_values == [{"red": 1}, {}]
    assert index.sold_out.tolist() == [[7, 5], [TONIGHT, 5]]
    assert [int(index.on_sale(day).sum()) for day in (6, 7, 8, TONIGHT)] == [6, 5, 6, 5]
    assert popularity(index.purchases, 7, 3, items=6).tolist() == [0, 2, 1, 0, 0, 0]
    assert bought_together(index.purchases, np.array([1]), np.array([7])).rows.tolist() == [2]


def test_files_that_executors_wrote_on_disks_of_their_own_come_to_the_driver(spark, built, tmp_path, monkeypatch):
    monkeypatch.setattr("fashionrec.index_folders._PART", 100)
    assert build(spark, tmp_path / "day", staging=str(tmp_path / "staging")) == built[1]
    assert folder_hash(tmp_path / "day") == folder_hash(built[0])


def cut(folder, built):
    path = folder / "title.faiss"
    path.write_bytes(path.read_bytes()[:-8])


def remove(folder, built):
    (folder / "index.json").unlink()


def remove_an_array(folder, built):
    (folder / "trained.npy").unlink()


def empty_an_array(folder, built):
    (folder / "purchases_days.npy").write_bytes(b"")


def swap_for_another_size(folder, built):
    (folder / "id.faiss").write_bytes((built / "id.faiss").read_bytes())


def swap_an_array(folder, built):
    (folder / "family.npy").write_bytes((built / "family.npy").read_bytes())


def zero_the_vectors(folder, built):
    path = folder / "id.faiss"
    path.write_bytes(path.read_bytes()[:-32] + bytes(32))


@pytest.mark.parametrize("damage", [cut, remove, remove_an_array, empty_an_array, swap_for_another_size, swap_an_array, zero_the_vectors])
def test_a_damaged_index_is_an_error_and_not_garbage(damage, built, tmp_path):
    items = [{"item_id": f"Bags{n}", "title": f"Bags {n}"} for n in range(4)]
    assert category(tmp_path, items).item_count == 4
    folder = tmp_path / slug("Bags")
    damage(folder, built[0] / slug("Bags"))
    with pytest.raises(RetrievalError, match="run the step build_indexes again"):
        load_index(folder)


def test_categories_with_like_names_have_folders_of_their_own():
    assert slug("Luggage & Bags").startswith("luggage-bags-")
    assert slug("Luggage & Bags") != slug("Luggage / Bags")
    assert slug("靴") != slug("鞄")


def test_a_category_without_an_index_is_an_error(built):
    with pytest.raises(RetrievalError, match="cannot be read"):
        load_index(built[0] / slug("Hats"))
