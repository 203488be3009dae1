"""The weekly upkeep of the tables: one spark-submit per job, one after the other. Imports nothing of fashionrec."""

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

RUNBOOK = """
### What it does
`expire_tables` removes what has outlived its days: rows past their table's retention, data files that no version of the last
`maintenance.vacuum_hours` names, old indexes, what killed runs staged, models that were never registered. `optimise_tables`
writes the small files of earlier days together. Both name and count all of it in their logs and in the manifest.

### When a task fails
Nobody is hurt: readers see the same rows, and clearing the task does what is left. A task that met a daily run ends in a line that
says so; clear it when that run has ended. A table that is outdated is named: `fashionrec tables migrate`.

### What would go
`fashionrec tables expire --dry-run --run-date 2026-03-01`, and the same with `optimise`.
"""

HOME = os.environ.get("FASHIONREC_HOME", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONF = os.environ.get("FASHIONREC_CONF", f"{HOME}/conf/prod.yaml")
SPARK_PROPERTIES = os.environ.get("FASHIONREC_SPARK_PROPERTIES", f"{HOME}/conf/spark/prod.conf")
OVERRIDES = os.environ.get("FASHIONREC_SET", "").split()

# The day on which it runs, unless a trigger names another: days are kept as long as the specifications say, counted from it.
RUN_DATE = "{{ (dag_run.conf or {}).get('run_date') or (data_interval_end | ds) }}"

with DAG(
    dag_id="fashionrec_weekly",
    # Sunday noon: the daily run, which begins at four, has ended.
    schedule=CronDataIntervalTimetable("0 12 * * 0", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": int(os.environ.get("FASHIONREC_RETRIES", "1")), "retry_delay": timedelta(minutes=30)},
    doc_md=RUNBOOK,
    tags=["fashionrec"],
) as dag:
    expire, optimise = (
        SparkSubmitOperator(
            task_id=job,
            application=f"{HOME}/jobs/{job}.py",
            application_args=["--run-date", RUN_DATE, "--conf", CONF, *(part for one in OVERRIDES for part in ("--set", one))],
            properties_file=SPARK_PROPERTIES,
            name=f"fashionrec-{job}",
        )
        for job in ("expire_tables", "optimise_tables")
    )
    expire >> optimise
