"""The index of remembered queries: what is near is found, on the date it was remembered, exactly or with the promised recall."""

import json
import random
from datetime import date

import numpy as np
import pytest

from fashionrec.encoders import ngram
from fashionrec.encoders.text import load_encoder
from fashionrec.index_folders import slug
from fashionrec.memory.query_index import QueryIndexError, build_query_indexes, check_query_indexes, open_query_index
from fashionrec.settings.model import NgramEncoder

ENCODER = load_encoder(NgramEncoder(kind="ngram", min_similarity=0.45))
FEBRUARY, MARCH, NEVER = date(2026, 2, 1), date(2026, 3, 1), date(2026, 4, 1)
COLOURS = ("red", "blue", "black", "white", "green", "pink", "navy", "beige", "yellow", "purple")
THINGS = ("dress", "jeans", "shirt", "sneakers", "boots", "handbag", "scarf", "coat", "skirt", "sandals", "belt", "hat")
WISHES = ("", "summer", "winter", "wedding", "party", "cheap", "leather", "cotton", "silk", "linen", "vintage", "striped", "long", "mini")
SIZES = ("", "xs", "s", "m", "l", "xl", "36", "38", "40", "42")
MANY = sorted({" ".join(f"{w} {c} {t} {s}".split()) for w in WISHES for c in COLOURS for t in THINGS for s in SIZES})


@pytest.fixture
def build(spark, tmp_path):
    """Return a function that indexes {category: {query: dates}} and returns the folder and what was built."""

    def build(remembered, *, exact_up_to=1000, encoder=ENCODER, name="indexes"):
        rows = [(category, query, dates) for category, queries in remembered.items() for query, dates in queries.items()]
        random.Random(0).shuffle(rows)
        vectors = ngram.encode([query for _, query, _ in rows])
        frame = spark.createDataFrame(
            [(*row[:2], vector.tolist(), row[2]) for row, vector in zip(rows, vectors, strict=True)],
            "category string, query string, embedding array<float>, memory_dates array<date>",
        ).repartition(3)
        folder = tmp_path / name
        built = build_query_indexes(frame, folder, encoder=encoder, exact_up_to=exact_up_to)
        return folder, built

    return build


@pytest.fixture(scope="module")
def many(spark, tmp_path_factory):
    """Return the folder of an index of 15,000 queries, half of them remembered in February, and what was built."""
    folder = tmp_path_factory.mktemp("many") / "indexes"
    vectors = ngram.encode(MANY)
    rows = [
        ("Clothing", query, vector.tolist(), [FEBRUARY, MARCH] if place % 2 else [MARCH])
        for place, (query, vector) in enumerate(zip(MANY, vectors, strict=True))
    ]
    frame = spark.createDataFrame(rows, "category string, query string, embedding array<float>, memory_dates array<date>")
    built = build_query_indexes(frame, folder, encoder=ENCODER, exact_up_to=1000)
    return folder, built


def nearest(index, query, day, count=3):
    places, cosines = index.nearest(ngram.encode([query]), day, count)
    return list(index.queries[places[0]]), cosines[0].tolist()


def by_hand(queries, wanted, count):
    """Return the names and cosines that NumPy alone finds, equal ones by name."""
    cosines = (ngram.encode(wanted).astype(np.float64) @ ngram.encode(queries).astype(np.float64).T).round(6)
    order = np.lexsort((np.broadcast_to(np.arange(len(queries)), cosines.shape), -cosines))[:, :count]
    return order, np.take_along_axis(cosines, order, axis=1)


def test_the_nearest_of_the_category_come_first_and_equally_near_ones_by_name(build):
    folder, built = build(
        {"Clothing": {q: [MARCH] for q in ("red dress", "dress red", "red dresses", "blue jeans")}, "Bags": {"x": [MARCH]}}
    )
    names, cosines = nearest(open_query_index(folder, "Clothing"), "red dress", MARCH)
    assert names == ["dress red", "red dress", "red dresses"]
    assert cosines[:2] == [1, 1]
    assert 0.5 < cosines[2] < 1
    assert (built["Clothing"].queries, built["Clothing"].kind, built["Clothing"].recall_at_10) == (4, "exact", 1.0)
    assert nearest(open_query_index(folder, "Bags"), "red dress", MARCH)[0] == ["x"]


