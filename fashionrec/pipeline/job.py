"""The entry point that every file of `jobs/` shares, and what it has alike with the command."""

import argparse
import json
import logging
import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime
from pathlib import Path
from typing import NoReturn

from rich.console import Console
from rich.text import Text

from fashionrec.errors import UserError
from fashionrec.pipeline.console import open_console
from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.workspace import Workspace, open_workspace
from fashionrec.settings import Settings, load_settings, settings_hash, shown_settings, without_passwords

# Of run dates: what lies outside is a slip, and the days before it may be no dates at all.
_YEARS = (1980, 2999)
_INTERRUPTED = 130  # 128 and the number of SIGINT, as a shell says it


class OneLineParser(argparse.ArgumentParser):
    """A parser whose errors are one line; what would be right stands in --help."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: error: {message} (see {self.prog} --help)\n")


def main(name: str) -> None:
    """Run one step by the arguments of the command line; exit with 1 and one line when it fails by something that can be mended."""
    parser = OneLineParser(prog=f"{name}.py", description=step_named(name).about)
    add_run_arguments(parser)
    arguments = parser.parse_args()
    # A log file is no terminal: lines are as long as they are.
    console = open_console(soft_wrap=True)
    with one_line_errors():
        settings = load_settings(arguments.conf, arguments.set)
        print_settings(settings, console)
        run_steps(start(settings, arguments.run_date, console), [step_named(name)], console)


def print_settings(settings: Settings, console: Console) -> None:
    """Print the settings of a run in one line, without passwords."""
    console.print(Text(f"settings {settings_hash(settings)}: {json.dumps(shown_settings(settings))}"), soft_wrap=True)


def start(settings: Settings, run_date: date, console: Console) -> Workspace:
    """Return the workspace of a date, with Spark started; a log, which has no moving line, is told before what takes its seconds."""
    if not console.is_terminal:
        console.print(Text(f"Spark starts at {datetime.now(UTC):%H:%M:%S} UTC"))
    return open_workspace(settings, run_date)


@contextmanager
def one_line_errors() -> Iterator[None]:
    """End the process with one line and status 1 for what its user can mend, with 130 for Ctrl-C; other errors keep their traceback.

    No text of an error shows the password of a URI.
    """
    logging.getLogger().addFilter(_not_of_gateway)
    try:
        yield
    except UserError as error:
        sys.exit(f"error: {without_passwords(str(error))}")
    except BrokenPipeError:
        # Whoever read the output has gone, as `head` does: nothing is left to say, nor to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        # Disks and rights are their user's; what the package finds out about its own files is a UserError.
        sys.exit(_traceback() if error.filename is None else f"error: {error.filename}: {error.strerror}")
    except KeyboardInterrupt:
        sys.stderr.write("interrupted: tables of unfinished steps are as they were\n")
        sys.exit(_INTERRUPTED)
    except Exception:
        sys.exit(_traceback())


def _traceback() -> str:
    return without_passwords(traceback.format_exc())


def _not_of_gateway(record: logging.LogRecord) -> bool:
    """Return whether a record is not py4j's, which logs each call that Ctrl-C cuts, with a traceback, by the root logger."""
    return "py4j" not in Path(record.pathname).parts


def add_run_arguments(parser: argparse.ArgumentParser, *, newest: bool = False) -> None:
    """Add the arguments that name a run: its settings and its date, which need not be given where the newest one serves."""
    about = "the date that the run is for" + (" (default: the newest there is)" if newest else "")
    parser.add_argument("--run-date", required=not newest, type=parse_date, metavar="YYYY-MM-DD", help=about)
    add_settings_arguments(parser)


def add_settings_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments that choose the settings."""
    parser.add_argument("--conf", metavar="FILE", help="settings file (default: conf/local.yaml); base.yaml beside it explains every key")
    parser.add_argument("--set", action="append", default=[], metavar="A.B=VALUE", help="override one setting; may be repeated")


def parse_date(text: str) -> date:
    """Return the date of YYYY-MM-DD; raise argparse's error otherwise."""
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write it as YYYY-MM-DD") from None
    if not _YEARS[0] <= day.year <= _YEARS[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is no date of a shop's log: its year is not {_YEARS[0]} to {_YEARS[1]}")
    return day
