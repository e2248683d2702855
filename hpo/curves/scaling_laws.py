"""Laws of error versus training-set size, and how likely each is before anything was measured.

All laws are written relative to the largest size N that was measured. With t = log(n / N),

    e(n) = e(N) (r + (1 - r) g(t)),    g(0) = 1, g falling to 0,

so r is the share of today's error that more examples cannot take away. The laws differ in g:

- power law (Hestness et al. 2017; pow3 in Mohr et al. 2022):   log g = -b t
- exponential (exp4, Weibull):                                  log g = -(b / y) (exp(y t) - 1)
- logarithmic power (Mohr et al. 2022; ilog-like; with a floor it is MMF4 of Viering & Loog 2022,
  and M4 of Alabdulmohsin et al. 2022 behaves alike):           a smoothly broken law with b0 = 0
- smoothly broken power law with one break at t = d (BNSL, Caballero et al. 2022, eq. 1):
      log g = -b0 t - (b1 - b0) f [log(1 + exp((t - d) / f)) - log(1 + exp(-d / f))]

A law has no unit: sizes multiplied by a constant leave t, and errors multiplied leave r, g alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import product

import numpy as np

from hpo.curves.distributions import Array

LOWEST = 1e-4
"""The smallest share of today's error that is told from none."""

_FLOORS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.96)
_RATES = (0.03, 0.06, 0.1, 0.15, 0.2, 0.3, 0.4, 0.55, 0.75, 1.0, 1.4)


@dataclass(frozen=True)
class Laws:
    """J laws; all arrays have shape (J,).

    Args:
        family: 0 flat or rising, 1 power, 2 exponential, 3 logarithmic power, 4 broken power.
        b0: Exponent before the break; of a power law or exponential, the exponent today.
        b1: Exponent after the break.
        d: Where it breaks, as log(n / N).
        f: How smoothly: the break's width in t; for the exponential its y.
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
        """Some of the laws."""
        return Laws(*(getattr(self, name)[index] for name in self.__dataclass_fields__))

    def log_error(self, t: Array) -> Array:
        """log(e(n) / e(N)) at t = log(n / N), shape (J, m)."""
        b0, b1, d, f = (x[:, None] for x in (self.b0, self.b1, self.d, self.f))
        bend = np.logaddexp(0.0, (t - d) / f) - np.logaddexp(0.0, -d / f)
        log_g = -b0 * t - (b1 - b0) * f * bend
        exponential = self.family == 2
        log_g[exponential] = -(b0 / f)[exponential] * np.expm1(np.minimum(f[exponential] * t, 50.0))
        log_r = np.log(np.maximum(self.r, LOWEST))[:, None]
        return np.logaddexp(log_r, np.log1p(-np.maximum(self.r, LOWEST))[:, None] + log_g)

    def log_floor(self) -> Array:
        """The limit of `log_error`, shape (J,)."""
        return np.log(np.where(self.family == 0, 1.0, np.maximum(self.r, LOWEST)))


@cache
def bank() -> Laws:
    """All laws that are averaged over."""
    rows: list[tuple[float, ...]] = [(0, b, b, 0.0, 1.0, 0.0) for b in (0.0, -0.05, -0.15)]
    rows += [(1, b, b, 0.0, 1.0, r) for b, r in product(_RATES, _FLOORS)]
    rows += [(2, b, b, 0.0, y, r) for b, y, r in product(_RATES, (0.3, 0.8), _FLOORS)]
    rows += [
        (3, 0.0, b, d, 1 / b, r)
        for b, d, r in product((0.3, 0.6, 1.0, 1.6, 2.5), (-4.0, -2.0, 0.0, 2.0, 4.0), _FLOORS[::2])
    ]
    rows += [
        (4, b, b * c, d, 0.4, r)
        for b, c, d, r in product(
            (0.05, 0.15, 0.3, 0.6, 1.0),
            (0.25, 0.5, 2.0, 4.0),
            (-2.0, -0.7, 0.7, 2.0, 4.0),
            (0.0, 0.3, 0.6, 0.85),
        )
    ]
    return Laws(*np.array(rows).T)


def refined(laws: Laws, n: int, shrink: float) -> Laws:
    """n variants of each law within its cell of the grid, shape (J n,), law by law.

    Args:
        laws: The laws, shape (J,).
        n: Variants of each; the first is the law itself.
        shrink: Share of the cell that the variants fill.
    """
    u = (shrink * (2 * _offsets(n) - 1))[None]  # (1, n, 5)
    u = u * np.array([1.0])
    stretch = np.where(laws.family == 3, 0.29, np.where(laws.family == 4, 0.4, 0.2))[:, None]
    one, two = np.exp(stretch * u[..., 0]), np.exp(stretch * u[..., 1])
    b0, b1 = laws.b0[:, None] * one, laws.b1[:, None]
    b1 = np.where(laws.family[:, None] == 4, b1 * two, b1 * one)
    d = laws.d[:, None] + np.where(laws.family[:, None] >= 3, 1.0, 0.0) * u[..., 2]
    loose = np.where((laws.family == 2) | (laws.family == 4), 0.5, 0.0)[:, None]
    f = laws.f[:, None] * np.exp(loose * u[..., 3])
    f = np.where(laws.family[:, None] == 3, 1 / b1, f)
    cell = np.where(laws.family == 4, 0.15, np.where(laws.family == 3, 0.1, 0.05))
    r = np.where(laws.family == 0, 0.0, 1.0)[:, None] * np.clip(
        laws.r[:, None] + cell[:, None] * u[..., 4], 0.0, 0.99
    )
    family = np.repeat(laws.family, n)
    return Laws(family, *(np.broadcast_to(x, (len(laws), n)).ravel() for x in (b0, b1, d, f, r)))


@cache
def _offsets(n: int) -> Array:
    """n points of the unit cube [0, 1)^5, evenly spread, the first in the middle."""
    # Kronecker sequence with the roots of x^6 = x + 1 (Roberts 2018, R-sequence)
    root = 1.1347241384
    steps = root ** -np.arange(1.0, 6.0)
    return np.asarray((0.5 + np.arange(n)[:, None] * steps) % 1.0)


@cache
def log_prior() -> Array:
    """Log probability of each law of `bank`, shape (J,)."""
    laws = bank()
    counts = np.bincount(laws.family.astype(int))
    share = np.array([0.1, 0.3, 0.2, 0.2, 0.2])
    return np.log((share / counts)[laws.family.astype(int)])
