"""The former names of `ngram`, until nothing uses them."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fashionrec.memory import ngram


def encoder_name(dim: int) -> str:
    return f"ngram-{ngram.VERSION}-{dim}"


def encode(texts: Sequence[str], *, dim: int) -> NDArray[np.float32]:
    return ngram.encode(texts)[:, :dim]
