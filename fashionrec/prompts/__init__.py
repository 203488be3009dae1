"""The template, rendering within the token budget, parsing of answers."""

from fashionrec.prompts.answer import AnswerError, ParsedAnswer, answer_regex, parse_answer, render_answer

__all__ = ["AnswerError", "ParsedAnswer", "answer_regex", "parse_answer", "render_answer"]
