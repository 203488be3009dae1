"""Put Delta's two JARs beside Spark's own, so that no start of Spark needs the network: a part of `make setup`.

`--packages` would bring 33 JARs (87 MB); these two (9.6 MB) hold all that is used here.
"""

import shutil
import sys
import tempfile
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from fashionrec.lake.session import delta_jars

PACKAGES = ("io.delta:delta-spark_4.2_2.13:4.4.0", "io.delta:delta-storage:4.4.0")


def install() -> None:
    """Resolve the JARs through Spark's own Ivy and copy them beside Spark's."""
    if len(delta_jars()) == len(PACKAGES):
        return
    with tempfile.TemporaryDirectory() as ivy:
        builder = SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").config("spark.jars.ivy", ivy)
        builder = builder.config("spark.jars.packages", ",".join(PACKAGES)).config("spark.jars.excludes", ",".join(_EXCLUDES))
        builder.getOrCreate().stop()
        for jar in Path(ivy, "jars").glob("io.delta_*.jar"):
            shutil.copy(jar, Path(pyspark.__file__).parent / "jars" / jar.name.removeprefix("io.delta_"))
    if len(delta_jars()) != len(PACKAGES):
        sys.exit(f"set-up: Delta's JARs {', '.join(PACKAGES)} could not be resolved; Spark's messages above say why")


# What delta-spark declares and Spark already has, or Delta's server client, which is not used here.
_EXCLUDES = (
    "io.delta:delta-kernel*",
    "io.unitycatalog:*",
    "org.antlr:*",
    "com.fasterxml.jackson.core:*",
    "org.apache.spark:*",
    "org.scala-lang:*",
)

if __name__ == "__main__":
    install()
