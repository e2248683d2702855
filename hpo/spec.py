"""What a study file says: parsed and validated once, here, and trusted afterwards.

Every mistake in a file is collected, each with its line, the path to it and the nearest known
name, and raised as one `SpecError`.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
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
from hpo.directions import Direction, is_known, natural
from hpo.errors import Mistake, SpecError, nearest
from hpo.places import DEFAULT_STORAGE, DEFAULT_TRACKING, TRAIN_FRACTION
from hpo.requirements import requirement
from hpo.studyfile import StudyFile
from hpo.templates import command_problems, file_problem, pattern_problems, placeholders
from search_spaces import Choice, Domain, Fixed, Parameter, Scalar, SearchSpace
from search_spaces.links import RESERVED
from search_spaces.parse import BESIDE, FORMS
from search_spaces.vectors import TAPERS
from trainers import goals
from trainers.config import FIELDS, check_value
from trainers.data import BUILT_IN, Source, mistakes_of
from trainers.fields import is_code
from trainers.goals import Task

DEFAULT_TRIALS = 50

SamplerName = Literal["grid", "random", "sobol", "tpe", "gp", "skopt", "bayesian"]
RuleName = Literal[
    "none", "forecast", "median", "percentile", "asha", "hyperband", "patience", "wilcoxon"
]
WrappedName = Literal["none", "forecast", "median", "percentile", "asha", "hyperband"]

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
_DOTTED = re.compile(r"\w+(\.\w+)+")
_NAME_LENGTH = 250
_TRIAL_ATTRIBUTES = ("checkpoint_dir", "config", "device", "directory", "number", "report", "seed")


def _duration(said: str) -> float:
    match = _DURATION.fullmatch(said.strip())
    if not match or not any(match.groups()):
        raise ValueError(f"'{said}' is not a duration; write 90s, 30m, 1h30m or seconds")
    hours, minutes, rest = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + rest


def _seconds(value: object) -> object:
    return _duration(value) if isinstance(value, str) else value


def seconds(text: str) -> float:
    """Reads a duration as a command line has it: 90s, 10m, or a number of seconds.

    Raises:
        ValueError: it is none, or not above 0.
    """
    try:
        value = float(text)
    except ValueError:
        value = _duration(text)
    if not 0 < value < float("inf"):
        raise ValueError(f"{text} is no time to do anything in")
    return value


Seconds = Annotated[float, BeforeValidator(_seconds), Field(gt=0)]


class _Model(BaseModel):
    # Strict: a quoted "60" where a number belongs is a mistake worth telling.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class MetricsFrom(_Model):
    """Where a command's metrics are, if it does not print JSON lines."""

    file: str | None = Field(None, description="A JSON lines file in the trial's folder.")
    regex: dict[str, str] | None = Field(
        None, description="By metric, a pattern whose one group is its value; also for `step`."
    )


_KINDS = ("trainer", "estimator", "function", "command")
_TASKS: Mapping[str, Task] = {"classifier": "classification", "regressor": "regression"}


