"""What the driver has said and MLflow does not have yet, by trial.

This is where a trial that started, reported and ended since the last look becomes one thing
to write. While MLflow is away it is the mirror's memory, and it is bounded.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from hpo.mlflow_server.protocol import (
    BesideRun,
    FromDriver,
    StudyClosed,
    StudyMetric,
    StudyOpened,
    TrialEnded,
    TrialReported,
    TrialStarted,
)

MAX_ENDED_TRIALS = 1000


class Point(NamedTuple):
    """One value of one metric."""

    name: str
    value: float
    step: int
    time_ms: int


@dataclass
class PendingTrial:
    """What is to be written of one trial.

    Args:
        trial: Its number.
        started: How it started, if this driver said so.
        ended: How it ended, once it has.
        points: Metrics not yet written.
        last_step: The last step reported; metrics known only at the end belong to it.
        replace: Whether the run of an earlier attempt is to be deleted first.
        in_mlflow: Whether its start is written.
        n_failures: How often in a row writing it has failed.
    """

    trial: int
    started: TrialStarted | None = None
    ended: TrialEnded | None = None
    points: list[Point] = field(default_factory=list)
    last_step: int = 0
    replace: bool = False
    in_mlflow: bool = False
    n_failures: int = 0

    @property
    def is_due(self) -> bool:
        """Whether there is anything to write."""
        return not self.in_mlflow or bool(self.points) or self.ended is not None

    def add(self, metrics: Mapping[str, float], step: int, time_ms: int) -> None:
        """Adds the metrics of one step."""
        self.points += [Point(name, value, step, time_ms) for name, value in metrics.items()]


@dataclass
class Pending:
    """Everything still to be written.

    Args:
        opened: The study, once the driver has said which.
        closed: How the study was closed, once it was.
        trials: What is to be written of each trial, those whose turn comes first in front.
        points: Metrics of the parent run not yet written.
        beside: Runs that are not trials, not yet written.
        left_behind: Trials given up; the driver has to send them again, whole.
    """

    opened: StudyOpened | None = None
    closed: StudyClosed | None = None
    trials: dict[int, PendingTrial] = field(default_factory=dict)
    points: list[Point] = field(default_factory=list)
    beside: list[BesideRun] = field(default_factory=list)
    left_behind: set[int] = field(default_factory=set)

    @property
    def n_ended(self) -> int:
        """How many trials that ended are still to be written."""
        return sum(pending.ended is not None for pending in self.trials.values())

    def take(self, message: FromDriver) -> None:
        """Takes in what the driver says."""
        match message:
            case StudyOpened():
                self.opened = message
            case StudyClosed():
                self.closed = message
            case StudyMetric():
                self.points.append(Point(**vars(message)))
            case BesideRun():
                self.beside.append(message)
            case TrialStarted():
                self._start(message)
            case TrialReported(trial=trial) if trial not in self.left_behind:
                pending = self._trial(trial)
                pending.last_step = max(pending.last_step, message.step)
                pending.add(message.metrics, message.step, message.time_ms)
            case TrialEnded(trial=trial) if trial not in self.left_behind:
                pending = self._trial(trial)
                pending.ended = message
                pending.add(message.metrics, pending.last_step, message.ended_ms)
            case _:
                pass  # the rest of a trial that was left behind

    def due(self, *, running: bool) -> Iterator[PendingTrial]:
        """Yields the trials with something to write, unless `running` only those that ended."""
        for pending in list(self.trials.values()):
            if pending.ended is not None or (running and pending.is_due):
                yield pending

    def leave_behind(self, trial: int) -> None:
        """Gives a trial up: a part of it must not pass for the whole."""
        del self.trials[trial]
        self.left_behind.add(trial)

    def put_last(self, trial: int) -> None:
        """Lets the others go first."""
        self.trials[trial] = self.trials.pop(trial)

    def bound(self) -> None:
        """Leaves the oldest behind where too many trials have ended."""
        ended = [pending.trial for pending in self.trials.values() if pending.ended]
        for trial in ended[:-MAX_ENDED_TRIALS]:
            self.leave_behind(trial)

    def _start(self, message: TrialStarted) -> None:
        if message.fresh:
            self.left_behind.discard(message.trial)
            self.trials[message.trial] = PendingTrial(message.trial, message, replace=True)
        elif message.trial not in self.left_behind:
            pending = self._trial(message.trial)
            pending.started, pending.ended, pending.in_mlflow = message, None, False

    def _trial(self, trial: int) -> PendingTrial:
        return self.trials.setdefault(trial, PendingTrial(trial))
