"""A release's parts serve, are judged and are rolled back together, and only with the files that they were registered with."""

import json
import shutil
from datetime import timedelta

import pytest

from fashionrec import cli
from fashionrec.lake.storage import folder_hash
from fashionrec.lake.tables import LakeError
from fashionrec.pipeline import releases
from fashionrec.pipeline.models import ModelError, ModelRegistry
from fashionrec.pipeline.step import Step
from tests.builders import ROOT, RUN_DATE, run_of, workspace_in

MEND = r"train again, or let another release serve: fashionrec release rollback \(or promote VERSION\)"


@pytest.fixture
def models(tmp_path):
    return ModelRegistry(str(tmp_path / "models"), "")


def trained(models, name, run_id="a", trained_for=RUN_DATE):
    folder = models.new_folder(name, run_id)
    (folder / "weights.txt").write_text(f"{name} of {run_id}")
    return models.register(name, folder, {}, {}, {}, trained_for=trained_for)


def made(models, run_id, *, parts=None, trained_for=RUN_DATE, metrics=None):
    parts = parts or {name: trained(models, name, run_id) for name in ("llm", "id", "fusion")}
    inputs = {"items": 4, "prompts": 7}
    return releases.make_release(models, parts, run_id=run_id, inputs=inputs, metrics=metrics or {}, trained_for=trained_for)


def promoted(models, *run_ids, parts=None):
    """Make releases of the same parts, of which each serves after the one before; return them."""
    parts = parts or {name: trained(models, name) for name in ("llm", "id")}
    made_ones = []
    for run_id in run_ids:
        made_ones.append(made(models, run_id, parts=parts))
        releases.promote(models, made_ones[-1], f"better than before {run_id}")
    return made_ones


def states(models):
    """Return the state of each version, the oldest first, without the day that it names."""
    return [record.state.rstrip("-0123456789").strip() for record in reversed(releases.history(models))]


def harm(version):
    (version.folder / "weights.txt").write_text("bad")


def test_a_release_names_its_parts_with_their_hashes_and_the_tables_that_it_was_made_from(models):
    trained(models, "id", "older")
    id_space = trained(models, "id")
    release = made(models, "a", parts={"id": id_space, "id_serving": id_space})
    part = {"model": "id", "version": "2", "sha256": id_space.sha256}
    kept = json.loads((release.version.folder / "release.json").read_text())
    assert kept == {"parts": {"id": part, "id_serving": part}, "inputs": {"items": 4, "prompts": 7}}
    assert releases.candidate(models) == releases.release(models, "1") == release
    assert (release.label, release.trained_for) == ("release@1", RUN_DATE)


def test_a_new_release_is_the_candidate_and_serves_only_once_it_is_promoted(models):
    old, new = made(models, "a"), made(models, "b")
    with pytest.raises(
        ModelError, match=r"no release serves under .*; run the training steps first, or fashionrec release promote VERSION"
    ):
        releases.serving(models)
    releases.promote(models, old, "the first")
    assert (releases.serving(models), releases.candidate(models)) == (old, new)
    releases.promote(models, new, "better by 3%")
    assert releases.serving(models) == new
    assert [(record.why, record.inputs) for record in releases.history(models)] == [
        ("better by 3%", {"items": "4", "prompts": "7"}),
        ("the first", {"items": "4", "prompts": "7"}),
    ]


def test_a_refused_release_stays_out_until_somebody_promotes_it(models):
    old, new = made(models, "a"), made(models, "b")
    releases.promote(models, old, "the first")
    releases.refuse(models, new, "worse by 3%")
    assert releases.serving(models) == old
    assert [(record.state, record.why) for record in releases.history(models)] == [("refused", "worse by 3%"), ("serves", "the first")]
    releases.promote(models, new, "all the same")
    assert [record.why for record in releases.history(models)] == ["all the same", "the first"]
    releases.promote(models, old, "on second thoughts")
    assert releases.rollback(models) == new  # promoting it took the refusal back


def test_there_is_no_candidate_before_the_first_release(models):
    with pytest.raises(ModelError, match=r"no release is registered under .*; run the training steps first"):
        releases.candidate(models)


