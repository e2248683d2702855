"""Trials that this process writes: what is pending of each, in one transaction per event."""

from __future__ import annotations

import time
import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Any

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from hpo.storage import rows, schema, studies
from hpo.storage.database import Database, study_gone
from hpo.storage.known import KnownStudy
from hpo.storage.leases import Lease, LeaseLostError, Leases
from hpo.storage.rows import FailureLimits
from hpo.storage.script import RefusedError, Script

KEY = "hpo:key"
"""System attribute by which trials are told apart."""


class TooManyFailuresError(Exception):
    """No more trials may fail, so the study has failed; nothing was written."""

    def __init__(self, number: int) -> None:
        super().__init__(f"trial {number} failed when its study had failed already")


class NotAdmittedError(Exception):
    """A new trial is one too many, or repeats another; or one that waited repeats what runs."""


@dataclass
class OpenTrial:
    """A trial that this process writes, and what of it the database does not have yet."""

    study_id: int
    trial: FrozenTrial
    row_id: int | None = None
    lease: Lease | None = None
    params: set[str] = field(default_factory=set)
    user_attrs: set[str] = field(default_factory=set)
    system_attrs: set[str] = field(default_factory=set)
    steps: set[int] = field(default_factory=set)
    forgets_from: int | None = None  # steps that an earlier attempt reported are to go, from here
    written_at: float = 0.0
    recent: rows.Recent | None = None  # of a draft: what was not known when it was asked for
    token: str = field(default_factory=lambda: str(uuid.uuid4()))

    @property
    def dirty(self) -> bool:
        return self.row_id is None or self.forgets_from is not None or any(self._pending)

    def written(self, row_id: int, number: int, lease: Lease | None) -> None:
        """Notes that the database now has all of it."""
        self.row_id, self.trial._trial_id, self.trial.number = row_id, row_id, number
        self.lease = lease
        self.forgets_from = None
        for keys in self._pending:
            keys.clear()
        self.written_at = time.monotonic()

    @property
    def _pending(self) -> tuple[set[Any], ...]:
        return self.params, self.user_attrs, self.system_attrs, self.steps


