"""The executor that runs one trial after another in this process."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Collection, Mapping, Sequence

from hpo.errors import ObjectiveError
from hpo.executors.ends import end_of, ran_out_of_memory
from hpo.executors.tidying import tidy
from hpo.objectives import Objective, Steps
from hpo.search_spaces import Scalar
from hpo.trial import Drained, Ended, Event, Job, Reported


class InlineExecutor:
    """Runs one trial at a time, here: the simplest thing, and the easiest to debug.

    Args:
        objective: What each trial does.
    """

    def __init__(self, objective: Objective) -> None:
        self._objective = objective
        self._running: tuple[int, Steps] | None = None
        self._broken: ObjectiveError | None = None  # no trial can run here any more
        self._draining = False  # set when asked to
        self._reported = False  # whether the running trial has reported since

    @property
    def free(self) -> bool:
        """Whether no trial is running."""
        return self._running is None

    def start(self, job: Job) -> None:
        """Starts a job; it runs while `events` waits for it.

        Raises:
            ObjectiveError: the trial before has left CUDA in this process unusable.
        """
        if self._broken is not None:
            raise self._broken
        self._running = job.trial, self._objective(job)

    def events(self, seconds: float | None = None) -> Sequence[Event]:
        """Runs the trial to its next report or to its end; with none, waits."""
        if self._running is None:
            time.sleep(seconds or 0.0)
            return []
        trial, steps = self._running
        if self._reported:
            self.stop(trial)
            return [Drained(trial)]
        try:
            report = next(steps)
            self._reported = self._draining
            return [Reported(trial, report)]
        except (Exception, SystemExit) as raised:
            ended = end_of(trial, raised)
        del steps
        self._end(ended)
        return [ended]

    def stop(self, trial: int) -> None:
        """Closes the trial's generator, which runs its clean-up."""
        if self._running is not None and self._running[0] == trial:
            self._running[1].close()
            self._end()

    def end(self, trials: Collection[int]) -> None:
        """Closes the trials' generators."""
        for trial in trials:
            self.stop(trial)

    def _end(self, ended: Ended | Drained | None = None) -> None:
        """Forgets the running trial, and frees what it holds."""
        self._running = None
        try:
            tidy(after_out_of_memory=ran_out_of_memory(ended))
        except RuntimeError as error:
            what = str(error).partition("\n")[0]
            message = f"CUDA can no longer be used in this process: {what}."
            self._broken = ObjectiveError(message, "In another process: hpo resume {study}")

    def drain(self) -> None:
        """Lets the running trial end after its next report."""
        self._draining = True
        self._objective.drain()

    def where(self, trial: int) -> Mapping[str, Scalar]:  # noqa: ARG002
        """This process, its data, and whether PyTorch has a GPU open in it."""
        torch = sys.modules.get("torch")
        uses_gpu = torch is not None and torch.cuda.is_initialized()
        digest = self._objective.data_digest
        data = {} if digest is None else {"data": digest}
        return {"pid": os.getpid(), **data, **({"n_gpus": 1.0} if uses_gpu else {})}

    def close(self) -> None:
        """Closes the running trial's generator."""
        if self._running is not None:
            self.stop(self._running[0])
