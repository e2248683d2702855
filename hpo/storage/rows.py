"""Trials as rows of Optuna's tables."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import sqlalchemy as sa
from optuna.storages._rdb.models import TrialValueModel
from optuna.trial import FrozenTrial, TrialState

from hpo.storage import codings, schema
from hpo.storage.database import Database
from hpo.storage.script import Script

NO_TRIAL = -1
"""In every list of ids: PostgreSQL takes an empty one for a subquery, and reads all trials."""

_MOST_IDS = 500  # in one query; SQLite takes no more than 999 in all


def read(connection: sa.Connection, ids: Iterable[int]) -> list[FrozenTrial]:
    """The trials with these ids, in their order."""
    wanted, found = sorted(ids), []
    for start in range(0, len(wanted), _MOST_IDS):
        found += _read(connection, wanted[start : start + _MOST_IDS])
    return found


def _read(connection: sa.Connection, ids: Sequence[int]) -> list[FrozenTrial]:
    query = sa.select(schema.trials).where(schema.trials.c.trial_id.in_(ids))
    # States before parts: a trial may end meanwhile, and one that has ended must have all of them.
    trials = connection.execute(query.order_by(schema.trials.c.trial_id)).all()
    parts = {table: parts_in(connection, table, ids) for table in PARTS}
    found = []
    for trial in trials:
        of = {table: parts[table][trial.trial_id] for table in PARTS}
        drawn = {
            row.param_name: (codings.distribution_of(row.distribution_json), row.param_value)
            for row in of[schema.params]
        }
        found.append(
            FrozenTrial(
                number=trial.number,
                state=trial.state,
                value=None,
                values=codings.values_of(of[schema.values]) or None,
                datetime_start=_as_local(trial.datetime_start),
                datetime_complete=_as_local(trial.datetime_complete),
                params={name: d.to_external_repr(value) for name, (d, value) in drawn.items()},
                distributions={name: d for name, (d, _) in drawn.items()},
                user_attrs=codings.attrs_of(of[schema.user_attrs]),
                system_attrs=codings.attrs_of(of[schema.system_attrs]),
                intermediate_values=codings.steps_of(of[schema.steps]),
                trial_id=trial.trial_id,
            )
        )
    return found


def no_worse(
    connection: sa.Connection, ids: Sequence[int], bound: float, *, maximize: bool
) -> list[int]:
    """The trials among some COMPLETE ones whose first value is not worse than a bound."""
    value, kind = schema.values.c.value, schema.values.c.value_type
    best = (
        TrialValueModel.TrialValueType.INF_POS
        if maximize
        else TrialValueModel.TrialValueType.INF_NEG
    )
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


PARTS = (schema.values, schema.params, schema.steps, schema.user_attrs, schema.system_attrs)
"""Tables with rows for each trial."""


def parts_in(
    connection: sa.Connection, table: sa.Table, ids: Sequence[int]
) -> Mapping[int, list[sa.Row[Any]]]:
    """The rows of each trial in one table, in the order in which they were written."""
    query = sa.select(table).where(table.c.trial_id.in_(ids)).order_by(*table.primary_key)
    found: dict[int, list[sa.Row[Any]]] = defaultdict(list)
    for row in connection.execute(query):
        found[row.trial_id].append(row)
    return found


_LAST = "SELECT number FROM trials WHERE study_id = %s ORDER BY trial_id DESC LIMIT 1"
_NEXT = f"coalesce(({_LAST}) + 1, 0)"  # ids and numbers grow together
_ALIKE = (
    "SELECT other.trial_id FROM trials AS other JOIN trial_system_attributes AS attrs "
    "ON attrs.trial_id = other.trial_id WHERE other.study_id = %s "
    """AND attrs."key" = %s AND attrs.value_json = {value} AND {recent}"""
)


@dataclass(frozen=True)
class Recent:
    """Trials that may have changed since a look at a study; all others had ended.

    Args:
        newest: The newest trial's id then.
        unfinished: The ids of those that had not ended.
    """

    newest: int
    unfinished: Sequence[int]

    def has(self, trial_id: str) -> str:
        """Whether a trial is one of them, as SQL."""
        ids = ", ".join(map(str, (NO_TRIAL, *self.unfinished)))
        return f"({trial_id} > {self.newest} OR {trial_id} IN ({ids}))"


@dataclass(frozen=True)
class FailureLimits:
    """How many trials of a study may fail before it has failed itself.

    Args:
        most: In all; None for any number. One more has failed when the study has.
        in_a_row: Of those that were got since a time and have ended, the newest by number.
        since: That time, by the database's clock.
    """

    most: int | None
    in_a_row: int
    since: float

    def allow(
        self, study_id: int, n_failed: int, recent: Recent
    ) -> Iterator[tuple[str, Sequence[Any]]]:
        """Whether one more trial may fail, as conditions in SQL, each with its values.

        Args:
            study_id: The study.
            n_failed: How many had failed at the last look.
            recent: What may have changed since.
        """
        if self.most is not None:
            new = f"study_id = %s AND state = 'FAIL' AND {recent.has('trial_id')}"
            counted = f"%s + (SELECT count(*) FROM trials WHERE {new}) <= %s"
            yield counted, [n_failed, study_id, self.most]
        sql, values = self.have_failed_in_a_row(study_id)
        yield f"NOT {sql}", values

    def have_failed_in_a_row(self, study_id: int) -> tuple[str, Sequence[Any]]:
        """Whether too many in a row have failed, as SQL, with its values."""
        newest = (
            "SELECT ended.state FROM trials AS ended "
            "JOIN hpo_leases AS leases ON leases.trial_id = ended.trial_id "
            "WHERE ended.study_id = %s AND ended.state IN ('COMPLETE', 'PRUNED', 'FAIL') "
            "AND leases.given >= %s ORDER BY ended.trial_id DESC LIMIT %s"
        )
        failed = f"SELECT count(*) FROM ({newest}) AS newest WHERE state = 'FAIL'"
        return f"(({failed}) >= %s)", [study_id, self.since, self.in_a_row, self.in_a_row]


@dataclass(frozen=True)
class Conditions:
    """The conditions on which a new trial gets its row.

    Args:
        limit: It is not one trial too many.
        unlike: None of these trials has this attribute with this value.
        token: Nothing was leased under it.
    """

    limit: int | None = None
    unlike: tuple[Recent, str, Any] | None = None
    token: str | None = None

    def of(self, study_id: int) -> Iterator[tuple[str, Sequence[Any]]]:
        """The conditions as SQL, each with its values."""
        yield "EXISTS (SELECT 1 FROM studies WHERE study_id = %s)", [study_id]
        if self.limit is not None:
            yield f"{_NEXT} < %s", [study_id, self.limit]
        if self.unlike is not None:
            recent, key, value = self.unlike
            alike = _ALIKE.format(value="%s", recent=recent.has("other.trial_id"))
            yield f"NOT EXISTS ({alike})", [study_id, key, json.dumps(value)]
        if self.token is not None:
            yield "NOT EXISTS (SELECT 1 FROM hpo_leases WHERE token = %s)", [self.token]


def lock(script: Script, study_id: int) -> None:
    """Begins a transaction that counts or compares trials: of a study, one runs at a time.

    On SQLite, where writers take turns, the first statement that writes is enough.
    """
    if script.is_postgresql:
        script.add("SELECT 1 FROM studies WHERE study_id = %s FOR UPDATE", study_id)


def insert(script: Script, study_id: int, trial: FrozenTrial, conditions: Conditions) -> None:
    """Writes a trial's own row, under the next number."""
    lock(script, study_id)  # numbers follow one another only if one at a time makes a trial
    demanded = list(conditions.of(study_id))
    all_hold = " AND ".join(sql for sql, _ in demanded)
    script.add(
        "INSERT INTO trials (study_id, number, state, datetime_start, datetime_complete) "
        f"VALUES (%s, {_NEXT}, CASE WHEN {all_hold} THEN {script.state} END, %s, %s)",
        *(study_id, study_id),
        *(value for _, values in demanded for value in values),
        trial.state.name,
        _stored(trial.datetime_start),
        _stored(trial.datetime_complete),
    )


