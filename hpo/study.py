"""The loop: ask -> start -> report -> stop? -> tell.

What is to be tried is `hpo.proposals`' matter, what runs is `hpo.running_trials`'.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from sqlalchemy.exc import SQLAlchemyError

from hpo.audience import Audience
from hpo.catalog import StudyRecord
from hpo.drivers import this_process
from hpo.errors import HpoError, StorageError
from hpo.executors import Executor
from hpo.interrupts import Interrupts
from hpo.keeper import GivenUp, Gone, Keeper, TakenAway
from hpo.limits import TIMEOUT, Limits
from hpo.listeners import Listener, Outcome
from hpo.proposals import Proposals
from hpo.pruners import Rule
from hpo.running_trials import RunningTrials
from hpo.samplers import SpaceSampler
from hpo.storage import Driver, LeaseLostError
from hpo.trial import CONSTRAINTS, Drained, Ended, Event, Lost, Reported

_DATABASE_ERRORS = (SQLAlchemyError, UpdateFinishedTrialError, StorageError, LeaseLostError)

_LOOK_SECONDS = 0.5  # how often it is looked whether there is something to do from elsewhere


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
        self._record, self._storage = record, record.storage
        self._run_spec = record.plan.spec.run
        self._sampler = sampler
        self._executor = executor
        self._about = this_process()
        self._audience = Audience(record, listeners)
        self._limits = Limits(record)
        study = optuna.load_study(
            study_name=record.name, storage=record.storage, sampler=sampler, pruner=rule
        )
        self._proposals = Proposals(record, study, sampler, self._audience, self._about)
        self._running = RunningTrials(
            record, study, rule, executor, self._limits, self._audience, self._about
        )
        grace = self._run_spec.grace_period
        self._interrupts = Interrupts(self._drain, self._storage.database.hurry, grace)
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
            if not self._interrupts.why:
                self._interrupts.settle()
            self._audience.closed(outcome, self._interrupts)
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
        reached = self._limits.reached(self._running.gpu_seconds)
        if reached is not None and reached.state == "failed":
            self._running.put_all_back(reached.reason)  # nobody wants to see them fail, too
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
            self._audience.waiting(n_elsewhere)
        if reached is not None and self._has_waited_enough:
            return True
        # The last of them may just have ended that a trial here waits for.
        return n_elsewhere == 0 and not self._wants_more()

    @property
    def _has_waited_enough(self) -> bool:
        """Whether those who share a spent budget have ended, or would have been taken for dead."""
        run = self._run_spec
        waited = time.monotonic() - self._waits_since if self._waits_since else 0.0
        return waited > run.lease + run.grace_period

    def _fill(self) -> None:
        """Starts as many trials as there is room for."""
        while not self._interrupts.why and self._executor.free and self._wants_more():
            try:
                proposal = self._proposals.next()
                if proposal is not None:
                    self._running.start(proposal)
            except LeaseLostError as lost:  # this driver was frozen just now
                self._running.let_go(lost.number, str(lost))

    def _wants_more(self) -> bool:
        return self._limits.reached(self._running.gpu_seconds) is None and self._proposals.any

    def _wait(self) -> Sequence[Event]:
        try:
            with self._interrupts.allowed():
                return self._executor.events(_LOOK_SECONDS)
        except KeyboardInterrupt:
            if not self._interrupts.of_budget:
                raise
            # The grace is over; but other drivers' trials may have some time yet.
            self._running.put_all_back(self._interrupts.why)
            return []

    def _handle(self, event: Event) -> None:
        if event.trial not in self._running:  # it was taken away meanwhile
            return
        try:
            self._running.locate(event.trial)
            match event:
                case Reported(number, report):
                    self._running.report(number, report)
                case Ended(number, result):
                    self._running.tell(number, result)
                case Lost(number, failure):
                    self._running.lose(number, failure)
                case Drained(number):
                    self._running.put_back(number, self._interrupts.why or "drained")
        except LeaseLostError as lost:
            self._running.let_go(event.trial, str(lost))

    def _hear(self, keeper: Keeper) -> None:
        for news in keeper.news():
            match news:
                case Gone():
                    there = f"study '{self._record.name}' was deleted while it ran"
                    gone = f"{there}, or {self._storage.url} was."
                    raise StorageError(gone, "Run it again: hpo run FILE")
                case GivenUp(trial_id):
                    self._audience.ended(trial_id)
                case TakenAway(lease) if lease in self._storage.held(self._record.id):
                    number = self._record.trial(lease.trial_id).number
                    self._running.let_go(number, f"trial {number} was taken over by another driver")

    # --- beginning and end ---

    def _enter(self) -> Driver:
        self._storage.database.patience_seconds = self._run_spec.storage_retry
        driver = self._storage.leases.enter(self._record.id, self._about, self._record.is_alive)
        self._driver = driver
        self._storage.drive(driver.id, self._limits.of_failures(since=driver.since))
        self._sampler.place = driver.place
        self._interrupts.ask_in(self._limits.begin(), TIMEOUT)
        return driver

    def _open(self, keeper: Keeper) -> None:
        keeper.take_over()
        self._note_constraints()
        self._record.note_state("running")
        self._audience.opened()

    def _note_constraints(self) -> None:
        """Notes anew how far finished trials keep the constraints, which may have changed."""
        for trial in self._record.trials():
            noted = self._record.aims.excesses({**trial.values, **trial.metrics})
            before = self._storage.get_trial(trial.id).system_attrs.get(CONSTRAINTS, [])
            if trial.state == "COMPLETE" and noted != before:
                self._storage.annotate(trial.id, CONSTRAINTS, noted)

    def _verdict(self) -> Outcome:
        reached = self._limits.reached(self._running.gpu_seconds)
        if reached is not None:
            return reached
        gave_up = "no further configuration that meets `require` was found"
        return self._limits.over(gave_up if self._sampler.gave_up else "")

    def _drain(self, why: str) -> None:
        self._executor.drain()
        if self._running:
            self._audience.draining(why)

    def _interrupted(self) -> Outcome:
        why = self._interrupts.why or "stopped by a signal"
        self._running.put_all_back(why)
        return Outcome("interrupted", why, self._interrupts.received)

    def _leave(self, state: str, reason: str) -> None:
        self._storage.flush()
        self._record.note_state(state, reason)
        if self._driver is not None:
            self._storage.leases.leave(self._driver.id)
        self._storage.drive(None)

    def _abandon(self, error: Exception) -> None:
        """Leaves the study so that it can be run again, whatever went wrong.

        Raises:
            StorageError: if that was the database; it says how to go on.
        """
        name = self._record.name
        self._storage.database.hurry()  # it has been waited for
        if isinstance(error, HpoError):
            error.for_study(name)
            if self._interrupts.why and not self._interrupts.of_budget:
                error.interrupted_by(self._interrupts.received or signal.SIGINT)
        with suppress(*_DATABASE_ERRORS, KeyError):  # KeyError: the study is gone
            self._interrupted()
            self._leave("interrupted", str(error).partition("\n")[0] or type(error).__name__)
        if isinstance(error, UpdateFinishedTrialError):
            message = f"{error}, or its study was deleted."
            raise StorageError(message, f"See: hpo show {name}") from error
        if isinstance(error, SQLAlchemyError):
            cause = str(error.__cause__ or error).strip().splitlines()[0]
            message = f"storage {self._storage.url}: {cause}."
            raise StorageError(message, f"When it is back: hpo resume {name}") from error
