"""Executors: where trials run, in one shape: start, events, stop."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from hpo.executors.inline import InlineExecutor
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

    def events(self) -> Sequence[Event]:
        """Waits until something happens in the running jobs, and tells it."""
        ...

    def stop(self, trial: int) -> None:
        """Ends a running trial early; no event of it follows."""
        ...


__all__ = ["Executor", "InlineExecutor"]
