"""A Bayesian average over eleven shapes by Markov chains (Domhan, Springenberg and Hutter 2015).

A curve is sum_k w_k f_k(t; theta_k) plus normal noise, the weights are positive and the prior is
flat where the curve ends above its beginning and not above 1. An ensemble sampler (emcee, 100
walkers) begins around the shapes' least squares fits and draws from the posterior.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import emcee
import numpy as np
from scipy.optimize import least_squares

from hpo.curves.distributions import Array

_WALKERS, _STEPS, _BURNED, _EACH = 100, 2500, 500, 25
_LEAST_NOISE, _MOST_NOISE = 1e-4, 1.0
_HUGE = 1e3  # an exponent's bound

Function = Callable[[Array, Array], Array]
"""Steps, shape (n,), and parameters, shape (p, w, 1) -> values, shape (w, n)."""


def _exp(x: Array) -> Array:
    y: Array = np.exp(np.clip(x, -_HUGE, 50))
    return y


@dataclass(frozen=True)
class Shape:
    """One of the eleven, and where its fit begins."""

    function: Function
    start: Sequence[float]


def _power(x: Array, exponent: Array) -> Array:
    """x^exponent; NaN below 0."""
    y: Array = np.exp(np.clip(exponent * np.log(x), -_HUGE, 50))
    return y


SHAPES = {
    "vapor pressure": Shape(lambda t, p: _exp(p[0] + p[1] / t + p[2] * np.log(t)), (-0.6, -0.6, 0)),
    "pow3": Shape(lambda t, p: p[0] - p[1] * _power(t, -p[2]), (0.8, 0.5, 0.5)),
    "log log linear": Shape(lambda t, p: np.log(p[0] * np.log(t) + p[1]), (0.3, 1.5)),
    "hill3": Shape(
        lambda t, p: p[0] * _power(t, p[1]) / (_power(p[2], p[1]) + _power(t, p[1])), (0.8, 0.6, 1)
    ),
    "log power": Shape(lambda t, p: p[0] / (1 + _power(t / _exp(p[1]), p[2])), (0.8, 0.5, -0.5)),
    "pow4": Shape(lambda t, p: p[0] - _power(p[1] * t + p[2], -p[3]), (0.8, 1, 1, 0.5)),
    "mmf": Shape(
        lambda t, p: p[0] - (p[0] - p[1]) / (1 + _power(p[2] * t, p[3])), (0.8, 0.1, 0.1, 1)
    ),
    "exp4": Shape(lambda t, p: p[0] - _exp(-p[1] * _power(t, p[2]) + p[3]), (0.8, 0.5, 0.5, 0)),
    "janoschek": Shape(
        lambda t, p: p[0] - (p[0] - p[1]) * _exp(-p[2] * _power(t, p[3])), (0.8, 0.1, 0.1, 1)
    ),
    "weibull": Shape(
        lambda t, p: p[0] - (p[0] - p[1]) * _exp(-_power(p[2] * t, p[3])), (0.8, 0.1, 0.1, 1)
    ),
    "ilog2": Shape(lambda t, p: p[0] - p[1] / np.log(t + 1), (0.8, 0.5)),
}
"""Table 1 of the paper."""


def final_values(seen: Array, horizon: int, rng: np.random.Generator) -> tuple[Array, float]:
    """Draws final values of a score between 0 and 1 from the posterior.

    Args:
        seen: What was seen of it, shape (n,).
        horizon: Its last step.
        rng: For the walkers.

    Returns:
        Values of the curve at the horizon, without noise, shape (m,); and the noise's typical
        standard deviation.
    """
    posterior = _Posterior(seen, horizon)
    walkers = posterior.start(rng)
    sampler = emcee.EnsembleSampler(*walkers.shape, posterior.log_density, vectorize=True)
    sampler.random_state = np.random.RandomState(int(rng.integers(2**31))).get_state()
    with np.errstate(invalid="ignore"):  # a falling curve: all walkers stay where they are
        sampler.run_mcmc(walkers, _STEPS, skip_initial_state_check=True)
    drawn = sampler.get_chain(discard=_BURNED, thin=_EACH, flat=True)
    drawn = drawn[np.isfinite(sampler.get_log_prob(discard=_BURNED, thin=_EACH, flat=True))]
    if not len(drawn):  # no walker ever was where the prior allows it, as of a falling curve
        return seen[-1:], float(np.std(seen))
    return posterior.curves(drawn)[:, -1], float(np.median(_exp(drawn[:, -1])))


class _Posterior:
    """Of parameters (theta_1 ... theta_11, w_1 ... w_11, log s), shape (w, d)."""

    def __init__(self, seen: Array, horizon: int) -> None:
        self._seen = seen
        self._t = np.append(np.arange(1.0, len(seen) + 1), float(horizon))

    def start(self, rng: np.random.Generator) -> Array:
        """Walkers near the fits; those that the prior forbids are drawn again, nearer."""
        fits = [self._fit(shape) for shape in SHAPES.values()]
        theta = np.concatenate([theta for theta, _ in fits])
        spread = np.median([np.sqrt(np.mean(off**2)) for _, off in fits])
        weights = np.full(len(SHAPES), 1 / len(SHAPES))
        centre = np.concatenate([theta, weights, [np.log(max(spread, 1e-3))]])
        walkers = np.tile(centre, (_WALKERS, 1))
        for scale in (0.05, 0.01, 1e-3, 1e-4):
            wanted = ~np.isfinite(self.log_density(walkers)) | (walkers == centre).all(axis=1)
            noise = scale * rng.normal(size=walkers.shape) * (np.abs(centre) + 0.1)
            walkers = np.where(wanted[:, None], centre + noise, walkers)
        return walkers

    def _fit(self, shape: Shape) -> tuple[Array, Array]:
        def off(p: Array) -> Array:
            with np.errstate(all="ignore"):
                values = shape.function(self._t[:-1], p[:, None, None])[0]
            apart: Array = np.nan_to_num(values - self._seen, nan=10.0, posinf=10.0, neginf=-10.0)
            return apart

        fit = least_squares(off, np.array(shape.start, float), max_nfev=100)
        return fit.x, fit.fun

    def curves(self, parameters: Array) -> Array:
        """Values at the steps seen and at the horizon, shape (w, n + 1)."""
        columns = parameters.T[:, :, None]
        weights = columns[-1 - len(SHAPES) : -1]
        total, first = np.zeros((len(parameters), len(self._t))), 0
        with np.errstate(all="ignore"):
            for shape, weight in zip(SHAPES.values(), weights, strict=True):
                last = first + len(shape.start)
                total += weight * shape.function(self._t, columns[first:last])
                first = last
        return total

    def log_density(self, parameters: Array) -> Array:
        """Of the posterior, up to a constant, shape (w,)."""
        weights, log_noise = parameters[:, -1 - len(SHAPES) : -1], parameters[:, -1]
        values = self.curves(parameters)
        with np.errstate(all="ignore"):
            errors = np.sum((values[:, :-1] - self._seen) ** 2, axis=1)
            logs = -len(self._seen) * log_noise - errors / (2 * np.exp(2 * log_noise))
            allowed = (
                np.isfinite(logs)
                & np.all(weights > 0, axis=1)
                & (log_noise > np.log(_LEAST_NOISE))
                & (log_noise < np.log(_MOST_NOISE))
                & (values[:, -1] >= values[:, 0])
                & (values[:, -1] <= 1)
            )
        return np.where(allowed, logs, -np.inf)
