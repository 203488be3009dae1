"""Files in the published format of Amazon Reviews 2023 become the raw contract. The rows are made up; the real files are not here."""

import gzip
import json
from pathlib import Path

import pytest

from fashionrec.cli import main
from fashionrec.errors import UserError
from fashionrec.sources.importers import amazon, importers

REVIEW = {
    "rating": 5.0,
    "title": "Fits",
    "text": "A fine dress.",
    "images": [],
    "asin": "B0CHILD001",
    "parent_asin": "B0DRESS001",
    "user_id": "AHWCZ47A7FIYEJ7KEJG3BO3F5YXQ",
    "timestamp": 1588687728923,
    "helpful_vote": 0,
    "verified_purchase": True,
}
ITEM = {
    "main_category": "AMAZON FASHION",
    "title": "Summer Dress with Pockets",
    "average_rating": 4.2,
    "rating_number": 422,
    "features": ["Machine Wash"],
    "description": [],
    "price": 31.99,
    "images": [{"thumb": "https://m.example/t.jpg", "large": "https://m.example/l.jpg", "variant": "MAIN", "hi_res": None}],
    "videos": [],
    "store": "Baleaf",
    "categories": ["Clothing, Shoes & Jewelry", "Women", "Clothing", "Dresses"],
    "details": {"Department": "womens", "Date First Available": "July 8, 2017", "Color": "Blue", "Size": "M", "Fabric Type": "Cotton"},
    "parent_asin": "B0DRESS001",
    "bought_together": None,
}


def write(path: Path, *rows: dict) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(f"{json.dumps(row)}\n" for row in rows).encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)


def source(folder: Path, *reviews: dict, items: tuple[dict, ...] = (ITEM,), category: str = "Clothing_Shoes_and_Jewelry") -> Path:
    write(folder / f"{category}.jsonl.gz", *({**REVIEW, **review} for review in reviews or ({},)))
    write(folder / f"meta_{category}.jsonl.gz", *({**ITEM, **item} for item in items))
    return folder


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in gzip.decompress(path.read_bytes()).decode().splitlines()]


def run(folder: Path) -> tuple[dict[str, int], dict[str, list[dict]], list[dict]]:
    out = folder / "raw"
    counts = amazon.import_files(folder, out / "interactions", out / "catalog")
    days: dict[str, list[dict]] = {}
    for path in sorted((out / "interactions").glob("*/*")):
        days.setdefault(path.parent.name, []).extend(lines(path))
    items = [item for path in sorted((out / "catalog").glob("*/*")) for item in lines(path)]
    return counts, days, items


def test_a_verified_review_is_a_purchase_at_its_own_time(tmp_path):
    counts, days, _ = run(source(tmp_path, {}, {"verified_purchase": False}, {"timestamp": 1588723199999}, {"timestamp": 1588723200000}))
    expected = {
        "items": 1,
        "items without a title": 0,
        "items without an ID": 0,
        "reviews": 4,
        "not verified": 1,
        "purchases": 3,
        "days": 2,
    }
    assert counts == expected
    assert [event["event_at"] for event in days["2020-05-05"]] == ["2020-05-05T14:08:48.923Z", "2020-05-05T23:59:59.999Z"]
    assert days["2020-05-06"] == [
        {
            "event_id": "amazon-Clothing_Shoes_and_Jewelry-2020-05-06-0000000",
            "user_id": REVIEW["user_id"],
            "event_at": "2020-05-06T00:00:00.000Z",
            "action": "purchase",
            "item_id": "B0DRESS001",
        }
    ]


def test_metadata_becomes_the_raw_contract(tmp_path):
    _, _, items = run(source(tmp_path))
    assert items == [
        {
            "item_id": "B0DRESS001",
            "title": "Summer Dress with Pockets",
            "category": "Clothing",
            "brand": "Baleaf",
            "colour": "Blue",
            "size": "M",
            "price": 31.99,
            "currency": "USD",
            "in_stock": True,
            "first_available_date": "2017-07-08",
            "image_url": "https://m.example/l.jpg",
            "attributes": {"department": "womens", "material": "Cotton"},
        }
    ]
    assert (tmp_path / "raw/catalog/2020-05-05").is_dir()


