"""What others chose for the session stands beside what Delta needs."""

import os
import subprocess
import sys

from tests.conftest import ROOT

SCRIPT = """
from fashionrec.lake.session import spark_session
from fashionrec.settings import load_settings

spark = spark_session(load_settings("conf/test.yaml"), "test")
for key in ("spark.sql.extensions", "spark.sql.catalog.spark_catalog", "spark.sql.catalog.main"):
    print(key, spark.conf.get(key))
spark.range(1).write.format("delta").save(__file__ + ".table")
"""


def test_extensions_and_catalogues_of_spark_defaults_are_added_to(tmp_path):
    chosen = {"spark.sql.extensions": "org.example.Extensions", "spark.sql.catalog.main": "org.example.Catalog"}
    (tmp_path / "spark-defaults.conf").write_text("".join(f"{key} {value}\n" for key, value in chosen.items()))
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    environment = {**os.environ, "SPARK_CONF_DIR": str(tmp_path), "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, str(script)], env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert dict(line.split(" ") for line in done.stdout.splitlines() if line.startswith("spark.")) == {
        "spark.sql.extensions": "org.example.Extensions,io.delta.sql.DeltaSparkSessionExtension",
        "spark.sql.catalog.spark_catalog": "org.apache.spark.sql.delta.catalog.DeltaCatalog",
        "spark.sql.catalog.main": "org.example.Catalog",
    }
    assert (tmp_path / "script.py.table" / "_delta_log").is_dir()
