"""Amazon Reviews 2023 of McAuley Lab, UC San Diego (arXiv 2403.03952): reviews and metadata of categories in their original files."""

import gzip
import json
import math
import re
import textwrap
import zlib
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from fashionrec.errors import UserError
from fashionrec.sources.importers import check_columns

ABOUT = "Amazon Reviews 2023: CATEGORY.jsonl[.gz] and meta_CATEGORY.jsonl[.gz], of one or more categories"
GAPS = (
    "A review stands for a purchase, at the time of the review and not of the purchase. Reviews that Amazon did not verify as purchases "
    "are left out and counted. Most purchases are never reviewed.",
    "There is no search, no click, no position.",
    "An item is a parent_asin: colours and sizes of one product are one item, with the colour and size that its metadata happens to name.",
    "The brand is the store. The category follows the path of `categories`: Clothing, Footwear, Accessories & Jewelry, Luggage & Bags; "
    "other items keep the head of their path, and items without a path (all of Amazon_Fashion) the name of their file.",
    "Stock is unknown: every item counts as in stock. Prices are those of the day of the crawl, in US dollars; many are unknown.",
    "There is one catalogue without a date: it becomes the snapshot of the newest day of the reviews. Items without a title or an ID are "
    "left out and counted; halves of characters, which some texts hold, are left out of them.",
)
_REVIEW_COLUMNS = ("parent_asin", "user_id", "timestamp", "verified_purchase")
_ITEM_COLUMNS = ("parent_asin", "title", "main_category", "store", "categories", "details", "price", "images")
_FASHION = "Clothing, Shoes & Jewelry"
# Of a path below it, the first level found here decides; none: clothing.
_LEVELS = {
    "Shoes": "Footwear",
    "Accessories": "Accessories & Jewelry",
    "Jewelry": "Accessories & Jewelry",
    "Watches": "Accessories & Jewelry",
    "Shoe, Jewelry & Watch Accessories": "Accessories & Jewelry",
    "Handbags & Wallets": "Luggage & Bags",
    "Luggage & Travel Gear": "Luggage & Bags",
    "Clothing": "Clothing",
}
_ATTRIBUTES = {
    "department": ("Department",),
    "material": ("Material", "Fabric Type", "Fabric type"),
    "season": ("Season", "Seasons"),
    "occasion": ("Occasion", "Occasion Type"),
    "holiday": ("Holiday",),
    "pattern": ("Pattern",),
    "style": ("Style",),
    "theme": ("Theme",),
}
_TITLE_LENGTH = 80
_ITEM_COUNTS = ("items", "items without a title", "items without an ID")
# Lines held before they are written; about 250 bytes each.
_HELD = 500_000


class _Category(NamedTuple):
    name: str
    reviews: Path
    items: Path


def import_files(source: Path, raw_interactions: Path, raw_catalog: Path) -> dict[str, int]:
    """Write each category's purchases by day and the catalogue of the newest day; a second import writes the same bytes.

    Reviews are in no order of time: each block of them is appended to hidden files, one per day, which get their names when all is read.

    Returns:
        Counts of items, items without a title, items without an ID, reviews, reviews not verified, purchases and days.

    Raises:
        UserError: a file or column of the published format is missing, or a line cannot be read; the text names it.
    """
    categories = _categories(source)
    for category in categories:
        check_columns(category.reviews, list(_first(category.reviews)), _REVIEW_COLUMNS)
        check_columns(category.items, list(_first(category.items)), _ITEM_COLUMNS)
    counts: Counter[str] = Counter()
    days: set[str] = set()
    # The metadata first, for the day that the reviews tell: what is wrong with it is found before a purchase is written.
    catalogues = [_write_items(category, raw_catalog, counts) for category in categories]
    for category in categories:
        days |= _write_purchases(category, raw_interactions, counts)
    if not days:
        raise UserError(f"{source}: no verified purchase among {counts['reviews']:,} reviews")
    newest = raw_catalog / max(days)
    newest.mkdir(parents=True, exist_ok=True)
    for unfinished in catalogues:
        unfinished.replace(newest / unfinished.name[1:])
    return {
        **{name: counts[name] for name in (*_ITEM_COUNTS, "reviews", "not verified", "purchases")},
        "days": len(days),
    }


