"""A training run's state in one safetensors file, written whole or not at all, so that a killed run goes on where it was."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from torch import Tensor

State = dict[str, Any]


def fingerprint(settings: Mapping[str, Any], *frames: pd.DataFrame) -> str:
    """Return 16 hex digits that change with the settings and with any cell of the frames (in their order)."""
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
    for frame in frames:
        for name in frame.columns:
            # The index keeps the rows of what lay in lists apart.
            cells = frame[name].reset_index(drop=True).explode().map(str)
            digest.update(pd.util.hash_pandas_object(cells, index=True).to_numpy().tobytes())
    return digest.hexdigest()[:16]


def save(path: Path, state: State) -> None:
    """Write nested dicts and lists of tensors and plain values."""
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    plain = _take_out(state, "", tensors)
    staged = path.with_name(f".{path.name}.{os.getpid()}")
    save_file(tensors, staged, metadata={"state": json.dumps(plain)})
    staged.replace(path)


def load(path: Path) -> State:
    """Return what `save` wrote."""
    from safetensors import safe_open

    with safe_open(path, framework="pt") as file:
        state: State = _put_back(json.loads(file.metadata()["state"]), file)
    return state


def _take_out(value: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        # A copy: two names of one storage are refused by the format.
        tensors[place] = value.detach().cpu().clone().contiguous()
        return {"tensor": place}
    if isinstance(value, Mapping):
        return {"items": [[key, _take_out(item, f"{place}/{key}", tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return [_take_out(item, f"{place}/{number}", tensors) for number, item in enumerate(value)]
    return value


def _put_back(value: Any, file: Any) -> Any:
    if isinstance(value, list):
        return [_put_back(item, file) for item in value]
    if isinstance(value, dict):
        if "tensor" in value:
            return file.get_tensor(value["tensor"])
        return {key: _put_back(item, file) for key, item in value["items"]}
    return value
