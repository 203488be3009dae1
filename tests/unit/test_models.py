"""The registry hands out the champion, and only with the files that were registered."""

import pytest

from fashionrec.pipeline.models import ModelError, ModelRegistry


@pytest.fixture
def registry(tmp_path):
    return ModelRegistry(str(tmp_path / "models"), "")


def trained(registry, run_id, text):
    folder = registry.new_folder("llm", run_id)
    (folder / "weights.txt").write_text(text)
    return registry.register("llm", folder, {"rank": 16}, {"loss": 0.5}, {"prompts": 3})


def test_the_newest_version_is_champion(registry):
    trained(registry, "a", "old")
    trained(registry, "b", "new")
    champion = registry.champion("llm")
    assert champion.label == "llm@2"
    assert (champion.folder / "weights.txt").read_text() == "new"


def test_a_model_that_was_never_trained_is_an_error(registry):
    with pytest.raises(ModelError, match="model title: none is registered"):
        registry.champion("title")


@pytest.mark.parametrize("harm", ["change", "remove"])
def test_changed_or_missing_files_are_refused(registry, harm):
    version = trained(registry, "a", "good")
    weights = version.folder / "weights.txt"
    weights.write_text("bad") if harm == "change" else weights.unlink()
    with pytest.raises(ModelError, match="missing or changed since training"):
        registry.champion("llm")
