"""What a trial reports, in a file of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpo.errors import RunDirectoryError
from hpo.trainers import Report

_NAME = "metrics.jsonl"


class MetricsLog:
    """A trial's metrics.jsonl: one line a step, with every metric; the storage has only one.

    A trial that is taken up again goes on with the steps before its first report. The log of the
    earlier attempt is kept beside, so that whoever still writes it writes there.

    Args:
        directory: The trial's folder.

    Raises:
        RunDirectoryError: it cannot be written.
    """

    def __init__(self, directory: Path) -> None:
        self._path = path = directory / _NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
            earlier = sorted(directory.glob("metrics-*.jsonl"), key=_number)
            if path.exists():
                earlier.append(path.rename(directory / f"metrics-{len(earlier) + 1}.jsonl"))
            told = [log for log in earlier if log.stat().st_size]  # others died before they told
            self._earlier = told[-1] if told else None
            self._file = path.open("wb", buffering=0)
        except OSError as error:
            raise self._cannot_write(error) from error

    def earlier(self, step: int) -> Sequence[Report]:
        """Takes over what an earlier attempt reported before a step; once, and then nothing.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        if self._earlier is None:
            return []
        lines, self._earlier = _whole_lines(self._earlier), None
        before = [(line, entry) for line, entry in lines if entry["step"] < step]
        self._append(b"".join(line for line, _ in before))
        return [
            Report(entry["step"], entry["metrics"], entry["wall_seconds"]) for _, entry in before
        ]

    def write(self, report: Report) -> None:
        """Writes one line, at once, so that a killed process loses none.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        line = {
            "step": report.step,
            "time_ms": time.time_ns() // 1_000_000,
            "wall_seconds": report.wall_seconds,
            "metrics": dict(report.metrics),
        }
        self._append(json.dumps(line).encode() + b"\n")

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _append(self, lines: bytes) -> None:
        try:
            while lines:  # a disk that fills up takes a part
                lines = lines[self._file.write(lines) :]
        except OSError as error:
            raise self._cannot_write(error) from error

    def _cannot_write(self, error: OSError) -> RunDirectoryError:
        message = f"cannot write {self._path}: {error.strerror}."
        return RunDirectoryError(message, "When it can be written: hpo resume {study}")


def read(directory: Path) -> list[dict[str, Any]] | None:
    """What a trial has reported, as it was written, whoever still writes; None without a log."""
    log = directory / _NAME
    return [entry for _, entry in _whole_lines(log)] if log.exists() else None


def _whole_lines(log: Path) -> list[tuple[bytes, dict[str, Any]]]:
    """The lines of a log and what they say, but none that was cut off as its process died."""
    lines = log.read_bytes().splitlines(keepends=True)
    return [(line, entry) for line in lines if (entry := _parsed(line)) is not None]


def _number(log: Path) -> int:
    """The 12 in ``metrics-12.jsonl``."""
    return int(log.stem.partition("-")[2])


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        entry: dict[str, Any] = json.loads(line)
    except ValueError:
        return None
    return entry
