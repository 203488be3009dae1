"""The answer's one format, `<item id> | <title>`: written for training, enforced while decoding, read after it (paper section 4.2)."""

import re
from typing import NamedTuple

from fashionrec.errors import UserError
from fashionrec.prompts.clean import MAX_TITLE_CHARS, clean_title, unquote

# At one token a character an ID leaves room for a title within the 64 tokens of an answer, whatever the tokenizer.
MAX_ID_CHARS = 48
SEPARATOR = " | "

ID_PATTERN = rf"[A-Za-z0-9_./:-]{{1,{MAX_ID_CHARS}}}"
# What a title shows: no blanks, exotic spaces or control characters, no separator, no brackets that models write their special tokens with.
# Listed rather than excluded: a decoder takes an excluding class to hold the surrogates too, and what it then writes is no UTF-8.
# The gaps are U+1680, U+2000-200F, U+2028-202F, U+205F-206F, U+3000, the surrogates and U+FEFF.
_SHOWN = "!-;=?-{}~\u00a1-\u167f\u1681-\u1fff\u2010-\u2027\u2030-\u205e\u2070-\u2fff\u3001-\ud7ff\ue000-\ufefe\uff00-\U0010ffff"
_TITLE = rf"[{_SHOWN}]([ {_SHOWN}]{{0,{MAX_TITLE_CHARS - 2}}}[{_SHOWN}])?"
_ANSWER = re.compile(rf"({ID_PATTERN}) \| ({_TITLE})")
_FITTING_ID = re.compile(ID_PATTERN)
_FITTING_TITLE = re.compile(_TITLE)
_LABEL = re.compile(r"\A\s*answer\s*[:\uff1a]", re.IGNORECASE)


class AnswerError(UserError):
    """An item cannot be written as an answer."""


class ParsedAnswer(NamedTuple):
    """An answer as read: ID and title, or the reason why it could not be read and neither."""

    item_id: str | None
    title: str | None
    error: str | None


def render_answer(item_id: str, title: str) -> str:
    """Return the answer that names an item.

    Raises:
        AnswerError: the ID is not made of 1 to 48 letters, digits and signs of `_-./:`, so no answer could name it.
    """
    if not _FITTING_ID.fullmatch(item_id):
        raise AnswerError(
            f"item {item_id!r} cannot be answered: an ID needs 1 to {MAX_ID_CHARS} of the characters A-Z a-z 0-9 _ - . / :; "
            "rename it where the catalogue is exported"
        )
    return f"{item_id}{SEPARATOR}{clean_title(title)}"


def answer_regex() -> str:
    """Return the bounded regular expression of all answers, in the dialect of constrained decoding (no look-around, no `\\w`)."""
    return _ANSWER.pattern


def parse_answer(text: str) -> ParsedAnswer:
    """Return the ID and title of an answer, or the reason why it has none.

    Blanks and line ends around it, a leading `Answer:`, blanks or none around the separator, and quotes or backticks around ID, title or
    all do not count.
    """
    # An ID may begin like the label.
    answer = text if _ANSWER.fullmatch(text) else unquote(_LABEL.sub("", text))
    item_id, separator, title = answer.partition(SEPARATOR.strip())
    item_id, title = unquote(item_id), unquote(title)
    if separator and _FITTING_ID.fullmatch(item_id) and _FITTING_TITLE.fullmatch(title):
        return ParsedAnswer(item_id, title, None)
    return ParsedAnswer(None, None, _reason(answer, item_id, separator, title))


def _reason(answer: str, item_id: str, separator: str, title: str) -> str:
    if not answer:
        return "empty"
    if len(answer.splitlines()) > 1:
        return "more than one line"
    if not separator:
        return "no separator"
    if not _FITTING_ID.fullmatch(item_id):
        return "not an item ID before the separator"
    if len(title) > MAX_TITLE_CHARS:
        return "title too long"
    return "not a title after the separator"
