"""What is demanded of a metric, `<= 0.03`, and whether a trial's metrics keep it."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_REQUIREMENT = re.compile(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")
_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}
_LEAST = 1e-12  # by which a strict requirement is missed where the value is the threshold


def requirement(text: str) -> tuple[str, float] | None:
    """Reads ``"<= 0.03"``; None when it is not of that form."""
    match = _REQUIREMENT.fullmatch(text)
    return (match[1], float(match[2])) if match else None


@dataclass(frozen=True)
class Check:
    """One requirement on one metric of a trial."""

    metric: str
    requirement: str
    value: float | None
    passed: bool

    @property
    def sentence(self) -> str:
        """What was demanded and what was found."""
        if self.value is None:
            return f"{self.metric} should be {self.requirement}, and was not reported"
        verdict = "is" if self.passed else "is not"
        return f"{self.metric} {self.value:.6g} {verdict} {self.requirement}"

    @property
    def violation(self) -> str:
        """A constraint that is broken, in one phrase."""
        found = "not reported" if self.value is None else f"{self.value:.6g}"
        return f"{self.metric} {self.requirement} ({found})"

    @property
    def excess(self) -> float:
        """By how much the threshold is missed, as a share of the threshold (of 1 where that is 0).

        At most 0 where it is kept, infinite where the metric is not there.
        """
        if self.value is None:
            return math.inf
        symbol, threshold = _read(self.requirement)
        over = self.value - threshold if symbol[0] == "<" else threshold - self.value
        share = over / (abs(threshold) or 1.0)
        return min(share, 0.0) if self.passed else max(share, _LEAST)

    def as_json(self) -> dict[str, Any]:
        """The check under keys that stay."""
        return {
            "metric": self.metric,
            "requirement": self.requirement,
            "value": self.value,
            "passed": self.passed,
        }


def checked(requirements: Mapping[str, str], metrics: Mapping[str, float]) -> tuple[Check, ...]:
    """Holds metrics against requirements; a metric that is not there fails its own."""
    checks = []
    for metric, text in requirements.items():
        value = metrics.get(metric)
        symbol, threshold = _read(text)
        passed = value is not None and bool(_OPERATORS[symbol](value, threshold))
        checks.append(Check(metric, text, value, passed))
    return tuple(checks)


def _read(text: str) -> tuple[str, float]:
    parsed = requirement(text)
    assert parsed is not None  # noqa: S101 - checked with the file
    return parsed
