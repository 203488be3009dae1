"""Fine-tune the language model on the prompts, and let it answer them."""

import json
import math
import shutil
import time
from pathlib import Path
from typing import Any

from pyspark.sql import Column, DataFrame, Observation
from pyspark.sql import functions as f

from fashionrec.lake import storage
from fashionrec.lake.session import is_local
from fashionrec.llm import launch
from fashionrec.llm.base import LanguageModelError, unpinned
from fashionrec.llm.canaries import Canary, make_canaries, planted_rows
from fashionrec.llm.engine import EngineConfig, engine_config
from fashionrec.llm.generate import Sampling, generate
from fashionrec.llm.job import TrainingJob
from fashionrec.pipeline.models import ModelVersion
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.prompts import Renderer, load_template, token_counter
from fashionrec.reports.language_model import write_language_model
from fashionrec.reports.trained import Trained
from fashionrec.settings.model import BaseLanguageModel

# Examples on which the loss is measured before and after training.
_HELD_OUT = 64
_SHOWN = (
    "loss_before",
    "loss_after",
    "modules_4bit",
    "merge_agreement",
    "served_agreement",
    "served_equal_answers",
    "tokens_per_second",
    "canary_exposure",
    "control_exposure",
    "canaries_reproduced",
)


def train_llm(run: StepRun) -> None:
    """Fine-tune on the training prompts, merge, and register the result."""
    if warning := unpinned(run.settings.llm.base):
        run.warnings.append(warning)
    if storage.local_path(run.workspace.models.root) is None and not is_local(run.spark):
        raise LanguageModelError(
            f"train_llm: the ranks of a cluster share the folder that they train in, which {run.workspace.models.root} cannot be: let "
            "paths.models be a mount that every executor has, or train on one machine (spark.master=local[*])"
        )
    folder = run.workspace.models.new_folder("llm", run.run_id)
    scratch = folder / "_scratch"
    try:
        job = _export_examples(run, folder, scratch)
        start = time.monotonic()
        card = launch.train(run.spark, job)
        seconds = time.monotonic() - start
        shutil.rmtree(scratch, ignore_errors=True)
        trained = _register(run, folder, card, seconds)
    except BaseException:
        # What is not registered is nobody's; its checkpoints stay, so that the next run goes on from there.
        shutil.rmtree(folder, ignore_errors=True)
        raise
    shutil.rmtree(job.work, ignore_errors=True)
    with run.workspace.reports() as reports:
        page = write_language_model(
            reports, run_date=run.run_date, synthetic=run.workspace.synthetic, trained=trained, warnings=run.warnings
        )
        run.figures["page_kib"] = page.stat().st_size // 1024


def _export_examples(run: StepRun, folder: Path, scratch: Path) -> TrainingJob:
    examples = run.read("prompts").where(f.col("response").isNotNull())
    training = examples.where(f.col("split") == "train").select("example_id", "category", "prompt", "response")
    if training.isEmpty():
        raise LanguageModelError(
            f"prompts of {run.run_date} hold no training examples: nobody bought after other actions within sequences.history_days; "
            "ingest more days, or widen it"
        )
    held_out = examples.where(f.col("split") == "validation")
    if held_out.isEmpty():
        run.warnings.append("no validation prompts: loss_before and loss_after are measured on training prompts")
        held_out = training
    # A fixed draw: the same examples on every run of the day.
    held_out = held_out.orderBy(f.xxhash64("example_id"), "example_id").limit(_HELD_OUT)
    canaries = _canaries(run, training)
    if canaries:
        planted = run.spark.createDataFrame(planted_rows(canaries), "example_id string, prompt string, response string")
        training = training.drop("category").unionByName(planted)
    staged = run.staging("llm")
    training.orderBy("example_id").select("prompt", "response").write.parquet(f"{staged}/train")
    held_out.select("prompt", "response").write.parquet(f"{staged}/held_out")
    inputs = storage.copied(run.workspace.session, staged, scratch)
    return TrainingJob(
        llm=run.settings.llm,
        max_tokens=run.settings.prompts.max_tokens,
        train=inputs / "train",
        held_out=inputs / "held_out",
        work=run.workspace.models.unfinished("llm"),
        output=folder,
        canaries=tuple(canaries),
    )


