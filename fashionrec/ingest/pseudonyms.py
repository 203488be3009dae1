"""Users and devices by pseudonym: HMAC-SHA256 of the shop's ID under a secret key, 64 hex digits.

Whoever has no key can neither undo a pseudonym nor make the one of a guessed ID. The key is used as it stands in its file, without the
white space around it, so that any other system that may know it makes the same pseudonyms. Of an ID, `normalise_id` is what counts.
"""

import hashlib
import hmac
import os
import re
import unicodedata
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from fashionrec.errors import UserError

VARIABLE = "FASHIONREC_USER_KEY"
# What a key of the demo begins with: everybody knows it.
_DEMO_MARK = b"public-demo-key"
_FEWEST_BYTES = 16
_BLOCK = 64
_FINGERPRINT_OF = b"fashionrec key fingerprint"
_INNER, _OUTER = "_key_inner", "_key_outer"


class KeyMissingError(UserError):
    """There is no usable key for the users' pseudonyms; the text says where it was looked for and how to make one."""


def load_key(path: str) -> bytes:
    """Return the key of a file, or where `path` is empty of the environment.

    Raises:
        KeyMissingError: there is none, it is shorter than 16 bytes, or it is the path of a file.
    """
    where = f"ingest.user_key_file {path}" if path else f"the environment variable {VARIABLE} (ingest.user_key_file is empty)"
    try:
        key = Path(path).read_bytes().strip() if path else os.environb.get(VARIABLE.encode(), b"").strip()
    except OSError as error:
        raise KeyMissingError(f"{where}: {error.strerror}; make a key for the users' pseudonyms: openssl rand -hex 32 > FILE") from None
    if _is_path(key.decode(errors="replace")):
        raise KeyMissingError(
            f"{where}: the path of a file in the place of a key; set ingest.user_key_file to it, or {VARIABLE}=$(cat FILE)"
        )
    if len(key) < _FEWEST_BYTES:
        what = f"a key of {len(key)} bytes is too short, {_FEWEST_BYTES} are the least" if key else "no key for the users' pseudonyms"
        raise KeyMissingError(f"{where}: {what}; make one: openssl rand -hex 32, and keep it as long as the tables")
    return key


def _is_path(key: str) -> bool:
    if re.fullmatch(r"(?s)([a-z][\w+]*://|~\w*/|\.\.?/|[A-Za-z]:[\\/]).*|.*\.(key|txt|pem|secret|env)", key):
        return True
    # A key in base64 may begin with a slash, too, but hardly without a capital letter, and never with one of these signs.
    return key.startswith("/") and (bool(re.search("[._~ -]", key)) or key == key.lower() or os.path.exists(key))


def key_fingerprint(key: bytes) -> str:
    """Return 16 hex digits that tell a key from others and give nothing of it away."""
    return hmac.new(key, _FINGERPRINT_OF, hashlib.sha256).hexdigest()[:16]


def is_demo_key(key: bytes) -> bool:
    """Return whether the key is the one that the project ships for its demo and tests."""
    return key.startswith(_DEMO_MARK)


def normalise_id(name: str) -> str:
    """Return an ID as its pseudonym is made of: Unicode's form C, without white space, control and zero-width characters around it."""
    return unicodedata.normalize("NFC", name.strip(_AROUND))


def pseudonym(key: bytes, name: str) -> str:
    """Return the pseudonym of one ID (see `normalise_id`)."""
    return hmac.new(key, normalise_id(name).encode(), hashlib.sha256).hexdigest()


def with_key(frame: DataFrame, key: bytes) -> DataFrame:
    """Return the rows with two further columns that `pseudonym_of` works with; drop them by selecting others.

    The key travels as a broadcast row: as a literal it would stand in every plan, in Spark's UI and in its event log.
    """
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    pads = [bytearray(byte ^ pad for byte in block) for pad in (0x36, 0x5C)]
    return frame.crossJoin(f.broadcast(frame.sparkSession.createDataFrame([pads], f"{_INNER} binary, {_OUTER} binary")))


def pseudonym_of(name: Column) -> Column:
    """Return the pseudonyms of IDs in a frame made by `with_key`: RFC 2104 in Spark's own functions, null for null."""
    inner = f.sha2(f.concat(f.col(_INNER), normalised_id(name).cast("binary")), 256)
    return f.sha2(f.concat(f.col(_OUTER), f.unhex(inner)), 256)


def normalised_id(name: Column) -> Column:
    """Return what `normalise_id` does of each ID."""
    trimmed = f.trim(name, f.lit(_AROUND))
    # Spark has no function for the forms of Unicode, but the library that has: called only where there is more than ASCII.
    composed = f.try_reflect(f.lit("com.ibm.icu.text.Normalizer"), f.lit("compose"), trimmed, f.lit(False))
    return f.when(f.length(trimmed) == f.octet_length(trimmed), trimmed).otherwise(f.coalesce(composed, trimmed))


def names_nobody(name: Column) -> Column:
    """Return whether a text is no ID: blank, a word for nothing (`NULL`, `\\N`, `undefined`, ...), a list or an object."""
    bare = f.trim(name, f.lit(_AROUND))
    return _says_nothing(name) | (bare.startswith("[") & bare.endswith("]")) | bare.rlike(_OBJECT)


def _says_nothing(name: Column) -> Column:
    return f.lower(f.trim(name, f.lit(_AROUND))).isin("", *_NOTHING)


