"""A process and all that it starts: one group of processes, which ends as a whole."""

from __future__ import annotations

import os
import signal
import subprocess
import time
import uuid
from collections import defaultdict
from collections.abc import Mapping, Sequence, Set
from contextlib import AbstractContextManager, nullcontext, suppress
from pathlib import Path
from typing import IO, NamedTuple

# Reads the group's number, and then until hpo, which holds the other end of the pipe, is gone,
# however that came.
_GUARD = (
    'read -r group || exit; read -r _; kill -s TERM -- "-$group"; sleep "$1"; '
    'kill -s KILL -- "-$group"'
)


_PROC = Path("/proc")
_MARK = "HPO_PROCESS_GROUP"


class _Stray(NamedTuple):
    """A process outside of the group; by its start it is told from a later one of its number."""

    pid: int
    started: int


class _Stat(NamedTuple):
    """What Linux tells of a process (proc(5))."""

    pid: int
    state: str
    parent: int
    group: int
    started: int

    @classmethod
    def of(cls, pid: int) -> _Stat | None:
        """The process of that number; None if there is none, and elsewhere than on Linux."""
        try:
            text = (_PROC / str(pid) / "stat").read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None
        state, parent, group, *rest = text.rpartition(")")[2].split()
        return cls(pid, state, int(parent), int(group), int(rest[16]))

    def is_marked(self, mark: str) -> bool:
        """Whether the environment that it was started with has a mark."""
        try:
            environment = (_PROC / str(self.pid) / "environ").read_bytes()
        except OSError:  # it is somebody else's, or has ended
            return False
        return f"{_MARK}={mark}".encode() in environment


class ProcessGroup:
    """A started program.

    Its output goes straight into files: no pipe can fill up, nobody has to read in time, and a
    process that it leaves behind holds up nothing. A second, tiny process ends the group if
    this one is killed.

    Args:
        arguments: The program and its arguments.
        environment: All of its environment.
        stdout: File for its output, by path or as a descriptor.
        stderr: File for its errors, likewise.
        grace_seconds: How long it may take to end by itself after SIGTERM.
        folder: Where it runs; None is where this process does.
        pass_fds: Descriptors that it inherits.

    Raises:
        OSError: it cannot be started.
        ValueError: an argument holds a NUL, which no argument can.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        *,
        environment: Mapping[str, str],
        stdout: Path | int,
        stderr: Path | int,
        grace_seconds: float,
        folder: Path | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._grace_seconds = grace_seconds
        self._mark = uuid.uuid4().hex
        self._has_ended = False
        self._guard = self._start_guard()  # first, so that there is no moment without it
        try:
            with _written(stdout) as out, _written(stderr) as err:
                self._leader = subprocess.Popen(  # noqa: S603 - the user's own command
                    arguments,
                    cwd=folder,
                    env={**environment, _MARK: self._mark},
                    stdin=subprocess.DEVNULL,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    pass_fds=pass_fds,
                )
        except BaseException:
            self._end_guard()
            raise
        if self._guard is not None and self._guard.stdin is not None:
            with suppress(BrokenPipeError):
                self._guard.stdin.write(b"%d\n" % self._leader.pid)
                self._guard.stdin.flush()

    @property
    def pid(self) -> int:
        """The number of the process, and of its group."""
        return self._leader.pid

    @property
    def code(self) -> int | None:
        """What it exited with, negative when a signal killed it; None while it runs."""
        return self._leader.poll()

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until it has ended; returns whether it has."""
        with suppress(subprocess.TimeoutExpired):
            self._leader.wait(seconds)
        return self.code is not None

    def end(self, grace_seconds: float | None = None) -> None:
        """Ends the process and all that it started: by SIGTERM, after the grace by SIGKILL.

        Args:
            grace_seconds: Another grace than it was started with.
        """
        if self._has_ended:  # from then on, the group's number may be somebody else's
            return
        strays = self._strays()
        try:
            self._send(signal.SIGTERM, strays)
            grace = self._grace_seconds if grace_seconds is None else grace_seconds
            deadline, pause = time.monotonic() + grace, 0.005
            while self._lives() and time.monotonic() < deadline:
                time.sleep(pause)
                pause = min(2 * pause, 0.1)
        finally:  # somebody may be too impatient for the grace
            self._send(signal.SIGKILL, strays | self._strays())
            self._leader.wait()
            self._has_ended = True
            self._end_guard()

    def kill(self) -> None:
        """Ends all of the group now; `end` is still to be called, or running in another thread."""
        if not self._has_ended:
            self._send(signal.SIGKILL, self._strays())

    def _send(self, number: int, strays: Set[_Stray]) -> None:
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._leader.pid, number)
        for stray in strays:
            if (found := _Stat.of(stray.pid)) is not None and found.started == stray.started:
                with suppress(ProcessLookupError, PermissionError):
                    os.kill(stray.pid, number)

    def _strays(self) -> set[_Stray]:
        """Processes that it or its children started in sessions of their own, as daemons do.

        They are its descendants, or have its mark: of one whose parent has ended, nothing else
        tells where it came from.
        """
        stats = [stat for path in _PROC.glob("[0-9]*") if (stat := _Stat.of(int(path.name)))]
        children = defaultdict(list)
        for stat in stats:
            children[stat.parent].append(stat)
        found, waiting = set(), children[self._leader.pid]
        waiting += [stat for stat in stats if stat.is_marked(self._mark)]
        while waiting:
            stat = waiting.pop()
            waiting += children.pop(stat.pid, [])
            if stat.group != self._leader.pid:
                found.add(_Stray(stat.pid, stat.started))
        return found

    def _lives(self) -> bool:
        """Whether anything of the group still runs; what has ended and awaits burial does not."""
        if self.code is None:
            return True
        try:
            os.killpg(self._leader.pid, 0)
        except (ProcessLookupError, PermissionError):
            return False
        for path in _PROC.glob("[0-9]*"):
            stat = _Stat.of(int(path.name))
            if stat is not None and stat.group == self._leader.pid and stat.state not in "ZX":
                return True
        return not (_PROC / "self/stat").exists()  # elsewhere than on Linux, nobody can look

    def _start_guard(self) -> subprocess.Popen[bytes] | None:
        seconds = str(max(1, round(self._grace_seconds)))  # not every `sleep` knows fractions
        command = ["/bin/sh", "-c", _GUARD, "hpo", seconds]
        try:
            return subprocess.Popen(  # noqa: S603
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError:  # a container without a shell
            return None

    def _end_guard(self) -> None:
        if self._guard is not None:
            self._guard.kill()
            self._guard.communicate()


def _written(file: Path | int) -> AbstractContextManager[IO[bytes] | int]:
    return nullcontext(file) if isinstance(file, int) else file.open("wb")
