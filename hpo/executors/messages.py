"""What a driver and its worker processes tell each other: plain data, pickled."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

from hpo.trial import Drained, Ended, Job, Reported


@dataclass(frozen=True)
class Setup:
    """The first thing that a worker hears: its study.

    Args:
        plan: As it is stored.
        tracking: URI of MLflow, or none. It may hold a password, so no command line has it.
        path: Where Python finds modules in the driver.
    """

    plan: Mapping[str, Any]
    tracking: str
    path: list[str]


@dataclass(frozen=True)
class Run:
    """Run a job; it is sent to a worker that has none."""

    job: Job


@dataclass(frozen=True)
class Stop:
    """End the running job at its next report."""


@dataclass(frozen=True)
class Drain:
    """End the running job after its next report, with a checkpoint of it."""


@dataclass(frozen=True)
class End:
    """End yourself when SIGTERM comes, without waiting for a report."""


@dataclass(frozen=True)
class Ready:
    """The objective is built.

    Args:
        data_digest: Of what it trains on; None where that is not known.
    """

    data_digest: str | None


@dataclass(frozen=True)
class CannotStart:
    """The objective cannot be built.

    Args:
        message: What happened.
        next_step: What to do now.
        traceback: Python's.
    """

    message: str
    next_step: str
    traceback: str


@dataclass(frozen=True)
class Progress:
    """The running job goes on.

    Args:
        event: Its report.
        at: When, by the monotonic clock, which all processes of a machine share.
    """

    event: Reported
    at: float


@dataclass(frozen=True)
class Finished:
    """The running job has ended; each job ends with one of these, unless its worker dies.

    Args:
        event: How; None where it was stopped.
        at: When, by the monotonic clock.
        peak_bytes: The memory that it took on a GPU; None where it used none.
        is_spoiled: Whether the worker should run no more jobs.
    """

    event: Ended | Drained | None
    at: float
    peak_bytes: int | None = None
    is_spoiled: bool = False


ToWorker: TypeAlias = Setup | Run | Stop | Drain | End
FromWorker: TypeAlias = Ready | CannotStart | Progress | Finished