def test_a_release_was_trained_for_the_latest_day_that_a_part_was_trained_for(models):
    later = RUN_DATE + timedelta(days=3)
    parts = {"llm": trained(models, "llm"), "id": trained(models, "id", trained_for=later)}
    assert made(models, "a", parts=parts).trained_for == releases.candidate(models).trained_for == later


def test_rolling_back_twice_goes_two_releases_back_and_no_further_than_the_first(models):
    first, second, _ = promoted(models, "a", "b", "c")
    assert releases.rollback(models) == releases.serving(models) == second
    assert releases.rollback(models) == releases.serving(models) == first
    assert states(models) == ["serves", "rolled back", "rolled back"]
    assert [record.why for record in releases.history(models)] == [
        "rolled back to release@2",
        "rolled back to release@1",
        "release@2 was rolled back",
    ]
    with pytest.raises(ModelError, match="no release to go back to served before release@1; fashionrec release promote VERSION"):
        releases.rollback(models)
    assert releases.serving(models) == first


def test_a_rollback_skips_what_was_rolled_back_before_and_what_never_served(models):
    _, second, _ = promoted(models, "a", "b", "c")
    releases.rollback(models)
    releases.refuse(models, made(models, "d"), "worse")
    promoted(models, "e")
    assert releases.rollback(models) == second


def test_an_older_release_that_is_promoted_again_follows_the_one_that_it_replaces(models):
    first, second, third = promoted(models, "a", "b", "c")
    releases.promote(models, first, "the best of all")
    assert states(models) == ["serves", "was champion until", "was champion until"]
    assert [releases.rollback(models) for _ in range(2)] == [third, second]


def test_a_rollback_goes_back_in_time_and_not_by_number(models):
    first, _ = promoted(models, "a", "b")
    releases.promote(models, first, "the best of all")
    promoted(models, "c")
    assert releases.rollback(models) == first


def test_promoting_what_serves_changes_nothing_but_why(models):
    first, second = promoted(models, "a", "b")
    releases.promote(models, second, "again")
    assert states(models) == ["was champion until", "serves"]
    assert releases.rollback(models) == first


def test_there_is_nothing_to_roll_back_where_none_serves(models):
    made(models, "a")
    with pytest.raises(ModelError, match="no release serves under"):
        releases.rollback(models)


def test_a_changed_part_is_refused_by_its_name_whatever_model_plays_it(models):
    parts = {"llm": trained(models, "llm"), "title": trained(models, "title"), "title_serving": trained(models, "title", "b")}
    promoted(models, "a", parts=parts)
    assert releases.serving(models).parts["title_serving"].label == "title@2"
    harm(parts["title_serving"])
    with pytest.raises(ModelError, match=rf"^release@1, part title_serving: model title@2: files under .* missing or changed.*{MEND}$"):
        releases.serving(models)


def test_a_part_without_its_folder_or_its_registration_is_refused_by_its_name(models):
    (release,) = promoted(models, "a")
    shutil.rmtree(release.parts["id"].folder)
    with pytest.raises(ModelError, match=rf"^release@1, part id: model id@1: files under .* missing or changed.*{MEND}$"):
        releases.serving(models)
    models._client.delete_model_version("llm", "1")
    with pytest.raises(ModelError, match=r"^release@1, part llm: model llm@1: none is registered under"):
        releases.serving(models)


def test_a_part_that_is_another_training_of_the_same_number_is_refused(models):
    (release,) = promoted(models, "a")
    harm(release.parts["id"])
    models._client.set_model_version_tag("id", "1", "sha256", folder_hash(release.parts["id"].folder))
    with pytest.raises(ModelError, match=rf"^release@1, part id: model id@1 is not the training that the release was made of; {MEND}$"):
        releases.serving(models)


def test_a_release_whose_list_of_parts_changed_is_refused(models):
    (release,) = promoted(models, "a")
    (release.version.folder / "release.json").write_text('{"parts": {}}')
    with pytest.raises(ModelError, match=rf"^model release@1: files under .* missing or changed since training; {MEND}$"):
        releases.serving(models)