def update_state(
    script: Script, trial: FrozenTrial, conditions: Iterable[tuple[str, Sequence[Any]]] = ()
) -> None:
    """Writes that a trial has ended, or waits; refused if another process has finished it.

    Args:
        script: The transaction.
        trial: The trial.
        conditions: On which it may end so, as SQL, each with its values.
    """
    demanded = [("state IN ('RUNNING', 'WAITING')", []), *conditions]
    all_hold = " AND ".join(sql for sql, _ in demanded)
    state = f"CASE WHEN {all_hold} THEN {script.state} END"
    script.add(
        f"UPDATE trials SET state = {state}, datetime_complete = %s WHERE trial_id = {script.at}",
        *(value for _, values in demanded for value in values),
        trial.state.name,
        _stored(trial.datetime_complete),
    )


def claim(script: Script) -> None:
    """WAITING -> RUNNING; refused in any other state."""
    state = f"CASE WHEN state = 'WAITING' THEN {script.state} END"
    script.add(
        f"UPDATE trials SET state = {state}, datetime_start = %s WHERE trial_id = {script.at}",
        TrialState.RUNNING.name,
        _stored(local_now()),
    )


def twin(
    study_id: int, row_id: int, recent: Recent, key: str, value: Any = None
) -> tuple[str, Sequence[Any]]:
    """Another trial that runs and has the same value of an attribute, as SQL, with its values.

    Args:
        study_id: The study.
        row_id: The trial that is not to be found.
        recent: Among these there is what runs.
        key: The attribute.
        value: Its value; None is what the trial itself has, if it has one.
    """
    own = f'SELECT value_json FROM trial_system_attributes WHERE trial_id = {row_id} AND "key" = %s'
    wanted, values = (f"({own})", [key]) if value is None else ("%s", [json.dumps(value)])
    alike = _ALIKE.format(value=wanted, recent=recent.has("other.trial_id"))
    sql = f"{alike} AND other.state = 'RUNNING' AND other.trial_id <> {row_id}"
    return sql, [study_id, key, *values]


