"""Drivers on machines whose clocks differ: the database's alone counts."""

from __future__ import annotations

import time
from dataclasses import replace

import pytest

from tests.acceptance.harness import start_afresh
from tests.faults.harness import NAME, Site, ended, kill, study, until

HELD, LATER = 20, 30
SKEWED = """
import datetime
import os
import time

seconds = float(os.environ["SKEW_SECONDS"])
right, right_ns, Right = time.time, time.time_ns, datetime.datetime
time.time = lambda: right() + seconds
time.time_ns = lambda: right_ns() + int(seconds * 1e9)


class datetime_(Right):
    @classmethod
    def now(cls, tz=None):
        return Right.now(tz) + datetime.timedelta(seconds=seconds)


datetime.datetime = datetime_
"""


# Were a driver's own clock asked on one kind of database, either direction would show it there.
@pytest.mark.parametrize(
    ("kind", "skew"), [("sqlite", 3600), ("postgresql", -3600)], ids=["ahead", "behind"]
)
def test_a_driver_whose_clock_is_an_hour_off_takes_over_the_dead_and_not_the_living(
    kind: str, skew: float, request: pytest.FixtureRequest
) -> None:
    site: Site = request.getfixturevalue(f"{kind}_site")
    site.folder.write("sitecustomize.py", SKEWED)
    right = site.start("run", site.write(study(), HELD, LATER))
    site.at_step(HELD)
    afresh = replace(site.folder, starter=start_afresh)
    path = {"PYTHONPATH": str(site.folder.path), "SKEW_SECONDS": str(skew)}
    wrong = afresh.start("worker", NAME, **path)
    site.started.append(wrong)
    site.at_step(LATER, pid=wrong.process.pid)
    time.sleep(5)  # two leases and more, in which both are alive
    assert len(site.attempts(HELD)) == len(site.attempts(LATER)) == 1
    (line, *_) = (line for line in site.journal() if line.pid == wrong.process.pid)
    assert line.time - time.time() == pytest.approx(skew, abs=60), "its clock is not off"

    kill(right)

    wrong.wait_for(f"trial {HELD} is taken over")
    site.release(LATER)
    until(lambda: site.attempts(HELD)[-1].pid == wrong.process.pid, "the other driver's attempt")
    site.release()
    ended(wrong)
    site.audit(n_died=1)
