"""The driver's end of the mirror: send and forget.

No call here imports mlflow, waits for it or raises because of it: `send` puts a message into a
queue, a thread writes the queue into the mirror's stdin, another collects its replies, and
`poll` hands these over in the driver's own thread.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from queue import Empty, SimpleQueue

from hpo.mlflow_server.protocol import (
    Closed,
    FromDriver,
    FromMirror,
    Mirrored,
    Ready,
    RunCreated,
    StudyClosed,
    StudyOpened,
    Trouble,
    from_mirror,
    to_line,
)
from hpo.mlflow_server.uris import masked

_SECONDS_TO_DIE = 5.0
_SECONDS_TO_GATHER = 0.01  # one wake-up and one write for a burst, not one for each message


class Tracker:
    """Mirrors one study into MLflow, in a process of its own.

    The process is started at once and in its own session, so a Ctrl-C in the terminal does
    not reach it. If it dies, that is one trouble: what was not mirrored can be sent again
    through another tracker, and nothing is doubled.

    Args:
        uri: The tracking URI.
        study: The study's name.
        uid: What tells the study from another of the same name.
        tags: Tags of the parent run.
        artifacts: Text files of the parent run, by file name.
        experiment_tags: Tags of the experiment, if it has to be made.
        on_mirrored: Called from `poll` with a trial and its run id when it is in MLflow.
        on_trouble: Called from `poll` with a sentence, once per streak of failures.
        log_path: Where the mirror's log goes; it has none without.
    """

    def __init__(
        self,
        uri: str,
        *,
        study: str,
        uid: str,
        tags: Mapping[str, str],
        artifacts: Mapping[str, str],
        on_mirrored: Callable[[int, str], None],
        on_trouble: Callable[[str], None],
        experiment_tags: Mapping[str, str] | None = None,
        log_path: Path | None = None,
    ) -> None:
        self._uri = uri
        self._on_mirrored = on_mirrored
        self._on_trouble = on_trouble
        self._ready: Ready | None = None
        self._run_ids: dict[int, str] = {}
        self._to_mirror: SimpleQueue[bytes | None] = SimpleQueue()  # None: no more
        self._from_mirror: SimpleQueue[FromMirror] = SimpleQueue()
        self._is_listening = True
        self._is_killed = False
        self._is_complete = False
        self._threads: list[threading.Thread] = []
        self._process = self._start(log_path)
        self.send(StudyOpened(study, uid, tags, artifacts, experiment_tags or {}))

    @property
    def experiment_id(self) -> str | None:
        """The study's experiment; None until MLflow has it."""
        return self._ready.experiment_id if self._ready else None

    @property
    def parent_run_id(self) -> str | None:
        """The study's own run; None until MLflow has it."""
        return self._ready.run_id if self._ready else None

    @property
    def url_hint(self) -> str | None:
        """The page of the study's run, if the tracking URI is a server that has it."""
        return self._ready.url_hint if self._ready else None

    def run_id(self, trial: int) -> str | None:
        """Returns the run of a trial; None until MLflow has it."""
        return self._run_ids.get(trial)

    def send(self, message: FromDriver) -> None:
        """Says something to the mirror, in microseconds; into the void if it is dead."""
        if self._is_listening:
            self._to_mirror.put(to_line(message))  # encoded now: the caller may change its dicts

    def poll(self) -> None:
        """Hands over what the mirror has said, through the callbacks."""
        while True:
            try:
                message = self._from_mirror.get_nowait()
            except Empty:
                return
            match message:
                case Ready():
                    self._ready = message
                case RunCreated(trial, run_id):
                    self._run_ids[trial] = run_id
                case Mirrored(trial, run_id):
                    self._on_mirrored(trial, run_id)
                case Trouble(text):
                    self._on_trouble(text)

    def close(self, final: StudyClosed, timeout: float) -> bool:
        """Says the last word and waits until MLflow has everything.

        Args:
            final: How the study ended.
            timeout: After so many seconds the mirror is killed.

        Returns:
            Whether everything was mirrored.
        """
        self.send(final)
        self._to_mirror.put(None)
        self._join(timeout)
        self.kill()
        self.poll()
        return self._is_complete

    def kill(self) -> None:
        """Ends the mirror now; what it has not written is lost to it."""
        self._is_listening = False
        self._to_mirror.put(None)
        if self._process and self._process.poll() is None:
            self._is_killed = True
            self._process.kill()
        self._join(_SECONDS_TO_DIE)

    def _join(self, timeout: float) -> None:
        deadline = time.monotonic() + timeout
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start(self, log_path: Path | None) -> subprocess.Popen[bytes] | None:
        log = ["--log", str(log_path)] if log_path else []
        command = [sys.executable, "-P", "-W", "ignore", "-m", "hpo.mlflow_server.mirror", *log]
        try:
            process = subprocess.Popen(  # noqa: S603  (our own module)
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            self._is_listening = False
            self._from_mirror.put(Trouble(f"The MLflow mirror cannot be started: {error}."))
            return None
        for work in (self._write, self._read):
            thread = threading.Thread(target=work, args=(process,), daemon=True)
            thread.start()
            self._threads.append(thread)
        return process

    def _environment(self) -> dict[str, str]:
        """The URI goes through the environment: anyone may read another's command line."""
        here = str(Path(__file__).parents[2])
        path = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
        return {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([*path, here]),
            "MLFLOW_TRACKING_URI": self._uri,
        }

    def _write(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None  # noqa: S101  (it is a pipe)
        with contextlib.suppress(OSError), process.stdin as stdin:
            is_open = True
            while is_open:
                lines = [self._to_mirror.get()]
                time.sleep(_SECONDS_TO_GATHER)
                lines += [self._to_mirror.get() for _ in range(self._to_mirror.qsize())]
                is_open = None not in lines
                stdin.write(b"".join(line for line in lines if line is not None))
                stdin.flush()
        self._is_listening = False

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        is_closed = has_complained = False
        with process.stdout as stdout:
            for line in stdout:
                message = from_mirror(line)
                is_closed |= isinstance(message, Closed)
                has_complained |= isinstance(message, Trouble)
                self._from_mirror.put(message)
        status = process.wait()
        self._is_listening = False
        self._to_mirror.put(None)
        self._is_complete = status == 0 and is_closed
        is_explained = status == 0 or (status == 1 and has_complained)
        if not is_explained and not self._is_killed:
            where = f"MLflow at {masked(self._uri)}"
            self._from_mirror.put(Trouble(f"The mirror of {where} died (exit status {status})."))
