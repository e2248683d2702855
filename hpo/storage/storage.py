"""All of a database as an Optuna storage."""

from __future__ import annotations

import copy
import itertools
import threading
import time
import uuid
from collections import Counter
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import StorageError
from hpo.storage import rows, schema, studies
from hpo.storage.commits import KEY, Commits, NotAdmittedError, OpenTrial, TooManyFailuresError
from hpo.storage.database import Database, DatabaseAwayError
from hpo.storage.known import KnownStudy
from hpo.storage.leases import Lease, LeaseLostError, Leases
from hpo.storage.rows import FailureLimits
from hpo.storage.script import RefusedError
from hpo.storage.urls import file_of, parse

WRITE_INTERVAL_SECONDS = 1.0
"""What a running trial reports is written at most this often."""

_MOMENT_SECONDS = 0.05  # what others did since need not be known to count trials

TWIN = "hpo:twin"
"""System attribute of a trial that had to wait: the number of the same one, which ran."""


def open_storage(url: str, *, create: bool = True) -> Storage:
    """Opens the database at `url` and makes its tables where they are missing.

    Args:
        url: ``sqlite:///file.db`` or ``postgresql://user:password@host/database``.
        create: Whether to make a SQLite file that is not there.

    Raises:
        StorageError: the URL is malformed, names another kind of database, or cannot be opened.
    """
    if not create:
        demand_file(url)
    return Storage(Database(schema.engine_at(url)))


def demand_file(url: str) -> None:
    """Refuses a SQLite file that is not there.

    Raises:
        StorageError: it is not there, or the URL is malformed.
    """
    file = file_of(parse(url))
    if file is not None and not file.exists():
        raise StorageError(
            f"there is no storage '{url}': no file {file}.",
            "Go to the folder of your study, or name its storage with --storage.",
        )


class _NotTakenError(Exception):
    """Another process was faster; the transaction is to be rolled back."""


