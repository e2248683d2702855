"""What a study is after, and so what makes one of its trials better than another."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import TYPE_CHECKING

from hpo.requirements import Check, checked
from hpo.storage import TWIN
from hpo.trial import (
    ATTEMPTS,
    BASELINE,
    DRIVER,
    FAILURE,
    FORECAST,
    HISTORY,
    METRICS,
    MICRO_BATCH,
    MLFLOW_RUN,
    N_STEPS,
    STOPPED_BY,
    WALL_SECONDS,
    Failure,
    FailureKind,
    TrialRecord,
)

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

_MOST_EXCESS = 1e6  # a value a million times its threshold is as bad as any

NOTHING: Mapping[str, float] = MappingProxyType({})


@dataclass(frozen=True)
class Aims:
    """Metrics to optimise and constraints to keep.

    A trial that breaks a constraint is *infeasible*: worse than every feasible one, and never
    the best. Of several metrics, one trial is better than another if it *dominates* it: no worse
    in any metric, and better in one. What no trial dominates is the front.

    Args:
        metrics: What is optimised, the most important first.
        directions: Which way each of them is better: minimize or maximize.
        constraints: What a trial must keep: ``{"latency_ms": "<= 5"}``.
    """

    metrics: tuple[str, ...]
    directions: tuple[str, ...]
    constraints: Mapping[str, str]

    def read(self, trial: FrozenTrial) -> TrialRecord:
        """Reads Optuna's trial, in the light of what its study is after."""
        attrs = trial.system_attrs
        values = dict(zip(self.metrics, trial.values or (), strict=False))
        metrics = trial.user_attrs.get(METRICS, {})
        failure = attrs.get(FAILURE)
        return TrialRecord(
            id=trial._trial_id,
            number=trial.number,
            state=trial.state.name,
            values=values,
            params=dict(trial.params),
            metrics=metrics,
            n_steps=attrs.get(N_STEPS, len(trial.intermediate_values)),
            last_step=trial.last_step,
            stopped_by=attrs.get(STOPPED_BY) if trial.state.name == "PRUNED" else None,
            forecast=attrs.get(FORECAST),
            failure=Failure(FailureKind(failure["kind"]), failure["message"], failure["traceback"])
            if failure
            else None,
            attempts=attrs.get(ATTEMPTS, 1),
            wall_seconds=attrs.get(WALL_SECONDS),
            mlflow_run_id=attrs.get(MLFLOW_RUN),
            started_ms=_as_ms(trial.datetime_start),
            ended_ms=_as_ms(trial.datetime_complete),
            is_baseline=bool(attrs.get(BASELINE)),
            put_back=_put_back(trial),
            data=attrs.get(DRIVER, {}).get("data"),
            micro_batch=attrs.get(MICRO_BATCH),
            checks=self.checks({**values, **metrics}, trial.constraints),
        )

    @property
    def several(self) -> bool:
        """Whether there is more than one metric to optimise."""
        return len(self.metrics) > 1

    def checks(
        self, metrics: Mapping[str, float], noted: Mapping[str, float] = NOTHING
    ) -> tuple[Check, ...]:
        """Holds a trial's metrics against the constraints.

        Args:
            metrics: The last value of each.
            noted: What plain Optuna noted of constraints of its own, for a study that has none
                here: above 0 is violated.
        """
        theirs = (Check(name, "<= 0", value, value <= 0) for name, value in noted.items())
        return checked(self.constraints, metrics) if self.constraints else tuple(theirs)

    def excesses(self, metrics: Mapping[str, float]) -> list[float]:
        """How far each constraint is broken, as Optuna is told: above 0 is violated.

        A metric that is missing, or far off, is as bad as any, in numbers that a model can fit.
        """
        checks = self.checks(metrics)
        return [1.0 if c.value is None else min(c.excess, _MOST_EXCESS) for c in checks]

    def losses(self, trial: TrialRecord) -> tuple[float, ...]:
        """A trial's values, turned so that smaller is better."""
        values = zip(self.directions, trial.values.values(), strict=True)
        return tuple(-value if way == "maximize" else value for way, value in values)

    def beats(self, trial: TrialRecord, best: TrialRecord | None) -> bool:
        """Whether a COMPLETE trial takes the place of the best one so far.

        That is the feasible trial of the front which is best in the first metric.
        """
        if not trial.feasible:
            return False
        return best is None or self.losses(trial) < self.losses(best)

    def dominates(self, one: TrialRecord, other: TrialRecord) -> bool:
        """Whether one trial is no worse than the other in any metric, and better in one."""
        ours, theirs = self.losses(one), self.losses(other)
        return ours != theirs and all(a <= b for a, b in zip(ours, theirs, strict=True))

    def ranked(self, trials: Sequence[TrialRecord]) -> list[TrialRecord]:
        """COMPLETE trials, the best first, each feasible one with its rank from 1.

        Of several metrics, all of the front have rank 1, what only the front dominates has
        rank 2, and so on (Deb et al. 2002, NSGA-II); equals in rank by their values, metric by
        metric. Infeasible trials follow without a rank, the nearest to feasibility first.
        """
        complete = [t for t in trials if t.feasible is not None]
        feasible = sorted((t for t in complete if t.feasible), key=self.losses)
        infeasible = sorted((t for t in complete if not t.feasible), key=lambda t: t.excess)
        ranks = self._fronts(feasible) if self.several else range(1, len(feasible) + 1)
        placed = [replace(t, rank=rank) for t, rank in zip(feasible, ranks, strict=True)]
        return [*sorted(placed, key=lambda t: t.rank or 0), *infeasible]

    def _fronts(self, trials: Sequence[TrialRecord]) -> list[int]:
        import numpy as np
        from optuna.study._multi_objective import _fast_non_domination_rank

        losses = np.array([self.losses(trial) for trial in trials])
        return [int(rank) + 1 for rank in _fast_non_domination_rank(losses)]

    def hypervolume(self, ranked: Sequence[TrialRecord]) -> float | None:
        """The volume between the front and the worst value observed of each metric.

        Args:
            ranked: COMPLETE trials, as `ranked` gives them.

        Returns:
            In the product of the metrics' units; None for a single metric, without a front, and
            where a value is infinite.
        """
        if not self.several or not ranked or ranked[0].rank is None:
            return None
        import numpy as np
        from optuna._hypervolume import compute_hypervolume

        front = [self.losses(trial) for trial in ranked if trial.rank == 1]
        worst = np.array([self.losses(trial) for trial in ranked]).max(axis=0)
        volume = float(compute_hypervolume(np.array(front), worst))
        return volume if math.isfinite(volume) else None


def _put_back(trial: FrozenTrial) -> str | None:
    if trial.state.name != "WAITING":
        return None
    if history := trial.system_attrs.get(HISTORY):
        return str(history[-1]["ended"])
    twin = trial.system_attrs.get(TWIN)
    return None if twin is None else f"for the end of trial {twin}, which is the same"


def _as_ms(local: datetime | None) -> int | None:
    return int(local.timestamp() * 1000) if local else None
