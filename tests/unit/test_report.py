"""The day's report: what it says, what it must not let through, and that it needs nothing from outside."""

import io
import re
from datetime import date, datetime
from html.parser import HTMLParser

import pytest
from rich.console import Console

from fashionrec.evaluate.protocol import METHODS
from fashionrec.quality.health import health_rows, quarantine_rates, warnings
from fashionrec.reports.characteristics import write_characteristics
from fashionrec.reports.day import PAGES, metrics_table, write_report
from fashionrec.retrieval.fusion import SERVED

EVIL = "<script>alert(1)</script> & [bold]$x^"


def evaluations(category="all", protocol="leave_one_out", horizon="overnight", **recalls):
    asked = {"category": category, "protocol": protocol, "horizon": horizon, "example_count": 1200, "item_count": 30}
    gains = {method: {"gain_low": -0.01, "gain_high": 0.02} for method in recalls}
    gains["fashionrec"] = {"gain_low": None, "gain_high": None}
    return [
        {**asked, "method": method, "metric": "recall@10", "value": value, "low": value * 0.8, "high": value * 1.2, **gains[method]}
        for method, value in recalls.items()
    ]


def report(folder, **given):
    rows = evaluations(fashionrec=0.25, popularity_28=0.125) + evaluations(EVIL, fashionrec=0.0, popularity_28=0.0)
    action = {"at": datetime(2026, 2, 28, 9, 5), "action": "search", "words": EVIL}  # noqa: DTZ001
    product = {"rank": 1, "item_id": "i", "title": EVIL, "source": "answer_id", "reason": EVIL}
    path = {"category": EVIL, "earlier_count": 2, "actions": [action], "answer": EVIL, "parse_error": None, "products": [product]}
    figures = {("items", "row_count"): 4.0, ("generations", "malformed_answer_rate"): 0.5}
    defaults = {
        "run_date": date(2026, 3, 1),
        "synthetic": False,
        "evaluations": rows,
        "pages": PAGES,
        "health": health_rows(figures, {("items", "row_count"): 40.0}),
        "examples": [path],
    }
    return write_report(folder, **{**defaults, **given}).read_text(encoding="utf-8")


def figure(characteristic, metric, value, **fields):
    place = {"vertical": "fashion", "category": "all", "attribute": "", "attribute_value": "", "period": "whole"}
    return {**place, "characteristic": characteristic, "metric": metric, "value": value, **fields}


def season(value, *, vertical="fashion", p_value=1e-20, cramers_v=0.3):
    """Return the rows of one value that is bought in July only, and of the attribute's test."""
    of = {"attribute": EVIL, "vertical": vertical}
    months = {"01": (10, 0.5), "07": (30, 1.5)}
    rows = [figure("c3_calendar", "shoppers", count, attribute_value=value, period=month, **of) for month, (count, _) in months.items()]
    rows += [figure("c3_calendar", "index", index, attribute_value=value, period=month, **of) for month, (_, index) in months.items()]
    tests = {"p_value": p_value, "cramers_v": cramers_v, "chi_squared": 9.0}
    return rows + [figure("c3_calendar", name, one, attribute_value="all", **of) for name, one in tests.items()]


def characteristics(folder, rows=None, *, synthetic=False):
    if rows is None:
        rows = [figure("c1_turnover", "new_items", one, vertical=name) for name, one in (("fashion", 36.0), (EVIL, 9.0))]
        rows += [figure("c1_turnover", "new_items", 5.0, category=EVIL, period=month) for month in ("2026-01", "2026-02")]
        rows += season(EVIL)
    return write_characteristics(folder, run_date=date(2026, 3, 1), synthetic=synthetic, rows=rows).read_text(encoding="utf-8")


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
    assert {link for link in links if not link.startswith("#")} == {"characteristics.html", "embeddings.html", "language_model.html"}


def test_the_page_of_the_characteristics_is_as_safe_and_needs_nothing_either(tmp_path):
    page = characteristics(tmp_path)
    tags = Tags(page)
    assert "script" not in tags.seen
    assert not tags.open, "every tag is closed"
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt; &amp; [bold]$x^") >= 6
    assert not re.search(r"https?:|//\w|@import", page)


def test_fashion_is_set_beside_the_other_verticals_and_the_paper(tmp_path):
    rows = [figure("c1_turnover", "new_items", one, vertical=name) for name, one in (("fashion", 36.0), ("toys", 9.0))]
    page = characteristics(tmp_path, rows)
    assert "<b>4.00</b><small>paper 6.70</small>" in page
    assert "At a glance" not in characteristics(tmp_path, rows[:1])


@pytest.mark.parametrize(
    ("p_value", "cramers_v", "words"),
    [(0.2, 0.3, "No more than by chance."), (1e-9, 0.01, "A little."), (1e-9, 0.1, "Yes, clearly."), (0.0, 0.3, "Yes, strongly.")],
)
def test_the_verdict_on_the_calendar_weighs_chance_before_size(tmp_path, p_value, cramers_v, words):
    page = characteristics(tmp_path, season("Bikini", p_value=p_value, cramers_v=cramers_v))
    assert words in page
    assert ("Bikini: most in Jul (1.5 times the usual), least in Jan (0.5)" in page) == (p_value < 0.001)


