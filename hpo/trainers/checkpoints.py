"""Where a fit can be taken up again, and what is left of it: files that are whole or not there."""

import hashlib
import logging
import os
import pickle
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as as_safetensors
from torch import nn

from hpo.trainers.fit_files import STATES, UNFINISHED, WEIGHTS, of_fold, state_file

DATA = "data"
"""What the file of weights says of the data: its digest."""

_KEPT = 2  # the newest, and the one before should the newest be damaged
_DIGEST_BYTES = 32

_log = logging.getLogger(__name__)


@dataclass
class Checkpoints:
    """The checkpoints of one fit, in a folder of their own.

    Args:
        directory: The folder; it is made when something is written.
        every_epochs: A checkpoint is due after so many epochs; None is never.
        every_seconds: A checkpoint is due after so many seconds; None is never.
        keep_weights: Whether the trained weights are written at the end.
        demanded: Says whether one is due now, whenever the last one was.
    """

    directory: Path
    every_epochs: int | None = None
    every_seconds: float | None = 60.0
    keep_weights: bool = True
    demanded: Callable[[], bool] = lambda: False
    _written_at: float = field(default_factory=time.monotonic)

    def of_fold(self, fold: int) -> "Checkpoints":
        """The checkpoints of one fold, from 1."""
        return Checkpoints(
            of_fold(self.directory, fold),
            self.every_epochs,
            self.every_seconds,
            self.keep_weights,
            self.demanded,
        )

    def due(self, epoch: int) -> bool:
        """Whether the end of this epoch is worth a checkpoint."""
        by_epochs = self.every_epochs is not None and epoch % self.every_epochs == 0
        since = time.monotonic() - self._written_at
        return (
            self.demanded()
            or by_epochs
            or (self.every_seconds is not None and since >= self.every_seconds)
        )

    def save(self, epoch: int, state: dict[str, Any]) -> None:
        """Writes the state at the end of an epoch; tensors, numbers, text, lists and dicts.

        The file ends with the SHA-256 of all before, by which a damaged one is known.
        """
        buffer = BytesIO()
        torch.save(state, buffer)
        content = buffer.getvalue()
        write(state_file(self.directory, epoch), content + hashlib.sha256(content).digest())
        for path in self._found()[_KEPT:]:
            path.unlink(missing_ok=True)
        self._written_at = time.monotonic()

    def load(self) -> dict[str, Any] | None:
        """The newest state that is whole, on the CPU; None where there is none."""
        for path in self._found():
            try:
                return _read(path)
            except (OSError, ValueError, RuntimeError, pickle.UnpicklingError) as error:
                _log.warning("checkpoint %s is damaged (%s); trying the one before", path, error)
        return None

    def finish(self, model: nn.Module, data: str) -> None:
        """Writes the trained weights, and deletes what is needed no more.

        Args:
            model: The network.
            data: The digest of what it was trained on, which the file carries.
        """
        if self.keep_weights:
            write(self.directory / WEIGHTS, weights_of(model, data))
        self.clear()

    def clear(self) -> None:
        """Deletes all checkpoints, and what is left of those that were never finished."""
        for path in (*self._found(), *self.directory.glob(f"*{UNFINISHED}")):
            path.unlink(missing_ok=True)

    def _found(self) -> list[Path]:
        """All checkpoints, the newest first."""
        return sorted(self.directory.glob(STATES), reverse=True)


def weights_of(model: nn.Module, data: str | None = None) -> bytes:
    """A model's weights and buffers as a safetensors file.

    Args:
        model: The network.
        data: Noted in the file: the digest of what it was trained on.
    """
    # Copies in one order, as safetensors refuses tensors that share memory, such as tied weights,
    # and those that lie channels last.
    return as_safetensors(
        {
            name: w.detach().cpu().clone(memory_format=torch.contiguous_format)
            for name, w in model.state_dict().items()
        },
        None if data is None else {DATA: data},
    )


def unwritable(model: nn.Module) -> str | None:
    """What of a model `weights_of` cannot write, in words; None where it can write all."""
    for name, w in model.state_dict().items():
        if not isinstance(w, torch.Tensor):
            return f"{name!r}, a {type(w).__name__}"
        try:
            as_safetensors({name: w.detach().reshape(-1)[:1].cpu().clone()})  # not all of it
        except (RuntimeError, KeyError, TypeError, ValueError):
            kind = "" if w.layout is torch.strided else f" ({w.layout})"
            return f"{name!r}, of {w.dtype}{kind}"
    return None


def write(path: Path, content: bytes) -> None:
    """Writes a file so that, whatever dies when, it is there whole or as it was before."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(UNFINISHED)
    with unfinished.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    unfinished.replace(path)
    if os.name == "posix":  # elsewhere a folder cannot be opened
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _read(path: Path) -> dict[str, Any]:
    content = path.read_bytes()
    content, digest = content[:-_DIGEST_BYTES], content[-_DIGEST_BYTES:]
    if hashlib.sha256(content).digest() != digest:
        raise ValueError("its checksum differs")
    state: dict[str, Any] = torch.load(BytesIO(content), map_location="cpu", weights_only=True)
    return state
