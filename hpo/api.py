"""hpo from Python: the same as the commands."""

from __future__ import annotations

import inspect
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from hpo import catalog, executors, gates, pruners, samplers, spec, studyfile
from hpo.advice import unsaid
from hpo.catalog import StudyRecord
from hpo.directions import Direction
from hpo.errors import HpoError
from hpo.executors import Executor
from hpo.gates import Verdict
from hpo.listeners import Listener, Outcome
from hpo.objectives import Objective, code_runs
from hpo.objectives.function import FunctionObjective
from hpo.places import storage_url, tracking_uri
from hpo.search_spaces import SearchSpace
from hpo.sizing import BUDGET_SECONDS, SEEDS, Answer, ask, measure, subject_of
from hpo.spec import Plan, RuleName, SamplerName
from hpo.storage import open_storage
from hpo.study import Study
from hpo.tracking import MlflowListener
from hpo.trial import TrialRecord
from hpo.winners import DiscardWeights, DrawWinner

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Result:
    """What a run of a study came to.

    Args:
        study: The study, to be read further.
        outcome: How the run ended.
        verdict: What the gate says; None without a gate.
    """

    study: StudyRecord
    outcome: Outcome
    verdict: Verdict | None

    @property
    def best(self) -> TrialRecord | None:
        """The best COMPLETE trial, of several metrics in the first, if there is one."""
        return self.study.best()

    @property
    def front(self) -> list[TrialRecord]:
        """The trials that no other dominates; of a single metric, the best alone."""
        return self.study.front()

    @property
    def trials(self) -> list[TrialRecord]:
        """All trials, by number."""
        return self.study.trials()


def run(
    file: str | Path | Mapping[str, Any],
    *overrides: str,
    storage: str | None = None,
    tracking: str | None = None,
    listeners: Sequence[Listener] = (),
) -> Result:
    """Runs a study file, or goes on with its study; the same as ``hpo run``.

    Args:
        file: A YAML file, or what stands in one.
        overrides: ``"search.trials=200"`` strings that win over the file.
        storage: URL of the storage; wins over file and environment.
        tracking: URI of MLflow, or ``"none"``; wins over file and environment.
        listeners: Hear what happens.

    Raises:
        HpoError: with what is wrong and what to do; trials that fail raise nothing.
    """
    if isinstance(file, Mapping):
        text = {"name": "study", **file}
        plan = spec.check(studyfile.from_values(text, "the study", Path.cwd(), overrides))
    else:
        plan = spec.load(Path(file), overrides)
    return run_plan(plan, storage=storage, tracking=tracking, listeners=listeners)