def test_what_the_data_does_not_hold_is_said(tmp_path):
    page = characteristics(tmp_path, [])
    Tags(page)
    for words in ("catalogue does not say when", "no searches and no clicks", "No property of the items", "hold no searches"):
        assert words in page
    young = [figure("c1_turnover", "new_items_still_on_sale", 3.0, category="Bags", period="2026-01")]
    assert "figures of these months are too small" in characteristics(tmp_path, young)


@pytest.mark.parametrize("synthetic", [True, False])
def test_synthetic_data_is_named_as_such_and_only_then(tmp_path, synthetic):
    assert ("synthetic" in report(tmp_path, synthetic=synthetic)) == synthetic
    assert ("synthetic" in characteristics(tmp_path, synthetic=synthetic)) == synthetic


def test_the_headline_is_what_an_email_knows_with_its_interval_beside_the_best_single_list(tmp_path):
    rows = evaluations(fashionrec=0.25, without_llm=0.24, popularity_28=0.1, session=0.125)
    rows += evaluations(horizon="in_session", fashionrec=0.75, session=0.7) + evaluations(protocol="by_time", fashionrec=0.5, session=0.45)
    page = report(tmp_path, evaluations=rows)
    headline = "of next purchases in the first 10, asked the evening before (20.0% to 30.0%); best single list 12.5%"
    assert f"<b>25.0%</b><span>{headline}</span>" in page


def test_every_way_to_ask_has_a_block_and_overnight_comes_first(tmp_path):
    rows = [
        row
        for how in (
            ("leave_one_out", "in_session"),
            ("by_time", "in_session"),
            ("by_time", "overnight"),
            ("another_day", "in_session"),
            ("leave_one_out", "overnight"),
        )
        for row in evaluations(EVIL, *how, fashionrec=0.25, session=0.5)
    ]
    page = report(tmp_path, evaluations=rows + evaluations(fashionrec=0.25, session=0.5))
    titles = (
        "Asked overnight:",
        "Asked in session:",
        "Overnight, purchases of the newest",
        "In session, purchases of the newest",
        "Purchases before which",
    )
    places = [page.index(title, page.index("Every category, and other ways to ask")) for title in titles]
    assert places == sorted(places)
    assert page.index("Asked overnight:") < places[0], "all categories stand above the fold"


def test_a_gain_is_shown_as_an_interval_and_the_mailed_list_has_none(tmp_path):
    page = report(tmp_path, evaluations=evaluations(fashionrec=0.25, session=0.125))
    assert page.count("-0.0100 to +0.0200") == 1


def test_every_row_of_the_evaluation_is_explained_and_the_learnt_list_only_stands_where_it_is_not_mailed(tmp_path):
    page = report(tmp_path, evaluations=[row for one in (SERVED, "fusion", *METHODS[1:]) for row in evaluations(**{one: 0.25})])
    assert all(f"<tr><td>{method}</td>" in page or f'class="ours"><td>{method}</td>' in page for method in ("fusion", *METHODS))


def test_a_day_with_little_to_show_still_has_a_page(tmp_path):
    Tags(report(tmp_path, pages=(), examples=[], health=[], evaluations=evaluations(fashionrec=0.0)))


@pytest.mark.parametrize("written", PAGES)
def test_only_pages_that_are_there_are_linked(tmp_path, written):
    page = report(tmp_path, pages=[written])
    assert [other for other in PAGES if other in page] == [written]


def test_the_same_rows_give_the_same_bytes(tmp_path):
    assert report(tmp_path) == report(tmp_path)
    assert characteristics(tmp_path) == characteristics(tmp_path)


def test_a_figure_is_marked_when_it_changed_by_more_than_half():
    previous = {("a", "x"): 10.0, ("b", "x"): 10.0, ("c", "x"): 0.0, ("d", "x"): 0.0}
    rows = health_rows({("a", "x"): 15.0, ("b", "x"): 15.1, ("c", "x"): 0.0, ("d", "x"): 0.2, ("e", "x"): 9.0}, previous)
    assert warnings(rows, date(2026, 2, 28)) == ["b: x 15.1, was 10 on 2026-02-28", "d: x 0.2, was 0 on 2026-02-28"]


def test_the_terminal_table_names_its_metrics_in_eighty_columns():
    console = Console(width=80, record=True, file=io.StringIO())
    names = ("fashionrec", "last_item_title")
    console.print(metrics_table([row for name in names for row in evaluations(**{name: 0.5})]))
    assert "recall@10" in console.export_text()


def test_the_quarantine_rate_is_a_share_of_all_input():
    assert quarantine_rates({"items": 1}, {"items": 3, "interactions": 0}) == {("items", "quarantine_rate"): 0.25}


def test_the_terminal_table_has_a_line_per_horizon_and_method():
    console = Console(width=120, record=True, file=io.StringIO())
    rows = evaluations(fashionrec=0.5, popularity_28=0.25) + evaluations(horizon="in_session", fashionrec=0.75, session=0.7)
    console.print(metrics_table(rows + evaluations(EVIL, fashionrec=0.25) + evaluations(protocol="by_time", fashionrec=0.125)))
    text = console.export_text()
    assert "│ overnight, 1,200 " in text
    assert re.search(r"fashionrec *│ *0.5000 *│ *│", text)
    assert re.search(r"popularity_28 *│ *0.2500 *│ *-0.0100 to \+0.0200 *│", text)
    assert text.index("overnight") < text.index("in_session")
    assert "0.2500" in text
    assert "0.1250" not in text, "other protocols stand in the report"
    assert "<script>" not in text, "and so do categories"
