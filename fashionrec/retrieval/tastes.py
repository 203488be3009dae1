"""How much more often than chance a shopper touched what shares an item's attributes. Pure NumPy."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from fashionrec.retrieval.arrays import Floats, Ints, look_up
from fashionrec.retrieval.indexes import CategoryIndex
from fashionrec.retrieval.requests import Requests

# Touches' worth of chance that every shopper begins with: tastes of two clicks weigh little.
_PRIOR = 5.0


class Touches(NamedTuple):
    """Values of one attribute that shoppers touched, in the path's category and elsewhere: (touches,) requests and values' numbers."""

    of: Ints
    values: Ints
    chances: Floats  # (values,): the share of each value in the catalogue


def touches_of(index: CategoryIndex, requests: Requests) -> Iterator[Touches]:
    """Yield the touches of each attribute of the index."""
    known = requests.touched >= 0
    of = np.concatenate([requests.touched_of[known], requests.elsewhere_of])
    for values, elsewhere in zip(index.tastes.T, requests.elsewhere.T, strict=True):
        touched = np.concatenate([values[requests.touched[known]], elsewhere]).astype(np.int64)
        given = touched > 0
        counts = np.bincount(values, minlength=int(values.max(initial=0)) + 1).astype(np.float32)
        counts[0] = 0
        yield Touches(of[given], touched[given], counts / max(counts.sum(), 1))


def lifts(touches: Touches, of: Ints, values: Ints, *, requests: int) -> Floats:
    """Return log((share of the request's touches with a value) / (share of it in the catalogue)), smoothed; 0 for value 0, which is none.

    Args:
        touches: of one attribute.
        of: requests, of any shape.
        values: numbers of values beside them.
        requests: how many requests there are.
    """
    span = len(touches.chances)
    keys, counts = np.unique(touches.of * span + touches.values, return_counts=True)
    total = np.bincount(touches.of, minlength=requests)
    _, same = look_up(keys, counts, of * span + values)
    expected = np.maximum(touches.chances[values], 1e-9)
    lift = np.log((same + _PRIOR * expected) / ((total[of] + _PRIOR) * expected))
    return np.where(values > 0, lift, 0).astype(np.float32)
