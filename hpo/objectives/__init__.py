"""Objectives: what one trial does, in one shape.

An objective is called with a `Job` and gives a generator: it yields a `Report` per step and
returns the final metrics, or a `Failure` where no exception of Python's says it, or None where it
was asked to drain and ended before its end. Closing the generator stops the trial.
"""

from __future__ import annotations

from collections.abc import Generator, Mapping
from typing import TYPE_CHECKING, Protocol, TypeAlias

from hpo.errors import ObjectiveError
from hpo.mlflow_server import CodeRuns
from hpo.places import tracking_uri
from hpo.templates import placeholders
from hpo.trainers import ConfigError, Report
from hpo.trial import Failure, Job

if TYPE_CHECKING:
    from hpo.spec import ObjectiveSpec, Plan

Steps: TypeAlias = Generator[Report, None, Mapping[str, float] | Failure | None]


class Objective(Protocol):
    """What one trial does."""

    @property
    def data_digest(self) -> str | None:
        """Tells apart what trials are trained on; None where hpo does not load it."""
        ...

    def __call__(self, job: Job) -> Steps:
        """Runs one configuration, step by step."""
        ...

    def drain(self) -> None:
        """Lets what runs leave a checkpoint at its next report, if it writes any.

        It only takes note, so it may be called from a signal handler and from another thread.
        """
        ...

    def stop(self) -> None:
        """Lets what runs end before its next report, if it can; its generator is closed then.

        It only takes note, too, and the next job knows nothing of it.
        """
        ...


def build(plan: Plan, tracking: str | None = None) -> Objective:
    """Makes the objective that a study file names.

    Args:
        plan: The study file.
        tracking: URI of MLflow, or ``"none"``; wins over file and environment.

    Raises:
        ObjectiveError: its function, command or data cannot be loaded.
    """
    objective, run = plan.spec.objective, plan.spec.run
    if run.device not in ("auto", "cpu") and _is_told(objective, "device"):
        _demand_device(run.device)
    if objective.function is not None:
        from hpo.objectives.function import FunctionObjective, find_function

        function = find_function(objective.function, plan.folder)
        return FunctionObjective(
            function, objective.metrics[0], run.device, code_runs(plan, tracking)
        )

    if objective.command is not None:
        from hpo.objectives.command import CommandObjective

        return CommandObjective(plan, code_runs(plan, tracking))
    if objective.estimator is not None:
        from hpo.objectives.estimator import EstimatorObjective

        return EstimatorObjective(plan)
    from hpo.objectives.trainer import TrainerObjective

    assert objective.data is not None  # noqa: S101 - checked with the file
    return TrainerObjective(plan)


def _is_told(objective: ObjectiveSpec, name: str) -> bool:
    """Whether a trial is told of something; a command, which may run elsewhere, by placeholders."""
    return objective.command is None or name in placeholders(objective.command)


def _demand_device(name: str) -> None:
    """Refuses a device that is not there, also for a function which may not ask for it.

    Raises:
        ObjectiveError: this machine has no such device.
    """
    from hpo.trainers.devices import choose  # imports torch

    try:
        choose(name)
    except ConfigError as error:
        raise ObjectiveError(f"run.{error}") from error  # which begins with `device: `


def code_runs(plan: Plan, tracking: str | None = None) -> CodeRuns | None:
    """Where code that logs to MLflow does so; None where tracking is off. See `build`."""
    uri = tracking_uri(tracking or plan.spec.tracking)
    return CodeRuns(uri, plan.spec.name) if uri else None


__all__ = ["Objective", "Steps", "build", "code_runs"]
