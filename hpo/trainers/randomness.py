"""Where a fit's random numbers come from, so that fits may take turns in one process."""

import random
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any, cast

import numpy as np
import torch
from torch.random import fork_rng

_NUMPY_SEEDS = 2**32


@contextmanager
def kept(devices: Sequence[Any], device_type: str = "cuda") -> Iterator[None]:
    """A context after which the global generators, torch's, Python's and NumPy's, are as before.

    Args:
        devices: Those whose generators are meant besides the CPU's.
        device_type: Of which kind these are.
    """
    of_python, of_numpy = random.getstate(), np.random.get_state()
    try:
        with fork_rng(devices, device_type=device_type):
            yield
    finally:
        random.setstate(of_python)
        np.random.set_state(of_numpy)


def seed_all(seed: int) -> None:
    """Seeds the global generators; a model of the user's own may draw from any of them."""
    torch.manual_seed(seed)
    random.seed(seed)
    np.random.seed(seed % _NUMPY_SEEDS)


class Randomness:
    """A generator of its own, and for code that knows no other, the global ones in turns.

    Args:
        seed: Not negative.
        device: Where the generator draws.
        borrows: Whether the global generators are to be this fit's own during its turns.

    Attributes:
        generator: Draws the first weights, the order of examples, and dropout.
    """

    def __init__(self, seed: int, device: torch.device, *, borrows: bool) -> None:
        self.generator = torch.Generator(device).manual_seed(seed)
        self._on_gpu = device.type == "cuda"
        self._devices = [device] if self._on_gpu else []
        self._borrowed: dict[str, Any] | None = None
        if borrows:
            with kept(self._devices):
                seed_all(seed)
                self._borrowed = self._global_state()

    def turn(self) -> Any:
        """A context in which the global generators are this fit's own, if it borrows them."""
        return nullcontext() if self._borrowed is None else self._turn(self._borrowed)

    @contextmanager
    def _turn(self, borrowed: dict[str, Any]) -> Iterator[None]:
        with kept(self._devices):
            self._set_global_state(borrowed)
            yield
            self._borrowed = self._global_state()

    def state(self) -> dict[str, Any]:
        """What `set_state` goes on from; to be asked for outside of turns."""
        return {"own": self.generator.get_state(), "borrowed": self._borrowed}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier `state`."""
        self.generator.set_state(state["own"])
        if self._borrowed is not None:
            # A state of an earlier day knows of torch's generators alone.
            self._borrowed = {**self._borrowed, **state["borrowed"]}

    def mark(self) -> tuple[torch.Tensor, dict[str, Any] | None]:
        """Where all generators stand now, within a turn."""
        return self.generator.get_state(), self._global_state() if self._borrowed else None

    def rewind(self, mark: tuple[torch.Tensor, dict[str, Any] | None]) -> None:
        """Lets all generators draw again what they have drawn since `mark`."""
        self.generator.set_state(mark[0])
        if mark[1] is not None:
            self._set_global_state(mark[1])

    def _global_state(self) -> dict[str, Any]:
        """The states of the global generators: tensors, numbers, text, and tuples of these."""
        kind, numbers, *others = cast("tuple[Any, ...]", np.random.get_state())
        state = {
            "cpu": torch.get_rng_state(),
            "python": random.getstate(),
            "numpy": (kind, torch.from_numpy(numbers.astype(np.int64)), *others),
        }
        if self._on_gpu:
            state["cuda"] = torch.cuda.get_rng_state(self._devices[0])
        return state

    def _set_global_state(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["cpu"])
        random.setstate(state["python"])
        kind, numbers, *others = state["numpy"]
        np.random.set_state((kind, numbers.numpy().astype(np.uint32), *others))
        if self._on_gpu:
            torch.cuda.set_rng_state(state["cuda"], self._devices[0])
