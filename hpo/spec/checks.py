"""Every mistake in a study file, each with its place: those of single keys and those between them.

All are collected and raised as one `SpecError`, so that a file is mended in one go.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from math import ceil
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from pydantic import ValidationError

from hpo import baselines, search_spaces
from hpo.errors import Mistake, SpecError
from hpo.places import TRAIN_FRACTION
from hpo.requirements import requirement
from hpo.search_spaces import Float, Parameter, Scalar, SearchSpace
from hpo.search_spaces.flow import flow
from hpo.search_spaces.links import RESERVED
from hpo.spec.model import OF_PROCESSES, RULE_OPTIONS, RunSpec, SearchSpec, StoppingSpec, StudySpec
from hpo.spec.objective import KINDS, ObjectiveSpec, Strict, extremes, source_of
from hpo.spec.wording import mistakes_of_form
from hpo.studyfile import StudyFile
from hpo.templates import command_problems, file_problem, pattern_problems
from hpo.trainers import goals
from hpo.trainers.config import FIELDS, check_value
from hpo.trainers.data import BUILT_IN, mistakes_of
from hpo.trainers.errors import did_you_mean
from hpo.trainers.fields import is_code
from hpo.words import counted

_DOTTED = re.compile(r"\w+(\.\w+)+")
_DATA_KEYS = ("data", "target", "positive", "image_size", "folds")
_TABLE_KEYS = (*_DATA_KEYS, "report", "costs", "required_accuracy")
_COMMAND_KEYS = ("shell", "metrics_from")
_NAME_LENGTH = 250
_TRIAL_ATTRIBUTES = ("checkpoint_dir", "config", "device", "directory", "number", "report", "seed")


class Parts(NamedTuple):
    """What a study file without a mistake says.

    Args:
        spec: The file as written.
        space: Its search space, ready-made parts merged in.
        baseline: The params of the baseline, if there is one.
    """

    spec: StudySpec
    space: SearchSpace
    baseline: Mapping[str, Scalar] | None


def parts(file: StudyFile, *, with_data: bool) -> Parts:
    """What a study file says, checked whole.

    Args:
        file: The file.
        with_data: Whether its data is looked for.

    Raises:
        SpecError: with every mistake in it.
    """
    values = {"name": Path(file.source).stem, **file.values}
    mistakes: list[Mistake] = []
    try:
        spec = StudySpec.model_validate(values)
    except ValidationError as error:
        mistakes += mistakes_of_form(file, error)
    objective = _part(ObjectiveSpec, values.get("objective"))
    space = _space(file, values.get("space"), objective, mistakes)
    if objective:
        whole = not any(mistake.path[:1] == ("objective",) for mistake in mistakes)
        mistakes += _objective_mistakes(file, objective, whole=whole, with_data=with_data)
        for key in ("gate", "constraints"):
            mistakes += _requirement_mistakes(file, objective, key, values.get(key))
        mistakes += _name_mistakes(file, objective, values.get("space"))
        mistakes += _command_mistakes(file, objective, space)
    if objective and space:
        mistakes += _value_mistakes(file, objective, space)
    search = _part(SearchSpec, values.get("search", {}))
    stopping = _part(StoppingSpec, values.get("stopping", {}))
    if objective and len(objective.metrics) > 1:
        mistakes += _several_mistakes(file, search, stopping)
    mistakes += _stopping_mistakes(file, objective, space, stopping)
    mistakes += _run_mistakes(file, objective, _part(RunSpec, values.get("run", {})))
    if search and space and search.sampler == "grid":
        mistakes += _grid_mistakes(file, space)
    baseline = None
    if "baseline" in values and values["baseline"] is None:
        message = "it is empty; write {} for the defaults, or drop it."
        mistakes.append(file.mistake(("baseline",), message))
    if space and isinstance(values.get("baseline"), dict):
        baseline, wrong = baselines.read(values["baseline"], space, _defaults(objective))
        mistakes += [
            file.mistake(("baseline", name) if name else ("baseline",), message)
            for name, message in wrong
        ]
    if mistakes or space is None:
        raise SpecError(file.source, mistakes)
    return Parts(spec, space, baseline)


_Part = TypeVar("_Part", bound=Strict)


def _part(model: type[_Part], values: object) -> _Part | None:
    """What is right in a section, so that one mistake does not hide another."""
    if not isinstance(values, dict):
        return None
    try:
        return model.model_validate(values)
    except ValidationError as error:
        wrong = {details["loc"][0] for details in error.errors() if details["loc"]}
        right = {key: value for key, value in values.items() if key not in wrong}
        return _part(model, right) if len(right) < len(values) else None


def _space(
    file: StudyFile, values: object, objective: ObjectiveSpec | None, mistakes: list[Mistake]
) -> SearchSpace | None:
    if not isinstance(values, dict):
        return None  # already a mistake of the file's shape
    fixed = objective.epochs if objective else None
    try:
        return search_spaces.parse(values, known={} if fixed is None else {"epochs": fixed})
    except search_spaces.SpaceError as error:
        mistakes += [file.mistake(("space", *p.path), p.message) for p in error.problems]
        return None


def _several_mistakes(
    file: StudyFile, search: SearchSpec | None, stopping: StoppingSpec | None
) -> Iterator[Mistake]:
    """What does not go with several metrics."""
    if search and search.sampler == "skopt":
        message = "skopt searches for one metric; take tpe or gp for several."
        yield file.mistake(("search", "sampler"), message)
    if stopping and stopping.rule != "none":
        message = f"{stopping.rule} judges by one metric; with several, none can be used."
        yield file.mistake(("stopping", "rule"), message)


def _is_right(stopping: StoppingSpec, values: Mapping[str, Any]) -> bool:
    """Whether the rules are those that were asked for; of a misspelt one nothing else is said."""
    read = {"rule": stopping.rule, "wrapped": stopping.wrapped}
    return all(values.get(key, rule) == rule for key, rule in read.items())


def _stopping_mistakes(
    file: StudyFile,
    objective: ObjectiveSpec | None,
    space: SearchSpace | None,
    stopping: StoppingSpec | None,
) -> Iterator[Mistake]:
    """Options that the rule does not have, and what a rule needs to know."""
    if stopping is None or not _is_right(stopping, file.values.get("stopping", {})):
        return
    fields, rules = StoppingSpec.model_fields, stopping.rules
    known = [option for rule in rules for option in RULE_OPTIONS[rule]]
    takes = f"it takes {', '.join(known)}" if known else "it takes no options"
    for key in file.values.get("stopping", {}):
        if key in fields and key not in ("rule", *known):
            of = ", ".join(rule for rule, options in RULE_OPTIONS.items() if key in options)
            message = f"`rule: {stopping.rule}` knows no `{key}`, which is of {of}; {takes}."
            yield file.mistake(("stopping", key), message)
    if "hyperband" in rules and objective and space:
        longest = stopping.max_steps or objective.longest(space)
        if longest is None:
            message = "hyperband must know a trial's length; give max_steps or objective.epochs."
            yield file.mistake(("stopping", "rule"), message)
        elif longest < stopping.min_steps:
            message = f"{stopping.min_steps}: a trial has no more than {counted(longest, 'step')}."
            yield file.mistake(("stopping", "min_steps"), message)


def _run_mistakes(
    file: StudyFile, objective: ObjectiveSpec | None, run: RunSpec | None
) -> Iterator[Mistake]:
    """What does not go together under `run`."""
    if run is None:
        return
    said = [k for k in OF_PROCESSES if getattr(run, k) != RunSpec.model_fields[k].default]
    if run.executor == "inline":
        for key in said:
            message = f"`executor: inline` knows no `{key}`; drop one of the two."
            yield file.mistake(("run", key), message)
        return
    gpus, shared = run.gpus_per_trial, run.trials_per_gpu
    if gpus is not None and gpus > 1 and gpus != int(gpus):
        message = f"{gpus:g}: more than one is a whole number of GPUs; write {int(gpus)}."
        yield file.mistake(("run", "gpus_per_trial"), message)
    if gpus is not None and shared is not None:
        message = "`gpus_per_trial` says it already; drop one of the two."
        yield file.mistake(("run", "trials_per_gpu"), message)
    if shared == "auto" and objective is not None and objective.command is not None:
        message = "nobody can measure a command's memory; give a number."
        yield file.mistake(("run", "trials_per_gpu"), message)
    for key in ("gpus_per_trial", "trials_per_gpu"):
        if key in said and run.device in ("cpu", "mps"):
            message = f"`device: {run.device}` has no use for it; drop one of the two."
            yield file.mistake(("run", key), message)


def _objective_mistakes(
    file: StudyFile, objective: ObjectiveSpec, *, whole: bool, with_data: bool
) -> list[Mistake]:
    """Mistakes between keys; what is missing is told only of a section that is `whole`."""

    def mistake(key: str, message: str) -> Mistake:
        return file.mistake(("objective", key), message)

    given = [kind for kind in KINDS if getattr(objective, kind) is not None]
    if objective.kind is None:
        message = f"give one of {', '.join(f'`{kind}`' for kind in KINDS)}."
        return [mistake(given[0] if given else "trainer", message)] if whole or given else []
    found = [*_metric_mistakes(file, objective)]
    for kind, keys, what in (
        (("trainer", "estimator"), _TABLE_KEYS, f"a {objective.kind} has its own data"),
        (("command",), _COMMAND_KEYS, "it is for commands"),
        (("function", "command"), ("train_fraction",), f"a {objective.kind} takes it anyway"),
        (("function", "command"), ("bounds",), "hpo knows those of its metrics"),
    ):
        if objective.kind not in kind:
            said = [
                key
                for key in keys
                if getattr(objective, key)
                != ObjectiveSpec.model_fields[key].get_default(call_default_factory=True)
            ]
            found += [mistake(key, f"{what}; remove this key.") for key in said]
    if objective.kind in ("function", "estimator"):
        name, form = getattr(objective, objective.kind), "package.module:function"
        if objective.kind == "function" and not is_code(name):
            found.append(mistake("function", f"write it as `{form}`."))
        if objective.kind == "estimator" and not (is_code(name) or _DOTTED.fullmatch(name)):
            found.append(mistake("estimator", "write it as `sklearn.svm.SVC`."))
    if objective.kind == "estimator" and objective.epochs is not None:
        message = "an estimator has no epochs; search its own parameter, such as max_iter."
        found.append(mistake("epochs", message))
    if with_data and objective.kind in ("trainer", "estimator"):
        found += _data_mistakes(file, objective, whole=whole)
    return found


def _metric_mistakes(file: StudyFile, objective: ObjectiveSpec) -> Iterator[Mistake]:
    path, metrics = ("objective", "metric"), objective.metrics
    if len(set(metrics)) < len(metrics):
        yield file.mistake(path, f"{', '.join(metrics)}: name each of them once.")
    if isinstance(objective.direction, list) and len(objective.direction) != len(metrics):
        directions = counted(len(objective.direction), "direction")
        message = f"{directions} for {counted(len(metrics), 'metric')}."
        yield file.mistake(("objective", "direction"), message)
    if objective.bounds is not None and len(metrics) > 1:
        yield file.mistake(("objective", "bounds"), "they are of one metric; remove this key.")
    for metric in metrics:
        if problem := _unknown_metric(file, objective, metric):
            yield file.mistake(path, problem)
    for metric in objective.report:
        if problem := _unknown_metric(file, objective, metric):
            yield file.mistake(("objective", "report"), problem)


def _unknown_metric(file: StudyFile, objective: ObjectiveSpec, metric: str) -> str | None:
    """Why a metric cannot be had; None where it may, as any may of the user's own code."""
    if objective.trainer:
        if problem := goals.problem(metric, objective.task):
            return problem
        for setting in goals.needs([metric]):
            if file.values["objective"].get(setting) is None:  # a wrong one is told already
                return f"'{metric}' needs `objective.{setting}`."
    return None


