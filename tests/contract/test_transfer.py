"""A study that moves from one database to another is the same study."""

from __future__ import annotations

import json
import math
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
    distribution_to_json,
)
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState, create_trial

from hpo import catalog, transfer
from hpo.errors import ExportFileError, HpoError, StorageError
from hpo.storage import Storage, codings, open_storage, schema
from hpo.transfer import export_study, import_study
from tests.contract.processes import CONTEXT

_DISTRIBUTIONS = {
    "x": FloatDistribution(1e-5, 1.0, log=True),
    "drop": FloatDistribution(0.0, 0.7, step=0.1),
    "n": IntDistribution(1, 9, step=2),
    "width": IntDistribution(1, 1024, log=True),
    "kind": CategoricalDistribution([1, True, 1.0, "1", None, "ü\u2028", math.nan, "NaN"]),
}
_FLOATS = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, -1e-17, math.inf, -math.inf]


@pytest.fixture
def file_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/source.db"


@pytest.fixture
def opened() -> Iterator[Callable[[str], Storage]]:
    """Opens storages that are closed at the end."""
    storages: list[Storage] = []

    def open_(url: str) -> Storage:
        storages.append(open_storage(url))
        return storages[-1]

    yield open_
    for storage in storages:
        storage.close()


def _plain(url: str) -> RDBStorage:
    return RDBStorage(url.replace("postgresql://", "postgresql+psycopg2://"))


def _made_by_plain_optuna(url: str) -> None:
    """A study of two objectives with a trial of every kind, and values that are hard to keep."""
    study = optuna.create_study(
        storage=_plain(url), study_name="pareto ü", directions=["minimize", "maximize"]
    )
    study.set_user_attr("note", {"deep": [1, 2.5, "ü\ud800", math.nan, "NaN", "\\Infinity"]})
    study._storage.set_study_system_attr(study._study_id, "own:note", [math.inf])
    study.enqueue_trial({"x": 0.25}, user_attrs={"why": "known good"})
    kinds = _DISTRIBUTIONS["kind"]
    assert isinstance(kinds, CategoricalDistribution)
    for i, kind in enumerate(kinds.choices):
        params = {"x": 0.1 + i / 30, "drop": 0.1 * (i % 7), "n": 3, "width": 7 + i, "kind": kind}
        if i % 2:
            del params["n"], params["width"]  # conditional
        study.add_trial(
            create_trial(
                state=TrialState.COMPLETE,
                values=[_FLOATS[i % 7], _FLOATS[-(i % 7) - 1]],
                params=params,
                distributions={name: _DISTRIBUTIONS[name] for name in params},
                user_attrs={"metrics": {"loss": math.nan, "best": -math.inf}},
                system_attrs={"constraints": [-1.0, math.inf]},
                intermediate_values={3: math.nan, 1: math.inf, 2: -math.inf, 0: 0.1},
            )
        )
    study.tell(study.ask(), state=TrialState.FAIL)
    study.add_trial(create_trial(state=TrialState.PRUNED, intermediate_values={0: 1.0}))
    study.tell(study.ask(_DISTRIBUTIONS), [1.0, 2.0])
    study.enqueue_trial({"x": 0.5})


def _described(url: str, name: str) -> tuple[object, ...]:
    """All that plain Optuna knows of a study; texts, as NaN is not equal to NaN nor 1 to 1.0."""
    study = optuna.load_study(study_name=name, storage=_plain(url))
    attrs = (sorted(study.user_attrs.items()), sorted(_system_attrs(study).items()))
    return (study.directions, repr(attrs), [_fields(trial) for trial in study.trials])


def _system_attrs(study: optuna.Study) -> dict[str, Any]:
    return study._storage.get_study_system_attrs(study._study_id)


def _fields(trial: FrozenTrial) -> dict[str, str]:
    named = {key: value for key, value in vars(trial).items() if key != "_trial_id"}
    ordered = {
        # Optuna reads these in any order, and parameters in that in which they were suggested.
        key: sorted(value.items()) if key.endswith(("attrs", "intermediate_values")) else value
        for key, value in named.items()
    }
    return {key: repr(value) for key, value in ordered.items()}


