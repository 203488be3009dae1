"""The answer's one format, `<item id> | <title>`: written for training, enforced while decoding, read after it (paper section 4.2)."""

import re
import unicodedata
from typing import NamedTuple

from fashionrec.errors import UserError

MAX_ID_CHARS = 24
MAX_TITLE_CHARS = 80
SEPARATOR = " | "
# What stands for a title of which cleaning leaves nothing.
UNTITLED = "untitled"

ID_PATTERN = rf"[A-Za-z0-9_-]{{1,{MAX_ID_CHARS}}}"
# What a title shows: no blanks, exotic spaces or control characters, no separator, no brackets that models write their special tokens with.
# Listed rather than excluded: a decoder takes an excluding class to hold the surrogates too, and what it then writes is no UTF-8.
# The gaps are U+1680, U+2000-200F, U+2028-202F, U+205F-206F, U+3000, the surrogates and U+FEFF.
_SHOWN = "!-;=?-{}~\u00a1-\u167f\u1681-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff\ue000-\ufefe\uff00-\U0010ffff"
_TITLE = rf"[{_SHOWN}]([ {_SHOWN}]{{0,{MAX_TITLE_CHARS - 2}}}[{_SHOWN}])?"
_ANSWER = re.compile(rf"({ID_PATTERN}) \| ({_TITLE})")
_FITTING_ID = re.compile(ID_PATTERN)
_UNCLEAN = re.compile(r"[^ -~]|[|<>]")


class AnswerError(UserError):
    """An item cannot be written as an answer."""


class ParsedAnswer(NamedTuple):
    """An answer as read: ID and title, or the reason why it could not be read and neither."""

    item_id: str | None
    title: str | None
    error: str | None


def clean_text(text: str, max_chars: int) -> str:
    """Return text that cannot change a prompt's structure: one line, single blanks, no `|`, `<` or `>`, at most `max_chars` characters.

    It is cut at the last word that fits, and within a word only if that word is alone too long. May return an empty text.
    """
    # Far longer texts than are kept need no cleaning to their end.
    text = text[: 8 * max_chars]
    if _UNCLEAN.search(text):
        text = "".join(map(_clean_char, text))
    return cut_words(" ".join(text.split()), max_chars)


def cut_words(text: str, max_chars: int) -> str:
    """Return the whole words of a text that fit `max_chars` characters, or the beginning of its first word where not even that fits."""
    if len(text) <= max_chars:
        return text
    head, blank, _ = text[: max_chars + 1].rpartition(" ")
    return head if blank and head else text[:max_chars]


def clean_title(title: str) -> str:
    """Return a title as prompts and answers show it: 1 to 80 characters."""
    return clean_text(title, MAX_TITLE_CHARS) or UNTITLED


def render_answer(item_id: str, title: str) -> str:
    """Return the answer that names an item.

    Raises:
        AnswerError: the ID is not made of 1 to 24 letters, digits, `-` and `_`, so no answer could name it.
    """
    if not _FITTING_ID.fullmatch(item_id):
        raise AnswerError(
            f"item {item_id!r} cannot be answered: an ID needs 1 to {MAX_ID_CHARS} of the characters A-Z a-z 0-9 _ -; "
            "rename it where the catalogue is exported"
        )
    return f"{item_id}{SEPARATOR}{clean_title(title)}"


def answer_regex() -> str:
    """Return the bounded regular expression of all answers, in the dialect of constrained decoding (no look-around, no `\\w`)."""
    return _ANSWER.pattern


def parse_answer(text: str) -> ParsedAnswer:
    """Return the ID and title of an answer, or the reason why it has none. Blanks and line ends around it do not count."""
    answer = text.strip()
    match = _ANSWER.fullmatch(answer)
    if match:
        return ParsedAnswer(match[1], match[2], None)
    return ParsedAnswer(None, None, _reason(answer))


def _reason(answer: str) -> str:
    if not answer:
        return "empty"
    if len(answer.splitlines()) > 1:
        return "more than one line"
    item_id, separator, title = answer.partition(SEPARATOR)
    if not separator:
        return "no separator"
    if not _FITTING_ID.fullmatch(item_id):
        return "not an item ID before the separator"
    if len(title) > MAX_TITLE_CHARS:
        return "title too long"
    return "not a title after the separator"


def _clean_char(char: str) -> str:
    if char in "|<>":
        return " "
    if char.isascii():
        return char if char.isprintable() else " "
    category = unicodedata.category(char)
    # Invisible formatting (zero-width and direction marks) goes; separators, controls, surrogates and unassigned code points part words.
    if category == "Cf":
        return ""
    return " " if category[0] in "CZ" else char
