"""A driver is frozen past its lease: another takes over, and what the first delivers is refused."""

from __future__ import annotations

import signal
import time

import sqlalchemy as sa

from hpo.storage import open_storage
from tests.faults.harness import NAME, Site, ended, study, until

HELD, NEXT, LATER = 20, 21, 30


def test_a_frozen_driver_is_taken_for_dead_and_its_late_result_is_refused(site: Site) -> None:
    frozen = site.start("run", site.write(study(), HELD, NEXT, LATER))
    site.at_step(HELD)
    site.freeze(frozen)
    other = site.start("worker", NAME)
    other.wait_for(f"trial {HELD} is taken over")
    site.release(NEXT)
    until(lambda: site.attempts(HELD)[-1].pid == other.process.pid, "the other driver's attempt")
    site.release(HELD)
    until(lambda: site.state(HELD) == "COMPLETE", f"the end of trial {HELD}")
    site.at_step(LATER)

    thawed = time.time()
    frozen.signal(signal.SIGCONT)

    refused = f"trial {HELD} was taken over by another driver"
    frozen.wait_for(refused)
    until(
        lambda: [x for x in site.journal() if x.pid == frozen.process.pid and x.trial > LATER],
        "another trial of the driver that was frozen",
    )
    site.release()
    said = ended(frozen).err
    assert said.count(refused) == 1
    ended(other)
    site.audit(late=[frozen.process.pid])
    trial = site.trials()[HELD]
    assert trial["metrics"]["pid"] == other.process.pid
    assert trial["attempts"] == 2
    finished = [x for x in site.journal() if x.pid == frozen.process.pid and x.time > thawed]
    assert {x.trial for x in finished if x.step is None} - {HELD}


def test_drivers_that_freeze_each_in_turn_lose_nothing(site: Site) -> None:
    drivers = [site.start("run", site.write(study(), HELD, LATER))]
    site.at_step(HELD)
    drivers.append(site.start("worker", NAME))
    site.at_step(LATER)

    for i, number in enumerate((HELD, LATER)):
        driver, other = drivers[i], drivers[1 - i]
        site.freeze(driver)
        other.wait_for(f"trial {number} is taken over")
        thawed = time.time()
        driver.signal(signal.SIGCONT)
        driver.wait_for(f"trial {number} was taken over by another driver")
        site.at_step(number, after=thawed)

    site.release()
    for driver in drivers:
        ended(driver)
    site.audit(late=[driver.process.pid for driver in drivers])
    assert {t["trial"] for t in site.trials() if t["attempts"] > 1} == {HELD, LATER}


def test_the_server_ends_a_transaction_in_which_a_driver_is_frozen(postgresql_site: Site) -> None:
    """It holds locks for which all others wait; 30 s of it are too long for a test."""
    storage = open_storage(postgresql_site.url)
    with storage.engine.connect() as connection:
        limit = connection.execute(sa.text("SHOW idle_in_transaction_session_timeout")).scalar()
    storage.close()
    assert limit == "30s"
