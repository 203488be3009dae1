"""The title model: one LSTM for queries and titles, trained so that a query lies near the titles bought from it (section 4.4).

Imports torch: the training process and the workers that encode titles.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from fashionrec.embeddings.progress import finite, say
from fashionrec.errors import UserError
from fashionrec.settings.model import Title as TitleSettings

_VOCABULARY, _MAX_TOKENS = 4000, 64
_PADDING, _UNKNOWN = 0, 1
_VALIDATION_PAIRS = 2000  # newest ones, enough for one figure
_COLLAPSE_SAMPLE = 1000


class TitleEncoder(nn.Module):
    """Tokens to a vector: embedding, LSTM, mean and maximum over its states, projection."""

    def __init__(self, vocabulary: int, dim: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, dim, padding_idx=_PADDING)
        self.lstm = nn.LSTM(dim, dim, batch_first=True)
        self.project = nn.Linear(2 * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (batch, dim) float32, L2-normalised, for token ids (batch, length) int64, padded on the right."""
        states, _ = self.lstm(self.tokens(tokens))
        real = (tokens != _PADDING).unsqueeze(-1)
        mean = (states * real).sum(1) / real.sum(1)
        peak = states.masked_fill(~real, -torch.inf).amax(1)
        return functional.normalize(self.project(torch.cat([mean, peak], dim=-1)), dim=-1)


def train(inputs: str, folder: Path, *, dim: int, settings: TitleSettings, seed: int, device: str) -> dict[str, Any]:
    """Train on `inputs`/pairs and `inputs`/items, save tokenizer and weights below `folder` and return the card.

    Without a single pair of a query and a purchase (a shop that logs no searches), phrases of attributes stand in for queries;
    the card says so.

    Raises:
        UserError: nothing to learn from, a loss that is not a number, or all titles in one place.
    """
    from safetensors.torch import save_file

    torch.manual_seed(seed)
    items = pq.read_table(f"{inputs}/items").to_pandas().sort_values("item_id", ignore_index=True)
    pairs = pq.read_table(f"{inputs}/pairs").to_pandas()
    source = "searches" if (pairs.split == "train").any() else "attribute phrases"
    if source == "attribute phrases":
        pairs = phrase_pairs(items)
    pairs = pairs.sort_values(["paired_at", "query", "title"], ascending=[False, True, True], ignore_index=True)
    learnt, held_out = (pairs[pairs.split == split] for split in ("train", "validation"))
    if learnt.empty:
        raise UserError("model title: neither a search that led to a purchase nor an item with colour or attributes: nothing to learn from")
    tokenizer = train_tokenizer([*items.title, *learnt["query"]])
    model = TitleEncoder(tokenizer.get_vocab_size(), dim).to(device)
    losses = fit(model, tokenizer, learnt, settings=settings, seed=seed)
    _refuse_collapse(encode(model, tokenizer, items.title.drop_duplicates().head(_COLLAPSE_SAMPLE).tolist()))
    metrics = {"loss": losses[-1], "pairs": min(len(learnt), settings.max_pairs), "validation_pairs": len(held_out)}
    if len(held_out):
        metrics["validation_recall_at_10"] = validate(model, tokenizer, held_out.head(_VALIDATION_PAIRS), items)
    save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))
    return {"metrics": metrics, "losses": losses, "pairs": source}


