"""The loop: ask -> start -> report -> stop? -> tell."""

from __future__ import annotations

import logging
import math
import signal
import time
import warnings
from collections.abc import Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState
from sqlalchemy.exc import SQLAlchemyError

from hpo import retries
from hpo.catalog import StudyRecord
from hpo.drivers import this_process
from hpo.errors import HpoError, RunDirectoryError, SpaceExhaustedError, StorageError
from hpo.executors import Executor
from hpo.interrupts import Interrupts
from hpo.keeper import GivenUp, Gone, Keeper, TakenAway
from hpo.limits import TIMEOUT, Limits
from hpo.listeners import Listener, Outcome
from hpo.metrics_log import MetricsLog
from hpo.pruners import Rule
from hpo.requirements import Check
from hpo.samplers import SpaceSampler, derive_seed
from hpo.storage import Driver, LeaseLostError, TooManyFailuresError
from hpo.trial import (
    BASELINE,
    CONSTRAINTS,
    ENQUEUED,
    GPU_SECONDS,
    METRICS,
    MICRO_BATCH,
    N_STEPS,
    STOPPED_BY,
    SUGGESTED,
    WALL_SECONDS,
    Drained,
    Ended,
    Event,
    Failure,
    FailureKind,
    Job,
    Lost,
    Reported,
    Stopped,
    TrialRecord,
)
from search_spaces import Scalar, SpaceError
from trainers import Report
from trainers.config import FIELDS

_DATABASE_ERRORS = (SQLAlchemyError, UpdateFinishedTrialError, StorageError, LeaseLostError)

_MOST_EXCESS = 1e6  # a value a million times its threshold is as bad as any

_TRAINING = 1  # keeps a trial's seed apart from its sampler's

_LOOK_SECONDS = 0.5  # how often it is looked whether there is something to do from elsewhere

_log = logging.getLogger(__name__)


