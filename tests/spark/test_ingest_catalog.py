"""The newest catalogue becomes the items of the run date."""

import pytest

from fashionrec.ingest.catalog import COLUMNS, REASONS, judge_catalog, valid_items, verdicts_among
from fashionrec.ingest.verdicts import with_verdicts
from fashionrec.lake.spec import table_spec
from fashionrec.pipeline.steps.ingest import ingest_catalog
from fashionrec.sources.columns import RawError
from fashionrec.sources.files import Folder
from fashionrec.sources.source import read_days
from tests.conftest import RUN_DATE
from tests.raw_files import deliver, raw_item

pytestmark = pytest.mark.usefixtures("ungated")


@pytest.fixture
def judge(spark, tmp_path):
    """Return a function that delivers rows and judges them."""

    def judge(*rows, max_text_length=30):
        deliver(tmp_path, RUN_DATE, *rows)
        raw = read_days(spark, Folder(str(tmp_path)), [RUN_DATE], table_spec("raw_catalog"))
        judged = judge_catalog(raw.frame, max_text_length=max_text_length)
        return with_verdicts(judged, verdicts_among(judged), reasons=REASONS, columns=COLUMNS)

    return judge


def test_every_bad_row_has_its_reason(judge):
    rejected = {
        "a": ("missing_field", {"category": ""}),
        "b": ("blank_title", {"title": " \n|"}),
        "c": ("bad_price", {"price": -0.01}),
        "d": ("bad_price", {"price": "NaN"}),
        "e": ("bad_date", {"first_available_date": "soon"}),
        "f": ("text_too_long", {"title": "t" * 31}),
        "g": ("text_too_long", {"attributes": {"season": "s" * 31}}),
        "h": ("bad_currency", {"price": 3.5, "currency": "EURO"}),
        "j": ("bad_image_url", {"image_url": "javascript:alert(1)"}),
        "k": ("bad_encoding", {"title": "Caf\ufffd"}),
        "l|m": ("bad_item_id", {}),
        "m": ("too_many_attributes", {"attributes": {str(number): "x" for number in range(101)}}),
        "n": ("missing_field", {"category": "\u200b\n"}),
        "o": ("blank_title", {"title": "\u200b \u2060\u3164"}),
        "p": ("bad_image_url", {"image_url": 'https://x/"onerror="alert(1)'}),
        "q": ("bad_image_url", {"image_url": "https://x/%zz"}),
        "r": ("bad_image_url", {"image_url": "https:///x"}),
    }
    rows = judge(
        *(raw_item(name, **fields) for name, (_, fields) in rejected.items()), "{", raw_item(""), raw_item("good", price=0)
    ).collect()
    found = {row.item_id: row.reason for row in rows if row.reason != "malformed"}
    assert found == {"good": None, "": "missing_field", **{name: reason for name, (reason, _) in rejected.items()}}
    assert {row.reason for row in rows if row.reason} == set(REASONS)
    assert [row.raw for row in rows if row.reason == "malformed"] == ["{"]


def test_texts_are_one_line_without_bars_and_unknown_stock_counts_as_in_stock(judge):
    item = raw_item(
        "a", title=" Red |\n dress\t\u0007 ", brand="A|B", colour=" ", attributes={"season": "Sum\nmer", "x": None}, in_stock=None
    )
    row = valid_items(judge(item, raw_item("b", in_stock=False))).orderBy("item_id").collect()
    assert (row[0].title, row[0].brand, row[0].colour, row[0].attributes) == ("Red dress", "A B", None, {"season": "Sum mer"})
    assert [one.in_stock for one in row] == [True, False]


