"""What is asked of a configuration: how its error falls with data; and what is answered."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpo.catalog import DATA_NEEDS, StudyRecord
from hpo.curves import DataNeeds, Diagnosis, data_needs, diagnose
from hpo.errors import HpoError
from hpo.places import TRAIN_FRACTION
from hpo.requirements import requirement
from hpo.sizing.fits import Fit
from hpo.spec import Direction, Plan
from hpo.study import job_of
from hpo.trial import TrialRecord
from trainers import goals

PERCENT = 100
"""The size of data whose number of examples nobody knows: sizes are per cent of it."""

_OURS = ("trainer", "estimator")


@dataclass(frozen=True)
class Question:
    """Which configuration is to be trained, and what is asked of it.

    Args:
        study: In whose folder everything is kept.
        plan: How it is trained.
        config: The configuration.
        what: Which one it is, for people: ``the baseline``.
        metric: What is measured.
        target: The value to reach; None asks for the curve alone.
        n: All training examples, or `PERCENT` where nobody knows their number.
        is_counted: Whether `n` and sizes are numbers of examples, and not per cent.
        n_classes: Of the target; 0 in regression, and where nobody knows.
        digest: Tells the data from others of its name; may be empty.
    """

    study: StudyRecord
    plan: Plan
    config: Mapping[str, Any]
    what: str
    metric: str
    target: float | None
    n: int
    is_counted: bool = True
    n_classes: int = 0
    digest: str = ""

    @property
    def direction(self) -> Direction:
        """Which way is better."""
        return self.plan.spec.objective.direction_of(self.metric)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Between which values the metric lies, if it is one of ours."""
        return goals.bounds(self.metric) if self.is_ours else None

    @property
    def is_ours(self) -> bool:
        """Whether hpo trains it, and so measures what it likes."""
        return self.plan.spec.objective.kind in _OURS

    @property
    def train_metric(self) -> str | None:
        """The same of the training part; None where there is none."""
        part, _, base = self.metric.partition("_")
        if part != "val":
            return None
        objective = self.plan.spec.objective
        # The trainer's train_loss is of the epoch as it was trained on, with dropout and all.
        of_network = objective.trainer is not None and objective.task == "classification"
        name = "train_log_loss" if base == "loss" and of_network else f"train_{base}"
        return None if self.is_ours and goals.metric(name) is None else name

    @cached_property
    def key(self) -> str:
        """Tells fits that may be put together from others."""
        identity = dict(self.plan.identity["objective"])
        for asked in ("metric", "direction"):
            del identity[asked]
        of = {
            "config": {k: v for k, v in self.config.items() if k != TRAIN_FRACTION},
            "objective": identity,
            "seed": self.plan.spec.search.seed,
            "n": self.n,
            "data": self.digest,
        }
        text = json.dumps(of, sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:10]

    @property
    def directory(self) -> Path:
        """Where its fits are kept."""
        assert self.study.directory is not None  # noqa: S101 - a study with a plan has one
        return self.study.directory / DATA_NEEDS / self.key


@dataclass(frozen=True)
class Answer:
    """What was found.

    Args:
        question: What was asked.
        fits: All that succeeded, those of earlier commands too.
        failures: Those of this command that did not.
        needs: What they tell of sizes.
        diagnosis: What bounds the model; None without a metric of the training part.
        state: finished, when all sizes were measured; budget, when the time was up; interrupted.
        signal: The signal that interrupted it, if one did.
    """

    question: Question
    fits: Sequence[Fit]
    failures: Sequence[Fit]
    needs: DataNeeds | None
    diagnosis: Diagnosis | None
    state: str
    signal: int | None = None

    @property
    def largest(self) -> int:
        """The largest size that was measured."""
        return max(fit.size for fit in self.fits)


def estimate(question: Question, fits: Sequence[Fit]) -> DataNeeds | None:
    """What fits tell of data needs; None of nothing."""
    having = [fit for fit in fits if question.metric in fit.metrics]
    if not having:
        return None
    sizes = [fit.size for fit in having]
    errors = [fit.metrics[question.metric] for fit in having]
    try:
        return data_needs(
            sizes,
            errors,
            question.target,
            direction=question.direction,
            bounds=question.bounds,
        )
    except ValueError as error:
        if len(set(sizes)) > 1:
            raise HpoError(f"{question.metric} by size tells nothing: {error}.") from error
        return None


def diagnosis(question: Question, fits: Sequence[Fit]) -> Diagnosis | None:
    """Bias or variance; None where nothing was measured on the training part."""
    metric, of_train = question.metric, question.train_metric
    having = [f for f in fits if metric in f.metrics and of_train in f.metrics]
    if of_train is None or not having:
        return None
    bounds = question.bounds or (0.0, 1.0)
    return diagnose(
        np.array([fit.size for fit in having]),
        np.array([fit.metrics[of_train] for fit in having]),
        np.array([fit.metrics[metric] for fit in having]),
        question.target,
        best=bounds[1] if question.direction == "maximize" else bounds[0],
        direction=question.direction,
    )


def target_of(plan: Plan, metric: str) -> float | None:
    """What the gate demands of a metric, if it does."""
    parsed = requirement(plan.spec.gate.get(metric, ""))
    better = "<" if plan.spec.objective.direction_of(metric) == "minimize" else ">"
    return parsed[1] if parsed and parsed[0].startswith(better) else None


