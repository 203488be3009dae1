"""The same sessions and sequences by three engines, for benchmarks/data_stage.py.

Each reads `interactions`, `item_versions` and `items` as Parquet and writes one row per example as Parquet: items of the day of the event,
sessions, robots set aside, searches attributed, repeats collapsed, one path per user and category, an example per purchase and per open
path at each of its horizons, the newest 50 actions. Names of sessions and examples are hashes of each engine's own; so would be the draw of
the train examples that have their overnight row, and all of them have it here.
"""

import sys
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from fashionrec.ingest.versions import intervals
from fashionrec.lake.order import EVENT_ORDER
from fashionrec.pipeline.steps.sequences import attributed_events, examples_of
from fashionrec.pipeline.workspace import Workspace
from fashionrec.sequences import as_of_today
from fashionrec.settings.model import Sequences

_EVENT = ("event_id", "user_id", "event_at", "arrival_date", "arrival_number", "action", "query", "item_id", "position")
_PARTS = 8
_TABLES = ("interactions", "item_versions", "items")
_STEP = ("action", "event_at", "session_id", "query", "item_id", "position", "title", "brand", "colour", "size", "price", "attributes")
_DESCRIPTION = ("title", "brand", "colour", "size", "price", "attributes")


def export(workspace: Workspace, folder: Path) -> Path:
    """Write the tables that the step reads as Parquet and return the folder."""
    for table in _TABLES:
        rows = workspace.spark.read.format("delta").load(workspace.path("lake", table))
        rows = intervals(rows) if table == "item_versions" else rows
        rows.write.mode("overwrite").parquet(str(folder / table))
    return folder


def by_spark(workspace: Workspace, source: Path, target: Path) -> None:
    """The step's own transforms, without its table and gate."""
    settings = workspace.settings.sequences
    interactions, versions, items = (workspace.spark.read.parquet(str(source / table)) for table in _TABLES)
    attributed = attributed_events(interactions, as_of_today(versions, items), settings=settings)
    every = workspace.settings.model_copy(update={"sequences": settings.model_copy(update={"overnight_rate": 1.0})})
    examples = examples_of(attributed, workspace.run_date, every)
    examples.write.mode("overwrite").parquet(str(target))


def by_duckdb(settings: Sequences, run_date: str, source: Path, target: Path) -> None:
    import duckdb

    target.mkdir(exist_ok=True)
    with duckdb.connect() as connection:
        connection.execute(
            f"SET threads = 2; SET memory_limit = '8GB'; SET temp_directory = '{target}.tmp'; SET preserve_insertion_order = false"
        )
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute(f"COPY ({_sql(source, settings, run_date)}) TO '{target}/part.parquet' (FORMAT parquet)")


