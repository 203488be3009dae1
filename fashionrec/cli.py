"""The command for people: fashionrec demo | run | release | import | world | show | memory | tables | pseudonym | doctor."""

import argparse
import logging
import math
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from fashionrec.commands import demo, doctor, release, show, tables
from fashionrec.commands.data_dictionary import data_dictionary
from fashionrec.commands.memory import memory
from fashionrec.errors import UserError
from fashionrec.lake.storage import require_local
from fashionrec.memory.normalise import normalise_text
from fashionrec.pipeline.console import open_console
from fashionrec.pipeline.job import (
    OneLineParser,
    add_run_arguments,
    add_settings_arguments,
    one_line_errors,
    parse_date,
    print_settings,
    start,
)
from fashionrec.pipeline.registry import STEPS, select_steps
from fashionrec.pipeline.runner import run_steps
from fashionrec.pipeline.workspace import Workspace, open_models, open_newest, open_workspace
from fashionrec.settings import Settings, load_settings
from fashionrec.sources.importers import importers

Command = Callable[[argparse.Namespace, Console], None]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command; exit with 1 and one line when it fails by something that can be mended, with 130 when it is interrupted."""
    options = _parser().parse_args(arguments)
    # What matters is printed by the runner; py4j and the libraries log their own lifecycle.
    logging.basicConfig(level=logging.WARNING)
    logging.getLogger("py4j").setLevel(logging.CRITICAL)
    command: Command = options.command
    with one_line_errors():
        command(options, open_console())


def _demo(options: argparse.Namespace, console: Console) -> None:
    demo.run(_settings(options, default="demo.yaml"), options.run_date, console, users=options.users)


def _run(options: argparse.Namespace, console: Console) -> None:
    settings, steps = _settings(options), select_steps(options.steps, options.skip)
    print_settings(settings, console)
    workspace = start(settings, options.run_date, console)
    show.summary(workspace, run_steps(workspace, steps, console), console)


def _list_releases(options: argparse.Namespace, console: Console) -> None:
    release.list_releases(open_models(_settings(options)), console)


def _show_release(options: argparse.Namespace, console: Console) -> None:
    release.show(open_models(_settings(options)), str(options.version) if options.version else None, console)


def _promote_release(options: argparse.Namespace, console: Console) -> None:
    release.promote(open_models(_settings(options)), str(options.version), console)


def _roll_back_release(options: argparse.Namespace, console: Console) -> None:
    release.rollback(open_models(_settings(options)), console)


def _import(options: argparse.Namespace, console: Console) -> None:
    importer, paths = importers()[options.name], _settings(options).paths
    folders = (require_local(paths.locate(name)) for name in ("raw_interactions", "raw_catalog"))
    counts = importer.import_files(Path(options.source), *folders)
    for name, value in counts.items():
        console.print(Text(f"{name}: {value:,}" if isinstance(value, int) else f"{name}: {value}"))
    console.print(Text("\n".join(["What the data does not say:", *(f"- {gap}" for gap in importer.gaps)])), soft_wrap=True)


def _world(options: argparse.Namespace, console: Console) -> None:
    from fashionrec.sources.world.shop import make_table_1_world

    paths = _settings(options).paths
    root = require_local(paths.locate("raw_interactions"))
    counts = make_table_1_world(
        root,
        require_local(paths.locate("raw_catalog")),
        end_date=options.run_date,
        days=options.days,
        scale=options.scale,
        seed=options.seed,
        verticals=options.verticals.split(","),
        heavy_user_events=options.heavy_user_events,
    )
    console.print(Text(f"A synthetic world in {root.parent}: {', '.join(f'{value:,} {name}' for name, value in counts.items())}"))


def _show(options: argparse.Namespace, console: Console) -> None:
    show.user(_workspace(options, "recommendations"), options.user, console)


def _memory(options: argparse.Namespace, console: Console) -> None:
    memory(_workspace(options, "query_hits"), options.query, console)


def _workspace(options: argparse.Namespace, table: str) -> Workspace:
    """Return the workspace of the date that is asked for, else of the newest that a table holds."""
    settings = _settings(options)
    return open_workspace(settings, options.run_date) if options.run_date else open_newest(settings, table)


def _tables(options: argparse.Namespace, console: Console) -> None:
    if options.table == "migrate":
        tables.migrate(_settings(options), console, dry_run=options.dry_run)
    elif options.table in ("expire", "optimise"):
        tables.maintain(_settings(options), options.table, options.run_date, console, dry_run=options.dry_run)
    elif options.dry_run or options.run_date:
        raise UserError("--dry-run and --run-date go with tables migrate, expire or optimise")
    elif options.markdown:
        sys.stdout.write(data_dictionary())
    elif options.table:
        tables.columns(options.table, console)
    else:
        tables.tables(_settings(options), console)


def _pseudonym(options: argparse.Namespace, _: Console) -> None:
    from fashionrec.ingest.pseudonyms import load_key, pseudonym

    key = load_key(_settings(options).ingest.user_key_file)
    for line in sys.stdin:
        print(pseudonym(key, line.rstrip("\r\n")))


def _doctor(options: argparse.Namespace, console: Console) -> None:
    doctor.check(_settings(options), console)


def _whole(least: int, most: int) -> Callable[[str], int]:
    """Return a reader of whole numbers within limits that raises argparse's error for any other text."""

    def read(text: str) -> int:
        # Python refuses to read numbers of very many digits.
        if not text.isascii() or not text.isdecimal() or len(text) > 20 or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text[:40]!r} is no whole number from {least}")
        if int(text) > most:
            raise argparse.ArgumentTypeError(f"{text!r} is more than {most:,}")
        return int(text)

    return read


