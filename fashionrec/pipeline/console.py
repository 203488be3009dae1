"""The console that runs and commands print to."""

from rich.console import Console


def open_console(*, soft_wrap: bool = False) -> Console:
    """Return a console to which text is text: names and values of the data are never read as markup, nor as emoji.

    With `soft_wrap` a line is as long as it is, as a log file wants it.
    """
    return Console(markup=False, emoji=False, highlight=False, soft_wrap=soft_wrap)
