"""What a driver and its mirror say to each other: one JSON line per message.

The driver opens the study, tells of its trials, closes the study. The mirror answers with what
has arrived in MLflow. Every time is in milliseconds since the epoch, as MLflow has it.

JSON's numbers are Python's here: NaN and the infinities are written as such and survive.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

Status: TypeAlias = Literal["FINISHED", "FAILED", "KILLED"]
"""How a run ended, in MLflow's words."""

Param: TypeAlias = str | int | float | bool | None


@dataclass(frozen=True)
class StudyOpened:
    """The first message: which study this is.

    Args:
        study: Its name; the experiment and the parent run are called so.
        uid: What tells it from another study of the same name, for good.
        tags: Tags of the parent run.
        artifacts: Text files of the parent run, by file name.
        experiment_tags: Tags of the experiment, if it has to be made.
    """

    study: str
    uid: str
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)
    experiment_tags: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class TrialStarted:
    """A trial begins, or goes on.

    Args:
        trial: Its number in the study.
        params: What was sampled.
        started_ms: When.
        tags: Tags of its run.
        fresh: Training begins from nothing, so the run of an earlier attempt is replaced;
            otherwise that run goes on, if there is one.
        is_new: There was no earlier attempt, so there is no run to look for.
    """

    trial: int
    params: Mapping[str, Param]
    started_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    fresh: bool = True
    is_new: bool = False


@dataclass(frozen=True)
class TrialReported:
    """A trial's metrics at one step."""

    trial: int
    step: int
    metrics: Mapping[str, float]
    time_ms: int


@dataclass(frozen=True)
class TrialEnded:
    """A trial's end, with tags and metrics known only then (at its last step)."""

    trial: int
    status: Status
    ended_ms: int
    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class StudyMetric:
    """A metric of the parent run, such as the best value after each trial."""

    name: str
    value: float
    step: int
    time_ms: int


@dataclass(frozen=True)
class BesideRun:
    """A run of the study's that is not a trial, whole; it takes the place of an earlier one.

    Args:
        name: What it is called.
        key: Tells it from the study's other such runs.
        params: What was asked.
        tags: What was answered.
        points: Metrics: name, value and step of each.
        files: Paths of artifacts, which this machine's mirror can read.
        started_ms: When it began.
    """

    name: str
    key: str
    params: Mapping[str, Param]
    tags: Mapping[str, str]
    points: Sequence[tuple[str, float, int]]
    files: Sequence[str]
    started_ms: int


@dataclass(frozen=True)
class StudyClosed:
    """The last message: the driver has said everything."""

    status: Status
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Ready:
    """The study is open in MLflow; `url_hint` is the parent run's page on a server."""

    experiment_id: str
    run_id: str
    url_hint: str | None = None


@dataclass(frozen=True)
class RunCreated:
    """A trial has a run in MLflow: a new one, or the one it goes on with."""

    trial: int
    run_id: str


@dataclass(frozen=True)
class Mirrored:
    """A trial that ended is in MLflow, all of it."""

    trial: int
    run_id: str


@dataclass(frozen=True)
class Trouble:
    """What is wrong, in one sentence without passwords; once per streak of failures."""

    message: str


@dataclass(frozen=True)
class Closed:
    """The parent run is closed, after `n_mirrored` trials were mirrored."""

    run_id: str
    n_mirrored: int


FromDriver: TypeAlias = (
    StudyOpened | TrialStarted | TrialReported | TrialEnded | StudyMetric | BesideRun | StudyClosed
)
FromMirror: TypeAlias = Ready | RunCreated | Mirrored | Trouble | Closed
Message: TypeAlias = FromDriver | FromMirror

_FROM_DRIVER: dict[str, type[FromDriver]] = {
    kind.__name__: kind
    for kind in (
        StudyOpened,
        TrialStarted,
        TrialReported,
        TrialEnded,
        StudyMetric,
        BesideRun,
        StudyClosed,
    )
}
_FROM_MIRROR: dict[str, type[FromMirror]] = {
    kind.__name__: kind for kind in (Ready, RunCreated, Mirrored, Trouble, Closed)
}


def to_line(message: Message) -> bytes:
    """Returns the message as one line, newline included; never raises over a value's type."""
    document = {"is": type(message).__name__, **vars(message)}
    return json.dumps(document, default=_plain, separators=(",", ":")).encode() + b"\n"


def from_driver(line: bytes | str) -> FromDriver:
    """Reads a line that a driver wrote; raises ValueError, KeyError or TypeError on any other."""
    document = json.loads(line)
    return _FROM_DRIVER[document.pop("is")](**document)


def from_mirror(line: bytes | str) -> FromMirror:
    """Reads a line that a mirror wrote; raises ValueError, KeyError or TypeError on any other."""
    document = json.loads(line)
    return _FROM_MIRROR[document.pop("is")](**document)


def _plain(value: object) -> object:
    """A NumPy or torch scalar as Python's own number, a mapping as a dict, the rest as text."""
    if isinstance(value, Mapping):
        return dict(value)
    item = getattr(value, "item", None)
    if callable(item):
        try:
            plain: object = item()
        except (RuntimeError, TypeError, ValueError):  # an array of more than one element
            return str(value)
        if plain is None or isinstance(plain, bool | int | float | str):
            return plain
    return str(value)
