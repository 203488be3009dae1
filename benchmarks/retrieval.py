"""How fast items are found and ranked, and in how much memory: make bench-retrieval [SCALE=0.02]. The last line is JSON.

Vectors lie around 1,000 centres; one category is as large as the paper's Clothing (Table 1: 1.4 million items). All made up. Three parts:
- The nearest 100 of 100,000 and of 1.4 million items (times SCALE) for 1,000 and 10,000 queries, in 64 and 256 dimensions: by a matrix
  product, by FAISS called directly, by an approximate index tuned to 99% of the exact answers, and by a Spark stage whose two tasks map
  the index and search as the lists are made. Direct search and stage take turns, the stage's workers being warm as within a long run.
- The step recommend of 50,000 rows (times SCALE) against the category, one row being a shopper and a category: rows per second, peak
  memory of all processes, and seconds of each part for one batch in one process on one core.
- The evaluation of 100,000 targets (times SCALE) as of 60 days against the same category: peak memory.
What would take more than two (search) or ten minutes (lists) is measured on fewer queries or rows, and said so. The JSON's figures of
search are those of the larger catalogue and the most queries, of the dimension that does worse.
"""

import argparse
import json
import math
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any

import faiss
import made_category
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from made_category import CATEGORY, CENTRES, EVENINGS, MadeUp, make_category, unit, write_requests
from pyspark.sql import SparkSession
from rich.console import Console

from fashionrec.evaluate.protocol import methods_for
from fashionrec.index_folders import slug
from fashionrec.lake.session import spark_session
from fashionrec.pipeline.usage import PeakMemory, every
from fashionrec.retrieval.arrays import Floats, Ints
from fashionrec.retrieval.candidates import SOURCES, ask, find_candidates
from fashionrec.retrieval.features import features
from fashionrec.retrieval.fusion import FUSION, WITHOUT_LLM, Fusion, Weights
from fashionrec.retrieval.indexes import load_index
from fashionrec.retrieval.lists import Retrieval, excluded, ranked_targets, served_lists
from fashionrec.retrieval.requests import read_requests
from fashionrec.retrieval.search import Allowed, nearest
from fashionrec.settings import Settings, load_settings

ITEMS, QUERIES, DIMS, K = (100_000, 1_400_000), (1_000, 10_000), (64, 256), 100
ROWS, TARGETS, NIGHTLY_ROWS = 50_000, 100_000, 450_000
AT_ONCE = 500
_TRIAL, _MOST_SECONDS = 200, 120
_MOST_LIST_SECONDS = 600
_CORES = 2
_RECALL = 0.99


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: 1.4 million items, 50,000 rows and 100,000 targets")
    options = parser.parse_args()
    console = Console(width=160, highlight=False)
    settings = load_settings()
    with tempfile.TemporaryDirectory(prefix="fashionrec-bench-", dir=os.environ.get("TMPDIR")) as root:
        figures = search_figures(Path(root), settings, options.scale, console)
        figures |= list_figures(Path(root), settings, options.scale, console)
    print(json.dumps(figures))


def search_figures(root: Path, settings: Settings, scale: float, console: Console) -> dict[str, float]:
    """Return the speeds of the stage, the matrix product and the approximate index over FAISS called directly."""
    faiss.omp_set_num_threads(_CORES)
    # FAISS multiplies few queries one by one otherwise.
    faiss.cvar.distance_compute_blas_threshold = 1
    spark = spark_session(settings, "bench-retrieval")
    cells = {}
    for items in ITEMS:
        for dim in DIMS:
            of_size = search_cells(root, spark, max(2 * K, int(items * scale)), dim, console)
            cells |= {(items, dim, queries): cell for queries, cell in of_size.items()}
    spark.stop()
    largest = [cells[ITEMS[-1], dim, QUERIES[-1]] for dim in DIMS]
    return {name: round(min(cell[name] for cell in largest), 4) for name in largest[0]}


