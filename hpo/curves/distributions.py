"""Distributions of several numbers at once, each a histogram of its own."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Distribution:
    """The distributions of m numbers, piecewise uniform.

    Args:
        edges: Bins' edges, rising in each row, shape (m, k + 1).
        masses: Probabilities of the bins, rows sum to 1, shape (m, k).
    """

    edges: Array
    masses: Array

    @property
    def mean(self) -> Array:
        """Means, shape (m,)."""
        centres: Array = (self.edges[:, 1:] + self.edges[:, :-1]) / 2
        return np.einsum("mk,mk->m", self.masses, centres)

    @property
    def std(self) -> Array:
        """Standard deviations, shape (m,)."""
        low, high = self.edges[:, :-1], self.edges[:, 1:]
        mean = self.mean[:, None]
        # Var = sum p ((centre - mean)^2 + width^2 / 12)
        spread = ((low + high) / 2 - mean) ** 2 + (high - low) ** 2 / 12
        return np.sqrt(np.einsum("mk,mk->m", self.masses, spread))

    def cdf(self, x: ArrayLike) -> Array:
        """P(number <= x), shape (m,).

        Args:
            x: One number, or one for each, shape (m,).
        """
        at = np.broadcast_to(np.asarray(x, float), (len(self.edges),))
        return np.array(
            [
                np.interp(v, edges, below, left=0.0, right=1.0)
                for v, edges, below in zip(at, self.edges, self._below, strict=True)
            ]
        )

    def quantile(self, q: ArrayLike) -> Array:
        """Values below which a number lies with probability q; monotone in q.

        Args:
            q: One probability, or several, shape (k,).

        Returns:
            Shape (m,) for one probability, (k, m) for several.
        """
        probabilities = np.asarray(q, float)
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise ValueError(f"a probability lies between 0 and 1, not {q}")
        wanted = np.atleast_1d(probabilities)
        rows = [
            np.interp(wanted, below, edges)
            for below, edges in zip(self._below, self.edges, strict=True)
        ]
        found: Array = np.stack(rows, axis=-1)
        return found if probabilities.ndim else found[0]

    @property
    def _below(self) -> Array:
        """P(number <= edge), shape (m, k + 1)."""
        below = np.cumsum(self.masses, axis=1)
        return np.concatenate([np.zeros((len(below), 1)), below / below[:, -1:]], axis=1)
