"""Studies in Optuna's tables, written one transaction per event.

Optuna commits once for every parameter, report and state change; with eight parameters and
five reports that is fifteen commits a trial, and commits are what a database charges for. Here
a trial that this process asked for is kept in memory and written in one transaction when it
starts (`Storage.flush`), about once a second while it reports, and in one when it ends. The
tables are Optuna's own: every Optuna tool reads what hpo writes, and the other way round.
"""

from __future__ import annotations

import copy
import itertools
import json
import sqlite3
import threading
import time
import uuid
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from operator import attrgetter
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import DuplicatedStudyError, StorageInternalError, UpdateFinishedTrialError
from optuna.storages import BaseStorage, RDBStorage
from optuna.storages._rdb import models
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.dialects import postgresql, sqlite

from hpo.errors import StorageError

WRITE_INTERVAL_SECONDS = 1.0
"""What a running trial reports is written at most this often."""

KEY = "hpo:key"
"""System attribute by which trials of a finite space are told apart."""

_ABOVE_EVERY_ID = 2**62

_studies = models.StudyModel.__table__
_directions = models.StudyDirectionModel.__table__
_study_user_attrs = models.StudyUserAttributeModel.__table__
_study_system_attrs = models.StudySystemAttributeModel.__table__
_trials = models.TrialModel.__table__
_params = models.TrialParamModel.__table__
_values = models.TrialValueModel.__table__
_steps = models.TrialIntermediateValueModel.__table__
_user_attrs = models.TrialUserAttributeModel.__table__
_system_attrs = models.TrialSystemAttributeModel.__table__
_heartbeats = models.TrialHeartbeatModel.__table__


_NEW_TRIALS = sa.select(_trials.c.trial_id).where(
    _trials.c.study_id == sa.bindparam("study_id"), _trials.c.trial_id > sa.bindparam("last_id")
)


def open_storage(url: str, *, create: bool = True) -> Storage:
    """Opens the database at `url` and makes its tables where they are missing.

    Args:
        url: ``sqlite:///file.db`` or ``postgresql://user:password@host/database``.
        create: Whether to make a SQLite file that is not there.

    Raises:
        StorageError: the URL is malformed, names another kind of database, or cannot be opened.
    """
    parsed = _parse(url)
    file = parsed.database if parsed.get_backend_name() == "sqlite" else None
    if not create and file and not Path(file).exists():
        raise StorageError(
            f"there is no storage '{url}': no file {Path(file).resolve()}.",
            "Go to the folder of your study, or name its storage with --storage.",
        )
    engine_kwargs: dict[str, Any] = (
        {"connect_args": {"factory": _SqliteConnection, "timeout": 60}}
        if parsed.get_backend_name() == "sqlite"
        else {"pool_pre_ping": True}
    )
    # RDBStorage fills a template into the URL with str.format, so braces are doubled.
    template = parsed.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
    try:
        _refuse_foreign_tables(parsed)
        return Storage(_with_tables(template, engine_kwargs))
    except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        raise _cannot_open(parsed, cause or error) from error
    except RuntimeError as error:  # Optuna's check of the schema version
        raise StorageError(f"{masked(url)}: {error}") from error


def _with_tables(template: str, engine_kwargs: dict[str, Any]) -> RDBStorage:
    """Optuna's storage; when several processes make its tables at once, all but one fail."""
    for pause in (0.1, 0.3, 1.0):
        try:
            return RDBStorage(template, dict(engine_kwargs))
        except (sa.exc.SQLAlchemyError, StorageInternalError) as error:
            cause = str(error.__cause__ or error).lower()
            if not any(sign in cause for sign in ("already exists", "unique constraint", "locked")):
                raise
            time.sleep(pause)
    return RDBStorage(template, engine_kwargs)


def _refuse_foreign_tables(url: sa.engine.URL) -> None:
    """Refuses a database whose tables have Optuna's names but are not Optuna's.

    Raises:
        StorageError: it is another program's, MLflow's for example.
    """
    engine = sa.create_engine(url, poolclass=sa.NullPool)
    inspector = sa.inspect(engine)
    tables = set(inspector.get_table_names())
    ours = "studies" in tables and {"study_id", "study_name"} <= {
        column["name"] for column in inspector.get_columns("studies")
    }
    foreign = bool(tables & {"alembic_version", "studies"}) and not ours
    engine.dispose()
    if foreign:
        raise StorageError(
            f"storage '{_shown(url)}' holds another program's tables.",
            "Name another database with --storage.",
        )


