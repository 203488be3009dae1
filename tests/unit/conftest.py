"""What the unit tests share: a token counter of every kind of tokenizer, and a small category."""

import pytest

from benchmarks.falcon_like import falcon_like
from fashionrec.prompts import TokenCounter, token_counter
from tests.conftest import ROOT
from tests.unit.category_made import category
from tests.unit.tokenizers_made import joining, llama_like, metaspace

TOKENIZERS = {
    "tiny": lambda _: token_counter(str(ROOT / "conf/models/tiny"), ""),
    "falcon-like": lambda folder: token_counter(str(falcon_like(folder)), ""),
    "metaspace": lambda folder: TokenCounter(metaspace()),
    "llama-like": lambda folder: TokenCounter(llama_like()),
    "joining": lambda folder: TokenCounter(joining()),
}


@pytest.fixture(scope="module", params=TOKENIZERS)
def tokens(request, tmp_path_factory):
    return TOKENIZERS[request.param](tmp_path_factory.mktemp("tokenizer"))


@pytest.fixture
def shop(tmp_path):
    """Return what makes a small category in a folder of the test: see `category_made.category`."""
    return lambda *args, **kwargs: category(tmp_path, *args, **kwargs)
