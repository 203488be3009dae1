"""The mark that says of raw folders that they were made up."""

from pathlib import Path

_MARK = "SYNTHETIC"


def mark_synthetic(raw_interactions: Path) -> None:
    """Put the mark, an empty file, beside the raw folders."""
    (raw_interactions.parent / _MARK).touch()


def is_synthetic(raw_interactions: Path) -> bool:
    """Return whether the raw folders were made up: whatever shows results of them says so."""
    return (raw_interactions.parent / _MARK).exists()
