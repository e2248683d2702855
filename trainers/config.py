"""What can be set in a classifier, and within which bounds.

Each field is described once, where `ClassifierConfig` declares it; `FIELDS` and `check_value`
let others check a search space against the same descriptions.
"""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil, isfinite
from types import MappingProxyType
from typing import Any, Literal, Self, cast

from trainers.errors import ConfigError, Problem, did_you_mean
from trainers.schedules import SCHEDULES

METRICS: Mapping[str, Literal["minimize", "maximize"]] = MappingProxyType(
    {
        "train_loss": "minimize",
        "val_loss": "minimize",
        "val_error": "minimize",
        "val_accuracy": "maximize",
    }
)
"""What `trainers.classifier.fit` reports, and which way is better."""


@dataclass(frozen=True)
class Field:
    """Which values a field takes.

    Attributes:
        kind: str, bool, int or float. An int field takes 64.0 too, a float field any integer.
        why: What the value is, and with it why it is bounded.
        allowed: Every value, where kind is str.
        low: The least value.
        high: The greatest value.
        low_open: Whether `low` itself is left out.
        high_open: Whether `high` itself is left out.
        optional: Whether None is a value.
    """

    kind: type
    why: str
    allowed: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    optional: bool = False

    @property
    def bounds(self) -> str:
        """The bounds in words, such as "at least 0 and below 1"; empty without any."""
        words = (
            (self.low, "above" if self.low_open else "at least"),
            (self.high, "below" if self.high_open else "at most"),
        )
        return " and ".join(f"{word} {end:g}" for end, word in words if end is not None)

    def problem(self, value: object) -> str | None:
        """The sentence that says why `value` cannot be taken; None where it can."""
        if value is None and self.optional:
            return None
        if self.allowed is not None:
            if value in self.allowed:
                return None
            return f"{value!r} is not a choice. {did_you_mean(value, self.allowed)}"
        if self.kind is bool:
            return None if isinstance(value, bool) else f"{value!r} is not true or false."
        return self._number_problem(value)

    def _number_problem(self, value: object) -> str | None:
        whole = self.kind is int
        if isinstance(value, bool) or not isinstance(value, int | float):
            return f"{value!r} is not a {'whole ' * whole}number.{_unquoted(value)}"
        if isinstance(value, float) and not isfinite(value):
            return f"{value} is not a finite number."
        if whole and value != int(value):
            return f"{value!r} is not a whole number. Did you mean {ceil(value)}?"
        if self._holds(value):
            return None
        return f"{value!r} is out of range. It must be {self.bounds}; it is {self.why}."

    def _holds(self, value: float) -> bool:
        above = self.low is None or value > self.low or (value == self.low and not self.low_open)
        below = (
            self.high is None or value < self.high or (value == self.high and not self.high_open)
        )
        return above and below


def _unquoted(value: object) -> str:
    """The end of a sentence about a number in quotes."""
    try:
        number = isinstance(value, str) and isfinite(float(value))
    except ValueError:
        number = False
    return f" Did you mean {value}, without quotes?" if number else ""


def _setting(default: object, kind: type, why: str, **limits: Any) -> Any:
    """A dataclass field that carries its description."""
    return dataclasses.field(default=default, metadata={"field": Field(kind, why, **limits)})


@dataclass(frozen=True)
class ClassifierConfig:
    """One configuration of `trainers.classifier.fit`. Every one that exists is valid.

    What each field means and takes is in `FIELDS`.

    Raises:
        ConfigError: With every value that cannot be taken.
    """

    model: str = _setting("mlp", str, "the network", allowed=("mlp",))
    optimizer: str = _setting("sgd", str, "how weights step", allowed=("sgd", "adam"))
    learning_rate: float = _setting(
        0.01, float, "how far the first step follows the gradient", low=0, low_open=True
    )
    momentum: float = _setting(
        0.9,
        float,
        "the share of each sgd step that the next one keeps, which at 1 would never fade",
        low=0,
        high=1,
        high_open=True,
    )
    nesterov: bool = _setting(False, bool, "whether sgd's momentum looks ahead")
    weight_decay: float = _setting(
        0.0,
        float,
        "the share, times learning_rate, of the weights that each step first takes away",
        low=0,
    )
    schedule: str = _setting(
        "constant", str, "how the learning rate falls", allowed=tuple(SCHEDULES)
    )
    final_lr_fraction: float = _setting(
        0.01, float, "the schedule's last learning rate as a share of the first", low=0, high=1
    )
    tau: float | None = _setting(
        None,
        float,
        "the epochs until the schedule reaches its last learning rate; none is the whole run",
        low=0,
        low_open=True,
        optional=True,
    )
    batch_size: int = _setting(64, int, "the examples of one step", low=1)
    epochs: int = _setting(30, int, "the passes over the training examples", low=1)
    dropout: float = _setting(
        0.0,
        float,
        "the probability that a hidden unit is dropped, which at 1 would leave none",
        low=0,
        high=1,
        high_open=True,
    )
    depth: int = _setting(2, int, "the hidden layers; 0 is softmax regression", low=0)
    width: int = _setting(128, int, "the units of a hidden layer", low=1)
    activation: str = _setting(
        "relu", str, "the hidden units' nonlinearity", allowed=("relu", "tanh", "gelu")
    )

    def __post_init__(self) -> None:
        values = dataclasses.asdict(self)
        _raise_problems(values)
        for name, value in values.items():
            if value is not None:  # 64.0 becomes 64, and 1 a float where a float is expected
                object.__setattr__(self, name, FIELDS[name].kind(value))

    @classmethod
    def from_mapping(cls, config: Mapping[str, object]) -> Self:
        """The configuration with these values, and defaults for the rest.

        Raises:
            ConfigError: With every unknown field and every value that cannot be taken.
        """
        _raise_problems(config)
        return cls(**cast("dict[str, Any]", config))


FIELDS: Mapping[str, Field] = MappingProxyType(
    {field.name: field.metadata["field"] for field in dataclasses.fields(ClassifierConfig)}
)
"""Every field of `ClassifierConfig` by name."""


def check_value(name: str, value: object) -> str | None:
    """The sentence that says why field `name` cannot be `value`; None where it can."""
    if name not in FIELDS:
        return f"unknown field {name!r}. {did_you_mean(name, FIELDS)}"
    return FIELDS[name].problem(value)


def _raise_problems(config: Mapping[str, object]) -> None:
    checked = ((name, check_value(name, value)) for name, value in config.items())
    problems = [Problem((name,), message) for name, message in checked if message is not None]
    if problems:
        raise ConfigError(problems)
