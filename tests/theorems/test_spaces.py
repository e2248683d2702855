"""Laws of domains and spaces, on random ones."""

from __future__ import annotations

import itertools
import json
import math
import warnings
from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from search_spaces import (
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
    return Float(low, high, log=log, points=draw(st.none() | st.integers(2, 9)))


@st.composite
def stepped(draw: Draw) -> Float:
    digits = draw(st.integers(0, 6))
    low, step = draw(st.integers(-500, 500)), draw(st.integers(1, 500))
    high = low + step * draw(st.integers(1, 40)) + draw(st.integers(0, step))
    low, high, step = (float(f"{n}e-{digits}") for n in (low, high, step))
    return Float(low, high, step=step)


@st.composite
def integers(draw: Draw) -> Int:
    kind = draw(st.sampled_from(["plain", "log", "step", "powers", "points"]))
    most = draw(st.sampled_from([10, 300, 2**40]))
    low = draw(st.integers(1 if kind in ("log", "powers") else -most, most - 1))
    high = draw(st.integers(low + 1, most))
    try:
        return Int(
            low,
            high,
            log=kind == "log",
            step=draw(st.integers(1, high - low)) if kind == "step" else 1,
            powers_of=draw(st.integers(2, 10)) if kind == "powers" else None,
            points=draw(st.integers(2, 9)) if kind == "points" else None,
        )
    except SpaceError:  # fewer than two powers
        assume(False)
        raise


@st.composite
def choices(draw: Draw) -> Choice:
    return Choice(tuple(draw(st.lists(scalars, min_size=1, max_size=6, unique_by=_equal_key))))


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
    assert parse({"x": domain.to_dict()}).parameters[0].domain == domain
    assert hash(parse({"x": domain.to_dict()}).parameters[0].domain) == hash(domain)


small = st.one_of(
    st.integers(2, 4).map(lambda n: Int(1, n)),
    st.integers(2, 4).map(lambda n: Float(0, n / 10, step=0.1)),
    st.lists(st.sampled_from("abcd"), min_size=1, max_size=3, unique=True).map(
        lambda options: Choice(tuple(options))
    ),
    st.just(Int(1, 16, powers_of=4)),
    st.just(Fixed(7)),
    st.just(Fixed(value=True)),
)


@st.composite
def conditional_spaces(draw: Draw) -> SearchSpace:
    """Up to six parameters, each depending on any of those before it, given in any order."""
    parameters: list[Parameter] = []
    for name in "uvwxyz"[: draw(st.integers(1, 6))]:
        when = []
        for parent in parameters:
            if draw(st.integers(0, 2)) == 0:
                values = st.lists(st.sampled_from(parent.domain.grid()), min_size=1, unique=True)
                when.append((parent.name, tuple(draw(values))))
        parameters.append(Parameter(name, draw(small), tuple(when)))
    try:
        return SearchSpace(tuple(draw(st.permutations(parameters))))
    except SpaceError:  # a parameter that can never be active
        assume(False)
        raise


def brute_force(space: SearchSpace) -> set[str]:
    """All configurations, from all combinations of all values, inactive ones struck out."""
    found = set()
    for values in itertools.product(*(p.domain.grid() for p in space.parameters)):
        config = dict(zip(space.names, values, strict=True))
        for parameter in space.parameters:  # parents first
            if not all(name in config and config[name] in vs for name, vs in parameter.when):
                del config[parameter.name]
        found.add(json.dumps(config, sort_keys=True))
    return found


@given(conditional_spaces())
def test_the_grid_is_every_configuration_once(space: SearchSpace) -> None:
    grid = [json.dumps(config, sort_keys=True) for config in space.grid()]
    assert len(grid) == len(set(grid))
    assert set(grid) == brute_force(space)


@given(conditional_spaces())
def test_counts_are_lengths(space: SearchSpace) -> None:
    assert space.size == space.grid_size == len(list(space.grid()))


@given(conditional_spaces())
def test_every_parameter_is_active_somewhere(space: SearchSpace) -> None:
    assert set().union(*space.grid()) == set(space.names)


@given(conditional_spaces(), st.integers(0, 2**32 - 1))
def test_samples_are_configurations(space: SearchSpace, seed: int) -> None:
    config = space.sample(np.random.default_rng(seed))
    params = space.free_params(config)
    assert json.dumps(config, sort_keys=True) in brute_force(space)
    assert space.contains(params)
    assert space.complete(params) == config
    again = space.sample(np.random.default_rng(seed))
    assert space.key(space.free_params(again)) == space.key(params)


@given(conditional_spaces())
def test_keys_tell_configurations_apart(space: SearchSpace) -> None:
    keys = {space.key(space.free_params(config)) for config in space.grid()}
    assert len(keys) == space.grid_size


@given(conditional_spaces())
def test_a_space_survives_its_yaml_form(space: SearchSpace) -> None:
    again = parse(json.loads(json.dumps(space.to_dict())))
    assert again == space
    assert again.names == space.names
    assert space.diff(again) == []


@given(conditional_spaces())
def test_parents_come_before_children(space: SearchSpace) -> None:
    seen: set[str] = set()
    for parameter in space.parameters:
        assert {parent for parent, _ in parameter.when} <= seen
        seen.add(parameter.name)


@given(conditional_spaces(), st.permutations("uvwxyz"))
def test_the_order_changes_no_count(space: SearchSpace, order: list[str]) -> None:
    shuffled = sorted(space.parameters, key=lambda p: order.index(p.name))
    assert SearchSpace(tuple(shuffled)).size == space.size


def test_sampling_is_uniform_over_the_cells() -> None:
    # 3 sigma for each of 4 options in 4000 draws is 82; the odds that one is further away by
    # chance are about 1 in 100 for a random seed, and the seed is fixed.
    space, rng = parse({"x": [1, 2, 3, 4]}), np.random.default_rng(0)
    counts = np.bincount([int(str(space.sample(rng)["x"])) for _ in range(4000)])[1:]
    assert counts == pytest.approx([1000] * 4, abs=82)
