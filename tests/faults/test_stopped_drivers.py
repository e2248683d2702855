"""hpo stop, SIGTERM and SIGINT drain drivers; resuming goes on from the checkpoints."""

from __future__ import annotations

import signal
import time

import pytest

from tests.faults.harness import NAME, Site, ended, study

HELD = range(20, 24)


def test_hpo_stop_drains_all_drivers_and_resume_goes_on_from_their_checkpoints(
    site: Site,
) -> None:
    drivers = [site.start("run", site.write(study(), *HELD), "--workers", "2")]
    site.at_step(0)
    drivers.append(site.start("worker", NAME, "--workers", "2"))
    reached = {number: site.at_step(number) for number in HELD}
    assert len(set(reached.values())) == len(HELD)

    said = site.hpo("stop", NAME).err

    assert "Asked 2 drivers" in said
    for driver in drivers:
        assert "Go on: hpo resume" in ended(driver, 130).err
    assert {t["trial"] for t in site.trials() if t["state"] == "WAITING"} == set(HELD)
    site.release()
    site.hpo("resume", NAME)
    site.audit()
    assert {t["trial"] for t in site.trials() if t["attempts"] == 2} == set(HELD)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["term", "int"]
)
@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["inline", "processes"])
def test_a_signal_drains_a_driver(
    sqlite_site: Site, workers: tuple[str, ...], number: int, code: int
) -> None:
    site = sqlite_site
    driver = site.start("run", site.write(study(), *HELD[:2]), *workers)
    site.at_step(HELD[0])

    driver.signal(number)

    assert "Go on: hpo resume" in ended(driver, code).err
    assert {trial["state"] for trial in site.trials()} == {"COMPLETE", "WAITING"}
    site.release()
    site.hpo("resume", NAME)
    site.audit()


@pytest.mark.parametrize("workers", [(), ("--workers", "2")], ids=["inline", "processes"])
def test_a_trial_that_reports_nothing_more_is_ended_by_the_grace_period(
    sqlite_site: Site, workers: tuple[str, ...]
) -> None:
    site, grace_seconds = sqlite_site, 1.0
    values = study(
        objective={"function": "objective:hang"},
        search={"trials": 6},
        run={"grace_period": f"{grace_seconds}s"},
    )
    driver = site.start("run", site.write(values, 4), *workers)
    site.at_step(4, least=2)

    asked = time.monotonic()
    driver.signal(signal.SIGTERM)
    ended(driver, 143)

    assert time.monotonic() - asked >= grace_seconds / 2
    assert site.state(4) == "WAITING"
    site.release()
    site.hpo("resume", NAME)
    assert {trial["state"] for trial in site.trials()} == {"COMPLETE"}
