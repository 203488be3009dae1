"""QLoRA: what is quantised, what is learnt, and what is refused."""

from contextlib import nullcontext

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fashionrec.llm import quantised
from fashionrec.llm.base import LanguageModelError, load_tokenizer
from fashionrec.llm.examples import IGNORED, collate, read_examples
from fashionrec.llm.fine_tune import fine_tune
from fashionrec.settings import load_settings
from tests.models.conftest import LAYERS

ROWS = [{"prompt": f"clicked a red dress {i}: ", "response": f"I{i % 3} | blue shoe"} for i in range(24)]


@pytest.fixture
def tokenizer(tiny_falcon):
    return load_tokenizer(tiny_falcon.path)


@pytest.fixture
def examples_of(tmp_path, tokenizer):
    def write_and_read(*rows, max_tokens=128):
        pq.write_table(pa.Table.from_pylist(list(rows)), tmp_path / "rows.parquet")
        return read_examples(tmp_path, tokenizer, max_tokens=max_tokens)

    return write_and_read


@pytest.fixture
def settings(tiny_falcon):
    def make(**changes):
        return load_settings().llm.model_copy(update={"base": tiny_falcon, "learning_rate": 0.01, **changes})

    return make


def test_every_linear_layer_of_a_falcon_is_held_in_4_bit(tiny_falcon):
    model = quantised.load_quantised(tiny_falcon, device="cpu")
    assert quantised.count_4bit_modules(model) == 4 * LAYERS


def test_a_base_of_which_nothing_is_quantised_is_refused(tiny_falcon, monkeypatch):
    monkeypatch.setattr(quantised, "falcon_layers_as_linear", nullcontext)
    with pytest.raises(LanguageModelError, match="no module was quantised to 4 bit"):
        quantised.load_quantised(tiny_falcon, device="cpu")


def test_a_base_that_is_not_there_is_one_line(tiny_falcon):
    missing = tiny_falcon.model_copy(update={"path": "/nowhere/base"})
    with pytest.raises(LanguageModelError, match=r"^base model /nowhere/base: cannot be read: .*; check llm.base$"):
        quantised.load_quantised(missing, device="cpu")


def test_measuring_the_loss_first_does_not_change_what_is_learnt(tiny_falcon):
    import torch

    ids = torch.arange(1, 33)[None]

    def gradient(measure_first):
        model = quantised.load_quantised(tiny_falcon, device="cpu")
        if measure_first:
            with torch.no_grad():
                model.eval()(input_ids=ids)
        model.train()
        embedded = model.get_input_embeddings()(ids).detach().requires_grad_()
        model(inputs_embeds=embedded, labels=ids).loss.backward()
        return embedded.grad

    assert torch.equal(gradient(measure_first=True), gradient(measure_first=False))


def test_only_the_response_and_the_end_are_learnt(examples_of, tokenizer):
    rows = [{"prompt": "clicked a red dress and more: ", "response": "I1 | blue shoe"}, {"prompt": "bought: ", "response": "I2 | a"}]
    batch = collate(examples_of(*rows), pad_id=tokenizer.pad_token_id)
    for row, labels, ids in zip(rows, batch["labels"], batch["input_ids"], strict=True):
        learnt = labels[labels != IGNORED].tolist()
        assert tokenizer.decode(learnt) == row["response"] + tokenizer.eos_token
        assert tokenizer.decode(ids[ids != tokenizer.pad_token_id]) == row["prompt"] + row["response"]
        assert ids[-len(learnt) :].tolist() == learnt
    assert batch["attention_mask"].sum(1).tolist() == [len(row["input_ids"]) for row in examples_of(*rows)]


def test_examples_longer_than_the_budget_are_refused_with_their_number(examples_of):
    long = {"prompt": "red " * 100 + "last: ", "response": "I1 | blue shoe"}
    with pytest.raises(LanguageModelError, match=r"2 of 3 training examples are longer than prompts.max_tokens=40 \(the longest has \d+"):
        examples_of(long, {"prompt": "x", "response": "a"}, long, max_tokens=40)


@pytest.mark.parametrize("row", [{"prompt": "x", "response": ""}, {"prompt": "", "response": "y"}])
def test_an_example_with_nothing_to_learn_is_refused(examples_of, row):
    with pytest.raises(LanguageModelError, match="a training example has a prompt of"):
        examples_of(row)


def test_logits_of_the_last_places_give_the_loss_of_all(examples_of, tokenizer, tiny_falcon):
    import torch

    from fashionrec.llm.base import load_base

    model = load_base(tiny_falcon).eval()
    examples = examples_of(*ROWS[:2], {"prompt": "bought: ", "response": "I2 | a"})
    batch = collate(examples, pad_id=tokenizer.pad_token_id)
    alone = [collate([example], pad_id=tokenizer.pad_token_id) for example in examples]
    with torch.inference_mode():
        together = float(model(**batch).loss)
        weights = [int((one["labels"] != IGNORED).sum()) for one in alone]
        losses = [
            float(model(input_ids=one["input_ids"], labels=torch.nn.functional.pad(one["labels"], (short(one), 0), value=IGNORED)).loss)
            for one in alone
        ]
    assert together == pytest.approx(sum(map(float.__mul__, losses, map(float, weights))) / sum(weights), rel=1e-5)


def short(batch):
    return batch["input_ids"].shape[1] - batch["labels"].shape[1]


def test_a_loss_that_is_no_number_stops_the_training(examples_of, tokenizer, settings, tmp_path):
    examples = examples_of(*ROWS)
    with pytest.raises(LanguageModelError, match=r"the loss is nan; lower llm.learning_rate"):
        fine_tune(settings(learning_rate=1e30, max_steps=4), tokenizer, examples, examples[:4], work=tmp_path, adapter=tmp_path / "adapter")
