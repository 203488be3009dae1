"""Text as the tables hold it."""

from collections.abc import Mapping
from functools import reduce

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

_ENTITY = r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});"
# Texts that were escaped twice are met; what is left of a third time is taken out with the tags.
_DECODINGS = 2
# Comments and tags; then what would begin a tag, or begin one once somebody decodes it.
_TAGS = r"<!--.*?-->|</?[A-Za-z][^<>]*>"
_BEGINNINGS = r"<(?=[A-Za-z/!?])|&(lt|LT|#0*60|#[xX]0*3[cC]);?"


# What shows nothing and changes what is shown: soft hyphens, marks of direction, tags, those of no width but the two that join letters.
_HIDDEN = r"[\p{Cf}&&[^\u0600-\u0605\u06dd\u070f\u0890\u0891\u08e2\u200c\u200d]]+"
# Letters and marks that show nothing either, alone.
_SEEN = r"[^ \p{M}\u200c\u200d\u115f\u1160\u3164\uffa0\u2800]"


def with_plain_texts(rows: DataFrame, columns: Mapping[str, Column]) -> DataFrame:
    """Return rows with further columns: texts of a catalogue, each as `plain_text` makes it."""
    # One step after the other: Spark would write what each step looks at twice into the plan, thousands of times in all.
    rows = rows.withColumns(dict(columns))
    for step in _STEPS:
        rows = rows.withColumns({name: step(f.col(name)) for name in columns})
    return rows


def plain_text(text: Column) -> Column:
    """Return a text fit for one line of a prompt (see `clean_text`) as a browser would show it: HTML's entities decoded, then its tags left
    out, so that no decoding brings one back."""
    # Each step stands in an array, for the reason given above.
    return reduce(lambda before, step: f.transform(f.array(before), step)[0], _STEPS, text)


def clean_text(text: Column) -> Column:
    """Return a text fit for one line of a prompt: control characters and '|' become spaces, white space is collapsed, what has no width
    is left out; null where nothing is left to see."""
    return _if_seen(_one_line(text))


def plain_list(text: Column) -> Column:
    """Return a text that is a JSON list as its entries with commas between them, any other as it is."""
    entries = f.from_json(text, "array<string>")
    return f.when(text.rlike(r"(?s)^\s*\[.*\]\s*$"), f.coalesce(f.array_join(entries, ", "), text)).otherwise(text)


def _decoded(text: Column) -> Column:
    # Of HTML 4, which does not know &apos;. An impossible number makes it fail, and the text stays as it is.
    plain = f.replace(text, f.lit("&apos;"), f.lit("'"))
    decoded = f.try_reflect(f.lit("org.apache.commons.text.StringEscapeUtils"), f.lit("unescapeHtml4"), plain)
    return f.when(f.contains(text, f.lit("&")) & text.rlike(_ENTITY), f.coalesce(decoded, plain)).otherwise(text)


def _without_tags(text: Column) -> Column:
    shown = f.regexp_replace(f.regexp_replace(text, _TAGS, " "), _BEGINNINGS, " ")
    return f.when(f.contains(text, f.lit("&")) | f.contains(text, f.lit("<")), shown).otherwise(text)


def _one_line(text: Column) -> Column:
    shown = f.when(f.length(text) == f.octet_length(text), text).otherwise(f.regexp_replace(text, _HIDDEN, ""))
    return f.trim(f.regexp_replace(shown, r"[\p{Cc}\p{Z}|]+", " "))


def _if_seen(text: Column) -> Column:
    return f.when(text.rlike(_SEEN), text)


_STEPS = (*(_decoded,) * _DECODINGS, _without_tags, _one_line, _if_seen)