class ObjectiveSpec(_Model):
    """What one trial does and which of its metrics is searched for."""

    trainer: Literal["classifier", "regressor"] | None = Field(
        None, description="A built-in trainer of neural networks."
    )
    estimator: str | None = Field(
        None, description="A scikit-learn estimator by its dotted name: `sklearn.svm.SVC`."
    )
    function: str | None = Field(
        None, description="Your own: `package.module:function`, found from the file's folder."
    )
    command: str | list[str] | None = Field(
        None,
        description="Your own, in any language: `python train.py --lr {learning_rate}`, or "
        "`{args}` for all parameters as flags.",
    )
    shell: bool = Field(False, description="command: whether a shell reads it.")
    metrics_from: Literal["stdout", "mlflow"] | MetricsFrom = Field(
        "stdout",
        description="command: where its metrics are: JSON lines on stdout, a JSON lines `file`, "
        "a `regex` for each metric in what it prints, or the MLflow run in $MLFLOW_RUN_ID.",
    )
    data: str | None = Field(
        None,
        description="trainer, estimator: a built-in name; a CSV, Parquet, npz or pt file, or a "
        "folder of images; or `package.module:callable`.",
    )
    target: str | None = Field(None, description="The column or array of `data` to predict.")
    positive: str | int | bool | None = Field(
        None, description="Of two classes, the one that precision and recall are about."
    )
    image_size: Annotated[int, Field(ge=1)] | None = Field(
        None, description="The pixels on each side to which images of a folder are scaled."
    )
    folds: Annotated[int, Field(ge=2)] | None = Field(
        None, description="Cross-validation: metrics are means over so many folds."
    )
    metric: str | Annotated[list[str], Field(min_length=1)] = Field(
        description="The metric to optimise; a list searches for the best compromises."
    )
    direction: Direction | list[Direction] = Field(
        "minimize",
        description="Defaults to what is better, as far as a metric's name tells (val_acc, "
        "loss), and else to minimize.",
    )
    report: list[str] = Field(
        default_factory=list, description="Further metrics that the trainer is to report."
    )
    costs: list[list[Annotated[float, Field(strict=False, allow_inf_nan=False)]]] | None = Field(
        None, description="The cost of each answer (column) for each truth (row), for `val_cost`."
    )
    required_accuracy: Annotated[float, Field(gt=0, le=1, strict=False)] | None = Field(
        None, description="What `val_coverage` demands of the answers that are given."
    )
    epochs: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Length of a trial; reaches the trial as `epochs`."
    )
    train_fraction: bool = Field(
        False,
        description="function, command: whether it trains on the share `train_fraction` of its "
        "training examples, which reaches the trial so named: 1, and less in `hpo data-needs`.",
    )

    @model_validator(mode="before")
    @classmethod
    def _natural_direction(cls, values: Any) -> Any:
        if isinstance(values, dict) and "direction" not in values:
            metric = values.get("metric")
            if isinstance(metric, list):
                return {**values, "direction": [_natural(values, each) for each in metric]}
            return {**values, "direction": _natural(values, metric)}
        return values

    @property
    def metrics(self) -> tuple[str, ...]:
        """All metrics that are optimised; most often one."""
        return (self.metric,) if isinstance(self.metric, str) else tuple(self.metric)

    @property
    def directions(self) -> tuple[Direction, ...]:
        """Which way is better, metric by metric."""
        if isinstance(self.direction, str):
            return (self.direction,) * len(self.metrics)
        return tuple(self.direction)

    def direction_of(self, metric: str) -> Direction:
        """Which way is better of any metric, whether it is optimised or not."""
        if metric in self.metrics:
            return self.directions[self.metrics.index(metric)]
        return _natural({"estimator": self.estimator}, metric)

    @property
    def unguessed(self) -> tuple[str, ...]:
        """The metrics whose direction has to be said: no name tells which way is better."""
        ours = self.trainer is not None or self.estimator is not None
        return () if ours else tuple(name for name in self.metrics if natural(name) is None)

    @property
    def says_fraction(self) -> bool:
        """Whether a function or command says that it trains on a `train_fraction`."""
        placed = self.command is not None and TRAIN_FRACTION in placeholders(self.command)
        return self.train_fraction or placed

    @property
    def kind(self) -> str | None:
        """What does the work: trainer, estimator, function or command; None if not one of them."""
        given = [kind for kind in _KINDS if getattr(self, kind) is not None]
        return given[0] if len(given) == 1 else None

    @property
    def what(self) -> str:
        """What does the work, in a few words: `classifier on digits`."""
        work = getattr(self, self.kind or "trainer")
        text = shlex.join(work) if isinstance(work, list) else str(work)
        return f"{text} on {self.data}" if self.data is not None else text

    @property
    def task(self) -> Task:
        """What the data is for; of an estimator, which knows it better, what that is made for."""
        known = BUILT_IN.get(self.data or "")
        if self.trainer is None and known is not None and known.task is not None:
            return known.task
        return _TASKS.get(self.trainer or "", "classification")


def _natural(values: Mapping[str, Any], metric: object) -> Direction:
    """Which way is better, as far as a metric's name tells; else it is minimised."""
    if values.get("estimator") and not is_known(str(metric)):
        return "maximize"  # one of scikit-learn's scorers, which are larger when better
    return natural(str(metric)) or "minimize"


class SearchSpec(_Model):
    """How configurations are chosen, and how many."""

    sampler: SamplerName = Field("bayesian", description="`bayesian` chooses between gp and tpe.")
    trials: Annotated[int, Field(ge=1)] | None = Field(
        None, description="Trials in the whole study; a grid defaults to all of its points."
    )
    timeout: Seconds | None = Field(
        None,
        description="The study ends after this long, counted over all drivers and runs of it "
        "while any of them runs; trials that run then can be gone on with.",
    )
    gpu_hours: Annotated[float, Field(gt=0, strict=False)] | None = Field(
        None, description="The study ends when trials took so many hours times GPUs, likewise."
    )
    seed: Annotated[int, Field(ge=0)] = Field(0, description="Seeds sampler, data split, trials.")
    startup_trials: Annotated[int, Field(ge=1)] = Field(
        10, description="tpe, gp, skopt: random trials before the model is asked."
    )
    estimator: Literal["GP", "RF", "ET"] = Field("GP", description="skopt: its surrogate model.")


