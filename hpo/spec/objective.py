"""``objective:``, what one trial does and which of its metrics is searched for.

The one section with a mind of its own: which way is better of a metric, what the data is for,
and how long a trial is follow from what it says, and are asked for everywhere.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from hpo.directions import Direction, is_known, natural
from hpo.places import TRAIN_FRACTION
from hpo.search_spaces import Choice, Domain, Fixed, SearchSpace
from hpo.templates import placeholders
from hpo.trainers.config import FIELDS
from hpo.trainers.data import BUILT_IN, Source
from hpo.trainers.goals import Task

KINDS = ("trainer", "estimator", "function", "command")
"""What can do the work; a file says one of them."""

_TASKS: Mapping[str, Task] = {"classifier": "classification", "regressor": "regression"}


class Strict(BaseModel):
    """A section of a study file, of nothing but known keys and values of the right kind."""

    # A quoted "60" where a number belongs is a mistake worth telling.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def _low_and_high(bounds: Any) -> tuple[float | None, float | None]:
    """Two numbers in order, None where a side is open; one message says all that may be wrong."""
    try:
        low, high = bounds
        low = -math.inf if low is None else float(low + 0.0)  # the sum refuses words
        high = math.inf if high is None else float(high + 0.0)
        is_right = low < high and (math.isfinite(low) or math.isfinite(high))
    except (TypeError, ValueError, OverflowError):
        is_right = False
    if not is_right:
        told = "the metric's lowest and highest value are needed, such as [0, 1] or [null, 100]"
        raise ValueError(f"{told}, not {bounds!r}")
    return low if math.isfinite(low) else None, high if math.isfinite(high) else None


class MetricsFrom(Strict):
    """Where a command's metrics are, if it does not print JSON lines."""

    file: str | None = Field(
        None,
        description="A file in the trial's folder with JSON lines, or one object written anew; "
        "or with rows, if its name ends in .csv.",
    )
    regex: dict[str, str] | None = Field(
        None, description="By metric, a pattern whose one group is its value; also for `step`."
    )


class ObjectiveSpec(Strict):
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
    bounds: Annotated[tuple[float | None, float | None], BeforeValidator(_low_and_high)] | None = (
        Field(
            None,
            description="function, command: the metric's lowest and highest value, null where "
            "there is none; by default what its name tells.",
        )
    )
    report: list[str] = Field(
        default_factory=list, description="Further metrics that the trainer is to report."
    )
    costs: list[list[Annotated[float, Field(strict=False, allow_inf_nan=False)]]] | None = Field(
        None, description="The cost of each answer (column) for each truth (row), for `val_cost`."
    )
    required_accuracy: Annotated[float, Field(gt=0, le=1, strict=False)] | None = Field(
        None,
        description="What `val_coverage` demands of the answers that are given, and what an "
        "export's answers are to reach.",
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
    def stated_bounds(self) -> tuple[float, float] | None:
        """Between which values the metric lies, as the file says; infinite where a side is open."""
        if self.bounds is None:
            return None
        low, high = self.bounds
        return -math.inf if low is None else low, math.inf if high is None else high

    @property
    def natural_directions(self) -> tuple[Direction, ...]:
        """Which way is better, as far as the metrics' names tell."""
        values = {"estimator": self.estimator}
        return tuple(_natural(values, metric) for metric in self.metrics)

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
        given = [kind for kind in KINDS if getattr(self, kind) is not None]
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

    @property
    def usual_epochs(self) -> int | None:
        """How many epochs a trial takes where neither file nor space says it."""
        usual = FIELDS["epochs"].default if self.trainer else None
        return usual if isinstance(usual, int) else None

    def longest(self, space: SearchSpace) -> int | None:
        """How many epochs a trial takes at the most; None where nothing says it."""
        if "epochs" not in space.by_name:
            return self.epochs or self.usual_epochs
        values = extremes(space.by_name["epochs"].domain)
        return max((value for value in values if isinstance(value, int)), default=None)


def _natural(values: Mapping[str, Any], metric: object) -> Direction:
    """Which way is better, as far as a metric's name tells; else it is minimised."""
    if values.get("estimator") and not is_known(str(metric)):
        return "maximize"  # one of scikit-learn's scorers, which are larger when better
    return natural(str(metric)) or "minimize"


def source_of(objective: ObjectiveSpec, folder: Path, *, integers: bool = False) -> Source:
    """The data that an objective names, whose integers may stay such."""
    return Source(
        name=objective.data or "",
        task=objective.task,
        target=objective.target,
        positive=None if objective.positive is None else str(objective.positive),
        image_size=objective.image_size,
        folds=objective.folds,
        integers=integers,
        folder=folder,
    )


def extremes(domain: Domain) -> Sequence[Any]:
    """Values that are legal only if all values of a domain are."""
    match domain:
        case Choice(options):
            return options
        case Fixed(value):
            return [value]
        case _:
            return [domain.from_unit(0.0), domain.from_unit(1.0)]
