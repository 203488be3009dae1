"""The whole chain in one process, by the command that people use: real Spark, Delta, QLoRA, vLLM and FAISS on a small synthetic world."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from fashionrec.lake.spec import table_specs
from fashionrec.pipeline.registry import STEPS
from tests.conftest import ROOT, RUN_DATE, TINY

COMMAND = str(ROOT / ".venv" / "bin" / "fashionrec")


def fashionrec(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the root of a finished demo and what it printed."""
    root = tmp_path_factory.mktemp("demo")
    # The demo trains without rounds of hard prompts; their page is to be seen here.
    settings = (f"paths.root={root}", *TINY, "ingest.lookback_days=60", "llm.hard_rate=0.2")
    sets = [part for one in settings for part in ("--set", one)]
    ran = fashionrec("demo", "--users", "40", *sets)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    return root, ran.stdout


@pytest.fixture
def table(spark: SparkSession, demo: tuple[Path, str]) -> Callable:
    return lambda name: spark.read.format("delta").load(str(demo[0] / "lake" / name))


def test_every_step_ran_and_says_its_rows_seconds_and_memory(demo):
    root, printed = demo
    (manifest,) = (json.loads(path.read_text()) for path in (root / "manifests" / str(RUN_DATE)).glob("*.json"))
    assert [step["step"] for step in manifest["steps"]] == [step.name for step in STEPS]
    assert all(step["seconds"] >= 0 and step["peak_gib"] > 0 for step in manifest["steps"])
    for key in ("run_id", "code_version", "settings_hash"):
        assert manifest[key]
    assert f"{len(STEPS)} steps, " in printed
    assert "recall@10" in printed


def test_every_table_was_written_and_no_staged_row_is_left(demo):
    root, _ = demo
    assert {spec.table for spec in table_specs() if spec.kind != "raw"} <= {path.name for path in (root / "lake").iterdir()}
    assert not list((root / "lake" / "_staging").iterdir())


def test_every_user_with_a_path_gets_a_full_list_without_repeats(table):
    users = {(row.user_id, row.category) for row in table("sequences").where("split = 'score'").collect()}
    lists: dict[tuple[str, str], list] = {}
    for row in table("recommendations").orderBy("rank").collect():
        lists.setdefault((row.user_id, row.category), []).append(row)
    assert set(lists) == users
    for rows in lists.values():
        assert [row["rank"] for row in rows] == list(range(1, 11))
        assert len({row.item_id for row in rows}) == len(rows)


def test_recommended_items_are_in_stock_and_of_the_category(table):
    items = {row.item_id: row for row in table("items").collect()}
    for row in table("recommendations").collect():
        assert items[row.item_id].in_stock
        assert items[row.item_id].category == row.category


def test_no_prompt_holds_a_user_or_an_answer_to_come(table):
    for row in table("prompts").collect():
        assert row.user_id not in row.prompt
        assert (row.split == "score") == (row.response is None)


def test_the_model_answered_in_its_format(table):
    rows = table("generations").collect()
    assert rows
    malformed = [row.answer for row in rows if row.parse_error]
    assert not malformed


def test_the_evaluation_ranks_all_items_of_the_category(table):
    items = {row.category: row["count"] for row in table("items").groupBy("category").count().collect()}
    rows = table("evaluations").where("category <> 'all'").collect()
    assert {row.method for row in rows} == {*("fashionrec", "id_only", "title_only", "popularity", "last_item", "like_last_item", "core")}
    assert {row.metric for row in rows} == {"recall@10", "ndcg@10", "mrr"}
    assert all(row.item_count == items[row.category] for row in rows)


@pytest.mark.parametrize(("name", "charts"), [("embeddings.html", 4), ("language_model.html", 2)])
def test_each_training_has_a_page_that_the_days_report_links(demo, name, charts):
    reports = demo[0] / "reports" / str(RUN_DATE)
    page = (reports / name).read_text()
    assert "synthetic" in page
    assert page.count("<svg") >= charts
    assert name in (reports / "report.html").read_text()


def test_the_model_copies_ids_from_its_prompts(table):
    answers = table("generations").join(table("prompts").select("example_id", "prompt"), "example_id").collect()
    copied = [f" {row.item_id} | " in row.prompt for row in answers]
    assert sum(copied) / len(copied) >= 0.9


def test_what_the_weights_keep_is_reported(demo):
    card = json.loads(next((demo[0] / "models" / "llm").glob("*/card.json")).read_text())
    assert {row["copies"] for row in card["memorisation"]["by_copies"]} >= {0, 1}


