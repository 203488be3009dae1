"""In which order training reads the examples: rounds in which those of high perplexity come again (paper section 5.1)."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]

# Batches among which examples of one length are brought together: enough to waste little padding, few enough to stay a random order.
_BATCHES_SORTED = 32


def hardest(perplexity: NDArray[np.float32], rate: float) -> NDArray[np.bool_]:
    """Return (examples,) which belong to the share `rate` with the highest perplexity; of equals the first."""
    chosen = np.zeros(len(perplexity), bool)
    chosen[np.argsort(-perplexity, kind="stable")[: round(rate * len(perplexity))]] = True
    return chosen


def random_share(count: int, rate: float, *, seed: int) -> NDArray[np.bool_]:
    """Return (count,) with the share `rate` drawn at random: the control of `hardest`."""
    chosen = np.zeros(count, bool)
    chosen[np.random.default_rng(seed).permutation(count)[: round(rate * count)]] = True
    return chosen


def training_order(lengths: Sequence[int], epochs: Ints, *, batch_size: int, seed: int) -> Ints:
    """Return the positions of examples in the order of training, each as often as its epochs say.

    There are as many rounds as the highest number of epochs. An example stands in as many of them as it has epochs, evenly apart, so that
    every round has the same share of each kind and a limit on the steps leaves out no kind. Within a round the order is random, and batches
    hold examples of like length.

    Args:
        lengths: tokens of each example.
        epochs: (examples,) how often each is read.
        batch_size: examples per optimiser step.
        seed: of the random order.
    """
    rng = np.random.default_rng(seed)
    rounds = int(epochs.max(initial=0))
    first = rng.integers(rounds, size=len(epochs)) if rounds else epochs
    order: list[Ints] = []
    for number in range(rounds):
        # In `epochs` of any `rounds` rounds on end this grows by one, wherever it begins.
        turns = (number - first) % rounds
        here = (turns + 1) * epochs // rounds > turns * epochs // rounds
        order.append(_alike_together(rng.permutation(np.flatnonzero(here)), np.asarray(lengths), batch_size, rng))
    return np.concatenate(order) if order else np.zeros(0, np.int64)


def _alike_together(order: Ints, lengths: Ints, batch_size: int, rng: np.random.Generator) -> Ints:
    """Sort stretches of a random order by length, cut them into batches, and shuffle the batches."""
    stretch = _BATCHES_SORTED * batch_size
    batches: list[Ints] = []
    for start in range(0, len(order), stretch):
        part = order[start : start + stretch]
        part = part[np.argsort(-lengths[part], kind="stable")]
        batches += [part[place : place + batch_size] for place in range(0, len(part), batch_size)]
    # A batch that is not full stays last: before others it would shift them all.
    full = [batch for batch in batches if len(batch) == batch_size]
    rest = [batch for batch in batches if len(batch) < batch_size]
    return np.concatenate([full[place] for place in rng.permutation(len(full))] + rest) if batches else order
