"""What the command shows of releases, and how it lets another one serve."""

from collections.abc import Mapping

from rich.console import Console
from rich.table import Table
from rich.text import Text

from fashionrec.errors import UserError
from fashionrec.pipeline import releases
from fashionrec.pipeline.models import ModelRegistry, Record

# Of a release's figures, those that the list has room for.
_MAIN_FIGURES = ("recall", "ndcg", "mrr")


def list_releases(models: ModelRegistry, console: Console) -> None:
    """Print all releases, the newest first; raise UserError where there is none."""
    records = releases.history(models)
    if not records:
        raise UserError(f"no release is registered under {models.root}; run the training steps first")
    table = Table(title=Text(f"Releases of {models.root}"), title_justify="left")
    for column in ("version", "trained for", "parts", "figures", "state", "why"):
        table.add_column(column, overflow="fold")  # in a narrow terminal, too, nothing is left out
    for record in records:
        figures = {name: value for name, value in record.metrics.items() if any(main in name for main in _MAIN_FIGURES)}
        table.add_row(*map(Text, (record.version, record.trained_for, _parts(record), _figures(figures), record.state, record.why)))
    console.print(table)


def show(models: ModelRegistry, number: str | None, console: Console) -> None:
    """Print a release, by default the one that serves, with all that is kept of it.

    Raises:
        UserError: there is none of that number, or files of it or of a part are missing or changed.
    """
    release = releases.release(models, number) if number else releases.serving(models)
    (record,) = (record for record in releases.history(models) if record.version == release.version.version)
    tables = ", ".join(f"{table} {version}" for table, version in record.inputs.items())
    parts = (f"{part}: {one.label}, trained for {one.trained_for}, sha256 {one.sha256}" for part, one in sorted(release.parts.items()))
    console.print(Text(f"{release.label}, trained for {release.trained_for}: {record.state}", "bold"))
    for line in (f"why: {record.why or '-'}", *parts, f"tables: {tables or '-'}", f"figures: {_figures(record.metrics) or '-'}"):
        console.print(Text(line), soft_wrap=True)


def promote(models: ModelRegistry, number: str, console: Console) -> None:
    """Let a release serve; raise UserError where there is none of that number, or files are missing or changed."""
    release = releases.release(models, number)
    releases.promote(models, release, "promoted by hand")
    console.print(Text(f"{release.label} serves now: the next run uses it"))


def rollback(models: ModelRegistry, console: Console) -> None:
    """Let the release serve that did before; raise UserError where there is none, or files are missing or changed."""
    console.print(Text(f"{releases.rollback(models).label} serves again: the next run uses it"))


def _parts(record: Record) -> str:
    """Return the version of each part in one line; a model that plays the part of its own name needs no other."""
    labels = sorted(record.params.items())
    return " ".join(label if label.startswith(f"{part}@") else f"{part}={label}" for part, label in labels)


def _figures(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in sorted(figures.items()))
