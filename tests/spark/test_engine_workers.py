"""An engine leaves its process with other threads than it found, so nothing else runs there."""

import os

import pyarrow as pa

from fashionrec.llm import generate


def test_what_an_engine_ran_in_serves_nothing_else(spark):
    def pids(batches):
        for _ in batches:
            yield pa.RecordBatch.from_pydict({"pid": [os.getpid()]})

    def run():
        return spark.range(4, numPartitions=2).mapInArrow(pids, "pid long")

    with generate._workers_of_their_own(spark):
        engines = run()
    met = [{row.pid for row in frame.collect()} for frame in (engines, run(), engines)]
    assert all(met)
    assert not met[1] & (met[0] | met[2])