def _sql(source: Path, settings: Sequences, run_date: str) -> str:
    described = ", ".join(f"CASE WHEN e.item_id IS NOT NULL THEN i.{name} END AS {name}" for name in _DESCRIPTION)
    step = ", ".join(f"'{name}': {name}" for name in _STEP)
    gap, order = settings.session_gap_minutes * 60_000_000, ", ".join(EVENT_ORDER)
    return f"""
WITH described AS (
    SELECT v.* REPLACE (coalesce(p.category, v.category) AS category), p.price
    FROM '{source}/item_versions/*.parquet' v LEFT JOIN '{source}/items/*.parquet' p USING (item_id)
), joined AS (
    SELECT e.event_id, e.arrival_date, e.arrival_number, e.user_id, e.event_at, epoch_us(e.event_at) AS us, e.action, e.query,
        e.item_id, e.position, i.category AS item_category, i.item_id IS NOT NULL AS is_known, {described}
    FROM '{source}/interactions/*.parquet' e LEFT JOIN described i
        ON coalesce(e.item_id, e.results[1]) = i.item_id AND e.event_date >= i.describes_from AND e.event_date < i.describes_to
), timed AS (
    SELECT *, lag(us) OVER o AS before, us - lag(us, {settings.max_events_per_minute}) OVER o < 60000000
        OR us - lag(us, {settings.max_events_per_day}) OVER o < 86400000000 AS too_fast
    FROM joined WINDOW o AS (PARTITION BY user_id ORDER BY {order})
), people AS (
    SELECT * FROM timed
    QUALIFY NOT coalesce(bool_or(too_fast) OVER (PARTITION BY user_id), false)
        AND count(*) FILTER (action = 'purchase') OVER (PARTITION BY user_id) <= {settings.max_purchases}
), started AS (
    SELECT *, last_value(CASE WHEN before IS NULL OR us - before >= {gap} THEN us END IGNORE NULLS)
        OVER (PARTITION BY user_id ORDER BY {order}) AS session_start
    FROM people
), led AS (
    SELECT *, lead(CASE WHEN item_id IS NOT NULL AND is_known THEN {{'category': item_category, 'start': session_start}} END IGNORE NULLS)
        OVER (PARTITION BY user_id ORDER BY {order}) AS led_to
    FROM started
), attributed AS (
    SELECT * REPLACE (CASE WHEN action = 'search' AND led_to.start = session_start THEN led_to.category
            ELSE item_category END AS item_category),
        printf('%016x', hash(user_id, session_start)) AS session_id
    FROM led
), placed AS (
    SELECT *, item_category AS category, row_number() OVER o AS place,
        coalesce(lag(action) OVER o = action AND lag(coalesce(item_id, query)) OVER o = coalesce(item_id, query), false) AS repeats
    FROM attributed WHERE item_category IS NOT NULL WINDOW o AS (PARTITION BY user_id, item_category ORDER BY {order})
), paths AS (
    SELECT user_id, category, list({{'place': place, 'step': {{{step}}}}} ORDER BY place) AS path,
        list({{'place': place, 'event_id': event_id, 'event_at': event_at, 'item_id': item_id, 'title': title}} ORDER BY place)
            FILTER (action = 'purchase') AS purchases
    FROM placed WHERE NOT repeats GROUP BY user_id, category
), targets AS (
    SELECT *, list_concat(coalesce(purchases[-{settings.max_train_examples + 2}:], []),
        [{{'place': 2147483647, 'event_id': NULL, 'event_at': NULL, 'item_id': NULL, 'title': NULL}}]) AS targets FROM paths
), examples AS (
    SELECT user_id, category, path, len(targets) AS target_count,
        unnest(targets) AS target, generate_subscripts(targets, 1) AS number FROM targets
), cut AS (
    SELECT *, list_filter(path, lambda s: s.place < target.place) AS before FROM examples
), kept AS (
    SELECT *, list_filter(before, lambda s: s.step.item_id IS NULL OR s.step.item_id IS DISTINCT FROM target.item_id) AS steps FROM cut
), collapsed AS (
    SELECT * REPLACE (CASE WHEN len(steps) = len(before) THEN steps ELSE list_filter(steps, lambda s, n: n = 1 OR NOT coalesce(
        s.step.action = steps[n - 1].step.action AND s.step.item_id IS NOT DISTINCT FROM steps[n - 1].step.item_id
        AND s.step.query IS NOT DISTINCT FROM steps[n - 1].step.query, false)) END AS steps) FROM kept
), asked AS (
    SELECT *, unnest(CASE WHEN number = target_count THEN ['overnight'] ELSE ['in_session', 'overnight'] END) AS horizon,
        CASE target_count - number WHEN 0 THEN 'score' WHEN 1 THEN 'test' WHEN 2 THEN 'validation' ELSE 'train' END AS split
    FROM collapsed WHERE len(steps) >= CASE target_count - number WHEN 0 THEN 1 ELSE {settings.min_actions} END
), known AS (
    SELECT * REPLACE (CASE WHEN horizon = 'overnight' AND split <> 'score'
        THEN list_filter(steps, lambda s: s.step.event_at < date_trunc('day', target.event_at)) ELSE steps END AS steps) FROM asked
)
SELECT substring(sha256(concat_ws(chr(31), user_id, category, coalesce(target.event_id, 'score'),
        CASE WHEN horizon = 'overnight' AND split <> 'score' THEN horizon END)), 1, 16) AS example_id, user_id, category, split, horizon,
    CASE WHEN target.event_at IS NULL THEN 'score'
        WHEN target.event_at::DATE > DATE '{run_date}' - {settings.test_days} THEN 'test'
        WHEN target.event_at::DATE > DATE '{run_date}' - {settings.test_days + settings.validation_days} THEN 'validation'
        ELSE 'train' END AS split_by_time,
    coalesce(target.event_at::DATE - 1, DATE '{run_date}') AS as_of_date,
    list_transform(steps[-{settings.max_actions}:], lambda s: s.step) AS actions,
    target.item_id AS target_item_id, target.title AS target_title, target.event_at AS target_at
FROM known WHERE horizon = 'in_session' OR split <> 'train' OR len(steps) >= {settings.min_actions}"""


