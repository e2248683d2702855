"""Why a worker process died, as far as it can be known afterwards."""

from __future__ import annotations

import re
import signal
from contextlib import suppress
from pathlib import Path

from hpo.objectives.outputs import how_it_ended, last_lines
from hpo.trial import Failure, FailureKind

_OOM_KILL = re.compile(r"^oom_kill (\d+)$", re.MULTILINE)
_LAST_LINES = 20
_DUMP_LINES = 150  # faulthandler shows 100 calls
_CGROUP = Path("/sys/fs/cgroup")


def why(code: int | None, *, memory_ran_out: bool, output: Path) -> Failure:
    """The failure of a trial whose process died.

    Args:
        code: What the process ended with, negative by a signal; None if nobody knows.
        memory_ran_out: Whether the kernel has ended processes for want of memory meanwhile.
        output: The file with what it printed.
    """
    said = last_words(output)
    if code is None:
        return Failure(FailureKind.LOST, "its process went away", said)
    how = f"its process {how_it_ended(code)}"
    if code == -signal.SIGKILL and memory_ran_out:
        return Failure(FailureKind.OUT_OF_MEMORY, f"{how}: the machine ran out of memory", said)
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


def oom_kills() -> int:
    """How many processes the kernel has ended so far for want of memory; only grows.

    Of this machine, and of the container or other group in which this process is.
    """
    counters = [Path("/proc/vmstat"), _CGROUP / "memory.events"]
    with suppress(OSError):
        for line in Path("/proc/self/cgroup").read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                counters.append(_CGROUP / path.lstrip("/") / "memory.events")
            elif "memory" in controllers.split(","):
                counters.append(_CGROUP / "memory" / path.lstrip("/") / "memory.oom_control")
    total = 0
    for counter in dict.fromkeys(counters):
        with suppress(OSError):
            total += sum(map(int, _OOM_KILL.findall(counter.read_text())))
    return total
