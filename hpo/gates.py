"""Gates: whether a study's best is good enough, and why or why not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hpo.catalog import StudyRecord
from hpo.errors import close_metric
from hpo.requirements import Check, checked


@dataclass(frozen=True)
class Verdict:
    """All checks of a gate.

    Args:
        checks: Of one trial: one that passes, or else the one that misses the least.
        trial: Its number; None where no trial can be judged.
        several: Whether it is one of several that might have passed.
        note: Why no trial can be judged, as a sentence; empty where that is plain.
        reported: Names of the metrics that it reported.
    """

    checks: tuple[Check, ...]
    trial: int | None = None
    several: bool = False
    note: str = ""
    reported: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        """Whether every check passed."""
        return all(check.passed for check in self.checks)

    @property
    def excess(self) -> float:
        """By how much the gate is missed in all; 0 where it is passed."""
        return sum(check.excess for check in self.checks if not check.passed)

    @property
    def sentence(self) -> str:
        """The verdict in one sentence."""
        if self.note:
            return f"gate failed: {self.note}"
        if self.passed:
            by = f" by trial {self.trial}" if self.several else ""
            return f"gate passed{by}: " + "; ".join(check.sentence for check in self.checks) + "."
        failed = "; ".join(self._why(check) for check in self.checks if not check.passed)
        if self.several:
            return f"gate failed: no trial of the front passes; of trial {self.trial}, {failed}."
        return f"gate failed: {failed}."

    def _why(self, check: Check) -> str:
        """Why a check failed: a value that misses, or none, which is a mistake of another kind."""
        if self.trial is None:
            return f"{check.metric} should be {check.requirement}, and no trial has it"
        if check.value is not None:
            return check.sentence
        near = close_metric(check.metric, self.reported)
        meant = f"; did you mean '{near}'?" if near else ""
        return (
            f"{check.metric} should be {check.requirement}, and trial {self.trial} did not report "
            f"it (reported was: {', '.join(self.reported)}{meant})"
        )

    def as_json(self) -> dict[str, Any]:
        """The stable keys of ``hpo run --json``."""
        checks = [check.as_json() for check in self.checks]
        return {"passed": self.passed, "trial": self.trial, "checks": checks}


def judge(gate: Mapping[str, str], study: StudyRecord) -> Verdict | None:
    """Judges a study by its best trial, or by one of its front; None without a gate."""
    if not gate:
        return None
    front = study.front()
    if not front:
        return Verdict(checked(gate, {}), note=study.why_no_best() if study.ranked() else "")
    judged = [
        Verdict(
            checked(gate, trial.metrics),
            trial.number,
            several=len(front) > 1,
            reported=tuple(trial.metrics),
        )
        for trial in front
    ]
    return min(judged, key=lambda verdict: verdict.excess)
