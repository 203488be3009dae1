"""H&M's "Personalized Fashion Recommendations" competition: articles and transactions in their original files."""

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from fashionrec.errors import UserError
from fashionrec.sources.importers import check_columns
from fashionrec.sources.lines import write_lines

ABOUT = "H&M Personalized Fashion Recommendations: articles.csv and transactions_train.csv"
GAPS = (
    "There are purchases only: no search, no click, no position.",
    "A purchase has a day but no time, and the order within a day is arbitrary. The articles of one customer and day get its seconds 0, 1, "
    "2, ... in the order of the file; several pieces of one article get the same second, and ingestion makes them one purchase.",
    "Stock is unknown: every article counts as in stock. Brand, size and the first day on sale stay empty.",
    "Prices are scaled by an unknown factor, so they are no prices in a currency, and stay empty.",
    "There is one catalogue without a date: it becomes the snapshot of the newest day of the transactions.",
    "The category is index_group_name, the coarsest of the catalogue's own divisions.",
)
ARTICLES = ("articles.parquet", "articles.csv", "articles.csv.gz", "articles.csv.zst")
TRANSACTIONS = tuple(f"transactions_{part}.csv{packed}" for part in ("train", "sample") for packed in ("", ".gz", ".zst"))
_TRANSACTION_COLUMNS = ["t_dat", "customer_id", "article_id"]
_ATTRIBUTES = {
    "type": "product_type_name",
    "group": "product_group_name",
    "pattern": "graphical_appearance_name",
    "shade": "perceived_colour_value_name",
    "department": "department_name",
    "section": "section_name",
    "garment_group": "garment_group_name",
}
_ARTICLE_COLUMNS = ["article_id", "prod_name", "colour_group_name", "index_group_name", *_ATTRIBUTES.values()]
_TITLE_LENGTH = 80


def import_files(source: Path, raw_interactions: Path, raw_catalog: Path) -> dict[str, int]:
    """Write one file of purchases per day and the catalogue of the newest day; a second import writes the same bytes.

    Returns:
        Counts of articles, transactions, customers and days.

    Raises:
        UserError: a file or column of the competition's format is missing, or the transactions are not sorted by day.
    """
    # Both are found before anything is written.
    articles = _articles(_only(source, ARTICLES))
    transactions = _only(source, TRANSACTIONS)
    customers: set[str] = set()
    count, days = 0, 0
    newest = ""
    for newest, rows in _by_day(transactions):
        write_lines(raw_interactions / newest / "purchases.jsonl.gz", _as_lines(_events(newest, rows)))
        count, days = count + len(rows), days + 1
        customers.update(rows["customer_id"])
    if not newest:
        raise UserError(f"{transactions}: no rows")
    write_lines(raw_catalog / newest / "articles.jsonl.gz", _as_lines(articles))
    return {"articles": len(articles), "transactions": count, "customers": len(customers), "days": days}


def _articles(path: Path) -> pd.DataFrame:
    """Return the catalogue in the columns of the raw contract."""
    with _readable(path):
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path, dtype=str, keep_default_na=False)
    check_columns(path, list(frame.columns), _ARTICLE_COLUMNS)
    # "Unknown" and "Undefined ..." are the catalogue's words for nothing.
    words = frame[_ARTICLE_COLUMNS[1:]].fillna("").astype(str).apply(lambda column: column.map(_tidy))
    known = words.mask(words.apply(lambda column: column.str.startswith(("Unknown", "Undefined"))), "")
    item_ids = _article_ids(frame["article_id"])
    described = known[list(_ATTRIBUTES.values())].set_axis(list(_ATTRIBUTES), axis="columns")
    # The last three digits tell the variants of one product apart.
    attributes = described.assign(product_code=item_ids.str[:-3]).to_dict("records")
    names = known[["prod_name", "product_type_name", "colour_group_name"]].itertuples(index=False)
    return pd.DataFrame(
        {
            "item_id": item_ids,
            "title": [_title(*map(str, name)) for name in names],
            "category": words["index_group_name"],
            "colour": known["colour_group_name"],
            "in_stock": True,
            "image_url": frame.get("image_url"),
            "attributes": [{name: value for name, value in row.items() if value} for row in attributes],
        }
    )


