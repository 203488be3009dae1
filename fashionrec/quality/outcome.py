"""What a gate found."""

from collections.abc import Mapping, Sequence
from datetime import date
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


class Outcome(NamedTuple):
    """The outcome of one gate: its checks, and the profiles of what was to be published, by day, beside those of the last good days.

    `past` is the median of the days `before`, None where there is none to compare with.
    """

    table: str
    scope: Mapping[str, str]
    run_date: date
    row_count: int
    checks: Sequence[Check]
    profiles: Mapping[date, Profile]
    before: Mapping[date, Profile]
    past: Profile | None

    @property
    def critical(self) -> list[Check]:
        """The failed checks that stop the run."""
        return [check for check in self.checks if not check.success and check.severity == "critical"]

    @property
    def warnings(self) -> list[str]:
        """One line for each failed check."""
        return [f"{self.table}: {check.line}" for check in self.checks if not check.success]

    @property
    def lineage(self) -> dict[str, dict[str, Any]]:
        """Each day's profile by its ISO date, as the commit keeps it."""
        return {str(day): profile.model_dump(exclude_defaults=True) for day, profile in sorted(self.profiles.items())}