@pytest.mark.parametrize(
    ("path", "category"),
    [
        (["Clothing, Shoes & Jewelry", "Men", "Shoes", "Boots"], "Footwear"),
        (["Clothing, Shoes & Jewelry", "Women", "Jewelry", "Necklaces"], "Accessories & Jewelry"),
        (["Clothing, Shoes & Jewelry", "Women", "Handbags & Wallets", "Totes"], "Luggage & Bags"),
        (["Clothing, Shoes & Jewelry", "Luggage & Travel Gear", "Backpacks"], "Luggage & Bags"),
        (["Clothing, Shoes & Jewelry", "Costumes & Accessories", "Men"], "Clothing"),
        (["Sports & Outdoors", "Shoes"], "Sports & Outdoors"),
        ([], "Amazon Fashion"),
    ],
)
def test_the_category_follows_the_path_and_without_one_the_file(tmp_path, path, category):
    _, _, items = run(source(tmp_path, items=({"categories": path},), category="Amazon_Fashion"))
    assert items[0]["category"] == category


def test_what_metadata_lacks_stays_empty_and_items_without_a_title_are_counted(tmp_path):
    bare = {"price": None, "store": None, "details": {}, "images": [], "title": "long " * 40}
    texts = {"price": "from 9.99", "details": {"Date First Available": "soon"}}
    counts, _, items = run(source(tmp_path, items=(bare, texts, {"price": "$1,024.50"}, {"title": None}, {"title": " "})))
    assert (counts["items"], counts["items without a title"]) == (3, 2)
    assert [item["price"] for item in items] == [None, None, 1024.5]
    assert [items[0][name] for name in ("currency", "brand", "colour", "first_available_date", "image_url")] == [None] * 5
    assert len(items[0]["title"]) == 79
    assert items[1]["first_available_date"] is None


def test_metadata_in_other_forms_is_read_or_left_empty_and_never_refuses_the_import(tmp_path):
    odd = (
        {"title": "Cut \ud83d here \U0001f457", "images": [None]},
        {"title": 501, "details": json.dumps({"Color": "Red"}), "images": {"large": [None, "https://m.example/p.jpg"]}},
        {"price": "12.99 - 19.99", "details": "no JSON", "categories": None, "store": {"name": "x"}, "images": "none"},
        {"price": "NaN", "details": ["x"], "categories": ["Clothing, Shoes & Jewelry", None, "Shoes"], "images": [{"large": None}]},
        {"title": "\udc00"},
        {"title": ["x"]},
        {"parent_asin": None},
    )
    source(tmp_path, {"user_id": "u\ud800"}, items=odd)
    for name in ("meta_Clothing_Shoes_and_Jewelry.jsonl.gz", "Clothing_Shoes_and_Jewelry.jsonl.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"\xef\xbb\xbf" + gzip.decompress(path.read_bytes()) + b"\n \n"))
    counts, days, items = run(tmp_path)
    assert {name: counts[name] for name in counts if name.startswith("items")} == {
        "items": 4,
        "items without a title": 2,
        "items without an ID": 1,
    }
    assert [item["title"] for item in items[:2]] == ["Cut here \U0001f457", "501"]
    assert [item["image_url"] for item in items] == [None, "https://m.example/p.jpg", None, None]
    assert [item["colour"] for item in items] == ["Blue", "Red", None, None]
    assert [item["price"] for item in items[2:]] == [None, None]
    assert [item["category"] for item in items[2:]] == ["Clothing Shoes and Jewelry", "Footwear"]
    assert [event["user_id"] for events in days.values() for event in events] == ["u"]


def test_metadata_that_cannot_be_read_is_found_before_a_purchase_is_written(tmp_path):
    source(tmp_path)
    path = tmp_path / "meta_Clothing_Shoes_and_Jewelry.jsonl.gz"
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + b"{"))
    with pytest.raises(UserError, match=r"meta_Clothing_Shoes_and_Jewelry.jsonl.gz, after line 2: cannot be read"):
        run(tmp_path)
    assert not (tmp_path / "raw/interactions").exists()


