"""A scikit-learn estimator as an objective: fitted and judged on one split, or on each fold.

It is named as Python would import it: `sklearn.svm.SVC`, or a function of the user's own that
returns one. A parameter that the class or function takes is given to it; others, such as
`svc__C` of a pipeline, are set on what it returns.
"""

from __future__ import annotations

import copy
import inspect
import logging
import pickle
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import is_classifier, is_regressor
from sklearn.metrics import get_scorer, get_scorer_names
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from hpo.errors import ObjectiveError, nearest
from hpo.objectives import Steps
from hpo.objectives.trainer import goals_of
from hpo.places import TRAIN_FRACTION as FRACTION
from hpo.spec import Plan, source_of
from hpo.trainers import CodeError, DataError, Problem, Report, code, goals, metrics
from hpo.trainers.data import load_data
from hpo.trainers.data.parts import Data, Part
from hpo.trainers.data.subsets import nested_rows, size_of
from hpo.trainers.errors import did_you_mean
from hpo.trainers.estimators import logits
from hpo.trainers.goals import BY_THRESHOLD, Goals, Task, by_threshold
from hpo.trial import Job

Floats = NDArray[np.float64]

_SAMPLES = 20  # configurations by which a space's names are checked
_OF_SCORES = ("loss", "log_loss", "pr_auc", "roc_auc", "cost", *BY_THRESHOLD)
_OF_THE_LAST_CLASS = {"positive_likelihood_ratio", "neg_negative_likelihood_ratio"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class _Fold:
    """One split, as scikit-learn takes it: classes by number, targets in their own unit.

    Estimators get copies: some change their input in place, and all trials share this.

    Args:
        data: Where it is from.
        x: Features to fit on, (n_train, n_features), standardised.
        y: Targets to fit on, (n_train,).
        val_x: Features to judge by, (n_val, n_features).
        val_y: Targets to judge by, (n_val,).
    """

    data: Data
    x: Floats
    y: NDArray[Any]
    val_x: Floats
    val_y: NDArray[Any]


class EstimatorObjective:
    """Fits an estimator; all trials of a study share their folds.

    A trial reports after each fold what its metrics are in the mean so far, so that it can be
    stopped after bad ones. It returns the means over all folds and, as `val_error_std`, the
    deviation over them (as of a population) of what is optimised.

    Metrics are the trainers' (`val_error`) and scikit-learn's scorers by their names (`f1_macro`).
    Those of answers (error, recall, ...) judge what `predict` says; those of scores (loss, areas,
    cost, coverage) judge `predict_proba`, or else `decision_function` read as logits, or else
    `predict` as an answer that is sure of itself. Of two classes, scorers take the positive one, or
    else the last, as the metrics do.

    Args:
        plan: Of a study whose objective is an estimator.

    Raises:
        ObjectiveError: the estimator or its data cannot be had; parameters or metrics are unknown.
    """

    def __init__(self, plan: Plan) -> None:
        objective = plan.spec.objective
        assert objective.estimator is not None  # noqa: S101 - checked with the file
        self._factory = find_estimator(objective.estimator, plan.folder)
        self._threads = plan.spec.run.threads
        self._optimised = objective.metrics
        self._warned: set[type[Warning]] = set()
        wanted = goals_of(plan)
        names = [name for name in wanted.names if name not in _deviations(plan)]
        self._scorers = [name for name in names if name in get_scorer_names()]
        self._goals = replace(wanted, names=tuple(n for n in names if n not in self._scorers))
        configs = [plan.config(params) for params in plan.sample_params(_SAMPLES)]
        task = _task(objective.estimator, self._factory, configs[0])
        if problems := [
            *estimator_problems(objective.estimator, plan.folder, configs),
            *_unknown_metrics(self._goals.names, task),
        ]:
            raise ObjectiveError("\n".join(map(str, problems)))
        self._folds = _folds(plan, task)
        data = self._folds[0].data
        if problems := [
            *metrics.problems(self._goals, data),
            *_about_the_last_class(self._scorers, self._goals, data),
        ]:
            raise ObjectiveError("\n".join(f"objective.{problem}" for problem in problems))

    def __call__(self, job: Job) -> Steps:
        """Yields one report per fold and returns the metrics of all."""
        started = time.monotonic()
        values: defaultdict[str, list[float]] = defaultdict(list)
        means: dict[str, float] = {}
        for number, whole in enumerate(self._folds, start=1):
            with threadpool_limits(self._threads), self._counting_warnings(job.trial):
                estimator, fold = self._fitted(whole, job)
                judged = _judged(estimator, fold, self._goals, self._scorers)
            for name, value in judged.items():
                values[name].append(value)
            means = {name: float(np.mean(each)) for name, each in values.items()}
            yield Report(number, means, time.monotonic() - started)
        if len(self._folds) > 1:
            means |= {f"{name}_std": float(np.std(values[name])) for name in self._optimised}
        return means

    def test(self, job: Job) -> dict[str, float]:
        """Fits the estimator again, and judges it by the test part and, as it was, by validation.

        Returns:
            Means over folds: `test_error`, `val_error`, ...
        """
        judged = []
        for estimator, data, again in self.refitted(job):
            with threadpool_limits(self._threads), self._counting_warnings(job.trial):
                tested = _tested(estimator, data, self._goals, self._scorers)
            judged.append(again | tested)
        return means_of(judged)

    def refitted(self, job: Job) -> Iterator[tuple[Any, Data, dict[str, float]]]:
        """Fits a trial's estimators again: each with its fold, and its metrics of validation."""
        for whole in self._folds:
            with threadpool_limits(self._threads), self._counting_warnings(job.trial):
                estimator, fold = self._fitted(whole, job)
                judged = _judged(estimator, fold, self._goals, self._scorers)
            yield estimator, fold.data, judged

    def _fitted(self, whole: _Fold, job: Job) -> tuple[Any, _Fold]:
        """The estimator of a trial, and the part of a fold that it was fitted on."""
        config, fraction = _own(job.config), float(str(job.config.get(FRACTION, 1.0)))
        fold = _cut(whole, fraction, job.seed)
        estimator = _seeded(make(self._factory, config), job.seed, config)
        return estimator.fit(fold.x.copy(), fold.y.copy()), fold

    def threshold(self, estimator: Any, data: Data) -> float | None:
        """How sure of a class an estimator must be to answer as accurately as is required.

        None where no accuracy is required.
        """
        if self._goals.required_accuracy is None or not data.classes:
            return None
        return _threshold(estimator, data, self._goals)

    @property
    def folds(self) -> list[Data]:
        """The study's data, fold by fold."""
        return [fold.data for fold in self._folds]

    @property
    def data_digest(self) -> str:
        """See `Data.digest`."""
        return self._folds[0].data.digest

    def drain(self) -> None:
        """Does nothing: an estimator leaves no checkpoint."""

    def stop(self) -> None:
        """Does nothing: an estimator ends with its fold."""

    @contextmanager
    def _counting_warnings(self, trial: int) -> Iterator[None]:
        """Logs each kind of warning the first time, with how often it came, and lets none out."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            warnings.simplefilter("ignore", DeprecationWarning)  # said to developers, not to users
            yield
        for each in caught:
            if each.category not in self._warned:
                self._warned.add(each.category)
                times = sum(other.category is each.category for other in caught)
                said = str(each.message).strip().partition("\n")[0]
                message = "trial %d: %s (%d times, and not told again): %s"
                _log.warning(message, trial, each.category.__name__, times, said)


def means_of(judged: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The means over folds."""
    return {name: float(np.mean([each[name] for each in judged])) for name in judged[0]}


def find_estimator(name: str, folder: Path) -> Callable[..., Any]:
    """Imports `package.module.Name` or `package.module:name`, looking in `folder` first.

    Raises:
        ObjectiveError: the module cannot be imported or has nothing of that name to call.
    """
    module, _, attribute = name.rpartition(":" if ":" in name else ".")
    try:
        return code.find(f"{module}:{attribute}", folder)
    except CodeError as error:
        raise ObjectiveError(error.message, error.next_step) from error


def make(factory: Callable[..., Any], config: Mapping[str, Any]) -> Any:
    """The estimator of a configuration, not fitted.

    Raises:
        ValueError: it has no parameter of some name.
        TypeError: it is not an estimator.
    """
    taken = _taken(factory, config)
    return _called(factory, taken).set_params(
        **{name: value for name, value in config.items() if name not in taken}
    )


def estimator_problems(
    name: str, folder: Path, configs: Iterable[Mapping[str, Any]]
) -> list[Problem]:
    """The names in some configurations that an estimator does not know.

    Several configurations, since a function may return one estimator or another.

    Raises:
        ObjectiveError: the estimator cannot be imported or made.
    """
    factory = find_estimator(name, folder)
    found: dict[str, Problem] = {}
    for config in map(_own, configs):
        taken = _taken(factory, config)
        try:
            known = {*inspect.signature(factory).parameters, *_called(factory, taken).get_params()}
        except Exception as error:
            raise _not_made(name, error) from error
        for key in config:
            if key not in known and key not in taken:
                hint = did_you_mean(key, sorted(known)) if known else "It has none."
                message = f"'{name}' has no parameter '{key}'. {hint}"
                found[key] = Problem(("space", key), message)
    return list(found.values())


def _taken(factory: Callable[..., Any], config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that the class or function itself takes."""
    parameters = inspect.signature(factory).parameters
    if any(each.kind is each.VAR_KEYWORD for each in parameters.values()):
        return dict(config)
    return {name: value for name, value in config.items() if name in parameters}


def _called(factory: Callable[..., Any], taken: Mapping[str, Any]) -> Any:
    made = factory(**taken)
    if isinstance(made, type) or not all(hasattr(made, each) for each in ("fit", "set_params")):
        raise TypeError(f"{made!r} is not a scikit-learn estimator")
    return made


def _not_made(name: str, error: Exception) -> ObjectiveError:
    return ObjectiveError(f"estimator '{name}' cannot be made: {type(error).__name__}: {error}.")


def _seeded(estimator: Any, seed: int, config: Mapping[str, Any]) -> Any:
    """Seeds whatever in an estimator is random and was not given a seed."""
    unseeded = [
        name
        for name, value in estimator.get_params().items()
        if name.rpartition("__")[2] == "random_state" and value is None and name not in config
    ]
    return estimator.set_params(**dict.fromkeys(sorted(unseeded), seed))


def _task(name: str, factory: Callable[..., Any], config: Mapping[str, Any]) -> Task:
    """What an estimator is for."""
    try:
        estimator = _called(factory, _taken(factory, _own(config)))
    except Exception as error:
        raise _not_made(name, error) from error
    try:
        if is_classifier(estimator):
            return "classification"
        if is_regressor(estimator):
            return "regression"
    except AttributeError as error:  # scikit-learn finds no tags
        raise ObjectiveError(
            f"'{name}' does not say whether it is a classifier or a regressor.",
            "Let its class inherit from sklearn.base.ClassifierMixin or RegressorMixin, and then "
            "from BaseEstimator.",
        ) from error
    raise ObjectiveError(f"'{name}' is neither a classifier nor a regressor: {estimator!r}.")


def _unknown_metrics(names: Sequence[str], task: Task) -> Iterator[Problem]:
    """Names that are neither a scorer nor a metric that an estimator has."""
    own = [name for name in goals.names(task) if name != "n_parameters"]
    for name in names:
        if name != "n_parameters" and goals.problem(name, task) is None:
            continue
        message = f"unknown metric '{name}'. {nearest(name, (*own, *get_scorer_names()))}"
        if name != "n_parameters" and goals.metric(name) is not None:
            message = goals.problem(name, task) or message
        yield Problem(("objective", "metric"), message)


def _deviations(plan: Plan) -> list[str]:
    """The metrics of folds that a gate or a constraint may name besides."""
    objective = plan.spec.objective
    return [f"{name}_std" for name in objective.metrics] if objective.folds else []


def _folds(plan: Plan, task: Task) -> list[_Fold]:
    """The study's data: one split, or as many as it has folds."""
    source = replace(source_of(plan.spec.objective, plan.folder), task=task)
    try:
        loaded = load_data(source, plan.spec.search.seed)
    except (CodeError, DataError) as error:
        raise ObjectiveError(f"cannot load '{source.name}': {error}") from error
    return [_Fold(each, *_arrays(each, "train"), *_arrays(each, "val")) for each in loaded]


def _cut(fold: _Fold, fraction: float, seed: int) -> _Fold:
    """The fold with a share of what is fitted on."""
    if fraction >= 1:
        return fold
    order = nested_rows(fold.y, n_classes=len(fold.data.classes), seed=seed)
    rows = order[: size_of(fraction, len(order))]
    return replace(fold, x=fold.x[rows], y=fold.y[rows])


def _own(config: Mapping[str, Any]) -> dict[str, Any]:
    """The part of a configuration that is the estimator's: all but what is ours."""
    return {name: value for name, value in config.items() if name != FRACTION}


def _arrays(data: Data, name: str) -> tuple[Floats, NDArray[Any]]:
    part: Part = getattr(data, name)
    x, y = next(iter(part.batches([len(part)])))
    # Solvers such as logistic regression's stop early in single precision.
    features = x.reshape(len(part), -1).double().numpy()
    return features, data.numbers[name] if data.numbers else y.numpy()


def _judged(estimator: Any, fold: _Fold, wanted: Goals, scorers: Sequence[str]) -> dict[str, float]:
    """All metrics of a fitted estimator."""
    names = wanted.reported(fold.data.task)
    of_val = [name for name in names if name.startswith("val_")]
    judged = _of_part(of_val, estimator, fold.val_x, fold.val_y, fold.data, wanted, "val")
    # Only what is asked for: predictions of the training part can be dear.
    if of_train := [name for name in wanted.names if name.startswith("train_")]:
        goals_ = _with_threshold(wanted, of_train, estimator, fold.data)
        judged |= _of_part(of_train, estimator, fold.x, fold.y, fold.data, goals_, "train")
    for name in scorers:
        judged[name] = _scored(name, estimator, fold.val_x, fold.val_y, fold.data, wanted)
    if "latency_ms" in names:
        judged["latency_ms"] = metrics.latency_ms(
            lambda x: torch.as_tensor(estimator.predict(x.double().numpy().copy())),
            torch.from_numpy(fold.val_x[:1]),
        )
    if "model_bytes" in names:
        judged["model_bytes"] = len(pickle.dumps(estimator))
    return judged


def _tested(estimator: Any, data: Data, wanted: Goals, scorers: Sequence[str]) -> dict[str, float]:
    """The metrics of the validation part, of the test part: `test_error`, `test_f1_macro`."""
    x, y = _arrays(data, "test")
    names = wanted.tested(data.task)
    goals_ = _with_threshold(wanted, names, estimator, data)
    judged = _of_part(names, estimator, x, y, data, goals_, "test")
    return judged | {
        f"test_{name}": _scored(name, estimator, x, y, data, wanted) for name in scorers
    }


def _with_threshold(wanted: Goals, names: Sequence[str], estimator: Any, data: Data) -> Goals:
    """The goals with the validation part's threshold, where some metrics depend on it."""
    if not by_threshold(names):
        return wanted
    return wanted.answering_from(_threshold(estimator, data, wanted))


def _threshold(estimator: Any, data: Data, wanted: Goals) -> float:
    """How sure it must be to answer, by the validation part."""
    x, y = _arrays(data, "val")
    outputs = torch.from_numpy(logits(estimator, x, len(data.classes)))
    return metrics.threshold(outputs, torch.from_numpy(y), data, wanted)


def _scored(
    name: str, estimator: Any, x: Floats, y: NDArray[Any], data: Data, wanted: Goals
) -> float:
    """What one of scikit-learn's scorers says of a part of the data."""
    return float(_scorer(name, data, wanted)(estimator, x.copy(), y.copy()))


def _scorer(name: str, data: Data, wanted: Goals) -> Any:
    """A scorer of scikit-learn's, about the positive class."""
    scorer: Any = get_scorer(name)
    if wanted.positive is None:
        return scorer
    # There is no public way to ask a scorer what it is made of.
    kwargs = {**scorer._kwargs, "pos_label": data.classes.index(wanted.positive)}  # noqa: SLF001
    is_about_one = "pos_label" in inspect.signature(scorer._score_func).parameters  # noqa: SLF001
    if is_about_one and kwargs.get("average", "binary") == "binary":
        scorer = copy.copy(scorer)
        scorer._kwargs = kwargs  # noqa: SLF001
    return scorer


def _about_the_last_class(scorers: Sequence[str], wanted: Goals, data: Data) -> Iterator[Problem]:
    """Scorers that are about one of two classes and cannot be told which."""
    if wanted.positive is None or wanted.positive == data.classes[-1]:
        return
    for name in _OF_THE_LAST_CLASS:
        if name in scorers:
            message = f"'{name}' is always about {data.classes[-1]!r}, and `positive` is another."
            yield Problem(("metric",), f"{message} Take val_recall and val_precision.")


def _of_part(
    names: Sequence[str],
    estimator: Any,
    x: Floats,
    y: NDArray[Any],
    data: Data,
    wanted: Goals,
    part: str,
) -> dict[str, float]:
    """The trainers' metrics of a part of the data, by the same code."""
    answers = np.asarray(estimator.predict(x.copy()))
    if data.task == "regression":
        mean, deviation = data.target_mean, data.target_deviation
        outputs = torch.from_numpy((answers.reshape(len(x), 1).astype(float) - mean) / deviation)
        targets = torch.from_numpy((y - mean) / deviation)
        return metrics.evaluate(names, outputs, targets, data, wanted, part)
    sure = np.eye(len(data.classes))[answers]
    of_scores = [name for name in names if name.partition("_")[2] in _OF_SCORES]
    of_answers = [name for name in names if name not in of_scores]
    judged: dict[str, float] = {}
    answered = Goals(positive=wanted.positive)  # what it predicts is its answer, whatever it costs
    for some, of_classes, goals_ in (
        (of_answers, sure, answered),
        (of_scores, logits(estimator, x, len(data.classes)), wanted),
    ):
        outputs, targets = torch.from_numpy(of_classes), torch.from_numpy(y)
        judged |= metrics.evaluate(some, outputs, targets, data, goals_, part)
    return judged
