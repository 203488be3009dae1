"""The remembered queries of each category in files, to be searched for those near a query never seen.

An approximate search keeps its recall by construction: when the index is built, the candidates that it compares are doubled until the
recall@10 against exact search is reached, on queries of the category as they are, with a letter missing, and with a word missing.
"""

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import date, timedelta
from itertools import groupby, pairwise
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray
from pyspark.sql import DataFrame

from fashionrec.encoders.text import Encoder
from fashionrec.errors import UserError
from fashionrec.index_folders import collect_built, slug
from fashionrec.lake.storage import here
from fashionrec.memory.query_search import CHUNK, QueryIndex

RECALL = 0.98
_AT = 10
_BUILD = "build.json"
_EPOCH = date(1970, 1, 1)
# Queries that the recall is measured with, of each kind.
_PROBES = 500


class QueryIndexError(UserError):
    """A query index is missing, broken, or not the one that belongs to the run."""


@dataclass(frozen=True)
class BuiltIndex:
    """What `build_query_indexes` says of a category: `kind` is exact or approximate, `recall_at_10` is measured against exact search."""

    queries: int
    kind: str
    recall_at_10: float
    seconds: float


def build_query_indexes(
    remembered: DataFrame, folder: Path, *, encoder: Encoder, exact_up_to: int, staging: str | None = None
) -> dict[str, BuiltIndex]:
    """Write `folder`/<slug>/ for every category, one Spark task each, and what they were made with.

    Args:
        remembered: one row per category and query: category, query, embedding, and memory_dates, the dates on which it is remembered.
        encoder: what the embeddings come from.
        exact_up_to: most queries of a date that are compared one by one.
        staging: see `index_folders.collect_built`.

    Returns:
        What was built, by category.

    Raises:
        QueryIndexError: a query stands twice in a category, or vectors differ in length (inside Spark's own exception).
    """

    def build_all(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for category, of_category in groupby(_by_category(batches), key=itemgetter(0)):
            built = write_query_index(category, map(itemgetter(1), of_category), folder, encoder=encoder, exact_up_to=exact_up_to)
            yield pa.RecordBatch.from_pylist([{"category": category, **vars(built)}])

    # Whole categories to a partition, sorted: the task writes them as they come, without holding them.
    by_name = remembered.select("category", "query", "embedding", "memory_dates").repartition("category")
    written = by_name.sortWithinPartitions("category", "query").mapInArrow(
        build_all, "category string, queries long, kind string, recall_at_10 double, seconds double"
    )
    rows = collect_built(written, folder, staging)
    built = {row["category"]: BuiltIndex(row["queries"], row["kind"], row["recall_at_10"], row["seconds"]) for row in rows}
    build = {"encoder": encoder.name, "revision": encoder.revision, "categories": sorted(built)}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / _BUILD).write_text(json.dumps(build), encoding="utf-8")
    return built


def check_query_indexes(folder: Path, *, name: str, revision: str) -> None:
    """Raise QueryIndexError where the indexes below `folder` are not of this encoder and revision: cosines would mean nothing."""
    build = _read_build(folder)
    if (build["encoder"], build["revision"]) != (name, revision):
        raise QueryIndexError(
            f"query indexes {folder}: made with {build['encoder']} {build['revision']} instead of {name} {revision}; "
            "run the step index_queries again"
        )


def open_query_index(folder: Path, category: str) -> QueryIndex:
    """Return the index of a category; an empty one where nothing of it is remembered.

    Raises:
        QueryIndexError: there are no indexes, or a file is missing, cut, or does not hold what it should.
    """
    folder = here(folder)
    if category not in _read_build(folder)["categories"]:
        return QueryIndex(np.zeros(0, dtype=object), np.zeros((0, 0), dtype=np.float32), {}, 0)
    return _load(folder / slug(category))


