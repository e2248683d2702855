"""Ctrl-C and SIGTERM: once, running trials end after their next report; twice, everything now.

A study whose time is up ends as after the first.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from types import FrameType
from typing import TypeAlias

_SOON = 1e-3

_Handler: TypeAlias = Callable[[int, FrameType | None], object] | int | None


@dataclass(frozen=True)
class _Theirs:
    """The alarm that the caller has set: a process has one timer.

    Args:
        due: When it rings, by the monotonic clock.
        interval: After how long again; 0 is never.
        handler: Of SIGALRM.
    """

    due: float
    interval: float = 0.0
    handler: _Handler = None

    @classmethod
    def taken(cls, handler: _Handler) -> _Theirs:
        """The timer as it is; it is stopped."""
        left, interval = signal.setitimer(signal.ITIMER_REAL, 0)
        return cls(time.monotonic() + left if left else math.inf, interval, handler)

    def next(self, now: float) -> _Theirs:
        """The timer when it has rung."""
        return replace(self, due=now + self.interval if self.interval else math.inf)

    def ring(self, number: int, frame: FrameType | None) -> None:
        """Does what the caller has SIGALRM do."""
        if callable(self.handler):
            self.handler(number, frame)
        elif self.handler == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)


class Interrupts:
    """Lets the first signal ask for an end, and the second one, or the end of the grace, force it.

    A forced end raises KeyboardInterrupt: by the grace only inside `allowed`, so that no
    transaction is cut in half, by the second signal anywhere. In another thread than the main one,
    which gets no signals, `allowed` raises it as it begins.

    Args:
        drain: Called with the reason when an end is asked for, perhaps within a signal's handler.
        hurry: Called when the end is forced, likewise, unless it was a budget that asked.
        grace_seconds: How long what runs may take to end by itself.

    Attributes:
        received: The first signal that came, if one did.
        why: Why an end is asked for; empty while it is not.
        of_budget: Whether that is since a budget is spent. Then nobody is in a hurry, and whoever
            asks otherwise is heard.
    """

    def __init__(
        self, drain: Callable[[str], None], hurry: Callable[[], None], grace_seconds: float
    ) -> None:
        self.received: int | None = None
        self.why = ""
        self.of_budget = False
        self._drain, self._hurry = drain, hurry
        self._grace_seconds = grace_seconds
        self._allowed = False
        self._at_once = False
        self._in_grace = False
        self._is_over = False  # the grace
        self._planned = ""  # why an end will be asked for when the alarm rings
        self._handles = False
        self._due, self._theirs = math.inf, _Theirs(math.inf)  # when alarms ring
        self._timer: threading.Timer | None = None  # ours, where there are no signals

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handles SIGINT and SIGTERM in here, if this is the main thread, and rings alarms."""
        if threading.current_thread() is not threading.main_thread():
            try:
                yield
            finally:
                self._set_alarm(0)
            return
        ours = {
            signal.SIGINT: self._handle,
            signal.SIGTERM: self._handle,
            signal.SIGALRM: self._wake,
        }
        before = {number: signal.getsignal(number) for number in ours}
        self._theirs = _Theirs.taken(before[signal.SIGALRM])
        for number, handler in ours.items():
            signal.signal(number, handler)
        self._handles = True
        self._arm()
        try:
            yield
        finally:
            self._handles = False
            signal.setitimer(signal.ITIMER_REAL, 0)
            for number, was in before.items():
                signal.signal(number, was)
            if self._theirs.due < math.inf:
                left = max(self._theirs.due - time.monotonic(), _SOON)
                signal.setitimer(signal.ITIMER_REAL, left, self._theirs.interval)

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
        """Lets a budget ask for an end in so long, if nothing has asked before."""
        self._planned = why
        if not self.why and 0 < seconds < threading.TIMEOUT_MAX:
            self._set_alarm(seconds)

    def ask(self, why: str, *, of_budget: bool = False) -> None:
        """Asks for an end, from any thread; the grace begins."""
        if self.why and (of_budget or not self.of_budget):
            return
        self.why, self.of_budget = why, of_budget
        self._set_alarm(self._grace_seconds)
        self._in_grace = True
        self._drain(why)

    def settle(self) -> None:
        """Notes that nothing is left to end: no alarm will ring."""
        self._set_alarm(0)
        self._in_grace = self._is_over = False

    def _set_alarm(self, seconds: float) -> None:
        """Lets the alarm ring in so long, and not at another time; 0 is never."""
        if self._handles:
            self._due = time.monotonic() + seconds if seconds else math.inf
            self._arm()
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if seconds:
            self._timer = threading.Timer(seconds, self._ring)
            self._timer.daemon = True
            self._timer.start()

    def _arm(self) -> None:
        """Sets the process's one timer for whichever alarm is the next."""
        due = min(self._due, self._theirs.due)
        left = max(due - time.monotonic(), _SOON) if due < math.inf else 0
        signal.setitimer(signal.ITIMER_REAL, left)

    def _wake(self, number: int, frame: FrameType | None) -> None:
        """Handles SIGALRM, of our alarm or of one that the caller had set before."""
        now = time.monotonic() + _SOON
        is_ours, is_theirs = self._due <= now, self._theirs.due <= now
        self._due = math.inf if is_ours else self._due
        theirs = self._theirs
        if is_theirs:
            self._theirs = theirs.next(now)
        self._arm()
        if is_theirs or not is_ours:
            theirs.ring(number, frame)
        if is_ours:
            self._ring()

    def _handle(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - Python's
        first, self.received = self.received is None, self.received or number
        if first and not self._at_once:
            self.ask(f"stopped by {signal.Signals(number).name}")
            return
        self._allowed = False
        self._is_over = True
        raise KeyboardInterrupt

    def _ring(self) -> None:
        if not self.why:
            self.ask(self._planned, of_budget=True)
        elif self._in_grace:  # else this was for the plan, and something else is asking just now
            self._end_grace()

    def _end_grace(self) -> None:
        self._is_over = True
        if not self.of_budget:
            self._hurry()
        if self._handles and self._allowed and not self._at_once:
            self._allowed = False
            raise KeyboardInterrupt
