"""What a model may learn from: finished trials, and those that failed or were stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Mapping, Sequence
from statistics import fmean
from types import MappingProxyType

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.samplers.coordinates import Coordinate
from hpo.samplers.memory import Memory
from hpo.trial import CONSTRAINTS, FAILURE, Expected, FailureKind

_LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)
_NOT_ITS_OWN = (FailureKind.LOST, FailureKind.BAD_DATA)
_IMPOSSIBLE = (FailureKind.OUT_OF_MEMORY, FailureKind.BAD_CONFIG)
NO_COORDINATES: Mapping[str, Coordinate] = MappingProxyType({})


class Experience(Study):
    """A study as a model is to see it: what failed was bad, and parameters have an order.

    To Optuna's samplers a failed trial never happened, so they ask again and again for the
    learning rate that diverges. Here it was as bad as a trial can be. A trial that was lost with
    its machine, or had no data, says nothing about its configuration and stays out. One that did
    not fit into memory, or whose configuration cannot be trained, was not bad but impossible: it
    breaks a constraint that all others keep. One that was stopped by a forecast is complete with
    the value that was expected of it.

    Args:
        study: The study.
        knows_pruned: Whether the model learns from PRUNED trials by itself, as TPE does; then a
            failed trial is one that was stopped before its first step. For other models a trial
            that was stopped without a forecast is complete with its last value (of several
            objectives it has none, and is not seen), and a failed one with the worst. Where trials
            have constraints, a failed one breaks them like the worst, and a stopped one keeps them
            like the mean.
        coordinates: Of the parameters that the model sees in another way than the user.
        memory: Chooses what the model sees of a long history with one objective; None for all.
    """

    def __init__(
        self,
        study: Study,
        *,
        knows_pruned: bool,
        coordinates: Mapping[str, Coordinate] = NO_COORDINATES,
        memory: Memory | None = None,
    ) -> None:
        self.__dict__.update(study.__dict__)
        trials = study.get_trials(deepcopy=False)
        if memory is not None and len(study.directions) == 1:
            trials = memory.recall(trials, study.direction)
        seen = _seen(trials, study.directions, knows_pruned=knows_pruned)
        if coordinates:
            moved = (_moved(trial, coordinates) for trial in seen)
            seen = [trial for trial in moved if trial is not None]
        self._trials_seen = seen

    def _get_trials(
        self,
        deepcopy: bool = True,  # noqa: FBT001 - the signature is Optuna's
        states: Container[TrialState] | None = None,
        use_cache: bool = False,  # noqa: FBT001
    ) -> list[FrozenTrial]:
        trials = [t for t in self._trials_seen if states is None or t.state in states]
        return copy.deepcopy(trials) if deepcopy else trials


def _seen(
    trials: list[FrozenTrial], directions: Sequence[StudyDirection], *, knows_pruned: bool
) -> list[FrozenTrial]:
    worst, several = _worst(trials, directions), len(directions) > 1
    impossible = {trial.number for trial in trials if _is_impossible(trial)}
    seen = []
    for trial in trials:
        if trial.number in impossible and not knows_pruned:
            if (middle := _mean(trials, directions)) is not None:
                seen.append(_replaced(trial, TrialState.COMPLETE, middle))
        elif _tells_of_its_configuration(trial):
            if knows_pruned:
                seen.append(_replaced(trial, TrialState.PRUNED, None))
            elif worst is not None:
                seen.append(_replaced(trial, TrialState.COMPLETE, worst))
        elif expected := Expected.of(trial):
            seen.append(_replaced(trial, TrialState.COMPLETE, [expected.mean]))
        elif trial.state is TrialState.PRUNED and several:
            seen.append(_replaced(trial, TrialState.PRUNED, None))
        elif trial.state is TrialState.PRUNED and not knows_pruned and trial.value is not None:
            seen.append(_replaced(trial, TrialState.COMPLETE, [trial.value]))
        else:
            seen.append(trial)
    failed = {trial.number for trial in trials if trial.state is TrialState.FAIL}
    return _possible(_constrained(seen, failed - impossible), impossible)


def _possible(trials: list[FrozenTrial], impossible: Container[int]) -> list[FrozenTrial]:
    """The trials with one constraint more, to be possible, if any of them breaks it."""
    if not any(trial.number in impossible for trial in trials):
        return trials
    return [
        _noting(trial, [*trial.constraints.values(), 1.0 if trial.number in impossible else -1.0])
        if trial.state in _LEARNT_FROM
        else trial
        for trial in trials
    ]


def _constrained(trials: list[FrozenTrial], failed: Container[int]) -> list[FrozenTrial]:
    """The trials, each with as many constraints as the others; a Gaussian process needs them."""
    known = {trial.number: list(trial.constraints.values()) for trial in trials}
    n = max(map(len, known.values()), default=0)
    if n == 0:
        return trials
    full = np.array([values for values in known.values() if len(values) == n])
    worst, mean = full.max(axis=0), full.mean(axis=0)
    return [
        trial
        if len(known[trial.number]) == n or trial.state not in _LEARNT_FROM
        else _noting(trial, worst if trial.number in failed else mean)
        for trial in trials
    ]


def _noting(trial: FrozenTrial, constraints: Sequence[float] | np.ndarray) -> FrozenTrial:
    noted = copy.copy(trial)
    attrs = {k: v for k, v in trial.system_attrs.items() if not k.startswith(CONSTRAINTS)}
    noted.system_attrs = {**attrs, CONSTRAINTS: list(map(float, constraints))}
    return noted


def _tells_of_its_configuration(trial: FrozenTrial) -> bool:
    if trial.state is not TrialState.FAIL or not trial.params:
        return False
    return trial.system_attrs.get(FAILURE, {}).get("kind") not in _NOT_ITS_OWN


def _is_impossible(trial: FrozenTrial) -> bool:
    kind = trial.system_attrs.get(FAILURE, {}).get("kind")
    return trial.state is TrialState.FAIL and bool(trial.params) and kind in _IMPOSSIBLE


def _worst(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[float] | None:
    """The worst finite value of each objective; None where one has none."""
    finite = _finite(trials, len(directions))
    if not all(finite):
        return None
    return [
        min(values) if direction is StudyDirection.MAXIMIZE else max(values)
        for values, direction in zip(finite, directions, strict=True)
    ]


def _mean(
    trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection]
) -> list[float] | None:
    """The mean finite value of each objective; None where one has none."""
    finite = _finite(trials, len(directions))
    return [fmean(values) for values in finite] if all(finite) else None


def _finite(trials: Sequence[FrozenTrial], n_objectives: int) -> list[list[float]]:
    """The finite values of each objective."""
    known = [
        trial.values
        for trial in trials
        if trial.state in _LEARNT_FROM and trial.values and len(trial.values) == n_objectives
    ]
    return [
        [values[i] for values in known if math.isfinite(values[i])] for i in range(n_objectives)
    ]


def _moved(trial: FrozenTrial, coordinates: Mapping[str, Coordinate]) -> FrozenTrial | None:
    """The trial in the model's coordinates; None if it was made elsewhere and has none."""
    params, distributions = dict(trial.params), dict(trial.distributions)
    for name, coordinate in coordinates.items():
        if name in params:
            try:
                params[name] = coordinate.inward(params[name])
            except ValueError:
                return None
            distributions[name] = coordinate.distribution
    moved = copy.copy(trial)
    moved.distributions, moved.params = distributions, params
    return moved


def _replaced(trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> FrozenTrial:
    replaced = copy.copy(trial)
    replaced.state, replaced.values = state, None if values is None else list(values)
    if values is None:
        replaced.intermediate_values = {}
    return replaced