def write_query_index(category: str, batches: Iterator[pa.RecordBatch], folder: Path, *, encoder: Encoder, exact_up_to: int) -> BuiltIndex:
    """Write the index of one category from batches of query, embedding and memory_dates, ascending by query. Runs in a Spark worker."""
    start = time.monotonic()
    into = folder / slug(category)
    into.mkdir(parents=True, exist_ok=True)
    about = _write_rows(batches, into)
    index = QueryIndex(*_read_rows(into, about), exact_up_to)
    large = sorted((rows.size, day) for day in index.remembered if (rows := index.rows(day)).size > exact_up_to)
    candidates, recall = 0, 1.0
    if large:
        index = _with_codes(index, into)
        # The recall lies between that of the date with the fewest queries and that of the one with the most.
        candidates, recall = _tuned(index, {large[0][1], large[-1][1]}, encoder)
        if not candidates:
            (into / "codes.npy").unlink()
            (into / "quantiser.faiss").unlink()
    about |= {"category": category, "exact_up_to": exact_up_to, "candidates": candidates, "recall_at_10": recall}
    (into / "index.json").write_text(json.dumps(about), encoding="utf-8")
    _load(into)
    return BuiltIndex(len(index.queries), "approximate" if candidates else "exact", recall, time.monotonic() - start)


def _by_category(batches: Iterator[pa.RecordBatch]) -> Iterator[tuple[str, pa.RecordBatch]]:
    """Yield batches of one category each, from batches sorted by category."""
    for batch in batches:
        for category in batch.column("category").unique().to_pylist():
            yield category, batch.filter(pc.equal(batch.column("category"), category))


def _write_rows(batches: Iterator[pa.RecordBatch], into: Path) -> dict[str, Any]:
    """Write vectors.f32 and dates.npy as the batches come; return the queries, the length of a vector and the dates."""
    queries: list[str] = []
    marks: dict[int, list[NDArray[np.int64]]] = {}
    dims: set[int] = set()
    with (into / "vectors.f32").open("wb") as file:
        for batch in batches:
            embedding, dates = batch.column("embedding"), batch.column("memory_dates")
            dims |= set(np.diff(embedding.offsets.to_numpy()).tolist())
            embedding.flatten().to_numpy(zero_copy_only=False).astype(np.float32, copy=False).tofile(file)
            owners = np.repeat(np.arange(len(batch)) + len(queries), np.diff(dates.offsets.to_numpy()))
            days = dates.flatten().cast(pa.int32()).to_numpy(zero_copy_only=False)
            for day in np.unique(days).tolist():
                marks.setdefault(day, []).append(owners[days == day])
            queries += batch.column("query").to_pylist()
    if len(dims) != 1:
        raise QueryIndexError(f"{into.name}: vectors of different lengths: {sorted(dims)}")
    for one, following in pairwise(queries):
        if one >= following:
            raise QueryIndexError(f"{into.name}: {following!r} comes after {one!r}; each query must stand there once, in ascending order")
    remembered = np.zeros((len(marks), len(queries)), dtype=bool)
    for place, day in enumerate(sorted(marks)):
        remembered[place, np.concatenate(marks[day])] = True
    np.save(into / "dates.npy", np.packbits(remembered, axis=1, bitorder="little"))
    return {"queries": queries, "dim": dims.pop(), "dates": [str(_EPOCH + timedelta(days=day)) for day in sorted(marks)]}