def _move(source: Storage, target: Storage, study: str) -> transfer.Imported:
    return import_study(target, list(export_study(catalog.find(source, study))))


def test_a_study_of_plain_optuna_goes_to_postgresql_and_back(
    opened: Callable[[str], Storage], tmp_path: Path, file_url: str, postgresql_url: str
) -> None:
    _made_by_plain_optuna(file_url)
    back_url = f"sqlite:///{tmp_path}/back.db"
    source, middle, back = opened(file_url), opened(postgresql_url), opened(back_url)

    imported = _move(source, middle, "pareto ü")
    _move(middle, back, "pareto ü")

    expected = _described(file_url, "pareto ü")
    states = {trial["state"] for trial in expected[2]}  # type: ignore[attr-defined]
    assert len(states) == 4, states
    assert _described(postgresql_url, "pareto ü") == expected
    assert _described(back_url, "pareto ü") == expected
    assert (imported.n_trials, imported.n_put_back, imported.directory) == (12, 0, None)
    first, second = (list(export_study(catalog.find(s, "pareto ü"))) for s in (source, back))
    assert first == second


def test_every_line_is_strict_json_in_ascii(
    opened: Callable[[str], Storage], file_url: str
) -> None:
    _made_by_plain_optuna(file_url)

    def refuse(constant: str) -> None:
        raise AssertionError(constant)

    lines = list(export_study(catalog.find(opened(file_url), "pareto ü")))
    documents = [json.loads(line, parse_constant=refuse) for line in lines]
    assert all(line.isascii() and line.endswith("\n") and line.count("\n") == 1 for line in lines)
    assert documents[0]["version"] == 1
    assert documents[0]["n_trials"] == len(lines) - 2
    assert documents[1]["name"] == "pareto ü"
    assert documents[2]["state"] == "FAIL"
    assert [v for _, v in documents[3]["steps"]] == ["NaN", "Infinity", "-Infinity", 0.1]


_JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.from_regex(r"\\{0,3}(NaN|-?Infinity)", fullmatch=True),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=10,
)


@given(_JSON)
def test_a_line_gives_back_what_it_was_made_of(value: Any) -> None:
    line = transfer._line({"value": value})
    assert repr(transfer._exact(json.loads(line))) == repr({"value": value})


@given(st.floats(allow_nan=False), st.integers(-(2**31), 2**31 - 1), st.floats())
def test_rows_give_back_the_numbers_of_a_line(value: float, step: int, reported: float) -> None:
    document = {
        "trial": 7,
        "state": "PRUNED",
        "start": "2026-01-31T12:00:00.000001+02:00",
        "complete": None,
        "values": [value],
        "params": {},
        "steps": [[step, reported]],
        "user_attrs": {},
        "system_attrs": {},
    }
    rows = transfer._rows(document, n_objectives=1)
    (head,), (stored,), (at,) = (
        rows[table] for table in (schema.trials, schema.values, schema.steps)
    )
    assert transfer._as_text(head["datetime_start"]) == "2026-01-31T10:00:00.000001+00:00"
    kind = models.TrialValueModel.TrialValueType[stored.pop("value_type")]
    back = codings.values_of([SimpleNamespace(**stored, value_type=kind)])
    assert repr(back) == repr([value])
    named = at.pop("intermediate_value_type")
    of_step = models.TrialIntermediateValueModel.TrialIntermediateValueType[named]
    again = codings.steps_of([SimpleNamespace(**at, intermediate_value_type=of_step)])
    assert repr(again) == repr({step: reported})


