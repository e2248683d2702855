"""The chart of a metric over training-set size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from hpo.errors import HpoError
from hpo.reports.scaling import ScalingChart, as_text, figure, round_numbers, write_png

CHART = ScalingChart(
    "val_error", "training examples",
    sizes=[10, 100, 1000], values=[0.5, 0.2, 0.08],
    train_sizes=[10, 100, 1000], train_values=[0.0, 0.01, 0.02],
    n=[10, 100, 1000, 10_000], middle=[0.5, 0.2, 0.08, 0.04],
    ahead=[1000, 10_000], low=[0.06, 0.0], high=[0.1, 0.08], now=1000, target=0.05,
    note="2.5x the data reaches 0.05",
)  # fmt: skip
SCORE = replace(
    CHART,
    metric="val_accuracy",
    values=[0.5, 0.8, 0.92],
    train_values=[1.0, 0.99, 0.98],
    middle=[0.5, 0.8, 0.92, 0.96],
    low=[0.9, 0.92],
    high=[0.94, 1.0],
    target=0.95,
    rises=True,
)
CONSTANT = replace(
    CHART, sizes=[10], values=[0.0], train_sizes=[], train_values=[], low=[0.0] * 2,
    middle=[0.0] * 4, high=[0.0] * 2, target=None,
)  # fmt: skip
CHARTS = [CHART, SCORE, CONSTANT, replace(CHART, target=None), replace(CHART, target=0.0)]


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize("colour", [False, True])
def test_as_text_it_fits_and_names_what_it_shows(
    chart: ScalingChart,
    colour: bool,  # noqa: FBT001 - a parameter of a test
) -> None:
    text = as_text(chart, width=70, height=15, colour=colour)
    title, *drawing = text.splitlines()
    assert title.startswith(f"{chart.metric} over training examples, ")
    assert ("both axes" in title) == chart.is_log
    assert "o validation" in drawing[-1]
    assert ("target" in drawing[-1]) == (chart.target is not None)
    assert len(drawing) == 16
    if not colour:
        assert "\x1b" not in text
        assert max(map(len, drawing[:-1])) <= 70


def test_training_errors_below_the_interval_are_shown_where_they_are_not_far_below() -> None:
    chart = replace(CHART, low=[0.06, 0.03], high=[0.1, 0.08], train_values=[0.0, 0.01, 0.02])
    assert "training (1 of 3 below the axis)" in as_text(chart, width=90)


@pytest.mark.parametrize("chart", CHARTS)
def test_as_png_it_is_a_picture(chart: ScalingChart, tmp_path: Path) -> None:
    path = tmp_path / "chart.png"
    write_png(chart, path)
    with Image.open(path) as image:
        image.verify()
        assert image.format == "PNG"


def test_points_at_the_smallest_size_are_drawn_whole() -> None:
    (axes,) = figure(CHART).axes
    left, right = axes.get_xlim()
    assert left < 0.95 * min(CHART.sizes)
    assert right == max(CHART.n)


@pytest.mark.parametrize(
    ("train", "name"),
    [
        ([0.2, 0.1, 0.05], "training"),
        ([0.2, 0.0, 0.05], "training (1 of 3 below the axis)"),
        ([0.0, 0.0, 0.0], "training (3 of 3 below the axis)"),
    ],
)
def test_the_legend_counts_what_a_logarithm_has_no_place_for(train: list[float], name: str) -> None:
    chart = replace(CHART, train_values=train)
    assert f"x {name}   " in as_text(chart).splitlines()[-1]
    legend = figure(chart).axes[0].get_legend()
    assert legend is not None
    assert name in [text.get_text() for text in legend.get_texts()]


def test_a_picture_that_cannot_be_written_is_explained(tmp_path: Path) -> None:
    with pytest.raises(HpoError, match="cannot write"):
        write_png(CHART, tmp_path / "nowhere" / "chart.png")


def test_round_numbers() -> None:
    assert round_numbers(10, 1000) == [10, 20, 50, 100, 200, 500, 1000]
    assert round_numbers(0.03, 0.4) == pytest.approx([0.05, 0.1, 0.2])
    assert round_numbers(1, 1e6) == [10.0**p for p in range(7)]
