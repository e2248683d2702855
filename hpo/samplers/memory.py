"""What of a long history a model is shown, so that it costs no more than a shorter one."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Iterable
from operator import attrgetter

import numpy as np
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.trial import Expected

MOST = 300
"""Trials that a model is shown at the most."""

_BEST = 25  # as many as TPE's l(x) is made of at the most, whatever the history's length

_Placed = tuple[tuple[float, ...], int, FrozenTrial]  # by its first numbers; these tell all apart


class Memory:
    """The best trials of a history, and a sample of the others.

    TPE makes l(x) of the 25 best trials and g(x) of all others. The best are remembered, and so
    l(x) is as it would be; of the others a uniform sample stands for all of them. It is the same
    for everybody who has the same seed and the same history, in whatever order that was learnt:
    each trial has a lot, drawn from the seed and its number, and those with the lowest are kept.

    Args:
        seed: Of the lots.
        most: How many finished trials are remembered.
    """

    def __init__(self, seed: int, most: int = MOST) -> None:
        self._seed = seed
        self._most = most
        self._known: set[int] = set()  # by id: finished trials never change
        self._best: list[_Placed] = []
        self._drawn: list[_Placed] = []

    def recall(self, trials: list[FrozenTrial], direction: StudyDirection) -> list[FrozenTrial]:
        """The trials that a model is to see, by number; all of them while they are few.

        Args:
            trials: All of a study.
            direction: Of its one objective.
        """
        if len(trials) <= self._most:
            return trials
        unfinished = self._learn(trials, direction)
        best = {trial.number: trial for _, _, trial in self._best}
        drawn = (trial for _, _, trial in self._drawn if trial.number not in best)
        kept = [*best.values(), *list(drawn)[: self._most - len(best)], *unfinished]
        return sorted(kept, key=attrgetter("number"))

    def _learn(self, trials: Iterable[FrozenTrial], direction: StudyDirection) -> list[FrozenTrial]:
        """Takes up the trials that are new; returns the unfinished ones."""
        unfinished = []
        for trial in trials:
            if trial._trial_id in self._known:
                continue
            if not trial.state.is_finished():
                unfinished.append(trial)
                continue
            self._known.add(trial._trial_id)
            lot = float(np.random.SeedSequence((self._seed, trial.number)).generate_state(1)[0])
            _keep(self._drawn, (lot,), trial, self._most)
            _keep(self._best, _rank(trial, direction), trial, _BEST)
        return unfinished


def _keep(kept: list[_Placed], place: tuple[float, ...], trial: FrozenTrial, most: int) -> None:
    if len(kept) < most or (place, trial.number) < kept[-1][:2]:
        insort(kept, (place, trial.number, trial))
        del kept[most:]


def _rank(trial: FrozenTrial, direction: StudyDirection) -> tuple[float, ...]:
    """Where TPE would place a trial, the best first: complete, stopped, infeasible.

    What was stopped by a forecast counts as complete, as `Experience` shows it.
    """
    sign = -1.0 if direction is StudyDirection.MAXIMIZE else 1.0
    excess = sum(max(value, 0.0) for value in trial.constraints.values())
    if excess > 0:
        return 2.0, excess
    if trial.state is TrialState.COMPLETE and trial.value is not None:
        return 0.0, sign * trial.value
    if expected := Expected.of(trial):
        return 0.0, sign * expected.mean
    if trial.state is TrialState.PRUNED and trial.last_step is not None:
        value = trial.intermediate_values[trial.last_step]
        return 1.0, -trial.last_step, math.inf if math.isnan(value) else sign * value
    return (3.0,)