def test_categories_of_one_folder_share_the_catalogue_of_the_newest_day(tmp_path):
    source(tmp_path, {"timestamp": 0}, category="Toys")
    counts, days, items = run(source(tmp_path))
    assert (counts["purchases"], list(days), len(items)) == (2, ["1970-01-01", "2020-05-05"], 2)
    assert [path.name for path in (tmp_path / "raw/catalog").iterdir()] == ["2020-05-05"]


def test_blocks_of_unsorted_reviews_reach_their_days_and_an_import_twice_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr(amazon, "_HELD", 3)
    day = 86_400_000
    reviews = [{"timestamp": (number % 4) * day + number, "user_id": f"u{number}"} for number in range(50)]
    source(tmp_path, *reviews)
    _, days, _ = run(tmp_path)
    assert [len(events) for events in days.values()] == [13, 13, 12, 12]
    assert len({event["event_id"] for events in days.values() for event in events}) == 50
    before = {path: path.read_bytes() for path in (tmp_path / "raw").rglob("*.gz")}
    # What a killed import leaves behind is not added to.
    (tmp_path / "raw/interactions/1970-01-01/.Clothing_Shoes_and_Jewelry.jsonl.gz").write_bytes(b"half")
    run(tmp_path)
    assert {path: path.read_bytes() for path in (tmp_path / "raw").rglob("*.gz")} == before


def test_missing_files_and_columns_are_named_before_anything_is_written(tmp_path):
    with pytest.raises(UserError, match=r"no CATEGORY.jsonl and meta_CATEGORY.jsonl"):
        run(tmp_path)
    write(tmp_path / "meta_Toys.jsonl", ITEM)
    write(tmp_path / "Shoes.jsonl", REVIEW)
    with pytest.raises(UserError, match=r"Toys.jsonl, meta_Shoes.jsonl \(plain or .gz\) missing"):
        run(tmp_path)
    write(tmp_path / "Toys.jsonl", REVIEW)
    write(tmp_path / "meta_Shoes.jsonl", {name: value for name, value in ITEM.items() if name not in ("store", "details")})
    with pytest.raises(UserError, match=r"meta_Shoes.jsonl: lacks the columns details, store; expected are parent_asin, title"):
        run(tmp_path)
    assert not (tmp_path / "raw").exists()


@pytest.mark.parametrize("broken", ["truncated", "no json", "no time"])
def test_a_broken_file_is_named_with_its_line_and_leaves_no_day(tmp_path, broken):
    source(tmp_path, *({"user_id": f"u{number}"} for number in range(200)))
    path = tmp_path / "Clothing_Shoes_and_Jewelry.jsonl.gz"
    if broken == "truncated":
        path.write_bytes(path.read_bytes()[:-20])
    else:
        line = "{" if broken == "no json" else json.dumps({**REVIEW, "timestamp": None})
        path.write_bytes(gzip.compress(f"{json.dumps(REVIEW)}\n{line}\n".encode()))
    with pytest.raises(UserError, match=r"Clothing_Shoes_and_Jewelry.jsonl.gz, (after )?line \d+: "):
        run(tmp_path)
    assert not list((tmp_path / "raw").rglob("[!.]*.gz"))


def test_no_verified_purchase_is_an_error(tmp_path):
    with pytest.raises(UserError, match="no verified purchase among 1 reviews"):
        run(source(tmp_path, {"verified_purchase": False}))


def test_every_importer_declares_its_gaps_and_the_command_shows_them(tmp_path, capsys):
    assert sorted(importers()) == ["amazon", "hm"]
    assert all(importer.about and importer.gaps for importer in importers().values())
    main(["import", "amazon", str(source(tmp_path)), "--set", f"paths.root={tmp_path}/data"])
    shown = capsys.readouterr().out
    assert "purchases: 1" in shown
    assert all(f"- {gap}" in shown for gap in amazon.GAPS)
    with pytest.raises(SystemExit):
        main(["import", "--help"])
    assert "hm: H&M" in " ".join(capsys.readouterr().out.split())
