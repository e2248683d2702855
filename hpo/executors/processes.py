"""The executor that runs trials in worker processes, several at once."""

from __future__ import annotations

import math
import socket
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from multiprocessing.connection import wait

from hpo.errors import ObjectiveError
from hpo.executors import deaths, slots
from hpo.executors.ends import ran_out_of_memory
from hpo.executors.messages import CannotStart, Finished, Progress, Ready, Setup
from hpo.executors.worker_process import RunningJob, WorkerProcess
from hpo.objectives.outputs import how_it_ended
from hpo.places import OUTPUT, tracking_uri
from hpo.search_spaces import Scalar
from hpo.spec import Plan
from hpo.trial import Ended, Event, Failure, FailureKind, Job, Lost, Reported

_STARTS_IN_A_ROW = 3
_SECONDS_TO_CLEAN_UP = 1.0  # for a command in a worker, which has all of the grace for itself
_SECONDS_TO_CLOSE = 1.0
_SECONDS_TO_DIE = 10.0  # after SIGKILL; a broken device may hold a process back


class ProcessExecutor:
    """Runs trials in worker processes, each of which has a slot of the machine.

    A worker imports and loads what the objective needs once, and runs one trial after another. It
    trains on while its reports are judged. One that dies, or hangs, is ended with all that it
    started, and replaced.

    Args:
        plan: The study.
        tracking: URI of MLflow, or ``"none"``; wins over file and environment.
        n_jobs: How many jobs there will be, where that is not the number of the study's trials.

    Raises:
        ObjectiveError: the objective cannot be built, or the machine has not the GPUs that the
            study file asks for.
    """

    def __init__(
        self, plan: Plan, tracking: str | None = None, *, n_jobs: int | None = None
    ) -> None:
        self._run = plan.spec.run
        self._layout = slots.layout(plan, n_jobs)
        self._n_slots = self._layout.n_slots
        uri = tracking_uri(tracking or plan.spec.tracking) or "none"
        self._setup = Setup(plan.as_stored(), uri, list(sys.path))
        self._workers: dict[int, WorkerProcess] = {}  # by slot
        self._leaving: list[WorkerProcess] = []
        self._peak_bytes = 0  # of trials on a GPU
        self._relieved_at = -math.inf  # when a GPU's memory was found full
        self._draining = False
        self._told_to_drain = False
        self._failed_starts = 0  # in a row
        self._has_started = False
        self._broken: ObjectiveError | None = None
        self._alarm = _Alarm()
        try:
            self._replace()
            while not self.free:
                self.events()
        except BaseException:
            self.close()
            raise

    @property
    def free(self) -> bool:
        """Whether a worker is ready and has nothing to do."""
        return bool(self._idle)

    def start(self, job: Job) -> None:
        """Gives a job to a worker that is free."""
        worker = self._idle[0]
        if worker.connection.poll():  # an idle worker says nothing: it has died
            self._dismiss(worker)
            worker = self._hire(worker.slot.number)
        timeout = self._run.trial_timeout or math.inf
        oom_kills = deaths.OomKills(worker.pid)
        worker.run(RunningJob(job, time.monotonic(), timeout, oom_kills))
        if self._told_to_drain:
            worker.drain()

    def events(self, seconds: float | None = None) -> Sequence[Event]:
        """Waits until something happens in the running jobs, and tells it, one event a job.

        Returns without an event, too, when a worker has become free and when `drain` was called.

        Raises:
            ObjectiveError: no worker can be started any more.
        """
        until = math.inf if seconds is None else time.monotonic() + seconds
        while True:
            if self._broken is not None:
                raise self._broken
            self._replace()
            n_idle, was_draining = len(self._idle), self._told_to_drain
            events = self._look(until)
            if self._draining and not self._told_to_drain:
                self._tell_to_drain()
            news = len(self._idle) > n_idle or self._told_to_drain != was_draining
            if events or news or time.monotonic() >= until:
                return events

    def stop(self, trial: int) -> None:
        """Lets a trial end at its next report, or after the grace period; waits for neither."""
        worker = self._running(trial)
        if worker is not None:
            worker.stop(by=time.monotonic() + self._run.grace_period)

    def end(self, trials: Collection[int]) -> None:
        """Ends the trials' workers, which have a second for their clean-up."""
        workers = [self._running(trial) for trial in trials]
        self._end([worker for worker in workers if worker is not None])

    def drain(self) -> None:
        """Lets every running trial end after its next report."""
        self._draining = True
        self._alarm.ring()

    def where(self, trial: int) -> Mapping[str, Scalar]:
        """The process of a running trial, its slot, its data, and its GPUs, if it has some."""
        worker = self._running(trial)
        if worker is None:
            return {}
        place: dict[str, Scalar] = {"pid": worker.pid, "slot": worker.slot.number}
        if worker.data_digest is not None:
            place["data"] = worker.data_digest
        if not worker.slot.gpus:
            return place
        share = len(self._layout.gpus) / max(self._n_slots, len(self._layout.gpus))
        n_gpus = self._run.gpus_per_trial or share
        return {**place, "gpus": ",".join(worker.slot.gpus), "n_gpus": n_gpus}

    def close(self) -> None:
        """Ends all workers; what runs has a second for its clean-up."""
        self._end([*self._workers.values(), *self._leaving])
        self._leaving.clear()
        self._alarm.close()

    def _end(self, workers: Sequence[WorkerProcess]) -> None:
        """Waits until workers are gone, and kills those that take longer than a second."""
        grace = min(self._run.grace_period, _SECONDS_TO_CLOSE)
        for worker in workers:
            if worker not in self._leaving:
                self._dismiss(worker, grace)
        deadline = time.monotonic() + grace
        for worker in workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        for worker in workers:
            if not worker.is_gone:
                worker.kill()
                worker.join(_SECONDS_TO_DIE)

    # --- what workers say, and what their silence says ---

    def _look(self, until: float) -> list[Event]:
        """Waits until a worker speaks, dies or is due, or the alarm rings; one event a worker."""
        workers = list(self._workers.values())
        due = min([until, *(worker.due for worker in workers)])
        timeout = None if due == math.inf else max(0.0, due - time.monotonic())
        alarm = self._alarm.fileno()
        awake = wait([alarm, *(worker.connection for worker in workers)], timeout)
        if alarm in awake:
            self._alarm.clear()
        found = (
            self._hear(worker) if worker.connection in awake else self._check(worker)
            for worker in workers
        )
        return [event for event in found if event is not None]

    def _hear(self, worker: WorkerProcess) -> Event | None:
        """Takes one message of a worker."""
        try:
            message = worker.connection.recv()
        except (EOFError, OSError):
            return self._bury(worker)
        match message:
            case Ready(data_digest):
                worker.is_ready = self._has_started = True
                worker.data_digest = data_digest
                self._failed_starts = 0
            case CannotStart():
                return self._give_up(worker, message)
            case Progress(event, at):
                return self._progress(worker, event, at)
            case Finished():
                return self._finish(worker, message)
        return None

    def _give_up(self, worker: WorkerProcess, message: CannotStart) -> Event | None:
        """What it means that a worker cannot build its objective."""
        self._dismiss(worker)
        error = ObjectiveError(message.message, message.next_step)
        error.__cause__ = RuntimeError(f"in a worker process:\n{message.traceback}")
        self._note_failed_start(error, for_good=not self._has_started)
        return _lost(worker.running, Failure(FailureKind.LOST, message.message.rstrip(".")))

    def _progress(self, worker: WorkerProcess, event: Reported, at: float) -> Event | None:
        running = worker.running
        if running is None or running.is_stopping:
            return None
        if at > running.deadline:
            return self._time_out(worker, running)
        running.last_step = event.report.step
        return event

    def _finish(self, worker: WorkerProcess, message: Finished) -> Event | None:
        running, worker.running = worker.running, None
        if running is None:
            return None
        event = message.event
        self._repack(running, event, message.peak_bytes)
        if message.is_spoiled:
            self._dismiss(worker)
        if running.is_stopping:
            return None
        if message.at > running.deadline:
            return Ended(running.job.trial, self._timed_out(running))
        return event

    def _bury(self, worker: WorkerProcess) -> Event | None:
        """What it means that a worker has died."""
        running, code = worker.running, worker.code()
        self._dismiss(worker)
        if not worker.is_ready:
            how = "went away" if code is None else how_it_ended(code)
            message = f"a worker process {how} while it was set up."
            self._note_failed_start(ObjectiveError(message, "Try one step: hpo check FILE"))
        if running is None:
            return None
        output = running.job.directory / OUTPUT
        failure = deaths.why(code, memory_ran_out=running.oom_kills.any, output=output)
        return _lost(running, failure)

    def _check(self, worker: WorkerProcess) -> Event | None:
        """Ends a worker that is due."""
        running = worker.running
        if running is None or worker.due > time.monotonic():
            return None
        if not running.is_stopping:
            return self._time_out(worker, running)
        self._dismiss(worker)
        return None

    def _time_out(self, worker: WorkerProcess, running: RunningJob) -> Event:
        self._dismiss(worker)
        return Ended(running.job.trial, self._timed_out(running))

    def _timed_out(self, running: RunningJob) -> Failure:
        last = running.last_step
        report = "it reported nothing" if last is None else f"its last report was of step {last}"
        message = f"it took longer than trial_timeout = {_duration(running.timeout)}; {report}"
        said = deaths.last_words(running.job.directory / OUTPUT)
        return Failure(FailureKind.TIMED_OUT, message, said)

    # --- workers come and go ---

    @property
    def _idle(self) -> list[WorkerProcess]:
        in_order = sorted(self._workers.items())
        return [worker for n, worker in in_order if worker.is_idle and n < self._n_slots]

    def _running(self, trial: int) -> WorkerProcess | None:
        for worker in self._workers.values():
            running = worker.running
            if running is not None and running.job.trial == trial and not running.is_stopping:
                return worker
        return None

    def _replace(self) -> None:
        """Hires workers for empty slots, once those before have left, and dismisses surplus."""
        self._leaving = [worker for worker in self._leaving if not worker.is_gone]
        for number, worker in list(self._workers.items()):
            if number >= self._n_slots and worker.running is None:
                self._dismiss(worker)
        taken = {*self._workers, *(worker.slot.number for worker in self._leaving)}
        for number in range(self._n_slots):
            if number not in taken:
                self._hire(number)

    def _hire(self, number: int) -> WorkerProcess:
        grace = self._run.grace_period + _SECONDS_TO_CLEAN_UP
        try:
            worker = WorkerProcess(self._layout.slot(number), self._setup, grace)
        except OSError as error:
            raise ObjectiveError(f"no worker process can be started: {error}.") from error
        self._workers[number] = worker
        return worker

    def _dismiss(self, worker: WorkerProcess, grace_seconds: float | None = None) -> None:
        del self._workers[worker.slot.number]
        self._leaving.append(worker)
        worker.end(self._alarm.ring, grace_seconds)

    def _note_failed_start(self, error: ObjectiveError, *, for_good: bool = False) -> None:
        self._failed_starts += 1
        if for_good or self._failed_starts >= _STARTS_IN_A_ROW:
            self._broken = error

    def _repack(self, running: RunningJob, event: Event | None, peak_bytes: int | None) -> None:
        """Takes note of the memory that a trial needed, where as many run as it allows."""
        full = ran_out_of_memory(event)
        if full and running.started > self._relieved_at:  # else it suffered before that
            self._relieved_at = time.monotonic()
            self._layout = self._layout.relieved(self._n_slots)
            self._n_slots = min(self._n_slots, self._layout.most_slots)
        elif peak_bytes is not None and not full:
            self._peak_bytes = max(self._peak_bytes, peak_bytes)
            self._n_slots = self._layout.packed(self._n_slots, self._peak_bytes)

    def _tell_to_drain(self) -> None:
        self._told_to_drain = True
        for worker in self._workers.values():
            if worker.running is not None:
                worker.drain()


class _Alarm:
    """Wakes up `wait`, from any thread and from a signal handler."""

    def __init__(self) -> None:
        self._read, self._write = socket.socketpair()
        for end in (self._read, self._write):
            end.setblocking(False)

    def fileno(self) -> int:
        """What `wait` waits for."""
        return self._read.fileno()

    def ring(self) -> None:
        """Wakes up `wait`; once is enough."""
        with suppress(OSError):
            self._write.send(b"!")

    def clear(self) -> None:
        """Makes it silent again."""
        with suppress(BlockingIOError):
            while self._read.recv(4096):
                pass

    def close(self) -> None:
        """Closes it; to ring is nothing then."""
        self._read.close()
        self._write.close()


def _lost(running: RunningJob | None, failure: Failure) -> Lost | None:
    """What is told of a job whose worker has died."""
    if running is None or running.is_stopping:
        return None
    return Lost(running.job.trial, failure)


def _duration(seconds: float) -> str:
    """Seconds as a study file has them: 90s, 10m, 2h."""
    for unit, size in (("h", 3600), ("m", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g}{unit}"
    return f"{seconds:g}s"
