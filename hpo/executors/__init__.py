"""Executors: where trials run, in one shape: start, events, stop, drain."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Protocol

from hpo import objectives
from hpo.executors.inline import InlineExecutor
from hpo.executors.processes import ProcessExecutor
from hpo.objectives import Objective
from hpo.search_spaces import Scalar
from hpo.spec import Plan
from hpo.trial import Event, Job


class Executor(Protocol):
    """Runs jobs and tells what happens in them."""

    @property
    def free(self) -> bool:
        """Whether another job can be started now."""
        ...

    def start(self, job: Job) -> None:
        """Starts a job."""
        ...

    def events(self, seconds: float | None = None) -> Sequence[Event]:
        """Waits until something happens in the running jobs, and tells it.

        Args:
            seconds: The longest to wait, where the executor can wait at all and does not run
                jobs itself meanwhile; None is for ever.
        """
        ...

    def stop(self, trial: int) -> None:
        """Ends a running trial early; no event of it follows."""
        ...

    def end(self, trials: Collection[int]) -> None:
        """Ends running trials now, with a second for their clean-up; then nothing of them runs."""
        ...

    def drain(self) -> None:
        """Lets every running trial end after its next report, with a checkpoint of it.

        `events` then gives `Drained` for each, unless it comes to its own end before. It only
        takes note, so it may be called from a signal handler and from another thread.
        """
        ...

    def where(self, trial: int) -> Mapping[str, Scalar]:
        """Where a running trial runs, for people: its process, its GPUs.

        Under `data`, where it is known, the digest of what it is trained on.
        """
        ...

    def close(self) -> None:
        """Ends everything that is left of it."""
        ...


def build(
    plan: Plan,
    objective: Objective | None = None,
    tracking: str | None = None,
    *,
    n_jobs: int | None = None,
) -> Executor:
    """Makes the executor that a study file names.

    Args:
        plan: The study file.
        objective: What each trial does, if it is made already. Workers make it themselves.
        tracking: URI of MLflow, or ``"none"``; wins over file and environment.
        n_jobs: How many jobs there will be, where that is not the number of the study's trials.

    Raises:
        ObjectiveError: the objective cannot be made, or the machine has not what it is to have.
    """
    if plan.spec.run.executor == "processes":
        return ProcessExecutor(plan, tracking, n_jobs=n_jobs)
    return InlineExecutor(objective or objectives.build(plan, tracking))


__all__ = ["Executor", "InlineExecutor", "ProcessExecutor", "build"]
