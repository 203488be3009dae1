"""The entry point that every file of `jobs/` shares."""

import argparse
import json
import sys
from datetime import date

from rich.console import Console

from fashionrec.errors import UserError
from fashionrec.pipeline.registry import step_named
from fashionrec.pipeline.runner import new_run, run_steps
from fashionrec.settings import load_settings, settings_hash


def main(name: str) -> None:
    """Run one step by the arguments of the command line; exit with 1 and one line when it fails by something that can be mended."""
    parser = argparse.ArgumentParser(prog=f"{name}.py", description=step_named(name).about)
    add_run_arguments(parser)
    arguments = parser.parse_args()
    # A log file is no terminal: no colours, and lines as long as they are.
    console = Console(soft_wrap=True)
    try:
        settings = load_settings(arguments.conf, arguments.set)
        console.print(f"settings {settings_hash(settings)}: {json.dumps(settings.model_dump(mode='json'))}", highlight=False)
        run_steps(new_run(settings, arguments.run_date), [step_named(name)], console)
    except UserError as error:
        sys.exit(f"error: {error}")


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
        return date.fromisoformat(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no date; write it as YYYY-MM-DD") from None
