"""All examples of a data set, and the data made of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from hpo.trainers.data.parts import Data, Tensors
from hpo.trainers.data.source import PARTS, Source
from hpo.trainers.data.splits import Rows, splits
from hpo.trainers.data.stream import Stream
from hpo.trainers.data.targets import encode
from hpo.trainers.errors import DataError

TOO_LARGE = (
    "some features are too large to calculate with: beyond 1e38, or so far apart that their "
    "variance is. Rescale them."
)


class Examples(Protocol):
    """The features of all examples, before they are split."""

    def fitted(self, train: Rows) -> Any:
        """A transformer from raw examples to features, fitted on some rows; None for none."""
        ...

    def part(self, transformer: Any, rows: Rows, y: torch.Tensor) -> Tensors | Stream:
        """Some rows as features, with their share of `y`, the targets of all rows."""
        ...


@dataclass(frozen=True)
class InMemory:
    """Examples in memory.

    Args:
        x: A data frame, or an array (n, ...).
        fit: Makes a transformer of rows of `x`; None leaves `x`, float32 or int64, as it is.
        shape: What the features of an example become; None leaves the transformer's.
    """

    x: Any
    fit: Callable[[Any], Any] | None = None
    shape: tuple[int, ...] | None = None

    def fitted(self, train: Rows) -> Any:
        """See `Examples.fitted`."""
        return self.fit(self._rows(train)) if self.fit else None

    def part(self, transformer: Any, rows: Rows, y: torch.Tensor) -> Tensors:
        """See `Examples.part`."""
        x = self._rows(rows)
        if transformer is not None:
            with np.errstate(over="ignore", invalid="ignore"):  # told right below
                x = np.asarray(transformer.transform(x), dtype=np.float32)
        if not np.isfinite(x).all():
            raise DataError(TOO_LARGE)
        x = x.reshape(len(x), *(self.shape or x.shape[1:]))
        return Tensors(torch.from_numpy(x), y[torch.from_numpy(rows)])

    def _rows(self, rows: Rows) -> Any:
        return self.x[rows] if isinstance(self.x, np.ndarray) else self.x.iloc[rows]


@dataclass(frozen=True)
class OnDisk:
    """Examples that are read when they are needed.

    Args:
        dataset: See `Stream`.
        fit: Makes a transformer with `scale` of rows of the dataset; None leaves them.
        dtype: See `Stream`.
    """

    dataset: Dataset[Any]
    fit: Callable[[Dataset[Any], Rows], Any] | None = None
    dtype: torch.dtype = torch.float32

    def fitted(self, train: Rows) -> Any:
        """See `Examples.fitted`."""
        return self.fit(self.dataset, train) if self.fit else None

    def part(self, transformer: Any, rows: Rows, y: torch.Tensor) -> Stream:
        """See `Examples.part`."""
        scale = None if transformer is None else transformer.scale
        return Stream(self.dataset, y, torch.from_numpy(rows), scale=scale, dtype=self.dtype)


def assemble(
    source: Source,
    examples: Examples,
    y: NDArray[Any],
    *,
    seed: int,
    given: Mapping[str, Rows] | None = None,
    classes: Sequence[str] = (),
) -> tuple[Data, ...]:
    """Splits examples, and transforms each part by what its training part tells.

    Args:
        source: What they are for.
        examples: Their features.
        y: Their targets as they were read, (n,).
        seed: Decides the split.
        given: See `splits`.
        classes: See `encode`.

    Raises:
        DataError: they cannot be split, or the targets are not of the task.
    """
    targets, names = encode(y, source, classes)
    found: list[Data] = []
    for rows in splits(targets, names, seed=seed, folds=source.folds, given=given):
        mean, deviation = (0.0, 1.0) if names else _moments(targets[rows[0]])
        scaled = targets if names else ((targets - mean) / deviation).astype(np.float32)
        transformer = examples.fitted(rows[0])
        tensor = torch.from_numpy(scaled)
        train, val, test = (examples.part(transformer, part, tensor) for part in rows)
        data = Data(
            source.name,
            source.task,
            train,
            val,
            test,
            shape=train.shape,
            classes=names,
            target_mean=mean,
            target_deviation=deviation,
            transformer=transformer,
            dtype=train.dtype,
            numbers={} if names else {p: targets[r] for p, r in zip(PARTS, rows, strict=True)},
            first=found[0] if found else None,
        )
        found.append(data)
    return tuple(found)


def _moments(y: NDArray[np.float64]) -> tuple[float, float]:
    """The mean and deviation of numbers; 1 where they are all equal."""
    return float(y.mean()), float(y.std()) or 1.0
