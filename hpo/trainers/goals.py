"""What a model can be judged by: the names of all metrics, and which way is better.

A metric of the data's parts has the part's name in front: `val_error`, `test_error`; `train_error`,
of the training part, is known at the end of a fit. Others, such as `latency_ms`, belong to the
model. `hpo.trainers.metrics` computes them; this module imports nothing.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Literal, TypeAlias

from hpo.trainers.errors import did_you_mean

Task: TypeAlias = Literal["classification", "regression"]
Direction: TypeAlias = Literal["minimize", "maximize"]

_F_BETA = re.compile(r"f(\d+(?:\.\d+)?)")


@dataclass(frozen=True)
class Metric:
    """One way of judging a model.

    Args:
        direction: Which way is better.
        why: What it is.
        task: The only one it has a meaning in; None for both.
        bounds: The lowest and the highest value that it can have.
    """

    direction: Direction
    why: str
    task: Task | None = None
    bounds: tuple[float, float] = (-math.inf, math.inf)


_C: Task = "classification"
_R: Task = "regression"
_SHARE = 0.0, 1.0
_POSITIVE = 0.0, math.inf

OF_PART: Mapping[str, Metric] = MappingProxyType(
    {
        "loss": Metric(
            "minimize",
            "what training minimises, without penalties: the mean cross entropy, or "
            "the mean squared error of the standardised target",
            bounds=_POSITIVE,
        ),
        "error": Metric(
            "minimize",
            "the share of wrong answers",
            _C,
            bounds=_SHARE,
        ),
        "accuracy": Metric(
            "maximize",
            "the share of right answers",
            _C,
            bounds=_SHARE,
        ),
        "balanced_accuracy": Metric(
            "maximize",
            "the mean of each class's recall",
            _C,
            bounds=_SHARE,
        ),
        "precision": Metric(
            "maximize",
            "of the answers that name a class, the share that is right",
            _C,
            bounds=_SHARE,
        ),
        "recall": Metric(
            "maximize",
            "of a class's examples, the share that is found",
            _C,
            bounds=_SHARE,
        ),
        "f1": Metric(
            "maximize",
            "the harmonic mean of precision and recall; f2 and f0.5 weigh recall "
            "twice and half as much",
            _C,
            bounds=_SHARE,
        ),
        "pr_auc": Metric(
            "maximize",
            "the area under the curve of precision over recall, as the average precision",
            _C,
            bounds=_SHARE,
        ),
        "roc_auc": Metric(
            "maximize",
            "the chance that an example of the class has a higher score than another",
            _C,
            bounds=_SHARE,
        ),
        "log_loss": Metric(
            "minimize",
            "the mean of -log p of the right class",
            _C,
            bounds=_POSITIVE,
        ),
        "cost": Metric(
            "minimize",
            "the mean cost of the answers, by `costs`",
            _C,
        ),
        "coverage": Metric(
            "maximize",
            "the share of examples that can be answered at the `required_accuracy`",
            _C,
            bounds=_SHARE,
        ),
        "accuracy_answered": Metric(
            "maximize",
            "the share of right ones among the answers that are sure enough for the "
            "`required_accuracy`",
            _C,
            bounds=_SHARE,
        ),
        "rmse": Metric(
            "minimize",
            "the root of the mean squared error, in the target's unit",
            _R,
            bounds=_POSITIVE,
        ),
        "mae": Metric(
            "minimize",
            "the mean absolute error, in the target's unit",
            _R,
            bounds=_POSITIVE,
        ),
        "r2": Metric(
            "maximize",
            "the share of the target's variance that is explained",
            _R,
            bounds=(-math.inf, 1.0),
        ),
    }
)
"""Metrics of a part of the data, by the name that follows the part's."""

OF_MODEL: Mapping[str, Metric] = MappingProxyType(
    {
        "latency_ms": Metric("minimize", "the milliseconds that one example takes by itself"),
        "n_parameters": Metric("minimize", "the numbers that training can change"),
        "model_bytes": Metric("minimize", "the size of the weights on disk"),
    }
)
"""Metrics of the model alone."""

BY_THRESHOLD = ("coverage", "accuracy_answered")
"""Metrics of a part of the data that depend on which answers are given at all."""

