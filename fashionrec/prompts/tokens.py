"""Count tokens with the base model's own tokenizer, without the model's libraries.

Encoding is what takes the time, and the same words come again in all prompts. Most tokenizers split at blanks and line ends before anything
else; of one that provably does, each word is encoded once, and a text's tokens are those of its words together.
"""

import re
import unicodedata
from collections.abc import Iterable
from functools import cache, cached_property, lru_cache
from typing import TYPE_CHECKING

from fashionrec.encoders.tokenizer import read_tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer

# Words remembered per process; under a hundred bytes each.
_REMEMBERED = 500_000


class TokenCounter:
    """Counts of whole texts, and of lines that stand behind others.

    What adds up is proved for each tokenizer, in two parts. No entry of its vocabulary reaches across the joint: whatever the model joins,
    it joins nothing there. And no rule before the model (normaliser, splitter, added tokens) looks across: joints of characters of all
    Unicode categories are tokenised both ways.
    """

    def __init__(self, tokenizer: "Tokenizer") -> None:
        self._tokenizer = tokenizer
        # Some tokenizers mark where a text begins: what stands behind another text is counted behind one.
        self._first_word = lru_cache(_REMEMBERED)(lambda text: len(self._ids_behind("\n", text)))
        self._word = lru_cache(_REMEMBERED)(lambda text: len(self._ids_behind("a", f" {text}")))

    def count(self, text: str) -> int:
        """Return the tokens of a whole text, with those that the tokenizer adds to every prompt."""
        return len(self._tokenizer.encode_batch_fast([text])[0])

    def count_lines(self, lines: str) -> int:
        """Return the tokens of whole lines that stand behind another one; they have single blanks only."""
        if not self.words_add_up:
            return len(self._ids_behind("\n", lines))
        first, *others = lines.split(" ")
        return self._first_word(first) + sum(map(self._word, others))

    @cached_property
    def words_add_up(self) -> bool:
        """Whether the tokens of every line are those of its words together, each word with the blank before it."""
        blank, line_end = self._blanks
        if self._has_entry(rf"[^\s{blank}{line_end}][{blank}]"):
            return False
        words = [f" {char}" for char in _every_category()]
        ids = [self._ids_behind("a", word) for word in words]
        for word, tokens_alone in zip(words, ids, strict=True):
            # This word before each word, and each before this one.
            expected = [*self._ids("a"), *(token for other in ids for token in (*tokens_alone, *other))]
            if self._ids("a" + "".join(word + other for other in words)) != expected:
                return False
        return True

    def lines_add_up(self, starts: Iterable[str], ends: Iterable[str]) -> bool:
        """Return whether the tokens of every text are those of its lines together; `count` has to be asked for the whole where not.

        Args:
            starts: every text that a line may begin with, up to its first character of data.
            ends: every constant text before a line end; "" for lines that end in data.
        """
        blank, line_end = self._blanks
        # Line ends and blanks behind a line end do not count: no line begins with one.
        if self._has_entry(rf"([{line_end}]|<0x0A>)[^\s{blank}{line_end}]"):
            return False
        lines = [text.removesuffix("\n") + "\n" for text in (*filter(None, ends), *(f"a{char}" for char in _every_category()))]
        ids = [self._ids(line) for line in lines]
        for start in starts:
            behind = self._ids_behind("\n", start)
            joints = self._tokenizer.encode_batch_fast([line + start for line in lines], add_special_tokens=False)
            if any(joint.ids != tokens_alone + behind for tokens_alone, joint in zip(ids, joints, strict=True)):
                return False
        # What the tokenizer adds to a text does not depend on it.
        return self.count(lines[0]) == len(ids[0]) + self.count("")

    @property
    def _blanks(self) -> tuple[str, str]:
        """Return how the vocabulary writes blanks and line ends. Byte-level ones write control characters and the blank 256 higher."""
        as_bytes = "\u010a" in self._tokenizer.encode("\n", add_special_tokens=False).tokens
        return ("\u0120\u0109\u010d", "\n\u010a") if as_bytes else (" \u2581", "\n")

    def _has_entry(self, pattern: str) -> bool:
        return any(map(re.compile(pattern).search, self._tokenizer.get_vocab()))

    def _ids_behind(self, before: str, text: str) -> list[int]:
        return self._ids(before + text)[len(self._ids(before)) :]

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer.encode_batch_fast([text], add_special_tokens=False)[0].ids
        return ids


@cache
def token_counter(path: str, revision: str) -> TokenCounter:
    """Return the counter of a tokenizer; loaded once per process.

    Args:
        path: folder with a `tokenizer.json`, or a model's name on a hub.
        revision: revision on the hub; a folder has none.

    Raises:
        TokenizerError: there is no tokenizer at `path`.
    """
    return TokenCounter(read_tokenizer(path, revision))


@cache
def _every_category() -> tuple[str, ...]:
    """Return all visible ASCII characters, the first three others of every Unicode category that data can hold, a kanji and an emoji."""
    found: dict[str, list[str]] = {}
    for char in map(chr, range(0xA1, 0x3000)):
        category = unicodedata.category(char)
        if category[0] not in "CZ" and len(found.setdefault(category, [])) < 3:
            found[category].append(char)
    return (*map(chr, range(0x21, 0x7F)), *(char for chars in found.values() for char in chars), "\u8d64", "\U0001f600")
