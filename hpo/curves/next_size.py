"""How much training at another size would tell."""

from __future__ import annotations

import numpy as np

from hpo.curves.distributions import Array
from hpo.curves.scaling_posterior import (
    FARTHEST,
    SPREAD,
    Posterior,
    roughness_between,
    tilted,
)

_DRAWS, _BINS, _AHEAD = 2000, 20, 30


def information(posterior: Posterior, log_target: float | None, sizes: Array) -> Array:
    """Expected share of the variance of the answer that one more measurement takes away.

    The answer Q is the rank, among what is possible, of the size that is needed, or without a
    target of the error at 10 times the data (ranks: sizes may be infinite). For curves drawn from
    the posterior and measurements y of them at n, the share is Var(E[Q | y]) / Var(Q), estimated
    in bins of y (the correlation ratio; first-order index of Sobol 1993).

    Args:
        posterior: What is known.
        log_target: Logarithm of the error to reach.
        sizes: Where to measure, shape (m,).

    Returns:
        Shares between 0 and 1, shape (m,).
    """
    rng = np.random.default_rng(0)  # the same question, the same answer
    last = posterior.n_last
    ahead = np.geomspace(1.05, FARTHEST, _AHEAD)
    ahead[np.argmin(np.abs(ahead - 10))] = 10.0
    beyond = np.unique(np.concatenate([ahead, sizes[sizes > last] / last]))
    before = np.unique(np.minimum(sizes[sizes <= last] / last, 1.0))
    log_errors = _draw(posterior, before, beyond, rng)
    ratios = np.concatenate([before, beyond])
    if log_target is None:
        answer = log_errors[:, np.searchsorted(ratios, 10.0)]
    else:
        there = log_errors[:, len(before) :] <= log_target
        answer = np.where(there.any(1), there.argmax(1), len(beyond)).astype(float)
    q = _ranks(answer)
    noisy = log_errors + _noise(posterior, np.log(ratios), rng)
    columns = np.searchsorted(ratios, np.minimum(sizes / last, ratios[-1]))
    return np.array([_explained(noisy[:, i], q) for i in columns])


def _noise(posterior: Posterior, t: Array, rng: np.random.Generator) -> Array:
    """Draws of the noise of a measurement at t = log(n / N), shape (draws, m)."""
    j = rng.choice(len(posterior.weights), _DRAWS, p=posterior.weights)
    return tilted(posterior.s[j, None], posterior.g[j, None], t) * rng.normal(size=(_DRAWS, 1))


def _draw(posterior: Posterior, before: Array, beyond: Array, rng: np.random.Generator) -> Array:
    """Logarithms of errors of curves from the posterior at multiples of N, shape (draws, m)."""
    j = rng.choice(len(posterior.weights), _DRAWS, p=posterior.weights)
    t = np.log(np.concatenate([before, beyond]))
    laws = posterior.laws.log_error(t)[j]
    a = posterior.a[j] + np.sqrt(posterior.var_a[j]) * rng.normal(size=_DRAWS)
    # D beyond N; up to N the measurements hold it, and what is left is small
    ahead = t[len(before) :]
    root = np.linalg.cholesky(roughness_between(ahead) + 1e-9 * np.eye(len(ahead)))
    strays = SPREAD * posterior.q[j, None] * (rng.normal(size=(_DRAWS, len(ahead))) @ root.T)
    found = laws + a[:, None]
    found[:, len(before) :] += strays
    return found


def _ranks(x: Array) -> Array:
    """Mean ranks, ties sharing theirs, between 0 and 1."""
    _, index, counts = np.unique(x, return_inverse=True, return_counts=True)
    return np.asarray((np.cumsum(counts) - counts / 2)[index] / len(x))


def _explained(y: Array, q: Array) -> float:
    """Share of the variance of q that the bin of y explains."""
    variance = float(q.var())
    if variance == 0:
        return 0.0
    means = q[np.argsort(y, kind="stable")].reshape(_BINS, -1).mean(1)
    # Independent y and q would still give (bins - 1) / (draws - 1) on average.
    chance = (_BINS - 1) / (len(q) - 1)
    share = float(means.var()) / variance
    return float(np.clip((share - chance) / (1 - chance), 0.0, 1.0))
