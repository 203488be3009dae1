"""The DAG runs for real, in Airflow's own environment, each task by spark-submit."""

import json
import os
import subprocess
from pathlib import Path

import pytest

from fashionrec.pipeline.registry import STEPS
from fashionrec.sources.world.shop import make_world
from tests.conftest import ROOT, RUN_DATE, TINY

# Two engines do not fit on one GPU.
SAME_DEVICE = {"promote_llm": {"generate"}}
AIRFLOW = ROOT / ".venv-airflow" / "bin"


def airflow(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join([str(ROOT / ".venv" / "bin"), os.environ["PATH"]])
    return subprocess.run(
        [str(AIRFLOW / "airflow"), *arguments],
        env={
            **os.environ,
            "PATH": path,
            "PYSPARK_PYTHON": str(ROOT / ".venv" / "bin" / "python"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
            "FASHIONREC_CONF": str(ROOT / "conf" / "test.yaml"),
            "FASHIONREC_RETRIES": "0",
            "FASHIONREC_SPARK_PROPERTIES": str(ROOT / "conf" / "spark" / "local.conf"),
            "FASHIONREC_TRAINING_PROPERTIES": str(ROOT / "conf" / "spark" / "local.conf"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not AIRFLOW.exists():
        pytest.fail("Airflow's environment is missing: make setup")
    folder = tmp_path_factory.mktemp("airflow")
    migrated = airflow(folder, "db", "migrate")
    assert migrated.returncode == 0, migrated.stderr[-3000:]
    return folder


def test_the_dag_imports_without_errors(home):
    listed = airflow(home, "dags", "list-import-errors", "--local")
    assert "No data found" in listed.stdout, listed.stdout


def test_the_edges_are_those_that_the_steps_declare():
    code = "import json, fashionrec_daily as d; print(json.dumps(d.AFTER))"
    told = subprocess.run([str(AIRFLOW / "python"), "-c", code], cwd=ROOT / "airflow_dags", capture_output=True, text=True, check=True)
    after = json.loads(told.stdout.splitlines()[-1])
    writers = {name: {step.name for step in STEPS if name in step.writes} for step in STEPS for name in step.reads}
    assert set(after) == {step.name for step in STEPS}

    def all_before(job: str) -> set[str]:
        return {name for one in after[job] for name in {one, *all_before(one)}}

    for step in STEPS:
        needed = {writer for name in step.reads for writer in writers[name]}
        assert set(after[step.name]) <= needed | SAME_DEVICE.get(step.name, set()), f"{step.name}: an edge without a table"
        assert needed <= all_before(step.name), f"{step.name}: reads what may not be written yet"


@pytest.mark.timeout(1500)
def test_the_dag_runs_every_job_by_spark_submit_on_a_small_world(home, tmp_path):
    root = tmp_path / "shop"
    make_world(root / "raw/interactions", root / "raw/catalog", end_date=RUN_DATE, days=20, user_count=30, items_per_category=40, seed=3)
    ran = airflow(
        home,
        *("dags", "test", "fashionrec_daily", str(RUN_DATE), "--conf", json.dumps({"run_date": str(RUN_DATE)})),
        FASHIONREC_SET=" ".join([f"paths.root={root}", *TINY]),
    )
    tail = (ran.stdout + ran.stderr)[-6000:]
    assert ran.returncode == 0, tail
    steps = [json.loads(path.read_text())["steps"] for path in (root / "manifests" / str(RUN_DATE)).glob("*.json")]
    assert sorted(one["step"] for manifest in steps for one in manifest) == sorted(step.name for step in STEPS), tail
    rows = {table: count for manifest in steps for one in manifest for table, count in one["rows_written"].items()}
    assert rows["recommendations"] > 0
    assert rows["campaign_feed"] > 0


def test_a_failing_job_fails_the_dag(home, tmp_path):
    ran = airflow(
        home,
        *("dags", "test", "fashionrec_daily", str(RUN_DATE), "--conf", json.dumps({"run_date": str(RUN_DATE)})),
        FASHIONREC_SET=f"paths.root={tmp_path / 'nothing'}",
    )
    assert ran.returncode != 0
    assert "error: " in ran.stdout + ran.stderr
