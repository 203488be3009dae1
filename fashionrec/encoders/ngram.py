"""Query encoder without a download: hashed character n-grams, so that a misspelt query lies near the one that was meant."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Stands beside stored vectors: whatever changes a vector changes it.
VERSION = "v1"
DIM = 256
_SIZES = (3, 4, 5)
# Constants of FNV-1a and of the finaliser of splitmix64: every bit of the hash depends on every character.
_OFFSET, _PRIME = np.uint64(0xCBF29CE484222325), np.uint64(0x100000001B3)
_MIX = ((np.uint64(30), np.uint64(0xBF58476D1CE4E5B9)), (np.uint64(27), np.uint64(0x94D049BB133111EB)))


def encode(texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the L2-normalised vectors of normalised queries, (texts, 256) float32; a text without words is the zero vector.

    Each word, with a space before and after it, gives its n-grams of 3 to 5 characters; a hash chooses the column and the sign of
    each. The vectors depend on the text alone: not on the batch, the process or the machine.
    """
    codes, rows = _characters(texts)
    columns, signs, owners = [], [], []
    for size in _SIZES:
        starts = _starts(codes, size)
        hashes = _hash(codes, starts, size)
        columns.append((hashes % np.uint64(DIM)).astype(np.int64))
        signs.append(np.where(hashes >> np.uint64(63), 1.0, -1.0))
        owners.append(rows[starts])
    cells = np.concatenate(owners) * DIM + np.concatenate(columns)
    # Without a single n-gram, bincount forgets that its weights are floats.
    sums = np.bincount(cells, weights=np.concatenate(signs), minlength=len(texts) * DIM).astype(np.float64)
    vectors = sums.reshape(len(texts), DIM)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    normalised: NDArray[np.float32] = np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0).astype(np.float32)
    return normalised


def _characters(texts: Sequence[str]) -> tuple[NDArray[np.uint32], NDArray[np.int64]]:
    """Return the code points of all texts in one array, words between single spaces, and the text that each is of; both (characters,)."""
    padded = [f" {' '.join(text.split())} " for text in texts]
    codes = np.frombuffer("".join(padded).encode("utf-32-le", "surrogatepass"), dtype="<u4")
    return codes.astype(np.uint32), np.repeat(np.arange(len(texts)), [len(text) for text in padded])


def _starts(codes: NDArray[np.uint32], size: int) -> NDArray[np.int64]:
    """Return where the n-grams of a size begin: all windows without a space inside (at the ends it marks a word's boundary)."""
    if len(codes) < size:
        return np.zeros(0, dtype=np.int64)
    windows = np.lib.stride_tricks.sliding_window_view(codes, size)
    return np.flatnonzero((windows[:, 1:-1] != ord(" ")).all(axis=1))


def _hash(codes: NDArray[np.uint32], starts: NDArray[np.int64], size: int) -> NDArray[np.uint64]:
    """Return 64-bit hashes of the n-grams, (n-grams,); the same in every process, unlike Python's own."""
    hashes = np.full(len(starts), _OFFSET ^ np.uint64(size))
    for offset in range(size):
        hashes = (hashes ^ codes[starts + offset].astype(np.uint64)) * _PRIME
    for shift, factor in _MIX:
        hashes = (hashes ^ (hashes >> shift)) * factor
    return hashes ^ (hashes >> np.uint64(31))
