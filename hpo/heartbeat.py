"""The sign of life of a driver: without it, drivers elsewhere take its trials for abandoned."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from optuna.exceptions import StorageInternalError
from sqlalchemy.exc import SQLAlchemyError

from hpo.catalog import LEASE_SECONDS
from hpo.storage import Storage

_INTERVAL_SECONDS = LEASE_SECONDS / 6

_log = logging.getLogger(__name__)


@contextmanager
def heartbeat(
    storage: Storage, running: Callable[[], Iterable[int]], interval: float = _INTERVAL_SECONDS
) -> Iterator[None]:
    """Notes now and then, from a thread, that the running trials have a living driver.

    Args:
        storage: Where it is noted, by the database's clock.
        running: Gives the ids of the running trials.
        interval: Seconds between two heartbeats.
    """
    done = threading.Event()

    def beat() -> None:
        while not done.wait(interval):
            for trial_id in running():
                try:
                    storage.heartbeat(trial_id)
                except (SQLAlchemyError, StorageInternalError) as error:
                    _log.warning("no heartbeat could be written: %s", error)

    thread = threading.Thread(target=beat, name="heartbeat", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
