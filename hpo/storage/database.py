"""A database, and the patience that a lost connection to it calls for."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from hpo.errors import StorageError
from hpo.storage.script import RefusedError, Script
from hpo.storage.urls import engine_arguments, shown

PATIENCE_SECONDS = 300.0

_FIRST_PAUSE_SECONDS = 0.1
_LONGEST_PAUSE_SECONDS = 2.0
_SAID_AFTER_SECONDS = 0.5  # a writer that lost its turn is no news

# What SQLite says when somebody else is to blame; anything else would come again.
_PASSING_IN_SQLITE = "locked", "busy", "disk i/o error", "disk is full", "unable to open"

_T = TypeVar("_T")
_log = logging.getLogger(__name__)


class DatabaseAwayError(Exception):
    """The database cannot be reached now; it is worth trying again later."""


class Database:
    """Runs reads and transactions, again and again while the connection is lost.

    A transaction may be run twice: when the connection breaks as it commits, nobody knows whether
    it did. What is passed to `write` must bear that.

    Args:
        engine: SQLAlchemy's.

    Attributes:
        engine: The same, for transactions.
        reader: For statements outside of them.
        patience_seconds: How long an outage may last before `StorageError` is raised.
        pause: Waits for so many seconds between two attempts.
        back_at: When the last outage ended, by `time.monotonic`; long ago where there was none.
    """

    def __init__(self, engine: sa.engine.Engine) -> None:
        self.engine = engine
        self.patience_seconds = PATIENCE_SECONDS
        self.pause: Callable[[float], None] = time.sleep
        self.back_at = -math.inf
        self.is_postgresql = engine.dialect.name == "postgresql"
        self.reader = _reader(engine)
        self._insert = postgresql.insert if self.is_postgresql else sqlite.insert
        self._upserts: dict[tuple[sa.Table, tuple[str, ...]], Any] = {}
        self._away_since: float | None = None
        self._said = False
        self._lock = threading.Lock()

    @property
    def url(self) -> str:
        """The database's URL, the password masked."""
        return shown(self.engine.url)

    @property
    def clock(self) -> sa.ColumnElement[float]:
        """The database's own clock, in seconds since the epoch; others may be wrong."""
        if self.is_postgresql:
            return sa.cast(sa.extract("epoch", sa.func.clock_timestamp()), sa.Float)
        return (sa.func.julianday("now") - 2440587.5) * 86400.0

    @property
    def clock_sql(self) -> str:
        """The database's clock, as SQL."""
        if self.is_postgresql:
            return "CAST(EXTRACT(epoch FROM clock_timestamp()) AS FLOAT)"
        return "((julianday('now') - 2440587.5) * 86400.0)"

    def dispose(self) -> None:
        """Gives all connections back."""
        self.engine.dispose()
        self.reader.dispose()

    def hurry(self) -> None:
        """Lets nobody wait for it any more; it may be called from a signal handler."""
        self.patience_seconds = 0.0

    @property
    def in_doubt(self) -> bool:
        """Whether the last transaction failed, so that it may or may not have been committed."""
        return self._away_since is not None

    def read(self, work: Callable[[sa.Connection], _T], *, patient: bool = True) -> _T:
        """Runs a few queries outside of any transaction.

        Args:
            work: The queries.
            patient: Whether to wait while the database is away.

        Raises:
            DatabaseAwayError: it is away, and nobody is to wait.
            StorageError: it is away for longer than patience lasts.
        """

        def run() -> _T:
            with self.reader.connect() as connection:
                return work(connection)

        return self._run(run, patient=patient)

    def write(self, work: Callable[[sa.Connection], _T], *, patient: bool = True) -> _T:
        """Runs one transaction; its first statement must write, for SQLite's writers' turns.

        Args and errors are those of `read`.
        """

        def run() -> _T:
            with self.engine.begin() as connection:
                return work(connection)

        return self._run(run, patient=patient)

    def ask(self, sql: str, values: Sequence[Any], *, patient: bool = True) -> Any:
        """What a query in SQL finds first, with ``%s`` where values go.

        Args:
            sql: The query, for one value.
            values: Its values.
            patient: Whether to wait while the database is away.

        Raises:
            DatabaseAwayError: it is away, and nobody is to wait.
            StorageError: it is away for longer than patience lasts.
        """

        def first(connection: sa.Connection) -> Any:
            return connection.exec_driver_sql(self._spelt(sql), tuple(values)).scalar()

        return self.read(first, patient=patient)

    def transact(self, write: Callable[[], Script], *, patient: bool = True) -> sa.Row[Any]:
        """Runs a transaction that is written down before; gives what its last statement finds.

        Args:
            write: Writes it down, anew for each attempt.
            patient: Whether to wait while the database is away.

        Raises:
            RefusedError: its conditions do not hold; nothing was written.
            DatabaseAwayError: the database is away, and nobody is to wait.
            StorageError: it is away for longer than patience lasts.
        """
        run = self._run_at_once if self.is_postgresql else self._run_one_by_one
        try:
            return self._run(lambda: run(write()), patient=patient)
        except sa.exc.IntegrityError as error:
            raise RefusedError from error

    def _run_at_once(self, script: Script) -> sa.Row[Any]:
        # Statements that are sent together are one transaction, if nobody has begun another.
        whole = ";\n".join(sql for sql, _ in script.statements)
        values = tuple(value for _, values in script.statements for value in values)
        with self.reader.connect() as connection:
            return _first(connection.exec_driver_sql(whole, values))

    def _run_one_by_one(self, script: Script) -> sa.Row[Any]:
        with self.engine.begin() as connection:
            for sql, values in script.statements:
                result = connection.exec_driver_sql(self._spelt(sql), tuple(values))
            return _first(result)

    def _spelt(self, sql: str) -> str:
        return sql if self.is_postgresql else sql.replace("%s", "?")

    def upsert(
        self, connection: sa.Connection, table: sa.Table, unique: tuple[str, ...], rows: Any
    ) -> None:
        """Writes rows (a list of mappings), over those with the same `unique` columns."""
        if not rows:
            return
        key = table, tuple(rows[0])
        statement = self._upserts.get(key)
        if statement is None:  # building it takes longer than running it
            insert = self._insert(table)
            changed: Mapping[str, Any] = {
                name: insert.excluded[name] for name in rows[0] if name not in unique
            }
            statement = insert.on_conflict_do_update(index_elements=unique, set_=changed)
            self._upserts[key] = statement
        connection.execute(statement, rows)

    def lock_study(self, connection: sa.Connection, studies: sa.Table, study_id: int) -> None:
        """Lets no other process make a trial in a study, or enter it, until the transaction ends.

        Raises:
            StorageError: the study is gone.
        """
        this = studies.c.study_id == study_id
        if self.is_postgresql:
            locked = sa.select(studies.c.study_id).where(this).with_for_update()
            found = connection.execute(locked).first() is not None
        else:  # SQLite has no such lock and needs none: its writers take turns
            same = sa.update(studies).where(this).values(study_id=study_id)
            found = connection.execute(same).rowcount == 1
        if not found:
            raise study_gone()

    def _run(self, run: Callable[[], _T], *, patient: bool) -> _T:
        pause = _FIRST_PAUSE_SECONDS
        while True:
            try:
                done = run()
            except sa.exc.DBAPIError as error:
                if not self._will_pass(error):
                    raise
                self._note_away(error)
                if not patient:
                    raise DatabaseAwayError from error
            else:
                self._note_back()
                return done
            self.pause(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _will_pass(self, error: sa.exc.DBAPIError) -> bool:
        if error.connection_invalidated:
            return True
        if self.is_postgresql:
            return isinstance(error, (sa.exc.OperationalError, sa.exc.InterfaceError))
        cause = str(error.orig).lower()
        return isinstance(error, sa.exc.OperationalError) and any(
            sign in cause for sign in _PASSING_IN_SQLITE
        )

    def _note_away(self, error: sa.exc.DBAPIError) -> None:
        cause = str(error.orig).strip().splitlines()[0]
        with self._lock:
            now = time.monotonic()
            if self._away_since is None:
                self._away_since = now
            away = now - self._away_since
            if away >= _SAID_AFTER_SECONDS and not self._said:
                self._said = True
                message = "storage %s is away (%s); what is reported meanwhile is kept"
                _log.warning(message, self.url, cause)
        if away >= self.patience_seconds:
            raise StorageError(
                f"storage {self.url} was away for {away:.0f} s: {cause}.",
                "When it is back: hpo resume {study}",
            ) from error

    def _note_back(self) -> None:
        since = self._away_since
        if since is None:
            return
        with self._lock:
            self._away_since, self.back_at = None, time.monotonic()
            said, self._said = self._said, False
        if said:
            _log.warning("storage %s is back after %.0f s", self.url, time.monotonic() - since)


def _reader(engine: sa.engine.Engine) -> sa.engine.Engine:
    """An engine to the same database that begins no transactions."""
    if engine.dialect.name != "postgresql":
        return engine.execution_options(isolation_level="AUTOCOMMIT")
    # Not the same connections with another isolation level: psycopg2 asks the server when it goes
    # back to the first one, and SQLAlchemy neither expects that to fail nor keeps the place in
    # its pool if it does, as in an outage.
    return sa.create_engine(
        engine.url, isolation_level="AUTOCOMMIT", **engine_arguments(engine.url)
    )


def study_gone() -> StorageError:
    """What to say of a study that was deleted."""
    return StorageError("the study was deleted while it ran.", "Run it again: hpo run FILE")


def _first(result: sa.CursorResult[Any]) -> sa.Row[Any]:
    row = result.first()
    if row is None:
        raise RefusedError
    return row
