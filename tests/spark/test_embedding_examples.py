"""What the training processes get to read."""

from collections import Counter
from datetime import UTC, datetime

from fashionrec.embeddings.examples import catalogue_titles, core_examples, title_pairs, training_inputs
from tests.builders import action, table_rows

NOON = datetime(2026, 2, 28, 12, tzinfo=UTC)


def sequences(spark, *rows):
    plain = {"split": "train", "target_item_id": "t", "target_title": "Target", "target_at": NOON}
    return table_rows(spark, "sequences", *({"example_id": str(i), **plain, **row} for i, row in enumerate(rows)))


def search(query, session="s", at=NOON):
    return action("search", query=query, session_id=session, event_at=at)


def click(item_id, session="s", at=NOON):
    return action(item_id=item_id, session_id=session, event_at=at)


ITEMS = [click("a"), search("q"), click("b"), action("purchase", item_id="c")]


def read_by_core(frame, max_actions=9):
    rows = core_examples(frame, max_actions=max_actions).orderBy("example_id", "split").collect()
    return [(row.split, row.item_ids, row.target_item_id) for row in rows]


def test_core_reads_the_newest_items_of_train_and_validation_examples(spark):
    frame = sequences(spark, *({"split": split, "actions": ITEMS} for split in ("train", "validation")), {"actions": [search("q")]})
    assert [row for row in read_by_core(frame, 2) if row[0] != "path"] == [("train", ["b", "c"], "t"), ("validation", ["b", "c"], "t")]
    assert ("train", ["a", "b", "c"], "t") in read_by_core(frame)


def test_clicks_on_what_is_bought_in_a_held_out_purchase_are_in_nothing_that_is_learnt(spark):
    paths = {
        "train": [click("v"), click("a"), click("b")],
        "validation": [click("a"), click("t"), click("b"), click("c")],
        "test": [click("a"), click("b"), click("c"), action("purchase", item_id="v")],
    }
    targets = {"train": "p", "validation": "v", "test": "t"}
    rows = [{"split": split, "actions": actions, "target_item_id": targets[split]} for split, actions in paths.items()]
    another = {"user_id": "another", "split": "train", "actions": [click("v"), click("t")]}
    assert read_by_core(sequences(spark, *rows, another)) == [
        ("train", ["a", "b"], "p"),
        # The input of the validation is that of the evaluation.
        ("path", ["a", "b"], "c"),
        ("validation", ["a", "t", "b", "c"], "v"),
        ("train", ["v", "t"], "t"),
    ]


def test_core_learns_a_path_up_to_the_first_purchase_that_is_held_out(spark):
    held_out = ("score", "test", "validation")
    users = {
        "bought twice": {split: [click("z"), click(split)] for split in held_out},
        "bought once": {split: [click("z"), click(split)] for split in held_out[:2]},
        "never bought": {"score": [click("z"), search("q"), click("score")]},
        "clicked once": {"score": [click("z")]},
        "only searched": {"score": [search("q")]},
    }
    rows = [
        {"example_id": f"{user} {split}", "user_id": user, "split": split, "actions": actions}
        for user, paths in users.items()
        for split, actions in paths.items()
    ]
    paths = [row for row in read_by_core(sequences(spark, *rows)) if row[0] == "path"]
    assert paths == [("path", ["z"], "test"), ("path", ["z"], "validation"), ("path", ["z"], "score")]


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


def test_the_row_of_the_night_before_is_learnt_from_nowhere(spark):
    evening = NOON.replace(day=27)
    known = [search("boots", session="r", at=evening), click("a", session="r", at=evening), click("b", session="r", at=evening)]
    paths = {"train": known, "validation": [*known, search("hat"), click("c")], "test": [*known, search("hat"), click("c"), click("d")]}
    whole = [{"example_id": split, "split": split, "actions": actions, "target_item_id": split} for split, actions in paths.items()]
    # An empty one, too, must not stand for the shopper's path up to the cut.
    nights = [
        {**row, "example_id": f"{row['split']} overnight", "horizon": "overnight", "actions": known if row["split"] != "validation" else []}
        for row in whole
    ]
    score = {"split": "score", "actions": [*paths["test"], click("e")], "target_item_id": None, "target_title": None, "target_at": None}
    open_path = {**score, "user_id": "another", "example_id": "open"}

    def learnt(*rows):
        found = training_inputs(sequences(spark, *rows), table_rows(spark, "items"), max_actions=9, session_gap_minutes=30)
        return {name: sorted(map(str, found[name].collect())) for name in ("examples", "pairs")}

    rows = [*whole, {**score, "example_id": "score"}, open_path]
    for order in ([*nights, *rows], [*rows, *nights]):
        assert learnt(*order) == learnt(*rows)
    counted = Counter(split for split, *_ in read_by_core(sequences(spark, *rows)))
    assert counted == {"train": 1, "validation": 1, "path": 2}
    assert len(learnt(*rows)["pairs"]) == 1


def test_a_phrase_is_the_colour_and_the_first_short_attributes(spark):
    attributes = {"type": "Vest top", "group": "Black", "season": "Summer", "why": "a text of many words", "z": "too late"}
    rows = [
        {"item_id": "a", "title": "A", "colour": "Black", "attributes": attributes},
        {"item_id": "b", "title": "B"},
        {"item_id": "c", "title": "C", "colour": "Red"},
    ]
    found = {row.item_id: row.phrase for row in catalogue_titles(table_rows(spark, "items", *rows)).collect()}
    assert found == {"a": "black vest top black summer", "b": None, "c": "red"}


def test_the_values_of_an_item_are_its_attributes_by_name(spark):
    rows = [
        {"item_id": "a", "title": "A", "brand": "Acme", "size": "M", "attributes": {"season": "Summer", "none": None}},
        {"item_id": "b", "title": "B"},
        {"item_id": "c", "title": "C", "colour": "Red", "attributes": {"colour": "Dark red"}},
    ]
    found = {
        row.item_id: [tuple(value) for value in row["values"]] for row in catalogue_titles(table_rows(spark, "items", *rows)).collect()
    }
    assert found == {
        "a": [("brand", "Acme"), ("size", "M"), ("season", "Summer")],
        "b": [],
        "c": [("colour", "Red"), ("colour", "Dark red")],
    }
