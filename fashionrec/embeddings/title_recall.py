"""How well a title space finds: queries their bought titles, and garbled titles themselves."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from fashionrec.embeddings.texts import normalised
from fashionrec.embeddings.title_noise import noisy_titles

# (texts,) -> (texts, dim) float32, L2-normalised.
Encode = Callable[[Sequence[str]], NDArray[np.float32]]
_CUT, _CHUNK = 10, 256
_NOISY_SHARE, _FEWEST_NOISY, _MOST_NOISY = 0.2, 50, 2000


def recall_at_10(encode: Encode, pairs: pd.DataFrame, items: pd.DataFrame) -> NDArray[np.bool_]:
    """Return for each pair whether its title is among the ten nearest to its query, of all distinct titles of the category; (pairs,).

    Titles that are equal when normalised are one. Ties count against the title. A title that is no item's is ranked among the others
    all the same.

    Args:
        encode: a title space.
        pairs: category, query, title.
        items: category, title.
    """
    hits = np.zeros(len(pairs), dtype=np.bool_)
    places = pairs.assign(place=np.arange(len(pairs)))
    for category, wanted in places.groupby("category"):
        wanted_titles = wanted.title.map(normalised)
        titles = pd.Index(pd.concat([items.title[items.category == category].drop_duplicates().map(normalised), wanted_titles]).unique())
        vectors, title_places = encode(titles.tolist()), titles.get_indexer(pd.Index(wanted_titles))
        queries = encode(wanted["query"].tolist())
        for start in range(0, len(wanted), _CHUNK):
            some = slice(start, start + _CHUNK)
            similarity = queries[some] @ vectors.T
            rank = (similarity >= similarity[np.arange(len(similarity)), title_places[some]][:, None]).sum(1)
            hits[wanted.place.to_numpy()[some]] = rank <= _CUT
    return hits


def noisy_pairs(items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return pairs of a garbled title (`query`) and its `title`, with its `category`: one seed, one sample with one noise.

    The sample is a fifth of the distinct titles (normalised), at most 2,000 and at least 50: none of a catalogue of fewer than 250, where
    a figure would be chance. Training garbles the other ones, so that it has seen none of this noise.

    Args:
        items: category, title and values (by attribute) of each.
        seed: of sample and noise.
    """
    rng = np.random.default_rng(seed)
    distinct = items[~items.title.map(normalised).duplicated()]
    count = min(_MOST_NOISY, int(len(distinct) * _NOISY_SHARE))
    count = count if count >= _FEWEST_NOISY else 0
    sample = distinct.iloc[np.sort(rng.permutation(len(distinct))[:count])]
    garbled = noisy_titles(sample.title.tolist(), sample["values"].tolist(), rng)
    return pd.DataFrame({"category": sample.category, "query": garbled, "title": sample.title}).reset_index(drop=True)


def figures(encode: Encode, pairs: pd.DataFrame, noisy: pd.DataFrame, items: pd.DataFrame) -> dict[str, float]:
    """Return `validation_recall_at_10` of the pairs and `validation_noisy_recall_at_10` of the noisy ones, each where there are any."""
    hits = recall_at_10(encode, pd.concat([pairs, noisy], ignore_index=True), items)
    parts: Mapping[str, NDArray[np.bool_]] = {
        "validation_recall_at_10": hits[: len(pairs)],
        "validation_noisy_recall_at_10": hits[len(pairs) :],
    }
    return {name: float(part.mean()) for name, part in parts.items() if len(part)}
