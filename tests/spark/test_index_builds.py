"""Builds of indexes: immutable, found by a pointer, side by side."""

from pathlib import Path

import pytest

from fashionrec.index_folders import find_build, make_build


@pytest.fixture
def build(spark, tmp_path):
    pointer = str(tmp_path / "indexes" / "newest.json")

    def write_as(text, between=lambda: None):
        def write(folder, staging):
            (folder / "index").write_text(text)
            between()
            return len(text)

        return make_build(lambda: spark, pointer, write, made_from={"items": text}, run_id="run", staging=str(tmp_path / "staging"))

    return write_as


def found(build, spark, tmp_path):
    return find_build(lambda: spark, str(tmp_path / "indexes" / "newest.json"))


def test_a_pointer_names_the_newest_build_and_what_it_was_made_from(build, spark, tmp_path):
    assert found(build, spark, tmp_path) is None
    old, _ = build("old")
    new, size = build("newer")
    assert (found(build, spark, tmp_path), size) == ((new, {"items": "newer"}), 5)
    assert Path(old, "index").read_text() == "old", "somebody may still read it"


def test_two_builds_of_one_date_at_the_same_time_do_not_touch_each_other(build, spark, tmp_path):
    inner = []
    outer, _ = build("outer", between=lambda: inner.append(build("inner")[0]))
    assert Path(outer, "index").read_text() == "outer"
    assert Path(inner[0], "index").read_text() == "inner"
    assert found(build, spark, tmp_path).place == outer


def test_a_build_that_fails_leaves_the_one_before_and_nothing_of_its_own(build, spark, tmp_path):
    old, _ = build("old")

    def fail():
        raise RuntimeError("no space left")

    with pytest.raises(RuntimeError, match="no space left"):
        build("new", between=fail)
    assert found(build, spark, tmp_path).place == old
    assert len(list((tmp_path / "indexes").iterdir())) == 2
