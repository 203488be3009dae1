"""What the tests of models share: a tiny Falcon with random weights and its tokenizer, made on the spot."""

import os
from pathlib import Path

import pytest

from fashionrec.settings.model import BaseLanguageModel

LAYERS = 2
LORA_TARGETS = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")


@pytest.fixture(scope="session")
def tiny_falcon(tmp_path_factory) -> BaseLanguageModel:
    """Return a Falcon of two layers with random weights and a byte-level BPE tokenizer, as the settings name a base."""
    os.environ["HF_HUB_OFFLINE"] = "1"
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import FalconConfig, FalconForCausalLM, PreTrainedTokenizerFast

    folder: Path = tmp_path_factory.mktemp("tiny_falcon")
    bpe = Tokenizer(models.BPE())
    bpe.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    bpe.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=320, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet, show_progress=False)
    bpe.train_from_iterator(["clicked a red dress | bought a blue shoe"] * 4, trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=bpe, eos_token="<|endoftext|>", model_max_length=1024)
    tokenizer.save_pretrained(str(folder))

    torch.manual_seed(0)
    config = FalconConfig(
        vocab_size=len(tokenizer),
        hidden_size=64,
        num_hidden_layers=LAYERS,
        num_attention_heads=2,
        multi_query=True,
        parallel_attn=True,
        bias=False,
        alibi=False,
        max_position_embeddings=1024,
        bos_token_id=tokenizer.eos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    FalconForCausalLM(config).save_pretrained(str(folder), safe_serialization=True)
    return BaseLanguageModel(path=str(folder), revision="", dtype="float32", lora_targets=LORA_TARGETS, live_adapter=False)
