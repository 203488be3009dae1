"""The daily run: one spark-submit per job, in the order in which the tables need each other. Imports nothing of fashionrec."""

import os
from datetime import UTC, datetime, timedelta

from airflow.providers.apache.spark.operators.spark_submit import SparkSubmitOperator
from airflow.sdk import DAG
from airflow.timetables.interval import CronDataIntervalTimetable

RUNBOOK = """
### What it makes
The tables of one date, from raw logs to `recommendations` and `campaign_feed`, which e-mail campaigns read every morning.

### When a task fails
Its log ends in one line that starts with `error:` and says what to do. Tables are as they were: a job publishes its day whole
or not at all, so clearing the task (and what comes after it) is always safe.

| task | whom it hurts | first look |
|---|---|---|
| `ingest_*` | everybody downstream; yesterday's feed stays | are the raw folder and the pseudonyms' key there? what is in `quarantine`? |
| `build_*`, `index_queries`, `look_up_queries` | today's prompts | the table and column that the error names |
| `train_*` | nobody today: the release of before stays | the loss in the log, the GPU's memory |
| `promote_release` | nobody: the release of before stays | `fashionrec release list`, the engine's line in the log |
| `generate` | today's recommendations | is the GPU held by another job? |
| `recommend`, `publish_campaign` | today's e-mails; yesterday's rows expire | the gate's line in the log |
| `evaluate`, `analyze_characteristics`, `monitor` | nobody today; no report | the table that the error names |

What each gate found stands in the date's `reports/DATE/quality.html`, also where it refused the day.

### Another date by hand
`airflow dags trigger fashionrec_daily --conf '{"run_date": "2026-03-01"}'`
"""

HOME = os.environ.get("FASHIONREC_HOME", os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
CONF = os.environ.get("FASHIONREC_CONF", f"{HOME}/conf/prod.yaml")
SPARK_PROPERTIES = os.environ.get("FASHIONREC_SPARK_PROPERTIES", f"{HOME}/conf/spark/prod.conf")
# Training wants executors of its own: one with a GPU for each rank, all at once.
TRAINING_PROPERTIES = os.environ.get("FASHIONREC_TRAINING_PROPERTIES", f"{HOME}/conf/spark/train.conf")
# More settings for every job, e.g. "paths.root=/mnt/shop evaluate.k=20".
OVERRIDES = os.environ.get("FASHIONREC_SET", "").split()

# The date whose logs are complete: the start of the interval, unless a trigger names another.
RUN_DATE = "{{ (dag_run.conf or {}).get('run_date') or (data_interval_start | ds) }}"

# Each job and the jobs whose tables it reads.
AFTER = {
    "ingest_catalog": [],
    "ingest_interactions": ["ingest_catalog"],
    "build_sequences": ["ingest_interactions", "ingest_catalog"],
    "build_query_products": ["ingest_interactions", "ingest_catalog"],
    "index_queries": ["build_sequences", "build_query_products"],
    "look_up_queries": ["ingest_catalog", "build_sequences", "build_query_products", "index_queries"],
    "build_prompts": ["build_sequences", "look_up_queries"],
    "train_llm": ["build_prompts"],
    "train_embeddings": ["ingest_catalog", "build_sequences"],
    "train_fusion": ["build_prompts", "look_up_queries", "train_llm", "train_embeddings"],
    "promote_release": ["train_fusion"],
    "generate": ["build_prompts", "promote_release"],
    "build_indexes": ["ingest_interactions", "ingest_catalog", "promote_release"],
    "recommend": ["build_sequences", "look_up_queries", "generate", "build_indexes", "promote_release"],
    "publish_campaign": ["ingest_interactions", "ingest_catalog", "recommend"],
    "evaluate": ["build_prompts", "build_sequences", "look_up_queries", "generate", "promote_release"],
    "analyze_characteristics": ["ingest_interactions", "ingest_catalog"],
    "monitor": ["recommend", "publish_campaign", "evaluate", "analyze_characteristics"],
}

with DAG(
    dag_id="fashionrec_daily",
    schedule=CronDataIntervalTimetable("0 4 * * *", timezone="UTC"),
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": int(os.environ.get("FASHIONREC_RETRIES", "1")), "retry_delay": timedelta(minutes=5)},
    doc_md=RUNBOOK,
    tags=["fashionrec"],
) as dag:
    tasks = {
        job: SparkSubmitOperator(
            task_id=job,
            application=f"{HOME}/jobs/{job}.py",
            application_args=["--run-date", RUN_DATE, "--conf", CONF, *(part for one in OVERRIDES for part in ("--set", one))],
            properties_file=TRAINING_PROPERTIES if job == "train_llm" else SPARK_PROPERTIES,
            name=f"fashionrec-{job}",
        )
        for job in AFTER
    }
    for job, earlier in AFTER.items():
        tasks[job].set_upstream([tasks[name] for name in earlier])
