"""Times as logs write them."""

from pyspark.sql import Column
from pyspark.sql import functions as f

# What most logs write, and Spark reads by itself.
_USUAL = r"^\d{4}-\d{2}-\d{2}[T ]\d{2}:\d{2}:\d{2}(\.\d{1,9})?(Z|[+-]\d{2}:?\d{2})$"
# ISO 8601's dates of the calendar with a time of day, extended and basic: year, month, day, hour, minute, second, fraction.
_LOCAL = r"^\s*(\d{4})(?:-(\d{2})-|(\d{2}))(\d{2})[Tt ](\d{2})(?::?(\d{2})(?::?(\d{2})(?:[.,](\d+))?)?)?"
# An offset may have the minus sign that ISO 8601 means; the name of a zone behind it (RFC 9557) adds nothing to the instant.
_ZONE = r"([Zz]|[+\u2212-]\d{2}(?::?\d{2})?)(?:\[[^\[\]]*+\])*+\s*$"


def instant(text: Column) -> Column:
    """Return the instant of a date and time of ISO 8601 with `Z` or an offset, null where it is none, or no such day or hour.

    Read are dates of the calendar (no weeks, no days of the year), extended or basic, to the hour, minute, second or its fraction, of
    which six digits count; 24:00 is the end of its day, and second 60 of an hour's last minute the beginning of the next hour.
    """
    usual = f.when(text.rlike(_USUAL), text.try_cast("timestamp"))
    return f.coalesce(usual, f.when(text.rlike(_LOCAL + _ZONE), _from_parts(text)))


def lacks_zone(text: Column) -> Column:
    """Return whether a text is a date and time like those of `instant` but without `Z` and offset."""
    return text.rlike(rf"{_LOCAL}\s*$") & instant(f.concat(f.rtrim(text, f.lit(" \t\r\n")), f.lit("Z"))).isNotNull()


def _from_parts(text: Column) -> Column:
    def part(number: int, otherwise: str = "00") -> Column:
        return f.coalesce(f.nullif(f.regexp_extract(text, _LOCAL + _ZONE, number), f.lit("")), f.lit(otherwise))

    year, month, day, hour, minute, second = part(1), f.concat(part(2, ""), part(3, "")), part(4), part(5), part(6), part(7)
    fraction, zone = f.substring(part(8, "0"), 1, 6), f.translate(f.upper(part(9)), "\u2212", "-")
    at_midnight, leaps = f.concat(hour, minute, second, fraction).rlike("^240+$"), f.concat(minute, second) == "5960"
    time = f.concat_ws(":", f.when(at_midnight, "00").otherwise(hour), minute, f.when(leaps, "59").otherwise(second))
    at = f.concat(f.concat_ws("-", year, month, day), f.lit("T"), time, f.lit("."), f.when(leaps, "0").otherwise(fraction), zone)
    later = (
        f.when(at_midnight, f.expr("INTERVAL 24 HOURS")).when(leaps, f.expr("INTERVAL 1 SECOND")).otherwise(f.expr("INTERVAL 0 SECONDS"))
    )
    return at.try_cast("timestamp") + later
