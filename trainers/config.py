"""What can be set in a classifier, and within which bounds.

Each field is described once, where `ClassifierConfig` declares it; `FIELDS` and `check_value`
let others check a search space against the same descriptions.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, isfinite
from types import MappingProxyType
from typing import Any, Literal, Self, cast

from trainers.errors import ConfigError, Problem, did_you_mean

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
    """Which values a field takes, and when it matters.

    Attributes:
        kind: str, bool, int or float. An int field takes 64.0 too, a float field any integer.
        why: What the value is, and with it why it is bounded.
        default: What it is where nobody sets it.
        allowed: Every value, where kind is str.
        low: The least value.
        high: The greatest value.
        low_open: Whether `low` itself is left out.
        high_open: Whether `high` itself is left out.
        optional: Whether None is a value.
        per: The field that says how many values a list has; None where it takes no list.
        used_when: Values of other fields, by name; the field has an effect only while each of those
            has one of these. Empty where it always may.
    """

    kind: type
    why: str
    default: object = None
    allowed: tuple[str, ...] | None = None
    low: float | None = None
    high: float | None = None
    low_open: bool = False
    high_open: bool = False
    optional: bool = False
    per: str | None = None
    used_when: Mapping[str, tuple[object, ...]] = dataclasses.field(default_factory=dict)

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
        if self.per is not None and isinstance(value, list | tuple):
            found = ((i, self._one_problem(one)) for i, one in enumerate(value, start=1))
            return next((f"layer {i}: {problem}" for i, problem in found if problem), None)
        return self._one_problem(value)

    def taken(self, value: Any) -> Any:
        """A value without `problem`, in the field's kind: 64.0 becomes 64; a list, a tuple."""
        if value is None:
            return None
        if isinstance(value, list | tuple):
            return tuple(self.kind(one) for one in value)
        return self.kind(value)

    def _one_problem(self, value: object) -> str | None:
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
    field = Field(kind, why, default, **limits)
    return dataclasses.field(default=default, metadata={"field": field})


_SGD = {"optimizer": ("sgd",)}
_CNN = {"model": ("cnn",)}
_ENDING = ("linear", "exponential", "polynomial", "cosine", "one_cycle")