def search(
    function: Callable[..., Any],
    *,
    space: SearchSpace | Mapping[str, Any],
    trials: int = spec.DEFAULT_TRIALS,
    metric: str | Sequence[str] = "value",
    direction: Direction | Sequence[Direction] | None = None,
    constraints: Mapping[str, str] | None = None,
    name: str | None = None,
    sampler: SamplerName = "bayesian",
    seed: int = 0,
    baseline: Mapping[str, Any] | None = None,
    stopping: RuleName | Mapping[str, Any] = "none",
    timeout: float | str | None = None,
    storage: str | None = None,
    tracking: str | None = None,
    listeners: Sequence[Listener] = (),
) -> TrialRecord:
    """Searches the best configuration of a Python function.

    Args:
        function: Called with a trial, which is also the configuration: ``train(trial)`` reads
            ``trial.learning_rate``. It returns a number or a dict of metrics, or yields dicts,
            or calls ``trial.report(step, val_loss=...)``.
        space: Made by `hpo.space`, or what stands under ``space:`` in a study file.
        trials: How many.
        metric: Name of the number that is searched for, or several names.
        direction: minimize or maximize, or one of them for each metric; None is what is better as
            far as a metric's name tells, such as val_acc or rmse, and else minimize.
        constraints: What a trial must keep to be the best: ``{"latency_ms": "<= 5"}``.
        name: The study's; the same name again goes on with it. Made up when None.
        sampler: grid, random, sobol, tpe, gp, skopt or bayesian.
        seed: It seeds everything random.
        baseline: What you would run without a search: trial 0.
        stopping: Name of a rule, or what stands under ``stopping:`` in a study file.
        timeout: In seconds, or as "30m". A function that is running then ends at its next
            report, or is left to itself after 10 seconds: Python cannot end it.
        storage: URL of the storage.
        tracking: URI of MLflow, or ``"none"``.
        listeners: Hear what happens.

    Returns:
        The best trial, of several metrics in the first; ``load_study(name).front()`` has the
        others.

    Raises:
        HpoError: something is wrong with the arguments, no trial was completed, none keeps
            the constraints, or somebody else asked the study to stop (``hpo stop``).
        KeyboardInterrupt: Ctrl-C or SIGTERM, once everything is written.
    """
    stem = re.sub(r"[^A-Za-z0-9._-]+", "-", getattr(function, "__name__", "search")).strip("-_.")
    made_up = f"{stem or 'search'}-{datetime.now():%Y%m%d-%H%M%S-%f}"  # noqa: DTZ005 - a name
    values: dict[str, Any] = {
        "name": name or made_up,
        "objective": {
            "function": _name_of(function),
            "metric": metric if isinstance(metric, str) else list(metric),
        },
        "space": space.to_dict() if isinstance(space, SearchSpace) else dict(space),
        "search": {"sampler": sampler, "trials": trials, "seed": seed},
        "stopping": {"rule": stopping} if isinstance(stopping, str) else dict(stopping),
    }
    if direction is None and metric == "value":
        direction = "minimize"  # as documented
    if direction is not None:
        said = direction if isinstance(direction, str) else list(direction)
        values["objective"]["direction"] = said
    if constraints is not None:
        values["constraints"] = dict(constraints)
    if baseline is not None:
        values["baseline"] = dict(baseline)
    if timeout is not None:
        values["search"]["timeout"] = timeout
    plan = spec.check(studyfile.StudyFile("hpo.search", Path.cwd(), values))
    for each in unsaid(plan):
        _log.warning("%s", each)
    result = run_plan(
        plan,
        objective=FunctionObjective(
            function,
            plan.spec.objective.metrics[0],
            plan.spec.run.device,
            code_runs(plan, tracking),
        ),
        storage=storage,
        tracking=tracking,
        listeners=listeners,
    )
    return _demand_best(result)


def load_study(name: str, *, storage: str | None = None) -> StudyRecord:
    """A study that exists, to be read: ``trials()``, ``best()``, ``front()``, ``state``.

    Plain Optuna's studies can be read, too.

    Args:
        name: Of the study.
        storage: URL of the storage; wins over the environment's.

    Raises:
        HpoError: there is no such study, or no such storage.
    """
    return catalog.find(open_storage(storage_url(storage), create=False), name)


def best(study: str, *, storage: str | None = None) -> TrialRecord:
    """The best trial of a study, of several metrics in the first.

    Raises:
        HpoError: there is no such study, it has no COMPLETE trial, or none keeps the constraints.
    """
    record = load_study(study, storage=storage)
    found = record.best()
    if found is None:
        raise HpoError(record.why_no_best(), f"See: hpo trials {study}")
    return found


def measure_data_needs(
    name: str | Path,
    *overrides: str,
    target: float | None = None,
    metric: str | None = None,
    examples: int | None = None,
    bounds: tuple[float, float] | None = None,
    budget: float | str = BUDGET_SECONDS,
    seeds: int = SEEDS,
    storage: str | None = None,
) -> Answer:
    """Trains a configuration on parts of growing size; the same as ``hpo data-needs``.

    Nothing is written to MLflow.

    Args:
        name: A study file, for its baseline; or a study, for its best trial.
        overrides: ``"run.workers=4"`` strings that win over the file.
        target: The value to reach; the gate's by default.
        metric: What is measured; the objective by default.
        examples: How many training examples own code has.
        bounds: Lowest and highest value of own code's metric; may be infinite.
        budget: Wall time, in seconds, or as "10m".
        seeds: Fits at each size, at most.
        storage: URL of the storage.

    Returns:
        The fits, what they tell (`Answer.needs`), and what bounds the model (`Answer.diagnosis`).

    Raises:
        HpoError: something is wrong with the arguments, or nothing could be measured.
        KeyboardInterrupt: Ctrl-C or SIGTERM; the fits are kept.
    """
    subject = subject_of(str(name), overrides, storage=storage)
    question = ask(subject, metric=metric, target=target, examples=examples, bounds=bounds)
    answer = measure(question, budget_seconds=spec.seconds(str(budget)), seeds=seeds)
    if answer.state == "interrupted":
        raise KeyboardInterrupt
    return answer


