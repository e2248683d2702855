"""What a worker sends while its driver does not read."""

from __future__ import annotations

from multiprocessing import Pipe

from hpo.executors.messages import Progress
from hpo.executors.outbox import Outbox
from hpo.trainers import Report
from hpo.trial import Reported

N = 5_000  # some megabytes, far more than the connection holds


def test_nothing_that_is_sent_waits_for_the_driver_and_all_of_it_arrives_in_order() -> None:
    driver, worker = Pipe()
    outbox = Outbox(worker)
    for step in range(N):  # would wait for ever, if it waited for the driver
        metrics = {f"metric_{i}": float(step) for i in range(20)}
        outbox.send(Progress(Reported(0, Report(step, metrics, 0.0)), 0.0))
    steps = [driver.recv().event.report.step for _ in range(N)]
    assert steps == list(range(N))


def test_a_report_is_sent_before_the_process_can_die_of_what_follows() -> None:
    driver, worker = Pipe()
    Outbox(worker).send(Progress(Reported(0, Report(1, {"loss": 1.0}, 0.0)), 0.0))
    assert driver.poll(0)