class StoppingSpec(_Model):
    """Which trials are stopped early, judged by the metric at each step."""

    rule: RuleName = Field("none", description="`forecast` is ours, the others are Optuna's.")
    threshold: Annotated[float, Field(gt=0, lt=1, strict=False)] = Field(
        0.09,
        description="forecast: the probability to beat the best finished trial below which a "
        "trial is stopped if that takes three times what finished trials gained from there "
        "on; less of it where it takes less.",
    )
    tolerance: Annotated[float, Field(ge=0, strict=False, allow_inf_nan=False)] = Field(
        0.0, description="forecast: what an improvement has to exceed, in the metric's unit."
    )
    audit: Annotated[float, Field(ge=0, le=1, strict=False)] = Field(
        0.05,
        description="forecast: the share of the trials to be stopped that is run to the end all "
        "the same, so that the forecasts can be judged.",
    )
    startup_trials: Annotated[int, Field(ge=0)] | None = Field(
        None,
        description="forecast, median, percentile: finished trials before any is stopped; 5, and "
        "of forecast 3.",
    )
    warmup_steps: Annotated[int, Field(ge=0)] = Field(
        0, description="median, percentile: steps before a trial may be stopped."
    )
    interval_steps: Annotated[int, Field(ge=1)] = Field(
        1, description="median, percentile: a trial is judged every so many steps."
    )
    min_trials: Annotated[int, Field(ge=1)] = Field(
        1, description="median, percentile: finished trials that must have reported a step."
    )
    percentile: Annotated[float, Field(ge=0, le=100, strict=False)] = Field(
        25.0, description="percentile: the share of trials that goes on."
    )
    min_steps: Annotated[int, Field(ge=1)] = Field(
        1,
        description="asha, hyperband: steps of the first rung; forecast: reports before a trial "
        "may be stopped.",
    )
    max_steps: Annotated[int, Field(ge=1)] | None = Field(
        None, description="hyperband: steps of a whole trial, by default its epochs."
    )
    reduction: Annotated[int, Field(ge=2)] = Field(
        3, description="asha, hyperband: one in so many goes on to the next rung."
    )
    min_early_stopping_rate: Annotated[int, Field(ge=0)] = Field(
        0, description="asha: how many of the first rungs are left out."
    )
    bootstrap_count: Annotated[int, Field(ge=0)] = Field(
        0, description="asha, hyperband: trials that must reach a rung before any passes it."
    )
    patience: Annotated[int, Field(ge=0)] = Field(
        5, description="patience: steps worse than its best that a trial may have."
    )
    min_delta: Annotated[float, Field(ge=0, strict=False)] = Field(
        0.0, description="patience: what counts as no worse, in the metric's unit."
    )
    wrapped: WrappedName = Field(
        "none", description="patience: the rule that has to agree, with its own options beside."
    )
    p_threshold: Annotated[float, Field(ge=0, le=1, strict=False)] = Field(
        0.1, description="wilcoxon: the p-value below which a trial counts as worse."
    )
    startup_steps: Annotated[int, Field(ge=0)] = Field(
        2, description="wilcoxon: steps before a trial may be stopped."
    )

    @property
    def rules(self) -> tuple[str, ...]:
        """The rule, and the one that it wraps."""
        return (self.rule, self.wrapped) if self.rule == "patience" else (self.rule,)


RULE_OPTIONS: Mapping[str, tuple[str, ...]] = {
    "none": (),
    "forecast": ("threshold", "tolerance", "audit", "startup_trials", "min_steps"),
    "median": ("startup_trials", "warmup_steps", "interval_steps", "min_trials"),
    "percentile": ("percentile", "startup_trials", "warmup_steps", "interval_steps", "min_trials"),
    "asha": ("min_steps", "reduction", "min_early_stopping_rate", "bootstrap_count"),
    "hyperband": ("min_steps", "max_steps", "reduction", "bootstrap_count"),
    "patience": ("patience", "min_delta", "wrapped"),
    "wilcoxon": ("p_threshold", "startup_steps"),
}
"""What can be said of each stopping rule."""