ALWAYS: Mapping[Task, tuple[str, ...]] = MappingProxyType(
    {
        "classification": ("train_loss", "val_loss", "val_error", "val_accuracy"),
        "regression": ("train_loss", "val_loss", "val_rmse", "val_mae", "val_r2"),
    }
)
"""What is reported whether asked for or not."""


def metric(name: str) -> Metric | None:
    """The metric of that name, such as `val_f0.5`; None where there is none."""
    if name == "train_loss":
        return OF_PART["loss"]
    part, _, base = name.partition("_")
    if part in ("val", "train"):
        return OF_PART["f1"] if beta(base) is not None else OF_PART.get(base)
    return OF_MODEL.get(name)


def bounds(name: str) -> tuple[float, float] | None:
    """The lowest and the highest value of a metric, with or without its part; None if unknown."""
    found = metric(name) or OF_PART.get(name.removeprefix("test_"))
    return None if found is None or found.bounds == (-math.inf, math.inf) else found.bounds


def beta(base: str) -> float | None:
    """The beta of `f0.5`; None where `base` names no F score."""
    match = _F_BETA.fullmatch(base)
    return float(match[1]) if match and float(match[1]) > 0 else None


def names(task: Task) -> tuple[str, ...]:
    """All metrics that have a meaning in a task, those reported always first."""
    of_part = (f"val_{base}" for base, each in OF_PART.items() if each.task in (None, task))
    return tuple(dict.fromkeys((*ALWAYS[task], *of_part, *OF_MODEL)))


def problem(name: str, task: Task) -> str | None:
    """The sentence that says why `name` cannot be reported; None where it can."""
    found = metric(name)
    if found is None:
        return f"unknown metric {name!r}. {did_you_mean(name, names(task))}"
    if found.task not in (None, task):
        return f"{name!r} has no meaning in {task}. Known: {', '.join(names(task))}."
    return None


@dataclass(frozen=True)
class Goals:
    """What a fit reports, and what it watches.

    Args:
        names: Metrics to report besides `ALWAYS`; those already in it may be among them.
        watched: The metric by which `patience` tells the best epoch.
        costs: (n_classes, n_classes), the cost of each answer (columns) for each truth (rows).
        required_accuracy: What `val_coverage` demands of the answers that are given.
        positive: The class that precision, recall, F, and the areas are about where there are
            two; None is the last. With more classes they are means over all classes.
        threshold: The confidence from which answers are given; None takes the least that is enough
            for the `required_accuracy` on the very examples that are judged.
    """

    names: tuple[str, ...] = ()
    watched: str = "val_loss"
    costs: tuple[tuple[float, ...], ...] | None = None
    required_accuracy: float | None = None
    positive: str | None = None
    threshold: float | None = None

    def reported(self, task: Task) -> tuple[str, ...]:
        """All metrics of a report."""
        return tuple(dict.fromkeys((*ALWAYS[task], *self.names, self.watched)))

    def tested(self, task: Task) -> tuple[str, ...]:
        """The metrics of a report that the test part has, too, as those of validation.

        Beside a coverage stands how accurate the answers were, perhaps less than is required.
        """
        of_val = [name for name in self.reported(task) if name.startswith("val_")]
        return tuple(dict.fromkeys(of_val + ["val_accuracy_answered"] * ("val_coverage" in of_val)))

    def answering_from(self, threshold: float) -> Goals:
        """The same, but that answers are given from this confidence on."""
        return replace(self, threshold=threshold)

    @property
    def at_end(self) -> tuple[str, ...]:
        """Metrics of the training part that a fit reports once, of the weights it ends with."""
        of_train = (name for name in self.names if name.startswith("train_"))
        return tuple(name for name in of_train if name != "train_loss")


def by_threshold(names: Iterable[str]) -> bool:
    """Whether some of these metrics depend on which answers are given at all."""
    return any(name.partition("_")[2] in BY_THRESHOLD for name in names)


def needs(names: Iterable[str]) -> Sequence[str]:
    """The settings without which some of these metrics cannot be computed."""
    bases = {name.partition("_")[2] for name in names}
    settings = {"cost": "costs", **dict.fromkeys(BY_THRESHOLD, "required_accuracy")}
    return [*dict.fromkeys(setting for base, setting in settings.items() if base in bases)]