def phrase_pairs(items: pd.DataFrame) -> pd.DataFrame:
    """Return the pair (phrase, title) of each item that has a phrase, in a scattered order; about every twentieth item is held out."""
    described = items[items.phrase.notna()]
    scatter = pd.util.hash_pandas_object(described.item_id, index=False)
    split = np.where(scatter % 20 == 0, "validation", "train")
    columns = {"split": split, "category": described.category, "query": described.phrase, "title": described.title, "paired_at": scatter}
    return pd.DataFrame(columns)


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Return a byte-pair tokenizer over lower-cased words of at most 4,000 pieces; 0 is padding, 1 stands for unknown letters."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, special_tokens=["[PAD]", "[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return tokenizer


def fit(model: TitleEncoder, tokenizer: Tokenizer, pairs: pd.DataFrame, *, settings: TitleSettings, seed: int) -> list[float]:
    """Train in place on the first `max_pairs` of pairs (query, title); return the mean loss of each epoch.

    What counts as a match is read from ALL pairs, so that no title that was bought from a query is ever its negative.
    """
    queries, titles = pd.Series(pd.factorize(pairs["query"].str.lower())[0]), pd.Series(pd.factorize(pairs["title"].str.lower())[0])
    width = int(titles.max()) + 1
    matches = np.unique(queries.to_numpy() * width + titles.to_numpy())
    used = pairs.head(settings.max_pairs)
    query_tokens, title_tokens = (tokenize(tokenizer, used[column].tolist()) for column in ("query", "title"))
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    device = model.project.weight.device
    dice = torch.Generator().manual_seed(seed)
    losses = []
    for epoch in range(settings.epochs):
        model.train()
        total = 0.0
        order = torch.randperm(len(used), generator=dice).numpy()
        for start in range(0, len(order), settings.batch_size):
            mine = order[start : start + settings.batch_size]
            match = np.isin(queries.to_numpy()[mine][:, None] * width + titles.to_numpy()[mine], matches)
            optimiser.zero_grad()
            # Queries and titles in one forward pass of the same network.
            query, title = model(_pad([*(query_tokens[i] for i in mine), *(title_tokens[i] for i in mine)]).to(device)).chunk(2)
            loss = triplet_loss(query, title, torch.from_numpy(match).to(device), margin=settings.margin)
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            total += loss.item() * len(mine)
        losses.append(finite(total / len(used), "title", epoch, "embeddings.title.learning_rate"))
        say("title", epoch, settings.epochs, losses[-1])
    return losses


def hardest(similarity: Tensor, match: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two hard negatives of each pair of a batch: row of a title for its query, row of a query for its title, (pairs,) int64.

    `similarity` and `match` are (pairs, pairs), query by title. Where all others match, the row points at a match, which
    `triplet_loss` leaves out.
    """
    others = similarity.detach().masked_fill(match, -torch.inf)
    return others.argmax(1), others.argmax(0)


def triplet_loss(queries: Tensor, titles: Tensor, match: Tensor, *, margin: float) -> Tensor:
    """Return the mean triplet loss over both hard negatives of each pair, in cosine distance; queries and titles are (pairs, dim)."""
    similarity = queries @ titles.T
    title, query = hardest(similarity, match)
    rows = torch.arange(len(queries), device=queries.device)
    positive = similarity.diagonal()
    wrong = torch.cat([similarity[rows, title] - positive, similarity[query, rows] - positive])
    is_negative = ~torch.cat([match[rows, title], match[query, rows]])
    return (functional.relu(margin + wrong) * is_negative).mean()


def validate(model: TitleEncoder, tokenizer: Tokenizer, pairs: pd.DataFrame, items: pd.DataFrame) -> float:
    """Return the share of pairs whose title is among the ten nearest to its query, of all distinct titles of the category.

    Ties count against it.
    """
    hits = 0
    for category, wanted in pairs.groupby("category"):
        of_category = items.title[items.category == category]
        titles = pd.Index(pd.concat([of_category, wanted.title]).unique())
        similarity = encode(model, tokenizer, wanted["query"].tolist()) @ encode(model, tokenizer, titles.tolist()).T
        own = similarity[np.arange(len(wanted)), titles.get_indexer(pd.Index(wanted.title))]
        hits += int(((similarity >= own[:, None]).sum(1) <= 10).sum())
    return hits / len(pairs)


def encode(model: TitleEncoder, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 1024) -> NDArray[np.float32]:
    """Return the vectors of texts, (texts, dim) float32, L2-normalised."""
    model.eval()
    tokens = tokenize(tokenizer, texts)
    order = np.argsort([len(t) for t in tokens], kind="stable")
    vectors = np.empty((len(texts), model.project.out_features), dtype=np.float32)
    # Texts of like length go together, so that little is padded.
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        with torch.inference_mode():
            vectors[rows] = model(_pad([tokens[i] for i in rows]).to(model.project.weight.device)).cpu().numpy()
    return vectors


def _refuse_collapse(vectors: NDArray[np.float32]) -> None:
    # Hard negatives can push everything into one point: the loss then stays at the margin, and every search returns the same items.
    if len(vectors) > 1 and np.abs(vectors - vectors[0]).max() < 1e-3:
        raise UserError("model title: all titles got the same vector; lower embeddings.title.learning_rate or raise batch_size")


def load(folder: Path) -> tuple[TitleEncoder, Tokenizer]:
    """Return the saved network, on the CPU, and its tokenizer."""
    from safetensors.torch import load_file

    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    weights = load_file(folder / "model.safetensors")
    model = TitleEncoder(*weights["tokens.weight"].shape)
    model.load_state_dict(weights)
    return model.eval(), tokenizer


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return the token ids of each text, at least one and at most 64."""
    return [encoding.ids[:_MAX_TOKENS] or [_UNKNOWN] for encoding in tokenizer.encode_batch(list(texts))]


def _pad(tokens: Sequence[list[int]]) -> Tensor:
    return nn.utils.rnn.pad_sequence([torch.tensor(t) for t in tokens], batch_first=True, padding_value=_PADDING)
