"""The prompt's words: a versioned YAML file (paper section 4.2)."""

import re
from functools import cached_property
from pathlib import Path
from typing import Annotated

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from fashionrec.errors import UserError


class TemplateError(UserError):
    """The template is missing or not as it must be; the text names the file and every problem."""


class Template(BaseModel):
    """A template; conf/prompts/fashion-v1.yaml says what each part is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    version: int
    instruction: str
    input: str
    months: Annotated[tuple[str, ...], Field(min_length=12, max_length=12)]
    actions: dict[str, str]
    attributes: tuple[str, ...]
    shown: str
    answer: str

    @field_validator("actions")
    @classmethod
    def _one_line_each(cls, actions: dict[str, str]) -> dict[str, str]:
        for name, text in actions.items():
            if "\n" in text or ("{query}" in text) == ("{product}" in text):
                raise ValueError(f"{name} must be one line with either {{query}} or {{product}}")
        return actions

    @field_validator("answer")
    @classmethod
    def _ends_in_ink(cls, answer: str) -> str:
        if "\n" in answer or answer != answer.strip():
            # A blank would melt into the answer's first token.
            raise ValueError("answer must be one line without blanks around it")
        return answer

    @property
    def label(self) -> str:
        """Name and version as the table `prompts` keeps them."""
        return f"{self.name}-v{self.version}"

    @cached_property
    def markers(self) -> re.Pattern[str]:
        """What begins this template's own lines (`searched:` ...), to be found in data."""
        words = re.findall(r"(\w+):", "\n".join((self.input, *self.actions.values(), self.shown, self.answer)))
        return re.compile(rf"\b({'|'.join(map(re.escape, words))})\s*:", re.IGNORECASE)


def load_template(path: str | Path) -> Template:
    """Return the template of a file; raise TemplateError naming every problem."""
    try:
        tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return Template.model_validate(tree)
    except OSError:
        raise TemplateError(f"{path}: no such prompt template; name one of the folder conf/prompts in prompts.template") from None
    except yaml.YAMLError as error:
        raise TemplateError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'template'}: {e['msg']}" for e in error.errors())
        raise TemplateError(f"{path}: {problems}") from None
