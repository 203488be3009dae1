"""A fine-tuning by two ranks in a Spark cluster's barrier tasks: python -m tests.models.cluster_process LLM TRAIN FOLDER."""

import json
import shutil
import sys
from pathlib import Path

import pyspark
from pyspark.sql import SparkSession

from fashionrec.llm import launch
from fashionrec.llm.job import TrainingJob
from fashionrec.settings.model import Llm
from tests.conftest import ROOT


def main(llm: str, train: str, folder: str) -> None:
    # Two executors of one core are processes of their own, as on a cluster's machines, whose allocation is that of conf/spark/train.conf.
    builder = SparkSession.builder.master("local-cluster[2,1,1024]").config("spark.executorEnv.PYTHONPATH", str(ROOT))
    # Three JVMs that live for a minute: to compile their code well costs more than it saves.
    for who in ("driver", "executor"):
        builder = builder.config(f"spark.{who}.extraJavaOptions", "-XX:TieredStopAtLevel=1 -XX:+UseSerialGC")
    spark = builder.config("spark.dynamicAllocation.enabled", "false").config("spark.ui.enabled", "false").getOrCreate()
    place = Path(folder)
    job = TrainingJob(
        llm=Llm.model_validate_json(llm),
        max_tokens=128,
        train=Path(train),
        held_out=place / "held_out",
        work=place / "work",
        output=place / "out",
    )
    card = launch.train(spark, job)
    # Ranks that the driver starts itself, as it does with a local master, are no jobs of Spark's.
    card["spark_jobs"] = spark.sparkContext._jsc.sc().statusStore().jobsList(None).size()
    print(json.dumps(card))  # noqa: T201
    application = spark.sparkContext.applicationId
    spark.stop()
    # Where executors of this kind work is not to be chosen.
    shutil.rmtree(Path(pyspark.__file__).parent / "work" / application)


main(*sys.argv[1:])
