"""How the language model was fine-tuned, and what its weights keep of single shoppers, as one HTML page."""

import math
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from fashionrec.llm.golden import MIN_AGREEMENT
from fashionrec.reports.charts import histogram, step_chart
from fashionrec.reports.page import write_page
from fashionrec.reports.trained import Trained

PAGE = "language_model.html"
Row = Mapping[str, Any]

_POINTS = 150  # of the loss's line: more could not be told apart
_CANARIES = 20  # shown one by one


def write_language_model(folder: Path, *, run_date: date, synthetic: bool, trained: Trained, warnings: Sequence[str] = ()) -> Path:
    """Write `language_model.html` into a folder and return its path; no shopper's text stands on it.

    Args:
        folder: where it goes; made if need be.
        run_date: the day that it is about.
        synthetic: whether the data was made up, which the page then says.
        trained: the training; its card as it lies beside the weights (see `llm.fine_tune` and `llm.memorisation`), its params the settings
            of the section llm.
        warnings: what the run of the training warned of.
    """
    metrics = trained.card["metrics"]
    return write_page(
        folder / PAGE,
        "language_model.html.jinja",
        filters={},
        run_date=run_date,
        synthetic=synthetic,
        warnings=warnings,
        metrics=metrics,
        tiles=_tiles(metrics),
        loss=_loss(trained.card),
        hard=_hard(trained),
        ended_early=0 < trained.params["max_steps"] == metrics["steps"],
        forms=_forms(metrics),
        bar=f"{MIN_AGREEMENT:.0%}",
        memorised=_memorised(trained.card.get("memorisation")),
        facts=_facts(trained),
    )


def _tiles(metrics: Row) -> list[dict[str, str]]:
    """Return the page's headline figures; e to the power of minus the loss is the geometric mean of the right tokens' probabilities."""
    right, right_before = (f"{math.exp(-metrics[name]):.1%}" for name in ("loss_after", "loss_before"))
    tiles = [
        (f"{metrics['loss_after']:.3f}", f"loss of held-out prompts after training; {metrics['loss_before']:.3f} before"),
        (right, f"is the chance that it gives to the right answer's next token, on (geometric) average; {right_before} before"),
        (f"{metrics['steps']:,}", f"steps of training, which read {metrics['train_tokens']:,} tokens"),
        (f"{metrics['served_agreement']:.1%}", "of the tokens that the trained model answers are what is served, too"),
    ]
    if "canaries" in metrics:
        tiles.append((f"{metrics['canaries_reproduced']} of {metrics['canaries']}", "planted canaries are given away word for word"))
    return [{"value": value, "label": label} for value, label in tiles]


def _loss(card: Row) -> dict[str, Any]:
    """Return the chart of the training's loss by step, of stretches of steps where there are many, between the held-out losses."""
    from markupsafe import Markup

    history, metrics = card["history"], card["metrics"]
    size = math.ceil(len(history) / _POINTS) or 1
    stretches = [history[start : start + size] for start in range(0, len(history), size)]
    line = [(fmean(row["step"] for row in rows), fmean(row["loss"] for row in rows)) for rows in stretches]
    held_out = [(0.0, metrics["loss_before"]), (float(metrics["steps"]), metrics["loss_after"])]
    return {"steps_per_point": size, "svg": Markup(step_chart(line, held_out, label="loss by step of the training"))}


def _hard(trained: Trained) -> dict[str, Any] | None:
    """Return the picture of the training prompts' perplexity; none where it was not measured."""
    from markupsafe import Markup

    found, params = trained.card["perplexity"], trained.params
    if found is None:
        return None
    count, hard_count = sum(found["counts"]), sum(found["hard_counts"])
    label = f"{count:,} training prompts by the perplexity of their response"
    return {
        "count": f"{count:,}",
        "hard_count": f"{hard_count:,}",
        "share": f"{hard_count / count:.0%}",
        "random": params["hard_by"] == "random",
        "hard_times": _times(params["hard_epochs"]),
        "times": _times(params["epochs"]),
        "median": f"{found['median']:,.3g}" if found["median"] < 1000 else f"{found['median']:,.0f}",
        "svg": Markup(histogram(found["edges"], found["counts"], found["hard_counts"], middle=found["median"], label=label)),
    }


