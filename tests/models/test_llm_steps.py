"""From prompts to answers: training in its own process, the real engine inside Spark, on a tiny model with random weights."""

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from fashionrec.llm import engine, launch
from fashionrec.llm.base import LanguageModelError
from fashionrec.pipeline import releases
from fashionrec.pipeline.models import ModelError, ModelVersion
from fashionrec.pipeline.steps.llm import _engine_config, generate_answers, train_llm
from fashionrec.prompts.answer import answer_regex
from tests.builders import RUN_DATE, run_of, workspace_in
from tests.models.conftest import LAYERS
from tests.models.shop import World

MAX_TOKENS, ANSWER_TOKENS = 1024, 160
# The learning rate is that of random weights.
OVERRIDES = (
    f"prompts.max_tokens={MAX_TOKENS}",
    f"prompts.answer_tokens={ANSWER_TOKENS}",
    f"generation.max_new_tokens={ANSWER_TOKENS}",
    "generation.temperature=0",
    "generation.batch_size=7",
    "llm.learning_rate=0.02",
    "llm.epochs=3",
    "llm.canary_rate=0.1",
)


def prompt(number, split, **fields):
    answer = None if split == "score" else f"I{number % 3} | blue shoe"
    target = None if split == "score" else f"I{number % 3}"
    names = {"example_id": f"{split}-{number}", "user_id": f"user-{split}-{number}", "split": split}
    return {**names, "prompt": f"clicked a red dress {number}: ", "response": answer, "target_item_id": target, **fields}


@pytest.fixture(scope="module")
def run_in(spark, tiny_falcon):
    def make(folder, *overrides):
        workspace = workspace_in(folder, spark, *OVERRIDES, *overrides)
        llm = workspace.settings.llm.model_copy(update={"base": tiny_falcon})
        return run_of(replace(workspace, settings=workspace.settings.model_copy(update={"llm": llm})))

    return make


@pytest.fixture(scope="module")
def trained(spark, run_in, tmp_path_factory):
    """Return the folder of a run that has trained on 24 prompts, and the run; a release of what was trained serves."""
    folder = tmp_path_factory.mktemp("trained")
    run = run_in(folder)
    rows = [prompt(i, "train") for i in range(24)] + [prompt(i, "validation") for i in range(4)] + [prompt(i, "test") for i in range(10)]
    rows += [prompt(i, "score") for i in range(10)]
    rows += [prompt(10, "score", prompt=""), prompt(11, "score", prompt="red " * MAX_TOKENS)]
    World(spark, folder).write("prompts", *rows)
    train_llm(run)
    models = run.workspace.models
    parts = {"llm": run.newest("llm")}
    release = releases.make_release(models, parts, run_id="first", inputs={}, metrics={}, trained_for=RUN_DATE)
    releases.promote(models, release, "the first")
    return folder, run


@pytest.fixture(scope="module")
def answered(trained, run_in):
    """Return the rows of two runs of the step, by example, and the second run."""
    folder, _ = trained
    answers = []
    for _ in range(2):
        run = run_in(folder)
        generate_answers(run)
        answers.append({row.example_id: row for row in run.read("generations").collect()})
    return answers, run


def test_training_lowers_the_loss_of_prompts_it_has_not_seen(trained):
    figures = trained[1].figures
    assert figures["modules_4bit"] == 4 * LAYERS
    assert figures["loss_after"] < 0.8 * figures["loss_before"]
    assert figures["merge_agreement"] >= 0.95
    assert figures["served_agreement"] >= 0.95