def masked(url: str) -> str:
    """`url` without its password, for messages and logs."""
    try:
        return sa.engine.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url


def _shown(url: sa.engine.URL) -> str:
    """A URL as a user would write it, without its password."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


class _SqliteConnection(sqlite3.Connection):
    """A connection in write-ahead mode: readers never wait, and a commit costs no fsync.

    With ``synchronous = NORMAL`` a power cut may lose the last commits but never corrupts; the
    death of a process loses nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")


def _parse(url: str) -> sa.engine.URL:
    try:
        parsed = sa.engine.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StorageError(
            f"'{url}' is not a storage URL.",
            "Write sqlite:///hpo.db or postgresql://user:password@host/database.",
        ) from error
    backend = parsed.get_backend_name()
    if backend == "sqlite" and parsed.database in (None, "", ":memory:"):
        raise StorageError(
            f"storage '{url}' is in memory only and would be lost.", "Write sqlite:///hpo.db"
        )
    if backend in ("postgresql", "postgres"):
        # SQLAlchemy 2.1 made psycopg 3 the default driver; hpo installs psycopg2.
        return parsed.set(drivername="postgresql+psycopg2")
    if backend != "sqlite":
        raise StorageError(
            f"storage '{masked(url)}': hpo uses SQLite or PostgreSQL, not {backend}.",
            "Write sqlite:///hpo.db or postgresql://user:password@host/database.",
        )
    return parsed


def _cannot_open(parsed: sa.engine.URL, error: BaseException) -> StorageError:
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    url = _shown(parsed)
    if parsed.get_backend_name() != "sqlite":
        return StorageError(
            f"cannot open storage '{url}': {cause}.",
            "Check that the server runs and that host, user and database are right.",
        )
    folder = Path(parsed.database or ".").resolve().parent
    if not folder.is_dir():
        next_step = f"The folder {folder} does not exist; make it: mkdir -p {folder}"
    elif "not a database" in cause:
        next_step = "That file is something else; name another one with --storage."
    else:
        next_step = f"Check that {folder} can be written, or name another file with --storage."
    return StorageError(f"cannot open storage '{url}': {cause}.", next_step)


class _NotAdmittedError(Exception):
    """A new trial is one too many, or repeats another."""


@dataclass
class _OpenTrial:
    """A trial that this process writes, and what of it the database does not have yet."""

    study_id: int
    trial: FrozenTrial
    row_id: int | None = None
    params: set[str] = field(default_factory=set)
    user_attrs: set[str] = field(default_factory=set)
    system_attrs: set[str] = field(default_factory=set)
    steps: set[int] = field(default_factory=set)
    written_at: float = 0.0
    newest_id: int = -1  # the newest trial known when this one was asked for

    @property
    def dirty(self) -> bool:
        return self.row_id is None or any(self._pending)

    def written(self, row_id: int, number: int) -> None:
        """Notes that the database now has all of it."""
        self.row_id, self.trial._trial_id, self.trial.number = row_id, row_id, number
        for keys in self._pending:
            keys.clear()
        self.written_at = time.monotonic()

    @property
    def _pending(self) -> tuple[set[Any], ...]:
        return self.params, self.user_attrs, self.system_attrs, self.steps


@dataclass
class _KnownStudy:
    """What this process has read of a study; finished trials never change, so they stay."""

    finished: dict[int, FrozenTrial] = field(default_factory=dict)  # by id, as are
    elsewhere: dict[int, FrozenTrial] = field(default_factory=dict)  # those others work on
    last_id: int = -1


