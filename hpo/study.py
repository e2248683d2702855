"""The loop: ask -> start -> report -> stop? -> tell."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO

import optuna
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.pruners import BasePruner
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from hpo import pruners
from hpo.catalog import StudyRecord, this_driver
from hpo.errors import SpaceExhaustedError, StorageError
from hpo.executors import Executor
from hpo.heartbeat import heartbeat
from hpo.interrupts import Interrupts
from hpo.listeners import Listener, Outcome
from hpo.requirements import Check
from hpo.samplers import SpaceSampler, derive_seed
from hpo.trial import (
    ATTEMPTS,
    BASELINE,
    CONSTRAINTS,
    DRIVER,
    FAILURE,
    METRICS,
    MLFLOW_RUN,
    N_STEPS,
    STOPPED_BY,
    WALL_SECONDS,
    Ended,
    Event,
    Failure,
    FailureKind,
    Job,
    Reported,
    Stopped,
    TrialRecord,
)
from trainers import Report

FAILURES_IN_A_ROW = 20
"""So many trials failing one after another end a study: something is wrong with all of them."""

_DATABASE_ERRORS = (SQLAlchemyError, StorageInternalError, UpdateFinishedTrialError, StorageError)

_MOST_EXCESS = 1e6  # a value a million times its threshold is as bad as any

_TRAINING = 1  # keeps a trial's seed apart from its sampler's


class Study:
    """Runs a study until it has its trials, its time is up, or somebody stops it.

    Args:
        record: The study in its storage.
        sampler: Chooses configurations.
        pruner: Stops trials early.
        executor: Runs trials.
        listeners: Hear what happens.
    """

    def __init__(
        self,
        record: StudyRecord,
        sampler: SpaceSampler,
        pruner: BasePruner,
        executor: Executor,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._record = record
        self._plan = record.plan
        self._aims = record.aims
        self._storage = record.storage
        self._sampler = sampler
        self._executor = executor
        self._listeners = listeners
        self._optuna = optuna.load_study(
            study_name=record.name, storage=record.storage, sampler=sampler, pruner=pruner
        )
        self._running: dict[int, _RunningTrial] = {}
        self._interrupts = Interrupts()
        self._best: TrialRecord | None = None
        self._failures_in_a_row = 0
        self._deadline = time.monotonic() + (self._plan.spec.search.timeout or math.inf)

    def run(self) -> Outcome:
        """Runs the loop; what an interrupt or an error leaves behind can be run again.

        Raises:
            StorageError: the database went away, or somebody deleted the study.
        """
        with self._interrupts.handled(), heartbeat(self._storage, self._running_ids):
            try:
                self._open()
                self._fill()
                while self._running:
                    for event in self._wait():
                        self._handle(event)
                    self._fill()
                outcome = self._verdict()
            except KeyboardInterrupt:
                outcome = Outcome("interrupted", "stopped by a signal", self._interrupts.received)
                self._give_back()
            except Exception as error:
                self._abandon(error)
                raise
            self._close(outcome)
        return outcome

    # --- the steps of the loop ---

    def _fill(self) -> None:
        """Starts as many trials as there is room for."""
        while self._executor.free and self._wants_more():
            job = self._ask()
            if job is not None:
                self._executor.start(job)

    def _wants_more(self) -> bool:
        states = [trial.state for trial in self._record.frozen_trials()]
        if time.monotonic() >= self._deadline or self._too_many_failures(states):
            return False
        if TrialState.WAITING in states:
            return True
        wanted = self._plan.trials
        return (wanted is None or len(states) < wanted) and not self._sampler.exhausted(
            self._optuna
        )

    def _ask(self) -> Job | None:
        """Asks for a trial and writes it; None if another driver was faster."""
        trial = self._optuna.ask()
        space, distributions = self._plan.space, self._plan.space.distributions()
        try:
            config = space.walk(lambda p: trial._suggest(p.name, distributions[p.name]))
        except SpaceExhaustedError:
            return None
        trial_id = trial._trial_id
        before = self._storage.get_trial(trial_id).system_attrs
        self._storage.set_trial_system_attr(trial_id, DRIVER, this_driver())
        if DRIVER in before:  # it ran before, and was given back
            attempts = before.get(ATTEMPTS, 1) + 1
            self._storage.set_trial_system_attr(trial_id, ATTEMPTS, attempts)
            self._storage.set_trial_system_attr(trial_id, MLFLOW_RUN, None)  # of that attempt
        params = space.free_params(config)
        is_baseline = self._sampler.is_baseline(params)
        if is_baseline:
            self._storage.set_trial_system_attr(trial_id, BASELINE, True)
        once = is_baseline or self._sampler.size is not None
        key = space.key(params) if once else None
        if not self._storage.admit(trial_id, key=key, limit=self._plan.trials):
            return None
        return self._start(trial)

    def _start(self, trial: optuna.Trial) -> Job:
        record = self._read(trial._trial_id)
        job = job_of(self._record, record)
        self._running[record.number] = _RunningTrial(trial, MetricsLog(job.directory))
        shown = self._plan.flat_config(record.params)
        for listener in self._listeners:
            listener.started(record, shown)
        return job

    def _wait(self) -> Sequence[Event]:
        with self._interrupts.allowed():
            return self._executor.events()

    def _handle(self, event: Event) -> None:
        match event:
            case Reported(number, report):
                self._report(number, report)
            case Ended(number, result):
                self._tell(number, result)

    def _report(self, number: int, report: Report) -> None:
        running = self._running[number]
        running.log.write(report)
        running.metrics.update(report.metrics)
        for listener in self._listeners:
            listener.reported(number, report)
        values = {
            name: report.metrics[name] for name in self._aims.metrics if name in report.metrics
        }
        for name, value in values.items():
            if not math.isfinite(value):
                self._executor.stop(number)
                self._tell(number, _diverged(name, value, report.step))
                return
        if not values:  # reported, but not the metric: nothing to judge by
            return
        running.steps.add(report.step)
        if self._aims.several:  # steps are compared by one metric, in Optuna's tables, too
            return
        # Not by Optuna's trial.report, which ignores a second report of a step.
        value = values[self._aims.metrics[0]]
        self._storage.set_trial_intermediate_value(running.trial_id, report.step, value)
        frozen = self._storage.get_trial(running.trial_id)
        if BASELINE in frozen.system_attrs:
            return  # run to its end, so that there is something to compare with
        if self._optuna.pruner.prune(self._optuna, frozen):
            self._executor.stop(number)
            reason = pruners.reason(self._plan.spec.stopping, self._optuna, frozen)
            self._tell(number, Stopped(reason))

    def _tell(self, number: int, result: Mapping[str, float] | Stopped | Failure) -> None:
        running = self._running.pop(number)
        if isinstance(result, Mapping):
            running.metrics.update(result)
        verdict = self._judged(running.metrics) if isinstance(result, Mapping) else result
        running.log.close()
        storage, trial_id = self._storage, running.trial_id
        finite = {k: v for k, v in running.metrics.items() if math.isfinite(v)}
        storage.set_trial_user_attr(trial_id, METRICS, finite)
        storage.set_trial_system_attr(trial_id, WALL_SECONDS, running.wall_seconds)
        if self._aims.several:
            storage.set_trial_system_attr(trial_id, N_STEPS, len(running.steps))
        match verdict:
            case list() as values:
                if self._aims.constraints:
                    noted = _noted(self._aims.checks(finite))
                    storage.set_trial_system_attr(trial_id, CONSTRAINTS, noted)
                self._optuna.tell(running.trial, values)
            case Stopped(reason):
                storage.set_trial_system_attr(trial_id, STOPPED_BY, reason)
                self._optuna.tell(running.trial, state=TrialState.PRUNED)
            case Failure() as failure:
                storage.set_trial_system_attr(trial_id, FAILURE, asdict(failure))
                self._optuna.tell(running.trial, state=TrialState.FAIL)
        failed = isinstance(verdict, Failure)
        self._failures_in_a_row = self._failures_in_a_row + 1 if failed else 0
        self._announce(self._read(trial_id))

    def _judged(self, metrics: Mapping[str, float]) -> list[float] | Failure:
        """The objectives' values, or why there are none."""
        for name in self._aims.metrics:
            value = metrics.get(name)
            if value is None:
                reported = ", ".join(metrics) or "nothing"
                message = f"no metric '{name}' was reported; reported was: {reported}"
                return Failure(FailureKind.CRASHED, message)
            if not math.isfinite(value):
                return _diverged(name, value)
        return [metrics[name] for name in self._aims.metrics]

    def _announce(self, trial: TrialRecord) -> None:
        if self._aims.beats(trial, self._best):
            self._best = trial
        for listener in self._listeners:
            listener.ended(trial, self._best)

    def _read(self, trial_id: int) -> TrialRecord:
        return self._aims.read(self._storage.get_trial(trial_id))

    # --- beginning and end ---

    def _running_ids(self) -> list[int]:
        return [running.trial_id for running in list(self._running.values())]

    def _open(self) -> None:
        for trial in self._record.abandoned():
            self._storage.put_back(trial._trial_id)
        self._note_constraints()
        self._best = self._record.best()
        self._record.note_state("running")
        for listener in self._listeners:
            listener.opened(self._record)

    def _note_constraints(self) -> None:
        """Notes anew how far finished trials keep the constraints, which may have changed."""
        for trial in self._record.trials():
            noted = _noted(self._aims.checks({**trial.values, **trial.metrics}))
            before = self._storage.get_trial(trial.id).system_attrs.get(CONSTRAINTS, [])
            if trial.state == "COMPLETE" and noted != before:
                self._storage.annotate(trial.id, CONSTRAINTS, noted)

    def _too_many_failures(self, states: Sequence[TrialState]) -> bool:
        allowed = self._plan.spec.run.max_failures
        in_all = allowed is not None and states.count(TrialState.FAIL) > allowed
        return in_all or self._failures_in_a_row >= FAILURES_IN_A_ROW

    def _verdict(self) -> Outcome:
        states = [trial.state for trial in self._record.frozen_trials()]
        failed = states.count(TrialState.FAIL)
        if self._failures_in_a_row >= FAILURES_IN_A_ROW:
            return Outcome("failed", f"{FAILURES_IN_A_ROW} trials in a row failed")
        if self._too_many_failures(states):
            limit = self._plan.spec.run.max_failures
            return Outcome("failed", f"{failed} trials failed, more than max_failures = {limit}")
        if failed and failed == len(states):
            return Outcome("failed", "every trial failed")
        if time.monotonic() >= self._deadline:
            return Outcome("finished", "its timeout was reached")
        if self._sampler.gave_up:
            return Outcome("finished", "no further configuration that meets `require` was found")
        return Outcome("finished")

    def _give_back(self) -> None:
        """Puts running trials back, to be taken up again from the beginning."""
        for number, running in list(self._running.items()):
            self._executor.stop(number)
            running.log.close()
            self._storage.put_back(running.trial_id)
            del self._running[number]
            self._announce(self._read(running.trial_id))

    def _close(self, outcome: Outcome) -> None:
        self._storage.flush()
        self._record.note_state(outcome.state, outcome.reason)
        for listener in self._listeners:
            if self._interrupts.received is None:
                with self._interrupts.allowed():  # nothing is written here any more
                    listener.closed(self._record, outcome)
            else:
                listener.closed(self._record, outcome)

    def _abandon(self, error: Exception) -> None:
        """Leaves the study so that it can be run again, whatever went wrong.

        Raises:
            StorageError: if that was the database; it says how to go on.
        """
        name = self._record.name
        with suppress(*_DATABASE_ERRORS, KeyError):  # KeyError: the study is gone
            self._give_back()
            self._record.note_state("interrupted", f"{type(error).__name__}")
        if isinstance(error, UpdateFinishedTrialError):
            message = f"{error}, or its study was deleted."
            raise StorageError(message, f"See: hpo show {name}") from error
        if isinstance(error, (SQLAlchemyError, StorageInternalError)):
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            message = f"storage {self._storage.url}: {cause}."
            raise StorageError(message, f"When it is back: hpo resume {name}") from error