class Commits:
    """Writes open trials, under the leases of this process.

    Args:
        database: Where to.
        leases: Who may write which trial.

    Attributes:
        driver_id: Whom trials are leased to that this process gets from now on; None is nobody.
        failures: How many of the study's trials may fail.
    """

    def __init__(self, database: Database, leases: Leases) -> None:
        self._database = database
        self._leases = leases
        self.driver_id: str | None = None
        self.failures: FailureLimits | None = None

    def claim(self, row_id: int, study: KnownStudy, mine: Collection[int]) -> Lease | None:
        """WAITING -> RUNNING, for exactly one of the processes that try.

        Args:
            row_id: The trial.
            study: What is known of its study.
            mine: The trials that this process writes.

        Raises:
            RefusedError: another was faster, or the trial repeats one that runs.
        """
        token = str(uuid.uuid4())

        def claimed() -> Script:
            script = self._script(row_id)
            rows.lock(script, study.study_id)
            rows.claim(script)
            rows.demand_no(script, rows.twin(study.study_id, row_id, study.recent(mine), KEY))
            if self.driver_id is not None:
                self._leases.give(script, self.driver_id, token)
            rows.find(script)
            return script

        try:
            fence = self._database.transact(claimed).fence
        except RefusedError:  # unless its answer was lost
            got = self._database.read(lambda connection: self._leases.got(connection, token))
            if got is None:
                raise
            fence = got.fence
        return self._lease(row_id, fence)

    def write(
        self,
        opened: OpenTrial,
        study: KnownStudy,
        mine: Collection[int],
        *,
        limit: int | None = None,
        alone: bool = False,
        patient: bool = True,
    ) -> None:
        """Writes all that is pending of a trial in one transaction.

        Args:
            opened: The trial.
            study: What is known of its study.
            mine: The trials that this process writes.
            limit: How many trials its study is to have at the most, of a new one.
            alone: Whether no trial may run that has the same key.
            patient: Whether to wait while the database is away.

        Raises:
            NotAdmittedError: a new trial is one too many, or repeats another, or one that is to
                be alone is not; nothing is written.
            LeaseLostError: it was taken over; nothing is written.
            TooManyFailuresError: it failed, and is one too many; nothing is written.
            DatabaseAwayError: it cannot be reached now, and nobody is to wait.
        """

        def written() -> Script:
            if opened.row_id is None:
                return self._inserted(opened, limit)
            return self._updated(opened, opened.row_id, study, mine, alone=alone)

        try:
            found = self._database.transact(written, patient=patient)
            row_id, number, fence = found.trial_id, found.number, found.fence
        except RefusedError:
            if opened.row_id is None:
                row_id, number, fence = self._why_not_made(opened)
            else:
                self._demand_written(opened, opened.row_id, study, mine, alone=alone)
                row_id, number, fence = opened.row_id, opened.trial.number, None
        is_new = opened.row_id is None
        opened.written(row_id, number, self._lease(row_id, fence) if is_new else opened.lease)

    def _inserted(self, opened: OpenTrial, limit: int | None) -> Script:
        """The transaction that makes a trial's row and all that belongs to it."""
        trial, script = opened.trial, self._script(None)
        key = trial.system_attrs.get(KEY)
        unlike = (opened.recent, KEY, key) if opened.recent and key is not None else None
        # The last attempt may have been committed, though its answer was lost.
        token = opened.token if self.driver_id and self._database.in_doubt else None
        rows.insert(script, opened.study_id, trial, rows.Conditions(limit, unlike, token))
        if trial.state is TrialState.RUNNING and self.driver_id is not None:
            self._leases.give(script, self.driver_id, opened.token)
        return _with_pending(script, opened)

    def _updated(
        self,
        opened: OpenTrial,
        row_id: int,
        study: KnownStudy,
        mine: Collection[int],
        *,
        alone: bool,
    ) -> Script:
        """The transaction that writes what is new of a trial that has a row."""
        trial, script = opened.trial, self._script(row_id)
        may_fail = self._may_fail(trial, study, mine)
        if may_fail or alone:
            rows.lock(script, opened.study_id)
        if opened.lease is not None:
            self._leases.demand(script, opened.lease)
        if alone:
            key = trial.system_attrs[KEY]
            twin = rows.twin(opened.study_id, row_id, study.recent(mine), KEY, key)
            rows.demand_no(script, twin)
        if trial.state is not TrialState.RUNNING:
            rows.update_state(script, trial, may_fail)
        return _with_pending(script, opened)

    def _may_fail(
        self, trial: FrozenTrial, study: KnownStudy, mine: Collection[int]
    ) -> list[tuple[str, Sequence[Any]]]:
        """The conditions on which a trial that has failed is written so."""
        if self.failures is None or trial.state is not TrialState.FAIL:
            return []
        return list(self.failures.allow(study.study_id, study.n_failed, study.recent(mine)))

    def _demand_written(
        self,
        opened: OpenTrial,
        row_id: int,
        study: KnownStudy,
        mine: Collection[int],
        *,
        alone: bool,
    ) -> None:
        """Raises the error that a transaction met, unless it was committed and its answer lost."""
        trial, lease = opened.trial, opened.lease
        if lease is not None:
            now = self._leases.of([row_id]).get(row_id)
            if now is None or now.fence != lease.fence:
                raise LeaseLostError(row_id, trial.number)
        found = self._database.read(lambda connection: rows.read(connection, [row_id]))
        ended = trial.datetime_complete
        if alone and not any(KEY in t.system_attrs for t in found):
            raise NotAdmittedError
        if not any(t.state is trial.state and t.datetime_complete == ended for t in found):
            may_fail = self._may_fail(trial, study, mine)
            if may_fail and any(t.state is TrialState.RUNNING for t in found):
                study.refresh(self._database, mine)  # so that whoever asks now knows why
                raise TooManyFailuresError(trial.number)
            raise UpdateFinishedTrialError(f"trial {trial.number} was finished by another process")

    def _why_not_made(self, opened: OpenTrial) -> tuple[int, int, int]:
        """What a new trial has got, where only the answer was lost; else the error that it met."""
        lease = self._database.read(lambda connection: self._leases.got(connection, opened.token))
        if lease is not None:
            (found,) = self._database.read(lambda c: rows.read(c, [lease.trial_id]))
            return lease.trial_id, found.number, lease.fence
        if not studies.exists(self._database, opened.study_id):
            raise study_gone()
        raise NotAdmittedError

    def _lease(self, row_id: int, fence: int | None) -> Lease | None:
        if self.driver_id is None or fence is None:
            return None
        return Lease(row_id, self.driver_id, fence)

    def _script(self, row_id: int | None) -> Script:
        return Script(row_id, is_postgresql=self._database.is_postgresql)


def _with_pending(script: Script, opened: OpenTrial) -> Script:
    """The script with all that is pending of its trial, to the end."""
    trial = opened.trial
    if opened.forgets_from is not None:
        rows.forget_steps(script, opened.forgets_from)
    rows.write_params(script, trial, opened.params)
    rows.write_steps(script, trial, opened.steps)
    for table, attrs, keys in (
        (schema.user_attrs, trial.user_attrs, opened.user_attrs),
        (schema.system_attrs, trial.system_attrs, opened.system_attrs),
    ):
        rows.write_trial_attrs(script, table, {key: attrs[key] for key in keys})
    if trial.state.is_finished() and trial.values is not None:
        rows.write_values(script, trial.values)
    rows.find(script)
    return script
