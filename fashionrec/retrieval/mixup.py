"""The paper's fusion of two ranked lists (section 4.4)."""

from collections.abc import Hashable, Iterable, Sequence
from itertools import islice
from typing import TypeVar

Item = TypeVar("Item", bound=Hashable)


def mixup(id_list: Sequence[Item], title_list: Sequence[Item], *, m: int, n: int) -> list[Item]:
    """Return at most `n` distinct items: the head `m` of the ID list, then positions m+1 to n of the title list.

    Where duplicates leave room, the title list's skipped head follows, then the rest of both lists: two full rankings give a full ranking.
    Without an ID list the title list stands as it is.
    """
    head = min(m, len(id_list))
    return list(islice(dict.fromkeys(_in_order(id_list, title_list, head, max(head, n))), n))


def _in_order(id_list: Sequence[Item], title_list: Sequence[Item], head: int, end: int) -> Iterable[Item]:
    for part in (id_list[:head], title_list[head:end], title_list[:head], title_list[end:], id_list[head:]):
        yield from part