class Storage(BaseStorage):
    """An Optuna storage that writes a trial in one transaction per event.

    It works in any Optuna study. A new trial is a draft, with a negative id that stays valid,
    until `flush`, the first write or its end gives it a row. Reads go through a cache of
    finished trials, so a study of ten thousand trials costs no more to ask than a small one.

    Args:
        backend: Optuna's storage on the same database, for what is done once per study.
    """

    def __init__(self, backend: RDBStorage) -> None:
        self._backend = backend
        self._engine: sa.engine.Engine = backend.engine
        self._is_postgresql = self._engine.dialect.name == "postgresql"
        self._insert = postgresql.insert if self._is_postgresql else sqlite.insert
        self._upserts: dict[sa.Table, Any] = {}
        self._known: dict[int, _KnownStudy] = {}
        self._open: dict[int, _OpenTrial] = {}  # by row id; a draft by its draft id
        self._row_ids: dict[int, int] = {}  # draft id -> row id
        self._draft_ids = itertools.count(-1, -1)
        self._lock = threading.RLock()

    @property
    def url(self) -> str:
        """The database's URL, its password masked."""
        return _shown(self._engine.url)

    def close(self) -> None:
        """Writes what is pending and gives the connections back."""
        self.flush()
        self._backend.remove_session()
        self._engine.dispose()

    # --- studies: rare, so mostly Optuna's own code ---

    def create_new_study(
        self,
        directions: Sequence[StudyDirection],
        study_name: str | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> int:
        name = study_name or f"no-name-{uuid.uuid4()}"
        try:
            with self._engine.begin() as connection:
                study_id: int = connection.execute(
                    sa.insert(_studies).values(study_name=name).returning(_studies.c.study_id)
                ).scalar_one()
                rows = [
                    {"study_id": study_id, "objective": i, "direction": direction}
                    for i, direction in enumerate(directions)
                ]
                connection.execute(sa.insert(_directions), rows)
                attrs = [
                    {"study_id": study_id, "key": key, "value_json": json.dumps(value)}
                    for key, value in (system_attrs or {}).items()
                ]
                if attrs:
                    connection.execute(sa.insert(_study_system_attrs), attrs)
        except sa.exc.IntegrityError as error:
            raise DuplicatedStudyError(name) from error
        return study_id

    def delete_study(self, study_id: int) -> None:
        with self._lock, self._engine.begin() as connection:
            of_study = sa.select(_trials.c.trial_id).where(_trials.c.study_id == study_id)
            for table in (_params, _values, _steps, _user_attrs, _system_attrs, _heartbeats):
                connection.execute(sa.delete(table).where(table.c.trial_id.in_(of_study)))
            for table in (_trials, _directions, _study_user_attrs, _study_system_attrs, _studies):
                connection.execute(sa.delete(table).where(table.c.study_id == study_id))
            self._known.pop(study_id, None)
            self._open = {i: t for i, t in self._open.items() if t.study_id != study_id}

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        self._backend.set_study_user_attr(study_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        self._backend.set_study_system_attr(study_id, key, value)

    def get_study_id_from_name(self, study_name: str) -> int:
        return self._backend.get_study_id_from_name(study_name)

    def get_study_name_from_id(self, study_id: int) -> str:
        return self._backend.get_study_name_from_id(study_id)

    def get_study_directions(self, study_id: int) -> list[StudyDirection]:
        return self._backend.get_study_directions(study_id)

    def get_study_user_attrs(self, study_id: int) -> dict[str, Any]:
        return self._backend.get_study_user_attrs(study_id)

    def get_study_system_attrs(self, study_id: int) -> dict[str, Any]:
        return self._backend.get_study_system_attrs(study_id)

    def get_all_studies(self) -> list[FrozenStudy]:
        return self._backend.get_all_studies()

    # --- trials: writing ---

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        with self._lock:
            trial = copy.deepcopy(template_trial) if template_trial else _running_trial()
            trial.number = len(self.get_all_trials(study_id, deepcopy=False))
            trial._trial_id = draft_id = next(self._draft_ids)
            self._open[draft_id] = opened = _OpenTrial(
                study_id,
                trial,
                params=set(trial.params),
                user_attrs=set(trial.user_attrs),
                system_attrs=set(trial.system_attrs),
                steps=set(trial.intermediate_values),
                newest_id=self._known[study_id].last_id,
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
                opened.trial.datetime_complete = _local_now()
            self._commit(opened)
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
            with self._engine.begin() as connection:
                self._upsert_attrs(connection, _system_attrs, row_id, {key: value})
            for study in self._known.values():
                trial = study.finished.get(row_id) or study.elsewhere.get(row_id)
                if trial:
                    trial.system_attrs = {**trial.system_attrs, key: value}

    def put_back(self, trial_id: int) -> None:
        """Makes a RUNNING trial WAITING, without the steps that its attempt reported.

        They go now rather than when it is taken up again, since Optuna's `Trial` reads them as
        it is made and ignores a second report of a step.
        """
        with self._lock:
            opened = self._writable(trial_id)
            opened.trial.intermediate_values = {}
            opened.steps.clear()
            with self._engine.begin() as connection:
                connection.execute(sa.delete(_steps).where(_steps.c.trial_id == opened.row_id))
            self.set_trial_state_values(trial_id, TrialState.WAITING)

    def flush(self, trial_id: int | None = None) -> None:
        """Writes what is pending of one trial, or of all, in one transaction."""
        with self._lock:
            chosen = self._open.values() if trial_id is None else [self._writable(trial_id)]
            self._commit(*(opened for opened in chosen if opened.dirty))

    def admit(self, trial_id: int, *, key: str | None, limit: int | None) -> bool:
        """Writes a trial that was just asked for, unless another process was faster.

        Args:
            trial_id: The trial.
            key: What only one trial of its study may have; None if it may repeat another.
            limit: How many trials the study is to have at the most.

        Returns:
            Whether it was written; a draft that was not is forgotten.
        """
        with self._lock:
            opened = self._writable(trial_id)
            if opened.row_id is not None:  # taken up again: it was admitted before
                self._commit(opened)
                return True
            if key is not None:
                self.set_trial_system_attr(trial_id, KEY, key)
            try:
                self._commit(opened, limit=limit)
            except _NotAdmittedError:
                del self._open[trial_id]
                return False
            return True

    def heartbeat(self, trial_id: int) -> None:
        """Notes, by the database's clock, that the driver of this trial is alive."""
        with self._lock:
            self._backend.record_heartbeat(self._row_ids.get(trial_id, trial_id))

    def seconds_since_heartbeat(self, study_id: int) -> dict[int, float]:
        """Age of the last heartbeat of each running trial, by trial id and the database's clock."""
        now = sa.func.now() if self._is_postgresql else sa.func.datetime("now")
        query = (
            sa.select(_trials.c.trial_id, _heartbeats.c.heartbeat, sa.type_coerce(now, sa.DateTime))
            .join(_heartbeats, _heartbeats.c.trial_id == _trials.c.trial_id)
            .where(_trials.c.study_id == study_id, _trials.c.state == TrialState.RUNNING)
        )
        with self._engine.connect() as connection:
            return {
                row_id: (clock.replace(tzinfo=None) - beat).total_seconds()
                for row_id, beat, clock in connection.execute(query)
            }

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
                if row_id in study.finished:
                    return study.finished[row_id]
            return self._backend.get_trial(row_id)

    def get_all_trials(
        self,
        study_id: int,
        deepcopy: bool = True,  # noqa: FBT001 - the signature is Optuna's
        states: Container[TrialState] | None = None,
    ) -> list[FrozenTrial]:
        with self._lock:
            study = self._refresh(study_id)
            mine = [
                opened.trial
                for opened in self._open.values()
                if opened.study_id == study_id and opened.row_id is not None
            ]
            trials = [*study.finished.values(), *study.elsewhere.values(), *mine]
            if states is not None:
                trials = [trial for trial in trials if trial.state in states]
            trials.sort(key=attrgetter("number"))
            return copy.deepcopy(trials) if deepcopy else trials

    # --- inside ---

    def _refresh(self, study_id: int) -> _KnownStudy:
        """Reads trials that are new or were unfinished; those of this process it knows."""
        study = self._known.setdefault(study_id, _KnownStudy())
        with self._engine.connect() as connection:
            new = set(
                connection.execute(
                    _NEW_TRIALS, {"study_id": study_id, "last_id": study.last_id}
                ).scalars()
            )
        study.last_id = max(new, default=study.last_id)
        unfinished = new | study.elsewhere.keys()
        wanted = {i for i in unfinished if i not in self._open and i not in study.finished}
        if not wanted:
            return study
        for trial in self._backend._get_trials(study_id, None, wanted, _ABOVE_EVERY_ID):
            study.elsewhere.pop(trial._trial_id, None)
            if trial.state.is_finished():
                study.finished[trial._trial_id] = trial
            else:
                study.elsewhere[trial._trial_id] = trial
        return study

    def _writable(self, trial_id: int) -> _OpenTrial:
        row_id = self._row_ids.get(trial_id, trial_id)
        if row_id not in self._open:
            trial = self.get_trial(row_id)
            if trial.state.is_finished():
                raise UpdateFinishedTrialError(f"trial {trial.number} is {trial.state.name}")
            self._take_over(trial)
        return self._open[row_id]

    def _take_over(self, trial: FrozenTrial) -> None:
        row_id = trial._trial_id
        query = sa.select(_trials.c.study_id).where(_trials.c.trial_id == row_id)
        with self._engine.connect() as connection:
            study_id: int = connection.execute(query).scalar_one()
        self._open[row_id] = _OpenTrial(study_id, trial, row_id, written_at=time.monotonic())
        self._known.setdefault(study_id, _KnownStudy()).elsewhere.pop(row_id, None)

    def _claim(self, trial_id: int) -> bool:
        """WAITING -> RUNNING, for exactly one of the processes that try."""
        claim = (
            sa.update(_trials)
            .where(_trials.c.trial_id == trial_id, _trials.c.state == TrialState.WAITING)
            .values(state=TrialState.RUNNING, datetime_start=_utc_now())
        )
        with self._engine.begin() as connection:
            claimed = connection.execute(claim).rowcount == 1
        if claimed:
            self._backend.record_heartbeat(trial_id)
            self._take_over(self._backend.get_trial(trial_id))
        return claimed

    def _write_when_due(self, opened: _OpenTrial) -> None:
        waited = time.monotonic() - opened.written_at
        if opened.row_id is not None and waited >= WRITE_INTERVAL_SECONDS:
            self._commit(opened)

    def _let_go(self, opened: _OpenTrial) -> None:
        """Moves a trial that this process no longer writes into what it knows."""
        trial, study = opened.trial, self._known.setdefault(opened.study_id, _KnownStudy())
        del self._open[trial._trial_id]
        known = study.finished if trial.state.is_finished() else study.elsewhere
        known[trial._trial_id] = trial

    def _commit(self, *several: _OpenTrial, limit: int | None = None) -> None:
        """Writes all that is pending of some trials in one transaction.

        Raises:
            _NotAdmittedError: a new trial is one too many, or repeats another; nothing is written.
        """
        if not several:
            return
        with self._engine.begin() as connection:
            rows = [self._write(connection, opened) for opened in several]
            for opened, (row_id, number) in zip(several, rows, strict=True):
                if limit is not None and number >= limit:
                    raise _NotAdmittedError
                if opened.row_id is None and self._is_repeated(connection, opened, row_id):
                    raise _NotAdmittedError
        for opened, (row_id, number) in zip(several, rows, strict=True):
            if opened.row_id is None:
                draft_id = opened.trial._trial_id
                self._row_ids[draft_id] = row_id
                self._open[row_id] = self._open.pop(draft_id)
            opened.written(row_id, number)

    def _is_repeated(self, connection: sa.Connection, opened: _OpenTrial, row_id: int) -> bool:
        """Whether a trial that this process has not seen yet has the same key.

        It is asked after the trial was inserted, when no other process can insert one.
        """
        if KEY not in opened.trial.system_attrs:
            return False
        query = (
            sa.select(_trials.c.trial_id)
            .join(_system_attrs, _system_attrs.c.trial_id == _trials.c.trial_id)
            .where(
                _trials.c.study_id == opened.study_id,
                _trials.c.trial_id > opened.newest_id,
                _trials.c.trial_id != row_id,
                _system_attrs.c.key == KEY,
                _system_attrs.c.value_json == json.dumps(opened.trial.system_attrs[KEY]),
            )
        )
        return connection.execute(query).first() is not None

    def _write(self, connection: sa.Connection, opened: _OpenTrial) -> tuple[int, int]:
        trial = opened.trial
        if opened.row_id is None:
            row_id, number = self._insert_trial(connection, opened)
        else:
            row_id, number = opened.row_id, trial.number
            if trial.state is not TrialState.RUNNING:
                self._update_state(connection, row_id, trial)
        self._insert_params(connection, row_id, trial, opened.params)
        self._upsert_steps(connection, row_id, trial, opened.steps)
        for table, attrs, keys in (
            (_user_attrs, trial.user_attrs, opened.user_attrs),
            (_system_attrs, trial.system_attrs, opened.system_attrs),
        ):
            self._upsert_attrs(connection, table, row_id, {key: attrs[key] for key in keys})
        if trial.state.is_finished() and trial.values is not None:
            self._upsert_values(connection, row_id, trial.values)
        return row_id, number

    def _insert_trial(self, connection: sa.Connection, opened: _OpenTrial) -> tuple[int, int]:
        trial, study_id = opened.trial, opened.study_id
        # Numbers follow one another only if one process at a time makes a trial. (SQLite knows
        # no such lock and needs none: its writers take turns.)
        lock = sa.select(_studies.c.study_id).where(_studies.c.study_id == study_id)
        if connection.execute(lock.with_for_update()).first() is None:
            raise StorageError("the study was deleted while it ran.", "Run it again: hpo run FILE")
        number = (
            sa.select(sa.func.coalesce(sa.func.max(_trials.c.number) + 1, 0))
            .where(_trials.c.study_id == study_id)
            .scalar_subquery()
        )
        insert = (
            sa.insert(_trials)
            .values(
                study_id=study_id,
                number=number,
                state=trial.state,
                datetime_start=_as_utc(trial.datetime_start),
                datetime_complete=_as_utc(trial.datetime_complete),
            )
            .returning(_trials.c.trial_id, _trials.c.number)
        )
        row_id, assigned = connection.execute(insert).one()
        if trial.state is TrialState.RUNNING:
            connection.execute(sa.insert(_heartbeats).values(trial_id=row_id))
        return row_id, assigned

    def _update_state(self, connection: sa.Connection, row_id: int, trial: FrozenTrial) -> None:
        unfinished = (TrialState.RUNNING, TrialState.WAITING)
        update = (
            sa.update(_trials)
            .where(_trials.c.trial_id == row_id, _trials.c.state.in_(unfinished))
            .values(state=trial.state, datetime_complete=_as_utc(trial.datetime_complete))
        )
        if connection.execute(update).rowcount != 1:
            raise UpdateFinishedTrialError(f"trial {trial.number} was finished by another process")

    def _insert_params(
        self, connection: sa.Connection, row_id: int, trial: FrozenTrial, names: set[str]
    ) -> None:
        rows = [
            {
                "trial_id": row_id,
                "param_name": name,
                "param_value": trial.distributions[name].to_internal_repr(trial.params[name]),
                "distribution_json": distribution_to_json(trial.distributions[name]),
            }
            for name in trial.params
            if name in names
        ]
        if rows:
            connection.execute(sa.insert(_params), rows)

    def _upsert_steps(
        self, connection: sa.Connection, row_id: int, trial: FrozenTrial, steps: set[int]
    ) -> None:
        stored = models.TrialIntermediateValueModel.intermediate_value_to_stored_repr
        rows = []
        for step in sorted(steps):
            value, kind = stored(trial.intermediate_values[step])
            rows.append(
                {
                    "trial_id": row_id,
                    "step": step,
                    "intermediate_value": value,
                    "intermediate_value_type": kind,
                }
            )
        self._upsert(connection, _steps, ("trial_id", "step"), rows)

    def _upsert_values(
        self, connection: sa.Connection, row_id: int, values: Sequence[float]
    ) -> None:
        rows = []
        for objective, number in enumerate(values):
            value, kind = models.TrialValueModel.value_to_stored_repr(float(number))
            rows.append(
                {"trial_id": row_id, "objective": objective, "value": value, "value_type": kind}
            )
        self._upsert(connection, _values, ("trial_id", "objective"), rows)

    def _upsert_attrs(
        self, connection: sa.Connection, table: sa.Table, row_id: int, attrs: Mapping[str, Any]
    ) -> None:
        rows = [
            {"trial_id": row_id, "key": key, "value_json": json.dumps(value)}
            for key, value in attrs.items()
        ]
        self._upsert(connection, table, ("trial_id", "key"), rows)

    def _upsert(
        self,
        connection: sa.Connection,
        table: sa.Table,
        unique: tuple[str, ...],
        rows: list[dict[str, Any]],
    ) -> None:
        if not rows:
            return
        statement = self._upserts.get(table)
        if statement is None:  # building it takes longer than running it
            insert = self._insert(table)
            changed = {name: insert.excluded[name] for name in rows[0] if name not in unique}
            statement = insert.on_conflict_do_update(index_elements=unique, set_=changed)
            self._upserts[table] = statement
        connection.execute(statement, rows)


def _running_trial() -> FrozenTrial:
    return FrozenTrial(
        number=-1,
        state=TrialState.RUNNING,
        value=None,
        datetime_start=_local_now(),
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


def _local_now() -> datetime:
    return datetime.now()  # noqa: DTZ005 - Optuna's trials carry naive local times


def _utc_now() -> datetime:
    return datetime.now(UTC).replace(tzinfo=None)  # and its tables naive UTC


def _as_utc(local: datetime | None) -> datetime | None:
    return local.astimezone(UTC).replace(tzinfo=None) if local else None