def _data_mistakes(file: StudyFile, objective: ObjectiveSpec, *, whole: bool) -> Iterator[Mistake]:
    if objective.data is None:
        if whole:
            known = ", ".join(BUILT_IN)
            message = f"it needs data: a file, a folder of images, or one of: {known}."
            yield file.mistake(("objective", "data"), message)
        return
    for problem in mistakes_of(source_of(objective, file.folder)):
        yield file.mistake(("objective", *problem.path), problem.message)


def _name_mistakes(file: StudyFile, objective: ObjectiveSpec, space: object) -> list[Mistake]:
    """Parameters that the trainer does not know, or that are said twice."""
    found = []
    names = space if isinstance(space, dict) else {}
    own_model = objective.trainer is not None and any(
        is_code(value) for value in _listed(names.get("model"))
    )
    for name in names:
        path = ("space", str(name))
        if name == "epochs" and objective.epochs is not None:
            message = "the length is fixed by objective.epochs; keep one of the two."
            found.append(file.mistake(path, message))
        elif len(str(name)) > _NAME_LENGTH:
            message = f"a name may have {_NAME_LENGTH} characters; MLflow keeps no more."
            found.append(file.mistake(path, message))
        elif objective.function and name in _TRIAL_ATTRIBUTES:
            message = f"trial.{name} means something else already; choose another name."
            found.append(file.mistake(path, message))
        elif objective.trainer and name not in FIELDS and name not in RESERVED and not own_model:
            help_ = did_you_mean(name, FIELDS)
            found.append(file.mistake(path, f"the trainer has no field '{name}'. {help_}"))
    return found


