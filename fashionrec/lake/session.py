"""The Spark session."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pyspark
from py4j.protocol import Py4JJavaError  # type: ignore[import-untyped]
from pyspark import SparkConf, SparkContext
from pyspark.errors import PySparkException
from pyspark.sql import SparkSession

from fashionrec.errors import UserError
from fashionrec.settings import Settings, resource

_JAVA = (17, 21)


def spark_session(settings: Settings, app_name: str) -> SparkSession:
    """Return the session of this process, started if need be.

    Under spark-submit the cluster's choices (master, memory, JARs) stand; without it, Spark starts embedded in this process.

    Raises:
        UserError: Java or Delta's JARs are missing, or Spark does not start with these settings.
    """
    builder = SparkSession.builder.appName(app_name)
    embedded = "PYSPARK_GATEWAY_PORT" not in os.environ
    options = settings.spark
    starts: dict[str, str] = {}
    if embedded:
        java_version()
        if not delta_jars():
            raise UserError("Delta's JARs are not beside Spark's: run make setup (or python tools/delta_jars.py) once, with a network")
        os.environ.setdefault("PYSPARK_PYTHON", sys.executable)
        os.environ.setdefault("SPARK_CONF_DIR", str(resource("conf") / "spark"))
        starts = {"spark.master": options.master, "spark.driver.memory": options.driver_memory, **_EMBEDDED}
        if options.java_options:
            starts["spark.driver.extraJavaOptions"] = options.java_options
    try:
        for key, value in {**starts, **_ALWAYS, **_with_delta(starts)}.items():
            builder = builder.config(key, value)
        spark = builder.config("spark.sql.shuffle.partitions", str(options.shuffle_partitions)).getOrCreate()
    except (PySparkException, Py4JJavaError) as error:
        why = error.java_exception.getMessage() if isinstance(error, Py4JJavaError) else str(error)
        chosen = f" with spark.master {options.master}, driver_memory {options.driver_memory} and java_options {options.java_options!r}"
        raise UserError(f"Spark does not start{chosen if embedded else ''}: {' '.join(str(why).split())}") from None
    # Embedded, what fails is raised here and shown in one line; the JVM's copies of it would bury that line.
    spark.sparkContext.setLogLevel("FATAL" if embedded else "ERROR")
    return spark


def _with_delta(starts: Mapping[str, str]) -> dict[str, str]:
    """Return the configuration that adds Delta to the extensions and catalogues that were chosen before: by whoever started the session,
    by spark-submit, or in spark-defaults.conf. The JVM is started with `starts` if need be, for it alone knows the last.

    Raises:
        UserError: a session that stands was started without Delta's extension.
    """
    if session := SparkSession.getActiveSession():
        if _EXTENSION not in (session.conf.get("spark.sql.extensions", "") or ""):
            raise UserError(f"the session that stands lacks spark.sql.extensions={_EXTENSION}: start it with that, or stop it")
        return {} if session.conf.get(_CATALOG, None) else {_CATALOG: _DELTA_CATALOG}
    SparkContext._ensure_initialized(conf=SparkConf(loadDefaults=False).setAll(list(starts.items())))
    chosen = SparkConf()
    extensions = [name.strip() for name in (chosen.get("spark.sql.extensions") or "").split(",") if name.strip()]
    if _EXTENSION not in extensions:
        extensions.append(_EXTENSION)
    return {"spark.sql.extensions": ",".join(extensions), _CATALOG: chosen.get(_CATALOG) or _DELTA_CATALOG}


def delta_jars() -> list[Path]:
    """Return Delta's JARs beside Spark's own; empty before set-up."""
    return sorted((Path(pyspark.__file__).parent / "jars").glob("*delta-*.jar"))


def is_local(spark: SparkSession) -> bool:
    """Return whether tasks run in the driver's own process; Spark's `local-cluster` has executors of its own, as any cluster."""
    return str(spark.sparkContext.master).partition("[")[0] == "local"


def java_version() -> str:
    """Return the version of the Java that Spark will start; raise UserError where it is missing or not one that Spark 4.2 runs on."""
    home = os.environ.get("JAVA_HOME")
    java = Path(home, "bin", "java") if home else Path(shutil.which("java") or "java")
    advice = "install Java 17 (Debian: apt-get install openjdk-17-jre-headless) or set JAVA_HOME to it"
    try:
        printed = subprocess.run([str(java), "-version"], capture_output=True, text=True, check=True, timeout=60).stderr
    except (OSError, subprocess.SubprocessError):
        raise UserError(f"no Java at {java}: {advice}") from None
    version = re.search(r'version "([\d._]+)', printed)
    if not version or int(version[1].split(".")[0]) not in _JAVA:
        raise UserError(f"Java {version[1] if version else 'unknown'} at {java}, Spark needs 17 or 21: {advice}")
    return f"{version[1]} at {java}"


_EMBEDDED = {
    "spark.ui.enabled": "false",
    # Nobody sees the plans of what ended; the texts of a thousand, the default, take 100 MB.
    "spark.sql.ui.retainedExecutions": "20",
    "spark.driver.host": "127.0.0.1",
    "spark.driver.bindAddress": "127.0.0.1",
    # One Delta log is small here; 50 snapshot partitions, the default, cost more than all else (94 s became 53 s).
    "spark.databricks.delta.snapshotPartitions": "1",
}
_EXTENSION = "io.delta.sql.DeltaSparkSessionExtension"
_CATALOG, _DELTA_CATALOG = "spark.sql.catalog.spark_catalog", "org.apache.spark.sql.delta.catalog.DeltaCatalog"
_ALWAYS = {
    "spark.sql.session.timeZone": "UTC",
    # The command shows its own progress.
    "spark.ui.showConsoleProgress": "false",
    "spark.sql.execution.arrow.pyspark.enabled": "true",
    # Delta's parser drops the parameters of a query (delta-io/delta#7640) unless they are bound after it.
    "spark.sql.legacy.parameterSubstitution.constantsOnly": "true",
    # Files with nanoseconds, as pandas writes them, can be read: as numbers.
    "spark.sql.legacy.parquet.nanosAsLong": "true",
    # Tasks that list many folders; by default as many as there are folders.
    "spark.sql.sources.parallelPartitionDiscovery.parallelism": "64",
    # Longer methods are never compiled by the JVM: a plan that makes one runs at half the speed, unless Spark splits it.
    "spark.sql.codegen.hugeMethodLimit": "8000",
    # A half-read file is an error, never fewer rows.
    "spark.sql.files.ignoreCorruptFiles": "false",
    "spark.sql.files.ignoreMissingFiles": "false",
    "spark.sql.sources.partitionOverwriteMode": "static",
    # Only to tell changed rows from unchanged ones: the same entries in another order count as a change, no more.
    "spark.sql.legacy.allowHashOnMapType": "true",
}
