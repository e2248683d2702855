"""What the tests of executors have in common: studies of the test's own code, and their events."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpo import spec, studyfile
from hpo.executors import Executor
from hpo.spec import Plan
from hpo.trial import Drained, Ended, Event, Failure, Job, Lost

PATIENCE_SECONDS = 60.0  # not a promise: how long a busy machine may take before a test gives up


def plan_of(
    folder: Path, objective: Mapping[str, Any], run: Mapping[str, Any], code: str = ""
) -> Plan:
    """A study in a folder, whose own code is in mine.py."""
    (folder / "mine.py").write_text(code, encoding="utf-8")
    values = {
        "objective": {"metric": "loss", **objective},
        "space": {"use": "sgd"} if "trainer" in objective else {"x": {"float": [0, 1]}},
        "run": {"grace_period": 1.0, **run},
    }
    return spec.check(studyfile.StudyFile("study.yaml", folder, values))


def job_of(folder: Path, trial: int = 0, **config: Any) -> Job:
    """A job, and its folder."""
    directory = folder / f"trial-{trial}"
    directory.mkdir(exist_ok=True)
    return Job(trial, config, 7 + trial, directory)


def start(executor: Executor, job: Job) -> list[Event]:
    """Starts a job as soon as there is room; what happened in others until then."""
    seen: list[Event] = []

    def is_free() -> bool:
        if not executor.free:
            seen.extend(executor.events(1.0))
        return executor.free

    patiently(is_free)
    executor.start(job)
    return seen


def to_the_end(executor: Executor, *trials: int) -> list[Event]:
    """All events until these trials have ended, one way or another."""
    seen: list[Event] = []
    waiting = set(trials)

    def ended() -> bool:
        new = executor.events(1.0)
        seen.extend(new)
        waiting.difference_update(e.trial for e in new if isinstance(e, (Ended, Lost, Drained)))
        return not waiting

    patiently(ended)
    return seen


def failure_of(event: Event) -> Failure:
    """Why a trial failed, or its process died."""
    failure = event.failure if isinstance(event, Lost) else getattr(event, "result", None)
    assert isinstance(failure, Failure), event
    return failure


def patiently(happened: Callable[[], bool]) -> None:
    """Waits for something."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not happened():
        assert time.monotonic() < deadline, "it never happened"
        time.sleep(0.005)


def is_running(pid: int) -> bool:
    """Whether a process runs; what has ended and awaits burial does not."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"
