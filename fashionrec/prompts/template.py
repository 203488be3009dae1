"""The prompt's words: a versioned YAML file per family of models (paper section 4.2)."""

import hashlib
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from fashionrec.errors import UserError


class TemplateError(UserError):
    """The template is missing or not as it must be; the text names the file and every problem."""


def _whole_lines(text: str) -> str:
    # A blank at an end would melt into the token behind it: what follows would not be the tokens that it is alone.
    if text and (not text.endswith("\n") or any(line != " ".join(line.split()) for line in text.splitlines())):
        raise ValueError("must be whole lines, with single blanks and none around them")
    return text


def _one_line(text: str) -> str:
    if not text or text != " ".join(text.split()):
        raise ValueError("must be one line, with single blanks and none around it")
    return text


Lines = Annotated[str, AfterValidator(_whole_lines)]
Line = Annotated[str, AfterValidator(_one_line)]


class Since(BaseModel):
    """A heading, and the most days before the day that is predicted for which it stands."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    days: Annotated[int, Field(ge=0)] | None
    line: Line


class Template(BaseModel):
    """A template; conf/prompts/fashion-v2.yaml says what each part is for."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Annotated[str, Field(pattern=r"^[a-z0-9-]+$")]
    version: int
    begin: Lines
    instruction: Lines
    input: Lines
    no_holidays: Line
    since: Annotated[tuple[Since, ...], Field(min_length=1)]
    actions: dict[str, Line]
    attributes: tuple[str, ...]
    drop_first: tuple[str, ...]
    shown: Line
    end: Annotated[Lines, Field(min_length=2)]

    @field_validator("actions")
    @classmethod
    def _one_field_each(cls, actions: dict[str, str]) -> dict[str, str]:
        for name, text in actions.items():
            if ("{query}" in text) == ("{product}" in text):
                raise ValueError(f"{name} must have either {{query}} or {{product}}")
        return actions

    @model_validator(mode="after")
    def _fits_together(self) -> "Template":
        if sorted(self.attributes) != sorted(self.drop_first):
            raise ValueError("drop_first must name each of the attributes once")
        *days, last = [step.days for step in self.since]
        if last is not None or None in days or days != sorted(set(days), key=lambda day: day or 0):
            raise ValueError("the days of since must grow and end with null")
        return self

    def __hash__(self) -> int:
        return hash(self.content_hash)

    @property
    def label(self) -> str:
        """Name and version as the table `prompts` keeps them."""
        return f"{self.name}-v{self.version}"

    @cached_property
    def content_hash(self) -> str:
        """64 hex digits that change with any word of the template."""
        return hashlib.sha256(self.model_dump_json().encode()).hexdigest()

    def heading(self, days: int) -> str:
        """Return the line above actions of so many days before the day that is predicted."""
        return next(step.line for step in self.since if step.days is None or days <= step.days)


def load_template(path: str | Path) -> Template:
    """Return the template of a file; raise TemplateError naming every problem."""
    try:
        return Template.model_validate(_read(Path(path)))
    except ValidationError as error:
        problems = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'template'}: {e['msg']}" for e in error.errors())
        raise TemplateError(f"{path}: {problems}") from None


def _read(path: Path, *above: Path) -> Any:
    """Return a file's tree, merged key by key over that of the file which it extends."""
    if path in above:
        raise TemplateError(f"{path}: extends itself by way of {', '.join(map(str, above))}")
    try:
        tree = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError:
        raise TemplateError(f"{path}: no such prompt template; name one of the folder conf/prompts in prompts.template") from None
    except yaml.YAMLError as error:
        raise TemplateError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(tree, dict) or "extends" not in tree:
        return tree
    return _read(path.parent / str(tree.pop("extends")), path, *above) | tree
