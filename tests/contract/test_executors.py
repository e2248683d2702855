"""What every executor does, whatever it runs trials in."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from hpo import executors
from hpo.errors import ObjectiveError
from hpo.executors import Executor
from hpo.places import CHECKPOINTS
from hpo.trial import Drained, Ended, FailureKind, Reported, Stopped
from tests.executors import failure_of, is_running, job_of, patiently, plan_of, start, to_the_end

CODE = """\
import gc
import time
import weakref
from optuna import TrialPruned

def generated(trial):
    try:
        for step in range(1, trial.steps + 1):
            yield {"step": step, "loss": trial.x / step}
            time.sleep(0.01)
    finally:
        (trial.directory / "cleaned").touch()
    return {"final": 7.0}

def called(trial):
    for step in range(1, trial.steps + 1):
        trial.report(step, loss=trial.x / step)
        time.sleep(0.01)
    return trial.x

def fails(trial):
    if trial.how == "pruned":
        raise TrialPruned("enough seen")
    if trial.how == "raises":
        raise ValueError("no good")
    if trial.how == "exits":
        raise SystemExit(3)
    if trial.how == "memory":
        return bytearray(2**62)
    if trial.how == "diverges":
        return float(10.0 ** 1000)
    return None

held = []

class Big:
    pass

def hoards(trial):
    gc.disable()  # so that chance does not free what is asked for
    if trial.what == "fills":
        big = Big()
        big.itself = big
        held.append(weakref.ref(big))
        raise MemoryError("no more")
    yield {"held": float(held[0]() is not None)}

def waits(trial):
    yield {"loss": 1.0}
    while not (trial.directory / "go").exists():
        time.sleep(0.005)
    while True:
        yield {"loss": 2.0}
        time.sleep(0.2)
"""
COMMAND = """\
import json, os, pathlib, time
folder = pathlib.Path(os.environ["HPO_TRIAL_DIRECTORY"])
(folder / "pid").write_text(str(os.getpid()))
print(json.dumps({"step": 1, "loss": 0.5}), flush=True)
while not (folder / "go").exists():
    time.sleep(0.005)
print(json.dumps({"step": 2, "loss": 0.25}), flush=True)
"""

Build = Callable[..., Executor]


@pytest.fixture(params=["inline", "processes"])
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def build(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Build]:
    """Builds an executor of the kind, for one trial at a time."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    built: list[Executor] = []

    def executor(objective: str | Mapping[str, Any], **run: Any) -> Executor:
        said = {"function": f"mine:{objective}"} if isinstance(objective, str) else objective
        workers = {"workers": 1} if kind == "processes" else {}
        plan = plan_of(tmp_path, said, {"executor": kind, **workers, **run}, CODE)
        built.append(executors.build(plan, tracking="none"))
        return built[-1]

    yield executor
    for each in built:
        each.close()


@pytest.mark.parametrize("function", ["generated", "called"])
def test_reports_come_in_order_and_then_the_end(
    build: Build, tmp_path: Path, function: str
) -> None:
    executor = build(function)
    for trial in range(2):
        executor.start(job_of(tmp_path, trial, x=6.0, steps=3))
        assert not executor.free
        *events, end = to_the_end(executor, trial)
        reports = [event for event in events if isinstance(event, Reported)]
        assert len(reports) == len(events)
        assert [(e.trial, e.report.step, e.report.metrics) for e in reports] == [
            (trial, 1, {"loss": 6.0}),
            (trial, 2, {"loss": 3.0}),
            (trial, 3, {"loss": 2.0}),
        ]
        final = {"loss": 2.0, "final": 7.0} if function == "generated" else {"loss": 6.0}
        assert end == Ended(trial, final)
    assert executor.free


def test_a_failure_is_a_value_and_the_next_trial_runs(build: Build, tmp_path: Path) -> None:
    executor, failures = build("fails"), {}
    for trial, how in enumerate(["raises", "exits", "memory", "diverges", "nothing"]):
        executor.start(job_of(tmp_path, trial, how=how))
        (end,) = to_the_end(executor, trial)
        assert isinstance(end, Ended)
        failures[how] = failure_of(end)
    assert {how: failure.kind for how, failure in failures.items()} == {
        "raises": FailureKind.CRASHED,
        "exits": FailureKind.CRASHED,
        "memory": FailureKind.OUT_OF_MEMORY,
        "diverges": FailureKind.DIVERGED,
        "nothing": FailureKind.NO_METRIC,
    }
    assert failures["raises"].message == "ValueError: no good"
    assert "mine.py" in failures["raises"].place


def test_a_trial_may_prune_itself(build: Build, tmp_path: Path) -> None:
    executor = build("fails")
    executor.start(job_of(tmp_path, how="pruned"))
    assert to_the_end(executor, 0) == [Ended(0, Stopped("enough seen"))]


@pytest.mark.parametrize("function", ["generated", "called"])
def test_nothing_follows_on_a_stop_and_there_is_room_again(
    build: Build, tmp_path: Path, function: str
) -> None:
    executor = build(function)
    executor.start(job_of(tmp_path, x=1.0, steps=10_000))
    patiently(lambda: bool(executor.events(1.0)))
    executor.stop(0)
    start(executor, job_of(tmp_path, 0, x=2.0, steps=2))  # the same number again
    first, *_, end = to_the_end(executor, 0)
    assert isinstance(first, Reported)
    assert first.report.metrics == {"loss": 2.0}
    assert isinstance(end, Ended)


