"""A user's function, which runs in a thread that the main one waits for."""

from __future__ import annotations

import copy
import pickle
import signal
import threading
import time
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hpo.errors import ObjectiveError
from hpo.objectives.function import FunctionObjective
from hpo.trainers import Report
from hpo.trial import Config, Job


@pytest.mark.parametrize("asked", ["auto", "cpu"])
def test_a_function_is_told_a_device_that_is_there(tmp_path: Path, asked: str) -> None:
    def train(trial: Any) -> float:
        return float(torch.ones(3, device=trial.device).sum())

    job = Job(trial=0, config={}, seed=0, directory=tmp_path)
    with pytest.raises(StopIteration) as end:
        next(FunctionObjective(train, "sum", asked)(job))
    assert end.value.value == {"sum": 3.0}


def test_a_function_is_told_the_seed_of_its_trial(tmp_path: Path) -> None:
    for seed in (11, 12):
        job = Job(trial=0, config={}, seed=seed, directory=tmp_path)
        with pytest.raises(StopIteration) as end:
            next(FunctionObjective(lambda trial: trial.seed, "seed", "cpu")(job))
        assert end.value.value == {"seed": seed}


def test_a_signal_that_does_not_end_the_wait_is_handled_all_the_same(tmp_path: Path) -> None:
    """As one that comes in the moment before the wait begins."""
    handled = threading.Event()
    before = signal.signal(signal.SIGUSR1, lambda *_: handled.set())

    def train(_: Any) -> bool:
        time.sleep(0.2)  # by now the main thread waits
        signal.pthread_kill(threading.get_ident(), signal.SIGUSR1)  # here, where nobody handles it
        return handled.wait(20)

    job = Job(trial=0, config={}, seed=0, directory=tmp_path)
    try:
        with pytest.raises(StopIteration) as end:
            next(FunctionObjective(train, "handled", "cpu")(job))
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert end.value.value == {"handled": 1.0}


def test_a_coroutine_function_is_refused_with_what_to_write() -> None:
    async def train(_: Any) -> float:
        return 1.0

    async def steps(_: Any) -> Any:
        yield {"loss": 1.0}

    for function in (train, steps):
        with pytest.raises(ObjectiveError, match=r"is an `async def`.*return asyncio\.run"):
            FunctionObjective(function, "loss", "cpu")


@pytest.mark.parametrize("function", [lambda: 1.0, lambda x, y: x + y, lambda *, x: x])
def test_a_function_that_does_not_take_the_trial_alone_is_refused(function: Any) -> None:
    with pytest.raises(ObjectiveError, match=r"is called with one argument, the trial: .*argument"):
        FunctionObjective(function, "loss", "cpu")


def test_an_object_whose_call_is_a_generator_is_one(tmp_path: Path) -> None:
    class Steps:
        def __call__(self, trial: Any) -> Any:
            yield {"loss": trial.lr}

    class Awaited:
        async def __call__(self, trial: Any) -> float:
            return float(trial.lr)

    job = Job(trial=0, config={"lr": 0.5}, seed=0, directory=tmp_path)
    report = next(FunctionObjective(Steps(), "loss", "cpu")(job))
    assert isinstance(report, Report)
    assert report.metrics == {"loss": 0.5}
    with pytest.raises(ObjectiveError, match="async def"):
        FunctionObjective(Awaited(), "loss", "cpu")
    with pytest.raises(ObjectiveError, match="3 cannot be called"):
        FunctionObjective(3, "loss", "cpu")  # type: ignore[arg-type]
    wrapped = FunctionObjective(lambda trial: Steps()(trial), "loss", "cpu")
    with pytest.raises(TypeError, match="returned a generator"):
        next(wrapped(job))


def test_functions_that_take_a_trial_in_some_way_are_taken() -> None:
    class Trainer:
        def fit(self, trial: Any, epochs: int = 3) -> float:
            return float(trial.lr * epochs)

        def __call__(self, trial: Any) -> float:
            return float(trial.lr)

    for function in (Trainer().fit, Trainer(), partial(Trainer.fit, Trainer()), lambda *_: 1, abs):
        FunctionObjective(function, "loss", "cpu")


def _pickled(trial: Any) -> Any:
    return pickle.loads(pickle.dumps(trial))  # noqa: S301 - our own


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, _pickled])
def test_a_copy_of_a_trial_is_its_configuration(
    tmp_path: Path, copied: Callable[[Any], Any]
) -> None:
    def train(trial: Any) -> float:
        trial.report(0, loss=1.0)
        found = copied(trial)
        assert type(found) is Config
        assert dict(found) == found.config == trial.config
        return float(found.lr)

    job = Job(trial=0, config={"lr": 0.5}, seed=0, directory=tmp_path)
    steps = FunctionObjective(train, "loss", "cpu")(job)
    next(steps)
    with pytest.raises(StopIteration) as end:
        next(steps)

    assert end.value.value == {"loss": 0.5}


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (
            lambda trial: trial.suggest_float("lr", 0, 1),
            """range of a parameter stands in `space:`, and its value is trial.lr or trial["lr"]""",
        ),
        (lambda trial: trial.params["lr"], "trial.params is Optuna's: a parameter is trial.lr or"),
        (lambda trial: trial.should_prune(), "leave it out; trial.report(step, loss=...) ends a"),
        (lambda trial: trial.report(0.5, 3), "each metric has a name: trial.report(3, loss=0.5)"),
        (lambda trial: setattr(trial, "lr", 3.0), "'lr' is a parameter, which stays what it is"),
        (lambda trial: trial.lrr, "no 'lrr' in this configuration: lr; did you mean 'lr'?"),
    ],
)
def test_who_comes_from_optuna_is_told_what_to_write(
    tmp_path: Path, call: Callable[[Any], Any], said: str
) -> None:
    job = Job(trial=0, config={"lr": 0.5}, seed=0, directory=tmp_path)
    with pytest.raises((AttributeError, TypeError)) as raised:
        next(FunctionObjective(call, "loss", "cpu")(job))

    assert said in str(raised.value)


@pytest.mark.parametrize("value", [Decimal("0.25"), Fraction(1, 4), np.float32(0.25)])
def test_what_is_a_number_is_one(tmp_path: Path, value: Any) -> None:
    steps = FunctionObjective(lambda trial: value, "loss", "cpu")(  # noqa: ARG005
        Job(trial=0, config={}, seed=0, directory=tmp_path)
    )
    with pytest.raises(StopIteration) as end:
        next(steps)

    assert end.value.value == {"loss": 0.25}


def test_what_is_no_number_is_left_out_and_told_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    def train(trial: Any) -> dict[str, Any]:
        for step in (1, 2):
            trial.report(step, loss=0.5, note_7=f"hi {step}", all_of_it={}, none_of_it=None)
        return {"loss": torch.tensor(0.25), "note_7": "bye"}

    objective = FunctionObjective(train, "loss", "cpu")
    steps = objective(Job(trial=0, config={}, seed=0, directory=tmp_path))
    reports = [next(steps), next(steps)]
    with pytest.raises(StopIteration) as end:
        next(steps)

    assert [report.metrics for report in reports] == [{"loss": 0.5}] * 2
    assert end.value.value == {"loss": 0.25}
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 3
    assert "'note_7' is not a number but a str, and is not kept; told once" in said