def test_a_query_is_found_on_the_dates_that_remember_it_only(build):
    folder, _ = build({"Clothing": {"red dress": [MARCH], "red dresses": [FEBRUARY, MARCH], "blue jeans": [FEBRUARY]}})
    index = open_query_index(folder, "Clothing")
    assert nearest(index, "red dress", MARCH)[0] == ["red dress", "red dresses"]
    assert nearest(index, "red dress", FEBRUARY)[0] == ["red dresses", "blue jeans"]
    assert nearest(index, "red dress", NEVER) == ([], [])


def test_a_category_without_memory_has_no_neighbours_and_a_folder_without_indexes_is_an_error(build, tmp_path):
    folder, built = build({})
    assert built == {}
    assert nearest(open_query_index(folder, "Shoes"), "boots", MARCH) == ([], [])
    with pytest.raises(QueryIndexError, match="run the step index_queries first"):
        open_query_index(tmp_path / "none", "Shoes")


def test_among_many_queries_the_promised_recall_is_kept_on_each_date(many):
    folder, built = many
    about = built["Clothing"]
    assert (about.queries, about.kind) == (len(MANY), "approximate")
    assert about.recall_at_10 >= 0.98
    index = open_query_index(folder, "Clothing")
    rng = random.Random(5)
    wanted = [query[: (at := rng.randrange(1, len(query)))] + query[at + 1 :] for query in rng.sample(MANY, 300)]
    for day, remembered in ((FEBRUARY, MANY[1::2]), (MARCH, MANY)):
        _, best = by_hand(remembered, wanted, 10)
        places, cosines = index.nearest(ngram.encode(wanted), day, 10)
        assert (cosines >= best[:, -1:]).mean() >= 0.98
        # What it says of those it found is exact.
        found = index.queries[places]
        assert set(found.ravel()) <= set(remembered)
        by_product = np.einsum(
            "nd,nkd->nk", ngram.encode(wanted), ngram.encode(found.ravel().tolist()).reshape(*found.shape, -1), dtype=np.float64
        )
        np.testing.assert_array_equal(cosines, by_product.round(6))
        assert (np.diff(cosines) <= 0).all()


def test_a_query_far_from_its_code_is_no_damage(build):
    # Of one letter: a vector unlike all that the codes were trained on.
    folder, built = build({"Clothing": {query: [MARCH] for query in ("2", *MANY)}})
    assert built["Clothing"].kind == "approximate"
    assert open_query_index(folder, "Clothing").queries[0] == "2"


def test_an_answer_does_not_depend_on_the_questions_beside_it(many):
    index = open_query_index(many[0], "Clothing")
    wanted = ngram.encode([query.replace("e", "", 1) for query in MANY[::200]])
    for day in (FEBRUARY, MARCH):
        places, cosines = index.nearest(wanted, day, 10)
        alone = [index.nearest(one[None], day, 10) for one in wanted]
        np.testing.assert_array_equal(places, np.concatenate([one[0] for one in alone]))
        np.testing.assert_array_equal(cosines, np.concatenate([one[1] for one in alone]))


def test_exact_search_over_several_chunks_finds_what_numpy_finds(many, monkeypatch):
    from dataclasses import replace

    from fashionrec.memory import query_search

    monkeypatch.setattr(query_search, "CHUNK", 4000)
    index = replace(open_query_index(many[0], "Clothing"), exact_up_to=len(MANY))
    wanted = [query.replace("r", "", 1) for query in MANY[::300]]
    order, best = by_hand(MANY, wanted, 10)
    places, cosines = index.nearest(ngram.encode(wanted), MARCH, 10)
    np.testing.assert_array_equal(cosines, best)
    np.testing.assert_array_equal(places, order)


def test_as_many_candidates_are_compared_as_the_recall_needs(many):
    from dataclasses import replace

    from fashionrec.memory.query_index import _tuned

    index = open_query_index(many[0], "Clothing")
    # A third of each code says nothing of its vector.
    codes = np.array(index.codes)
    third = codes.shape[1] // 3
    codes[:, :third] = np.random.default_rng(0).permutation(codes[:, :third])
    index = replace(index, codes=codes)
    candidates, recall = _tuned(index, {MARCH}, ENCODER)
    assert candidates > 64
    wanted = [query.replace("e", "", 1) for query in MANY[::30]]
    last = by_hand(MANY, wanted, 10)[1][:, -1:]

    def measured(candidates):
        return (replace(index, candidates=candidates).nearest(ngram.encode(wanted), MARCH, 10)[1] >= last).mean()

    assert measured(64) < 0.98 <= measured(candidates)
    assert recall == pytest.approx(measured(candidates), abs=0.02)


