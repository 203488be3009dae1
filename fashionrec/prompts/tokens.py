"""Count tokens with the base model's own tokenizer, without the model's libraries."""

from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path

from fashionrec.errors import UserError

CountTokens = Callable[[str], int]


class TokenizerError(UserError):
    """The base model has no tokenizer that can be read."""


@cache
def token_counter(path: str, revision: str) -> CountTokens:
    """Return a function that gives the tokens of a text, with those that the tokenizer adds to every prompt; loaded once per process.

    Args:
        path: folder with a `tokenizer.json`, or a model's name on a hub.
        revision: revision on the hub; a folder has none.

    Raises:
        TokenizerError: there is no tokenizer at `path`.
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

    def count(text: str) -> int:
        return len(tokenizer.encode(text).ids)

    # The same lines come again in all examples of a user and in all that search alike; whole prompts do not.
    count_line = lru_cache(maxsize=100_000)(count)
    return lambda text: count_line(text) if len(text) <= _LINE_CHARS else count(text)


# Longer than a template's instruction, shorter than most prompts.
_LINE_CHARS = 600
