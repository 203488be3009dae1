"""The fusion of all sources: a conditional logit over the candidates of one list, learnt on validation lists only. Pure NumPy and SciPy.

A list's candidates compete in a softmax (McFadden 1974); the weights of a category and of a state of the path are deviations from common
ones, shrunk towards them. A learnt list serves only where it is better than every single row for sure; else the best row serves.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict

from fashionrec.metrics import interval, ndcg_at_k, resampled_sums, target_ranks
from fashionrec.retrieval.arrays import Floats, Ints
from fashionrec.retrieval.candidates import LANGUAGE_MODEL, SOURCES
from fashionrec.retrieval.mixup import mixup
from fashionrec.retrieval.requests import STATES

# Ways to make a list of candidates, beside every source's own; the first is the one that a fusion serves.
SERVED, FUSION, WITHOUT_LLM, MIXUP = "fashionrec", "fusion", "without_llm", "mixup"
# What a row's own list is filled up with.
FILL = "popularity_28"
_COMMON_SHRINKAGE, _CATEGORY_SHRINKAGE, _STATE_SHRINKAGE = 100.0, 300.0, 100.0
_HEADS = (0, 1, 2, 3, 5, 10)
_K = 10
# Lists with their target among the candidates, fewer than which nothing is learnt.
_FEWEST = 20


class Weights(BaseModel):
    """Weights of features by name: common ones, and what a category and a state of the path add to them."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    common: dict[str, float]
    categories: dict[str, dict[str, float]]
    states: dict[str, dict[str, float]]

    def of(self, names: Sequence[str], category: str, states: Ints) -> Floats:
        """Return the weights of features for requests of a category, (requests, features) float32."""
        by_state = [[self.states.get(state, {}).get(name, 0.0) for name in names] for state in STATES]
        added = self.categories.get(category, {})
        common = [self.common.get(name, 0.0) + added.get(name, 0.0) for name in names]
        weights: Floats = (np.array(common) + np.array(by_state)[states]).astype(np.float32)
        return weights


class Rival(BaseModel):
    """How a row did on the validation lists that decided: its NDCG@10, and the interval of what the learnt list gained over it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ndcg: float
    gain: float
    low: float
    high: float


class Fusion(BaseModel):
    """What makes lists of candidates; a file of readable numbers.

    `serves` is the method whose lists are mailed and `why`; `mixup_m` the length of the mixup's head by category, "" for others;
    `made_with` the models whose answers and spaces it learnt from.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    serves: str
    why: str
    mixup_m: dict[str, int]
    weights: dict[str, Weights]
    rivals: dict[str, Rival]
    attributes: tuple[str, ...]
    made_with: dict[str, str]

    def m(self, category: str) -> int:
        return self.mixup_m.get(category, self.mixup_m[""])


class Lists(NamedTuple):
    """Validation lists whose target is among their candidates, and how many of each shopper have none.

    `of` (candidates,) numbers the lists from 0, ascending; `rank` is (sources, candidates), see `Candidates`; values are (candidates,
    features), is_target (candidates,), the rest (lists,). `missed_users` (missed,) names the shopper of each overnight list whose target
    is no candidate, and `users` that of each other list.
    """

    of: Ints
    rank: Ints
    values: Floats
    is_target: NDArray[np.bool_]
    categories: NDArray[np.object_]
    states: Ints
    overnight: NDArray[np.bool_]
    users: NDArray[np.uint64]
    missed_users: NDArray[np.uint64]


def scores_of(
    method: str, of: Ints, rank: Ints, names: Sequence[str], values: Floats, states: Ints, *, category: str, fusion: Fusion
) -> Floats:
    """Return the scores by which a method orders the candidates of a category, (candidates,); minus infinity for what it leaves out.

    Args:
        method: see above, or the name of a source.
        of, rank: of the candidates, see `Candidates`.
        names: of the features.
        values: (candidates, features).
        states: (lists,) places in STATES.
        category: of all lists.
        fusion: its weights.
    """
    if method == SERVED:
        method = fusion.serves
    if method in fusion.weights:
        weights = fusion.weights[method].of(names, category, states)
        found: Floats = np.einsum("ij,ij->i", values, weights[of])
        return found
    if method == MIXUP:
        return _filled(rank, _mixup_places(of, rank, fusion.m(category)))
    return _filled(rank, rank[list(SOURCES).index(method)])