def job_of(study: StudyRecord, trial: TrialRecord) -> Job:
    """What a trial of a study runs, or ran; running it again trains the same network.

    Raises:
        ObjectiveError: the study was not made by hpo.
    """
    plan, directory = study.plan, study.directory
    assert directory is not None  # noqa: S101 - a study with a plan has one
    seed = derive_seed(plan.spec.search.seed, trial.number, _TRAINING)
    folder = directory / f"trial-{trial.number:05d}"
    return Job(trial.number, plan.config(trial.params), seed, folder)


@dataclass
class _RunningTrial:
    """A trial between ask and tell."""

    trial: optuna.Trial
    log: MetricsLog

    def __post_init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.steps: set[int] = set()  # in which an objective was reported
        self._started = time.monotonic()

    @property
    def trial_id(self) -> int:
        return self.trial._trial_id

    @property
    def wall_seconds(self) -> float:
        return time.monotonic() - self._started


class MetricsLog:
    """A trial's metrics.jsonl: one line a step, with every metric; the storage has only one.

    Args:
        directory: The trial's folder. The log of an earlier attempt is kept beside the new one.
    """

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        path = directory / "metrics.jsonl"
        if path.exists():
            earlier = len(list(directory.glob("metrics*.jsonl")))
            path.rename(directory / f"metrics-{earlier}.jsonl")
        self._file: IO[str] = path.open("w", encoding="utf-8")

    def write(self, report: Report) -> None:
        """Writes one line, at once, so that a killed process loses none."""
        line = {
            "step": report.step,
            "time_ms": time.time_ns() // 1_000_000,
            "wall_seconds": report.wall_seconds,
            "metrics": dict(report.metrics),
        }
        self._file.write(json.dumps(line) + "\n")
        self._file.flush()

    def close(self) -> None:
        """Closes the file."""
        self._file.close()


def _noted(checks: Sequence[Check]) -> list[float]:
    """What Optuna is told of constraints: above 0 is violated, in numbers that a model can fit."""
    return [1.0 if check.value is None else min(check.excess, _MOST_EXCESS) for check in checks]


def _diverged(metric: str, value: float, step: int | None = None) -> Failure:
    where = "" if step is None else f" at step {step}"
    return Failure(FailureKind.DIVERGED, f"{metric} became {value}{where}")
