"""Tokens are added up from words and lines only where the tokenizer provably allows it."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, normalizers

from benchmarks.falcon_like import ENTRIES
from fashionrec.prompts import TokenCounter, TokenizerError, token_counter
from fashionrec.settings import load_settings
from tests.unit.tokenizers_made import letters


@settings(max_examples=60)
@given(st.lists(st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=12), min_size=1, max_size=12))
def test_a_line_is_counted_as_it_is_tokenised_behind_another(tokens, words):
    line, before = " ".join(words), "clicked: a\n"
    ids = tokens._ids(before + line)
    if tokens.words_add_up:
        assert tokens.count_lines(line) == len(tokens._ids_behind("\n", line))
        if tokens.lines_add_up(["searched:"], [""]) and not line[0].isspace():
            assert len(ids) == len(tokens._ids(before)) + tokens.count_lines(line)


def test_what_adds_up_is_known_of_each_tokenizer(tokens, request):
    name = request.node.callspec.id
    starts, ends = ["searched:", "clicked:", "1. ", "Today:\n", "Answer:\n"], ["Actions:", "Today:", ""]
    expected = {"tiny": (True, True), "falcon-like": (True, True), "metaspace": (True, False), "llama-like": (True, True)}
    assert (tokens.words_add_up, tokens.lines_add_up(starts, ends)) == expected.get(name, (False, False))


def test_an_entry_across_a_joint_is_found_whatever_words_it_needs():
    plain = TokenCounter(letters([]))
    assert (plain.words_add_up, plain.lines_add_up(["clicked:"], [""])) == (True, True)
    # Only behind two s does a line end, or a blank, melt into what follows.
    across = TokenCounter(letters([("s", "s"), ("ss", "\n"), ("ss\n", "c")]))
    assert not across.lines_add_up(["clicked:"], [""])
    assert not TokenCounter(letters([("s", "s"), ("ss", " "), ("ss ", "c")])).words_add_up


def test_a_rule_that_looks_across_a_joint_is_found():
    stripping = letters([])
    stripping.normalizer = normalizers.Strip()
    assert not TokenCounter(stripping).lines_add_up(["clicked:"], [""])
    swallowing = letters([])
    swallowing.normalizer = normalizers.Replace(Regex(r"\) (?=\()"), ")")
    assert not TokenCounter(swallowing).words_add_up


@pytest.mark.parametrize("tokens", ["falcon-like"], indirect=True)
def test_the_falcon_like_tokenizer_has_falcons_size(tokens):
    assert tokens._tokenizer.get_vocab_size() == ENTRIES


def test_a_missing_tokenizer_says_so(tmp_path):
    with pytest.raises(TokenizerError, match=r"no readable tokenizer\.json"):
        token_counter(str(tmp_path), "")


def test_the_settings_name_a_tokenizer_that_loads():
    base = load_settings().llm.base
    assert token_counter(base.path, base.revision).count("Answer:\n") == 3
