"""Where a benchmark ran: the machine, its disk and the versions, printed above every table."""

from __future__ import annotations

import os
import platform
import sqlite3
import statistics
import tempfile
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from rich.console import Console

_COMMITS = 20


@dataclass(frozen=True)
class Machine:
    """The machine, as far as it decides how fast things are.

    Args:
        processor: Its name.
        cores: How many this process may use.
        memory_bytes: Main memory; 0 where it cannot be found out.
        system: Operating system and release.
        load: Load average over the last minute: what else was going on.
        python: Version of the interpreter.
    """

    processor: str
    cores: int
    memory_bytes: int
    system: str
    load: float
    python: str

    @classmethod
    def here(cls) -> Machine:
        """Looks at the machine that this runs on."""
        return cls(
            processor=_processor(),
            cores=_cores(),
            memory_bytes=_memory_bytes(),
            system=f"{platform.system()} {platform.release()} {platform.machine()}",
            load=round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else 0.0,
            python=platform.python_version(),
        )

    def as_json(self) -> dict[str, Any]:
        """All of it, for a results file."""
        return asdict(self)

    def __str__(self) -> str:
        memory = f", {self.memory_bytes / 2**30:.0f} GiB" if self.memory_bytes else ""
        return (
            f"{self.processor}, {self.cores} cores{memory}; {self.system}; "
            f"load before the start {self.load:.1f}"
        )


@dataclass(frozen=True)
class Disk:
    """The disk under a folder.

    Args:
        file_system: Its type, such as ext4; "unknown" where it cannot be found out.
        commit_ms: Median time of a small SQLite commit with SQLite's defaults, in milliseconds.
    """

    file_system: str
    commit_ms: float

    @classmethod
    def under(cls, folder: Path) -> Disk:
        """Looks at the disk under a folder, and writes a little to it."""
        return cls(_file_system(folder), _commit_ms(folder))

    @property
    def in_memory(self) -> bool:
        """Whether it is no disk at all, so that commits cost nothing."""
        return self.file_system in ("tmpfs", "ramfs")

    def as_json(self) -> dict[str, Any]:
        """All of it, for a results file."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.file_system}, {self.commit_ms:.1f} ms for a small SQLite commit"


def versions(packages: Sequence[str]) -> dict[str, str]:
    """The installed versions of some packages."""
    found = {}
    for package in packages:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def print_header(
    console: Console,
    title: str,
    *,
    packages: Sequence[str],
    seeds: Sequence[int],
    disk: Disk | None = None,
) -> Machine:
    """Prints what a result means nothing without; returns the machine for a results file."""
    machine = Machine.here()
    listed = ", ".join(f"{name} {version}" for name, version in versions(packages).items())
    console.print(f"[bold]{title}[/bold]")
    console.print(f"machine:  {machine}", highlight=False, soft_wrap=True)
    if disk is not None:
        console.print(f"disk:     {disk}", highlight=False)
    console.print(f"versions: Python {machine.python}, {listed}, SQLite {sqlite3.sqlite_version}")
    console.print(f"seeds:    {', '.join(map(str, seeds))}")
    return machine


def _processor() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _memory_bytes() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):
        return 0


def _file_system(folder: Path) -> str:
    """The type of the innermost mount point above a folder."""
    mounts = Path("/proc/mounts")
    if not mounts.exists():
        return "unknown"
    found, depth = "unknown", -1
    for line in mounts.read_text(encoding="utf-8").splitlines():
        _, point, kind, *_ = line.split(" ")
        where = Path(point)
        if folder.resolve().is_relative_to(where) and len(where.parts) >= depth:
            found, depth = kind, len(where.parts)
    return found


def _commit_ms(folder: Path) -> float:
    times = []
    with (
        tempfile.TemporaryDirectory(dir=folder) as own,
        closing(sqlite3.connect(Path(own) / "commits.db")) as connection,
    ):
        connection.execute("CREATE TABLE numbers (number INTEGER)")
        for number in range(_COMMITS):
            started = time.perf_counter()
            with connection:
                connection.execute("INSERT INTO numbers VALUES (?)", (number,))
            times.append((time.perf_counter() - started) * 1000)
    return statistics.median(times)
