"""What a model may learn from: finished trials, and those that failed or were stopped."""

from __future__ import annotations

import copy
import math
from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType

from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.samplers.coordinates import Coordinate
from hpo.trial import FAILURE, FailureKind

NO_COORDINATES: Mapping[str, Coordinate] = MappingProxyType({})


class Experience(Study):
    """A study as a model is to see it: what failed was bad, and parameters have an order.

    To Optuna's samplers a failed trial never happened, so they ask again and again for the
    learning rate that diverges. Here it was as bad as a trial can be. A trial that was lost with
    its machine says nothing about its configuration and stays out.

    Args:
        study: The study.
        knows_pruned: Whether the model learns from PRUNED trials by itself, as TPE does; then a
            failed trial is one that was stopped before its first step. For other models a
            stopped trial is complete with its last value, and a failed one with the worst.
        coordinates: Of the parameters that the model sees in another way than the user.
    """

    def __init__(
        self,
        study: Study,
        *,
        knows_pruned: bool,
        coordinates: Mapping[str, Coordinate] = NO_COORDINATES,
    ) -> None:
        self.__dict__.update(study.__dict__)
        seen = _seen(study, knows_pruned=knows_pruned)
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


def _seen(study: Study, *, knows_pruned: bool) -> list[FrozenTrial]:
    trials = study.get_trials(deepcopy=False)
    worst = _worst(trials, study.direction)
    seen = []
    for trial in trials:
        if _tells_of_its_configuration(trial):
            if knows_pruned:
                seen.append(_replaced(trial, TrialState.PRUNED, None))
            elif worst is not None:
                seen.append(_replaced(trial, TrialState.COMPLETE, worst))
        elif trial.state is TrialState.PRUNED and not knows_pruned and trial.value is not None:
            seen.append(_replaced(trial, TrialState.COMPLETE, trial.value))
        else:
            seen.append(trial)
    return seen


def _tells_of_its_configuration(trial: FrozenTrial) -> bool:
    if trial.state is not TrialState.FAIL or not trial.params:
        return False
    return bool(trial.system_attrs.get(FAILURE, {}).get("kind") != FailureKind.LOST)


def _worst(trials: Sequence[FrozenTrial], direction: StudyDirection) -> float | None:
    ended = (TrialState.COMPLETE, TrialState.PRUNED)
    values = [t.value for t in trials if t.state in ended and t.value is not None]
    finite = [value for value in values if math.isfinite(value)]
    if not finite:
        return None
    return min(finite) if direction is StudyDirection.MAXIMIZE else max(finite)


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


def _replaced(trial: FrozenTrial, state: TrialState, value: float | None) -> FrozenTrial:
    replaced = copy.copy(trial)
    replaced.state, replaced.values = state, None if value is None else [value]
    if value is None:
        replaced.intermediate_values = {}
    return replaced
