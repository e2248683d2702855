"""What a trial costs in a study that holds so many already."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from benchmarks.storage.drivers import Task, context, drive, make_study, start

_SEED_TRIALS = 4  # those that are copied
_COLD_TRIALS = 2  # the first ones read what the study holds, once
_ROWS_AT_ONCE = 1000
_MOST_SECONDS = 300.0


@dataclass(frozen=True)
class Cost:
    """What a trial costs, in milliseconds, the median over those of a turn.

    Args:
        ask: From the end of the trial before until all parameters are drawn and stored.
        loop: From the end of the trial before to its own end.
    """

    ask: float
    loop: float


def make(who: str, url: str, folder: Path, n_trials: int) -> Task:
    """Makes a study that holds finished trials: a few real ones, and copies of them."""
    task = Task(who, url, folder, trials=_SEED_TRIALS)
    make_study(task)
    process = start(drive, task, _ignore)
    process.join()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        _copy(connection, n_trials - _SEED_TRIALS)
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sa.text("ANALYZE"))  # as a server does by itself after a while
    engine.dispose()
    return replace(task, trials=n_trials)


def cost(task: Task, sampler: str, n_trials: int) -> Cost:
    """Lets one driver run a few trials.

    Args:
        task: The study, which holds `task.trials` or more.
        sampler: What chooses.
        n_trials: How many are timed.
    """
    engine = sa.create_engine(task.url)
    with engine.connect() as connection:
        held = int(connection.scalar(sa.text("SELECT count(*) FROM trials")) or 0)
    engine.dispose()
    times = context().Queue()
    more = _COLD_TRIALS + n_trials
    process = start(_drive, replace(task, sampler=sampler, trials=held + more), times)
    heard: list[tuple[str, float]] = times.get(timeout=_MOST_SECONDS)
    process.join()
    asked = [at for event, at in heard if event == "asked"]
    ended = [at for event, at in heard if event == "ended"]
    asks = [a - e for e, a in zip(ended, asked[1:], strict=False)][_COLD_TRIALS - 1 :]
    loops = [later - earlier for earlier, later in pairwise(ended)][_COLD_TRIALS - 1 :]
    return Cost(1e3 * statistics.median(asks), 1e3 * statistics.median(loops))


def _drive(task: Task, times: Any) -> None:
    heard: list[tuple[str, float]] = []
    drive(task, lambda event: heard.append((event, time.perf_counter())))
    times.put(heard)


def _ignore(_: str) -> None:
    pass


def _copy(connection: sa.Connection, n_more: int) -> None:
    """Copies trials in every table that has rows of theirs, parameters and values drawn anew."""
    metadata = sa.MetaData()
    metadata.reflect(connection)
    trials = metadata.tables["trials"]
    originals = connection.execute(sa.select(trials).order_by(trials.c.trial_id)).all()
    rng = np.random.default_rng(0)
    ids: list[tuple[int, int]] = []  # of an original, of its copy
    rows = [
        {**originals[i % len(originals)]._asdict(), "number": i + len(originals)}
        for i in range(n_more)
    ]
    for some in _batches(rows):
        fresh = [{k: v for k, v in row.items() if k != "trial_id"} for row in some]
        insert = sa.insert(trials).returning(trials.c.trial_id, sort_by_parameter_order=True)
        new = connection.execute(insert, fresh).scalars()
        ids += [(row["trial_id"], copied) for row, copied in zip(some, new, strict=True)]
    for table in metadata.tables.values():
        if table is not trials and "trial_id" in table.c:
            _copy_parts(connection, table, ids, rng)


def _copy_parts(
    connection: sa.Connection, table: sa.Table, ids: list[tuple[int, int]], rng: np.random.Generator
) -> None:
    own_key = [c.name for c in table.primary_key if c.name != "trial_id"]
    parts: dict[int, list[dict[str, Any]]] = {}
    for part in connection.execute(sa.select(table)):
        row = {k: v for k, v in part._asdict().items() if k not in own_key}
        parts.setdefault(row["trial_id"], []).append(row)
    drawn = next((c.name for c in table.c if c.name in _DRAWN), None)
    rows = [
        {**row, "trial_id": copied, **({drawn: float(rng.uniform())} if drawn else {})}
        for original, copied in ids
        for row in parts.get(original, [])
    ]
    for some in _batches(rows):
        connection.execute(sa.insert(table), some)


_DRAWN = ("param_value", "value", "intermediate_value")


def _batches(rows: list[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    for start_ in range(0, len(rows), _ROWS_AT_ONCE):
        yield rows[start_ : start_ + _ROWS_AT_ONCE]