class Study:
    """Runs a study until it has its trials, its time is up, or somebody stops it.

    Any number of these, each in a process of its own, may run one study.

    Args:
        record: The study in its storage.
        sampler: Chooses configurations.
        rule: Stops trials early.
        executor: Runs trials.
        listeners: Hear what happens.
    """

    def __init__(
        self,
        record: StudyRecord,
        sampler: SpaceSampler,
        rule: Rule,
        executor: Executor,
        listeners: Sequence[Listener] = (),
    ) -> None:
        self._record = record
        self._plan = record.plan
        self._aims = record.aims
        self._storage = record.storage
        self._sampler = sampler
        self._rule = rule
        self._executor = executor
        self._listeners = listeners
        self._optuna = optuna.load_study(
            study_name=record.name, storage=record.storage, sampler=sampler, pruner=rule
        )
        self._running: dict[int, _RunningTrial] = {}
        grace = self._plan.spec.run.grace_period
        self._interrupts = Interrupts(self._drain, self._storage.database.hurry, grace)
        self._best: TrialRecord | None = None
        self._n_compared = 0  # finished trials that have been compared with the best one
        self._limits = Limits(record)
        self._about = this_process()
        self._driver: Driver | None = None
        self._waits_since = 0.0  # that others' trials end

    def run(self) -> Outcome:
        """Runs the loop; what an interrupt or an error leaves behind can be run again.

        Raises:
            StorageError: the database went away, or somebody deleted the study.
        """
        with self._interrupts.handled():
            try:
                outcome = self._loop()
                self._leave(outcome.state, outcome.reason)
            except Exception as error:
                self._abandon(error)
                raise
            self._close(outcome)
        return outcome

    def _loop(self) -> Outcome:
        try:
            with Keeper(self._record, self._enter(), self._interrupts.ask) as keeper:
                self._open(keeper)
                while not self._done():
                    self._fill()
                    for event in self._wait():
                        self._handle(event)
                    self._hear(keeper)
                return self._verdict()
        except KeyboardInterrupt:
            return self._interrupted()

    # --- the steps of the loop ---

    def _done(self) -> bool:
        """Whether nothing runs and nothing is to run, here or at another driver's."""
        reached = self._limits.reached(self._gpu_seconds)
        if reached is not None and reached.state == "failed":
            self._put_all_back(reached.reason)  # nobody wants to see them fail, too
        if reached is not None and self._running:
            self._interrupts.ask(reached.reason, of_budget=True)
        if self._running:
            return False
        if self._interrupts.why and not self._interrupts.of_budget:
            raise KeyboardInterrupt
        if reached is not None:
            self._interrupts.settle()
        if self._wants_more():
            return False
        # What another driver loses, this one is to go on with.
        n_elsewhere = len(self._record.leased())
        if n_elsewhere and not self._waits_since:
            self._waits_since = time.monotonic()
            for listener in self._listeners:
                listener.waiting(n_elsewhere)
        if reached is not None and self._has_waited_enough:
            return True
        # The last of them may just have ended that a trial here waits for.
        return n_elsewhere == 0 and not self._wants_more()

    @property
    def _has_waited_enough(self) -> bool:
        """Whether those who share a spent budget have ended, or would have been taken for dead."""
        run = self._plan.spec.run
        waited = time.monotonic() - self._waits_since if self._waits_since else 0.0
        return waited > run.lease + run.grace_period

    def _fill(self) -> None:
        """Starts as many trials as there is room for."""
        while not self._interrupts.why and self._executor.free and self._wants_more():
            try:
                job = self._ask()
                if job is not None:
                    self._start(job)
            except LeaseLostError as lost:  # this driver was frozen just now
                self._let_go(lost.number, str(lost))

    def _wants_more(self) -> bool:
        if self._limits.reached(self._gpu_seconds) is not None:
            return False
        if self._storage.n_ready(self._record.id):
            return True
        counts = self._storage.counts(self._record.id)
        wanted = self._plan.trials
        has_room = wanted is None or sum(counts.values()) < wanted
        return has_room and not self._sampler.exhausted(self._optuna)

    def _ask(self) -> Job | None:
        """Asks for a trial and writes it; None if another driver was faster, or it has to wait."""
        trial = self._optuna.ask()
        trial_id, space = trial._trial_id, self._plan.space
        retries.begin_attempt(self._storage, trial_id, self._about)
        attrs = self._storage.get_trial(trial_id).system_attrs
        try:
            params = self._suggest(trial)
        except SpaceExhaustedError:
            return None
        except TooManyFailuresError as refused:  # it was enqueued in part, and the space exhausted
            retries.put_back(self._storage, trial_id, str(refused))
            return None
        except (SpaceError, TypeError, ValueError) as error:
            if ENQUEUED not in attrs:
                raise
            self._refuse(trial_id, f"it was enqueued with what the space does not have: {error}")
            return None
        if self._sampler.is_baseline(params):
            self._storage.set_trial_system_attr(trial_id, BASELINE, True)
        if SUGGESTED not in attrs:  # it is not taken up again
            how = "by hand, enqueued" if ENQUEUED in attrs else self._sampler.how
            self._storage.set_trial_system_attr(trial_id, SUGGESTED, how)
        if not self._storage.admit(trial_id, key=space.key(params), limit=self._plan.trials):
            return None
        record = self._read(trial_id)
        job = job_of(self._record, record)
        try:
            log = MetricsLog(job.directory)
        except RunDirectoryError as error:
            retries.put_back(self._storage, trial_id, error.message)
            raise
        self._running[record.number] = _RunningTrial(trial, log, job, record.attempts > 1)
        return job

    def _suggest(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """The free parameters of a trial.

        Raises:
            SpaceExhaustedError: there is nothing left to suggest.
            SpaceError, TypeError, ValueError: somebody enqueued what the space does not have.
        """
        space, distributions = self._plan.space, self._plan.space.distributions()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's, of an enqueued value that is out of range
            config = space.walk(lambda p: trial._suggest(p.name, distributions[p.name]))
        return space.free_params(config)

    def _refuse(self, trial_id: int, why: str) -> None:
        """Fails a trial that cannot be run."""
        retries.fail(self._storage, trial_id, Failure(FailureKind.CRASHED, why))
        self._announce(self._read(trial_id))

    def _start(self, job: Job) -> None:
        running = self._running[job.trial]
        record = self._read(running.trial_id)
        shown = self._plan.flat_config(record.params)
        for listener in self._listeners:
            listener.started(record, shown)
        self._executor.start(job)
        self._locate(job.trial)

    def _locate(self, number: int) -> None:
        """Notes where a trial runs; whether it uses a GPU, an inline one shows as it goes."""
        running, where = self._running[number], self._executor.where(number)
        if where and where != running.where:
            running.where = where
            retries.begin_attempt(self._storage, running.trial_id, {**self._about, **where})

    def _wait(self) -> Sequence[Event]:
        try:
            with self._interrupts.allowed():
                return self._executor.events(_LOOK_SECONDS)
        except KeyboardInterrupt:
            if not self._interrupts.of_budget:
                raise
            # The grace is over; but other drivers' trials may have some time yet.
            self._put_all_back(self._interrupts.why)
            return []

    def _handle(self, event: Event) -> None:
        if event.trial not in self._running:  # it was taken away meanwhile
            return
        try:
            self._locate(event.trial)
            match event:
                case Reported(number, report):
                    self._report(number, report)
                case Ended(number, result):
                    self._tell(number, result)
                case Lost(number, failure):
                    self._lose(number, failure)
                case Drained(number):
                    self._put_back(number, self._interrupts.why or "drained")
        except LeaseLostError as lost:
            self._let_go(event.trial, str(lost))

    def _report(self, number: int, report: Report) -> None:
        running = self._running[number]
        for earlier in running.log.earlier(report.step):
            self._hear_of(running, earlier)
        running.log.write(report)
        self._hear_of(running, report)
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
        if running.is_resumed and len(running.steps) == 1:
            self._storage.rewind(running.trial_id, report.step)
        self._storage.set_trial_intermediate_value(running.trial_id, report.step, value)
        frozen = self._storage.get_trial(running.trial_id)
        if BASELINE in frozen.system_attrs:
            return  # run to its end, so that there is something to compare with
        if self._rule.prune(self._optuna, frozen):
            self._executor.stop(number)
            self._tell(number, Stopped(self._rule.reason(self._optuna, frozen)))

    def _hear_of(self, running: _RunningTrial, report: Report) -> None:
        running.metrics.update(report.metrics)
        for listener in self._listeners:
            listener.reported(running.job.trial, report)

    def _tell(self, number: int, result: Mapping[str, float] | Stopped | Failure) -> None:
        running = self._running[number]
        if isinstance(result, Mapping):
            running.metrics.update(result)
        verdict = self._judged(running.metrics) if isinstance(result, Mapping) else result
        if isinstance(verdict, Failure) and self._tries_smaller(running, verdict):
            return
        if isinstance(verdict, Failure) and verdict.found_disk_full:
            self._put_back(number, verdict.summary)
            message = f"trial {number} found no room on the disk: {verdict.message}."
            raise RunDirectoryError(message, f"Make room, then: hpo resume {self._record.name}")
        has_metric = all(name in running.metrics for name in self._aims.metrics)
        self._limits.note_end(has_metric=has_metric or not isinstance(result, Mapping))
        storage, trial_id = self._storage, running.trial_id
        finite = {k: v for k, v in running.metrics.items() if math.isfinite(v)}
        storage.set_trial_user_attr(trial_id, METRICS, finite)
        storage.set_trial_system_attr(trial_id, WALL_SECONDS, running.wall_seconds)
        if running.gpu_seconds:
            before = storage.get_trial(trial_id).system_attrs.get(GPU_SECONDS, 0.0)
            storage.set_trial_system_attr(trial_id, GPU_SECONDS, before + running.gpu_seconds)
        if self._aims.several:
            storage.set_trial_system_attr(trial_id, N_STEPS, len(running.steps))
        match verdict:
            case list() as values:
                if self._aims.constraints:
                    noted = _noted(self._aims.checks(finite))
                    storage.set_trial_system_attr(trial_id, CONSTRAINTS, noted)
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
            self._optuna.tell(running.trial, values, state)
        except ValueError as error:  # it runs no longer, or did not get that far
            if self._storage.get_trial(running.trial_id).state is TrialState.RUNNING:
                raise
            raise LeaseLostError(running.trial_id, running.job.trial) from error

    def _lose(self, number: int, failure: Failure) -> None:
        """Puts back a trial whose process died, or gives it up."""
        running = self._running[number]
        if not self._tries_smaller(running, failure):
            most = self._plan.spec.run.max_retries
            retries.retry(self._storage, running.trial_id, failure, most, running.gpu_seconds)
            self._end(number)

    def _tries_smaller(self, running: _RunningTrial, failure: Failure) -> bool:
        """Puts a trial back that ran out of memory, once, to be trained in smaller parts."""
        is_trainers = self._plan.spec.objective.trainer is not None
        if failure.kind is not FailureKind.OUT_OF_MEMORY or not is_trainers:
            return False
        config, trial_id = running.job.config, running.trial_id
        if MICRO_BATCH in self._storage.get_trial(trial_id).system_attrs:
            return False
        whole = config.get("batch_size", FIELDS["batch_size"].default)
        at_once = int(str(config.get("micro_batch") or whole))
        self._storage.set_trial_system_attr(trial_id, MICRO_BATCH, max(1, at_once // 4))
        self._put_back(running.job.trial, failure.summary)
        return True

    def _put_back(self, number: int, why: str) -> None:
        """Puts a trial back, to be taken up again from its last checkpoint."""
        running = self._running[number]
        retries.put_back(self._storage, running.trial_id, why, running.gpu_seconds)
        self._end(number)

    def _end(self, number: int) -> None:
        """Forgets a trial that was told or put back, and tells the listeners."""
        running = self._running.pop(number)
        running.log.close()
        self._announce(self._read(running.trial_id))

    def _let_go(self, number: int, why: str) -> None:
        """Ends a trial that another driver has taken over; its result would be refused."""
        running = self._running.pop(number, None)
        if running is not None:
            self._executor.stop(number)
            running.log.close()
            self._storage.disown(running.trial_id)
            _log.warning("%s; what it did here since is dropped", why)

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
        self._compare()
        for listener in self._listeners:
            listener.ended(trial, self._best)

    def _compare(self) -> None:
        """Compares the best trial with those that have ended since, at any driver."""
        best = None if self._best is None else self._best.value
        self._n_compared, new = self._storage.contenders(
            self._record.id, self._n_compared, best, maximize=self._record.maximize
        )
        for trial in map(self._aims.read, new):
            if self._aims.beats(trial, self._best):
                self._best = trial

    def _read(self, trial_id: int) -> TrialRecord:
        return self._aims.read(self._storage.get_trial(trial_id))

    def _hear(self, keeper: Keeper) -> None:
        for news in keeper.news():
            match news:
                case Gone():
                    there = f"study '{self._record.name}' was deleted while it ran"
                    gone = f"{there}, or {self._storage.url} was."
                    raise StorageError(gone, "Run it again: hpo run FILE")
                case GivenUp(trial_id):
                    self._announce(self._read(trial_id))
                case TakenAway(lease) if lease in self._storage.held(self._record.id):
                    number = self._read(lease.trial_id).number
                    self._let_go(number, f"trial {number} was taken over by another driver")

    # --- beginning and end ---

    def _enter(self) -> Driver:
        self._storage.database.patience_seconds = self._plan.spec.run.storage_retry
        driver = self._storage.leases.enter(self._record.id, self._about, self._record.is_alive)
        self._driver = driver
        self._storage.drive(driver.id, self._limits.of_failures(since=driver.since))
        self._sampler.place = driver.place
        self._interrupts.ask_in(self._limits.begin(), TIMEOUT)
        return driver

    def _open(self, keeper: Keeper) -> None:
        keeper.take_over()
        self._note_constraints()
        self._compare()
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

    def _verdict(self) -> Outcome:
        reached = self._limits.reached(self._gpu_seconds)
        if reached is not None:
            return reached
        gave_up = "no further configuration that meets `require` was found"
        return self._limits.over(gave_up if self._sampler.gave_up else "")

    @property
    def _gpu_seconds(self) -> dict[int, float]:
        return {number: running.gpu_seconds for number, running in self._running.items()}

    def _drain(self, why: str) -> None:
        self._executor.drain()
        if self._running:
            for listener in self._listeners:
                try:
                    listener.draining(why, self._plan.spec.run.grace_period)
                except Exception:  # it may be anywhere, a trial included, which has not failed
                    _log.exception("a listener could not be told that trials are to end")

    def _interrupted(self) -> Outcome:
        why = self._interrupts.why or "stopped by a signal"
        self._put_all_back(why)
        return Outcome("interrupted", why, self._interrupts.received)

    def _put_all_back(self, why: str) -> None:
        """Ends what runs; whoever goes on with it is alone in its folder."""
        self._executor.end(list(self._running))
        for number in list(self._running):
            with suppress(LeaseLostError):
                self._put_back(number, why)

    def _leave(self, state: str, reason: str) -> None:
        self._storage.flush()
        self._record.note_state(state, reason)
        if self._driver is not None:
            self._storage.leases.leave(self._driver.id)
        self._storage.drive(None)

    def _close(self, outcome: Outcome) -> None:
        """Tells the listeners, each of them, whatever the one before has made of it."""
        if not self._interrupts.why:
            self._interrupts.settle()
        errors = []
        for listener in self._listeners:
            at_once = self._interrupts.received is None  # nothing is written here any more
            try:
                with self._interrupts.allowed(at_once=True) if at_once else nullcontext():
                    listener.closed(self._record, outcome)
            except KeyboardInterrupt:  # somebody does not want to wait for this one
                continue
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _abandon(self, error: Exception) -> None:
        """Leaves the study so that it can be run again, whatever went wrong.

        Raises:
            StorageError: if that was the database; it says how to go on.
        """
        name = self._record.name
        self._storage.database.hurry()  # it has been waited for
        if isinstance(error, HpoError) and self._interrupts.why and not self._interrupts.of_budget:
            error.exit_code = 128 + (self._interrupts.received or signal.SIGINT)
        with suppress(*_DATABASE_ERRORS, KeyError):  # KeyError: the study is gone
            self._interrupted()
            self._leave("interrupted", str(error).partition("\n")[0] or type(error).__name__)
        if isinstance(error, HpoError) and "hpo resume STUDY" in error.next_step:
            error.next_step = error.next_step.replace("STUDY", name)
        if isinstance(error, UpdateFinishedTrialError):
            message = f"{error}, or its study was deleted."
            raise StorageError(message, f"See: hpo show {name}") from error
        if isinstance(error, SQLAlchemyError):
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
    config = plan.config(trial.params)
    if trial.micro_batch is not None:
        config["micro_batch"] = trial.micro_batch
    return Job(trial.number, config, seed, folder)


@dataclass
class _RunningTrial:
    """A trial between ask and tell."""

    trial: optuna.Trial
    log: MetricsLog
    job: Job
    is_resumed: bool

    def __post_init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.steps: set[int] = set()  # in which an objective was reported
        self.where: Mapping[str, object] = {}
        self._started = time.monotonic()

    @property
    def trial_id(self) -> int:
        return self.trial._trial_id

    @property
    def wall_seconds(self) -> float:
        return time.monotonic() - self._started

    @property
    def gpu_seconds(self) -> float:
        """Of its GPUs, a share of one counts as that share."""
        n_gpus = self.where.get("n_gpus", 0.0)
        assert isinstance(n_gpus, (int, float))  # noqa: S101 - executors say so
        return n_gpus * self.wall_seconds


def _noted(checks: Sequence[Check]) -> list[float]:
    """What Optuna is told of constraints: above 0 is violated, in numbers that a model can fit."""
    return [1.0 if check.value is None else min(check.excess, _MOST_EXCESS) for check in checks]


def _diverged(metric: str, value: float, step: int | None = None) -> Failure:
    where = "" if step is None else f" at step {step}"
    return Failure(FailureKind.DIVERGED, f"{metric} became {value}{where}")
