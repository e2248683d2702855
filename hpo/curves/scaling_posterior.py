"""What measurements say about scaling laws: a weighted average of laws, each with its own doubt.

The model, in logarithms, for the mean z_i of m_i measurements at size n_i, with t_i = log(n_i / N):

    z_i = a + log h_j(t_i) + D(t_i) + noise_i,    noise_i ~ Normal(0, s^2 / m_i)

with law j, amplitude a (flat prior, integrated out in closed form), noise s and a Brownian motion D
with D(0) = 0, Var D(t) = q^2 |t|: how far real curves stray from any law. D makes small sizes count
less, and forecasts wider, with their distance from N. Laws and (s, q) are on grids: no sampling.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from scipy.linalg import solve_triangular
from scipy.special import logsumexp, ndtr

from hpo.curves.distributions import Array
from hpo.curves.scaling_laws import Laws, bank, log_prior, refined

_NOISES = (0.003, 0.01, 0.03, 0.1, 0.3)
_STRAYINGS = (0.003, 0.02, 0.06, 0.15, 0.35)
_KEPT = 1500
HURST = 0.75


@dataclass(frozen=True)
class Evidence:
    """Measurements at k sizes.

    Args:
        sizes: Rising, shape (k,).
        z: Log of the mean error at each, shape (k,).
        counts: Measurements behind each, shape (k,).
        scatter: Sum of squared deviations of log errors within sizes.
    """

    sizes: Array
    z: Array
    counts: Array
    scatter: float


@dataclass(frozen=True)
class Posterior:
    """A weighted average of S laws, each with Gaussian doubt about the logarithm of its error.

    Args:
        evidence: What it follows from.
        laws: The laws.
        weights: Their probabilities, shape (S,).
        a: Means of the amplitudes log e(N), shape (S,).
        var_a: Variances of the amplitudes, shape (S,).
        s: Noise of one measurement (logarithm), shape (S,).
        q: Straying, shape (S,).
    """

    evidence: Evidence
    laws: Laws
    weights: Array
    a: Array
    var_a: Array
    s: Array
    q: Array
    index: Array
    prior: Array

    @property
    def n_last(self) -> float:
        """The largest size that was measured, N."""
        return float(self.evidence.sizes[-1])

    def moments(self, n: Array) -> tuple[Array, Array]:
        """Means and variances of log e(n), both of shape (S, m)."""
        t = np.log(n / self.n_last)
        mean = self.a[:, None] + self.laws.log_error(t)
        return mean, self.var_a[:, None] + self.q[:, None] ** 2 * np.minimum(np.abs(t), 7.0) ** (
            2 * HURST
        )

    def prob_below(self, n: Array, log_error: Array) -> Array:
        """P(log e(n) <= log_error), shape (m,)."""
        mean, variance = self.moments(n)
        below: Array = self.weights @ ndtr((log_error - mean) / np.sqrt(variance))
        return below


def posterior(evidence: Evidence) -> Posterior:
    """Weighs all laws by the evidence; then, finer, what lies around the best of them."""
    laws, prior = bank(), log_prior()
    found = _weigh(evidence, laws, prior)
    for n_best, n_variants, shrink in REFINE:
        total = np.bincount(found.index, found.weights, len(laws))
        order = np.argsort(-total, kind="stable")[:n_best]
        best = order[total[order] > FLOOR * total[order[0]]]
        rest = np.delete(np.arange(len(laws)), best)
        rest = rest[total[rest] > 1e-6]
        laws = join(laws.take(rest), refined(laws.take(best), n_variants, shrink))
        prior = np.concatenate(
            [prior[rest], np.repeat(prior[best] - np.log(n_variants), n_variants)]
        )
        found = _weigh(evidence, laws, prior)
    return found


REFINE: tuple = ()
NOISE_PRIOR = np.zeros(25)

FLOOR = 0.03


def join(one: Laws, two: Laws) -> Laws:
    return Laws(
        *(np.concatenate([getattr(one, n), getattr(two, n)]) for n in one.__dataclass_fields__)
    )


def _weigh(evidence: Evidence, laws: Laws, prior: Array) -> Posterior:
    t = np.log(evidence.sizes / evidence.sizes[-1])
    shapes = laws.log_error(t)
    grid = list(product(_NOISES, _STRAYINGS))
    found = [_one(evidence, t, shapes, s, q) for s, q in grid]
    score = np.concatenate([f[0] + prior + l for f, l in zip(found, NOISE_PRIOR)])
    a = np.concatenate([f[1] for f in found])
    var_a = np.repeat([f[2] for f in found], len(laws))
    s, q = (np.repeat(column, len(laws)) for column in np.array(grid).T)
    kept = np.sort(np.argsort(-score)[:_KEPT])
    weights = np.exp(score[kept] - logsumexp(score[kept]))
    index = kept % len(laws)
    return Posterior(
        evidence,
        laws.take(index),
        weights,
        a[kept],
        var_a[kept],
        s[kept],
        q[kept],
        index,
        prior[index],
    )


def _one(
    evidence: Evidence, t: Array, shapes: Array, s: float, q: float
) -> tuple[Array, Array, float]:
    """Log likelihoods and amplitudes of all laws for one noise and straying."""
    h = 2 * HURST
    covariance = q**2 * 0.5 * (
        np.add.outer((-t) ** h, (-t) ** h) - np.abs(np.subtract.outer(t, t)) ** h
    ) + np.diag(s**2 / evidence.counts + 1e-10)
    root = np.linalg.cholesky(covariance)
    white = solve_triangular(
        root, np.column_stack([np.ones_like(t), evidence.z, shapes.T]), lower=True
    )
    ones, rest = white[:, 0], white[:, 1:2] - white[:, 2:]
    precision = float(ones @ ones)
    a = ones @ rest / precision
    squares = np.einsum("kj,kj->j", rest, rest) - precision * a**2
    more = evidence.counts.sum() - len(t)  # replicates tell of the noise, too
    constant = -np.log(np.diag(root)).sum() - 0.5 * np.log(precision) - more * np.log(s)
    return constant - 0.5 * (squares + evidence.scatter / s**2), a, 1 / precision
