"""What the arrays of a batch have in common: runs of unlike lengths side by side, and looking up keys. Pure NumPy."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]


def runs(lengths: Ints) -> tuple[Ints, Ints]:
    """Return for every entry of runs, one after the other, which run it is in and its place there, from 0, both (sum of lengths,)."""
    of = np.repeat(np.arange(len(lengths)), lengths)
    return of, np.arange(len(of)) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def look_up(keys: Ints, values: NDArray[Any], wanted: Ints) -> tuple[NDArray[np.bool_], NDArray[Any]]:
    """Return whether each wanted key, of any shape, is among `keys` (ascending, not negative), and the value beside it, else 0."""
    place = np.searchsorted(keys, wanted)
    found = np.append(keys, -1)[place] == wanted
    return found, np.where(found, np.append(values, 0)[place], 0)
