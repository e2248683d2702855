"""Fits on parts of the training data, in a file that loses none of them."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpo.errors import RunDirectoryError
from hpo.trial import Failure, FailureKind

FITS = "fits.jsonl"


@dataclass(frozen=True)
class Fit:
    """One configuration, trained on a part of the training data.

    Args:
        size: How many examples.
        seed: Which of the seeds, from 0; one seed's smaller subsets are in its larger ones.
        metrics: The last value of each; empty of one that failed.
        seconds: How long it took.
        failure: Why it failed, if it did.
    """

    size: int
    seed: int
    metrics: Mapping[str, float]
    seconds: float
    failure: Failure | None = None

    def as_json(self) -> dict[str, Any]:
        """The fit as it stands in the file and in ``--json``."""
        failure = self.failure
        return {
            "size": self.size,
            "seed": self.seed,
            "seconds": round(self.seconds, 4),
            "metrics": dict(self.metrics),
            "failure": {"kind": failure.kind.value, "message": failure.message}
            if failure
            else None,
        }


class FitsLog:
    """A file with a line of JSON for each fit, written as soon as it ends.

    Args:
        path: The file; its folder is made.
        metric: What is asked about.

    Attributes:
        path: The file.
        fits: What measured the metric, in the order of its end; of equal size and seed the first.
        reported: All metrics that fits in the file have.

    Raises:
        RunDirectoryError: it cannot be read or written.
    """

    def __init__(self, path: Path, metric: str) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            content = path.read_bytes() if path.exists() else b""
            self._file = path.open("ab", buffering=0)
            if content and not content.endswith(b"\n"):  # its process was killed in a line
                self._file.write(b"\n")
        except OSError as error:
            raise self._cannot_write(error) from error
        read = [fit for line in content.splitlines() if (fit := _read(line)) is not None]
        self.reported = sorted({name for fit in read for name in fit.metrics})
        having = [fit for fit in reversed(read) if metric in fit.metrics]
        self.fits = list({(fit.size, fit.seed): fit for fit in having}.values())[::-1]

    def append(self, fit: Fit) -> None:
        """Writes a fit, at once.

        Raises:
            RunDirectoryError: it cannot be written.
        """
        line = json.dumps({**fit.as_json(), "time_ms": time.time_ns() // 1_000_000})
        try:
            self._file.write(line.encode() + b"\n")
            os.fsync(self._file.fileno())
        except OSError as error:
            raise self._cannot_write(error) from error
        if fit.failure is None:
            self.fits.append(fit)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def _cannot_write(self, error: OSError) -> RunDirectoryError:
        message = f"cannot write {self.path}: {error.strerror}."
        return RunDirectoryError(message, "When it can be written, type the same again.")


def _read(line: bytes) -> Fit | None:
    """The fit in a line; None for one that failed, which may do better now, and for half a line."""
    try:
        entry = json.loads(line)
        if entry["failure"] is not None:
            return None
        return Fit(entry["size"], entry["seed"], entry["metrics"], entry["seconds"])
    except (ValueError, KeyError, TypeError):
        return None


def failed(size: int, seed: int, seconds: float, kind: FailureKind, message: str) -> Fit:
    """A fit that has no value."""
    return Fit(size, seed, {}, seconds, Failure(kind, message))
