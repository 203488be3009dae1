"""CLIP's text tower and the sentence encoder: the real loading code, on tiny models with random weights."""

import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest

from fashionrec.encoders.text import EncoderError, load_encoder
from fashionrec.settings.model import ModelEncoder

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TEXTS = ["red dress", "a", "wide leg trousers for a summer wedding", "blue jeans", "dress red", "red dress"]


def settings(kind, path, **fields):
    return ModelEncoder(
        **{"kind": kind, "path": str(path), "revision": "", "device": "cpu", "batch_size": 2, "min_similarity": 0.5, **fields}
    )


@pytest.fixture(scope="session")
def clip(tmp_path_factory) -> Path:
    """Return the folder of a CLIP, both towers as on a hub, with 16 positions and vectors of 8."""
    import torch
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPConfig, CLIPModel, CLIPTokenizer

    folder = tmp_path_factory.mktemp("models") / "tiny-clip"
    letters = sorted(ByteLevel.alphabet())
    words = [*letters, *(f"{letter}</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]
    CLIPTokenizer(vocab={word: place for place, word in enumerate(words)}, merges=[]).save_pretrained(str(folder))
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    special = {"bos_token_id": len(words) - 2, "eos_token_id": len(words) - 1, "pad_token_id": len(words) - 1}
    text = {**shape, **special, "vocab_size": len(words), "max_position_embeddings": 16, "projection_dim": 8}
    torch.manual_seed(0)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config={**shape, "image_size": 8, "patch_size": 4}, projection_dim=8))
    # As initialised, all vectors are nearly one.
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.5)
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="session")
def sentence(tmp_path_factory) -> Path:
    """Return the folder of a sentence encoder whose pooling is not the default one: the first token's state, not the mean."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense, Pooling, Transformer
    from transformers import BertConfig, BertModel, BertTokenizer

    bert, folder = tmp_path_factory.mktemp("bert"), tmp_path_factory.mktemp("models") / "tiny-sentence"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *"abcdefghijklmnopqrstuvwxyz", *(f"##{c}" for c in "abcdefghijklmnopqrstuvwxyz")]
    BertTokenizer(vocab={word: place for place, word in enumerate(words)}).save_pretrained(str(bert))
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    model = BertModel(BertConfig(**shape, vocab_size=len(words), max_position_embeddings=48, initializer_range=0.5))
    model.save_pretrained(str(bert))
    modules = [Transformer(str(bert)), Pooling(16, pooling_mode="cls"), Dense(16, 8)]
    SentenceTransformer(modules=modules, device="cpu").save_pretrained(str(folder))
    return folder


@pytest.fixture(params=["clip", "sentence"])
def model(request):
    return request.param, request.getfixturevalue(request.param)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """Return the cache folder of a hub that cannot be reached."""
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_clip_gives_the_projected_text_features_of_transformers(clip):
    import torch
    from transformers import AutoTokenizer, CLIPModel

    inputs = AutoTokenizer.from_pretrained(clip)(["red dress"], return_tensors="pt")
    with torch.inference_mode():
        expected = CLIPModel.from_pretrained(clip).get_text_features(**inputs)
    expected = torch.nn.functional.normalize(getattr(expected, "pooler_output", expected)).numpy()
    np.testing.assert_allclose(load_encoder(settings("clip", clip)).encode(["red dress"]), expected, atol=1e-6)


def test_the_sentence_encoder_pools_as_its_own_files_say(sentence):
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    inputs = AutoTokenizer.from_pretrained(sentence)(["red dress"], return_tensors="pt")
    with torch.inference_mode():
        first = AutoModel.from_pretrained(sentence)(**inputs).last_hidden_state[:, 0]
        (dense,) = sentence.glob("*_Dense/model.safetensors")
        weights = load_file(dense)
        expected = torch.tanh(first @ weights["linear.weight"].T + weights["linear.bias"])
    expected = torch.nn.functional.normalize(expected).numpy()
    np.testing.assert_allclose(load_encoder(settings("sentence", sentence)).encode(["red dress"]), expected, atol=1e-6)


def test_a_vector_is_the_same_alone_and_in_any_batch(model):
    kind, folder = model
    vectors = load_encoder(settings(kind, folder)).encode(TEXTS)
    assert (vectors.shape, vectors.dtype) == ((len(TEXTS), 8), np.float32)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    alone = load_encoder(settings(kind, folder, batch_size=1))
    np.testing.assert_allclose(vectors, np.concatenate([alone.encode([text]) for text in TEXTS]), atol=1e-5)
    np.testing.assert_allclose(vectors, load_encoder(settings(kind, folder, batch_size=64)).encode(TEXTS[::-1])[::-1], atol=1e-5)
    # Different texts are told apart, so the comparisons above could have failed.
    assert np.abs(vectors[0] - vectors[3]).max() > 0.01
    np.testing.assert_array_equal(vectors, load_encoder(settings(kind, folder)).encode(TEXTS))


def test_a_text_longer_than_the_model_reads_is_cut(model):
    kind, folder = model
    encoder = load_encoder(settings(kind, folder))
    long, longer = encoder.encode(["dress " * 40, "dress " * 400])
    np.testing.assert_allclose(long, longer, atol=1e-5)


def test_no_texts_give_no_vectors(model):
    kind, folder = model
    assert len(load_encoder(settings(kind, folder)).encode([])) == 0


def test_the_revision_of_a_folder_changes_with_its_weights_and_tokenizer_and_not_with_its_place(model, tmp_path):
    kind, folder = model
    encoder = load_encoder(settings(kind, folder))
    assert encoder.name == f"{kind}:{folder.name}"
    copy = Path(shutil.copytree(folder, tmp_path / folder.name))
    (copy / "README.md").write_text("no part of it")
    assert load_encoder(settings(kind, copy)).revision == encoder.revision
    for name in ("model.safetensors", "tokenizer.json"):
        content = bytearray((copy / name).read_bytes())
        content[-10] ^= 1
        (copy / name).write_bytes(content)
        assert load_encoder(settings(kind, copy)).revision != encoder.revision
        shutil.copy(folder / name, copy / name)


def test_a_folder_that_changes_after_its_revision_was_taken_is_refused(clip, tmp_path):
    copy = Path(shutil.copytree(clip, tmp_path / "clip"))
    encoder = load_encoder(settings("clip", copy))
    config = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps({**config, "logit_scale_init_value": 1}))
    with pytest.raises(EncoderError, match="changed during the run"):
        encoder.encode(["red dress"])


def test_a_hubs_model_is_pinned_to_the_commit_and_read_without_a_network(model, hub):
    kind, folder = model
    cached = hub / "models--shop--tiny"
    shutil.copytree(folder, cached / "snapshots" / COMMIT)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(COMMIT)
    for revision in ("", "main", COMMIT):
        encoder = load_encoder(settings(kind, "shop/tiny", revision=revision))
        assert (encoder.name, encoder.revision) == (f"{kind}:shop/tiny", COMMIT)
    np.testing.assert_array_equal(encoder.encode(TEXTS), load_encoder(settings(kind, folder)).encode(TEXTS))


@pytest.mark.parametrize("path", ["shop/none", "/no/such/folder", "no such name"])
def test_a_model_that_is_nowhere_is_one_clear_line(hub, path):
    with pytest.raises(EncoderError, match="no such folder") as error:
        load_encoder(settings("clip", path))
    assert "check its file in conf/encoders" in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_no_model_of_its_kind_is_one_clear_line(clip, sentence, tmp_path):
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        load_encoder(settings("clip", tmp_path))
    with pytest.raises(EncoderError, match=r"has no modules\.json"):
        load_encoder(settings("sentence", clip))
    # Its weights would be random numbers.
    with pytest.raises(EncoderError, match="weights of a CLIP text tower are missing") as error:
        load_encoder(settings("clip", sentence)).encode(["red dress"])
    assert "\n" not in str(error.value)


def test_weights_that_would_be_unpickled_are_refused(model, tmp_path):
    import torch

    kind, folder = model
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "pytorch_model.bin").write_bytes(b"beside safetensors nobody reads it")
    load_encoder(settings(kind, copy))
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(EncoderError, match="safetensors"):
        load_encoder(settings(kind, copy))


def test_code_that_comes_with_a_model_is_not_run(sentence, tmp_path):
    copy = Path(shutil.copytree(sentence, tmp_path / "model"))
    modules = json.loads((copy / "modules.json").read_text())
    modules[-1]["type"] = "own_module.Own"
    (copy / "modules.json").write_text(json.dumps(modules))
    (copy / "own_module.py").write_text(f"open({str(tmp_path / 'run')!r}, 'w')")
    with pytest.raises(EncoderError, match="cannot be loaded"):
        load_encoder(settings("sentence", copy)).encode(["red dress"])
    assert not (tmp_path / "run").exists()


def test_a_broken_weights_file_and_a_missing_device_are_one_clear_line(model, tmp_path):
    import torch

    kind, folder = model
    copy = Path(shutil.copytree(folder, tmp_path / "model"))
    (copy / "model.safetensors").write_bytes((copy / "model.safetensors").read_bytes()[:1000])
    with pytest.raises(EncoderError, match="cannot be loaded") as error:
        load_encoder(settings(kind, copy)).encode(["red dress"])
    assert "\n" not in str(error.value)
    if not torch.cuda.is_available():
        with pytest.raises(EncoderError, match="cannot be loaded"):
            load_encoder(settings(kind, folder, device="cuda")).encode(["red dress"])


def test_spark_workers_load_the_model_once_and_give_the_same_vectors(spark, clip, tmp_path):
    from fashionrec.encoders.text import Encoder
    from fashionrec.memory.vectors import embed_queries

    # Defined here, so that it travels to Spark's workers by value; the module with the loaded model is imported there by name.
    class Counting(Encoder):
        def encode(self, texts):
            vectors = super().encode(texts)
            (tmp_path / f"{os.getpid()} {time.monotonic_ns()}").write_text(str(_loads()))
            return vectors

    def _loads():
        from fashionrec.encoders import text

        return text._encode.cache_info().misses

    real = load_encoder(settings("clip", clip))
    queries = [f"{colour} dress {size}" for colour in ("red", "blue", "green", "navy") for size in range(40)]
    frame = spark.createDataFrame([(query,) for query in queries], "query string")
    # Several batches per worker, and the tasks of two passes.
    spark.conf.set("spark.sql.execution.arrow.maxRecordsPerBatch", "30")
    try:
        embedded = embed_queries(frame, encoder=Counting(real.name, real.revision, real.settings), partitions=2)
        rows, again = embedded.collect(), embedded.collect()
    finally:
        spark.conf.unset("spark.sql.execution.arrow.maxRecordsPerBatch")
    loads = [path.read_text() for path in tmp_path.iterdir() if path.name.split()[0].isdigit()]
    assert len(loads) >= 12
    assert set(loads) == {"1"}
    assert {(row.encoder, row.revision) for row in rows} == {("clip:tiny-clip", real.revision)}
    vectors, second = ({row.query: row.embedding for row in one} for one in (rows, again))
    assert vectors == second
    np.testing.assert_allclose([vectors[query] for query in queries], real.encode(queries), atol=1e-5)
