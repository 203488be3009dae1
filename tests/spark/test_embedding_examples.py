"""What the training processes get to read."""

from datetime import UTC, datetime

from fashionrec.embeddings.examples import catalogue_titles, core_examples, title_pairs
from tests.builders import action, table_rows

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


def sequences(spark, *rows):
    plain = {"split": "train", "target_item_id": "t", "target_title": "Target", "target_at": NOON}
    return table_rows(spark, "sequences", *({"example_id": str(i), **plain, **row} for i, row in enumerate(rows)))


def search(query, session="s", at=NOON):
    return action("search", query=query, session_id=session, event_at=at)


def click(item_id, session="s", at=NOON):
    return action(item_id=item_id, session_id=session, event_at=at)


def test_core_reads_the_newest_items_of_train_and_validation_examples_only(spark):
    actions = [click("a"), search("q"), click("b"), action("purchase", item_id="c")]
    splits = [{"split": split, "actions": actions} for split in ("train", "validation", "test")]
    frame = sequences(spark, *splits, {"actions": [search("q")]}, {"split": "score", "actions": actions, "target_item_id": None})
    assert [(row.split, row.item_ids) for row in core_examples(frame, max_actions=2).orderBy("example_id").collect()] == [
        ("train", ["b", "c"]),
        ("validation", ["b", "c"]),
    ]
    assert core_examples(frame, max_actions=9).first().item_ids == ["a", "b", "c"]


def test_a_pair_is_the_last_search_of_the_session_and_the_title_bought_in_it(spark):
    frame = sequences(spark, {"actions": [search("first"), search(" second "), click("a")]})
    (pair,) = title_pairs(frame, session_gap_minutes=30).collect()
    assert (pair.split, pair.query, pair.title, pair.paired_at.astimezone(UTC)) == ("train", "second", "Target", NOON)


def test_no_pair_comes_from_another_session_or_from_no_search(spark):
    long_ago = NOON.replace(hour=11, minute=29)
    frame = sequences(
        spark,
        {"actions": [search("earlier session", session="r"), click("a")]},
        {"actions": [search("too long before the purchase", at=long_ago)]},
        {"actions": [click("a")]},
        {"actions": [search("test example")], "split": "test"},
    )
    assert title_pairs(frame, session_gap_minutes=30).count() == 0
    assert title_pairs(frame, session_gap_minutes=31).count() == 1


def test_a_phrase_is_the_colour_and_the_first_short_attributes(spark):
    attributes = {"type": "Vest top", "group": "Black", "season": "Summer", "why": "a text of many words", "z": "too late"}
    rows = [
        {"item_id": "a", "title": "A", "colour": "Black", "attributes": attributes},
        {"item_id": "b", "title": "B"},
        {"item_id": "c", "title": "C", "colour": "Red"},
    ]
    found = {row.item_id: row.phrase for row in catalogue_titles(table_rows(spark, "items", *rows)).collect()}
    assert found == {"a": "black vest top black summer", "b": None, "c": "red"}
