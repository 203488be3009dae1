"""On a bad day the command says in one line what happened and what to do."""

import json
import shlex
import subprocess
from pathlib import Path

import pytest

from fashionrec import cli
from tests.conftest import ROOT, RUN_DATE
from tests.raw_files import deliver, raw_event, raw_item

COMMAND = str(ROOT / ".venv" / "bin" / "fashionrec")


def arguments(root: Path, *extra: str, steps: str = "ingest_interactions") -> list[str]:
    fixed = ["run", "--run-date", str(RUN_DATE), "--conf", str(ROOT / "conf/test.yaml"), "--set", f"paths.root={root}", "--steps", steps]
    return [*fixed, *extra]


def fails(*command: str) -> str:
    """Return the one line of the error; fail where there is none, or more of it."""
    with pytest.raises(SystemExit) as ended:
        cli.main(command)
    line = str(ended.value.code)
    # A text as status is printed by Python, which then exits with 1.
    assert line.startswith("error: ")
    assert "\n" not in line
    return line


@pytest.fixture
def root(spark, tmp_path) -> Path:
    """Return an empty folder; the session stands, so that no command starts Spark with settings of its own."""
    return tmp_path


def test_an_unknown_setting_is_named(root):
    assert "memory.half_live_days: unknown key" in fails(*arguments(root, "--set", "memory.half_live_days=3"))


def test_an_unknown_step_is_named(root):
    assert "no step 'bake'" in fails(*arguments(root, steps="bake"))


def test_a_missing_java_is_named_with_what_to_install(root, monkeypatch):
    monkeypatch.setenv("JAVA_HOME", "/nowhere")
    line = fails(*arguments(root))
    assert "no Java at /nowhere/bin/java" in line
    assert "install Java 17" in line


def test_a_missing_folder_is_named(root):
    assert str(root / "raw/interactions") in fails(*arguments(root))


def test_a_run_date_without_its_tables_names_the_step_to_run(root):
    line = fails(*arguments(root, steps="build_sequences"))
    assert "interactions: no such table" in line
    assert f"fashionrec run --run-date {RUN_DATE}" in line


def test_a_release_that_was_never_made_is_named(root):
    for step in ("generate", "build_indexes", "recommend", "evaluate"):
        line = fails(*arguments(root, steps=step))
        assert "no release serves under " in line
        assert "run the training steps first" in line
    assert "no release is registered under " in fails(*arguments(root, steps="promote_release"))


def test_a_model_that_was_never_trained_is_named(root):
    assert "model llm: none is registered" in fails(*arguments(root, steps="train_fusion"))


@pytest.mark.parametrize("below", ["a file", "/proc"])
def test_a_root_that_cannot_be_written_is_named(root, below):
    (root / "a file").write_text("")
    place = (root / below).resolve() / "shop"
    assert str(place) in fails("world", "--days", "2", "--scale", "0.0001", "--set", f"paths.root={place}")
    assert str(place) in fails(*arguments(place))


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--skip", "ingest_interactions"), "no step is left to run: --steps ingest_interactions without --skip ingest_interactions"),
        (("--set", "spark.driver_memory=lots"), "spark.driver_memory: 'lots' is no size"),
        (("--set", "paths.root="), "paths.root: "),
        (("--set", "spark.master=nonsense"), "spark.master: "),
        (("--set", "spark.master=local[x]"), "spark.master: "),
        (("--set", "spark.driver_memory"), "--set spark.driver_memory: write it as section.key=value"),
        (("--conf", "/nowhere/shop.yaml"), "/nowhere/shop.yaml: no such settings file"),
        (("--conf", str(ROOT / "conf/shop.yaml")), "conf/shop.yaml: no such settings file"),
    ],
)
def test_a_bad_setting_is_named(root, extra, message):
    assert message in fails(*arguments(root, *extra))


def test_settings_with_which_java_does_not_start_are_named(tmp_path):
    # In a process of its own: here Spark runs, whatever the settings.
    ran = subprocess.run([COMMAND, *arguments(tmp_path, "--set", "spark.driver_memory=1k")], capture_output=True, text=True, check=False)
    assert ran.returncode == 1
    assert "Traceback" not in ran.stderr
    line = ran.stderr.splitlines()[-1]
    assert line.startswith("error: Spark does not start with ")
    assert "driver_memory 1k" in line


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("world --days 0", "argument --days: '0' is no whole number from 1"),
        ("world --days 99999999999", "argument --days: '99999999999' is more than 3,660"),
        ("world --heavy-user-events 99999999999", "argument --heavy-user-events: "),
        ("demo --users 99999999999", "argument --users: "),
        ("release show 99999999999999999999", "argument VERSION: "),
        ("world --scale nan", "argument --scale: 'nan' is no number above 0 and up to 10"),
        ("world --scale -1", "argument --scale: "),
        ("world --seed -1", "argument --seed: '-1' is no whole number from 0"),
        ("world --run-date 0001-01-01", "argument --run-date: '0001-01-01' is no date"),
        ("demo --users 0", "argument --users: '0' is no whole number from 1"),
        ("run --run-date 0001-01-01", "argument --run-date: '0001-01-01' is no date"),
        ("memory ''", "argument query: '' holds no word to look up"),
        ("run --steps a", "the following arguments are required: --run-date"),
        ("run --run-date yesterday", "argument --run-date: 'yesterday' is no date; write it as YYYY-MM-DD"),
    ],
)
def test_a_bad_argument_is_named(tmp_path, capsys, command, message):
    # With a small world, should it be made all the same.
    more = ["--scale", "0.0001", "--days", "2"] if command.startswith("world") else []
    name, *rest = shlex.split(command)
    with pytest.raises(SystemExit) as ended:
        cli.main([name, *more, *rest, "--set", f"paths.root={tmp_path}"])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line
    assert not list(tmp_path.iterdir())


def test_names_and_values_of_the_data_are_printed_as_they_are_and_the_run_goes_on(root, capsys):
    odd = (":smile:", "[/b]", "[bold]", "[link=x]y")
    more = dict.fromkeys(odd, 1)
    items = {str(number): f"Coat {name}" for number, name in enumerate(odd)}
    deliver(root / "raw/catalog", RUN_DATE, *(raw_item(item, title=title, **more) for item, title in items.items()), name="items.jsonl")
    deliver(root / "raw/interactions", RUN_DATE, *(raw_event(f"e{item}", item_id=item, **more) for item in items))
    cli.main(arguments(root, steps="ingest_catalog,ingest_interactions"))
    warning = f"columns that the contract does not know were left out: {', '.join(odd)}"
    assert capsys.readouterr().out.count(f"  warning: {warning}\n") == 2
    (path,) = (root / "manifests" / str(RUN_DATE)).glob("*.json")
    steps = json.loads(path.read_text())["steps"]
    assert [step["step"] for step in steps] == ["ingest_catalog", "ingest_interactions"]
    assert all(warning in step["warnings"] for step in steps)
    assert steps[0]["rows_written"]["items"] == steps[1]["rows_written"]["interactions"] == len(odd)
