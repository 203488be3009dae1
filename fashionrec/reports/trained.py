"""A finished training, as the pages show it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple


class Trained(NamedTuple):
    """A training as it was registered: `card` holds metrics and history (see `embeddings.train`), `seconds` is the time it took."""

    name: str
    version: str
    folder: Path
    sha256: str
    params: Mapping[str, Any]
    card: Mapping[str, Any]
    seconds: float
