"""Days of arrival: which are missing, and how they are told."""

from collections.abc import Collection
from datetime import date, timedelta


def missing_days(taken: Collection[date], *, until: date, back: int) -> list[date]:
    """Return the days without arrivals among the `back` days up to `until`, from the first day with any on."""
    first = max(min(taken, default=until), until - timedelta(days=back))
    return [day for ago in range((until - first).days, -1, -1) if (day := until - timedelta(days=ago)) not in taken]


def listed(days: Collection[date]) -> str:
    """Return days as text, those in a row by the first and the last."""
    runs: list[list[date]] = []
    for day in sorted(days):
        if runs and day - runs[-1][-1] == timedelta(days=1):
            runs[-1].append(day)
        else:
            runs.append([day])
    return ", ".join(f"{run[0]} to {run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)
