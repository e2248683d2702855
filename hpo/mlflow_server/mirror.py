"""The mirror: the process that writes a study into MLflow.

It reads the driver's messages from stdin and answers on stdout (`protocol`). It writes trials
that ended at once, those that run about once a second, and everything when stdin ends.

MLflow may be away at any time. Then the mirror goes on listening, tries again after 1, 2, 4,
... 30 seconds, and says so once. A trial that fails three times although the study opens
each time is left behind. Exit code: 0 if everything is in MLflow, 1 if not.
"""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeAlias

from hpo.mlflow_server import uris
from hpo.mlflow_server.pending import Pending, PendingTrial
from hpo.mlflow_server.protocol import (
    Closed,
    FromDriver,
    FromMirror,
    Mirrored,
    Ready,
    RunCreated,
    Trouble,
    from_driver,
    to_line,
)

if TYPE_CHECKING:
    from hpo.mlflow_server.study_runs import StudyRuns

_logger = logging.getLogger(__name__)

_Inbox: TypeAlias = "SimpleQueue[FromDriver | None]"  # None: stdin has ended

_SECONDS_BETWEEN_LIVE_WRITES = 1.0
_SECONDS_BETWEEN_NESTINGS = 10.0
_SECONDS_BETWEEN_LOOKS = 0.2
_SECONDS_BETWEEN_LAST_TRIES = 0.5
_MAX_SECONDS_BETWEEN_TRIES = 30.0
_FAILURES_UNTIL_TROUBLE = 2  # a lost connection or a locked database heals within a second
_FAILURES_UNTIL_LEFT_BEHIND = 3

# MLflow's defaults retry for minutes inside one call. A retry of our own looks first for
# what the lost call may have written, so no run is doubled.
_ENVIRONMENT = {
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_BACKOFF_FACTOR": "1",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_CONFIGURE_LOGGING": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",  # it costs a look-up per run, too
}


