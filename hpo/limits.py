"""What ends a study before its trials do: time, GPU hours, failures, of all drivers together."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass

from optuna.trial import TrialState

from hpo.catalog import StudyRecord
from hpo.listeners import Outcome
from hpo.storage import DatabaseAwayError, FailureLimits
from hpo.trial import DRIVER, GPU_SECONDS
from hpo.words import counted

FAILURES_IN_A_ROW = 20
"""So many trials failing one after another end a study: something is wrong with all of them."""

WITHOUT_METRIC = 3
"""So many trials ending without the metric, and none with it, end a study: none will have it."""

_MOMENT_SECONDS = 0.5  # in which one attempt may end and another begin

TIMEOUT = "its timeout was reached"


@dataclass(frozen=True)
class _Ended:
    """What attempts that have ended took of GPUs.

    Args:
        counts: How many trials were in each state then.
        at: When that was.
        gpu_seconds: What they took.
    """

    counts: Counter[TrialState]
    at: float
    gpu_seconds: float


class Limits:
    """The limits of a study, as one of its drivers sees them.

    Args:
        record: The study.
    """

    def __init__(self, record: StudyRecord) -> None:
        self._record = record
        self._run, self._search = record.plan.spec.run, record.plan.spec.search
        self._n_failed = 0  # when it was looked last whether they are too many in a row
        self._in_a_row = False
        self._n_without_metric = 0  # of trials that ended here, one after another
        self._deadline = math.inf
        self._spent: tuple[str, str] | None = None  # why the study ends, and by which budget
        self._ended = _Ended(Counter(), -math.inf, 0.0)

    def begin(self) -> float:
        """Notes that the study is driven from now on; gives the seconds left of its timeout."""
        if self._search.timeout is None:
            return math.inf
        left = self._search.timeout - self._record.seconds_driven
        self._deadline = time.monotonic() + left
        return left

    def of_failures(self, *, since: float) -> FailureLimits:
        """How many trials may fail; the database refuses one more.

        Args:
            since: When the study was taken up: whoever goes on with one that has failed wants to
                see whether it does better now.
        """
        return FailureLimits(self._run.max_failures, FAILURES_IN_A_ROW, since)

    def note_end(self, *, has_metric: bool) -> None:
        """Notes that a trial ended here, and whether with all metrics that are optimised.

        Args:
            has_metric: Also said of trials that were stopped, or failed for another reason: they
                might have had it.
        """
        self._n_without_metric = 0 if has_metric else self._n_without_metric + 1

    def reached(self, gpu_seconds: Mapping[int, float]) -> Outcome | None:
        """How the study is to end now, trials that run included; None while it may go on.

        Args:
            gpu_seconds: What the trials that run here have taken of GPUs, by number.
        """
        counts, most = self._record.storage.counts(self._record.id), self._run.max_failures
        failed = counts[TrialState.FAIL]
        if self._have_failed_in_a_row(failed):
            return Outcome("failed", f"{FAILURES_IN_A_ROW} trials in a row failed")
        if most is not None and failed > most:
            trials = counted(failed, "trial")
            return Outcome("failed", f"{trials} failed, more than max_failures = {most}")
        n = self._n_without_metric
        if n >= WITHOUT_METRIC and not counts[TrialState.COMPLETE] + counts[TrialState.PRUNED]:
            metrics = " and ".join(self._record.aims.metrics)
            return Outcome("failed", f"{n} trials ended without {metrics}, and none with it")
        # It stays so: what was said of trials elsewhere may have been too much.
        self._spent = self._spent or self._budget_spent(gpu_seconds)
        return self.over(*self._spent) if self._spent else None

    def _budget_spent(self, gpu_seconds: Mapping[int, float]) -> tuple[str, str] | None:
        if time.monotonic() >= self._deadline:
            return TIMEOUT, "search.timeout"
        hours = self._search.gpu_hours
        if hours is not None and self._gpu_seconds(gpu_seconds) >= 3600 * hours:
            return "its GPU hours were spent", "search.gpu_hours"
        return None

    def over(self, reason: str = "", limit: str = "") -> Outcome:
        """How the study ends in peace, and why, if it does not have all of its trials."""
        counts = self._record.storage.counts(self._record.id)
        failed = counts[TrialState.FAIL]
        if failed and failed == sum(counts.values()):
            return Outcome("failed", "every trial failed")
        return Outcome("finished", reason, limit=limit)

    def _have_failed_in_a_row(self, n_failed: int) -> bool:
        """Whether the newest trials failed all, which only another failure can bring about."""
        if n_failed >= FAILURES_IN_A_ROW and n_failed > self._n_failed:
            with suppress(DatabaseAwayError):
                self._in_a_row = self._record.storage.have_failed_in_a_row(self._record.id)
                self._n_failed = n_failed
        return self._in_a_row

    def _gpu_seconds(self, here: Mapping[int, float]) -> float:
        """What all trials took of GPUs, those that run included."""
        spent = sum(here.values()) + self._ended_gpu_seconds()
        seconds = self._record.seconds_running()
        for trial in self._record.running():
            if trial.number not in here:
                n_gpus = trial.system_attrs.get(DRIVER, {}).get("n_gpus", 0.0)
                spent += n_gpus * seconds.get(trial._trial_id, 0.0)
        return spent

    def _ended_gpu_seconds(self) -> float:
        """What attempts that have ended took of GPUs; added up anew when some may have since."""
        counts, now = self._record.storage.counts(self._record.id), time.monotonic()
        if counts != self._ended.counts or now - self._ended.at > _MOMENT_SECONDS:
            trials = self._record.frozen_trials()
            spent = sum(trial.system_attrs.get(GPU_SECONDS, 0.0) for trial in trials)
            self._ended = _Ended(counts, now, spent)
        return self._ended.gpu_seconds
