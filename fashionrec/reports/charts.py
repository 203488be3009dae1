"""Charts as inline SVG whose colours are the page's own CSS variables, so that one picture serves light and dark."""

import html
import io
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = Mapping[str, Sequence[tuple[date, float]]]
Epochs = Mapping[str, Sequence[tuple[int, float]]]

# Colours that no chart needs stand for the page's variables until the SVG is written.
_INK, _MUTED, _GRID, _ACCENT, _QUIET = "#000001", "#000002", "#000003", "#000004", "#000005"
_VARIABLES = {_INK: "ink", _MUTED: "muted", _GRID: "line", _ACCENT: "accent", _QUIET: "quiet"}
SERIES_COLOURS = 8
_SERIES = [f"#0001{number:02x}" for number in range(SERIES_COLOURS)]
_VARIABLES |= {colour: f"series-{number}" for number, colour in enumerate(_SERIES)}
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",  # the page's own font, and text that can be selected
    "svg.hashsalt": "fashionrec",  # the same chart has the same bytes
    "font.size": 9.0,
    "text.color": _INK,
    "axes.edgecolor": _GRID,
    "axes.labelcolor": _MUTED,
    "xtick.color": _MUTED,
    "ytick.color": _MUTED,
    "text.parse_math": False,
}


def bar_chart(values: Mapping[str, float], *, highlight: str, maximum: float, label: str) -> str:
    """Return horizontal bars, one per name, with their values as percentages; `maximum` is the end of the axis, so that charts compare."""
    with _figure(3.3, 0.3 * len(values) + 0.1) as (figure, axes):
        names = list(values)
        axes.barh(names, list(values.values()), height=0.62, color=[_ACCENT if name == highlight else _QUIET for name in names])
        for row, (name, value) in enumerate(values.items()):
            weight = "bold" if name == highlight else "normal"
            axes.text(value + 0.02 * maximum, row, f"{value:.1%}", va="center", color=_INK, fontweight=weight)
        # Room for the longest bar's own value.
        axes.set_xlim(0, 1.22 * maximum)
        axes.set_xticks([])
        axes.invert_yaxis()
        axes.tick_params(length=0, labelcolor=_INK)
        axes.spines[:].set_visible(False)
        axes.spines["left"].set_visible(True)
        return _svg(figure, label)


def line_chart(series: Series, colours: Mapping[str, int], *, percent: bool, label: str) -> str:
    """Return one line per name over months; `colours` gives each name the number of its colour."""
    with _figure(4.4, 2.2) as (figure, axes):
        for name, points in series.items():
            days, values = zip(*sorted(points), strict=True)
            axes.plot(days, values, color=_SERIES[colours[name]], linewidth=2, marker="o", markersize=3.5, solid_capstyle="round")
        months = sorted({day for points in series.values() for day, _ in points})
        shown = months[:: math.ceil(len(months) / 6)]
        labels = [f"{day:%b}\n{day:%Y}" if n == 0 or day.year != shown[n - 1].year else f"{day:%b}" for n, day in enumerate(shown)]
        axes.set_xticks(np.array(shown, "datetime64[D]"), labels)
        axes.set_ylim(0, 1.08 * max(value for points in series.values() for _, value in points) or 1)
        axes.margins(x=0.05)
        _grid(axes, percent)
        return _svg(figure, label)


def epoch_chart(series: Epochs, colours: Mapping[str, int], *, kept: int | None, percent: bool, label: str) -> str:
    """Return one line per name over the epochs of a training; `kept` marks the epoch whose weights were kept."""
    with _figure(4.4, 2.2) as (figure, axes):
        if kept is not None:
            axes.axvline(kept, color=_MUTED, linewidth=1, linestyle=(0, (3, 3)))
        for name, points in series.items():
            epochs, values = zip(*sorted(points), strict=True)
            axes.plot(epochs, values, color=_SERIES[colours[name]], linewidth=2, marker="o", markersize=3.5, solid_capstyle="round")
            for epoch, value in points:
                if epoch == kept:
                    axes.plot([epoch], [value], color=_SERIES[colours[name]], marker="o", markersize=7)
        _from_the_start(axes, [point for points in series.values() for point in points])
        axes.set_xlabel("epoch")
        _grid(axes, percent)
        return _svg(figure, label)


