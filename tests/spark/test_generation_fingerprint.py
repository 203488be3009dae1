"""What decides an answer is in its fingerprint, each part of it; where and how fast it is computed is not."""

from dataclasses import replace

import pytest

from fashionrec.llm.engine import EngineConfig
from fashionrec.llm.generate import Sampling, with_fingerprint
from tests.builders import table_rows

CONFIG = EngineConfig("/models/1", "float32", "cpu", 1024, 1, 0.9, 17)
SAMPLING = Sampling(max_new_tokens=64, temperature=0.05, top_p=0.95)


@pytest.fixture(scope="module")
def fingerprint(spark):
    def of(config=CONFIG, sampling=SAMPLING, model_version="llm@1", prompt="abc"):
        rows = table_rows(spark, "prompts", {"split": "score", "fingerprint": prompt})
        return with_fingerprint(rows, config=config, sampling=sampling, model_version=model_version).first().fingerprint

    return of


@pytest.mark.parametrize(
    "change",
    [
        {"prompt": "abd"},
        {"model_version": "llm@2"},
        {"sampling": replace(SAMPLING, max_new_tokens=32)},
        {"sampling": replace(SAMPLING, temperature=0.0)},
        {"sampling": replace(SAMPLING, top_p=0.9)},
        {"config": replace(CONFIG, seed=18)},
        {"config": replace(CONFIG, dtype="bfloat16")},
        {"config": replace(CONFIG, max_tokens=512)},
    ],
    ids=str,
)
def test_whatever_decides_an_answer_changes_its_fingerprint(fingerprint, change):
    assert fingerprint(**change) != fingerprint()


@pytest.mark.parametrize(
    "change", [{"model": "/elsewhere"}, {"device": "cuda"}, {"cpu_kv_cache_gib": 4}, {"gpu_memory_rate": 0.5}], ids=str
)
def test_where_it_is_computed_does_not(fingerprint, change):
    assert fingerprint(config=replace(CONFIG, **change)) == fingerprint()