def test_a_release_with_a_broken_part_can_be_left_by_rollback_and_by_promoting_another(models):
    parts = {"llm": trained(models, "llm")}
    first, second = promoted(models, "a", "b", parts=parts)
    broken = {"llm": trained(models, "llm", "b")}
    promoted(models, "c", parts=broken)
    harm(broken["llm"])
    assert releases.rollback(models) == second
    promoted(models, "d", parts=broken)
    releases.promote(models, releases.release(models, "1"), "whole")
    assert releases.serving(models) == first


def test_a_rollback_to_a_release_with_a_broken_part_leaves_all_as_it_was(models):
    old = {"llm": trained(models, "llm")}
    promoted(models, "a", parts=old)
    promoted(models, "b", parts={"llm": trained(models, "llm", "b")})
    harm(old["llm"])
    with pytest.raises(ModelError, match=r"^release@1, part llm: model llm@1: files under"):
        releases.rollback(models)
    assert releases.serving(models).label == "release@2"
    assert states(models) == ["was champion until", "serves"]


def test_two_releases_share_a_part(models):
    shared = trained(models, "llm")
    made(models, "a", parts={"llm": shared, "id": trained(models, "id")})
    made(models, "b", parts={"llm": shared, "id": trained(models, "id", "b")})
    assert [releases.release(models, number).parts["llm"] for number in "12"] == [shared, shared]
    assert [releases.release(models, number).parts["id"].label for number in "12"] == ["id@1", "id@2"]


def test_a_folder_that_moved_with_its_database_serves_as_before(models, tmp_path):
    promoted(models, "a")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    release = releases.serving(ModelRegistry(str(tmp_path / "elsewhere"), ""))
    assert release.version.folder == tmp_path / "elsewhere/release/a"
    assert release.parts["llm"].folder == tmp_path / "elsewhere/llm/a"


def test_a_run_of_an_older_day_refuses_a_release_that_was_trained_later_unless_told(tmp_path):
    older = {"run_date": RUN_DATE - timedelta(days=9)}
    models = workspace_in(tmp_path, None).models
    promoted(models, "a")
    run = run_of(workspace_in(tmp_path, None))
    assert (run.release().label, run.candidate().label, run.warnings) == ("release@1", "release@1", [])
    run = run_of(workspace_in(tmp_path, None, **older))
    for use in (run.release, run.candidate):
        with pytest.raises(ModelError, match=r"release@1 was trained for 2026-03-01, later than this run's 2026-02-20.*allow_newer=true"):
            use()
    run = run_of(workspace_in(tmp_path, None, "release.allow_newer=true", **older))
    assert run.release().label == "release@1+newer"
    assert run.warnings == ["release@1 was trained for 2026-03-01, later than this run's 2026-02-20: release.allow_newer is set"]
    releases.promote(models, run.candidate(), "its number is the registered one")
    assert releases.serving(models).label == "release@1"


def test_a_step_uses_only_the_releases_and_models_that_it_declares(tmp_path):
    workspace = workspace_in(tmp_path, None)
    promoted(workspace.models, "a")
    trained(workspace.models, "id", "b")
    assert run_of(workspace).newest("id").label == "id@2"
    run = run_of(workspace, Step("blind", (), (), lambda run: None, "A step that declares nothing."))
    for use in (run.release, run.candidate, lambda: run.newest("id")):
        with pytest.raises(LakeError, match=r"step blind uses (release|model/release|model/id) without declaring it in its reads"):
            use()


@pytest.fixture
def command(tmp_path, capsys, monkeypatch):
    """Return a function that runs `fashionrec release ...` in the test's folder and returns what it prints and its exit status or error."""
    monkeypatch.setenv("COLUMNS", "240")

    def run(*arguments):
        conf = ("--conf", str(ROOT / "conf/test.yaml"), "--set", f"paths.root={tmp_path}")
        try:
            cli.main(["release", *arguments, *conf])
        except SystemExit as end:
            return capsys.readouterr().out, end.code
        return capsys.readouterr().out, 0

    return run


