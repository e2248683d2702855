"""The errors that hpo explains.

::

    HpoError                    what happened, and the next thing to type; the CLI exits with 1
    ├── SpecError               the study file: every mistake at once, each with its line
    ├── StudyNotFoundError      no study of that name in that storage
    ├── StudyChangedError       the study exists with another space or objective
    ├── StorageError            the database cannot be opened, read or written
    ├── ExportFileError         a file that `hpo db export` did not write, or not like that
    ├── RunDirectoryError       the folder for metrics and checkpoints cannot be written
    ├── ObjectiveError          the function or trainer cannot be loaded
    └── SpaceExhaustedError     every configuration of a finite space has been tried

A failed *trial* is not in this tree: it is a value, `hpo.trial.Failure`, and the study goes on.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from hpo.directions import is_held_out


class HpoError(Exception):
    """Something that hpo can explain.

    Args:
        message: What happened, with the value that caused it.
        next_step: What to do or type now, with ``{study}`` for the name of a study that is not
            known where the error is raised (`for_study`); empty when the message says it already.

    Attributes:
        exit_code: The command's.
    """

    exit_code: int = 1

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message = message
        self._next_step = next_step
        self._study = "STUDY"

    @property
    def next_step(self) -> str:
        """What to do or type now."""
        return self._next_step.replace("{study}", self._study)

    def for_study(self, name: str) -> Self:
        """Notes whose error it is, and returns it, as `with_traceback` does."""
        self._study = name
        return self

    def interrupted_by(self, signal_number: int) -> Self:
        """Notes that a signal was about to end the command, which the exit code tells."""
        self.exit_code = 128 + signal_number
        return self

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()


@dataclass(frozen=True)
class Mistake:
    """One mistake in a study file.

    Args:
        path: Keys from the top of the file, e.g. ``("space", "learning_rate", "float")``.
        message: What is wrong and the nearest right thing, as sentences.
        line: Line in the file, from 1; None when it has none.
        override: The ``--set`` text that said it, if the file did not.
    """

    path: tuple[str | int, ...]
    message: str
    line: int | None = None
    override: str | None = None

    def located(self, source: str) -> str:
        """The mistake as one line of text, ``file:line: path: message``."""
        place = self.override or (f"{source}:{self.line}" if self.line else source)
        path = ".".join(map(str, self.path))
        return f"{place}: {path}: {self.message}" if path else f"{place}: {self.message}"


class SpecError(HpoError):
    """The study file says something that cannot be run; all of its mistakes at once."""

    def __init__(self, source: str, mistakes: Sequence[Mistake]) -> None:
        self.source = source
        self.mistakes = tuple(sorted(mistakes, key=lambda mistake: mistake.line or 0))
        super().__init__("\n".join(mistake.located(source) for mistake in self.mistakes))


class StudyNotFoundError(HpoError):
    """No study of that name in that storage."""


class StudyChangedError(HpoError):
    """The study exists, with another space or objective than the file says."""


class StorageError(HpoError):
    """The database cannot be opened, read or written."""


class ExportFileError(HpoError):
    """A file to import is not an export of a study, or damaged, cut off, or of a newer hpo."""


class RunDirectoryError(HpoError):
    """The folder for metrics and checkpoints cannot be written."""


class ObjectiveError(HpoError):
    """The function or trainer named in the study file cannot be loaded."""


class SpaceExhaustedError(HpoError):
    """Every configuration of a finite space has been tried."""


def close(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like a misspelt one; None where none is."""
    return next(iter(difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.6)), None)


def close_metric(metric: str, reported: Iterable[str]) -> str | None:
    """The reported metric that may be meant; for one on held-out data, none on other data."""
    if is_held_out(metric):
        reported = filter(is_held_out, reported)
    return close(metric, reported)


def nearest(name: str, known: Iterable[str]) -> str:
    """The sentence that helps with a misspelt name."""
    candidates = sorted(known)
    if not candidates:
        return ""
    near = close(name, candidates)
    return f"Did you mean '{near}'?" if near else f"Known: {', '.join(candidates)}."
