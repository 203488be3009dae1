"""How well, how fast and in how much memory both spaces are trained: make bench-embeddings [SCALE=0.2]. The last line is JSON.

Three parts:
- A SYNTHETIC shop of 2,000 times SCALE shoppers, through the steps of the pipeline up to train_embeddings, with the settings as they are.
  The models are measured on the test split, by which nothing was chosen: CORE's own ranking (and popularity's) by the next purchase among
  all items of its category; the title space by the title bought after a query, and by garbled titles, among all titles of the category.
  Cold: no training path held the item; no training purchase had the title. CORE is trained again by the sampled softmax, for comparison.
- H&M's real purchases (FASHIONREC_DATA, or ../shared/data; skipped where it is missing). They hold no query, so the title space is
  measured on held-out pairs of an attribute phrase and a title.
- A process that trains CORE on random paths among 1.4 million items, in 64 dimensions, by either softmax, for its peak memory.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from datetime import date
from functools import partial
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyspark.sql import functions as f
from rich.console import Console
from rich.table import Table

from fashionrec.commands import demo
from fashionrec.embeddings.core import FIRST, Core, load, rank_targets
from fashionrec.embeddings.core_training import NO_TARGET, Sessions, fit, train, within
from fashionrec.embeddings.examples import catalogue_titles, core_examples, title_pairs, training_inputs
from fashionrec.embeddings.spaces import encode_titles
from fashionrec.embeddings.texts import normalised
from fashionrec.embeddings.title_recall import noisy_pairs, recall_at_10
from fashionrec.embeddings.title_training import phrase_pairs
from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.workspace import Workspace, open_workspace
from fashionrec.settings import load_settings, resource
from fashionrec.sources.importers import importers
from fashionrec.sources.world.shop import make_world

SHOPPERS, ITEMS_PER_CATEGORY, DAYS = 2000, 1000, 120
HM_DATE = date(2020, 9, 22)
STEPS = ("ingest_catalog", "ingest_interactions", "build_sequences", "train_embeddings")
HUGE_ITEMS, HUGE_ACTIONS, HUGE_DIM = 1_400_000, 50, 64
_FRESH_NOISE = 1000  # added to the seed: noise that neither training nor early stopping has seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scale", type=float, default=1.0, help="1: 2,000 synthetic shoppers and 4,000 items")
    parser.add_argument("--huge", choices=("sampled", "full"), help=argparse.SUPPRESS)
    parser.add_argument("--root", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.huge:
        print(json.dumps(huge(Path(options.root), options.huge)))
        return
    console = Console(width=160)
    with tempfile.TemporaryDirectory(prefix="fashionrec-bench-", dir=os.environ.get("TMPDIR")) as root:
        figures = synthetic_figures(Path(root) / "shop", options.scale, console)
        hm = Path(os.environ.get("FASHIONREC_DATA", "../shared/data")) / "hm"
        if hm.is_dir():
            figures |= {f"hm_{name}": value for name, value in hm_figures(hm, Path(root) / "hm", console).items()}
        else:
            console.print(f"H&M is left out: {hm} is no folder")
        for softmax in ("sampled", "full"):
            found = in_own_process(Path(root) / softmax, softmax)
            console.print(f"1.4 million items, {softmax} softmax: {found}", highlight=False)
            suffix = "" if softmax == "sampled" else "_full_softmax"
            figures |= {f"core_{name}_at_1_4m_items{suffix}": value for name, value in found.items()}
    print(json.dumps(figures))


def synthetic_figures(root: Path, scale: float, console: Console) -> dict[str, float]:
    """Return the figures of both models on the synthetic shop, and CORE's with the sampled softmax."""
    settings = load_settings(resource("conf") / "demo.yaml", [f"paths.root={root}"])
    workspace = open_workspace(settings, demo.RUN_DATE)
    make_world(
        Path(workspace.path("raw_interactions")),
        Path(workspace.path("raw_catalog")),
        end_date=demo.RUN_DATE,
        days=DAYS,
        user_count=max(50, int(SHOPPERS * scale)),
        items_per_category=max(50, int(ITEMS_PER_CATEGORY * scale)),
        seed=2,
    )
    figures = trained_figures(workspace, "synthetic shop", console)
    core, gap = settings.embeddings.core, settings.sequences.session_gap_minutes
    sampled = core.model_copy(update={"full_softmax_up_to": 1, "sampled_items": max(64, figures["core_items"] // 8)})
    folder = root / "sampled"
    folder.mkdir()
    inputs = training_inputs(workspace.read("sequences"), workspace.read("items"), max_actions=core.max_actions, session_gap_minutes=gap)
    for name, frame in inputs.items():
        frame.write.parquet(str(root / "inputs" / name))
    card = train(str(root / "inputs"), folder, dim=settings.embeddings.dim, settings=sampled, seed=settings.embeddings.seed, device="cpu")
    found = np.mean(within(core_ranks(workspace, folder)[0], 10))
    console.print(
        f"CORE by {sampled.sampled_items} sampled items of {figures['core_items']}: Recall@10 {found:.4f}, {_rate(card):,.0f} examples/s"
    )
    return {
        **figures,
        "core_recall_at_10_sampled_softmax": round(float(found), 4),
        "core_examples_per_second_sampled_softmax": round(_rate(card)),
    }


def hm_figures(source: Path, root: Path, console: Console) -> dict[str, float]:
    """Return the figures of both models on H&M's purchases."""
    settings = load_settings(resource("conf") / "hm.yaml", [f"paths.root={root}"])
    workspace = open_workspace(settings, HM_DATE)
    importers()["hm"].import_files(source, Path(workspace.path("raw_interactions")), Path(workspace.path("raw_catalog")))
    return trained_figures(workspace, "H&M", console)


def trained_figures(workspace: Workspace, name: str, console: Console) -> dict[str, float]:
    """Run the steps up to the training and return what the trained models find on the test split."""
    manifest = run_steps(workspace, [step_named(step) for step in STEPS], console)
    cards = {model: json.loads((workspace.models.champion(model).folder / "card.json").read_text()) for model in ("id", "title")}
    ranks, warm, popular = core_ranks(workspace, workspace.models.champion("id").folder)
    found = {"core": within(ranks, 10), "core_of_popularity": within(popular, 10)}
    table = Table("", "examples", "Recall@10", "warm", "cold", title=f"{name}: test split")
    figures: dict[str, float] = {}
    for label, hits in found.items():
        figures |= _row(table, label, hits, warm)
    encode = partial(encode_titles, workspace.models.champion("title").folder)
    for label, (pairs, items, known) in title_tests(workspace).items():
        figures |= _row(table, label, recall_at_10(encode, pairs, items), known)
    console.print(table)
    figures = {key.replace("core_of_popularity_recall_at_10", "core_recall_at_10_of_popularity"): value for key, value in figures.items()}
    speed = {f"{model}_examples_per_second": round(_rate(card)) for model, card in cards.items()}
    items_trained = int(cards["id"]["metrics"]["items"])
    step = manifest["steps"][-1]
    console.print(f"{name}: CORE knows {items_trained:,} items; titles learnt from {cards['title']['pairs']}; {speed}; {step['seconds']} s")
    return {**figures, "core_items": items_trained, **speed, "train_seconds": step["seconds"], "train_peak_gib": step["peak_gib"]}


def core_ranks(workspace: Workspace, folder: Path) -> tuple[NDArray[np.int64], NDArray[np.bool_], NDArray[np.int64]]:
    """Return the ranks of the test split's purchases by CORE and by popularity, and which targets training saw; all (examples,)."""
    sequences = workspace.read("sequences")
    test = _as_validation(sequences)
    examples = core_examples(test, max_actions=workspace.settings.embeddings.core.max_actions).where("split = 'validation'").toPandas()
    items = workspace.read("items").select("item_id", "category").toPandas()
    model, rows, _ = load(folder)
    bought = sequences.where("split = 'train'").groupBy("target_item_id").count().toPandas().set_index("target_item_id")["count"]
    return rank_targets(model, examples, items, rows), examples.target_item_id.isin(rows).to_numpy(), popular_ranks(examples, items, bought)


def popular_ranks(examples: pd.DataFrame, items: pd.DataFrame, bought: "pd.Series[int]") -> NDArray[np.int64]:
    """Return each target's rank in its category by training purchases, (examples,); ties against it, 0 where it is no item."""
    counts = items.assign(bought=items.item_id.map(bought).fillna(0)).set_index("item_id")
    ranks = np.zeros(len(examples), np.int64)
    for place, (target, category) in enumerate(zip(examples.target_item_id, examples.category, strict=True)):
        of_category = counts.bought[counts.category == category]
        if target in of_category.index:
            ranks[place] = (of_category >= of_category[target]).sum()
    return ranks


def title_tests(workspace: Workspace) -> Mapping[str, tuple[pd.DataFrame, pd.DataFrame, NDArray[np.bool_]]]:
    """Return pairs, catalogue and which titles were bought in training, of what the title space is measured by."""
    sequences, settings = workspace.read("sequences"), workspace.settings
    items = catalogue_titles(workspace.read("items")).toPandas()
    items["values"] = [{row["name"]: row["value"] for row in rows} for rows in items["values"]]
    pairs = title_pairs(_as_validation(sequences), session_gap_minutes=settings.sequences.session_gap_minutes).toPandas()
    if pairs.empty:
        pairs = phrase_pairs(items)
    pairs = pairs[pairs.split == "validation"].reset_index(drop=True)
    noisy = noisy_pairs(items, settings.embeddings.seed + _FRESH_NOISE)
    bought = {normalised(row[0]) for row in sequences.where("split = 'train'").select("target_title").distinct().collect()}
    tests = {"title": pairs, "noisy_title": noisy}
    return {label: (asked, items, asked.title.map(normalised).isin(bought).to_numpy()) for label, asked in tests.items()}


def huge(root: Path, softmax: str) -> dict[str, float]:
    """Train CORE on paths that hold 1.4 million items once each; return this process's peak memory and the speed.

    By the sampled softmax it is a whole training of one epoch, from Parquet to the saved model; by the one over all items, two steps.
    """
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    rows = rng.permutation(HUGE_ITEMS).reshape(-1, HUGE_ACTIONS)
    changes = {"epochs": 1, "full_softmax_up_to": HUGE_ITEMS if softmax == "full" else 1}
    settings = load_settings().embeddings.core.model_copy(update=changes)
    if softmax == "full":
        some = rows[: 2 * settings.batch_size] + FIRST
        last = np.where(np.arange(HUGE_ACTIONS - 1) < HUGE_ACTIONS - 2, NO_TARGET, some[:, 1:])
        sessions = Sessions(list(some[:, :-1]), list(last))
        history = fit(Core(HUGE_ITEMS, dim=HUGE_DIM, settings=settings), sessions, settings=settings, seed=0, saved=root / "checkpoint-0")
    else:
        names = np.array([f"item{number:07}" for number in range(HUGE_ITEMS)], dtype=object)
        paths = pd.DataFrame({"item_ids": [names[row[:-1]] for row in rows], "target_item_id": names[rows[:, -1]]})
        paths.assign(example_id=[f"{number:07}" for number in range(len(paths))], split="train", category="x").to_parquet(root / "examples")
        pd.DataFrame({"item_id": names, "category": "x"}).to_parquet(root / "items")
        (root / "model").mkdir()
        history = train(str(root), root / "model", dim=HUGE_DIM, settings=settings, seed=0, device="cpu")["history"]
    peak = getrusage(RUSAGE_SELF).ru_maxrss / 2**20
    return {"peak_rss_gib": round(peak, 2), "examples_per_second": round(history[0]["examples_per_second"])}


def in_own_process(root: Path, softmax: str) -> dict[str, float]:
    """Return what `huge` found in a process of its own: peak memory is a process's."""
    command = [sys.executable, __file__, "--huge", softmax, "--root", str(root)]
    ran = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    *progress, last = ran.stdout.splitlines()
    print("\n".join(progress), flush=True)
    figures: dict[str, float] = json.loads(last)
    return figures


def _as_validation(sequences: Any) -> Any:
    """Return the test examples in the place of the validation examples, so that what exports the one exports the other."""
    return sequences.where("split = 'test'").withColumn("split", f.lit("validation"))


def _row(table: Table, label: str, hits: NDArray[np.bool_], warm: NDArray[np.bool_]) -> dict[str, float]:
    parts = {"": hits, "_warm": hits[warm], "_cold": hits[~warm]}
    means = {part: round(float(found.mean()), 4) for part, found in parts.items() if len(found)}
    table.add_row(label, f"{len(hits):,}", *(f"{means.get(part, '-')} ({len(found):,})" for part, found in parts.items()))
    return {f"{label}_recall_at_10{part}": value for part, value in means.items()}


def _rate(card: Mapping[str, Any]) -> float:
    return median(row["examples_per_second"] for row in card["history"] if "loss" in row)


if __name__ == "__main__":
    main()
