"""Count tokens with the base model's own tokenizer, without the model's libraries."""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from fashionrec.errors import UserError

if TYPE_CHECKING:
    from tokenizers import Tokenizer


class TokenizerError(UserError):
    """The base model has no tokenizer that can be read."""


class TokenCounter:
    """Counts of whole texts, and of lines that stand behind others."""

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        self._line_end = self._count_inside("\n")

    def count(self, text: str) -> int:
        """Return the tokens of a whole text, with those that the tokenizer adds to every prompt."""
        return len(self._tokenizer.encode_batch_fast([text])[0])

    def count_lines(self, lines: str) -> int:
        """Return the tokens of whole lines that stand behind another one: some tokenizers mark where a text begins."""
        return self._count_inside("\n" + lines) - self._line_end

    def lines_add_up(self, starts: Iterable[str], ends: Iterable[str]) -> bool:
        """Return whether the tokens of every text are those of its lines together; `count` has to be asked for the whole where not.

        Proved in two parts. No entry of the vocabulary holds a line end with something behind it that begins a line: whatever the model
        joins, it joins nothing across. And no rule before the model (normaliser, splitter, added tokens) looks across: every joint is
        tokenised both ways, with characters of all Unicode categories before the line end.

        Args:
            starts: every text that a line may begin with, up to its first character of data.
            ends: every constant text before a line end, without it; "" for lines that end in data.
        """
        if self._joins_lines:
            return False
        before = [end for end in ends if end] + [f"a{char}" for char in _every_category()]
        before = [text.removesuffix("\n") + "\n" for text in before]
        after = ["\n" + start for start in starts]
        alone = [encoding.ids for encoding in self._tokenizer.encode_batch_fast(before, add_special_tokens=False)]
        behind = [encoding.ids[self._line_end :] for encoding in self._tokenizer.encode_batch_fast(after, add_special_tokens=False)]
        for start, right in zip(after, behind, strict=True):
            joints = self._tokenizer.encode_batch_fast([text + start[1:] for text in before], add_special_tokens=False)
            if any(joint.ids != left + right for left, joint in zip(alone, joints, strict=True)):
                return False
        text = before[0] + after[0][1:]
        return self.count(text) == self._count_inside(text) + self.count("")

    @cached_property
    def _joins_lines(self) -> bool:
        """Whether a token may hold a line end and, behind it, what may begin a line."""
        # Byte-level vocabularies write a line end as U+010A and a blank as U+0120, others as they are or as a byte.
        as_byte = "\u010a" in self._tokenizer.encode("\n", add_special_tokens=False).tokens
        inner = re.compile("\u010a[^\u010a\u010d\u0109\u0120]" if as_byte else r"(?:\n|<0x0A>)[^\s\u2581]")
        return any(map(inner.search, self._tokenizer.get_vocab()))

    def _count_inside(self, text: str) -> int:
        return len(self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0])


@cache
def token_counter(path: str, revision: str) -> TokenCounter:
    """Return the counter of a tokenizer; loaded once per process.

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
    return TokenCounter(tokenizer)


@cache
def _every_category() -> tuple[str, ...]:
    """Return all visible ASCII characters, the first three others of every Unicode category that data can hold, a kanji and an emoji."""
    found: dict[str, list[str]] = {}
    for char in map(chr, range(0xA1, 0x3000)):
        category = unicodedata.category(char)
        if category[0] not in "CZ" and len(found.setdefault(category, [])) < 3:
            found[category].append(char)
    return (*map(chr, range(0x21, 0x7F)), *(char for chars in found.values() for char in chars), "\u8d64", "\U0001f600")