def _with_codes(index: QueryIndex, into: Path) -> QueryIndex:
    """Write codes.npy and quantiser.faiss; return the index with them."""
    import faiss

    total, dim = index.vectors.shape
    # Two components in four bits; the scan wants an even number of codes.
    quantiser = faiss.IndexPQ(dim, dim // 2 if dim % 4 == 0 else dim, 4, faiss.METRIC_INNER_PRODUCT)
    sample = np.random.default_rng(0).choice(total, min(total, CHUNK), replace=False)
    quantiser.train(index.vectors[np.sort(sample)])
    codes = np.concatenate([quantiser.sa_encode(index.vectors[start : start + CHUNK]) for start in range(0, total, CHUNK)])
    np.save(into / "codes.npy", codes)
    faiss.write_index(quantiser, str(into / "quantiser.faiss"))
    return replace(index, codes=codes, quantiser=quantiser)


def _tuned(index: QueryIndex, dates: set[date], encoder: Encoder) -> tuple[int, float]:
    """Return how many candidates give the recall on these dates, and the least recall measured; 0 and 1.0 where only all of them would."""
    probes = [(wanted, day) for day in sorted(dates) for wanted in _probes(index, index.rows(day), encoder)]
    compared = replace(index, exact_up_to=len(index.queries))
    tenth = [compared.nearest(*probe, _AT)[1][:, -1:] for probe in probes]
    candidates = 64
    while candidates <= min(len(index.rows(day)) for day in dates) // 8:
        tried = replace(index, candidates=candidates)
        # By cosine: of equally near queries any is right.
        recalls = [(tried.nearest(*probe, _AT)[1] >= last).mean(axis=1) for probe, last in zip(probes, tenth, strict=True)]
        # The share of a sample: other queries keep the recall, too, with two standard errors to spare.
        if all(one.mean() - 2 * one.std() / len(one) ** 0.5 >= RECALL for one in recalls):
            return candidates, min(float(one.mean()) for one in recalls)
        candidates *= 2
    return 0, 1.0


def _probes(index: QueryIndex, rows: NDArray[np.int64], encoder: Encoder) -> list[NDArray[np.float32]]:
    """Return the vectors of some queries of `rows`: as they are, with a letter left out, with a word left out; each (probes, dim)."""
    rng = random.Random(0)
    chosen = sorted(rng.sample(rows.tolist(), min(len(rows), _PROBES)))
    queries = index.queries[chosen]
    return [index.vectors[chosen], *(encoder.encode([_without_one(query, split, rng) for query in queries]) for split in (list, str.split))]


def _without_one(query: str, split: Callable[[str], list[str]], rng: random.Random) -> str:
    """Return a query with one of its parts left out; one that is a single part stays."""
    parts = split(query)
    left_out = rng.randrange(len(parts))
    joined = ("" if split is list else " ").join(part for place, part in enumerate(parts) if place != left_out)
    return joined.strip() or query


def _read_build(folder: Path) -> dict[str, Any]:
    try:
        build: dict[str, Any] = json.loads((folder / _BUILD).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise QueryIndexError(f"query indexes: none under {folder}; run the step index_queries first") from None
    return build


def _read_rows(folder: Path, about: dict[str, Any]) -> tuple[NDArray[np.object_], NDArray[np.float32], dict[date, NDArray[np.uint8]]]:
    """Return queries, vectors and remembered bits of an index's folder, the arrays mapped."""
    shape = (len(about["queries"]), about["dim"])
    path = folder / "vectors.f32"
    if path.stat().st_size != 4 * shape[0] * shape[1]:
        raise ValueError(f"{path.name} has {path.stat().st_size} bytes instead of {4 * shape[0] * shape[1]}")
    vectors = np.memmap(path, dtype=np.float32, mode="r", shape=shape)
    bits = np.load(folder / "dates.npy", mmap_mode="r")
    if bits.shape != (len(about["dates"]), -(-shape[0] // 8)):
        raise ValueError(f"dates.npy has the shape {bits.shape}")
    return (
        np.array(about["queries"], dtype=object),
        vectors,
        {date.fromisoformat(day): bits[place] for place, day in enumerate(about["dates"])},
    )


def _load(folder: Path) -> QueryIndex:
    import faiss

    try:
        about = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        index = QueryIndex(*_read_rows(folder, about), about["exact_up_to"])
        _check_norms(index.vectors)
        if not about["candidates"]:
            return index
        codes = np.load(folder / "codes.npy", mmap_mode="r")
        quantiser = faiss.read_index(str(folder / "quantiser.faiss"))
        _check_codes(index.vectors, codes, quantiser)
    except (OSError, RuntimeError, ValueError, KeyError) as error:
        raise QueryIndexError(
            f"query index {folder}: cannot be read ({str(error).strip().splitlines()[0][:200]}); run the step index_queries again"
        ) from None
    return replace(index, candidates=about["candidates"], codes=codes, quantiser=quantiser)


def _check_norms(vectors: NDArray[np.float32]) -> None:
    # The first, the last and one between: a file that was cut or filled up with zeros is found without reading all of it.
    norms = np.linalg.norm(vectors[[0, len(vectors) // 2, -1]], axis=1)
    if not np.allclose(norms, 1, atol=1e-3):
        raise ValueError(f"vectors.f32 holds vectors of the lengths {norms.round(3).tolist()} instead of 1")


def _check_codes(vectors: NDArray[np.float32], codes: NDArray[np.uint8], quantiser: Any) -> None:
    if codes.shape != (len(vectors), quantiser.sa_code_size()):
        raise ValueError(f"codes.npy has the shape {codes.shape}")
    places = [0, len(vectors) // 2, len(vectors) - 1]
    # A known answer: the codes are those of these vectors. How near a code comes to its vector says nothing: a short query's may be far.
    same = (quantiser.sa_encode(np.ascontiguousarray(vectors[places])) == codes[places]).mean(axis=1)
    # A value between two centroids may go to either.
    if not (same > 0.9).all():
        raise ValueError(f"codes.npy does not fit its vectors ({same.round(2).tolist()} of the codes are theirs)")
