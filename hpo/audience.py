"""Those who hear what happens in a study, and the best trial that they are told of."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import nullcontext

from hpo.catalog import StudyRecord
from hpo.interrupts import Interrupts
from hpo.listeners import Listener, Outcome
from hpo.trainers import Report
from hpo.trial import TrialRecord

_log = logging.getLogger(__name__)


class Audience:
    """The listeners of a study, as one.

    Args:
        record: The study.
        listeners: Are told of everything, in this order.
    """

    def __init__(self, record: StudyRecord, listeners: Sequence[Listener]) -> None:
        self._record = record
        self._listeners = listeners
        self._best: TrialRecord | None = None
        self._n_compared = 0  # finished trials that have been compared with the best one

    def opened(self) -> None:
        """The study begins, or goes on."""
        self._compare()
        for listener in self._listeners:
            listener.opened(self._record)

    def started(self, trial: TrialRecord) -> None:
        """A trial starts from nothing."""
        config = self._record.plan.flat_config(trial.params)
        for listener in self._listeners:
            listener.started(trial, config)

    def reported(self, number: int, report: Report) -> None:
        """A running trial reports a step."""
        for listener in self._listeners:
            listener.reported(number, report)

    def waiting(self, n_trials: int) -> None:
        """Nothing is left to start here, but other drivers run so many trials."""
        for listener in self._listeners:
            listener.waiting(n_trials)

    def draining(self, why: str) -> None:
        """An end was asked for, perhaps within a signal's handler, so nothing is raised here."""
        for listener in self._listeners:
            try:
                listener.draining(why, self._record.plan.spec.run.grace_period)
            except Exception:  # it may be anywhere, a trial included, which has not failed
                _log.exception("a listener could not be told that trials are to end")

    def ended(self, trial_id: int) -> None:
        """A trial was told or put back."""
        trial = self._record.trial(trial_id)
        self._compare()
        for listener in self._listeners:
            listener.ended(trial, self._best)

    def closed(self, outcome: Outcome, interrupts: Interrupts) -> None:
        """The study ends, or pauses: each is told, whatever the one before has made of it."""
        errors = []
        for listener in self._listeners:
            at_once = interrupts.received is None  # nothing is written here any more
            try:
                with interrupts.allowed(at_once=True) if at_once else nullcontext():
                    listener.closed(self._record, outcome)
            except KeyboardInterrupt:  # somebody does not want to wait for this one
                continue
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]

    def _compare(self) -> None:
        """Compares the best trial with those that have ended since, at any driver."""
        record, best = self._record, None if self._best is None else self._best.value
        self._n_compared, new = record.storage.contenders(
            record.id, self._n_compared, best, maximize=record.maximize
        )
        for trial in map(record.aims.read, new):
            if record.aims.beats(trial, self._best):
                self._best = trial
