"""Make the tiny base model that the repository carries: a byte-level tokenizer and a small Falcon."""

import json
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

from fashionrec.llm.tiny_text import ATTRIBUTES, KINDS, all_words, random_id, random_query, random_title
from fashionrec.settings import resource

if TYPE_CHECKING:
    from tokenizers import Tokenizer

END = "<|endoftext|>"
VOCABULARY = 2048
POSITIONS = 2048


def make_tokenizer(template_text: str, seed: int = 17) -> "Tokenizer":
    """Return a byte-level BPE tokenizer of 2,048 tokens, trained on the words, made-up titles and the template's own text.

    Every digit is a token of its own: a model that copies tokens can then copy any ID.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(_tokenizer_texts(template_text, seed), trainer)
    return tokenizer


def _tokenizer_texts(template_text: str, seed: int) -> list[str]:
    rng = Random(seed)
    words = all_words()
    # Each word within a line, at its start, and capitalised; then words as often as titles use them.
    texts = [f"{word} {word} {word.title()} {word.title()}" for word in words for _ in range(6)]
    texts += [word.title() for word in words] + [template_text] * 50
    for _ in range(3000):
        title = random_title(rng, rng.choice(list(KINDS)))
        values = ", ".join(f"{name} {rng.choice(words)}" for name in rng.sample(list(ATTRIBUTES), 2))
        texts += [f"{random_id(rng)} | {title} ({values})", f" {random_query(rng, title)}"]
    return texts


def model_config() -> dict[str, Any]:
    """Return the architecture: Falcon's rotary positions, one key-value head, attention beside the MLP; four layers, 192 wide."""
    return {
        "architectures": ["FalconForCausalLM"],
        "model_type": "falcon",
        "vocab_size": VOCABULARY,
        "hidden_size": 192,
        "num_hidden_layers": 4,
        "num_attention_heads": 3,
        "num_kv_heads": 1,
        "multi_query": True,
        "parallel_attn": True,
        "new_decoder_architecture": False,
        "bias": False,
        "alibi": False,
        "attention_dropout": 0.0,
        "hidden_dropout": 0.0,
        "max_position_embeddings": POSITIONS,
        "rope_theta": 10000.0,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 0,
        "pad_token_id": 0,
    }


def save_tokenizer(tokenizer: "Tokenizer", folder: Path) -> None:
    """Write `tokenizer.json` and what transformers and vLLM read beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": POSITIONS,
        "bos_token": END,
        "eos_token": END,
        "pad_token": END,
        "clean_up_tokenization_spaces": False,
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main() -> None:
    import torch
    from transformers import FalconConfig, FalconForCausalLM

    folder = resource("conf") / "models" / "tiny"
    save_tokenizer(make_tokenizer((resource("conf") / "prompts" / "fashion-v1.yaml").read_text(encoding="utf-8")), folder)
    torch.manual_seed(17)
    FalconForCausalLM(FalconConfig(**model_config())).to(torch.float16).save_pretrained(folder)


if __name__ == "__main__":
    main()