def test_to_stop_runs_the_clean_up(build: Build, tmp_path: Path) -> None:
    executor = build("generated")
    job = job_of(tmp_path, x=1.0, steps=10_000)
    executor.start(job)
    patiently(lambda: bool(executor.events(1.0)))
    executor.stop(0)
    patiently((job.directory / "cleaned").exists)


def test_to_close_runs_the_clean_up(build: Build, tmp_path: Path) -> None:
    executor = build("generated")
    job = job_of(tmp_path, x=1.0, steps=10_000)
    executor.start(job)
    patiently(lambda: bool(executor.events(1.0)))
    executor.close()
    assert (job.directory / "cleaned").exists()
    executor.close()  # again is nothing


def test_a_drained_trial_ends_after_its_next_report(
    build: Build, tmp_path: Path, kind: str
) -> None:
    executor = build("waits")
    job = job_of(tmp_path)
    executor.start(job)
    patiently(lambda: bool(executor.events(1.0)))
    drain = threading.Thread(target=executor.drain)
    drain.start()
    drain.join()
    if kind == "processes":  # others take no notice before the report
        assert executor.events() == []
    (job.directory / "go").touch()
    *reports, end = to_the_end(executor, 0)
    assert end == Drained(0)
    assert 1 <= len(reports) <= 3  # a worker hears of it a moment later


def test_a_drained_training_leaves_a_checkpoint(build: Build, tmp_path: Path) -> None:
    objective = {"trainer": "classifier", "data": "digits", "metric": "val_error"}
    executor = build(objective, checkpoint_every=10_000, device="cpu")
    job = job_of(tmp_path, learning_rate=0.1, epochs=5000)
    executor.start(job)
    patiently(lambda: bool(executor.events(1.0)))
    assert not list((job.directory / CHECKPOINTS).glob("checkpoint-*"))
    executor.drain()
    assert to_the_end(executor, 0)[-1] == Drained(0)
    assert list((job.directory / CHECKPOINTS).glob("checkpoint-*"))


def command(folder: Path) -> dict[str, Any]:
    (folder / "train.py").write_text(COMMAND, encoding="utf-8")
    return {"command": [sys.executable, "train.py"]}


def test_a_command_reports_and_ends(build: Build, tmp_path: Path) -> None:
    executor = build(command(tmp_path))
    job = job_of(tmp_path)
    (job.directory / "go").touch()
    executor.start(job)
    *reports, end = to_the_end(executor, 0)
    assert [e.report.step for e in reports if isinstance(e, Reported)] == [1, 2]
    assert end == Ended(0, {"loss": 0.25})
    assert (job.directory / "stdout.log").read_text().count("loss") == 2
    assert not (job.directory / "output.log").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_stopped_command_ends_before_its_next_report(build: Build, tmp_path: Path) -> None:
    executor = build(command(tmp_path), grace_period=60.0)
    job = job_of(tmp_path)
    executor.start(job)
    patiently(lambda: bool(executor.events(1.0)))
    where = executor.where(0)
    executor.stop(0)
    pid = int((job.directory / "pid").read_text())
    patiently(lambda: not is_running(pid))
    (tmp_path / "trial-1").mkdir()
    (tmp_path / "trial-1" / "go").touch()
    start(executor, job_of(tmp_path, 1))
    assert executor.where(1) == where  # the same worker
    assert isinstance(to_the_end(executor, 1)[-1], Ended)


def test_a_running_trial_is_somewhere(build: Build, tmp_path: Path) -> None:
    executor = build("called")
    executor.start(job_of(tmp_path, x=1.0, steps=3))
    where = executor.where(0)
    assert isinstance(where["pid"], int)
    assert "data" not in where  # a function loads its own
    to_the_end(executor, 0)


def test_with_nothing_to_run_nothing_happens(build: Build) -> None:
    assert build("called").events(0.01) == []


def test_an_objective_that_cannot_be_built_is_an_error(build: Build) -> None:
    with pytest.raises(ObjectiveError, match="nothing to call named 'generatd'"):
        build("generatd")


def test_what_is_ended_runs_no_more(build: Build, tmp_path: Path) -> None:
    executor = build("generated")
    start(executor, job_of(tmp_path, 0, x=1.0, steps=10_000))
    assert executor.events(30.0)
    pid = executor.where(0)["pid"]
    executor.end([0])
    assert (tmp_path / "trial-0" / "cleaned").exists()
    assert pid == os.getpid() or not is_running(int(str(pid)))


def test_what_ran_out_of_memory_leaves_it_to_the_next_trial(build: Build, tmp_path: Path) -> None:
    executor = build("hoards")
    start(executor, job_of(tmp_path, 0, what="fills"))
    assert failure_of(to_the_end(executor, 0)[-1]).kind == FailureKind.OUT_OF_MEMORY
    start(executor, job_of(tmp_path, 1, what="looks"))
    report, _ = to_the_end(executor, 1)
    assert isinstance(report, Reported)
    assert report.report.metrics == {"held": 0.0}
