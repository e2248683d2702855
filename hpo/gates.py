"""Gates: whether the best trial is good enough, and why or why not."""

from __future__ import annotations

import operator
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.spec import requirement
from hpo.trial import TrialRecord

_OPERATORS = {"<=": operator.le, ">=": operator.ge, "<": operator.lt, ">": operator.gt}


@dataclass(frozen=True)
class Check:
    """One requirement on one metric of the best trial."""

    metric: str
    requirement: str
    value: float | None
    passed: bool

    @property
    def sentence(self) -> str:
        """What was demanded and what was found."""
        if self.value is None:
            return f"{self.metric} should be {self.requirement}, but no trial has it"
        verdict = "is" if self.passed else "is not"
        return f"{self.metric} {self.value:.6g} {verdict} {self.requirement}"


@dataclass(frozen=True)
class Verdict:
    """All checks of a gate."""

    checks: tuple[Check, ...]

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.passed:
            return "gate passed: " + "; ".join(check.sentence for check in self.checks) + "."
        failed = [check.sentence for check in self.checks if not check.passed]
        return "gate failed: " + "; ".join(failed) + "."

    def as_json(self) -> dict[str, Any]:
        """The stable keys of ``hpo run --json``."""
        checks = [
            {
                "metric": check.metric,
                "requirement": check.requirement,
                "value": check.value,
                "passed": check.passed,
            }
            for check in self.checks
        ]
        return {"passed": self.passed, "checks": checks}


def judge(gate: Mapping[str, str], best: TrialRecord | None) -> Verdict | None:
    """Judges the best trial; None where the study file has no gate."""
    if not gate:
        return None
    checks = []
    for metric, text in gate.items():
        value = best.metrics.get(metric) if best else None
        parsed = requirement(text)
        assert parsed is not None  # noqa: S101 - checked with the file
        symbol, threshold = parsed
        passed = value is not None and bool(_OPERATORS[symbol](value, threshold))
        checks.append(Check(metric, text, value, passed))
    return Verdict(tuple(checks))
