"""The whole chain in one process, by the command that people use: real Spark, Delta, QLoRA, vLLM and FAISS on a small synthetic world."""

import io
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from contextlib import redirect_stdout
from pathlib import Path

import pytest
from pyspark.sql import SparkSession

from fashionrec import cli
from fashionrec.commands import demo as demo_command
from fashionrec.evaluate.protocol import METHODS, PROTOCOLS
from fashionrec.lake.spec import table_specs
from fashionrec.pipeline.models import ModelRegistry
from fashionrec.pipeline.registry import STEPS
from fashionrec.pipeline.releases import history
from fashionrec.retrieval.fusion import FUSION, SERVED
from tests.conftest import ROOT, RUN_DATE, TINY, compiled_plans

COMMAND = str(ROOT / ".venv" / "bin" / "fashionrec")
# As the session that stands was started.
SESSION = "spark.shuffle_partitions=2"


def installed(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the installed command in a process of its own."""
    return subprocess.run([COMMAND, *arguments], capture_output=True, text=True, check=False)


def fashionrec(*arguments: str, sets: tuple[str, ...] = ()) -> None:
    """Run the command in this process, in the session that stands."""
    cli.main([*arguments, *(part for one in (SESSION, *sets) for part in ("--set", one))])


@pytest.fixture(scope="module")
def demo(spark: SparkSession, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """Return the root of a finished demo and what it printed."""
    root, printed = tmp_path_factory.mktemp("demo"), io.StringIO()
    with redirect_stdout(printed), pytest.MonkeyPatch.context() as patch, compiled_plans(spark):
        patch.setattr(demo_command, "DAYS", 20)
        # The demo trains without rounds of hard prompts; their page is to be seen here.
        fashionrec("demo", "--users", "20", sets=(f"paths.root={root}", *TINY, "llm.max_steps=2", "llm.hard_rate=0.2"))
    return root, printed.getvalue()


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


def test_every_row_of_the_evaluation_stands_beside_the_mailed_list(table):
    rows = table("evaluations").where("category = 'all'").collect()
    assert {row.method for row in rows} - {FUSION} == set(METHODS)
    assert {row.metric for row in rows} == {"recall@10", "ndcg@10", "mrr"}
    assert all((row.gain_low is None) == (row.method == SERVED) for row in rows)
    assert all(row.low <= row.value + 1e-6 and row.value <= row.high + 1e-6 for row in rows)


def test_every_test_path_is_asked_at_both_horizons(table):
    paths = table("sequences").where("split = 'test'").groupBy("horizon").count().collect()
    rows = table("evaluations").where("category = 'all'").where(f"protocol = '{PROTOCOLS[0]}'").collect()
    asked = {row.horizon: row.example_count for row in rows}
    assert asked == {row.horizon: row["count"] for row in paths}
    assert len(set(asked.values())) == 1


def test_a_release_serves_with_the_reason_and_stands_in_every_row(demo, table):
    (release,) = history(ModelRegistry(str(demo[0] / "models"), ""))
    assert release.state == "serves"
    assert {row.release for row in table("recommendations").select("release").distinct().collect()} == {"release@1"}
    fusion = json.loads(next((demo[0] / "models" / "fusion").glob("*/fusion.json")).read_text())
    assert fusion["serves"] in (FUSION, *METHODS)
    assert fusion["why"]


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


def test_show_prints_the_journey_the_prompt_the_answer_and_the_products(demo, capsys):
    fashionrec("show", "any", "--run-date", str(RUN_DATE), sets=(f"paths.root={demo[0]}",))
    shown = capsys.readouterr().out
    for words in ("The journey", "The prompt", " tokens with ", "; dropped: ", "The answer", "Recommended"):
        assert words in shown
    # In so small a shop a query may be remembered, be near one, or like none.
    assert re.search("remembered: |like “|nothing like it is remembered", shown)


def test_the_installed_command_says_in_one_line_whom_it_cannot_show(demo):
    nobody = installed("show", "nobody", "--run-date", str(RUN_DATE), "--set", f"paths.root={demo[0]}")
    assert nobody.returncode == 1
    assert "\nerror: user 'nobody' has no recommendations" in nobody.stderr
    assert "Traceback" not in nobody.stderr


def test_memory_prints_the_nearest_queries_with_their_similarities_and_products(demo, table, capsys):
    remembered = table("query_products").where(f"as_of_date = DATE'{RUN_DATE}'").orderBy("user_count", ascending=False).first()
    fashionrec("memory", f" {remembered['query'].upper()}! ", "--run-date", str(RUN_DATE), sets=(f"paths.root={demo[0]}",))
    shown = capsys.readouterr().out
    assert f"looked up as “{remembered['query']}”" in " ".join(shown.split())
    assert "Answer (exact): " in shown
    assert " 1.00 " in shown
    assert remembered.products[0].title.split()[0] in shown
    fashionrec("memory", "qqqq zzzz", sets=(f"paths.root={demo[0]}",))
    strange = capsys.readouterr().out
    assert strange.startswith(f"{RUN_DATE}: “qqqq zzzz”"), "the newest date there is"
    assert "Answer: none" in strange


def test_nothing_to_show_is_one_line(spark, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: query_hits: nothing at .*; run the steps first"):
        fashionrec("memory", "dress", sets=(f"paths.root={tmp_path}",))


def test_tables_lists_rows_and_columns(demo, capsys):
    fashionrec("tables", sets=(f"paths.root={demo[0]}",))
    listed = capsys.readouterr().out
    assert "recommendations" in listed
    assert str(RUN_DATE) in listed
    fashionrec("tables", "recommendations")
    assert "Place in the list" in capsys.readouterr().out


def test_the_report_is_one_page_that_says_synthetic(demo):
    page = (demo[0] / "reports" / str(RUN_DATE) / "report.html").read_text()
    assert "synthetic" in page.lower()


def test_doctor_finds_everything():
    well = installed("doctor", "--conf", str(ROOT / "conf/demo.yaml"))
    assert well.returncode == 0, well.stdout


def test_doctor_names_what_is_missing(tmp_path, capsys):
    empty = tmp_path / "base"
    empty.mkdir()
    with pytest.raises(SystemExit, match=r"^error: base model"):
        fashionrec("doctor", "--conf", str(_conf_with_base(tmp_path, empty)))
    assert "holds no config.json" in capsys.readouterr().out


# Last, because it writes the day anew. The model is the one that was trained: only its prompts differ.
def test_each_ablation_changes_its_part_of_the_prompts_and_runs_to_the_evaluation(demo, table):
    remembers, describes = "memory_product_count > 0", r"prompt RLIKE ' \\((brand|colour|size|price) '"

    def ablated(switch: str, *steps: str) -> dict[str, bool]:
        sets = (f"paths.root={demo[0]}", *TINY, f"prompts.{switch}=false")
        fashionrec("run", "--conf", str(ROOT / "conf/demo.yaml"), "--run-date", str(RUN_DATE), "--steps", ",".join(steps), sets=sets)
        newest = max((demo[0] / "manifests" / str(RUN_DATE)).glob("*.json"), key=lambda path: path.stat().st_mtime)
        entries = json.loads(newest.read_text())["steps"]
        assert [entry["step"] for entry in entries] == list(steps)
        assert all(count > 0 for entry in entries for count in entry["rows_written"].values())
        return prompts_hold()

    def prompts_hold() -> dict[str, bool]:
        return {name: not table("prompts").where(found).isEmpty() for name, found in (("memory", remembers), ("attributes", describes))}

    def answered() -> set[str]:
        return {row.fingerprint for row in table("generations").select("fingerprint").collect()}

    before = answered()
    assert prompts_hold() == {"memory": True, "attributes": True}
    assert ablated("memory", "build_prompts") == {"memory": False, "attributes": True}
    steps = ("build_prompts", "generate", "recommend", "evaluate")
    assert ablated("attributes", *steps) == {"memory": True, "attributes": False}
    assert answered() != before, "nothing was answered anew"


def _conf_with_base(folder: Path, base: Path) -> Path:
    """Return a settings file whose base model lies in `base`."""
    shutil.copytree(ROOT / "conf", folder / "conf", ignore=shutil.ignore_patterns("tiny"))
    model = folder / "conf/models/tiny.yaml"
    model.write_text(model.read_text().replace("path: tiny", f"path: {base}"))
    return folder / "conf/demo.yaml"
