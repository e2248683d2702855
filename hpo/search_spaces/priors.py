"""Beliefs about where good values lie, as changes of coordinate.

A prior is a distribution over the unit interval in which a domain has its values. A sampler that
draws a quantile q uniformly from [0, 1], or models results as a function of q, is thereby tilted
towards the belief; `position` and `quantile` lead from one to the other and back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from statistics import NormalDist
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DEFAULT_SPREAD = 0.15  # of the unit interval: one standard deviation
DOUBT = 0.2  # so much of the probability stays uniform: a wrong belief costs time, not the search
_STEPS = 100  # halving alone would take 54
_CLOSE = 1e-16  # to the solution, in [0, 1]
# Widths between which the arithmetic is exact. Wider ones are as good as uniform, and narrower
# ones as good as a single value.
_NARROWEST, _WIDEST = 1e-9, 10.0

_NORMAL = NormalDist()


class Prior(ABC):
    """A distribution over [0, 1] with a density that is nowhere 0."""

    @abstractmethod
    def quantile(self, u: float) -> float:
        """The cumulative probability F(u)."""

    @abstractmethod
    def position(self, q: float) -> float:
        """The coordinate u with F(u) = q."""


@dataclass(frozen=True)
class Bump(Prior):
    """A normal distribution cut off at 0 and 1, with a share of the uniform one mixed in.

    F(u) = (1 - d) (Phi((u - m)/s) - Phi(-m/s)) / (Phi((1 - m)/s) - Phi(-m/s)) + d u

    Args:
        centre: m, in [0, 1].
        width: s, above 0; brought into the range in which the arithmetic is exact.
    """

    centre: float
    width: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "width", min(max(self.width, _NARROWEST), _WIDEST))

    def quantile(self, u: float) -> float:
        """F(u)."""
        below, above = self._ends
        return min((1 - DOUBT) * (self._phi(u) - below) / (above - below) + DOUBT * u, 1.0)

    def position(self, q: float) -> float:
        """The inverse of F, at q."""
        if q in (0.0, 1.0):
            return q
        # F has no inverse in closed form. It grows everywhere, so Newton's steps find it, and
        # where one leaves the interval that is left, halving that does.
        low, high, u = 0.0, 1.0, q
        for _ in range(_STEPS):
            excess = self.quantile(u) - q
            low, high = (u, high) if excess < 0 else (low, u)
            following = u - excess / self._density(u)
            if not low < following < high:
                following = (low + high) / 2
            if abs(following - u) <= _CLOSE:
                return following
            u = following
        return high

    def _density(self, u: float) -> float:
        below, above = self._ends
        bump = _NORMAL.pdf((u - self.centre) / self.width) / self.width
        return (1 - DOUBT) * bump / (above - below) + DOUBT

    @cached_property
    def _ends(self) -> tuple[float, float]:
        return self._phi(0.0), self._phi(1.0)

    def _phi(self, u: float) -> float:
        return _NORMAL.cdf((u - self.centre) / self.width)


@dataclass(frozen=True)
class Weights(Prior):
    """Equal cells with unequal probabilities: an option that is likelier than the others.

    Args:
        shares: The probability of each cell, above 0; they sum to 1.
    """

    shares: Sequence[float]

    def quantile(self, u: float) -> float:
        """F(u)."""
        place = u * len(self.shares)
        cell = min(int(place), len(self.shares) - 1)
        return min(self._edges[cell] + (place - cell) * self.shares[cell], 1.0)

    def position(self, q: float) -> float:
        """The inverse of F, at q."""
        cell = min(bisect_right(self._edges, q) - 1, len(self.shares) - 1)
        inside = min((q - self._edges[cell]) / self.shares[cell], 1.0)
        return (cell + inside) / len(self.shares)

    @cached_property
    def _edges(self) -> list[float]:
        return list(accumulate(self.shares, initial=0.0))


def favourite(cell: int, n: int, others: float | None) -> Prior | None:
    """One of n cells favoured: the others have the share `others` together.

    None gives them half of what they would have without a prior.
    """
    if n == 1:
        return None
    share = (n - 1) / n / 2 if others is None else others
    return Weights([1 - share if i == cell else share / (n - 1) for i in range(n)])
