"""What a fit has in hand: network, optimizer, schedule, and how far it has come."""

from __future__ import annotations

import dataclasses
import logging
import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import torch

from hpo.trainers import goals as goals_
from hpo.trainers import metrics, models
from hpo.trainers.code_files import digests
from hpo.trainers.config import TrainerConfig
from hpo.trainers.data.parts import Data, Part
from hpo.trainers.data.subsets import cut
from hpo.trainers.devices import deterministic, settled
from hpo.trainers.errors import ConfigError, Problem
from hpo.trainers.fields import is_code
from hpo.trainers.goals import Goals
from hpo.trainers.losses import balanced
from hpo.trainers.optimizers import set_learning_rate, set_momentum
from hpo.trainers.randomness import Randomness
from hpo.trainers.report import Report
from hpo.trainers.schedules import Schedule
from hpo.trainers.second_order import NEWTON_MAX_PARAMETERS
from hpo.trainers.steps import Stepper

_log = logging.getLogger(__name__)

_EVALUATED_AT_ONCE = 4096
_EVALUATED_ON_CPU = 512, 2**17  # examples, and numbers in them: what its cache holds


class Training:
    """One fit between two epochs.

    Args:
        config: What to train.
        data: On its device.
        seed: Decides all that is random.
        device: The device.
        goals: What to report, and what `patience` watches.
        folder: Where a model of the user's own is looked for.

    Attributes:
        model: The network.
        reports: All reports so far.

    Raises:
        ConfigError: the network cannot be trained as asked.
    """

    def __init__(
        self,
        config: TrainerConfig,
        data: Data,
        seed: int,
        device: torch.device,
        goals: Goals,
        folder: Path,
    ) -> None:
        self._config, self._goals, self._seed = config, goals, seed
        self._whole, self._data = data, cut(data, config.train_fraction, seed)
        self._device = device
        self._randomness = Randomness(seed, device, borrows=is_code(config.model))
        generator = self._randomness.generator
        self.model = models.build(config, data.shape, data.n_outputs, generator, folder)
        if is_code(config.model):
            models.try_out(config, self.model, self._data.sample(2), data.n_outputs, seed)
        self._code = dict(digests(config.model, folder)) if is_code(config.model) else {}
        _refuse_newton(config, metrics.n_parameters(self.model))
        weights = _class_weights(config, self._data, device)
        config = settled(config, device, len(self._data.train), self._operations)
        self._stepper = Stepper(config, self.model, data.task, self._randomness, device, weights)
        self._sizes = batch_sizes(config, len(self._data.train))
        self._schedule = Schedule.of(vars(config), steps_per_epoch=len(self._sizes))
        self.reports: list[Report] = []
        self._best: tuple[int, dict[str, torch.Tensor]] | None = None
        self._of_model: dict[str, float] = {}

    def _operations(self) -> float:
        return models.operations(self.model, self._data.sample(2), self._seed)

    @property
    def epochs(self) -> int:
        """How many epochs there are to be."""
        return self._config.epochs

    @property
    def data_digest(self) -> str:
        """What tells this fit's data from others; a share of the training part is of the same."""
        return self._whole.digest

    @property
    def wall_seconds(self) -> float:
        """What the reports so far have taken."""
        return self.reports[-1].wall_seconds if self.reports else 0.0

    @contextmanager
    def turn(self) -> Iterator[None]:
        """A context in which torch's global settings are this fit's own."""
        with self._randomness.turn(), deterministic(self._config.deterministic):
            yield

    def epoch(self, epoch: int) -> torch.Tensor:
        """Trains one epoch, from 1, and gives the mean loss of its examples as they were seen."""
        self.model.train()
        stepper, schedule, train = self._stepper, self._schedule, self._data.train
        if self._config.full_batch:
            return stepper.step_on_all(train)
        # The sum stays on the device: no waiting within the epoch.
        total = torch.zeros((), device=self._device)
        batches = train.batches(self._sizes, self._randomness.generator)
        for k, (x, y) in enumerate(batches, start=(epoch - 1) * len(self._sizes)):
            set_learning_rate(stepper.optimizer, schedule.learning_rate(k))
            set_momentum(stepper.optimizer, schedule.momentum(k))
            total.add_(stepper.step(x, y), alpha=len(y))
        return total / len(train)

    def evaluate(self) -> dict[str, float]:
        """The metrics of the weights as they are."""
        names = self._goals.reported(self._data.task)
        values = self._judged("val", names, self._data.val, self._goals)
        if not self._of_model:
            self._of_model = self._measure([name for name in names if name in goals_.OF_MODEL])
        return {**values, **self._of_model}

    def _judged(
        self, part: str, names: Iterable[str], examples: Part, goals: Goals
    ) -> dict[str, float]:
        """The metrics of one part of the data."""
        outputs, targets = self._predicted(examples)
        of_part = [name for name in names if name.startswith(f"{part}_")]
        values = metrics.evaluate(of_part, outputs, targets, self._data, goals, part)
        # An area that lacks a class is nothing to report.
        return {k: v for k, v in values.items() if k == f"{part}_loss" or not math.isnan(v)}

    def _predicted(self, examples: Part) -> tuple[torch.Tensor, torch.Tensor]:
        self.model.eval()
        at_once = self._stepper.at_once or self._evaluated_at_once
        return metrics.predict(self._stepper.forward, examples, at_once)

    @property
    def _evaluated_at_once(self) -> int:
        if self._device.type != "cpu":
            return _EVALUATED_AT_ONCE
        examples, numbers = _EVALUATED_ON_CPU
        return max(min(examples, numbers // math.prod(self._data.shape)), self._config.batch_size)

    def note(self, report: Report) -> None:
        """Takes an epoch's report to heart."""
        self.reports.append(report)
        if self._config.patience is not None and self._best_epoch() == report.step:
            weights = {name: w.clone() for name, w in self.model.state_dict().items()}
            self._best = report.step, weights

    @property
    def out_of_patience(self) -> bool:
        """Whether too many epochs have passed without a better one."""
        patience = self._config.patience
        if patience is None or not self.reports:
            return False
        return self.reports[-1].step - self._best_epoch() >= patience

    def finish(self) -> dict[str, float]:
        """Restores the best weights, if they were watched; gives the metrics of those it leaves.

        Those of the training part are told here alone: they cost as much as a third of an epoch.
        """
        epoch = self.reports[-1].step
        if self._best is not None:
            epoch, weights = self._best
            self.model.load_state_dict(weights)
        values = dict(self.reports[epoch - 1].metrics)
        if of_train := self._goals.at_end:
            with self.turn():
                goals = self._goals_of_train(of_train)
                values |= self._judged("train", of_train, self._data.train, goals)
        return values

    def _goals_of_train(self, names: Iterable[str]) -> Goals:
        """The goals by which the training part is judged: validation decides what is answered."""
        if not goals_.by_threshold(names):
            return self._goals
        predicted = self._predicted(self._data.val)
        return self._goals.answering_from(metrics.threshold(*predicted, self._data, self._goals))

    def state(self) -> dict[str, Any]:
        """All that decides what comes next; tensors, numbers, text, lists and dicts."""
        return {
            "of": self._of(),
            "model": self.model.state_dict(),
            "optimizer": self._stepper.optimizer.state_dict(),
            "scaler": self._stepper.scaler.state_dict(),
            "randomness": self._randomness.state(),
            "best": self._best,
            "at_once": self._stepper.at_once,
            "of_model": self._of_model,
            "code": self._code,
            "reports": [[r.step, dict(r.metrics), r.wall_seconds] for r in self.reports],
        }

    def go_on_from(self, state: dict[str, Any] | None) -> None:
        """Goes on from a `state`; from none, and from another fit's, starts at the beginning."""
        if state is None:
            return
        if state["of"] != self._of():
            _log.warning("a checkpoint is of another configuration, model or data; starting again")
            return
        before = state.get("code", {})  # which states of an earlier day lack
        changed = {k: now for k, now in self._code.items() if before.get(k, now) != now}
        if changed:
            _warn_of_other_code(*sorted(changed.items()))
        self.model.load_state_dict(state["model"])
        self._stepper.optimizer.load_state_dict(state["optimizer"])
        self._stepper.scaler.load_state_dict(state["scaler"])
        self._randomness.set_state(state["randomness"])
        self._best = state["best"]
        self._stepper.at_once = state["at_once"]
        self._of_model = state["of_model"]
        self.reports = [Report(*each) for each in state["reports"]]

    def _of(self) -> dict[str, Any]:
        """What must be the same for a state to be this fit's."""
        config = dataclasses.asdict(self._config)
        config["own"] = dict(self._config.own)
        names = list(self._goals.reported(self._data.task))
        # Lists, as a file gives back what it was given only of these.
        config = {k: list(v) if isinstance(v, tuple) else v for k, v in config.items()}
        shapes = {name: list(w.shape) for name, w in self.model.state_dict().items()}
        return {
            "config": config,
            "seed": self._seed,
            "data": self.data_digest,
            "metrics": names,
            "shapes": shapes,
        }

    def _measure(self, names: list[str]) -> dict[str, float]:
        measures = {
            "latency_ms": lambda: metrics.latency_ms(self._stepper.forward, self._data.sample(1)),
            "n_parameters": lambda: float(metrics.n_parameters(self.model)),
            "model_bytes": lambda: float(metrics.model_bytes(self.model, self.data_digest)),
        }
        return {name: measures[name]() for name in names}

    def _best_epoch(self) -> int:
        """The first of the epochs with the best value of what is watched."""
        name = self._goals.watched
        known = goals_.metric(name)
        sign = -1.0 if known is not None and known.direction == "maximize" else 1.0
        worst = sign * math.inf
        return min(self.reports, key=lambda report: sign * report.metrics.get(name, worst)).step


@cache
def _warn_of_other_code(*changed: tuple[str, str]) -> None:
    """Warns once of the same changes: all folds and trials that go on have the same to say.

    Args:
        changed: Files, with the digests of what they are now.
    """
    _log.warning(
        "a checkpoint is of other code: %s has changed since. The trial goes on with the code as "
        "it is now, and what it learned before; to begin anew, run the study under another name",
        " and ".join(name for name, _ in changed),
    )


def batch_sizes(config: TrainerConfig, n: int) -> list[int]:
    """The sizes of an epoch's minibatches, which together are n examples.

    The last may be smaller. Only batch norm cannot train on a last one of 1, which has no
    deviation: there it joins the one before.
    """
    if config.full_batch:
        return [n]
    whole, rest = divmod(n, config.batch_size)
    sizes = [config.batch_size] * whole + [rest] * (rest > 0)
    own = is_code(config.model)  # whose layers nobody knows
    if (own or config.has_batch_norm) and len(sizes) > 1 and sizes[-1] == 1:
        sizes[-2:] = [config.batch_size + 1]
    return sizes


def _class_weights(config: TrainerConfig, data: Data, device: torch.device) -> torch.Tensor | None:
    if config.class_weight == "none" or data.task == "regression":
        return None
    return balanced(data.train.targets, data.n_outputs).to(device)


def _refuse_newton(config: TrainerConfig, n_parameters: int) -> None:
    if config.optimizer == "newton" and n_parameters > NEWTON_MAX_PARAMETERS:
        sentence = (
            f"newton is for small networks, of at most {NEWTON_MAX_PARAMETERS:,} parameters; this "
            f"one has {n_parameters:,}. Take lbfgs, or a smaller network."
        )
        raise ConfigError([Problem(("optimizer",), sentence)])
