r"""A study as lines of JSON, and back: from one database to another without loss.

The format, version 1. Each line is one JSON object in ASCII::

    {"format": "hpo study", "version": 1, "hpo": "0.1.0", "optuna": "5.0.0", "n_trials": 60}
    {"name": "digits", "directions": ["minimize"], "user_attrs": {}, "system_attrs": {...}}
    {"trial": 0, "state": "COMPLETE", "start": "2026-01-31T12:00:00.123456+00:00",
     "complete": "...", "values": [0.03], "params": {"lr": {"value": 0.1, "distribution": {...}}},
     "steps": [[1, 0.5], [2, "NaN"]], "user_attrs": {}, "system_attrs": {}}

The first line says how many lines of trials follow the second, so that a file that was cut off is
noticed. Trials stand in the order in which they were made, steps in that in which they were
reported. Times are UTC; `values` is null where a trial has none; a distribution is what
`optuna.distributions.distribution_to_json` writes. JSON has no NaN and no infinity: they are the
strings "NaN", "Infinity" and "-Infinity", and a string that reads so, after any number of
backslashes, has one more backslash in front. Floats have as many digits as they need to be the
same again.

What hpo itself notes of a study (``hpo:spec``, ``hpo:directory``, ...) is among its system
attributes. Who runs which trial now is not written: it ends with the move.
"""

from __future__ import annotations

import json
import math
import re
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from importlib import metadata
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

import sqlalchemy as sa
from optuna.distributions import CategoricalDistribution
from optuna.exceptions import DuplicatedStudyError
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpo.catalog import DIRECTORY, SPEC, STATE, UID, StudyRecord
from hpo.errors import ExportFileError, HpoError, SpecError, StorageError, StudyNotFoundError
from hpo.spec import from_stored
from hpo.storage import Storage, codings, rows, schema, studies
from hpo.trial import MLFLOW_RUN

FORMAT = "hpo study"
VERSION = 1

_TRIALS_AT_ONCE = 500
_EXPORT_AGAIN = "Export the study again: hpo db export STUDY --output FILE"

_T = TypeVar("_T")
_Document: TypeAlias = dict[str, Any]
_Rows: TypeAlias = dict[sa.Table, list[dict[str, Any]]]


@dataclass(frozen=True)
class Imported:
    """What an import brought.

    Args:
        name: The study's name in its new storage.
        n_trials: How many trials it has.
        n_put_back: How many of them were RUNNING and now wait to be taken up again.
        directory: Where its metrics and checkpoints are looked for; None if plain Optuna made it.
    """

    name: str
    n_trials: int
    n_put_back: int
    directory: Path | None


def export_study(study: StudyRecord) -> Iterator[str]:
    """The lines of a study, each with its newline, as it was at one moment.

    Args:
        study: The study; it may be running.

    Raises:
        StudyNotFoundError: it has been deleted meanwhile.
    """
    study.storage.flush()
    with _snapshot(study.storage.engine) as connection:
        of_study = sa.select(sa.func.count()).where(schema.trials.c.study_id == study.id)
        yield _line(
            {
                "format": FORMAT,
                "version": VERSION,
                "hpo": metadata.version("hpo"),
                "optuna": metadata.version("optuna"),
                "n_trials": connection.execute(of_study).scalar_one(),
            }
        )
        yield _line(_study_document(connection, study.id))
        for trial in _trial_documents(connection, study.id):
            yield _line(trial)