def _categories(source: Path) -> list[_Category]:
    """Return the categories of a folder, by name; raise UserError naming every file that has no other half."""
    files: dict[tuple[str, str], Path] = {}
    for path in sorted(source.glob("*")):
        if found := re.fullmatch(r"(meta_|raw_meta_|raw_review_)?(\w+)\.jsonl(\.gz)?", path.name):
            key = ("items" if "meta" in (found[1] or "") else "reviews", found[2])
            if key in files:
                raise UserError(f"{path}: the same as {files[key].name}; keep one of them")
            files[key] = path
    names = sorted({name for _, name in files})
    missing = [f"{name}.jsonl" for name in names if ("reviews", name) not in files]
    missing += [f"meta_{name}.jsonl" for name in names if ("items", name) not in files]
    if missing or not names:
        what = ", ".join(missing) or "no CATEGORY.jsonl and meta_CATEGORY.jsonl"
        raise UserError(f"{source}: {what} (plain or .gz) {'missing' if missing else 'found'}; each category has reviews and metadata")
    return [_Category(name, files["reviews", name], files["items", name]) for name in names]


def _write_purchases(category: _Category, raw_interactions: Path, counts: Counter[str]) -> set[str]:
    """Write `<day>/<category>.jsonl.gz` of the verified reviews; return the days."""
    unfinished = f".{category.name}.jsonl.gz"
    for left in raw_interactions.glob(f"*/{unfinished}"):
        left.unlink()
    numbers: Counter[str] = Counter()
    held: dict[str, list[str]] = defaultdict(list)
    holding = 0
    for number, review in _rows(category.reviews):
        counts["reviews"] += 1
        if not review.get("verified_purchase"):
            counts["not verified"] += 1
            continue
        try:
            at = datetime.fromtimestamp(float(review["timestamp"]) / 1000, UTC)
            user, item = review["user_id"], review["parent_asin"]
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise UserError(f"{category.reviews}, line {number}: no usable user_id, parent_asin or timestamp ({error!r})") from None
        day = f"{at:%Y-%m-%d}"
        event = {
            # By place in the day, not by customer: a name that outlives the customer's deletion should not hold his ID.
            "event_id": f"amazon-{category.name}-{day}-{numbers[day]:07d}",
            "user_id": user,
            "event_at": f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z",
            "action": "purchase",
            "item_id": item,
        }
        numbers[day] += 1
        held[day].append(json.dumps(event, ensure_ascii=False))
        holding += 1
        if holding == _HELD:
            _append(held, raw_interactions, unfinished)
            holding = 0
    _append(held, raw_interactions, unfinished)
    counts["purchases"] += numbers.total()
    for day in numbers:
        (raw_interactions / day / unfinished).replace(raw_interactions / day / unfinished[1:])
    return set(numbers)


def _append(held: dict[str, list[str]], root: Path, name: str) -> None:
    """Append what is held to the files of its days, and hold nothing any more. Gzip allows members one after another."""
    for day, lines in held.items():
        path = root / day / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(gzip.compress("".join(f"{line}\n" for line in lines).encode(), compresslevel=6, mtime=0))
    held.clear()


