"""What `hpo.data_needs` is compared with: scaling laws fitted by least squares, and simpler.

Each takes sizes n and errors e, shape (k,), and returns a function of sizes that gives errors.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from scipy.optimize import least_squares, nnls

from hpo.curves.distributions import Array

Fitted = Callable[[Array], Array]
Law = Callable[[Array, Array], Fitted]

_TINY = 1e-9
_RATES = np.geomspace(0.02, 3.0, 60)


def last_value(n: Array, e: Array) -> Fitted:  # noqa: ARG001 - a law has this form
    """The error stays what it is."""
    return lambda x: np.full(len(x), e[-1])


def power_law(n: Array, e: Array) -> Fitted:
    """Law e = c + a n^-b with a, c >= 0, least squares: exact in a and c, a fine grid in b."""
    best = min((_linear(n, e, b) for b in _RATES), key=lambda found: found[0])
    return _curve(n, *best[1:])


def power_law_average(n: Array, e: Array) -> Fitted:
    """The same averaged over the grid of b, weighted by the likelihood with the noise maximised."""
    found = [_linear(n, e, b) for b in _RATES]
    squares = np.array([f[0] for f in found])
    # Normal noise of unknown size, flat in log: likelihood ~ (sum of squares)^(-k / 2)
    log_weights = -0.5 * len(n) * np.log(squares + _TINY)
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    curves = [_curve(n, *f[1:]) for f in found]
    return lambda x: np.asarray(weights @ np.array([curve(x) for curve in curves]))


def mmf(n: Array, e: Array) -> Fitted:
    """Law e = (a b + c n^d) / (b + n^d), MMF4 of Viering & Loog (2022, table 1), least squares."""

    def law(p: Array, log_x: Array) -> Array:
        # a + (c - a) n^d / (b + n^d), with b as the size where half of it is done
        rise = 1 / (1 + np.exp(-np.clip(p[3] * (log_x - p[2]), -50, 50)))
        return np.asarray(p[0] + (p[1] - p[0]) * rise)

    log_n = np.log(n)
    starts = [
        np.array([top, low, middle, rate])
        for top, low in ((e.max(), e.min() / 2), (1.0, e.min()))
        for middle in (log_n[0], log_n.mean())
        for rate in (0.7,)
    ]
    bounds = ([0, 0, log_n[0] - 10, 0.01], [2 * max(e.max(), 1), max(e.max(), 1), log_n[-1] + 5, 5])
    return _least_squares(law, log_n, e, starts, bounds, logs=False)


def one_break(n: Array, e: Array) -> Fitted:
    """BNSL with one break (Caballero et al. 2022, eq. 1), least squares of logarithms."""

    def law(p: Array, log_x: Array) -> Array:
        c, log_b, c0, c1, log_d, f = p
        bend = f * np.logaddexp(0, (log_x - log_d) / f)
        return np.asarray(c + np.exp(log_b - c0 * log_x - c1 * bend))

    log_n = np.log(n)
    starts = [
        np.array([low, np.log(e[0]) + c0 * log_n[0], c0, c1, where, 0.5])
        for low in (e.min() * 0.3, e.min() * 0.9)
        for c0, c1 in ((0.05, 0.6), (0.5, 0.1))
        for where in (log_n[0] + 0.3 * np.ptp(log_n), log_n[0] + 0.7 * np.ptp(log_n))
    ]
    bounds = (
        [0, -60, 0, -1, log_n[0] - 5, 0.05],
        [e.max() * 1.01, 120, 4, 4, log_n[-1] + 3, 5],
    )
    return _least_squares(law, log_n, e, starts, bounds, logs=True)


def m4(n: Array, e: Array) -> Fitted:
    """M4 of Alabdulmohsin et al. (2022): (e - c) / (e0 - e)^y = a n^-b, least squares of logs."""

    def law(p: Array, log_x: Array) -> Array:
        c, drop, log_a, b, y = p
        right = log_a - b * log_x
        low, high = np.zeros_like(log_x), np.ones_like(log_x)
        for _ in range(45):  # e = c + drop v; the left side rises with v: bisection
            v = (low + high) / 2
            left = np.log(v * drop) - y * np.log((1 - v) * drop)
            low, high = np.where(left < right, v, low), np.where(left < right, high, v)
        return np.asarray(c + drop * (low + high) / 2)

    log_n = np.log(n)
    starts = [
        np.array([low, e.max() * 1.1 - low, np.log(e[0]) + b * log_n[0], b, y])
        for low in (e.min() * 0.3, e.min() * 0.9)
        for b in (0.3, 1.0)
        for y in (0.2, 1.0)
    ]
    bounds = ([0, 1e-3, -60, 0.01, 0.0], [e.max(), 3 * e.max() + 1, 200, 6, 4])
    return _least_squares(law, log_n, e, starts, bounds, logs=True)


LAWS: Mapping[str, Law] = {
    "last value": last_value,
    "power law, least squares": power_law,
    "power law, averaged over a grid": power_law_average,
    "MMF": mmf,
}
VISION_LAWS: Mapping[str, Law] = {**LAWS, "M4": m4, "one-break power law": one_break}


def size_for(curve: Fitted, sizes: Array, target: float) -> float:
    """The smallest of rising sizes at which a fitted curve is at the target; inf without."""
    at = np.flatnonzero(curve(sizes) <= target)
    return float(sizes[at[0]]) if len(at) else np.inf


def _linear(n: Array, e: Array, b: float) -> tuple[float, float, float, float]:
    """Sum of squares, b, c and a of the power law with exponent b."""
    design = np.column_stack([np.ones_like(n), (n / n[-1]) ** -b])
    (c, a), norm = nnls(design, e)
    return float(norm**2), b, float(c), float(a)


def _curve(n: Array, b: float, c: float, a: float) -> Fitted:
    return lambda x: c + a * (x / n[-1]) ** -b


def _least_squares(
    law: Callable[[Array, Array], Array],
    log_n: Array,
    e: Array,
    starts: list[Array],
    bounds: tuple[list[float], list[float]],
    *,
    logs: bool,
) -> Fitted:
    """The best of several local searches."""
    low, high = np.array(bounds[0], float), np.array(bounds[1], float)

    def residuals(p: Array) -> Array:
        found = law(p, log_n)
        if logs:
            return np.log(found + _TINY) - np.log(e + _TINY)
        return found - e

    margin = 1e-6 * (high - low)
    fits = [
        least_squares(
            residuals, np.clip(x, low + margin, high - margin), bounds=(low, high), max_nfev=200
        )
        for x in starts
    ]
    best = min(fits, key=lambda fit: float(fit.cost)).x
    return lambda x: law(best, np.log(x))
