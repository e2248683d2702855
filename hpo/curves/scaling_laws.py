"""Laws of error versus training-set size, and how likely each is before anything was measured.

All laws are written relative to the largest size N that was measured. With t = log(n / N),

    e(n) = e(N) (r + (1 - r) g(t)),    g(0) = 1, g falling to 0,

so r is the share of today's error that more examples cannot take away. The laws differ in g:

- power law with a floor (pow3 of Domhan et al. 2015; Hestness et al. 2017):  log g = -b t
- exponential, Weibull-like (exp4 of Mohr et al. 2022):        log g = -(b / y) (exp(y t) - 1)
- logarithmic power law (of Domhan et al. 2015), which with a floor is MMF (Viering & Loog 2022,
  table 1) and close to M4 (Alabdulmohsin et al. 2022), and begins on a plateau:
      the next one with b0 = 0, f = 1 / b1
- power law with one smooth break at t = d (BNSL, Caballero et al. 2022, eq. 1):
      log g = -b0 t - (b1 - b0) f [log(1 + exp((t - d) / f)) - log(1 + exp(-d / f))]
- no progress, or slow regress:                                 log e = -b t, b <= 0, no floor

A law has no unit: sizes multiplied by a constant leave t alone, and errors multiplied leave r and
g. The prior is log-linear in what `features` lists. Its coefficients, `_PRIOR`, maximise the
predictive likelihood of later errors on LCDB 1.0 (Mohr et al. 2022), with a ridge penalty:

    python -m benchmarks.curves.calibrate --data DIR
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from functools import cache
from itertools import product

import numpy as np

from hpo.curves.distributions import Array

LOWEST = 1e-4
"""The smallest share of today's error that is told from none."""

FLAT, POWER, EXPONENTIAL, LOG_POWER, BROKEN = range(5)

_FLOORS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96, 0.99)
_RATES = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.4)
_FAST = (2.0, 2.8, 4.0, 5.6)  # of exponentials, which soon have nothing more to gain

# Half the grid's steps, by family: of log b, of d, of log f and of r.
_CELLS = np.array(
    [
        (0.0, 0.0, 0.0, 0.0),
        (0.2, 0.0, 0.0, 0.05),
        (0.2, 0.0, 0.5, 0.05),
        (0.29, 1.0, 0.0, 0.1),
        (0.4, 1.0, 0.5, 0.15),
    ]
)

_PRIOR = {
    "flat": 0.79,
    "no floor": -0.42,
    "floor": -0.38,
    "floor >= 0.8": -0.24,
    "power": -0.01,
    "power: log b": 0.13,
    "power: log b^2": -0.37,
    "exponential": -0.07,
    "exponential: log b": 0.38,
    "exponential: log b^2": -0.66,
    "log power": -0.84,
    "log power: log b": -0.41,
    "log power: log b^2": -0.53,
    "log power: d": -0.39,
    "log power: d^2": -0.05,
    "broken": 0.04,
    "broken: log b": -0.10,
    "broken: log b^2": -0.10,
    "broken: d": -0.17,
    "broken: d^2": -0.50,
    "broken: steeper": -0.45,
    "broken: steeper d": 0.56,
}


@dataclass(frozen=True)
class Laws:
    """J laws; all arrays have shape (J,).

    Args:
        family: `FLAT`, `POWER`, `EXPONENTIAL`, `LOG_POWER` or `BROKEN`.
        b0: Exponent before the break; of a power law or exponential, the exponent today.
        b1: Exponent after the break.
        d: Where it breaks, as log(n / N).
        f: How smoothly: the break's width in t; of the exponential its y.
        r: The floor as a share of today's error.
    """

    family: Array
    b0: Array
    b1: Array
    d: Array
    f: Array
    r: Array

    def __len__(self) -> int:
        return len(self.r)

    def take(self, index: np.ndarray) -> Laws:
        """Some of the laws, in this order."""
        return Laws(*(getattr(self, field.name)[index] for field in fields(self)))

    def __add__(self, other: Laws) -> Laws:
        names = [field.name for field in fields(self)]
        return Laws(*(np.append(getattr(self, x), getattr(other, x)) for x in names))

    def log_error(self, t: Array) -> Array:
        """log(e(n) / e(N)) at t = log(n / N), shape (J, m)."""
        b0, b1, d, f = (x[:, None] for x in (self.b0, self.b1, self.d, self.f))
        bend = np.logaddexp(0.0, (t - d) / f) - np.logaddexp(0.0, -d / f)
        log_g = -b0 * t - (b1 - b0) * f * bend
        weibull = self.family == EXPONENTIAL
        growth = np.expm1(np.minimum(f[weibull] * t, 50.0))
        log_g[weibull] = -(b0 / f)[weibull] * growth
        floor = np.maximum(self.r, LOWEST)[:, None]
        return np.asarray(np.logaddexp(np.log(floor), np.log1p(-floor) + log_g))

    def log_floor(self) -> Array:
        """The limit of `log_error` with infinitely many examples, shape (J,)."""
        return np.log(np.where(self.family == FLAT, 1.0, np.maximum(self.r, LOWEST)))

    def refined(self, n: int) -> Laws:
        """Each law in n variants, evenly spread in its cell of the grid; shape (J n,)."""
        u = 2 * _spread_points(n)[None] - 1  # (1, n, 5)
        b, d, f, r = (x[:, None] for x in _CELLS[self.family.astype(int)].T)
        b0 = self.b0[:, None] * np.exp(b * u[..., 0])
        b1 = self.b1[:, None] * np.exp(b * u[..., 1])
        single = self.family[:, None] < LOG_POWER
        width = self.f[:, None] * np.exp(f * u[..., 3])
        columns = (
            self.family[:, None],
            b0,
            np.where(single, b0, b1),
            self.d[:, None] + d * u[..., 2],
            np.where(self.family[:, None] == LOG_POWER, 1 / np.where(b1 > 0, b1, 1.0), width),
            np.clip(self.r[:, None] + r * u[..., 4], 0.0, 0.995),
        )
        return Laws(*(np.broadcast_to(x, (len(self), n)).ravel() for x in columns))


