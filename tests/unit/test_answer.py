"""The answer's format: what is written can be read, what constrained decoding allows is the same."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fashionrec.prompts import AnswerError, answer_regex, parse_answer, render_answer
from fashionrec.prompts.answer import MAX_TITLE_CHARS, clean_text, clean_title

IDS = st.from_regex(r"\A[A-Za-z0-9_-]{1,24}\Z")
TITLES = st.text(min_size=1, max_size=MAX_TITLE_CHARS).filter(lambda title: re.fullmatch(answer_regex(), f"a | {title}"))


@given(IDS, st.text(max_size=300))
def test_every_answer_written_is_read_back(item_id, title):
    answer = parse_answer(render_answer(item_id, title))
    assert answer == (item_id, clean_title(title), None)


@given(IDS, st.text(max_size=300))
def test_the_regex_allows_every_answer_written(item_id, title):
    assert re.fullmatch(answer_regex(), render_answer(item_id, title))


@given(IDS, TITLES)
def test_every_answer_that_the_regex_allows_is_read_as_it_stands(item_id, title):
    assert parse_answer(f"{item_id} | {title}") == (item_id, title, None)


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
        ("12|Red dress", "no separator"),
        ("red dress | 12 |", "not an item ID before the separator"),
        ("1" * 25 + " | Red dress", "not an item ID before the separator"),
        (" | Red dress", "no separator"),
        ("12 | a|b", "not a title after the separator"),
        ("12 |  a", "not a title after the separator"),
        ("12 | " + "a" * 81, "title too long"),
    ],
)
def test_an_unreadable_answer_says_why(text, reason):
    assert parse_answer(text) == (None, None, reason)
    assert not re.fullmatch(answer_regex(), text.strip())


def test_blanks_and_line_ends_around_an_answer_do_not_count():
    assert parse_answer(" 12 | Red dress \n") == ("12", "Red dress", None)


@pytest.mark.parametrize(
    ("title", "shown"),
    [
        ("Red\n  dress\t", "Red dress"),
        ("Red | dress", "Red dress"),
        ("a<|endoftext|>b", "a endoftext b"),
        ("zero\u200bwidth\u2028line", "zerowidth line"),
        ("Füße 赤い", "Füße 赤い"),
        ("|", "untitled"),
        ("x" * 90, "x" * 80),
        ("word " * 20, " ".join(["word"] * 16)),
    ],
)
def test_a_title_is_one_clean_line(title, shown):
    assert clean_title(title) == shown


@given(st.text(max_size=700), st.integers(1, 90))
def test_cleaning_twice_changes_nothing(text, max_chars):
    once = clean_text(text, max_chars)
    assert clean_text(once, max_chars) == once
    assert len(once) <= max_chars


def test_a_title_is_cut_between_words():
    title = clean_title("Soft " * 10 + "wool " * 20)
    assert len(title) <= MAX_TITLE_CHARS
    assert set(title.split()) == {"Soft", "wool"}


@pytest.mark.parametrize("item_id", ["", "a b", "1" * 25, "ä", "12|3", "12\n"])
def test_an_id_that_no_answer_can_name_is_refused(item_id):
    with pytest.raises(AnswerError, match="cannot be answered: an ID needs 1 to 24"):
        render_answer(item_id, "Red dress")
