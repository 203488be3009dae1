"""What retrieval finds for answers and recommendations are made of."""

from collections.abc import Callable, Sequence
from typing import NamedTuple


class Candidate(NamedTuple):
    """An item in stock, the space that it was taken from (`id` or `title`) and its cosine similarity there."""

    item_id: str
    title: str
    source: str
    similarity: float


class Retrieved(NamedTuple):
    """An answer's candidates in order, no item twice; `known_id` says whether the generated ID is an item of the category."""

    known_id: bool
    candidates: Sequence[Candidate]


# (generated IDs, generated titles) -> one Retrieved per answer
Retrieve = Callable[[Sequence[str], Sequence[str | None]], Sequence[Retrieved]]
