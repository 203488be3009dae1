"""Golden prompts: what is merged or served answers as what was trained, and what does not is refused."""

import os
from dataclasses import replace

import numpy as np
import pytest
from safetensors.torch import load, save_file

from fashionrec.llm import golden, merge
from fashionrec.llm.base import LanguageModelError, load_base, load_tokenizer
from fashionrec.llm.engine import engine, engine_config
from fashionrec.llm.examples import Example
from fashionrec.llm.generate import Sampling, answer_prompts
from fashionrec.llm.golden import check_served

PROMPTS = [f"clicked a red dress {number}: " for number in range(5)]
FALCON, LLAMA = "FalconForCausalLM", "LlamaForCausalLM"


def test_a_falcon_is_merged_and_answers_alike(tiny_bases, finished):
    job, figures = finished(tiny_bases(FALCON))
    assert (job.output / "merged/model.safetensors").exists()
    assert figures["merge_agreement"] == figures["merge_equal_answers"] == 1


def test_the_golden_file_holds_the_prompts_and_the_greedy_answers_of_the_adapter(tiny_bases, finished):
    base = tiny_bases(LLAMA)
    job, figures = finished(base)
    assert not (job.output / "merged").exists()
    answers = golden.load(job.output)
    assert len(answers) == 8
    assert figures == {"golden_tokens": sum(len(answer.answer_ids) for answer in answers)}
    tokenizer = load_tokenizer(base.path)
    for number, answer in enumerate(answers):
        assert answer.prompt == f"clicked a red dress {number}: "
        assert answer.prompt_ids == tokenizer(answer.prompt).input_ids
        assert answer.answer == tokenizer.decode(answer.answer_ids)
        assert 0 < len(answer.answer_ids) <= len(tokenizer(f"I{number} | blue shoe").input_ids)
    assert golden.compare(adapted(job), answers) == golden.Agreement(tokens=1, answers=1)
    # Without its adapter the base answers otherwise, else these tests would say nothing.
    assert golden.compare(load_base(base).eval(), answers).tokens < golden.MIN_AGREEMENT


def test_an_answer_ends_with_the_end_of_sequence(tiny_bases, finished):
    from types import SimpleNamespace

    job, _ = finished(tiny_bases(LLAMA))
    first = golden.load(job.output)[0]
    example = Example(input_ids=np.array(first.prompt_ids + first.answer_ids + [0], np.int32), prompt_length=len(first.prompt_ids))
    tokenizer = SimpleNamespace(eos_token_id=first.answer_ids[2], decode=str)
    (answer,) = golden.answer_greedily(adapted(job), tokenizer, [example])
    assert answer.answer_ids == first.answer_ids[:3]


def test_a_merged_model_that_lost_its_adapter_is_refused(tiny_bases, finished, monkeypatch):
    monkeypatch.setattr(merge, "_merge", lambda model, merged: model.unload().save_pretrained(str(merged)))
    with pytest.raises(
        LanguageModelError, match=r"^the merged model of .*merged chooses [\d.]+% of the tokens .*, 95% are needed; float32 may"
    ):
        finished(tiny_bases(FALCON))


def test_merged_weights_that_were_damaged_later_are_refused_by_what_serves_them(tiny_bases, finished, vllm_process):
    job, _ = finished(tiny_bases(FALCON))
    weights = job.output / "merged/model.safetensors"
    whole = load(weights.read_bytes())
    damaged = {name: tensor.flip(0) if "dense_h_to_4h" in name else tensor for name, tensor in whole.items()}
    save_file(damaged, weights, metadata={"format": "pt"})
    error = vllm_process(check_served, job)["error"]
    assert error.startswith(f"vLLM with {job.output / 'merged'} chooses ")
    assert error.endswith(
        "95% are needed; its weights or adapter are not served as they were trained: do not serve this version, train again"
    )


def test_weights_that_were_torn_are_refused_and_the_device_is_free_again(tiny_bases, finished, vllm_process):
    job, _ = finished(tiny_bases(FALCON))
    weights = job.output / "merged/model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[: len(whole) // 2])
    assert vllm_process(check_served, job)["error"].startswith("the engine did not start on cpu: ")
    weights.write_bytes(whole)
    assert vllm_process(check_served, job)["served_agreement"] == 1


def test_an_adapter_that_requests_do_not_name_is_refused(tiny_bases, finished, vllm_process):
    job, _ = finished(tiny_bases(LLAMA))
    assert vllm_process(check_served_without_naming_the_adapter, job)["error"].startswith(f"vLLM with base {job.llm.base.path} with ")


def test_an_adapter_for_a_base_that_takes_none_is_refused_by_the_engine(tiny_bases, finished, vllm_process):
    job, _ = finished(tiny_bases(FALCON).model_copy(update={"live_adapter": True}))
    assert vllm_process(check_served, job)["error"].startswith("the engine did not start on cpu: ")


def test_answers_of_an_adapter_beside_its_base_are_those_of_the_two_merged(tiny_bases, finished, vllm_process):
    job, _ = finished(tiny_bases(LLAMA).model_copy(update={"live_adapter": False}))
    merged = engine_config(job.llm.base, job.output, device="cpu", max_tokens=256, cpu_kv_cache_gib=1, gpu_memory_rate=0.9, seed=1)
    live = replace(merged, model=job.llm.base.path, adapter=str(job.output / "adapter"))
    expected, found, without = (vllm_process(answer, config) for config in (merged, live, replace(live, adapter="")))
    assert [row["answer"] for row in found] == [row["answer"] for row in expected] != [row["answer"] for row in without]
    assert [row["log_prob"] for row in found] == pytest.approx([row["log_prob"] for row in expected], rel=1e-4)


def answer(config):
    with engine(config, device_id=f"test-{os.getpid()}") as llm:
        sampling = Sampling(max_new_tokens=160, temperature=0.0, top_p=1.0)
        return answer_prompts(llm, [{"prompt": prompt} for prompt in PROMPTS], sampling=sampling, config=config)


def check_served_without_naming_the_adapter(job):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(golden, "lora_request", lambda adapter: None)
        return check_served(job)


def adapted(job):
    from peft import PeftModel

    return PeftModel.from_pretrained(load_base(job.llm.base), str(job.output / "adapter")).eval()
