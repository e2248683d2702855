"""Where the metrics of a command are: in what it prints, in a file, or in MLflow.

A source is read again and again while the command runs, and once more when it has ended.
"""

from __future__ import annotations

import csv
import json
import logging
import math
import os
import re
import time
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from hpo.mlflow_server.script_runs import ScriptRun

MAX_STEP = 2**31 - 1  # PostgreSQL's INTEGER

_CHUNK_BYTES = 2**20
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)
_SECONDS_BETWEEN_LOOKS = 1.0  # into MLflow

_log = logging.getLogger(__name__)


class Reading(NamedTuple):
    """Metrics at a step; `step` is None where the command names none."""

    step: int | None
    metrics: Mapping[str, float]


class Source:
    """Where a command's metrics are."""

    def read(self, *, last: bool) -> Iterator[Reading]:
        """What is new since the last time.

        Args:
            last: Whether the command has ended.
        """
        raise NotImplementedError

    @property
    def environment(self) -> Mapping[str, str]:
        """What the command has to know."""
        return {}

    def end(self, status: str) -> None:
        """Called when the command has ended: FINISHED, FAILED or, when stopped, KILLED."""


class JsonLines(Source):
    """Lines that are JSON objects, or one JSON object on many lines, which may be written anew.

    The numbers in an object are metrics, those of an object in it under its name and theirs,
    ``val/loss``; a whole `step`, or else `epoch`, is the step. Any other `step` is left out. Of an
    object written anew those without a step are read at the end alone: how many of them anybody
    sees before is chance.

    Args:
        path: What the command writes; it need not be there yet.
        wanted: Metrics that are to be found under other spellings of their names, too.
    """

    def __init__(self, path: Path, wanted: Collection[str] = ()) -> None:
        self._path, self._wanted = path, wanted
        self._tail = Tail(path)
        self._written: tuple[int, int] | None = None
        self._latest: Reading | None = None

    def read(self, *, last: bool) -> Iterator[Reading]:
        """What stands on new lines, or in the file as a whole."""
        whole = self._whole(last=last)
        lines = self._tail.lines(last=last)
        if whole is not None and (last or whole.step is not None):
            list(lines)  # are parts of it
            readings: Iterable[Reading | None] = [whole]
        else:
            readings = (_of_json(line, self._wanted) for line in lines)
        for reading in filter(None, readings):
            # A line without a step counts, though it says the same as the one before.
            counts = whole is None and reading.step is None
            if counts or reading != self._latest:
                self._latest = reading
                yield reading

    def _whole(self, *, last: bool) -> Reading | None:
        """What the file says if it is one JSON object, and was written since the last time."""
        if not self._path.exists():
            return None
        found = self._path.stat()
        written = found.st_size, found.st_mtime_ns
        if found.st_size > _CHUNK_BYTES or (written == self._written and not last):
            return None
        self._written = written
        return _of_json(self._path.read_text(encoding="utf-8", errors="replace"), self._wanted)


class CsvRows(Source):
    """Rows of numbers under a line of names, with commas, as loggers of Lightning and Keras write.

    Cells are metrics, and a step, by the rules of `JsonLines`; those that are empty or no number
    are left out. The file is read anew when it has changed: a logger writes it again whole when
    there is another column, or each time.

    Args:
        path: What the command writes; it need not be there yet.
        wanted: Metrics that are to be found under other spellings of their names, too.
    """

    def __init__(self, path: Path, wanted: Collection[str] = ()) -> None:
        self._path, self._wanted = path, wanted
        self._written: tuple[int, int] | None = None
        self._n_read = 0

    def read(self, *, last: bool) -> Iterator[Reading]:
        """What stands in rows that are new."""
        header, *rows = self._lines(last=last) or [""]
        names = [name.strip() for name in next(_cells([header]), [])]
        new = rows[self._n_read :]
        self._n_read += len(new)
        for cells in _cells(new):
            found = {name: _of_cell(cell) for name, cell in zip(names, cells, strict=False) if name}
            metrics = {name: value for name, value in found.items() if value is not None}
            if reading := _reading(metrics, self._wanted):
                yield reading

    def _lines(self, *, last: bool) -> list[str]:
        """All lines that are written to their end, and at the last the one that is not."""
        if not self._path.exists():
            return []
        found = self._path.stat()
        written = found.st_size, found.st_mtime_ns
        if written == self._written and not last:
            return []
        self._written = written
        text = self._path.read_text(encoding="utf-8-sig", errors="replace")
        lines = (text if last else text[: text.rfind("\n") + 1]).split("\n")
        return [line for line in lines if line.strip()]


