"""Which processes drive a study, and which of them are dead.

A driver on this machine is dead when its process is: that is known at once. One elsewhere is dead
when it was not heard of for as long as its study's lease. A driver that was frozen, as by SIGSTOP,
lives and is silent: it counts as dead, and what it delivers late is refused by `hpo.storage`.
"""

from __future__ import annotations

import os
import platform
import socket
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from hpo.storage import Driver


def this_process() -> dict[str, Any]:
    """What a driver says of itself."""
    pid = os.getpid()
    return {
        "host": socket.gethostname(),
        "machine": _machine(),
        "pid": pid,
        "started": _started(pid),
        "python": platform.python_version(),
    }


def is_dead(driver: Driver, lease_seconds: float) -> bool:
    """Whether a driver has left, died, or was silent beyond its lease."""
    if driver.ended is not None or driver.silence > lease_seconds:
        return True
    return driver.about.get("machine") == _machine() and not is_running(driver.about)


def is_running(process: Mapping[str, Any]) -> bool:
    """Whether a process of this machine runs still."""
    pid = int(process["pid"])
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    # A new process may have the number of a dead one, in a restarted container always. Nor does a
    # zombie run: one that has died, and whose parent has not asked after it.
    return process.get("started") in (None, _started(pid))


def named(about: Mapping[str, Any]) -> str:
    """A driver for people."""
    return f"process {about.get('pid')} on {about.get('host')}"


@cache
def _machine() -> str:
    """Where numbers of processes mean the same: not in two containers of one host."""
    parts = [socket.gethostname()]
    for path in ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid"):
        try:
            file = Path(path)
            parts.append(str(file.readlink()) if file.is_symlink() else file.read_text().strip())
        except OSError:  # elsewhere than on Linux
            continue
    return "/".join(parts)


def _started(pid: int) -> int | None:
    """When a process was started, in the kernel's clock ticks; None where Linux is not.

    Of one that has died, -1.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None
    # After the command's name, which may hold anything, it is the 20th field (proc(5)).
    fields = stat.rpartition(")")[2].split()
    return -1 if fields[0] in "ZX" else int(fields[19])