@cache
def bank() -> Laws:
    """The grid of laws that are averaged over."""
    rows: list[tuple[float, ...]] = [(FLAT, b, b, 0.0, 1.0, 0.0) for b in (0.0, -0.05, -0.15)]
    rows += [(POWER, b, b, 0.0, 1.0, r) for b, r in product(_RATES, _FLOORS)]
    rows += [(EXPONENTIAL, b, b, 0.0, y, r) for b, y, r in product(_RATES, (0.3, 0.8), _FLOORS)]
    rows += [(EXPONENTIAL, b, b, 0.0, y, r) for b, y, r in product(_FAST, (0.8, 1.0), _FLOORS)]
    rows += [(EXPONENTIAL, b, b, 0.0, 1.0, r) for b, r in product(_RATES[6:], _FLOORS)]
    rows += [
        (LOG_POWER, 0.0, b, d, 1 / b, r)
        for b, d, r in product((0.3, 0.6, 1.0, 1.6, 2.5), (-4.0, -2.0, 0.0, 2.0, 4.0), _FLOORS[::2])
    ]
    rows += [
        (BROKEN, b, b * c, d, 0.4, r)
        for b, c, d, r in product(
            (0.05, 0.15, 0.3, 0.6, 1.0),
            (0.25, 0.5, 2.0, 4.0),
            (-2.0, -0.7, 0.7, 2.0, 4.0),
            (0.0, 0.3, 0.6, 0.85),
        )
    ]
    return Laws(*np.array(rows).T)


def features(laws: Laws) -> dict[str, Array]:
    """What the prior of a law depends on, each of shape (J,)."""
    flat = laws.family == FLAT
    found = {
        "flat": flat & (laws.b0 == 0),
        "no floor": ~flat & (laws.r == 0),
        "floor": laws.r,
        "floor >= 0.8": laws.r >= 0.8,
    }
    log_b = np.log(np.maximum(np.where(laws.family == LOG_POWER, laws.b1, laws.b0), 0.01))
    for family, name in enumerate(("power", "exponential", "log power", "broken"), start=1):
        here = laws.family == family
        found |= {name: here, f"{name}: log b": here * log_b, f"{name}: log b^2": here * log_b**2}
        if family >= LOG_POWER:
            found |= {f"{name}: d": here * laws.d, f"{name}: d^2": here * laws.d**2}
    steeper = np.zeros(len(laws))
    broken = laws.family == BROKEN
    steeper[broken] = np.log(laws.b1[broken] / laws.b0[broken])
    found |= {"broken: steeper": steeper, "broken: steeper d": steeper * laws.d}
    return {name: np.asarray(x, float) for name, x in found.items()}


@cache
def log_prior() -> Array:
    """Log probability of each law of `bank`, shape (J,)."""
    from scipy.special import log_softmax  # takes half a second to import

    listed = features(bank())
    score = sum((_PRIOR[name] * x for name, x in listed.items()), np.zeros(len(bank())))
    return np.asarray(log_softmax(score))


@cache
def _spread_points(n: int) -> Array:
    """Points of the unit cube [0, 1)^5, n evenly spread ones, the first in the middle."""
    # Kronecker sequence with the root of x^6 = x + 1 (Roberts 2018, R-sequence)
    steps = 1.1347241384 ** -np.arange(1.0, 6.0)
    return np.asarray((0.5 + np.arange(n)[:, None] * steps) % 1.0)
