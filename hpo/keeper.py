"""What a driver does besides: shows that it lives, and looks after trials whose driver is dead.

It is a thread, since an inline trial keeps the main one for an epoch or more. It touches nothing
but the storage; what the study must know it tells as news.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from optuna.exceptions import UpdateFinishedTrialError
from sqlalchemy.exc import SQLAlchemyError

from hpo import retries
from hpo.catalog import StudyRecord
from hpo.drivers import named
from hpo.errors import HpoError, StorageError
from hpo.storage import DatabaseAwayError, Driver, Lease, LeaseLostError
from hpo.trial import Failure, FailureKind

_MOST_SECONDS = 5.0  # between two looks, however long the lease

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class GivenUp:
    """A trial that another driver lost has failed, since it was tried too often."""

    trial_id: int


@dataclass(frozen=True)
class TakenAway:
    """A trial of this driver's was taken over by another.

    Args:
        lease: What it was run under; this driver may have got the trial anew since.
    """

    lease: Lease


@dataclass(frozen=True)
class Gone:
    """The study was deleted, or the file of its database was."""


News: TypeAlias = GivenUp | TakenAway | Gone


class Keeper:
    """Keeps a driver's leases, and takes over those that lapse.

    Args:
        record: The study.
        driver: This driver.
        on_stop: Called when somebody asks all drivers to stop (`hpo stop`), from the thread.
    """

    def __init__(self, record: StudyRecord, driver: Driver, on_stop: Callable[[str], None]) -> None:
        self._record, self._driver, self._on_stop = record, driver, on_stop
        self._storage, self._leases = record.storage, record.storage.leases
        run = record.plan.spec.run
        self._max_retries = run.max_retries
        self._seconds = min(run.lease / 6, _MOST_SECONDS)
        self._lease_seconds = record.lease_seconds
        self._stops = record.stops
        self._news: queue.SimpleQueue[News] = queue.SimpleQueue()
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)

    def __enter__(self) -> Keeper:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()

    def news(self) -> Sequence[News]:
        """What has happened since this was asked last."""
        found = []
        while not self._news.empty():
            found.append(self._news.get())
        return found

    def _keep(self) -> None:
        while not self._done.wait(self._seconds):
            try:
                self._look()
            except DatabaseAwayError:  # it is said by the storage
                continue
            except Exception as error:  # whatever it is, the next look may go well
                if self._is_gone():
                    self._news.put(Gone())
                    return
                said = error.message if isinstance(error, HpoError) else error
                _log.warning("this driver could not show that it is alive: %s", said)

    def _look(self) -> None:
        if self._is_gone():
            raise StorageError(f"study '{self._record.name}' is gone.")
        # Before all else, what was taken away: a driver that was frozen must not go on with it.
        self._look_for_taken()
        self._leases.beat(self._driver.id)
        self._storage.flush_started()
        if self._record.stops > self._stops:
            self._on_stop("stopped by hpo stop")
        elif self._may_judge:
            self.take_over()

    @property
    def _may_judge(self) -> bool:
        """Whether silence tells anything.

        While the database was away, no driver could show that it lives: after that, all of them get
        the time of a lease to do so.
        """
        return time.monotonic() - self._storage.database.back_at >= self._lease_seconds

    def _is_gone(self) -> bool:
        """Whether the study was deleted, or the database of which it is a part."""
        try:
            return self._record.is_gone
        except (DatabaseAwayError, SQLAlchemyError, StorageError):
            return False

    def _look_for_taken(self) -> None:
        held = self._storage.held(self._record.id)
        now = self._leases.of([lease.trial_id for lease in held], patient=False)
        for lease in held:
            if now.get(lease.trial_id, lease).fence != lease.fence:
                self._news.put(TakenAway(lease))

    def take_over(self) -> None:
        """Puts back every trial whose driver is dead."""
        for lease, driver in self._record.lapsed():
            trial = self._storage.take_over(lease)
            if trial is None:
                continue
            seconds = max(0.0, driver.beat - lease.given) if driver else 0.0
            who = f"its driver ({named(driver.about)})" if driver else "its driver"
            how = "left" if driver and driver.ended else "died or fell silent"
            failure = Failure(FailureKind.LOST, f"{who} {how}")
            _log.warning("trial %d is taken over: %s", trial.number, failure.message)
            try:
                most = self._max_retries
                if not retries.retry(self._storage, lease.trial_id, failure, most, seconds):
                    self._news.put(GivenUp(lease.trial_id))
            except (LeaseLostError, UpdateFinishedTrialError):  # this driver was frozen itself
                continue
