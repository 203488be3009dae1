"""What constrained decoding lets through, byte by byte, by the grammar engine that vLLM uses."""

import pytest

from fashionrec.prompts import answer_regex


@pytest.fixture(scope="module")
def allows():
    import xgrammar

    tokens = xgrammar.TokenizerInfo([bytes([i]) for i in range(256)], vocab_type=xgrammar.VocabType.RAW, stop_token_ids=[0])
    grammar = xgrammar.GrammarCompiler(tokens).compile_regex(answer_regex())

    def allow(text):
        matcher = xgrammar.GrammarMatcher(grammar)
        return all(matcher.accept_token(byte) for byte in text) and matcher.accept_token(0)

    return allow


@pytest.mark.parametrize("text", ["A1 | red dress", "a-b_9 | Café ☃ 😀", "A1 | " + "x" * 80])
def test_answers_are_allowed(allows, text):
    assert allows(text.encode())


@pytest.mark.parametrize(
    "text", [b"", b"A1", b"A1 | ", b"A1 | red ", b"A 1 | red", b"A1 | a|b", b"A1 | <s>", b"A1 | a\nb", b"A1 | " + b"x" * 81]
)
def test_other_texts_are_not(allows, text):
    assert not allows(text)


@pytest.mark.parametrize("text", [b"A1 | a\xed\xa0\x80", b"A1 | a\xff", b"A1 | a\xc0\x80", b"A1 | \xe3\x80\x80"], ids=bytes.hex)
def test_bytes_that_are_no_text_or_an_exotic_space_are_not(allows, text):
    assert not allows(text)