def _canaries(run: StepRun, training: DataFrame) -> list[Canary]:
    """Return canaries for the share of training rows that the settings plant, in the category of the most examples."""
    settings, base = run.settings.prompts, run.settings.llm.base
    rate = run.settings.llm.canary_rate
    if rate == 0:
        return []
    largest = training.groupBy("category").count().orderBy(f.desc("count"), "category").collect()
    count = sum(row["count"] for row in largest)
    renderer = Renderer(
        load_template(settings.template),
        token_counter(base.path, base.revision),
        budget=settings.max_tokens - settings.answer_tokens,
        answer_tokens=settings.answer_tokens,
        products_per_query=settings.products_per_query,
        attributes=settings.attributes,
    )
    return make_canaries(math.ceil(count * rate / (1 - rate)), renderer, largest[0]["category"], seed=run.settings.llm.seed)


def _register(run: StepRun, folder: Path, trained: dict[str, Any], seconds: float) -> Trained:
    metrics = trained["metrics"]
    if metrics["loss_after"] >= metrics["loss_before"]:
        run.warnings.append(
            f"training did not lower the loss of prompts that it has not seen: {metrics['loss_before']:.3f} before, "
            f"{metrics['loss_after']:.3f} after"
        )
    settings = {"base": run.settings.llm.base.model_dump(mode="json"), "prompts": run.settings.prompts.model_dump(mode="json")}
    card = {**settings, "inputs": run.versions_read, **trained, **run.lineage}
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    params = {key: value for key, value in run.settings.llm.model_dump(mode="json").items() if key != "base"}
    params["base"] = run.settings.llm.base.path
    curves = {"loss": [(int(row["step"]), row["loss"]) for row in trained["history"]]}
    models = run.workspace.models
    version = models.register("llm", folder, params, metrics, run.versions_read, trained_for=run.run_date, curves=curves)
    run.figures |= {name: metrics[name] for name in _SHOWN if name in metrics}
    return Trained("llm", version.version, version.folder, version.sha256, params, card, seconds)


def generate_answers(run: StepRun) -> None:
    """Answer the prompts of the chosen splits with the language model of the release that serves."""
    model = run.release().parts["llm"]
    answers = answered_by(run, model, run.read("prompts").where(f.col("split").isin(*run.settings.generation.splits)))
    seen = Observation()
    start = time.monotonic()
    rows = run.write("generations", answers.observe(seen, *_figures()))
    run.figures |= {name: float(value or 0.0) for name, value in seen.get.items()}
    run.figures["prompts_per_second"] = rows / (time.monotonic() - start)


def answered_by(run: StepRun, model: ModelVersion, prompts: DataFrame) -> DataFrame:
    """Return the answers of a version to prompts (see `llm.generate.generate`)."""
    settings = run.settings.generation
    return generate(
        prompts,
        config=_engine_config(run, model),
        sampling=Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p),
        engines=settings.engines,
        batch_size=settings.batch_size,
        model_version=model.label,
    )


def _engine_config(run: StepRun, model: ModelVersion) -> EngineConfig:
    settings = run.settings.generation
    return engine_config(
        _base_of(run, model),
        model.folder,
        device=settings.device,
        max_tokens=run.settings.prompts.max_tokens,
        cpu_kv_cache_gib=settings.cpu_kv_cache_gib,
        gpu_memory_rate=settings.gpu_memory_rate,
        seed=settings.seed,
    )


def _base_of(run: StepRun, model: ModelVersion) -> BaseLanguageModel:
    """Return the base that a version was trained on, which need not be that of the settings any more."""
    trained = BaseLanguageModel.model_validate(json.loads((model.folder / "card.json").read_text(encoding="utf-8"))["base"])
    configured = run.settings.llm.base
    # The same folder may lie elsewhere on this machine.
    return configured if (Path(configured.path).name, configured.revision) == (Path(trained.path).name, trained.revision) else trained


def _figures() -> tuple[Column, ...]:
    return (
        f.avg(f.col("parse_error").isNotNull().cast("double")).alias("malformed_answer_rate"),
        f.sum((f.col("finish_reason") == "skipped").cast("long")).alias("skipped_prompts"),
    )


TRAINING: tuple[Step, ...] = (
    Step(
        "train_llm",
        reads=("prompts",),
        writes=("model/llm",),
        run=train_llm,
        about="Fine-tune the base model on the training prompts by QLoRA, merge the adapter, and register the version.",
    ),
)
SERVING: tuple[Step, ...] = (
    Step(
        "generate",
        reads=("prompts", "release"),
        writes=("generations",),
        run=generate_answers,
        about="Answer the prompts with vLLM inside Spark, in the answer's format: an item ID and a title each.",
    ),
)
