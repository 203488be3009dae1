"""Data docs: the outcome of every gate of a run date as one HTML page that needs no network.

Great Expectations' own pages load style sheets from other hosts. Steps run in processes of their own, so each gate leaves its result as
JSON, and the page is made again from all that are there.
"""

import json
import os
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from fashionrec.quality.profile import Profile


class Check(NamedTuple):
    """The outcome of one expectation: Great Expectations' type, what was expected and seen in words, severity critical or warning."""

    expectation: str
    about: str
    severity: str
    observed: str
    success: bool

    @property
    def line(self) -> str:
        return f"{self.about} (found: {self.observed})"


class TableResult(NamedTuple):
    """The outcome of one gate, and its day's figures beside those of the last good days (name, unit, today, median, earlier ones)."""

    name: str
    row_count: int
    checks: Sequence[Check]
    figures: Sequence[Mapping[str, Any]]
    days: Sequence[str]

    @classmethod
    def of(
        cls,
        table: str,
        scope: Mapping[str, str],
        row_count: int,
        checks: Sequence[Check],
        now: Profile | None,
        before: Mapping[date, Profile],
        past: Profile | None,
    ) -> "TableResult":
        name = " ".join([table, *(f"({value})" for value in scope.values())])
        earlier = [_flat(day) for day in before.values()]
        medians = _flat(past) if past else {}
        figures = [
            {"name": figure, "today": value, "median": medians.get(figure), "earlier": [day.get(figure) for day in earlier]}
            for figure, value in {**dict.fromkeys(medians), **(_flat(now) if now else {})}.items()
        ]
        return cls(name, row_count, checks, figures, [str(day) for day in before])


def write_page(folder: Path, run_date: date, result: TableResult, *, synthetic: bool) -> Path:
    """Keep a gate's result, make `quality.html` of a run date's folder again from all that are there, and return its path.

    Readers never see half of it.
    """
    results = folder / "quality"
    results.mkdir(parents=True, exist_ok=True)
    kept = {**result._asdict(), "checks": [check._asdict() for check in result.checks]}
    _replace(results / f"{result.name.replace(' ', '_')}.json", json.dumps(kept, indent=1, default=str))
    return render_page(folder, run_date, synthetic=synthetic)


def render_page(folder: Path, run_date: date, *, synthetic: bool) -> Path:
    """Make `quality.html` from the results in `folder`/quality and return its path."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    tables = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "quality").glob("*.json"))]
    for table in tables:
        failed = [check for check in table["checks"] if not check["success"]]
        table["outcome"] = "failed" if any(c["severity"] == "critical" for c in failed) else "warned" if failed else "passed"
        table["checks"].sort(key=lambda check: (check["success"], check["severity"] != "critical"))
        for figure in table["figures"]:
            figure["spark"] = _spark_line([*figure["earlier"], figure["today"]])
    tables.sort(key=lambda table: ("failed", "warned", "passed").index(table["outcome"]))
    page = Environment(
        loader=PackageLoader("fashionrec", "quality"), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page.filters["figure"] = _figure
    target = folder / "quality.html"
    _replace(target, page.get_template("quality.html.jinja").render(run_date=run_date, synthetic=synthetic, tables=tables))
    return target


def _flat(profile: Profile) -> dict[str, float]:
    """Return a profile's figures by name, in the order of the page."""
    return {
        "rows": profile.rows,
        **{f"{column}: share of nulls": rate for column, rate in profile.null_rates.items()},
        **{f"{column}: mean": mean for column, mean in profile.means.items()},
        **{f"{column}: share of {value}": share for column, shares in profile.shares.items() for value, share in shares.items()},
    }


def _figure(value: float | None, name: str) -> str:
    if value is None:
        return "-"
    if name == "rows":
        return f"{value:,.0f}"
    return f"{value:,.4g}" if name.endswith(": mean") else f"{value:.1%}"


def _spark_line(values: Sequence[float | None]) -> list[tuple[float, float]]:
    """Return the points of a line in a box of 100 by 24 that starts at nothing; days without the figure are left out."""
    top = max((value for value in values if value), default=1) or 1
    step = 100 / max(len(values) - 1, 1)
    return [(round(index * step, 1), round(22 - 20 * max(value, 0) / top, 1)) for index, value in enumerate(values) if value is not None]


def _replace(target: Path, text: str) -> None:
    # Gates of one day may run side by side: each writes a file of its own before the move.
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(target)
