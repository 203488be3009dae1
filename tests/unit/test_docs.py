"""The pages for people: links lead somewhere, README stays short and names only commands that exist."""

import re

import pytest

from fashionrec.cli import _parser
from tests.conftest import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "CHANGELOG.md",
    ROOT / "conf/models/tiny/README.md",
    *sorted(ROOT.glob("docs/*.md")),
]
FENCED = re.compile(r"^ *```.*?^ *```", re.DOTALL | re.MULTILINE)
SPAN = re.compile(r"`([^`\n]+)`")
TARGET = re.compile(r"""(?:\]\(|(?:src|href)=")([^)"\s]+)""")


def without_code(text):
    return SPAN.sub("", FENCED.sub("", text))


def code_lines(text):
    return [*"\n".join(FENCED.findall(text)).splitlines(), *SPAN.findall(FENCED.sub("", text))]


def anchors(page):
    """Return the anchors that GitHub gives to a page's headings."""
    slugs = []
    for heading in re.findall(r"^#{1,6} +(.+?) *$", FENCED.sub("", page.read_text(encoding="utf-8")), re.MULTILINE):
        title = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
        slugs.append(re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-"))
    return {slug if (before := slugs[:place].count(slug)) == 0 else f"{slug}-{before}" for place, slug in enumerate(slugs)}


def leads_somewhere(page, target):
    path, _, anchor = target.partition("#")
    file = page.parent / path if path else page
    return file.exists() and (not anchor or anchor in anchors(file))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_relative_link_and_picture_leads_somewhere(page):
    targets = TARGET.findall(without_code(page.read_text(encoding="utf-8")))
    assert [target for target in targets if not re.match(r"[a-z]+:", target) and not leads_somewhere(page, target)] == []


def test_readme_is_short():
    lines = README.splitlines()
    assert len(lines) <= 200
    assert [line for line in lines if len(line) > 160] == []


def test_every_make_target_that_readme_names_is_one_of_the_makefile():
    targets = re.findall(r"^([\w%-]+):(?!=)", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    benchmarks = [f"bench-{file.stem}" for file in ROOT.glob("benchmarks/*.py")]
    named = [found[1] for line in code_lines(README) if (found := re.match(r" *make +(?:[A-Z_]+=\S+ +)*([a-z][\w-]*)", line))]
    assert {"demo", "test", "hm"} <= set(named) <= {*targets, *benchmarks}


def test_readme_has_a_row_for_every_command_and_for_no_other():
    commands = next(action.choices for action in _parser()._actions if action.choices)
    rows = [line for line in README.splitlines() if line.startswith("| `fashionrec ")]
    assert {name for row in rows for name in re.findall(r"`fashionrec ([\w-]+)", row)} == set(commands)


def test_the_results_in_readme_are_those_of_the_measurements():
    measured = (ROOT / "docs/measurements.md").read_text(encoding="utf-8").splitlines()
    rows = [line for line in README.partition("## Results")[2].partition("\n## ")[0].splitlines() if line.startswith("|")]
    assert rows
    assert [row for row in rows if row not in measured] == []