def search_cells(root: Path, spark: SparkSession, items: int, dim: int, console: Console) -> dict[int, dict[str, float]]:
    """Return the figures of one size of an index, by number of queries."""
    rng = np.random.default_rng(dim)
    centres = unit(rng.standard_normal((CENTRES, dim), np.float32))

    def drawn(count: int) -> Floats:
        noise = unit(rng.standard_normal((count, dim), np.float32))
        return unit(centres[rng.integers(0, CENTRES, count)] + noise)

    exact = faiss.IndexFlatIP(dim)
    for start in range(0, items, 100_000):
        exact.add(drawn(min(100_000, items - start)))
    folder = root / f"{items}-{dim}"
    folder.mkdir()
    faiss.write_index(exact, str(folder / "exact.faiss"))
    matrix = faiss.rev_swig_ptr(exact.get_xb(), items * dim).reshape(items, dim)
    approximate, built = inverted_lists(matrix, exact, drawn(_TRIAL))
    cells = {}
    for count in QUERIES:
        queries = drawn(count)
        seconds, _ = timed(lambda some=queries[:_TRIAL]: exact.search(some, K))
        measured = min(count, max(_TRIAL, int(count * _MOST_SECONDS / (seconds * count / _TRIAL))))
        if measured < count:
            console.print(f"{count:,} queries would take {seconds * count / _TRIAL:,.0f} s: {measured:,} are measured instead")
        queries = queries[:measured]
        columns = {"query": pa.array(range(measured)), "vector": pa.FixedSizeListArray.from_arrays(queries.ravel(), dim)}
        pq.write_table(pa.table(columns | {"vector": columns["vector"].cast(pa.list_(pa.float32()))}), folder / "queries.parquet")
        stage(spark, folder, folder / "found")  # starts the workers
        rounds = 3 if seconds * measured / _TRIAL < 20 else 1
        took: dict[str, list[float]] = {"blas": [], "faiss": [], "approximate": [], "stage": []}
        for _ in range(rounds):
            one, (_, rows) = timed(lambda queries=queries: exact.search(queries, K))
            took["faiss"].append(one)
            took["stage"].append(timed(lambda: stage(spark, folder, folder / "found"))[0])
            one, (_, near) = timed(lambda queries=queries: approximate.search(queries, K))
            took["approximate"].append(one)
            took["blas"].append(timed(lambda queries=queries: by_matrix_product(matrix, queries))[0])
        found = pq.read_table(folder / "found").sort_by([("query", "ascending"), ("rank", "ascending")])["row"].to_numpy()
        agrees = recall(found.reshape(measured, K), rows)
        if agrees < 1 - 1e-3:
            sys.exit(f"the stage found {agrees:.4f} of what FAISS finds")
        rate = {name: measured / median(seconds) for name, seconds in took.items()}
        cells[count] = {
            "stage_over_faiss": rate["stage"] / rate["faiss"],
            "approximate_recall_at_100": recall(near, rows),
            "approximate_over_exact": rate["approximate"] / rate["faiss"],
            "blas_over_faiss": rate["blas"] / rate["faiss"],
        }
        console.print(
            f"{items:,} items of {dim}, {measured:,} queries: "
            + ", ".join(f"{name} {value:,.0f}/s" for name, value in rate.items())
            + f"; stage over FAISS {cells[count]['stage_over_faiss']:.2f}; {built}, recall@{K} {recall(near, rows):.4f}"
        )
    shutil.rmtree(folder)
    return cells


def inverted_lists(matrix: Floats, exact: Any, queries: Floats) -> tuple[Any, str]:
    """Return an IVF index, which looks at as few lists as give 99% of the exact answers, and what it is in words."""
    items, dim = matrix.shape
    lists = min(int(2 * math.sqrt(items)), items // 39)  # k-means wants 39 of each
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dim), dim, lists, faiss.METRIC_INNER_PRODUCT)
    index.cp.max_points_per_centroid = 64

    def build() -> None:
        index.train(matrix[np.random.default_rng(0).permutation(items)[: 64 * lists]])
        index.add(matrix)

    seconds, _ = timed(build)
    wanted = exact.search(queries, K)[1]
    index.nprobe = 1
    while index.nprobe < lists and recall(index.search(queries, K)[1], wanted) < _RECALL:
        index.nprobe = min(lists, math.ceil(1.5 * index.nprobe))
    return index, f"IVF of {lists:,} lists, {index.nprobe} looked at, built in {seconds:.0f} s"


