"""What trials return, beside what they reported last."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from statistics import median

import numpy as np

_SAME = 1e-9  # relative difference of a value and a report that are meant to be one number
_FEWEST = 5  # trials whose order tells something
_STRONG = -0.5  # a rank correlation, however many trials it is of
_RARE = 2.0  # standard deviations of one that is 0 by chance below it


@dataclass(frozen=True)
class Returned:
    """The values of finished trials, and their last reports.

    Args:
        pairs: Of each a value and a report, both finite.
    """

    pairs: Sequence[tuple[float, float]]

    @classmethod
    def of(cls, pairs: Iterable[tuple[float | None, float]]) -> Returned:
        """Takes the pairs that are known."""
        known = ((v, last) for v, last in pairs if v is not None)
        return cls([(v, last) for v, last in known if math.isfinite(v) and math.isfinite(last)])

    @cached_property
    def differ(self) -> bool:
        """Whether a trial returned another number than it reported last."""
        return not all(math.isclose(value, last, rel_tol=_SAME) for value, last in self.pairs)

    @property
    def surplus(self) -> float:
        """The median of value - last report; 0 where these are the same in all trials."""
        return median(value - last for value, last in self.pairs) if self.differ else 0.0

    @property
    def agree(self) -> bool:
        """Whether reports tell which trials return more; not known of fewer than 5 that differ."""
        return not self.differ or (len(self.pairs) >= _FEWEST and self._correlation > 0)

    @property
    def are_contrary(self) -> bool:
        """Whether trials that report more return less.

        Spearman's rank correlation is -0.5 or less, and two standard deviations below 0, which are
        sqrt(1 / (n - 1)) each where the two have nothing to do with one another: of 5 trials one
        order in 120 is so.
        """
        n = len(self.pairs)
        if n < _FEWEST or not self.differ:
            return False
        return self._correlation * (1 + 1e-9) <= min(_STRONG, -_RARE / math.sqrt(n - 1))

    @cached_property
    def _correlation(self) -> float:
        """Of the ranks of values and reports; 0 where all of either are the same."""
        from scipy.stats import rankdata  # takes half a second to import

        values, lasts = (np.asarray(rankdata(part)) for part in zip(*self.pairs, strict=True))
        if np.ptp(values) == 0 or np.ptp(lasts) == 0:
            return 0.0
        return float(np.corrcoef(values, lasts)[0, 1])
