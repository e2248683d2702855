"""What leases promise: one owner at a time, and nothing written by a former one."""

from __future__ import annotations

from collections.abc import Iterator

import optuna
import pytest
import sqlalchemy as sa
from optuna.study import StudyDirection
from optuna.trial import TrialState

from hpo.drivers import is_dead, this_process
from hpo.storage import Driver, LeaseLostError, Storage, open_storage
from hpo.storage.schema import drivers

LEASE = 60.0
ELSEWHERE = {"host": "far", "machine": "far", "pid": 1, "started": 1}


def is_alive(driver: Driver) -> bool:
    return not is_dead(driver, LEASE)


def driving(database_url: str, study_id: int, about: dict[str, object] = ELSEWHERE) -> Storage:
    """A storage as one driver has it."""
    storage = open_storage(database_url)
    driver = storage.leases.enter(study_id, about, is_alive)
    storage.drive(driver.id)
    return storage


def silence(storage: Storage, place: int, seconds: float) -> None:
    """Lets a driver have been silent for so long."""
    with storage.engine.begin() as connection:
        past = sa.update(drivers).where(drivers.c.place == place)
        connection.execute(past.values(beat=drivers.c.beat - seconds))


@pytest.fixture
def pair(database_url: str, study_id: int) -> Iterator[tuple[Storage, Storage]]:
    """Two drivers of one study, with no trial yet."""
    both = driving(database_url, study_id), driving(database_url, study_id)
    yield both
    for each in both:
        each.drive(None)
        each.database.dispose()


def started(storage: Storage, study_id: int) -> tuple[int, int]:
    """Starts a trial; gives its draft id and its row's."""
    draft = storage.create_new_trial(study_id)
    storage.set_trial_param(draft, "x", 0.25, optuna.distributions.FloatDistribution(0, 1))
    assert storage.admit(draft, key=None, limit=None)
    return draft, storage.get_trial(draft)._trial_id


def test_drivers_have_places_and_a_free_one_is_given_again(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    first, second, *_ = pair[0].leases.drivers(study_id)
    assert [first.place, second.place] == [0, 1]
    pair[0].leases.leave(first.id)
    third = pair[1].leases.enter(study_id, ELSEWHERE, is_alive)
    assert third.place == 0
    assert pair[1].leases.enter(study_id, ELSEWHERE, is_alive).place == 2


def test_a_silent_driver_is_dead_after_its_lease_and_not_before(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    silence(pair[0], 0, LEASE / 2)
    assert [is_alive(each) for each in pair[0].leases.drivers(study_id)] == [True, True]
    silence(pair[0], 0, LEASE)
    assert [is_alive(each) for each in pair[0].leases.drivers(study_id)] == [False, True]
    pair[0].leases.beat(pair[0].leases.drivers(study_id)[0].id)
    assert [is_alive(each) for each in pair[0].leases.drivers(study_id)] == [True, True]


def test_a_driver_of_this_machine_is_dead_when_its_process_is(
    database_url: str, study_id: int
) -> None:
    storage = driving(database_url, study_id, this_process())
    driving(database_url, study_id, {**this_process(), "started": 1})  # an earlier process
    assert [is_alive(each) for each in storage.leases.drivers(study_id)] == [True, False]


def test_a_trial_is_leased_to_the_driver_that_asked_for_it(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    _, row_id = started(pair[0], study_id)
    lease = pair[1].leases.of([row_id])[row_id]
    assert lease.driver_id == pair[0].leases.drivers(study_id)[0].id
    assert lease.fence == 1
    assert pair[0].held(study_id) == [lease]


def test_whoever_takes_a_trial_over_goes_on_with_it_and_the_former_owner_is_refused(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    frozen, live = pair
    draft, row_id = started(frozen, study_id)
    (lease,) = frozen.held(study_id)

    taken = live.take_over(lease)

    assert taken is not None
    assert taken.params == {"x": 0.25}
    frozen.set_trial_intermediate_value(draft, 1, 9.0)  # it is thawed, and knows of nothing
    with pytest.raises(LeaseLostError):
        frozen.set_trial_state_values(draft, TrialState.COMPLETE, [9.0])
    live.set_trial_state_values(row_id, TrialState.COMPLETE, [1.0])
    (ended,) = frozen.get_all_trials(study_id)
    assert (ended.state, ended.value, ended.intermediate_values) == (TrialState.COMPLETE, 1.0, {})
    assert live.leases.of([row_id])[row_id].fence == 2


def test_a_late_result_is_refused_even_when_the_trial_waits_again(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    frozen, live = pair
    draft, row_id = started(frozen, study_id)
    (lease,) = frozen.held(study_id)
    assert live.take_over(lease)
    live.put_back(row_id)
    with pytest.raises(LeaseLostError):
        frozen.set_trial_state_values(draft, TrialState.COMPLETE, [9.0])
    assert live.get_trial(row_id).state is TrialState.WAITING


def test_a_driver_that_lost_a_trial_can_take_it_up_anew(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    frozen, live = pair
    _, row_id = started(frozen, study_id)
    (lease,) = frozen.held(study_id)
    assert live.take_over(lease)
    live.put_back(row_id)
    frozen.disown(row_id)
    assert frozen.set_trial_state_values(row_id, TrialState.RUNNING)
    assert frozen.set_trial_state_values(row_id, TrialState.COMPLETE, [2.0])
    assert live.get_all_trials(study_id)[0].value == 2.0
    assert live.leases.of([row_id])[row_id].fence == 3


def test_one_of_two_takes_a_trial_over(
    pair: tuple[Storage, Storage], database_url: str, study_id: int
) -> None:
    third = driving(database_url, study_id)
    started(third, study_id)
    (lease,) = third.held(study_id)
    taken = [each.take_over(lease) for each in pair]
    assert [each is not None for each in taken] == [True, False]


def test_a_trial_that_ended_meanwhile_is_not_taken_over(
    pair: tuple[Storage, Storage], study_id: int
) -> None:
    draft, _ = started(pair[0], study_id)
    (lease,) = pair[0].held(study_id)
    pair[0].set_trial_state_values(draft, TrialState.COMPLETE, [1.0])
    assert pair[1].take_over(lease) is None
    assert pair[1].get_all_trials(study_id)[0].state is TrialState.COMPLETE


def test_a_waiting_trial_is_claimed_by_one(pair: tuple[Storage, Storage], study_id: int) -> None:
    draft, row_id = started(pair[0], study_id)
    pair[0].put_back(draft)
    claimed = [each.set_trial_state_values(row_id, TrialState.RUNNING) for each in pair]
    assert claimed == [True, False]


def test_without_a_driver_there_are_no_leases(database_url: str, study_id: int) -> None:
    storage = open_storage(database_url)
    _, row_id = started(storage, study_id)
    assert storage.leases.of([row_id]) == {}
    storage.close()


def test_plain_optuna_deletes_a_study_that_hpo_drove(
    pair: tuple[Storage, Storage], database_url: str, study_id: int
) -> None:
    draft, _ = started(pair[0], study_id)
    pair[0].set_trial_state_values(draft, TrialState.COMPLETE, [1.0])
    url = database_url.replace("postgresql://", "postgresql+psycopg2://")
    optuna.delete_study(study_name="s", storage=url)
    storage = open_storage(database_url)
    again = storage.create_new_study([StudyDirection.MINIMIZE], "s")
    storage.drive(storage.leases.enter(again, ELSEWHERE, is_alive).id)
    draft, _ = started(storage, again)  # its row may have the number of a deleted one
    assert storage.set_trial_state_values(draft, TrialState.COMPLETE, [3.0])
    storage.close()