def test_numbers_order_and_gaps_are_kept(
    opened: Callable[[str], Storage], file_url: str, database_url: str
) -> None:
    source = opened(file_url)
    study = optuna.create_study(storage=source, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=4)
    with source.engine.begin() as connection:
        connection.execute(sa.text("UPDATE trials SET number = number * 3 + 5"))
    target = opened(database_url)

    import_study(target, export_study(catalog.find(opened(file_url), "s")))

    assert [t.number for t in catalog.find(target, "s").frozen_trials()] == [5, 8, 11, 14]


def test_a_running_trial_waits_to_be_taken_up_again(
    opened: Callable[[str], Storage], file_url: str, database_url: str
) -> None:
    source, target = opened(file_url), opened(database_url)
    study = optuna.create_study(storage=source, study_name="s")
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    trial.report(3.0, 0)

    imported = _move(source, target, "s")  # what is pending is written before

    assert (imported.n_trials, imported.n_put_back) == (1, 1)
    (waiting,) = catalog.find(target, "s").frozen_trials()
    assert (waiting.state, waiting.params) == (TrialState.WAITING, trial.params)
    assert (waiting.intermediate_values, waiting.datetime_start) == ({}, None)
    again = optuna.load_study(study_name="s", storage=target).ask()
    assert (again.number, again.params) == (0, trial.params)


def test_an_export_is_of_one_moment_while_others_write(
    opened: Callable[[str], Storage], database_url: str, tmp_path: Path
) -> None:
    source = opened(database_url)
    study = optuna.create_study(storage=source, study_name="s")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=3)
    lines = export_study(catalog.find(opened(database_url), "s"))
    head = next(lines)

    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    source.set_study_user_attr(study._study_id, "late", "news")

    target = opened(f"sqlite:///{tmp_path}/target.db")
    import_study(target, [head, *lines])
    record = catalog.find(target, "s")
    assert (len(record.frozen_trials()), record.frozen.user_attrs) == (3, {})


# --- what is no export ---


def _trial(number: int, **more: Any) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "state": "COMPLETE",
        "start": None,
        "complete": None,
        "values": [1.0],
        "params": {},
    }
    return {"trial": number, **fields, "steps": [], "user_attrs": {}, "system_attrs": {}, **more}


def _lines(*trials: dict[str, Any], n_trials: int | None = None, **header: Any) -> list[str]:
    n = len(trials) if n_trials is None else n_trials
    first = {"format": "hpo study", "version": 1, "n_trials": n, **header}
    study = {"name": "s", "directions": ["minimize"], "user_attrs": {}, "system_attrs": {}}
    return [json.dumps(document) for document in (first, study, *trials)]


_UNKNOWN = {"value": 2.0, "distribution": {"name": "Cauchy", "attributes": {}}}
_KIND = {"value": 2, "distribution": json.loads(distribution_to_json(CategoricalDistribution([1])))}


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "f.jsonl is empty or cut off"),
        (["\n"], "f.jsonl is empty or cut off"),
        (_lines()[:1], "f.jsonl is empty or cut off"),
        (["study: s"], "f.jsonl, line 1: no JSON"),
        (["[" * 100_000], "f.jsonl, line 1: no JSON"),
        ([b"\xff\xfe\xff"], "f.jsonl, line 1: no JSON"),
        (["[1, 2]"], "f.jsonl, line 1: "),
        (['{"name": "digits"}'], "f.jsonl, line 1: 'format' is missing"),
        (_lines(format="another"), "its format is 'another', not 'hpo study'"),
        (_lines(version=2, hpo="9.1"), "f.jsonl was written by hpo 9.1 in version 2"),
        (_lines(_trial(0), n_trials=2), "its first line says 2 trials, and it has 1"),
        (_lines(_trial(0), n_trials=0), "its first line says 0 trials, and it has 1"),
        ([*_lines(_trial(0), n_trials=2), '{"trial": 1, "st'], "f.jsonl, line 4: no JSON"),
        (_lines(_trial(0), _trial(0)), "f.jsonl, line 4: trial 0 is there twice"),
        (_lines({"trial": 0}), "f.jsonl, line 3: 'state' is missing"),
        (_lines(_trial(0, state="HAPPY")), "line 3: 'HAPPY' is missing or unknown"),
        (_lines(_trial(0, values=[1.0, 2.0])), "line 3: 2 values for 1 objectives"),
        (_lines(_trial(0, values=["best"])), "line 3: 'best' is not a number"),
        (_lines(_trial(0, start="yesterday")), "line 3: Invalid isoformat string: 'yesterday'"),
        (_lines(_trial(0, steps=[[0.5, 1.0]])), "line 3: 0.5 is not a whole number"),
        (_lines(_trial(0, params={"x": 1})), "f.jsonl, line 3: "),
        (_lines(_trial(0, params={"k": _KIND})), "line 3: k: 2 is none of its choices"),
        (_lines(_trial(0, params={"x": _UNKNOWN})), "line 3: Unknown distribution class: Cauchy"),
        (_lines(_trial(0, system_attrs=[1])), "f.jsonl, line 3: "),
    ],
)
def test_what_is_no_export_is_refused_and_leaves_nothing(
    opened: Callable[[str], Storage], file_url: str, lines: list[str | bytes], message: str
) -> None:
    storage = opened(file_url)
    with pytest.raises(ExportFileError) as error:
        import_study(storage, lines, source="f.jsonl")
    assert message in str(error.value)
    assert _rows_in(storage) == 0


