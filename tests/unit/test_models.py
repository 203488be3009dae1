"""The registry hands out the champion, and only with the files that were registered."""

import subprocess
import sys

import pytest

from fashionrec.pipeline.models import ModelError, ModelRegistry
from tests.builders import RUN_DATE


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(str(tmp_path / "models"), "")


def trained(registry, run_id, text):
    folder = registry.new_folder("llm", run_id)
    (folder / "weights.txt").write_text(text)
    version = registry.register(
        "llm", folder, {"rank": 16}, {"loss_after": 0.4}, {"prompts": 3}, trained_for=RUN_DATE, curves={"loss": [(1, 0.9), (2, 0.5)]}
    )
    if not registry.has_champion("llm"):
        registry.promote(version, "the first")
    return version


def test_a_new_version_is_challenger_until_it_is_promoted(registry):
    trained(registry, "a", "old")
    new = trained(registry, "b", "new")
    assert (registry.aliased("llm", "champion").label, registry.challenger("llm").label) == ("llm@1", "llm@2")
    registry.promote(new, "better by 3%")
    champion = registry.aliased("llm", "champion")
    assert champion.label == "llm@2"
    assert (champion.folder / "weights.txt").read_text() == "new"
    assert registry._client.get_model_version("llm", "2").tags["why_champion"] == "better by 3%"


def test_a_version_keeps_how_its_loss_fell(registry):
    version = trained(registry, "a", "new")
    run_id = registry._client.get_model_version("llm", version.version).run_id
    assert [(point.step, point.value) for point in registry._client.get_metric_history(run_id, "loss")] == [(1, 0.9), (2, 0.5)]


def test_a_registry_that_cannot_be_asked_is_not_an_empty_one(tmp_path, monkeypatch):
    from mlflow.exceptions import MlflowException

    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException):
        ModelRegistry(str(tmp_path), "http://127.0.0.1:9").has_champion("llm")


def test_a_model_that_was_never_trained_is_an_error(registry):
    with pytest.raises(ModelError, match="model title: none is registered"):
        registry.challenger("title")


@pytest.mark.parametrize("harm", ["change", "remove"])
def test_changed_or_missing_files_are_refused(registry, harm):
    version = trained(registry, "a", "good")
    weights = version.folder / "weights.txt"
    weights.write_text("bad") if harm == "change" else weights.unlink()
    with pytest.raises(ModelError, match="missing or changed since training"):
        registry.challenger("llm")


def test_a_folder_that_moved_with_its_database_serves_as_before(registry, tmp_path):
    trained(registry, "a", "weights")
    (tmp_path / "models").rename(tmp_path / "elsewhere")
    champion = ModelRegistry(str(tmp_path / "elsewhere"), "").challenger("llm")
    assert champion.folder == tmp_path / "elsewhere/llm/a"
    assert (champion.folder / "weights.txt").read_text() == "weights"


def test_a_training_is_registered_although_somebody_deleted_the_experiment(registry):
    trained(registry, "a", "old")
    experiment = registry._client.get_experiment_by_name("fashionrec")
    registry._client.delete_experiment(experiment.experiment_id)
    assert trained(registry, "b", "new").label == "llm@2"


def test_processes_that_use_a_new_database_at_once_all_find_it(tmp_path):
    code = "import sys; from fashionrec.pipeline.models import ModelRegistry; print(ModelRegistry(sys.argv[1], '').has_champion('llm'))"
    command = [sys.executable, "-c", code, str(tmp_path / "models")]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    ended = [(*process.communicate(), process.returncode) for process in processes]
    assert [(out, status) for out, _, status in ended] == [("False\n", 0)] * 3, ended