def _query(text: str) -> str:
    """Return a query; raise argparse's error where no word of it is left once it is normalised."""
    if not normalise_text(text):
        raise argparse.ArgumentTypeError(f"{text!r} holds no word to look up")
    return text


def _scale(text: str) -> float:
    """Return a size above 0, at most 10 times the paper's; raise argparse's error otherwise."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0 and up to 10")
    return value


def _add_tables_arguments(parser: argparse.ArgumentParser) -> None:
    about = (
        "a table's name; or migrate: bring existing tables to a changed specification; expire: remove what has outlived its days "
        "(rows, files, indexes, staging, models); optimise: write small files together"
    )
    parser.add_argument("table", nargs="?", default="", metavar="TABLE|migrate|expire|optimise", help=about)
    parser.add_argument("--markdown", action="store_true", help="print the data dictionary of all tables")
    parser.add_argument("--dry-run", action="store_true", help="of migrate, expire and optimise: only say what would be done")
    add_run_arguments(parser, newest=True)


def _settings(options: argparse.Namespace, default: str = "local.yaml") -> Settings:
    from fashionrec.settings import resource

    return load_settings(options.conf or resource("conf") / default, options.set)


def _parser() -> argparse.ArgumentParser:
    parser = OneLineParser(prog="fashionrec", description="Daily fashion recommendations from interaction logs.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def add(name: str, command: Command, about: str, to: Any = commands) -> argparse.ArgumentParser:
        sub: argparse.ArgumentParser = to.add_parser(name, help=about, description=about)
        sub.set_defaults(command=command)
        return sub

    one = add("demo", _demo, "Make a small synthetic shop and run the whole pipeline on it.")
    one.add_argument("--run-date", type=parse_date, default=demo.RUN_DATE, metavar="YYYY-MM-DD", help=f"default: {demo.RUN_DATE}")
    one.add_argument("--users", type=_whole(1, 1_000_000), default=demo.USERS, help=f"users of the world (default: {demo.USERS})")
    add_settings_arguments(one)

    names = ", ".join(step.name for step in STEPS)
    one = add("run", _run, "Run the steps of one date in order.")
    add_run_arguments(one)
    one.add_argument("--steps", default="", metavar="A,B", help=f"only these, in the order of the flow: {names}")
    one.add_argument("--skip", default="", metavar="A,B", help="all but these")

    about = "List the releases, show one, or let another one serve."
    verbs = commands.add_parser("release", help=about, description=about).add_subparsers(required=True, metavar="VERB")
    add("list", _list_releases, "List the releases: parts, figures, which one serves and why.", verbs)
    one = add("show", _show_release, "Show one release: its parts with their hashes, tables, figures and why.", verbs)
    one.add_argument("version", nargs="?", type=_whole(1, 2**31 - 1), metavar="VERSION", help="its number (default: the one that serves)")
    one = add("promote", _promote_release, "Let a release serve from the next run on.", verbs)
    one.add_argument("version", type=_whole(1, 2**31 - 1), metavar="VERSION", help="its number")
    add("rollback", _roll_back_release, "Let the release serve that did before the present one.", verbs)
    for one in verbs.choices.values():
        add_settings_arguments(one)

    one = add("import", _import, "Turn a public data set in its original files into the raw contract.")
    about = "; ".join(f"{name}: {one.about}" for name, one in importers().items())
    one.add_argument("name", choices=sorted(importers()), help=about)
    one.add_argument("source", help="folder with the original files")
    add_settings_arguments(one)

    one = add("world", _world, "Write a synthetic world of the size of the paper's Table 1, or a part of it, as raw input.")
    one.add_argument(
        "--run-date", type=parse_date, default=demo.RUN_DATE, metavar="YYYY-MM-DD", help=f"its last day (default: {demo.RUN_DATE})"
    )
    one.add_argument("--days", type=_whole(1, 3_660), default=365, help="days up to it, at most ten years (default: 365)")
    one.add_argument("--scale", type=_scale, default=0.01, help="1 is Table 1: 5.9 million interactions (default: 0.01)")
    one.add_argument("--verticals", default="fashion,electronics,toys", metavar="A,B", help="default: fashion,electronics,toys")
    one.add_argument("--heavy-user-events", type=_whole(0, 1_000_000), default=200, help="events of one robot; 0: none (default: 200)")
    one.add_argument("--seed", type=_whole(0, 2**32 - 1), default=1, help="another seed, another world (default: 1)")
    add_settings_arguments(one)

    one = add("show", _show, "Show one user's journey with the memory's answers, prompt, answer and products with why.")
    one.add_argument("user", help="user_id; 'any' takes the first user with recommendations")
    add_run_arguments(one, newest=True)

    one = add("memory", _memory, "Show the remembered queries nearest to one, and their products.")
    one.add_argument("query", type=_query, help="a query as a shopper types it")
    add_run_arguments(one, newest=True)

    one = add("tables", _tables, "List the tables of the lake, or the columns of one; keep them: migrate, expire, optimise.")
    _add_tables_arguments(one)

    one = add("pseudonym", _pseudonym, "Read one user or device ID per line and print its pseudonym: for suppression lists and support.")
    add_settings_arguments(one)

    one = add("doctor", _doctor, "Check what a run needs: Java, Spark, Delta, the base model, the users' key, disk and memory.")
    add_settings_arguments(one)
    return parser