@dataclass(frozen=True)
class ClassifierConfig:
    """One configuration of `trainers.classifier.fit`. Every one that exists is valid.

    What each field means and takes is in `FIELDS`. A schedule's own epochs, such as `tau`, count
    from the end of its warm-up.

    Raises:
        ConfigError: With every value that cannot be taken; where there is none, with every two
            that cannot be taken together.
    """

    model: str = _setting("mlp", str, "the network", allowed=("mlp", "cnn"))
    optimizer: str = _setting(
        "sgd", str, "how weights step", allowed=("sgd", "adagrad", "rmsprop", "adam", "adamw")
    )
    learning_rate: float = _setting(
        0.01,
        float,
        "how far a step follows the gradient where the schedule is highest",
        low=0,
        low_open=True,
    )
    momentum: float = _setting(
        0.9,
        float,
        "the share of each sgd step that the next one keeps, which at 1 would never fade",
        low=0,
        high=1,
        high_open=True,
        used_when=_SGD,
    )
    nesterov: bool = _setting(False, bool, "whether sgd's momentum looks ahead", used_when=_SGD)
    momentum_schedule: str = _setting(
        "constant",
        str,
        "how sgd's momentum changes",
        allowed=("constant", "increasing", "cycled"),
        used_when=_SGD,
    )
    low_momentum: float | None = _setting(
        None,
        float,
        "the least momentum of a momentum_schedule; none is 0.5 where it is increasing and 0.85 "
        "where it is cycled, and it is never above momentum",
        low=0,
        high=1,
        high_open=True,
        optional=True,
        used_when={**_SGD, "momentum_schedule": ("increasing", "cycled")},
    )
    weight_decay: float = _setting(
        0.0,
        float,
        "the share, times the learning rate, of the weights that each step first takes away",
        low=0,
    )
    schedule: str = _setting(
        "constant",
        str,
        "how the learning rate changes",
        allowed=(
            "constant",
            "linear",
            "inverse_time",
            "step",
            "exponential",
            "polynomial",
            "cosine",
            "cosine_restarts",
            "one_cycle",
        ),
    )
    final_lr_fraction: float = _setting(
        0.01,
        float,
        "the schedule's last learning rate as a share of the highest",
        low=0,
        high=1,
        used_when={"schedule": (*_ENDING, "cosine_restarts")},
    )
    tau: float | None = _setting(
        None,
        float,
        "the epochs until the schedule reaches its last learning rate; none is the whole run, but "
        "at most 100 where it is linear. Where it is inverse_time, the epochs that divide the "
        "rate by 2^decay_power; none is a tenth of the run",
        low=0,
        low_open=True,
        optional=True,
        used_when={"schedule": (*_ENDING, "inverse_time")},
    )
    decay_power: float | None = _setting(
        None,
        float,
        "the power of an inverse_time or polynomial schedule; none is 1 and 2",
        low=0,
        low_open=True,
        optional=True,
        used_when={"schedule": ("inverse_time", "polynomial")},
    )
    step_epochs: float | None = _setting(
        None,
        float,
        "the epochs between the drops of a step schedule; none is a third of the run",
        low=0,
        low_open=True,
        optional=True,
        used_when={"schedule": ("step",)},
    )
    step_factor: float = _setting(
        0.1,
        float,
        "what each drop of a step schedule multiplies the rate by",
        low=0,
        high=1,
        low_open=True,
        high_open=True,
        used_when={"schedule": ("step",)},
    )
    cycle_epochs: float | None = _setting(
        None,
        float,
        "the epochs of a cosine_restarts schedule's first cycle; with none, three fill the run",
        low=0,
        low_open=True,
        optional=True,
        used_when={"schedule": ("cosine_restarts",)},
    )
    cycle_growth: int = _setting(
        2,
        int,
        "how many times as long each cycle is as the one before",
        low=1,
        used_when={"schedule": ("cosine_restarts",)},
    )
    peak_fraction: float = _setting(
        0.3,
        float,
        "the share of a one_cycle schedule in which the rate rises",
        low=0,
        high=1,
        low_open=True,
        high_open=True,
        used_when={"schedule": ("one_cycle",)},
    )
    start_lr_fraction: float = _setting(
        0.04,
        float,
        "a one_cycle schedule's first learning rate as a share of the highest",
        low=0,
        high=1,
        low_open=True,
        used_when={"schedule": ("one_cycle",)},
    )
    warmup_epochs: float = _setting(
        0.0, float, "the epochs in which the rate climbs before its schedule begins", low=0
    )
    batch_size: int = _setting(64, int, "the examples of one step", low=1)
    epochs: int = _setting(30, int, "the passes over the training examples", low=1)
    dropout: float | Sequence[float] = _setting(
        0.0,
        float,
        "the probability that a hidden unit is dropped, which at 1 would leave none",
        low=0,
        high=1,
        high_open=True,
        per="depth",
    )
    depth: int = _setting(
        2, int, "the hidden layers, a cnn's convolutions; 0 is softmax regression", low=0
    )
    width: int | Sequence[int] = _setting(
        128, int, "the units of a hidden layer, a convolution's channels", low=1, per="depth"
    )
    activation: str = _setting(
        "relu", str, "the hidden units' nonlinearity", allowed=("relu", "tanh", "gelu")
    )
    norm: str = _setting(
        "none",
        str,
        "what hidden units are normalised over before their nonlinearity",
        allowed=("none", "batch", "layer"),
    )
    kernel_width: int = _setting(
        3, int, "the pixels on each side of a convolution's kernel", low=1, used_when=_CNN
    )
    pooling: str = _setting(
        "max",
        str,
        "what halves the sides of an image after a convolution",
        allowed=("max", "average", "none"),
        used_when=_CNN,
    )

    def __post_init__(self) -> None:
        values = {name: getattr(self, name) for name in FIELDS}
        _raise_problems(values)
        for name, value in values.items():
            object.__setattr__(self, name, FIELDS[name].taken(value))
        if problems := list(_together(self)):
            raise ConfigError(problems)

    @classmethod
    def from_mapping(cls, config: Mapping[str, object]) -> Self:
        """The configuration with these values, and defaults for the rest.

        Raises:
            ConfigError: With every unknown field and every value that cannot be taken.
        """
        _raise_problems(config)
        return cls(**cast("dict[str, Any]", config))

    @property
    def layers(self) -> list[tuple[int, float]]:
        """The width and dropout of each hidden layer."""
        width, dropout = (
            [value] * self.depth if isinstance(value, int | float) else value
            for value in (self.width, self.dropout)
        )
        return list(zip(cast("Sequence[int]", width), dropout, strict=True))


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


def _together(config: ClassifierConfig) -> Iterator[Problem]:
    """Values that can be taken each, but not together."""
    for name in (name for name, field in FIELDS.items() if field.per):
        value = getattr(config, name)
        if isinstance(value, tuple) and len(value) != config.depth:
            sentence = (
                f"a list of {len(value)} for a depth of {config.depth}. "
                "A list has one value for each hidden layer; a number holds for all."
            )
            yield Problem((name,), sentence)
    if config.warmup_epochs >= config.epochs:
        sentence = (
            f"{config.warmup_epochs:g} is not below the {config.epochs} epochs of the whole run, "
            "so that no schedule would begin."
        )
        yield Problem(("warmup_epochs",), sentence)
    if config.schedule == "exponential" and config.final_lr_fraction == 0:
        sentence = "an exponential schedule never reaches 0. It must be above 0, such as 0.01."
        yield Problem(("final_lr_fraction",), sentence)
    if config.norm == "batch" and config.depth and config.batch_size == 1:
        sentence = (
            "batch norm takes the mean and deviation of a minibatch, and 1 example has no "
            "deviation. It must be at least 2 with norm: batch."
        )
        yield Problem(("batch_size",), sentence)
