"""Queries that differ in case, accents, width, punctuation, spaces or repeated words only are one query, in every language."""

import re
import unicodedata

from pyspark.sql import Column
from pyspark.sql import functions as f

_COMBINING = "\u0300-\u036f"


def _folds() -> dict[str, str]:
    """Return the letters and digits that fold to one plain character: what is left of their compatibility form without accents.

    It is one-to-one, so that Spark's `translate` can do it; Spark has no normalisation of its own. Korean syllables, ligatures and
    fractions, whose form has several characters, stay as they are.
    """
    folds = {}
    for code in (*range(0x80, 0x2500), *range(0xFF00, 0xFFEF)):
        letter = chr(code)
        plain = re.sub(f"[{_COMBINING}]", "", unicodedata.normalize("NFKD", letter)).lower()
        if plain != letter and len(plain) == 1 and _is_word(letter) and _is_word(plain):
            folds[letter] = plain
    return folds


def _is_word(letter: str) -> bool:
    return unicodedata.category(letter)[0] in "LMN"


_FOLDS = _folds()
_TABLE = str.maketrans(_FOLDS)


def normalise_query(query: Column) -> Column:
    """Return the queries in lower case without accents, each run of anything but letters, marks and digits as one space, each word once."""
    folded = f.translate(f.lower(query), "".join(_FOLDS), "".join(_FOLDS.values()))
    plain = f.regexp_replace(folded, f"[{_COMBINING}]", "")
    words = f.split(f.trim(f.regexp_replace(plain, r"[^\p{L}\p{M}\p{N}]+", " ")), " ")
    return f.array_join(f.array_distinct(words), " ")


def normalise_text(query: str) -> str:
    """Return what `normalise_query` makes of one query."""
    plain = re.sub(f"[{_COMBINING}]", "", query.lower().translate(_TABLE))
    return " ".join(dict.fromkeys("".join(letter if _is_word(letter) else " " for letter in plain).split()))
