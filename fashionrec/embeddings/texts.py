"""Queries and titles as the title space compares them."""

import re
import unicodedata
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix


def normalised(text: str) -> str:
    """Return a text in one case, with single spaces: texts that are equal then are one text to the model."""
    return " ".join(unicodedata.normalize("NFKC", text).casefold().split())


def words(text: str) -> list[str]:
    """Return the words of a text, in one case, without punctuation: women's is womens."""
    return re.findall(r"\w+", re.sub("['\u2019]", "", normalised(text)))


def word_numbers(texts: Sequence[str]) -> dict[str, int]:
    """Return a number for each word of the texts, from 0 in alphabetical order."""
    return {word: number for number, word in enumerate(sorted({word for text in texts for word in words(text)}))}


def word_table(texts: Sequence[str], numbers: Mapping[str, int]) -> csr_matrix:
    """Return which words each text has, (texts, words + 1) float32 of 0 and 1; the last column stands for all words without a number."""
    rows = [sorted({numbers.get(word, len(numbers)) for word in words(text)}) for text in texts]
    starts = np.concatenate([[0], np.cumsum([len(row) for row in rows])]).astype(np.int64)
    columns: NDArray[np.int64] = np.fromiter((column for row in rows for column in row), dtype=np.int64, count=int(starts[-1]))
    return csr_matrix((np.ones(len(columns), dtype=np.float32), columns, starts), shape=(len(texts), len(numbers) + 1))
