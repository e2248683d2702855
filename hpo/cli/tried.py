"""Trying one step of one trial: what `hpo check` finds out that no file says."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.cli.app import stderr
from hpo.errors import HpoError, close_metric
from hpo.words import number

if TYPE_CHECKING:
    import numpy as np

    from hpo.advice import Advice
    from hpo.objectives import Objective
    from hpo.objectives.trainer import TrainerObjective
    from hpo.spec import Plan
    from hpo.trainers import Report
    from hpo.trial import Event, Failure, Stopped

_PATIENCE_SECONDS = 5.0
_METRIC_SECONDS = 10.0  # batches that are logged first may be many, and epochs long
_DRAWN = 100  # configurations, to see how many can be trained
_DRAWING_SECONDS = 2.0


@dataclass(frozen=True)
class _Tried:
    """What a trial did until its second report, or until its metric came.

    Args:
        params: What was drawn.
        steps: Its reports.
        result: Its end, if it came to that.
        seconds: What the last of it took.
        advice: What drawing it has told.
    """

    params: Mapping[str, Any]
    steps: Sequence[Report]
    result: Mapping[str, float] | Stopped | Failure | None
    seconds: float
    advice: Sequence[Advice]

    @property
    def metrics(self) -> dict[str, float]:
        """All that it reported."""
        metrics = {name: value for step in self.steps for name, value in step.metrics.items()}
        return metrics | dict(self.result if isinstance(self.result, Mapping) else {})


def try_one_step(plan: Plan, tell_data: Callable[[str], object]) -> tuple[str, list[Advice]]:
    """Tries a trial; says what it did, and what that means for a study.

    Args:
        plan: The study.
        tell_data: Called with what data was read, if hpo reads it, before the trial begins.

    Raises:
        HpoError: it failed, or a study could not judge such trials.
    """
    from hpo.search_spaces.flow import flow
    from hpo.trial import ITSELF, Failure, Stopped

    tried = _tried(plan, tell_data)
    steps, end, seconds = tried.steps, tried.result, tried.seconds
    if isinstance(end, Failure):
        message = f"a trial failed: {end.sentence}\n  with {flow(tried.params)}"
        raise HpoError(message, end.place)
    if isinstance(end, Stopped):
        why = "" if end.reason == ITSELF else f": {end.reason}"
        return f"tried      one trial, which stopped itself{why}", []
    if end is not None or plan.spec.objective.trainer:
        # A function may report a loss as it goes and return its metric at the end.
        _demand_metrics(plan, tried)
    shown = steps[0].metrics if steps else tried.metrics
    values = ", ".join(f"{name} {number(value)}" for name, value in shown.items())
    advice = [*tried.advice, *_advice_of(plan, tried)]
    if not steps:
        return f"tried      one trial, {seconds:.2f} s: {values}", advice
    # A command's steps are read together, so nobody knows what each took.
    pace = f", {seconds:.2f} s" if plan.spec.objective.command is None else ""
    estimate = _estimate(plan, seconds) if pace else ""
    return f"tried      one step{pace}: {values}{estimate}", advice


def _tried(plan: Plan, tell_data: Callable[[str], object]) -> _Tried:
    """Runs a trial to its second report, in a folder that is thrown away.

    The first step pays for what is done once in a process; the second tells what steps cost. Where
    neither has the metric, it goes on for some seconds: batches may be logged before an epoch is.
    """
    from hpo import objectives
    from hpo.executors import InlineExecutor
    from hpo.places import tracking_uri
    from hpo.trial import Ended, Job, Reported

    with tempfile.TemporaryDirectory() as folder, _told_to_wait():
        # A command that logs to MLflow does so in there, too.
        mlflow = f"sqlite:///{folder}/mlflow.db" if tracking_uri(plan.spec.tracking) else "none"
        objective = objectives.build(plan, mlflow)
        if data := _data(plan, objective):
            tell_data(data)
        params, advice = _chosen(plan, objective)
        executor = InlineExecutor(objective)
        executor.start(Job(0, plan.config(params), plan.spec.search.seed, Path(folder)))
        started = time.perf_counter()
        events = list(executor.events())
        if isinstance(events[0], Reported):
            started = time.perf_counter()
            events += executor.events()
        seconds = time.perf_counter() - started
        awaited = [m for m in plan.spec.objective.metrics if m in _demanded(plan, ended=False)]
        while not _has_come(awaited, events) and time.perf_counter() - started < _METRIC_SECONDS:
            events += executor.events()
        executor.stop(0)
    steps = [event.report for event in events if isinstance(event, Reported)]
    end = events[-1].result if isinstance(events[-1], Ended) else None
    return _Tried(params, steps, end, seconds, advice)


def _has_come(awaited: Collection[str], events: Sequence[Event]) -> bool:
    """Whether a trial has ended, or has reported all that is waited for."""
    from hpo.trial import Reported

    reports = [event.report.metrics for event in events if isinstance(event, Reported)]
    return len(reports) < len(events) or set(awaited) <= set().union(*reports)


def _data(plan: Plan, objective: Objective) -> str | None:
    """What a trainer or estimator has read."""
    if plan.spec.objective.kind not in ("trainer", "estimator"):
        return None
    from hpo.cli.described import described
    from hpo.objectives.estimator import EstimatorObjective
    from hpo.objectives.trainer import TrainerObjective

    assert isinstance(objective, EstimatorObjective | TrainerObjective)  # noqa: S101 - of this plan
    positive = plan.spec.objective.positive
    return described(objective.folds[0], None if positive is None else str(positive))


def _chosen(plan: Plan, objective: Objective) -> tuple[Mapping[str, Any], list[Advice]]:
    """What is tried: the baseline, which is sure to make sense, or what is drawn."""
    import numpy as np

    rng = np.random.default_rng(plan.spec.search.seed)
    first = plan.baseline or plan.space.sample_params(rng)
    if plan.spec.objective.trainer is None:
        return first, []
    from hpo.objectives.trainer import TrainerObjective

    assert isinstance(objective, TrainerObjective)  # noqa: S101 - built of this plan
    return _trainable(plan, objective, first, rng)


def _trainable(
    plan: Plan, objective: TrainerObjective, first: Mapping[str, Any], rng: np.random.Generator
) -> tuple[Mapping[str, Any], list[Advice]]:
    """The first configuration that can be trained, and how many cannot.

    Raises:
        HpoError: none of those that were drawn can be, or not the baseline.
    """
    from hpo.advice import Advice
    from hpo.search_spaces.flow import flow

    end = time.monotonic() + _DRAWING_SECONDS
    params, why = first, objective.refusal(plan.config(first))
    if why and plan.baseline:
        raise _untrainable(first, why)
    asked = [(params, why)]
    while len(asked) < (_DRAWN if plan.space.free else 1) and time.monotonic() < end:
        params = plan.space.sample_params(rng)
        asked.append((params, objective.refusal(plan.config(params))))
    possible = [params for params, why in asked if not why]
    refused = [(params, why) for params, why in asked if why]
    if not possible:
        raise _untrainable(*refused[0])
    if not refused:
        return first, []
    params, why = refused[0]
    n = len(asked) - bool(plan.baseline)  # which is not drawn
    message = (
        f"{len(refused)} of {n} configurations that were drawn cannot be trained, and such trials "
        f"fail, as {flow(params)} does: {why.sentence}"
    )
    return possible[0], [Advice("warning", "space", message)]


def _untrainable(params: Mapping[str, Any], why: Failure) -> HpoError:
    from hpo.search_spaces.flow import flow

    return HpoError(f"a trial cannot begin: {why.sentence}\n  with {flow(params)}", why.place)


@contextmanager
def _told_to_wait() -> Iterator[None]:
    """Says what is waited for, where that takes long."""
    text = (
        "Waiting for a trial's second report or its metric; Ctrl-C ends it, and --dry tries none."
    )
    timer = threading.Timer(_PATIENCE_SECONDS, stderr().print, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _demanded(plan: Plan, *, ended: bool) -> dict[str, str]:
    """The metrics that a study needs, and the keys that name them.

    Without those that a trial tells at its end alone, where it has not `ended`.
    """
    objective = plan.spec.objective
    named = {
        "objective.metric": objective.metrics,
        "constraints": plan.spec.constraints,
        "gate": plan.spec.gate,
    }
    keys: dict[str, str] = {}
    for key, names in named.items():
        keys |= {name: key for name in names if name not in keys}
    if ended:
        return keys
    if objective.metrics_from == "mlflow":
        return {name: key for name, key in keys.items() if name in objective.metrics}
    if objective.trainer:
        from hpo.objectives.trainer import goals_of

        late = goals_of(plan).at_end
        return {name: key for name, key in keys.items() if name not in late}
    return keys


def _demand_metrics(plan: Plan, tried: _Tried) -> None:
    """Refuses a trial that a study could not judge."""
    from hpo.trial import Failure

    objective, metrics = plan.spec.objective, tried.metrics
    for metric, key in _demanded(plan, ended=tried.result is not None).items():
        if metric not in metrics:
            near = close_metric(metric, metrics)
            meant = f"Did you mean '{near}'? " if near else ""
            raise HpoError(
                f"{Failure.without(metric, metrics).message}.",
                f"{meant}Name one of them as {key}, or report it."
                if metrics
                else _how_to_report(plan, metric),
            )
        if metric in objective.metrics and not math.isfinite(metrics[metric]):
            raise HpoError(
                f"the metric '{metric}' is {metrics[metric]}, and such trials fail as DIVERGED.",
                "Report a finite number.",
            )


def _how_to_report(plan: Plan, metric: str) -> str:
    objective = plan.spec.objective
    if objective.command is None:
        return f'Return it, {{"{metric}": 0.1}}, or report it.'
    match objective.metrics_from:
        case "stdout":
            return f'Print it on stdout as a line of JSON: {{"{metric}": 0.1}}'
        case "mlflow":
            return f'Log it in the run of $MLFLOW_RUN_ID: mlflow.log_metric("{metric}", 0.1)'
        case elsewhere if elsewhere.file is not None:
            return f"Nothing was found in '{elsewhere.file}' in the trial's folder, {{directory}}."
        case _:
            return "No line that it printed matches objective.metrics_from.regex."


def _advice_of(plan: Plan, tried: _Tried) -> Iterator[Advice]:
    """What the first steps of a trial say of a study that nobody may want."""
    from hpo.advice import Advice

    rule, metrics = plan.spec.stopping.rule, tried.metrics
    judged = "" if rule == "none" else f", and {rule} cannot judge its steps"
    then = {
        "objective.metric": f"a trial that never does fails{judged}",
        "constraints": "a trial that never does breaks it",
        "gate": "the gate fails if the best trial never does",
    }
    demanded = {} if tried.result is not None else _demanded(plan, ended=False)
    for name in (name for name in demanded if name not in metrics):
        near = close_metric(name, metrics)
        meant = f"; did you mean '{near}'?" if near else "."
        yield Advice(
            "warning",
            demanded[name],
            f"the first steps reported {', '.join(metrics) or 'nothing'}, and no '{name}': "
            f"{then[demanded[name]]}{meant}",
        )
    if rule != "none" and tried.result is not None and len(tried.steps) < 2:
        n = "one step" if tried.steps else "no steps"
        message = f"a trial reports {n}, so {rule} can never stop one before its end."
        yield Advice("note", "stopping.rule", message)


def _estimate(plan: Plan, seconds: float) -> str:
    trials, epochs = plan.trials, plan.spec.objective.epochs
    if trials is None or epochs is None:
        return ""
    return f"; all trials, at that pace and none stopped: {seconds * trials * epochs / 60:.1f} min"
