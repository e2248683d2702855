"""A worker process as its driver sees it (`hpo.executors.worker` is what runs in it)."""

from __future__ import annotations

import math
import multiprocessing
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from hpo.executors.deaths import OomKills
from hpo.executors.messages import Drain, End, FromWorker, Run, Setup, Stop, ToWorker
from hpo.executors.slots import Slot
from hpo.objectives.process_group import ProcessGroup
from hpo.trial import Job

if TYPE_CHECKING:
    _Channel = Connection[ToWorker, FromWorker]

_STDERR = 2
_SECONDS_TO_DIE = 1.0  # between the end of the connection and the end of the process


@dataclass
class RunningJob:
    """A job that a worker runs.

    Args:
        job: The job.
        started: When, by the monotonic clock.
        timeout: How long it may take.
        oom_kills: Whether the kernel has ended processes for want of memory since its start.
    """

    job: Job
    started: float
    timeout: float
    oom_kills: OomKills

    def __post_init__(self) -> None:
        self.last_step: int | None = None
        self.stops_by = math.inf  # once it was asked to stop, when it has to

    @property
    def deadline(self) -> float:
        """When the job is to be ended."""
        return self.started + self.timeout

    @property
    def is_stopping(self) -> bool:
        """Whether nobody wants to hear of the job any more."""
        return self.stops_by < math.inf


class WorkerProcess:
    """Starts a worker process.

    Args:
        slot: What it has of the machine.
        setup: Its study.
        grace_seconds: How long it may take to end by itself after SIGTERM.

    Attributes:
        slot: What it has of the machine.
        connection: To the process.
        is_ready: Whether it has said so.
        data_digest: Of what it trains on, once it is ready; None where that is not known.
        is_gone: Whether it was ended, and has.
        running: What it runs.
    """

    def __init__(self, slot: Slot, setup: Setup, grace_seconds: float) -> None:
        self.slot = slot
        self.is_ready = False
        self.data_digest: str | None = None
        self.is_gone = False
        self.running: RunningJob | None = None
        self._ender: threading.Thread | None = None
        self.connection: _Channel
        self.connection, theirs = multiprocessing.Pipe()
        with theirs:
            # -P: what lies in the current folder must not stand in for Python's own modules.
            command = [sys.executable, "-P", "-m", "hpo.executors.worker", str(theirs.fileno())]
            self._group = ProcessGroup(
                command,
                environment={**os.environ, **slot.environment},
                stdout=_STDERR,  # the driver's; its stdout is for results
                stderr=_STDERR,
                grace_seconds=grace_seconds,
                pass_fds=[theirs.fileno()],
            )
        self._send(setup)

    @property
    def pid(self) -> int:
        """The number of the process."""
        return self._group.pid

    @property
    def is_idle(self) -> bool:
        """Whether the worker can be given a job."""
        return self.is_ready and self.running is None

    @property
    def due(self) -> float:
        """When the worker is to be ended, by the monotonic clock."""
        if self.running is None:
            return math.inf
        return self.running.stops_by if self.running.is_stopping else self.running.deadline

    def run(self, running: RunningJob) -> None:
        """Gives it a job; if it is not ready, for then."""
        self.running = running
        self._send(Run(running.job))

    def stop(self, *, by: float) -> None:
        """Asks it to end its job.

        Args:
            by: When it has to have ended, by the monotonic clock.
        """
        if self.running is not None:
            self.running.stops_by = by
            self._send(Stop())

    def drain(self) -> None:
        """Asks it to end its job after the next report."""
        self._send(Drain())

    def code(self) -> int | None:
        """What the process has ended with, negative by a signal; None where it lives on."""
        self._group.wait(_SECONDS_TO_DIE)
        return self._group.code

    def end(self, ended: Callable[[], None], grace_seconds: float | None = None) -> None:
        """Ends the process and all that it started, without waiting for it.

        Args:
            ended: Called when it has, from a thread.
            grace_seconds: Another grace than it was started with.
        """

        def end() -> None:
            self._group.end(grace_seconds)
            self.connection.close()  # not before: then it would kill itself, without clean-up
            self.is_gone = True
            ended()

        self._send(End())
        self._ender = threading.Thread(target=end, name=f"end-{self.pid}", daemon=True)
        self._ender.start()

    def join(self, seconds: float) -> None:
        """Waits so long for its end."""
        if self._ender is not None:
            self._ender.join(seconds)

    def kill(self) -> None:
        """Ends it, and all that it started, now."""
        self._group.kill()

    def _send(self, message: ToWorker) -> None:
        with suppress(OSError):  # it has died, as the end of its connection tells
            self.connection.send(message)
