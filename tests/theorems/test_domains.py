"""Laws of domains, on random ones."""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from hpo.search_spaces import (
    Choice,
    Domain,
    Fixed,
    Float,
    Int,
    Parameter,
    Sampled,
    Scalar,
    SearchSpace,
    SpaceError,
    parse,
)

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]

units = st.floats(0, 1)
numbers = st.floats(-1e12, 1e12, allow_subnormal=False)
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.floats(-2, 2), st.text(max_size=3)
)


@st.composite
def continuous(draw: Draw) -> Float:
    log = draw(st.booleans())
    bounds = st.floats(1e-30, 1e30) if log else numbers
    low, high = sorted((draw(bounds), draw(bounds)))
    assume(high - low > 1e-9 * max(abs(low), abs(high)))
    prior, spread = draw(beliefs(low, high, by_ratio=log))
    points = draw(st.none() | st.integers(2, 9))
    return Float(low, high, log=log, points=points, prior=prior, spread=spread)


def beliefs(low: float, high: float, *, by_ratio: bool) -> st.SearchStrategy[Any]:
    """A prior and a spread, tiny and huge ones too; or neither."""
    spreads = st.sampled_from((1.0 + 1e-15, 1.5, 10.0, 1e300) if by_ratio else (1e-300, 0.1, 1e300))
    prior: st.SearchStrategy[float] = st.floats(low, high)
    if isinstance(low, int) and isinstance(high, int):
        prior = st.integers(low, high)
    return st.tuples(prior, st.none() | spreads) | st.just((None, None))


@st.composite
def stepped(draw: Draw) -> Float:
    digits = draw(st.integers(0, 6))
    low, step = draw(st.integers(-500, 500)), draw(st.integers(1, 500))
    high = low + step * draw(st.integers(1, 40)) + draw(st.integers(0, step))
    low, high, step = (float(f"{n}e-{digits}") for n in (low, high, step))
    prior, spread = draw(beliefs(low, high, by_ratio=False))
    return Float(low, high, step=step, prior=prior, spread=spread)


@st.composite
def integers(draw: Draw) -> Int:
    kind = draw(st.sampled_from(["plain", "log", "step", "powers", "points"]))
    most = draw(st.sampled_from([10, 300, 2**40]))
    low = draw(st.integers(1 if kind in ("log", "powers") else -most, most - 1))
    high = draw(st.integers(low + 1, most))
    prior, spread = draw(beliefs(low, high, by_ratio=kind in ("log", "powers")))
    try:
        return Int(
            low,
            high,
            log=kind == "log",
            step=draw(st.integers(1, high - low)) if kind == "step" else 1,
            powers_of=draw(st.integers(2, 10)) if kind == "powers" else None,
            points=draw(st.integers(2, 9)) if kind == "points" else None,
            prior=prior,
            spread=spread,
        )
    except SpaceError:  # fewer than two powers
        assume(False)
        raise


@st.composite
def choices(draw: Draw) -> Choice:
    options = draw(st.lists(scalars, min_size=1, max_size=6, unique_by=_equal_key))
    prior = draw(st.none() | st.sampled_from(options))
    spread = None if prior is None else draw(st.none() | st.sampled_from((0.001, 0.3, 0.999)))
    return Choice(options, ordered=draw(st.booleans()), prior=prior, spread=spread)


def _equal_key(value: Scalar) -> object:
    return ("text", value) if isinstance(value, str) else value


fixed = scalars.map(Fixed)
sampled = st.one_of(continuous(), stepped(), integers(), choices())
domains = st.one_of(sampled, fixed)


def given_values(domain: Domain, coordinates: list[float]) -> list[Scalar]:
    """Values that a domain gives out: at coordinates, at both ends, and of its grid."""
    values = [domain.from_unit(u) for u in (0.0, 1.0, *coordinates)]
    try:
        return [*values, *domain.grid()[:200]]
    except ValueError:
        return values


def same(a: object, b: object) -> bool:
    return type(a) is type(b) and a == b


@given(domains, st.lists(units, max_size=20))
def test_to_unit_and_from_unit_round_trip_exactly(domain: Domain, us: list[float]) -> None:
    for value in given_values(domain, us):
        u = domain.to_unit(value)
        assert 0 <= u <= 1
        assert same(domain.from_unit(u), value)
        assert same(domain.snap(value), value)
        assert domain.contains(value)