_OF_PROCESSES = ("workers", "gpus_per_trial", "trials_per_gpu", "trial_timeout")


class RunSpec(_Model):
    """Where and how trials run."""

    executor: Literal["inline", "processes"] = Field(
        "inline",
        description="inline: in this process, in turn; processes: in worker processes, several at "
        "once. Any of `workers`, `gpus_per_trial`, `trials_per_gpu` and `trial_timeout` chooses "
        "processes.",
    )
    workers: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto",
        description="processes: trials at once; auto is one for each GPU share, or for each "
        "`threads` cores.",
    )
    gpus_per_trial: Annotated[float, Field(gt=0, strict=False)] | None = Field(
        None, description="processes: GPUs of a trial, or the share of one: 1, 2, 0.25."
    )
    trials_per_gpu: Literal["auto"] | Annotated[int, Field(ge=1)] | None = Field(
        None,
        description="processes: trials that share a GPU; auto is as many as its memory holds, by "
        "the peak of those that ran.",
    )
    trial_timeout: Seconds | None = Field(
        None, description="processes: a trial that takes longer fails as TIMED_OUT."
    )
    max_retries: Annotated[int, Field(ge=0)] = Field(
        2, description="How often a trial is taken up again whose process died."
    )
    lease: Annotated[Seconds, Field(ge=1)] = Field(
        60.0, description="Silence of a driver after which others take up its trials."
    )
    storage_retry: Seconds = Field(
        300.0, description="How long a lost database is waited for; training goes on meanwhile."
    )
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    threads: Annotated[int, Field(ge=1)] = Field(
        1, description="CPU threads of a trial; small networks are fastest with one."
    )
    max_failures: Annotated[int, Field(ge=0)] | None = Field(
        None, description="End the study when more trials than this have failed."
    )
    directory: str = Field("hpo-runs", description="Folder for metrics and checkpoints.")
    checkpoint_every: Annotated[int, Field(ge=1)] | Seconds = Field(
        60.0,
        description="trainer: epochs (`5`), or time (`60s`), after which a trial can be resumed.",
    )
    keep_weights: Literal["best", "all", "none"] = Field(
        "best", description="trainer: of which trials the trained weights are kept."
    )

    @model_validator(mode="before")
    @classmethod
    def _natural_executor(cls, values: Any) -> Any:
        asked = isinstance(values, dict) and any(values.get(k) is not None for k in _OF_PROCESSES)
        return {"executor": "processes", **values} if asked else values

    grace_period: Seconds = Field(
        10.0,
        description="Time that an interrupted trial has to reach its next report and checkpoint; "
        "of a command, to end by itself after SIGTERM, before SIGKILL.",
    )


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
    constraints: dict[str, str] = Field(
        default_factory=dict,
        description="What a trial must keep to be among the best: {latency_ms: '<= 5'}",
    )
    gate: dict[str, str] = Field(
        default_factory=dict, description="What the best trial must reach: {val_error: '<= 0.03'}"
    )


_BESIDE_THE_POINT = {"report", "train_fraction"}  # trials are comparable with or without