def _command_mistakes(
    file: StudyFile, objective: ObjectiveSpec, space: SearchSpace | None
) -> Iterator[Mistake]:
    """Mistakes in a command, and in where its metrics are."""
    if objective.command is None:
        return
    path = ("objective", "command")
    if space:  # else its parameters are not known
        names = [p.name for p in space.parameters] + (["epochs"] if objective.epochs else [])
        names.append(TRAIN_FRACTION)
        problems = command_problems(objective.command, names, for_shell=objective.shell)
        yield from (file.mistake(path, problem) for problem in problems)
    path, given = ("objective", "metrics_from"), objective.metrics_from
    if isinstance(given, str):
        return
    if (given.file is None) == (given.regex is None):
        yield file.mistake(path, "give one of `file`, `regex`.")
    if given.file is not None and (problem := file_problem(given.file)):
        yield file.mistake((*path, "file"), problem)
    patterns = () if given.regex is None else pattern_problems(given.regex, objective.metrics)
    for name, problem in patterns:
        yield file.mistake((*path, "regex", *([name] if name else [])), problem)


def _listed(value: object) -> Sequence[object]:
    """The values of a form, as far as they can be seen without parsing it."""
    if isinstance(value, dict):
        value = value.get("choice", value.get("fixed"))
    return value if isinstance(value, list) else [value]


