"""The outcome of every gate of a run date as one page; Great Expectations' own pages load style sheets from other hosts.

Steps run in processes of their own, so each gate leaves its outcome as JSON, and the page is made again from all of them.
"""

import json
from collections.abc import Sequence
from datetime import date
from pathlib import Path
from typing import Any

from fashionrec.lake.storage import write_whole
from fashionrec.quality.outcome import Outcome
from fashionrec.quality.profile import Profile
from fashionrec.reports.page import write_page


def write_quality(folder: Path, outcome: Outcome, *, synthetic: bool) -> Path:
    """Keep a gate's outcome, make `quality.html` of a run date's folder again from all that it holds, and return its path.

    Args:
        folder: of the run date's reports; made if need be.
        outcome: of the gate that has just run.
        synthetic: whether the data was made up, which the page then says.
    """
    table = _table(outcome)
    write_whole(folder / "quality" / f"{table['name'].replace(' ', '_')}.json", json.dumps(table, indent=1, default=str))
    return render_page(folder, outcome.run_date, synthetic=synthetic)


def render_page(folder: Path, run_date: date, *, synthetic: bool) -> Path:
    """Make `quality.html` from the outcomes in `folder`/quality and return its path."""
    tables = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "quality").glob("*.json"))]
    for table in tables:
        failed = [check for check in table["checks"] if not check["success"]]
        table["outcome"] = "failed" if any(c["severity"] == "critical" for c in failed) else "warned" if failed else "passed"
        table["checks"].sort(key=lambda check: (check["success"], check["severity"] != "critical"))
        for figure in table["figures"]:
            figure["spark"] = _spark_line([*figure["earlier"], figure["today"]])
    tables.sort(key=lambda table: ("failed", "warned", "passed").index(table["outcome"]))
    return write_page(
        folder / "quality.html",
        "quality.html.jinja",
        filters={"figure": _figure},
        run_date=run_date,
        synthetic=synthetic,
        tables=tables,
    )


def _table(outcome: Outcome) -> dict[str, Any]:
    """Return what the page says of one gate: its checks, and the day's figures beside those of the last good days."""
    now, earlier = outcome.profiles.get(outcome.run_date), [_flat(day) for day in outcome.before.values()]
    medians = _flat(outcome.past) if outcome.past else {}
    figures = [
        {"name": figure, "today": value, "median": medians.get(figure), "earlier": [day.get(figure) for day in earlier]}
        for figure, value in {**dict.fromkeys(medians), **(_flat(now) if now else {})}.items()
    ]
    return {
        "name": " ".join([outcome.table, *(f"({value})" for value in outcome.scope.values())]),
        "row_count": outcome.row_count,
        "checks": [check._asdict() for check in outcome.checks],
        "figures": figures,
        "days": [str(day) for day in outcome.before],
    }


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
