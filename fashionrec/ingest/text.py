"""Text as the tables hold it."""

from pyspark.sql import Column
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


def clean_text(column: str | Column) -> Column:
    """Return a text fit for one line of a prompt: control characters and '|' become spaces, white space is collapsed, what has no width
    is left out; null where nothing is left to see."""
    text = f.col(column) if isinstance(column, str) else column
    shown = f.when(f.length(text) == f.octet_length(text), text).otherwise(f.regexp_replace(text, _HIDDEN, ""))
    text = f.trim(f.regexp_replace(shown, r"[\p{Cc}\p{Z}|]+", " "))
    return f.when(text.rlike(_SEEN), text)


def plain_list(column: str | Column) -> Column:
    """Return a text that is a JSON list as its entries with commas between them, any other as it is."""
    text = f.col(column) if isinstance(column, str) else column
    entries = f.from_json(text, "array<string>")
    return f.when(text.rlike(r"(?s)^\s*\[.*\]\s*$"), f.coalesce(f.array_join(entries, ", "), text)).otherwise(text)


def without_markup(column: str | Column) -> Column:
    """Return a text as a browser would show it: HTML's entities decoded, then its tags left out, so that no decoding brings one back."""
    text = f.col(column) if isinstance(column, str) else column
    return f.when(f.contains(text, f.lit("&")) | f.contains(text, f.lit("<")), _shown(text)).otherwise(text)


def _shown(text: Column) -> Column:
    for _ in range(_DECODINGS):
        # Of HTML 4, which does not know &apos;. An impossible number makes it fail, and the text stays as it is.
        plain = f.replace(text, f.lit("&apos;"), f.lit("'"))
        decoded = f.try_reflect(f.lit("org.apache.commons.text.StringEscapeUtils"), f.lit("unescapeHtml4"), plain)
        text = f.when(text.rlike(_ENTITY), f.coalesce(decoded, plain)).otherwise(text)
    return f.regexp_replace(f.regexp_replace(text, _TAGS, " "), _BEGINNINGS, " ")
