"""What is made of an engine's answers, and how prompts reach it."""

import pyarrow as pa
import pytest

from fashionrec.llm.generate import read_answer, regroup


@pytest.mark.parametrize(
    ("text", "finish_reason", "item_id", "title", "parse_error"),
    [
        ("B07-x | Red dress", "stop", "B07-x", "Red dress", None),
        ("B07-x | Red dr", "length", "B07-x", "Red dr", None),
        ("B07-x |", "length", None, None, "truncated"),
        ("B0", "length", None, None, "truncated"),
        ("B0", "stop", None, None, "no separator"),
    ],
)
def test_an_answer_cut_by_its_length_counts_where_its_id_is_complete(text, finish_reason, item_id, title, parse_error):
    assert read_answer(text, finish_reason) == {"item_id": item_id, "title": title, "parse_error": parse_error}


@pytest.mark.parametrize("sizes", [[5], [1, 1, 1, 1, 1], [4, 1], [0, 5, 0], []])
def test_batches_of_any_size_become_calls_of_the_asked_size(sizes):
    numbers = iter(range(sum(sizes)))
    batches = [pa.record_batch({"n": pa.array([next(numbers) for _ in range(size)], pa.int64())}) for size in sizes]
    calls = [[row["n"] for row in rows] for rows in regroup(batches, 2)]
    assert calls == ([[0, 1], [2, 3], [4]] if sizes else [])
