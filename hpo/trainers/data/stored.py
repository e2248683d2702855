"""Arrays whose features memory does not hold: examples are read as they were stored."""

from __future__ import annotations

import multiprocessing
import struct
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import IO, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import Dataset

from hpo.trainers.data.examples import TOO_LARGE
from hpo.trainers.data.splits import Rows
from hpo.trainers.data.standardise import (
    Channels,
    Transformer,
    at_once_of,
    fit_chunks,
    images,
)
from hpo.trainers.data.stream import Stream
from hpo.trainers.errors import DataError

_LOCAL = struct.Struct("<4s5H3L2H")  # before a file in a zip archive: PKWARE's APPNOTE, 4.3.7
_HEADERS: Mapping[tuple[int, int], Any] = MappingProxyType(
    {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
)
"""What reads the header of an array, by the version of the format."""


@dataclass(frozen=True)
class Stored:
    """Examples in arrays, which may lie on disk; they become features minibatch by minibatch.

    Args:
        arrays: One after the other, each (n, *shape).
        stays: Whether they are integers that stay what they are.
    """

    arrays: Sequence[NDArray[Any]]
    stays: bool

    def fitted(self, train: Rows) -> Transformer | None:
        """See `Examples.fitted`; what `fit_array` makes of the same rows.

        Raises:
            DataError: they are too large to calculate with.
        """
        if self.stays:
            return None
        found = fit_chunks(self._chunks(train), self.arrays[0].ndim)
        learnt = [value for name, value in vars(found).items() if name.endswith("_")]
        if not all(np.isfinite(value).all() for value in learnt):
            raise DataError(TOO_LARGE)
        return found

    def _chunks(self, rows: Rows) -> Iterator[NDArray[Any]]:
        at_once = at_once_of(self.arrays[0].shape)
        dataset = Arrays(self.arrays)
        return (dataset.raw(rows[i : i + at_once]) for i in range(0, len(rows), at_once))

    def part(self, transformer: Transformer | None, rows: Rows, y: torch.Tensor) -> Stream:
        """See `Examples.part`."""
        dtype = torch.int64 if self.stays else torch.float32
        # Images are standardised where they arrive; of bytes that is a quarter of the way.
        scale = transformer.scale if isinstance(transformer, Channels) else None
        dataset = Arrays(self.arrays, transformer)
        # Workers that are no forks would get a copy of all that is mapped.
        n_workers = None if _forks() else 0
        places = torch.from_numpy(rows)
        return Stream(dataset, y, places, scale=scale, dtype=dtype, n_workers=n_workers)


def _forks() -> bool:
    """Whether processes begin as copies of this one, which share its memory."""
    default = multiprocessing.get_all_start_methods()[0]
    return (multiprocessing.get_start_method(allow_none=True) or default) == "fork"


class Arrays(Dataset[tuple[torch.Tensor]]):
    """The examples of arrays: rows of a table as features, images with their channels first.

    Args:
        arrays: One after the other.
        transformer: Standardises rows, and leaves images to others; None leaves both.
    """

    def __init__(
        self, arrays: Sequence[NDArray[Any]], transformer: Transformer | None = None
    ) -> None:
        self._arrays, self._transformer = arrays, transformer
        self._ends = np.cumsum([len(x) for x in arrays])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def raw(self, rows: NDArray[np.int64]) -> NDArray[Any]:
        """Examples by their places, as they were stored, (n, *shape)."""
        dtype = np.result_type(*self._arrays)  # as of all arrays in a row
        found = np.empty((len(rows), *self._arrays[0].shape[1:]), dtype)
        which = np.searchsorted(self._ends, rows, side="right")
        for k in np.unique(which):
            mine, array = which == k, self._arrays[k]
            found[mine] = array[rows[mine] - (self._ends[k] - len(array))]
        return found

    def __getitem__(self, row: int) -> tuple[torch.Tensor]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[torch.Tensor]]:
        """Several examples at once, which PyTorch's loaders ask for."""
        x = self.raw(np.asarray(rows))
        if isinstance(self._transformer, Channels):
            x = images(x)
        elif self._transformer is not None:
            x = self._transformer.transform(x)
        if x.dtype != np.uint8:
            x = x.astype(np.float32 if self._transformer is not None else np.int64)
        return [(example,) for example in torch.from_numpy(np.ascontiguousarray(x))]


def mapped(path: Path) -> dict[str, NDArray[Any]]:
    """The arrays of an npz file that are stored as they are, without reading them.

    Those that are compressed, or of a kind that cannot lie on disk, are left out.

    Args:
        path: A readable npz file.
    """
    with zipfile.ZipFile(path) as archive, path.open("rb") as file:
        plain = [each for each in archive.infolist() if each.compress_type == zipfile.ZIP_STORED]
        found = {each.filename.removesuffix(".npy"): _mapped(path, file, each) for each in plain}
    return {name: array for name, array in found.items() if array is not None}


def _mapped(path: Path, file: IO[bytes], member: zipfile.ZipInfo) -> NDArray[Any] | None:
    file.seek(member.header_offset)
    *_, n_name, n_extra = _LOCAL.unpack(file.read(_LOCAL.size))
    file.seek(n_name + n_extra, 1)
    if (version := np.lib.format.read_magic(file)) not in _HEADERS:
        return None
    shape, by_columns, dtype = _HEADERS[version](file)
    if dtype.hasobject or not np.prod(shape):
        return None
    return np.memmap(path, dtype, "r", file.tell(), shape, "F" if by_columns else "C")
