"""Releases: the language model, the spaces and the fusion that were trained for each other serve, are judged and are rolled back as one.

A release is a version of the model `release`. Its folder holds `release.json`: which version of which model plays each part, with the hash
of its files, and the versions of the tables that it was made from. The parts stay where they were trained; two releases may share one.
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from typing import Any

from fashionrec.pipeline.models import ModelError, ModelRegistry, ModelVersion, Record

_NAME = "release"
_FILE = "release.json"


@dataclass(frozen=True)
class Release:
    """A registered release: `parts` says which model version plays each part, `newer` that it knows more than the run that uses it."""

    version: ModelVersion
    parts: Mapping[str, ModelVersion]
    newer: bool = False

    @property
    def label(self) -> str:
        return f"{self.version.label}{'+newer' if self.newer else ''}"

    @property
    def trained_for(self) -> date:
        return self.version.trained_for


def make_release(
    models: ModelRegistry,
    parts: Mapping[str, ModelVersion],
    *,
    run_id: str,
    inputs: Mapping[str, Any],
    metrics: Mapping[str, float],
    trained_for: date,
) -> Release:
    """Register a release of trained parts; it is the candidate. It was trained for `trained_for`, or for a part's date if that is later."""
    folder = models.new_folder(_NAME, run_id)
    played = {part: {"model": one.name, "version": one.version, "sha256": one.sha256} for part, one in parts.items()}
    (folder / _FILE).write_text(json.dumps({"parts": played, "inputs": dict(inputs)}, indent=2) + "\n", encoding="utf-8")
    labels = {part: one.label for part, one in parts.items()}
    latest = max([trained_for, *(one.trained_for for one in parts.values())])
    return Release(models.register(_NAME, folder, labels, metrics, inputs, trained_for=latest), dict(parts))


def serving(models: ModelRegistry) -> Release:
    """Return the release that a run uses, its files and those of every part checked against their hashes.

    Raises:
        ModelError: none serves yet, or files of it or of a part are missing or changed.
    """
    return release(models, _champion(models).version)


def candidate(models: ModelRegistry) -> Release:
    """Return the newest release, which may be the one that serves; as `serving` does."""
    challenger = models.aliased(_NAME, "challenger")
    if challenger is None:
        raise ModelError(f"no release is registered under {models.root}; run the training steps first")
    return release(models, challenger.version)


def release(models: ModelRegistry, version: str) -> Release:
    """Return a release by its number; as `serving` does."""
    with _or_another(""):
        found = models.version(_NAME, version)
    played = json.loads((found.folder / _FILE).read_text(encoding="utf-8"))["parts"]
    return Release(found, {part: _part(models, f"{found.label}, part {part}: ", **one) for part, one in played.items()})


def _part(models: ModelRegistry, whose: str, *, model: str, version: str, sha256: str) -> ModelVersion:
    with _or_another(whose):
        found = models.version(model, version)
        if found.sha256 != sha256:
            raise ModelError(f"model {found.label} is not the training that the release was made of; train again")
    return found


@contextmanager
def _or_another(whose: str) -> Iterator[None]:
    """Say with an error of a model whose it is, and what can serve meanwhile."""
    try:
        yield
    except ModelError as error:
        raise ModelError(f"{whose}{error}, or let another release serve: fashionrec release rollback (or promote VERSION)") from error


def _champion(models: ModelRegistry) -> ModelVersion:
    """Return the release that serves, its files unchecked; raise ModelError where none does."""
    champion = models.aliased(_NAME, "champion")
    if champion is None:
        raise ModelError(f"no release serves under {models.root}; run the training steps first, or fashionrec release promote VERSION")
    return champion


def promote(models: ModelRegistry, release: Release, why: str) -> None:
    """Let a release serve from the next run on, and keep with it why."""
    models.promote(release.version, why)


def refuse(models: ModelRegistry, release: Release, why: str) -> None:
    """Keep with a release why it does not serve."""
    models.refuse(release.version, why)


def rollback(models: ModelRegistry) -> Release:
    """Let the release serve that did before the present one, and return it; no later rollback returns to the one that is left.

    Raises:
        ModelError: none serves, none served before, or its files or those of a part are missing or changed.
    """
    present, before = _champion(models), models.former_champion(_NAME)
    if before is None:
        raise ModelError(f"no release to go back to served before {present.label}; fashionrec release promote VERSION lets any other serve")
    earlier = release(models, before.version)
    # In this order a kill in between leaves the present one serving, and the next rollback does the rest.
    models.refuse(present, f"rolled back to {earlier.label}")
    promote(models, earlier, f"{present.label} was rolled back")
    return earlier


def history(models: ModelRegistry) -> list[Record]:
    """Return what is kept of every release, the newest first; `params` say which version plays each part. No file is looked at."""
    return models.history(_NAME)