@dataclass(frozen=True)
class Plan:
    """A study file that has been checked: nothing below has to be checked again.

    Args:
        spec: The file as written.
        space: Its search space, ready-made parts merged in.
        folder: Where its function is looked for.
        baseline: The params of the baseline, if there is one.
        states_direction: Whether the file says which way is better; else the metric's name does.
    """

    spec: StudySpec
    space: SearchSpace
    folder: Path
    baseline: Mapping[str, Scalar] | None = None
    states_direction: bool = True

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

    def epochs(self, params: Mapping[str, Any]) -> int | None:
        """How many epochs the trial of some params takes; None where nothing says it."""
        if self.spec.objective.epochs is not None:
            return self.spec.objective.epochs
        said = params.get("epochs")
        if said is None and "epochs" in self.space.by_name:
            domain = self.space.by_name["epochs"].domain
            said = domain.value if isinstance(domain, Fixed) else None
        return said if isinstance(said, int) else _usual_epochs(self.spec.objective)

    @property
    def longest(self) -> int | None:
        """How many epochs a trial takes at the most; None where nothing says it."""
        return _longest(self.spec.objective, self.space)

    def config(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """The configuration that runs for sampled `params`."""
        return {**self.space.arranged(self.space.complete(params)), **self._given}

    def flat_config(self, params: Mapping[str, Any]) -> dict[str, Scalar]:
        """The same with a name for each element of a vector, as it is searched and shown."""
        return {**self.space.complete(params), **self._given}

    @property
    def _given(self) -> dict[str, Scalar]:
        objective = self.spec.objective
        given: dict[str, Scalar] = {} if objective.epochs is None else {"epochs": objective.epochs}
        if objective.says_fraction and TRAIN_FRACTION not in self.space.by_name:
            given[TRAIN_FRACTION] = 1.0
        return given

    @property
    def takes_fraction(self) -> bool:
        """Whether a trial trains on the share `train_fraction` of its training examples."""
        objective = self.spec.objective
        ours = objective.kind in ("trainer", "estimator")
        return ours or objective.says_fraction or TRAIN_FRACTION in self.space.by_name

    @property
    def identity(self) -> dict[str, Any]:
        """What must stay the same for trials to belong to one study."""
        said = self.spec.objective
        objective = said.model_dump(mode="json", exclude_defaults=True, exclude=_BESIDE_THE_POINT)
        objective["direction"] = said.direction if len(said.metrics) == 1 else said.directions
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

    def directed(self, directions: Sequence[str]) -> Plan:
        """The same plan with these directions, metric by metric."""
        given = list(directions) if len(directions) > 1 else directions[0]
        objective = self.spec.objective.model_copy(update={"direction": given})
        return replace(self, spec=self.spec.model_copy(update={"objective": objective}))

    def overridden(self, overrides: Sequence[str]) -> Plan:
        """The same plan, but for ``a.b=value`` overrides.

        Raises:
            SpecError: the result cannot be run.
        """
        values = {key: value for key, value in self.as_stored().items() if key != "folder"}
        rule: str = self.spec.stopping.rule
        for override in overrides:  # another rule begins with its own defaults
            key, _, value = override.partition("=")
            rule = value.strip() if key == "stopping.rule" else rule
        values["stopping"] = _of_rule(values["stopping"], rule)
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
    stopping = values.get("stopping", {})
    values["stopping"] = _of_rule(stopping, stopping.get("rule", "none"))
    return check(StudyFile("the stored study", Path(stored["folder"]), values))


def _usual_epochs(objective: ObjectiveSpec) -> int | None:
    """How many epochs a trial takes where neither file nor space says it."""
    usual = FIELDS["epochs"].default if objective.trainer else None
    return usual if isinstance(usual, int) else None


def _longest(objective: ObjectiveSpec, space: SearchSpace) -> int | None:
    """How many epochs a trial takes at the most; None where nothing says it."""
    if "epochs" not in space.by_name:
        return objective.epochs or _usual_epochs(objective)
    values = _extremes(space.by_name["epochs"].domain)
    return max((value for value in values if isinstance(value, int)), default=None)


def _of_rule(stopping: Mapping[str, Any], rule: str) -> dict[str, Any]:
    """What stands under ``stopping:``, but for what is said of other rules than this one."""
    wrapped = RULE_OPTIONS.get(stopping.get("wrapped", "none"), ()) if rule == "patience" else ()
    options = {"rule", *RULE_OPTIONS.get(rule, ()), *wrapped}
    return {key: value for key, value in stopping.items() if key in options}


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
        mistakes += _mistakes_of_form(file, error)
    objective = _part(ObjectiveSpec, values.get("objective"))
    space = _space(file, values.get("space"), objective, mistakes)
    if objective:
        whole = not any(mistake.path[:1] == ("objective",) for mistake in mistakes)
        mistakes += _objective_mistakes(file, objective, whole=whole)
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
    return Plan(spec, space, file.folder, baseline, "direction" in values["objective"])


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
    return all(values.get(key, getattr(stopping, key)) == getattr(stopping, key)
               for key in ("rule", "wrapped"))  # fmt: skip


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
        longest = stopping.max_steps or _longest(objective, space)
        if longest is None:
            message = "hyperband must know a trial's length; give max_steps or objective.epochs."
            yield file.mistake(("stopping", "rule"), message)
        elif longest < stopping.min_steps:
            message = f"{stopping.min_steps}: a trial has no more than {longest} steps."
            yield file.mistake(("stopping", "min_steps"), message)


def _run_mistakes(
    file: StudyFile, objective: ObjectiveSpec | None, run: RunSpec | None
) -> Iterator[Mistake]:
    """What does not go together under `run`."""
    if run is None:
        return
    said = [k for k in _OF_PROCESSES if getattr(run, k) != RunSpec.model_fields[k].default]
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


_TABLE_KEYS = ("data", "target", "positive", "image_size", "folds", "report", "costs",
               "required_accuracy")  # fmt: skip
_COMMAND_KEYS = ("shell", "metrics_from")


def source_of(objective: ObjectiveSpec, folder: Path) -> Source:
    """The data that an objective names."""
    return Source(
        name=objective.data or "",
        task=objective.task,
        target=objective.target,
        positive=None if objective.positive is None else str(objective.positive),
        image_size=objective.image_size,
        folds=objective.folds,
        folder=folder,
    )


def _objective_mistakes(file: StudyFile, objective: ObjectiveSpec, *, whole: bool) -> list[Mistake]:
    """Mistakes between keys; what is missing is told only of a section that is `whole`."""

    def mistake(key: str, message: str) -> Mistake:
        return file.mistake(("objective", key), message)

    given = [kind for kind in _KINDS if getattr(objective, kind) is not None]
    if objective.kind is None:
        message = f"give one of {', '.join(f'`{kind}`' for kind in _KINDS)}."
        return [mistake(given[0] if given else "trainer", message)] if whole or given else []
    found = [*_metric_mistakes(file, objective)]
    for kind, keys, what in (
        (("trainer", "estimator"), _TABLE_KEYS, f"a {objective.kind} has its own data"),
        (("command",), _COMMAND_KEYS, "it is for commands"),
        (("function", "command"), ("train_fraction",), f"a {objective.kind} takes it anyway"),
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
    if objective.kind in ("trainer", "estimator"):
        found += _data_mistakes(file, objective, whole=whole)
    return found


def _metric_mistakes(file: StudyFile, objective: ObjectiveSpec) -> Iterator[Mistake]:
    path, metrics = ("objective", "metric"), objective.metrics
    if len(set(metrics)) < len(metrics):
        yield file.mistake(path, f"{', '.join(metrics)}: name each of them once.")
    if isinstance(objective.direction, list) and len(objective.direction) != len(metrics):
        message = f"{len(objective.direction)} directions for {len(metrics)} metrics."
        yield file.mistake(("objective", "direction"), message)
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
            help_ = nearest(str(name), FIELDS)
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


def _requirement_mistakes(
    file: StudyFile, objective: ObjectiveSpec, key: str, requirements: object
) -> list[Mistake]:
    """Mistakes in what a `gate` demands, or in `constraints`."""
    found = []
    for metric, text in requirements.items() if isinstance(requirements, dict) else ():
        if not isinstance(text, str) or requirement(text) is None:
            message = f"{text!r} is no requirement; write '<= 0.03' or '>= 0.9', in quotes."
            found.append(file.mistake((key, str(metric)), message))
        if problem := _unknown_metric(file, objective, str(metric)):
            found.append(file.mistake((key, str(metric)), problem))
    return found


_SAID_BELOW = ("baseline", "constraints", "gate", "space")

_EITHER: Mapping[tuple[int | str, ...], str] = {
    ("objective", "metric"): "a name, or a list of names",
    ("objective", "direction"): "minimize or maximize, or a list of one for each metric",
    ("objective", "command"): "text, or a list of arguments",
    ("objective", "metrics_from"): "stdout, mlflow, {file: metrics.jsonl} or {regex: ...}",
    ("objective", "positive"): "the name of a class",
    ("run", "checkpoint_every"): "a number of epochs such as 5, or a time such as 60s",
    ("run", "trials_per_gpu"): "auto, or a number such as 2",
    ("run", "workers"): "auto, or a number such as 4",
}
"""What may be given where more than one form may, by path."""


def _mistakes_of_form(file: StudyFile, error: ValidationError) -> Iterator[Mistake]:
    """Pydantic's findings, but for those of sections whose mistakes are said better elsewhere."""
    either: set[tuple[int | str, ...]] = set()
    for details in error.errors():
        path = details["loc"]
        if path[0] in _SAID_BELOW and len(path) > 1:
            continue
        if path[:2] not in _EITHER or details["type"] == "missing":
            yield _as_mistake(file, details)
        elif path[:2] not in either:
            # Each of the forms has failed; what was meant is anybody's guess.
            either.add(path[:2])
            value = file.values[str(path[0])][path[1]]
            yield file.mistake(path[:2], f"{value!r} should be {_EITHER[path[:2]]}.")


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
        case "int_type" | "float_type" | "float_parsing" | "int_from_float":
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
