"""What can be set in the built-in trainers, and within which bounds.

Each field is described once, where `TrainerConfig` declares it; `FIELDS` and `check_value`
let others check a search space against the same descriptions.
"""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Self, cast

from hpo.trainers.errors import ConfigError, Problem, did_you_mean
from hpo.trainers.fields import Field, is_code
from hpo.trainers.goals import Task


def _setting(default: object, kind: type, why: str, **limits: Any) -> Any:
    """A dataclass field that carries its description."""
    field = Field(kind, why, default, **limits)
    return dataclasses.field(default=default, metadata={"field": field})


FIRST_ORDER = ("sgd", "adagrad", "rmsprop", "adam", "adamw")
"""Optimizers that step along the gradient of a minibatch, as far as the learning rate says."""

FULL_BATCH = ("lbfgs", "cg", "newton")
"""Optimizers that look at all training examples in each step, and find its length themselves."""

_STEPS = {"optimizer": FIRST_ORDER}
_SGD = {"optimizer": ("sgd",)}
_ADAM = {"optimizer": ("adam", "adamw")}
_DEEP = {"model": ("mlp", "cnn", "resnet")}
_CNN = {"model": ("cnn",)}
_ENDING = ("linear", "exponential", "polynomial", "cosine", "one_cycle")


@dataclass(frozen=True)
class TrainerConfig:
    """One configuration of `hpo.trainers.loop.fit`. Every one that exists is valid.

    What each field means and takes is in `FIELDS`. A schedule's own epochs, such as `tau`, count
    from the end of its warm-up.

    Args:
        own: What the user's own model has besides, by name; empty with any other.

    Raises:
        ConfigError: with every value that cannot be taken; where there is none, with every two
            that cannot be taken together.
    """

    model: str = _setting(
        "mlp",
        str,
        "the network; `package.module:function` makes your own of the configuration",
        allowed=("mlp", "cnn", "resnet", "linear"),
        code=True,
    )
    optimizer: str = _setting(
        "sgd",
        str,
        "how weights step; lbfgs, cg and newton take all training examples at once",
        allowed=(*FIRST_ORDER, *FULL_BATCH),
    )
    learning_rate: float = _setting(
        0.01,
        float,
        "how far a step follows the gradient where the schedule is highest",
        low=0,
        low_open=True,
        used_when=_STEPS,
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
    beta1: float = _setting(
        0.9,
        float,
        "the share that adam's running mean of gradients keeps",
        low=0,
        high=1,
        high_open=True,
        used_when=_ADAM,
    )
    beta2: float = _setting(
        0.999,
        float,
        "the share that adam's running mean of squared gradients keeps",
        low=0,
        high=1,
        high_open=True,
        used_when=_ADAM,
    )
    rho: float = _setting(
        0.99,
        float,
        "the share that rmsprop's running mean of squared gradients keeps",
        low=0,
        high=1,
        high_open=True,
        used_when={"optimizer": ("rmsprop",)},
    )
    history: int = _setting(
        10,
        int,
        "the last steps from which lbfgs sees the curvature",
        low=1,
        used_when={"optimizer": ("lbfgs",)},
    )
    damping: float = _setting(
        1e-3,
        float,
        "the alpha that newton adds to the curvature, so that it is positive in all directions",
        low=0,
        low_open=True,
        used_when={"optimizer": ("newton",)},
    )
    weight_decay: float = _setting(
        0.0,
        float,
        "the share, times the learning rate, of the weights that each step first takes away",
        low=0,
        used_when=_STEPS,
    )
    l2: float = _setting(
        0.0, float, "the penalty's factor: the loss has l2 / 2 times the squared weights", low=0
    )
    clip_norm: float | None = _setting(
        None,
        float,
        "the greatest norm that the gradient of all weights keeps; longer ones are shortened",
        low=0,
        low_open=True,
        optional=True,
        used_when=_STEPS,
    )
    clip_value: float | None = _setting(
        None,
        float,
        "the greatest size of each weight's gradient, beyond which it is cut",
        low=0,
        low_open=True,
        optional=True,
        used_when=_STEPS,
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
        used_when=_STEPS,
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
        0.0,
        float,
        "the epochs in which the rate climbs before its schedule begins",
        low=0,
        used_when=_STEPS,
    )
    batch_size: int = _setting(64, int, "the examples of one step", low=1, used_when=_STEPS)
    micro_batch: int | None = _setting(
        None,
        int,
        "the most examples that pass through the network at once, a minibatch's gradient being "
        "the sum of theirs; none is all of them, or half as many again and again where memory "
        "runs out",
        low=1,
        optional=True,
    )
    epochs: int = _setting(
        30,
        int,
        "the passes over the training examples; lbfgs, cg and newton step once in each",
        low=1,
    )
    train_fraction: float = _setting(
        1.0,
        float,
        "the share of the training examples that are trained on, in proportion by class and drawn "
        "by the seed, of which a smaller share is a part; a batch_size beyond them is all of them",
        low=0,
        low_open=True,
        high=1,
    )
    patience: int | None = _setting(
        None,
        int,
        "the epochs without a better value of the goal after which training ends, with the best "
        "weights; none is never",
        low=1,
        optional=True,
    )
    dropout: float | Sequence[float] = _setting(
        0.0,
        float,
        "the probability that a hidden unit is dropped, which at 1 would leave none",
        low=0,
        high=1,
        high_open=True,
        per="depth",
        used_when=_DEEP,
    )
    depth: int = _setting(
        2,
        int,
        "the hidden layers, a cnn's convolutions, a resnet's blocks; 0 is a linear model",
        low=0,
        used_when=_DEEP,
    )
    width: int | Sequence[int] = _setting(
        128,
        int,
        "the units of a hidden layer, the channels of a convolution or block",
        low=1,
        per="depth",
        used_when=_DEEP,
    )
    activation: str = _setting(
        "relu",
        str,
        "the hidden units' nonlinearity",
        allowed=("relu", "tanh", "gelu"),
        used_when=_DEEP,
    )
    norm: str = _setting(
        "none",
        str,
        "what hidden units are normalised over before their nonlinearity",
        allowed=("none", "batch", "layer"),
        used_when=_DEEP,
    )
    residual: bool = _setting(
        False,
        bool,
        "whether each hidden layer of an mlp but the first adds to what it was given",
        used_when={"model": ("mlp",)},
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
    init: str = _setting(
        "glorot_uniform",
        str,
        "how weights are drawn at the start",
        allowed=(
            "glorot_uniform",
            "glorot_normal",
            "he_uniform",
            "he_normal",
            "lecun_normal",
            "orthogonal",
            "normal",
        ),
    )
    init_std: float = _setting(
        0.01,
        float,
        "the deviation of weights drawn by a normal init",
        low=0,
        low_open=True,
        used_when={"init": ("normal",)},
    )
    last_init: str = _setting(
        "same",
        str,
        "how the output layer's weights start: as the others, or at zero",
        allowed=("same", "zeros"),
    )
    bias_init: float = _setting(
        0.0, float, "the hidden units' first bias, or that of their norm", used_when=_DEEP
    )
    label_smoothing: float = _setting(
        0.0,
        float,
        "the share of a label's weight that is spread over all classes; of no use in regression",
        low=0,
        high=1,
        high_open=True,
    )
    class_weight: str = _setting(
        "none",
        str,
        "what a class counts in the loss: as often as it occurs, or all classes alike (balanced)",
        allowed=("none", "balanced"),
    )
    mixup: float = _setting(
        0.0,
        float,
        "alpha: examples are mixed in pairs, by a share drawn from Beta(alpha, alpha); 0 is never",
        low=0,
    )
    flip: bool = _setting(False, bool, "whether half of the training images are mirrored")
    crop: int = _setting(
        0, int, "the pixels by which training images are shifted at most, each way", low=0
    )
    noise: float = _setting(
        0.0,
        float,
        "the deviation of the noise added to training inputs, whose own is about 1",
        low=0,
    )
    precision: str = _setting(
        "auto",
        str,
        "the numbers that networks calculate with; auto is bf16 on a GPU that has it, where a step "
        "is large enough to gain from it, else fp32",
        allowed=("auto", "fp32", "bf16", "fp16"),
    )
    compile: bool = _setting(
        False, bool, "whether PyTorch compiles the network, which pays in long runs"
    )
    channels_last: bool | None = _setting(
        None,
        bool,
        "whether images lie in memory pixel by pixel; none is where that is faster: on a CPU, and "
        "on a GPU in half precision",
        optional=True,
    )
    deterministic: bool = _setting(
        False, bool, "whether a GPU, too, calculates the same bits each time, if more slowly"
    )
    own: Mapping[str, object] = dataclasses.field(default_factory=dict, hash=False)

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

        A field that is unknown belongs to the user's own model, where there is one.

        Raises:
            ConfigError: with every unknown field and every value that cannot be taken.
        """
        own = {}
        if is_code(config.get("model")):
            own = {name: value for name, value in config.items() if name not in FIELDS}
        known = {name: value for name, value in config.items() if name not in own}
        _raise_problems(known)
        return cls(**cast("dict[str, Any]", known), own=own)

    @property
    def full_batch(self) -> bool:
        """Whether each step looks at all training examples."""
        return self.optimizer in FULL_BATCH

    @property
    def has_batch_norm(self) -> bool:
        """Whether a layer normalises over the minibatch; of own code nobody knows."""
        return bool(self.norm == "batch" and self.depth and unread("norm", vars(self)) is None)

    @property
    def layers(self) -> list[tuple[int, float]]:
        """The width and dropout of each hidden layer."""
        width, dropout = (
            [value] * self.depth if isinstance(value, int | float) else value
            for value in (self.width, self.dropout)
        )
        return list(zip(cast("Sequence[int]", width), dropout, strict=True))


FIELDS: Mapping[str, Field] = MappingProxyType(
    {
        field.name: field.metadata["field"]
        for field in dataclasses.fields(TrainerConfig)
        if "field" in field.metadata
    }
)
"""Every field of `TrainerConfig` by name, but for `own`."""


def check_value(name: str, value: object) -> str | None:
    """The sentence that says why field `name` cannot be `value`; None where it can."""
    if name not in FIELDS:
        return f"unknown field {name!r}. {did_you_mean(name, FIELDS)}"
    return FIELDS[name].problem(value)


def of_another_task(config: TrainerConfig, task: Task) -> Iterator[Problem]:
    """What a configuration sets that has no meaning in a task."""
    if task == "regression" and config.label_smoothing:
        yield Problem(("label_smoothing",), "there are no labels to smooth in regression.")
    if task == "regression" and config.class_weight != "none":
        yield Problem(("class_weight",), "there are no classes to balance in regression.")


def unread(name: str, config: Mapping[str, object]) -> str | None:
    """The field of `config` because of which field `name` has no effect; None where it may.

    A field that `config` lacks has its default. The user's own model may read any.
    """
    for other, values in FIELDS[name].used_when.items():
        value = config.get(other, FIELDS[other].default)
        if value not in values and not is_code(value):
            return other
    return None


def _raise_problems(config: Mapping[str, object]) -> None:
    checked = ((name, check_value(name, value)) for name, value in config.items())
    problems = [Problem((name,), message) for name, message in checked if message is not None]
    if problems:
        raise ConfigError(problems)


def _together(config: TrainerConfig) -> Iterator[Problem]:
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
    if config.full_batch and config.precision in ("bf16", "fp16"):
        sentence = (
            f"{config.optimizer} compares losses along a line, for which {config.precision} has "
            "too few digits. It must be auto or fp32."
        )
        yield Problem(("precision",), sentence)
    if config.compile and config.optimizer == "newton":
        sentence = "newton differentiates twice, which PyTorch's compiler cannot. It must be false."
        yield Problem(("compile",), sentence)
    of_one = [name for name in ("batch_size", "micro_batch") if getattr(config, name) == 1]
    for name in of_one if config.has_batch_norm else ():
        sentence = (
            "batch norm takes the mean and deviation of a minibatch, and 1 example has no "
            "deviation. It must be at least 2 with norm: batch."
        )
        if name == "micro_batch" or not config.full_batch:
            yield Problem((name,), sentence)