def test_show_prints_the_journey_the_prompt_the_answer_and_the_products(demo):
    shown = fashionrec("show", "any", "--run-date", str(RUN_DATE), "--set", f"paths.root={demo[0]}")
    for words in ("The journey", "The prompt", " tokens with ", "; dropped: ", "The answer", "Recommended"):
        assert words in shown.stdout, shown.stderr
    # In so small a shop a query may be remembered, be near one, or like none.
    assert re.search("remembered: |like “|nothing like it is remembered", shown.stdout)
    nobody = fashionrec("show", "nobody", "--run-date", str(RUN_DATE), "--set", f"paths.root={demo[0]}")
    assert nobody.returncode == 1
    assert "\nerror: user 'nobody' has no recommendations" in nobody.stderr


def test_memory_prints_the_nearest_queries_with_their_similarities_and_products(demo, table):
    remembered = table("query_products").where("as_of_date = run_date").orderBy("search_count", ascending=False).first()
    shown = fashionrec("memory", f" {remembered['query'].upper()}! ", "--run-date", str(RUN_DATE), "--set", f"paths.root={demo[0]}")
    assert f"looked up as “{remembered['query']}”" in " ".join(shown.stdout.split()), shown.stderr
    assert "Answer (exact): " in shown.stdout
    assert " 1.00 " in shown.stdout
    assert remembered.products[0].title.split()[0] in shown.stdout
    strange = fashionrec("memory", "qqqq zzzz", "--set", f"paths.root={demo[0]}")
    assert strange.stdout.startswith(f"{RUN_DATE}: “qqqq zzzz”"), "the newest date there is"
    assert "Answer: none" in strange.stdout, strange.stderr


def test_nothing_to_show_is_one_line(tmp_path):
    nothing = fashionrec("memory", "dress", "--set", f"paths.root={tmp_path}")
    assert (nothing.returncode, nothing.stderr.splitlines()[-1].partition(" at ")[0]) == (1, "error: query_products: nothing")


def test_tables_lists_rows_and_columns(demo):
    listed = fashionrec("tables", "--set", f"paths.root={demo[0]}")
    assert "recommendations" in listed.stdout
    assert str(RUN_DATE) in listed.stdout
    assert "Place in the list" in fashionrec("tables", "recommendations").stdout


def test_the_report_is_one_page_that_says_synthetic(demo):
    page = (demo[0] / "reports" / str(RUN_DATE) / "report.html").read_text()
    assert "synthetic" in page.lower()


def test_doctor_finds_everything_and_names_what_is_missing(tmp_path):
    well = fashionrec("doctor", "--conf", str(ROOT / "conf/demo.yaml"))
    assert well.returncode == 0, well.stdout
    empty = tmp_path / "base"
    empty.mkdir()
    ill = fashionrec("doctor", "--conf", str(_conf_with_base(tmp_path, empty)))
    assert ill.returncode == 1
    assert "holds no config.json" in ill.stdout
    assert ill.stderr.startswith("error: base model")


# Last, because they write the day anew.
@pytest.mark.parametrize(
    ("switch", "with_it"),
    [("memory", "memory_product_count > 0"), ("attributes", r"prompt RLIKE ' \\((brand|colour|size|price) '")],
)
def test_an_ablation_runs_from_the_prompts_to_the_evaluation(demo, table, switch, with_it):
    assert not table("prompts").where(with_it).isEmpty()
    sets = [part for one in (f"paths.root={demo[0]}", *TINY, f"prompts.{switch}=false") for part in ("--set", one)]
    steps = "build_prompts,train_llm,generate,recommend,evaluate"
    ran = fashionrec("run", "--conf", str(ROOT / "conf/demo.yaml"), "--run-date", str(RUN_DATE), "--steps", steps, *sets)
    assert ran.returncode == 0, ran.stdout[-4000:] + ran.stderr[-4000:]
    assert table("prompts").where(with_it).isEmpty()
    newest = max((demo[0] / "manifests" / str(RUN_DATE)).glob("*.json"), key=lambda path: path.stat().st_mtime)
    assert [step["step"] for step in json.loads(newest.read_text())["steps"]] == steps.split(",")
    assert not table("evaluations").isEmpty()


def _conf_with_base(folder: Path, base: Path) -> Path:
    """Return a settings file whose base model lies in `base`."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("tiny"))
    model = folder / "conf/models/tiny.yaml"
    model.write_text(model.read_text().replace("path: tiny", f"path: {base}"))
    return folder / "conf/demo.yaml"
