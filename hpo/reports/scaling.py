"""The chart of a metric over training-set size: as text for a terminal, and as PNG."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpo.errors import HpoError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_VALIDATION, _TRAINING, _EDGE, _GOAL, _NOW = "o", "x", "·", "-", "|"
_BLUE, _ORANGE, _GREY, _GREEN = 33, 208, 244, 34
_MARGIN = 1.1  # how far left of the smallest size the picture begins
_WIDEST = 30.0  # how many times below the least validation value anything is still drawn


@dataclass(frozen=True)
class ScalingChart:
    """A metric over training-set size, measured and expected.

    Args:
        metric: Its name.
        unit: What sizes are.
        sizes: Of the measurements, shape (k,).
        values: Measured on the validation part, shape (k,).
        train_sizes: Of the measurements on the training part, shape (j,).
        train_values: Measured there, shape (j,).
        n: Sizes of the curve, rising, shape (m,).
        middle: What is expected there, shape (m,).
        ahead: Sizes of the interval, those from the largest measurement on, shape (l,).
        low: Its lower end, shape (l,).
        high: Its upper end, shape (l,).
        now: The size of all data.
        target: The value wanted, if there is one.
        note: The answer in words.
        rises: Whether larger values are better.
    """

    metric: str
    unit: str
    sizes: Sequence[float]
    values: Sequence[float]
    train_sizes: Sequence[float]
    train_values: Sequence[float]
    n: Sequence[float]
    middle: Sequence[float]
    ahead: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    now: float
    target: float | None
    note: str
    rises: bool = False

    @property
    def is_log(self) -> bool:
        """Whether the y axis is logarithmic: a power law is a straight line then."""
        wanted = [*self.values, *self.middle, *([] if self.target is None else [self.target])]
        return not self.rises and min(wanted) > 0

    @property
    def limits(self) -> tuple[float, float]:
        """The least and the greatest y that are shown; intervals may be cut there."""
        seen = [*self.values, *self.middle, *self.high, *self.low]
        seen += [] if self.target is None else [self.target]
        if self.is_log:
            least = min([*self.values, *self.middle, *([self.target] if self.target else [])])
            lowest = least / _WIDEST
            low = max(min(y for y in seen if y > 0), lowest)
            train = [y for y in self.train_values if y >= lowest]
            return min([low, *train]) * 0.9, max([*self.values, *self.middle]) * 1.2
        seen += self.train_values
        low, high = min(seen), max(seen)
        margin = 0.04 * ((high - low) or abs(high) or 1.0)
        return low - margin, high + margin


def as_text(chart: ScalingChart, *, width: int = 80, height: int = 20, colour: bool = False) -> str:
    """Draws the chart in characters.

    Args:
        chart: What to draw.
        width: Columns that it may take.
        height: Lines of the drawing, without its title and legend.
        colour: Whether marks have colours, too.
    """
    import plotext

    low, high = chart.limits
    y_of: Callable[[float], float] = math.log10 if chart.is_log else float
    plotext.clear_figure()
    plotext.theme("clear")
    plotext.limit_size(False, False)
    plotext.plot_size(width, height)

    def draw(
        how: Callable[..., None], x: Sequence[float], y: Sequence[float], mark: str, tint: int
    ) -> None:
        seen = [(math.log10(a), y_of(b)) for a, b in zip(x, y, strict=True) if low <= b <= high]
        if seen:
            how(*map(list, zip(*seen, strict=True)), marker=mark, color=tint)

    for edge in (chart.low, chart.high):
        draw(plotext.plot, chart.ahead, edge, _EDGE, _GREY)
    if chart.target is not None:
        draw(plotext.plot, chart.n, [chart.target] * len(chart.n), _GOAL, _GREEN)
    draw(plotext.plot, chart.n, chart.middle, "braille", _BLUE)
    draw(plotext.scatter, chart.train_sizes, chart.train_values, _TRAINING, _ORANGE)
    draw(plotext.scatter, chart.sizes, chart.values, _VALIDATION, _BLUE)
    _axes(plotext, chart, y_of)
    drawn = plotext.build()
    if not colour:
        drawn = plotext.uncolorize(drawn)
    scales = "both axes" if chart.is_log else "the size"
    lines = [f"{chart.metric} over {chart.unit}, {scales} on a log scale", *drawn.splitlines()]
    return "\n".join(line.rstrip() for line in [*lines, _legend(chart)])


def _axes(plotext: object, chart: ScalingChart, y_of: Callable[[float], float]) -> None:
    low, high = chart.limits
    y_ticks = round_numbers(low, high) if chart.is_log else _even(low, high)
    x_ticks = round_numbers(chart.n[0], chart.n[-1])
    draw = plotext  # a module without types
    draw.ylim(y_of(low), y_of(high))  # type: ignore[attr-defined]
    draw.yticks([y_of(y) for y in y_ticks], [f"{y:.3g}" for y in y_ticks])  # type: ignore[attr-defined]
    draw.xlim(math.log10(chart.n[0]), math.log10(chart.n[-1]))  # type: ignore[attr-defined]
    labels = [f"{x:,.0f}" for x in x_ticks]
    draw.xticks([math.log10(x) for x in x_ticks], labels)  # type: ignore[attr-defined]
    draw.vline(math.log10(chart.now), _GREY)  # type: ignore[attr-defined]


def _legend(chart: ScalingChart) -> str:
    parts = [f"{_VALIDATION} validation"]
    if chart.train_values:
        parts.append(f"{_TRAINING} {_of_training(chart)}")
    parts += ["⠒ expected", f"{_EDGE} 90% interval"]
    if chart.target is not None:
        parts.append(f"{_GOAL} target {chart.target:g}")
    return "   ".join([*parts, f"│ all {chart.now:,.0f}"])


def _of_training(chart: ScalingChart) -> str:
    """What the training part's marks are called; a logarithm has no place for an error of 0."""
    low, _ = chart.limits
    n, n_lower = len(chart.train_values), sum(y < low for y in chart.train_values)
    return f"training ({n_lower} of {n} below the axis)" if n_lower else "training"


