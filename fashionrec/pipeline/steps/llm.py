"""Fine-tune the language model on the prompts, and let it answer them."""

import json
import shutil
import time
from pathlib import Path

from pyspark.sql import Column, Observation
from pyspark.sql import functions as f

from fashionrec.llm import launch
from fashionrec.llm.base import LanguageModelError
from fashionrec.llm.engine import EngineConfig
from fashionrec.llm.generate import Sampling, generate
from fashionrec.llm.train import TrainingJob
from fashionrec.pipeline.step import Run, Step

# Examples on which the loss is measured before and after training.
_HELD_OUT = 64


def train_llm(run: Run) -> None:
    """Fine-tune on the training prompts, merge, and register the result."""
    folder = run.models.new_folder("llm", run.run_id)
    scratch = folder / "_scratch"
    try:
        job = _export_examples(run, folder, scratch)
        metrics = launch.train(run.spark, job)
        shutil.rmtree(scratch)
        _register(run, folder, metrics)
    except BaseException:
        # What is not registered is nobody's.
        shutil.rmtree(folder, ignore_errors=True)
        raise


def _export_examples(run: Run, folder: Path, scratch: Path) -> TrainingJob:
    examples = run.read("prompts").where(f.col("response").isNotNull())
    training = examples.where(f.col("split") == "train").select("example_id", "prompt", "response")
    if training.isEmpty():
        raise LanguageModelError(
            f"prompts of {run.run_date} hold no training examples: nobody bought after other actions within sequences.history_days; "
            "ingest more days, or widen it"
        )
    held_out = examples.where(f.col("split") == "validation").select("example_id", "prompt", "response")
    if held_out.isEmpty():
        run.warnings.append("no validation prompts: loss_before and loss_after are measured on training prompts")
        held_out = training
    # A fixed draw: the same examples on every run of the day.
    held_out = held_out.orderBy(f.xxhash64("example_id"), "example_id").limit(_HELD_OUT)
    training.orderBy("example_id").select("prompt", "response").write.parquet(str(scratch / "train"))
    held_out.select("prompt", "response").write.parquet(str(scratch / "held_out"))
    return TrainingJob(
        llm=run.settings.llm,
        max_tokens=run.settings.prompts.max_tokens,
        train=scratch / "train",
        held_out=scratch / "held_out",
        work=scratch,
        output=folder,
    )


def _register(run: Run, folder: Path, metrics: dict[str, float]) -> None:
    if metrics["cut_examples"]:
        run.warnings.append(f"{metrics['cut_examples']:,.0f} training prompts were longer than prompts.max_tokens and lost their beginning")
    card: dict[str, object] = {
        "base": run.settings.llm.base.model_dump(mode="json"),
        "prompts": run.settings.prompts.model_dump(mode="json"),
    }
    card |= {"inputs": run.versions_read, "metrics": metrics, **run.commit}
    (folder / "card.json").write_text(json.dumps(card, indent=2) + "\n", encoding="utf-8")
    params = {key: value for key, value in run.settings.llm.model_dump(mode="json").items() if key != "base"}
    params["base"] = run.settings.llm.base.path
    run.models.register("llm", folder, params, metrics, run.versions_read)
    for name in ("loss_before", "loss_after", "modules_4bit", "merge_agreement", "tokens_per_second"):
        run.figures[name] = metrics[name]


def generate_answers(run: Run) -> None:
    """Answer the prompts of the chosen splits with the champion."""
    settings = run.settings.generation
    model = run.model("llm")
    prompts = run.read("prompts").where(f.col("split").isin(*settings.splits))
    answers = generate(
        prompts,
        config=EngineConfig(
            model=str(model.folder / "merged"),
            dtype=run.settings.llm.base.dtype,
            device=settings.device,
            max_tokens=run.settings.prompts.max_tokens,
            cpu_kv_cache_gib=settings.cpu_kv_cache_gib,
            gpu_memory_rate=settings.gpu_memory_rate,
            seed=settings.seed,
        ),
        sampling=Sampling(max_new_tokens=settings.max_new_tokens, temperature=settings.temperature, top_p=settings.top_p),
        engines=settings.engines,
        batch_size=settings.batch_size,
        model_version=model.label,
    )
    seen = Observation()
    start = time.monotonic()
    rows = run.write("generations", answers.observe(seen, *_figures()))
    run.figures |= {name: float(value or 0.0) for name, value in seen.get.items()}
    run.figures["prompts_per_second"] = rows / (time.monotonic() - start)


def _figures() -> tuple[Column, ...]:
    return (
        f.avg(f.col("parse_error").isNotNull().cast("double")).alias("malformed_answer_rate"),
        f.sum((f.col("finish_reason") == "skipped").cast("long")).alias("skipped_prompts"),
    )


STEPS: tuple[Step, ...] = (
    Step(
        "train_llm",
        reads=("prompts",),
        writes=("model/llm",),
        run=train_llm,
        about="Fine-tune the base model on the training prompts by QLoRA, merge the adapter, and register the version.",
    ),
    Step(
        "generate",
        reads=("prompts", "model/llm"),
        writes=("generations",),
        run=generate_answers,
        about="Answer the prompts with vLLM inside Spark, in the answer's format: an item ID and a title each.",
    ),
)