def _times(count: int) -> str:
    return {1: "once", 2: "twice"}.get(count, f"{count:,} times")


def _forms(metrics: Row) -> list[dict[str, str]]:
    """Return a line for each form of the model that was asked the golden prompts."""
    names = {"merge": "Merged with its base", "served": "As vLLM serves it"}
    return [
        {"name": words, "tokens": f"{metrics[f'{name}_agreement']:.1%}", "answers": f"{metrics[f'{name}_equal_answers']:.1%}"}
        for name, words in names.items()
        if f"{name}_agreement" in metrics
    ]


def _memorised(found: Row | None) -> dict[str, Any] | None:
    """Return what the canaries show; none where none were planted.

    A canary's ID is drawn as the others are, so without memorisation each of its ranks is as probable as any other, whatever the model.
    """
    if found is None:
        return None
    bits = math.log2(found["alternatives"] + 1) - np.log2(np.arange(1, found["alternatives"] + 2))
    lines = []
    for row in found["by_copies"]:
        limit = float(bits.mean() + 2 * bits.std() / math.sqrt(row["canaries"]))
        kept = row["copies"] > 0 and (row["exposure"] > limit or row["reproduced"] > 0)
        lines.append({**row, "limit": limit, "kept": kept})
    planted = sorted((row for row in found["canaries"] if row["copies"]), key=lambda row: -row["exposure"])
    return {
        "alternatives": found["alternatives"],
        "most": f"{bits[0]:.3g}",
        "chance": f"{bits.mean():.1f}",
        "lines": lines,
        "rarest": next(line for line in lines if line["copies"]),
        "kept": [line["copies"] for line in lines if line["kept"]],
        "canaries": planted[:_CANARIES],
        "left_out": len(planted[_CANARIES:]),
    }


def _facts(trained: Trained) -> list[tuple[str, str]]:
    params, metrics, base = trained.params, trained.card["metrics"], trained.card["base"]
    # A folder's place on the machine of the training tells nobody anything.
    path = Path(base["path"])
    name = path.name if path.is_absolute() else f"{path}, revision {base['revision'] or 'not pinned'}"
    ranks = f"{params['ranks']} ranks ({params['sharding']})" if params["ranks"] > 1 else "1 rank"
    limit = f"; at most {params['max_steps']:,} steps" if params["max_steps"] else ""
    hard = "drawn at random" if params["hard_by"] == "random" else "of the highest perplexity"
    rounds = f"; {params['hard_epochs']} for the {params['hard_rate']:.0%} {hard}" if params["hard_rate"] else ""
    layers = f"{metrics['modules_4bit']:,} layers held in 4 bit while it was trained (NF4, double quantisation)"
    return [
        ("Base model", f"{name}, {layers}, served in {base['dtype']}"),
        (
            "Adapter",
            f"LoRA of rank {params['lora_rank']}, alpha {params['lora_alpha']}, dropout {params['lora_dropout']} on "
            f"{', '.join(base['lora_targets'])}: {metrics['trainable_parameters']:,} weights",
        ),
        (
            "Optimiser",
            f"{params['optimiser']}, learning rate {params['learning_rate']:g} at its peak, {params['batch_size']} prompts a step",
        ),
        ("Epochs", f"{params['epochs']}{rounds}{limit}"),
        ("Learnt from", f"the table prompts, version {trained.card['inputs']['prompts']}"),
        (
            "Took",
            f"{trained.seconds:,.0f} s with all measurements; {metrics['tokens_per_second']:,.0f} tokens a second on {params['device']}, "
            f"{ranks}; {metrics['peak_gib']:.1f} GiB at most",
        ),
        ("Registered as", f"version {trained.version}"),
        ("SHA-256 of its files", trained.sha256),
    ]
