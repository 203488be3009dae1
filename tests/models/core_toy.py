"""A toy shop for setting our CORE beside RecBole's: what both are trained on, and weights that both can be given.

Made-up sessions over 96 items in 12 groups. What follows depends on the newest item far more than on those before it, so that learned
weights have something to learn that a mean cannot say.
"""

from random import Random
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

ITEMS, GROUP = 96, 8
SESSIONS, TEST_SESSIONS, MOST_ITEMS = 500, 250, 7


class Example(NamedTuple):
    """A session's first items, oldest to newest, and the one that followed; items are numbered from 0."""

    items: tuple[int, ...]
    target: int


def examples() -> tuple[list[Example], list[Example]]:
    """Return the training and the test examples: every beginning of a session with what followed it; both are of different sessions."""
    dice = Random(6)
    sessions = [_session(dice) for _ in range(SESSIONS + TEST_SESSIONS)]
    train, test = (
        [Example(session[:end], session[end]) for session in part for end in range(1, len(session))]
        for part in (sessions[:SESSIONS], sessions[SESSIONS:])
    )
    return train, test


def given_weights(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    """Return weights that depend on the name only, uniform between -1/2 and 1/2: large, so that every part has its say."""
    return np.random.default_rng(list(name.encode())).uniform(-0.5, 0.5, shape).astype(np.float32)


def _session(dice: Random) -> tuple[int, ...]:
    session = [int(ITEMS * dice.random())]
    for _ in range(1 + int((MOST_ITEMS - 1) * dice.random())):
        session.append(_next(session[-1], dice))
    return tuple(session)


def _next(item: int, dice: Random) -> int:
    """Half of the time the item's follower in another group, else often one of its own group, else any."""
    chance = dice.random()
    if chance < 0.5:
        return (item + GROUP + 1) % ITEMS
    if chance < 0.8:
        return item - item % GROUP + int(GROUP * dice.random())
    return int(ITEMS * dice.random())
