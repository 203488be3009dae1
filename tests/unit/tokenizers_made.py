"""Tokenizers of several kinds, made on the spot: what they split at decides how tokens may be counted."""

from random import Random

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers

from tools.tiny_base.text import KINDS, random_title

_LINES = "Today:\nsearched: red dress\n1. 12 | Red dress\nclicked: 12 | Red dress (brand Acme, price 20.00)\nbought: 7 | Bag\nAnswer:\n"


def _texts() -> list[str]:
    rng = Random(3)
    return [_LINES] * 20 + [f"clicked: {rng.randrange(10**6)} | {random_title(rng, rng.choice(list(KINDS)))}\n" * 2 for _ in range(500)]


def metaspace() -> Tokenizer:
    """Return SentencePiece's way: blanks are a character, a text begins with one, words are split at them; line ends join words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    return _trained(tokenizer, [f"<0x{byte:02X}>" for byte in range(256)])


def llama_like() -> Tokenizer:
    """Return Llama 2's way: a normaliser writes blanks and puts one first, nothing splits; a line end is a byte, which joins nothing."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    trained = _trained(tokenizer, [f"<0x{byte:02X}>" for byte in range(256)], line_ends=False)
    trained.pre_tokenizer = None
    return trained


def joining() -> Tokenizer:
    """Return one that splits nowhere: words and lines melt into each other."""
    return _trained(Tokenizer(models.BPE(unk_token="<unk>")), [])


def letters(merges: list[tuple[str, str]]) -> Tokenizer:
    """Return one of single ASCII letters and what is merged of them, without any rule before the model."""
    entries = [*map(chr, range(32, 127)), "\n", "<unk>", *("".join(pair) for pair in merges)]
    return Tokenizer(models.BPE({entry: number for number, entry in enumerate(entries)}, merges, unk_token="<unk>"))


def _trained(tokenizer: Tokenizer, special: list[str], *, line_ends: bool = True) -> Tokenizer:
    texts = [text if line_ends else text.replace("\n", " ") for text in _texts()]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=["<unk>", "<s>", *special], show_progress=False)
    tokenizer.train_from_iterator(texts, trainer)
    from tokenizers.processors import TemplateProcessing

    tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer
