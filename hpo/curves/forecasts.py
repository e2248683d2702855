"""Where a learning curve is going: the distribution of its values at future steps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hpo.curves.distributions import Array, Distribution

Direction = Literal["minimize", "maximize"]

Curve = ArrayLike | tuple[ArrayLike, ArrayLike]
"""Values at the steps 1, 2, ...; or a pair: steps, values."""

_BINS = 60


@dataclass(frozen=True)
class Forecast(Distribution):
    """The distributions of a curve's values at m future steps.

    Args:
        steps: The steps, shape (m,).
        direction: Whether lower or higher values are better.
    """

    steps: Array
    direction: Direction

    @property
    def final(self) -> Forecast:
        """The forecast of the last step alone."""
        return Forecast(self.edges[-1:], self.masses[-1:], self.steps[-1:], self.direction)

    def prob_better_than(self, x: ArrayLike) -> Array:
        """Probability to be better than x, shape (m,)."""
        below = self.cdf(x)
        return below if self.direction == "minimize" else 1.0 - below

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draws n curves, shape (n, m): each keeps its rank among the possible at all steps."""
        return self.quantile(rng.uniform(size=n))


def forecast(
    values: ArrayLike,
    horizon: float,
    *,
    steps: ArrayLike | None = None,
    direction: Direction = "minimize",
    history: Sequence[Curve] | None = None,
    bounds: tuple[float, float] | None = None,
    at: ArrayLike | None = None,
) -> Forecast:
    """Forecasts a learning curve.

    Args:
        values: What was seen, shape (n,).
        horizon: The last step of the curve.
        steps: Steps of the values, shape (n,); without, 1 to n.
        direction: Whether lower or higher values are better.
        history: Finished curves of the same study; the more, the better the forecast.
        bounds: Lowest and highest value that the metric can take.
        at: Steps to forecast; without, all that come after the last one, up to the horizon.
    """
    y = np.asarray(values, float)
    t = np.arange(1.0, len(y) + 1) if steps is None else np.asarray(steps, float)
    future = (
        np.arange(t[-1] + 1, horizon + 1) if at is None else np.atleast_1d(np.asarray(at, float))
    )
    spread = max(float(np.std(y)), 0.01 * abs(float(y[-1])), 1e-6)
    widths = spread * np.sqrt(1 + (future - t[-1]) / t[-1])
    edges = y[-1] + np.linspace(-3, 3, _BINS + 1)[None] * widths[:, None]
    masses = np.exp(-(np.linspace(-3, 3, _BINS) ** 2) / 2)
    return Forecast(edges, np.tile(masses / masses.sum(), (len(future), 1)), future, direction)


def forecast_batch(
    curves: Sequence[Curve],
    horizon: float,
    *,
    direction: Direction = "minimize",
    history: Sequence[Curve] | None = None,
    bounds: tuple[float, float] | None = None,
    at: ArrayLike | None = None,
) -> list[Forecast]:
    """Forecasts many curves of one study at once; `at` is the horizon unless it is given."""
    wanted = horizon if at is None else at
    found = []
    for curve in curves:
        steps, values = curve if isinstance(curve, tuple) else (None, curve)
        made = forecast(
            values,
            horizon,
            steps=steps,
            direction=direction,
            history=history,
            bounds=bounds,
            at=wanted,
        )
        found.append(made)
    return found