def in_file(path: Path, wanted: Collection[str]) -> Source:
    """What reads a file of metrics, by the end of its name."""
    return (CsvRows if is_csv(path.name) else JsonLines)(path, wanted)


def is_csv(name: str) -> bool:
    """Whether a file of that name has rows, and no JSON."""
    return name.lower().endswith(".csv")


class Patterns(Source):
    """Regular expressions for what the command prints, matched line by line.

    Without a pattern for `step`, the n-th value of a metric is that of step n; likewise in a file
    where there is no step, since nothing tells which of another file's it belongs to.

    Args:
        patterns: By metric, and for `step`, a pattern whose one group is the number.
        paths: The files with the lines.
    """

    def __init__(self, patterns: Mapping[str, str], paths: Sequence[Path]) -> None:
        self._patterns = {name: re.compile(pattern) for name, pattern in patterns.items()}
        self._tails = [Tail(path) for path in paths]
        self._steps: list[int | None] = [None for _ in paths]
        # Without steps, what stands where does not matter.
        alike: Counter[str] = Counter()
        self._n_seen = [Counter() if "step" in patterns else alike for _ in paths]

    def read(self, *, last: bool) -> Iterator[Reading]:
        """What stands on new lines."""
        for i, tail in enumerate(self._tails):
            for line in tail.lines(last=last):
                found = {
                    name: _number_in(line, pattern, to_its_end=name != "step")
                    for name, pattern in self._patterns.items()
                }
                metrics = {name: value for name, value in found.items() if value is not None}
                step = self._steps[i] = _as_step(metrics.pop("step", None), self._steps[i])
                self._n_seen[i].update(metrics.keys())
                if metrics:
                    counted = max(self._n_seen[i][name] for name in metrics)
                    yield Reading(counted if step is None else step, metrics)


class Logged(Source):
    """A run in MLflow, to which the command logs.

    While the command runs, only the metrics that are optimised are read, with all their steps;
    at its end, the last value of each other one.

    Args:
        run: The run.
        metrics: What is optimised.
    """

    def __init__(self, run: ScriptRun, metrics: Sequence[str]) -> None:
        self._run = run
        self._n_read = dict.fromkeys(metrics, 0)
        self._next_look = 0.0

    @property
    def environment(self) -> Mapping[str, str]:
        """Where to log: MLflow reads it from there by itself."""
        return self._run.environment

    def read(self, *, last: bool) -> Iterator[Reading]:
        """What was logged since the last look."""
        if not last and time.monotonic() < self._next_look:
            return
        for metric, n_read in self._n_read.items():
            points = self._run.history(metric)
            self._n_read[metric] = len(points)
            for step, value in points[n_read:]:
                yield Reading(min(max(step, 0), MAX_STEP), {metric: value})
        if last and (others := self._run.latest()):
            yield Reading(None, others)
        self._next_look = time.monotonic() + _SECONDS_BETWEEN_LOOKS

    def end(self, status: str) -> None:
        """Ends the run, if the command has not."""
        self._run.end(status)


