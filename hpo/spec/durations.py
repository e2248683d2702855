"""How long something may take, as people write it: 90s, 30m, 1h30m, or a number of seconds."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import BeforeValidator, Field

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")


def _duration(said: str) -> float:
    match = _DURATION.fullmatch(said.strip())
    if not match or not any(match.groups()):
        raise ValueError(f"'{said}' is not a duration; write 90s, 30m, 1h30m or seconds")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest


def _seconds(value: object) -> object:
    return _duration(value) if isinstance(value, str) else value


def seconds(text: str) -> float:
    """Reads a duration as a command line has it: 90s, 10m, or a number of seconds.

    Raises:
        ValueError: it is not a duration, or not above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = _duration(text)
    if not 0 < value < float("inf"):
        raise ValueError(f"{text} must be a duration above 0, such as 90s")
    return value


def as_duration(value: float) -> str:
    """Seconds as a command line takes them, to some seconds, minutes or hours: 30s, 2m, 1.5h."""
    unit, size = ("h", 3600) if value >= 3600 else ("m", 60) if value >= 60 else ("s", 1)
    n = max(value / size, 0.001)
    return f"{n:.0f}{unit}" if n >= 9.95 else f"{n:.2g}{unit}"


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]
