"""What one driver does: hpo's own loop as `hpo worker` runs it, and Optuna's `study.optimize`."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import optuna

from benchmarks.overhead.trial import METRIC, N_REPORTS, PARAMS, loss
from hpo import catalog, spec, studyfile
from hpo.api import run_plan
from hpo.listeners import Listener
from hpo.storage import open_storage
from hpo.trial import TrialRecord

CONTESTANTS = ("hpo", "Optuna")
STUDY = "shared"

_ENDLESS = 1_000_000

Hear = Callable[[str], None]
"""Told `asked` when a trial has its parameters, and `ended` when it was told."""


@dataclass(frozen=True)
class Task:
    """What a driver is to do.

    Args:
        who: One of `CONTESTANTS`.
        url: Of the database.
        folder: For what hpo writes beside it.
        sampler: random or tpe.
        seed: Of the sampler; each of Optuna's processes needs its own.
        trials: How many there are to be in the study when it ends; None to go on until killed.
    """

    who: str
    url: str
    folder: Path
    sampler: str = "random"
    seed: int = 0
    trials: int | None = None


def make_study(task: Task) -> None:
    """Makes the study that drivers share."""
    if task.who == "hpo":
        catalog.find_or_create(open_storage(task.url), _plan(task))
    else:
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        optuna.create_study(study_name=STUDY, storage=task.url)


def drive(task: Task, hear: Hear) -> None:
    """Runs trials in this process."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per trial is not what we time
    (_drive_hpo if task.who == "hpo" else _drive_optuna)(task, hear)


def start(target: Callable[..., None], *args: Any) -> BaseProcess:
    """Starts a function in a process of its own, which need not import anything any more."""
    process = context().Process(target=target, args=args, daemon=True)
    process.start()
    return process


def context() -> ForkServerContext:
    """Where processes come from: a server that has imported all and opened nothing."""
    found = multiprocessing.get_context("forkserver")
    found.set_forkserver_preload([__name__])
    return found


def environment() -> None:
    """Takes away what would send hpo elsewhere, and threads that drivers do not need."""
    for name in [name for name in os.environ if name.startswith("HPO_")]:
        del os.environ[name]
    os.environ["OMP_NUM_THREADS"] = "1"


def _plan(task: Task) -> spec.Plan:
    values = {
        "name": STUDY,
        "objective": {"function": "benchmarks.overhead.trial:train", "metric": METRIC},
        "space": {name: {"float": [0.0, 1.0]} for name in PARAMS},
        "search": {
            "sampler": task.sampler,
            "trials": task.trials or _ENDLESS,
            "seed": task.seed,
        },
        "stopping": {"rule": "none"},
        "run": {"directory": str(task.folder)},
    }
    return spec.check(studyfile.StudyFile("the benchmark", task.folder, values))


def _drive_hpo(task: Task, hear: Hear) -> None:
    class Hears(Listener):
        def started(self, trial: TrialRecord, config: Mapping[str, Any]) -> None:  # noqa: ARG002
            hear("asked")

        def ended(self, trial: TrialRecord, best: TrialRecord | None) -> None:  # noqa: ARG002
            hear("ended")

    run_plan(_plan(task), storage=task.url, tracking="none", listeners=[Hears()], joins=True)


def _drive_optuna(task: Task, hear: Hear) -> None:
    def objective(trial: optuna.Trial) -> float:
        config = {name: trial.suggest_float(name, 0.0, 1.0) for name in PARAMS}
        hear("asked")
        for step in range(N_REPORTS):
            value = loss(config, step)
            trial.report(value, step)
        return value

    samplers: Mapping[str, Callable[[], optuna.samplers.BaseSampler]] = {
        "random": lambda: optuna.samplers.RandomSampler(seed=task.seed),
        "tpe": lambda: optuna.samplers.TPESampler(seed=task.seed),
    }
    study = optuna.load_study(study_name=STUDY, storage=task.url, sampler=samplers[task.sampler]())
    n_trials = None if task.trials is None else task.trials - len(study.trials)
    study.optimize(objective, n_trials, callbacks=[lambda _study, _trial: hear("ended")])
