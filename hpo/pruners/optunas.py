"""Optuna's own stopping rules, as they are, each with the reason that it gives."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.pruners.base import Rule
from hpo.spec import StoppingSpec
from hpo.words import counted

_STARTUP_TRIALS = 5  # Optuna's default


class OptunaRule(Rule):
    """One of Optuna's pruners and the words for what it does.

    Optuna shows a sampler only the trials of a bracket when it finds its `HyperbandPruner` in a
    study. Inside of this one it does not: a sampler of ours learns from all trials.

    Args:
        name: What it is called in a study file.
        pruner: Optuna's.
        why: What of a trial made it stop it, without the step.
    """

    def __init__(
        self, name: str, pruner: BasePruner, why: Callable[[Study, FrozenTrial], str]
    ) -> None:
        self.name = name
        self.pruner = pruner
        self._why = why

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        return self.pruner.prune(study, trial)

    def reason(self, study: Study, trial: FrozenTrial) -> str:
        return f"{self.name} at step {trial.last_step}: {self._why(study, trial)}"


def none() -> Rule:
    """Stops nothing."""
    return OptunaRule("none", optuna.pruners.NopPruner(), lambda study, trial: "")  # noqa: ARG005


def percentile(stopping: StoppingSpec, *, median: bool = False) -> Rule:
    """Stops a trial whose best value is worse than a percentile of others at the same step."""
    best = 50.0 if median else stopping.percentile
    bound_name = "the median" if median else f"the best {best:g}%"

    def why(study: Study, trial: FrozenTrial) -> str:
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        values = [t.intermediate_values.get(_last(trial)) for t in finished]
        there = [value for value in values if value is not None]
        rank = 100.0 - best if _maximizes(study) else best
        bound = float(np.nanpercentile(there, rank)) if there else float("nan")
        return f"best so far {_best(study, trial):.4g}, {bound_name} is {bound:.4g}"

    pruner = optuna.pruners.PercentilePruner(
        best,
        _STARTUP_TRIALS if stopping.startup_trials is None else stopping.startup_trials,
        stopping.warmup_steps,
        stopping.interval_steps,
        n_min_trials=stopping.min_trials,
    )
    return OptunaRule("median" if median else "percentile", pruner, why)


def asha(stopping: StoppingSpec) -> Rule:
    """Asynchronous successive halving (Li et al. 2020)."""
    pruner = optuna.pruners.SuccessiveHalvingPruner(
        min_resource=stopping.min_steps,
        reduction_factor=stopping.reduction,
        min_early_stopping_rate=stopping.min_early_stopping_rate,
        bootstrap_count=stopping.bootstrap_count,
    )
    return OptunaRule("asha", pruner, _not_among_the_best(stopping))


def hyperband(stopping: StoppingSpec, max_steps: int) -> Rule:
    """Successive halving with several first rungs at once (Li et al. 2018)."""
    pruner = optuna.pruners.HyperbandPruner(
        min_resource=stopping.min_steps,
        max_resource=max_steps,
        reduction_factor=stopping.reduction,
        bootstrap_count=stopping.bootstrap_count,
    )
    return OptunaRule("hyperband", pruner, _not_among_the_best(stopping))


def patience(stopping: StoppingSpec, wrapped: Rule | None) -> Rule:
    """Stops a trial that has not become better for a while, if another rule agrees."""

    def why(study: Study, trial: FrozenTrial) -> str:
        steps = counted(stopping.patience + 1, "step")
        stalled = f"no better than {_best(study, trial):.4g} for {steps}"
        return stalled if wrapped is None else f"{stalled}; {wrapped.reason(study, trial)}"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        pruner = optuna.pruners.PatientPruner(wrapped, stopping.patience, stopping.min_delta)
    return OptunaRule("patience", pruner, why)


def wilcoxon(stopping: StoppingSpec) -> Rule:
    """Stops a trial that is worse than the best one over their common steps, as folds are."""

    def why(study: Study, trial: FrozenTrial) -> str:
        best = study.best_trial
        common = trial.intermediate_values.keys() & best.intermediate_values.keys()
        mine, theirs = (
            float(np.mean([t.intermediate_values[step] for step in common])) for t in (trial, best)
        )
        p = f"below {stopping.p_threshold:g}"
        return f"mean {mine:.4g}, of trial {best.number} {theirs:.4g} over the same steps (p {p})"

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        pruner = _Quiet(p_threshold=stopping.p_threshold, n_startup_steps=stopping.startup_steps)
    return OptunaRule("wilcoxon", pruner, why)


class _Quiet(optuna.pruners.WilcoxonPruner):
    """Optuna's, which would warn at each step that the best trial lacks."""

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return super().prune(study, trial)


def _not_among_the_best(stopping: StoppingSpec) -> Callable[[Study, FrozenTrial], str]:
    def why(study: Study, trial: FrozenTrial) -> str:  # noqa: ARG001
        value = trial.intermediate_values[_last(trial)]
        return f"{value:.4g} is not among the best 1 of {stopping.reduction}"

    return why


def _last(trial: FrozenTrial) -> int:
    return max(trial.intermediate_values)


def _best(study: Study, trial: FrozenTrial) -> float:
    better = max if _maximizes(study) else min
    return float(better(trial.intermediate_values.values()))


def _maximizes(study: Study) -> bool:
    return bool(study.direction is StudyDirection.MAXIMIZE)