def _value_mistakes(file: StudyFile, objective: ObjectiveSpec, space: SearchSpace) -> list[Mistake]:
    """Values that the trainer refuses."""
    found = []
    for parameter in space.parameters:
        known = FIELDS if objective.trainer else (TRAIN_FRACTION,)
        if (objective.trainer or objective.estimator) and parameter.name in known:
            checked = (check_value(parameter.name, v) for v in extremes(parameter.domain))
            problems = list(_unwhole(parameter)) or checked
            path = ("space", parameter.name)
            found += [file.mistake(path, problem) for problem in problems if problem]
            found += _vector_mistakes(file, parameter)
    return found


def _unwhole(parameter: Parameter) -> Iterator[str]:
    """A range of fractions where the trainer takes whole numbers: its ends alone may be whole."""
    match parameter.domain:
        case Float(low=low, high=high, log=log, step=step) if FIELDS[parameter.name].kind is int:
            if step is None or not (step.is_integer() and low.is_integer()):
                whole = {"int": [ceil(low), int(high)], **({"log": True} if log else {})}
                write = f"; write {flow(whole)}" if ceil(low) <= high else ""
                yield f"it takes whole numbers{write}."


def _vector_mistakes(file: StudyFile, parameter: Parameter) -> list[Mistake]:
    """A vector where the trainer takes one value, or one that counts something else."""
    counts, name = FIELDS[parameter.name].per, parameter.name
    if parameter.per in (None, counts):
        return []
    message = (
        f"'{name}' may have a value for each of '{counts}'; write per: {counts}."
        if counts
        else f"'{name}' has one value in a trial; drop `per`."
    )
    return [file.mistake(("space", name, "per"), message)]


def _defaults(objective: ObjectiveSpec | None) -> Mapping[str, Any]:
    """What the trainer does where the space says nothing."""
    if objective is None or objective.trainer is None:
        return {}
    return {name: field.default for name, field in FIELDS.items()}


def _grid_mistakes(file: StudyFile, space: SearchSpace) -> list[Mistake]:
    try:
        n_points = space.grid_size
    except search_spaces.GridError as error:
        return [file.mistake(("space", *p.path), p.message) for p in error.problems]
    if n_points:
        return []
    message = "no point of the grid meets it; loosen it, or give the ranges more points."
    return [file.mistake(("space", "require"), message)]


def _requirement_mistakes(
    file: StudyFile, objective: ObjectiveSpec, key: str, requirements: object
) -> list[Mistake]:
    """Mistakes in what a `gate` demands, or in `constraints`."""
    found = []
    for metric, text in requirements.items() if isinstance(requirements, dict) else ():
        if not isinstance(text, str) or requirement(text) is None:
            message = f"{text!r} is not a requirement; write '<= 0.03' or '>= 0.9', in quotes."
            found.append(file.mistake((key, str(metric)), message))
        if problem := _unknown_metric(file, objective, str(metric)):
            found.append(file.mistake((key, str(metric)), problem))
    return found
