"""What early stopping saved, and what the trials say that were run on to judge it."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from hpo import directions
from hpo.catalog import SPEC, StudyRecord
from hpo.directions import Direction
from hpo.pruners import (
    Decision,
    ForecastPruner,
    ForecastRule,
    Past,
    Steps,
    Told,
    audits,
    bounds,
    curve,
    ends_early,
    ran_on,
    unit,
)
from hpo.spec import Plan, RuleName
from hpo.trial import FORECAST, STOPPED_BY, TrialRecord
from hpo.words import counted

_MOST_CURVES = 40  # finished ones whose ends are forecast anew: some milliseconds each
_FEWEST_STEPS = 4  # of a curve of which a half tells something
_OWN_CODE = "own code"
_REASON = re.compile(rf"({'|'.join(get_args(RuleName))}) at (?:epoch|step) ")


def early_stopping(study: StudyRecord) -> dict[str, Any] | None:
    """What ``hpo show --json`` has under ``early_stopping``; None where no rule stops any trial.

    Of a study that plain Optuna made, only a forecast leaves what tells of it: the trials that
    were condemned.

    Its keys: `rule`, that of the study as it is now; `stopped`, how many trials, and `stopped_by`,
    how many by which rule, or by their `own code`; `steps_run` and `steps_saved`, of finished and
    stopped trials, and `share_saved`. Of forecasts also `audited`, the trials that were condemned
    and run to their end; `unheeded`, those of them that were to stop, and whose code ran on;
    `wrongly_condemned`, those of all of them that beat the incumbent, and `expected_wrong`, how
    many were to; `coverage`, the share of them that ended in their 90% interval;
    `coverage_finished`, the same of finished trials that are forecast from their first half and
    others' curves.
    """
    if study.aims.several:
        return None
    plan = _plan_of(study)
    rule: str = ForecastPruner.name if plan is None else plan.spec.stopping.rule
    stopped, finished = (_ended(study, s) for s in (TrialState.PRUNED, TrialState.COMPLETE))
    forecasts = any(trial.system_attrs.get(FORECAST) for trial in (*finished, *stopped)) or (
        plan is not None and ForecastPruner.name in plan.spec.stopping.rules
    )
    if plan is None:  # what else was pruned there, another rule may have
        stopped = [trial for trial in stopped if trial.system_attrs.get(FORECAST)]
    by = Counter(_rule_of(trial, rule) for trial in stopped)
    if not forecasts and (plan is None or (rule == "none" and by.keys() <= {rule, _OWN_CODE})):
        return None
    lengths = _Lengths.of(plan, finished)
    run = sum(map(lengths.run, (*finished, *stopped)))
    saved = sum(map(lengths.saved, stopped))
    told = {
        "rule": rule,
        "stopped": len(stopped),
        "stopped_by": dict(by),
        "steps_run": run,
        "steps_saved": saved,
        "share_saved": saved / (run + saved) if run + saved else 0.0,
    }
    return told | _judged(study, finished) if forecasts else told


def _ended(study: StudyRecord, state: TrialState) -> list[FrozenTrial]:
    return study.storage.get_all_trials(study.id, deepcopy=False, states=(state,))


def _plan_of(study: StudyRecord) -> Plan | None:
    """The plan of a study; None of one that plain Optuna made."""
    return study.plan if SPEC in study.attrs else None


def _rule_of(trial: FrozenTrial, rule: str) -> str:
    """What stopped a trial, by how a rule's reason begins; this rule, where none is kept."""
    if STOPPED_BY not in trial.system_attrs:
        return rule
    reason = _REASON.match(str(trial.system_attrs[STOPPED_BY]))
    return reason[1] if reason else _OWN_CODE


def sentence(study: StudyRecord) -> str:
    """What stopping did, in a sentence without its full stop; empty where nothing can be said."""
    told = early_stopping(study)
    if told is None:
        return ""
    counts = study.counts()
    n, ended = told["stopped"], counts["complete"] + counts["pruned"]
    if not ended:
        return ""
    by = told["stopped_by"] or {ForecastPruner.name if "audited" in told else told["rule"]: 0}
    text = " and ".join(f"{rule} stopped {k}" for rule, k in by.items())
    text += f" of {counted(ended, 'trial')} and saved {told['share_saved']:.0%} of the "
    text += f"{unit_of(study)}s"
    if audited := told.get("audited"):
        held = round(told["coverage"] * audited)
        unheeded = told["unheeded"]
        why = f"although condemned, {unheeded} by their own code," if unheeded else "as an audit"
        text += (
            f"; of {audited} run on {why} {told['wrongly_condemned']} beat the incumbent "
            f"({told['expected_wrong']:.2g} expected), {held} ended in the 90% interval"
        )
    elif audited == 0 and n:
        text += "; none was run on as an audit"
    if (coverage := told.get("coverage_finished")) is not None:
        text += (
            f"; of finished trials, forecast again from the first half of their curves, "
            f"{coverage:.0%} ended in their 90% interval"
        )
    return text


