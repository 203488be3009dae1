"""Values of other types as the contract declares them, where nothing of them is lost."""

from pyspark.sql import Column
from pyspark.sql import functions as f
from pyspark.sql import types as t

from fashionrec.lake.spec import TableSpec

_WHOLE = (t.ByteType, t.ShortType, t.IntegerType, t.LongType)
_NUMBERS = (*_WHOLE, t.FloatType, t.DoubleType, t.DecimalType)
_ISO_8601 = "yyyy-MM-dd'T'HH:mm:ss"
# Beyond it years have five digits: no time that anybody means.
_YEAR_10000 = 253_402_300_800


class Nanoseconds(t.DataType):
    """Nanoseconds since the epoch, a type that Parquet has and Spark has not: Spark gives their numbers."""

    def __init__(self, *, has_zone: bool) -> None:
        self.has_zone = has_zone

    def simpleString(self) -> str:  # noqa: N802, the name is of Spark
        return f"timestamp in nanoseconds {'with' if self.has_zone else 'without'} a time zone"


def times_of(spec: TableSpec) -> frozenset[str]:
    """Return the columns of text that are times: ISO 8601 with `Z` or an offset."""
    return frozenset(column.name for column in spec.columns if column.type == "string" and column.unit == "UTC")


def as_declared(value: Column, found: t.DataType, declared: t.DataType, *, is_time: bool = False, is_epoch: bool = False) -> Column | None:
    """Return a value in the contract's type, or None where the type that it has cannot say what the contract asks for.

    A single value that does not fit (1.5 as a position) becomes null: `unread` tells it from one that was null.

    Args:
        is_time: it is text that says a time; others may be numbers, days or times as well.
        is_epoch: it is a time that the settings declare as a number.
    """
    read: Column | None = None
    if found == declared:
        read = value
    elif isinstance(found, t.NullType):
        read = f.lit(None).cast(declared)
    elif isinstance(declared, t.StringType):
        read = _as_time(value, found, is_epoch=is_epoch) if is_time else _as_text(value, found)
    elif isinstance(declared, t.IntegerType) and isinstance(found, _NUMBERS):
        read = (value if isinstance(found, _WHOLE) else f.when(value % 1 == 0, value)).try_cast("int")
    elif isinstance(declared, t.DoubleType) and isinstance(found, _NUMBERS):
        read = value.cast("double")
    elif isinstance(declared, t.ArrayType) and isinstance(found, t.ArrayType):
        read = value.cast(declared) if isinstance(found.elementType, (t.StringType, t.NullType, *_WHOLE)) else None
    elif isinstance(declared, t.MapType) and isinstance(found, (t.MapType, t.StructType)):
        # What pandas has as dictionaries, Arrow writes as structures.
        read = f.from_json(f.to_json(value), declared.simpleString())
    return read


def unread(value: Column, found: t.DataType, read: Column) -> Column:
    """Return whether `read`, made by `as_declared`, lost a value that was one; NaN is none."""
    is_none = value.isNull() | f.isnan(value) if isinstance(found, (t.FloatType, t.DoubleType)) else value.isNull()
    return ~is_none & read.isNull()


def epoch_as_time(text: Column, unit: str) -> Column:
    """Return the numbers (`epoch_seconds` or `epoch_millis`) among texts as ISO 8601 in UTC, and all others as they are."""
    number = text.try_cast("decimal(38,9)")
    seconds = f.round(number / 1000 if unit == "epoch_millis" else number, 6)
    in_reach = f.abs(seconds) < _YEAR_10000
    return f.when(in_reach, _iso(f.timestamp_seconds(f.when(in_reach, seconds)))).otherwise(text)


def _as_time(value: Column, found: t.DataType, *, is_epoch: bool) -> Column | None:
    if isinstance(found, Nanoseconds):
        if not found.has_zone:
            return None
        rest = f.pmod(value, f.lit(1_000_000_000))
        seconds = f.timestamp_seconds(((value - rest) / 1_000_000_000).cast("long"))
        return f.concat(f.date_format(seconds, _ISO_8601), f.lit("."), f.lpad(rest.cast("string"), 9, "0"), f.date_format(seconds, "XXX"))
    if isinstance(found, t.TimestampType):
        return _iso(value)
    is_number = isinstance(found, _NUMBERS) and is_epoch
    return value.cast("string") if is_number or isinstance(found, (t.BinaryType, t.VarcharType)) else None


def _as_text(value: Column, found: t.DataType) -> Column | None:
    if isinstance(found, Nanoseconds):
        return f.timestamp_micros((value / 1000).cast("long")).cast("string")
    is_id = isinstance(found, _WHOLE) or (isinstance(found, t.DecimalType) and found.scale == 0)
    is_told = isinstance(found, (t.DateType, t.TimestampType, t.TimestampNTZType, t.BinaryType, t.VarcharType, t.CharType))
    return value.cast("string") if is_id or is_told else None


def _iso(time: Column) -> Column:
    return f.date_format(time, f"{_ISO_8601}.SSSSSSXXX")
