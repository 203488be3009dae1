"""What the weights give away: how much a model prefers planted canaries to what it never saw."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any, NamedTuple

from fashionrec.llm.base import load_base
from fashionrec.llm.canaries import Canary, other_ids
from fashionrec.llm.examples import IGNORED, prompt_ids
from fashionrec.settings.model import Llm

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase

ALTERNATIVES = 255
_BATCH = 128


class _Measured(NamedTuple):
    exposure: float
    reproduced: bool


def measure_memorisation(llm: Llm, tokenizer: "PreTrainedTokenizerBase", canaries: Sequence[Canary], *, adapter: Path) -> dict[str, Any]:
    """Return how far base and adapter, in the format that is served, have memorised canaries.

    `canaries` has a row for each: query, response, copies; `exposure` (bits: 8 where its response is more probable than the same one with
    each of 255 other IDs drawn alike, about 1.4 on average where it is one of them), `exposure_before` (of the base alone), and
    `reproduced`: whether the model, asked the query, answers with the canary's response, always taking the most probable token.
    `by_copies` has the mean exposure and the number reproduced for each number of copies; 0 are the controls that were not planted.
    """
    from peft import PeftModel

    model = PeftModel.from_pretrained(load_base(llm.base).to(llm.device), str(adapter)).eval()
    rows = []
    for canary in canaries:
        after = _measure(model, tokenizer, canary, seed=llm.seed)
        with model.disable_adapter():
            before = _measure(model, tokenizer, canary, seed=llm.seed)
        rows.append(
            {
                "query": canary.query,
                "response": canary.response,
                "copies": canary.copies,
                "exposure_before": before.exposure,
                "exposure": after.exposure,
                "reproduced": after.reproduced,
            }
        )
    return {"alternatives": ALTERNATIVES, "canaries": rows, "by_copies": _by_copies(rows)}


def exposure_figures(report: Mapping[str, Any]) -> dict[str, float]:
    """Return of a report (see `measure_memorisation`) the mean exposures of what was planted and of the controls, and the counts."""
    planted = [row for row in report["canaries"] if row["copies"]]
    controls = [row for row in report["canaries"] if not row["copies"]]
    return {
        "canary_exposure": fmean(row["exposure"] for row in planted),
        "control_exposure": fmean(row["exposure"] for row in controls),
        "canaries": len(planted),
        "canaries_reproduced": sum(row["reproduced"] for row in planted),
    }


def _measure(model: "PeftModel", tokenizer: "PreTrainedTokenizerBase", canary: Canary, *, seed: int) -> _Measured:
    import torch

    (prompt,) = prompt_ids(tokenizer, [canary.prompt])
    ids = [canary.item_id, *other_ids(canary, ALTERNATIVES, seed=seed)]
    texts = [canary.response.replace(canary.item_id, other, 1) for other in ids]
    rows = [[*row, tokenizer.eos_token_id] for row in tokenizer(texts, add_special_tokens=False).input_ids]
    device = next(model.parameters()).device
    losses: list[float] = []
    reproduced = False
    with torch.inference_mode():
        for start in range(0, len(rows), _BATCH):
            part = rows[start : start + _BATCH]
            longest = max(map(len, part))
            answers = torch.tensor([row + [IGNORED] * (longest - len(row)) for row in part], device=device)
            logits = _logits_behind(model, torch.tensor([prompt], device=device), answers)
            nats = torch.nn.functional.cross_entropy(logits.transpose(1, 2), answers, ignore_index=IGNORED, reduction="none")
            losses += nats.sum(1).tolist()
            if start == 0:
                length = len(rows[0])
                reproduced = bool((logits[0, :length].argmax(-1) == answers[0, :length]).all())
    rank = 1 + sum(loss <= losses[0] for loss in losses[1:])
    return _Measured(math.log2(len(losses)) - math.log2(rank), reproduced)


def _logits_behind(model: "PeftModel", prompt: Any, answers: Any) -> Any:
    """Return the logits of each place of each answer behind one prompt, (answers, longest, vocabulary) float32; the prompt is read once."""
    import torch

    read = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    cache = read.past_key_values
    cache.batch_repeat_interleave(len(answers))
    # Padding stands at the end, which causal attention never looks at.
    behind = model(input_ids=answers.clamp(min=0)[:, :-1], past_key_values=cache, use_cache=True).logits
    return torch.cat([read.logits[:, -1:].expand(len(answers), -1, -1), behind], 1).float()


def _by_copies(rows: Sequence[dict[str, Any]]) -> list[dict[str, float]]:
    found = []
    for copies in sorted({row["copies"] for row in rows}):
        of = [row for row in rows if row["copies"] == copies]
        mean = {name: fmean(row[name] for row in of) for name in ("exposure_before", "exposure")}
        found.append({"copies": copies, "canaries": len(of), **mean, "reproduced": sum(row["reproduced"] for row in of)})
    return found
