"""Jobs run by plain spark-submit, one after the other, as on a data platform."""

import json
import os
import subprocess

from fashionrec.sources.world.shop import make_world
from tests.conftest import ROOT, RUN_DATE

CHAIN = (
    "ingest_catalog",
    "ingest_interactions",
    "build_sequences",
    "build_query_products",
    "index_queries",
    "look_up_queries",
    "build_prompts",
)


def test_the_data_jobs_run_as_a_chain_without_torch(tmp_path):
    make_world(
        tmp_path / "raw/interactions", tmp_path / "raw/catalog", end_date=RUN_DATE, days=10, user_count=20, items_per_category=30, seed=5
    )
    bin_folder = ROOT / ".venv" / "bin"
    for job in CHAIN:
        ran = subprocess.run(
            [
                *(str(bin_folder / "spark-submit"), "--properties-file", str(ROOT / "conf/spark/local.conf")),
                *(str(ROOT / "jobs" / f"{job}.py"), "--run-date", str(RUN_DATE), "--conf", str(ROOT / "conf/test.yaml")),
                *("--set", f"paths.root={tmp_path}", "--set", "ingest.lookback_days=10"),
            ],
            env={**os.environ, "PATH": f"{bin_folder}:{os.environ['PATH']}", "PYSPARK_PYTHON": str(bin_folder / "python")},
            capture_output=True,
            text=True,
            check=False,
        )
        assert ran.returncode == 0, f"{job}: {ran.stdout[-2000:]}{ran.stderr[-2000:]}"
        assert "settings " in ran.stdout
    manifests = [json.loads(path.read_text()) for path in (tmp_path / "manifests" / str(RUN_DATE)).glob("*.json")]
    assert sorted(step["step"] for one in manifests for step in one["steps"]) == sorted(CHAIN)
    prompts = next(step for one in manifests for step in one["steps"] if step["step"] == "build_prompts")
    assert prompts["rows_written"]["prompts"] > 0