def by_matrix_product(matrix: Floats, queries: Floats) -> tuple[Floats, Ints]:
    """Return cosines and rows of the nearest items, (queries, K), by NumPy's matrix product in blocks."""
    found = []
    for part in np.array_split(queries, math.ceil(len(queries) / 512)):
        cosines, rows = np.full((len(part), K), -np.inf, np.float32), np.full((len(part), K), -1, np.int64)
        for start in range(0, len(matrix), 1 << 16):
            near = part @ matrix[start : start + (1 << 16)].T
            top = np.argpartition(near, max(near.shape[1] - K, 0), axis=1)[:, -K:]
            both = np.concatenate([cosines, np.take_along_axis(near, top, axis=1)], axis=1)
            kept = np.argpartition(both, both.shape[1] - K, axis=1)[:, -K:]
            cosines = np.take_along_axis(both, kept, axis=1)
            rows = np.take_along_axis(np.concatenate([rows, top + start], axis=1), kept, axis=1)
        order = np.argsort(-cosines, axis=1)
        found.append((np.take_along_axis(cosines, order, axis=1), np.take_along_axis(rows, order, axis=1)))
    cosines, rows = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return cosines, rows


def stage(spark: SparkSession, folder: Path, into: Path) -> None:
    """Search as the lists are made, in Spark's workers, and write a row per query and item. Spark gives each task's FAISS one thread."""
    path = str(folder / "exact.faiss")

    def in_worker(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        space = faiss.read_index(path, faiss.IO_FLAG_MMAP_IFC)
        for whole in batches:
            for start in range(0, whole.num_rows, AT_ONCE):
                batch = whole.slice(start, AT_ONCE)
                queries = batch["vector"].flatten().to_numpy().reshape(batch.num_rows, space.d)
                of = np.arange(batch.num_rows)
                rows, cosines = nearest(space, queries, of, everything(space.ntotal, batch.num_rows), k=K)
                arrays = [batch["query"].take(np.repeat(of, K)), np.tile(np.arange(K), len(of)), rows.ravel(), cosines.ravel()]
                yield pa.RecordBatch.from_arrays([pa.array(array) for array in arrays], ["query", "rank", "row", "cosine"])

    queries = spark.read.parquet(str(folder / "queries.parquet")).repartition(_CORES)
    queries.mapInArrow(in_worker, "query long, rank long, row long, cosine float").write.mode("overwrite").parquet(str(into))


def everything(items: int, size: int) -> Allowed:
    """Return that all items are allowed, for a batch of so many requests."""
    nothing: Any = np.zeros(0, np.int64)
    index: Any = SimpleNamespace(item_count=items, id_place=np.arange(items), on_sale=lambda day: np.ones(items, bool))
    requests: Any = SimpleNamespace(as_of=np.zeros(size, np.int64), touched=nothing, touched_of=nothing, size=size)
    return Allowed(index, requests, nothing > 0)


def list_figures(root: Path, settings: Settings, scale: float, console: Console) -> dict[str, Any]:
    """Return the speed and memory of the lists that are mailed, and the memory of the evaluation."""
    items, rows, targets = (max(least, int(count * scale)) for count, least in ((ITEMS[-1], 2000), (ROWS, 200), (TARGETS, 200)))
    dim = settings.embeddings.dim
    seconds, _ = timed(lambda: in_own_process(make_category, root / "indexes", items, dim, settings.retrieval.attributes))
    console.print(f"{CATEGORY}: {items:,} items of {dim} dimensions, index built in {seconds:.0f} s")
    write_requests(root / "tonight", rows, evenings=1, items=items, attributes=settings.retrieval.attributes)
    write_requests(root / "evaluated", targets, evenings=EVENINGS, items=items, attributes=settings.retrieval.attributes)
    ids, titles = MadeUp(dim, 1), MadeUp(dim, 2)
    retrieval = Retrieval(
        root / "indexes",
        encode=titles,
        encode_sessions=ids.of_sessions,
        candidates=settings.retrieval.candidates,
        attributes=settings.retrieval.attributes,
        bought_again=(),
    )
    parts = {name: in_own_process(seconds_of_parts, retrieval, root / name) for name in ("tonight", "evaluated")}
    names, tonight = parts["tonight"]
    for name, (_, of_parts) in parts.items():
        shown = ", ".join(f"{part} {took:.2f}" for part, took in of_parts.items())
        console.print(f"{AT_ONCE} requests {name}, one core, seconds: {shown}")
    rng = np.random.default_rng(3)
    weights = Weights(common={name: float(rng.normal(0, 0.1)) for name in names}, categories={}, states={})
    fusion = Fusion(
        serves=FUSION,
        why="",
        mixup_m={"": 1},
        weights=dict.fromkeys((FUSION, WITHOUT_LLM), weights),
        rivals={},
        attributes=settings.retrieval.attributes,
        made_with={},
    )
    spark = spark_session(settings, "bench-retrieval")
    # Workers import the made-up vectors by name.
    spark.sparkContext.addPyFile(made_category.__file__)
    partitions = settings.spark.shuffle_partitions

    def measured(name: str, count: int, make: Callable[[Any], Any]) -> tuple[float, float]:
        """Return rows per second and peak GiB of making lists for as many rows as ten minutes allow."""
        whole = sum(parts[name][1].values()) / AT_ONCE * count / _CORES
        some = count if whole < _MOST_LIST_SECONDS else max(AT_ONCE, int(count * _MOST_LIST_SECONDS / 2 / whole))
        if some < count:
            console.print(f"{name}: {count:,} rows would take {whole:,.0f} s: {some:,} are measured instead")
        peak = PeakMemory()
        with every(0.5, peak.sample):
            requests = spark.read.parquet(str(root / name)).where(f"number < {some}")
            seconds, _ = timed(lambda: make(requests).write.parquet(str(root / f"{name}-made")))
        made = spark.read.parquet(str(root / f"{name}-made"))
        console.print(f"{name}: {some:,} rows against {items:,} items in {seconds:.0f} s, {made.count():,} made, peak {peak.gib:.2f} GiB")
        return some / seconds, peak.gib

    rate, peak = measured(
        "tonight",
        rows,
        lambda requests: served_lists(requests, retrieval, fusion, per_category=settings.recommend.per_category, partitions=partitions),
    )
    _, evaluation_peak = measured(
        "evaluated", targets, lambda requests: ranked_targets(requests, retrieval, fusion, methods_for(FUSION), partitions=partitions)
    )
    hours = NIGHTLY_ROWS / rate / 3600
    console.print(f"{rate:,.1f} rows/s: {NIGHTLY_ROWS:,} rows against {items:,} items take {hours:.1f} hours on {_CORES} cores")
    spark.stop()
    return {
        "rows_per_second": round(rate, 2),
        "peak_gib": round(peak, 2),
        "hours_for_450000_rows": round(hours, 2),
        "evaluation_peak_gib": round(evaluation_peak, 2),
        "seconds_by_source": {name: round(took, 3) for name, took in tonight.items()},
    }


def seconds_of_parts(retrieval: Retrieval, requests: Path) -> tuple[list[str], dict[str, float]]:
    """Return the names of the features, and the seconds of each source and of what else is done for one batch of requests."""
    table = pa.concat_tables([pq.read_table(path) for path in sorted(requests.iterdir())]).sort_by(
        [("as_of", "ascending"), ("number", "ascending")]
    )
    batch = table.combine_chunks().to_batches()[0].slice(0, AT_ONCE)
    index = load_index(retrieval.folder / slug(CATEGORY))
    index.ids.search(index.ids.reconstruct_n(0, 1), 1)  # brings the files into memory
    index.title.search(index.title.reconstruct_n(0, 1), 1)
    took: dict[str, float] = {}
    took["requests"], read = timed(lambda: read_requests(batch, index))
    barred = excluded(read, index, bought_again=False)
    took["vectors"], asked = timed(
        lambda: ask(index, read, excluded=barred, encode=retrieval.encode, encode_sessions=retrieval.encode_sessions)
    )
    for name, source in SOURCES.items():
        took[name], _ = timed(lambda find=source.find: find(asked, retrieval.candidates))
    whole, candidates = timed(lambda: find_candidates(asked, k=retrieval.candidates))
    took["union"] = max(whole - sum(took[name] for name in SOURCES), 0.0)
    took["features"], (names, _, _) = timed(lambda: features(asked, candidates, retrieval.attributes))
    scale = AT_ONCE / batch.num_rows
    return names, {name: scale * seconds for name, seconds in took.items()}


def in_own_process(act: Callable[..., Any], *arguments: Any) -> Any:
    """Return what `act` gives in a process of its own on one core, as a Spark task has one: its memory ends with it."""
    before = os.environ.get("OMP_NUM_THREADS")
    os.environ["OMP_NUM_THREADS"] = "1"
    try:
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
            return pool.submit(act, *arguments).result()
    finally:
        os.environ.pop("OMP_NUM_THREADS")
        os.environ.update({"OMP_NUM_THREADS": before} if before else {})


def timed(act: Callable[[], Any]) -> tuple[float, Any]:
    start = time.monotonic()
    found = act()
    return time.monotonic() - start, found


def recall(found: Ints, wanted: Ints) -> float:
    return sum(len(np.intersect1d(*pair)) for pair in zip(found, wanted, strict=True)) / wanted.size


if __name__ == "__main__":
    main()
