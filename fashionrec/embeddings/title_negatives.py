"""Hard negatives of the title model: the nearest title and the nearest query that are no match (section 4.4).

A match is what a purchase says, or a title that holds every word of the query: shoppers who bought one red dress show no other red dress
to be wrong, and a model that is told so pushes away what it should find.
"""

from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_matrix, vstack
from torch import Tensor
from torch.nn import functional

from fashionrec.embeddings.texts import normalised, word_numbers, word_table

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_CANDIDATES = 64  # nearest texts among which mining looks for one that is no match


@dataclass(frozen=True)
class Matches:
    """The distinct queries and titles (normalised), and which of them match.

    `bought` holds query * len(titles) + title of each pair, ascending. `query_words` and `title_words` are (texts, words), see
    `texts.word_table`.
    """

    queries: pd.Index
    titles: pd.Index
    bought: Ints
    query_words: csr_matrix
    title_words: csr_matrix
    numbers: dict[str, int]

    def of(self, queries: Ints, titles: Ints) -> tuple[Bools, Bools]:
        """Return what of queries × titles matches by a purchase, and what else by its words; both (queries, titles)."""
        bought = np.isin(queries[:, None] * len(self.titles) + titles, self.bought)
        query_words = self.query_words[queries]
        shared = (query_words @ self.title_words[titles].T).toarray()
        return bought, (shared == np.diff(query_words.indptr)[:, None]) & ~bought

    def of_each(self, queries: Ints, titles: Ints) -> tuple[Bools, Bools]:
        """Return the same for each query with each of its own titles; queries are (queries,), titles and both results (queries, n)."""
        rows = np.repeat(queries, titles.shape[1])
        bought = np.isin(rows * len(self.titles) + titles.ravel(), self.bought).reshape(titles.shape)
        query_words = self.query_words[rows]
        shared = np.asarray(query_words.multiply(self.title_words[titles.ravel()]).sum(1)).ravel()
        return bought, (shared == np.diff(query_words.indptr)).reshape(titles.shape) & ~bought

    def with_queries(self, queries: list[str], titles: Ints) -> tuple["Matches", Ints]:
        """Return these and further pairs of a query's text and a title's number, and the numbers of those queries."""
        plain = [normalised(text) for text in queries]
        every = self.queries.append(pd.Index(plain)).unique()
        numbers: Ints = every.get_indexer(pd.Index(plain)).astype(np.int64)
        words = vstack([self.query_words, word_table(every[len(self.queries) :].tolist(), self.numbers)], format="csr")
        bought = np.union1d(self.bought, numbers * len(self.titles) + titles)
        return replace(self, queries=every, bought=bought, query_words=words), numbers


def matches_of(queries: list[str], titles: list[str], other_titles: list[str]) -> tuple[Matches, Ints, Ints]:
    """Return the matches of pairs of a query and a title, with `other_titles` beside theirs, and the pairs' queries and titles in them."""
    plain_queries, plain_titles = ([normalised(text) for text in texts] for texts in (queries, titles))
    every_query, every_title = (pd.Index(plain_queries).unique(), pd.Index([*plain_titles, *map(normalised, other_titles)]).unique())
    query, title = (
        index.get_indexer(pd.Index(plain)).astype(np.int64) for index, plain in ((every_query, plain_queries), (every_title, plain_titles))
    )
    numbers = word_numbers(every_title.tolist())
    query_words, title_words = (word_table(index.tolist(), numbers) for index in (every_query, every_title))
    bought = np.unique(query * len(every_title) + title)
    return Matches(every_query, every_title, bought, query_words, title_words, numbers), query, title


def hardest(similarity: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
    """Return the hard negatives in a batch: for each query the column of a title, for each title the row of a query, int64.

    `similarity` and `match` are (queries, titles). Where everything matches, the negative is a match, which `triplet_loss` leaves out.
    """
    others = similarity.detach().masked_fill(match, -torch.inf)
    return others.argmax(1), others.argmax(0)


def triplet_loss(queries: Tensor, titles: Tensor, match: Tensor, *, margin: float, pairs: int) -> Tensor:
    """Return the mean triplet loss over both hard negatives of each pair, in cosine distance.

    The first `pairs` rows of queries and titles, (queries, dim) and (titles, dim), are pairs; further ones serve as negatives only.
    `match` is (queries, titles).
    """
    similarity = queries @ titles.T
    title, query = (found[:pairs] for found in hardest(similarity, match))
    rows = torch.arange(pairs, device=queries.device)
    positive = similarity.diagonal()[:pairs]
    wrong = torch.cat([similarity[rows, title] - positive, similarity[query, rows] - positive])
    is_negative = ~torch.cat([match[rows, title], match[query, rows]])
    return (functional.relu(margin + wrong) * is_negative).mean()


def mine_negatives(matches: Matches, queries: NDArray[np.float32], titles: NDArray[np.float32], wanted: Ints) -> tuple[Ints, Ints, int]:
    """Return the nearest title of each query that is no match, (queries,), the nearest query of each title, (titles,), and a count.

    -1 where all of the 64 nearest match, and for titles that are not among the `wanted` ones. The count is of nearer texts that no purchase
    but their words make matches. `queries` and `titles` are vectors, (queries, dim) and (titles, dim), L2-normalised, in the order of
    `matches`.
    """
    near = _nearest(queries, titles)
    title, by_words = _first_wrong(near, *matches.of_each(np.arange(len(queries)), near))
    near = _nearest(titles[wanted], queries)
    # The same question from the other side: each title with each of its own queries.
    flat = near.reshape(-1), np.repeat(wanted, near.shape[1])[:, None]
    bought, alike = (found.reshape(near.shape) for found in matches.of_each(*flat))
    query: Ints = np.full(len(titles), -1, dtype=np.int64)
    query[wanted], by_words_too = _first_wrong(near, bought, alike)
    return title, query, by_words + by_words_too


def _nearest(asked: NDArray[np.float32], among: NDArray[np.float32]) -> Ints:
    import faiss

    index = faiss.IndexFlatIP(among.shape[1])
    index.add(among)
    found: Ints = index.search(asked, min(_CANDIDATES, len(among)))[1]
    return found


def _first_wrong(near: Ints, bought: Bools, by_words: Bools) -> tuple[Ints, int]:
    """Return the first of each row that does not match, -1 where all do, and how many before it match by their words alone."""
    wrong = ~(bought | by_words)
    place = np.where(wrong.any(1), wrong.argmax(1), near.shape[1])
    first = np.append(near, np.full((len(near), 1), -1), axis=1)[np.arange(len(near)), place]
    return first, int((by_words & (np.arange(near.shape[1]) < place[:, None])).sum())
