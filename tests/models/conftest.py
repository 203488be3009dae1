"""What the tests of models share: tiny models of each architecture with random weights and their tokenizer, made on the spot."""

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from fashionrec.llm.base import load_base, load_tokenizer
from fashionrec.llm.examples import Example
from fashionrec.llm.job import TrainingJob
from fashionrec.llm.merge import finish_adapter
from fashionrec.settings import load_settings
from fashionrec.settings.model import BaseLanguageModel
from tests.builders import ROOT

LAYERS = 2
# The sizes of all of them; heads have 32.
WIDTH, HEADS, KEY_VALUE_HEADS, INNER = 64, 2, 1, 128
FALCON_TARGETS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
LLAMA_TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="session")
def tiny_falcon(tmp_path_factory) -> BaseLanguageModel:
    """Return a Falcon of two layers with random weights and a byte-level BPE tokenizer, as the settings name a base."""
    return tiny_base("FalconForCausalLM", tmp_path_factory.mktemp("tiny_falcon"))


@pytest.fixture(scope="session")
def tiny_bases(tmp_path_factory):
    """Return a function that makes a tiny base of an architecture, once."""
    made: dict[str, BaseLanguageModel] = {}

    def base(architecture: str) -> BaseLanguageModel:
        if architecture not in made:
            made[architecture] = tiny_base(architecture, tmp_path_factory.mktemp(architecture))
        return made[architecture]

    return base


@pytest.fixture(scope="session")
def vllm_process():
    """Return a function that calls another one in a process of its own, the same for all, where vLLM is imported once."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda function, *arguments: pool.submit(function, *arguments).result()


@pytest.fixture
def finished(tmp_path):
    """Return a function that gives a base an adapter with random weights, finishes it, and returns the job and the figures."""

    def finish(base: BaseLanguageModel) -> tuple[TrainingJob, dict[str, float]]:
        import torch
        from peft import LoraConfig, get_peft_model

        torch.manual_seed(1)
        config = LoraConfig(r=4, target_modules=list(base.lora_targets), task_type="CAUSAL_LM", init_lora_weights=False)
        get_peft_model(load_base(base), config).save_pretrained(str(tmp_path / "adapter"))
        tokenizer = load_tokenizer(base.path)
        examples = []
        for number in range(10):
            prompt, response = (tokenizer(text).input_ids for text in (f"clicked a red dress {number}: ", f"I{number} | blue shoe"))
            ids = np.array([*prompt, *response, tokenizer.eos_token_id], np.int32)
            examples.append(Example(input_ids=ids, prompt_length=len(prompt)))
        llm = load_settings().llm.model_copy(update={"base": base})
        job = TrainingJob(llm=llm, max_tokens=64, train=tmp_path, held_out=tmp_path, work=tmp_path, output=tmp_path)
        return job, finish_adapter(base, tokenizer, examples, folder=tmp_path, device="cpu")

    return finish


def train_and_be_killed(kind: str, job: dict, *, after: int) -> None:
    """Do a job of tests/models/killed_process.py in a process that is killed after so many steps or epochs."""
    import torch

    # Sums of another number of threads differ in their last bits.
    environment = {**os.environ, "OMP_NUM_THREADS": str(torch.get_num_threads())}
    command = [sys.executable, "-m", "tests.models.killed_process", kind, json.dumps(job), str(after)]
    killed = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr[-3000:]


def tiny_base(architecture: str, folder: Path) -> BaseLanguageModel:
    """Make a base of two layers with random weights in a folder, and return it as the settings name it."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    import transformers

    tokenizer = _tokenizer()
    tokenizer.save_pretrained(str(folder))
    falcon = architecture == "FalconForCausalLM"
    sizes = {"multi_query": True, "parallel_attn": True, "bias": False, "alibi": False} if falcon else {"intermediate_size": INNER}
    if not falcon:
        sizes |= {"num_key_value_heads": KEY_VALUE_HEADS, "head_dim": WIDTH // HEADS}
    config = getattr(transformers, architecture.replace("ForCausalLM", "Config"))(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        **sizes,
    )
    torch.manual_seed(0)
    getattr(transformers, architecture)(config).save_pretrained(str(folder), safe_serialization=True)
    return BaseLanguageModel(
        path=str(folder),
        revision="",
        dtype="float32",
        lora_targets=FALCON_TARGETS if falcon else LLAMA_TARGETS,
        live_adapter=not falcon,
    )


def _tokenizer():
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["clicked a red dress | bought a blue shoe"] * 4, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", model_max_length=1024)
