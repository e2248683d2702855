"""Control groups in which memory runs out, so that the kernel itself ends processes."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MOUNTED = Path("/sys/fs/cgroup")

GROWS = """
def grow():
    held = []
    while True:
        held.append(b"x" * 2**20)  # written to, so that there has to be memory for it
"""


class MemoryGroup:
    """A control group whose memory is limited.

    Args:
        path: Its folder.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def joins(self) -> str:
        """Python code that puts the process that runs it into the group."""
        return f"import os; open({str(self._path / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))"

    @property
    def n_ended(self) -> int:
        """How many of its processes the kernel has ended for want of memory."""
        files = (self._path / "memory.events", self._path / "memory.oom_control")
        lines = next(file for file in files if file.exists()).read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("oom_kill "))


@contextmanager
def memory_group(limit_bytes: int) -> Iterator[MemoryGroup]:
    """A group of one's own; skips the test where none can be made, as without being root."""
    try:
        path = Path(tempfile.mkdtemp(prefix="hpo-test-", dir=_parent()))
    except OSError as error:
        pytest.skip(f"no control group for memory can be made here: {error}")
    try:
        _limit(path, limit_bytes)
        yield MemoryGroup(path)
    finally:
        path.rmdir()  # which works when its processes have ended


def _parent() -> Path:
    """Where a group can be made: within this process's own, or beside it in version 2."""
    groups = [line.split(":", 2) for line in Path("/proc/self/cgroup").read_text().splitlines()]
    for _, controllers, path in groups:
        if "memory" in controllers.split(","):
            return MOUNTED / "memory" / path.lstrip("/")
    unified = next(path for _, controllers, path in groups if not controllers)
    return (MOUNTED / unified.lstrip("/")).parent if unified != "/" else MOUNTED


def _limit(path: Path, limit_bytes: int) -> None:
    first = ("memory.max", "memory.limit_in_bytes")
    name = next((name for name in first if (path / name).exists()), None)
    if name is None:
        pytest.skip(f"{path.parent} counts no memory")
    (path / name).write_text(str(limit_bytes))
    for swap, most in (("memory.swap.max", 0), ("memory.memsw.limit_in_bytes", limit_bytes)):
        if (path / swap).exists():  # else the rest would go there
            (path / swap).write_text(str(most))
