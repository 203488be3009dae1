"""The base model and its tokenizer, as the settings name them."""

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fashionrec.errors import UserError
from fashionrec.settings.model import BaseLanguageModel

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


class LanguageModelError(UserError):
    """The language model cannot be loaded, trained or served as asked."""


def load_tokenizer(path: str | Path, revision: str = "") -> "PreTrainedTokenizerBase":
    """Return a tokenizer that ends answers with its end-of-sequence token and pads with any.

    Raises:
        LanguageModelError: it cannot be read, or has no end-of-sequence token.
    """
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), **_source(str(path), revision))
    except (OSError, ValueError) as error:
        raise LanguageModelError(f"tokenizer {path}: cannot be read: {first_line(error)}; check llm.base") from None
    if tokenizer.eos_token_id is None:
        raise LanguageModelError(f"tokenizer {path}: has no end-of-sequence token, so no answer could end; choose another llm.base")
    # Padded places are masked, so any token serves.
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    return tokenizer


def load_base(base: BaseLanguageModel, **options: Any) -> "PreTrainedModel":
    """Return the base model, in the number format of the settings unless `options` of transformers' `from_pretrained` say otherwise.

    Only safetensors are read, those of the named revision, and no code that comes with a model is run.

    Raises:
        LanguageModelError: it cannot be read.
    """
    import torch
    from transformers import AutoModelForCausalLM

    # Else it asks a service for safetensors where the hub has none, and reads those of another revision.
    os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    options = {"dtype": getattr(torch, base.dtype), **options}
    try:
        return AutoModelForCausalLM.from_pretrained(base.path, use_safetensors=True, **_source(base.path, base.revision), **options)
    except (OSError, ValueError) as error:
        raise LanguageModelError(
            f"base model {base.path}: cannot be read: {first_line(error)}; only safetensors are read and no code that comes with a model "
            "is run; check llm.base"
        ) from None


def unpinned(base: BaseLanguageModel) -> str | None:
    """Return a warning where the base comes from a hub without the commit that it was at, else None."""
    if Path(base.path).is_dir() or re.fullmatch("[0-9a-f]{40}", base.revision):
        return None
    return (
        f"base model {base.path}: revision {base.revision!r} is no commit, so another day may load other weights; "
        "write the commit's 40 digits into the file of llm.base"
    )


def first_line(error: Exception) -> str:
    """Return what a library's error says first, to stand within a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _source(path: str, revision: str) -> dict[str, Any]:
    """Where transformers may look: a folder has no revision and needs no hub."""
    local = Path(path).is_dir()
    return {"trust_remote_code": False, "local_files_only": local, "revision": None if local or not revision else revision}