def _write_items(category: _Category, folder: Path, counts: Counter[str]) -> Path:
    """Write the catalogue as the hidden file `.<category>.jsonl.gz` and return its path."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / f".{category.name}.jsonl.gz"
    with unfinished.open("wb") as file, gzip.GzipFile(filename="", mode="wb", fileobj=file, compresslevel=6, mtime=0) as packed:
        for _, row in _rows(category.items):
            lacks = next((what for name, what in (("title", "a title"), ("parent_asin", "an ID")) if not _text(row.get(name))), None)
            counts[f"items without {lacks}" if lacks else "items"] += 1
            if not lacks:
                packed.write(f"{json.dumps(_item(row, category.name), ensure_ascii=False)}\n".encode())
    return unfinished


def _item(row: Mapping[str, Any], category: str) -> dict[str, Any]:
    """Return one row of the metadata in the columns of the raw contract; what is of another type than published is left empty."""
    details = {name: text for name, value in _parsed(row.get("details"), dict).items() if (text := _text(value))}
    attributes = {
        name: value for name, keys in _ATTRIBUTES.items() if (value := next((details[key] for key in keys if key in details), None))
    }
    price, title = _price(row.get("price")), _text(row["title"])
    return {
        "item_id": _text(row["parent_asin"]),
        "title": textwrap.shorten(title, _TITLE_LENGTH, placeholder="") or title[:_TITLE_LENGTH],
        "category": _category([name for name in map(_text, _parsed(row.get("categories"), list)) if name], category),
        "brand": _text(row.get("store")) or None,
        "colour": details.get("Color"),
        "size": details.get("Size"),
        "price": price,
        "currency": None if price is None else "USD",
        "in_stock": True,
        "first_available_date": _date(details.get("Date First Available", "")),
        "image_url": _picture(row.get("images")),
        "attributes": attributes,
    }


def _text(value: object) -> str:
    """Return a text or number as text without white space around it; "" for anything else."""
    return str(value).strip() if isinstance(value, (str, int, float)) and not isinstance(value, bool) else ""


def _parsed(value: object, kind: type) -> Any:
    """Return an object or list, which some files hold as its JSON text; an empty one where it is of another type."""
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            return kind()
    return value if isinstance(value, kind) else kind()


def _picture(images: object) -> str | None:
    """Return the first large picture of a list of images, or of the lists by size that other editions of the data have."""
    if isinstance(images, dict):
        large = images.get("large")
        return next(filter(None, map(_text, large if isinstance(large, list) else [large])), None)
    return next(filter(None, (_text(image.get("large")) for image in _parsed(images, list) if isinstance(image, dict))), None)


def _category(path: list[str], name: str) -> str:
    if not path:
        return name.replace("_", " ")
    if path[0] != _FASHION:
        return path[0]
    return next((_LEVELS[level] for level in path[1:] if level in _LEVELS), "Clothing")


def _price(price: object) -> float | None:
    """Return a price in dollars; the files also hold texts, of which "from 9.99" and "12.99 - 19.99" are no price of one item."""
    try:
        value = float(_text(price).removeprefix("$").replace(",", ""))
    except ValueError:
        return None
    return value if math.isfinite(value) and value >= 0 else None


def _date(words: str) -> str | None:
    try:
        return f"{datetime.strptime(words, '%B %d, %Y').replace(tzinfo=UTC):%Y-%m-%d}"
    except ValueError:
        return None


def _first(path: Path) -> dict[str, Any]:
    for _, row in _rows(path):
        return row
    raise UserError(f"{path}: no rows")


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, row) of lines that are not blank, without halves of characters, which no text in UTF-8 can hold.

    Raises:
        UserError: a line is no JSON object, or a compressed file ends too early.
    """
    number = 0
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt", encoding="utf-8-sig") as file:
        try:
            for number, line in enumerate(file, 1):
                if not line.strip():
                    continue
                row = json.loads(line)
                if "\\ud" in line.lower():
                    row = json.loads(json.dumps(row, ensure_ascii=False).encode(errors="ignore"))
                if not isinstance(row, dict):
                    raise UserError(f"{path}, line {number}: no JSON object; expected one review or item per line")
                yield number, row
        except (json.JSONDecodeError, UnicodeDecodeError, EOFError, gzip.BadGzipFile, zlib.error) as error:
            raise UserError(f"{path}, after line {number}: cannot be read ({error}); download it again") from None