class Storage(BaseStorage):
    """An Optuna storage that writes a trial in one transaction per event.

    It works in any Optuna study. A new trial is a draft, with a negative id that stays valid,
    until `flush`, the first write or its end gives it a row. Reads go through a cache of
    finished trials, so a study of ten thousand trials costs no more to ask than a small one.

    Once `drive` has named a driver, the trials that this process gets are leased to it.

    Args:
        database: Where it is.

    Attributes:
        database: The same.
        leases: Who drives, and who may write which trial.
    """

    def __init__(self, database: Database) -> None:
        self.database = database
        self.leases = Leases(database)
        self._commits = Commits(database, self.leases)
        self._known: dict[int, KnownStudy] = {}
        self._open: dict[int, OpenTrial] = {}  # by row id; a draft by its draft id
        self._row_ids: dict[int, int] = {}  # draft id -> row id
        self._draft_ids = itertools.count(-1, -1)
        self._lock = threading.RLock()
        self._unlocked = threading.Condition(self._lock)
        database.pause = self._pause
        self._file = file_of(database.engine.url)
        self._opened = None if self._file is None else _identity(self._file)

    @property
    def engine(self) -> sa.engine.Engine:
        """SQLAlchemy's engine."""
        return self.database.engine

    @property
    def url(self) -> str:
        """The database's URL, its password masked."""
        return self.database.url

    @property
    def is_there(self) -> bool:
        """Whether the file of a SQLite database is the one that was opened."""
        return self._file is None or _identity(self._file) == self._opened

    def has_study(self, study_id: int) -> bool:
        """Whether there is a study; it does not wait while the database is away.

        Raises:
            DatabaseAwayError: it cannot be reached now.
        """
        return studies.exists(self.database, study_id, patient=False)

    def drive(self, driver_id: str | None, failures: FailureLimits | None = None) -> None:
        """Leases the trials that this process gets from now on to a driver; None to nobody.

        Args:
            driver_id: The driver.
            failures: How many of the study's trials may fail.
        """
        self._commits.driver_id, self._commits.failures = driver_id, failures

    def close(self) -> None:
        """Writes what is pending and gives the connections back."""
        self.flush()
        self.database.dispose()

    # --- studies ---

    def create_new_study(
        self,
        directions: Sequence[StudyDirection],
        study_name: str | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> int:
        return studies.create(self.database, directions, study_name, system_attrs or {})

    def delete_study(self, study_id: int) -> None:
        self.get_study_name_from_id(study_id)  # there must be one
        with self._lock:
            studies.delete(self.database, study_id)
            self._known.pop(study_id, None)
            for row_id in [i for i, t in self._open.items() if t.study_id == study_id]:
                del self._open[row_id]

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        studies.set_attr(self.database, schema.study_user_attrs, study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        studies.set_attr(self.database, schema.study_system_attrs, study_id, key, value)

    def set_study_system_attr_once(self, study_id: int, key: str, value: Any) -> Any:
        """Sets a study's system attribute unless some process has; gives what it is then.

        Raises:
            StorageError: the study is gone.
        """
        table = schema.study_system_attrs
        return studies.set_attr_once(self.database, table, study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return studies.id_of(self.database, study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return studies.name_of(self.database, study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return studies.find(self.database, study_id).directions

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return studies.attrs(self.database, schema.study_user_attrs, study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return studies.attrs(self.database, schema.study_system_attrs, study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        return studies.every(self.database)

    # --- trials: writing ---

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        with self._lock:
            trial = copy.deepcopy(template_trial) if template_trial else _running_trial()
            trial.number = sum(self.counts(study_id).values())
            trial._trial_id = draft_id = next(self._draft_ids)
            self._open[draft_id] = opened = OpenTrial(
                study_id,
                trial,
                params=set(trial.params),
                user_attrs=set(trial.user_attrs),
                system_attrs=set(trial.system_attrs),
                steps=set(trial.intermediate_values),
                recent=self._known[study_id].recent(self._open),
            )
            if template_trial is not None:
                self._commit(opened)
                self._let_go(opened)
            return trial._trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        with self._lock:
            opened = self._writable(trial_id)
            opened.trial.params = {
                **opened.trial.params,
                param_name: distribution.to_external_repr(param_value_internal),
            }
            opened.trial.distributions = {**opened.trial.distributions, param_name: distribution}
            opened.params.add(param_name)
            self._write_when_due(opened)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        with self._lock:
            opened = self._writable(trial_id)
            opened.trial.intermediate_values[step] = float(intermediate_value)
            opened.steps.add(step)
            self._write_when_due(opened)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._lock:
            opened = self._writable(trial_id)
            opened.trial.set_user_attr(key, value)
            opened.user_attrs.add(key)
            self._write_when_due(opened)

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        with self._lock:
            opened = self._writable(trial_id)
            opened.trial.system_attrs = {**opened.trial.system_attrs, key: value}
            opened.system_attrs.add(key)
            self._write_when_due(opened)

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        with self._lock:
            if state is TrialState.RUNNING:
                return self._claim(trial_id)
            opened = self._writable(trial_id)
            if opened.row_id is None and state is TrialState.FAIL and not opened.trial.params:
                del self._open[trial_id]  # a draft that failed to get parameters was never asked
                return True
            opened.trial.state = state
            if values is not None:
                opened.trial.values = [float(value) for value in values]
            if state.is_finished():
                opened.trial.datetime_complete = rows.local_now()
            try:
                self._commit(opened)
            except TooManyFailuresError:  # it goes on being this process's, to be put back
                opened.trial.state, opened.trial.datetime_complete = TrialState.RUNNING, None
                raise
            self._let_go(opened)
            return True

    def annotate(self, trial_id: int, key: str, value: Any) -> None:
        """Sets a system attribute of a trial in any state, finished ones included.

        Optuna forbids this because finished trials are cached; it is meant for facts about a
        trial that come to light later, such as the id of its MLflow run.
        """
        row_id = self._row_ids.get(trial_id, trial_id)
        with self._lock:
            if row_id in self._open:
                self.set_trial_system_attr(row_id, key, value)
                return
            self.database.write(
                lambda connection: rows.write_attrs(
                    connection, self.database, schema.system_attrs, row_id, {key: value}
                )
            )
            for study in self._known.values():
                if trial := study.find(row_id):
                    trial.system_attrs = {**trial.system_attrs, key: value}

    def put_back(self, trial_id: int) -> None:
        """Makes a RUNNING trial WAITING; the steps that its attempt reported stay."""
        self.set_trial_state_values(trial_id, TrialState.WAITING)

    def rewind(self, trial_id: int, step: int) -> None:
        """Forgets the steps that an earlier attempt reported from this one on."""
        with self._lock:
            opened = self._writable(trial_id)
            kept = {k: v for k, v in opened.trial.intermediate_values.items() if k < step}
            opened.trial.intermediate_values = kept
            opened.steps &= kept.keys()
            opened.forgets_from = step

    def take_over(self, lease: Lease) -> FrozenTrial | None:
        """Gets a RUNNING trial whose driver is dead; None if somebody else was faster.

        Afterwards it is this driver's own, to be put back or told.
        """
        driver_id, token, row_id = self._commits.driver_id, str(uuid.uuid4()), lease.trial_id
        assert driver_id is not None  # noqa: S101 - only drivers look for dead ones

        def take(connection: sa.Connection) -> tuple[Lease, FrozenTrial]:
            got = self.leases.take_over(connection, lease, driver_id, token)
            found = rows.read(connection, [row_id])
            if got is None or not found or found[0].state is not TrialState.RUNNING:
                raise _NotTakenError
            return got, found[0]

        with self._lock:
            try:
                got, trial = self.database.write(take, patient=False)
            except _NotTakenError:
                return None
            self._hold(trial, got)
            return trial

    def flush(self, trial_id: int | None = None) -> None:
        """Writes what is pending of one trial, or of all, each in one transaction."""
        with self._lock:
            chosen = self._open.values() if trial_id is None else [self._writable(trial_id)]
            for opened in [each for each in chosen if each.dirty]:
                self._commit(opened)

    def flush_started(self) -> None:
        """Writes what is pending of trials that have a row, without waiting for a lost database.

        Of a trial that was taken over it writes nothing, and leaves it to whoever runs it here to
        find out.

        Raises:
            DatabaseAwayError: it cannot be reached now.
        """
        with self._lock:
            dirty = [each for each in self._open.values() if each.row_id and each.dirty]
            for opened in dirty:
                with suppress(LeaseLostError):
                    self._commit(opened, patient=False, disowns=False)

    def admit(self, trial_id: int, *, key: str | None, limit: int | None) -> bool:
        """Writes a trial that was just asked for, unless another process was faster.

        A new trial must repeat no other. One that somebody enqueued may; it waits until the other
        has ended. One that is taken up again was admitted before.

        Args:
            trial_id: The trial.
            key: What tells it from other trials of its study; None if it may repeat any.
            limit: How many trials the study is to have at the most.

        Returns:
            Whether it was written; a draft that was not is forgotten, another trial waits again.
        """
        with self._lock:
            opened = self._writable(trial_id)
            is_told_apart = key is not None and KEY not in opened.trial.system_attrs
            if is_told_apart:  # nothing may write this before it is admitted
                opened.trial.system_attrs = {**opened.trial.system_attrs, KEY: key}
                opened.system_attrs.add(KEY)
            try:
                if opened.row_id is None:
                    self._commit(opened, limit=limit)
                else:
                    self._commit(opened, alone=is_told_apart)
            except NotAdmittedError:
                if opened.row_id is None:
                    del self._open[trial_id]
                else:
                    self._wait_for_twin(opened)
                return False
            return True

    def n_ready(self, study_id: int) -> int:
        """How many WAITING trials may run now: of two that are the same, one runs at a time.

        What others did in the last moment may be missing.
        """
        with self._lock:
            study = self._refreshed(study_id, within_seconds=_MOMENT_SECONDS)
            return study.n_ready(self._open)

    def disown(self, trial_id: int) -> None:
        """Forgets what is pending of a trial that another driver has taken over."""
        with self._lock:
            row_id = self._row_ids.get(trial_id, trial_id)
            opened = self._open.pop(row_id, None)
            if opened is not None and opened.row_id is not None:
                self._known_study(opened.study_id).note(row_id, TrialState.RUNNING)

    # --- trials: reading ---

    def get_trial_id_from_study_id_trial_number(self, study_id: int, trial_number: int) -> int:
        for trial in self.get_all_trials(study_id, deepcopy=False):
            if trial.number == trial_number:
                return trial._trial_id
        raise KeyError(f"no trial {trial_number} in study {study_id}")

    def get_trial(self, trial_id: int) -> FrozenTrial:
        with self._lock:
            row_id = self._row_ids.get(trial_id, trial_id)
            if row_id in self._open:
                return _copied(self._open[row_id].trial)
            for study in self._known.values():
                if trial := study.get(row_id):
                    return trial
            found = self.database.read(lambda connection: rows.read(connection, [row_id]))
            if not found:
                raise KeyError(f"no trial with id {trial_id}")
            return found[0]

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001 - the signature is Optuna's
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        with self._lock:
            study = self._refreshed(study_id)
            study.read(self.database, states)
            trials = study.trials(self._mine(study_id), states)
            return copy.deepcopy(trials) if deepcopy else trials

    def counts(self, study_id: int) -> Counter[TrialState]:
        """How many trials of a study are in each state, whatever their number costs the same.

        What others did in the last moment may be missing.
        """
        with self._lock:
            study = self._refreshed(study_id, within_seconds=_MOMENT_SECONDS)
            return study.counts(self._mine(study_id))

    def have_failed_in_a_row(self, study_id: int) -> bool:
        """Whether so many trials have failed in a row that the study has.

        Raises:
            DatabaseAwayError: it cannot be reached now.
        """
        if self._commits.failures is None:
            return False
        query, values = self._commits.failures.have_failed_in_a_row(study_id)
        return bool(self.database.ask(f"SELECT {query}", values, patient=False))

    def contenders(
        self, study_id: int, after: int, best: float | None, *, maximize: bool
    ) -> tuple[int, list[FrozenTrial]]:
        """Finished trials that may be better than the best one, whoever ran them.

        Args:
            study_id: The study.
            after: How many finished trials were looked at before.
            best: The best one's first value; None while there is none.
            maximize: Whether larger is better.

        Returns:
            How many were looked at by now; and of the new ones those that this process knows, and
            the COMPLETE ones whose first value is no worse. What others ran may come a moment
            later, and no sooner than the database is back.
        """
        with self._lock:
            study = self._refreshed(study_id, within_seconds=_MOMENT_SECONDS)
            new = study.finished_ids[after:]
            unread = [row_id for row_id in new if study.get(row_id) is None]
            try:
                if unread and best is not None:
                    no_worse = partial(rows.no_worse, ids=unread, bound=best, maximize=maximize)
                    unread = self.database.read(no_worse, patient=False)
                study.read_these(self.database, unread)
            except DatabaseAwayError:
                return after, []
            known = (study.get(row_id) for row_id in new)
            return after + len(new), [trial for trial in known if trial is not None]

    def held(self, study_id: int) -> list[Lease]:
        """The leases of the trials that this process writes."""
        with self._lock:
            mine = [each for each in self._open.values() if each.study_id == study_id]
            return [each.lease for each in mine if each.lease is not None]

    # --- inside ---

    def _pause(self, seconds: float) -> None:
        """Waits for a database that is away, and lets other threads at what is known meanwhile."""
        try:
            self._unlocked.wait(seconds)
        except RuntimeError:  # this thread does not hold the lock
            time.sleep(seconds)

    def _refreshed(self, study_id: int, *, within_seconds: float = 0.0) -> KnownStudy:
        study = self._known_study(study_id)
        study.refresh(self.database, self._open, within_seconds=within_seconds)
        return study

    def _known_study(self, study_id: int) -> KnownStudy:
        return self._known.setdefault(study_id, KnownStudy(study_id))

    def _mine(self, study_id: int) -> list[FrozenTrial]:
        return [
            opened.trial
            for opened in self._open.values()
            if opened.study_id == study_id and opened.row_id is not None
        ]

    def _writable(self, trial_id: int) -> OpenTrial:
        row_id = self._row_ids.get(trial_id, trial_id)
        if row_id not in self._open:
            trial = self.get_trial(row_id)
            lease, mine = self.leases.of([row_id]).get(row_id), self._commits.driver_id
            if lease is not None and mine is not None and lease.driver_id != mine:
                raise LeaseLostError(row_id, trial.number)  # whoever took it may have told it, too
            if trial.state.is_finished():
                raise UpdateFinishedTrialError(f"trial {trial.number} is {trial.state.name}")
            self._hold(trial, lease)
        return self._open[row_id]

    def _hold(self, trial: FrozenTrial, lease: Lease | None) -> None:
        """Takes a trial that has a row into those that this process writes."""
        row_id, now = trial._trial_id, time.monotonic()
        study_id = self._study_of(row_id)
        self._open[row_id] = OpenTrial(study_id, trial, row_id, lease, written_at=now)
        self._known_study(study_id).forget(row_id)

    def _study_of(self, row_id: int) -> int:
        query = sa.select(schema.trials.c.study_id).where(schema.trials.c.trial_id == row_id)
        return int(self.database.read(lambda c: c.execute(query).scalar_one()))

    def _claim(self, trial_id: int) -> bool:
        """WAITING -> RUNNING, for exactly one of the processes that try."""
        if trial_id in self._open:  # taken from this very driver, which has not noticed yet
            return False
        study_id = self._study_of(trial_id)
        study = self._known_study(study_id)
        if study.has_to_wait(trial_id, self._open):
            return False
        try:
            lease = self._commits.claim(trial_id, study, self._open)
        except RefusedError:
            if twin := self._twin(study_id, trial_id):
                study.wait(trial_id, twin)
            return False
        (trial,) = self.database.read(lambda c: rows.read(c, [trial_id]))
        self._hold(trial, lease)
        return True

    def _wait_for_twin(self, opened: OpenTrial) -> None:
        """Puts back a trial that repeats one that runs."""
        trial, row_id = opened.trial, opened.trial._trial_id
        key = trial.system_attrs[KEY]
        trial.system_attrs = {k: v for k, v in trial.system_attrs.items() if k != KEY}
        opened.system_attrs.discard(KEY)  # it is the other's while that runs
        if twin := self._twin(opened.study_id, row_id, key):
            self._known_study(opened.study_id).wait(row_id, twin)
            self.set_trial_system_attr(row_id, TWIN, self.get_trial(twin).number)
        self.put_back(row_id)

    def _twin(self, study_id: int, row_id: int, key: str | None = None) -> int | None:
        """The id of a trial that runs and is the same as one that waits."""
        recent = self._known_study(study_id).recent(self._open)
        twin: int | None = self.database.ask(*rows.twin(study_id, row_id, recent, KEY, key))
        return twin

    def _write_when_due(self, opened: OpenTrial) -> None:
        """Writes about once a second; what a lost database does not take now, it gets later."""
        now = time.monotonic()
        if opened.row_id is None or now - opened.written_at < WRITE_INTERVAL_SECONDS:
            return
        opened.written_at = now
        try:
            self._commit(opened, patient=False)
        except DatabaseAwayError:
            return

    def _let_go(self, opened: OpenTrial) -> None:
        """Moves a trial that this process no longer writes into what it knows."""
        del self._open[opened.trial._trial_id]
        self._known_study(opened.study_id).put(opened.trial)

    def _commit(
        self,
        opened: OpenTrial,
        *,
        limit: int | None = None,
        alone: bool = False,
        patient: bool = True,
        disowns: bool = True,
    ) -> None:
        """Writes all that is pending of a trial (`Commits.write`), and gives a draft its row.

        Args:
            opened: The trial.
            limit: How many trials its study is to have at the most, of a new one.
            alone: Whether no trial may run that has the same key.
            patient: Whether to wait while the database is away.
            disowns: Whether to forget it if it was taken over.
        """
        was, study = opened.trial._trial_id, self._known_study(opened.study_id)
        try:
            self._commits.write(
                opened, study, self._open, limit=limit, alone=alone, patient=patient
            )
        except LeaseLostError as lost:
            if disowns:
                self.disown(lost.trial_id)
            raise
        row_id = opened.trial._trial_id
        if row_id != was and was in self._open:  # else another thread did so meanwhile
            self._row_ids[was] = row_id
            self._open[row_id] = self._open.pop(was)


def _identity(file: Path) -> tuple[int, int] | None:
    """What tells a file from another one in its place; None if there is none."""
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _running_trial() -> FrozenTrial:
    return FrozenTrial(
        number=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=rows.local_now(),
        datetime_complete=None,
        params={},
        distributions={},
        user_attrs={},
        system_attrs={},
        intermediate_values={},
        trial_id=-1,
    )


def _copied(trial: FrozenTrial) -> FrozenTrial:
    """A copy that its holder may change, as Optuna's `Trial` does."""
    # Attributes are replaced rather than changed in this module: they need no copy of their own.
    mine = copy.copy(trial)
    mine.params = dict(trial.params)
    mine.distributions = dict(trial.distributions)
    mine.intermediate_values = dict(trial.intermediate_values)
    return mine