def import_study(
    storage: Storage,
    lines: Iterable[str | bytes],
    *,
    name: str | None = None,
    directory: Path | None = None,
    source: str = "the export",
) -> Imported:
    """Makes a study from its lines, in one transaction.

    A trial that ran when it was exported waits to be taken up again from its last checkpoint.
    With a name of its own the study is a copy, which shares neither run directory nor MLflow
    runs with the other.

    Args:
        storage: Where to.
        lines: What `export_study` gave.
        name: Another name for it.
        directory: Where its metrics and checkpoints are here, if not where they were.
        source: What to call the lines in messages: their file.

    Raises:
        ExportFileError: the lines are not an export, of a newer format, damaged or cut off.
        HpoError: there is a study of that name, or the name is none.
        StorageError: the database cannot be written.
    """
    export = _Export(lines, source)
    header = export.read(_header)
    if header["version"] > VERSION:
        raise ExportFileError(
            f"{source} was written by hpo {header.get('hpo')} in version {header['version']} of "
            f"the format; this hpo reads up to version {VERSION}.",
            "Install a newer hpo here.",
        )
    arrival = export.read(lambda document: _Arrival(_study(document), name, directory))
    try:
        with storage.engine.begin() as connection:
            study_id = _insert_study(connection, arrival.study)
            trials = export.read_all(arrival.rows)
            while chunk := list(islice(trials, _TRIALS_AT_ONCE)):
                _insert_trials(connection, study_id, chunk)
            if arrival.n_trials != header["n_trials"]:
                raise ExportFileError(
                    f"{source} is cut off or was changed: its first line says "
                    f"{header['n_trials']} trials, and it has {arrival.n_trials}.",
                    _EXPORT_AGAIN,
                )
    # The last two are the drivers' own: a NUL in a name, an integer of more than 64 bits.
    except (sa.exc.SQLAlchemyError, ValueError, OverflowError) as error:
        cause = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        message = f"cannot write study '{arrival.name}' into {storage.url}: {cause}."
        raise StorageError(message, "Nothing was imported.") from error
    return Imported(arrival.name, arrival.n_trials, arrival.n_put_back, arrival.directory)


# --- from tables to lines ---


