"""Examples that are read while they are trained on, since memory does not hold them."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from hpo.trainers.data.parts import Batch, order
from hpo.trainers.errors import DataError

_FEW = 1000
"""Up to so many examples are read by the process itself: workers take a while to start."""


class Stream:
    """Some examples of a dataset, read by workers, a few minibatches ahead.

    Args:
        dataset: Gives the features of an example by its place, `(x, y)[0]`, as anything that
            `torch.as_tensor` takes, of one shape.
        y: The targets of all its examples, (n,).
        rows: The places of those that are meant, int64.
        device: Where minibatches come.
        scale: A mean and a deviation, which broadcast to an example; features become
            (x - mean) / deviation on the device.
        dtype: What features become there: float32, or without a scale int64.
        n_workers: None leaves it to `workers_for`.

    Attributes:
        dtype: What features become on the device.
    """

    def __init__(
        self,
        dataset: Dataset[Any],
        y: torch.Tensor,
        rows: torch.Tensor,
        device: torch.device = torch.device("cpu"),  # noqa: B008 - it never changes
        *,
        scale: tuple[torch.Tensor, torch.Tensor] | None = None,
        dtype: torch.dtype = torch.float32,
        n_workers: int | None = None,
    ) -> None:
        self._dataset, self._y, self._rows = dataset, y, rows
        self._device, self._scale, self._n_workers = device, scale, n_workers
        self.dtype = dtype
        self._idle: list[tuple[DataLoader[Batch], _Sizes]] = []

    def __len__(self) -> int:
        return len(self._rows)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one example."""
        return tuple(_Examples(self._dataset, self._y)[int(self._rows[0])][0].shape)

    def batches(
        self, sizes: Sequence[int], generator: torch.Generator | None = None
    ) -> Iterator[Batch]:
        """See `Part.batches`; for equal generators, what `Tensors` of the same examples gives."""
        # A loader with its workers serves one epoch at a time; it is kept for the next one.
        loader, sampler = self._idle.pop() if self._idle else self._loader()
        rows = self._rows[order(len(self), generator).cpu()]
        sampler.batches = [batch.tolist() for batch in torch.split(rows, list(sizes))]
        try:
            for x, y in read(loader):
                yield self._prepared(x), y.to(self._device, non_blocking=True)
        finally:
            self._idle.append((loader, sampler))

    def to(self, device: torch.device) -> Stream:
        """The same examples, whose minibatches come on `device`."""
        return self if device == self._device else self._like(self._rows, device)

    @property
    def targets(self) -> torch.Tensor:
        """See `Part.targets`."""
        return self._y[self._rows]

    def subset(self, rows: torch.Tensor) -> Stream:
        """See `Part.subset`."""
        return self._like(self._rows[rows], self._device)

    def _like(self, rows: torch.Tensor, device: torch.device) -> Stream:
        return Stream(
            self._dataset,
            self._y,
            rows,
            device,
            scale=self._scale,
            dtype=self.dtype,
            n_workers=self._n_workers,
        )

    def _prepared(self, x: torch.Tensor) -> torch.Tensor:
        # Images travel as bytes, and become numbers where they arrive.
        x = x.to(self._device, non_blocking=True).to(self.dtype)
        if self._scale is None:
            return x
        mean, deviation = (each.to(self._device) for each in self._scale)
        return (x - mean) / deviation

    def _loader(self) -> tuple[DataLoader[Batch], _Sizes]:
        n_workers = workers_for(len(self)) if self._n_workers is None else self._n_workers
        sampler = _Sizes()
        loader: DataLoader[Batch] = DataLoader(
            _Examples(self._dataset, self._y),
            batch_sampler=sampler,
            num_workers=n_workers,
            persistent_workers=n_workers > 0,
            pin_memory=self._device.type == "cuda",
            worker_init_fn=ignore_interrupts,
            generator=torch.Generator(),  # else it draws from the global one
        )
        return loader, sampler


class _Sizes:
    """The minibatches of the epoch that is read now; a loader keeps one sampler all its life."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


class _Examples(Dataset[Batch]):
    """The features of a dataset beside targets of ours."""

    def __init__(self, dataset: Dataset[Any], y: torch.Tensor) -> None:
        self._dataset, self._y = dataset, y

    def __getitem__(self, row: int) -> Batch:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[Batch]:
        """Several at once, which loaders ask for: some datasets have them for less so."""
        of = self._dataset
        found = of.__getitems__(rows) if hasattr(of, "__getitems__") else [of[row] for row in rows]
        return [(torch.as_tensor(x[0]), self._y[row]) for x, row in zip(found, rows, strict=True)]


def workers_for(n: int) -> int:
    """How many processes are to read n examples: none for few, or where there may be none."""
    alone = n <= _FEW or multiprocessing.current_process().daemon
    return 0 if alone else min(4, os.cpu_count() or 1)


def read(loader: DataLoader[Any]) -> Iterator[Any]:
    """What a loader gives.

    Raises:
        DataError: an example cannot be read; in one sentence, wherever it was raised.
        Exception: any other error of the dataset; a worker's has its traceback in its text.
    """
    # PyTorch's own frames hold an exception that holds them, and with them the workers: such a
    # circle is found late, and then PyTorch waits five seconds for each worker.
    try:
        yield from loader
    except DataError as error:
        sentence = str(error).rpartition("DataError: ")[2].strip()
        raise DataError(sentence) from error.with_traceback(None)
    except Exception as error:
        raise error.with_traceback(None)  # noqa: B904 - it is the same


def ignore_interrupts(worker: int) -> None:  # noqa: ARG001 - the loader passes it
    """Ctrl-C reaches a whole process group, but whether to stop is the main process's business."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
