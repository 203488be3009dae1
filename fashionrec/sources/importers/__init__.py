"""Importers of public data sets: original files in, the raw contract (`schemas/raw_*.yaml`) out. The next one is a module of this folder.

A module `NAME.py` is `fashionrec import NAME` and has:
- `ABOUT`: one line that names the data set and its files;
- `GAPS`: what the data does not say and what is made of it, one sentence each, shown after an import;
- `import_files(source, raw_interactions, raw_catalog)`: writes day folders and returns counts by name. It finds every missing file and
  column before it writes anything (UserError), needs memory that does not grow with the files, and writes the same bytes when run twice.
"""

import pkgutil
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

from fashionrec.errors import UserError


class Importer(NamedTuple):
    """One data set; see the module's contract above."""

    about: str
    gaps: Sequence[str]
    import_files: Callable[[Path, Path, Path], dict[str, int]]


def importers() -> dict[str, Importer]:
    """Return the importers by name."""
    modules = {found.name: import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__)}
    return {name: Importer(module.ABOUT, module.GAPS, module.import_files) for name, module in sorted(modules.items())}


def check_columns(path: Path, found: Sequence[str], expected: Sequence[str]) -> None:
    """Raise UserError naming every column of a data set's format that a file lacks."""
    missing = sorted(set(expected) - set(found))
    if missing:
        raise UserError(f"{path}: lacks the columns {', '.join(missing)}; expected are {', '.join(expected)}")
