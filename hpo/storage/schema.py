"""The tables: Optuna's, and beside them three of hpo's own that Optuna's tools do not look at.

- ``hpo_drivers``: every process that ever drove a study, and when it was last heard of.
- ``hpo_leases``: by trial, the driver that runs it or ran it last, and its fencing number.
- ``hpo_schema``: the version of these.

They have no foreign keys, so that plain Optuna can delete a study without knowing of them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy as sa
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models

from hpo.errors import StorageError
from hpo.filesystems import network_file_system
from hpo.storage.urls import cannot_open, engine_arguments, file_of, masked, parse, shown

VERSION = 1
"""The version of hpo's own tables."""

studies = models.StudyModel.__table__
directions = models.StudyDirectionModel.__table__
study_user_attrs = models.StudyUserAttributeModel.__table__
study_system_attrs = models.StudySystemAttributeModel.__table__
trials = models.TrialModel.__table__
params = models.TrialParamModel.__table__
values = models.TrialValueModel.__table__
steps = models.TrialIntermediateValueModel.__table__
user_attrs = models.TrialUserAttributeModel.__table__
system_attrs = models.TrialSystemAttributeModel.__table__
heartbeats = models.TrialHeartbeatModel.__table__

_IDLE_SECONDS = 30  # between two statements of a transaction; they follow each other at once

_ours = sa.MetaData()

