"""Whatever arrays forecasts and data needs are given: an answer in order, or one clear error."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import hpo
from hpo.curves import Distribution, Forecast, diagnose, forecast_batch

Arguments = dict[str, st.SearchStrategy[Any]]

_LEVELS = np.linspace(0, 1, 11)
_SIZES = st.sampled_from([0.0, 5e-324, 1e-300, 1e-12, 0.5, 1.0, 1e12, 9e99])  # of any sign
_FINITE = st.floats(0, 1) | st.floats(-2, 2) | _SIZES | _SIZES.map(lambda x: -x)
_TOO_LARGE = st.sampled_from([1.1e100, 1e155, 1e300, 1.797e308, np.inf])
_ANY = st.one_of(_FINITE, _TOO_LARGE, _TOO_LARGE.map(lambda x: -x), st.just(np.nan), st.floats())
_SHAPES = st.one_of(
    st.tuples(st.integers(0, 8)),
    st.sampled_from([(), (0, 3), (3, 0), (2, 3), (5, 1), (2, 2, 2)]),
)
_ARRAYS = hnp.arrays(float, _SHAPES, elements=_ANY)
_WORDS: st.SearchStrategy[Any] = st.sampled_from(
    ["a", "", None, [[1], [2, 3]], ["a", "b"], {}, 1 + 2j]
)
_PAIRS = st.tuples(_ANY, _ANY) | st.tuples(_ANY, _ANY).map(sorted).map(tuple)


@st.composite
def mixed(draw: st.DrawFn, usual: Arguments, odd: Arguments) -> dict[str, Any]:
    """Usual arguments, but for none to two of them."""
    names = draw(st.sets(st.sampled_from(sorted(odd)), max_size=2))
    return {name: draw(odd[name] if name in names else usual[name]) for name in usual}


def answer(ask: Callable[[], Any]) -> Any:
    """What is answered, or None where it is refused in hpo's own words, not in NumPy's."""
    try:
        return ask()
    except ValueError as error:
        refused = error
    line = traceback.extract_tb(refused.__traceback__)[-1].line
    assert line is not None
    assert line.startswith("raise ValueError("), repr(refused)
    assert str(refused)
    return None


def is_in_order(found: Distribution) -> None:
    quantiles = found.quantile(_LEVELS)
    assert np.isfinite(quantiles).all()
    assert (np.diff(quantiles, axis=0) >= 0).all()
    assert np.isfinite(found.mean).all()
    assert np.isfinite(found.std).all()
    assert (found.std >= 0).all()
    below, off = found.cdf(found.mean), found.crps(found.mean)
    assert ((below >= 0) & (below <= 1)).all()
    assert (np.isfinite(off) & (off >= 0)).all()
    assert (found.density(found.mean) >= 0).all()
    if isinstance(found, Forecast):
        drawn, better = found.sample(3, np.random.default_rng(0)), found.prob_better_than(0.0)
        assert np.isfinite(drawn).all()
        assert ((better >= 0) & (better <= 1)).all()
        assert "nan" not in repr(found)


_CURVES = hnp.arrays(float, st.integers(1, 5), elements=_FINITE)
_ENDED = hnp.arrays(float, st.integers(6, 9), elements=_FINITE)
_THREE = hnp.arrays(float, 3, elements=_ANY)
_THREE_FINITE = hnp.arrays(float, 3, elements=_FINITE)
_ODD_CURVE = st.one_of(
    _THREE, st.tuples(_THREE, _CURVES), st.tuples(_THREE, _THREE), _ARRAYS, _WORDS
)
_ODD_CURVES = st.lists(_CURVES | _ODD_CURVE, max_size=3) | _ODD_CURVE
_DIRECTIONS = st.sampled_from(["minimize", "maximize"])


@given(
    given_=mixed(
        {
            "curves": st.lists(_CURVES, max_size=3),
            "horizon": st.floats(6, 1e3),
            "direction": _DIRECTIONS,
            "history": st.none() | st.lists(_ENDED, max_size=3),
            "bounds": st.none(),
            "at": st.none(),
        },
        {
            "curves": _ODD_CURVES,
            "horizon": _ANY | _WORDS | _ARRAYS,
            "direction": _WORDS,
            "history": _ODD_CURVES,
            "bounds": _PAIRS | _WORDS | _ARRAYS,
            "at": _ARRAYS | _WORDS,
        },
    )
)
@settings(max_examples=300)
def test_forecasts_of_anything_are_in_order_or_refused(given_: dict[str, Any]) -> None:
    for found in answer(lambda: forecast_batch(**given_)) or ():
        is_in_order(found)


_COUNTS = st.lists(st.floats(1, 1e9) | st.sampled_from([1.0, 9e99]), min_size=3, max_size=3)


@given(
    given_=mixed(
        {
            "sizes": _COUNTS,
            "errors": hnp.arrays(float, st.sampled_from([(3,), (3, 2)]), elements=_FINITE),
            "target": st.none() | _FINITE,
            "direction": _DIRECTIONS,
            "bounds": st.none(),
            "confidence": st.floats(0.1, 0.99),
        },
        {
            "sizes": _ARRAYS | _WORDS,
            "errors": _ARRAYS | _WORDS | _THREE,
            "target": _ANY | _WORDS | _ARRAYS,
            "direction": _WORDS,
            "bounds": _PAIRS | _WORDS | _ARRAYS,
            "confidence": _ANY | _WORDS | _ARRAYS | st.sampled_from([1e-300, 1 - 1e-16]),
        },
    )
)
@settings(max_examples=50)
def test_data_needs_of_anything_are_in_order_or_refused(given_: dict[str, Any]) -> None:
    needs = answer(lambda: hpo.data_needs(**given_))
    if needs is None:
        return
    for found in (needs.error_at([1, 1e10]), needs.error_at(1e3, noise=True), needs.floor):
        is_in_order(found)
    assert "nan" not in needs.sentence
    if needs.target is not None:
        sizes, (low, high) = needs.quantile(_LEVELS), needs.interval
        assert (sizes >= 1).all()
        assert (sizes[1:] >= sizes[:-1]).all()
        assert 1 <= low <= high
        assert 0 <= needs.prob_reachable <= 1


@given(
    given_=mixed(
        {
            "sizes": _COUNTS,
            "train_errors": _THREE_FINITE,
            "val_errors": _THREE_FINITE,
            "target": st.none() | _FINITE,
            "best": st.none() | _FINITE,
            "direction": _DIRECTIONS,
        },
        {
            "sizes": _ARRAYS | _WORDS | _THREE,
            "train_errors": _ARRAYS | _WORDS | _THREE,
            "val_errors": _ARRAYS | _WORDS | _THREE,
            "target": _ANY | _WORDS | _ARRAYS,
            "best": _ANY | _WORDS | _ARRAYS,
            "direction": _WORDS,
        },
    )
)
@settings(max_examples=50)
def test_what_bounds_a_model_is_told_of_anything_or_refused(given_: dict[str, Any]) -> None:
    found = answer(lambda: diagnose(**given_))
    if found is None:
        return
    shares = found.probabilities.values()
    assert all(0 <= share <= 1 for share in shares)
    assert sum(shares) == pytest.approx(1)
    assert np.isfinite([found.size, *found.train, *found.val, found.target]).all()
    assert "nan" not in found.sentence


_FORECAST = forecast_batch([[0.9, 0.7, 0.6]], 12, at=[6, 9, 12])[0]
_NEEDS = hpo.data_needs([100, 200, 400, 800], [0.3, 0.22, 0.16, 0.12], 0.05)


@given(x=_ARRAYS | _THREE)
def test_a_forecast_is_asked_about_any_numbers_or_refuses_them(x: Any) -> None:
    asks = (_FORECAST.cdf, _FORECAST.prob_better_than, _FORECAST.density, _FORECAST.crps)
    found = [answer(partial(ask, x)) for ask in asks]
    if x.shape not in ((), (1,), (3,)) or np.isnan(x).any():
        assert found == [None] * 4
        return
    below, better, density, off = found
    assert ((below >= 0) & (below <= 1) & (better >= 0) & (better <= 1)).all()
    assert ((density >= 0) & np.isfinite(density)).all()
    # A score is as far off as what happened, which may be endless.
    assert (off >= 0).all()
    assert (np.isfinite(off) == np.isfinite(np.broadcast_to(x, (3,)))).all()


@given(q=_ARRAYS | _WORDS | hnp.arrays(float, st.integers(1, 4), elements=st.floats(0, 1)))
def test_quantiles_are_of_probabilities_alone(q: Any) -> None:
    values, sizes = (answer(partial(each.quantile, q)) for each in (_FORECAST, _NEEDS))
    if not isinstance(q, np.ndarray) or not ((q >= 0) & (q <= 1)).all():
        assert values is sizes is None
        return
    assert (values.shape, sizes.shape) == ((*q.shape, 3), q.shape)
    assert np.isfinite(values).all()
    assert (sizes >= 1).all()
    if q.ndim == 1:
        order = np.argsort(q)
        assert (np.diff(values[order], axis=0) >= 0).all()
        assert (sizes[order][1:] >= sizes[order][:-1]).all()


@given(n=_ARRAYS | hnp.arrays(float, st.integers(1, 4), elements=st.floats(1, 1e300)))
@settings(max_examples=50)
def test_errors_are_told_at_numbers_of_examples_alone(n: Any) -> None:
    found = answer(lambda: _NEEDS.error_at(n))
    is_asked_rightly = n.size > 0 and n.ndim <= 1 and (np.isfinite(n) & (n >= 1)).all()
    assert (found is not None) == is_asked_rightly
    if found is not None:
        assert len(found.mean) == n.size
        is_in_order(found)


@given(n=st.integers(0, 50))
@settings(max_examples=10)
def test_so_many_curves_are_drawn_as_are_asked_for(n: int) -> None:
    drawn = _FORECAST.sample(n, np.random.default_rng(0))
    assert drawn.shape == (n, 3)
    assert np.isfinite(drawn).all()


@pytest.mark.parametrize("unit", [2.0**-900, 2.0**-600, 2.0**500, 2.0**1021])
def test_what_is_huge_or_tiny_is_as_far_apart_in_its_unit(unit: float) -> None:
    edges, masses = np.array([[1.0, 3.0, 6.0, 7.0]]), np.array([[0.2, 0.5, 0.3]])
    one, other = Distribution(edges, masses), Distribution(edges * unit, masses)
    assert other.mean == pytest.approx(one.mean * unit, rel=1e-12, abs=0)
    assert other.std == pytest.approx(one.std * unit, rel=1e-12, abs=0)
    for x in (0.5, 4.0, 7.5):
        assert other.crps(x * unit) == pytest.approx(one.crps(x) * unit, rel=1e-12, abs=0)
