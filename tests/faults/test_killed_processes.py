"""kill -9 of workers and drivers: others go on from the checkpoints, at once and by themselves."""

from __future__ import annotations

import os
import signal

import pytest

from tests.acceptance.harness import Study
from tests.faults.harness import NAME, Site, ended, kill, study, until

HELD = 20


def test_a_killed_worker_process_is_replaced_and_its_trial_goes_on(site: Site) -> None:
    driver = site.start("run", site.write(study(), HELD), "--workers", "2")
    worker = site.at_step(HELD)
    assert worker != driver.process.pid

    os.kill(worker, signal.SIGKILL)

    until(lambda: len(site.attempts(HELD)) == 2, "another worker's attempt")
    site.release()
    done = ended(driver)
    site.audit()
    attempts = {trial["trial"]: trial["attempts"] for trial in site.trials()}
    assert attempts.pop(HELD) == 2
    assert set(attempts.values()) == {1}
    assert "warning" not in done.err


def test_a_living_driver_takes_over_what_a_killed_one_ran(site: Site) -> None:
    dying = site.start("run", site.write(study(), HELD))
    site.at_step(HELD)
    living = site.start("worker", NAME)
    site.at_step(HELD + 5, pid=living.process.pid)

    kill(dying)

    until(lambda: site.attempts(HELD)[-1].pid == living.process.pid, "the other driver's attempt")
    site.release()
    done = ended(living)
    site.audit(n_died=1)
    assert f"trial {HELD} is taken over" in done.err
    assert [each.pid for each in site.attempts(HELD)] == [dying.process.pid, living.process.pid]


def test_an_only_driver_that_was_killed_is_resumed_to_the_undisturbed_end(site: Site) -> None:
    other = site.undisturbed(study())
    dying = site.start("run", site.write(study(), HELD))
    site.at_step(HELD)
    kill(dying)
    site.release()

    site.hpo("resume", NAME)

    site.audit(n_died=1)
    assert len(site.attempts(HELD)) == 2
    assert site.told() == other.told()


def test_of_four_drivers_two_are_killed_and_the_others_finish(site: Site) -> None:
    held = range(HELD, HELD + 4)
    drivers = [site.start("run", site.write(study(), *held))]
    site.at_step(0)
    drivers += [site.start("worker", NAME) for _ in range(3)]
    runs = {site.at_step(number): number for number in held}
    assert set(runs) == {driver.process.pid for driver in drivers}

    for driver in drivers[:2]:
        kill(driver)

    lost = [runs[driver.process.pid] for driver in drivers[:2]]
    site.release(*(number for number in held if number not in lost))
    until(lambda: all(len(site.attempts(number)) == 2 for number in lost), "takeovers")
    site.release()
    for driver in drivers[2:]:
        ended(driver)
    site.audit(n_died=2)
    assert [t["trial"] for t in site.trials() if t["attempts"] == 2] == sorted(lost)


@pytest.mark.parametrize("workers", [(), ("--workers", "1")], ids=["driver", "worker"])
def test_a_network_trained_by_processes_that_were_killed_is_the_same_to_the_last_bit(
    sqlite_site: Site, workers: tuple[str, ...]
) -> None:
    site = sqlite_site
    values: Study = {
        "name": NAME,
        "objective": {"trainer": "classifier", "data": "digits", "metric": "val_error"},
        "space": {"learning_rate": {"float": [1e-2, 1.0], "log": True}, "width": 16, "epochs": 12},
        "search": {"sampler": "random", "trials": 6, "seed": 5},
        "run": {"checkpoint_every": 1, "max_retries": 10},
    }
    other = site.undisturbed(values)
    driver = site.start("run", site.write(values), *workers)
    for number in (1, 4):
        site.until_epoch(number, 3)
        if workers:
            os.kill(site.workers()[0], signal.SIGKILL)
        else:
            kill(driver)
            driver = site.start("resume", NAME)

    ended(driver)

    trials = site.trials()
    assert {trial["state"] for trial in trials} == {"COMPLETE"}
    assert site.told() == other.told()
    assert [t["metrics"] for t in trials] == [t["metrics"] for t in other.trials()]
    disturbed = [trial["trial"] for trial in trials if trial["attempts"] > 1]
    assert disturbed
    for number in disturbed:  # what was trained before was not trained again: it took as long
        before, after = site.epochs(number)
        assert after[: len(before) - 1] == before[:-1]
        assert len(after) == 12
