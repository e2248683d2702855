"""Where tensors live, and what they are made of."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from hpo.trainers.config import TrainerConfig
from hpo.trainers.errors import ConfigError, Problem


def choose(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the first there is of cuda, mps and cpu.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ConfigError: this machine has no such device.
    """
    if name == "auto":
        return torch.device(next(device for device in ("cuda", "mps", "cpu") if _count(device)))
    kind, _, index = name.partition(":")
    if (int(index) if index.isdecimal() else 0 if name == kind else -1) not in range(_count(kind)):
        here = ", ".join(device for device in ("cuda", "mps", "cpu") if _count(device))
        sentence = f"there is no device {name!r} on this machine. It has: {here}."
        raise ConfigError([Problem(("device",), sentence)])
    return torch.device(name)


def _count(kind: str) -> int:
    """How many devices of that kind there are."""
    return {
        "cuda": torch.cuda.device_count(),
        "mps": int(torch.backends.mps.is_available()),
        "cpu": 1,
    }.get(kind, 0)


def number_type(config: TrainerConfig, device: torch.device) -> torch.dtype | None:
    """What networks calculate with under autocast; None is float32 throughout.

    Optimizers that look along a line need all digits, and keep them where nobody asks otherwise.
    """
    named = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}
    if config.precision in named:
        return named[config.precision]
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if has_bf16 and not config.full_batch else None


@contextmanager
def deterministic(wanted: bool) -> Iterator[None]:  # noqa: FBT001 - what it is called
    """A context in which GPUs calculate the same bits each time, if wanted.

    Raises:
        RuntimeError: torch's own, where an operation cannot.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as torch's notes demand
    before = torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before[0])
        torch.backends.cudnn.benchmark = before[1]
