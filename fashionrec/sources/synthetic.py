"""The mark that says of raw folders that they were made up."""

from pathlib import Path


def mark_synthetic(raw_interactions: Path) -> None:
    """Put the mark, an empty file, beside the raw folders."""
    Path(synthetic_mark(str(raw_interactions))).touch()


def synthetic_mark(raw_interactions: str) -> str:
    """Return the place of the mark: whatever shows results of raw folders beside it says that they were made up."""
    return f"{raw_interactions.rpartition('/')[0]}/SYNTHETIC"
