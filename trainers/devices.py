"""Where tensors live."""

import torch

from trainers.errors import ConfigError, Problem


def choose(name: str = "auto") -> torch.device:
    """The device of that name; "auto" is the first there is of cuda, mps and cpu.

    Args:
        name: "auto", "cpu", "cuda", "cuda:1", "mps".

    Raises:
        ConfigError: If this machine has no such device.
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