@contextmanager
def _snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection for which the database stands still, whatever others write."""
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            connection.execution_options(isolation_level="REPEATABLE READ")
        else:
            connection.exec_driver_sql("BEGIN")  # Python's sqlite3 begins none for a SELECT
        yield connection


def _study_document(connection: sa.Connection, study_id: int) -> _Document:
    found = studies.read(connection, schema.studies.c.study_id == study_id)
    if not found:
        raise StudyNotFoundError("the study was deleted meanwhile.", "List others: hpo studies")
    (study,) = found
    return {
        "name": study.study_name,
        "directions": [direction.name.lower() for direction in study.directions],
        "user_attrs": study.user_attrs,
        "system_attrs": study.system_attrs,
    }


def _trial_documents(connection: sa.Connection, study_id: int) -> Iterator[_Document]:
    trials = schema.trials
    query = sa.select(trials).where(trials.c.study_id == study_id).order_by(trials.c.trial_id)
    for some in connection.execute(query).partitions(_TRIALS_AT_ONCE):
        ids = [trial.trial_id for trial in some]
        parts = {table: rows.parts_in(connection, table, ids) for table in rows.PARTS}
        for trial in some:
            of = {table: parts[table][trial.trial_id] for table in rows.PARTS}
            yield {
                "trial": trial.number,
                "state": trial.state.name,
                "start": _as_text(trial.datetime_start),
                "complete": _as_text(trial.datetime_complete),
                "values": codings.values_of(of[schema.values]) or None,
                "params": {row.param_name: _param(row) for row in of[schema.params]},
                "steps": [list(step) for step in codings.steps_of(of[schema.steps]).items()],
                "user_attrs": codings.attrs_of(of[schema.user_attrs]),
                "system_attrs": codings.attrs_of(of[schema.system_attrs]),
            }


def _param(row: sa.Row[Any]) -> _Document:
    distribution = codings.distribution_of(row.distribution_json)
    return {
        "value": distribution.to_external_repr(row.param_value),
        "distribution": json.loads(row.distribution_json),
    }


def _as_text(utc: datetime | None) -> str | None:
    return utc.replace(tzinfo=UTC).isoformat(timespec="microseconds") if utc else None


# --- one line ---

_NOT_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_ESCAPED = re.compile(r"\\*(?:NaN|-?Infinity)")


def _line(document: _Document) -> str:
    return json.dumps(_strict(document), allow_nan=False, separators=(",", ":")) + "\n"


def _strict(value: Any) -> Any:
    """A value without NaN and infinity; `_exact` is the inverse."""
    if isinstance(value, float) and not math.isfinite(value):
        return next(name for name, number in _NOT_FINITE.items() if repr(number) == repr(value))
    if isinstance(value, str) and _ESCAPED.fullmatch(value):
        return "\\" + value
    return _inside(value, _strict)


def _exact(value: Any) -> Any:
    if isinstance(value, str) and _ESCAPED.fullmatch(value):
        return _NOT_FINITE[value] if value in _NOT_FINITE else value[1:]
    return _inside(value, _exact)


def _inside(value: Any, change: Callable[[Any], Any]) -> Any:
    if isinstance(value, dict):
        return {key: change(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [change(inner) for inner in value]
    return value


# --- from lines to tables ---


class _Export:
    """Lines that are read one after another, each checked as it is read.

    Args:
        lines: The lines; empty ones do not count.
        source: What to call them.
    """

    def __init__(self, lines: Iterable[str | bytes], source: str) -> None:
        self._lines = ((n, line) for n, line in enumerate(lines, 1) if line.strip())
        self._source = source

    def read(self, of: Callable[[_Document], _T]) -> _T:
        """The next line, which must be there."""
        found = next(self.read_all(of), None)
        if found is None:
            raise ExportFileError(
                f"{self._source} is empty or cut off: it holds no study.", _EXPORT_AGAIN
            )
        return found

    def read_all(self, of: Callable[[_Document], _T]) -> Iterator[_T]:
        """All further lines, as what `of` makes of them.

        Raises:
            ExportFileError: a line is not a JSON object, or not what `of` expects; where.
        """
        for number, line in self._lines:
            try:
                document = _exact(json.loads(line))
            except (ValueError, RecursionError) as error:
                raise self._damaged(number, f"no JSON ({error})") from error
            try:
                yield of(document)
            except KeyError as error:
                raise self._damaged(number, f"{error} is missing or unknown") from error
            except (AttributeError, TypeError, ValueError) as error:
                raise self._damaged(number, str(error)) from error

    def _damaged(self, number: int, why: str) -> ExportFileError:
        return ExportFileError(
            f"{self._source}, line {number}: {why}. It is damaged, cut off, or no export.",
            _EXPORT_AGAIN,
        )


def _header(document: _Document) -> _Document:
    if document["format"] != FORMAT:
        raise ValueError(f"its format is {document['format']!r}, not {FORMAT!r}")
    _integer(document["version"])
    _integer(document["n_trials"])
    return document


def _study(document: _Document) -> _Document:
    return {
        "name": _text(document["name"]),
        "directions": [StudyDirection[name.upper()] for name in document["directions"]],
        "user_attrs": dict(document["user_attrs"]),
        "system_attrs": dict(document["system_attrs"]),
    }


class _Arrival:
    """A study on its way into a storage: what changes, and what has come so far.

    Args:
        study: The study's line.
        name: Another name for it.
        directory: Another run directory.
    """

    def __init__(self, study: _Document, name: str | None, directory: Path | None) -> None:
        self.name: str = name or study["name"]
        self.n_put_back = 0
        self._numbers: set[int] = set()
        self._is_copy = self.name != study["name"]
        attrs = study["system_attrs"]
        if attrs.get(STATE, {}).get("state") == "running":
            reason = "it was exported while it ran"
            attrs = {**attrs, STATE: {**attrs[STATE], "state": "interrupted", "reason": reason}}
        if self._is_copy and SPEC in attrs:
            attrs = {**attrs, **_as_copy(attrs, self.name)}
        if directory is not None and DIRECTORY in attrs:
            attrs = {**attrs, DIRECTORY: str(directory.resolve())}
        self.directory = Path(attrs[DIRECTORY]) if DIRECTORY in attrs else None
        self.study = {**study, "name": self.name, "system_attrs": attrs}

    @property
    def n_trials(self) -> int:
        """How many trials have come."""
        return len(self._numbers)

    def rows(self, trial: _Document) -> _Rows:
        """The next trial's rows, but for its id."""
        if trial["state"] == TrialState.RUNNING.name:  # as `Storage.put_back` leaves it
            trial = {**trial, "state": TrialState.WAITING.name, "start": None, "steps": []}
            self.n_put_back += 1
        if self._is_copy:
            attrs = trial["system_attrs"]
            kept = {key: value for key, value in attrs.items() if key != MLFLOW_RUN}
            trial = {**trial, "system_attrs": kept}
        if trial["trial"] in self._numbers:
            raise ValueError(f"trial {trial['trial']} is there twice")
        self._numbers.add(trial["trial"])
        return _rows(trial, n_objectives=len(self.study["directions"]))


