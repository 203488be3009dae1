"""A template is refused by name where it is not as it must be, and any word of it counts."""

import pytest
import yaml

from fashionrec.prompts import Template, TemplateError, load_template
from fashionrec.settings import load_settings
from tests.conftest import ROOT

TEMPLATE = load_template(ROOT / "conf/prompts/fashion-v2.yaml")
CHATML = load_template(ROOT / "conf/prompts/chatml-v2.yaml")


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        ({"end": "Answer: "}, "end: Value error, must be whole lines"),
        ({"end": "Answer: \n"}, "end: Value error, must be whole lines"),
        ({"no_holidays": " none"}, "no_holidays: Value error, must be one line"),
        ({"since": [{"days": 3, "line": "Now:"}]}, "the days of since must grow and end with null"),
        ({"since": [{"days": d, "line": "Now:"} for d in (3, 1, None)]}, "the days of since must grow and end with null"),
        ({"drop_first": ["brand"]}, "drop_first must name each of the attributes once"),
        ({"actions": {"click": "clicked"}}, "click must have either"),
        ({"extra": 1}, "extra: Extra inputs are not permitted"),
    ],
)
def test_a_bad_template_is_refused_by_name(tmp_path, change, problem):
    path = tmp_path / "bad.yaml"
    path.write_text(yaml.safe_dump({**TEMPLATE.model_dump(mode="json"), **change}))
    with pytest.raises(TemplateError, match=problem):
        load_template(path)


def test_a_template_that_extends_itself_is_refused(tmp_path):
    (tmp_path / "a.yaml").write_text("extends: b.yaml")
    (tmp_path / "b.yaml").write_text("extends: a.yaml")
    with pytest.raises(TemplateError, match=r"a\.yaml: extends itself by way of"):
        load_template(tmp_path / "a.yaml")


def test_any_word_of_a_template_changes_its_hash():
    names = {name: value + "x" for name, value in TEMPLATE.model_dump().items() if isinstance(value, str)}
    names |= {"instruction": TEMPLATE.instruction + "x\n", "begin": "x\n", "input": TEMPLATE.input + "x\n", "end": "x\n"}
    changes = [*({name: value} for name, value in names.items()), {"drop_first": TEMPLATE.drop_first[::-1]}, {"version": 3}]
    changed = [Template.model_validate({**TEMPLATE.model_dump(), **change}) for change in changes]
    assert len(changed) == 9
    assert len({template.content_hash for template in (TEMPLATE, CHATML, *changed)}) == 11


def test_a_missing_template_says_so(tmp_path):
    with pytest.raises(TemplateError, match="no such prompt template"):
        load_template(tmp_path / "none.yaml")


def test_the_settings_name_a_template_that_loads():
    assert load_template(load_settings().prompts.template).label == "fashion-v2"
