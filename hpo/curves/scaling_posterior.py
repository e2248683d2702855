"""What measurements say about scaling laws: a weighted average of laws, each with its own doubt.

The model, in logarithms, for the mean z_i of m_i measurements at size n_i, with t_i = log(n_i / N):

    z_i = a + log h_j(t_i) + D(t_i) + noise_i,    noise_i ~ Normal(0, s^2 e^(2 g t_i) / m_i)

with law j, amplitude a (flat prior, integrated out in closed form), noise s at N, which rises with
the size (g > 0: few errors are left to count) or falls (g < 0) and is correlated between sizes
where the same seeds were trained, and D, how far real curves stray from any law: fractional
Brownian motion with D(0) = 0 and Var D(t) = q^2 |t|^2H. It makes small sizes count less, and
forecasts wider, with their distance from N. With H > 1/2 strays go on in their direction; H = 0.75
predicts LCDB 1.0 better than 0.5 and 0.95. Laws, s, g and q are on grids, and laws around the best
on a finer one: no sampling, no iteration.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product

import numpy as np

from hpo.curves.distributions import Array
from hpo.curves.scaling_laws import FLAT, Laws, bank, log_prior

NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)
STRAYINGS = (0.003, 0.02, 0.06, 0.15, 0.35)
TILTS = {-0.5: 0.25, 0.0: 0.5, 0.5: 0.25}
"""Exponents g of the noise, with their prior, where some size was measured twice.

Without that, noise cannot be told from straying, and g is 0.
"""

HURST = 0.75
FARTHEST = 1e4
"""Sizes beyond this many times the data count as never."""

LEAST_FLOOR = 0.1
"""As a share of today's error: a floor below it cannot be told from none."""

SPREAD = 1.5
"""By how much forecasts stray more than the past did, so that intervals hold what they say."""

# No curve strays farther than in a thousandfold of the data.
_LONGEST = 7.0
_KEPT, _MASS = 1200, 0.9995
_REFINED, _VARIANTS, _WORTH = 60, 24, 0.03


@dataclass(frozen=True)
class Evidence:
    """Measurements at k sizes.

    Args:
        sizes: Rising, shape (k,).
        z: Log of the mean error at each, shape (k,).
        counts: Measurements behind each, shape (k,).
        replicates: Of these, those beyond the first of each size, shape (k,): they tell of noise.
        scatter: Sum of squared deviations of log errors within sizes, shape (k,).
        correlation: Of the noise of the means, shape (k, k): parts of growing size that are nested,
            and networks that begin alike, are lucky alike.
        is_constant: Whether there are several sizes, and no seed's error differs between them.
    """

    sizes: Array
    z: Array
    counts: Array
    replicates: Array
    scatter: Array
    correlation: Array
    is_constant: bool = False

    @property
    def tilts(self) -> Mapping[float, float]:
        """The exponents of the noise that may be, with their prior."""
        return TILTS if np.any(self.replicates) else {0.0: 1.0}


@dataclass(frozen=True)
class Posterior:
    """A weighted average of S laws, each with Gaussian doubt about the logarithm of its error.

    Args:
        evidence: What it follows from.
        laws: The laws, shape (S,).
        weights: Their probabilities, shape (S,).
        a: Means of the amplitudes log e(N), shape (S,).
        var_a: Their variances, shape (S,).
        s: Noise of one measurement (of its logarithm) at the largest size, shape (S,).
        q: Straying, shape (S,).
        g: How the noise rises with the size, shape (S,).
    """

    evidence: Evidence
    laws: Laws
    weights: Array
    a: Array
    var_a: Array
    s: Array
    q: Array
    g: Array

    @property
    def n_last(self) -> float:
        """The largest size that was measured, N."""
        return float(self.evidence.sizes[-1])

    @property
    def prob_no_floor(self) -> float:
        """Probability of laws without a floor, or with one that cannot be told from none."""
        endless = (self.laws.family != FLAT) & (self.laws.r < LEAST_FLOOR)
        return float(self.weights[endless].sum())

    def moments(self, n: Array, *, noise: bool = False) -> tuple[Array, Array]:
        """Means and variances of log e(n), or of a measurement of it; each of shape (S, m)."""
        t = np.log(n / self.n_last)
        # Only what lies ahead is spread: within the measured sizes the model is at home.
        ahead = np.where(t > 0, SPREAD**2, 1.0)
        variance = self.var_a[:, None] + self.q[:, None] ** 2 * roughness(t) * ahead
        if noise:
            variance = variance + tilted(self.s[:, None], self.g[:, None], t) ** 2
        return self.a[:, None] + self.laws.log_error(t), variance

    def floor_moments(self) -> tuple[Array, Array]:
        """The moments at infinitely many examples, each of shape (S, 1)."""
        variance = self.var_a + (SPREAD * self.q) ** 2 * roughness(np.array(np.inf))
        return (self.a + self.laws.log_floor())[:, None], variance[:, None]


