"""The runner keeps what a step read, wrote and cost, and a step only touches what it declares."""

import gc
import io
import json
import re
import weakref

import pytest
from pyspark.errors import PythonException
from rich.console import Console

from fashionrec.errors import UserError
from fashionrec.lake.tables import LakeError
from fashionrec.pipeline.models import ModelRegistry
from fashionrec.pipeline.registry import STEPS, WEEKLY, select_steps, step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.step import Step
from tests.builders import workspace_in
from tests.conftest import ROOT, RUN_DATE
from tests.spark.test_tables import items


def step(name, run, reads=(), writes=()):
    return Step(name, reads, writes, run, "A step of a test.")


def manifest_of(run):
    (path,) = (p for p in (ROOT / run.workspace.path("manifests", str(RUN_DATE))).glob("*.json"))
    return json.loads(path.read_text())


def test_the_manifest_says_versions_rows_seconds_figures_and_warnings(spark, make_run):
    def write(run):
        run.write("items", items(spark, "a", "b"))
        run.figures["share"] = 0.25
        run.warnings.append("look here")

    def read(run):
        run.read("items").count()

    run, out = make_run(), io.StringIO()
    run_steps(
        run.workspace, [step("first", write, writes=("items",)), step("second", read, reads=("items",))], Console(file=out, width=200)
    )
    first, second = manifest_of(run)["steps"]
    assert first["rows_written"] == {"items": 2}
    assert first["figures"] == {"share": 0.25}
    assert first["warnings"] == ["look here"]
    assert second["versions_read"] == {"items": 1}
    assert second["rows_read"] == {"items": 2}
    assert second["rows_written"] == {}
    assert first["seconds"] > 0
    assert first["peak_gib"] > 0
    begins, ends, warning, *_ = out.getvalue().splitlines()
    assert re.fullmatch(r"first   begins at \d\d:\d\d:\d\d UTC", begins)
    assert "items 2; share 0.25" in ends
    assert warning == "  warning: look here"


def test_what_a_step_left_in_circles_is_gone_before_the_next_one(make_run):
    left = []

    def leave(run):
        frame = run.spark.range(1)
        frame.itself = frame
        left.append(weakref.ref(frame))

    def look(run):
        assert left[0]() is None

    gc.disable()
    try:
        run_steps(make_run().workspace, [step("leave", leave), step("look", look)], Console(quiet=True))
    finally:
        gc.enable()


def test_a_failed_step_ends_the_run_stands_in_the_manifest_and_leaves_no_staged_rows(spark, make_run, tmp_path):
    def fail(run):
        run.write("items", items(spark, "a", "a"))

    run = make_run()
    with pytest.raises(UserError, match="items: not published"):
        run_steps(run.workspace, [step("bad", fail, writes=("items",)), step("never", fail)], Console(file=io.StringIO()))
    (entry,) = manifest_of(run)["steps"]
    assert entry["error"].startswith("GateError: items: not published")
    assert not list((tmp_path / "lake" / "_staging").iterdir())


def test_an_error_of_this_package_in_a_worker_is_one_line_and_any_other_keeps_its_traceback(spark, make_run):
    def fail_in_worker(error):
        def fail(batches):
            raise error
            yield from batches

        return lambda run: spark.range(1).mapInArrow(fail, "id long").collect()

    with pytest.raises(UserError) as raised:
        run_steps(make_run().workspace, [step("refused", fail_in_worker(LakeError("items: cut; run the step again")))], Console(quiet=True))
    assert str(raised.value) == "items: cut; run the step again"
    with pytest.raises(PythonException, match="Traceback"):
        run_steps(make_run().workspace, [step("broken", fail_in_worker(ValueError("a bug")))], Console(quiet=True))


def test_a_step_cannot_touch_what_it_does_not_declare(spark, make_run):
    for act in (
        lambda run: run.read("items"),
        lambda run: run.write("items", items(spark, "a")),
        lambda run: run.newest("llm"),
        lambda run: run.release(),
    ):
        with pytest.raises(LakeError, match="without declaring it"):
            run_steps(make_run().workspace, [step("sly", act)], Console(file=io.StringIO()))


def test_the_registry_is_in_an_order_in_which_every_read_is_written_before():
    written = {"raw/interactions", "raw/catalog"}
    for one in STEPS:
        assert set(one.reads) <= written, one.name
        written |= set(one.writes)


def test_every_step_has_a_job_and_every_job_a_step():
    assert {path.stem for path in (ROOT / "jobs").glob("*.py")} == {one.name for one in (*STEPS, *WEEKLY)}


def test_steps_are_selected_by_name_in_the_order_of_the_flow():
    names = [one.name for one in STEPS]
    assert [one.name for one in select_steps(f"{names[2]},{names[0]}", "")] == [names[0], names[2]]
    assert [one.name for one in select_steps("", ",".join(names[1:]))] == names[:1]
    assert select_steps("", "") == list(STEPS), "those of every week are named"
    assert select_steps(f"{WEEKLY[0].name},{names[0]}", "") == [STEPS[0], WEEKLY[0]]
    with pytest.raises(UserError, match="no step 'bake'"):
        step_named("bake")


def test_a_root_that_is_a_file_uri_means_the_same_to_spark_and_to_python(spark, tmp_path):
    workspace = workspace_in(f"file:{tmp_path}/shop", spark)

    def act(run):
        run.write("items", items(spark, "a"))
        folder = run.workspace.models.new_folder("id", run.run_id)
        (folder / "weights").write_text("w")
        run.workspace.models.register("id", folder, {}, {}, {}, trained_for=RUN_DATE)

    run_steps(workspace, [step("one", act, writes=("items",))], Console(file=io.StringIO()))
    assert (tmp_path / "shop" / "lake" / "items" / "_delta_log").is_dir()
    assert (tmp_path / "shop" / "reports" / str(RUN_DATE) / "quality.html").exists()
    assert len(list((tmp_path / "shop" / "manifests" / str(RUN_DATE)).iterdir())) == 1
    assert not list((tmp_path / "shop" / "lake" / "_staging").iterdir())
    assert ModelRegistry(str(tmp_path / "shop" / "models"), "").challenger("id").folder.is_dir()