def by_polars(settings: Sequences, run_date: str, source: Path, target: Path) -> None:
    import polars as pl

    target.mkdir(exist_ok=True)
    us = pl.col("event_at").dt.epoch("us")
    described = (
        pl.scan_parquet(source / "item_versions" / "*.parquet")
        .join(pl.scan_parquet(source / "items" / "*.parquet").select("item_id", "price", today="category"), on="item_id", how="left")
        .with_columns(category=pl.coalesce("today", "category"))
        .with_columns(row=pl.int_range(pl.len(), dtype=pl.UInt32))
        .collect()
    )
    # Descriptions are brought to the steps at the very end: carried through the sorts, they took more than this machine's memory.
    items = described.select(pl.struct(_DESCRIPTION).alias("item"))["item"]
    interactions = pl.scan_parquet(source / "interactions" / "*.parquet").with_columns(
        about=pl.coalesce("item_id", pl.col("results").list.get(0, null_on_oob=True)), number=pl.int_range(pl.len(), dtype=pl.UInt32)
    )
    versions = described.lazy().select("category", "row", "describes_from", "describes_to", about="item_id")
    that_day = (pl.col("event_date") >= pl.col("describes_from")) & (pl.col("event_date") < pl.col("describes_to"))
    known = (
        interactions.select("number", "about", "event_date").join(versions, on="about").filter(that_day).select("number", "category", "row")
    )
    events = interactions.select(*_EVENT, "number").with_columns(
        pl.col("user_id").cast(pl.Categorical), pl.col("action").cast(pl.Enum(["search", "click", "purchase"]))
    )
    order = ("user_id", "event_at", "action", "arrival_date", "arrival_number", "event_id")
    joined = events.join(known, on="number", how="left").drop("number").sort(*order)
    too_fast = (us - us.shift(settings.max_events_per_minute).over("user_id") < 60_000_000) | (
        us - us.shift(settings.max_events_per_day).over("user_id") < 86_400_000_000
    )
    robot = too_fast.any().over("user_id") | ((pl.col("action") == "purchase").sum().over("user_id") > settings.max_purchases)
    since = us - us.shift(1).over("user_id")
    opens = since.is_null() | (since >= settings.session_gap_minutes * 60_000_000)
    is_search = pl.col("action") == "search"
    led = pl.when(pl.col("item_id").is_not_null() & pl.col("category").is_not_null())
    placed = (
        joined.filter(~robot)
        .with_columns(start=pl.when(opens).then(us).forward_fill().over("user_id"))
        .with_columns(
            led_category=led.then("category").backward_fill().over("user_id"),
            led_start=led.then("start").backward_fill().over("user_id"),
            session_id=pl.struct("user_id", "start").hash(),
        )
        .with_columns(category=pl.when(is_search & (pl.col("led_start") == pl.col("start"))).then("led_category").otherwise("category"))
        .filter(pl.col("category").is_not_null())
        .with_columns(key=pl.coalesce("item_id", "query"), row=pl.when(~is_search).then("row"))
        .with_columns(place=pl.int_range(pl.len()).over("user_id", "category"))
        .filter(~_repeats(pl, ["user_id", "category"]))
        .select(*_EVENT, "category", "row", "session_id", "key", "place")
        .collect()
    )
    bought = placed.filter(pl.col("action") == "purchase").select("user_id", "category", "place", "event_id", "event_at", "item_id", "row")
    newest = bought.group_by("user_id", "category", maintain_order=True).tail(settings.max_train_examples + 2)
    open_paths = placed.select("user_id", "category").unique().with_columns(place=pl.lit(2**31 - 1, pl.Int64))
    targets = pl.concat([newest, open_paths], how="diagonal").with_columns(
        from_end=(pl.len() - 1 - pl.int_range(pl.len())).over("user_id", "category", order_by="place")
    )
    targets = targets.select(
        "user_id",
        "category",
        example_id=pl.struct("user_id", "category", "event_id").hash(),
        split=pl.col("from_end").replace_strict({0: "score", 1: "test", 2: "validation"}, default="train"),
        target_place="place",
        target_item_id="item_id",
        target_row="row",
        target_at="event_at",
    )
    _write_examples(pl, placed, targets, items, settings, target)


