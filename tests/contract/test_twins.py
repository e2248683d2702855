"""Of trials that are the same, one runs at a time, whoever asks for them and in whatever order."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import sqlalchemy as sa
from optuna.distributions import FloatDistribution
from optuna.trial import TrialState, create_trial

from hpo.drivers import this_process
from hpo.storage import TWIN, Storage, open_storage
from tests.contract.processes import Gate, at_once

COMPLETE, RUNNING, WAITING = TrialState.COMPLETE, TrialState.RUNNING, TrialState.WAITING


def driving(database_url: str, study_id: int) -> Storage:
    """A storage as one driver has it."""
    storage = open_storage(database_url)
    storage.drive(storage.leases.enter(study_id, this_process(), lambda _: True).id)
    return storage


def enqueued(storage: Storage, study_id: int) -> int:
    """Somebody's own trial, which waits to be run; its row."""
    storage.create_new_trial(study_id, create_trial(state=WAITING))
    return storage.get_all_trials(study_id)[-1]._trial_id


def asked(storage: Storage, study_id: int) -> int:
    """A new trial that is not admitted yet."""
    draft = storage.create_new_trial(study_id)
    storage.set_trial_param(draft, "x", 0.25, FloatDistribution(0, 1))
    return draft


def claim(storage: Storage, trial_id: int) -> bool:
    """WAITING -> RUNNING, if it may."""
    return storage.set_trial_state_values(trial_id, RUNNING)


def admit(storage: Storage, trial_id: int, key: str = "same") -> bool:
    """Lets a trial run, if it may."""
    return storage.admit(trial_id, key=key, limit=None)


def end(storage: Storage, trial_id: int) -> None:
    """Completes a trial."""
    storage.set_trial_state_values(trial_id, COMPLETE, [1.0])


def n_admitted(storage: Storage) -> int:
    """How many trials run that were admitted."""
    query = (
        "SELECT count(*) FROM trials JOIN trial_system_attributes AS attrs "
        "ON attrs.trial_id = trials.trial_id "
        """WHERE state = 'RUNNING' AND attrs."key" = 'hpo:key'"""
    )
    with storage.engine.connect() as connection:
        return int(connection.execute(sa.text(query)).scalar_one())


@pytest.fixture
def pair(database_url: str, study_id: int) -> Iterator[tuple[Storage, Storage]]:
    """Two drivers of one study."""
    both = driving(database_url, study_id), driving(database_url, study_id)
    yield both
    for each in both:
        each.database.dispose()


@pytest.mark.parametrize("n_drivers", [1, 2])
def test_an_enqueued_trial_waits_for_the_same_one_that_runs(
    pair: tuple[Storage, Storage], study_id: int, n_drivers: int
) -> None:
    one, other = pair[0], pair[n_drivers - 1]
    running = asked(one, study_id)
    assert admit(one, running)
    row_id = enqueued(other, study_id)
    assert other.n_ready(study_id) == 1
    assert claim(other, row_id)
    assert not admit(other, row_id)
    waits = other.get_trial(row_id)
    assert (waits.state, waits.system_attrs[TWIN]) == (WAITING, 0)
    assert other.n_ready(study_id) == 0
    assert not claim(other, row_id)
    end(one, running)
    other.get_all_trials(study_id)
    assert other.n_ready(study_id) == 1
    assert claim(other, row_id)
    assert admit(other, row_id)
    end(other, row_id)
    assert [trial.state for trial in one.get_all_trials(study_id)] == [COMPLETE, COMPLETE]


def test_of_two_that_two_drivers_claimed_one_runs(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    row_ids = [enqueued(pair[0], study_id) for _ in pair]
    assert all(claim(each, row_id) for each, row_id in zip(pair, row_ids, strict=True))
    admitted = [admit(each, row_id) for each, row_id in zip(pair, row_ids, strict=True)]
    assert admitted == [True, False]


def test_enqueued_trials_that_differ_run_at_once(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    for each, key in zip(pair, ("one", "other"), strict=True):
        row_id = enqueued(each, study_id)
        assert claim(each, row_id)
        assert admit(each, row_id, key)


def test_a_trial_that_is_taken_up_again_does_not_wait_for_itself(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    one, other = pair
    draft = asked(one, study_id)
    assert admit(one, draft)
    row_id = one.get_trial(draft)._trial_id
    one.put_back(draft)
    for each in (other, one):
        assert claim(each, row_id)
        assert admit(each, row_id)
        each.put_back(row_id)


def test_a_trial_that_is_taken_up_again_waits_for_the_same_one_that_ran_meanwhile(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    one, other = pair
    draft = asked(one, study_id)
    assert admit(one, draft)
    row_id = one.get_trial(draft)._trial_id
    one.put_back(draft)
    same = enqueued(other, study_id)
    assert claim(other, same)
    assert admit(other, same)
    for each in pair:
        each.get_all_trials(study_id)
        assert not claim(each, row_id)
        assert each.n_ready(study_id) == 0
    end(other, same)
    one.get_all_trials(study_id)
    assert one.n_ready(study_id) == 1
    assert claim(one, row_id)


def test_a_new_trial_does_not_repeat_an_older_one_that_began_meanwhile(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    one, other = pair
    row_id = enqueued(other, study_id)
    one.get_all_trials(study_id)
    draft = asked(one, study_id)
    assert claim(other, row_id)
    assert admit(other, row_id)
    assert not admit(one, draft)


def _run_waiting(gate: Gate, database_url: str, study_id: int) -> None:
    """Notes with each trial how many it saw running."""
    storage = driving(database_url, study_id)
    gate()
    while waiting := storage.get_all_trials(study_id, states=(WAITING,)):
        for trial in waiting:
            if claim(storage, trial._trial_id) and admit(storage, trial._trial_id):
                storage.set_trial_user_attr(trial._trial_id, "running", n_admitted(storage))
                end(storage, trial._trial_id)


def test_of_processes_that_try_at_once_one_runs_each_of_the_same_trials(
    database_url: str, study_id: int
) -> None:
    storage = open_storage(database_url)
    for _ in range(24):
        enqueued(storage, study_id)
    at_once(3, _run_waiting, database_url, study_id)
    trials = storage.get_all_trials(study_id)
    assert {trial.state for trial in trials} == {COMPLETE}
    assert {trial.user_attrs["running"] for trial in trials} == {1}
    storage.close()
