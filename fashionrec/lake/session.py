"""The Spark session."""

import os
import sys

from pyspark.sql import SparkSession

from fashionrec.settings import Settings


def spark_session(settings: Settings, app_name: str) -> SparkSession:
    """Return the session of this process, started if need be.

    Under spark-submit the cluster's choices (master, memory, JARs) stand; without it, Spark starts embedded in this process.
    """
    builder = SparkSession.builder.appName(app_name)
    if "PYSPARK_GATEWAY_PORT" not in os.environ:
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        builder = builder.master(settings.spark.master).config("spark.driver.memory", settings.spark.driver_memory)
        for key, value in _EMBEDDED.items():
            builder = builder.config(key, value)
    for key, value in _ALWAYS.items():
        builder = builder.config(key, value)
    builder = builder.config("spark.sql.shuffle.partitions", str(settings.spark.shuffle_partitions))
    spark = builder.getOrCreate()
    spark.sparkContext.setLogLevel("ERROR")
    return spark


_EMBEDDED = {
    "spark.ui.enabled": "false",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # One Delta log is small here; 50 snapshot partitions, the default, cost more than all else (94 s became 53 s).
    "spark.databricks.delta.snapshotPartitions": "1",
}
_ALWAYS = {
    "spark.sql.extensions": "io.delta.sql.DeltaSparkSessionExtension",
    "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
    "spark.sql.session.timeZone": "UTC",
    # The command shows its own progress.
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # A half-read file is an error, never fewer rows.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.sources.partitionOverwriteMode": "static",
}
