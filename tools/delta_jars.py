"""Put Delta's two JARs beside Spark's own, so that no start of Spark needs the network: a part of `make setup`.

`--packages` would bring 33 JARs (87 MB); these two (9.6 MB) hold all that is used here. With the argument `tests`, a JAR of 56 MB is put
where only the tests find it: Hadoop's small HDFS cluster, of the version among Spark's JARs.
"""

import hashlib
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from fashionrec.lake.session import delta_jars

PACKAGES = ("io.delta:delta-spark_4.2_2.13:4.4.0", "io.delta:delta-storage:4.4.0")
MINICLUSTER = "org.apache.hadoop:hadoop-client-minicluster:3.5.0"
_SHA256 = "06772d24529e59939915979b3edba204d367750ef7dc5120411f35221dd4818c"


def install() -> None:
    """Copy Delta's JARs beside Spark's."""
    if len(delta_jars()) == len(PACKAGES):
        return
    with resolved(PACKAGES) as jars:
        for jar in jars:
            shutil.copy(jar, Path(pyspark.__file__).parent / "jars" / jar.name.removeprefix("io.delta_"))
    if len(delta_jars()) != len(PACKAGES):
        sys.exit(f"set-up: Delta's JARs {', '.join(PACKAGES)} could not be resolved; Spark's messages above say why")


def install_minicluster() -> None:
    """Copy the JAR of the tests' HDFS cluster to where they look for it."""
    if minicluster_jar().exists():
        return
    with resolved((MINICLUSTER,)) as (jar,):
        if hashlib.sha256(jar.read_bytes()).hexdigest() != _SHA256:
            sys.exit(f"set-up: {jar.name} is not the file that is expected (SHA-256 {_SHA256})")
        minicluster_jar().parent.mkdir(exist_ok=True)
        shutil.copy(jar, minicluster_jar())


@contextmanager
def resolved(packages: Sequence[str]) -> Iterator[list[Path]]:
    """Give the JARs of packages, without what they depend on, as Spark's own Ivy resolves them; once per process."""
    with tempfile.TemporaryDirectory() as ivy:
        builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.jars.ivy", ivy)
        builder = builder.config("spark.jars.packages", ",".join(packages)).config("spark.jars.excludes", ",".join(_EXCLUDES))
        builder.getOrCreate().stop()
        yield sorted(Path(ivy, "jars").glob("*.jar"))


def minicluster_jar() -> Path:
    """Return where the JAR of the tests' HDFS cluster lies: in this environment, not beside Spark's."""
    return Path(sys.prefix) / "test-jars" / f"hadoop-client-minicluster-{MINICLUSTER.rpartition(':')[2]}.jar"


# What these declare and Spark already has, or Delta's server client, which is not used here.
_EXCLUDES = (
    "io.delta:delta-kernel*",
    "io.unitycatalog:*",
    "org.antlr:*",
    "com.fasterxml.jackson.core:*",
    "org.apache.spark:*",
    "org.scala-lang:*",
    "org.apache.hadoop:hadoop-client-api",
    "org.apache.hadoop:hadoop-client-runtime",
    "org.xerial.snappy:*",
)

if __name__ == "__main__":
    install_minicluster() if "tests" in sys.argv[1:] else install()