def _as_copy(attrs: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What tells a copy of hpo's study apart from the other.

    Raises:
        HpoError: hpo's studies cannot be called that.
    """
    uid = uuid.uuid4().hex
    renamed = {**attrs[SPEC], "name": name}
    try:
        from_stored(renamed)
    except SpecError as error:  # of mistakes that it had before, the next run tells
        for mistake in error.mistakes:
            if mistake.path[:1] == ("name",):
                message = f"a study cannot be called '{name}': {mistake.message}"
                raise HpoError(message, "Choose another: --name NEW") from error
    directory = Path(attrs[DIRECTORY]).with_name(f"{name}-{uid[:8]}")
    return {UID: uid, SPEC: renamed, DIRECTORY: str(directory)}


def _insert_study(connection: sa.Connection, study: _Document) -> int:
    try:
        return studies.insert(connection, **study)
    except DuplicatedStudyError as error:
        raise HpoError(
            f"there is a study '{study['name']}' already.",
            "Give this one another name: --name NEW",
        ) from error


def _insert_trials(connection: sa.Connection, study_id: int, trials: Sequence[_Rows]) -> None:
    insert = sa.insert(schema.trials).returning(
        schema.trials.c.trial_id, sort_by_parameter_order=True
    )
    heads = [{"study_id": study_id, **trial[schema.trials][0]} for trial in trials]
    ids = connection.execute(insert, heads).scalars().all()
    for table in rows.PARTS:
        of_table = [
            {"trial_id": trial_id, **row}
            for trial_id, trial in zip(ids, trials, strict=True)
            for row in trial[table]
        ]
        if of_table:
            connection.execute(sa.insert(table), of_table)


def _rows(trial: _Document, *, n_objectives: int) -> _Rows:
    """A trial as rows of Optuna's tables, but for its id.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: the line is not that of a trial.
    """
    values = trial["values"]
    if values is not None and len(values) != n_objectives:
        raise ValueError(f"{len(values)} values for {n_objectives} objectives")
    head = {
        "number": _integer(trial["trial"]),
        "state": TrialState[trial["state"]],
        "datetime_start": _as_time(trial["start"]),
        "datetime_complete": _as_time(trial["complete"]),
    }
    return {
        schema.trials: [head],
        schema.values: codings.value_rows(map(_number, values or ())),
        schema.params: [_param_row(name, param) for name, param in trial["params"].items()],
        schema.steps: codings.step_rows((_integer(s), _number(v)) for s, v in trial["steps"]),
        schema.user_attrs: codings.attr_rows(trial["user_attrs"]),
        schema.system_attrs: codings.attr_rows(trial["system_attrs"]),
    }


def _param_row(name: str, param: _Document) -> dict[str, Any]:
    text, value = json.dumps(param["distribution"]), param["value"]
    if not isinstance(codings.distribution_of(text), CategoricalDistribution):
        stored = _number(value)  # out of its range, if that was enqueued
    elif (choice := json.dumps(value)) in _choices(text):
        stored = float(_choices(text)[choice])
    else:
        raise ValueError(f"{name}: {choice} is none of its choices")
    return {"param_name": name, "param_value": stored, "distribution_json": text}


@lru_cache(maxsize=1024)
def _choices(text: str) -> dict[str, int]:
    """The index of each choice, by its JSON: Optuna's own search takes 1 for True."""
    distribution = codings.distribution_of(text)
    assert isinstance(distribution, CategoricalDistribution)  # noqa: S101 - of these it is asked
    indices: dict[str, int] = {}
    for i, choice in enumerate(distribution.choices):
        indices.setdefault(json.dumps(choice), i)
    return indices


def _as_time(text: str | None) -> datetime | None:
    return (
        None if text is None else datetime.fromisoformat(text).astimezone(UTC).replace(tzinfo=None)
    )


def _integer(value: object) -> int:
    if type(value) is not int:
        raise TypeError(f"{value!r} is not a whole number")
    return value


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{value!r} is not a number")
    return float(value)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"{value!r} is not a name")
    return value
