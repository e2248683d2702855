"""What a storage promises, on every kind of database."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from typing import Any

import optuna
import pytest
import sqlalchemy as sa
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import StorageError
from hpo.storage import Storage, masked, open_storage
from tests.contract.processes import Gate, at_once


@pytest.fixture
def storage(database_url: str) -> Iterator[Storage]:
    opened = open_storage(database_url)
    yield opened
    opened.close()


@pytest.fixture
def study_id(storage: Storage) -> int:
    return storage.create_new_study([StudyDirection.MINIMIZE], "s")


def _objective(trial: optuna.Trial) -> float:
    """Touches everything that a trial can have, and ends in every way that it can."""
    x = trial.suggest_float("x", 0.0, 1.0)
    trial.suggest_float("rate", 1e-5, 1.0, log=True)
    trial.suggest_int("n", 1, 9, step=2)
    trial.suggest_categorical("kind", ["a", "b", None, True])
    trial.set_user_attr("note", {"deep": [1, 2.5, "ü"]})
    for step in range(4):
        trial.report(math.nan if step == 0 else x / (step + 1), step)
        if step > 0 and trial.should_prune():
            raise optuna.TrialPruned
    if 0.4 < x < 0.6:
        raise RuntimeError("failed")
    return math.inf if x > 0.85 else x


def _run(storage: optuna.storages.BaseStorage, n_trials: int = 30) -> optuna.Study:
    study = optuna.create_study(
        storage=storage,
        study_name="same",
        sampler=optuna.samplers.TPESampler(seed=3, n_startup_trials=5),
        pruner=optuna.pruners.MedianPruner(n_startup_trials=3),
    )
    study.optimize(_objective, n_trials=n_trials, catch=RuntimeError)
    return study


def _content(trial: FrozenTrial) -> tuple[object, ...]:
    return (
        trial.number,
        trial.state,
        trial.values,
        trial.params,
        trial.distributions,
        {k: str(v) for k, v in trial.intermediate_values.items()},  # NaN is not equal to NaN
        trial.user_attrs,
        trial.datetime_complete is not None,
    )


def test_an_optuna_study_ends_the_same_as_in_memory(storage: Storage) -> None:
    ours, reference = _run(storage), _run(InMemoryStorage())
    assert [_content(t) for t in ours.trials] == [_content(t) for t in reference.trials]
    states = {t.state for t in ours.trials}
    assert states == {TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL}


def test_plain_optuna_reads_what_was_written(storage: Storage, database_url: str) -> None:
    ours = _run(storage)
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    read = optuna.load_study(study_name="same", storage=RDBStorage(url))
    assert [_content(t) for t in read.trials] == [_content(t) for t in ours.trials]
    for mine, theirs in zip(ours.trials, read.trials, strict=True):
        assert mine.datetime_start is not None
        assert theirs.datetime_start is not None
        assert abs((mine.datetime_start - theirs.datetime_start).total_seconds()) < 1e-3


def test_what_plain_optuna_wrote_is_read(storage: Storage, database_url: str) -> None:
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    theirs = _run(RDBStorage(url))
    study_id = storage.get_study_id_from_name("same")
    assert [_content(t) for t in storage.get_all_trials(study_id)] == [
        _content(t) for t in theirs.trials
    ]


def _transactions(storage: Storage) -> Iterator[int]:
    """How many transactions there have been since, each time that it is asked."""
    if storage.database.is_postgresql:
        tables = ("trials", "trial_params", "trial_intermediate_values", "trial_values",
                  "trial_user_attributes", "trial_system_attributes", "hpo_leases")  # fmt: skip
        rows = " UNION ".join(f"SELECT xmin::text FROM {table}" for table in tables)  # noqa: S608
        while True:
            with storage.engine.connect() as connection:
                yield len(connection.execute(sa.text(rows)).all())
    commits: list[int] = []
    sa.event.listen(storage.engine, "commit", lambda _: commits.append(1))
    while True:
        yield len(commits)


def test_a_trial_costs_two_transactions(storage: Storage) -> None:
    study = optuna.create_study(storage=storage)
    transactions = _transactions(storage)
    assert next(transactions) == 0
    trial = study.ask()
    for i in range(8):
        trial.suggest_float(f"x{i}", 0, 1)
    storage.flush(trial._trial_id)
    assert next(transactions) == 1
    for step in range(5):
        trial.report(1.0, step)
    trial.set_user_attr("k", 1)
    study.tell(trial, 1.0)
    assert next(transactions) == 2
    (read,) = storage.get_all_trials(study._study_id)
    assert len(read.params) == 8
    assert len(read.intermediate_values) == 5


def test_a_draft_id_stays_valid(storage: Storage, study_id: int) -> None:
    draft_id = storage.create_new_trial(study_id)
    assert storage.get_all_trials(study_id) == []
    storage.flush(draft_id)
    (seen,) = storage.get_all_trials(study_id)
    assert seen._trial_id != draft_id
    assert seen.state is TrialState.RUNNING
    storage.set_trial_user_attr(seen._trial_id, "by", "row id")
    storage.set_trial_user_attr(draft_id, "and", "draft id")
    storage.set_trial_state_values(draft_id, TrialState.COMPLETE, [0.5])
    assert storage.get_trial(draft_id).user_attrs == {"by": "row id", "and": "draft id"}
    assert storage.get_trial(seen._trial_id).value == 0.5


def test_a_running_trial_is_seen_by_others(
    storage: Storage, study_id: int, database_url: str
) -> None:
    trial_id = storage.create_new_trial(study_id)
    distribution = optuna.distributions.FloatDistribution(0, 1)
    storage.set_trial_param(trial_id, "x", 0.25, distribution)
    storage.flush(trial_id)
    other = open_storage(database_url)
    (seen,) = other.get_all_trials(study_id)
    assert (seen.state, seen.params) == (TrialState.RUNNING, {"x": 0.25})
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    (seen,) = other.get_all_trials(study_id)
    assert (seen.state, seen.value) == (TrialState.COMPLETE, 1.0)
    other.close()


def test_a_trial_that_ends_while_it_is_read_is_read_whole(
    storage: Storage, study_id: int, database_url: str
) -> None:
    other = open_storage(database_url)
    draft = other.create_new_trial(study_id)
    other.flush(draft)
    running = iter([draft])

    def end(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        if "FROM trial_values" in statement:
            for trial_id in running:
                other.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])

    sa.event.listen(storage.database.reader, "after_cursor_execute", end)
    storage.get_all_trials(study_id)
    (seen,) = storage.get_all_trials(study_id)
    assert (seen.state, seen.value) == (TrialState.COMPLETE, 1.0)
    other.close()


def test_a_waiting_trial_is_claimed_once(
    storage: Storage, study_id: int, database_url: str
) -> None:
    other = open_storage(database_url)
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_param(trial_id, "x", 0.5, optuna.distributions.FloatDistribution(0, 1))
    storage.set_trial_state_values(trial_id, TrialState.WAITING)
    row_id = storage.get_all_trials(study_id)[0]._trial_id
    claims = [s.set_trial_state_values(row_id, TrialState.RUNNING) for s in (other, storage)]
    assert claims == [True, False]
    other.set_trial_state_values(row_id, TrialState.COMPLETE, [2.0])
    (seen,) = storage.get_all_trials(study_id)
    assert (seen.value, seen.params) == (2.0, {"x": 0.5})
    other.close()


def test_a_finished_trial_cannot_be_told_again(
    storage: Storage, study_id: int, database_url: str
) -> None:
    trial_id = storage.create_new_trial(study_id)
    storage.flush(trial_id)
    row_id = storage.get_all_trials(study_id)[0]._trial_id
    other = open_storage(database_url)
    other.set_trial_state_values(row_id, TrialState.COMPLETE, [1.0])
    with pytest.raises(UpdateFinishedTrialError):
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [2.0])
    assert open_storage(database_url).get_trial(row_id).value == 1.0
    other.close()


def test_a_finished_trial_can_be_annotated(
    storage: Storage, study_id: int, database_url: str
) -> None:
    trial_id = storage.create_new_trial(study_id)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    row_id = storage.get_all_trials(study_id)[0]._trial_id
    storage.annotate(row_id, "late", "news")
    assert storage.get_trial(row_id).system_attrs["late"] == "news"
    assert open_storage(database_url).get_trial(row_id).system_attrs["late"] == "news"


def test_a_trial_that_was_put_back_keeps_the_steps_before_those_reported_anew(
    storage: Storage, database_url: str
) -> None:
    study = optuna.create_study(storage=storage)
    trial = study.ask()
    trial.suggest_float("x", 0.0, 1.0)
    for step in range(4):
        trial.report(1.0, step)
    storage.flush()
    storage.put_back(trial._trial_id)
    again = study.ask()
    assert (again.number, again.params) == (trial.number, trial.params)
    storage.rewind(again._trial_id, 2)
    storage.set_trial_intermediate_value(again._trial_id, 2, 7.0)
    study.tell(again, state=TrialState.PRUNED)
    for each in (storage, open_storage(database_url)):
        (ended,) = each.get_all_trials(study._study_id)
        assert ended.intermediate_values == {0: 1.0, 1: 1.0, 2: 7.0}


def test_connections_may_break_as_they_are_given_back(postgresql_url: str) -> None:
    """Also more often than the pool has places."""
    storage, other = (open_storage(postgresql_url) for _ in range(2))
    storage.database.pause = lambda _: None

    def whole(connection: sa.Connection) -> int:
        return int(connection.execute(sa.text("SELECT pg_backend_pid()")).scalar_one())

    def broken(connection: sa.Connection) -> int:
        process = whole(connection)
        assert other.database.ask("SELECT pg_terminate_backend(%s, 5000)", [process])
        return process

    for _ in range(20):
        for work in (whole, whole, whole, broken):
            assert storage.database.read(work) > 0
    for each in (storage, other):
        each.close()


def test_deleting_a_study_leaves_the_others(storage: Storage) -> None:
    kept = _run(storage, n_trials=3)
    gone = storage.create_new_study([StudyDirection.MAXIMIZE], "gone")
    trial_id = storage.create_new_trial(gone)
    storage.set_trial_intermediate_value(trial_id, 1, 1.0)
    storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    storage.delete_study(gone)
    assert [s.study_name for s in storage.get_all_studies()] == ["same"]
    assert len(storage.get_all_trials(kept._study_id)) == 3
    with storage.engine.connect() as connection:
        trials = connection.execute(sa.text("SELECT count(*) FROM trials")).scalar()
        values = connection.execute(
            sa.text("SELECT count(*) FROM trial_intermediate_values")
        ).scalar()
    assert trials == 3
    assert values == sum(len(t.intermediate_values) for t in kept.trials)


def _add_trials(gate: Gate, database_url: str, study_id: int) -> None:
    storage = open_storage(database_url)
    gate()
    for _ in range(15):
        trial_id = storage.create_new_trial(study_id)
        storage.flush(trial_id)
        storage.set_trial_state_values(trial_id, TrialState.COMPLETE, [1.0])
    storage.close()


def test_processes_at_once_number_trials_without_gaps(
    storage: Storage, study_id: int, database_url: str
) -> None:
    at_once(3, _add_trials, database_url, study_id)
    assert [t.number for t in storage.get_all_trials(study_id)] == list(range(45))


def _set_attributes(gate: Gate, database_url: str, study_id: int) -> list[Any]:
    storage = open_storage(database_url)
    gate()
    return [
        storage.set_study_system_attr_once(study_id, f"first {i}", [i, os.getpid()])
        for i in range(20)
    ]


def test_of_processes_at_once_the_first_sets_an_attribute(
    storage: Storage, study_id: int, database_url: str
) -> None:
    told = at_once(3, _set_attributes, database_url, study_id)
    attrs = storage.get_study_system_attrs(study_id)
    assert told == [[attrs[f"first {i}"] for i in range(20)]] * 3
    with pytest.raises(StorageError, match="deleted"):
        storage.set_study_system_attr_once(study_id + 1, "first", 0)


def test_a_trial_is_admitted_unless_another_was_faster(
    storage: Storage, study_id: int, database_url: str
) -> None:
    other = open_storage(database_url)
    drafts = [(s, s.create_new_trial(study_id)) for s in (storage, other, storage, other)]
    keys = ["a", "a", "b", "c"]
    admitted = [
        s.admit(draft, key=key, limit=2) for (s, draft), key in zip(drafts, keys, strict=True)
    ]
    assert admitted == [True, False, True, False]  # a repeat, and one too many
    assert [t.system_attrs["hpo:key"] for t in storage.get_all_trials(study_id)] == ["a", "b"]
    other.close()


@pytest.mark.parametrize(("maximize", "expected"), [(False, [-math.inf, 1.0, 2.0]),
                                                    (True, [2.0, 3.0, math.inf])])  # fmt: skip
def test_of_what_others_ran_only_those_that_may_be_the_best_are_read(
    storage: Storage, study_id: int, database_url: str, *, maximize: bool, expected: list[float]
) -> None:
    other = open_storage(database_url)
    for value in (3.0, 1.0, 2.0, math.inf, -math.inf):
        draft = other.create_new_trial(study_id)
        other.set_trial_state_values(draft, TrialState.COMPLETE, [value])
    other.set_trial_state_values(other.create_new_trial(study_id), TrialState.PRUNED, [-9.0])
    n, found = storage.contenders(study_id, 0, 2.0, maximize=maximize)
    assert (n, sorted(t.value for t in found if t.value is not None)) == (6, expected)
    assert storage.contenders(study_id, n, 2.0, maximize=maximize) == (6, [])
    other.close()


def _make_tables(gate: Gate, database_url: str) -> list[str]:
    gate()
    storage = open_storage(database_url)
    tables = sa.inspect(storage.engine).get_table_names()
    storage.close()
    return sorted(tables)


def test_processes_at_once_may_make_the_tables(database_url: str) -> None:
    tables = at_once(4, _make_tables, database_url)
    assert {"trials", "hpo_leases"} < set(tables[0])
    assert tables == [tables[0]] * 4


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("sqlite:///:memory:", "would be lost"),
        ("nonsense", "is not a storage URL"),
        ("mysql://u:secret@h/d", "SQLite or PostgreSQL, not mysql"),
        ("sqlite:////nowhere/at/all/hpo.db", "mkdir -p /nowhere/at/all"),
        ("postgresql://u:secret@127.0.0.1:9/d", "127.0.0.1:9"),
    ],
)
def test_a_database_that_cannot_be_opened_is_explained(url: str, message: str) -> None:
    with pytest.raises(StorageError) as error:
        open_storage(url)
    assert message in str(error.value)
    assert "secret" not in str(error.value)


def test_a_password_is_masked() -> None:
    assert masked("postgresql://me:secret@host/db") == "postgresql://me:***@host/db"
