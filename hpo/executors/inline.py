"""The executor that runs one trial after another in this process."""

from __future__ import annotations

from collections.abc import Sequence

from optuna import TrialPruned

from hpo.objectives import Objective, Steps
from hpo.trial import Ended, Event, Failure, Job, Reported, Stopped


class InlineExecutor:
    """Runs one trial at a time, here: the simplest thing, and the easiest to debug.

    Args:
        objective: What each trial does.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._running: tuple[int, Steps] | None = None

    @property
    def free(self) -> bool:
        """Whether no trial is running."""
        return self._running is None

    def start(self, job: Job) -> None:
        """Starts a job; it runs while `events` waits for it."""
        self._running = job.trial, self._objective(job)

    def events(self) -> Sequence[Event]:
        """Runs the trial to its next report or to its end."""
        if self._running is None:
            return []
        trial, steps = self._running
        try:
            return [Reported(trial, next(steps))]
        except StopIteration as end:
            ended = Ended(trial, end.value)
        except TrialPruned as pruned:
            ended = Ended(trial, Stopped(str(pruned) or "the trial itself"))
        except (Exception, SystemExit) as error:  # a failed trial is a value
            ended = Ended(trial, Failure.of(error))
        self._running = None
        return [ended]

    def stop(self, trial: int) -> None:
        """Closes the trial's generator, which runs its clean-up."""
        if self._running is not None and self._running[0] == trial:
            self._running[1].close()
            self._running = None