def _title(name: str, kind: str, colour: str) -> str:
    """Return name, kind and colour without saying one twice; the name gives way where it gets too long."""
    tail = [part for part in (kind, colour) if part and not re.search(rf"\b{re.escape(part)}\b", name, re.IGNORECASE)]
    room = _TITLE_LENGTH - sum(len(part) + 2 for part in tail)
    return ", ".join([name[:room].rstrip(), *tail]) if name else ", ".join(tail)


def _events(day: str, rows: pd.DataFrame) -> pd.DataFrame:
    """Return one day's purchases in the columns of the raw contract."""
    # The number of different articles of the customer up to each row; a further piece of one gets the number of the first.
    is_new = ~rows.duplicated(["customer_id", "article_id"])
    numbers = is_new.groupby(rows["customer_id"]).cumsum() - 1
    first = numbers.where(is_new).groupby([rows["customer_id"], rows["article_id"]]).transform("first")
    seconds = pd.to_timedelta(first, unit="s")
    return pd.DataFrame(
        {
            # By place in the day, not by customer: a name that outlives the customer's deletion should not hold his ID.
            "event_id": [f"hm-{day}-{number:07d}" for number in range(len(rows))],
            "user_id": rows["customer_id"],
            "event_at": (pd.Timestamp(day) + seconds).dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "action": "purchase",
            "item_id": _article_ids(rows["article_id"]),
        }
    )


def _by_day(path: Path) -> Iterator[tuple[str, pd.DataFrame]]:
    """Yield (day, its rows in the order of the file) without holding more than a day and a block: the full file has 31.8 million rows."""
    held: list[pd.DataFrame] = []
    for block in _blocks(path):
        for day, rows in block.groupby("t_dat", sort=False):
            if held and (last := held[0]["t_dat"].iloc[0]) != day:
                yield str(last), pd.concat(held, ignore_index=True)
                held = []
            held.append(rows)
    if held:
        yield str(held[0]["t_dat"].iloc[0]), pd.concat(held, ignore_index=True)


def _blocks(path: Path) -> Iterator[pd.DataFrame]:
    """Yield the transactions block by block, all text, days ascending."""
    import pyarrow as pa
    from pyarrow import csv

    with _readable(path), pa.input_stream(str(path), compression="detect") as stream:
        options: Any = csv.ConvertOptions(column_types=dict.fromkeys(_TRANSACTION_COLUMNS, pa.string()), strings_can_be_null=False)
        reader = csv.open_csv(stream, convert_options=options)
        check_columns(path, reader.schema.names, _TRANSACTION_COLUMNS)
        last = ""
        for batch in reader:
            block = batch.select(_TRANSACTION_COLUMNS).to_pandas()
            odd = block.loc[~block["t_dat"].str.fullmatch(r"\d{4}-\d{2}-\d{2}"), "t_dat"]
            if len(odd):
                raise UserError(f"{path}: t_dat {odd.iloc[0]!r} is no date; expected YYYY-MM-DD")
            if len(block) and (not block["t_dat"].is_monotonic_increasing or block["t_dat"].iloc[0] < last):
                raise UserError(f"{path}: not sorted by t_dat, as the competition's file is; sort it first")
            last = block["t_dat"].iloc[-1] if len(block) else last
            yield block


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    """Turn what pandas and Arrow say of a file that is cut off, ragged or no UTF-8 into one line that names it."""
    try:
        yield
    except (ValueError, EOFError, OSError) as error:
        raise UserError(f"{path}: cannot be read ({' '.join(str(error).split())}); download it again") from None


def _article_ids(numbers: pd.Series) -> pd.Series:
    """Return articles' numbers with the ten digits that the pictures' names have; blank ones stay blank, and ingestion counts them."""
    texts = numbers.astype("string").fillna("").str.strip().str.removesuffix(".0")
    return texts.where(texts == "", texts.str.zfill(10)).astype(object)


def _only(source: Path, names: Sequence[str]) -> Path:
    """Return the one file of `source` that has one of the names."""
    found = [source / name for name in names if (source / name).is_file()]
    if len(found) != 1:
        what = "none" if not found else "more than one"
        raise UserError(f"{source}: {what} of {', '.join(names)} found; exactly one is expected (format of the Kaggle competition)")
    return found[0]


def _tidy(text: str) -> str:
    return re.sub(r"[\s|]+", " ", text).strip()


def _as_lines(frame: pd.DataFrame) -> str:
    return str(frame.to_json(orient="records", lines=True, force_ascii=False))