def unit_of(study: StudyRecord) -> str:
    """What a step of its trials is called."""
    plan = _plan_of(study)
    return "step" if plan is None else unit(plan)


def is_audited(trial: TrialRecord) -> bool:
    """Whether a trial was condemned by a forecast and is run to its end, or was."""
    return bool(trial.forecast and trial.forecast["audited"])


def _judged(study: StudyRecord, finished: Sequence[FrozenTrial]) -> dict[str, Any]:
    """What audited and finished trials say of the forecasts."""
    direction: Direction = "maximize" if study.maximize else "minimize"
    judged = list(audits(finished))
    held = [decision.holds(value) for decision, value in judged]
    plan = _plan_of(study)
    limits = directions.bounds(study.metric) if plan is None else bounds(plan)
    again = _held_from_half(finished, direction, limits)
    return {
        "audited": len(judged),
        "unheeded": sum(map(ran_on, finished)),
        "wrongly_condemned": sum(d.beats_incumbent(value, direction) for d, value in judged),
        "expected_wrong": sum(decision.probability for decision, _ in judged),
        "coverage": sum(held) / len(held) if held else None,
        "coverage_finished": sum(again) / len(again) if again else None,
    }


def _held_from_half(
    finished: Sequence[FrozenTrial],
    direction: Direction,
    bounds: tuple[float, float] | None,
) -> list[bool]:
    """Whether finished curves ended where their first halves and others' curves had it."""
    told = [curve(trial) for trial in finished if len(trial.intermediate_values) >= _FEWEST_STEPS]
    told = told[-_MOST_CURVES:]
    rule = ForecastRule(direction, startup_trials=0, bounds=bounds)
    held = []
    for fold in (0, 1):  # no curve is forecast with itself as an example
        others = [each for i, each in enumerate(told) if i % 2 != fold]
        past = Past(len(others), incumbent=0.0, history=others)
        of_length: dict[float, list[Steps]] = defaultdict(list)
        for steps, values in told[fold::2]:
            of_length[float(steps[-1])].append((steps, values))
        for horizon, curves in of_length.items():
            decisions = rule.decide([_first_half(each) for each in curves], horizon, past)
            ends = zip(decisions, (float(values[-1]) for _, values in curves), strict=True)
            # Where there is too little to go by, nothing was promised.
            held += [decision.holds(value) for decision, value in ends if decision is not None]
    return held


def _first_half(whole: Steps) -> Steps:
    """A curve up to half of its last step."""
    steps, values = whole
    n = int(np.searchsorted(steps, steps[-1] / 2, side="right"))
    return steps[:n], values[:n]


@dataclass(frozen=True)
class _Lengths:
    """How far trials went, and how far they would have gone."""

    plan: Plan | None
    longest: int
    told: Told

    @classmethod
    def of(cls, plan: Plan | None, finished: Sequence[FrozenTrial]) -> _Lengths:
        longest = max((trial.last_step or 0 for trial in finished), default=0)
        if plan is None:
            return cls(None, longest, Told())
        return cls(plan, longest, Told.by(finished, lambda trial: plan.epochs(trial.params)))

    def run(self, trial: FrozenTrial) -> int:
        """How many steps a trial ran."""
        return 0 if trial.last_step is None else trial.last_step + round(self.told.short)

    def saved(self, trial: FrozenTrial) -> int:
        """Steps that it was stopped before."""
        told = None if self.plan is None else self.plan.epochs(trial.params)
        if told:
            whole = round(self.told.last_step(told))
        elif trial.system_attrs.get(FORECAST):
            whole = round(Decision.from_json(trial.system_attrs[FORECAST]).horizon)
        else:
            whole = self.longest
        if self.longest and self.plan is not None and ends_early(self.plan):
            whole = min(whole, self.longest)
        return max(0, whole - (trial.last_step or 0))
