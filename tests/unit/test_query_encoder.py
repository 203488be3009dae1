# ruff: noqa: RUF001 - queries of every script are what this is about
"""Queries as text and as vectors, without Spark."""

import subprocess
import sys

import numpy as np
import pytest

from fashionrec.encoders import ngram
from fashionrec.encoders.ngram import encode
from fashionrec.encoders.text import EncoderError, load_encoder
from fashionrec.memory.normalise import normalise_text
from fashionrec.settings import SettingsError, load_settings, settings_hash


def cosine(one, two):
    return float(np.dot(*encode([one, two])))


@pytest.mark.parametrize(
    ("query", "normal"),
    [
        ("Red  DRESS!", "red dress"),
        ("décolleté", "decollete"),
        ("de\u0301collete\u0301", "decollete"),
        ("ｒｅｄ\u3000ｄｒｅｓｓ", "red dress"),
        ("men's t-shirt_xl", "men s t shirt xl"),
        ("\u0130stanbul", "istanbul"),
        ("платье №5", "платье 5"),
        ("ワンピース 赤", "ワンピース 赤"),
        ("हिन्दी", "हिन्दी"),
        ("👗 !?", ""),
        ("", ""),
    ],
)
def test_queries_that_differ_in_form_only_are_one(query, normal):
    assert normalise_text(query) == normal
    assert normalise_text(normal) == normal


def test_a_misspelling_is_near_and_another_wish_is_not():
    assert cosine("red dress", "red dres") > 0.6
    assert cosine("red dress", "dress red") == pytest.approx(1)
    assert cosine("red dress", "leather wallet") < 0.3


def test_vectors_have_length_one_and_a_text_without_words_is_zero():
    vectors = encode(["red dress", "", "x", "ワンピース"])
    assert (vectors.shape, vectors.dtype) == ((4, ngram.DIM), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1], rtol=1e-6)
    assert encode([]).shape == (0, ngram.DIM)


def test_a_vector_depends_on_its_text_alone_not_on_the_batch():
    texts = ["red dress", "a", "blue  jeans", "", "wide leg trousers", "é"]
    np.testing.assert_array_equal(encode(texts), np.concatenate([encode([text]) for text in texts]))


def test_a_vector_is_the_same_in_another_process():
    code = "from fashionrec.encoders.ngram import encode; print(encode(['red dress']).tobytes().hex())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert other.stdout.strip() == encode(["red dress"]).tobytes().hex()


def test_stored_vectors_are_recognised_by_version_and_pinned_by_value():
    # A changed hash must come with another version: stored vectors would no longer match.
    (vector,) = encode(["red"])
    places = np.flatnonzero(vector)
    assert (ngram.VERSION, ngram.DIM, places.tolist()) == ("v1", 256, [65, 81, 87, 149, 173, 216])
    np.testing.assert_allclose(vector[places] * np.sqrt(6), [1, 1, -1, 1, -1, 1], atol=1e-6)


def test_the_encoder_of_the_settings_is_known_by_name_and_revision():
    settings = load_settings().memory.encoder
    encoder = load_encoder(settings)
    assert (encoder.name, encoder.revision, settings.min_similarity) == ("ngram", ngram.VERSION, 0.45)
    np.testing.assert_array_equal(encoder.encode(["red dress"]), encode(["red dress"]))


@pytest.mark.parametrize("name", ["clip", "sentence"])
def test_the_model_encoders_of_the_settings_name_a_commit(name):
    # Of a branch, two machines may hold different states; and CLIP's main branch has no safetensors.
    encoder = load_settings(overrides=[f"memory.encoder=encoders/{name}.yaml"]).memory.encoder
    assert encoder.kind == name
    assert len(encoder.revision) == 40
    assert int(encoder.revision, 16)


def test_an_encoder_is_a_file_of_conf_and_its_keys_are_those_of_its_kind(tmp_path):
    with pytest.raises(SettingsError, match=r"encoders/none.yaml: no such settings file"):
        load_settings(overrides=["memory.encoder=encoders/none.yaml"])
    other = tmp_path / "other.yaml"
    for text, problem in (
        ("kind: word2vec", "memory.encoder"),
        ("kind: ngram\nmin_similarity: 2", "min_similarity"),
        ("kind: ngram\nmin_similarity: 0.5\npath: x", "unknown key"),
        ("kind: clip\nmin_similarity: 0.5", "path: missing"),
    ):
        other.write_text(text)
        with pytest.raises(SettingsError, match=problem):
            load_settings(overrides=[f"memory.encoder={other}"])


def test_a_folder_beside_the_encoders_file_is_found_and_does_not_change_the_hash(tmp_path):
    text = "kind: sentence\npath: model\nrevision: ''\ndevice: cpu\nbatch_size: 8\nmin_similarity: 0.5\n"
    hashes = set()
    for place in ("here", "there"):
        (tmp_path / place / "model").mkdir(parents=True)
        (tmp_path / place / "encoder.yaml").write_text(text)
        settings = load_settings(overrides=[f"memory.encoder={tmp_path / place / 'encoder.yaml'}"])
        assert settings.memory.encoder.path == str(tmp_path / place / "model")
        hashes.add(settings_hash(settings))
    assert len(hashes) == 1
    with pytest.raises(EncoderError, match=r"has no modules\.json"):
        load_encoder(settings.memory.encoder)
