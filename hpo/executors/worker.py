"""What runs in a worker process: it builds the objective once, then runs job after job.

Started as ``python -m hpo.executors.worker N``, where N is the descriptor of a connection to the
driver. The main thread runs the jobs (a function that calls `trial.report` has a thread of its own,
as it has everywhere); a second one listens to the driver. When the driver is gone, so is this
process and its whole group.

SIGTERM may come from the driver, which has said so and wants an end now, or from a cluster that
sends it to all processes of a job: then the running job is drained, and this process goes.
"""

from __future__ import annotations

import faulthandler
import io
import os
import queue
import signal
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from multiprocessing.connection import Connection
from pathlib import Path
from types import FrameType
from typing import TypeAlias

from hpo import objectives, spec
from hpo.errors import HpoError
from hpo.executors.ends import end_of, ran_out_of_memory
from hpo.executors.messages import (
    CannotStart,
    Drain,
    End,
    Finished,
    FromWorker,
    Progress,
    Ready,
    Run,
    Setup,
    Stop,
    ToWorker,
)
from hpo.executors.outbox import Outbox
from hpo.executors.tidying import tidy
from hpo.objectives import Objective
from hpo.objectives.outputs import put_aside
from hpo.places import OUTPUT
from hpo.trial import Drained, Ended, Job, Reported, is_pruned

_STDOUT, _STDERR = 1, 2  # whatever the user's code has made of sys.stdout and sys.stderr

_Driver: TypeAlias = "Connection[FromWorker, ToWorker]"


