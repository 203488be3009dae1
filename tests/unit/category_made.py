"""A small category, written and loaded as a run does it, and requests for it."""

import re
from zlib import crc32

import numpy as np
import pandas as pd
import pyarrow as pa

from fashionrec.index_folders import slug
from fashionrec.retrieval.candidates import SOURCES, ask
from fashionrec.retrieval.indexes import load_index, write_category
from fashionrec.retrieval.requests import read_requests

TONIGHT = 20_000
ATTRIBUTES = ("colour", "fit")
SOLD = ("popularity_7", "popularity_28", "popularity_90")
LAST = 2_932_896  # 9999-12-31
_TOUCHED = pa.list_(pa.struct([("item_id", pa.string()), ("day", pa.int32()), ("bought", pa.bool_())]))
_REMEMBERED = pa.list_(pa.struct([("place", pa.int32()), ("item_id", pa.string()), ("score", pa.float32())]))
_SCHEMA = pa.schema(
    {
        "horizon": pa.string(),
        "as_of": pa.int32(),
        "touched": _TOUCHED,
        "elsewhere": pa.list_(pa.list_(pa.string())),
        "queries": pa.list_(pa.string()),
        "remembered": _REMEMBERED,
        "item_id": pa.string(),
        "title": pa.string(),
        "log_prob": pa.float32(),
    }
)
_PLAIN = {"horizon": "in_session", "as_of": TONIGHT, "touched": [], "elsewhere": None, "queries": [], "remembered": None}
_PLAIN |= {"item_id": None, "title": None, "log_prob": None}


def on_circle(texts):
    """Return the vectors at the angles, in degrees, that the texts end with: neighbours are known without counting."""
    angles = np.radians([float(re.search(r"-?\d+$", text)[0]) for text in texts])
    return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def drawn(texts):
    """Return vectors of 16 dimensions, drawn by the texts: equal ones for equal texts."""
    found = np.stack([np.random.default_rng(crc32(text.encode())).standard_normal(16) for text in texts])
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


def session_drawn(sessions):
    return drawn([" ".join(session) for session in sessions])


def category(folder, items, purchases=(), *, encode=on_circle, untrained=(), cold="180", as_of=TONIGHT):
    """Return the index of items, each a dict of what is special about it; the ID space is that of titles, `cold` where nobody trained.

    Purchases are (user, item, day).
    """
    plain = {"category": "Bags", "in_stock": True, "family": None, "price": 10.0, "on_sale_from": 0, "on_sale_to": LAST}
    rows = pd.DataFrame([{"tastes": ["red", "slim"], "sold_out": [], **plain, **item} for item in items])
    titles = dict(zip(rows.item_id, rows.title, strict=True))

    def id_vectors(item_ids):
        trained = np.array([item_id not in untrained for item_id in item_ids])
        return encode([titles[item_id] if item_id not in untrained else cold for item_id in item_ids]), trained

    bought = pd.DataFrame(purchases, columns=["user_id", "item_id", "day"]).assign(category="Bags")
    folder.mkdir(exist_ok=True)
    write_category(rows, bought, folder, as_of=as_of, id_vectors=id_vectors, encode=encode)
    return load_index(folder / slug("Bags"))


def circle(**special):
    """Return items A to F at 0, 10, ... 50 degrees, with what is special about some."""
    return [{"item_id": name, "title": f"at {10 * place}", **special.get(name, {})} for place, name in enumerate("ABCDEF")]


def click(item_id, day=TONIGHT, bought=False):
    return {"item_id": item_id, "day": day, "bought": bought}


def buy(item_id, day=TONIGHT):
    return click(item_id, day, bought=True)


def batch_of(*requests):
    return pa.RecordBatch.from_pylist([{**_PLAIN, **request} for request in requests], schema=_SCHEMA)


def asked_of(index, *requests, again=False, encode=on_circle, encode_sessions=None):
    """Return requests, each a dict of what is special about it; with `again`, touched items may be found.

    Sessions have no vectors where nobody says how they are encoded.
    """
    read = read_requests(batch_of(*requests), index)
    excluded = np.full(len(read.touched), not again)
    sessions = encode_sessions or (lambda of: np.zeros((len(of), index.ids.d), np.float32))
    return ask(index, read, excluded=excluded, encode=encode, encode_sessions=sessions)


def found(source, asked, k=5):
    """Return the item IDs of a source's lists, which end where -1 stands."""
    hits = SOURCES[source].find(asked, k)
    assert hits.rows.shape == hits.scores.shape == (asked.requests.size, k)
    return [[asked.index.item_ids[row].decode() for row in list_of_one if row >= 0] for list_of_one in until_the_end(hits.rows)]


def until_the_end(rows):
    for of_one in rows:
        length = int((of_one >= 0).sum())
        assert (of_one[:length] >= 0).all(), "-1 stands inside a list"
        yield of_one[:length]
