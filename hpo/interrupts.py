"""Ctrl-C and SIGTERM: once, running trials end after their next report; twice, everything now.

A study whose time is up ends as after the first.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupts:
    """Lets the first signal ask for an end, and the second one, or the end of the grace, force it.

    A forced end raises KeyboardInterrupt: by the grace only inside `allowed`, so that no
    transaction is cut in half, by the second signal anywhere.

    Args:
        drain: Called with the reason when the first signal comes, within its handler.
        hurry: Called when the end is forced, likewise.
        grace_seconds: How long what runs may take to end by itself.

    Attributes:
        received: The first signal that came, if one did.
        why: Why an end is asked for; empty while it is not.
    """

    def __init__(
        self, drain: Callable[[str], None], hurry: Callable[[], None], grace_seconds: float
    ) -> None:
        self.received: int | None = None
        self.why = ""
        self._drain, self._hurry = drain, hurry
        self._grace_seconds = grace_seconds
        self._allowed = False
        self._at_once = False
        self._in_grace = False
        self._is_over = False  # the grace
        self._planned = ""  # why an end will be asked for when the alarm rings
        self._handles = False

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handles SIGINT and SIGTERM in here; in another than the main thread, does nothing."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        ours = {
            signal.SIGINT: self._handle,
            signal.SIGTERM: self._handle,
            signal.SIGALRM: self._ring,
        }
        before = {number: signal.getsignal(number) for number in ours}
        for number, handler in ours.items():
            signal.signal(number, handler)
        self._handles = True
        try:
            yield
        finally:
            self._handles = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, was in before.items():
                signal.signal(number, was)

    @contextmanager
    def allowed(self, *, at_once: bool = False) -> Iterator[None]:
        """Lets the end of the grace interrupt what runs in here, if it has not come before.

        Args:
            at_once: Whether the first signal does, without any grace, and the grace does not.
        """
        if self._is_over and not at_once:
            raise KeyboardInterrupt
        self._allowed, self._at_once = True, at_once
        try:
            yield
        finally:
            self._allowed = self._at_once = False

    def ask_in(self, seconds: float, why: str) -> None:
        """Asks for an end in so long, unless one was asked for before; once, where signals are."""
        self._planned = why
        if self._handles and not self.why and 0 < seconds < threading.TIMEOUT_MAX:
            signal.setitimer(signal.ITIMER_REAL, seconds)

    def ask(self, why: str) -> None:
        """Asks for an end, from any thread; the grace begins."""
        if self.why:
            return
        self.why = why
        self._drain(why)
        if self._handles:
            signal.setitimer(signal.ITIMER_REAL, self._grace_seconds)
        self._in_grace = True

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's
        first, self.received = self.received is None, self.received or number
        if first and not self._at_once:
            self.ask(f"stopped by {signal.Signals(number).name}")
            return
        self._allowed = False
        self._is_over = True
        raise KeyboardInterrupt

    def _ring(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's
        if not self.why:
            self.ask(self._planned)
        elif self._in_grace:  # else this was for the plan, and something else is asking just now
            self._end_grace()

    def _end_grace(self) -> None:
        self._is_over = True
        self._hurry()
        if self._allowed:
            self._allowed = False
            raise KeyboardInterrupt
