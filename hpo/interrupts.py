"""Ctrl-C and SIGTERM: once, the running trial is put back; twice, everything stops now."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Holds signals back while the study writes, and lets them in while trials run.

    The first signal raises KeyboardInterrupt only inside `allowed`, so that no transaction is
    cut in half; the second one raises it anywhere.

    Attributes:
        received: The first signal that came, if one did.
    """

    def __init__(self) -> None:
        self.received: int | None = None
        self._allowed = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handles SIGINT and SIGTERM in here; in another than the main thread, does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        for number in before:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def allowed(self) -> Iterator[None]:
        """Lets the first signal interrupt what runs in here, and one that came before."""
        if self.received is not None:
            raise KeyboardInterrupt
        self._allowed = True
        try:
            yield
        finally:
            self._allowed = False

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's
        first = self.received is None
        self.received = self.received or number
        if self._allowed or not first:
            self._allowed = False
            raise KeyboardInterrupt