class Mirror:
    """Keeps MLflow up with what the driver says.

    Args:
        uri: The tracking URI.
        inbox: The driver's messages.
        reply: Sends a message to the driver.
    """

    def __init__(self, uri: str, inbox: _Inbox, reply: Callable[[FromMirror], None]) -> None:
        self._uri = uri
        self._inbox = inbox
        self._reply = reply
        self._pending = Pending()
        self._runs: StudyRuns | None = None
        self._parent_pid = os.getppid()
        self._doing = ""
        self._n_failures = 0  # in a row
        self._next_try = 0.0
        self._next_live_write = 0.0
        self._next_nesting = 0.0
        self._n_mirrored = 0
        self._opening_texts_written = False
        self._texts_complete = True

    def run(self) -> int:
        """Mirrors until the driver closes the study or is gone; returns the exit code."""
        while self._listen():
            if time.monotonic() >= self._next_try:
                self._try_to_write()
        n_left = self._pending.n_ended
        while not self._try_to_write(everything=True):
            n_before, n_left = n_left, self._pending.n_ended
            if self._n_failures >= _FAILURES_UNTIL_LEFT_BEHIND and n_left == n_before:
                return 1
            time.sleep(_SECONDS_BETWEEN_LAST_TRIES)
        return 0 if self._texts_complete and not self._pending.left_behind else 1

    def _listen(self) -> bool:
        """Takes in all that has been said; returns whether more may come."""
        with contextlib.suppress(Empty):
            message = self._inbox.get(timeout=_SECONDS_BETWEEN_LOOKS)
            while message is not None:
                self._pending.take(message)
                if self._pending.closed:
                    return False
                message = self._inbox.get_nowait()
            return False
        # A driver that was killed leaves stdin open if children of its own inherited it.
        return os.getppid() == self._parent_pid

    def _try_to_write(self, *, everything: bool = False) -> bool:
        """Writes what is due; returns whether that succeeded."""
        try:
            self._write(everything=everything)
        except Exception as error:  # whatever MLflow raises, the driver must not notice
            self._fail(error)
            return False
        self._n_failures = 0
        return True

    def _write(self, *, everything: bool) -> None:
        runs = self._open()
        if runs is None:
            return
        now = time.monotonic()
        running = everything or now >= self._next_live_write
        for trial in self._pending.due(running=running):
            self._write_trial(runs, trial)
        if running:
            self._next_live_write = now + _SECONDS_BETWEEN_LIVE_WRITES
            self._doing = "write the study's metrics"
            runs.write_points(self._pending.points)
            self._pending.points.clear()
        while self._pending.beside:
            self._doing = f"write {self._pending.beside[0].name}"
            runs.write_beside(self._pending.beside[0])
            del self._pending.beside[0]
        if everything or now >= self._next_nesting:
            self._doing = "nest what trials have logged"
            runs.nest_code_runs()
            self._next_nesting = now + _SECONDS_BETWEEN_NESTINGS
        if everything:
            self._close(runs)

    def _open(self) -> StudyRuns | None:
        opened = self._pending.opened
        if self._runs is None and opened is not None:
            self._doing = "open the study"
            if why := uris.obstacle(self._uri):
                raise OSError(why)
            from hpo.mlflow_server.study_runs import StudyRuns  # imports mlflow: 3 seconds

            runs = self._runs = StudyRuns(self._uri, opened)
            url_hint = uris.run_url(self._uri, runs.experiment_id, runs.run_id)
            self._reply(Ready(runs.experiment_id, runs.run_id, url_hint))
            if not self._opening_texts_written:
                self._opening_texts_written = self._write_texts(runs, opened.artifacts)
        return self._runs

    def _write_trial(self, runs: StudyRuns, pending: PendingTrial) -> None:
        trial = pending.trial
        self._doing = f"write trial {trial}"
        try:
            run_id = runs.write_trial(
                pending, lambda run_id: self._reply(RunCreated(trial, run_id))
            )
        except Exception:
            pending.n_failures += 1
            if pending.n_failures >= _FAILURES_UNTIL_LEFT_BEHIND:
                self._pending.leave_behind(trial)
            else:
                self._pending.put_last(trial)
            raise
        pending.n_failures = 0
        if pending.ended:
            del self._pending.trials[trial]
            self._n_mirrored += 1
            self._reply(Mirrored(trial, run_id))

    def _close(self, runs: StudyRuns) -> None:
        opened, closed = self._pending.opened, self._pending.closed
        if opened is None or closed is None:
            return  # the driver is gone, but the study may go on: its run stays as it is
        self._doing = "close the study"
        texts = {} if self._opening_texts_written else dict(opened.artifacts)
        self._texts_complete = self._write_texts(runs, {**texts, **closed.artifacts})
        runs.close(closed)
        self._reply(Closed(runs.run_id, self._n_mirrored))

    def _write_texts(self, runs: StudyRuns, texts: Mapping[str, str]) -> bool:
        """Writes artifacts; these often have a store of their own, which holds up nothing else."""
        try:
            runs.write_texts(texts)
        except Exception as error:
            _logger.exception("artifacts cannot be written")
            self._complain("write artifacts", error)
            return False
        return True

    def _fail(self, error: Exception) -> None:
        self._runs = None  # so the next try looks first for what this one may have written
        self._n_failures += 1
        delay = min(_MAX_SECONDS_BETWEEN_TRIES, 2.0 ** (self._n_failures - 1))
        self._next_try = time.monotonic() + delay
        _logger.error("cannot %s", self._doing, exc_info=error)
        if self._n_failures == _FAILURES_UNTIL_TROUBLE:
            self._complain(self._doing, error)
        if self._n_failures >= _FAILURES_UNTIL_TROUBLE:
            self._pending.bound()

    def _complain(self, doing: str, error: Exception) -> None:
        cause = uris.scrubbed(_cause(error), self._uri)
        where = f"MLflow at {uris.masked(self._uri)}"
        self._reply(Trouble(f"Cannot {doing} in {where}: {cause}."))


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the mirror on stdin and stdout; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hpo.mlflow_server.mirror", description=__doc__)
    parser.add_argument(
        "--tracking-uri",
        default=os.environ.get("MLFLOW_TRACKING_URI"),
        help="default: MLFLOW_TRACKING_URI, where no other user of the machine can read it",
    )
    parser.add_argument("--log", type=Path, help="a file for what would go to stderr")
    options = parser.parse_args(arguments)
    if not options.tracking_uri:
        parser.error("--tracking-uri or MLFLOW_TRACKING_URI is needed")

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the driver decides when to stop
    with contextlib.suppress(OSError):
        os.nice(5)  # training goes first
    reply = _take_over_stdout(options.log)
    _log_without_passwords(options.tracking_uri)
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    inbox: _Inbox = SimpleQueue()
    threading.Thread(target=_read_stdin, args=(inbox,), daemon=True).start()
    return Mirror(options.tracking_uri, inbox, reply).run()


def _read_stdin(inbox: _Inbox) -> None:
    try:
        with os.fdopen(os.dup(0), "rb") as lines:
            for line in lines:
                try:
                    inbox.put(from_driver(line))
                except (KeyError, TypeError, ValueError):
                    _logger.exception("not a message: %r", line[:200])
    finally:
        inbox.put(None)


def _take_over_stdout(log: Path | None) -> Callable[[FromMirror], None]:
    """Keeps stdout for replies; whatever libraries print goes to stderr or the log."""
    replies = os.fdopen(os.dup(1), "wb")
    if log is not None:
        with log.open("ab") as file:
            os.dup2(file.fileno(), 2)
    os.dup2(2, 1)

    def reply(message: FromMirror) -> None:
        with contextlib.suppress(BrokenPipeError):  # the driver is gone; MLflow is not
            replies.write(to_line(message))
            replies.flush()

    return reply


def _log_without_passwords(uri: str) -> None:
    class Scrubbing(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            return uris.scrubbed(super().format(record), uri)

    handler = logging.StreamHandler()
    handler.setFormatter(Scrubbing("%(asctime)s %(name)s %(levelname)s %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])


def _cause(error: BaseException) -> str:
    """What is wrong, in a few words: the system's error underneath where there is one."""
    link: BaseException | None = error
    while link is not None:
        if isinstance(link, OSError) and link.strerror:
            return link.strerror
        link = link.__cause__ or link.__context__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300].rstrip(".")


if __name__ == "__main__":
    # All is committed and flushed; to take mlflow's thousands of modules apart costs a second.
    os._exit(main())