def tilted(s: Array | float, g: Array | float, t: Array) -> Array:
    """The noise of one measurement at t = log(n / N), beyond N as at N, and never the least."""
    return np.maximum(s * np.exp(g * np.minimum(t, 0.0)), NOISES[0])


def roughness(t: Array) -> Array:
    """Var D(t) / q^2 = |t|^2H, up to where no curve strays farther."""
    return np.asarray(np.minimum(np.abs(t), _LONGEST) ** (2 * HURST))


def roughness_between(t: Array) -> Array:
    """Cov(D(t), D(t')) / q^2 of fractional Brownian motion, shape (k, k)."""
    apart = np.abs(np.subtract.outer(t, t)) ** (2 * HURST)
    own = np.abs(t) ** (2 * HURST)
    return np.asarray((np.add.outer(own, own) - apart) / 2)


def posterior(evidence: Evidence) -> Posterior:
    """Weighs all laws by the evidence, and again with the best ones' cells of the grid split."""
    laws, prior = bank(), log_prior()
    _, index = _weigh(evidence, laws, prior)
    total = np.bincount(index[0], index[1], len(laws))
    order = np.argsort(-total, kind="stable")[:_REFINED]
    best = order[total[order] > _WORTH * total[order[0]]]
    # Laws that hardly count are left out of the second round: it is to be fast.
    others = np.setdiff1d(np.flatnonzero(total > 1e-6), best)
    finer = laws.take(best).refined(_VARIANTS)
    split = np.repeat(prior[best] - np.log(_VARIANTS), _VARIANTS)
    return _weigh(evidence, laws.take(others) + finer, np.append(prior[others], split))[0]


def _weigh(
    evidence: Evidence, laws: Laws, prior: Array
) -> tuple[Posterior, tuple[np.ndarray, Array]]:
    """The posterior over laws and noises; and the laws' indices with their weights."""
    from scipy.special import log_softmax  # takes half a second to import

    t = np.log(evidence.sizes / evidence.sizes[-1])
    shapes = laws.log_error(t)
    tilts = evidence.tilts
    grid = np.array(list(product(NOISES, STRAYINGS, tilts)))
    found = [likelihoods(evidence, t, shapes, *cell) for cell in grid]
    of_tilt = np.log([tilts[g] for g in grid[:, 2]])
    score = np.concatenate([f[0] + prior + p for f, p in zip(found, of_tilt, strict=True)])
    weights = np.exp(log_softmax(score))
    kept = np.argsort(-weights, kind="stable")[:_KEPT]
    enough = int(np.searchsorted(np.cumsum(weights[kept]), _MASS * weights[kept].sum())) + 1
    kept = kept[:enough]
    which, noise = kept % len(laws), kept // len(laws)
    a = np.concatenate([f[1] for f in found])[kept]
    var_a = np.array([f[2] for f in found])[noise]
    weights = weights[kept] / weights[kept].sum()
    s, q, g = grid[noise].T
    return Posterior(evidence, laws.take(which), weights, a, var_a, s, q, g), (which, weights)


def likelihoods(
    evidence: Evidence, t: Array, shapes: Array, s: float, q: float, g: float = 0.0
) -> tuple[Array, Array, float]:
    """Log likelihoods of all laws for one noise and straying, and their amplitudes.

    Args:
        evidence: The measurements.
        t: log(n / N) of their sizes, shape (k,).
        shapes: log h_j(t), shape (J, k).
        s: Noise at N.
        q: Straying.
        g: How the noise rises with the size.

    Returns:
        Log likelihoods (J,), means of the amplitudes (J,), and their variance.
    """
    from scipy.linalg import solve_triangular  # takes half a second to import

    # C = q^2 K + [s_i s_j r_ij / (m_i m_j)^1/2]; with C = L L', x' C^-1 y = (L^-1 x)' (L^-1 y)
    noise = tilted(s, g, t)
    of_means = noise / np.sqrt(evidence.counts)
    covariance = q**2 * roughness_between(t) + evidence.correlation * np.outer(of_means, of_means)
    root = np.linalg.cholesky(covariance)
    columns = np.column_stack([np.ones_like(t), evidence.z, shapes.T])
    white = solve_triangular(root, columns, lower=True, check_finite=False)
    ones, rest = white[:, 0], white[:, 1:2] - white[:, 2:]
    precision = float(ones @ ones)  # 1' C^-1 1
    a = ones @ rest / precision
    squares = np.einsum("kj,kj->j", rest, rest) - precision * a**2
    # Replicates tell of the noise, too.
    of_replicates = evidence.replicates @ np.log(noise) + 0.5 * evidence.scatter @ noise**-2
    constant = -np.log(np.diag(root)).sum() - 0.5 * np.log(precision) - of_replicates
    return constant - 0.5 * squares, a, 1 / precision


def mixture_cdf(weights: Array, mean: Array, variance: Array, x: Array) -> Array:
    """P(X <= x) of a mixture of Gaussians; weights (S,), the rest broadcast to (S, m)."""
    from scipy.special import ndtr  # takes half a second to import

    below: Array = weights @ ndtr((x - mean) / np.sqrt(variance))
    return below