def test_texts_are_read_as_a_browser_shows_them_and_no_decoding_brings_markup_back(judge):
    shown = {
        "Salt &amp; Pepper": "Salt & Pepper",
        "H&M&#8217;s &eacute;t&eacute;": "H&M\u2019s \u00e9t\u00e9",
        "Tom &amp;amp; Jerry": "Tom & Jerry",
        "Mum&apos;s &quot;top&quot;": 'Mum\'s "top"',
        "<b>Red</b><br/>dress": "Red dress",
        "&lt;script&gt;x&lt;/script&gt;": "x",
        "&amp;lt;i&amp;gt;x": "x",
        "&amp;amp;lt;i&amp;amp;gt;x": "i&gt;x",
        "Coat <img src=x onerror=": "Coat img src=x onerror=",
        "Size < 40, a<b": "Size < 40, a b",
        "A&#124;B&#7;C&nbsp;D": "A B C D",
        "&#99999999; off": "&#99999999; off",
        "R&D; more": "R&D; more",
    }
    items = [raw_item(f"i{n}", title=raw, brand=raw, attributes={"x": raw, "y": "plain"}) for n, raw in enumerate(shown)]
    rows = {row.item_id: row for row in valid_items(judge(*items)).collect()}
    for number, text in enumerate(shown.values()):
        row = rows[f"i{number}"]
        assert (row.title, row.brand, row.attributes) == (text, text, {"x": text, "y": "plain"})


def test_ids_as_shops_have_them_are_valid(judge):
    names = ["550e8400-e29b-41d4-a716-446655440000", "gid://shopify/Product/12", "SKU.1/2:red", "i" * 48]
    rows = judge(*map(raw_item, [*names, "i" * 49, "two words", "a,b"]), max_text_length=60).collect()
    assert {row.item_id for row in rows if not row.reason} == set(names)
    assert {row.reason for row in rows} == {None, "bad_item_id"}


def test_what_shows_nothing_is_left_out_of_texts_and_lists_are_read(judge):
    texts = {"title": "Red\u200b \u202edress\u00ad", "brand": "[A] x", "colour": "[]", "category": "Ladies\n Wear"}
    item = raw_item("a", **texts, attributes={"colours": '["red", "blue"]', "size": "[M", "none": "[]"})
    (row,) = valid_items(judge(item)).collect()
    assert (row.title, row.brand, row.colour, row.category) == ("Red dress", "[A] x", None, "Ladies Wear")
    assert row.attributes == {"colours": "red, blue", "size": "[M"}


def test_categories_that_differ_in_capital_letters_are_one_spelt_as_most_are(judge):
    names = ["Dresses", "dresses", "DRESSES", "dresses ", "Shoes"]
    rows = valid_items(judge(*(raw_item(str(number), category=name) for number, name in enumerate(names)))).orderBy("item_id").collect()
    assert [row.category for row in rows] == ["dresses"] * 4 + ["Shoes"]


def test_a_title_of_markup_alone_is_blank(judge):
    (row,) = judge(raw_item("a", title="<br> &nbsp;")).collect()
    assert row.reason == "blank_title"


def test_of_copies_the_same_one_stays(judge):
    cheap, dear = raw_item("a", price=1.0, attributes={"x": "1"}), raw_item("a", price=2.0, attributes={"x": "2"})
    for rows in ((cheap, dear), (dear, cheap)):
        assert sorted((row.price, row.reason) for row in judge(*rows).collect()) == [(1.0, None), (2.0, "duplicate")]


def test_the_newest_catalogue_on_or_before_the_run_date_is_read(tmp_path, make_run):
    for day in ("2026-02-01", "2026-02-20", "2026-03-02"):
        deliver(tmp_path / "raw/catalog", day, *(raw_item(f"{day}_{number}") for number in range(40)), raw_item("", title="no name"))
    run = make_run()
    ingest_catalog(run)
    rows = make_run().read("items").collect()
    assert {row.item_id[:10] for row in rows} == {"2026-02-20"}
    # The one before it is taken into the history.
    assert run.figures == {"rows_in": 82, "quarantined": 2, "duplicate_count": 0, "catalog_age_days": 9}
    assert [(row.source, row.reason) for row in make_run().read("quarantine").collect()] == [("catalog", "missing_field")] * 2


def test_no_catalogue_yet_is_an_error(tmp_path, make_run):
    deliver(tmp_path / "raw/catalog", "2026-03-02", raw_item("a"))
    with pytest.raises(RawError, match=r"raw/catalog: no catalogue on or before 2026-03-01"):
        ingest_catalog(make_run())
