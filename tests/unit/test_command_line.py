"""What entry points print: never markup, no password, and how they end."""

import io

import pytest
from rich.table import Table
from rich.text import Text

from fashionrec.errors import UserError
from fashionrec.pipeline import job
from fashionrec.pipeline.console import open_console
from fashionrec.settings import load_settings, resource


def test_data_is_never_markup_wherever_it_is_printed(capsys):
    for data in ("[/b]", "[red]x", ":smile:", "[link=file:///x]"):
        console = open_console(soft_wrap=True)
        table = Table(data, title=data)
        table.add_column(data)
        table.add_row(data, Text(data))
        console.print(table)
        console.print(Text(data))
        console.print(data)
        console.rule(data)
        assert capsys.readouterr().out.count(data) == 8


@pytest.mark.parametrize("error", [UserError, ValueError, OSError])
def test_no_error_tells_who_may_enter_a_uri(error):
    with pytest.raises(SystemExit) as ended, job.one_line_errors():
        raise error(f"http://user:{'pa55' + 'word'}@host does not answer")
    assert "pa55word" not in str(ended.value.code)
    assert "http://***@host" in str(ended.value.code)
    assert ("Traceback" in str(ended.value.code)) == (error is not UserError)


def test_a_log_is_told_before_spark_starts(monkeypatch):
    out = io.StringIO()
    console = open_console(soft_wrap=True)
    console.file = out
    said = []
    monkeypatch.setattr(job, "open_workspace", lambda *_: said.append(out.getvalue()))
    settings = load_settings(resource("conf") / "test.yaml", ["mlflow.tracking_uri=http://user:password@host"])
    job.print_settings(settings, console)
    job.start(settings, None, console)
    first, second = said[0].splitlines()
    assert first.startswith("settings ")
    assert "password" not in first
    assert second.startswith("Spark starts at ")
