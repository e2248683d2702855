"""What is asked of a configuration: how its error falls with data; and what is answered."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from hpo import directions
from hpo.catalog import DATA_NEEDS, StudyRecord
from hpo.curves import DataNeeds, Diagnosis, data_needs, diagnose
from hpo.curves.measurements import guessed_bounds, natural_best
from hpo.curves.scales import PER_CENT, SHARE, confirmed, meant, within
from hpo.directions import Direction
from hpo.errors import HpoError
from hpo.places import TRAIN_FRACTION
from hpo.sizing.fits import Fit
from hpo.spec import Plan
from hpo.trainers import goals

PERCENT = 100
"""The size of data whose number of examples nobody knows: sizes are per cent of it."""

OURS = ("trainer", "estimator")


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
        stated_bounds: Lowest and highest value of the metric, as somebody has said.
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
    stated_bounds: tuple[float, float] | None = None

    @property
    def direction(self) -> Direction:
        """Which way is better."""
        return self.plan.spec.objective.direction_of(self.metric)

    @property
    def bounds(self) -> tuple[float, float] | None:
        """Between which values the metric lies, where somebody has said its best, or it is ours."""
        if self.is_ours or self.stated_bounds is None:
            return goals.bounds(self.metric) if self.is_ours else None
        best = self.stated_bounds[1] if self.direction == "maximize" else self.stated_bounds[0]
        return self.stated_bounds if math.isfinite(best) else None

    def bounds_of(self, values: Sequence[float]) -> tuple[float, float] | None:
        """Bounds as values confirm them: own code's `val_accuracy` may be in per cent."""
        if self.bounds or self.stated_bounds is not None:
            return self.bounds
        named = directions.bounds(self.metric)
        measured = confirmed(named, values)
        if self.target is None or measured is None or self.direction == "minimize":
            return measured
        # Scores below 1 may be per cent as well, where the target tells; errors that are have
        # reached such a target.
        return confirmed(named, [*values, self.target]) or measured

    def meant(self, values: Sequence[float]) -> float | None:
        """What may be meant by a target of own code's share that is in per cent, or of the reverse.

        Args:
            values: What was measured of the metric.
        """
        if self.target is None or self.is_ours or self.stated_bounds is not None:
            return None
        measured = confirmed(directions.bounds(self.metric), values)
        if measured is None:
            return meant(self.target, values, self.direction)
        if measured == PER_CENT and 0 < self.target <= 1:
            return 100 * self.target
        return self.target / 100 if measured == SHARE and 1 < self.target <= PER_CENT[1] else None

    def place(self, size: float) -> str:
        """A size in words: ``n = 1,077``, or ``40% of the data``."""
        return f"n = {size:,.0f}" if self.is_counted else f"{size:,.0f}% of the data"

    @property
    def is_ours(self) -> bool:
        """Whether hpo trains the model, and so measures what it likes."""
        return self.plan.spec.objective.kind in OURS

    @property
    def train_metric(self) -> str | None:
        """The metric's counterpart on the training part; None where there is none."""
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
        """Where the fits are kept."""
        assert self.study.directory is not None  # noqa: S101 - a study with a plan has one
        return self.study.directory / DATA_NEEDS / self.key


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
    step = "Give another one: --target 0.02"
    if bounds == SHARE and 1 < target <= PER_CENT[1]:
        step = f"Give a share: --target {target / 100:g}; of own code in per cent: --bounds 0 100"
    raise HpoError(f"{metric} cannot be {target:g}; it is {between}.", step)