def learn(
    lists: Lists, names: Sequence[str], sources: Sequence[str], *, attributes: Sequence[str], made_with: Mapping[str, str], serves: str
) -> Fusion:
    """Return the fusion learnt from validation lists.

    Shoppers are cut in halves; each half's lists are ranked by weights of the other half, and all of them together decide: the learnt list
    serves where the lower bound of its gain in NDCG@10 over every row is above zero, asked overnight. The weights that serve are then
    learnt on both halves.

    Args:
        lists: see there.
        names: of the features.
        sources: the source that each feature speaks for.
        attributes: those that the indexes number.
        made_with: the models.
        serves: `fusion`, or `mixup` where the settings want the paper's list whatever the figures say.
    """
    heads = _choose_heads(lists)
    common: dict[str, Any] = {"mixup_m": heads, "attributes": tuple(attributes), "made_with": dict(made_with)}
    if len(lists.users) < _FEWEST or len(np.unique(lists.users)) < 2:
        why = f"{len(lists.users)} validation lists hold their target: too few to learn from (at least {_FEWEST})"
        return Fusion(serves=MIXUP, why=why, weights={}, rivals={}, **common)
    from_model = np.isin(sources, LANGUAGE_MODEL)
    columns = {FUSION: np.ones(len(names), bool), WITHOUT_LLM: ~from_model}
    weights = {method: _fit(lists, names, chosen, np.ones(len(lists.users), bool)) for method, chosen in columns.items()}
    half = lists.users % np.uint64(2) == 0
    gains = {FUSION: np.zeros(len(lists.users)), WITHOUT_LLM: np.zeros(len(lists.users))}
    for method, chosen in columns.items():
        for learnt_on in (half, ~half):
            if not learnt_on.any():
                continue
            other = Fusion(serves=FUSION, why="", weights={method: _fit(lists, names, chosen, learnt_on)}, rivals={}, **common)
            gains[method][~learnt_on] = _ndcg(lists, names, method, other)[~learnt_on]
    plain = Fusion(serves=FUSION, why="", weights=weights, rivals={}, **common)
    rows = {method: _ndcg(lists, names, method, plain) for method in (MIXUP, *SOURCES)}
    rivals = _compare(lists, gains[FUSION], {WITHOUT_LLM: gains[WITHOUT_LLM], **rows})
    chosen_method, why = _decide({name: rival for name, rival in rivals.items() if name != WITHOUT_LLM})
    if serves == MIXUP:
        chosen_method, why = MIXUP, "the settings want the paper's mixup (retrieval.fusion)"
    return Fusion(serves=chosen_method, why=why, weights=weights, rivals=rivals, **common)


def _decide(rivals: Mapping[str, Rival]) -> tuple[str, str]:
    nearest = min(rivals, key=lambda name: rivals[name].low)
    best = max(rivals, key=lambda name: rivals[name].ndcg)
    learnt = rivals[best].ndcg + rivals[best].gain
    figures = f"NDCG@{_K} {learnt:.4f} on validation, overnight"
    bound = rivals[nearest]
    shown = f"{nearest} {bound.ndcg:.4f} (gain {bound.gain:+.4f}, interval {bound.low:+.4f} to {bound.high:+.4f})"
    if bound.low > 0:
        return FUSION, f"better than every row for sure: {figures}; nearest to it {shown}"
    return best, f"the learnt list is not better than every row for sure: {figures}, against {shown}; the best row serves"


def _compare(lists: Lists, learnt: NDArray[np.float64], rows: Mapping[str, NDArray[np.float64]]) -> dict[str, Rival]:
    """Return each row against the learnt list, over overnight lists; one whose target is no candidate counts 0 for all."""
    asked = lists.overnight
    users = np.concatenate([lists.users[asked], lists.missed_users])
    missed = np.zeros(len(lists.missed_users))
    counts = resampled_sums(users, np.ones((len(users), 1)))[:, 0]
    gains = np.stack([np.concatenate([(learnt - row)[asked], missed]) for row in rows.values()], axis=1)
    sums = resampled_sums(users, gains)
    rivals = {}
    for number, (name, row) in enumerate(rows.items()):
        low, high = interval(sums[:, number], counts)
        shown = (row[asked].sum() / max(len(users), 1), gains[:, number].mean() if len(users) else 0.0, low, high)
        rivals[name] = Rival(**{key: round(float(value), 6) for key, value in zip(("ndcg", "gain", "low", "high"), shown, strict=True)})
    return rivals


def _ndcg(lists: Lists, names: Sequence[str], method: str, fusion: Fusion) -> NDArray[np.float64]:
    """Return NDCG@10 of every list by a method, (lists,)."""
    scores = np.empty(len(lists.values), np.float32)
    for category in np.unique(lists.categories):
        at = np.flatnonzero(lists.categories[lists.of] == category)
        of, rank, values = lists.of[at], lists.rank[:, at], lists.values[at]
        scores[at] = scores_of(method, of, rank, names, values, lists.states, category=str(category), fusion=fusion)
    return ndcg_at_k(target_ranks(lists.of, scores, lists.is_target, lists=len(lists.users)), _K)


