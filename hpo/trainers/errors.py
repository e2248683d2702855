"""What can go wrong in training, in words a user can act on.

ValueError
  ConfigError      a configuration that cannot be trained: every problem at once
  DataError        a data set that cannot be had
ImportError
  CodeError        the user's own code cannot be found
ArithmeticError
  Diverged         a loss became NaN or infinite
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches

_SHOWN = 10  # keys of a collection

# What other libraries call our fields.
_ELSEWHERE = {
    "accumulate_grad_batches": "micro_batch",
    "bs": "batch_size",
    "dropout_rate": "dropout",
    "grad_clip": "clip_norm",
    "gradient_accumulation": "micro_batch",
    "gradient_accumulation_steps": "micro_batch",
    "gradient_clip_val": "clip_norm",
    "hidden_dim": "width",
    "hidden_size": "width",
    "lr": "learning_rate",
    "lr_schedule": "schedule",
    "lr_scheduler": "schedule",
    "max_epochs": "epochs",
    "max_grad_norm": "clip_norm",
    "n_layers": "depth",
    "num_layers": "depth",
    "opt": "optimizer",
    "scheduler": "schedule",
    "wd": "weight_decay",
}


@dataclass(frozen=True)
class Problem:
    """One mistake: where it is, and a whole sentence with the way out."""

    path: tuple[str | int, ...]
    message: str

    def __str__(self) -> str:
        return ": ".join((".".join(map(str, self.path)), self.message))


class ConfigError(ValueError):
    """A configuration that cannot be trained; `problems` holds every mistake, not the first."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__(self.problems)  # `args` as __init__ takes them, so that it pickles

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


class DataError(ValueError):
    """A data set that cannot be had."""


class CodeError(ImportError):
    """The user's own code cannot be imported; `next_step` says what to do or type now."""

    def __init__(self, message: str, next_step: str = "") -> None:
        super().__init__(message)
        self.message, self.next_step = message, next_step

    def __reduce__(self) -> tuple[type["CodeError"], tuple[str, str]]:
        return type(self), (self.message, self.next_step)

    def __str__(self) -> str:
        return f"{self.message} {self.next_step}".strip()


class Diverged(ArithmeticError):  # noqa: N818 - what happened to the trial, not a fault of the code
    """The training or validation loss became NaN or infinite; training stopped there.

    Args:
        epoch: The epoch that diverged, from 1. The reports before it have been yielded.
        metric: `train_loss` or `val_loss`.
        value: NaN, inf or -inf.
    """

    def __init__(self, epoch: int, metric: str, value: float) -> None:
        self.epoch, self.metric, self.value = epoch, metric, value
        super().__init__(epoch, metric, value)

    def __str__(self) -> str:
        return (
            f"{self.metric} became {self.value} in epoch {self.epoch}. "
            "A smaller learning_rate may keep it finite."
        )


def called(value: object) -> str:
    """A value in a sentence: its type, and its shape, or what it has if it is a collection."""
    shape = getattr(value, "shape", None)
    if shape is not None:
        return f"{kind(value)} of shape {tuple(shape)}"
    if isinstance(value, Mapping) and value:
        return f"{kind(value)} of {', '.join(map(str, [*value][:_SHOWN]))}"
    return f"{kind(value)} of {len(value)}" if isinstance(value, tuple | list) else kind(value)


def kind(value: object) -> str:
    """The type of a value with its article."""
    name = type(value).__name__
    return f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}"


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """The end of a sentence about an unknown name: the nearest known one, else all of them."""
    known = tuple(known)
    elsewhere = _ELSEWHERE.get(str(name))
    near = [elsewhere] if elsewhere in known else get_close_matches(str(name), known, n=1)
    return f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(known)}."
