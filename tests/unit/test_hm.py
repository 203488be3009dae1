"""The H&M files of the competition become the raw contract."""

import gzip
import json
from pathlib import Path

import pytest

from fashionrec.errors import UserError
from fashionrec.sources.importers.hm import import_files

ARTICLE = {
    "article_id": "0108775015",
    "prod_name": "Strap top (1)",
    "product_type_name": "Vest top",
    "product_group_name": "Garment Upper body",
    "graphical_appearance_name": "Solid",
    "colour_group_name": "Black",
    "perceived_colour_value_name": "Undefined",
    "index_group_name": "Ladieswear",
    "department_name": "Jersey Basic",
    "section_name": "Womens Everyday Basics",
    "garment_group_name": "Jersey Basic",
    "detail_desc": "not used",
}
SALES = [
    "2020-09-21,anna,0108775015,0.01,1",
    "2020-09-21,bert,0108775015,0.01,1",
    "2020-09-21,anna,2,0.01,1",
    "2020-09-21,anna,0108775015,0.01,1",
    "2020-09-21,anna,3,0.01,1",
    "2020-09-22,anna,1,0.01,2",
]


def source(folder: Path, *articles: dict[str, str], sales: list[str] = SALES, name: str = "transactions_train.csv") -> Path:
    folder.mkdir(exist_ok=True)
    articles = articles or (ARTICLE,)
    table = [",".join(articles[0]), *(",".join(article.values()) for article in articles)]
    (folder / "articles.csv").write_text("\n".join(table))
    (folder / name).write_text("\n".join(["t_dat,customer_id,article_id,price,sales_channel_id", *sales]))
    return folder


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for path in sorted(folder.glob("*/*.jsonl.gz")) for line in gzip.open(path, "rt", encoding="utf-8")]


def run(folder: Path) -> tuple[dict[str, int], list[dict], list[dict]]:
    counts = import_files(folder, folder / "interactions", folder / "catalog")
    return counts, lines(folder / "interactions"), lines(folder / "catalog")


def test_articles_of_one_customer_and_day_follow_each_other_by_seconds_and_pieces_of_one_article_do_not(tmp_path):
    counts, events, _ = run(source(tmp_path))
    assert counts == {"articles": 1, "transactions": 6, "customers": 2, "days": 2}
    assert [(event["event_id"], event["user_id"], event["event_at"], event["item_id"]) for event in events] == [
        ("hm-2020-09-21-0000000", "anna", "2020-09-21T00:00:00Z", "0108775015"),
        ("hm-2020-09-21-0000001", "bert", "2020-09-21T00:00:00Z", "0108775015"),
        ("hm-2020-09-21-0000002", "anna", "2020-09-21T00:00:01Z", "0000000002"),
        ("hm-2020-09-21-0000003", "anna", "2020-09-21T00:00:00Z", "0108775015"),
        ("hm-2020-09-21-0000004", "anna", "2020-09-21T00:00:02Z", "0000000003"),
        ("hm-2020-09-22-0000000", "anna", "2020-09-22T00:00:00Z", "0000000001"),
    ]


def test_the_catalogue_is_of_the_newest_day_and_says_nothing_twice(tmp_path):
    dress = {**ARTICLE, "article_id": "2", "prod_name": "Black DRESS | long", "product_type_name": "Dress", "colour_group_name": "Unknown"}
    _, _, items = run(source(tmp_path, ARTICLE, dress, {**ARTICLE, "article_id": "3", "prod_name": "x" * 90}))
    assert [path.name for path in (tmp_path / "catalog").iterdir()] == ["2020-09-22"]
    assert [item["title"] for item in items[:2]] == ["Strap top (1), Vest top, Black", "Black DRESS long"]
    assert len(items[2]["title"]) == 80
    assert (items[0]["category"], items[0]["colour"], items[1]["colour"]) == ("Ladieswear", "Black", "")
    assert "shade" not in items[0]["attributes"]
    # Articles of one product have the first seven digits in common.
    assert [item["attributes"]["product_code"] for item in items] == ["0108775", "0000000", "0000000"]


def test_an_import_twice_gives_the_same_bytes(tmp_path):
    source(tmp_path)
    before = [run(tmp_path), {path: path.read_bytes() for path in tmp_path.rglob("*.gz")}]
    assert [run(tmp_path), {path: path.read_bytes() for path in tmp_path.rglob("*.gz")}] == before


def test_missing_files_and_columns_are_named_with_what_is_expected(tmp_path):
    with pytest.raises(UserError, match=r"none of articles.parquet, articles.csv"):
        run(tmp_path)
    source(tmp_path, {key: value for key, value in ARTICLE.items() if key != "prod_name"})
    with pytest.raises(UserError, match=r"articles.csv: lacks the columns prod_name; expected are article_id, prod_name"):
        run(tmp_path)
    source(tmp_path)
    source(tmp_path, name="transactions_sample.csv")
    with pytest.raises(UserError, match=r"more than one of transactions_train.csv"):
        run(tmp_path)


def test_unsorted_or_undated_transactions_are_refused(tmp_path):
    with pytest.raises(UserError, match="not sorted by t_dat"):
        run(source(tmp_path, sales=SALES[::-1]))
    with pytest.raises(UserError, match=r"t_dat '21\.9\.2020' is no date"):
        run(source(tmp_path, sales=["21.9.2020,anna,1,0.01,1"]))


def test_blank_lines_are_skipped_and_a_blank_article_stays_blank(tmp_path):
    sales = ["2020-09-21,anna,,0.01,1", "", "2020-09-21,,2,0.01,1", ""]
    counts, events, items = run(source(tmp_path, ARTICLE, {**ARTICLE, "article_id": ""}, sales=sales))
    assert counts["transactions"] == 2
    assert [(event["user_id"], event["item_id"]) for event in events] == [("anna", ""), ("", "0000000002")]
    assert [item["item_id"] for item in items] == ["0108775015", ""]


@pytest.mark.parametrize("name", ["articles.csv", "transactions_train.csv"])
def test_a_file_that_cannot_be_read_is_named_in_one_line(tmp_path, name):
    path = source(tmp_path) / name
    path.write_bytes(path.read_bytes() + b"\n2020-09-22,\xe9\xff,1,0.01,2,,,,,,,,,,,,,,,,,,,\n")
    with pytest.raises(UserError, match=rf"{name}: cannot be read \([^\n]+\); download it again"):
        run(tmp_path)


def test_the_real_files_are_read_whole(real_data, tmp_path):
    counts = import_files(real_data / "hm", tmp_path / "interactions", tmp_path / "catalog")
    assert counts == {"articles": 105_542, "transactions": 31_662, "customers": 1_364, "days": 733}
    items, events = lines(tmp_path / "catalog"), lines(tmp_path / "interactions")
    assert len({item["item_id"] for item in items}) == 105_542
    assert {event["item_id"] for event in events} <= {item["item_id"] for item in items}
    assert len({event["event_id"] for event in events}) == 31_662
    assert all(0 < len(item["title"]) <= 80 for item in items)