class Tail:
    """The lines of a file that somebody else writes.

    A line ends at a newline, or at a carriage return, as those of progress bars do.

    Args:
        path: The file; it need not be there yet.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._rest = b""  # of a line that is not written to its end

    def lines(self, *, last: bool) -> Iterator[str]:
        """The lines that are new; with `last`, what stands behind the last one, too."""
        if self._path.exists():
            for chunk in self._chunks():
                *lines, rest = re.split(rb"[\r\n]", self._rest + chunk)
                self._rest = rest if len(rest) <= _CHUNK_BYTES else b""  # that is no line
                yield from (line.decode(errors="replace") for line in lines)
        if last:
            yield self._rest.decode(errors="replace")

    def _chunks(self) -> Iterator[bytes]:
        with self._path.open("rb") as file:
            if file.seek(0, os.SEEK_END) < self._offset:  # it was begun anew
                self._offset, self._rest = 0, b""
            file.seek(self._offset)
            while chunk := file.read(_CHUNK_BYTES):
                self._offset += len(chunk)
                yield chunk


def _of_json(text: str, wanted: Collection[str]) -> Reading | None:
    """The numbers in a JSON object; None where there are none."""
    if not text.lstrip().startswith("{"):
        return None
    try:
        values = json.loads(text)
        metrics = dict(_numbers(values))
    except (ValueError, RecursionError):
        return None
    # What a script says of its configuration before it begins is no metric.
    says = {_spelt(name) for name in metrics} & {_spelt(name) for name in wanted}
    return _reading(metrics, wanted) if says or values.keys() & metrics.keys() else None


def _numbers(values: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """The numbers in a JSON object and in the objects in it, with their names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from _numbers(value, f"{within}{name}/")
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield within + name, _as_float(value)


def _cells(lines: Iterable[str]) -> Iterator[list[str]]:
    """The cells of lines, but for those that are no CSV, such as one that is far too long."""
    for line in lines:
        with suppress(csv.Error):
            yield from csv.reader([line])


def _of_cell(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _reading(metrics: dict[str, float], wanted: Collection[str]) -> Reading | None:
    """What stands on one line, with its step, under names that are wanted; None of no metrics."""
    for name in ("step", "epoch"):
        step = _as_step(metrics.get(name))
        if step is not None:
            del metrics[name]
            break
    if metrics.pop("step", None) is not None:
        _say_that_steps_are_whole()
    names = {name: name for name in metrics}
    for metric in wanted:
        alike = [name for name in metrics if _spelt(name) == _spelt(metric)]
        if len(alike) == 1:  # of two nobody knows which is meant
            names[alike[0]] = metric
    found = {names[name]: value for name, value in metrics.items()}
    return Reading(step, found) if found else None


def _spelt(name: str) -> str:
    """A metric's name without regard to how its part is set off: val_loss, val.loss, val/loss."""
    return re.sub(r"[./]", "_", name)


@cache
def _say_that_steps_are_whole() -> None:
    """Once in a process: who writes such a step writes many."""
    _log.warning(
        "a command printed a 'step' that is not a whole number from 0 to %d; it is left out",
        MAX_STEP,
    )


def _as_step(value: float | None, otherwise: int | None = None) -> int | None:
    whole = value is not None and 0 <= value <= MAX_STEP and value == int(value)
    return int(value) if whole and value is not None else otherwise


def _as_float(value: float) -> float:
    try:
        return float(value)
    except OverflowError:  # a whole number with hundreds of digits
        return math.inf if value > 0 else -math.inf


def _number_in(line: str, pattern: re.Pattern[str], *, to_its_end: bool) -> float | None:
    """The number that a pattern's group finds.

    With `to_its_end` also what stands behind the group: ``([0-9.]+)`` finds 3 of ``3e-05``. The
    group of a step may well leave the rest of ``3.25`` out.
    """
    match = pattern.search(line)
    if not match or not match[1]:
        return None
    whole = _NUMBER.match(line, match.start(1))
    goes_on = to_its_end and whole is not None and whole.end() > match.end(1)
    try:
        return float(whole[0] if whole and goes_on else match[1])
    except ValueError:
        return None
