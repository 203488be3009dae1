"""Writing raw files."""

import gzip
from pathlib import Path


def write_lines(path: Path, text: str) -> None:
    """Write gzipped text in one move: readers see all of the file or none of it, and the same text gives the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}")
    # A time stamp in gzip's header would make every copy differ.
    unfinished.write_bytes(gzip.compress(text.encode(), compresslevel=6, mtime=0))
    unfinished.replace(path)
