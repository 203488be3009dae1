"""The base models of conf/models: every layer that is to learn is in 4 bit and gets an adapter, and vLLM serves it as the file says."""

import json
from contextlib import nullcontext
from pathlib import Path

import pytest

from fashionrec.llm import quantised
from fashionrec.llm.base import LanguageModelError, load_base, unpinned
from fashionrec.llm.golden import check_served
from fashionrec.settings import load_settings
from tests.conftest import ROOT
from tests.models.conftest import HEADS, INNER, KEY_VALUE_HEADS, LAYERS, WIDTH

# The files and the class of transformers and vLLM that each model's configuration names.
ARCHITECTURES = {
    "tiny": "FalconForCausalLM",
    "falcon-7b": "FalconForCausalLM",
    "falcon3-7b": "LlamaForCausalLM",
    "llama-3.1-8b": "LlamaForCausalLM",
    "mistral-7b": "MistralForCausalLM",
    "qwen3-8b": "Qwen3ForCausalLM",
}
# A Qwen of before is one line of settings away.
ALL = sorted({*ARCHITECTURES.values(), "Qwen2ForCausalLM"})
RANK = 16
_HEAD = WIDTH // HEADS
# Inputs and outputs of the targeted layers of one block.
FALCON_SHAPES = [(WIDTH, WIDTH + 2 * _HEAD), (WIDTH, WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH, WIDTH)]
LLAMA_SHAPES = [(WIDTH, WIDTH), *[(WIDTH, KEY_VALUE_HEADS * _HEAD)] * 2, (WIDTH, WIDTH), *[(WIDTH, INNER)] * 2, (INNER, WIDTH)]


def base_of(name):
    return load_settings(ROOT / "conf/demo.yaml", [f"llm.base=models/{name}.yaml"]).llm.base


def shapes(architecture):
    return FALCON_SHAPES if architecture == "FalconForCausalLM" else LLAMA_SHAPES


def test_every_file_of_a_base_is_known_here():
    assert {path.stem for path in (ROOT / "conf/models").glob("*.yaml")} == ARCHITECTURES.keys()
    assert json.loads((ROOT / "conf/models/tiny/config.json").read_text())["architectures"] == [ARCHITECTURES["tiny"]]


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_file_says_of_live_adapters_what_vllm_says(name, vllm_process):
    assert base_of(name).live_adapter == vllm_process(serves_adapters, ARCHITECTURES[name])


def serves_adapters(architecture):
    from vllm import ModelRegistry
    from vllm.model_executor.models.interfaces import supports_lora

    return supports_lora(ModelRegistry.models[architecture].load_model_cls())


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_a_file_names_the_layers_of_its_architecture_and_a_commit(name, tiny_bases):
    assert base_of(name).lora_targets == tiny_bases(ARCHITECTURES[name]).lora_targets
    assert unpinned(base_of(name)) is None


@pytest.mark.parametrize(("revision", "pinned"), [("main", False), ("", False), ("v1", False), ("a" * 39, False), ("a" * 40, True)])
def test_a_base_of_a_hub_without_a_commit_is_warned_of(tiny_falcon, revision, pinned):
    of_hub = tiny_falcon.model_copy(update={"path": "some/model", "revision": revision})
    assert (unpinned(of_hub) is None) == pinned
    assert unpinned(of_hub.model_copy(update={"path": tiny_falcon.path})) is None


@pytest.mark.parametrize("architecture", ALL)
def test_every_targeted_layer_is_held_in_4_bit_and_gets_an_adapter(architecture, tiny_bases):
    from peft import LoraConfig, get_peft_model

    base = tiny_bases(architecture)
    model = quantised.load_quantised(base, device="cpu")
    assert quantised.count_4bit_modules(model) == LAYERS * len(base.lora_targets)
    adapted = get_peft_model(model, LoraConfig(r=RANK, target_modules=list(base.lora_targets), task_type="CAUSAL_LM"))
    trainable = sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)
    assert trainable == LAYERS * RANK * sum(into + out for into, out in shapes(architecture))


@pytest.mark.parametrize("architecture", ALL)
def test_vllm_serves_the_adapter_or_the_merged_model(architecture, tiny_bases, finished, vllm_process):
    job, figures = finished(tiny_bases(architecture))
    served = vllm_process(check_served, job)
    assert served["served_agreement"] >= 0.99
    assert served["served_equal_answers"] == 1
    assert ("merge_agreement" in figures) == (architecture == "FalconForCausalLM")


def test_a_layer_that_is_not_there_is_one_line_that_names_those_there_are(tiny_bases):
    base = tiny_bases("LlamaForCausalLM").model_copy(update={"lora_targets": ("q_proj", "query_key_value")})
    with pytest.raises(
        LanguageModelError,
        match=r"lora_targets names query_key_value, which it does not have; its linear layers are "
        r"down_proj, gate_proj, k_proj, lm_head, o_proj, q_proj, up_proj, v_proj; correct",
    ):
        quantised.load_quantised(base, device="cpu")


def test_a_base_of_which_some_or_no_layer_is_quantised_is_one_line(tiny_bases, monkeypatch):
    base = tiny_bases("LlamaForCausalLM")
    with pytest.raises(LanguageModelError, match=r"only 2 of 3 modules were quantised to 4 bit .*; not lm_head and 0 more: Linear is no"):
        quantised.load_quantised(base.model_copy(update={"lora_targets": ("q_proj", "lm_head")}), device="cpu")
    monkeypatch.setattr(quantised, "falcon_layers_as_linear", nullcontext)
    with pytest.raises(
        LanguageModelError, match=r"no module was quantised to 4 bit .* 7 more: FalconLinear is no linear layer that is known"
    ):
        quantised.load_quantised(tiny_bases("FalconForCausalLM"), device="cpu")


def test_weights_that_must_be_unpickled_are_refused_in_one_line(tiny_falcon, tmp_path):
    import torch

    _copy(tiny_falcon, tmp_path)
    torch.save(load_base(tiny_falcon).state_dict(), tmp_path / "pytorch_model.bin")
    (tmp_path / "model.safetensors").unlink()
    with pytest.raises(LanguageModelError, match=r"no file named model\.safetensors .*; only safetensors are read .*; check llm\.base$"):
        load_base(tiny_falcon.model_copy(update={"path": str(tmp_path)}))


def test_a_model_that_brings_its_own_code_is_refused_in_one_line_and_its_code_is_not_run(tiny_falcon, tmp_path):
    _copy(tiny_falcon, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text()) | {"model_type": "own"}
    config["auto_map"] = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnModel"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(
        LanguageModelError, match=r"^base model .* contains custom code .*no code that comes with a model is run; check llm\.base$"
    ):
        load_base(tiny_falcon.model_copy(update={"path": str(tmp_path)}))
    assert not (tmp_path / "ran").exists()


def _copy(base, folder):
    for path in Path(base.path).iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
