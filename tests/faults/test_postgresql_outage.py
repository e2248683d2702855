"""PostgreSQL is killed and comes back 20 s later: training goes on meanwhile, and nothing is lost.

HPO_TEST_OUTAGE_SECONDS makes the outage shorter or longer.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.harness import Folder, Starter
from tests.faults.harness import NAME, PostgresqlServer, Site, ended, postgresql, study

OUTAGE_SECONDS = float(os.environ.get("HPO_TEST_OUTAGE_SECONDS", "20"))
HELD = (20, 21, 22, 23)  # as many as run at once: none is told before they are


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresqlServer]:
    """A server that only these tests use, since they kill it."""
    temporary = tempfile.TemporaryDirectory(prefix="hpo-postgresql-")
    with temporary as folder, postgresql(Path(folder) / "data") as found:
        yield found


@pytest.fixture
def site(tmp_path: Path, starter: Starter, server: PostgresqlServer) -> Iterator[Site]:
    """A folder for a study whose storage is that server."""
    yield from Site(Folder(tmp_path, starter), server.new_database()).until_the_end()


def test_drivers_outlive_an_outage_and_train_on_in_it(site: Site, server: PostgresqlServer) -> None:
    drivers = [site.start("run", site.write(study(), *HELD), "--workers", "2")]
    site.at_step(0)
    drivers.append(site.start("worker", NAME, "--workers", "2"))
    for number in HELD:
        site.at_step(number)

    server.kill()
    gone = time.time()
    time.sleep(OUTAGE_SECONDS)
    back = time.time()
    server.start()

    during = [line for line in site.journal() if gone < line.time < back]
    assert {line.trial for line in during} == set(HELD)
    last = {line.trial: line.time for line in during}
    assert min(last.values()) > back - OUTAGE_SECONDS / 4, "training waited for the database"
    site.release()
    said = [ended(driver).err for driver in drivers]
    site.audit()
    assert {trial["attempts"] for trial in site.trials()} == {1}
    for err in said:
        assert err.count("is away") == err.count("is back after") == 1, err


def test_a_trial_that_ends_in_an_outage_is_told_after_it(
    site: Site, server: PostgresqlServer
) -> None:
    driver = site.start("run", site.write(study(search={"trials": 8}), 5))
    site.at_step(5)

    server.kill()
    site.release()
    driver.wait_for("is away")
    server.start()

    ended(driver)
    site.audit(n=8)
    assert {trial["attempts"] for trial in site.trials()} == {1}


def test_drivers_do_not_take_one_another_for_dead_after_an_outage_longer_than_their_lease(
    site: Site, server: PostgresqlServer
) -> None:
    """All of them wait with a trial to tell, and so does one with a trial that still runs."""
    values = study(run={"lease": 2.0, "max_retries": 0})
    drivers = [site.start("run", site.write(values, 20, 21, 22))]
    site.at_step(0)
    drivers += [site.start("worker", NAME) for _ in range(2)]
    for number in (20, 21, 22):
        site.at_step(number)

    server.kill()
    site.release(20, 21)
    time.sleep(8)
    server.start()
    site.release()

    said = [ended(driver).err for driver in drivers]
    site.audit()
    assert {trial["attempts"] for trial in site.trials()} == {1}
    assert not any("taken over" in err for err in said)


def test_an_interrupt_in_an_outage_ends_a_driver_after_its_grace(
    site: Site, server: PostgresqlServer
) -> None:
    values = study(search={"trials": 8}, run={"grace_period": 1.0})
    driver = site.start("run", site.write(values, 5))
    site.at_step(5)

    server.kill()
    site.release()
    driver.wait_for("is away")
    driver.signal(signal.SIGINT)
    done = ended(driver, 130)

    assert f"hpo resume {NAME}" in done.err.splitlines()[-1]
    server.start()
    site.hpo("resume", NAME)
    site.audit(n=8, n_died=1)


def test_a_driver_whose_patience_ends_says_how_to_go_on(
    site: Site, server: PostgresqlServer
) -> None:
    values = study(search={"trials": 8}, run={"storage_retry": "2s"})
    driver = site.start("run", site.write(values, 5))
    site.at_step(5)

    server.kill()
    site.release()
    done = ended(driver, 1)

    assert f"hpo resume {NAME}" in done.err.splitlines()[-1]
    server.start()
    site.hpo("resume", NAME)
    site.audit(n=8, n_died=1)


def test_a_timeout_in_an_outage_waits_for_the_database(
    site: Site, server: PostgresqlServer
) -> None:
    values = study(search={"trials": 8, "timeout": 8.0}, run={"grace_period": 1.0})
    driver = site.start("run", site.write(values, 5))
    site.at_step(5)

    server.kill()
    driver.wait_for("Its timeout was reached")
    time.sleep(3)  # longer than the grace
    server.start()
    done = ended(driver)

    assert "its timeout was reached" in done.err
    assert "is back after" in done.err
    site.release()
    site.hpo("resume", NAME, "--set", "search.timeout=1h")
    site.audit(n=8)
