"""Folders of indexes, which a run builds anew: written beside the old one, then put in its place."""

import hashlib
import re
import shutil
from pathlib import Path


def slug(name: str) -> str:
    """Return the folder name of a category: its words, and six hex digits that keep like names apart."""
    words = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")
    return f"{words}-{hashlib.sha256(name.encode()).hexdigest()[:6]}"


def new_staging(staging: Path, folder: Path) -> None:
    """Create the folder to write into, named `.<name of folder>.<run>` beside it; remove what killed builds left under such names."""
    for left in folder.parent.glob(f".{folder.name}.*"):
        shutil.rmtree(left)
    staging.mkdir(parents=True)


def swap_in(staging: Path, folder: Path) -> None:
    """Put a finished folder in the place of the old one: two renames, so a reader sees the old, for an instant none, or the new."""
    old = staging.with_name(f"{staging.name}.old")
    if folder.exists():
        folder.rename(old)
    staging.rename(folder)
    shutil.rmtree(old, ignore_errors=True)
