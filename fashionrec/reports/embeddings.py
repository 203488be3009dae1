"""How the models of both spaces were trained, and what the spaces look like, as one HTML page."""

from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from fashionrec.reports.charts import SERIES_COLOURS, epoch_chart, point_chart
from fashionrec.reports.page import write_page
from fashionrec.reports.projection import project, trust
from fashionrec.reports.trained import Trained

PAGE = "embeddings.html"
Row = Mapping[str, Any]

_SPACES = {
    "id": ("ID space", "Items that follow each other in shoppers' paths lie near each other."),
    "title": (
        "Title space",
        "A query lies near the titles bought after it, so that items can be found that nobody has bought yet.",
    ),
}
_FIGURES = {
    ("id", "validation_recall_at_10"): "of held-out purchases among the first 10 of all items of their category",
    ("title", "validation_recall_at_10"): "of held-out queries with the bought title among the first 10 of its category",
    ("title", "validation_noisy_recall_at_10"): "of garbled titles with their own title among the first 10",
    ("id", "examples"): "paths learnt from",
    ("id", "items"): "items with a vector of their own",
    ("title", "pairs"): "pairs of query and title learnt from",
}
# What a shop without searches learns from, as the title model's card names it.
_STAND_INS = {
    "attribute phrases": "phrases made of the items' own attributes",
    "garbled titles": "the items' own titles, garbled as a language model garbles them,",
}
_LINES = {"validation_recall_at_10": "Recall@10", "validation_noisy_recall_at_10": "Recall@10 of garbled titles"}
_WEIGHTS = {"trm": "weights learnt by a small transformer (CORE-trm)", "ave": "the mean of the items (CORE-ave)"}


def write_training(
    folder: Path, *, run_date: date, synthetic: bool, models: Sequence[Trained], categories: Mapping[str, int], sample: pd.DataFrame
) -> Path:
    """Write `embeddings.html` into a folder and return its path.

    Args:
        folder: where it goes; made if need be.
        run_date: the day that it is about.
        synthetic: whether the data was made up, which the page then says.
        models: what was trained.
        categories: items of the catalogue in each category.
        sample: some items, see `projection.with_vectors`.
    """
    largest = sorted(categories, key=lambda name: (-categories[name], name))[:SERIES_COLOURS]
    colours = {name: number for number, name in enumerate(largest)}
    return write_page(
        folder / PAGE,
        "embeddings.html.jinja",
        filters={},
        run_date=run_date,
        synthetic=synthetic,
        models=[_model(trained, _never_seen(sample, categories)) for trained in models],
        colours=colours,
        quiet=len(categories) - len(colours),
        spaces=[_space(name, sample, colours) for name in _SPACES],
    )


def _never_seen(sample: pd.DataFrame, categories: Mapping[str, int]) -> str:
    """Return the share of the catalogue that training never saw: each category's share in the sample, by its number of items."""
    shares = 1 - sample.groupby("category").trained.mean()
    share = sum(share * categories[str(category)] for category, share in shares.items()) / max(sum(categories.values()), 1)
    return f"{'about ' if len(sample) < sum(categories.values()) else ''}{share:.1%}"


def _model(trained: Trained, never_seen: str) -> dict[str, Any]:
    """Return what the page says of one model."""
    title, means = _SPACES[trained.name]
    metrics, history = trained.card["metrics"], trained.card["history"]
    kept = next((row for row in history if row["epoch"] == metrics.get("kept_epoch")), None)
    tiles = [
        {"value": f"{metrics[key]:.1%}" if key.startswith("validation_") else f"{metrics[key]:,.0f}", "label": label}
        for (name, key), label in _FIGURES.items()
        if name == trained.name and key in metrics
    ]
    if trained.name == "id":
        tiles.append({"value": never_seen, "label": "of the catalogue never seen: one vector for all"})
    return {
        "title": title,
        "means": means,
        "phrases": _STAND_INS.get(trained.card.get("pairs", "searches")),
        "tiles": tiles,
        "charts": _curves(history, kept, title),
        "facts": _facts(trained, kept),
    }


def _facts(trained: Trained, kept: Row | None) -> list[tuple[str, str]]:
    card, params, history = trained.card, trained.params, trained.card["history"]
    if trained.name == "id":
        sampled = card.get("softmax") == "sampled"
        compared = "a sample of the items, corrected for how often each is drawn" if sampled else "all items"
        facts = [("A path's vector", _WEIGHTS[params["encoder"]]), ("Compared with", compared)]
    else:
        lstm = "LSTM, in both directions" if params.get("bidirectional") else "LSTM"
        facts = [("Encoder", f"{card['encoder']}, taken as it is" if "encoder" in card else lstm), ("Learnt from", card["pairs"])]
    rates = [row["examples_per_second"] for row in history if "examples_per_second" in row]
    if kept:
        more = "; it was the last that is allowed, more might do better" if kept["epoch"] == params["epochs"] else ""
        facts.append(("Epochs", f"{len(rates)}, of which number {int(kept['epoch'])} was kept (loss {kept['loss']:.4f}){more}"))
    took = f"{trained.seconds:,.0f} s" + (f", {np.median(rates):,.0f} examples a second" if rates else "")
    return [*facts, ("Took", took), ("Registered as", f"version {trained.version}"), ("SHA-256 of its files", trained.sha256)]


def _curves(history: Sequence[Row], kept: Row | None, title: str) -> list[dict[str, Any]]:
    """Return the charts of loss and of the validation figures by epoch; epoch 0 is the network before training."""
    from markupsafe import Markup

    names = list(dict.fromkeys(name for row in history for name in row if name.startswith("validation_")))
    shown = [("Loss, in training", {"loss": "mean loss of the epoch"}, False)] if kept else []
    if kept and names:
        shown.append(("Found, on what was held out", {name: _LINES.get(name, _plain(name)) for name in names}, True))
    charts = []
    for heading, lines, percent in shown:
        series = {label: [(int(row["epoch"]), float(row[name])) for row in history if name in row] for name, label in lines.items()}
        colours = {label: number for number, label in enumerate(series)}
        epoch = int(kept["epoch"]) if kept else None
        svg = epoch_chart(series, colours, kept=epoch, percent=percent, label=f"{title}: {heading.lower()}")
        charts.append({"heading": heading, "legend": colours, "kept": epoch, "svg": Markup(svg)})
    return charts


def _plain(name: str) -> str:
    return name.removeprefix("validation_").replace("_", " ")


def _space(name: str, sample: pd.DataFrame, colours: Mapping[str, int]) -> dict[str, Any]:
    """Return a space's picture and how far it can be trusted; no picture of less than two items."""
    from markupsafe import Markup

    # Items that training never saw share one vector: they would be one dot.
    shown = sample[sample.trained] if name == "id" else sample
    space: dict[str, Any] = {"title": _SPACES[name][0], "item_count": len(shown), "left_out": len(sample) - len(shown)}
    if len(shown) < 2:
        return space
    vectors = np.stack(shown[f"{name}_vector"].tolist()).astype(np.float32)
    places, method = project(vectors)
    categories = shown.category.to_numpy()
    groups = {str(category): places[categories == category] for category in pd.unique(categories)}
    svg = point_chart(groups, colours, label=f"{len(shown):,} items in the {space['title']}, laid out by {method}")
    shares = {key: f"{share:.0%}" for key, share in trust(vectors, places, categories).items()}
    return {**space, "method": method, "svg": Markup(svg), "trust": shares}
