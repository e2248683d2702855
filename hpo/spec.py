"""What a study file says: parsed and validated once, here, and trusted afterwards.

Every mistake in a file is collected, each with its line, the path to it and the nearest known
name, and raised as one `SpecError`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    WithJsonSchema,
    model_validator,
)
from pydantic_core import ErrorDetails

import search_spaces
from hpo import baselines, studyfile
from hpo.errors import Mistake, SpecError, nearest
from hpo.places import DEFAULT_STORAGE, DEFAULT_TRACKING
from hpo.studyfile import StudyFile
from search_spaces import Choice, Domain, Fixed, Parameter, Scalar, SearchSpace
from search_spaces.links import RESERVED
from search_spaces.parse import BESIDE, FORMS
from search_spaces.vectors import TAPERS
from trainers import METRICS as TRAINER_METRICS
from trainers.config import FIELDS, check_value
from trainers.data import names as data_names

DEFAULT_TRIALS = 50

SamplerName = Literal["grid", "random", "sobol", "tpe", "gp", "skopt", "bayesian"]
RuleName = Literal["none", "median", "percentile", "asha"]
Direction = Literal["minimize", "maximize"]

_SCALAR = {"type": ["string", "number", "boolean", "null"]}
_BOUNDS = {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2}
_BESIDE: dict[str, dict[str, Any]] = {
    "log": {"type": "boolean", "description": "Search on a logarithmic scale."},
    "step": {"type": "number", "exclusiveMinimum": 0},
    "powers_of": {"type": "integer", "minimum": 2, "description": "Only powers of this base."},
    "points": {"type": "integer", "minimum": 2, "description": "Points of this range in a grid."},
    "ordered": {"type": "boolean", "description": "The options stand in an order."},
    "prior": {**_SCALAR, "description": "Where good values are believed to lie."},
    "spread": {
        "type": "number",
        "exclusiveMinimum": 0,
        "description": "How far from the prior: a distance, on a log scale a factor, of a choice "
        "the share of the other options.",
    },
    "when": {
        "type": "object",
        "description": "Active only when others have these values: {optimizer: sgd}, "
        "{schedule: [step, linear]}, {depth: '>= 3'}.",
    },
    "per": {"type": "string", "description": "A value for each: per: depth is one a layer."},
    "taper": {
        "anyOf": [
            {"enum": list(TAPERS)},
            {"type": "array", "items": {"enum": list(TAPERS)}, "minItems": 1},
        ],
        "description": "With per: how all values follow from the first; a list is a choice.",
    },
    "why": {"type": "string", "description": "A word to people."},
}


def _form(kind: str, value: dict[str, Any]) -> dict[str, Any]:
    keys = {key: _BESIDE[key] for key in (*FORMS[kind], *BESIDE)}
    return {
        "type": "object",
        "properties": {kind: value, **keys},
        "required": [kind],
        "additionalProperties": False,
    }


def _one_or_more(item: dict[str, Any]) -> dict[str, Any]:
    return {"anyOf": [item, {"type": "array", "items": item}]}


_SPACE_SCHEMA = {
    "type": "object",
    "minProperties": 1,
    "properties": {
        "use": {
            **_one_or_more({"type": "string", "enum": list(search_spaces.library.names())}),
            "description": "Ready-made spaces, merged left to right.",
        },
        "require": {
            **_one_or_more({"type": "string"}),
            "description": "What must hold between parameters: [warmup_epochs < epochs].",
        },
    },
    "additionalProperties": {
        "anyOf": [
            _form("float", _BOUNDS),
            _form("int", _BOUNDS),
            _form("choice", {"type": "array", "items": _SCALAR, "minItems": 1}),
            _form("fixed", _SCALAR),
            {"type": "array", "items": _SCALAR, "minItems": 1, "description": "A choice."},
            {**_SCALAR, "description": "A fixed value."},
        ]
    },
}

_DURATION = re.compile(r"(?:(\d+(?:\.\d+)?)h)?(?:(\d+(?:\.\d+)?)m)?(?:(\d+(?:\.\d+)?)s)?")
_NAME_LENGTH = 250
_TRIAL_ATTRIBUTES = ("device", "directory", "number", "report", "seed")
_REQUIREMENT = re.compile(r"\s*(<=|>=|<|>)\s*([-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?)\s*")


def _seconds(value: object) -> object:
    if isinstance(value, str):
        match = _DURATION.fullmatch(value.strip())
        if not match or not any(match.groups()):
            raise ValueError(f"'{value}' is not a duration; write 90s, 30m, 1h30m or seconds")
        hours, minutes, seconds = (float(part or 0) for part in match.groups())
        return 3600 * hours + 60 * minutes + seconds
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]


class _Model(BaseModel):
    # Strict: a quoted "60" where a number belongs is a mistake worth telling.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class ObjectiveSpec(_Model):
    """What one trial does and which of its metrics is searched for."""

    trainer: Literal["classifier"] | None = Field(None, description="A built-in trainer.")
    function: str | None = Field(
        None, description="Your own: `package.module:function`, found from the file's folder."
    )
    data: str | None = Field(None, description="Data set of the built-in trainer.")
    metric: str = Field(description="The metric to optimise.")
    direction: Direction = Field(
        "minimize", description="Defaults to what is better for the trainer's metrics."
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Length of a trial; reaches the trial as `epochs`."
    )

    @model_validator(mode="before")
    @classmethod
    def _natural_direction(cls, values: Any) -> Any:
        if isinstance(values, dict) and values.get("trainer") and "direction" not in values:
            natural = TRAINER_METRICS.get(str(values.get("metric")), "minimize")
            return {**values, "direction": natural}
        return values


class SearchSpec(_Model):
    """How configurations are chosen, and how many."""

    sampler: SamplerName = Field("bayesian", description="`bayesian` chooses between gp and tpe.")
    trials: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Trials in the whole study; a grid defaults to all of its points."
    )
    timeout: Seconds | None = Field(None, description="No trial is started after this long.")
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seeds sampler, data split, trials.")
    startup_trials: Annotated[int, Field(ge=1)] = Field(
        10, description="tpe, gp, skopt: random trials before the model is asked."
    )
    estimator: Literal["GP", "RF", "ET"] = Field("GP", description="skopt: its surrogate model.")


class StoppingSpec(_Model):
    """Which trials are stopped early, judged by the metric at each step."""

    rule: RuleName = Field("none", description="Optuna's pruners.")
    startup_trials: Annotated[int, Field(ge=0)] = Field(
        5, description="median, percentile: finished trials before any is stopped."
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="median, percentile: steps before a trial may be stopped."
    )
    percentile: Annotated[float, Field(ge=0, le=100, strict=False)] = Field(
        25.0, description="percentile: the share of trials that goes on."
    )
    min_steps: Annotated[int, Field(ge=1)] = Field(1, description="asha: steps of the first rung.")
    reduction: Annotated[int, Field(ge=2)] = Field(
        3, description="asha: one in so many goes on to the next rung."
    )


class RunSpec(_Model):
    """Where and how trials run."""

    executor: Literal["inline"] = Field("inline", description="inline: in this process, in turn.")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    threads: Annotated[int, Field(ge=1)] = Field(
        1, description="CPU threads of a trial; small networks are fastest with one."
    )
    max_failures: Annotated[int, Field(ge=0)] | None = Field(
        None, description="End the study when more trials than this have failed."
    )
    directory: str = Field("hpo-runs", description="Folder for metrics and checkpoints.")


class StudySpec(_Model):
    """A study file, as written; `Plan` is what follows from it."""

    name: Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")] = Field(
        description="Letters, digits, '.', '_' and '-'; defaults to the file's name."
    )
    objective: ObjectiveSpec
    space: Annotated[dict[str, Any], WithJsonSchema(_SPACE_SCHEMA)] = Field(
        description="What may be searched."
    )
    baseline: dict[str, Any] | None = Field(
        None,
        description="What you would run without a search: trial 0. What it leaves out has its "
        "prior, or else the trainer's default.",
    )
    search: SearchSpec = SearchSpec()
    stopping: StoppingSpec = StoppingSpec()
    run: RunSpec = RunSpec()
    storage: str | None = Field(
        None, description=f"Where studies live; $HPO_STORAGE or {DEFAULT_STORAGE}."
    )
    tracking: str | None = Field(
        None,
        description=f"MLflow's URI, or none; $MLFLOW_TRACKING_URI or {DEFAULT_TRACKING}.",
    )
    gate: dict[str, str] = Field(
        default_factory=dict, description="What the best trial must reach: {val_error: '<= 0.03'}"
    )


@dataclass(frozen=True)
class Plan:
    """A study file that has been checked: nothing below has to be checked again.

    Args:
        spec: The file as written.
        space: Its search space, ready-made parts merged in.
        folder: Where its function is looked for.
        baseline: The params of the baseline, if there is one.
    """

    spec: StudySpec
    space: SearchSpace
    folder: Path
    baseline: Mapping[str, Scalar] | None = None

    @property
    def trials(self) -> int | None:
        """How many trials the study is to have; None when only its timeout ends it."""
        search, size = self.spec.search, self.space.size
        if search.sampler == "grid":
            size = self.space.grid_size
            if self.baseline is not None and not self.space.on_grid(self.baseline):
                size += 1
        if search.trials is None and search.timeout is None:
            wanted = size if search.sampler == "grid" else DEFAULT_TRIALS
        else:
            wanted = search.trials
        return min((n for n in (wanted, size) if n is not None), default=None)

    def config(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration that runs for sampled `params`."""
        return {**self.space.arranged(self.space.complete(params)), **self._given}

    def flat_config(self, params: Mapping[str, Any]) -> dict[str, Scalar]:
        """The same with a name for each element of a vector, as it is searched and shown."""
        return {**self.space.complete(params), **self._given}

    @property
    def _given(self) -> dict[str, Scalar]:
        epochs = self.spec.objective.epochs
        return {} if epochs is None else {"epochs": epochs}

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same for trials to belong to one study."""
        objective = self.spec.objective.model_dump(mode="json", exclude_none=True)
        return {"objective": objective, "space": self.space.to_dict(hints=False)}

    @property
    def fingerprint(self) -> str:
        """A short hash of `identity`."""
        text = json.dumps(self.identity, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def as_stored(self) -> dict[str, Any]:
        """The resolved file, without anything that could hold a password."""
        stored = self.spec.model_dump(mode="json", exclude={"storage", "tracking"})
        if self.baseline is None:
            del stored["baseline"]  # an empty one in a file is a mistake
        return {**stored, "space": self.space.to_dict(), "folder": str(self.folder)}

    def overridden(self, overrides: Sequence[str]) -> Plan:
        """The same plan, but for ``a.b=value`` overrides.

        Raises:
            SpecError: the result cannot be run.
        """
        values = {key: value for key, value in self.as_stored().items() if key != "folder"}
        name = f"study {self.spec.name}"
        return check(studyfile.from_values(values, name, self.folder, overrides))


def load(path: Path, overrides: Sequence[str] = ()) -> Plan:
    """Reads and checks a study file.

    Args:
        path: The YAML file.
        overrides: ``search.trials=200`` strings that win over the file.

    Raises:
        SpecError: with every mistake in it.
    """
    return check(studyfile.read(path, overrides))


def from_stored(stored: Mapping[str, Any]) -> Plan:
    """The plan of a study in the storage; the inverse of `Plan.as_stored`."""
    values = {key: value for key, value in stored.items() if key != "folder"}
    return check(StudyFile("the stored study", Path(stored["folder"]), values))


def check(file: StudyFile) -> Plan:
    """Checks a study file, whole.

    Raises:
        SpecError: with every mistake in it.
    """
    values = {"name": Path(file.source).stem, **file.values}
    mistakes: list[Mistake] = []
    try:
        spec = StudySpec.model_validate(values)
    except ValidationError as error:
        mistakes += [
            _as_mistake(file, details)
            for details in error.errors()
            # What is wrong inside these is said better below.
            if details["loc"][0] not in ("baseline", "gate", "space") or len(details["loc"]) == 1
        ]
    objective = _part(ObjectiveSpec, values.get("objective"))
    space = _space(file, values.get("space"), objective, mistakes)
    if objective:
        whole = not any(mistake.path[:1] == ("objective",) for mistake in mistakes)
        mistakes += _objective_mistakes(file, objective, whole=whole)
        mistakes += _gate_mistakes(file, objective, values.get("gate"))
        mistakes += _name_mistakes(file, objective, values.get("space"))
    if objective and space:
        mistakes += _value_mistakes(file, objective, space)
    search = _part(SearchSpec, values.get("search", {}))
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
    return Plan(spec, space, file.folder, baseline)


def requirement(text: str) -> tuple[str, float] | None:
    """Reads ``"<= 0.03"``; None when it is not of that form."""
    match = _REQUIREMENT.fullmatch(text)
    return (match[1], float(match[2])) if match else None


def json_schema() -> dict[str, Any]:
    """The JSON Schema of a study file, with which editors complete and check it."""
    schema = StudySpec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["required"] = [key for key in schema["required"] if key != "name"]
    return schema


_Part = TypeVar("_Part", bound=_Model)


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


def _objective_mistakes(file: StudyFile, objective: ObjectiveSpec, *, whole: bool) -> list[Mistake]:
    """Mistakes between keys; what is missing is told only of a section that is `whole`."""

    def mistake(key: str, message: str) -> Mistake:
        return file.mistake(("objective", key), message)

    if (objective.trainer is None) == (objective.function is None):
        message = "give either a `trainer` or a `function`."
        return [mistake("trainer", message)] if whole or objective.trainer else []
    if objective.function is not None:
        found: list[Mistake] = []
        if not re.fullmatch(r"[\w.]+:[\w.]+", objective.function):
            found.append(mistake("function", "write it as `package.module:function`."))
        if objective.data is not None:
            found.append(mistake("data", "a function loads its own data; remove this key."))
        return found
    found = []
    if objective.metric not in TRAINER_METRICS:
        help_ = nearest(objective.metric, TRAINER_METRICS)
        found.append(mistake("metric", f"unknown metric '{objective.metric}'. {help_}"))
    if objective.data is None and whole:
        known = ", ".join(data_names())
        found.append(mistake("data", f"the trainer needs a data set. Known: {known}."))
    elif objective.data is not None and objective.data not in data_names():
        help_ = nearest(objective.data, data_names())
        found.append(mistake("data", f"unknown data set '{objective.data}'. {help_}"))
    return found


def _name_mistakes(file: StudyFile, objective: ObjectiveSpec, space: object) -> list[Mistake]:
    """Parameters that the trainer does not know, or that are said twice."""
    found = []
    for name in space if isinstance(space, dict) else ():
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
        elif objective.trainer and name not in FIELDS and name not in RESERVED:
            help_ = nearest(str(name), FIELDS)
            found.append(file.mistake(path, f"the trainer has no field '{name}'. {help_}"))
    return found


def _value_mistakes(file: StudyFile, objective: ObjectiveSpec, space: SearchSpace) -> list[Mistake]:
    """Values that the trainer refuses."""
    found = []
    for parameter in space.parameters:
        if objective.trainer and parameter.name in FIELDS:
            problems = (check_value(parameter.name, v) for v in _extremes(parameter.domain))
            path = ("space", parameter.name)
            found += [file.mistake(path, problem) for problem in problems if problem]
            found += _vector_mistakes(file, parameter)
    return found


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


def _extremes(domain: Domain) -> Sequence[Any]:
    """Values that are legal only if all values of a domain are."""
    match domain:
        case Choice(options):
            return options
        case Fixed(value):
            return [value]
        case _:
            return [domain.from_unit(0.0), domain.from_unit(1.0)]


def _grid_mistakes(file: StudyFile, space: SearchSpace) -> list[Mistake]:
    try:
        n_points = space.grid_size
    except search_spaces.GridError as error:
        return [file.mistake(("space", *p.path), p.message) for p in error.problems]
    if n_points:
        return []
    message = "no point of the grid meets it; loosen it, or give the ranges more points."
    return [file.mistake(("space", "require"), message)]


def _gate_mistakes(file: StudyFile, objective: ObjectiveSpec, gate: object) -> list[Mistake]:
    found = []
    for metric, text in gate.items() if isinstance(gate, dict) else ():
        if not isinstance(text, str) or requirement(text) is None:
            message = f"{text!r} is no requirement; write '<= 0.03' or '>= 0.9', in quotes."
            found.append(file.mistake(("gate", str(metric)), message))
        if objective.trainer and metric not in TRAINER_METRICS:
            message = f"unknown metric '{metric}'. {nearest(metric, TRAINER_METRICS)}"
            found.append(file.mistake(("gate", metric), message))
    return found


def _as_mistake(file: StudyFile, details: ErrorDetails) -> Mistake:
    """Pydantic's finding in the words of a study file."""
    path, value = details["loc"], details["input"]
    match details["type"]:
        case "extra_forbidden":
            known = _keys_at(path[:-1])
            message = f"unknown key '{path[-1]}'. {nearest(str(path[-1]), known)}"
        case "missing":
            message = f"'{path[-1]}' is missing."
        case "literal_error":
            known = re.findall(r"'([^']*)'", details.get("ctx", {}).get("expected", ""))
            message = f"unknown {path[-1]} {value!r}. {nearest(str(value), known)}"
        case "string_pattern_mismatch":
            message = f"{value!r}: use letters, digits, '.', '_' and '-'."
        case "model_type" | "dict_type":
            message = f"{value!r} should be a mapping of keys to values."
        case "value_error":
            message = details["msg"].removeprefix("Value error, ") + "."
        case "int_type" | "float_type" | "int_from_float":
            kind = "a whole number" if "int" in details["type"] else "a number"
            quoted = isinstance(value, str) and re.fullmatch(r"[-+.\de]+", value)
            message = f"{value!r} should be {kind}{'; remove the quotes' if quoted else ''}."
        case _:
            message = f"{value!r}: {details['msg'][0].lower()}{details['msg'][1:]}."
    return file.mistake(path, message)


def _keys_at(path: tuple[int | str, ...]) -> list[str]:
    model: Any = StudySpec
    for key in path:
        model = model.model_fields[key].annotation
    return list(model.model_fields)
