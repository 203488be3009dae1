"""Where a training's checkpoints lie, and which of them are whole."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fashionrec.llm.examples import Example

_WHOLE = "whole"


def fingerprint(settings: Mapping[str, Any], *parts: Sequence[Example]) -> str:
    """Return 16 hex digits that change with the settings and with any token of the examples or their order."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for part in parts:
        digest.update(np.array([value for row in part for value in (len(row["input_ids"]), row["prompt_length"])], np.int64).tobytes())
        for row in part:
            digest.update(row["input_ids"].tobytes())
    return digest.hexdigest()[:16]


def mark_whole(checkpoint: Path) -> None:
    """Say that all ranks have written all of a checkpoint."""
    (checkpoint / _WHOLE).touch()


def newest_whole(folder: Path) -> Path | None:
    """Return the whole checkpoint of the highest step below `folder`, none where there is none."""
    whole = [path.parent for path in folder.glob(f"checkpoint-*/{_WHOLE}")]
    return max(whole, key=_step, default=None)


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.rpartition("-")[2])
