"""Days of arrival: which are missing, how they are told, and in which order their rows came."""

from collections.abc import Collection, Mapping
from datetime import date, timedelta
from itertools import groupby
from typing import NamedTuple


class Part(NamedTuple):
    """A part of a file that one task read: the day on which it arrived, the file, and the task's number, ascending within a file."""

    day: date
    file: str
    part: int


class Extent(NamedTuple):
    """Which rows a part has: the lowest number that the reader gave one, and how many there are."""

    first_row: int
    rows: int


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


def first_numbers(parts: Mapping[Part, Extent]) -> list[tuple[str, int, int, int]]:
    """Return (file, part, first_row, first_number): a day's rows are numbered from 1, files by name, rows as they stand in them.

    However many tasks read a file, and whatever else they read, its rows get the same numbers.
    """
    numbers = []
    for _, of_day in groupby(sorted(parts), key=lambda part: part.day):
        number = 1
        for part in of_day:
            numbers.append((part.file, part.part, parts[part].first_row, number))
            number += parts[part].rows
    return numbers
