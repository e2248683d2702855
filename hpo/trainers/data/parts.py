"""Data as a fit sees it: three parts, each of which gives minibatches on the fit's device."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import chain
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray

from hpo.trainers.data.memory import room
from hpo.trainers.goals import Task

Batch = tuple[torch.Tensor, torch.Tensor]
"""Features, float32 or int64, (n, *shape), and targets, (n,): int64 classes or float32 numbers."""


_INTEGERS = {"int8", "int16", "int32", "int64", "uint16", "uint32", "uint64"}


def is_integer(dtype: np.dtype[Any] | torch.dtype) -> bool:
    """Whether features of a type may be ids; bytes are pixels, and true and false are 1 and 0."""
    name = dtype.name if isinstance(dtype, np.dtype) else str(dtype).removeprefix("torch.")
    return name in _INTEGERS


class Part(Protocol):
    """Some examples."""

    def __len__(self) -> int:
        """How many examples there are."""
        ...

    def batches(
        self, sizes: Sequence[int], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """All examples once, in minibatches of these sizes, shuffled by the generator if given."""
        ...

    def to(self, device: torch.device) -> Part:
        """The same examples, whose minibatches come on `device`."""
        ...

    @property
    def targets(self) -> torch.Tensor:
        """What is to be predicted of each, (n,), wherever they lie."""
        ...

    def subset(self, rows: torch.Tensor) -> Part:
        """Some of the examples, by their places, int64, on the CPU."""
        ...


_GATHERED_BYTES = 2**19
_STREAMED_AT_ONCE = 64


def order(n: int, generator: torch.Generator | None) -> torch.Tensor:
    """The places of n examples in turn, int64 (n,), shuffled where the generator lives if given."""
    if generator is None:
        return torch.arange(n)
    return torch.randperm(n, generator=generator, device=generator.device)


def _split(x: torch.Tensor, y: torch.Tensor, sizes: Sequence[int]) -> Iterator[Batch]:
    return zip(torch.split(x, list(sizes)), torch.split(y, list(sizes)), strict=True)


def _grouped(sizes: Sequence[int], most: int) -> list[list[int]]:
    """Neighbours together while their sum is at most `most`; a larger one is alone."""
    groups: list[list[int]] = []
    for size in sizes:
        if groups and sum(groups[-1]) + size <= most:
            groups[-1].append(size)
        else:
            groups.append([size])
    return groups


@dataclass(frozen=True, eq=False)
class Tensors:
    """Examples that live on the device.

    Args:
        x: Features, float32 or int64, (n, *shape).
        y: Targets, (n,).
    """

    x: torch.Tensor
    y: torch.Tensor

    def __len__(self) -> int:
        return len(self.y)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(self.x.shape[1:])

    @property
    def dtype(self) -> torch.dtype:
        """What features are."""
        return self.x.dtype

    def batches(
        self, sizes: Sequence[int], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """See `Part.batches`."""
        if generator is None:
            yield from _split(self.x, self.y, sizes)
            return
        # Some minibatches are gathered at once, which is faster than each by itself, and neither
        # leaves the processor's cache nor takes as much memory as all.
        most = _GATHERED_BYTES // max(self.x[:1].nbytes, 1)
        groups = _grouped(sizes, most)
        rows = order(len(self.y), generator)
        for group, chosen in zip(groups, torch.split(rows, list(map(sum, groups))), strict=True):
            # In half the time of `self.x[chosen]`, or less.
            x, y = (tensor.index_select(0, chosen) for tensor in (self.x, self.y))
            yield from _split(x, y, group)

    def to(self, device: torch.device) -> Tensors | HostTensors:
        """The same examples there if it has room for them, else minibatch by minibatch."""
        if device.type != self.x.device.type and self.x.nbytes + self.y.nbytes > room(device):
            return HostTensors(self.x, self.y, device)
        return Tensors(self.x.to(device), self.y.to(device))

    @property
    def targets(self) -> torch.Tensor:
        """See `Part.targets`."""
        return self.y

    def subset(self, rows: torch.Tensor) -> Tensors:
        """See `Part.subset`."""
        there = rows.to(self.x.device)
        return Tensors(self.x.index_select(0, there), self.y.index_select(0, there))


@dataclass(frozen=True, eq=False)
class HostTensors:
    """Examples in the host's memory, too many for the device that the minibatches go to.

    Args:
        x: Features, float32 or int64, (n, *shape), on the CPU.
        y: Targets, (n,), on the CPU.
        device: Where minibatches come.
    """

    x: torch.Tensor
    y: torch.Tensor
    device: torch.device

    def __len__(self) -> int:
        return len(self.y)

    def batches(
        self, sizes: Sequence[int], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """See `Part.batches`."""
        for rows in torch.split(order(len(self), generator).cpu(), list(sizes)):
            yield self._there(self.x[rows]), self._there(self.y[rows])

    def to(self, device: torch.device) -> Tensors | HostTensors:
        """The same examples for another device."""
        return self if device == self.device else Tensors(self.x, self.y).to(device)

    @property
    def targets(self) -> torch.Tensor:
        """See `Part.targets`."""
        return self.y

    def subset(self, rows: torch.Tensor) -> Tensors | HostTensors:
        """See `Part.subset`; they are on the device if that has room for so few."""
        return Tensors(self.x[rows], self.y[rows]).to(self.device)

    def _there(self, tensor: torch.Tensor) -> torch.Tensor:
        # Pinned, so that the GPU fetches it while Python goes on.
        pinned = tensor.pin_memory() if self.device.type == "cuda" else tensor
        return pinned.to(self.device, non_blocking=True)


def _features(part: Part) -> Iterator[torch.Tensor]:
    """All features of a part, in order."""
    if isinstance(part, Tensors | HostTensors):
        yield part.x
        return
    # Of a copy, whose workers go with it: those of the part itself would stay, unused.
    whole = part.subset(torch.arange(len(part)))
    full, rest = divmod(len(whole), _STREAMED_AT_ONCE)
    for x, _ in whole.batches([_STREAMED_AT_ONCE] * full + [rest] * (rest > 0)):
        yield x


@dataclass(frozen=True, eq=False)
class Data:
    """A data set in three parts.

    Args:
        name: What it is called.
        task: What it is for.
        train: What weights are trained on.
        val: What hyperparameters are chosen by.
        test: What the chosen ones are judged by, once; `fit` does not look at it.
        shape: Of one example: (n_features,), or the channels, height and width of an image.
        classes: Their names by number; none in regression.
        target_mean: In regression, targets are (y - target_mean) / target_deviation.
        target_deviation: See there.
        transformer: scikit-learn's, fitted on the training part, from raw examples to features;
            None where they are the same. It is exported with a model.
        dtype: Of features: float32, or int64, which is not to be calculated with.
        numbers: In regression, the targets as they were read, by part (`train`, `val`, `test`): a
            count is a count, which standardising and float32 do not give back.
        first: Of another fold, the first one: it has the same examples, which tell it from others.
    """

    name: str
    task: Task
    train: Part
    val: Part
    test: Part
    shape: tuple[int, ...]
    classes: tuple[str, ...] = ()
    target_mean: float = 0.0
    target_deviation: float = 1.0
    transformer: Any = None
    dtype: torch.dtype = torch.float32
    numbers: Mapping[str, NDArray[np.float64]] = field(default_factory=dict)
    first: Data | None = None

    @cached_property
    def digest(self) -> str:
        """Tells apart data sets of one name, whether they are held in memory or streamed.

        That of the first fold is of all examples, and a part of the others'. How much memory is
        free decides what is streamed, so that is read once more here: a digest of less would call
        the same data another when there is less room for it.
        """
        unit = () if self.classes else (self.target_mean, self.target_deviation)
        found = hashlib.sha256(repr((self.shape, self.classes, *unit)).encode())
        if self.first is not None:
            found.update(self.first.digest.encode())
        for part in (self.train, self.val, self.test):
            for tensor in chain(_features(part) if self.first is None else (), [part.targets]):
                found.update(tensor.cpu().contiguous().view(-1).numpy().data)
        return found.hexdigest()

    @property
    def n_outputs(self) -> int:
        """What a network gives for an example: a logit for each class, or a number."""
        return len(self.classes) or 1

    def sample(self, n: int) -> torch.Tensor:
        """Features of up to n validation examples, to try a network on."""
        few = self.val.subset(torch.arange(min(n, len(self.val))))
        x, _ = next(iter(few.batches([len(few)])))
        return x

    def to(self, device: torch.device) -> Data:
        """The same data on `device`; tensors that are there already are shared, not copied."""
        parts = {name: getattr(self, name).to(device) for name in ("train", "val", "test")}
        there = replace(self, **parts, first=None)  # which would be kept beside it
        vars(there)["digest"] = self.digest  # not once a trial: each moves the data anew
        return there
