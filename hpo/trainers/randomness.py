"""Where a fit's random numbers come from, so that fits may take turns in one process."""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch


class Randomness:
    """A generator of its own, and for code that knows no other, torch's global ones in turns.

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
        self._borrowed: dict[str, torch.Tensor] | None = None
        if borrows:
            with torch.random.fork_rng(self._devices):
                torch.manual_seed(seed)
                self._borrowed = self._global_state()

    def turn(self) -> Any:
        """A context in which the global generators are this fit's own, if it borrows them."""
        return nullcontext() if self._borrowed is None else self._turn(self._borrowed)

    @contextmanager
    def _turn(self, borrowed: dict[str, torch.Tensor]) -> Iterator[None]:
        with torch.random.fork_rng(self._devices):
            self._set_global_state(borrowed)
            yield
            self._borrowed = self._global_state()

    def state(self) -> dict[str, Any]:
        """What `set_state` goes on from; to be asked for outside of turns."""
        return {"own": self.generator.get_state(), "borrowed": self._borrowed}

    def set_state(self, state: dict[str, Any]) -> None:
        """Goes on from an earlier `state`."""
        self.generator.set_state(state["own"])
        self._borrowed = state["borrowed"]

    def mark(self) -> tuple[torch.Tensor, dict[str, torch.Tensor] | None]:
        """Where all generators stand now, within a turn."""
        return self.generator.get_state(), self._global_state() if self._borrowed else None

    def rewind(self, mark: tuple[torch.Tensor, dict[str, torch.Tensor] | None]) -> None:
        """Lets all generators draw again what they have drawn since `mark`."""
        self.generator.set_state(mark[0])
        if mark[1] is not None:
            self._set_global_state(mark[1])

    def _global_state(self) -> dict[str, torch.Tensor]:
        state = {"cpu": torch.get_rng_state()}
        if self._on_gpu:
            state["cuda"] = torch.cuda.get_rng_state(self._devices[0])
        return state

    def _set_global_state(self, state: dict[str, torch.Tensor]) -> None:
        torch.set_rng_state(state["cpu"])
        if self._on_gpu:
            torch.cuda.set_rng_state(state["cuda"], self._devices[0])
