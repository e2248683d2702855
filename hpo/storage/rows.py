"""Trials as rows of Optuna's tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

import sqlalchemy as sa
from optuna.distributions import (
    BaseDistribution,
    distribution_to_json,
    json_to_distribution,
)
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._rdb.models import TrialIntermediateValueModel, TrialValueModel
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.storage import schema
from hpo.storage.database import Database

_MOST_IDS = 500  # in one query; SQLite takes no more than 999 in all
_UNFINISHED = (TrialState.RUNNING, TrialState.WAITING)

_value = TrialValueModel.stored_repr_to_value
_step_value = TrialIntermediateValueModel.stored_repr_to_intermediate_value


def read(connection: sa.Connection, ids: Iterable[int]) -> list[FrozenTrial]:
    """The trials with these ids, in their order."""
    wanted, found = sorted(ids), []
    for start in range(0, len(wanted), _MOST_IDS):
        found += _read(connection, wanted[start : start + _MOST_IDS])
    return found


def _read(connection: sa.Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    rows = {table: _rows(connection, table, ids) for table in _PARTS}
    query = sa.select(schema.trials).where(schema.trials.c.trial_id.in_(ids))
    found = []
    for trial in connection.execute(query.order_by(schema.trials.c.trial_id)):
        of = {table: rows[table].get(trial.trial_id, ()) for table in _PARTS}
        drawn = {
            row.param_name: (_distribution(row.distribution_json), row.param_value)
            for row in of[schema.params]
        }
        reached = sorted(of[schema.values], key=lambda row: row.objective)
        found.append(
            FrozenTrial(
                number=trial.number,
                state=trial.state,
                value=None,
                values=[_value(row.value, row.value_type) for row in reached] or None,
                datetime_start=_as_local(trial.datetime_start),
                datetime_complete=_as_local(trial.datetime_complete),
                params={name: d.to_external_repr(value) for name, (d, value) in drawn.items()},
                distributions={name: d for name, (d, _) in drawn.items()},
                user_attrs=_attrs(of[schema.user_attrs]),
                system_attrs=_attrs(of[schema.system_attrs]),
                intermediate_values={
                    row.step: _step_value(row.intermediate_value, row.intermediate_value_type)
                    for row in of[schema.steps]
                },
                trial_id=trial.trial_id,
            )
        )
    return found


def no_worse(
    connection: sa.Connection, ids: Sequence[int], bound: float, direction: StudyDirection
) -> list[int]:
    """Those of some COMPLETE trials whose first value is not worse than a bound."""
    maximize = direction is StudyDirection.MAXIMIZE
    value, kind = schema.values.c.value, schema.values.c.value_type
    best = TrialValueModel.TrialValueType.INF_POS if maximize else TrialValueModel.TrialValueType.INF_NEG
    query = (
        sa.select(schema.values.c.trial_id)
        .join(schema.trials, schema.trials.c.trial_id == schema.values.c.trial_id)
        .where(
            schema.trials.c.state == TrialState.COMPLETE,
            schema.values.c.objective == 0,
            sa.or_(kind == best, value >= bound if maximize else value <= bound),
        )
    )
    found: list[int] = []
    for start in range(0, len(ids), _MOST_IDS):
        some = schema.values.c.trial_id.in_(ids[start : start + _MOST_IDS])
        found += connection.execute(query.where(some)).scalars()
    return found


_PARTS: Mapping[sa.Table, str] = {
    schema.params: "param_id",
    schema.values: "trial_value_id",
    schema.steps: "trial_intermediate_value_id",
    schema.user_attrs: "trial_user_attribute_id",
    schema.system_attrs: "trial_system_attribute_id",
}
"""Tables with rows for each trial, and by what these are ordered."""


def _rows(
    connection: sa.Connection, table: sa.Table, ids: Sequence[int]
) -> Mapping[int, list[Any]]:
    query = sa.select(table).where(table.c.trial_id.in_(ids)).order_by(table.c[_PARTS[table]])
    found: dict[int, list[Any]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.trial_id].append(row)
    return found


def _attrs(rows: Iterable[Any]) -> dict[str, Any]:
    return {row.key: json.loads(row.value_json) for row in rows}


@lru_cache(maxsize=10_000)
def _distribution(text: str) -> BaseDistribution:
    """A distribution, which nobody changes; a study has few of them."""
    return json_to_distribution(text)


def insert(
    connection: sa.Connection, database: Database, study_id: int, trial: FrozenTrial
) -> tuple[int, int]:
    """Writes a trial's own row.

    Returns:
        Its id and its number, which is the next one.

    Raises:
        StorageError: the study is gone.
    """
    # Numbers follow one another only if one process at a time makes a trial.
    database.lock_study(connection, schema.studies, study_id)
    last = (  # ids and numbers grow together
        sa.select(schema.trials.c.number)
        .where(schema.trials.c.study_id == study_id)
        .order_by(schema.trials.c.trial_id.desc())
        .limit(1)
        .scalar_subquery()
    )
    statement = (
        sa.insert(schema.trials)
        .values(
            study_id=study_id,
            number=sa.func.coalesce(last + 1, 0),
            state=trial.state,
            datetime_start=_as_utc(trial.datetime_start),
            datetime_complete=_as_utc(trial.datetime_complete),
        )
        .returning(schema.trials.c.trial_id, schema.trials.c.number)
    )
    row_id, number = connection.execute(statement).one()
    return row_id, number


def update_state(connection: sa.Connection, row_id: int, trial: FrozenTrial) -> None:
    """Writes that a trial has ended, or waits.

    Raises:
        UpdateFinishedTrialError: another process has finished it, or deleted its study.
    """
    ended = _as_utc(trial.datetime_complete)
    update = (
        sa.update(schema.trials)
        .where(schema.trials.c.trial_id == row_id, schema.trials.c.state.in_(_UNFINISHED))
        .values(state=trial.state, datetime_complete=ended)
    )
    if connection.execute(update).rowcount == 1:
        return
    # A commit whose answer was lost: it did arrive.
    same = sa.select(schema.trials.c.trial_id).where(
        schema.trials.c.trial_id == row_id,
        schema.trials.c.state == trial.state,
        schema.trials.c.datetime_complete == ended,
    )
    if connection.execute(same).first() is None:
        raise UpdateFinishedTrialError(f"trial {trial.number} was finished by another process")


def write_params(
    connection: sa.Connection, database: Database, row_id: int, trial: FrozenTrial, names: set[str]
) -> None:
    """Writes parameters, in the order of the trial."""
    rows = [
        {
            "trial_id": row_id,
            "param_name": name,
            "param_value": trial.distributions[name].to_internal_repr(trial.params[name]),
            "distribution_json": _as_json(trial.distributions[name]),
        }
        for name in trial.params
        if name in names
    ]
    database.upsert(connection, schema.params, ("trial_id", "param_name"), rows)


def _as_json(distribution: BaseDistribution) -> str:
    text: str = distribution_to_json(distribution)
    return text


def write_steps(
    connection: sa.Connection, database: Database, row_id: int, trial: FrozenTrial, steps: set[int]
) -> None:
    """Writes reported values."""
    stored = TrialIntermediateValueModel.intermediate_value_to_stored_repr
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
    database.upsert(connection, schema.steps, ("trial_id", "step"), rows)


def write_values(
    connection: sa.Connection, database: Database, row_id: int, values: Sequence[float]
) -> None:
    """Writes the objectives' values."""
    rows = []
    for objective, number in enumerate(values):
        value, kind = TrialValueModel.value_to_stored_repr(float(number))
        rows.append(
            {"trial_id": row_id, "objective": objective, "value": value, "value_type": kind}
        )
    database.upsert(connection, schema.values, ("trial_id", "objective"), rows)


def write_attrs(
    connection: sa.Connection,
    database: Database,
    table: sa.Table,
    row_id: int,
    attrs: Mapping[str, Any],
) -> None:
    """Writes attributes of a trial or of a study."""
    owner = "trial_id" if "trial_id" in table.c else "study_id"
    rows = [
        {owner: row_id, "key": key, "value_json": json.dumps(value)} for key, value in attrs.items()
    ]
    database.upsert(connection, table, (owner, "key"), rows)


def utc_now() -> datetime:
    """Now, naive as Optuna's tables have it."""
    return datetime.now(UTC).replace(tzinfo=None)


def local_now() -> datetime:
    """Now, naive and local as Optuna's trials have it."""
    return datetime.now()  # noqa: DTZ005


def _as_utc(local: datetime | None) -> datetime | None:
    return local.astimezone(UTC).replace(tzinfo=None) if local else None


def _as_local(utc: datetime | None) -> datetime | None:
    return utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None) if utc else None
