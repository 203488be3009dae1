"""Jobs run by plain spark-submit, as on a data platform, where no library of models can be imported."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from fashionrec.sources.world.shop import make_world
from tests.conftest import ROOT, RUN_DATE

ALONE = "ingest_catalog"
TOGETHER = ("ingest_interactions", "build_sequences", "build_query_products", "index_queries", "look_up_queries", "build_prompts")
# Whose import fails, in the driver and in Python workers.
BLOCKED = ("torch", "vllm", "transformers", "peft", "sentence_transformers")
BIN = ROOT / ".venv" / "bin"


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a machine without the libraries of models."""
    stubs = tmp_path_factory.mktemp("blocked")
    for name in BLOCKED:
        (stubs / f"{name}.py").write_text(f"raise ImportError('{name} is blocked')\n")
    path = os.pathsep.join(filter(None, (str(stubs), os.environ.get("PYTHONPATH", ""))))
    return {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "PYSPARK_PYTHON": str(BIN / "python"), "PYTHONPATH": path}


def submit(environment: dict[str, str], root: Path, script: Path, *arguments: str) -> str:
    """Run a script by spark-submit and return what it printed."""
    ran = subprocess.run(
        [
            *(str(BIN / "spark-submit"), "--properties-file", str(ROOT / "conf/spark/local.conf"), str(script), *arguments),
            *("--run-date", str(RUN_DATE), "--conf", str(ROOT / "conf/test.yaml")),
            *("--set", f"paths.root={root}"),
        ],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, f"{script}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
    return ran.stdout


@pytest.mark.parametrize("name", BLOCKED)
def test_no_library_of_models_can_be_imported_here(environment, name):
    ran = subprocess.run([sys.executable, "-c", f"import {name}"], env=environment, capture_output=True, text=True, check=False)
    assert f"ImportError: {name} is blocked" in ran.stderr


def test_the_data_jobs_run_as_a_chain_without_torch(environment, tmp_path):
    make_world(
        tmp_path / "raw/interactions", tmp_path / "raw/catalog", end_date=RUN_DATE, days=10, user_count=20, items_per_category=30, seed=5
    )
    printed = submit(environment, tmp_path, ROOT / "jobs" / f"{ALONE}.py")
    assert printed.count("settings ") == 1
    printed = submit(environment, tmp_path, ROOT / "tests/pipeline/jobs_in_one_session.py", ",".join(TOGETHER))
    assert printed.count("settings ") == len(TOGETHER)
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "manifests" / str(RUN_DATE)).glob("*.json")]
    assert sorted(step["step"] for one in manifests for step in one["steps"]) == sorted([ALONE, *TOGETHER])
    prompts = next(step for one in manifests for step in one["steps"] if step["step"] == "build_prompts")
    assert prompts["rows_written"]["prompts"] > 0
