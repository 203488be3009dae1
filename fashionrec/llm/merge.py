"""Make a trained adapter servable: beside its base where vLLM takes adapters, else merged into it."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fashionrec.llm import golden
from fashionrec.llm.base import load_base
from fashionrec.llm.examples import Example
from fashionrec.settings.model import BaseLanguageModel

if TYPE_CHECKING:
    from peft import PeftModel
    from transformers import PreTrainedTokenizerBase


def finish_adapter(
    base: BaseLanguageModel, tokenizer: "PreTrainedTokenizerBase", examples: Sequence[Example], *, folder: Path, device: str
) -> dict[str, float]:
    """Make `folder/adapter` servable and return the figures, of which a base with live adapters has the first only.

    The base is read anew in the number format of the settings, for the 4-bit one's rounding must not be served. With the adapter it answers
    golden prompts, the first few of `examples`, whose answers are kept in `folder/golden.json`. Where vLLM serves no live adapters, the two
    are merged into `folder/merged` (safetensors and tokenizer), which must answer alike when it is read back.

    Figures: `golden_tokens` (tokens of the golden answers), `merge_agreement` (share of them that the merged model chooses, too),
    `merge_equal_answers` (share of the answers that are the same from the first token to the last).

    Raises:
        LanguageModelError: the merged model chooses fewer than 95% of the tokens.
    """
    from peft import PeftModel

    # What training held is given back first: the fresh base needs the room.
    gc.collect()
    adapter = folder / "adapter"
    model = PeftModel.from_pretrained(load_base(base).to(device), str(adapter)).eval()
    answers = golden.answer_greedily(model, tokenizer, examples)
    golden.save(answers, folder)
    figures = {"golden_tokens": float(sum(len(answer.answer_ids) for answer in answers))}
    if base.live_adapter:
        return figures
    merged = folder / "merged"
    _merge(model, merged)
    tokenizer.save_pretrained(str(merged))
    del model
    gc.collect()
    saved = base.model_copy(update={"path": str(merged), "revision": ""})
    agreement = golden.compare(load_base(saved).to(device).eval(), answers)
    golden.require(agreement, f"the merged model of {merged}", f"{base.dtype} may be too coarse for this base: try another dtype")
    return figures | {"merge_agreement": agreement.tokens, "merge_equal_answers": agreement.answers}


def _merge(model: "PeftModel", merged: Path) -> None:
    whole = model.merge_and_unload()
    whole.config.use_cache = True
    whole.save_pretrained(str(merged), safe_serialization=True)
