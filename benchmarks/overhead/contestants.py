"""The contestants, each run by ``python -m benchmarks.overhead.contestants`` in an empty folder.

All run the same trial in fresh databases on the same disk. They live at the same time and take
turns: each waits for a line on stdin, runs so many trials, waits until all of them have arrived
everywhere, and answers with the seconds that it took. What comes before the first line,
imports and the making of the databases, is the start-up; what comes after the last, the close.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.overhead import readback
from benchmarks.overhead.trial import METRIC, N_REPORTS, PARAMS, loss

if TYPE_CHECKING:
    import optuna

STORAGE = f"sqlite:///{readback.STORAGE_FILE}"
TRACKING = f"sqlite:///{readback.TRACKING_FILE}"
STUDY = "noop"

_SECONDS_BETWEEN_LOOKS = 0.1  # each look locks MLflow's database for a moment


class Turns:
    """The contestant's end of taking turns.

    Args:
        n_turns: How often it is its turn; the first one warms up and is not counted.
        n_trials: How many trials a turn has.
        seed: Of the sampler.
    """

    def __init__(self, n_turns: int, n_trials: int, seed: int) -> None:
        self.n_turns, self.n_trials, self.seed = n_turns, n_trials, seed
        self._since = time.perf_counter()

    def begin(self) -> None:
        """Waits until it is its turn, or until it may close; the clock starts."""
        sys.stdin.readline()
        self._since = time.perf_counter()

    def end(self) -> None:
        """Everything has arrived; the clock stops."""
        print(time.perf_counter() - self._since, flush=True)

    def each(self, run: Callable[[int], None]) -> None:
        """Lets `run` run its trials in each turn."""
        for _ in range(self.n_turns):
            self.begin()
            run(self.n_trials)
            self.end()
        self.begin()


def optuna_alone(turns: Turns) -> None:
    """Optuna and SQLite with their defaults."""
    study = _optuna_study(turns)
    turns.each(lambda n: study.optimize(_objective, n))


def optuna_wal(turns: Turns) -> None:
    """Optuna and SQLite with the two SQLite settings that hpo uses."""
    study = _optuna_study(turns, {"connect_args": {"factory": _WalConnection}})
    turns.each(lambda n: study.optimize(_objective, n))


def optuna_with_mlflow(turns: Turns) -> None:
    """Optuna, and a nested MLflow run for each trial as people write it."""
    import mlflow

    mlflow.set_tracking_uri(TRACKING)
    mlflow.set_experiment(STUDY)
    study = _optuna_study(turns)

    def objective(trial: optuna.Trial) -> float:
        with mlflow.start_run(nested=True, run_name=f"trial {trial.number}"):
            config = {name: trial.suggest_float(name, 0.0, 1.0) for name in PARAMS}
            mlflow.log_params(config)
            for step in range(N_REPORTS):
                value = loss(config, step)
                mlflow.log_metric(METRIC, value, step=step)
                trial.report(value, step)
            return value

    with mlflow.start_run(run_name=STUDY):
        turns.each(lambda n: study.optimize(objective, n))


def hpo_alone(turns: Turns) -> None:
    """`hpo.run` without tracking."""
    _hpo(turns, tracking="none")


def hpo_with_mlflow(turns: Turns) -> None:
    """`hpo.run` with its mirror in MLflow."""
    _hpo(turns, tracking=TRACKING)


CONTESTANTS: Mapping[str, Callable[[Turns], None]] = {
    "optuna": optuna_alone,
    "optuna-wal": optuna_wal,
    "optuna+mlflow": optuna_with_mlflow,
    "hpo": hpo_alone,
    "hpo+mlflow": hpo_with_mlflow,
}


def _optuna_study(turns: Turns, engine_kwargs: Mapping[str, Any] | None = None) -> optuna.Study:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per trial is not what we time
    storage = optuna.storages.RDBStorage(STORAGE, dict(engine_kwargs or {}))
    sampler = optuna.samplers.RandomSampler(seed=turns.seed)
    return optuna.create_study(study_name=STUDY, storage=storage, sampler=sampler)


def _objective(trial: optuna.Trial) -> float:
    config = {name: trial.suggest_float(name, 0.0, 1.0) for name in PARAMS}
    for step in range(N_REPORTS):
        value = loss(config, step)
        trial.report(value, step)
    return value


class _WalConnection(sqlite3.Connection):
    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.execute("PRAGMA journal_mode = WAL")
        self.execute("PRAGMA synchronous = NORMAL")


def _hpo(turns: Turns, *, tracking: str) -> None:
    import hpo
    from hpo.listeners import Listener
    from hpo.trial import TrialRecord

    class TakesTurns(Listener):
        """Holds up the first trial of a turn: listeners hear of it before MLflow does."""

        def started(self, trial: TrialRecord, config: Mapping[str, Any]) -> None:  # noqa: ARG002
            n_before = trial.number
            if n_before % turns.n_trials:
                return
            if n_before:
                while tracking != "none" and readback.n_arrived(Path()) < n_before:
                    time.sleep(_SECONDS_BETWEEN_LOOKS)
                turns.end()
            turns.begin()

    # A turn ends when the first trial after it has been asked for, hence one more. So every turn
    # but the first, which is not counted, has as many asks as trials.
    study = {
        "name": STUDY,
        "objective": {"function": "benchmarks.overhead.trial:train", "metric": METRIC},
        "space": {name: {"float": [0.0, 1.0]} for name in PARAMS},
        "search": {
            "sampler": "random",
            "trials": turns.n_turns * turns.n_trials + 1,
            "seed": turns.seed,
        },
        "stopping": {"rule": "none"},
    }
    hpo.run(study, storage=STORAGE, tracking=tracking, listeners=[TakesTurns()])


def main() -> None:
    """Runs one contestant in the current folder."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.overhead.contestants")
    parser.add_argument("name", choices=CONTESTANTS)
    for option in ("--turns", "--trials", "--seed"):
        parser.add_argument(option, type=int, required=True)
    options = parser.parse_args()
    CONTESTANTS[options.name](Turns(options.turns, options.trials, options.seed))


if __name__ == "__main__":
    main()
