"""A field of a configuration: which values it takes, in words that a person can act on."""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from typing import Any

from hpo.trainers.errors import did_you_mean

_CODE = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_code(value: object) -> bool:
    """Whether a value is of the form `package.module:name`."""
    return isinstance(value, str) and bool(_CODE.fullmatch(value))


@dataclass(frozen=True)
class Field:
    """Which values a field takes, and when it matters.

    Args:
        kind: str, bool, int or float. An int field takes 64.0 too, a float field any integer.
        why: What the value is, and with it why it is bounded.
        default: What it is where nobody sets it.
        allowed: Every value, where kind is str.
        code: Whether `package.module:name`, the user's own, is a value, too.
        low: The least value.
        high: The greatest value.
        low_open: Whether `low` itself is left out.
        high_open: Whether `high` itself is left out.
        optional: Whether None is a value.
        per: The field that says how many values a list has; None where it takes no list.
        used_when: Values of other fields, by name; the field has an effect only while each of those
            has one of these. Empty where it always may.
    """

    kind: type
    why: str
    default: object = None
    allowed: tuple[str, ...] | None = None
    code: bool = False
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    optional: bool = False
    per: str | None = None
    used_when: Mapping[str, tuple[object, ...]] = dataclasses.field(default_factory=dict)

    @property
    def bounds(self) -> str:
        """The bounds in words, such as "at least 0 and below 1"; empty without any."""
        words = (
            (self.low, "above" if self.low_open else "at least"),
            (self.high, "below" if self.high_open else "at most"),
        )
        return " and ".join(f"{word} {end:g}" for end, word in words if end is not None)

    def problem(self, value: object) -> str | None:
        """The sentence that says why `value` cannot be taken; None where it can."""
        if value is None and self.optional:
            return None
        if self.per is not None and isinstance(value, list | tuple):
            found = ((i, self._one_problem(one)) for i, one in enumerate(value, start=1))
            return next((f"layer {i}: {problem}" for i, problem in found if problem), None)
        return self._one_problem(value)

    def taken(self, value: Any) -> Any:
        """A value without `problem`, in the field's kind: 64.0 becomes 64; a list, a tuple."""
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return tuple(self.kind(one) for one in value)
        return self.kind(value)

    def _one_problem(self, value: object) -> str | None:
        if self.allowed is not None:
            if value in self.allowed or (self.code and is_code(value)):
                return None
            return f"{value!r} is not a choice. {did_you_mean(value, self.allowed)}"
        if self.kind is bool:
            return None if isinstance(value, bool) else f"{value!r} is not true or false."
        return self._number_problem(value)

    def _number_problem(self, value: object) -> str | None:
        whole = self.kind is int
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{value!r} is not a {'whole ' * whole}number.{_unquoted(value)}"
        if isinstance(value, float) and not isfinite(value):
            return f"{value} is not a finite number."
        if whole and value != int(value):
            return f"{value!r} is not a whole number. Did you mean {ceil(value)}?"
        if self._holds(value):
            return None
        return f"{value!r} is out of range. It must be {self.bounds}; it is {self.why}."

    def _holds(self, value: float) -> bool:
        above = self.low is None or value > self.low or (value == self.low and not self.low_open)
        below = (
            self.high is None or value < self.high or (value == self.high and not self.high_open)
        )
        return above and below


def _unquoted(value: object) -> str:
    """The end of a sentence about a number in quotes."""
    try:
        number = isinstance(value, str) and isfinite(float(value))
    except ValueError:
        number = False
    return f" Did you mean {value}, without quotes?" if number else ""
