"""The history of the catalogue: which description of an item held when.

The table `item_versions` keeps what each catalogue changed against the one before it, so a catalogue says nothing about earlier days, and
what is known on a day are the changes up to it.
"""

from collections.abc import Collection, Mapping
from datetime import date

from pyspark.sql import Column, DataFrame, Window
from pyspark.sql import functions as f

# What makes a description; price and stock change daily and belong to the run date.
DESCRIPTION = ("title", "category", "brand", "colour", "size", "first_available_date", "attributes")
# No event is older than the epoch.
_BEGINNING, _END = date(1970, 1, 1), date(9999, 12, 31)


def intervals(versions: DataFrame) -> DataFrame:
    """Return one row per description and the days for which it held, from the rows of `item_versions` up to a day.

    Columns: item_id, those of DESCRIPTION; `valid_from`, the first catalogue that held the item so; `valid_to`, the first later one that
    held it no more or otherwise, null where there is none; `describes_from` and `describes_to`, the days whose events the row describes:
    an item's first row also those before it, every row up to the next, the last for ever.
    """
    in_order = Window.partitionBy("item_id").orderBy("valid_from")
    changed = versions.withColumnRenamed("arrival_date", "valid_from")
    held = changed.withColumn("valid_to", f.lead("valid_from").over(in_order)).where("is_listed")
    is_first = f.lag("valid_from").over(in_order).isNull()
    return held.select(
        "item_id",
        "valid_from",
        "valid_to",
        f.when(is_first, f.lit(_BEGINNING)).otherwise(f.col("valid_from")).alias("describes_from"),
        f.coalesce(f.lead("valid_from").over(in_order), f.lit(_END)).alias("describes_to"),
        *DESCRIPTION,
    )


def listed_on(versions: DataFrame, day: date) -> DataFrame:
    """Return the items that the newest catalogue up to a day holds: item_id, those of DESCRIPTION, and `arrival_date`, that day."""
    newest = f.max_by(f.struct("is_listed", *DESCRIPTION), "arrival_date")
    state = versions.where(f.col("arrival_date") <= f.lit(day)).groupBy("item_id").agg(newest.alias("was"))
    return state.where("was.is_listed").select("item_id", *(f"was.{name}" for name in DESCRIPTION), f.lit(day).alias("arrival_date"))


def touched_days(new: Collection[date], known: Collection[date]) -> tuple[list[date], dict[date, int]]:
    """Return the days whose changes new catalogues make anew, and places for `item_versions`.

    Those are the days of the new catalogues and of the one that follows each, which is compared with it. A day's place is one more than
    that of the catalogue before it; days that are not to be compared are at least two apart. Beside the days to be made anew, there is a
    place for what the first of each stretch is compared with.
    """
    every = sorted({*new, *known})
    anew = {day for place, day in enumerate(every) if day in new or (place > 0 and every[place - 1] in new)}
    places: dict[date, int] = {}
    last = 0
    for place, day in enumerate(every):
        follows = place > 0 and every[place - 1] in places
        if day in anew or (place + 1 < len(every) and every[place + 1] in anew):
            last += 1 if follows and day in anew else 2
            places[day] = last
    return sorted(anew), places


def item_versions(states: DataFrame, *, anew: Collection[date], places: Mapping[date, int]) -> DataFrame:
    """Return the rows of the table `item_versions` of the days `anew`: what each catalogue changed against the one before it.

    Args:
        states: item_id, those of DESCRIPTION and `arrival_date` of all items of the catalogues that have a place.
        anew: the days whose rows are returned.
        places: see `touched_days`.
    """
    in_order = Window.partitionBy("item_id").orderBy("place")
    place = _looked_up({day: f.lit(number) for day, number in places.items()}, f.col("arrival_date"))
    following = _looked_up({number: f.lit(day) for day, number in places.items()}, f.col("place") + 1)
    content = f.xxhash64(*(_sorted_map(name) if name == "attributes" else f.col(name) for name in DESCRIPTION))
    rows = states.withColumn("place", place).withColumn("content", content)
    goes_on = (f.lag("place").over(in_order) == f.col("place") - 1) & (f.lag("content").over(in_order) == f.col("content"))
    stays = f.lead("place").over(in_order) == f.col("place") + 1
    rows = rows.withColumns({"goes_on": f.coalesce(goes_on, f.lit(False)), "stays": f.coalesce(stays, f.lit(False)), "next": following})
    told = f.struct("arrival_date", f.lit(True).alias("is_listed"), *DESCRIPTION)
    types = {field.name: field.dataType for field in states.schema}
    nothing = (f.lit(None).cast(types[name]).alias(name) for name in DESCRIPTION)
    gone = f.struct(f.col("next").alias("arrival_date"), f.lit(False).alias("is_listed"), *nothing)
    changes = f.array(f.when(~f.col("goes_on"), told), f.when(~f.col("stays") & f.col("next").isNotNull(), gone))
    found = rows.select("item_id", f.inline(f.array_compact(changes)))
    # What a stretch begins with is only compared with.
    return found.where(f.col("arrival_date").isin(*anew)).select("arrival_date", "item_id", "is_listed", *DESCRIPTION)


def _looked_up(values: Mapping[object, Column], key: Column) -> Column:
    return f.create_map(*(part for name, value in values.items() for part in (f.lit(name), value)))[key]


def _sorted_map(name: str) -> Column:
    # Two maps with the same entries in another order are the same description.
    return f.array_sort(f.map_entries(name))