def demand_no(script: Script, query: tuple[str, Sequence[Any]]) -> None:
    """Refuses a transaction about a trial if a query finds something."""
    sql, values = query
    state = f"CASE WHEN NOT EXISTS ({sql}) THEN state END"
    script.add(f"UPDATE trials SET state = {state} WHERE trial_id = {script.at}", *values)


def forget_steps(script: Script, first: int) -> None:
    """Deletes what was reported from a step on."""
    steps = schema.steps.name
    script.add(f"DELETE FROM {steps} WHERE trial_id = {script.at} AND step >= %s", first)


def write_params(script: Script, trial: FrozenTrial, names: set[str]) -> None:
    """Writes parameters, in the order of the trial."""
    rows = []
    for name, distribution in trial.distributions.items():
        if name in names:
            value = float(distribution.to_internal_repr(trial.params[name]))
            text = codings.distribution_text(distribution)
            rows.append({"param_name": name, "param_value": value, "distribution_json": text})
    script.upsert(schema.params, ("param_name",), rows)


def write_steps(script: Script, trial: FrozenTrial, steps: set[int]) -> None:
    """Writes reported values."""
    reported = ((step, trial.intermediate_values[step]) for step in sorted(steps))
    script.upsert(schema.steps, ("step",), codings.step_rows(reported))


def write_values(script: Script, values: Sequence[float]) -> None:
    """Writes the objectives' values."""
    script.upsert(schema.values, ("objective",), codings.value_rows(map(float, values)))


def write_trial_attrs(script: Script, table: sa.Table, attrs: Mapping[str, Any]) -> None:
    """Writes attributes of a trial."""
    script.upsert(table, ("key",), codings.attr_rows(attrs))


def find(script: Script) -> None:
    """Ends a script: the trial's id, number and fencing number."""
    script.add(
        "SELECT trials.trial_id, number, fence FROM trials LEFT JOIN hpo_leases "
        f"ON hpo_leases.trial_id = trials.trial_id WHERE trials.trial_id = {script.at}"
    )


def write_attrs(
    connection: sa.Connection,
    database: Database,
    table: sa.Table,
    row_id: int,
    attrs: Mapping[str, Any],
) -> None:
    """Writes attributes of a trial or of a study."""
    owner = "trial_id" if "trial_id" in table.c else "study_id"
    rows = [{owner: row_id, **row} for row in codings.attr_rows(attrs)]
    database.upsert(connection, table, (owner, "key"), rows)


def local_now() -> datetime:
    """Now, naive and local as Optuna's trials have it."""
    return datetime.now()  # noqa: DTZ005


def _as_utc(local: datetime | None) -> datetime | None:
    return local.astimezone(UTC).replace(tzinfo=None) if local else None


def _stored(local: datetime | None) -> str | None:
    """A value as SQLAlchemy would store it."""
    return f"{utc:%Y-%m-%d %H:%M:%S.%f}" if (utc := _as_utc(local)) else None


def _as_local(utc: datetime | None) -> datetime | None:
    return utc.replace(tzinfo=UTC).astimezone().replace(tzinfo=None) if utc else None