def step_chart(line: Sequence[tuple[float, float]], dots: Sequence[tuple[float, float]], *, label: str) -> str:
    """Return a line over the steps of a training in the first colour, and dots of what is measured now and then in the second."""
    with _figure(4.4, 2.2) as (figure, axes):
        axes.plot(*zip(*line, strict=True), color=_SERIES[0], linewidth=1.5, solid_joinstyle="round")
        axes.plot(*zip(*dots, strict=True), color=_SERIES[1], linestyle="none", marker="o", markersize=6)
        _from_the_start(axes, [*line, *dots])
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.0f}")
        axes.set_xlabel("step")
        axes.set_ylabel("loss, nats per token")
        _grid(axes, percent=False)
        return _svg(figure, label)


def histogram(edges: Sequence[float], counts: Sequence[int], of_them: Sequence[int], *, middle: float, label: str) -> str:
    """Return bars over a logarithmic axis: `counts` (bins) between `edges` (bins + 1), `of_them` coloured, a dashed line at `middle`."""
    from matplotlib.ticker import LogLocator, NullLocator

    with _figure(4.4, 2.2) as (figure, axes):
        for heights, colour in ((counts, _QUIET), (of_them, _SERIES[0])):
            axes.bar(edges[:-1], heights, width=0.9 * np.diff(edges), align="edge", color=colour)
        axes.axvline(middle, color=_MUTED, linewidth=1, linestyle=(0, (3, 3)))
        axes.set_xscale("log")
        # Few decades have room for ticks between them.
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if edges[-1] < 1000 * edges[0] else (1,), numticks=8))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.12g}")
        axes.set_xlabel("perplexity")
        axes.set_ylabel("prompts")
        _grid(axes, percent=False)
        axes.locator_params(axis="y", integer=True)
        return _svg(figure, label)


def point_chart(groups: Mapping[str, NDArray[np.float32]], colours: Mapping[str, int], *, label: str) -> str:
    """Return a dot per item: `groups` holds the places of each name's items, (items, 2); a name without a colour is quiet and lies below.

    Dots are ends of lines without length, a few bytes each; matplotlib would take a hundred.
    """
    width, height, margin = 1000, 760, 12
    places = np.concatenate(list(groups.values()))
    low, size = places.min(axis=0), np.ptp(places, axis=0)
    scale = min((width - 2 * margin) / max(size[0], 1e-9), (height - 2 * margin) / max(size[1], 1e-9))
    centre = (np.array([width, height]) - scale * size) / 2
    paths = []
    for name in sorted(groups, key=lambda name: name in colours):
        colour = f"series-{colours[name]}" if name in colours else "quiet"
        dots = "".join(f"M{x} {height - y}h0" for x, y in np.rint((groups[name] - low) * scale + centre).astype(int).tolist())
        paths.append(f'<path d="{dots}" style="stroke: var(--{colour})"><title>{html.escape(name)}</title></path>')
    drawn = f'<g fill="none" stroke-width="9" stroke-linecap="round" stroke-opacity="0.75">{"".join(paths)}</g>'
    return f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="{html.escape(label)}">{drawn}</svg>'


def _from_the_start(axes: "Axes", points: Sequence[tuple[float, float]]) -> None:
    """Show both axes from 0, with a little room about the points."""
    last = max(place for place, _ in points)
    axes.set_ylim(0, 1.08 * max(value for _, value in points) or 1)
    axes.set_xlim(-0.04 * last, 1.04 * last)
    axes.locator_params(axis="x", integer=True, nbins=7)


def _grid(axes: "Axes", percent: bool) -> None:
    axes.locator_params(axis="y", nbins=4)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:.0%}" if percent else f"{value:,g}")
    axes.grid(axis="y", color=_GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(length=0)
    axes.spines[["left", "right", "top"]].set_visible(False)


@contextmanager
def _figure(width: float, height: float) -> Iterator[tuple["Figure", "Axes"]]:
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(width, height))
        axes = figure.subplots()
        axes.patch.set_visible(False)
        yield figure, axes


def _svg(figure: "Figure", label: str) -> str:
    buffer = io.StringIO()
    metadata = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, bbox_inches="tight", pad_inches=0.03, metadata=metadata)
    text = buffer.getvalue()
    box = re.search(r'viewBox="([^"]+)"', text)
    # What stands before the first group is the document's head, of no use inside a page; so are names that repeat from chart to chart.
    body = text[text.index("<g ") : text.rindex("</svg>")]
    body = re.sub(r' id="[a-zA-Z0-9.]+_\d+"', "", body)
    for colour, variable in _VARIABLES.items():
        body = body.replace(colour, f"var(--{variable})")
    return f'<svg viewBox="{box[1] if box else ""}" role="img" aria-label="{html.escape(label)}">{body}</svg>'
