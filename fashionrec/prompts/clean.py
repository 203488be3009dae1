"""Text of shoppers and sellers is data: what could act as the prompt's structure, as markup or as an identity is taken out of it."""

import html
import re
import unicodedata

# Longer words are no words, in scripts that part them by spaces.
MAX_WORD_CHARS = 40
# What stands for a title of which cleaning leaves nothing.
UNTITLED = "untitled"
MAX_TITLE_CHARS = 80

# Characters that read like the template's own, and like those of markup.
_LOOKALIKES = str.maketrans(
    dict.fromkeys("\uff1a\u2236\ufe13\ufe55\u02d0\u02f8\ua789\u0589", ":")
    | dict.fromkeys("\uff5c\u2502\u2503\u2223\u01c0\u2758\uffe8\u23d0\u00a6", "|")
    | dict(zip("\uff1c\ufe64\uff1e\ufe65\uff3b\uff3d\uff5b\uff5d\uff03\uff20\uff0a\uff3c\uff40", "<<>>[]{}#@*\\`", strict=True))
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|\w{2,31});")
_TAG = re.compile(r"<[/!?|]?[A-Za-z|][^<>]*>")
_ESCAPED_BLANK = re.compile(r"\\[nrt]")
_MARKUP = re.compile(r"[|<>\[\]{}*#~^`\\]|_{2,}|={2,}|-{3,}")
# A word with a colon behind it begins a line of the template or the words of a chat role; a ratio or a time (1:2) does neither.
_COLON = re.compile(r"(?<!\d):|:(?!\d)")
_TOP_LEVEL = "com|net|org|info|biz|io|co|shop|store|app|xyz|top|ru|cn|de|uk|fr|it|es|nl|se|pl|eu|jp|br|in|au|us|me|ly"
_IDENTITIES = re.compile(
    "|".join(
        (
            r"\S*@\S*",
            r"\b(?:https?|ftp|file|data|javascript)\s?:\S*",
            rf"\bwww\.\S+|\b[\w-]+(?:\.[\w-]+)*\.(?:{_TOP_LEVEL})/\S*",
            r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b",
            r"\b[0-9a-f]{16,}\b",
            # Bank accounts, cards, telephones. An article number of up to 11 digits in a row is none of them.
            r"\b[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){3,}(?: ?[A-Z0-9]{1,3})?\b",
            r"\b\d{4}[ .-]\d{4}[ .-]\d{4}[ .-]\d{1,7}\b|\b\d{4}[ .-]\d{6}[ .-]\d{5}\b",
            r"\d{12,}",
            r"\+\d[\d ()./-]{6,}\d",
            r"\(\d{2,5}\) ?\d{2,}(?:[ ./-]\d+)*",
            r"\b\d{3}[ .-]\d{3}[ .-]\d{4}\b",
            r"\b0\d{1,4} ?[ ./-] ?\d{3,}(?:[ ./-]\d{2,})*\b",
        )
    ),
    re.IGNORECASE,
)
# Thai, Lao, Tibetan, Burmese, Khmer, Chinese, Japanese and Korean write words without spaces between them, or may.
_UNSPACED = "\u0e00-\u0fff\u1000-\u109f\u1780-\u17ff\u2e80-\ud7ff\uf900-\ufaff\uff00-\uffef\U00020000-\U0003ffff"
_LONG_WORD = re.compile(rf"([^\s{_UNSPACED}]{{{MAX_WORD_CHARS}}})[^\s{_UNSPACED}]+")
# What most titles are without: then there is nothing to clean.
_SUSPECT = re.compile(
    rf"[^A-Za-z0-9 ,.!?'\"()&%+/-]|  |^ | $|--|\d[\d ()./-]{{5,}}\d|[0-9a-fA-F]{{16}}|\S{{{MAX_WORD_CHARS + 1}}}|[wW]\.|\.[a-zA-Z]+/"
)
_QUOTES = ('""', "''", "``", "“”", "\u2018\u2019", "«»", "„“", "「」", "『』")


def clean_text(text: str, max_chars: int) -> str:
    """Return text that changes no prompt's structure and names nobody: one line, single blanks, at most `max_chars` characters.

    Without control and zero-width characters, `|`, `<`, `>`, markup, colons but between digits, e-mail addresses, URLs, numbers of
    telephones and cards, long hexadecimal strings; words of more than 40 characters are cut. The whole is cut at the last word that fits,
    and within a word only if that is alone too long. May return an empty text.
    """
    # Far longer texts than are kept need no cleaning to their end.
    text = text[: 8 * max_chars]
    if not _SUSPECT.search(text):
        return cut_words(text, max_chars)
    # What stood on two sides of something taken out or cut off may now be something else: again, until nothing is found.
    while (cleaned := cut_words(_clean_once(text), max_chars)) != text:
        text = cleaned
    return text


def cut_words(text: str, max_chars: int) -> str:
    """Return the whole words of a text that fit `max_chars` characters, or the beginning of its first word where not even that fits."""
    if len(text) <= max_chars:
        return text
    head, blank, _ = text[: max_chars + 1].rpartition(" ")
    return head if blank and head else text[:max_chars]


def clean_title(title: str) -> str:
    """Return a title as prompts and answers show it: 1 to 80 characters, not in quotes as a whole."""
    return unquote(clean_text(title, MAX_TITLE_CHARS)) or UNTITLED


def unquote(text: str) -> str:
    """Return a text without blanks and quotes around the whole of it; quotes around a part stay."""
    text = text.strip()
    while len(text) > 1 and text[0] + text[-1] in _QUOTES and not {text[0], text[-1]} & set(text[1:-1]):
        text = text[1:-1].strip()
    return text


def _clean_once(text: str) -> str:
    text = _ENTITY.sub(lambda match: html.unescape(match[0]), text)
    if not (text.isascii() and text.isprintable()):
        text = "".join(map(_clean_char, text)).translate(_LOOKALIKES)
    text = _TAG.sub(" ", _ESCAPED_BLANK.sub(" ", text))
    text = _MARKUP.sub(" ", _IDENTITIES.sub(" ", text))
    return " ".join(_LONG_WORD.sub(r"\1", _COLON.sub(" ", text)).split())


def _clean_char(char: str) -> str:
    if char.isascii():
        return char if char.isprintable() else " "
    category = unicodedata.category(char)
    # Invisible formatting (zero-width and direction marks) goes; separators, controls, surrogates and unassigned code points part words.
    if category == "Cf":
        return ""
    return " " if category[0] in "CZ" else char
