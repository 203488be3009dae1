"""Train the models of the ID space and the title space."""

import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from pyspark.sql import DataFrame
from pyspark.sql import functions as f

from fashionrec.embeddings.examples import training_inputs, with_all_purchases
from fashionrec.embeddings.item_table import item_vectors
from fashionrec.embeddings.spaces import encode_titles
from fashionrec.embeddings.train import Name, train_in_own_process
from fashionrec.lake import storage
from fashionrec.pipeline.step import Step, StepRun
from fashionrec.reports.embeddings import write_training
from fashionrec.reports.projection import sample_items, with_vectors
from fashionrec.reports.trained import Trained
from fashionrec.settings.model import Embeddings

_NAMES: tuple[Name, ...] = ("id", "title")
_PICTURED = 2000  # items in the report's pictures of the spaces


def train_embeddings(run: StepRun) -> None:
    """Train both spaces without the purchases that are held out, then once more with them, for as many epochs: for serving.

    All are registered, or none where one fails. Each training has a process of its own.
    """
    sequences, items = run.read("sequences"), run.read("items")
    held_out = _export(run, sequences, items, "embeddings")
    fitted = {name: _train(run, name, held_out, run.settings.embeddings) for name in _NAMES}
    everything = _export(run, with_all_purchases(sequences), items, "embeddings_serving")
    again = {name: _train(run, name, everything, _as_long(run.settings.embeddings, name, fitted[name])) for name in _NAMES}
    for name in _NAMES:
        _register(run, f"{name}_serving", again[name])
    _write_report(run, items, {name: _register(run, name, fitted[name]) for name in _NAMES})
    for name in _NAMES:
        shown = ("pairs", "examples", "loss", "validation_recall_at_10")
        metrics = fitted[name].card["metrics"]
        run.figures |= {f"{name}_{key}": round(metrics[key], 4) for key in shown if key in metrics}
    if (pairs := fitted["title"].params["pairs"]) != "searches":
        run.warnings.append(f"no search led to a purchase: model title learnt from {pairs} instead of queries")


def _export(run: StepRun, sequences: DataFrame, items: DataFrame, name: str) -> str:
    """Return the folder of this machine with what the training processes read."""
    settings, inputs = run.settings, run.staging(name)
    exports = training_inputs(
        sequences,
        items,
        max_actions=settings.embeddings.core.max_actions,
        session_gap_minutes=settings.sequences.session_gap_minutes,
    )
    for export, frame in exports.items():
        frame.write.mode("overwrite").parquet(f"{inputs}/{export}")
    return str(storage.copied(run.workspace.session, inputs, storage.scratch(run.run_id, name)))


def _as_long(settings: Embeddings, name: Name, fitted: "_Fitted") -> Embeddings:
    """Return the settings with as many epochs of a model as its first training kept."""
    section = settings.core if name == "id" else settings.title
    epochs = max(int(fitted.card["metrics"].get("kept_epoch", section.epochs)), 1)
    return settings.model_copy(update={"core" if name == "id" else "title": section.model_copy(update={"epochs": epochs})})


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
    with run.workspace.reports() as folder:
        page = write_training(
            folder,
            run_date=run.run_date,
            synthetic=run.workspace.synthetic,
            models=list(models.values()),
            categories={row["category"]: row["item_count"] for row in counts},
            sample=sample,
        )
        run.figures["page_kib"] = page.stat().st_size // 1024


def _train(run: StepRun, name: Name, inputs: str, settings: Embeddings) -> _Fitted:
    folder = run.workspace.models.new_folder(Path(inputs).name.replace("embeddings", name), run.run_id)
    start = time.monotonic()
    card = train_in_own_process(name, inputs, folder, settings, run.settings.llm.base)
    section = settings.core if name == "id" else settings.title
    params = {"dim": settings.dim, "seed": settings.seed, **section.model_dump()}
    if "pairs" in card:
        params["pairs"] = card["pairs"]
    return _Fitted(folder, params, card, time.monotonic() - start)


def _register(run: StepRun, name: str, fitted: _Fitted) -> Trained:
    models, metrics = run.workspace.models, fitted.card["metrics"]
    version = models.register(name, fitted.folder, fitted.params, metrics, run.versions_read, trained_for=run.run_date)
    return Trained(name, version.version, version.folder, version.sha256, fitted.params, fitted.card, fitted.seconds)


STEPS: tuple[Step, ...] = (
    Step(
        "train_embeddings",
        reads=("sequences", "items"),
        writes=("model/id", "model/title", "model/id_serving", "model/title_serving"),
        run=train_embeddings,
        about="Train CORE's item table (ID space) and the title LSTM (title space) and register both.",
    ),
)