def run_plan(
    plan: Plan,
    *,
    objective: Objective | None = None,
    storage: str | None = None,
    tracking: str | None = None,
    listeners: Sequence[Listener] = (),
    warn: Callable[[str], None] = _log.warning,
    joins: bool = False,
) -> Result:
    """Runs a checked plan; what `run`, `search` and the commands have in common.

    Args:
        plan: What to run.
        objective: What a trial does, if not what the plan names.
        storage: URL of the storage; wins over plan and environment.
        tracking: URI of MLflow, or ``"none"``; wins over plan and environment.
        listeners: Hear what happens.
        warn: Called with a sentence about MLflow.
        joins: Whether the study exists already, and is to stay as it is: the plan is this
            driver's alone.
    """
    uri = tracking_uri(tracking or plan.spec.tracking)
    executor = executors.build(plan, objective, tracking)
    try:
        return _run_on(executor, plan, storage, uri, listeners=listeners, warn=warn, joins=joins)
    finally:
        executor.close()


def _run_on(
    executor: Executor,
    plan: Plan,
    storage: str | None,
    uri: str | None,
    *,
    listeners: Sequence[Listener],
    warn: Callable[[str], None],
    joins: bool,
) -> Result:
    store = open_storage(storage_url(storage or plan.spec.storage))
    if joins:
        record = catalog.join(store, plan)
    else:
        record = catalog.find_or_create(store, plan)
        record.note_tracking(uri)
    mirrors = [MlflowListener(uri, warn)] if uri else []
    search = plan.spec.search
    study = Study(
        record,
        samplers.build(
            search.sampler,
            plan.space,
            seed=search.seed,
            startup_trials=search.startup_trials,
            estimator=search.estimator,
            trials=plan.trials,
            metrics=len(plan.spec.objective.metrics),
            baseline=plan.baseline,
        ),
        pruners.build(plan),
        executor,
        [*listeners, *_network_listeners(plan), *mirrors],
    )
    try:
        outcome = study.run()
    finally:
        for mirror in mirrors:
            mirror.kill()
    record = catalog.find(store, plan.spec.name)
    return Result(record, outcome, gates.judge(plan.spec.gate, record))


def _demand_best(result: Result) -> TrialRecord:
    """The best trial of a search.

    Raises:
        HpoError: there is none, or somebody else asked the study to stop.
        KeyboardInterrupt: a signal did.
    """
    name, outcome = result.study.name, result.outcome
    if outcome.signal:
        raise KeyboardInterrupt
    if outcome.state == "interrupted":
        how = "search again under its name, or call load_study for what there is."
        raise HpoError(f"study '{name}' was {outcome.reason}.", f"Go on: {how}")
    if result.best is not None:
        return result.best
    if result.study.ranked():
        raise HpoError(f"study '{name}': {result.study.why_no_best()}")
    failures = [trial.failure for trial in result.trials if trial.failure]
    last = f" The last one: {failures[-1].sentence}" if failures else ""
    why = f": {outcome.reason}" if outcome.limit else ""
    raise HpoError(f"no trial of '{name}' was completed{why}.{last}")


def _network_listeners(plan: Plan) -> list[Listener]:
    """The listeners that look after the networks that a built-in trainer leaves."""
    if plan.spec.objective.trainer is None:
        return []
    return [DiscardWeights(plan.spec.run.keep_weights), DrawWinner()]


def _name_of(function: Callable[..., Any]) -> str:
    """The name under which `hpo resume` can find a function again, if it can."""
    module = inspect.getmodule(function)
    name = getattr(function, "__qualname__", "")
    if module is None or not re.fullmatch(r"\w+", name):
        return "__main__:search"
    if module.__name__ == "__main__" and getattr(module, "__file__", None):
        stem = Path(str(module.__file__)).stem  # of what was piped into Python it is <stdin>
        return f"{stem}:{name}" if stem.isidentifier() else "__main__:search"
    return f"{module.__name__}:{name}"
