"""Who else wants to know what happens in a study: the terminal, MLflow, a user's callback."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.search_spaces import Scalar
from hpo.trainers import Report
from hpo.trial import TrialRecord

if TYPE_CHECKING:
    from hpo.catalog import StudyRecord


@dataclass(frozen=True)
class Outcome:
    """How a run of a study ended.

    Args:
        state: finished, interrupted or failed.
        reason: Why, as a phrase; empty when there is nothing to say.
        signal: The signal that interrupted it, if one did.
        limit: The setting that ended it before it had its trials, if one did: search.timeout.
    """

    state: str
    reason: str = ""
    signal: int | None = None
    limit: str = ""


class Listener:
    """Hears what happens in a study; a subclass overrides what it cares about."""

    def opened(self, study: StudyRecord) -> None:
        """The study begins, or goes on."""

    def started(self, trial: TrialRecord, config: Mapping[str, Scalar]) -> None:
        """A trial starts from nothing, with this configuration."""

    def reported(self, number: int, report: Report) -> None:
        """A running trial reports a step."""

    def waiting(self, n_trials: int) -> None:
        """Nothing is left to start here, but other drivers run so many trials."""

    def draining(self, why: str, grace_seconds: float) -> None:
        """An end was asked for, perhaps within a signal's handler; running trials go on so long."""

    def ended(self, trial: TrialRecord, best: TrialRecord | None) -> None:
        """A trial is COMPLETE, PRUNED, FAIL, or WAITING to be taken up again."""

    def closed(self, study: StudyRecord, outcome: Outcome) -> None:
        """The study ends, or pauses."""