def test_where_no_number_of_candidates_reaches_the_recall_search_is_exact(many, build, monkeypatch):
    # Codes that say nothing of their vectors. The workers of Spark would not see the change, so the category is written here.
    import pyarrow as pa

    from fashionrec.memory import query_index

    def shuffled(index, into):
        index = with_codes(index, into)
        np.random.default_rng(0).shuffle(index.codes)
        return index

    with_codes = query_index._with_codes
    monkeypatch.setattr(query_index, "_with_codes", shuffled)
    queries = MANY[:3000]
    batch = pa.RecordBatch.from_pydict(
        {"query": queries, "embedding": list(ngram.encode(queries)), "memory_dates": [[MARCH]] * len(queries)},
        pa.schema([("query", pa.string()), ("embedding", pa.list_(pa.float32())), ("memory_dates", pa.list_(pa.date32()))]),
    )
    folder, _ = build({}, name="codes")
    about = query_index.write_query_index("Clothing", iter([batch]), folder, encoder=ENCODER, exact_up_to=1000)
    assert (about.kind, about.recall_at_10) == ("exact", 1.0)
    index = query_index._load(folder / slug("Clothing"))
    np.testing.assert_array_equal(index.nearest(ngram.encode(["red drss"]), MARCH, 10)[0], by_hand(queries, ["red drss"], 10)[0])


def test_vectors_of_different_lengths_are_refused(spark, tmp_path):
    rows = _frame_of([("Clothing", "a", [1.0, 0.0], [MARCH]), ("Clothing", "b", [1.0], [MARCH])])
    with pytest.raises(Exception, match="vectors of different lengths"):
        build_query_indexes(rows, tmp_path / "indexes", encoder=ENCODER, exact_up_to=10)


def test_a_query_that_stands_twice_in_a_category_is_refused(build, spark, tmp_path):
    twice = _frame_of([("Clothing", "a", [1.0], [MARCH]), ("Clothing", "a", [1.0], [MARCH])])
    with pytest.raises(Exception, match="must stand there once"):
        build_query_indexes(twice, tmp_path / "twice", encoder=ENCODER, exact_up_to=10)


def test_indexes_of_another_encoder_or_revision_are_refused(build):
    folder, _ = build({"Clothing": {"red dress": [MARCH]}})
    check_query_indexes(folder, name="ngram", revision=ngram.VERSION)
    with pytest.raises(QueryIndexError, match=f"made with ngram {ngram.VERSION} instead of ngram v0"):
        check_query_indexes(folder, name="ngram", revision="v0")


def _cut(path):
    path.write_bytes(path.read_bytes()[:-4])


def _grow(path):
    path.write_bytes(path.read_bytes() + bytes(4))


def _zero(path):
    path.write_bytes(bytes(path.stat().st_size))


def _of_other_queries(path):
    codes = np.load(path)
    np.save(path, codes[::-1])


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("vectors.f32", _cut),
        ("vectors.f32", _grow),
        ("vectors.f32", _zero),
        ("vectors.f32", lambda path: path.unlink()),
        ("dates.npy", _cut),
        ("codes.npy", _cut),
        ("codes.npy", _of_other_queries),
        ("quantiser.faiss", _cut),
        ("index.json", _cut),
    ],
)
def test_a_broken_index_is_one_clear_line(many, tmp_path, name, damage):
    import shutil

    folder = tmp_path / "indexes"
    shutil.copytree(many[0], folder)
    open_query_index(folder, "Clothing")
    damage(folder / slug("Clothing") / name)
    with pytest.raises(QueryIndexError, match="run the step index_queries again") as error:
        open_query_index(folder, "Clothing")
    assert "\n" not in str(error.value)


def test_an_index_without_codes_that_lost_its_vectors_is_refused(build):
    folder, _ = build({"Clothing": {"red dress": [MARCH], "blue jeans": [MARCH]}})
    _zero(folder / slug("Clothing") / "vectors.f32")
    with pytest.raises(QueryIndexError, match="run the step index_queries again"):
        open_query_index(folder, "Clothing")


def test_the_arrays_of_an_open_index_are_mapped_not_read(many):
    index = open_query_index(many[0], "Clothing")
    assert isinstance(index.vectors, np.memmap)
    assert isinstance(index.codes, np.memmap)
    assert json.loads((many[0] / "build.json").read_text())["categories"] == ["Clothing"]


def _frame_of(rows):
    from pyspark.sql import SparkSession

    session = SparkSession.getActiveSession()
    return session.createDataFrame(rows, "category string, query string, embedding array<float>, memory_dates array<date>")
