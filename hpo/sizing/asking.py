"""From what is typed to a question: which configuration, what is measured, what is wanted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import numpy as np

from hpo import catalog, spec
from hpo.catalog import StudyRecord
from hpo.errors import HpoError
from hpo.jobs import job_of
from hpo.places import storage_url
from hpo.requirements import requirement
from hpo.sizing.question import OURS, PERCENT, Question, refuse_target
from hpo.spec import Plan
from hpo.storage import open_storage
from hpo.trainers import goals

_SIZE, _SHARE = re.compile(r"\d[\d_]*"), re.compile(r"\d+(\.\d*)?%")
_FEWEST = 3  # examples that can be divided into parts of growing size
_OF_A_STUDY = ("run.", "objective.train_fraction=")  # what may be set: it changes no trial


@dataclass(frozen=True)
class Subject:
    """A configuration whose data needs are asked.

    Args:
        study: In whose folder everything is kept.
        plan: How it is trained.
        config: The configuration.
        what: Which one it is, for people: ``the baseline``.
    """

    study: StudyRecord
    plan: Plan
    config: dict[str, Any]
    what: str


def subject_of(
    name: str,
    overrides: Sequence[str] = (),
    *,
    trial: int | None = None,
    storage: str | None = None,
) -> Subject:
    """What is meant by a study file, its baseline, or by a study, its best trial.

    The study of a file is made where there is none yet, without trials.

    Args:
        name: A file, or a study.
        overrides: ``a.b=value`` strings that win over the file; of a study, ``run.*`` alone.
        trial: Of a study, another one than the best.
        storage: URL of the storage; wins over file and environment.

    Raises:
        HpoError: there is no such thing, or no such configuration in it.
    """
    path = Path(name)
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        plan = spec.load(path, overrides)
        refuse_objective(plan)
        config = baseline_of(plan, path, overrides)
        record = catalog.beside(open_storage(storage_url(storage or plan.spec.storage)), plan)
        if trial is None:
            which = "the only configuration" if plan.baseline is None else "the baseline"
            return Subject(record, plan, config, which)
        return _of_trial(record, plan, trial)
    if wrong := [each for each in overrides if not each.startswith(_OF_A_STUDY)]:
        raise HpoError(
            f"--set {wrong[0]}: of a study, run.* alone may be set.",
            "Change its file, and name that.",
        )
    record = catalog.find(open_storage(storage_url(storage), create=False), name)
    plan = record.plan.overridden(overrides)
    refuse_objective(plan)
    return _of_trial(record, plan, trial)


def _of_trial(record: StudyRecord, plan: Plan, number: int | None) -> Subject:
    """A trial of a study, the best where none is named."""
    trials = {each.number: each for each in record.trials()}
    best = record.best()
    if number is None and best is None:
        step = "A file's baseline needs no trials: hpo data-needs FILE. Or search: hpo run FILE"
        raise HpoError(record.why_no_best(), step)
    if number is not None and number not in trials:
        raise HpoError(f"'{record.name}' has no trial {number}.", f"See: hpo trials {record.name}")
    chosen = trials[number] if number is not None else best
    assert chosen is not None  # noqa: S101 - one of the two is there
    which = f"trial {chosen.number}" + (", the best" if number is None else "")
    return Subject(record, plan, dict(job_of(record, chosen).config), which)


def baseline_of(plan: Plan, path: Path, overrides: Sequence[str] = ()) -> dict[str, Any]:
    """The configuration of a file's baseline, or its only one.

    Args:
        plan: What the file says.
        path: The file, for advice.
        overrides: What was set beside it.

    Raises:
        HpoError: there is no baseline, and more than one configuration.
    """
    if plan.baseline is not None:
        return plan.config(plan.baseline)
    if not plan.space.free:
        return plan.config({})
    search = f"hpo run {path}, then hpo data-needs {plan.spec.name}"
    step = f"Give it one under `baseline:`, or search first: {search}"
    if _has_defaults(path, overrides):
        step = "Give it one, such as --set 'baseline={}' (the defaults), or search first: " + search
    raise HpoError(
        f"'{plan.spec.name}' has no baseline, and data needs are those of one configuration.", step
    )


def _has_defaults(path: Path, overrides: Sequence[str]) -> bool:
    """Whether the defaults lie in the space of a file, so that they can be its baseline."""
    try:
        spec.load(path, [*overrides, "baseline={}"])
    except HpoError:
        return False
    return True


def target_of(plan: Plan, metric: str) -> float | None:
    """What the gate demands of a metric, if it does."""
    parsed = requirement(plan.spec.gate.get(metric, ""))
    better = "<" if plan.spec.objective.direction_of(metric) == "minimize" else ">"
    return parsed[1] if parsed and parsed[0].startswith(better) else None


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
    subject: Subject,
    *,
    metric: str | None = None,
    target: float | None = None,
    examples: int | None = None,
    bounds: tuple[float, float] | None = None,
) -> Question:
    """A question about a configuration, checked.

    Args:
        subject: The configuration.
        metric: What is measured; the objective, the first of several, by default.
        target: The value to reach; what the gate demands of the metric by default.
        examples: How many training examples own code has.
        bounds: Lowest and highest value of own code's metric; may be infinite. By default, those
            that the file states of its objective.

    Raises:
        HpoError: metric, target or examples make no sense.
    """
    _refuse_other_kinds(target, examples, bounds)
    plan = subject.plan
    metric = metric or plan.spec.objective.metrics[0]
    refuse_metric(plan, metric)
    n, n_classes, digest = _data_of(plan)
    if n is None:
        n = examples or PERCENT
    elif examples is not None:
        raise HpoError(f"hpo counts the examples itself: {n:,} to train on.", "Drop --examples.")
    if bounds is not None:
        _refuse_bounds(plan, metric, bounds)
    elif metric == plan.spec.objective.metrics[0]:
        bounds = plan.spec.objective.stated_bounds
    question = Question(
        subject.study,
        plan,
        subject.config,
        subject.what,
        metric,
        target_of(plan, metric) if target is None else target,
        n,
        is_counted=bool(digest) or examples is not None,
        n_classes=n_classes,
        digest=digest,
        stated_bounds=bounds,
    )
    if question.target is not None:
        refuse_target(metric, question.target, question.bounds)
    return question


def check_count(value: object, name: str, least: int) -> None:
    """Refuses what is no whole number, which only Python can give, or too small a one.

    Raises:
        HpoError: with what is to be given.
    """
    if isinstance(value, bool) or not (isinstance(value, Integral) and int(value) >= least):
        raise HpoError(f"{name} is a whole number, {least} or more, not {value!r}.")


def _refuse_other_kinds(target: object, examples: object, bounds: object) -> None:
    """Refuses what is no number.

    Raises:
        HpoError: with what is to be given.
    """
    if target is not None and not _is_number(target):
        raise HpoError(f"target is a number, such as 0.02, not {target!r}.")
    if examples is not None:
        check_count(examples, "examples", _FEWEST)
    pair = tuple(bounds) if isinstance(bounds, list | tuple | np.ndarray) else ()
    if bounds is not None and [_is_number(each) for each in pair] != [True, True]:
        raise HpoError(f"bounds are two numbers, such as (0, 100), not {bounds!r}.")


def _is_number(value: object) -> bool:
    return isinstance(value, Real) and not isinstance(value, bool)


def _refuse_bounds(plan: Plan, metric: str, bounds: tuple[float, float]) -> None:
    """Refuses bounds of a metric that is ours, and such as bound nothing.

    Raises:
        HpoError: with what is wrong.
    """
    low, high = bounds
    if plan.spec.objective.kind in OURS:
        raise HpoError(f"hpo knows the bounds of {metric} itself.", "Drop --bounds.")
    best = high if plan.spec.objective.direction_of(metric) == "maximize" else low
    if not low < high or not math.isfinite(best):
        raise HpoError(
            f"--bounds {low:g} {high:g}: they are the lowest and the highest value of {metric}, "
            "the better of them finite.",
            "In per cent: --bounds 0 100. Without a worst value: --bounds 0 inf",
        )


def refuse_objective(plan: Plan) -> None:
    """Refuses an objective that cannot train on a part of its data, or does not say so.

    Raises:
        HpoError: with how to say it.
    """
    kind = plan.spec.objective.kind or "function"
    if not plan.takes_fraction:
        raise HpoError(
            f"the {kind} of '{plan.spec.name}' does not say that it can train on a part of its "
            "data.",
            _HOW[kind],
        )


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
        if not (_SHARE if share else _SIZE).fullmatch(part):
            raise ValueError(f"'{part}' is neither a size such as 100 nor a share such as 50%")
        sizes.append(round(float(part[:-1]) * question.n / 100) if share else int(part))
    if wrong := [size for size in sizes if not 2 <= size <= question.n]:
        between = f"{wrong[0]:,} is not between 2 and the {question.n:,} training examples."
        if not question.is_counted:
            between = f"{wrong[0]:,}% is not between 2% and 100% of the data."
        raise HpoError(
            f"--sizes: {between}",
            "Shares are written so: --sizes 25%,50%,100%",
        )
    return sizes


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
