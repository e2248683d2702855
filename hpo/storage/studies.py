"""Studies as rows of Optuna's tables."""

from __future__ import annotations

import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.study._frozen import FrozenStudy

from hpo.storage import codings, rows, schema
from hpo.storage.database import Database

_OF_TRIALS = (
    schema.params,
    schema.values,
    schema.steps,
    schema.user_attrs,
    schema.system_attrs,
    schema.heartbeats,
    schema.leases,
)
_OF_STUDIES = (
    schema.trials,
    schema.directions,
    schema.study_user_attrs,
    schema.study_system_attrs,
    schema.drivers,
    schema.studies,
)


def read(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> list[FrozenStudy]:
    """Studies, in the order they were made."""
    query = sa.select(schema.studies).where(*conditions).order_by(schema.studies.c.study_id)
    found = connection.execute(query).all()
    ids = [study.study_id for study in found]
    directions = sorted(_rows(connection, schema.directions, ids), key=lambda row: row.objective)
    user_attrs = _by_study(_rows(connection, schema.study_user_attrs, ids))
    system_attrs = _by_study(_rows(connection, schema.study_system_attrs, ids))
    ways = _by_study(directions)
    return [
        FrozenStudy(
            study_name=study.study_name,
            direction=None,
            directions=[row.direction for row in ways[study.study_id]],
            user_attrs=codings.attrs_of(user_attrs[study.study_id]),
            system_attrs=codings.attrs_of(system_attrs[study.study_id]),
            study_id=study.study_id,
        )
        for study in found
    ]


def _rows(connection: sa.Connection, table: sa.Table, ids: Sequence[int]) -> Sequence[sa.Row[Any]]:
    query = sa.select(table).where(table.c.study_id.in_(ids)).order_by(*table.primary_key)
    return connection.execute(query).all()


def _by_study(found: Sequence[sa.Row[Any]]) -> Mapping[int, list[sa.Row[Any]]]:
    of: dict[int, list[sa.Row[Any]]] = defaultdict(list)
    for row in found:
        of[row.study_id].append(row)
    return of


def insert(
    connection: sa.Connection,
    name: str,
    directions: Sequence[StudyDirection],
    user_attrs: Mapping[str, Any],
    system_attrs: Mapping[str, Any],
) -> int:
    """Makes a study; gives its id.

    Raises:
        DuplicatedStudyError: there is one of that name.
    """
    made = sa.insert(schema.studies).values(study_name=name).returning(schema.studies.c.study_id)
    try:
        study_id: int = connection.execute(made).scalar_one()
    except sa.exc.IntegrityError as error:
        raise DuplicatedStudyError(name) from error
    objectives = [{"objective": i, "direction": way} for i, way in enumerate(directions)]
    for table, of_table in (
        (schema.directions, objectives),
        (schema.study_user_attrs, codings.attr_rows(user_attrs)),
        (schema.study_system_attrs, codings.attr_rows(system_attrs)),
    ):
        if of_table:
            connection.execute(sa.insert(table), [{"study_id": study_id, **r} for r in of_table])
    return study_id


def create(
    database: Database,
    directions: Sequence[StudyDirection],
    name: str | None,
    system_attrs: Mapping[str, Any],
) -> int:
    """Makes a study in a transaction of its own; gives its id.

    Raises:
        DuplicatedStudyError: there is one of that name.
    """
    name = name or f"no-name-{uuid.uuid4()}"
    return database.write(lambda connection: insert(connection, name, directions, {}, system_attrs))


def delete(database: Database, study_id: int) -> None:
    """Deletes a study with all of its trials."""

    def everything(connection: sa.Connection) -> None:
        database.lock_study(connection, schema.studies, study_id)
        ids = sa.select(schema.trials.c.trial_id).where(schema.trials.c.study_id == study_id)
        for table in _OF_TRIALS:
            connection.execute(sa.delete(table).where(table.c.trial_id.in_(ids)))
        for table in _OF_STUDIES:
            connection.execute(sa.delete(table).where(table.c.study_id == study_id))

    database.write(everything)


def every(database: Database, *conditions: sa.ColumnElement[bool]) -> list[FrozenStudy]:
    """Studies, in the order they were made."""
    return database.read(lambda connection: read(connection, *conditions))


def find(database: Database, study_id: int) -> FrozenStudy:
    """The study of that id.

    Raises:
        KeyError: there is none.
    """
    found = every(database, schema.studies.c.study_id == study_id)
    if not found:
        raise KeyError(f"no study with id {study_id}")
    return found[0]


def id_of(database: Database, name: str) -> int:
    """The study of that name.

    Raises:
        KeyError: there is none.
    """
    found = _find(database, schema.studies.c.study_name == name)
    if found is None:
        raise KeyError(f"no study '{name}'")
    return int(found.study_id)


def name_of(database: Database, study_id: int) -> str:
    """The study's name.

    Raises:
        KeyError: there is no such study.
    """
    found = _find(database, schema.studies.c.study_id == study_id)
    if found is None:
        raise KeyError(f"no study with id {study_id}")
    return str(found.study_name)


def exists(database: Database, study_id: int, *, patient: bool = True) -> bool:
    """Whether there is a study.

    Raises:
        DatabaseAwayError: the database is away, and nobody is to wait.
    """
    return _find(database, schema.studies.c.study_id == study_id, patient=patient) is not None


def attrs(database: Database, table: sa.Table, study_id: int) -> dict[str, Any]:
    """The study's attributes in a table.

    Raises:
        KeyError: there is no such study.
    """
    name_of(database, study_id)
    return codings.attrs_of(database.read(lambda connection: _rows(connection, table, [study_id])))


def set_attr(database: Database, table: sa.Table, study_id: int, key: str, value: Any) -> None:
    """Sets an attribute.

    Raises:
        KeyError: there is no such study.
    """
    name_of(database, study_id)
    database.write(
        lambda connection: rows.write_attrs(connection, database, table, study_id, {key: value})
    )


def set_attr_once(database: Database, table: sa.Table, study_id: int, key: str, value: Any) -> Any:
    """Sets an attribute unless there is one; gives what there is then, whoever was first.

    Raises:
        StorageError: the study is gone.
    """

    def once(connection: sa.Connection) -> Any:
        database.lock_study(connection, schema.studies, study_id)
        found = codings.attrs_of(_rows(connection, table, [study_id]))
        if key not in found:
            rows.write_attrs(connection, database, table, study_id, {key: value})
        return found.get(key, value)

    return database.write(once)


def _find(
    database: Database, condition: sa.ColumnElement[bool], *, patient: bool = True
) -> sa.Row[Any] | None:
    query = sa.select(schema.studies).where(condition)
    return database.read(lambda c: c.execute(query).first(), patient=patient)
