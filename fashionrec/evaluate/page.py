"""Pages of HTML that need no network: written whole, or not at all."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any


def write_page(target: Path, template: str, *, filters: Mapping[str, Callable[..., str]], **given: Any) -> Path:
    """Write a template of this folder, filled with what is given, and return the path; a reader never sees half of it."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    pages = Environment(
        loader=PackageLoader("fashionrec", "evaluate"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    pages.filters.update(filters)
    text = pages.get_template(template).render(**given)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f"{target.name}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
    return target
