"""Users and devices by pseudonym: HMAC-SHA256 of the shop's ID under a secret key, 64 hex digits.

Whoever has no key can neither undo a pseudonym nor make the one of a guessed ID. The key is used as it stands in its file, without the
white space around it, so that any other system that may know it makes the same pseudonyms.
"""

import hashlib
import hmac
import os
from pathlib import Path

from pyspark.sql import Column, DataFrame
from pyspark.sql import functions as f

from fashionrec.errors import UserError

VARIABLE = "FASHIONREC_USER_KEY"
# What a key of the demo begins with: everybody knows it.
_DEMO_MARK = b"public-demo-key"
_FEWEST_BYTES = 16
_BLOCK = 64
_INNER, _OUTER = "_key_inner", "_key_outer"


class KeyMissingError(UserError):
    """There is no usable key for the users' pseudonyms; the text says where it was looked for and how to make one."""


def load_key(path: str) -> bytes:
    """Return the key of a file, or where `path` is empty of the environment.

    Raises:
        KeyMissingError: there is none, or it is shorter than 16 bytes.
    """
    where = f"ingest.user_key_file {path}" if path else f"the environment variable {VARIABLE} (ingest.user_key_file is empty)"
    try:
        key = Path(path).read_bytes().strip() if path else os.environb.get(VARIABLE.encode(), b"").strip()
    except OSError as error:
        raise KeyMissingError(f"{where}: {error.strerror}; make a key for the users' pseudonyms: openssl rand -hex 32 > FILE") from None
    if len(key) < _FEWEST_BYTES:
        what = f"a key of {len(key)} bytes is too short, {_FEWEST_BYTES} are the least" if key else "no key for the users' pseudonyms"
        raise KeyMissingError(f"{where}: {what}; make one: openssl rand -hex 32, and keep it as long as the tables")
    return key


def is_demo_key(key: bytes) -> bool:
    """Return whether the key is the one that the project ships for its demo and tests."""
    return key.startswith(_DEMO_MARK)


def key_fingerprint(key: bytes) -> str:
    """Return 16 hex digits that tell one key from another and say nothing about it."""
    return hmac.new(key, b"fashionrec key fingerprint", hashlib.sha256).hexdigest()[:16]


def pseudonym(key: bytes, name: str) -> str:
    """Return the pseudonym of one ID; white space around the ID is no part of it."""
    return hmac.new(key, name.strip(" ").encode(), hashlib.sha256).hexdigest()


def with_key(frame: DataFrame, key: bytes) -> DataFrame:
    """Return the rows with two further columns that `pseudonym_of` works with; drop them by selecting others.

    The key travels as a broadcast row: as a literal it would stand in every plan, in Spark's UI and in its event log.
    """
    block = (hashlib.sha256(key).digest() if len(key) > _BLOCK else key).ljust(_BLOCK, b"\0")
    pads = [bytearray(byte ^ pad for byte in block) for pad in (0x36, 0x5C)]
    return frame.crossJoin(f.broadcast(frame.sparkSession.createDataFrame([pads], f"{_INNER} binary, {_OUTER} binary")))


def pseudonym_of(name: Column) -> Column:
    """Return the pseudonyms of IDs in a frame made by `with_key`: RFC 2104 in Spark's own functions, null for null."""
    inner = f.sha2(f.concat(f.col(_INNER), f.trim(name).cast("binary")), 256)
    return f.sha2(f.concat(f.col(_OUTER), f.unhex(inner)), 256)


def hide_names(text: Column, *columns: str) -> Column:
    """Return rejected rows' texts with pseudonyms for the IDs that can be told in them: those of JSON fields named like an ID of a user
    or device, and the parsed values of `columns` where they fill a whole cell of a CSV record."""
    hidden = f.reduce(
        f.regexp_extract_all(text, f.lit(_ID_FIELD), 0), text, lambda left, field: f.replace(left, field, _hidden_field(field))
    )
    for column in columns:
        # Quoted as a whole, an ID cannot be a pattern.
        literal = f.concat(f.lit(r"\Q"), f.replace(f.trim(column), f.lit(r"\E"), f.lit(r"\E\\E\Q")), f.lit(r"\E"))
        cell = f.concat(f.lit(r'(?<=^|[",;|\s])'), literal, f.lit(r'(?=$|[",;|\s])'))
        # A record may begin as JSON does: some tools put IDs in braces.
        is_record = f.json_object_keys(text).isNull() & (f.length(f.trim(column)) > 0)
        hidden = f.when(is_record, f.regexp_replace(hidden, cell, pseudonym_of(f.col(column)))).otherwise(hidden)
    return hidden


_ID_FIELD = r"""(?i)"(?:user|device|customer|client|visitor)_?id"\s*:\s*(?:"(?:[^"\\]|\\.)*"?|\{[^{}]*\}?|\[[^\[\]]*\]?|[^\s,{}\[\]"]+)"""


def _hidden_field(field: Column) -> Column:
    """Return a JSON field with the pseudonym of its value; what is no plain value stays visible as such."""
    name, value = f.regexp_extract(field, '^("[^"]*")', 1), f.regexp_replace(field, r'^"[^"]*"\s*:\s*', "")
    # Undoes the escapes; a text that the line's end cuts off has none to undo.
    plain = f.coalesce(f.get_json_object(f.concat(f.lit('{"v":'), value, f.lit("}")), "$.v"), f.regexp_replace(value, '^"|"$', ""))
    hidden = f.concat(f.lit('"'), pseudonym_of(plain), f.lit('"'))
    nested = f.concat(f.lit("["), hidden, f.lit("]"))
    return f.concat(name, f.lit(":"), f.when(value == "null", value).when(value.rlike(r"^[\[{]"), nested).otherwise(hidden))
