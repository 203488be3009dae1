"""Encoders of short texts (queries, titles) behind one interface: hashed n-grams, CLIP's text tower (paper section 4.2), sentence encoders.

An encoder is known by its name and revision, which are stored beside its vectors; the model itself is loaded where the first text is
encoded, once per process. Its revision says what the vectors come from: the hub's commit, or a hash of a folder's files.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fashionrec.encoders import ngram
from fashionrec.errors import UserError
from fashionrec.settings.model import ModelEncoder, TextEncoder

# (texts,) -> (texts, dim) float32, L2-normalised.
Encode = Callable[[Sequence[str]], NDArray[np.float32]]

# The file that a model of the kind cannot lack.
_MARKS = {"clip": "config.json", "sentence": "modules.json"}
# What is fetched from a hub and what a folder's revision is made of: weights, tokenizer, configuration; nothing that is unpickled or run.
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model")


class EncoderError(UserError):
    """A text encoder cannot be loaded as its settings say."""


@dataclass(frozen=True)
class Encoder:
    """A text encoder; small enough to be sent to a Spark task, which loads the model itself."""

    name: str
    revision: str
    settings: TextEncoder

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return L2-normalised vectors, (texts, dim) float32; a text's vector is the same whatever stands beside it, up to 1e-5.

        Raises:
            EncoderError: the model cannot be loaded, or is not the one of this revision any more.
        """
        return _encode(self)(texts)


def load_encoder(settings: TextEncoder) -> Encoder:
    """Return the encoder of the settings without loading its model.

    Raises:
        EncoderError: there is no such model, or the hub that has it cannot be reached.
    """
    if settings.kind == "ngram":
        return Encoder("ngram", ngram.VERSION, settings)
    folder = Path(settings.path)
    if folder.is_dir():
        revision = _content_hash(folder, settings.kind)
        _refuse_pickles(folder)
        return Encoder(f"{settings.kind}:{folder.name}", revision, settings)
    return Encoder(f"{settings.kind}:{settings.path}", _commit(settings), settings)


# One model at a time: a worker that changes its encoder gives the old one's memory back.
@lru_cache(maxsize=1)
def _encode(encoder: Encoder) -> Encode:
    settings = encoder.settings
    if settings.kind == "ngram":
        return ngram.encode
    folder = _fetched(settings, encoder.revision)
    _refuse_pickles(folder)
    try:
        return (_clip if settings.kind == "clip" else _sentence)(folder, settings)
    except ImportError as error:
        raise EncoderError(f"text encoder {settings.path}: {error}; install the extra: pip install 'fashionrec[train]'") from None
    except Exception as error:
        # Libraries raise whatever a broken file makes them stumble over.
        raise EncoderError(
            f"text encoder {settings.path}: cannot be loaded: {_first_line(error)}; check its file in conf/encoders"
        ) from error


def _clip(folder: Path, settings: ModelEncoder) -> Encode:
    import torch
    from transformers import AutoTokenizer, CLIPTextModelWithProjection

    source: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    tokenizer = AutoTokenizer.from_pretrained(folder, **source)
    model, loaded = CLIPTextModelWithProjection.from_pretrained(
        folder, use_safetensors=True, dtype=torch.float32, output_loading_info=True, **source
    )
    if loaded["missing_keys"]:
        # They would be random numbers.
        raise ValueError(f"{len(loaded['missing_keys'])} weights of a CLIP text tower are missing")
    model = model.eval().to(settings.device)

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        vectors = np.zeros((len(texts), model.config.projection_dim), dtype=np.float32)
        # Texts of like length side by side need little padding.
        order = np.argsort([len(text) for text in texts], kind="stable")
        for start in range(0, len(order), settings.batch_size):
            places = order[start : start + settings.batch_size]
            batch = tokenizer(
                [texts[place] for place in places],
                padding=True,
                truncation=True,
                max_length=model.config.max_position_embeddings,
                return_tensors="pt",
            )
            with torch.inference_mode():
                found = torch.nn.functional.normalize(model(**batch.to(settings.device)).text_embeds, dim=-1)
            vectors[places] = found.cpu().numpy()
        return vectors

    return encode


def _sentence(folder: Path, settings: ModelEncoder) -> Encode:
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(
        str(folder), device=settings.device, local_files_only=True, trust_remote_code=False, model_kwargs={"use_safetensors": True}
    )

    def encode(texts: Sequence[str]) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, model.get_embedding_dimension() or 0), dtype=np.float32)
        # All texts are compared with each other, so all get what the model wants in front of one. It sorts by length itself.
        vectors: NDArray[np.float32] = model.encode_query(
            list(texts), batch_size=settings.batch_size, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors.astype(np.float32, copy=False)

    return encode


def _commit(settings: ModelEncoder) -> str:
    """Return the hub's commit hash of a model's revision, from the hub or, where it cannot be reached, from its cache on this machine."""
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    mark = _MARKS[settings.kind]
    try:
        # A cached file lies in a folder named after its commit.
        return Path(hf_hub_download(settings.path, mark, revision=settings.revision or None)).parent.name
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise EncoderError(_not_found(settings, mark, error)) from None


def _fetched(settings: ModelEncoder, revision: str) -> Path:
    """Return the folder of a model, fetched from the hub where it is none."""
    folder = Path(settings.path)
    if folder.is_dir():
        if (found := _content_hash(folder, settings.kind)) != revision:
            raise EncoderError(f"text encoder {folder}: its files changed during the run ({revision} is {found} now); run again")
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    try:
        return Path(snapshot_download(settings.path, revision=revision, allow_patterns=list(_FILES)))
    except (OSError, HfHubHTTPError, HFValidationError) as error:
        raise EncoderError(_not_found(settings, revision, error)) from None


def _not_found(settings: ModelEncoder, what: str, error: Exception) -> str:
    return (
        f"text encoder {settings.path}: no such folder, and {what} of revision {settings.revision or 'main'} cannot be had from a hub: "
        f"{_first_line(error)}; check its file in conf/encoders, or fetch the model and name its folder"
    )


def _content_hash(folder: Path, kind: str) -> str:
    """Return 16 hex digits that change with any file of a model's folder that its vectors may depend on."""
    if not (folder / _MARKS[kind]).is_file():
        raise EncoderError(
            f"text encoder {folder}: has no {_MARKS[kind]}, so it is no model of the kind {kind}; check its file in conf/encoders"
        )
    files = sorted(path for pattern in _FILES for path in folder.rglob(pattern))
    digests = {}
    for path in files:
        with path.open("rb") as handle:
            digests[str(path.relative_to(folder))] = hashlib.file_digest(handle, "sha256").hexdigest()
    return hashlib.sha256(json.dumps(digests, sort_keys=True).encode()).hexdigest()[:16]


def _refuse_pickles(folder: Path) -> None:
    """Raise where a model's weights are there in no format but one that is unpickled; libraries would fall back to it."""
    if not any(folder.rglob("*.safetensors")):
        raise EncoderError(
            f"text encoder {folder}: has no weights as safetensors, and others are not read; choose another revision, or convert them"
        )
    for path in folder.rglob("pytorch_model*.bin"):
        if not any(path.parent.glob("*.safetensors")):
            raise EncoderError(f"text encoder {path}: would be unpickled; convert it to safetensors, or choose another revision")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")[:300]
