"""The tiny base that ships: what its weights do, that its program gives the same bytes, and the demo's world is in none of its texts."""

import re
from itertools import product
from random import Random

import pytest
from tokenizers import Tokenizer

from fashionrec.prompts import Product, load_template
from fashionrec.sources.world.words import brands
from tests.conftest import ROOT
from tools.tiny_base import text
from tools.tiny_base.check import skill
from tools.tiny_base.make import Stage, make
from tools.tiny_base.tasks import PRODUCT, right_answer, tasks

BASE = ROOT / "conf/models/tiny"
TEMPLATE = ROOT / "conf/prompts/fashion-v2.yaml"
TINIER = {"hidden_size": 64, "num_attention_heads": 1, "num_hidden_layers": 1}


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.from_file(str(BASE / "tokenizer.json"))


@pytest.mark.parametrize("length", ["short", "long"])
def test_the_shipped_weights_answer_with_a_product_of_the_prompt(tokenizer, length):
    import torch
    from transformers import FalconForCausalLM

    model, loading = FalconForCausalLM.from_pretrained(BASE, dtype=torch.float32, use_safetensors=True, output_loading_info=True)
    assert {name: found for name, found in loading.items() if found} == {}
    known = tasks(tokenizer, load_template(TEMPLATE))
    shares = skill(model.eval(), tokenizer, known[length], count=40, seed=2_000)
    assert shares.known_id >= 0.95
    assert shares.known_line >= 0.6


def test_a_new_answer_is_a_product_that_its_prompt_does_not_name(tokenizer):
    task, rng = tasks(tokenizer, load_template(TEMPLATE))["new"], Random(1)
    for _ in range(50):
        sample = task(rng)
        start = len(sample.tokens) - sample.answers[::-1].index(False)
        asked, answer = (tokenizer.decode(part) for part in (sample.tokens[:start], sample.tokens[start:]))
        named = [line[2] for line in PRODUCT.finditer(asked)]
        item_id = answer.partition(" | ")[0]
        assert item_id not in named
        assert [re.sub(r"\d", "0", item_id)] == list({re.sub(r"\d", "0", name) for name in named})


def test_what_ships_is_small_and_safe():
    assert sorted(path.name for path in BASE.iterdir()) == [
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
    ]
    assert sum(path.stat().st_size for path in BASE.iterdir()) <= 20 * 2**20


def test_any_number_is_read_in_pairs_of_digits(tokenizer):
    for pair in range(100):
        assert tokenizer.encode(f"{pair:02}7").tokens == [f"{pair:02}", "7"]
    assert tokenizer.encode("SKU-00123").tokens[-3:] == ["00", "12", "3"]


def test_the_same_program_gives_the_same_bytes(tmp_path):
    stages = (Stage("bytes", 2, 4, {"bytes": 1.0}), Stage("mixed", 6, 2, {"tokens": 0.2, "lines": 0.2, "short": 0.4, "new": 0.2}))
    for name in ("one", "two", "other"):
        make(tmp_path / name, TEMPLATE, stages, seed=18 if name == "other" else 17, **TINIER)
    one, two, other = ({path.name: path.read_bytes() for path in sorted((tmp_path / name).iterdir())} for name in ("one", "two", "other"))
    assert one == two
    assert {name for name in one if one[name] != other[name]} == {"model.safetensors"}
    assert one["tokenizer.json"] == (BASE / "tokenizer.json").read_bytes()


def test_no_brand_of_the_demos_world_is_in_the_made_up_texts(monkeypatch):
    demo = {brand.name.lower() for brand in brands(8_290)}
    spelt = {"".join(parts) for count in (2, 3) for parts in product(text._SYLLABLES, repeat=count)}
    assert demo & (spelt | {word.lower() for word in text.all_words()}) == {"corvina"}
    monkeypatch.setattr(text, "_SYLLABLES", ("cor", "vi", "na"))
    rng = Random(1)
    assert "corvina" not in {text.random_word(rng) for _ in range(1_000)}


def test_no_made_up_title_is_one_of_the_demos_world():
    # There, every title begins with its brand.
    demo = {brand.name.lower() for brand in brands(8_290)}
    rng = Random(1)
    titles = [text.random_title(rng, kind) for kind in text.KINDS for _ in range(2_000)]
    assert [title for title in titles if title.split()[0].lower() in demo] == []


RESULTS = "Today:\nsearched: red dress\n1. 11 | Red dress\n2. 22 | Rose dress, M\n"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (RESULTS, Product("11", "Red dress")),
        (RESULTS + "clicked: 11 | Red dress (size M)\n", Product("22", "Rose dress, M")),
        (RESULTS + "clicked: 11 | Red dress\nclicked: 22 | Rose dress, M\n", Product("22", "Rose dress, M")),
        (RESULTS + "searched: blue\nclicked: 33 | Blue dress\n", Product("33", "Blue dress")),
        ("bought: 11 | Red dress\nbought: 44 | Scarf, green (price 3.50)\n", Product("44", "Scarf, green")),
    ],
)
def test_the_right_answer_is_the_first_find_that_was_not_clicked_else_the_newest_product(text, answer):
    assert right_answer(text) == answer
