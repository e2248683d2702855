"""What it means that a trial's code has ended."""

from __future__ import annotations

from hpo.trial import (
    ITSELF,
    Drained,
    Ended,
    Event,
    Failure,
    FailureKind,
    Stopped,
    is_pruned,
)


def end_of(trial: int, raised: BaseException) -> Ended | Drained:
    """The event that follows from what a trial's generator raised, StopIteration included."""
    if isinstance(raised, StopIteration):
        return Drained(trial) if raised.value is None else Ended(trial, raised.value)
    if is_pruned(raised):
        return Ended(trial, Stopped(str(raised) or ITSELF))
    return Ended(trial, Failure.of(raised))  # a failed trial is a value


def ran_out_of_memory(event: Event | None) -> bool:
    """Whether a trial has ended for want of memory."""
    failure = event.result if isinstance(event, Ended) else None
    return isinstance(failure, Failure) and failure.kind is FailureKind.OUT_OF_MEMORY
