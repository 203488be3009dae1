"""The season and the coming holidays of a date, by market: conf/calendar.yaml (paper sections 3.1, C3, and 4.2)."""

from datetime import date, datetime, timedelta
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated

import yaml
from dateutil.rrule import rrulestr
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fashionrec.errors import UserError

Rule = str | tuple[date, ...]


class CalendarError(UserError):
    """The calendar is missing or not as it must be; the text names the file and every problem."""


class Market(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    hemisphere: str
    holidays: tuple[str, ...]


class Calendar(BaseModel):
    """Seasons and holidays; conf/calendar.yaml says what each part is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    default_market: str
    seasons: dict[str, Annotated[tuple[str, ...], Field(min_length=12, max_length=12)]]
    holidays: dict[str, dict[str, Rule]]
    markets: dict[str, Market]

    def __hash__(self) -> int:
        # By identity: one process has one calendar, and answers of it are remembered.
        return id(self)

    @field_validator("holidays")
    @classmethod
    def _rules_give_dates(cls, groups: dict[str, dict[str, Rule]]) -> dict[str, dict[str, Rule]]:
        for group in groups.values():
            for name, rule in group.items():
                try:
                    found = any(_dates(rule, year) for year in range(2020, 2028)) if isinstance(rule, str) else bool(rule)
                except (ValueError, TypeError, KeyError) as error:
                    raise ValueError(f"{name}: not a rule of RFC 5545: {error}") from None
                if not found or (isinstance(rule, str) and "FREQ=YEARLY" not in rule):
                    raise ValueError(f"{name}: {rule!r} must be FREQ=YEARLY and give dates")
        return groups

    @model_validator(mode="after")
    def _names_are_known(self) -> "Calendar":
        if self.default_market not in self.markets:
            raise ValueError(f"default_market {self.default_market} is not among the markets")
        for code, market in self.markets.items():
            if market.hemisphere not in self.seasons or not set(market.holidays) <= set(self.holidays):
                raise ValueError(f"market {code}: its hemisphere must be one of seasons, its holidays groups of holidays")
        return self

    def market(self, marketplace: str | None) -> str:
        """Return the market of an interaction's marketplace: the default one where the calendar does not know it."""
        code = (marketplace or "").strip().upper()
        return code if code in self.markets else self.default_market

    def season(self, market: str, day: date) -> str:
        return self.seasons[self.markets[market].hemisphere][day.month - 1]

    @lru_cache(maxsize=100_000)  # noqa: B019 (the hash is the calendar's identity, and there is one)
    def coming(self, market: str, day: date, days: int) -> tuple[str, ...]:
        """Return the holidays from the day after `day` to `days` days after it, the next one first."""
        last = day + timedelta(days=days)
        found = {
            (on, name)
            for group in self.markets[market].holidays
            for name, rule in self.holidays[group].items()
            for year in {day.year, last.year}
            for on in _dates(rule, year)
            if day < on <= last
        }
        return tuple(dict.fromkeys(name for _, name in sorted(found)))

    def ending_before(self, day: date) -> list[str]:
        """Return the holidays of the markets whose listed dates end before a day: whoever keeps the calendar has to list the next ones."""
        used = {group for market in self.markets.values() for group in market.holidays}
        rules = {name: rule for group in sorted(used) for name, rule in self.holidays[group].items()}
        return [name for name, rule in rules.items() if not isinstance(rule, str) and max(rule) < day]


@cache
def _dates(rule: Rule, year: int) -> tuple[date, ...]:
    if not isinstance(rule, str):
        return tuple(on for on in rule if on.year == year)
    # A yearly rule; times and zones play no part.
    first, last = datetime(year, 1, 1), datetime(year, 12, 31)  # noqa: DTZ001
    return tuple(on.date() for on in rrulestr(rule, dtstart=first).between(first, last, inc=True))


def load_calendar(path: str | Path) -> Calendar:
    """Return the calendar of a file; raise CalendarError naming every problem."""
    try:
        return Calendar.model_validate(yaml.safe_load(Path(path).read_text(encoding="utf-8")))
    except OSError:
        raise CalendarError(f"{path}: no such calendar; name one in prompts.calendar") from None
    except yaml.YAMLError as error:
        raise CalendarError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'calendar'}: {e['msg']}" for e in error.errors())
        raise CalendarError(f"{path}: {problems}") from None
