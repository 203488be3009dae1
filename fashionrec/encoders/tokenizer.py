"""The tokenizer of a base model, from a folder or a hub."""

from pathlib import Path
from typing import TYPE_CHECKING

from fashionrec.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenizerError(UserError):
    """The base model's tokenizer cannot be read."""


def read_tokenizer(path: str, revision: str) -> "Tokenizer":
    """Return the tokenizer of a base model; it cuts and pads nothing.

    Args:
        path: folder with a `tokenizer.json`, or a model's name on a hub.
        revision: revision on the hub; a folder has none.

    Raises:
        TokenizerError: there is none that can be read.
    """
    from tokenizers import Tokenizer

    folder = Path(path)
    try:
        if folder.is_dir():
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        else:
            tokenizer = Tokenizer.from_pretrained(path, revision=revision or "main")
    except Exception as error:  # the library raises plain Exception for a missing or broken file
        problem = " ".join(str(error).split())
        raise TokenizerError(f"llm.base {path}: no readable tokenizer.json: {problem}; name a folder or a hub model that has one") from None
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer
