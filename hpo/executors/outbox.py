"""What a worker sends, kept while the driver does not read: training goes on meanwhile."""

from __future__ import annotations

import select
import threading
from collections import deque
from multiprocessing.connection import Connection

from hpo.executors.messages import FromWorker, ToWorker

_MOST = 100_000  # messages that are kept; a worker with more of them has to wait


class Outbox:
    """Sends messages in order, at once where that keeps nobody waiting, else from a thread.

    At once, so that a process that dies after a report has sent it.

    Args:
        driver: Where they go.
    """

    def __init__(self, driver: Connection[FromWorker, ToWorker]) -> None:
        self._driver = driver
        self._kept: deque[FromWorker] = deque()
        self._sends = False  # whether the thread is at work on a message
        self._changed = threading.Condition()
        threading.Thread(target=self._send_kept, name="outbox", daemon=True).start()

    def send(self, message: FromWorker) -> None:
        """Sends a message, now or as soon as the driver reads."""
        with self._changed:
            while len(self._kept) >= _MOST:
                self._changed.wait()
            if not self._kept and not self._sends and self._has_room:
                self._driver.send(message)
            else:
                self._kept.append(message)
                self._changed.notify_all()

    @property
    def _has_room(self) -> bool:
        """Whether a message of usual length can be sent without waiting."""
        return bool(select.select([], [self._driver], [], 0)[1])

    def _send_kept(self) -> None:
        while True:
            with self._changed:
                while not self._kept:
                    self._changed.wait()
                message, self._sends = self._kept.popleft(), True
                self._changed.notify_all()
            try:
                self._driver.send(message)
            except OSError:  # the driver is gone, and soon this process is, too
                return
            with self._changed:
                self._sends = False
