"""Train the models of the ID space and the title space."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.embeddings.examples import training_inputs
from fashionrec.embeddings.item_table import item_vectors
from fashionrec.embeddings.spaces import encode_titles
from fashionrec.embeddings.train import Name, train_in_own_process
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.reports.embeddings import write_training
from fashionrec.reports.projection import sample_items, with_vectors
from fashionrec.reports.trained import Trained

_NAMES: tuple[Name, ...] = ("id", "title")
_PICTURED = 2000  # items in the report's pictures of the spaces


def train_embeddings(run: StepRun) -> None:
    """Export examples and titles, train each model in a process of its own; register and promote both, or none where one fails."""
    sequences, items = run.read("sequences"), run.read("items")
    settings = run.settings
    inputs = run.staging("embeddings")
    exports = training_inputs(
        sequences,
        items,
        max_actions=settings.embeddings.core.max_actions,
        session_gap_minutes=settings.sequences.session_gap_minutes,
    )
    for name, frame in exports.items():
        frame.write.mode("overwrite").parquet(f"{inputs}/{name}")
    fitted = {name: _train(run, name, inputs) for name in _NAMES}
    trained = {name: _register(run, name, fitted[name]) for name in _NAMES}
    _write_report(run, items, trained)


class _Fitted(NamedTuple):
    folder: Path
    params: Mapping[str, Any]
    card: Mapping[str, Any]
    seconds: float


def _write_report(run: StepRun, items: DataFrame, models: Mapping[Name, Trained]) -> None:
    counts = items.groupBy("category").agg(f.count("*").alias("item_count")).collect()  # a row per category
    sample = with_vectors(
        sample_items(items, count=_PICTURED),
        id_vectors=partial(item_vectors, models["id"].folder),
        encode=partial(encode_titles, models["title"].folder),
    )
    page = write_training(
        run.workspace.day_folder("reports"),
        run_date=run.run_date,
        synthetic=run.workspace.synthetic,
        models=list(models.values()),
        categories={row["category"]: row["item_count"] for row in counts},
        sample=sample,
    )
    run.figures["page_kib"] = page.stat().st_size // 1024


def _train(run: StepRun, name: Name, inputs: str) -> _Fitted:
    settings = run.settings.embeddings
    folder = run.workspace.models.new_folder(name, run.run_id)
    start = time.monotonic()
    card = train_in_own_process(name, inputs, folder, settings, run.settings.llm.base)
    seconds = time.monotonic() - start
    section = settings.core if name == "id" else settings.title
    params = {"dim": settings.dim, "seed": settings.seed, **section.model_dump()}
    if "pairs" in card:
        params["pairs"] = card["pairs"]
        if card["pairs"] != "searches":
            run.warnings.append(f"no search led to a purchase: model title learnt from {card['pairs']} instead of queries")
    shown = ("pairs", "examples", "loss", "validation_recall_at_10")
    run.figures |= {f"{name}_{key}": round(card["metrics"][key], 4) for key in shown if key in card["metrics"]}
    return _Fitted(folder, params, card, seconds)


def _register(run: StepRun, name: Name, fitted: _Fitted) -> Trained:
    models, metrics = run.workspace.models, fitted.card["metrics"]
    version = models.register(name, fitted.folder, fitted.params, metrics, run.versions_read, trained_for=run.run_date)
    models.promote(version, "the newest: the spaces are trained anew with the catalogue")
    return Trained(name, version.version, fitted.folder, version.sha256, fitted.params, fitted.card, fitted.seconds)


STEPS: tuple[Step, ...] = (
    Step(
        "train_embeddings",
        reads=("sequences", "items"),
        writes=("model/id", "model/title"),
        run=train_embeddings,
        about="Train CORE's item table (ID space) and the title LSTM (title space) and register both.",
    ),
)