@pytest.fixture
def shop(tmp_path):
    return workspace_in(tmp_path, None).models


def test_the_list_shows_which_release_serves_of_what_and_why(shop, command):
    promoted(shop, "a", "b")
    parts = {"llm": trained(shop, "llm", "c"), "id_serving": trained(shop, "id", "c")}
    refused = made(shop, "c", parts=parts, metrics={"ndcg_at_10": 0.38312, "seconds": 7.0})
    releases.refuse(shop, refused, "[red]worse[/red] by 3%")
    made(shop, "d", parts=parts)
    out, status = command("list")
    lines = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert status == 0
    assert [line[:5] for line in lines] == [
        ["4", "2026-03-01", "id_serving=id@2 llm@2", "", "candidate"],
        ["3", "2026-03-01", "id_serving=id@2 llm@2", "ndcg_at_10 0.3831", "refused"],
        ["2", "2026-03-01", "id@1 llm@1", "", "serves"],
        ["1", "2026-03-01", "id@1 llm@1", "", lines[3][4]],
    ]
    assert lines[3][4].startswith("was champion until 20")
    assert [line[5] for line in lines] == ["", "[red]worse[/red] by 3%", "better than before b", "better than before a"]


def test_a_narrow_list_leaves_nothing_out(shop, command, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    made(shop, "a", parts={"title_serving": trained(shop, "title")}, metrics={"recall_at_10": 0.5})
    out, _ = command("list")
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in out.splitlines() if line.startswith("│")]
    assert ["".join(column) for column in zip(*cells, strict=True)][2:4] == ["title_serving=title@1", "recall_at_100.5"]


def test_show_shows_the_release_that_serves_or_the_one_that_is_asked_for(shop, command):
    releases.promote(shop, made(shop, "a", metrics={"mrr": 0.25, "seconds": 7.0}), "[b]the first[/b]")
    made(shop, "b")
    out, status = command("show")
    part = shop.version("llm", "1")
    assert (out.splitlines()[:2], status) == (["release@1, trained for 2026-03-01: serves", "why: [b]the first[/b]"], 0)
    assert f"llm: llm@1, trained for 2026-03-01, sha256 {part.sha256}" in out.splitlines()
    assert out.splitlines()[-2:] == ["tables: items 4, prompts 7", "figures: mrr 0.25, seconds 7"]
    assert command("show", "2")[0].startswith("release@2, trained for 2026-03-01: candidate\nwhy: -\n")


def test_promote_and_rollback_say_what_serves_from_the_next_run_on(shop, command):
    promoted(shop, "a", "b")
    assert command("promote", "1") == ("release@1 serves now: the next run uses it\n", 0)
    assert releases.serving(shop).label == "release@1"
    assert command("rollback") == ("release@2 serves again: the next run uses it\n", 0)
    assert releases.serving(shop).label == "release@2"
    assert command("rollback") == (
        "",
        "error: no release to go back to served before release@2; fashionrec release promote VERSION lets any other serve",
    )


def test_a_release_with_a_broken_part_is_not_promoted(shop, command):
    harm(made(shop, "a").parts["fusion"])
    out, error = command("promote", "1")
    assert out == ""
    assert error.startswith("error: release@1, part fusion: model fusion@1: files under ")
    assert not shop.has_champion("release")


@pytest.mark.parametrize("verb", [["list"], ["show"], ["show", "7"], ["promote", "7"], ["rollback"]])
def test_without_releases_each_verb_is_one_line_and_starts_no_spark(command, verb, monkeypatch):
    monkeypatch.setattr("pyspark.sql.SparkSession.Builder.getOrCreate", lambda _: pytest.fail("Spark was started"))
    out, error = command(*verb)
    assert out == ""
    assert error.startswith("error: ")
    assert "\n" not in error


@pytest.mark.parametrize("arguments", [[], ["promote"], ["promote", "newest"], ["show", "0"], ["undo"]])
def test_a_bad_argument_is_one_line(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        cli.main(["release", *arguments])
    assert end.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("fashionrec release")
