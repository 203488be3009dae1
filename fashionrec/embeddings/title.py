"""The title network: one LSTM that places queries and titles in one space (section 4.4), its tokenizer, and how both are kept.

Imports torch: the training process and the workers that encode titles.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import Tensor, nn
from torch.nn import functional

from fashionrec.embeddings.texts import normalised

_VOCABULARY, _MAX_TOKENS = 4000, 64
_PADDING, _EMPTY, _FIRST = 0, 1, 2  # rows of the embedding before the tokenizer's first token; a text without tokens is _EMPTY


class TitleEncoder(nn.Module):
    """Tokens to a vector: embedding, LSTM, mean and maximum over its states, projection.

    `tokens` is the tokenizer's number of tokens, `dim` the length of the embedding, of the states of each direction and of the result.
    """

    def __init__(self, tokens: int, dim: int, *, bidirectional: bool) -> None:
        super().__init__()
        self.tokens = nn.Embedding(tokens + _FIRST, dim, padding_idx=_PADDING)
        self.lstm = nn.LSTM(dim, dim, batch_first=True, bidirectional=bidirectional)
        self.project = nn.Linear((4 if bidirectional else 2) * dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return (batch, dim) float32, L2-normalised, for rows of the embedding (batch, length) int64, padded on the right."""
        real = tokens != _PADDING
        states = self._states(self.tokens(tokens), real)
        mean = (states * real.unsqueeze(-1)).sum(1) / real.sum(1, keepdim=True)
        peak = states.masked_fill(~real.unsqueeze(-1), -torch.inf).amax(1)
        return functional.normalize(self.project(torch.cat([mean, peak], dim=-1)), dim=-1)

    def _states(self, embedded: Tensor, real: Tensor) -> Tensor:
        """Return the LSTM's states, (batch, length, dim or 2 dim)."""
        states: Tensor
        if self.lstm.bidirectional:
            # Packed, the way back begins at each text's own last token; unpacked, it would begin in the padding.
            packed = nn.utils.rnn.pack_padded_sequence(embedded, real.sum(1).cpu(), batch_first=True, enforce_sorted=False)
            states, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True, total_length=real.shape[1])
        else:
            states, _ = self.lstm(embedded)
        return states


def train_tokenizer(texts: Sequence[str]) -> Tokenizer:
    """Return a byte-pair tokenizer over words of at most 4,000 pieces; letters that no text has become [UNK]."""
    tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(vocab_size=_VOCABULARY, special_tokens=["[UNK]"], show_progress=False)
    tokenizer.train_from_iterator(sorted(set(texts)), trainer)
    return tokenizer


def token_count(tokenizer: Tokenizer) -> int:
    """Return one more than the highest number of a token; a vocabulary may have gaps."""
    return max(tokenizer.get_vocab().values()) + 1


def tokenize(tokenizer: Tokenizer, texts: Sequence[str]) -> list[list[int]]:
    """Return each text's rows of the embedding, at least one and at most 64; texts that are equal when normalised have the same."""
    plain = [normalised(text) for text in texts]
    return [
        [token + _FIRST for token in encoding.ids[:_MAX_TOKENS]] or [_EMPTY]
        for encoding in tokenizer.encode_batch_fast(plain, add_special_tokens=False)
    ]


def pad(tokens: Sequence[list[int]]) -> Tensor:
    """Return texts side by side, (texts, longest) int64, padded on the right."""
    return nn.utils.rnn.pad_sequence([torch.tensor(row) for row in tokens], batch_first=True, padding_value=_PADDING)


def encode(model: TitleEncoder, tokenizer: Tokenizer, texts: Sequence[str], batch_size: int = 1024) -> NDArray[np.float32]:
    """Return the vectors of texts, (texts, dim) float32, L2-normalised."""
    return encode_tokens(model, tokenize(tokenizer, texts), batch_size)


def encode_tokens(model: TitleEncoder, tokens: Sequence[list[int]], batch_size: int = 1024) -> NDArray[np.float32]:
    """Return the same for texts as `tokenize` gives them; the network is left as it is, training or not."""
    was_training = model.training
    model.eval()
    order = np.argsort([len(row) for row in tokens], kind="stable")
    vectors = np.empty((len(tokens), model.project.out_features), dtype=np.float32)
    # Texts of like length go together, so that little is padded.
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        with torch.inference_mode():
            vectors[rows] = model(pad([tokens[i] for i in rows]).to(model.project.weight.device)).cpu().numpy()
    model.train(was_training)
    return vectors


def save(model: TitleEncoder, tokenizer: Tokenizer, folder: Path) -> None:
    """Write `model.safetensors` (the network's weights, float32) and `tokenizer.json`."""
    from safetensors.torch import save_file

    save_file({name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}, folder / "model.safetensors")
    tokenizer.save(str(folder / "tokenizer.json"))


def load(folder: Path) -> tuple[TitleEncoder, Tokenizer]:
    """Return the saved network, on the CPU, and its tokenizer."""
    from safetensors.torch import load_file

    weights = load_file(folder / "model.safetensors")
    rows, dim = weights["tokens.weight"].shape
    model = TitleEncoder(rows - _FIRST, dim, bidirectional="lstm.weight_ih_l0_reverse" in weights)
    model.load_state_dict(weights)
    return model.eval(), Tokenizer.from_file(str(folder / "tokenizer.json"))
