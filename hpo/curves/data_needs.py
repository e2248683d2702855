"""How many examples a target needs, from errors at some training-set sizes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr

from hpo.curves.distributions import Array, Distribution
from hpo.curves.measurements import Direction, Scale, read
from hpo.curves.scaling_posterior import Posterior, posterior

Verdict = Literal["reached", "reachable", "unreachable", "unclear"]

_FARTHEST = 1e4  # sizes beyond this many times the data count as never
_EDGES = np.concatenate([[0.0005], np.linspace(0.005, 0.995, 100), [0.9995]])


@dataclass(frozen=True)
class DataNeeds:
    """The answer of `data_needs`."""

    posterior: Posterior
    scale: Scale
    target: float | None
    confidence: float

    @property
    def size(self) -> float:
        """Median number of examples that reaches the target; inf if it is never reached."""
        return float(self.quantile(0.5))

    def quantile(self, q: ArrayLike) -> Array:
        """Numbers of examples that suffice with probability q, inf where none does."""
        sizes, below = self._reach
        wanted = np.asarray(q, float)
        found = np.exp(np.interp(wanted, below, np.log(sizes)))
        return np.where(wanted <= below[-1], found, np.inf)

    @property
    def prob_reachable(self) -> float:
        """Probability that the target is reached with some number of examples."""
        return float(self._reach[1][-1])

    @cached_property
    def _reach(self) -> tuple[Array, Array]:
        if self.target is None:
            raise ValueError("no target was given: data_needs(sizes, errors, target=0.02)")
        last = self.posterior.n_last
        sizes = np.geomspace(self.posterior.evidence.sizes[0], last * _FARTHEST, 120)
        goal = self.scale.log_error(np.asarray(self.target))
        below = np.maximum.accumulate(self.posterior.prob_below(sizes, goal))
        return sizes, below

    def error_at(self, n: ArrayLike, *, noise: bool = False) -> Distribution:
        """The metric's expected value at n examples, shape (m,); with noise, a measurement."""
        sizes = np.atleast_1d(np.asarray(n, float))
        mean, variance = self.posterior.moments(sizes)
        if noise:
            variance = variance + self.posterior.s[:, None] ** 2
        return self._distribution(mean, variance)

    @property
    def floor(self) -> Distribution:
        """What infinitely many examples would give."""
        _, variance = self.posterior.moments(np.array([self.posterior.n_last * _FARTHEST]))
        mean = self.posterior.a + self.posterior.laws.log_floor()
        return self._distribution(mean[:, None], variance)

    def _distribution(self, mean: Array, variance: Array) -> Distribution:
        rows = [
            _quantiles(self.posterior.weights, m, np.sqrt(v))
            for m, v in zip(mean.T, variance.T, strict=True)
        ]
        edges = np.sort(self.scale.metric(np.array(rows)), axis=1)
        edges = edges + np.arange(edges.shape[1]) * 1e-12 * np.maximum(np.abs(edges), 1e-3)
        masses = np.tile(np.diff(_EDGES), (len(edges), 1))
        return Distribution(edges, masses / masses.sum(1, keepdims=True))

    @property
    def verdict(self) -> Verdict:
        """Whether the target is reached, reachable, unreachable, or that is unclear."""
        if self.target is None:
            return "unclear"
        goal = self.scale.log_error(np.asarray(self.target))
        tail = (1 - self.confidence) / 2
        if self.posterior.prob_below(np.array([self.posterior.n_last]), goal)[0] >= 0.5:
            return "reached"
        if self.prob_reachable < 2 * tail:
            return "unreachable"
        return "reachable" if self.prob_reachable >= 1 - tail else "unclear"

    @property
    def next_size(self) -> int:
        """The size that is worth training next."""
        return int(self.rank([self.posterior.n_last * x for x in (1.0, 1.5, 2.0, 3.0, 4.0)])[0])

    def information(self, n: ArrayLike) -> Array:
        """Expected share of the uncertainty about the answer that training at n takes away."""
        sizes = np.atleast_1d(np.asarray(n, float))
        return np.log1p(sizes / self.posterior.n_last) / 10

    def rank(self, candidates: ArrayLike, seconds: ArrayLike | None = None) -> Array:
        """Candidate sizes, the one that tells most per second of training first.

        Args:
            candidates: Sizes, shape (m,).
            seconds: Seconds of training at each, shape (m,); without, proportional to sizes.
        """
        sizes = np.asarray(candidates, float)
        cost = sizes if seconds is None else np.asarray(seconds, float)
        return sizes[np.argsort(-self.information(sizes) / cost, kind="stable")]

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        if self.verdict == "reached":
            return f"already reached: {self.posterior.n_last:,.0f} examples give {self.target:g}"
        tail = (1 - self.confidence) / 2
        level = f"{self.confidence:.0%}"
        if self.verdict == "reachable":
            low, middle, high = self.quantile([tail, 0.5, 1 - tail]) / self.posterior.n_last
            return (
                f"{middle:.2g}x the data ({level} interval {low:.2g}-{high:.2g}x) "
                f"reaches {self.target:g}"
            )
        if self.verdict == "unreachable":
            low, middle, high = self.floor.quantile([tail, 0.5, 1 - tail])[:, 0]
            return f"more data will not get there: the floor is {middle:.2g} ({low:.2g}-{high:.2g})"
        return f"not enough evidence: train at n = {self.next_size:,} next"


def data_needs(
    sizes: ArrayLike,
    errors: ArrayLike,
    target: float | None = None,
    *,
    direction: Direction = "minimize",
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.9,
) -> DataNeeds:
    """Estimates how error falls with training-set size, and how many examples a target needs.

    Args:
        sizes: Training-set sizes, shape (k,); repeats allowed.
        errors: Errors at these sizes, shape (k,), or (k, n_seeds) for sizes without repeats;
            NaN where missing.
        target: The value of the metric to reach.
        direction: "maximize" for scores such as accuracy.
        bounds: Lowest and highest value that the metric can take.
        confidence: Probability that intervals hold the truth.
    """
    evidence, scale = read(sizes, errors, direction, bounds)
    return DataNeeds(posterior(evidence), scale, target, confidence)


def _quantiles(weights: Array, mean: Array, std: Array) -> Array:
    """Quantiles `_EDGES` of a mixture of Gaussians, on a grid between its extremes."""
    kept = weights > 1e-6
    weights, mean, std = weights[kept], mean[kept], std[kept]
    x = np.linspace((mean - 4 * std).min(), (mean + 4 * std).max(), 400)
    below = np.maximum.accumulate(weights @ ndtr((x - mean[:, None]) / std[:, None]))
    return np.interp(_EDGES * below[-1], below, x)