drivers = sa.Table(
    "hpo_drivers",
    _ours,
    sa.Column("driver_id", sa.String(36), primary_key=True),
    sa.Column("study_id", sa.Integer, nullable=False, index=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("began", sa.Double, nullable=False),
    sa.Column("beat", sa.Double, nullable=False),
    sa.Column("ended", sa.Double),
    sa.Column("about", sa.Text, nullable=False),
)

leases = sa.Table(
    "hpo_leases",
    _ours,
    sa.Column("trial_id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("driver_id", sa.String(36), nullable=False),
    sa.Column("fence", sa.Integer, nullable=False),
    sa.Column("token", sa.String(36), nullable=False),
    sa.Column("given", sa.Double, nullable=False),
)

_version = sa.Table("hpo_schema", _ours, sa.Column("version", sa.Integer, primary_key=True))

_alembics = sa.MetaData()
_revision = sa.Table(
    "alembic_version",
    _alembics,
    sa.Column("version_num", sa.String(32), nullable=False),
    sa.PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)

_PROBLEMS = sa.exc.SQLAlchemyError, StorageInternalError


def engine_at(url: str) -> sa.engine.Engine:
    """Opens the database at `url` and makes the tables that it lacks.

    Any number of processes may do so at once.

    Raises:
        StorageError: it cannot be opened, holds another program's tables, or tables of another
            version.
    """
    parsed = parse(url)
    _refuse_network(parsed)
    engine = sa.create_engine(parsed, **engine_arguments(parsed))
    if parsed.get_backend_name() == "postgresql":
        sa.event.listen(engine, "connect", _limit_transactions)
    try:
        found = _versions(engine)
        if found != _wanted():
            with _alone(engine):
                found = _versions(engine)
                if found[1] is None:  # there may be Optuna's tables already, of any version
                    _make(engine, optunas=found[0] is None)
                    found = _versions(engine)
    except _PROBLEMS as error:
        cause = error.__cause__ if isinstance(error, StorageInternalError) else error
        raise cannot_open(parsed, cause or error) from error
    _demand(found, shown(parsed))
    return engine


def _limit_transactions(connection: Any, _: object) -> None:
    """Lets the server end the transaction of a process that was frozen, or cut off, within it.

    Else all others would wait for its locks, of a machine that is gone for hours.
    """
    with connection.cursor() as cursor:
        cursor.execute(f"SET idle_in_transaction_session_timeout = '{_IDLE_SECONDS}s'")
    connection.commit()


def upgrade(url: str) -> tuple[str, str]:
    """Brings old tables up to date.

    Returns:
        The versions before and after, as text.

    Raises:
        StorageError: the database cannot be opened, or its tables are newer than this hpo.
    """
    parsed = parse(url)
    engine = sa.create_engine(parsed, **engine_arguments(parsed))
    try:
        with _alone(engine):
            before = _versions(engine)
            if before[0] not in (None, *_known_to_optuna()) or (before[1] or 0) > VERSION:
                _demand(before, shown(parsed))
            if before[0] not in (None, _wanted()[0]):
                _optunas(engine, create=False).upgrade()
            _make(engine, optunas=before[0] is None)
            after = _versions(engine)
    except _PROBLEMS as error:
        raise cannot_open(parsed, error.__cause__ or error) from error
    finally:
        engine.dispose()
    return _named(before), _named(after)


def _refuse_network(url: sa.engine.URL) -> None:
    """Refuses a SQLite file where its locks and its shared memory do not work.

    Raises:
        StorageError: it lies on a network file system.
    """
    file = file_of(url)
    kind = network_file_system(file) if file else None
    if kind is not None:
        raise StorageError(
            f"storage '{shown(url)}' lies on a network file system ({kind}), where SQLite's locks "
            "do not hold and processes would overwrite one another's trials.",
            "Put it on a local disk, or use PostgreSQL: --storage postgresql://...",
        )


Versions = tuple[str | None, int | None]
"""The versions of Optuna's tables (its alembic revision) and of ours; None where there are none."""


def _wanted() -> Versions:
    return _known_to_optuna()[0], VERSION


def _known_to_optuna() -> list[str]:
    """Versions of Optuna's tables that this Optuna knows, the newest first."""
    folder = Path(models.__file__).with_name("alembic") / "versions"
    found = [path.stem.rstrip("_") for path in folder.glob("v*.py")]
    return sorted(found, key=_by_number, reverse=True)


def _by_number(revision: str) -> tuple[list[int], str]:
    """``v2.6.0.a`` after ``v2.4.0.b``, and before ``v12.0.0.a``."""
    *numbers, letter = revision.removeprefix("v").split(".")
    return [int(number) for number in numbers], letter


def _versions(engine: sa.engine.Engine) -> Versions:
    """Which tables there are.

    Raises:
        StorageError: they have Optuna's names but are another program's, MLflow's for example.
    """
    inspector = sa.inspect(engine)
    tables = set(inspector.get_table_names())
    columns = inspector.get_columns("studies") if "studies" in tables else []
    has_optunas = {"study_id", "study_name"} <= {column["name"] for column in columns}
    if tables & {"alembic_version", "studies"} and not has_optunas:
        raise StorageError(
            f"storage '{shown(engine.url)}' holds another program's tables.",
            "Name another database with --storage.",
        )
    with engine.connect() as connection:
        optunas = ours = None
        if "alembic_version" in tables:
            optunas = connection.scalar(sa.text("SELECT version_num FROM alembic_version"))
        if _version.name in tables:
            ours = connection.scalar(sa.select(sa.func.max(_version.c.version)))
    return optunas, ours


def _make(engine: sa.engine.Engine, *, optunas: bool) -> None:
    """Makes the tables that are missing."""
    if optunas and sa.inspect(engine).has_table("studies"):
        _optunas(engine)  # they have no version: of before alembic, or half of them
    elif optunas:
        _make_optunas(engine)
    _ours.create_all(engine)
    with engine.begin() as connection:
        connection.execute(sa.delete(_version))
        connection.execute(sa.insert(_version).values(version=VERSION))


def _make_optunas(engine: sa.engine.Engine) -> None:
    """Makes Optuna's tables as RDBStorage does.

    RDBStorage loads all that ever changed them to find out what their version is, which costs more
    than all else that a new database takes.
    """
    models.BaseModel.metadata.create_all(engine)
    _alembics.create_all(engine)
    with engine.begin() as connection:
        version = {
            "schema_version": models.SCHEMA_VERSION,
            "library_version": optuna.__version__,
        }
        connection.execute(sa.insert(models.VersionInfoModel).values(version))
        connection.execute(sa.insert(_revision).values(version_num=_wanted()[0]))


def _optunas(engine: sa.engine.Engine, *, create: bool = True) -> RDBStorage:
    # RDBStorage fills a template into the URL with str.format, so braces are doubled.
    url = engine.url.render_as_string(hide_password=False)
    template = url.replace("{", "{{").replace("}", "}}")
    storage = RDBStorage(
        template,
        engine_arguments(engine.url),
        skip_compatibility_check=True,
        skip_table_creation=not create,
    )
    storage.remove_session()
    storage.engine.dispose()
    return storage


def _demand(found: Versions, url: str) -> None:
    """Refuses tables of another version.

    Raises:
        StorageError: with what to type.
    """
    if found == _wanted():
        return
    optunas, ours = found
    is_newer = optunas not in _known_to_optuna() or (ours or 0) > VERSION
    raise StorageError(
        f"storage {url} has {'newer' if is_newer else 'older'} tables: {_named(found)}; this hpo "
        f"has {_named(_wanted())}.",
        "Install a newer hpo: pip install -U hpo"
        if is_newer
        else f"Bring it up to date: hpo db upgrade --storage {masked(url)}",
    )


def _named(found: Versions) -> str:
    optunas, ours = found
    return f"Optuna {optunas or 'none'}, hpo {ours or 'none'}"


@contextmanager
def _alone(engine: sa.engine.Engine) -> Iterator[None]:
    """Keeps all other processes out of here, on PostgreSQL those of other machines, too."""
    file = file_of(engine.url)
    if file is None:
        name = int.from_bytes(hashlib.sha256(b"hpo tables").digest()[:7], "big")
        with engine.connect() as connection:
            connection.execute(sa.select(sa.func.pg_advisory_lock(name)))
            try:
                yield
            finally:
                connection.execute(sa.select(sa.func.pg_advisory_unlock(name)))
        return
    # Not the database's own file: closing it again would drop SQLite's locks (sqlite.org, "How To
    # Corrupt", section 2.2).
    path = Path(tempfile.gettempdir()) / f"hpo-{os.getuid()}.lock"
    lock = os.open(path, os.O_CREAT | os.O_RDWR | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
