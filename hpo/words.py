"""How people read a value, and how many there are of something: plain text, for any output.

Where it becomes part of rich's markup, it is escaped there.
"""

from __future__ import annotations

_LARGEST_COUNT = 1e12
_ONE_LINE = 1_000


def number(value: object) -> str:
    """A value in four significant digits; nothing for a parameter that was not active.

    A count, such as a network's parameters, has all of its digits.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < _LARGEST_COUNT
        return str(int(value)) if whole else f"{value:.4g}"
    return str(value)


def counted(n: int, what: str) -> str:
    """``1 trial``, ``1,200 trials``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def shortened(text: str, length: int = _ONE_LINE) -> str:
    """A text of at most so many characters."""
    return text if len(text) <= length else f"{text[: length - 6]} [...]"
