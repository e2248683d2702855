"""A user's function, which runs in a thread that the main one waits for."""

from __future__ import annotations

import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from hpo.errors import ObjectiveError
from hpo.objectives.function import FunctionObjective
from hpo.trial import Job


@pytest.mark.parametrize("asked", ["auto", "cpu"])
def test_a_function_is_told_a_device_that_is_there(tmp_path: Path, asked: str) -> None:
    def train(trial: Any) -> float:
        return float(torch.ones(3, device=trial.device).sum())

    job = Job(trial=0, config={}, seed=0, directory=tmp_path)
    with pytest.raises(StopIteration) as end:
        next(FunctionObjective(train, "sum", asked)(job))
    assert end.value.value == {"sum": 3.0}


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
