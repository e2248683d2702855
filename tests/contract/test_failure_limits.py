"""How many trials may fail: for all drivers of a study together, and to the last one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import optuna
import pytest
from optuna.trial import TrialState

from hpo.drivers import this_process
from hpo.storage import FailureLimits, Storage, TooManyFailuresError, open_storage
from tests.contract.processes import Gate, at_once

COMPLETE, FAIL, PRUNED, RUNNING = (
    TrialState.COMPLETE,
    TrialState.FAIL,
    TrialState.PRUNED,
    TrialState.RUNNING,
)


def driving(
    database_url: str, study_id: int, *, most: int | None = None, in_a_row: int = 1000
) -> Storage:
    """A storage as one driver has it."""
    storage = open_storage(database_url)
    driver = storage.leases.enter(study_id, this_process(), lambda each: each.ended is None)
    storage.drive(driver.id, FailureLimits(most, in_a_row, driver.since))
    return storage


def leave(storage: Storage, study_id: int) -> None:
    """Lets all drivers of a study have left."""
    for driver in storage.leases.drivers(study_id):
        storage.leases.leave(driver.id)


def started(storage: Storage, study_id: int, n: int = 1) -> list[int]:
    """Starts trials."""
    drafts = [storage.create_new_trial(study_id) for _ in range(n)]
    for draft in drafts:
        storage.set_trial_param(draft, "x", 0.25, optuna.distributions.FloatDistribution(0, 1))
        assert storage.admit(draft, key=None, limit=None)
    return drafts


def is_failed(storage: Storage, trial_id: int) -> bool:
    """Fails a trial, if it may."""
    try:
        return storage.set_trial_state_values(trial_id, FAIL)
    except TooManyFailuresError:
        return False


@pytest.fixture
def pair(database_url: str, study_id: int) -> Iterator[tuple[Storage, Storage]]:
    """Two drivers of a study of which two trials may fail."""
    both = driving(database_url, study_id, most=2), driving(database_url, study_id, most=2)
    yield both
    for each in both:
        each.database.dispose()


def test_one_more_trial_fails_than_may_whoever_runs_them(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    trials = [(each, trial) for each in pair for trial in started(each, study_id, n=3)]
    failed = [is_failed(each, trial) for each, trial in trials]
    assert failed == [True, True, True, False, False, False]
    for each in pair:
        assert each.counts(study_id) == Counter({FAIL: 3, RUNNING: 3})


def test_a_trial_that_may_not_fail_is_its_drivers_still(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    for trial in started(pair[0], study_id, n=3):
        pair[0].set_trial_state_values(trial, FAIL)
    first, second, third = started(pair[1], study_id, n=3)
    for trial in (first, second, third):
        assert not is_failed(pair[1], trial)
        assert pair[1].get_trial(trial).state is RUNNING
        assert pair[1].get_trial(trial).datetime_complete is None
    pair[1].put_back(first)
    pair[1].set_trial_state_values(second, PRUNED)
    pair[1].set_trial_state_values(third, COMPLETE, [1.0])
    states = [trial.state for trial in pair[0].get_all_trials(study_id)]
    assert states == [FAIL, FAIL, FAIL, TrialState.WAITING, PRUNED, COMPLETE]


def test_a_storage_that_nobody_drives_has_no_limit(database_url: str, study_id: int) -> None:
    driven, free = driving(database_url, study_id, most=0), open_storage(database_url)
    for trial in started(free, study_id, n=3):
        assert is_failed(free, trial)
    (trial,) = started(driven, study_id)
    assert not is_failed(driven, trial)
    for each in (driven, free):
        each.database.dispose()


def _fail_trials(gate: Gate, database_url: str, study_id: int) -> int:
    """How many of this process's trials may fail."""
    storage = driving(database_url, study_id, most=4)
    trials = started(storage, study_id, n=4)
    gate()
    return sum(is_failed(storage, trial) for trial in trials)


def test_trials_of_processes_that_fail_at_once_are_counted_one_after_another(
    database_url: str, study_id: int
) -> None:
    assert sum(at_once(4, _fail_trials, database_url, study_id)) == 5
    storage = open_storage(database_url)
    assert storage.counts(study_id) == Counter({FAIL: 5, RUNNING: 11})
    storage.close()


def test_only_failures_in_a_row_are_too_many_in_a_row(database_url: str, study_id: int) -> None:
    one, other = (driving(database_url, study_id, in_a_row=4) for _ in range(2))
    trials = [*started(one, study_id, n=3), *started(other, study_id), *started(one, study_id, n=5)]
    for trial in trials[:3]:
        assert is_failed(one, trial)
    other.set_trial_state_values(trials[3], COMPLETE, [1.0])
    for trial in trials[4:8]:
        assert not one.have_failed_in_a_row(study_id)
        assert is_failed(one, trial)
    assert one.have_failed_in_a_row(study_id)
    assert other.have_failed_in_a_row(study_id)
    assert not is_failed(one, trials[8])
    for each in (one, other):
        each.database.dispose()


def test_failures_in_a_row_count_from_when_the_study_was_taken_up(
    database_url: str, study_id: int
) -> None:
    former = driving(database_url, study_id, in_a_row=2)
    for trial in started(former, study_id, n=2):
        assert is_failed(former, trial)
    joins = driving(database_url, study_id, in_a_row=2)
    assert joins.have_failed_in_a_row(study_id)
    leave(former, study_id)
    later = driving(database_url, study_id, in_a_row=2)
    assert not later.have_failed_in_a_row(study_id)
    (trial,) = started(later, study_id)
    assert is_failed(later, trial)
    assert not later.have_failed_in_a_row(study_id)
    for each in (former, joins, later):
        each.database.dispose()
