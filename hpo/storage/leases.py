"""Who drives a study, and who may write which trial.

A driver is a process that asks for trials, runs and tells them. It enters the study, says now and
then that it is alive (by the database's clock, so that nobody's own matters), and leaves. Each
trial that it runs is leased to it under a fencing number. Whoever takes a trial over raises that
number; every transaction that writes a trial first shows the number under which the trial was got,
and what a driver taken for dead delivers late is refused (Kleppmann 2016, "How to do distributed
locking").
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from hpo.storage import schema
from hpo.storage.database import Database
from hpo.storage.script import Script

_drivers, _leases = schema.drivers, schema.leases

_SINCE = "since"  # in what a driver says of itself


class LeaseLostError(Exception):
    """Another driver has taken the trial over; nothing was written."""

    def __init__(self, trial_id: int, number: int) -> None:
        super().__init__(f"trial {number} was taken over by another driver")
        self.trial_id = trial_id
        self.number = number


@dataclass(frozen=True)
class Driver:
    """A process that drives a study, or drove it.

    Args:
        id: Its own, made up.
        place: The smallest number that no other driver alive had when it came.
        began: When it came, in seconds since the epoch by the database's clock.
        beat: When it was last heard of.
        ended: When it left; None while it has not, or if it died.
        silence: Seconds since it was last heard of.
        about: What it said of itself: host, process.
    """

    id: str
    place: int
    began: float
    beat: float
    ended: float | None
    silence: float
    about: Mapping[str, Any]

    @property
    def since(self) -> float:
        """When the study was taken up, which was not without a driver from then on; as `began`."""
        return float(self.about.get(_SINCE, self.began))


@dataclass(frozen=True)
class Lease:
    """Who runs a trial, or ran it last.

    Args:
        trial_id: The trial's row.
        driver_id: The driver.
        fence: How often the trial was got.
        given: When it was got last, in seconds since the epoch by the database's clock; 0 where
            that was not read.
    """

    trial_id: int
    driver_id: str
    fence: int
    given: float = field(default=0.0, compare=False)


class Leases:
    """The drivers of studies and their leases.

    Args:
        database: Where they are.
    """

    def __init__(self, database: Database) -> None:
        self._database = database

    # --- drivers ---

    def enter(
        self, study_id: int, about: Mapping[str, Any], is_alive: Callable[[Driver], bool]
    ) -> Driver:
        """Notes a new driver.

        Args:
            study_id: What it drives.
            about: What it says of itself.
            is_alive: Whether an earlier driver is alive still.
        """
        driver_id = str(uuid.uuid4())
        clock = self._database.clock

        def enter(connection: sa.Connection) -> None:
            self._database.lock_study(connection, schema.studies, study_id)
            connection.execute(sa.delete(_drivers).where(_drivers.c.driver_id == driver_id))
            others = self._read(connection, study_id)
            alive = [other for other in others if is_alive(other)]
            taken = {other.place for other in alive}
            place = min(set(range(len(taken) + 1)) - taken)
            said = dict(about)
            if alive:
                said[_SINCE] = min(other.since for other in alive)
            row = {"driver_id": driver_id, "study_id": study_id, "place": place}
            insert = sa.insert(_drivers).values(
                **row, began=clock, beat=clock, about=json.dumps(said)
            )
            connection.execute(insert)

        self._database.write(enter)
        return next(each for each in self.drivers(study_id) if each.id == driver_id)

    def beat(self, driver_id: str) -> None:
        """Notes that a driver is alive.

        Raises:
            DatabaseAwayError: the database cannot be reached now.
        """
        update = sa.update(_drivers).where(_drivers.c.driver_id == driver_id)
        beat = update.values(beat=self._database.clock)
        self._database.write(lambda connection: connection.execute(beat), patient=False)

    def leave(self, driver_id: str) -> None:
        """Notes that a driver has ended in peace."""
        clock = self._database.clock
        leave = (
            sa.update(_drivers)
            .where(_drivers.c.driver_id == driver_id)
            .values(beat=clock, ended=clock)
        )
        self._database.write(lambda connection: connection.execute(leave))

    def drivers(self, study_id: int) -> list[Driver]:
        """All drivers that a study ever had, in the order in which they came."""
        return self._database.read(lambda connection: self._read(connection, study_id))

    def _read(self, connection: sa.Connection, study_id: int) -> list[Driver]:
        query = (
            sa.select(_drivers, self._database.clock.label("now"))
            .where(_drivers.c.study_id == study_id)
            .order_by(_drivers.c.began)
        )
        return [
            Driver(
                row.driver_id,
                row.place,
                row.began,
                row.beat,
                row.ended,
                float(row.now) - row.beat,
                json.loads(row.about),
            )
            for row in connection.execute(query)
        ]

    # --- leases ---

    def of(self, trial_ids: Sequence[int], *, patient: bool = True) -> dict[int, Lease]:
        """The leases of these trials, where they have one, by trial.

        Args:
            trial_ids: The trials.
            patient: Whether to wait while the database is away.

        Raises:
            DatabaseAwayError: it is away, and nobody is to wait.
        """
        if not trial_ids:
            return {}
        query = sa.select(_leases).where(_leases.c.trial_id.in_(list(trial_ids)))
        found = self._database.read(
            lambda connection: connection.execute(query).all(), patient=patient
        )
        return {
            row.trial_id: Lease(row.trial_id, row.driver_id, row.fence, row.given) for row in found
        }

    def give(self, script: Script, driver_id: str, token: str) -> None:
        """Leases a trial to a driver, within the transaction that gets it the trial.

        Args:
            script: That transaction.
            driver_id: The driver.
            token: By which the driver knows the trial again if the answer is lost.
        """
        script.add(
            "INSERT INTO hpo_leases (trial_id, driver_id, fence, token, given) "
            f"VALUES ({script.at}, %s, 1, %s, {self._database.clock_sql}) "
            "ON CONFLICT (trial_id) DO UPDATE SET driver_id = excluded.driver_id, "
            "fence = hpo_leases.fence + 1, token = excluded.token, given = excluded.given",
            driver_id,
            token,
        )

    def demand(self, script: Script, lease: Lease) -> None:
        """Begins a transaction that writes a leased trial, refused if it was taken over.

        Nobody can take it over until the end of the transaction.
        """
        script.add(
            "UPDATE hpo_leases SET fence = CASE WHEN fence = %s THEN fence END "
            f"WHERE trial_id = {script.at}",
            lease.fence,
        )

    def take_over(
        self, connection: sa.Connection, lease: Lease, driver_id: str, token: str
    ) -> Lease | None:
        """Raises the fencing number of a lapsed lease; None if somebody else was faster."""
        taken = (
            sa.update(_leases)
            .where(_leases.c.trial_id == lease.trial_id, _leases.c.fence == lease.fence)
            .values(driver_id=driver_id, fence=lease.fence + 1, token=token)
        )
        mine = sa.select(_leases.c.fence).where(
            _leases.c.trial_id == lease.trial_id, _leases.c.token == token
        )
        if connection.execute(taken).rowcount or connection.execute(mine).scalar():
            return Lease(lease.trial_id, driver_id, lease.fence + 1)
        return None

    def got(self, connection: sa.Connection, token: str) -> Lease | None:
        """The lease that was given under this token, if any: its answer may have been lost."""
        query = sa.select(_leases).where(_leases.c.token == token)
        row = connection.execute(query).first()
        return None if row is None else Lease(row.trial_id, row.driver_id, row.fence)
