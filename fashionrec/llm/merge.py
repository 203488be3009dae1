"""Merge an adapter into its base, so that engines that take no adapters can serve it."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fashionrec.llm.base import LanguageModelError, load_base
from fashionrec.llm.examples import Example
from fashionrec.settings.model import BaseLanguageModel

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedTokenizerBase

MIN_AGREEMENT = 0.95
_CHECKED = 8


def merge_adapter(
    base: BaseLanguageModel, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], *, adapter: Path, merged: Path, device: str
) -> dict[str, float]:
    """Merge an adapter into a fresh base in the number format of the settings, and save it with the tokenizer as safetensors in `merged`.

    The base is read anew because merging into the 4-bit one would keep its rounding. Return `merge_agreement`: the share of places of a few
    examples at which the saved model, read back, and base with adapter choose the same token.

    Raises:
        LanguageModelError: they agree at fewer than 95% of the places.
    """
    from peft import PeftModel

    checked = examples[:_CHECKED]
    model = PeftModel.from_pretrained(load_base(base).to(device), str(adapter)).eval()
    wanted = _choices(model, checked)
    model = model.merge_and_unload()
    model.config.use_cache = True
    model.save_pretrained(str(merged), safe_serialization=True)
    tokenizer.save_pretrained(str(merged))
    del model
    saved = base.model_copy(update={"path": str(merged), "revision": ""})
    found = _choices(load_base(saved).to(device).eval(), checked)
    agreement = float((wanted == found).float().mean())
    if agreement < MIN_AGREEMENT:
        raise LanguageModelError(
            f"merged model and adapter choose the same token at {agreement:.1%} of the places, {MIN_AGREEMENT:.0%} are needed; "
            f"{base.dtype} may be too coarse for this base: try another dtype in the file of llm.base"
        )
    return {"merge_agreement": agreement}


def _choices(model: "nn.Module", examples: Sequence[Example]) -> "torch.Tensor":
    """Return the most probable next token at every place of every example, int64 of shape (places,), on the CPU."""
    import torch

    device = next(model.parameters()).device
    with torch.inference_mode():
        rows = [torch.from_numpy(example["input_ids"]).long()[None].to(device) for example in examples]
        return torch.cat([model(input_ids=row).logits[0].argmax(-1).cpu() for row in rows])
