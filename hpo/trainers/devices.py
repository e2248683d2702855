"""Where tensors live, and what they are made of."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from hpo.trainers.config import TrainerConfig
from hpo.trainers.errors import ConfigError, Problem

WORTH_BF16 = 5e10
"""From so many operations in a step on, bf16 is what `precision: auto` takes.

On an H100, steps of MLPs and CNNs take up to 3 times as long in bf16 below, where launching more
kernels costs more than they save; at twice as many they are on a par, with 1e12 1.5 to 5 times as
fast. Slower GPUs gain from fewer operations on.
"""


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


def settled(
    config: TrainerConfig, device: torch.device, n: int, operations: Callable[[], float]
) -> TrainerConfig:
    """The configuration with what `precision: auto` means for its network on this device.

    Optimizers that look along a line need all digits. A small network takes longer in bf16, for it
    is not arithmetic that its steps wait for.

    Args:
        config: What to train.
        device: Where.
        n: Training examples.
        operations: Counts those that one example takes through the network, forward.
    """
    if config.precision != "auto":
        return config
    has_bf16 = device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    at_once = min(config.micro_batch or n, config.batch_size, n)
    # Backward, a layer multiplies twice: for the gradient of its input, and of its weights.
    half = has_bf16 and not config.full_batch and 3 * at_once * operations() >= WORTH_BF16
    return replace(config, precision="bf16" if half else "fp32")


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
