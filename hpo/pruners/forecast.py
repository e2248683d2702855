"""Stops trials whose learning curve, as it is forecast, will hardly beat the best finished one."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from numbers import Integral, Real
from typing import Any, TypeAlias

import numpy as np
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.curves.forecasts import spread
from hpo.curves.scales import confirmed
from hpo.curves.seen import step_of
from hpo.directions import Direction
from hpo.pruners.base import Rule
from hpo.pruners.decisions import (
    AUDIT,
    STARTUP_TRIALS,
    THRESHOLD,
    Decision,
    ForecastRule,
    Past,
    Steps,
    is_audited,
    is_due,
)
from hpo.pruners.lengths import Lengths, Told
from hpo.pruners.returned import Returned
from hpo.trial import FORECAST, STOPPED_BY, is_unheeded

Horizon: TypeAlias = float | Callable[[FrozenTrial], float | None] | None

_TOO_SHORT = (
    "finished trials reported steps up to %.3g times as far as their horizon (of a study file, "
    "`epochs`); it is taken to be so much farther. Report steps in its unit, or name none."
)
_TOO_EARLY = 0.5  # of its horizon
_TOO_LONG = (
    "no finished trial reported a step beyond %.2g%% of its horizon (of a study file, `epochs`): "
    "what trials have yet to gain is thought more than it is. Name the last step, or none."
)
_OUTSIDE = (
    "a finished trial reported %.6g, and the metric's bounds are %g to %g: trials are forecast "
    "without them. State others by `bounds`, of `objective` in a study file."
)
_UNKNOWN = (
    "finished trials differ in length, and no parameter is their last step: no trial is stopped "
    "whose length is unknown. Tell it by `epochs` in a study file, by `horizon=` in plain Optuna, "
    "and there by `ends_early=True` that trials end by themselves."
)
_CONTRARY = (
    "finished trials that report more return less: while it is so, no trial is stopped. Report "
    "what is returned, or with its sign turned what is better the other way."
)


_log = logging.getLogger(__name__)


class ForecastPruner(Rule):
    """Stops a trial when it will hardly beat the incumbent, the best finished trial.

    Hardly: the probability that its last report is better than that of the incumbent, by more than
    the tolerance, is below the threshold times the share of its steps that is left, and the trial
    needs three times what finished ones gained from there on; where it needs less, below less of
    that (`ForecastRule`).
    Reports are compared with reports: the number that a trial returns may be another, such as that
    of its best step, and counts only where a trial reported nothing. What samplers learn is a
    value: for them the forecast's mean is moved by the median of what finished trials returned
    above their last reports. Where that is not 0, no trial is stopped unless the ranks of values
    and last reports of at least five finished trials correlate.

    The curve is forecast by `hpo.curves`, which learns from the study's finished trials, after each
    of the first ten reports, and then after every tenth more, but not in the last tenth of the
    steps: what is left to save there is worth less than an exact value. A share of the trials that
    would be stopped is run to the end all the same. When more of these beat the incumbent than was
    stated, the threshold is divided by how many times as many. Trials whose code does not heed the
    verdict, and that finish, count as these do.

    A trial has diverged, and is stopped, when its last two reports are not finite, or nothing that
    it reported is; one alone was not measured, and nothing is decided by it. A trial whose last
    report is finite and beyond 1e100 is not judged where that is good, or all that it reported is
    so.

    Of every trial that it condemns, it notes what was expected when it first did so in the system
    attribute ``hpo:forecast``: the fields of `Decision`, and whether the trial is `audited`.

    It works in any Optuna study with one objective:

    >>> study = optuna.create_study(pruner=hpo.pruners.ForecastPruner(horizon=50))

    Args:
        threshold: The probability below which a trial is stopped that has all of its steps left,
            where the past agrees.
        tolerance: What an improvement has to exceed, in the metric's unit.
        audit: The share of condemned trials that are run to the end.
        startup_trials: Finished trials before any is stopped.
        min_steps: Reports of a trial before it may be stopped.
        horizon: The last step of a trial, or what tells it of a trial. Where that is None, it is
            what finished trials tell: all went as far, or their last step was a parameter of
            theirs (`Lengths`); where they tell nothing, no trial is stopped. Where finished trials
            went beyond theirs, as when steps are minibatches and the horizon counts epochs, it is
            so many times as far; where they counted from 0, and ended one step before it, so does
            this one.
        ends_early: Whether trials may end by themselves before their horizon. It is then no
            farther than the longest of those that have finished went, and so far where it is None.
        bounds: Lowest and highest value of the metric, where they are known; infinity where one is
            not.
        seed: Chooses the audited trials, with their numbers.
        unit: What a step is called in reasons.

    Raises:
        ValueError: an argument is out of range, or later what tells the horizon of a trial.
    """

    name = "forecast"

    def __init__(
        self,
        *,
        threshold: float = THRESHOLD,
        tolerance: float = 0.0,
        audit: float = AUDIT,
        startup_trials: int = STARTUP_TRIALS,
        min_steps: int = 1,
        horizon: Horizon = None,
        ends_early: bool = False,
        bounds: tuple[float, float] | None = None,
        seed: int = 0,
        unit: str = "step",
    ) -> None:
        _check_number("threshold", threshold, "a probability between 0 and 1", lambda p: 0 < p < 1)
        _check_number("tolerance", tolerance, "0 or more", lambda x: 0 <= x < math.inf)
        _check_number("audit", audit, "a share from 0 to 1", lambda share: 0 <= share <= 1)
        _check_count("startup_trials", startup_trials, 0)
        _check_count("min_steps", min_steps, 1)
        _check_count("seed", seed, 0)
        if horizon is not None and not callable(horizon):
            _check_number("horizon", horizon, "a trial's last step", lambda h: 0 < h < math.inf)
        _check_bounds(bounds)
        self.audit = audit
        self.seed = seed
        self._settings: dict[str, Any] = {
            "threshold": threshold,
            "tolerance": tolerance,
            "startup_trials": startup_trials,
            "min_steps": min_steps,
            "bounds": bounds,
        }
        self._horizon = horizon
        self._ends_early = ends_early
        self._unit = unit
        self._warned: set[str] = set()
        # Threads may share these. By study and finished trials:
        self._known: tuple[tuple[object, ...], _Known] | None = None
        self._judged: dict[tuple[str, int], int] = {}  # by study and trial, after how many reports

    def __repr__(self) -> str:
        told = {
            **self._settings,
            "audit": self.audit,
            "horizon": self._horizon,
            "ends_early": self._ends_early,
            "seed": self.seed,
            "unit": self._unit,
        }
        return f"ForecastPruner({', '.join(f'{name}={value!r}' for name, value in told.items())})"

    def prune(self, study: Study, trial: FrozenTrial) -> bool:
        if not trial.intermediate_values or is_audit(trial):
            return False
        if not math.isfinite(end(trial)):
            return _has_diverged(trial)  # hpo fails such a trial before it asks
        if not self._is_due(study, trial):
            return False
        decision = self.outlook(study, trial)
        if decision is None or not decision.condemns:
            return False
        audited = is_audited(self.seed, trial.number, self.audit)
        # The first holds of a trial that runs on: later ones depend on what it did meanwhile.
        if trial.system_attrs.get(FORECAST) is None:
            kept = {**decision.as_json(), "audited": audited}
            study._storage.set_trial_system_attr(trial._trial_id, FORECAST, kept)
        if not audited:
            study._storage.set_trial_system_attr(trial._trial_id, STOPPED_BY, self._words(decision))
        return not audited

    def _is_due(self, study: Study, trial: FrozenTrial) -> bool:
        """Whether a trial is judged now; who asks rarely is answered each time."""
        key, n = (study.study_name, trial.number), len(trial.intermediate_values)
        before = self._judged.get(key, 0)
        if due := is_due(n, before):
            self._judged[key] = n
        return due

    def reason(self, study: Study, trial: FrozenTrial) -> str:
        said = study._storage.get_trial(trial._trial_id).system_attrs.get(STOPPED_BY)
        if said is None or not math.isfinite(end(trial)):
            step = max(trial.intermediate_values)
            value = trial.intermediate_values[step]
            return f"forecast at {self._unit} {step}: it has diverged, to {value}"
        return str(said)

    def _words(self, decision: Decision) -> str:
        return f"forecast at {decision.sentence(self._unit)}"

    def outlook(self, study: Study, trial: FrozenTrial) -> Decision | None:
        """What is expected of a trial as it is now; None where nothing can be said, or need be."""
        known = self._know(study)
        horizon = self._last_step(trial, known)
        if horizon is None or not known.returned.agree:
            return None
        rule = ForecastRule(direction_of(study), **self._settings)
        return rule.decide([curve(trial)], horizon, known.past)[0]

    def _last_step(self, trial: FrozenTrial, known: _Known) -> float | None:
        """Where a trial will end, if it is run to the end; None where that is unknown."""
        told = self._horizon_of(trial)
        if self._ends_early and (longest := known.lengths.longest):
            return longest if told is None else min(known.told.last_step(told), longest)
        if told is not None:
            return known.told.last_step(told)
        if known.lengths.are_unknown:
            self._warn_once(_UNKNOWN)
        return known.lengths.of(trial)

    def _warn_once(self, text: str, *numbers: float) -> None:
        if text not in self._warned:
            self._warned.add(text)
            _log.warning(text, *numbers)

    def _doubt(self, known: _Known) -> None:
        """Warns where finished trials ended far from their horizons, or return the contrary."""
        if known.returned.are_contrary:
            self._warn_once(_CONTRARY)
        bounds, values = self._settings["bounds"], known.past.reported
        if bounds is not None and len(values) and confirmed(bounds, values) is None:
            beyond = values[np.argmax(np.maximum(bounds[0] - values, values - bounds[1]))]
            self._warn_once(_OUTSIDE, beyond, *bounds)
        enough = known.past.n_finished >= STARTUP_TRIALS and not self._ends_early
        if not enough or known.told.reach is None:
            return
        if known.told.times > 1:
            self._warn_once(_TOO_SHORT, known.told.times)
        elif known.told.reach < _TOO_EARLY:
            self._warn_once(_TOO_LONG, 100 * known.told.reach)

    def _horizon_of(self, trial: FrozenTrial) -> float | None:
        told = self._horizon(trial) if callable(self._horizon) else self._horizon
        if told is None:
            return None
        step = step_of(told)
        if step <= 0:  # nothing would ever be stopped, and nobody told
            raise ValueError(
                f"the horizon is a step above 0, not {told!r} of trial {trial.number}; "
                "None where it is not known"
            )
        return step

    def _know(self, study: Study) -> _Known:
        """What the finished trials say; gathered anew only when there are more of them."""
        finished = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        # Not by the study's number alone: each storage counts from 0.
        last = finished[-1].datetime_complete if finished else None
        key, known = (study.study_name, len(finished), last), self._known
        if known is None or known[0] != key:
            found = _Known.of(finished, direction_of(study), self._horizon_of)
            self._doubt(found)
            known = self._known = key, found
        return known[1]


@dataclass(frozen=True)
class _Known:
    """What finished trials say.

    Args:
        past: Of where a trial is going.
        telling: Those that show how trials go on to their end.
        returned: What they returned, and reported last.
        told: How their last steps follow from their horizons.
    """

    past: Past
    telling: Sequence[FrozenTrial]
    returned: Returned
    told: Told

    @classmethod
    def of(
        cls,
        finished: Sequence[FrozenTrial],
        direction: Direction,
        horizon_of: Callable[[FrozenTrial], float | None],
    ) -> _Known:
        """Gathers it from COMPLETE trials, by number."""
        better = max if direction == "maximize" else min
        ends = [end(t) for t in finished if _is_feasible(t)]
        telling = [t for t in finished if _tells(t)]
        incumbent = better((v for v in ends if math.isfinite(v)), default=None)
        returned = Returned.of((t.value, end(t)) for t in finished if t.intermediate_values)
        past = Past(
            n_finished=len(finished),
            incumbent=incumbent,
            history=[curve(trial) for trial in _spread(telling, incumbent)],
            audits=list(audits(finished)),
            surplus=returned.surplus,
        )
        return cls(past, telling, returned, Told.by(telling, horizon_of))

    @cached_property
    def lengths(self) -> Lengths:
        """Where a trial ends, if nobody tells; else that is not looked for."""
        return Lengths.told_by(self.telling)


def _check_number(name: str, value: object, what: str, is_right: Callable[[float], bool]) -> None:
    if not (isinstance(value, Real) and is_right(float(value))):
        raise ValueError(f"{name} is {what}, not {value!r}")


def _check_count(name: str, value: object, least: int) -> None:
    if not (isinstance(value, Integral) and int(value) >= least):
        raise ValueError(f"{name} is a whole number, {least} or more, not {value!r}")


def _check_bounds(bounds: object) -> None:
    if bounds is None:
        return
    pair = tuple(bounds) if isinstance(bounds, Sequence | np.ndarray) else ()
    if not ([isinstance(b, Real) for b in pair] == [True, True] and pair[0] < pair[1]):
        what = "the lowest and the highest value, infinity where there is none"
        raise ValueError(f"bounds are {what}, not {bounds!r}")


def _spread(trials: Sequence[FrozenTrial], incumbent: float | None) -> list[FrozenTrial]:
    """So many trials that a forecast costs the same in any study, the incumbent among them.

    The first finished before anything was stopped, and so stand for all configurations; the last
    are like those that a model suggests by now.
    """
    best = (i for i, trial in enumerate(trials) if end(trial) == incumbent)
    return [trials[i] for i in spread(len(trials), next(best, 0))]


def audits(finished: Iterable[FrozenTrial]) -> Iterator[tuple[Decision, float]]:
    """What was expected of trials that were condemned and run on, and how they ended.

    As an audit, or because their code did not heed the verdict.
    """
    for trial in finished:
        audited = is_audit(trial) and trial.state is TrialState.COMPLETE
        if audited or ran_on(trial):
            yield Decision.from_json(trial.system_attrs[FORECAST]), end(trial)


def end(trial: FrozenTrial) -> float:
    """What a trial reported last; its value, if it reported nothing."""
    if trial.intermediate_values:
        return trial.intermediate_values[max(trial.intermediate_values)]
    return math.nan if trial.value is None else trial.value


def _has_diverged(trial: FrozenTrial) -> bool:
    """Whether its last two reports are not finite, or all of them."""
    values = trial.intermediate_values
    return not any(math.isfinite(values[step]) for step in sorted(values)[-2:])


def _tells(trial: FrozenTrial) -> bool:
    """Whether a finished trial shows how trials go on to their end.

    Not if its code heeded the verdict, and returned what there was.
    """
    condemned = trial.system_attrs.get(FORECAST) is not None
    heeded = condemned and not (is_audit(trial) or ran_on(trial))
    return not heeded and any(map(math.isfinite, trial.intermediate_values.values()))


def ran_on(trial: FrozenTrial) -> bool:
    """Whether a COMPLETE trial was to stop, and its code did not heed that."""
    return is_unheeded(trial.state.name, trial.system_attrs.get(FORECAST), trial.last_step)


def is_audit(trial: FrozenTrial) -> bool:
    """Whether a trial was condemned and is run to its end, or was."""
    return bool((trial.system_attrs.get(FORECAST) or {}).get("audited"))


def curve(trial: FrozenTrial) -> Steps:
    """What a trial reported, its steps rising."""
    steps = sorted(trial.intermediate_values)
    values = [trial.intermediate_values[step] for step in steps]
    return np.array(steps, float), np.array(values, float)


def direction_of(study: Study) -> Direction:
    """Which way is better in a study with one objective."""
    return "maximize" if study.direction is StudyDirection.MAXIMIZE else "minimize"


def _is_feasible(trial: FrozenTrial) -> bool:
    return all(excess <= 0 for excess in trial.constraints.values())
