"""A text encoder in the place of the title LSTM: nothing is trained, its figures are measured, titles and queries go through it."""

import json

import numpy as np
import pytest

from fashionrec.embeddings.spaces import encode_titles
from fashionrec.embeddings.title_training import train
from fashionrec.encoders.text import EncoderError, load_encoder
from fashionrec.settings import SettingsError, load_settings
from fashionrec.settings.load import settings_hash
from fashionrec.settings.model import ModelEncoder, NgramEncoder
from tests.builders import title_inputs
from tests.models.test_query_encoders import clip, sentence  # noqa: F401 - fixtures

TITLES = [f"Acme {noun}, {colour}, {size}" for noun in ("dress", "boots", "bag") for colour in ("red", "blue") for size in range(50)]
PAIRS = [("red dress", TITLES[3]), ("blue bag", TITLES[-1])]


def settings(kind, path=""):
    if kind == "ngram":
        return NgramEncoder(kind="ngram", min_similarity=0.5)
    return ModelEncoder(kind=kind, path=str(path), revision="", device="cpu", batch_size=64, min_similarity=0.5)


def take(encoder, folder):
    base = load_settings()
    inputs = title_inputs(folder, PAIRS, TITLES, validation=PAIRS)
    chosen = base.embeddings.title.model_copy(update={"encoder": encoder})
    return train(inputs, folder, dim=8, settings=chosen, base=base.llm.base, seed=1, device="cpu")


@pytest.mark.parametrize("kind", ["clip", "sentence", "ngram"])
def test_an_encoder_is_the_title_space_as_it_is(tmp_path, request, kind):
    encoder = settings(kind, "" if kind == "ngram" else request.getfixturevalue(kind))
    card = take(encoder, tmp_path)
    loaded = load_encoder(encoder)
    assert card["history"] == []
    assert card["encoder"] == loaded.name
    # Random weights may find nothing; hashed n-grams find what is garbled.
    assert card["metrics"]["validation_noisy_recall_at_10"] > (0 if kind == "ngram" else -1)
    assert 0 <= card["metrics"]["validation_recall_at_10"] <= 1
    vectors = encode_titles(tmp_path, ["Red  Dress", "blue bag", "red dress"])
    np.testing.assert_allclose(vectors, loaded.encode(["red dress", "blue bag", "red dress"]), atol=1e-5)
    assert {path.name for path in tmp_path.iterdir()} == {"pairs", "items", "encoder.json"}
    assert json.loads((tmp_path / "encoder.json").read_text())["revision"] == loaded.revision


def test_an_encoder_whose_files_changed_since_is_refused(tmp_path, clip):  # noqa: F811
    take(settings("ngram"), tmp_path)
    content = json.loads((tmp_path / "encoder.json").read_text())
    changed = {"name": "clip:x", "revision": "another", "settings": settings("clip", clip).model_dump()}
    (tmp_path / "encoder.json").write_text(json.dumps({**content, **changed}))
    with pytest.raises(EncoderError, match="changed during the run"):
        encode_titles(tmp_path.joinpath("."), ["red dress"])


def test_the_settings_name_an_encoder_by_its_file_and_it_changes_their_hash():
    named = load_settings(overrides=["embeddings.title.encoder=encoders/ngram.yaml"])
    assert named.embeddings.title.encoder.kind == "ngram"
    assert load_settings().embeddings.title.encoder == "lstm"
    assert settings_hash(named) != settings_hash(load_settings())
    with pytest.raises(SettingsError, match="no such settings file"):
        load_settings(overrides=["embeddings.title.encoder=encoders/none.yaml"])
