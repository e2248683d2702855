"""Stopping rules: each an `optuna.pruners.BasePruner`; these are Optuna's own."""

from __future__ import annotations

import numpy as np
import optuna
from optuna.pruners import BasePruner
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.spec import StoppingSpec


def build(stopping: StoppingSpec) -> BasePruner:
    """Builds the rule that a study file asks for."""
    match stopping.rule:
        case "none":
            return optuna.pruners.NopPruner()
        case "median":
            return optuna.pruners.MedianPruner(stopping.startup_trials, stopping.warmup_steps)
        case "percentile":
            return optuna.pruners.PercentilePruner(
                stopping.percentile, stopping.startup_trials, stopping.warmup_steps
            )
        case "asha":
            return optuna.pruners.SuccessiveHalvingPruner(
                min_resource=stopping.min_steps, reduction_factor=stopping.reduction
            )


def reason(stopping: StoppingSpec, study: Study, trial: FrozenTrial) -> str:
    """Why a trial was stopped, in one phrase for people.

    Args:
        stopping: The rule that stopped it.
        study: Its study, for the trials that it was compared with.
        trial: The trial, with the step at which it was stopped.
    """
    step = trial.last_step or 0
    value = trial.intermediate_values[step]
    if stopping.rule == "asha":
        return f"asha at step {step}: {value:.4g} is not among the best 1 of {stopping.reduction}"
    finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    there = [t.intermediate_values[step] for t in finished if step in t.intermediate_values]
    sign = -1 if study.direction is StudyDirection.MAXIMIZE else 1
    best = sign * min(sign * v for v in trial.intermediate_values.values())
    percentile = 50.0 if stopping.rule == "median" else stopping.percentile
    rank = percentile if sign > 0 else 100.0 - percentile
    bound = float(np.nanpercentile(there, rank)) if there else float("nan")
    name = "the median" if stopping.rule == "median" else f"the best {percentile:g}%"
    return f"{stopping.rule} at step {step}: best so far {best:.4g}, {name} is {bound:.4g}"
