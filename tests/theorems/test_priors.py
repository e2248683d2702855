"""Laws of priors: cumulative distributions over the unit interval, and what is drawn by them."""

from __future__ import annotations

import math
import random
from collections import Counter
from statistics import NormalDist
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.search_spaces import Choice, Fixed, Float, Int, Sampled, SearchSpace, boolean, parse
from hpo.search_spaces.priors import DOUBT, Bump, Prior, Weights, favourite

units = st.floats(0, 1)
widths = st.floats(1e-12, 1e3) | st.sampled_from((5e-324, 1e-9, 0.15, 10.0, 1e300))
bumps = st.builds(Bump, units | st.sampled_from((0.0, 0.5, 1.0)), widths)
weights = st.lists(st.floats(0.001, 1), min_size=2, max_size=9).map(
    lambda parts: Weights([part / sum(parts) for part in parts])
)
priors: st.SearchStrategy[Prior] = bumps | weights
EXACT = 1e-12  # of a probability; rounding errors of 1e-16 in sums of a few


@given(priors, st.tuples(units, units))
def test_a_prior_is_a_cumulative_distribution(prior: Prior, pair: tuple[float, float]) -> None:
    low, high = sorted(pair)
    assert prior.quantile(0.0) == prior.position(0.0) == 0.0
    assert prior.quantile(1.0) == pytest.approx(1.0, abs=EXACT)
    assert prior.position(1.0) == pytest.approx(1.0, abs=EXACT)
    assert 0 <= prior.quantile(low) <= prior.quantile(high) + EXACT <= 1 + 2 * EXACT
    assert 0 <= prior.position(low) <= prior.position(high) + EXACT <= 1 + 2 * EXACT


@given(priors, units)
def test_position_is_the_inverse_of_quantile(prior: Prior, u: float) -> None:
    # Rounding q by 1e-16 moves u by 1e-16 divided by the density, of which the least is
    # here 0.0001.
    assert prior.position(prior.quantile(u)) == pytest.approx(u, abs=1e-11)


@given(bumps, st.tuples(units, units))
def test_no_part_of_the_range_is_given_up(bump: Bump, pair: tuple[float, float]) -> None:
    low, high = sorted(pair)
    assert bump.quantile(high) - bump.quantile(low) >= DOUBT * (high - low) - EXACT


@given(units, st.floats(0.01, 3), units)
def test_a_bump_is_a_normal_distribution_between_0_and_1(m: float, s: float, u: float) -> None:
    normal = NormalDist(m, s)
    inside = (normal.cdf(u) - normal.cdf(0)) / (normal.cdf(1) - normal.cdf(0))
    assert Bump(m, s).quantile(u) == pytest.approx(0.8 * inside + 0.2 * u, abs=EXACT)


@given(st.lists(st.floats(0.001, 1), min_size=2, max_size=9))
def test_weights_are_the_shares_of_equal_cells(parts: list[float]) -> None:
    shares = [part / sum(parts) for part in parts]
    prior, n = Weights(shares), len(shares)
    for cell, share in enumerate(shares):
        below, above = prior.quantile(cell / n), prior.quantile((cell + 1) / n)
        assert above - below == pytest.approx(share, abs=EXACT)


@given(st.integers(2, 50), st.data())
def test_a_favourite_leaves_the_others_equal_shares(n: int, data: Any) -> None:
    cell = data.draw(st.integers(0, n - 1))
    others = data.draw(st.none() | st.floats(0.001, 0.999))
    prior = favourite(cell, n, others)
    assert isinstance(prior, Weights)
    left = (1 - 1 / n) / 2 if others is None else others
    for i, share in enumerate(prior.shares):
        assert share == pytest.approx(1 - left if i == cell else left / (n - 1))
    if others is None:
        assert max(prior.shares) == prior.shares[cell] > 1 / n
    assert favourite(0, 1, others) is None


DOMAINS = {
    "float": Float(0, 1, prior=0.2, spread=0.05),
    "log": Float(1e-5, 1.0, log=True, prior=1e-3, spread=10.0),
    "step": Float(0, 1, step=0.1, prior=0.9),
    "int": Int(1, 9, prior=2, spread=1),
    "int log": Int(1, 1000, log=True, prior=30, spread=3),
    "powers": Int(16, 512, powers_of=2, prior=64, spread=2),
    "choice": Choice(("a", "b", "c", "d"), prior="c"),
    "sure": Choice((1, None, "x"), prior="x", spread=0.1),
    "boolean": boolean(prior=True),
}


