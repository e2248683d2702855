"""Distributions of several numbers at once, each a histogram of its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]
Mask = NDArray[np.bool_]


def floats(values: object) -> Array:
    """Numbers as an array, of any shape; what is masked is missing, and NaN.

    Raises:
        ValueError, TypeError or OverflowError: they are not numbers, or too large.
    """
    return np.asarray(_unmasked(values), float)


def _unmasked(values: object) -> ArrayLike:
    if isinstance(values, np.ma.MaskedArray):  # whose masked values NumPy would take
        return np.where(np.ma.getmaskarray(values), np.nan, values.data.astype(float))
    if isinstance(values, list | tuple):
        return [_unmasked(each) for each in values]  # type: ignore[return-value]  # of arrays, too
    return values  # type: ignore[return-value]  # asarray finds out


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
        centres: Array = self.edges[:, 1:] / 2 + self.edges[:, :-1] / 2  # their sum may overflow
        mean: Array = np.einsum("mk,mk->m", self.masses, centres)
        return mean

    @property
    def std(self) -> Array:
        """Standard deviations, shape (m,)."""
        # In units of about the largest edge: squares of huge numbers are too large, of tiny ones 0.
        unit = np.frexp(np.abs(self.edges).max(axis=1, keepdims=True))[1]
        edges, mean = np.ldexp(self.edges, -unit), np.ldexp(self.mean[:, None], -unit)
        low, high = edges[:, :-1], edges[:, 1:]
        # Var = sum p ((centre - mean)^2 + width^2 / 12)
        spread = ((low + high) / 2 - mean) ** 2 + (high - low) ** 2 / 12
        std: Array = np.ldexp(np.sqrt(np.einsum("mk,mk->m", self.masses, spread)), unit[:, 0])
        return std

    def cdf(self, x: ArrayLike) -> Array:
        """P(number <= x), shape (m,).

        Args:
            x: One number, or one for each, shape (m,).
        """
        at = self._each(x)
        return np.array(
            [
                np.interp(v, edges, below, left=0.0, right=1.0)
                for v, edges, below in zip(at, self.edges, self.below, strict=True)
            ]
        )

    def quantile(self, q: ArrayLike) -> Array:
        """Values below which a number lies with probability q; monotone in q.

        Args:
            q: One probability, or several, shape (k,).

        Returns:
            Shape (m,) for one probability, (k, m) for several.

        Raises:
            ValueError: q is not between 0 and 1.
        """
        try:
            probabilities = floats(q)
        except (TypeError, ValueError, OverflowError):
            probabilities = np.array(np.nan)
        if not np.all((probabilities >= 0) & (probabilities <= 1)):
            raise ValueError(f"a probability lies between 0 and 1, not {q!r}")
        wanted = np.atleast_1d(probabilities)
        rows = [
            np.interp(wanted, below, edges)
            for below, edges in zip(self.below, self.edges, strict=True)
        ]
        found: Array = np.stack(rows, axis=-1)
        return found if probabilities.ndim else found[0]

    def density(self, x: ArrayLike) -> Array:
        """Probability densities at x, shape (m,); 0 outside of all bins.

        Args:
            x: One number, or one for each, shape (m,).
        """
        at = self._each(x)
        inside = (self.edges[:, :-1] <= at[:, None]) & (at[:, None] <= self.edges[:, 1:])
        heights = self.masses / np.maximum(np.diff(self.edges), 1e-300)
        found: Array = np.where(inside, heights, 0.0).max(axis=1)
        return found

    def crps(self, x: ArrayLike) -> Array:
        """Continuous ranked probability scores, shape (m,): how far off, in units of x.

        The integral of (F(z) - 1[z >= x])^2 over z (Matheson and Winkler 1976).

        Args:
            x: What happened; one number, or one for each, shape (m,).
        """
        at = self._each(x)[:, None]
        low, high, width = self.edges[:, :-1], self.edges[:, 1:], np.diff(self.edges)
        share = (np.clip(at, low, high) - low) / np.maximum(width, 1e-300)
        a, b = self.below[:, :-1], self.below[:, 1:]
        c = a + (b - a) * share  # F at x, or at the bin's end beyond which x lies
        # A linear function from a to c has the mean square (a^2 + ac + c^2) / 3
        before = share * (a**2 + a * c + c**2)
        after = (1 - share) * ((1 - c) ** 2 + (1 - c) * (1 - b) + (1 - b) ** 2)
        inside = np.sum(width * (before + after), axis=1) / 3
        beyond = np.maximum(at - self.edges[:, -1:], 0) + np.maximum(self.edges[:, :1] - at, 0)
        scores: Array = inside + beyond[:, 0]
        return scores

    def _each(self, x: ArrayLike) -> Array:
        """One number for each of the m, shape (m,).

        Raises:
            ValueError: they are not, or NaN is among them.
        """
        m = len(self.edges)
        try:
            given = floats(x)
        except (TypeError, ValueError, OverflowError):
            given = np.array(np.nan)
        if np.isnan(given).any():
            raise ValueError(f"one number is needed, or {m}, one for each; not {x!r}")
        if given.shape not in ((), (1,), (m,)):
            raise ValueError(f"one number is needed, or {m}, one for each; not {given.shape}")
        return np.broadcast_to(given, (m,))

    @property
    def below(self) -> Array:
        """P(number <= edge), shape (m, k + 1)."""
        below = np.cumsum(self.masses, axis=1)
        return np.concatenate([np.zeros((len(below), 1)), below / below[:, -1:]], axis=1)


def mixture(parts: Sequence[Distribution]) -> tuple[Array, Array]:
    """The edges and masses of what is drawn from each of several with the same probability.

    Args:
        parts: Each of m numbers, with the same edges for all of them.

    Returns:
        Edges, shape (m, k + 1), and masses, shape (m, k).
    """
    rims = np.unique(np.concatenate([part.edges[0] for part in parts]))
    below = np.mean(
        [[np.interp(rims, part.edges[0], row) for row in part.below] for part in parts], axis=0
    )
    return np.tile(rims, (len(below), 1)), np.diff(below, axis=1)
