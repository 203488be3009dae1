"""Answers for prompts: vLLM inside Spark, one engine per task, one call of the engine per batch of prompts."""

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from pyspark import TaskContext
from pyspark.sql import DataFrame, SparkSession
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.session import is_local
from fashionrec.lake.spec import table_spec
from fashionrec.llm.engine import EngineConfig, device_id, engine, lora_request
from fashionrec.llm.examples import prompt_ids
from fashionrec.prompts.answer import answer_regex, parse_answer

if TYPE_CHECKING:
    from pyspark.resource import ResourceProfile
    from vllm import LLM, RequestOutput

_KEPT = ("example_id", "user_id", "category", "split", "target_item_id", "fingerprint")


@dataclass(frozen=True)
class Sampling:
    """How answers are drawn (paper section 5.1); temperature 0 always takes the most probable token."""

    max_new_tokens: int
    temperature: float
    top_p: float


def generate(
    prompts: DataFrame, *, config: EngineConfig, sampling: Sampling, engines: int, batch_size: int, model_version: str
) -> DataFrame:
    """Return the table `generations`, without `run_date`, for rows of `prompts`: one row per prompt.

    Every answer has the one format, enforced while decoding. A prompt that the engine would refuse gets a row with finish_reason `skipped`
    and the reason in `parse_error`. `log_prob` is under the model itself, before temperature, top-p and format.

    Args:
        engines: tasks side by side, each with an engine of its own.
        batch_size: prompts per call of an engine.
    """
    schema = generations_schema()
    arrow = pa.schema([pa.field(field.name, _ARROW[type(field.dataType)]) for field in schema])
    answer = _task(config=config, sampling=sampling, batch_size=batch_size, model_version=model_version, schema=arrow)
    asked = with_fingerprint(prompts, config=config, sampling=sampling, model_version=model_version)
    frame = asked.select(*_KEPT, "prompt").repartition(engines)
    profile = _one_gpu_per_task(prompts) if config.device == "cuda" else None
    with _workers_of_their_own(prompts.sparkSession):
        return frame.mapInArrow(answer, schema, profile=profile)


def with_fingerprint(prompts: DataFrame, *, config: EngineConfig, sampling: Sampling, model_version: str) -> DataFrame:
    """Return the prompts with the `fingerprint` of their answers: equal ones need no second answer.

    It covers the prompt's own, the model and the sampling; where and how fast an answer is computed is not in it.
    """
    decisive = {"model": model_version, **asdict(sampling), "seed": config.seed, "dtype": config.dtype, "max_tokens": config.max_tokens}
    rest = f.lit(json.dumps({**decisive, "format": answer_regex()}, sort_keys=True))
    return prompts.withColumn("fingerprint", f.sha2(f.concat_ws("\n", "fingerprint", rest), 256))


def generations_schema() -> t.StructType:
    """Return the schema of `generations` without the date of the run."""
    return t.StructType([field for field in table_spec("generations").struct if field.name != "run_date"])


def answer_prompts(llm: "LLM", rows: Sequence[Mapping[str, Any]], *, sampling: Sampling, config: EngineConfig) -> list[dict[str, Any]]:
    """Return answer, item_id, title, parse_error, log_prob and finish_reason for each row's `prompt`, in the rows' order.

    One prompt that the engine refuses would fail the whole call, so those are found first and left out of it.
    """
    ids = prompt_ids(llm.get_tokenizer(), [row["prompt"] for row in rows])
    room = config.max_tokens - sampling.max_new_tokens
    refusals = [_refusal(len(tokens), room) for tokens in ids]
    asked = [{"prompt_token_ids": tokens} for tokens, refusal in zip(ids, refusals, strict=True) if not refusal]
    adapter = lora_request(config.adapter)
    outputs = iter(llm.generate(asked, _sampling_params(sampling), use_tqdm=False, lora_request=adapter) if asked else [])
    return [_skipped(refusal) if refusal else _answered(next(outputs)) for refusal in refusals]


