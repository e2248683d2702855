"""Stopping rules: each an `optuna.pruners.BasePruner`, for hpo's studies and for anybody's.

- `base`: what they share: they say why.
- `optunas`: Optuna's own.
- `forecast`: ours, by forecasts of learning curves; `decisions` is its core, on arrays; what it
  learns from finished trials about the others: their `lengths`, and what they `returned`.
"""

from __future__ import annotations

from optuna.trial import FrozenTrial

from hpo import directions
from hpo.pruners import optunas
from hpo.pruners.base import Rule
from hpo.pruners.decisions import (
    STARTUP_TRIALS,
    Decision,
    ForecastRule,
    Past,
    Steps,
    is_audited,
    is_due,
)
from hpo.pruners.forecast import ForecastPruner, audits, curve, ran_on
from hpo.pruners.lengths import Told
from hpo.search_spaces import Fixed
from hpo.spec import Plan, StoppingSpec

__all__ = [
    "Decision",
    "ForecastPruner",
    "ForecastRule",
    "Past",
    "Rule",
    "Steps",
    "Told",
    "audits",
    "bounds",
    "build",
    "curve",
    "ends_early",
    "forecaster",
    "is_audited",
    "is_due",
    "ran_on",
    "unit",
]


def build(plan: Plan) -> Rule:
    """Builds the rule that a study file asks for."""
    return _build(plan.spec.stopping.rule, plan)


def forecaster(plan: Plan) -> ForecastPruner | None:
    """The forecasts that a study's rule goes by; None where it goes by none."""
    stopping = plan.spec.stopping
    return _forecast(plan, stopping) if "forecast" in stopping.rules else None


def unit(plan: Plan) -> str:
    """What a step of a trial is called."""
    return "step" if plan.longest is None else "epoch"


def ends_early(plan: Plan) -> bool:
    """Whether trials may end by themselves before their last epoch, as with `patience`."""
    if "patience" not in plan.space.by_name:
        return False
    domain = plan.space.by_name["patience"].domain
    return not (isinstance(domain, Fixed) and domain.value is None)


def bounds(plan: Plan) -> tuple[float, float] | None:
    """Between which values the metric lies, as the file says or its name tells."""
    objective = plan.spec.objective
    return objective.stated_bounds or directions.bounds(objective.metrics[0])


def _build(name: str, plan: Plan) -> Rule:
    stopping = plan.spec.stopping
    match name:
        case "forecast":
            return _forecast(plan, stopping)
        case "median":
            return optunas.percentile(stopping, median=True)
        case "percentile":
            return optunas.percentile(stopping)
        case "asha":
            return optunas.asha(stopping)
        case "hyperband":
            return optunas.hyperband(stopping, stopping.max_steps or plan.longest or 1)
        case "patience":
            wrapped = None if stopping.wrapped == "none" else _build(stopping.wrapped, plan)
            return optunas.patience(stopping, wrapped)
        case "wilcoxon":
            return optunas.wilcoxon(stopping)
        case _:
            return optunas.none()


def _forecast(plan: Plan, stopping: StoppingSpec) -> ForecastPruner:
    def horizon(trial: FrozenTrial) -> float | None:
        epochs = plan.epochs(trial.params)  # own code may mean anything by a parameter of that name
        return epochs if epochs is not None and epochs > 0 else None

    return ForecastPruner(
        threshold=stopping.threshold,
        tolerance=stopping.tolerance,
        audit=stopping.audit,
        startup_trials=STARTUP_TRIALS
        if stopping.startup_trials is None
        else stopping.startup_trials,
        min_steps=stopping.min_steps,
        horizon=horizon,
        ends_early=ends_early(plan),
        bounds=bounds(plan),
        seed=plan.spec.search.seed,
        unit=unit(plan),
    )
