"""Why a worker process died, as far as it can be known afterwards."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from hpo.objectives.outputs import how_it_ended, last_lines
from hpo.trial import Failure, FailureKind

_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_LAST_LINES = 20
_DUMP_LINES = 150  # faulthandler shows 100 calls
_OF_THE_MACHINE = Path("/proc/vmstat")


def why(code: int | None, *, memory_ran_out: bool, output: Path) -> Failure:
    """The failure of a trial whose process died.

    Args:
        code: What the process ended with, negative by a signal; None if nobody knows.
        memory_ran_out: Whether the kernel has ended processes for that meanwhile (`OomKills`).
        output: The file with what it printed.
    """
    said = last_words(output)
    if code is None:
        return Failure(FailureKind.LOST, "its process went away", said)
    how = f"its process {how_it_ended(code)}"
    if code == -signal.SIGKILL and memory_ran_out:
        return Failure(FailureKind.OUT_OF_MEMORY, f"{how}: memory ran out", said)
    outside = code in (-signal.SIGKILL, -signal.SIGTERM, -signal.SIGINT, -signal.SIGHUP)
    return Failure(FailureKind.LOST if outside else FailureKind.CRASHED, how, said)


def last_words(output: Path) -> str:
    """The end of what a process printed; a dump of faulthandler's is turned into a traceback."""
    try:
        lines = last_lines(output, _DUMP_LINES)
    except OSError:  # it printed nothing
        return ""
    fatal = [i for i, line in enumerate(lines) if line.startswith("Fatal Python error")]
    if not fatal:
        return "\n".join(lines[-_LAST_LINES:])
    before, dump = lines[: fatal[-1]], lines[fatal[-1] :]
    stack = [line for line in dump if line.startswith("  File ")]  # the innermost call first
    return "\n".join([*before[-_LAST_LINES:], dump[0], *reversed(stack)])


class OomKills:
    """Whether the kernel ends processes, from now on, for want of memory, where one process is.

    It counts them in the control group of the process that it ended, whether that group had no
    more memory or the machine. Where there are no such groups, it counts for the whole machine.

    Args:
        pid: The process.
    """

    def __init__(self, pid: int) -> None:
        self._counter = _OF_THE_MACHINE
        with suppress(OSError):
            groups = Path(f"/proc/{pid}/cgroup").read_text()
            self._counter = counter(groups, Path("/proc/self/mountinfo").read_text())
        self._before = self._count()

    @property
    def any(self) -> bool:
        """Whether the kernel has ended any process since."""
        return self._count() > self._before

    def _count(self) -> int:
        with suppress(OSError):  # the group is gone
            return sum(map(int, _OOM_KILL.findall(self._counter.read_text())))
        return 0


def counter(groups: str, mounts: str) -> Path:
    """The file in which the kernel counts the processes of a group that it ended.

    Args:
        groups: The groups of a process, as in /proc/PID/cgroup (cgroups(7)).
        mounts: What is mounted where, as in /proc/PID/mountinfo (proc(5)).
    """
    for line in groups.splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            kind, name = "cgroup", "memory.oom_control"
        elif not controllers:
            kind, name = "cgroup2", "memory.events"
        else:
            continue
        for root, mount_point in _mounted(mounts, kind):
            if Path(path).is_relative_to(root):
                group = mount_point / Path(path).relative_to(root)
                # A group whose memory nobody accounts for is a part of the one above.
                for each in (group, *group.parents):
                    if each.is_relative_to(mount_point) and (each / name).exists():
                        return each / name
    return _OF_THE_MACHINE


def _mounted(mounts: str, kind: str) -> Iterator[tuple[Path, Path]]:
    """Which part of the hierarchy that counts memory is mounted where."""
    for line in mounts.splitlines():
        before, _, after = line.partition(" - ")
        _, _, _, root, mount_point, *_ = before.split(" ")
        found, _, options = after.split(" ")
        if found == kind and (kind == "cgroup2" or "memory" in options.split(",")):
            yield Path(root), Path(mount_point)
