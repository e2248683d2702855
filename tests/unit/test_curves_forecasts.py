"""Forecasts of curves whose continuation is plain, and input that is refused."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.numpy import load_file

import hpo
from hpo.curves import Distribution, forecast_batch, network, training
from hpo.curves.distributions import mixture
from hpo.curves.prior import Prior
from hpo.curves.scales import LOWEST, confirmed
from hpo.curves.training import N_CURVES, Network, beside_each, draw, loss_of
from hpo.directions import Direction

_T = np.arange(1.0, 101)


def test_a_power_law_goes_on_as_a_power_law() -> None:
    loss = 0.2 + 0.8 * _T**-0.5
    found = hpo.forecast(loss[:40], 100, at=100)
    low, median, high = found.quantile([0.05, 0.5, 0.95])[:, 0]
    assert low < loss[-1] < high
    assert median == pytest.approx(loss[-1], abs=0.015)


def test_what_went_well_for_long_is_hardly_expected_to_blow_up() -> None:
    loss = 0.2 + 0.8 * _T**-0.5
    for n, likely in ((5, 0.1), (40, 0.03)):
        assert hpo.forecast(loss[:n], 100, at=100).cdf(loss[0])[0] > 1 - likely


def test_it_is_surer_of_the_near_than_of_the_far() -> None:
    score = 0.9 - 0.8 * np.exp(-_T / 20)
    found = hpo.forecast(score[:20], 100, direction="maximize")
    assert found.steps.tolist() == list(range(21, 101))
    assert found.std[0] < found.std[-1]
    assert found.final.mean[0] == found.mean[-1]


def test_a_flat_curve_is_expected_to_stay_but_not_for_sure() -> None:
    found = hpo.forecast(np.full(30, 0.693), 60, bounds=(0, 2), at=60)
    assert found.quantile(0.5)[0] == pytest.approx(0.693, abs=0.01)
    assert found.std[0] > 0


def test_a_curve_that_repeats_its_value_is_not_said_to_improve_on_it() -> None:
    loss, score = np.full(30, 0.9), np.full(30, 0.6)
    assert hpo.forecast(loss, 50, at=50).prob_better_than(0.9)[0] < 0.3
    found = hpo.forecast(score, 50, direction="maximize", bounds=(0, 1), at=50)
    assert found.prob_better_than(0.6)[0] < 0.3
    # In a study where every curve is as flat, it is surer.
    history = [np.full(50, 0.6)] * 5
    found = hpo.forecast(score, 50, direction="maximize", bounds=(0, 1), history=history, at=50)
    assert found.prob_better_than(0.6)[0] < 0.1
    assert found.prob_better_than(0.59)[0] > 0.95


def test_rounding_is_no_change() -> None:
    """Of a dead network, in single precision."""
    noise = 1e-7 * np.random.default_rng(0).normal(size=10)
    exact, rounded = (hpo.forecast(2.3025851 + x, 30).final for x in (0 * noise, noise))
    expected = exact.prob_better_than(2.3025851)[0]
    assert rounded.prob_better_than(2.3025851)[0] == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize(("bound", "beside"), [(0.0, 0.02), (1.0, 0.98)])
def test_a_value_that_is_repeated_stays_no_less_likely_at_a_bound(
    bound: float, beside: float
) -> None:
    def stays(value: float) -> float:
        curve = np.full(30, value)
        found = hpo.forecast(curve, 50, direction="maximize", bounds=(0, 1), at=50)
        return float((found.cdf(value + 1e-4) - found.cdf(value - 1e-4))[0])

    assert stays(bound) > stays(beside) - 0.01


def test_a_value_that_was_not_repeated_is_as_likely_again_as_those_beside_it() -> None:
    found = hpo.forecast([0.5, 0.51, 0.49, 0.5, 0.505], 50, at=50)
    below, same, above = (float(found.density(0.505 + x)[0]) for x in (-2e-4, 0.0, 2e-4))
    assert min(below, above) * 0.99 <= same <= max(below, above) * 1.01


def test_a_loss_of_zero_may_yet_grow() -> None:
    assert hpo.forecast(np.zeros(5), 50, at=50).std[0] > 0.01


def test_a_large_offset_does_not_hide_what_a_study_does() -> None:
    curves = [0.5 + k / 20 + _T**-0.5 for k in range(8)]
    for offset in (0, 1e3, 1e5):
        history = [c + offset for c in curves[1:]]
        found = hpo.forecast(curves[0][:30] + offset, 100, history=history, at=100)
        assert found.mean[0] - offset == pytest.approx(curves[0][-1], abs=0.05)
        low, high = found.quantile([0.05, 0.95])[:, 0]
        assert high - low < 0.3


def test_curves_may_come_as_lists_tuples_arrays_and_tables() -> None:
    history = np.random.default_rng(0).uniform(size=(5, 10))
    one = hpo.forecast((0.5, 0.4), 10, history=history)
    other = hpo.forecast(np.array([0.5, 0.4]), 10, history=[list(h) for h in history])
    assert np.array_equal(one.mean, other.mean)


def test_histories_may_be_tables_series_and_generators() -> None:
    curves = [0.2 + level + _T[:20] ** -0.5 for level in np.linspace(0, 0.3, 60)]
    given = (pd.DataFrame(curves), pd.Series(curves, index=range(100, 160)), iter(curves))
    expected = hpo.forecast([1.2, 0.9], 20, history=curves).final.masses

    for history in given:
        found = hpo.forecast([1.2, 0.9], np.array([20]), history=history)  # type: ignore[arg-type]
        assert np.array_equal(found.final.masses, expected)


def test_a_forecast_is_shown_by_its_end() -> None:
    shown = repr(hpo.forecast([0.9, 0.5, 0.4], 50))
    assert re.fullmatch(
        r"Forecast\(at step 50: [\d.e-]+, 90% interval [\d.e-]+ to [\d.e-]+; 47 steps\)", shown
    )


def test_a_run_that_diverged_is_expected_to_stay_bad() -> None:
    loss = [0.7, 0.6, 0.55, np.nan, np.nan, np.nan]
    assert hpo.forecast(loss, 20, at=20).prob_better_than(0.55)[0] < 0.15


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("far", [20.0, 500.0, 1e6, 1e90])
def test_however_far_a_loss_has_gone_it_may_stay_there_or_go_on(far: float, sign: float) -> None:
    direction: Direction = "minimize" if sign > 0 else "maximize"
    values = sign * np.array([2.3, 2.1, 1.8, 1.5, far])

    found = hpo.forecast(values, 50, direction=direction).final

    worst = abs(found.edges).max()
    assert worst > 1.1 * far
    assert 0.01 < found.prob_better_than(sign * 2.0)[0] < 0.99  # it may come back
    assert found.prob_better_than(sign * 1.001 * far)[0] < 0.999  # or become worse


@pytest.mark.parametrize("first", [10.0, 1e4, 1e6, 1e9])
def test_a_huge_first_loss_does_not_hide_what_comes_after(first: float) -> None:
    """Curves (c + 3 c / t^0.9) with 1% noise, c from .1 to 1, seen for 12 of 40 steps."""
    rng = np.random.default_rng(0)
    t = np.arange(1, 41)
    height = rng.uniform(0.1, 1.0, 60)[:, None]
    curves = height * (1 + 3 * t**-0.9) * np.exp(0.01 * rng.normal(size=(60, 40)))
    curves[:, 0] = first * rng.uniform(0.5, 2.0, 60)

    found = forecast_batch(list(curves[20:, :12]), 40, history=curves[:20])

    ends = curves[20:, -1]
    low, high = np.array([each.quantile([0.05, 0.95])[:, 0] for each in found]).T
    assert np.mean((low <= ends) & (ends <= high)) >= 0.75
    assert np.median(high - low) < 0.2
    best = int(np.argmin(ends))
    assert found[best].prob_better_than(1.1 * ends[best])[0] > 0.2


def test_one_end_that_rounding_has_left_does_not_decide_a_studys_scale() -> None:
    t = np.arange(1.0, 21.0)
    curves = [0.3 + 0.01 * i + 0.7 / t for i in range(12)]
    residue = np.append(0.7 / t[:-1], 1e-17)

    alone, beside = (
        hpo.forecast(0.35 + 0.7 / t[:8], 20, history=history, at=20).quantile([0.05, 0.5, 0.95])
        for history in (curves, [*curves, residue])
    )

    assert beside[1, 0] == pytest.approx(alone[1, 0], rel=0.1)
    assert beside[2, 0] - beside[0, 0] < 2 * (alone[2, 0] - alone[0, 0]) + 0.1


def test_a_curve_that_is_better_than_all_that_ended_is_told_apart_from_them() -> None:
    finished = [10.0 ** (-np.arange(1.0, 5.0)) * (1 + i) for i in range(5)]
    found = hpo.forecast(10.0 ** -np.arange(1.0, 10.0), 12, history=finished, at=12)
    assert found.prob_better_than(1e-4)[0] > 0.9


def test_a_gap_is_not_a_divergence() -> None:
    gap, whole = [0.7, np.nan, 0.6, 0.57], [0.7, 0.6, 0.57]
    one = hpo.forecast(gap, 20, at=20)
    other = hpo.forecast(whole, 20, steps=[1, 3, 4], at=20)
    assert np.array_equal(one.mean, other.mean)


def test_finished_curves_say_how_this_one_goes_on() -> None:
    """In this study every curve jumps at step 50, which nobody could know beforehand."""
    height = np.linspace(0.3, 0.5, 8)
    jumped = [h - 0.2 * np.exp(-_T / 10) + 0.3 * (_T > 50) for h in height]
    kwargs: dict[str, Any] = {"direction": "maximize", "bounds": (0, 1), "at": 100}
    seen, final = jumped[3][:40], jumped[3][-1]
    without = hpo.forecast(seen, 100, **kwargs)
    informed = hpo.forecast(seen, 100, history=jumped[:3] + jumped[4:], **kwargs)
    assert informed.crps(final)[0] < 0.5 * without.crps(final)[0]


def test_with_five_finished_curves_forecasts_are_better_than_without() -> None:
    """Studies of the prior: the CRPS falls by a sixth, 3 to 5 standard errors with other seeds."""
    studies = Prior(np.random.default_rng(0), 80, 6, 30).curves()
    beside: list[float] = []
    alone: list[float] = []
    for curve, *finished in studies:
        for n in (3, 10):
            for scores, history in ((beside, finished), (alone, None)):
                found = hpo.forecast(curve[:n], 30, direction="maximize", history=history, at=30)
                scores.append(found.crps(curve[-1])[0])
    assert np.mean(beside) < np.mean(alone)


@pytest.mark.parametrize(
    ("bounds", "value", "on"),
    [((0, 1), 1 + 1e-7, 1.0), ((0, 1), -1e-7, 0.0), ((-1e9, 100), 100.00001, 100.0),
     ((-np.inf, 100), 100.00001, 100.0)],
)  # fmt: skip
def test_a_value_beyond_a_bound_by_rounding_lies_on_it(
    bounds: tuple[float, float], value: float, on: float
) -> None:
    beyond, exactly = (
        hpo.forecast([0.5, 0.6, last], 10, bounds=bounds, direction="maximize")
        for last in (value, on)
    )
    assert np.array_equal(beyond.edges, exactly.edges)
    assert np.array_equal(beyond.masses, exactly.masses)
    far = bounds[1] + 0.01 * (bounds[1] - max(bounds[0], 0))
    with pytest.raises(ValueError, match="lies outside the bounds"):
        hpo.forecast([0.5, far], 10, bounds=bounds, direction="maximize")


@pytest.mark.parametrize("seen", [10, 20])
@pytest.mark.parametrize("kind", ["loss", "reward"])
def test_where_no_bound_tells_how_good_it_may_get_intervals_are_wide_enough(
    kind: str, seen: int
) -> None:
    """Exponentials whose end nothing tells: 90% intervals hold three in four and more."""
    rng = np.random.default_rng(0)
    steps = np.arange(1, 101)
    curves = rng.uniform(0.5, 3, (60, 1)) * np.exp(-steps / rng.uniform(5, 60, (60, 1))) - 3
    curves += rng.choice([0, 0.01, 0.03], (60, 1)) * rng.normal(size=(60, 100))
    direction: Direction = "minimize" if kind == "loss" else "maximize"
    sign = 1 if kind == "loss" else -50

    found = forecast_batch(list(sign * curves[:, :seen]), 100, direction=direction)

    low, high = np.array([f.quantile([0.05, 0.95])[:, 0] for f in found]).T
    ends = sign * curves[:, -1]
    assert np.mean((low <= ends) & (ends <= high)) > 0.75


def rewards(rng: np.random.Generator, n: int = 60) -> Any:
    """Logistic curves from -250, of which most end above 0."""
    t = np.arange(n) / n
    middle, width, end = rng.uniform(0.3, 0.6), rng.uniform(0.05, 0.15), rng.uniform(-100, 250)
    return -250 + (end + 250) / (1 + np.exp(-(t - middle) / width))


def test_scores_that_were_never_above_0_may_be_some_day() -> None:
    rng = np.random.default_rng(0)
    curves = [rewards(rng) for _ in range(60)]
    cut = [np.flatnonzero(np.append(c, 1) > -1)[0] for c in curves]  # before any reaches 0
    forecasts = [
        hpo.forecast(c[: min(k, 30)], 60, direction="maximize").final
        for c, k in zip(curves, cut, strict=True)
    ]
    stated = sum(float(f.prob_better_than(0)[0]) for f in forecasts)
    came_true = sum(c[-1] > 0 for c in curves)
    assert came_true > 30
    assert stated > came_true / 5
    # A negative loss ends at 0, which is half of what is thought.
    (loss,) = [-1 / np.arange(1.0, 21)]
    above = hpo.forecast(loss, 40, direction="maximize").final.prob_better_than(0)
    assert 0 < above[0] < 0.5
    known = hpo.forecast(loss, 40, direction="maximize", bounds=(-np.inf, 0))
    assert known.final.prob_better_than(0)[0] == 0


def test_a_curve_below_0_is_forecast_in_a_batch_as_it_is_alone() -> None:
    below, above = -1 / np.arange(1.0, 11), np.arange(1.0, 11)
    levels = [0.05, 0.5, 0.95]
    both = forecast_batch([below, above], 40, direction="maximize")
    for curve, found in zip((below, above), both, strict=True):
        alone = hpo.forecast(curve, 40, direction="maximize").final
        assert np.allclose(found.quantile(levels), alone.quantile(levels), rtol=1e-6)


@pytest.mark.parametrize("best", [0, 21, 137, 199])
def test_of_many_finished_curves_the_best_one_is_looked_at(best: int) -> None:
    rise = 1 - np.exp(-np.arange(1, 41) / 10)
    history = [-250 + ((60 if i == best else -150 + i / 2) + 250) * rise for i in range(200)]
    found = hpo.forecast(-250 + 310 * rise[:10], 40, direction="maximize", history=history)
    assert found.final.prob_better_than(0)[0] > 0.3


@pytest.mark.parametrize(("horizon", "n"), [(1010, 1000), (1011, 1000), (10**6, 1000), (20, 10)])
def test_of_many_steps_ahead_a_thousand_are_forecast(horizon: int, n: int) -> None:
    found = hpo.forecast(1 / np.arange(1.0, 11), horizon)
    assert (len(found.steps), found.steps[0], found.steps[-1]) == (n, 11, horizon)
    assert np.allclose(np.diff(found.steps), (horizon - 11) / (n - 1))


def test_the_end_of_a_forecast_is_its_latest_step_in_whatever_order() -> None:
    found = hpo.forecast(1 / _T[:10], 100, at=[80, 20])
    assert found.final.steps.tolist() == [80]
    assert found.final.mean == found.mean[0]


def test_numbers_that_fit_no_distribution_are_refused() -> None:
    found = hpo.forecast(1 / _T[:10], 100, at=[20, 80])
    for method in (found.cdf, found.density, found.crps, found.prob_better_than):
        assert method([0.1, 0.2]).shape == method(0.1).shape == (2,)
        wrongs: list[Any] = [[0.1, 0.2, 0.3], np.nan, [0.1, np.nan], None, "a", 10**400]
        for wrong in [*wrongs, np.ma.masked]:
            with pytest.raises(ValueError, match="one number is needed, or 2, one for each"):
                method(wrong)


def test_curves_are_drawn_by_a_seed_or_a_generator() -> None:
    found = hpo.forecast(1 / _T[:10], 100, at=[20, 80])
    drawn = found.sample(3, np.random.default_rng(7))
    np.testing.assert_array_equal(found.sample(3, 7), drawn)
    three: Any = np.int64(3)
    np.testing.assert_array_equal(found.sample(three, 7), drawn)
    for n in (1.5, -1, None, "3"):
        with pytest.raises(ValueError, match="n is how many curves to draw"):
            found.sample(n, 0)  # type: ignore[arg-type]
    for rng in (None, -1, 0.5, "0"):
        with pytest.raises(ValueError, match="rng is a seed such as 0, or "):
            found.sample(3, rng)  # type: ignore[arg-type]


def test_what_is_masked_was_not_measured() -> None:
    gappy = np.array([0.9, np.nan, 0.7, 0.65])
    mask = np.ma.array(np.where(np.isnan(gappy), 99.0, gappy), mask=np.isnan(gappy))
    known = hpo.forecast(gappy, 9, history=[gappy, gappy])
    ways: list[Any] = [mask, [0.9, np.ma.masked, 0.7, 0.65]]
    for values in ways:
        for history in ([mask, mask], np.ma.stack([mask, mask])):
            np.testing.assert_array_equal(
                hpo.forecast(values, 9, history=history).edges, known.edges
            )


def test_a_mixture_is_drawn_from_each_of_its_parts_alike() -> None:
    one = Distribution(np.array([[0.0, 1.0]]), np.array([[1.0]]))
    other = Distribution(np.array([[0.5, 2.5, 4.5]]), np.array([[0.5, 0.5]]))
    mixed = Distribution(*mixture([one, other]))
    for x in (-1.0, 0.25, 0.5, 0.75, 2.0, 3.5, 5.0):
        assert mixed.cdf(x) == pytest.approx((one.cdf(x) + other.cdf(x)) / 2)


@pytest.mark.parametrize(
    ("bounds", "values", "confirmed_"),
    [
        ((0.0, 1.0), [0.2, 0.9, np.nan], (0.0, 1.0)),
        ((0.0, 1.0), [0.9, 78.0], (0.0, 100.0)),
        ((0.0, 1.0), [-0.1, 0.5], None),
        ((0.0, 1.0), [78.0, 101.0], None),
        ((0.0, np.inf), [78.0, 101.0], (0.0, np.inf)),
        ((0.0, np.inf), [-1.0], None),
        (None, [0.5], None),
    ],
)
def test_bounds_that_a_name_promises_hold_as_values_confirm_them(
    bounds: Any, values: list[float], confirmed_: Any
) -> None:
    assert confirmed(bounds, values) == confirmed_


def test_steps_may_be_far_apart_and_uneven() -> None:
    steps = np.array([10, 25, 70, 100, 180, 200.0])
    found = hpo.forecast(0.3 + steps**-0.5, 1000, steps=steps)
    assert found.steps[-1] == 1000
    assert np.all(np.diff(found.steps) > 0)
    assert found.final.mean[0] == pytest.approx(0.3 + 1000**-0.5, abs=0.05)


@pytest.mark.parametrize("n", [1, 2, 3, 2000])
def test_any_number_of_points_will_do(n: int) -> None:
    rng = np.random.default_rng(0)
    loss = 0.3 + np.arange(1.0, n + 1) ** -0.5 + rng.normal(0, 0.005, n)
    found = hpo.forecast(loss, 2 * n, at=2 * n)
    assert np.isfinite(found.mean[0])
    assert found.std[0] > 0


_REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "nothing": ({"values": []}, "there are none"),
    "words": ({"values": ["a", "b"]}, "numbers are needed"),
    "ragged": ({"values": [1, 2], "history": [[[1, 2], [3]]]}, "history 0: numbers are needed"),
    "at nowhere": ({"values": [1, 2], "at": []}, "no steps to forecast"),
    "half a bound": ({"values": [1, 2], "bounds": (None, 1)}, "a lower and a higher number"),
    "text": ({"values": [1, 2], "horizon": "10"}, "the horizon is a step, not '10'"),
    "all NaN": ({"values": [np.nan, np.nan]}, "nothing in it is finite"),
    "too good": ({"values": [1.0, -np.inf]}, "too good to be true"),
    "unsorted": ({"values": [1, 2], "steps": [2, 1]}, "steps are above 0 and rise"),
    "repeated": ({"values": [1, 2], "steps": [1, 1]}, "each is there once"),
    "step 0": ({"values": [1, 2], "steps": [0, 1]}, "steps are above 0"),
    "other length": ({"values": [1, 2], "steps": [1]}, "one value a step"),
    "one curve for several": ({"values": [1, 2], "history": [3, 2]}, "a list of values, not one"),
    "a table": ({"values": [[1, 2], [3, 4]]}, "one value a step"),
    "passed": ({"values": [1, 2, 3], "horizon": 3}, "the horizon 3 has passed"),
    "too far": ({"values": [1, 2], "horizon": 1e300}, "more than 1e\\+100 times the last step 2"),
    "no horizon": ({"values": [1, 2, 3], "horizon": np.inf}, "the horizon is a step"),
    "beyond it": ({"values": [1, 2], "at": [11]}, "between the last step 2 and the horizon 10"),
    "the past": ({"values": [1, 2], "at": [1]}, "between the last step 2 and the horizon 10"),
    "out of bounds": ({"values": [0.5, 1.2], "bounds": (0, 1)}, "1.2 lies outside the bounds"),
    "bounds reversed": ({"values": [0.5], "bounds": (1, 0)}, "a lower and a higher number"),
    "direction": ({"values": [1, 2], "direction": "down"}, "minimize or maximize"),
    "two horizons": ({"values": [1, 2], "horizon": np.array([5, 6])}, "the horizon is a step"),
    "bounds as text": ({"values": [0.5], "bounds": "01"}, "a lower and a higher number"),
    "bounds as a table": (
        {"values": [0.5], "bounds": np.array([[0, 0], [1, 1]])},
        "a lower and a higher number",
    ),
    "a dictionary": ({"values": [1, 2], "history": {0: [1, 2]}}, "curves in a list are needed"),
    "no list": ({"values": [1, 2], "history": np.array(3.0)}, "curves in a list are needed"),
    "huge": ({"values": [10**400]}, "values: numbers are needed.*too large"),
    "a huge horizon": ({"values": [1, 2], "horizon": 10**400}, "the horizon is a step"),
    "a huge bound": ({"values": [1], "bounds": (0, 10**400)}, "a lower and a higher number"),
    "at words": ({"values": [1, 2], "at": "a"}, "at: numbers are needed"),
    "a number": ({"values": [1, 2], "history": 3}, "curves in a list are needed"),
    "gradients": ({"values": torch.ones(2, requires_grad=True)}, "detach"),
    "history": ({"values": [1, 2], "history": [[1, 2], []]}, "history 1: there are none"),
    "long history": ({"values": [1], "history": [[1, 2]] * 99 + [[np.nan]]}, "history 99: nothing"),
}


@pytest.mark.parametrize("case", _REFUSED)
def test_what_makes_no_sense_is_refused_in_one_sentence(case: str) -> None:
    kwargs, message = _REFUSED[case]
    with pytest.raises(ValueError, match=message):
        hpo.forecast(**{"horizon": 10, **kwargs})


def test_a_batch_says_which_curve_is_wrong() -> None:
    with pytest.raises(ValueError, match="curve 1: nothing in it is finite"):
        forecast_batch([[1.0, 2.0], [np.nan]], 10)


def test_the_arithmetic_is_that_of_the_trained_network() -> None:
    """NumPy's pass equals PyTorch's, with random weights in every layer."""
    torch.manual_seed(0)
    net = Network()
    for layer in (net.out, net.gate):
        torch.nn.init.normal_(layer.weight, std=0.1)
    batch = draw(np.random.default_rng(0))
    batch.mask[:] = True
    weights = {name: w.detach().numpy() for name, w in net.state_dict().items()}
    curves, queries = batch.curves.numpy().astype(float), batch.queries.numpy().astype(float)
    pairs, residuals = batch.pairs.numpy().astype(float), batch.residuals.numpy().astype(float)
    ours = network.masses(weights, curves, queries, pairs, residuals)
    with torch.no_grad():
        assert np.allclose(ours, net(batch).numpy(), atol=1e-5)
        batch.mask[:] = False
        alone = network.masses(weights, curves, queries)
        assert np.allclose(alone, net(batch).numpy(), atol=1e-5)


def test_the_script_writes_weights_that_forecast(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "network.safetensors"
    monkeypatch.setattr(sys, "argv", ["training", str(file), "--steps", "2"])

    training.main()

    shipped, trained = network.shipped_weights(), load_file(file)
    shapes = {name: w.shape for name, w in trained.items()}
    assert shapes == {name: w.shape for name, w in shipped.items()}
    assert "2 steps, seed 0" in capsys.readouterr().out
    monkeypatch.setattr(network, "shipped_weights", lambda: trained)
    found = hpo.forecast([0.9, 0.6, 0.5], 20)
    assert np.all(np.isfinite(found.mean))


def test_the_weights_are_small_and_come_with_the_package() -> None:
    file = Path(network.__file__).with_name("network.safetensors")
    root = Path(hpo.__file__).parent
    pyproject = Path(__file__).parents[2] / "pyproject.toml"
    listed = tomllib.loads(pyproject.read_text("utf-8"))["tool"]["setuptools"]["package-data"]

    assert file.stat().st_size < 10_000_000
    assert any(file in root.glob(pattern) for pattern in listed["hpo"])


def test_what_is_given_stays_as_it_was() -> None:
    curve, steps = np.array([0.9, np.nan, 0.7, 1e200]), np.array([1.0, 2, 5, 6])
    history = np.array([[1.0, 0.8, np.nan, 0.5, 0.45], [0.9, 0.7, np.inf, 1e200, np.nan]])
    sizes = np.array([400.0, 100, 200, 100, 800])
    errors = np.array([0.2, 0.4, np.nan, 0.38, 0.0])
    ahead = np.array([12.0, 7.0])
    given = [curve, steps, history, sizes, errors, ahead]
    before = [each.copy() for each in given]

    hpo.forecast(curve, 12, steps=steps, history=history, at=ahead)
    forecast_batch([curve, (steps, curve)], 12, history=history, at=ahead)
    needs = hpo.data_needs(sizes, errors, 0.05)
    needs.error_at(ahead)
    needs.rank(sizes)
    hpo.data_needs(sizes[:3], np.array([errors[:3]] * 2).T)

    for now, then in zip(given, before, strict=True):
        assert np.array_equal(now, then, equal_nan=True)


def test_the_losses_of_training_are_those_of_distributions() -> None:
    batch = draw(np.random.default_rng(1))
    p = torch.softmax(torch.randn(*batch.outcomes.shape, network.N_BINS), -1)
    _, crps = loss_of(p, batch.outcomes)
    edges = np.tile(network.RIMS, (len(p), 1))
    masses = p[:, 0].numpy().astype(float)
    expected = hpo.curves.Distribution(edges, masses).crps(batch.outcomes[:, 0].numpy())
    assert np.allclose(crps[:, 0].numpy(), expected, atol=1e-4)


def test_the_prior_is_drawn_the_same_from_the_same_seed() -> None:
    one, other = (Prior(np.random.default_rng(3), 5, 4, 30).curves() for _ in range(2))
    assert one.shape == (5, 4, 30)
    assert np.array_equal(one, other)
    assert np.all((one > -2.01) & (one < 1.01))


@pytest.mark.parametrize("n_steps", [6, 220])
def test_whatever_happens_to_a_curve_of_the_prior_it_stays_within_the_scale(n_steps: int) -> None:
    curves = Prior(np.random.default_rng(4), 300, 4, n_steps).curves()
    assert np.all((curves > LOWEST - 0.01) & (curves < 1.01))


def test_a_trial_of_the_prior_that_is_lost_stays_lost() -> None:
    time = np.arange(1, 51) / 50
    for seed in range(20):
        prior = Prior(np.random.default_rng(seed), 200, 4, 50)
        lost = prior._lost(np.zeros((200, 4, 50)), prior._traits(), time) < 0
        assert not np.any(lost[..., :-1] & ~lost[..., 1:])
        assert 0 < np.mean(lost[..., -1]) < 0.1


def test_beside_a_curve_are_all_others_once_and_in_some_studies_the_best_ones_first() -> None:
    ends = np.random.default_rng(5).uniform(size=(400, 20))
    others = beside_each(np.random.default_rng(6), ends)
    assert others.shape == (400, N_CURVES, 19)
    for i in range(N_CURVES):
        assert np.array_equal(np.sort(others[:, i]), np.tile(np.delete(np.arange(20), i), (400, 1)))
    first = ends[np.arange(400)[:, None, None], others[..., :5]].mean(axis=(1, 2))
    assert 0.05 < np.mean(first > 0.75) < 0.35
    assert 0.4 < np.median(first) < 0.6
