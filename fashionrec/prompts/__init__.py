"""The template, rendering within the token budget, parsing of answers."""

from fashionrec.encoders.tokenizer import TokenizerError
from fashionrec.prompts.answer import AnswerError, ParsedAnswer, answer_regex, parse_answer, render_answer
from fashionrec.prompts.calendar import Calendar, CalendarError, load_calendar
from fashionrec.prompts.lines import Action, Product, PromptError
from fashionrec.prompts.render import Example, Rendered, Renderer
from fashionrec.prompts.template import Template, TemplateError, load_template
from fashionrec.prompts.tokens import TokenCounter, token_counter

__all__ = [
    "Action",
    "AnswerError",
    "Calendar",
    "CalendarError",
    "Example",
    "ParsedAnswer",
    "Product",
    "PromptError",
    "Rendered",
    "Renderer",
    "Template",
    "TemplateError",
    "TokenCounter",
    "TokenizerError",
    "answer_regex",
    "load_calendar",
    "load_template",
    "parse_answer",
    "render_answer",
    "token_counter",
]
