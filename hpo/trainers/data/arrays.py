"""Arrays in files: tables and images that are numbers already."""

from __future__ import annotations

import logging
import pickle
import struct
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpo.trainers.data import standardise
from hpo.trainers.data.examples import InMemory, assemble
from hpo.trainers.data.memory import room
from hpo.trainers.data.parts import Data, is_integer
from hpo.trainers.data.source import PARTS, Source, chosen, features_of, unreadable
from hpo.trainers.data.splits import Rows
from hpo.trainers.data.stored import Stored, mapped
from hpo.trainers.errors import DataError, called

# Exports of an earlier day have pickled it under this module's name.
Channels = standardise.Channels

_HOST = torch.device("cpu")
_AS_IT_IS = (
    "Series and the like arrive as they are from a Dataset of your own, `data: "
    "package.module:make`."
)
_CHECKED = 2**24  # numbers, of which there may be more than fit into memory

_log = logging.getLogger(__name__)


def load_arrays(source: Source, seed: int) -> tuple[Data, ...]:
    """See `hpo.trainers.data.load`."""
    with_parts = _read(source)
    lengths = {part: len(y) for part, (_, y) in with_parts.items()}
    xs, ys = zip(*with_parts.values(), strict=True)
    for what, arrays in (("examples", xs), ("targets", ys)):
        if len(shapes := dict.fromkeys(x.shape[1:] for x in arrays)) > 1:
            both = " and ".join(map(str, shapes))
            raise DataError(f"the {what} in the parts of {source.name!r} differ in shape: {both}.")
    _warn_of_series(source.name, xs[0])
    examples = _examples(source, xs)
    given = given_rows(lengths)
    return assemble(source, examples, np.concatenate(ys), seed=seed, given=given)


def _warn_of_series(name: str, x: NDArray[Any]) -> None:
    """Warns of what may be series of several values, and is taken for images."""
    if x.ndim == 3 and x.dtype.kind == "f" and x.shape[1] != x.shape[2]:
        _log.warning(
            "the examples of %r, floats of shape %s, are taken for greyscale images, standardised "
            "by one mean and deviation. %s",
            name, x.shape[1:], _AS_IT_IS,
        )  # fmt: skip


def _examples(source: Source, xs: Sequence[NDArray[Any]]) -> InMemory | Stored:
    """Arrays of examples, one after the other, in memory if that has room for their features."""
    stays = source.integers and is_integer(np.result_type(*xs))
    # What is read is held beside what is made of it, for a while.
    n_bytes = sum(x.size * max(x.itemsize, 8 if stays else 4) for x in xs) * (source.folds or 1)
    if n_bytes > room(_HOST):
        return Stored(xs, stays)
    x = xs[0] if len(xs) == 1 else np.concatenate(xs)
    # As they are streamed; of another byte order scikit-learn makes doubles, which round otherwise.
    x = x.astype(x.dtype.newbyteorder("="), copy=False)
    return InMemory(x.astype(np.int64, copy=False)) if stays else InMemory(x, standardise.fit_array)


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
    on_disk = mapped(source.path) if _is_large(source.path) else {}
    with np.load(source.path, allow_pickle=False) as arrays:
        read = {name: arrays[name] for name in arrays if name not in on_disk}
    return {name: np.atleast_1d(array) for name, array in {**read, **on_disk}.items()}


def _is_large(path: Path) -> bool:
    """Whether memory has no room for what is in a file, compressed or not."""
    return path.stat().st_size > room(_HOST)


def _pt(source: Source, *, alone: bool) -> dict[str, NDArray[Any]]:
    found = held = _torch_load(source.path)
    if isinstance(held, tuple | list) and len(held) == 2:
        found = {"x": held[0], source.target or "y": held[1]}
    if alone and torch.is_tensor(held):
        found = {"x": held}
    if not isinstance(found, dict) or not all(map(torch.is_tensor, found.values())):
        what = called(held)
        if isinstance(found, dict):
            other = next(each for each in found.values() if not torch.is_tensor(each))
            what += f", among them {called(other)}"
        raise ValueError(
            f"it holds {what}; it must hold two tensors, x and y, or a dict of tensors"
        )
    return {str(name): np.atleast_1d(_as_numpy(each)) for name, each in found.items()}


def _torch_load(path: Path) -> object:
    """What a file of PyTorch's holds.

    Raises:
        OSError: it cannot be read.
        ValueError: it is something else; PyTorch says that in many words, or in riddles.
    """
    try:
        # What PyTorch wrote long ago cannot be mapped.
        mmap = _is_large(path) and zipfile.is_zipfile(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=mmap)
    except OSError:
        raise
    except (pickle.UnpicklingError, *DAMAGED) as error:
        if "TensorDataset" in str(error):
            hint = f"torch.save(dataset.tensors, {path.name!r})"
            raise ValueError(f"it holds a TensorDataset; save its tensors: {hint}") from error
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
            f"(n, channels, height, width) or (n, height, width, channels). {_AS_IT_IS}"
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
    if x.dtype.kind != "f" or not x.size:
        return
    at_once = max(_CHECKED // max(x[:1].size, 1), 1)
    wrong = [_not_finite(x, first, at_once) for first in range(0, len(x), at_once)]
    if not (n_wrong := sum(n for n, _ in wrong)):
        return
    first = next(place for n, place in wrong if n)
    raise DataError(
        f"{what} is NaN or infinite in {n_wrong} place{'s' * (n_wrong > 1)}, the first of them "
        f"[{', '.join(map(str, first))}]. Fill them in: only tables in files are filled in here."
    )


def _not_finite(x: NDArray[Any], start: int, n: int) -> tuple[int, tuple[int, ...]]:
    """How many of n examples from `start` on are not finite, and the place of the first number."""
    finite = np.isfinite(x[start : start + n])
    row, *others = np.unravel_index(int(finite.argmin()), finite.shape)
    return int((~finite).sum()), (start + int(row), *map(int, others))
