"""The DAGs run in Airflow's own environment: two of its jobs by a real spark-submit, the others by a stand-in that writes down its call.

All jobs run for real, in one process, in tests/pipeline/test_demo.py.
"""

import json
import os
import shlex
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from fashionrec.pipeline.registry import STEPS, WEEKLY
from fashionrec.sources.world.shop import make_world
from tests.conftest import ROOT, RUN_DATE

AIRFLOW = ROOT / ".venv-airflow" / "bin"
SPARK_SUBMIT = ROOT / ".venv" / "bin" / "spark-submit"
RECORDED = Path(__file__).with_name("spark_submits.txt")


@dataclass(frozen=True)
class Ran:
    """A run of the DAG: its exit status, what it printed, the arguments of each spark-submit in their order, the shop's folder."""

    status: int
    printed: str
    calls: list[list[str]]
    root: Path

    @property
    def jobs(self) -> list[str]:
        return [Path(part).stem for call in self.calls for part in call if Path(part).parent == ROOT / "jobs"]

    def lines(self) -> list[str]:
        """Return the calls as lines, sorted, with placeholders for folders."""
        return sorted(shlex.join(call).replace(str(self.root), "ROOT").replace(str(ROOT), "HOME") for call in self.calls)


def airflow(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(AIRFLOW / "airflow"), *arguments],
        env={
            **os.environ,
            "PATH": os.pathsep.join([str(home / "bin"), os.environ["PATH"]]),
            "PYSPARK_PYTHON": str(ROOT / ".venv" / "bin" / "python"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__CORE__DAGS_FOLDER": str(ROOT / "airflow_dags"),
            "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW_CONN_SPARK_DEFAULT": json.dumps({"conn_type": "spark", "host": "local[2]"}),
            "FASHIONREC_CONF": str(ROOT / "conf" / "test.yaml"),
            "FASHIONREC_RETRIES": "0",
            "FASHIONREC_SPARK_PROPERTIES": str(ROOT / "conf" / "spark" / "local.conf"),
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return Airflow's folder, with its database and with the stand-in as `bin/spark-submit`."""
    if not AIRFLOW.exists():
        pytest.fail("Airflow's environment is missing: make setup")
    folder = tmp_path_factory.mktemp("airflow")
    stand_in = folder / "bin" / "spark-submit"
    stand_in.parent.mkdir()
    stand_in.write_text(f"#!{sys.executable}\n" + Path(__file__).with_name("spark_submit_stand_in.py").read_text())
    stand_in.chmod(0o755)
    migrated = airflow(folder, "db", "migrate")
    assert migrated.returncode == 0, migrated.stderr[-3000:]
    return folder


def run_dag(home: Path, root: Path, *arguments: str, real: str, dag: str = "fashionrec_daily") -> Ran:
    calls = root / "calls.jsonl"
    ran = airflow(
        home,
        *("dags", "test", dag, *arguments),
        FASHIONREC_SET=f"paths.root={root} evaluate.k=20",
        STAND_IN_CALLS=str(calls),
        STAND_IN_FOR=str(SPARK_SUBMIT),
        STAND_IN_REAL=real,
    )
    return Ran(ran.returncode, ran.stdout + ran.stderr, [json.loads(line) for line in calls.read_text().splitlines()], root)


@pytest.fixture(scope="module")
def ran(home: Path, tmp_path_factory: pytest.TempPathFactory) -> Ran:
    """Return a run of a date that the trigger names, whose first job is real."""
    root = tmp_path_factory.mktemp("shop")
    make_world(root / "raw/interactions", root / "raw/catalog", end_date=RUN_DATE, days=2, user_count=3, items_per_category=5, seed=3)
    return run_dag(home, root, "2026-06-01", "--conf", json.dumps({"run_date": str(RUN_DATE)}), real="ingest_catalog")


@pytest.fixture(scope="module")
def after() -> dict[str, list[str]]:
    """Return the DAG's edges as Airflow's environment reads them."""
    code = "import json, fashionrec_daily as d; print(json.dumps({t.task_id: sorted(t.upstream_task_ids) for t in d.dag.tasks}))"
    printed = subprocess.run([str(AIRFLOW / "python"), "-c", code], cwd=ROOT / "airflow_dags", capture_output=True, text=True, check=True)
    edges: dict[str, list[str]] = json.loads(printed.stdout.splitlines()[-1])
    return edges


def before(job: str, after: dict[str, list[str]]) -> set[str]:
    """Return all jobs that come before one."""
    return {name for one in after[job] for name in {one, *before(one, after)}}


def test_the_dag_imports_without_errors(home):
    listed = airflow(home, "dags", "list-import-errors", "--local")
    assert "No data found" in listed.stdout, listed.stdout


def test_the_edges_are_those_that_the_steps_declare(after):
    writers = {name: {step.name for step in STEPS if name in step.writes} for step in STEPS for name in step.reads}
    assert set(after) == {step.name for step in STEPS}
    for step in STEPS:
        needed = {writer for name in step.reads for writer in writers[name]}
        assert set(after[step.name]) <= needed, f"{step.name}: an edge without a table"
        assert needed <= before(step.name, after), f"{step.name}: reads what may not be written yet"


def test_every_job_is_submitted_once_and_after_those_whose_tables_it_reads(ran, after):
    assert ran.status == 0, ran.printed[-6000:]
    assert sorted(ran.jobs) == sorted(step.name for step in STEPS)
    for place, job in enumerate(ran.jobs):
        assert set(after[job]) <= set(ran.jobs[:place]), job


def test_every_spark_submit_is_as_recorded(ran):
    assert ran.lines() == RECORDED.read_text().splitlines()


def test_a_job_runs_by_the_real_spark_submit_with_the_dags_properties_and_environment(ran):
    (path,) = (ran.root / "manifests" / str(RUN_DATE)).glob("*.json")
    manifest = json.loads(path.read_text())
    assert [step["step"] for step in manifest["steps"]] == ["ingest_catalog"]
    assert manifest["steps"][0]["rows_written"]["items"] > 0
    assert manifest["settings"]["evaluate"]["k"] == 20, "FASHIONREC_SET"
    assert manifest["settings"]["spark"]["shuffle_partitions"] == 2, "FASHIONREC_CONF"


def test_a_job_that_fails_fails_the_dag_and_nothing_after_it_runs_but_everything_else_does(home, after, tmp_path):
    # For real, in the middle: the stand-ins before it wrote no table. Without a named date it is that of the last whole day.
    ran = run_dag(home, tmp_path, f"{RUN_DATE.replace(day=2)}T04:00:00+00:00", real="build_sequences")
    assert ran.status != 0
    assert "error: interactions: no such table" in ran.printed
    dropped = {job for job in after if "build_sequences" in before(job, after)}
    assert dropped
    assert sorted(ran.jobs) == sorted(set(after) - dropped)
    assert {call[call.index("--run-date") + 1] for call in ran.calls} == {str(RUN_DATE)}


def test_the_weekly_dag_submits_its_jobs_one_after_the_other_for_the_named_date(home, tmp_path):
    ran = run_dag(home, tmp_path, "2026-06-07", "--conf", json.dumps({"run_date": str(RUN_DATE)}), real="", dag="fashionrec_weekly")
    assert ran.status == 0, ran.printed[-6000:]
    assert ran.jobs == [step.name for step in WEEKLY]
    assert {call[call.index("--run-date") + 1] for call in ran.calls} == {str(RUN_DATE)}
