"""Objectives: what one trial does, in one shape.

An objective is called with a `Job` and gives a generator: it yields a `Report` per step and
returns the final metrics. Closing the generator stops the trial.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hpo.trial import Job
from trainers import Report

if TYPE_CHECKING:
    from hpo.spec import Plan

Steps: TypeAlias = Generator[Report, None, Mapping[str, float]]


class Objective(Protocol):
    """What one trial does."""

    def __call__(self, job: Job) -> Steps:
        """Runs one configuration, step by step."""
        ...


def build(plan: Plan) -> Objective:
    """Makes the objective that a study file names.

    Raises:
        ObjectiveError: its function or data cannot be loaded.
    """
    objective, run = plan.spec.objective, plan.spec.run
    if objective.function is not None:
        from hpo.objectives.function import FunctionObjective, find_function

        function = find_function(objective.function, plan.folder)
        return FunctionObjective(function, objective.metric, run.device)

    from hpo.objectives.trainer import TrainerObjective

    assert objective.data is not None  # noqa: S101 - checked with the file
    return TrainerObjective(objective.data, plan.spec.search.seed, run.device, run.threads)


__all__ = ["Objective", "Steps", "build"]
