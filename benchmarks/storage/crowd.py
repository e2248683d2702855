"""How many trials a second several drivers of one study finish."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from multiprocessing.synchronize import Semaphore
from pathlib import Path

import sqlalchemy as sa

from benchmarks.overhead.trial import N_PARAMS, N_REPORTS
from benchmarks.storage.drivers import Task, context, drive, make_study, start

_MOST_SECONDS_TO_WARM = 120.0
_WARM_TRIALS = 2

_COMPLETE = "trials WHERE state = 'COMPLETE'"


class DriverDiedError(RuntimeError):
    """A driver ended before its time."""


def rate(
    who: str, url: str, folder: Path, n_drivers: int, *, seconds: float, seed: int
) -> tuple[float, list[str]]:
    """Lets drivers run for a while.

    Start-up is not counted: the clock starts when each driver has finished two trials.

    Args:
        who: One of `drivers.CONTESTANTS`.
        url: Of an empty database.
        folder: For what hpo writes beside it.
        n_drivers: Processes.
        seconds: How long is counted.
        seed: Of the samplers.

    Returns:
        Trials a second, and what was wrong with them when they were read back.
    """
    task = Task(who, url, folder, seed=seed)
    make_study(task)
    warm = context().Semaphore(0)
    # hpo's drivers share a seed, and each draws something else; Optuna's would all draw the same.
    tasks = [replace(task, seed=seed + i * (who == "Optuna")) for i in range(n_drivers)]
    processes = [start(_drive, each, warm) for each in tasks]
    engine = sa.create_engine(url)
    try:
        for _ in range(_WARM_TRIALS * n_drivers):
            if not warm.acquire(timeout=_MOST_SECONDS_TO_WARM):
                raise DriverDiedError(f"{who}: a driver did not come to its second trial")
        with engine.connect() as connection:
            begun, before = time.perf_counter(), _count(connection, _COMPLETE)
        time.sleep(seconds)
        with engine.connect() as connection:
            after, took = _count(connection, _COMPLETE), time.perf_counter() - begun
        if not all(process.is_alive() for process in processes):
            raise DriverDiedError(f"{who}: a driver ended before its time")
    finally:
        for process in processes:
            process.kill()  # all before any is joined, or one takes over what another leaves
        for process in processes:
            process.join()
    with engine.connect() as connection:
        problems = _missing(connection)
    engine.dispose()
    return (after - before) / took, [f"{who}, {n_drivers} drivers: {each}" for each in problems]


def _drive(task: Task, warm: Semaphore) -> None:
    drive(task, _first(_WARM_TRIALS, warm.release))


def _first(n: int, act: Callable[[], object]) -> Callable[[str], None]:
    """Acts on the first so many trials that end."""
    seen = iter(range(n))

    def hear(event: str) -> None:
        if event == "ended" and next(seen, None) is not None:
            act()

    return hear


def _missing(connection: sa.Connection) -> list[str]:
    """What is missing of the trials that were finished, read from the tables themselves."""
    n_trials, n_complete = _count(connection, "trials"), _count(connection, _COMPLETE)
    of_complete = f"WHERE trial_id IN (SELECT trial_id FROM {_COMPLETE})"  # noqa: S608
    expected = {
        "(SELECT DISTINCT number FROM trials) AS numbers": n_trials,
        f"trial_params {of_complete}": n_complete * N_PARAMS,
        f"trial_intermediate_values {of_complete}": n_complete * N_REPORTS,
        f"trial_values {of_complete}": n_complete,
    }
    found = {what: _count(connection, what) for what in expected}
    return [f"{found[what]} {what}, not {n}" for what, n in expected.items() if found[what] != n]


def _count(connection: sa.Connection, what: str) -> int:
    return int(connection.scalar(sa.text(f"SELECT count(*) FROM {what}")) or 0)  # noqa: S608
