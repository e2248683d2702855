"""Arrays in files: tables and images that are numbers already."""

from __future__ import annotations

import pickle
import struct
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.preprocessing import StandardScaler

from hpo.trainers.data.examples import InMemory, assemble
from hpo.trainers.data.parts import Data, is_integer
from hpo.trainers.data.source import PARTS, Source, chosen, features_of, unreadable
from hpo.trainers.data.splits import Rows
from hpo.trainers.errors import DataError

_AT_ONCE = 1024
"""So many images are looked at together, which bounds the memory that takes."""


class Channels(TransformerMixin, BaseEstimator):  # type: ignore[misc]  # scikit-learn has no types
    """Standardises images, channel by channel.

    Takes arrays of images as `images` does, and gives float32, (n, channels, height, width).
    """

    def fit(self, x: NDArray[Any], y: object = None) -> Channels:  # noqa: ARG002 - scikit-learn's
        """Learns the mean and deviation of each channel."""
        chunks = (x[first : first + _AT_ONCE] for first in range(0, len(x), _AT_ONCE))
        return self.fit_chunks(images(chunk) for chunk in chunks)

    def fit_chunks(self, chunks: Iterator[NDArray[Any]]) -> Channels:
        """Learns from minibatches, (n, channels, height, width), one after another."""
        scaler = StandardScaler()
        for chunk in chunks:
            scaler.partial_fit(np.moveaxis(chunk, 1, -1).reshape(-1, chunk.shape[1]))
        self.mean_ = scaler.mean_.astype(np.float32)[:, None, None]
        self.deviation_ = scaler.scale_.astype(np.float32)[:, None, None]
        return self

    def transform(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Images as features."""
        found = images(x).astype(np.float32)
        found -= self.mean_
        found /= self.deviation_
        return found

    @property
    def scale(self) -> tuple[torch.Tensor, torch.Tensor]:
        """The mean and the deviation, each (channels, 1, 1)."""
        return torch.from_numpy(self.mean_), torch.from_numpy(self.deviation_)


def fit_array(x: NDArray[Any]) -> Any:
    """A transformer that standardises the columns of a table, or the channels of images."""
    return (StandardScaler() if x.ndim == 2 else Channels()).fit(x)


def images(x: NDArray[Any]) -> NDArray[Any]:
    """Images as (n, channels, height, width), from that, (n, h, w) or (n, h, w, channels).

    Channels stand last where only the last axis is as short as channels are: at most four.
    """
    if x.ndim == 3:
        return x[:, None]
    return np.moveaxis(x, 3, 1) if x.shape[3] <= 4 < x.shape[1] else x


def load_arrays(source: Source, seed: int) -> tuple[Data, ...]:
    """See `hpo.trainers.data.load`."""
    with_parts = _read(source)
    lengths = {part: len(y) for part, (_, y) in with_parts.items()}
    try:
        x, y = (np.concatenate(each) for each in zip(*with_parts.values(), strict=True))
    except ValueError as error:
        raise DataError(f"the parts of {source.name!r} differ in shape: {error}.") from error
    stays = source.integers and is_integer(x.dtype)
    examples = InMemory(x.astype(np.int64)) if stays else InMemory(x, fit_array)
    return assemble(source, examples, y, seed=seed, given=given_rows(lengths))


def given_rows(lengths: Mapping[str, int]) -> dict[str, Rows]:
    """The rows of the parts other than `train`, by the length of each part in turn."""
    ends = np.cumsum([*lengths.values()])
    rows = {part: np.arange(e - lengths[part], e) for part, e in zip(lengths, ends, strict=True)}
    return {part: rows[part] for part in PARTS[1:] if part in rows}


_OBJECTS = "it holds other objects than tensors, numbers and text"
DAMAGED = (
    OSError, ValueError, TypeError, EOFError, RuntimeError, LookupError, AttributeError,
    struct.error, zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy and PyTorch raise of files that are not what they are called."""


def read_examples(path: Path, target: str | None) -> NDArray[Any]:
    """The features in an npy, npz or pt file, (n, ...), with or without targets beside them.

    Args:
        path: The file.
        target: What the targets' array is called; None is `y`.

    Raises:
        DataError: they cannot be read, or are not numbers.
    """
    source = Source(str(path), target=target)
    arrays = _arrays(source, alone=True)
    name = features_of(source, arrays)
    return _numbers(f"{name!r} of {source.name!r}", arrays[name])


def _read(source: Source) -> dict[str, tuple[NDArray[Any], NDArray[Any]]]:
    """Features and targets by part, checked."""
    arrays = _arrays(source)
    found = {}
    for part, (x, y) in chosen(source, arrays).items():
        if len(arrays[x]) != len(arrays[y]):
            raise DataError(
                f"{x!r} of {source.name!r} has {len(arrays[x])} examples, and {len(arrays[y])} "
                "targets."
            )
        found[part] = (_features(source, x, arrays[x]), arrays[y])
    return found


def _arrays(source: Source, *, alone: bool = False) -> dict[str, NDArray[Any]]:
    """All arrays of a file by name; features that may stand `alone` are `x` if they do."""
    suffix = source.path.suffix.lower()
    try:
        if suffix == ".npy":
            return {"x": np.atleast_1d(np.load(source.path, allow_pickle=False))}
        return _npz(source) if suffix == ".npz" else _pt(source, alone=alone)
    except DAMAGED as error:
        # NumPy's own sentence goes on about how to trust the file after all.
        what = ValueError(_OBJECTS) if "allow_pickle" in str(error) else error
        raise DataError(unreadable(source, what)) from error


def _npz(source: Source) -> dict[str, NDArray[Any]]:
    with np.load(source.path, allow_pickle=False) as arrays:
        return {name: np.atleast_1d(arrays[name]) for name in arrays}


def _pt(source: Source, *, alone: bool) -> dict[str, NDArray[Any]]:
    found = _torch_load(source.path)
    if isinstance(found, tuple | list) and len(found) == 2:
        found = {"x": found[0], source.target or "y": found[1]}
    if alone and torch.is_tensor(found):
        found = {"x": found}
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        raise ValueError(
            f"it holds a {type(found).__name__}; it must hold two tensors, x and y, or a dict of "
            "tensors"
        )
    return {str(name): np.atleast_1d(_as_numpy(each)) for name, each in found.items()}


def _torch_load(path: Path) -> object:
    """What a file of PyTorch's holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else; PyTorch says that in many words, or in riddles.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except OSError:
        raise
    except (pickle.UnpicklingError, *DAMAGED) as error:
        foreign = "Unsupported global" in str(error)
        raise ValueError(_OBJECTS if foreign else "torch.save has not written it so") from error


def _as_numpy(tensor: torch.Tensor) -> NDArray[Any]:
    """A tensor as an array; NumPy has no bfloat16 and no shorter floats."""
    known = (torch.float16, torch.float32, torch.float64)
    short = tensor.is_floating_point() and tensor.dtype not in known
    found: NDArray[Any] = (tensor.float() if short else tensor).detach().numpy()
    return found


def _features(source: Source, name: str, x: NDArray[Any]) -> NDArray[Any]:
    """Features as rows or images, checked."""
    what = f"{name!r} of {source.name!r}"
    if x.ndim > 4 or 0 in x.shape:
        raise DataError(
            f"{what} has the shape {x.shape}; it must be (n, columns), (n, height, width), "
            "(n, channels, height, width) or (n, height, width, channels)."
        )
    return _numbers(what, x)


def _numbers(what: str, x: NDArray[Any]) -> NDArray[Any]:
    """Features of any shape, (n, ...), checked; one number of an example is a row."""
    if x.dtype.kind not in "biuf":
        raise DataError(f"{what} is of type {x.dtype}; features must be numbers.")
    if not x.size:
        raise DataError(f"{what} has no examples.")
    check_finite(what, x)
    return x[:, None] if x.ndim == 1 else x


def check_finite(what: str, x: NDArray[Any]) -> None:
    """Refuses NaN and infinity.

    Raises:
        DataError: with how many there are, and the place of the first.
    """
    if x.dtype.kind != "f" or (finite := np.isfinite(x)).all():
        return
    first = np.unravel_index(int(finite.argmin()), x.shape)
    raise DataError(
        f"{what} is NaN or infinite in {int((~finite).sum())} places, the first of them "
        f"[{', '.join(map(str, first))}]. Fill them in: only tables in files are filled in here."
    )
