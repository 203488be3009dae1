"""From ingestion to the campaign feed on an HDFS cluster, with tables by name; its data steps with tables by path, too."""

import io
import json
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

import pyspark
import pytest
from pyspark.sql import functions as f
from rich.console import Console

from fashionrec.lake import storage
from fashionrec.pipeline.registry import select_steps
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.steps import fusion, llm
from fashionrec.sources.world.shop import make_world
from tests.builders import workspace_in
from tests.conftest import RUN_DATE, TINY
from tools.delta_jars import minicluster_jar

SMALL = (*TINY, "embeddings.dim=16", "embeddings.core.epochs=1", "spark.shuffle_partitions=2")
REPORTING = "analyze_characteristics,evaluate,monitor"
NAMED = "lake.catalog=spark_catalog.elsewhere"


@pytest.fixture(scope="module")
def hdfs(tmp_path_factory):
    """Return the URI of a running cluster of one name node and one data node, in a process of its own."""
    if not minicluster_jar().exists():
        pytest.skip(f"no HDFS cluster at {minicluster_jar()}: make setup fetches it")
    folder = tmp_path_factory.mktemp("hdfs")
    conf, jars = folder / "conf.xml", Path(pyspark.__file__).parent / "jars"
    java = Path(os.environ.get("JAVA_HOME", "/usr"), "bin", "java")
    command = [str(java), "-Xmx300m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-cp", f"{minicluster_jar()}:{jars}/*"]
    command += ["org.apache.hadoop.mapreduce.MiniHadoopClusterManager", "-nomr", "-format", "-nnport", "0", "-datanodes", "1"]
    command += ["-writeConfig", str(conf), "-D", f"hdfs.minidfs.basedir={folder}/nodes"]
    with (folder / "log").open("w") as log, subprocess.Popen(command, stdout=log, stderr=log, cwd=folder) as process:
        try:
            deadline = time.monotonic() + 300
            while not (conf.exists() and (found := re.search(r"<name>fs.defaultFS</name><value>(hdfs://[^<]+)", conf.read_text()))):
                assert process.poll() is None, (folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, "the cluster did not start"
                time.sleep(0.2)
            yield found[1]
        finally:
            process.kill()


def answered_by(run, model, prompts):
    """Answer each prompt with the purchase that is to be predicted, in place of an engine."""
    assert (model.folder / "weights").read_text() == "none"
    kept = ("example_id", "user_id", "category", "split", "target_item_id")
    answer = {
        "answer": "x",
        "item_id": "x",
        "title": "dress",
        "finish_reason": "stop",
        "fingerprint": "x",
        "model_version": model.label,
    }
    rows = prompts.select(*kept, *(f.lit(value).alias(name) for name, value in answer.items()), f.lit(-1.0).alias("log_prob"))
    return rows.withColumns({"item_id": f.coalesce("target_item_id", "item_id"), "parse_error": f.lit(None).cast("string")})


@pytest.fixture(scope="module")
def shop(spark, hdfs, tmp_path_factory):
    """Return what opens the workspace of a shop whose every file lies on the cluster, after a run of all steps up to the feed."""
    folder = tmp_path_factory.mktemp("shop")
    raw = folder / "raw"
    make_world(raw / "interactions", raw / "catalog", end_date=RUN_DATE, days=20, user_count=20, items_per_category=30, seed=1)
    root = f"{hdfs}/shop"

    def workspace(*overrides):
        return workspace_in(root, spark, *SMALL, f"mlflow.tracking_uri=sqlite:///{folder}/mlflow.db", *overrides)

    jvm, session = spark._jvm, lambda: spark
    storage.make_folder(session, root)
    path = jvm.org.apache.hadoop.fs.Path(root)
    path.getFileSystem(spark._jsc.hadoopConfiguration()).copyFromLocalFile(jvm.org.apache.hadoop.fs.Path(f"file://{raw}"), path)
    shutil.rmtree(raw)
    spark.sql(f"CREATE SCHEMA elsewhere LOCATION '{workspace().path('lake')}_named'")
    models = workspace().models
    made = models.new_folder("llm", "first")
    (made / "weights").write_text("none")
    models.register("llm", made, {}, {"loss_after": 1.0}, {}, trained_for=RUN_DATE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for module in (llm, fusion):
            patch.setattr(module, "answered_by", answered_by)
        workspace.run = lambda opened, only, skip="": run_steps(opened, select_steps(only, skip), Console(file=io.StringIO()))
        workspace.manifest = workspace.run(workspace(NAMED), "", f"train_llm,{REPORTING}")
        yield workspace
    spark.sql("DROP SCHEMA elsewhere CASCADE")
    assert [path.name for path in folder.iterdir()] == ["mlflow.db"], "nothing was written beside the cluster"


def listed(spark, place):
    path = spark._jvm.org.apache.hadoop.fs.Path(place)
    return sorted(one.getPath().getName() for one in path.getFileSystem(spark._jsc.hadoopConfiguration()).listStatus(path))


def test_the_feed_is_made_and_everything_lies_on_the_cluster(spark, shop):
    workspace, manifest = shop(NAMED), shop.manifest
    assert workspace.read("campaign_feed").count() > 10
    assert {row.tableName for row in spark.sql("SHOW TABLES IN elsewhere").collect()} >= {
        "interactions",
        "recommendations",
        "campaign_feed",
    }
    assert "campaign_feed" in listed(spark, f"{workspace.path('lake')}_named")
    kept = storage.read_text(workspace.session, workspace.path("manifests", str(RUN_DATE), f"{manifest['run_id']}.json"))
    assert json.loads(kept)["steps"] == manifest["steps"]
    pages = listed(spark, workspace.path("reports", str(RUN_DATE)))
    assert pages == ["embeddings.html", "quality", "quality.html"]
    page = storage.read_text(workspace.session, workspace.path("reports", str(RUN_DATE), "quality.html"))
    assert "campaign_feed" in page
    assert "interactions" in page
    assert "synthetic" in page
    assert listed(spark, workspace.path("lake", "_staging")) == []
    assert not storage.scratch(manifest["run_id"]).exists()


def test_the_same_day_by_path_has_the_same_sequences(shop):
    pathed = shop()
    shop.run(pathed, "ingest_catalog,ingest_interactions,build_sequences")
    rows = [sorted(map(str, one.read("sequences").collect())) for one in (shop(NAMED), pathed)]
    assert rows[0] == rows[1]
    assert rows[0]