def _write_examples(pl: Any, placed: Any, targets: Any, items: Any, settings: Sequences, target: Path) -> None:
    """Write the examples of some users after the others': all at once would be a row per example and step of its path."""
    same_item = (pl.col("item_id") == pl.col("target_item_id")).fill_null(value=False)
    for part in range(_PARTS):
        in_part = pl.col("user_id").to_physical() % _PARTS == part
        steps = (
            targets.filter(in_part)
            .join(placed.filter(in_part), on=["user_id", "category"], maintain_order="left_right")
            .filter((pl.col("place") < pl.col("target_place")) & ~same_item)
            .filter(~_repeats(pl, ["example_id"]))
        )
        of_night = pl.col("event_at") < pl.col("target_at").dt.truncate("1d")
        step = pl.struct(pl.col("action").cast(pl.String), "event_at", "session_id", "query", "item_id", "position", "item")
        examples = (
            steps.with_columns(item=items.gather(steps["row"]))
            .group_by("example_id", maintain_order=True)
            .agg(
                pl.col("user_id", "category", "split", "target_item_id", "target_row", "target_at").first(),
                step.tail(settings.max_actions).alias("actions"),
                step.filter(of_night).tail(settings.max_actions).alias("known"),
                pl.len().alias("step_count"),
                of_night.sum().alias("known_count"),
            )
            .filter(pl.col("step_count") >= pl.when(pl.col("split") == "score").then(1).otherwise(settings.min_actions))
            .with_columns(horizon=pl.when(pl.col("split") == "score").then(pl.lit("overnight")).otherwise(pl.lit("in_session")))
        )
        enough = (pl.col("split") != "train") | (pl.col("known_count") >= settings.min_actions)
        nights = examples.filter((pl.col("split") != "score") & enough).with_columns(
            actions="known", horizon=pl.lit("overnight"), example_id=pl.struct("example_id", pl.lit("overnight")).hash()
        )
        examples = pl.concat([examples, nights]).drop("known", "known_count")
        title = items.struct.field("title").gather(examples["target_row"]).alias("target_title")
        written = examples.drop("target_row", "step_count").with_columns(title, pl.col("user_id").cast(pl.String))
        written.write_parquet(target / f"part-{part}.parquet")


def _repeats(pl: Any, within: list[str]) -> Any:
    same = (pl.col("action") == pl.col("action").shift(1).over(within)) & (pl.col("key") == pl.col("key").shift(1).over(within))
    return same.fill_null(value=False)


def same_sequences(written: dict[str, Path], console: Console) -> None:
    """Compare what the engines wrote: examples, actions and targets of each split and horizon; exit where they differ."""
    import duckdb

    content = "count(*), sum(len(actions)), bit_xor(hash(user_id || category || coalesce(target_item_id, '') || len(actions)))"
    query = f"SELECT split || ' ' || horizon, {content} FROM '{{}}/*.parquet' GROUP BY 1 ORDER BY 1"
    found = {name: duckdb.sql(query.format(path)).fetchall() for name, path in written.items()}
    if len({str(rows) for rows in found.values()}) > 1:
        raise SystemExit(f"the engines made different sequences: {found}")
    console.print("the same sequences by each: " + ", ".join(f"{split} {count:,}" for split, count, _, _ in found["spark"]))


ENGINES = {"duckdb": by_duckdb, "polars": by_polars}


def main(name: str, source: str, target: str, run_date: str, settings: str) -> None:
    """Print the seconds of one engine; in a process of its own, so that it leaves no memory behind."""
    start = time.monotonic()
    ENGINES[name](Sequences.model_validate_json(settings), run_date, Path(source), Path(target))
    print(time.monotonic() - start)


if __name__ == "__main__":
    main(*sys.argv[1:])