def refuse_target(metric: str, target: float, bounds: tuple[float, float] | None) -> None:
    """Refuses a target that no model could have.

    Raises:
        HpoError: the metric is never so.
    """
    if math.isfinite(target) and (bounds is None or bounds[0] <= target <= bounds[1]):
        return
    low, high = bounds or (-math.inf, math.inf)
    between = f"between {low:g} and {high:g}" if math.isfinite(low + high) else "a finite number"
    if not math.isfinite(low + high) and math.isfinite(target):
        between = f"at least {low:g}" if math.isfinite(low) else f"at most {high:g}"
    raise HpoError(
        f"{metric} cannot be {target:g}; it is {between}.", "Give another one: --target 0.02"
    )


def refuse_metric(plan: Plan, metric: str) -> None:
    """Refuses a metric that a trainer does not know.

    Raises:
        HpoError: with the names that there are.
    """
    objective = plan.spec.objective
    if objective.trainer is None:
        return
    if problem := goals.problem(metric, objective.task):
        raise HpoError(problem)
    if missing := [s for s in goals.needs([metric]) if getattr(objective, s) is None]:
        raise HpoError(f"'{metric}' needs `objective.{missing[0]}`.")


def ask(
    study: StudyRecord,
    plan: Plan,
    config: Mapping[str, Any],
    what: str,
    *,
    metric: str | None = None,
    target: float | None = None,
    examples: int | None = None,
) -> Question:
    """A question about a configuration, checked.

    Args:
        study: In whose folder everything is kept.
        plan: How it is trained.
        config: The configuration.
        what: Which one it is.
        metric: What is measured; the objective, the first of several, by default.
        target: The value to reach; what the gate demands of the metric by default.
        examples: How many training examples own code has.

    Raises:
        HpoError: the objective has no training subsets, or metric or target make no sense.
    """
    objective = plan.spec.objective
    if not plan.takes_fraction:
        raise HpoError(
            f"the {objective.kind} of '{plan.spec.name}' does not say that it can train on a part "
            "of its data.",
            _HOW[objective.kind or "function"],
        )
    metric = metric or objective.metrics[0]
    refuse_metric(plan, metric)
    n, n_classes, digest = _data_of(plan)
    if n is None:
        n = examples or PERCENT
    elif examples is not None:
        raise HpoError(f"hpo counts the examples itself: {n:,} to train on.", "Drop --examples.")
    question = Question(
        study,
        plan,
        config,
        what,
        metric,
        target_of(plan, metric) if target is None else target,
        n,
        is_counted=bool(digest) or examples is not None,
        n_classes=n_classes,
        digest=digest,
    )
    if question.target is not None:
        refuse_target(metric, question.target, question.bounds)
    return question


_HOW = {
    "function": "Let it train on the share trial.train_fraction of its training examples, and say "
    "so: --set objective.train_fraction=true",
    "command": "Let it train on such a share of its training examples, and say where it is told: "
    "--fraction {train_fraction}",
}


def sizes_of(text: str, question: Question) -> list[int]:
    """Sizes as they are typed: ``100,1000,50%``.

    Raises:
        ValueError: it is not of that form.
        HpoError: there are not so many examples.
    """
    sizes = []
    for part in (part.strip() for part in text.split(",")):
        share = part.endswith("%")
        number = float(part.rstrip("%").replace("_", ""))
        sizes.append(round(number * question.n / 100) if share else int(number))
        if not share and number != int(number):
            raise ValueError(f"{part} is no whole number")
    if wrong := [size for size in sizes if not 2 <= size <= question.n]:
        raise HpoError(
            f"--sizes: {wrong[0]:,} is not between 2 and the {question.n:,} training examples.",
            "Shares are written so: --sizes 25%,50%,100%",
        )
    return sizes


def baseline_of(plan: Plan) -> dict[str, Any]:
    """The configuration of a file's baseline, or its only one.

    Raises:
        HpoError: there is no baseline, and more than one configuration.
    """
    if plan.baseline is not None:
        return plan.config(plan.baseline)
    if not plan.space.free:
        return plan.config({})
    defaults = " (the trainer's defaults)" if plan.spec.objective.trainer else ""
    raise HpoError(
        f"'{plan.spec.name}' has no baseline, and data needs are those of one configuration.",
        f"Give it one, such as --set 'baseline={{}}'{defaults}, or search first: "
        f"hpo run FILE, then hpo data-needs {plan.spec.name}",
    )


def config_of(study: StudyRecord, trial: TrialRecord) -> dict[str, Any]:
    """The configuration of a trial."""
    return dict(job_of(study, trial).config)


def _data_of(plan: Plan) -> tuple[int | None, int, str]:
    """Training examples, classes and digest of data that is ours; of other data nothing."""
    kind = plan.spec.objective.kind
    if kind == "trainer":
        from hpo.objectives.trainer import folds_of

        folds = folds_of(plan)
    elif kind == "estimator":
        from hpo.objectives.estimator import EstimatorObjective

        folds = EstimatorObjective(plan).folds
    else:
        return None, 0, ""
    return min(len(data.train) for data in folds), len(folds[0].classes), folds[0].digest
