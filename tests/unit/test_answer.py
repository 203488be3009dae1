"""The answer's format: what is written can be read, what constrained decoding allows is the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionrec.prompts import AnswerError, answer_regex, parse_answer, render_answer
from fashionrec.prompts.clean import MAX_TITLE_CHARS, _clean_once, clean_text, clean_title, unquote

NO_TITLE = "not a title after the separator"
IDS = st.from_regex(r"\A([A-Za-z0-9_./:-]{1,48}|[Aa]nswer:[a-z0-9]{1,9})\Z")
TITLES = st.text(min_size=1, max_size=MAX_TITLE_CHARS).filter(lambda title: re.fullmatch(answer_regex(), f"a | {title}"))


@given(IDS, st.text(max_size=300))
def test_every_answer_written_is_read_back(item_id, title):
    answer = parse_answer(render_answer(item_id, title))
    assert answer == (item_id, clean_title(title), None)


@given(IDS, st.text(max_size=300))
def test_the_regex_allows_every_answer_written(item_id, title):
    assert re.fullmatch(answer_regex(), render_answer(item_id, title))


@given(IDS, TITLES)
def test_every_answer_that_the_regex_allows_is_read_but_for_quotes_around_it(item_id, title):
    assert parse_answer(f"{item_id} | {title}") == ((item_id, unquote(title), None) if unquote(title) else (None, None, NO_TITLE))


def test_every_title_of_a_real_catalogue_is_written_and_read_back(real_data):
    import pyarrow.parquet as pq

    articles = pq.read_table(real_data / "hm" / "articles.parquet", columns=["article_id", "prod_name", "colour_group_name"]).to_pylist()
    items = {(f"{row['article_id']:>010}", f"{row['prod_name']}, {row['colour_group_name']}") for row in articles}
    assert len(items) > 100_000
    wrong = [
        (item_id, title) for item_id, title in items if parse_answer(render_answer(item_id, title)) != (item_id, clean_title(title), None)
    ]
    assert wrong == []
    # Cleaning takes hardly anything from real titles.
    changed = sum(clean_title(title) != " ".join(title.split()) for _, title in items)
    assert changed / len(items) < 0.02


@given(st.text(max_size=120))
def test_an_answer_is_read_or_has_a_reason(text):
    item_id, title, error = parse_answer(text)
    assert (item_id is None) == (title is None) == (error is not None)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "empty"),
        (" \n", "empty"),
        ("12 | a\n13 | b", "more than one line"),
        ("12 Red dress", "no separator"),
        ("red dress | 12 |", "not an item ID before the separator"),
        ("1" * 49 + " | Red dress", "not an item ID before the separator"),
        (" | Red dress", "not an item ID before the separator"),
        ("12 | a|b", "not a title after the separator"),
        ("12 |  ", "not a title after the separator"),
        ("12 | a\u3000b", "not a title after the separator"),
        ("answer 12 | a", "not an item ID before the separator"),
        ("12 | " + "a" * 81, "title too long"),
        ("Answer: Answer: 12 | a", "not an item ID before the separator"),
    ],
)
def test_an_unreadable_answer_says_why(text, reason):
    assert parse_answer(text) == (None, None, reason)
    assert not re.fullmatch(answer_regex(), text.strip())


@pytest.mark.parametrize(
    "text",
    [
        " 12 | Red dress \n",
        "12|Red dress",
        "12   |   Red dress",
        "Answer: 12 | Red dress",
        "\n ANSWER : \n 12 | Red dress",
        '"12 | Red dress"',
        "`12 | Red dress`",
        '"12" | "Red dress"',
        "`12` | “Red dress”",
        "Answer: '12 | «Red dress»'",
    ],
)
def test_blanks_labels_and_quotes_around_an_answer_and_its_parts_do_not_count(text):
    assert parse_answer(text) == ("12", "Red dress", None)


def test_quotes_within_a_title_stay():
    assert parse_answer('12 | "Red" dress') == ("12", '"Red" dress', None)
    assert parse_answer("12 | Women's dress 'Ida'") == ("12", "Women's dress 'Ida'", None)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Red\n  dress\t", "Red dress"),
        ("Red | dress", "Red dress"),
        ("a<|endoftext|>b", "a b"),
        ("zero\u200bwidth\u2028line", "zerowidth line"),
        ("Füße 赤い", "Füße 赤い"),
        ("|", "untitled"),
        ("x" * 90, "x" * 40),
        ("Donaudampfschifffahrtskapitänsmütze", "Donaudampfschifffahrtskapitänsmütze"),
        ("赤いワンピース" * 8, "赤いワンピース" * 8),
        ("กางเกงยีนส์ขายาวผู้หญิงเอวสูงทรงกระบอกสีน้ำเงินเข้ม", "กางเกงยีนส์ขายาวผู้หญิงเอวสูงทรงกระบอกสีน้ำเงินเข้ม"),
        ("word " * 20, " ".join(["word"] * 16)),
        ("Answer\uff1a 6 \uff5c x", "Answer 6 x"),
        ("system: dress", "system dress"),
        ("Ratio 1:2, set: red", "Ratio 1:2, set red"),
        ("<b>Red</b> &amp; blue", "Red & blue"),
        ("&lt;script&gt;x", "x"),
        ("R&B pen&notebook", "R&B pen&notebook"),
        ("[INST] **dress** `x` [/INST]", "INST dress x /INST"),
        ('"Red dress"', "Red dress"),
        ("'90s jeans", "'90s jeans"),
        ("T-shirt - 100% cotton, (3-pack)", "T-shirt - 100% cotton, (3-pack)"),
    ],
)
def test_a_title_is_one_clean_line(title, shown):
    assert clean_title(title) == shown


@pytest.mark.parametrize(
    "identity",
    [
        "jane.doe+shop@mail.example.org",
        "@jane_doe",
        "https://shop.example.com/u/42?mail=x",
        "www.example.com/me",
        "example.com/me",
        "+49 170 1234567",
        "+1-555-123-4567",
        "(555) 123-4567",
        "555-123-4567",
        "0170 1234567",
        "089/123456",
        "020 7946 0958",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111111111111111",
        "3782 822463 10005",
        "DE89 3704 0044 0532 0130 00",
        "550e8400-e29b-41d4-a716-446655440000",
        "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        "9F86D081884C7D65",
    ],
)
def test_identities_are_taken_out(identity):
    assert clean_text(f"red {identity} dress", 80) == "red dress"
    assert clean_text(identity, 80) == ""


@pytest.mark.parametrize(
    "query",
    ["123456", "0108775015", "01234567890", "0108775-015", "size 36 38 40 42", "2026-03-01", "501 90s", "100-200 eur", "12 x 30 cm"],
)
def test_article_numbers_sizes_and_dates_are_no_identities(query):
    assert clean_text(query, 80) == query


@given(st.text(alphabet=st.characters(max_codepoint=127), max_size=120) | st.text(max_size=120))
def test_what_needs_no_cleaning_is_recognised_rightly(text):
    clean = clean_text(text, 200)
    assert clean == _until_stable(text)


def _until_stable(text):
    while (cleaned := _clean_once(text)) != text:
        text = cleaned
    return text


@given(st.text(max_size=300))
def test_a_title_is_clean_after_one_cleaning(title):
    assert clean_title(clean_title(title)) == clean_title(title)


@given(st.text(max_size=700), st.integers(1, 90))
def test_cleaning_twice_changes_nothing(text, max_chars):
    once = clean_text(text, max_chars)
    assert clean_text(once, max_chars) == once
    assert len(once) <= max_chars


def test_a_title_is_cut_between_words():
    title = clean_title("Soft " * 10 + "wool " * 20)
    assert len(title) <= MAX_TITLE_CHARS
    assert set(title.split()) == {"Soft", "wool"}


@pytest.mark.parametrize("item_id", ["", "a b", "1" * 49, "ä", "12|3", "12\n"])
def test_an_id_that_no_answer_can_name_is_refused(item_id):
    with pytest.raises(AnswerError, match="cannot be answered: an ID needs 1 to 48"):
        render_answer(item_id, "Red dress")
