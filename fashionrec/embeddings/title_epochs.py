"""The epochs of the title model: pairs and noisy titles in batches, the hard negatives of each.

Imports torch: the training process.
"""

from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import pandas as pd
import torch
from tokenizers import Tokenizer

from fashionrec.embeddings.epochs import Figures, Progress, Training, run_epochs, say
from fashionrec.embeddings.texts import normalised
from fashionrec.embeddings.title import TitleEncoder, encode_tokens, pad, tokenize
from fashionrec.embeddings.title_negatives import Ints, Matches, matches_of, mine_negatives, triplet_loss
from fashionrec.embeddings.title_noise import noisy_titles
from fashionrec.embeddings.title_recall import figures, noisy_pairs
from fashionrec.settings.model import Title as TitleSettings

VALIDATION_PAIRS = 2000  # newest ones, enough for one figure


@dataclass(frozen=True)
class Lessons:
    """What is learnt: the pairs' queries and titles as numbers of `matches`, (pairs,), and the tokens of all its queries and titles."""

    matches: Matches
    queries: Ints
    titles: Ints
    query_tokens: list[list[int]]
    title_tokens: list[list[int]]


def fit(
    training: Training,
    tokenizer: Tokenizer,
    learnt: pd.DataFrame,
    held_out: pd.DataFrame,
    items: pd.DataFrame,
    *,
    settings: TitleSettings,
    seed: int,
    saved: Path,
) -> list[Figures]:
    """Train in place and return one row per epoch; see `epochs.run_epochs`.

    Args:
        training: a TitleEncoder and its optimiser.
        tokenizer: its tokenizer.
        learnt: pairs (query, title), of which the first `max_pairs` are learnt; what counts as a match is read from ALL of them, so that
            no title that was bought from a query is ever its negative.
        held_out: pairs (category, query, title), of which the first 2,000 are validated on.
        items: category, title and values (by attribute); their titles are garbled, mined and ranked.
        settings: see embeddings.title.
        seed: of the noise.
        saved: the checkpoint's file.
    """
    model = cast(TitleEncoder, training.model)
    noisy = noisy_pairs(items, seed)
    lessons = _lessons(tokenizer, learnt, items, settings.max_pairs)
    garbled = items[~items.title.map(normalised).isin(set(noisy.title.map(normalised)))]
    noise_count = round(len(lessons.queries) * settings.noise_rate / (1 - settings.noise_rate))

    def train_epoch(epoch: int, progress: Progress) -> None:
        if settings.mine_every and epoch and epoch % settings.mine_every == 0:
            _mine(training, lessons)
        # A generator per epoch: a resumed run draws what an undisturbed one draws.
        noise = _noise(garbled, noise_count, np.random.default_rng([seed, epoch]))
        _train_epoch(training, _with_noise(lessons, tokenizer, *noise), settings, progress)

    measured = (held_out.head(VALIDATION_PAIRS), noisy, items)
    # The same texts are validated on after every epoch.
    remembered = cache(lambda text: tokenize(tokenizer, [text])[0])

    def validate() -> Figures:
        return figures(lambda texts: encode_tokens(model, [remembered(text) for text in texts]), *measured)

    history = run_epochs(
        training,
        epochs=settings.epochs,
        patience=settings.patience,
        examples=len(lessons.queries) + noise_count,
        train_epoch=train_epoch,
        # Garbled titles alone choose no epoch: an untrained network finds most of them.
        validate=validate if len(held_out) else None,
        held_out=min(len(held_out), VALIDATION_PAIRS),
        saved=saved,
    )
    return history if len(held_out) else [*history[:-1], history[-1] | validate()]


def _lessons(tokenizer: Tokenizer, learnt: pd.DataFrame, items: pd.DataFrame, max_pairs: int) -> Lessons:
    matches, queries, titles = matches_of(learnt["query"].tolist(), learnt.title.tolist(), items.title.tolist())
    of_queries, of_titles = (tokenize(tokenizer, index.tolist()) for index in (matches.queries, matches.titles))
    return Lessons(matches, queries[:max_pairs], titles[:max_pairs], of_queries, of_titles)