def hide_names(text: Column, *columns: str) -> Column:
    """Return rejected rows' texts with pseudonyms for the IDs in them: the values of fields named like an ID of a user or device, however
    they are quoted, and the parsed values of `columns` wherever they stand; short ones where they fill a quoted text or a cell."""

    def hide(plain: Column) -> Column:
        fields = f.array_distinct(f.regexp_extract_all(plain, f.lit(_ID_FIELD), 0))
        return f.reduce(fields, plain, lambda left, field: f.replace(left, field, _hidden_field(field)))

    values = f.array(*(f.trim(f.col(column), f.lit(_AROUND)) for column in columns))
    # What is used more than once stands in an array: Spark would write it into the plan as often.
    hidden = f.transform(f.array(_without_escapes(text)), hide)[0]
    return f.reduce(values, hidden, _without_value)


# What may stand around an ID and is no part of it: Unicode's white space, control characters and those of no width.
_AROUND = "".join(
    chr(code)
    for first, last in (
        (0x00, 0x20),
        (0x7F, 0xA0),
        (0xAD, 0xAD),
        (0x1680, 0x1680),
        (0x180E, 0x180E),
        (0x2000, 0x200F),
        (0x2028, 0x202F),
        (0x205F, 0x206F),
        (0x3000, 0x3000),
        (0xFEFF, 0xFEFF),
    )
    for code in range(first, last + 1)
)
_NOTHING = ("null", "none", "nil", "nan", "undefined", "n/a", "#n/a", "<na>", "<null>", "(null)", r"\n")
# A GUID in braces is an ID.
_OBJECT = r'^\{\s*(\}|["\x27])'
# Shorter values are words, numbers and dates of other fields, too.
_TELLING = 6

# Possessive throughout: where it could go back, the pattern would recurse once per character and end the JVM with a long text.
_ID_FIELD = (
    r"""(?is)(?<!\w)\\*+["']?(?:user|device|customer|client|visitor)_?id\\*+["']?\s*+[:=]\s*+"""
    r"""(?:"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|'[^'\\]*+(?:\\.[^'\\]*+)*+'?+|\\++["'][^"'\\]*+(?:\\++["'])?+"""
    r"""|\{(?:[^{}]++|\{[^{}]*+\}?+)*+\}?+|\[(?:[^\[\]]++|\[[^\[\]]*+\]?+)*+\]?+|[^\s,;&{}\[\]"'\\]++)"""
)
_NAME = r"""^\\*+["']?\w+\\*+["']?"""
# Characters that a JSON text spells by number: those that are its syntax, and halves of pairs, stay as they are.
_ESCAPES = r"(?<!\\)(?:\\u(?!00[01]|0022|0027|005[cC]|[dD][89a-fA-F])[0-9a-fA-F]{4})++"


def _without_escapes(text: Column) -> Column:
    """Return a text with plain characters for those that are spelt by their number: such a name of a field is the field's, too."""
    spelt = f.array_distinct(f.regexp_extract_all(text, f.lit(_ESCAPES), 0))
    # The longest first: one may be the beginning of another.
    longest_first = f.array_sort(spelt, lambda a, b: f.length(b) - f.length(a))
    read = f.reduce(
        longest_first, text, lambda left, one: f.replace(left, one, f.decode(f.unhex(f.replace(one, f.lit(r"\u"), f.lit(""))), "UTF-16BE"))
    )
    return f.when(f.contains(text, f.lit(r"\u")), read).otherwise(text)


def _hidden_field(field: Column) -> Column:
    """Return a field with the pseudonym of its value; a word for nothing stays, and what is no plain value stays visible as such."""
    name, value = f.regexp_extract(field, _NAME, 0), f.regexp_replace(field, rf"{_NAME}\s*+[:=]\s*+", "")
    # Undoes the escapes; a text that the line's end cuts off has none to undo.
    in_json = f.get_json_object(f.concat(f.lit('{"v":'), value, f.lit("}")), "$.v")
    plain = f.coalesce(in_json, f.regexp_replace(value, r"""^\\*+["']|\\*+["']$""", ""))
    hidden = f.concat(f.lit('"'), pseudonym_of(plain), f.lit('"'))
    nested = f.concat(f.lit("["), hidden, f.lit("]"))
    is_nested = value.rlike(r"^[\[{]")
    hidden = f.when(is_nested, nested).when(_says_nothing(plain), value).otherwise(hidden)
    return f.concat(name, f.lit(":"), hidden)


def _without_value(text: Column, value: Column) -> Column:
    """Return a text with the pseudonym of a parsed ID in its place, as it is and as JSON or CSV spell it."""
    # Quoted as a whole, an ID cannot be a pattern.
    literal = f.concat(f.lit(r"\Q"), f.replace(value, f.lit(r"\E"), f.lit(r"\E\\E\Q")), f.lit(r"\E"))
    quoted = f.concat(f.lit("(?<=[\"'])"), literal, f.lit("(?=[\"'])"))
    cell = f.concat(f.lit(r"(?<=^|[\"',;|\s])"), literal, f.lit(r"(?=$|[\"',;|\s])"))
    short = f.regexp_replace(text, f.when(f.startswith(text, f.lit("{")), quoted).otherwise(cell), pseudonym_of(value))
    in_json = f.to_json(f.array(value))
    long = text
    for spelt in (value, f.substring(in_json, f.lit(3), f.length(in_json) - 4), f.replace(value, f.lit('"'), f.lit('""'))):
        long = f.replace(long, spelt, pseudonym_of(value))
    return f.when(value.isNull() | _says_nothing(value), text).when(f.length(value) < _TELLING, short).otherwise(long)
