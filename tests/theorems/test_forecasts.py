"""Laws of forecasts: whatever the arrays, a proper distribution or one clear error."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hpo
from hpo.curves import Distribution, Forecast, forecast_batch
from hpo.curves.distributions import Array
from hpo.directions import Direction

_ANY = st.floats(allow_nan=True, allow_infinity=True, width=64)
_CURVES = hnp.arrays(float, st.integers(0, 40), elements=_ANY)
_FINITE = hnp.arrays(float, st.integers(1, 40), elements=st.floats(-1e6, 1e6))
_SCORES = hnp.arrays(float, st.integers(1, 40), elements=st.floats(0, 1))
_DIRECTIONS: st.SearchStrategy[Direction] = st.sampled_from(["minimize", "maximize"])
_LEVELS = np.linspace(0, 1, 21)


def _is_proper(found: Forecast) -> None:
    assert np.all(np.isfinite(found.mean))
    assert np.all(found.std > 0)
    quantiles = found.quantile(_LEVELS)
    assert np.all(np.isfinite(quantiles))
    assert np.all(np.diff(quantiles, axis=0) >= 0)
    assert np.allclose(found.masses.sum(axis=1), 1)
    for chance in (found.cdf(found.mean), found.prob_better_than(0.3)):
        assert np.all((chance >= 0) & (chance <= 1))


@given(_CURVES, st.integers(1, 60), _DIRECTIONS, st.lists(_CURVES, max_size=3))
@settings(max_examples=300)
def test_whatever_the_arrays_there_is_a_proper_distribution_or_a_value_error(
    values: Array, ahead: int, direction: Direction, history: list[Array]
) -> None:
    horizon = len(values) + ahead
    try:
        found = hpo.forecast(values, horizon, direction=direction, history=history)
    except ValueError:  # its message is looked at in tests/unit
        return
    assert len(found.steps) == ahead
    _is_proper(found)


_PAIRS = st.tuples(_CURVES, _CURVES)
_TIMES = hnp.arrays(float, st.integers(1, 6), elements=st.floats(-5, 80))


@given(
    values=_CURVES,
    steps=st.none() | _TIMES.map(np.sort) | _CURVES,
    at=st.none() | _TIMES,
    horizon=_ANY | st.integers(1, 60),
    bounds=st.none() | st.tuples(_ANY, _ANY),
    history=st.lists(_CURVES | _PAIRS, max_size=3),
)
@settings(max_examples=100)
def test_whatever_the_arguments_there_is_a_proper_distribution_or_a_value_error(
    **arguments: Any,
) -> None:
    try:
        found = hpo.forecast(**arguments)
    except ValueError:  # its message is looked at in tests/unit
        return
    _is_proper(found)


@given(_FINITE, _DIRECTIONS, st.lists(_FINITE, max_size=3))
@settings(max_examples=100)
def test_finite_curves_are_always_forecast(
    values: Array, direction: Direction, history: list[Array]
) -> None:
    _is_proper(hpo.forecast(values, len(values) + 5, direction=direction, history=history))


@given(_SCORES, st.lists(_SCORES, max_size=4), st.integers(1, 100))
@settings(max_examples=100)
def test_a_score_and_its_error_have_mirrored_forecasts(
    scores: Array, history: list[Array], ahead: int
) -> None:
    horizon = len(scores) + ahead
    rising = hpo.forecast(
        scores, horizon, direction="maximize", history=history, bounds=(0, 1), at=horizon
    )
    errors = [1 - h for h in history]
    falling = hpo.forecast(1 - scores, horizon, history=errors, bounds=(0, 1), at=horizon)
    assert np.allclose(rising.mean, 1 - falling.mean, atol=1e-6)
    assert np.allclose(rising.std, falling.std, atol=1e-6)
    assert np.allclose(rising.quantile(0.2), 1 - falling.quantile(0.8), atol=1e-6)
    assert np.allclose(rising.prob_better_than(0.7), falling.prob_better_than(0.3), atol=1e-6)


@given(
    _FINITE,
    st.lists(_FINITE, max_size=3),
    _DIRECTIONS,
    st.floats(1e-3, 1e3),
)
@settings(max_examples=100)
def test_the_unit_of_a_metric_does_not_matter(
    values: Array, history: list[Array], direction: Direction, unit: float
) -> None:
    horizon = len(values) + 7
    one = hpo.forecast(values, horizon, direction=direction, history=history, bounds=(-1e7, 1e7))
    other = hpo.forecast(
        values * unit,
        horizon,
        direction=direction,
        history=[h * unit for h in history],
        bounds=(-1e7 * unit, 1e7 * unit),
    )
    assert np.allclose(one.mean * unit, other.mean, rtol=1e-6, atol=1e-3 * unit)


@given(st.lists(_SCORES, min_size=1, max_size=6), st.lists(_SCORES, max_size=4), _DIRECTIONS)
@settings(max_examples=60)
def test_many_at_once_are_as_one_by_one(
    curves: list[Array], history: list[Array], direction: Direction
) -> None:
    kwargs: dict[str, Any] = {"direction": direction, "history": history, "bounds": (0.0, 1.0)}
    together = forecast_batch(curves, 50, **kwargs)
    for curve, found in zip(curves, together, strict=True):
        alone = hpo.forecast(curve, 50, at=50, **kwargs)
        assert np.allclose(found.mean, alone.mean, atol=1e-5)
        assert np.allclose(found.std, alone.std, atol=1e-5)


@given(_SCORES)
@settings(max_examples=60)
def test_a_bounded_metric_stays_within_its_bounds(scores: Array) -> None:
    found = hpo.forecast(scores, 100, direction="maximize", bounds=(0, 1))
    assert np.all(found.edges >= 0)
    assert np.all(found.edges <= 1)


def test_samples_have_the_forecasts_distribution() -> None:
    """The means of 4,000 draws lie within 5 standard errors: wrong once in a million runs."""
    found = hpo.forecast([0.9, 0.7, 0.6, 0.55], 20)
    drawn = found.sample(4000, np.random.default_rng(0))
    assert drawn.shape == (4000, 16)
    assert np.all(np.abs(drawn.mean(axis=0) - found.mean) < 5 * found.std / np.sqrt(4000))


@given(
    hnp.arrays(float, 8, elements=st.floats(0.01, 1)),
    hnp.arrays(float, 9, elements=st.floats(0.01, 1)),
    st.floats(-2, 12),
)
def test_a_crps_is_the_integral_that_defines_it(weights: Array, widths: Array, x: float) -> None:
    edges = np.cumsum(widths)[None]
    found = Distribution(edges, (weights / weights.sum())[None])
    z = np.linspace(-3, 13, 160_001)
    below = np.interp(z, edges[0], np.concatenate([[0], np.cumsum(found.masses[0])]))
    integral = np.sum((below - (z >= x)) ** 2) * (z[1] - z[0])
    assert found.crps(x)[0] == pytest.approx(integral, abs=1e-3)


@given(hnp.arrays(float, 8, elements=st.floats(0.01, 1)))
def test_moments_and_quantiles_agree_with_draws_on_a_grid(weights: Array) -> None:
    found = Distribution(np.arange(9.0)[None], (weights / weights.sum())[None])
    draws = found.quantile((np.arange(20_000) + 0.5) / 20_000)[:, 0]
    assert found.mean[0] == pytest.approx(draws.mean(), abs=1e-3)
    assert found.std[0] == pytest.approx(draws.std(), abs=1e-3)
    assert found.cdf(found.quantile(0.3))[0] == pytest.approx(0.3)