def _noise(items: pd.DataFrame, count: int, rng: np.random.Generator) -> tuple[list[str], list[str]]:
    """Return garbled titles and the titles that they were, `count` of them (none where there are no items)."""
    drawn = items.iloc[rng.integers(len(items), size=count)] if len(items) else items
    titles = drawn.title.tolist()
    return noisy_titles(titles, drawn["values"].tolist(), rng), titles


def _with_noise(lessons: Lessons, tokenizer: Tokenizer, garbled: list[str], titles: list[str]) -> Lessons:
    """Return the lessons with pairs of a garbled title and its title at their end."""
    numbers = lessons.matches.titles.get_indexer(pd.Index([normalised(title) for title in titles])).astype(np.int64)
    matches, queries = lessons.matches.with_queries(garbled, numbers)
    tokens = tokenize(tokenizer, matches.queries[len(lessons.matches.queries) :].tolist())
    return replace(
        lessons,
        matches=matches,
        queries=np.concatenate([lessons.queries, queries]),
        titles=np.concatenate([lessons.titles, numbers]),
        query_tokens=[*lessons.query_tokens, *tokens],
    )


def _train_epoch(training: Training, lessons: Lessons, settings: TitleSettings, progress: Progress) -> None:
    (optimiser,), left_out = training.optimisers, 0
    order = torch.randperm(len(lessons.queries), generator=training.dice).numpy()
    for start in range(0, len(order), settings.batch_size):
        rows = order[start : start + settings.batch_size]
        queries, titles = _with_mined(training, lessons.queries[rows], lessons.titles[rows])
        bought, by_words = lessons.matches.of(queries, titles)
        left_out += int(by_words.sum())
        # Queries and titles in one forward pass of the same network.
        tokens = [*(lessons.query_tokens[i] for i in queries), *(lessons.title_tokens[i] for i in titles)]
        device = next(training.model.parameters()).device
        optimiser.zero_grad()
        query_vectors, title_vectors = training.model(pad(tokens).to(device)).split([len(queries), len(titles)])
        match = torch.from_numpy(bought | by_words).to(device)
        loss = triplet_loss(query_vectors, title_vectors, match, margin=settings.margin, pairs=len(rows))
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        progress.add(loss.item() * len(rows), len(rows))
    training.memory["left_out_in_batches"] = torch.tensor(left_out)


def _with_mined(training: Training, queries: Ints, titles: Ints) -> tuple[Ints, Ints]:
    """Return the batch's queries and titles with the mined ones of each behind them."""
    if "mined_titles" not in training.memory:
        return queries, titles
    of_query, of_title = training.memory["mined_titles"].numpy(), training.memory["mined_queries"].numpy()
    # Garbled titles of this epoch stand behind the queries that were mined for.
    more_titles, more_queries = of_query[queries[queries < len(of_query)]], of_title[titles]
    return (
        np.concatenate([queries, np.unique(more_queries[more_queries >= 0])]),
        np.concatenate([titles, np.unique(more_titles[more_titles >= 0])]),
    )


def _mine(training: Training, lessons: Lessons) -> None:
    model, matches = cast(TitleEncoder, training.model), lessons.matches
    of_queries, of_titles = (encode_tokens(model, tokens) for tokens in (lessons.query_tokens, lessons.title_tokens))
    titles, queries, left_out = mine_negatives(matches, of_queries, of_titles, np.unique(lessons.titles))
    training.memory |= {name: torch.from_numpy(found) for name, found in (("mined_titles", titles), ("mined_queries", queries))}
    training.memory["left_out_mined"] = torch.tensor(left_out)
    found = int((titles >= 0).sum()), int((queries >= 0).sum())
    say(
        f"model title: mined {found[0]:,} titles and {found[1]:,} queries; {left_out:,} nearer texts were left out, "
        "as the title holds every word of the query"
    )