def read_answer(text: str, finish_reason: str) -> dict[str, Any]:
    """Return item_id, title and parse_error of an answer; one cut by its length still counts where its ID is complete."""
    parsed = parse_answer(text)
    error = "truncated" if parsed.error and finish_reason == "length" else parsed.error
    return {"item_id": parsed.item_id, "title": parsed.title, "parse_error": error}


def regroup(batches: Iterable[pa.RecordBatch], size: int) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of Arrow batches in lists of `size`, the last one shorter: Spark's batches follow a session's setting, not ours."""
    rows: list[dict[str, Any]] = []
    for batch in batches:
        rows += batch.to_pylist()
        while len(rows) >= size:
            yield rows[:size]
            rows = rows[size:]
    if rows:
        yield rows


def _task(
    *, config: EngineConfig, sampling: Sampling, batch_size: int, model_version: str, schema: pa.Schema
) -> Callable[[Iterator[pa.RecordBatch]], Iterator[pa.RecordBatch]]:
    def answer(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        local = config.here()
        for rows in regroup(batches, batch_size):
            with engine(local, device_id=_task_device_id(local)) as llm:
                answers = answer_prompts(llm, rows, sampling=sampling, config=local)
            done = [
                {**{name: row[name] for name in _KEPT}, **found, "model_version": model_version}
                for row, found in zip(rows, answers, strict=True)
            ]
            yield pa.RecordBatch.from_pylist(done, schema=schema)

    return answer


@contextmanager
def _workers_of_their_own(spark: SparkSession) -> Iterator[None]:
    """Let what is planned meanwhile run in Python workers that serve nothing else: Spark tells workers apart by their environment.

    An engine binds the threads of its process for good, after which other models' vectors would differ in their last digits.
    """
    environment = spark.sparkContext.environment
    environment["FASHIONREC_WORKERS"] = "engines"
    try:
        yield
    finally:
        del environment["FASHIONREC_WORKERS"]


def _task_device_id(config: EngineConfig) -> str:
    """Name the device of a task, and leave the process only the GPU that Spark gave the task."""
    context = TaskContext.get()
    gpus = context.resources().get("gpu") if context else None
    if gpus and config.device == "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.addresses[0]
    return device_id(config)


def _one_gpu_per_task(prompts: DataFrame) -> "ResourceProfile | None":
    """Return the request for a GPU per task, which only a cluster can grant."""
    from pyspark.resource import ExecutorResourceRequests, ResourceProfileBuilder, TaskResourceRequests

    if is_local(prompts.sparkSession):
        return None
    executors = ExecutorResourceRequests().resource("gpu", 1)
    tasks = TaskResourceRequests().resource("gpu", 1)
    return ResourceProfileBuilder().require(executors).require(tasks).build


def _sampling_params(sampling: Sampling) -> Any:
    from vllm import SamplingParams
    from vllm.sampling_params import StructuredOutputsParams

    return SamplingParams(
        max_tokens=sampling.max_new_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        logprobs=0,
        structured_outputs=StructuredOutputsParams(regex=answer_regex()),
    )


def _refusal(token_count: int, room: int) -> str:
    if token_count == 0:
        return "empty prompt"
    return f"prompt of {token_count} tokens, {room} fit" if token_count > room else ""


def _skipped(reason: str) -> dict[str, Any]:
    return {"answer": "", "item_id": None, "title": None, "parse_error": reason, "log_prob": None, "finish_reason": "skipped"}


def _answered(output: "RequestOutput") -> dict[str, Any]:
    best = output.outputs[0]
    reason = str(best.finish_reason)
    return {"answer": best.text, **read_answer(best.text, reason), "log_prob": best.cumulative_logprob, "finish_reason": reason}


_ARROW = {t.StringType: pa.string(), t.DoubleType: pa.float64()}
