"""The table `query_vectors`: each query's vector is computed once per revision of an encoder, on the day the query is first met."""

from collections.abc import Iterator
from datetime import date

import numpy as np
import pyarrow as pa
from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.encoders.text import Encoder


def missing_queries(queries: DataFrame, vectors: DataFrame, *, name: str, revision: str, run_date: date) -> DataFrame:
    """Return the distinct `query` that have no vector of this encoder and revision from a day before `run_date`.

    Vectors of the run date and later do not count: running a day again computes the same rows again, which then replace themselves.
    """
    known = _of(vectors, name, revision).where(f.col("run_date") < f.lit(run_date))
    return queries.select("query").distinct().join(known.select("query"), "query", "left_anti")


def embed_queries(queries: DataFrame, *, encoder: Encoder, partitions: int) -> DataFrame:
    """Return encoder, revision, query and embedding (array of float, L2-normalised) for each row of `queries`.

    The model is loaded once per Python worker. A second run with as many `partitions` makes the same batches and gives the same vectors, to
    the last bit.
    """

    def embed(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        for batch in batches:
            vectors = encoder.encode(batch.column("query").to_pylist())
            starts = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
            embedding = pa.ListArray.from_arrays(starts, vectors.ravel())
            yield pa.RecordBatch.from_arrays([batch.column("query"), embedding], names=["query", "embedding"])

    # Hashed to a fixed number of partitions and sorted: other batches would have other last digits. Without a number, adaptive execution
    # would put a few megabytes of queries, hours of a model's work, into one partition.
    spread = queries.select("query").repartition(partitions, "query").sortWithinPartitions("query")
    embedded = spread.mapInArrow(embed, "query string, embedding array<float>")
    return embedded.select(f.lit(encoder.name).alias("encoder"), f.lit(encoder.revision).alias("revision"), "query", "embedding")


def current_vectors(vectors: DataFrame, *, name: str, revision: str) -> DataFrame:
    """Return query and embedding of this encoder and revision, one row per query: two backfills may both have met it first."""
    return _of(vectors, name, revision).groupBy("query").agg(f.min_by("embedding", "run_date").alias("embedding"))


def _of(vectors: DataFrame, name: str, revision: str) -> DataFrame:
    return vectors.where((f.col("encoder") == name) & (f.col("revision") == revision))