class Worker:
    """The worker of this process.

    Args:
        driver: Where messages come from and go to.
    """

    def __init__(self, driver: _Driver) -> None:
        self._driver = driver
        self._outbox = Outbox(driver)
        self._orders: queue.SimpleQueue[Setup | Run] = queue.SimpleQueue()
        self._objective: Objective | None = None
        self._pid = os.getpid()
        self._trains = False
        self._stopped = False  # the running job
        self._draining = False
        self._told_to_end = False  # when SIGTERM comes
        self._terminated = False  # it came
        self._ending = False
        # A forked child must not hold the connection open when this process has died.
        os.register_at_fork(after_in_child=driver.close)
        threading.Thread(target=self._listen, name="driver", daemon=True).start()

    def serve(self) -> None:
        """Does what the driver says until it goes away."""
        signal.signal(signal.SIGTERM, self._terminate)
        ready = self._build()
        self._outbox.send(ready)
        if isinstance(ready, CannotStart):
            return
        while True:
            order = self._orders.get()
            assert isinstance(order, Run)  # noqa: S101 - the setup comes once
            self._outbox.send(self._run(order.job))

    # --- the thread that listens ---

    def _listen(self) -> None:
        while True:
            try:
                message = self._driver.recv()
            except (EOFError, OSError):  # nobody is there any more to whom a result would matter
                os.killpg(os.getpgrp(), signal.SIGKILL)
                return
            match message:
                case Setup():
                    self._orders.put(message)
                case Run():
                    self._stopped = False
                    self._orders.put(message)
                case Stop():
                    self._stopped = True
                    if self._objective is not None:
                        self._objective.stop()
                case Drain():
                    self._drain()
                case End():
                    self._told_to_end = True
                    if self._terminated:  # SIGTERM was faster
                        os.kill(self._pid, signal.SIGTERM)

    def _drain(self) -> None:
        self._draining = True
        if self._objective is not None:
            self._objective.drain()

    # --- the main thread ---

    def _build(self) -> Ready | CannotStart:
        """Builds the objective, or finds out why that cannot be done."""
        setup = self._orders.get()
        assert isinstance(setup, Setup)  # noqa: S101 - the driver begins with it
        sys.path[:] = setup.path
        try:
            plan = spec.from_stored(setup.plan)
            self._objective = objectives.build(plan, setup.tracking)
            return Ready(self._objective.data_digest)
        except HpoError as error:
            return CannotStart(error.message, error.next_step, traceback.format_exc())
        except (Exception, SystemExit) as error:
            if self._ending:
                raise
            what = f"a worker process cannot be set up: {type(error).__name__}: {error}"
            return CannotStart(what.rstrip(": "), "See where: --debug", traceback.format_exc())

    def _run(self, job: Job) -> Finished:
        event: Ended | Drained | None
        if self._draining:  # it may have come before the objective was built
            self._drain()
        signal.signal(signal.SIGTERM, self._terminate)  # the job before may have changed it
        try:
            with _printing_into(job.directory / OUTPUT):
                event = self._train(job)
        except Exception as error:  # the folder cannot be written
            event = end_of(job.trial, error)
        at = time.monotonic()
        full = ran_out_of_memory(event)
        try:
            peak_bytes = tidy(after_out_of_memory=full)
            is_spoiled = full and peak_bytes is not None  # its end frees all there
        except RuntimeError:
            peak_bytes, is_spoiled = None, True
        return Finished(event, at, peak_bytes, is_spoiled or self._terminated)

    def _train(self, job: Job) -> Ended | Drained | None:
        """Runs a job to its end, or until it is to stop, which is None."""
        self._trains = True
        try:
            return self._step(job)
        except BaseException as raised:
            if self._ending and not (isinstance(raised, StopIteration) or is_pruned(raised)):
                raise
            return end_of(job.trial, raised)
        finally:
            self._trains = False

    def _step(self, job: Job) -> Drained | None:
        """Runs a job until it is to stop, unless StopIteration tells of its own end before."""
        assert self._objective is not None  # noqa: S101 - it was built
        with closing(self._objective(job)) as steps:
            while not self._stopped:
                report = next(steps)
                is_last = self._draining  # asked before, so that it left a checkpoint
                self._outbox.send(Progress(Reported(job.trial, report), time.monotonic()))
                if is_last:
                    return Drained(job.trial)
        return None

    def _terminate(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's
        """Handles SIGTERM: ends this process, with the clean-up of what it trains."""
        if os.getpid() != self._pid:  # a process that the user's code forked
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
            return
        self._terminated = True
        if self._trains and not self._told_to_end:
            self._drain()
            return
        if self._trains:
            faulthandler.dump_traceback(_STDERR)  # where it hangs
        self._ending = True
        raise SystemExit


@contextmanager
def _printing_into(path: Path) -> Iterator[None]:
    """Sends what this process and its children print into a file, which is there if they did."""
    path.parent.mkdir(parents=True, exist_ok=True)
    put_aside(path)
    before = os.dup(_STDOUT), os.dup(_STDERR)
    with path.open("ab") as file:
        _direct(file.fileno(), file.fileno())
    try:
        yield
    finally:
        _direct(*before)
        for descriptor in before:
            os.close(descriptor)
        with suppress(FileNotFoundError):  # the user's code may have taken it away
            if path.stat().st_size == 0:
                path.unlink()


def _direct(out: int, err: int) -> None:
    _flush()
    os.dup2(out, _STDOUT)
    os.dup2(err, _STDERR)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a full disk; the user's code closed it, or put another there
            stream.flush()


def main() -> None:
    """Serves the driver whose connection is named in the command line."""
    descriptor = int(sys.argv[1])
    os.set_inheritable(descriptor, False)
    faulthandler.enable(_STDERR, all_threads=False)
    for stream in (sys.stdout, sys.stderr):
        assert isinstance(stream, io.TextIOWrapper)  # noqa: S101 - nobody has replaced it yet
        stream.reconfigure(line_buffering=True)  # so that a crash leaves all that was said
    try:
        Worker(Connection(descriptor)).serve()
    except SystemExit:
        # As in multiprocessing's processes: Python's own way out waits for all threads of the
        # user's code, and takes torch half a second.
        _flush()
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTERM)


if __name__ == "__main__":
    main()
