"""The day's report: what it says, what it must not let through, and that it needs nothing from outside."""

import io
import re
from datetime import date, datetime
from html.parser import HTMLParser

import pytest
from rich.console import Console

from fashionrec.evaluate.health import health_rows, quarantine_rates, warnings
from fashionrec.evaluate.report import metrics_table, write_report

EVIL = "<script>alert(1)</script> & [bold]$x^"


def evaluations(category="all", **recalls):
    counts = {"category": category, "example_count": 1200, "item_count": 30}
    return [{**counts, "method": method, "metric": "recall@10", "value": value} for method, value in recalls.items()]


def report(folder, **given):
    rows = evaluations(fashionrec=0.25, popularity=0.125) + evaluations(EVIL, fashionrec=0.0, popularity=0.0)
    action = {"at": datetime(2026, 2, 28, 9, 5), "action": "search", "words": EVIL}  # noqa: DTZ001
    product = {"rank": 1, "item_id": "i", "title": EVIL, "source": "id", "reason": EVIL}
    path = {"category": EVIL, "earlier_count": 2, "actions": [action], "answer": EVIL, "parse_error": None, "products": [product]}
    figures = {("items", "row_count"): 4.0, ("generations", "malformed_answer_rate"): 0.5}
    defaults = {
        "run_date": date(2026, 3, 1),
        "synthetic": False,
        "evaluations": rows,
        "characteristics": [{"characteristic": "c1_new_items", "category": EVIL, "month": date(2026, 1, 1), "value": 3.0}],
        "health": health_rows(figures, {("items", "row_count"): 40.0}),
        "examples": [path],
    }
    return write_report(folder, **{**defaults, **given}).read_text(encoding="utf-8")


class Tags(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.open, self.seen, self.attributes = [], [], []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_text_of_shop_and_shoppers_cannot_become_part_of_the_page(tmp_path):
    page = report(tmp_path)
    tags = Tags(page)
    assert "script" not in tags.seen
    assert not tags.open, "every tag is closed"
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; [bold]$x^") >= 6


def test_the_page_loads_nothing_from_outside(tmp_path):
    page = report(tmp_path)
    assert not re.search(r"https?:|//\w|@import", page)
    links = {value for name, value in Tags(page).attributes if name in ("href", "src", "xlink:href")}
    assert all(link.startswith("#") for link in links)


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_data_is_named_as_such_and_only_then(tmp_path, synthetic):
    assert ("synthetic" in report(tmp_path, synthetic=synthetic)) == synthetic


def test_the_headline_sets_the_system_beside_the_best_simple_method(tmp_path):
    page = report(tmp_path)
    assert "<b>25.0%</b><span>of next purchases in the first 10; best simple method 12.5%</span>" in page


def test_a_day_with_little_to_show_still_has_a_page(tmp_path):
    page = report(tmp_path, characteristics=[], examples=[], health=[], evaluations=evaluations(fashionrec=0.0))
    assert "What this shop is like" not in page
    Tags(page)


def test_the_same_rows_give_the_same_bytes(tmp_path):
    assert report(tmp_path) == report(tmp_path)


def test_a_figure_is_marked_when_it_changed_by_more_than_half():
    previous = {("a", "x"): 10.0, ("b", "x"): 10.0, ("c", "x"): 0.0, ("d", "x"): 0.0}
    rows = health_rows({("a", "x"): 15.0, ("b", "x"): 15.1, ("c", "x"): 0.0, ("d", "x"): 0.2, ("e", "x"): 9.0}, previous)
    assert warnings(rows, date(2026, 2, 28)) == ["b: x 15.1, was 10 on 2026-02-28", "d: x 0.2, was 0 on 2026-02-28"]


def test_the_quarantine_rate_is_a_share_of_all_input():
    assert quarantine_rates({"items": 1}, {"items": 3, "interactions": 0}) == {("items", "quarantine_rate"): 0.25}


def test_the_terminal_table_has_a_line_per_category_and_method():
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(metrics_table(evaluations(EVIL, fashionrec=0.5, popularity=0.25) + evaluations(fashionrec=0.25)))
    text = console.export_text()
    assert "[bold]$x^" in text.replace("\n", "")
    assert re.search(r"fashionrec *│ *0.5000 *│ *1,200 *│ *30", text)
    assert text.index("all") < text.index("<script>")
