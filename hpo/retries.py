"""Trials that did not come to their end: put back to be taken up again, or given up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from hpo.storage import Storage, TooManyFailuresError
from hpo.trial import (
    ATTEMPTS,
    DRIVER,
    FAILURE,
    FORECAST,
    GPU_SECONDS,
    HISTORY,
    MLFLOW_RUN,
    WALL_SECONDS,
    Failure,
)
from hpo.words import counted


def begin_attempt(storage: Storage, trial_id: int, driver: Mapping[str, Any]) -> None:
    """Notes who runs a trial now; what is pending is not written here."""
    attrs = storage.get_trial(trial_id).system_attrs
    storage.set_trial_system_attr(trial_id, DRIVER, dict(driver))
    attempt = len(attrs.get(HISTORY, [])) + 1
    if attempt != attrs.get(ATTEMPTS, 1):  # else all that is new is where it runs
        storage.set_trial_system_attr(trial_id, ATTEMPTS, attempt)
        storage.set_trial_system_attr(trial_id, MLFLOW_RUN, None)  # of that attempt
    forecast = attrs.get(FORECAST)
    if forecast is not None and not forecast["audited"]:
        # Its attempt died before the code could heed that; this one is judged anew.
        storage.set_trial_system_attr(trial_id, FORECAST, None)


def n_lost(trial: FrozenTrial) -> int:
    """How many of a trial's attempts have died."""
    return sum(bool(attempt["lost"]) for attempt in trial.system_attrs.get(HISTORY, []))


def put_back(storage: Storage, trial_id: int, why: str, seconds: float = 0.0) -> None:
    """Lets a trial wait until somebody goes on with it from its last checkpoint.

    It did nothing wrong: this does not count as a retry.
    """
    _note_end(storage, trial_id, why, lost=False, seconds=seconds)
    storage.put_back(trial_id)


def fail(storage: Storage, trial_id: int, failure: Failure) -> None:
    """Fails a trial; where no more may fail, it is put back."""
    if not _is_failed(storage, trial_id, failure):
        put_back(storage, trial_id, f"{failure.summary}, when the study had failed already")


def retry(
    storage: Storage, trial_id: int, failure: Failure, most: int, seconds: float = 0.0
) -> bool:
    """Puts a trial back whose process died; if that was too often, it has failed (`fail`).

    Args:
        storage: Where the trial is; this process writes it.
        trial_id: The trial.
        failure: What to say of it when it is given up.
        most: How often it may be taken up again.
        seconds: How long the attempt took.

    Returns:
        Whether it was put back.
    """
    _note_end(storage, trial_id, failure.message, lost=True, seconds=seconds)
    lost = n_lost(storage.get_trial(trial_id))
    if lost <= most:
        storage.put_back(trial_id)
        return True
    tried = f"it was tried {counted(lost, 'time')} (max_retries = {most})"
    given_up = Failure(failure.kind, f"{failure.message}; {tried}", failure.traceback)
    if _is_failed(storage, trial_id, given_up):
        return False
    storage.put_back(trial_id)
    return True


def _is_failed(storage: Storage, trial_id: int, failure: Failure) -> bool:
    """Fails a trial, unless no more may fail; returns whether it has."""
    storage.set_trial_system_attr(trial_id, FAILURE, asdict(failure))
    try:
        storage.set_trial_state_values(trial_id, TrialState.FAIL)
    except TooManyFailuresError:
        storage.set_trial_system_attr(trial_id, FAILURE, None)
        return False
    return True


def _note_end(storage: Storage, trial_id: int, why: str, *, lost: bool, seconds: float) -> None:
    trial = storage.get_trial(trial_id)
    attrs = trial.system_attrs
    attempt = {
        "driver": attrs.get(DRIVER),
        "ended": why,
        "lost": lost,
        "last_step": trial.last_step,
    }
    storage.set_trial_system_attr(trial_id, HISTORY, [*attrs.get(HISTORY, []), attempt])
    if seconds:
        note_spent(storage, trial_id, seconds)


def note_spent(storage: Storage, trial_id: int, seconds: float) -> None:
    """Adds the seconds of an attempt to what a trial took, of time and of GPUs."""
    attrs = storage.get_trial(trial_id).system_attrs
    storage.set_trial_system_attr(trial_id, WALL_SECONDS, attrs.get(WALL_SECONDS, 0.0) + seconds)
    if n_gpus := attrs.get(DRIVER, {}).get("n_gpus"):
        spent = attrs.get(GPU_SECONDS, 0.0) + n_gpus * seconds
        storage.set_trial_system_attr(trial_id, GPU_SECONDS, spent)