def _refuse_outside(question: Question, fits: Sequence[Fit]) -> None:
    """Refuses bounds that somebody has stated and a fit has shown to be others.

    Raises:
        HpoError: with the fit's value.
    """
    if question.stated_bounds is None or not fits:
        return
    low, high = question.stated_bounds
    step = (
        f"They are the lowest and the highest value that {question.metric} can have: state others."
    )
    for fit in fits:
        value = fit.metrics[question.metric]
        if value < low if question.direction == "maximize" else value > high:
            endless = f"-inf {high:g}" if question.direction == "maximize" else f"{low:g} inf"
            step += f" Without a worst value: --bounds {endless}"
        if not low <= within(np.array(value), (low, high)) <= high:
            raise HpoError(
                f"{question.metric} is {value:.4g} at {question.place(fit.size)}, outside its "
                f"bounds {low:g} to {high:g}.",
                step,
            )


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
    def is_unclear(self) -> bool:
        """Whether a target was named, and cannot be told of."""
        asked = self.question.target is not None
        return asked and (self.needs is None or self.needs.verdict == "unclear")

    @property
    def meant(self) -> float | None:
        """What may be meant by a target in another unit than what was measured."""
        return self.question.meant([fit.metrics[self.question.metric] for fit in self.fits])

    @property
    def largest(self) -> int:
        """The largest size that was measured."""
        return max(fit.size for fit in self.fits)

    @property
    def has_one_seed(self) -> bool:
        """Whether each size was measured once, so that nothing shows how much seeds differ."""
        return len({fit.size for fit in self.fits}) == len(self.fits)

    @property
    def failed_sizes(self) -> list[int]:
        """The sizes at which every fit failed, rising."""
        return sorted({fit.size for fit in self.failures} - {fit.size for fit in self.fits})

    @property
    def next_size(self) -> int | None:
        """Where to train next; None where such a size is known to fail, or nothing is measured."""
        if self.needs is None:
            return None
        failed = [size for size in self.failed_sizes if size > self.largest]
        return None if failed and self.needs.next_size >= failed[0] else self.needs.next_size


def estimate(question: Question, fits: Sequence[Fit]) -> DataNeeds | None:
    """What fits tell of data needs; None of fewer than two sizes, which tell nothing.

    Raises:
        HpoError: the metric can never be the target, is outside its bounds, or makes no curve.
    """
    _refuse_outside(question, fits)
    sizes, seeds = sorted({fit.size for fit in fits}), sorted({fit.seed for fit in fits})
    if len(sizes) < 2:
        return None
    errors = np.full((len(sizes), len(seeds)), np.nan)
    for fit in fits:
        errors[sizes.index(fit.size), seeds.index(fit.seed)] = fit.metrics[question.metric]
    known = errors[~np.isnan(errors)]
    bounds = question.bounds_of(known)
    if question.target is not None:
        refuse_target(question.metric, question.target, bounds)
    # Guessed here, since a score that is below 1 by now may rise beyond: its target is doubted.
    bounds = bounds or guessed_bounds(known, question.target, question.direction)
    try:
        needs = data_needs(
            sizes, errors, question.target, direction=question.direction, bounds=bounds
        )
    except ValueError as error:
        raise HpoError(f"{question.metric} by size tells nothing: {error}.") from error
    return replace(needs, meant=question.meant(known.tolist()))


def diagnosis(question: Question, fits: Sequence[Fit], needs: DataNeeds | None) -> Diagnosis | None:
    """Bias or variance, with advice that fits the verdict on sizes.

    None where nothing was measured on the training part, or nobody knows how good is good.
    """
    metric, of_train = question.metric, question.train_metric
    having = [fit for fit in fits if of_train in fit.metrics]
    if of_train is None or not having:
        return None
    best = _best_possible(
        question, [fit.metrics[name] for fit in having for name in (metric, of_train)]
    )
    if best is None and question.target is None:
        return None
    found = diagnose(
        np.array([fit.size for fit in having]),
        np.array([fit.metrics[of_train] for fit in having]),
        np.array([fit.metrics[metric] for fit in having]),
        question.target,
        best=best,
        direction=question.direction,
    )
    doubt = question.meant([fit.metrics[metric] for fit in having])
    verdict = None if needs is None or question.target is None else needs.verdict
    return replace(found, meant=doubt, verdict=verdict)


def _best_possible(question: Question, values: Sequence[float]) -> float | None:
    """The best value that the metric can have; None where nobody knows."""
    bounds = question.bounds_of(values)
    if bounds is None:
        return natural_best(np.array(values), question.target, question.direction)
    best = bounds[1] if question.direction == "maximize" else bounds[0]
    return best if math.isfinite(best) else None
