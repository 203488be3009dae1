"""A tokenizer as large as Falcon's and with its rules, made from made-up words: Falcon's own needs a download."""

from pathlib import Path
from random import Random

from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from tools.tiny_base.text import KINDS, all_words, random_title, random_word

ENTRIES = 65_024


def falcon_like(folder: Path, *, entries: int = ENTRIES) -> Path:
    """Write `tokenizer.json` of a byte-level BPE of so many entries into a folder and return it.

    Splits as Falcon's does: punctuation, then GPT-2's rule, then digits in runs of three.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Punctuation("contiguous"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True),
            pre_tokenizers.Digits(individual_digits=False),
            pre_tokenizers.Split(Regex("[0-9][0-9][0-9]"), "isolated"),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=entries,
        min_frequency=1,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_texts(Random(17), entries), trainer)
    found = tokenizer.get_vocab_size()
    if found != entries:
        raise SystemExit(f"the made-up texts give a vocabulary of {found:,} entries only, {entries:,} are wanted")
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def _texts(rng: Random, entries: int) -> list[str]:
    """Return real words often and made-up ones once: the first become entries of their own, the second fill the vocabulary."""
    titles = [random_title(rng, rng.choice(list(KINDS))) for _ in range(20_000)]
    words = [f"{word} {word} {word.title()} {word.title()}" for word in all_words() for _ in range(20)]
    lines = ["searched: a\nclicked: b | c (brand d, colour e, size f, price 1.00, season g)\nbought: h\n1. i | j\nAnswer:\n"] * 200
    numbers = [f"{number:03}" for number in range(1000)] * 3
    made_up = [f" {random_word(rng)}{random_word(rng)}" for _ in range(entries)]
    return [*titles, *words, *lines, *numbers, *made_up]
