"""The trials that run here, from their start to their end: what they report, and what they come to.

The only place that knows which they are.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import TrialState

from hpo import retries
from hpo.aims import Aims
from hpo.audience import Audience
from hpo.catalog import StudyRecord
from hpo.data_watch import DataWatch
from hpo.errors import RunDirectoryError
from hpo.executors import Executor
from hpo.limits import Limits
from hpo.metrics_log import MetricsLog
from hpo.proposals import Proposal
from hpo.pruners import Rule
from hpo.storage import LeaseLostError
from hpo.trainers import Report
from hpo.trainers.config import FIELDS
from hpo.trial import (
    BASELINE,
    CONSTRAINTS,
    METRICS,
    MICRO_BATCH,
    N_STEPS,
    STOPPED_BY,
    Failure,
    FailureKind,
    Stopped,
)

_log = logging.getLogger(__name__)


class RunningTrials:
    """Starts trials, judges what they report, and writes how they end.

    All but `start` and `let_go` are of trials that are among them, and raise LeaseLostError where
    another driver has taken the trial over; `let_go` is what remains to be done then.

    Args:
        record: The study.
        study: The same, as Optuna sees it.
        rule: Stops trials early.
        executor: Runs them.
        limits: Note which trials end without the metric.
        audience: Hears of all of it.
        about: This driver.
    """

    def __init__(
        self,
        record: StudyRecord,
        study: optuna.Study,
        rule: Rule,
        executor: Executor,
        limits: Limits,
        audience: Audience,
        about: Mapping[str, Any],
    ) -> None:
        self._record, self._aims, self._storage = record, record.aims, record.storage
        self._study = study
        self._rule = rule
        self._executor = executor
        self._limits = limits
        self._audience = audience
        self._about = about
        self._data_watch = DataWatch(record)
        self._trials: dict[int, _RunningTrial] = {}  # by number

    def __contains__(self, number: int) -> bool:
        return number in self._trials

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def gpu_seconds(self) -> dict[int, float]:
        """What each running trial has taken of GPUs, by number."""
        return {number: running.gpu_seconds for number, running in self._trials.items()}

    def start(self, proposal: Proposal) -> None:
        """Starts a trial.

        Raises:
            RunDirectoryError: its folder cannot be written; the trial is put back.
        """
        number = proposal.record.number
        try:
            log = MetricsLog(proposal.job.directory)
        except RunDirectoryError as error:
            retries.put_back(self._storage, proposal.id, error.message)
            raise
        self._trials[number] = _RunningTrial(proposal, log)
        self._audience.started(proposal.record)
        self._executor.start(proposal.job)
        self.locate(number)

    def locate(self, number: int) -> None:
        """Notes where a trial runs, and on what data.

        Whether it uses a GPU, an inline one shows as it goes.
        """
        running, where = self._trials[number], self._executor.where(number)
        if where and where != running.where:
            running.where = where
            retries.begin_attempt(self._storage, running.id, {**self._about, **where})
            if "data" in where:
                self._data_watch.see(str(where["data"]))

    def report(self, number: int, report: Report) -> None:
        """Writes what a trial reports, and stops it if that does not bode well."""
        running = self._trials[number]
        for earlier in running.log.earlier(report.step):
            self._hear(running, earlier)
        running.log.write(report)
        self._hear(running, report)
        values = {
            name: report.metrics[name] for name in self._aims.metrics if name in report.metrics
        }
        for name, value in values.items():
            if not math.isfinite(value):
                self._executor.stop(number)
                self.tell(number, Failure.diverged(name, value, report.step))
                return
        if not values:  # reported, but not the metric: nothing to judge by
            return
        running.steps.add(report.step)
        if self._aims.several:  # steps are compared by one metric, in Optuna's tables, too
            return
        # Not by Optuna's trial.report, which ignores a second report of a step.
        value = values[self._aims.metrics[0]]
        if running.is_resumed and len(running.steps) == 1:
            self._storage.rewind(running.id, report.step)
        self._storage.set_trial_intermediate_value(running.id, report.step, value)
        frozen = self._storage.get_trial(running.id)
        if BASELINE in frozen.system_attrs:
            return  # run to its end, so that there is something to compare with
        if self._rule.prune(self._study, frozen):
            self._executor.stop(number)
            self.tell(number, Stopped(self._rule.reason(self._study, frozen)))

    def _hear(self, running: _RunningTrial, report: Report) -> None:
        running.metrics.update(report.metrics)
        self._audience.reported(running.number, report)

    def tell(self, number: int, result: Mapping[str, float] | Stopped | Failure) -> None:
        """Writes how a trial has ended.

        Raises:
            RunDirectoryError: there is no room on the disk; the trial is put back.
        """
        running = self._trials[number]
        if isinstance(result, Mapping):
            running.metrics.update(result)
        verdict = _judged(running.metrics, self._aims) if isinstance(result, Mapping) else result
        if isinstance(verdict, Failure) and self._tries_smaller(running, verdict):
            return
        if isinstance(verdict, Failure) and verdict.found_disk_full:
            self.put_back(number, verdict.summary)
            message = f"trial {number} found no room on the disk: {verdict.message}."
            raise RunDirectoryError(message, "Make room, then: hpo resume {study}")
        has_metric = all(name in running.metrics for name in self._aims.metrics)
        ended_without = isinstance(verdict, Failure) and verdict.kind is FailureKind.NO_METRIC
        self._limits.note_end(has_metric=has_metric or not ended_without)
        storage, trial_id = self._storage, running.id
        finite = {k: v for k, v in running.metrics.items() if math.isfinite(v)}
        storage.set_trial_user_attr(trial_id, METRICS, finite)
        retries.note_spent(storage, trial_id, running.wall_seconds)
        if self._aims.several:
            storage.set_trial_system_attr(trial_id, N_STEPS, len(running.steps))
        match verdict:
            case list() as values:
                if self._aims.constraints:
                    excesses = self._aims.excesses(finite)
                    storage.set_trial_system_attr(trial_id, CONSTRAINTS, excesses)
                self._tell_optuna(running, values)
            case Stopped(reason):
                storage.set_trial_system_attr(trial_id, STOPPED_BY, reason)
                self._tell_optuna(running, state=TrialState.PRUNED)
            case Failure() as failure:
                retries.fail(storage, trial_id, failure)
        self._end(number)

    def _tell_optuna(
        self,
        running: _RunningTrial,
        values: Sequence[float] | None = None,
        state: TrialState | None = None,
    ) -> None:
        try:
            self._study.tell(running.proposal.trial, values, state)
        except ValueError as error:  # it runs no longer, or did not get that far
            if self._storage.get_trial(running.id).state is TrialState.RUNNING:
                raise
            raise LeaseLostError(running.id, running.number) from error

    def lose(self, number: int, failure: Failure) -> None:
        """Puts back a trial whose process died, or gives it up."""
        running = self._trials[number]
        if not self._tries_smaller(running, failure):
            most = self._record.plan.spec.run.max_retries
            retries.retry(self._storage, running.id, failure, most, running.wall_seconds)
            self._end(number)

    def _tries_smaller(self, running: _RunningTrial, failure: Failure) -> bool:
        """Puts a trial back that ran out of memory, once, to be trained in smaller parts."""
        is_trainers = self._record.plan.spec.objective.trainer is not None
        if failure.kind is not FailureKind.OUT_OF_MEMORY or not is_trainers:
            return False
        if MICRO_BATCH in self._storage.get_trial(running.id).system_attrs:
            return False
        config = running.proposal.job.config
        whole = config.get("batch_size", FIELDS["batch_size"].default)
        at_once = int(str(config.get("micro_batch") or whole))
        self._storage.set_trial_system_attr(running.id, MICRO_BATCH, max(1, at_once // 4))
        self.put_back(running.number, failure.summary)
        return True

    def put_back(self, number: int, why: str) -> None:
        """Puts a trial back, to be taken up again from its last checkpoint."""
        running = self._trials[number]
        retries.put_back(self._storage, running.id, why, running.wall_seconds)
        self._end(number)

    def put_all_back(self, why: str) -> None:
        """Ends what runs; whoever goes on with it is alone in its folder."""
        self._executor.end(list(self._trials))
        for number in list(self._trials):
            with suppress(LeaseLostError):
                self.put_back(number, why)

    def let_go(self, number: int, why: str) -> None:
        """Ends a trial that another driver has taken over; its result would be refused."""
        running = self._trials.pop(number, None)
        if running is not None:
            self._executor.stop(number)
            running.log.close()
            self._storage.disown(running.id)
            _log.warning("%s; what it did here since is dropped", why)

    def _end(self, number: int) -> None:
        """Forgets a trial that was told or put back."""
        running = self._trials.pop(number)
        running.log.close()
        self._audience.ended(running.id)


@dataclass
class _RunningTrial:
    """A trial between ask and tell."""

    proposal: Proposal
    log: MetricsLog

    def __post_init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.steps: set[int] = set()  # in which an objective was reported
        self.where: Mapping[str, object] = {}
        self._started = time.monotonic()

    @property
    def id(self) -> int:
        return self.proposal.id

    @property
    def number(self) -> int:
        return self.proposal.record.number

    @property
    def is_resumed(self) -> bool:
        return self.proposal.record.attempts > 1

    @property
    def wall_seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def gpu_seconds(self) -> float:
        """GPUs times seconds so far; a share of a GPU counts as that share."""
        n_gpus = self.where.get("n_gpus", 0.0)
        assert isinstance(n_gpus, (int, float))  # noqa: S101 - executors say so
        return n_gpus * self.wall_seconds


def _judged(metrics: Mapping[str, float], aims: Aims) -> list[float] | Failure:
    """The objectives' values, or why there are none."""
    for name in aims.metrics:
        value = metrics.get(name)
        if value is None:
            return Failure.without(name, metrics)
        if not math.isfinite(value):
            return Failure.diverged(name, value)
    return [metrics[name] for name in aims.metrics]
