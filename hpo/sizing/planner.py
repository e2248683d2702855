"""Which training-set size to train at next, and whether there is time for it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from hpo.curves import DataNeeds
from hpo.sizing.fits import Fit

_HALVINGS = 6  # the smallest size is a 64th of the data
_LEAST = 10
_FIRST_RATIO = 4  # between the sizes that are measured first
_FIRST_SEEDS = 2  # of each, so that the noise is seen

Place = tuple[int, int]
"""A size and a seed."""


def ladder(n: int, n_classes: int = 0) -> list[int]:
    """Sizes that may be trained at, rising to n by factors of about the square root of 2."""
    least = min(n, max(_LEAST if n > 10 * _LEAST else 2, n_classes))
    sizes = (round(n / 2 ** (k / 2)) for k in range(2 * _HALVINGS + 1))
    return sorted({size for size in sizes if size >= least})


class Planner:
    """Says where a fit tells most per second of training.

    First come a few sizes, each a multiple of the one before, the smallest first; then whichever
    `DataNeeds.rank` names. Sizes that are given by hand are measured in turn, all of them.

    Args:
        n: All training examples.
        n_classes: Fewer examples than that are of no use; 0 in regression.
        seeds: How many fits a size may have.
        sizes: Given by hand.
    """

    def __init__(
        self, n: int, *, n_classes: int = 0, seeds: int = 3, sizes: Sequence[int] | None = None
    ) -> None:
        self._seeds = seeds
        self._sizes = sorted(set(sizes)) if sizes else ladder(n, n_classes)
        first = self._sizes if sizes else _spread(self._sizes, _FIRST_RATIO)
        n_first = seeds if sizes else min(seeds, _FIRST_SEEDS)
        self._first: list[Place] = [(size, seed) for seed in range(n_first) for size in first]

    @property
    def smallest(self) -> int:
        """The least size."""
        return self._sizes[0]

    @property
    def n_fits(self) -> int:
        """How many fits there can be in all."""
        return self._seeds * len(self._sizes)

    def is_done(self, fits: Sequence[Fit], taken: Iterable[Place]) -> bool:
        """Whether there is nothing left to train, however much time there were."""
        return self.next(fits, taken, math.inf, None) is None

    def next(
        self,
        fits: Sequence[Fit],
        taken: Iterable[Place],
        seconds_left: float,
        needs: DataNeeds | None,
    ) -> Place | None:
        """The next place to train at; None where there is none, or no time for it.

        Args:
            fits: What succeeded so far.
            taken: Places that run or have failed.
            seconds_left: Time for one more fit.
            needs: What `fits` tell, if they tell enough.
        """
        done = {(fit.size, fit.seed) for fit in fits} | set(taken)
        cost = seconds_by_size(fits)

        def affordable(size: int) -> bool:
            return cost is None or _at(cost, size) <= seconds_left

        for place in self._first:
            if place not in done and affordable(place[0]):
                return place
        counts = Counter(size for size, _ in done)
        open_ = [n for n in self._sizes if counts[n] < self._seeds and affordable(n)]
        if not open_:
            return None
        if needs is not None and cost is not None:
            size = int(needs.rank(open_, [_at(cost, n) for n in open_])[0])
        else:
            size = open_[-1]
        return size, next(s for s in range(self._seeds) if (size, s) not in done)


def seconds_by_size(fits: Sequence[Fit]) -> tuple[float, float] | None:
    """What a fit costs as a + b n seconds, (a, b), by least squares of relative errors.

    Of a single size, b alone, of the quickest fit: the first one in a process takes longer.
    """
    known = [fit for fit in fits if fit.seconds > 0]
    if not known:
        return None
    if len({fit.size for fit in known}) == 1:
        return 0.0, min(fit.seconds / fit.size for fit in known)
    from scipy.optimize import nnls  # takes half a second to import

    rows = np.array([[1 / fit.seconds, fit.size / fit.seconds] for fit in known])
    (a, b), _ = nnls(rows, np.ones(len(known)))
    return float(a), float(b)


def _at(cost: tuple[float, float], size: int) -> float:
    return cost[0] + cost[1] * size


def _spread(sizes: Sequence[int], ratio: float) -> list[int]:
    """The last of rising sizes, and those below it by about such a ratio, down to the first."""
    n = max(1, round(math.log(sizes[-1] / sizes[0], ratio)))
    wanted = np.geomspace(sizes[0], sizes[-1], n + 1)
    return sorted({min(sizes, key=lambda size: abs(math.log(size / w))) for w in wanted})
