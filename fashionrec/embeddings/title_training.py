"""Train the title model, or take a text encoder in its place (paper, ablation "CLIP instead of the title LSTM").

Imports torch: the training process.
"""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray

from fashionrec.embeddings import title
from fashionrec.embeddings.checkpoint import fingerprint
from fashionrec.embeddings.epochs import Training, kept_figures, say
from fashionrec.embeddings.texts import normalised
from fashionrec.embeddings.title_encoder import encode_texts, write_encoder
from fashionrec.embeddings.title_epochs import VALIDATION_PAIRS, fit
from fashionrec.embeddings.title_noise import noisy_titles
from fashionrec.embeddings.title_recall import figures, noisy_pairs
from fashionrec.encoders.text import load_encoder
from fashionrec.encoders.tokenizer import TokenizerError, read_tokenizer
from fashionrec.errors import UserError
from fashionrec.settings.model import BaseLanguageModel, TextEncoder
from fashionrec.settings.model import Title as TitleSettings

_COLLAPSE_SAMPLE = 1000


def train(
    inputs: str, folder: Path, *, dim: int, settings: TitleSettings, base: BaseLanguageModel, seed: int, device: str
) -> dict[str, Any]:
    """Train on `inputs`/pairs and `inputs`/items, save tokenizer and weights below `folder` and return the card.

    Without a single pair of a query and a purchase (a shop that logs no searches), phrases of attributes stand in for queries, and where
    no item has such a phrase, garbled titles; the card says so. Where the settings name a text encoder, nothing is trained: its name is
    saved (`encoder.json`) and its validation figures are measured. A killed training goes on from its last epoch, kept beside the folder.

    Raises:
        UserError: nothing to learn from, a loss that is not a number, validation below that of the untrained network, all titles in
            one place, or a tokenizer or text encoder that cannot be read.
    """
    items, learnt, held_out, source = _read(inputs, seed)
    if settings.encoder != "lstm":
        return _take_encoder(settings.encoder, folder, held_out, items, source, seed)
    torch.manual_seed(seed)
    if settings.tokenizer == "llm":
        try:
            tokenizer = read_tokenizer(base.path, base.revision)
        except TokenizerError as error:
            raise UserError(f"model title: {error}, or set embeddings.title.tokenizer=catalogue") from None
    else:
        tokenizer = title.train_tokenizer([*items.title, *learnt["query"]])
    model = title.TitleEncoder(title.token_count(tokenizer), dim, bidirectional=settings.bidirectional).to(device)
    known = {**settings.model_dump(mode="json"), "dim": dim, "seed": seed, "device": device, "tokenizer": tokenizer.to_str()}
    saved = folder.parent / f"checkpoint-{fingerprint(known, items, learnt, held_out)}.safetensors"
    training = Training(
        "title",
        "embeddings.title",
        model,
        [torch.optim.Adam(model.parameters(), lr=settings.learning_rate)],
        torch.Generator().manual_seed(seed),
    )
    history = fit(training, tokenizer, learnt, held_out, items, settings=settings, seed=seed, saved=saved)
    _refuse_collapse(title.encode(model, tokenizer, items.title.drop_duplicates().head(_COLLAPSE_SAMPLE).tolist()))
    title.save(model, tokenizer, folder)
    saved.unlink(missing_ok=True)
    counts = {"pairs": min(len(learnt), settings.max_pairs), "validation_pairs": len(held_out)}
    left_out = {name: float(count) for name, count in training.memory.items() if name.startswith("left_out")}
    return {"metrics": {**kept_figures(history), **counts, **left_out}, "history": history, "pairs": source}


def phrase_pairs(items: pd.DataFrame) -> pd.DataFrame:
    """Return the pair (phrase, title) of each item that has a phrase, in a scattered order; about every twentieth item is held out."""
    described = items[items.phrase.notna()]
    scatter = pd.util.hash_pandas_object(described.item_id, index=False)
    split = np.where(scatter % 20 == 0, "validation", "train")
    columns = {"split": split, "category": described.category, "query": described.phrase, "title": described.title, "paired_at": scatter}
    return pd.DataFrame(columns)


def _garbled(items: pd.DataFrame, seed: int) -> pd.DataFrame:
    """Return the items with their garbled titles as phrases, none where a title cannot be garbled."""
    garbled = pd.Series(noisy_titles(items.title.tolist(), items["values"].tolist(), np.random.default_rng(seed)), dtype=object)
    return items.assign(phrase=garbled.where(garbled.map(normalised) != items.title.map(normalised)))


def _read(inputs: str, seed: int) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame, str]:
    """Return the items, the pairs to learn and those held out (newest first), and what they were made of."""
    items = pq.read_table(f"{inputs}/items").to_pandas().sort_values("item_id", ignore_index=True)
    items["values"] = [{value["name"]: value["value"] for value in values} for values in items["values"]]
    pairs = pq.read_table(f"{inputs}/pairs").to_pandas()
    source = "searches" if (pairs.split == "train").any() else "attribute phrases"
    if source == "attribute phrases":
        if items.phrase.isna().all():
            items, source = _garbled(items, seed), "garbled titles"
        pairs = phrase_pairs(items)
    pairs = pairs.sort_values(["paired_at", "query", "title"], ascending=[False, True, True], ignore_index=True)
    learnt, held_out = (pairs[pairs.split == split].reset_index(drop=True) for split in ("train", "validation"))
    if learnt.empty:
        raise UserError("model title: neither a search that led to a purchase nor titles of more than one word: nothing to learn from")
    return items, learnt, held_out, source


def _take_encoder(
    settings: TextEncoder, folder: Path, held_out: pd.DataFrame, items: pd.DataFrame, source: str, seed: int
) -> dict[str, Any]:
    encoder = load_encoder(settings)
    write_encoder(folder, encoder)
    found = figures(partial(encode_texts, encoder), held_out.head(VALIDATION_PAIRS), noisy_pairs(items, seed), items)
    say(f"model title: {encoder.name} as it is, " + ", ".join(f"{name} {value:.4f}" for name, value in found.items()))
    return {"metrics": {**found, "validation_pairs": len(held_out)}, "history": [], "pairs": source, "encoder": encoder.name}


def _refuse_collapse(vectors: NDArray[np.float32]) -> None:
    # Hard negatives can push everything into one point: the loss then stays at the margin, and every search returns the same items.
    if len(vectors) > 1 and np.abs(vectors - vectors[0]).max() < 1e-3:
        raise UserError("model title: all titles got the same vector; lower embeddings.title.learning_rate or raise batch_size")
