"""The one way in which pages are written: a template of this folder, filled, in one move, needing no network."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fashionrec.lake.storage import write_whole


def write_page(target: Path, template: str, *, filters: Mapping[str, Callable[..., str]] | None = None, **given: Any) -> Path:
    """Write a template of this folder, filled with what is given, and return the path; a reader never sees half of it.

    Dates and times are shown as they are given: in UTC, as the tables hold them.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("fashionrec", "reports"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters.update(filters or {})
    return write_whole(target, pages.get_template(template).render(**given))