def test_the_registered_version_holds_weights_adapter_and_card_and_nothing_else(trained):
    model = trained[1].newest("llm")
    assert sorted(path.name for path in model.folder.iterdir()) == ["adapter", "card.json", "golden.json", "merged"]
    assert not [path for path in model.folder.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    card = json.loads((model.folder / "card.json").read_text())
    assert card["inputs"] == {"prompts": trained[1].versions_read["prompts"]}
    assert card["metrics"]["loss_after"] == trained[1].figures["loss_after"]


def test_the_version_keeps_what_its_weights_give_away_and_the_day_has_a_page_of_it(trained):
    folder, run = trained
    card = json.loads((run.release().parts["llm"].folder / "card.json").read_text())
    assert [row["copies"] for row in card["memorisation"]["canaries"]] == [1, 2, 0, 0]
    assert card["metrics"]["canaries"] == 2
    assert run.figures["canary_exposure"] == card["metrics"]["canary_exposure"]
    page = (folder / "reports" / "2026-03-01" / "language_model.html").read_text()
    assert all(row["query"] in page for row in card["memorisation"]["canaries"] if row["copies"])


def test_a_training_is_a_candidate_and_answers_nothing_until_its_release_serves(trained, run_in, monkeypatch):
    folder, run = trained
    first = run.newest("llm")
    assert first.label == "llm@1"

    def train_alike(_, job):
        job.work.mkdir(exist_ok=True)
        shutil.copytree(first.folder, job.output, dirs_exist_ok=True)
        return json.loads((first.folder / "card.json").read_text())

    monkeypatch.setattr(launch, "train", train_alike)
    train_llm(run_in(folder))
    assert (run.release().parts["llm"].label, run.newest("llm").label) == ("llm@1", "llm@2")
    assert not (folder / "models" / "llm" / "_unfinished").exists()


def test_every_prompt_of_the_splits_is_answered_once_for_its_own_user(answered):
    (answers, _), run = answered
    asked = {row.example_id: row for row in run.read("prompts").where("split IN ('test', 'score')").collect()}
    assert run.rows_written["generations"] == len(asked) == 22
    assert answers.keys() == asked.keys()
    for example_id, row in answers.items():
        for column in ("user_id", "category", "split", "target_item_id"):
            assert row[column] == asked[example_id][column]
        assert row.model_version == "llm@1"


def test_each_answer_keeps_what_decided_it(answered):
    (first, second), _ = answered
    fingerprints = {name: row.fingerprint for name, row in first.items()}
    assert fingerprints == {name: row.fingerprint for name, row in second.items()}
    assert all(re.fullmatch("[0-9a-f]{64}", fingerprint) for fingerprint in fingerprints.values())


def test_answers_have_the_one_format(answered):
    rows = [row for row in answered[0][0].values() if row.finish_reason != "skipped"]
    assert len(rows) == 20
    for row in rows:
        assert row.finish_reason == "stop"
        assert re.fullmatch(answer_regex(), row.answer)
        assert row.answer == f"{row.item_id} | {row.title}"
        assert row.parse_error is None
        assert row.log_prob < 0


def test_prompts_that_the_engine_would_refuse_are_skipped_and_the_others_answered(answered):
    skipped = {row.example_id: row for row in answered[0][0].values() if row.finish_reason == "skipped"}
    assert skipped.keys() == {"score-10", "score-11"}
    assert skipped["score-10"].parse_error == "empty prompt"
    assert re.fullmatch(rf"prompt of \d+ tokens, {MAX_TOKENS - ANSWER_TOKENS} fit", skipped["score-11"].parse_error)
    figures = answered[1].figures
    assert figures["malformed_answer_rate"] == pytest.approx(2 / 22)
    assert figures["skipped_prompts"] == 2


def test_without_temperature_two_runs_give_the_same_answers(answered):
    first, second = ({key: row.answer for key, row in answers.items()} for answers in answered[0])
    assert first == second


def test_no_training_prompts_is_one_line_and_leaves_no_folder(spark, run_in, tmp_path):
    run = run_in(tmp_path)
    World(spark, tmp_path).write("prompts", prompt(0, "test"))
    with pytest.raises(LanguageModelError, match="prompts of 2026-03-01 hold no training examples"):
        train_llm(run)
    assert not list((tmp_path / "models" / "llm").iterdir())


def test_training_that_fails_in_its_process_is_one_line_and_registers_nothing(spark, run_in, tmp_path):
    run = run_in(tmp_path, "prompts.max_tokens=170", "llm.canary_rate=0")
    World(spark, tmp_path).write("prompts", prompt(0, "train", response="x" * 500), prompt(0, "validation"))
    with pytest.raises(LanguageModelError, match=r"^1 of 1 training examples are longer than prompts.max_tokens=170"):
        train_llm(run)
    assert not list((tmp_path / "models" / "llm").iterdir())
    with pytest.raises(ModelError, match="none is registered"):
        run.newest("llm")


def test_an_adapter_is_served_beside_the_base_that_it_was_trained_on(run_in, tiny_bases, tmp_path):
    run, llama, qwen = run_in(tmp_path), tiny_bases("LlamaForCausalLM"), tiny_bases("Qwen3ForCausalLM")
    (tmp_path / "card.json").write_text(json.dumps({"base": llama.model_dump(mode="json")}))

    def config_beside(base):
        llm = run.settings.llm.model_copy(update={"base": base})
        run.workspace = replace(run.workspace, settings=run.settings.model_copy(update={"llm": llm}))
        return _engine_config(run, ModelVersion("llm", "7", tmp_path, "", RUN_DATE))

    moved = llama.model_copy(update={"path": f"/elsewhere/{Path(llama.path).name}"})
    for base, served in ((llama, llama.path), (qwen, llama.path), (moved, moved.path)):
        config = config_beside(base)
        assert (config.model, config.adapter) == (served, str(tmp_path / "adapter"))


def test_a_second_engine_on_a_device_is_refused_in_seconds(monkeypatch):
    waited = []
    monkeypatch.setattr(engine, "time", SimpleNamespace(monotonic=lambda: sum(waited), sleep=waited.append))
    config = engine.EngineConfig("/nowhere", "float32", "cpu", 512, 1, 0.9, 17)
    device = f"test-{os.getpid()}"
    held = engine._lock_device(device)
    refused = pytest.raises(LanguageModelError, match=f"device {device} has an engine of another process")
    with refused, engine.engine(config, device_id=device):
        pass
    assert 5 < sum(waited) < 15
    held.close()
    engine._lock_device(device).close()
