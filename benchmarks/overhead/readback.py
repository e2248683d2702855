"""What of a study is in Optuna's tables and in MLflow's, read from the database files.

It asks neither Optuna nor MLflow nor hpo, so nothing that any of them remembers can help.
"""

from __future__ import annotations

import sqlite3
from collections import Counter, defaultdict
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeAlias

from benchmarks.overhead.trial import METRIC, N_PARAMS, N_REPORTS

STORAGE_FILE = "hpo.db"
TRACKING_FILE = "mlflow.db"

Content: TypeAlias = tuple[tuple[tuple[str, float], ...], tuple[tuple[int, float], ...]]
"""What a trial consists of: its parameters and its curve, each sorted."""

_TRIAL_RUNS = (
    "SELECT run_uuid FROM tags WHERE key = 'mlflow.parentRunId' INTERSECT "
    "SELECT run_uuid FROM runs WHERE status = 'FINISHED' AND lifecycle_stage = 'active'"
)


def missing(folder: Path, n_trials: int, *, tracked: bool) -> list[str]:
    """Looks whether everything is there.

    Args:
        folder: Where the databases are.
        n_trials: How many trials were run.
        tracked: Whether they should be in MLflow, too.

    Returns:
        A sentence for each thing that is missing or too much.
    """
    found = _in_storage(folder)
    problems = [
        f"{what}: {n} in Optuna's tables, not {expected}"
        for what, n, expected in (
            ("complete trials", _count(folder, "trials WHERE state = 'COMPLETE'"), n_trials),
            ("params", _count(folder, "trial_params"), n_trials * N_PARAMS),
            (
                "intermediate values",
                _count(folder, "trial_intermediate_values"),
                n_trials * N_REPORTS,
            ),
            ("values", _count(folder, "trial_values"), n_trials),
        )
        if n != expected
    ]
    if tracked:
        mirrored = _in_tracking(folder)
        lost, extra = found - mirrored, mirrored - found
        if lost:
            problems.append(f"{lost.total()} of {n_trials} trials are not in MLflow as they were")
        if extra:
            problems.append(f"{extra.total()} runs in MLflow are none of the trials")
    return problems


def n_arrived(folder: Path) -> int:
    """How many trials have arrived in MLflow, finished; 0 while it has no database.

    It counts finished runs, which is quick; the study's own run is not finished before its end.
    """
    if not (folder / TRACKING_FILE).exists():
        return 0
    query = "SELECT count(*) FROM runs WHERE status = 'FINISHED'"
    return int(_rows(folder / TRACKING_FILE, query)[0][0])


def _in_storage(folder: Path) -> Counter[Content]:
    file = folder / STORAGE_FILE
    return _contents(
        (row[0] for row in _rows(file, "SELECT trial_id FROM trials WHERE state = 'COMPLETE'")),
        _rows(file, "SELECT trial_id, param_name, param_value FROM trial_params"),
        _rows(file, "SELECT trial_id, step, intermediate_value FROM trial_intermediate_values"),
    )


def _in_tracking(folder: Path) -> Counter[Content]:
    file = folder / TRACKING_FILE
    return _contents(
        (row[0] for row in _rows(file, _TRIAL_RUNS)),
        _rows(file, "SELECT run_uuid, key, value FROM params"),
        _rows(file, "SELECT run_uuid, step, value FROM metrics WHERE key = ?", METRIC),
    )


def _contents(
    trials: Iterable[Any], params: Iterable[Any], steps: Iterable[Any]
) -> Counter[Content]:
    """Puts rows together: how often each content occurs (random floats: once)."""
    params_of, steps_of = defaultdict(list), defaultdict(list)
    for trial, name, value in params:
        params_of[trial].append((str(name), float(value)))
    for trial, step, value in steps:
        steps_of[trial].append((int(step), float(value)))
    return Counter(
        (tuple(sorted(params_of[trial])), tuple(sorted(steps_of[trial]))) for trial in trials
    )


def _count(folder: Path, what: str) -> int:
    query = f"SELECT count(*) FROM {what}"  # noqa: S608 - a constant of this module
    return int(_rows(folder / STORAGE_FILE, query)[0][0])


def _rows(file: Path, query: str, *values: str) -> list[Any]:
    with closing(sqlite3.connect(file, timeout=60)) as connection:
        return connection.execute(query, values).fetchall()