@given(domains, st.lists(units, max_size=20))
def test_quantiles_round_trip(domain: Domain, qs: list[float]) -> None:
    for value in given_values(domain, qs) + [domain.from_quantile(q) for q in (0.0, 1.0, *qs)]:
        q = domain.to_quantile(value)
        assert 0 <= q <= 1
        again = domain.from_quantile(q)
        if domain.size is None:
            assert isinstance(domain, Float)
            assert isinstance(value, float)
            scale = max(abs(value), abs(domain.low))
            spacing = 1e-15 * (domain.high - domain.low)  # of numbers near the ends
            assert again == pytest.approx(value, rel=1e-9, abs=1e-9 * scale + spacing)
        else:
            assert same(again, value)


@given(sampled)
def test_quantiles_begin_and_end_where_the_domain_does(domain: Sampled) -> None:
    assert same(domain.from_quantile(0.0), domain.from_unit(0.0))
    assert same(domain.from_quantile(1.0), domain.from_unit(1.0))


@given(sampled, units, st.sampled_from((0.0, 1e-3, 0.3, -0.5, 1e12, -1e300)), st.lists(units))
def test_no_value_is_nearer_than_the_nearest(
    domain: Sampled, u: float, offset: float, us: list[float]
) -> None:
    assume(domain.is_numeric())
    number = domain.rank(domain.from_unit(u)) + offset
    nearest = domain.nearest(number)
    assert domain.contains(nearest)
    if isinstance(domain, Int) and domain.powers_of is not None:
        number = math.log(max(number, 1e-300))  # the nearest by ratio

        def distance(value: Scalar) -> float:
            return abs(math.log(domain.rank(value)) - number)
    else:

        def distance(value: Scalar) -> float:
            return abs(domain.rank(value) - number)

    best = distance(nearest)
    for value in given_values(domain, us):
        assert best <= distance(value) * (1 + 1e-9) + 1e-9


@given(continuous(), units)
def test_any_float_of_a_continuous_range_returns_to_twelve_digits(domain: Float, u: float) -> None:
    if domain.log:
        value = math.exp(math.log(domain.low) + u * (math.log(domain.high) - math.log(domain.low)))
    else:
        value = domain.low + u * (domain.high - domain.low)
    value = min(max(value, domain.low), domain.high)
    scale = max(abs(value), abs(domain.low))
    assert abs(domain.from_unit(domain.to_unit(value)) - value) <= 1e-12 * scale


@given(sampled, st.tuples(units, units))
def test_from_unit_never_decreases(domain: Sampled, pair: tuple[float, float]) -> None:
    assume(not isinstance(domain, Choice))
    low, high = (domain.from_unit(u) for u in sorted(pair))
    assert isinstance(low, int | float)
    assert isinstance(high, int | float)
    assert low <= high


@given(st.one_of(stepped(), integers(), choices(), fixed))
def test_a_domain_of_k_values_cuts_the_interval_into_k_equal_cells(domain: Domain) -> None:
    assume(not (isinstance(domain, Int) and (domain.log or domain.points)))
    k = domain.size
    assert k is not None
    assume(k <= 100_000)
    grid = domain.grid()
    assert len(grid) == k == len({json.dumps(value) for value in grid})
    for i in {0, k // 2, k - 1}:
        assert domain.to_unit(grid[i]) == (i + 0.5) / k


@given(sampled, st.lists(units, max_size=20))
def test_every_value_is_in_the_optuna_distribution(domain: Sampled, us: list[float]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Optuna warns where it moves a bound
        distribution = domain.to_optuna()
    for value in given_values(domain, us):
        internal = distribution.to_internal_repr(value)
        assert distribution._contains(internal)
        assert domain.snap(distribution.to_external_repr(internal)) == value


@given(sampled, st.integers(0, 2**32 - 1))
@settings(max_examples=50)
def test_what_optuna_samples_is_in_the_domain(domain: Sampled, seed: int) -> None:
    import optuna

    optuna.logging.disable_default_handler()
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=seed))
    for _ in range(5):
        params = study.ask({"x": domain.to_optuna()}).params
        assert SearchSpace((Parameter("x", domain),)).contains(params)


@given(domains)
def test_the_yaml_form_of_a_domain_makes_an_equal_one(domain: Domain) -> None:
    again = parse({"x": domain.to_dict()}).parameters[0].domain
    assert again == domain
    assert hash(again) == hash(domain)


def test_sampling_is_uniform_over_the_cells() -> None:
    # 3 sigma for each of 4 options in 4000 draws is 82; the odds that one is further away by
    # chance are about 1 in 100 for a random seed, and the seed is fixed.
    space, rng = parse({"x": [1, 2, 3, 4]}), np.random.default_rng(0)
    counts = np.bincount([int(str(space.sample(rng)["x"])) for _ in range(4000)])[1:]
    assert counts == pytest.approx([1000] * 4, abs=82)
