"""URLs of storages: which are taken, how they are shown, why one cannot be opened."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from hpo.errors import StorageError

_WRITE = "Write sqlite:///hpo.db or postgresql://user:password@host/database."
_SECONDS_BETWEEN_TRIES = 0.01
_BUSY_SECONDS = 5  # so long SQLite waits for a writer's turn, deaf to signals; then `Database` does

# A server that vanished without a word is noticed within a minute or so.
_POSTGRESQL = {
    "connect_timeout": 10,
    "keepalives_idle": 20,
    "keepalives_interval": 10,
    "keepalives_count": 3,
}


class _SqliteConnection(sqlite3.Connection):
    """A connection in write-ahead mode: readers never wait, and a commit costs no fsync.

    With ``synchronous = NORMAL`` a power cut may lose the last commits but never corrupts; the
    death of a process loses nothing.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._write_ahead()
        self.execute("PRAGMA synchronous = NORMAL")

    def _write_ahead(self) -> None:
        """Waits for its turn itself: SQLite lets nobody wait who would change an empty file."""
        deadline = time.monotonic() + _BUSY_SECONDS
        while True:
            try:
                if not self._is_anothers():
                    self.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                if "locked" not in str(error) or time.monotonic() > deadline:
                    raise
            else:
                return
            time.sleep(_SECONDS_BETWEEN_TRIES)

    def _is_anothers(self) -> bool:
        """Whether the file has tables, and not Optuna's: it will be refused, and is left alone."""
        tables = {name for (name,) in self.execute("SELECT name FROM sqlite_master")}
        return bool(tables) and "study_directions" not in tables


def parse(url: str) -> sa.engine.URL:
    """A URL as SQLAlchemy takes it.

    Raises:
        StorageError: it is malformed, or names another kind of database.
    """
    try:
        parsed = sa.engine.make_url(url)
    except sa.exc.ArgumentError as error:
        raise StorageError(f"'{url}' is not a storage URL.", _WRITE) from error
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
            f"storage '{masked(url)}': hpo uses SQLite or PostgreSQL, not {backend}.", _WRITE
        )
    return parsed


def file_of(url: sa.engine.URL) -> Path | None:
    """The file of a SQLite database; None of another."""
    is_file = url.get_backend_name() == "sqlite" and url.database
    return Path(str(url.database)).resolve() if is_file else None


def engine_arguments(url: sa.engine.URL) -> dict[str, Any]:
    """How SQLAlchemy is to connect."""
    if url.get_backend_name() == "sqlite":
        return {"connect_args": {"factory": _SqliteConnection, "timeout": _BUSY_SECONDS}}
    said = {key: value for key, value in _POSTGRESQL.items() if key not in url.query}
    return {"connect_args": {"application_name": "hpo", **said}}


def masked(url: str) -> str:
    """`url` without its password, for messages and logs."""
    try:
        return sa.engine.make_url(url).render_as_string(hide_password=True)
    except sa.exc.ArgumentError:
        return url


def shown(url: sa.engine.URL) -> str:
    """A URL as a user would write it, without its password."""
    return url.set(drivername=url.get_backend_name()).render_as_string(hide_password=True)


def cannot_open(url: sa.engine.URL, error: BaseException) -> StorageError:
    """The error that says why a storage cannot be opened, and what to do."""
    cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
    file = file_of(url)
    if file is None:
        return StorageError(
            f"cannot open storage '{shown(url)}': {cause}.",
            "Check that the server runs and that host, user and database are right.",
        )
    if not file.parent.is_dir():
        next_step = f"The folder {file.parent} does not exist; make it: mkdir -p {file.parent}"
    elif "not a database" in cause:
        next_step = "That file is something else; name another one with --storage."
    else:
        next_step = f"Check that {file.parent} can be written, or name another file with --storage."
    return StorageError(f"cannot open storage '{shown(url)}': {cause}.", next_step)
