"""How long a trial will be: what finished trials say of it, whether somebody tells or nobody."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from numpy.typing import NDArray
from optuna.trial import FrozenTrial

from hpo.curves.distributions import Array

_ALIKE = 0.1  # relative difference of lengths that matters to no forecast
_ROUNDED = 1e-6  # relative difference of a length and what tells it exactly

# Fewer trials agree by chance: values that are steps rarely equal them, but small whole numbers may
# well be in one ratio.
_FEWEST = 3  # finished trials that are as long as they should be
_FEWEST_RATIO = 5  # where steps are a multiple of a parameter, with so many different values:
_FEWEST_VALUES = 3


@dataclass(frozen=True)
class Told:
    """How the last step of a trial follows from what is told, as finished trials show.

    Args:
        times: How many times as far they went, typically, as when steps are minibatches and epochs
            are told; at least 1.
        short: 1 where steps are counted from 0, so that the last is one less than their number;
            else 0.
        reach: The farthest that one went as a share of what was told; None where nothing was.
    """

    times: float = 1.0
    short: float = 0.0
    reach: float | None = None

    @classmethod
    def by(
        cls, finished: Iterable[FrozenTrial], horizon_of: Callable[[FrozenTrial], float | None]
    ) -> Told:
        """Compares the steps of finished trials with what was told of each."""
        both = [(trial, horizon_of(trial)) for trial in finished]
        known = [(t, t.last_step, told) for t, told in both if t.last_step is not None and told]
        if not known:
            return cls()
        shares = [last / told for _, last, told in known if last]
        ends_short = [last == told - 1 for _, last, told in known]
        counts_from_0 = all(0 in t.intermediate_values and last < told for t, last, told in known)
        return cls(
            times=max(1.0, median(shares or [1.0])),
            short=float(counts_from_0 and any(ends_short)),
            reach=max(shares, default=None),
        )

    def last_step(self, told: float) -> float:
        """The last step of a trial of which `told` was told."""
        return (told - self.short) * self.times


@dataclass(frozen=True)
class Law:
    """A last step that is told by a parameter, or by none.

    Args:
        times: Of the parameter, or the last step itself.
        parameter: Its name; None where all trials are as long.
        short: Steps that it ends before.
        least: No trial is shorter.
    """

    times: float
    parameter: str | None = None
    short: float = 0.0
    least: float = 0.0

    def last_step(self, trial: FrozenTrial) -> float | None:
        """Where a trial ends; None if it has no such parameter, or no number above 0 there."""
        if self.parameter is None:
            return self.times
        value = _number(trial, self.parameter)
        return max(self.times * value - self.short, self.least) if value > 0 else None


@dataclass(frozen=True)
class Lengths:
    """What tells a trial's last step.

    Where finished trials differ in length, a parameter may tell it: it is the last step, or one
    more where steps are counted from 0, or the last step is a multiple of it. Trials may report
    every few steps, and some may have ended before their time, as when they gave up; but none went
    beyond. Where no parameter does, and most went as far as the longest, that is how long trials
    are.

    Args:
        n: How many trials have finished.
        longest: The last step of the longest of them; 0 without any.
        law: Tells the last step; None where nothing does.
    """

    n: int
    longest: float
    law: Law | None

    @classmethod
    def told_by(cls, finished: Sequence[FrozenTrial]) -> Lengths:
        """Finds it in trials that have reported something."""
        if not finished:
            return cls(0, 0.0, Law(0.0))
        lasts = np.array([trial.last_step for trial in finished], float)
        longest = float(lasts.max())
        full = lasts >= longest * (1 - _ALIKE)
        found = (
            _law_of_equals(finished, longest) if full.all() else next(_laws(finished, lasts), None)
        )
        if found is None and (full.all() or _suffices(full)):
            found = Law(longest)
        return cls(len(lasts), longest, found)

    def of(self, trial: FrozenTrial) -> float | None:
        """A trial's last step; None where it is unknown."""
        return None if self.law is None else self.law.last_step(trial)

    @property
    def are_unknown(self) -> bool:
        """Whether enough trials have finished to say that nothing tells it."""
        return self.law is None and self.n >= _FEWEST_RATIO


def _law_of_equals(finished: Sequence[FrozenTrial], longest: float) -> Law | None:
    """A parameter that is the last step of trials that are all as long; None if there is none.

    Short trials finish first, and one that is to be longer is not to be judged by their end. That a
    parameter is the last step may be chance here: a trial where it is less is taken to be as long.
    """
    for name in sorted(finished[0].params):
        values = np.unique(_column(finished, name))
        if len(values) == 1 and 0 <= values[0] - longest <= 1:
            return Law(1.0, name, float(values[0] - longest), longest)
    return None


def _laws(finished: Sequence[FrozenTrial], lasts: Array) -> Iterator[Law]:
    """Each way in which a parameter tells how long the trials went."""
    columns = {name: _column(finished, name) for name in sorted(finished[0].params)}
    numeric = {name: column for name, column in columns.items() if (column > 0).all()}
    gaps = np.array([_gap(trial) for trial in finished])
    for name, column in numeric.items():
        if (short := _shortfall(column, lasts, gaps)) is not None:
            yield Law(1.0, name, short)
    for name, column in numeric.items():
        for offset in (0.0, 1.0):
            if (ratio := _ratio(column, lasts + offset)) is not None:
                yield Law(ratio, name, offset)


def _shortfall(values: Array, lasts: Array, gaps: Array) -> float | None:
    """How far before a parameter's value trials end; None where that is not when they end."""
    short = values - lasts
    full = short <= np.maximum(1, np.minimum(gaps, _ALIKE * values))
    goes_beyond = short.min() < -_ROUNDED * values.max()
    if goes_beyond or not _suffices(full) or len(np.unique(values[full])) == 1:
        return None
    return max(0.0, float(short.min()))


def _ratio(values: Array, lengths: Array) -> float | None:
    """What all lengths are as a multiple of a parameter; None where they are not, or are few."""
    if len(values) < _FEWEST_RATIO or len(np.unique(values)) < _FEWEST_VALUES:
        return None
    ratios = lengths / values
    ratio = float(np.median(ratios))
    return ratio if np.allclose(ratios, ratio, rtol=_ROUNDED, atol=0) else None


def _suffices(full: NDArray[np.bool_]) -> bool:
    """Whether most trials are as long as they should be, so that the others ended early."""
    return int(full.sum()) >= max(_FEWEST, (len(full) + 1) / 2)


def _column(trials: Sequence[FrozenTrial], name: str) -> Array:
    return np.array([_number(trial, name) for trial in trials])


def _number(trial: FrozenTrial, name: str) -> float:
    """A parameter's value; NaN where it is no number, or the trial has none."""
    value = trial.params.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    return float(value)


def _gap(trial: FrozenTrial) -> float:
    """Steps between its last two reports."""
    steps = sorted(trial.intermediate_values)[-2:]
    return float(steps[-1] - steps[0])