def _choose_heads(lists: Lists) -> dict[str, int]:
    """Return the mixup's best head by category, and over all for "": that of the highest mean NDCG@10, of equal ones the shortest."""
    if not len(lists.users):
        return {"": 1}
    by_head = {}
    for m in _HEADS:
        fixed = Fusion(serves=MIXUP, why="", mixup_m={"": m}, weights={}, rivals={}, attributes=(), made_with={})
        by_head[m] = _ndcg(lists, [], MIXUP, fixed)
    chosen = {"": max(_HEADS, key=lambda m: by_head[m].mean())}
    for category in np.unique(lists.categories):
        of_category = lists.categories == category
        if of_category.sum() >= _FEWEST:
            chosen[str(category)] = max(_HEADS, key=lambda m: by_head[m][of_category].mean())
    return chosen


def _fit(lists: Lists, names: Sequence[str], columns: NDArray[np.bool_], learnt_on: NDArray[np.bool_]) -> Weights:
    """Return the weights of some features that make the targets of some lists likeliest, shrunk by the sum of their squares.

    Features are scaled by their spread for that; the weights are those of the features as they are.
    """
    from scipy.optimize import minimize

    categories, of_category = np.unique(lists.categories.astype(str), return_inverse=True)
    kind = of_category * len(STATES) + lists.states
    # Lists of one kind, which share their weights, side by side.
    at = np.flatnonzero(learnt_on[lists.of])
    at = at[np.argsort(kind[lists.of[at]], kind="stable")]
    starts = np.flatnonzero(np.diff(lists.of[at], prepend=-1))
    of = np.repeat(np.arange(len(starts)), np.diff(starts, append=len(at)))
    spread = lists.values[at].std(axis=0)
    used = np.flatnonzero(columns & (spread > 1e-6))
    values, is_target = lists.values[np.ix_(at, used)], lists.is_target[at]
    values /= spread[used]  # in place: all lists' features are the largest thing here
    shrinkage = np.concatenate(
        [[_COMMON_SHRINKAGE], np.full(len(categories), _CATEGORY_SHRINKAGE), np.full(len(STATES), _STATE_SHRINKAGE)]
    )[:, None]
    # Of each kind, its candidates and the rows of the weights that its scores add up: the common ones, its category's and its state's.
    kinds, first = np.unique(kind[lists.of[at]], return_index=True)
    parts = [
        (slice(start, end), [0, 1 + one // len(STATES), 1 + len(categories) + one % len(STATES)])
        for one, start, end in zip(kinds, first, [*first[1:], len(at)], strict=True)
    ]

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(len(shrinkage), len(used))
        scores = np.concatenate([values[part] @ weights[added].sum(axis=0).astype(np.float32) for part, added in parts]).astype(np.float64)
        top = np.maximum.reduceat(scores, starts)
        odds = np.exp(scores - top[of])
        total = np.add.reduceat(odds, starts)
        off = ((odds / total[of]) - is_target).astype(np.float32)
        slope = shrinkage * weights
        for part, added in parts:
            slope[added] += off[part] @ values[part]
        value = (top + np.log(total)).sum() - scores[is_target].sum() + 0.5 * (shrinkage * weights**2).sum()
        return float(value), slope.ravel()

    found = minimize(loss, np.zeros(len(shrinkage) * len(used)), jac=True, method="L-BFGS-B", options={"maxiter": 200, "ftol": 1e-6})
    weights = found.x.reshape(len(shrinkage), len(used)) / spread[used]
    named = [{names[column]: round(float(weight), 6) for column, weight in zip(used, row, strict=True)} for row in weights]
    by_category = dict(zip(categories.tolist(), named[1:], strict=False))
    return Weights(common=named[0], categories=by_category, states=dict(zip(STATES, named[1 + len(categories) :], strict=True)))


def _filled(rank: Ints, places: Ints) -> Floats:
    """Return scores for a list by its places (0 is not in it), filled up with what is popular."""
    fill = rank[list(SOURCES).index(FILL)]
    return np.where(places > 0, -places, np.where(fill > 0, -1e6 - fill, -np.inf)).astype(np.float32)


def _mixup_places(of: Ints, rank: Ints, m: int) -> Ints:
    """Return the places in the paper's mixup of the two lists of the model's answer, 0 for what is in neither."""
    by_id, by_title = (rank[list(SOURCES).index(name)] for name in LANGUAGE_MODEL)
    places = np.zeros(len(of), np.int64)
    starts = np.flatnonzero(np.diff(of, prepend=-1))
    ends = np.flatnonzero(np.diff(of, append=-1)) + 1
    for start, end in zip(starts, ends, strict=True):
        lists = []
        for ranks in (by_id[start:end], by_title[start:end]):
            listed = np.flatnonzero(ranks)
            lists.append(listed[np.argsort(ranks[listed])].tolist())
        for place, position in enumerate(mixup(*lists, m=m, n=end - start), start=1):
            places[start + position] = place
    return places
