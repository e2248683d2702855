"""Errors at sizes as people have them, checked once and brought into one shape."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hpo.curves.distributions import Array
from hpo.curves.scaling_posterior import Evidence

Direction = Literal["minimize", "maximize"]


@dataclass(frozen=True)
class Scale:
    """How a metric is turned into an error u > 0 that falls towards 0, and back.

    Args:
        direction: Whether lower or higher values are better.
        best: The best value that the metric can take; u is the distance from it.
        worst: The worst, or infinity.
        resolution: Added to u, so that an error of 0 has a logarithm.
    """

    direction: Direction
    best: float
    worst: float
    resolution: float

    def log_error(self, metric: Array) -> Array:
        """The logarithm of the error."""
        u = self.best - metric if self.direction == "maximize" else metric - self.best
        return np.log(np.maximum(u, 0.0) + self.resolution)

    def metric(self, log_error: Array) -> Array:
        """The metric that has this logarithm of the error, within the bounds."""
        u = np.maximum(np.exp(np.minimum(log_error, 700.0)) - self.resolution, 0.0)
        if self.direction == "maximize":
            return np.maximum(self.best - u, self.worst)
        return np.minimum(self.best + u, self.worst)


def read(
    sizes: ArrayLike,
    errors: ArrayLike,
    direction: Direction,
    bounds: tuple[float, float] | None,
) -> tuple[Evidence, Scale]:
    """Checks and sorts measurements, and averages those of one size."""
    n, y = np.asarray(sizes, float), np.asarray(errors, float)
    if y.ndim == 2 and y.shape[0] == n.size:
        n, y = np.repeat(n, y.shape[1]), y.ravel()
    if n.shape != y.shape:
        raise ValueError(f"sizes have shape {n.shape} and errors {y.shape}")
    seen = ~np.isnan(y)
    n, y = n[seen], y[seen]
    if not len(y):
        raise ValueError("no error is a number")
    scale = scale_of(y, direction, bounds)
    unique, index = np.unique(n, return_inverse=True)
    counts = np.bincount(index).astype(float)
    means = np.bincount(index, y) / counts
    z = scale.log_error(means)
    scatter = float(np.sum((scale.log_error(y) - z[index]) ** 2))
    return Evidence(unique, z, counts, scatter), scale


def scale_of(y: Array, direction: Direction, bounds: tuple[float, float] | None) -> Scale:
    """The scale of a metric; without bounds, what its values suggest."""
    low, high = bounds if bounds is not None else _guess(y, direction)
    best, worst = (high, low) if direction == "maximize" else (low, high)
    u = np.abs(y - best)
    positive = u[u > 0]
    resolution = 0.5 * float(positive.min()) if len(positive) and len(positive) < len(u) else 0.0
    return Scale(direction, best, worst, resolution if len(positive) else 1.0)


def _guess(y: Array, direction: Direction) -> tuple[float, float]:
    reach = 3.0 * float(np.ptp(y)) or max(abs(float(y[0])), 1.0)
    if direction == "maximize":
        return -np.inf, 1.0 if y.min() >= 0 and y.max() <= 1 else float(y.max()) + reach
    return 0.0 if y.min() >= 0 else float(y.min()) - reach, np.inf
