"""The built-in trainers as an objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from hpo.errors import ObjectiveError
from hpo.objectives import Steps
from hpo.places import CHECKPOINTS
from hpo.spec import Plan, source_of
from hpo.spec.objective import extremes
from hpo.trainers import CodeError, ConfigError, DataError, Goals, code
from hpo.trainers.checkpoints import Checkpoints
from hpo.trainers.config import TrainerConfig
from hpo.trainers.data import load_data
from hpo.trainers.data.parts import Data
from hpo.trainers.devices import choose
from hpo.trainers.fields import is_code
from hpo.trainers.loop import begin, fit, fit_folds
from hpo.trainers.metrics import problems
from hpo.trial import Failure, Job


class TrainerObjective:
    """Trains a network; all trials of a study share one split of the data.

    Args:
        plan: The study: its data, split by the study's seed so that trials are compared on the
            same examples; the metrics it asks for; device, threads and checkpoints.

    Attributes:
        goals: What trials are to report.
        folds: The data on the device, as `folds_of` loads it.

    Raises:
        ObjectiveError: the data or the device is not there.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan, self._run = plan, plan.spec.run
        self._draining = False
        self.goals = goals_of(plan)
        torch.set_num_threads(self._run.threads)
        objective = plan.spec.objective
        for name in _own_models(plan):
            _find(name, plan.folder)
        try:
            self._device = choose(self._run.device)
            self.folds = [data.to(self._device) for data in folds_of(plan)]
            found = list(problems(self.goals, self.folds[0]))
        except ConfigError as error:
            what = f"cannot load '{objective.data}' on '{self._run.device}'"
            raise ObjectiveError(f"{what}: {error}") from error
        if found:
            raise ObjectiveError("\n".join(f"objective.{problem}" for problem in found))

    def __call__(self, job: Job) -> Steps:
        """Yields one report per epoch and returns the metrics of the weights it ends with."""
        config, checkpoints = self.configured(job.config), self._checkpoints(job)
        folds = self.folds_for(config.get("model"))
        if len(folds) == 1:
            return fit(config, folds[0], checkpoints=checkpoints, **self._settings(job.seed))
        return fit_folds(config, folds, checkpoints=checkpoints, **self._settings(job.seed))

    def refusal(self, config: Mapping[str, Any]) -> Failure | None:
        """Why a trial of this configuration cannot begin, if it cannot; nothing is trained."""
        try:
            config = self.configured(config)
            for data in self.folds_for(config.get("model")):
                begin(config, data, **self._settings(0))
        except Exception as error:  # whatever a model of the user's own raises, or torch
            return Failure.of(error)
        return None

    def _settings(self, seed: int) -> dict[str, Any]:
        device, folder = self._run.device, self._plan.folder
        return {"seed": seed, "device": device, "goals": self.goals, "folder": folder}

    def folds_for(self, model: object) -> Sequence[Data]:
        """The folds as a model takes them: those that are built in calculate with features."""
        if is_code(model) or self.folds[0].dtype.is_floating_point:
            return self.folds
        return self._in_floats

    @cached_property
    def _in_floats(self) -> Sequence[Data]:
        return [data.to(self._device) for data in _loaded(self._plan, integers=False)]

    def configured(self, config: Mapping[str, Any]) -> dict[str, Any]:
        """A configuration whose default batch is no larger than the data."""
        least = min(len(data.train) for data in self.folds)
        return {"batch_size": min(TrainerConfig.batch_size, least), **config}

    @property
    def data_digest(self) -> str:
        """See `Data.digest`."""
        return self.folds[0].digest

    def drain(self) -> None:
        """Makes a checkpoint due at the end of the running epoch."""
        self._draining = True

    def stop(self) -> None:
        """Does nothing: training ends at the end of its epoch."""

    def _checkpoints(self, job: Job) -> Checkpoints:
        every = self._run.checkpoint_every
        epochs = every if isinstance(every, int) else None
        return Checkpoints(
            job.directory / CHECKPOINTS,
            every_epochs=epochs,
            every_seconds=None if epochs else every,
            keep_weights=self._run.keep_weights != "none",
            demanded=lambda: self._draining,
        )


def folds_of(plan: Plan) -> Sequence[Data]:
    """The data of a trainer's study, on the CPU, fold by fold; loaded once in a process.

    Integers stay such where a network may be the user's own.

    Raises:
        ObjectiveError: it is not there, or not as it should be.
    """
    return _loaded(plan, integers=bool(_own_models(plan)))


def _own_models(plan: Plan) -> list[str]:
    """The functions of the user's own that make networks of the study."""
    model = plan.space.by_name.get("model")
    return [] if model is None else list(filter(is_code, extremes(model.domain)))


def _find(name: str, folder: Path) -> None:
    """Imports a function of the user's own.

    Raises:
        ObjectiveError: it is not there.
    """
    try:
        code.find(name, folder)
    except CodeError as error:
        raise ObjectiveError(error.message, error.next_step) from error


def _loaded(plan: Plan, *, integers: bool) -> Sequence[Data]:
    objective = plan.spec.objective
    source = source_of(objective, plan.folder, integers=integers)
    try:
        return load_data(source, plan.spec.search.seed)
    except DataError as error:
        raise ObjectiveError(f"cannot load '{objective.data}': {error}") from error
    except CodeError as error:
        raise ObjectiveError(error.message, error.next_step) from error


def goals_of(plan: Plan) -> Goals:
    """What the trainer is to report: all metrics that the study names."""
    spec, objective = plan.spec, plan.spec.objective
    named = (*objective.metrics, *objective.report, *spec.constraints, *spec.gate)
    of_val = (metric for metric in objective.metrics if metric.startswith("val_"))
    costs = objective.costs
    return Goals(
        names=tuple(dict.fromkeys(named)),
        watched=next(of_val, "val_loss"),
        costs=None if costs is None else tuple(map(tuple, costs)),
        required_accuracy=objective.required_accuracy,
        positive=None if objective.positive is None else str(objective.positive),
    )
