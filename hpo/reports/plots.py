"""Charts of named curves: as text for a terminal, and as PNG."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpo.errors import HpoError

_MARKS = "123456789abcdefghijklmnopqrstuvwxyz"
# plotext's and every terminal's numbers of colours that show on black and on white; blue, orange
# and purple first, which most people tell apart.
_COLOURS = (33, 208, 129, 34, 198, 37, 160, 100, 244, 94)
_LINES = ("-", "--", ":", "-.")
_LOW = 0.02
_ESCAPES = re.compile(r"\x1b\[[\d;]*m")


@dataclass(frozen=True)
class Curve:
    """A line through points.

    Args:
        name: What the legend calls it.
        x: Ascending.
        y: As many, finite.
    """

    name: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True)
class Chart:
    """Curves over one pair of axes.

    Args:
        x_label: What x is.
        y_label: What y is.
        curves: At least one, each with at least one point.
        note: What else a reader must know.
    """

    x_label: str
    y_label: str
    curves: Sequence[Curve]
    note: str = ""

    @property
    def is_log(self) -> bool:
        """Whether the y axis is logarithmic: a quarter of all points would else lie on the floor.

        What dips under a fiftieth of the top for a moment, as most decays do at their end, is
        easier to read on a linear axis; what stays there is not.
        """
        values = sorted(y for curve in self.curves for y in curve.y)
        return values[0] > 0 and values[len(values) // 4] < _LOW * values[-1]


def precision_over_recall(
    precision: Iterable[float], recall: Iterable[float], *, note: str = ""
) -> Chart:
    """The chart of a classifier that answers "yes" more and more readily.

    Args:
        precision: Of the answers "yes", the share that is right.
        recall: Of what is to be found, the share that is; as many, falling, as
            `hpo.trainers.metrics.precision_recall` gives them.
        note: What else a reader must know.
    """
    x, y = ([float(value) for value in values][::-1] for values in (recall, precision))
    return Chart("recall", "precision", [Curve("precision", x, y)], note)


def as_text(chart: Chart, *, width: int = 80, height: int = 20, colour: bool = False) -> str:
    """Draws a chart in characters.

    Args:
        chart: What to draw.
        width: Columns that it may take.
        height: Lines of the drawing, without title, legend and note.
        colour: Whether the curves differ by colour; if not, by the characters they are made of.
    """
    import plotext

    several = len(chart.curves) > 1
    scale = math.log10 if chart.is_log else float
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plot_size(width, height)
    for place, curve in enumerate(chart.curves):
        mark = _MARKS[place % len(_MARKS)] if several and not colour else "braille"
        tint = _COLOURS[place % len(_COLOURS)]
        plotext.plot(list(curve.x), [scale(y) for y in curve.y], marker=mark, color=tint)
    low, high = _limits(chart)
    ticks = _decades(low, high) if chart.is_log else _ticks(low, high)
    plotext.ylim(scale(low), scale(high))
    plotext.yticks([scale(tick) for tick in ticks], [f"{tick:g}" for tick in ticks])
    first, last = min(c.x[0] for c in chart.curves), max(c.x[-1] for c in chart.curves)
    ticks = _ticks(first, last + 0.01 * (last - first))  # 29.95 epochs are 30 to a reader
    plotext.xlim(first, max(last, ticks[-1]))
    plotext.xticks(ticks, [f"{tick:g}" for tick in ticks])
    plotext.xlabel(chart.x_label)
    drawn = plotext.build()
    if not colour:
        drawn = plotext.uncolorize(drawn)
    head = [chart.y_label + (", on a log scale" if chart.is_log else "")]
    legend = _legend(chart.curves, width, colour=colour) if several else []
    note = _wrapped(chart.note.split(), width) if chart.note else []
    lines = [*head, *legend, *drawn.splitlines(), *note]
    return "\n".join(line.rstrip() for line in lines)


def write_image(charts: Sequence[Chart], path: Path) -> None:
    """Draws charts below one another into a file, as SVG if it is called so, else as PNG.

    Raises:
        HpoError: the file cannot be written.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 4.2 * len(charts)), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for chart, axes in zip(charts, figure.subplots(len(charts), squeeze=False)[:, 0], strict=True):
        for place, curve in enumerate(chart.curves):
            line = _LINES[place // 10 % len(_LINES)]
            axes.plot(curve.x, curve.y, linestyle=line, label=curve.name)
        axes.set(xlabel=chart.x_label, ylabel=chart.y_label)
        if chart.is_log:
            axes.set_yscale("log")
        else:
            axes.set_ylim(*_padded(*_limits(chart)))
        axes.margins(x=0.01)
        axes.grid(alpha=0.3)
        if len(chart.curves) > 1:
            axes.legend(fontsize="small")
        if chart.note:
            axes.set_title(chart.note, fontsize="small", color="gray", wrap=True)
    try:
        figure.savefig(path, format="svg" if path.suffix == ".svg" else "png")
    except FileNotFoundError:
        folder = path.parent
        sentence = f"cannot write {path}: there is no folder {folder}."
        raise HpoError(sentence, f"Make it: mkdir -p {folder}") from None
    except IsADirectoryError:
        sentence = f"cannot write {path}: it is a folder."
        raise HpoError(sentence, f"Name a file in it: {path / 'plot.png'}") from None
    except OSError as error:
        raise HpoError(f"cannot write {path}: {error.strerror or error}.") from None


def _limits(chart: Chart) -> tuple[float, float]:
    """The least and the greatest y of an axis that shows all curves."""
    values = [y for curve in chart.curves for y in curve.y]
    low, high = min(values), max(values)
    if chart.is_log:
        return low, high
    if 0 <= low < high / 2:
        low = 0.0  # where it is not far, 0 tells how much of the whole is left
    return (low, high) if low < high else (low - abs(low) / 2, high + (abs(high) / 2 or 1.0))


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.03 * (high - low)
    return low - margin if low else low, high + margin


def _ticks(low: float, high: float) -> list[float]:
    """A few round numbers from low to high."""
    if low == high:
        return [low]
    rough = (high - low) / 6
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.98)
    places = range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)
    return [float(f"{place * step:.12g}") for place in places]


def _decades(low: float, high: float) -> list[float]:
    """The powers of ten from low to high."""
    first, last = math.log10(low), math.log10(high)
    return [10.0**p for p in range(math.ceil(first - 1e-9), math.floor(last + 1e-9) + 1)]


def _legend(curves: Iterable[Curve], width: int, *, colour: bool) -> list[str]:
    """Each curve's mark and name, in lines no longer than width."""
    marks = (
        f"\x1b[38;5;{_COLOURS[place % len(_COLOURS)]}m━━\x1b[0m" if colour else mark
        for place, mark in enumerate(itertools.cycle(_MARKS))
    )
    entries = (f"{mark} {curve.name}" for curve, mark in zip(curves, marks, strict=False))
    return _wrapped(entries, width, gap="   ")


def _wrapped(parts: Iterable[str], width: int, gap: str = " ") -> list[str]:
    """The parts in lines no longer than width, if a part is not."""
    lines: list[str] = []
    for part in parts:
        if lines and len(_ESCAPES.sub("", lines[-1] + gap + part)) <= width:
            lines[-1] += gap + part
        else:
            lines.append(part)
    return lines
