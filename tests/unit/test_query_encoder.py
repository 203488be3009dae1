# ruff: noqa: RUF001 - queries of every script are what this is about
"""Queries as text and as vectors, without Spark."""

import subprocess
import sys

import numpy as np
import pytest

from fashionrec.memory.encoder import encode, encoder_name
from fashionrec.memory.look_up import nearest
from fashionrec.memory.normalise import normalise_text

DIM = 256


def cosine(one, two):
    return float(np.dot(*encode([one, two], dim=DIM)))


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
    vectors = encode(["red dress", "", "x", "ワンピース"], dim=DIM)
    assert (vectors.shape, vectors.dtype) == ((4, DIM), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 0, 1, 1], rtol=1e-6)
    assert encode([], dim=DIM).shape == (0, DIM)


def test_a_vector_depends_on_its_text_alone_not_on_the_batch():
    texts = ["red dress", "a", "blue  jeans", "", "wide leg trousers", "é"]
    together = encode(texts, dim=DIM)
    np.testing.assert_array_equal(together, np.concatenate([encode([text], dim=DIM) for text in texts]))


def test_a_vector_is_the_same_in_another_process():
    code = "from fashionrec.memory.encoder import encode; print(encode(['red dress'], dim=256).tobytes().hex())"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": "7"})
    assert other.stdout.strip() == encode(["red dress"], dim=DIM).tobytes().hex()


def test_stored_vectors_are_recognised_by_name_and_pinned_by_value():
    # A changed hash must come with another version in the name: stored vectors would no longer match.
    assert encoder_name(DIM) == "ngram-v1-256"
    (vector,) = encode(["red"], dim=8)
    np.testing.assert_allclose(vector * np.sqrt(6), [1, 2, 0, 0, 0, 0, 0, -1], atol=1e-6)


def test_the_nearest_come_first_with_their_cosines():
    vectors = encode(["blue jeans", "red dress", "red dresses"], dim=DIM)
    places, similarities = nearest(encode(["red dress"], dim=DIM), vectors, count=2)
    assert places.tolist() == [[1, 2]]
    assert similarities[0, 0] == pytest.approx(1)
    assert nearest(vectors, vectors[:1], count=5)[0].shape == (3, 1)
