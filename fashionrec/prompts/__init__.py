"""The template, rendering within the token budget, parsing of answers."""

from fashionrec.prompts.answer import AnswerError, ParsedAnswer, answer_regex, parse_answer, render_answer
from fashionrec.prompts.render import Example, Product, PromptError, Rendered, render_prompt, render_response
from fashionrec.prompts.template import Template, TemplateError, load_template
from fashionrec.prompts.tokens import TokenizerError, token_counter

__all__ = [
    "AnswerError",
    "Example",
    "ParsedAnswer",
    "Product",
    "PromptError",
    "Rendered",
    "Template",
    "TemplateError",
    "TokenizerError",
    "answer_regex",
    "load_template",
    "parse_answer",
    "render_answer",
    "render_prompt",
    "render_response",
    "token_counter",
]
