"""A text encoder in the place of the title model: the model's folder holds which one, and nothing is trained."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter

from fashionrec.embeddings.texts import normalised
from fashionrec.encoders.text import Encoder
from fashionrec.settings.model import TextEncoder

ENCODER_FILE = "encoder.json"


def write_encoder(folder: Path, encoder: Encoder) -> None:
    """Write the encoder's name, revision and settings."""
    content = {"name": encoder.name, "revision": encoder.revision, "settings": encoder.settings.model_dump(mode="json")}
    (folder / ENCODER_FILE).write_text(json.dumps(content, indent=2), encoding="utf-8")


def read_encoder(folder: Path) -> Encoder:
    """Return the encoder that `write_encoder` wrote; its model is loaded with the first text."""
    content = json.loads((folder / ENCODER_FILE).read_text(encoding="utf-8"))
    settings: TextEncoder = TypeAdapter(TextEncoder).validate_python(content["settings"])
    return Encoder(content["name"], content["revision"], settings)


def encode_texts(encoder: Encoder, texts: Sequence[str]) -> NDArray[np.float32]:
    """Return the vectors of titles or queries, (texts, dim of the encoder) float32, L2-normalised; equal when normalised, equal vectors."""
    return encoder.encode([normalised(text) for text in texts])