def test_an_existing_study_is_left_alone(
    opened: Callable[[str], Storage], database_url: str
) -> None:
    storage = opened(database_url)
    import_study(storage, _lines(_trial(0)))
    with pytest.raises(HpoError, match=r"a study 's' already\. .*--name NEW"):
        import_study(storage, _lines(_trial(0), _trial(1)))
    assert import_study(storage, _lines(_trial(0), _trial(1)), name="t").n_trials == 2
    assert [len(catalog.find(storage, name).trials()) for name in "st"] == [1, 2]


def test_a_copy_has_mlflow_runs_of_its_own(opened: Callable[[str], Storage], file_url: str) -> None:
    storage = opened(file_url)
    lines = _lines(_trial(0, system_attrs={"hpo:mlflow_run": "r", "hpo:attempts": 2}))
    import_study(storage, lines)
    import_study(storage, lines, name="copy")
    (moved,), (copied,) = (catalog.find(storage, name).trials() for name in ("s", "copy"))
    assert (moved.mlflow_run_id, copied.mlflow_run_id) == ("r", None)
    assert (moved.attempts, copied.attempts) == (2, 2)


@pytest.mark.parametrize(
    "trial", [_trial(0, steps=[[2**70, 1.0]]), _trial(0, user_attrs={"k" * 600 + "\0": 1})]
)
def test_what_the_database_cannot_hold_is_explained(
    opened: Callable[[str], Storage], postgresql_url: str, trial: dict[str, Any]
) -> None:
    storage = opened(postgresql_url)
    with pytest.raises(StorageError, match="cannot write study 's' into postgresql://"):
        import_study(storage, _lines(trial))
    assert _rows_in(storage) == 0


def _import_and_die(database_url: str, lines: Sequence[str]) -> None:
    def until_killed() -> Iterator[str]:
        yield from lines[:1500]
        os.kill(os.getpid(), signal.SIGKILL)

    import_study(open_storage(database_url), until_killed())


def test_a_killed_import_leaves_nothing(
    opened: Callable[[str], Storage], database_url: str
) -> None:
    storage = opened(database_url)
    lines = _lines(*(_trial(n) for n in range(2000)))
    process = CONTEXT.Process(target=_import_and_die, args=(database_url, lines))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert _rows_in(storage) == 0
    assert import_study(storage, lines).n_trials == 2000


def _rows_in(storage: Storage) -> int:
    tables = (schema.studies, schema.directions, schema.trials, schema.values)
    with storage.engine.connect() as connection:
        counts = [sa.select(sa.func.count()).select_from(table) for table in tables]
        return sum(connection.execute(count).scalar_one() for count in counts)
