"""Canaries: what is planted, and whether the report sees what the weights keep."""

import math

import pytest

from fashionrec.llm import memorisation
from fashionrec.llm.base import load_tokenizer
from fashionrec.llm.canaries import make_canaries, other_ids, planted_rows
from fashionrec.llm.examples import read_examples
from fashionrec.llm.fine_tune import fine_tune
from fashionrec.llm.memorisation import ALTERNATIVES, measure_memorisation
from fashionrec.prompts import Renderer, load_template, token_counter
from fashionrec.settings import load_settings, resource

TINY = str(resource("conf") / "models" / "tiny")


@pytest.fixture(scope="module")
def renderer():
    template = load_template(resource("conf") / "prompts" / "fashion-v2.yaml")
    return Renderer(template, token_counter(TINY, ""), budget=448, answer_tokens=64, products_per_query=5, attributes=True)


@pytest.fixture(scope="module")
def canaries(renderer):
    return make_canaries(15, renderer, "Clothing", seed=3)


def test_canaries_fill_the_rows_and_as_many_are_controls(canaries):
    assert [canary.copies for canary in canaries] == [1, 2, 4, 8, 0, 0, 0, 0]
    assert len(planted_rows(canaries)) == 15
    assert len({canary.item_id for canary in canaries}) == len({canary.query for canary in canaries}) == 8


@pytest.mark.parametrize("rows", [1, 2, 5, 16, 33])
def test_any_number_of_rows_is_filled(renderer, rows):
    assert len(planted_rows(make_canaries(rows, renderer, "Bags", seed=3))) == rows


def test_a_seed_makes_the_same_canaries_and_another_seed_others(renderer, canaries):
    assert make_canaries(15, renderer, "Clothing", seed=3) == canaries
    assert not {canary.item_id for canary in make_canaries(15, renderer, "Clothing", seed=4)} & {canary.item_id for canary in canaries}


def test_a_canary_is_asked_in_the_words_of_any_prompt(canaries):
    for canary in canaries:
        assert f"searched: {canary.query}\n" in canary.prompt
        assert canary.item_id not in canary.prompt
        assert canary.response == f"{canary.item_id} | {canary.title}"


def test_the_other_ids_are_drawn_alike_and_are_not_the_canary(canaries):
    others = other_ids(canaries[0], 255, seed=1)
    assert len(set(others)) == 255
    assert canaries[0].item_id not in others
    assert {len(other) for other in others} == {len(canaries[0].item_id)}


def test_weights_that_were_trained_on_canaries_are_seen_to_know_them(canaries, tmp_path):
    import pyarrow as pa
    import pyarrow.parquet as pq

    settings = load_settings(overrides=["llm.learning_rate=0.01", "llm.hard_rate=0", "llm.epochs=15", "llm.seed=3"])
    tokenizer = load_tokenizer(TINY)
    often_and_never = [canary for canary in canaries if canary.copies in (8, 0)]
    rows = [{"prompt": prompt, "response": response} for _, prompt, response in planted_rows(often_and_never)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    examples = read_examples(tmp_path / "rows.parquet", tokenizer, max_tokens=512)
    fine_tune(settings.llm, tokenizer, examples, examples[:4], work=tmp_path / "work", adapter=tmp_path / "adapter")
    report = measure_memorisation(settings.llm, tokenizer, often_and_never, adapter=tmp_path / "adapter")
    by_copies = {row["copies"]: row for row in report["by_copies"]}
    assert by_copies[8]["exposure"] == math.log2(ALTERNATIVES + 1)
    assert by_copies[8]["reproduced"] == 1
    assert by_copies[8]["exposure"] > by_copies[8]["exposure_before"]
    assert by_copies[0]["exposure"] < 5
    assert by_copies[0]["reproduced"] == 0


def test_exposure_is_that_of_the_losses_by_hand(canaries, tmp_path, monkeypatch):
    """One forward pass per response, without a cache, gives the same rank."""
    monkeypatch.setattr(memorisation, "ALTERNATIVES", 63)
    monkeypatch.setattr(memorisation, "_BATCH", 40)
    import torch

    from fashionrec.llm.base import load_base
    from fashionrec.llm.examples import prompt_ids

    settings = load_settings()
    tokenizer = load_tokenizer(TINY)
    from fashionrec.llm.fine_tune import with_adapter

    model = with_adapter(settings.llm)
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    model.save_pretrained(str(tmp_path / "adapter"))
    found = measure_memorisation(settings.llm, tokenizer, canaries[:1], adapter=tmp_path / "adapter")["canaries"][0]

    from peft import PeftModel

    model = PeftModel.from_pretrained(load_base(settings.llm.base), str(tmp_path / "adapter")).eval()
    (prompt,) = prompt_ids(tokenizer, [canaries[0].prompt])

    def nats(item_id):
        ids = tokenizer(canaries[0].response.replace(canaries[0].item_id, item_id), add_special_tokens=False).input_ids
        tokens = torch.tensor([*prompt, *ids, tokenizer.eos_token_id])
        with torch.inference_mode():
            logs = torch.log_softmax(model(input_ids=tokens[None]).logits[0, :-1], -1)
        return -float(logs[torch.arange(len(tokens) - 1), tokens[1:]][len(prompt) - 1 :].sum())

    others, own = [nats(other) for other in other_ids(canaries[0], 63, seed=settings.llm.seed)], nats(canaries[0].item_id)
    rank = 1 + sum(other < own for other in others)
    assert 1 < rank < 64
    assert found["exposure"] == pytest.approx(math.log2(64) - math.log2(rank), abs=0.05)