@pytest.mark.parametrize("name", DOMAINS)
def test_draws_have_the_shares_of_the_prior(name: str) -> None:
    """In the ten tenths of the unit interval, or in each value where there are fewer."""
    domain, n = DOMAINS[name], 4000
    k = domain.size if domain.size is not None and domain.size <= 16 else 10
    space, rng = parse({"x": domain.to_dict()}), np.random.default_rng(0)
    drawn = Counter(min(int(domain.to_unit(space.sample(rng)["x"]) * k), k - 1) for _ in range(n))
    prior = domain._prior
    assert prior is not None
    # 3.5 standard deviations; the odds that one of about 70 shares is further away are 1 in 30, and
    # the seed is fixed. A cell of a log range of integers may reach into the next tenth.
    coarse = 1 / 100 if name == "int log" else 0
    for cell in range(k):
        share = prior.quantile((cell + 1) / k) - prior.quantile(cell / k)
        sigma = math.sqrt(share * (1 - share) / n)
        assert drawn[cell] / n == pytest.approx(share, abs=3.5 * sigma + coarse)


@pytest.mark.parametrize("name", ["step", "int", "powers", "choice", "sure", "boolean"])
def test_the_prior_is_the_likeliest_of_equal_cells(name: str) -> None:
    domain = DOMAINS[name]
    drawn = Counter(domain.from_quantile((i + 0.5) / 2000) for i in range(2000))
    ((likeliest, _),) = drawn.most_common(1)
    assert likeliest == domain.to_dict()["prior"]


def test_about_two_draws_in_three_fall_within_the_spread() -> None:
    inside = NormalDist().cdf(1) - NormalDist().cdf(-1)
    for domain, low, high in (
        (Float(0, 1, prior=0.5, spread=0.1), 0.4, 0.6),
        (Float(1e-6, 1.0, log=True, prior=1e-3, spread=10.0), 1e-4, 1e-2),
        (Float(-5, 5, prior=0), -1.5, 1.5),  # 0.15 of the range
        (Float(0, 10, step=0.01, prior=5, spread=1), 4, 6),
        (Int(0, 1000, prior=500, spread=50), 450, 550),
        (Int(0, 3000, step=3, prior=1500, spread=150), 1350, 1650),
        (Int(1, 10**6, log=True, prior=1000, spread=10), 100, 10_000),
        (Int(1, 2**20, powers_of=2, prior=2**10, spread=4), 2**8, 2**12),
    ):
        share = domain.to_quantile(high) - domain.to_quantile(low)
        uniform = domain.to_unit(high) - domain.to_unit(low)
        assert share == pytest.approx(0.8 * inside + 0.2 * uniform, abs=2e-2)
        assert 0.5 < share < 0.75


@given(st.sampled_from(sorted(DOMAINS)), st.lists(units, min_size=1, max_size=5))
@settings(max_examples=50)
def test_a_prior_changes_neither_values_nor_identity(name: str, us: list[float]) -> None:
    domain = DOMAINS[name]
    form = {k: v for k, v in domain.to_dict().items() if k not in ("prior", "spread")}
    plain = parse({"x": form}).by_name["x"].domain
    assert isinstance(plain, Sampled)
    for u in us:
        value = domain.from_unit(u)
        assert value == plain.from_unit(u)
        assert plain.contains(domain.from_quantile(u))
        assert plain.from_quantile(u) == plain.from_unit(u)
    space = parse({"x": domain.to_dict()})
    assert space.to_dict(hints=False) == {"x": form}
    assert space.diff(parse({"x": form})) == []
    assert isinstance(space, SearchSpace)
    assert domain.to_optuna() == plain.to_optuna()


def test_a_domain_draws_by_its_prior() -> None:
    """Of 2,000 draws 50 % are the favourite, plus or minus 4.5 sigma; a scalar is always itself."""
    rng = random.Random(0)
    favoured = Choice(("a", "b", "c"), prior="b", spread=0.5)
    share = sum(favoured.sample(rng) == "b" for _ in range(2000)) / 2000
    assert share == pytest.approx(0.5, abs=0.05)
    assert Fixed(3).sample(rng) == 3
    assert Float(1, 2).contains(Float(1, 2).sample(np.random.default_rng(0)))