def round_numbers(low: float, high: float) -> list[float]:
    """The numbers 1, 2, 5, 10, ... from low to high; only powers of ten where they are many."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    every = [m * 10.0**p for p in range(first, last + 1) for m in (1, 2, 5)]
    seen = [x for x in every if low * (1 - 1e-9) <= x <= high * (1 + 1e-9)]
    if len(seen) <= 9:
        return seen
    return [x for x in seen if math.isclose(math.log10(x), round(math.log10(x)), abs_tol=1e-9)]


def _even(low: float, high: float) -> list[float]:
    power = 10.0 ** math.floor(math.log10((high - low) / 5))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= (high - low) / 6)
    return [step * i for i in range(math.ceil(low / step), math.floor(high / step) + 1)]


def write_png(chart: ScalingChart, path: Path) -> None:
    """Draws the chart into a PNG file.

    Raises:
        HpoError: the file cannot be written.
    """
    try:
        figure(chart).savefig(path, format="png")
    except OSError as error:
        raise HpoError(f"cannot write {path}: {error.strerror or error}.") from None


def figure(chart: ScalingChart) -> Figure:
    """The chart, drawn by Matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter, StrMethodFormatter

    found = Figure(figsize=(8, 5), dpi=120, layout="constrained")
    FigureCanvasAgg(found)
    axes = found.subplots()
    axes.fill_between(chart.ahead, chart.low, chart.high, alpha=0.2, lw=0, label="90% interval")
    axes.plot(chart.n, chart.middle, color="C0", label="expected")
    if chart.train_values:
        axes.plot(chart.train_sizes, chart.train_values, "x", color="C1", label=_of_training(chart))
    axes.plot(chart.sizes, chart.values, "o", color="C0", ms=4, label="validation")
    if chart.target is not None:
        axes.axhline(chart.target, color="C2", ls="--", label=f"target {chart.target:g}")
    axes.axvline(chart.now, color="gray", lw=0.8, label=f"all {chart.now:,.0f}")
    axes.set_xscale("log")
    # A point at the smallest size is drawn whole.
    axes.set_xlim(chart.n[0] / _MARGIN, chart.n[-1])
    axes.set_xticks(round_numbers(chart.n[0], chart.n[-1]))
    axes.xaxis.set_major_formatter(StrMethodFormatter("{x:,.0f}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    if chart.is_log:
        axes.set_yscale("log")
        axes.set_yticks(round_numbers(*chart.limits))
        axes.yaxis.set_major_formatter(StrMethodFormatter("{x:.3g}"))
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_ylim(*chart.limits)
    axes.set(xlabel=chart.unit, ylabel=chart.metric)
    axes.set_title(chart.note, fontsize="small", wrap=True)
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return found
