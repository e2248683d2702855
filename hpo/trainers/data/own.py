"""The user's own data sets."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch.utils.data import ConcatDataset, DataLoader, Dataset, IterableDataset

from hpo.trainers.code import find
from hpo.trainers.data.arrays import check_finite, given_rows
from hpo.trainers.data.examples import InMemory, OnDisk, assemble
from hpo.trainers.data.memory import room
from hpo.trainers.data.parts import Data, is_integer
from hpo.trainers.data.source import PARTS, Source
from hpo.trainers.data.stream import ignore_interrupts, read, workers_for
from hpo.trainers.errors import CodeError, DataError, called, kind

_AT_ONCE = 256
_TRIED, _TIMES = 10, 3
"""How many examples are read how often, to see whether they stay the same."""
_TRYING_SECONDS = 2.0

_log = logging.getLogger(__name__)


def load_own(source: Source, seed: int) -> tuple[Data, ...]:
    """See `hpo.trainers.data.load`."""
    parts = _datasets(source)
    dataset: Dataset[Any] = ConcatDataset(parts.values()) if len(parts) > 1 else parts["train"]
    pairs = _Pairs(source.name, dataset, integers=source.integers)
    first, _ = pairs[0]
    _demand_fixed(source.name, pairs)
    if not source.integers:
        _warn_of_layout(source.name, tuple(first.shape))
    examples: InMemory | OnDisk
    if first.nbytes * len(pairs) * (source.folds or 1) <= room(torch.device("cpu")):
        x, y = _read(pairs, tuple(first.shape))
        check_finite(f"the data of {source.name!r}", x)
        examples = InMemory(x)
    else:
        y = _targets(pairs, tuple(first.shape))
        examples = OnDisk(pairs, dtype=pairs.dtype)
    given = given_rows({part: len(each) for part, each in parts.items()})  # type: ignore[arg-type]
    return assemble(source, examples, y, seed=seed, given=given)


def _demand_fixed(name: str, pairs: _Pairs) -> None:
    """Reads some examples, spread over the dataset, again and again.

    A transform that changes an example with probability 1/2 is missed once in 2^20 times, or, where
    reading is slow, more often: beyond the first example there is an end to it after some seconds.

    Raises:
        DataError: one is not the same each time.
    """
    end = time.monotonic() + _TRYING_SECONDS
    for row in dict.fromkeys(np.linspace(0, len(pairs) - 1, _TRIED).round().astype(int).tolist()):
        if row and time.monotonic() > end:
            return
        x = pairs[row][0].nan_to_num()
        for _ in range(_TIMES - 1):
            if not torch.equal(x, pairs[row][0].nan_to_num()):
                raise DataError(
                    f"{name!r} gives another x for example {row} each time. Examples are read "
                    "once, and tell the data from others: let them be fixed, and what is random be "
                    "`flip`, `crop`, `noise`, `mixup` or a layer of your own model."
                )


def _datasets(source: Source) -> dict[str, Dataset[Any]]:
    """What the user's code returns, by part; all of it is `train` if it is one dataset."""
    make = find(source.name, source.folder)
    try:
        made = make()
    except Exception as error:
        cause = f"{type(error).__name__}: {error}"
        raise CodeError(f"'{source.name}' fails when called without arguments: {cause}.") from error
    parts = tuple(made) if isinstance(made, tuple) or _are_parts(made) else (made,)
    if len(parts) == 2 and all(isinstance(each, torch.Tensor | np.ndarray) for each in parts):
        raise DataError(
            f"{source.name!r} returns a tuple of arrays; of x and y, return "
            "torch.utils.data.TensorDataset(x, y), made of tensors."
        )
    if not 1 <= len(parts) <= 3 or not all(map(_is_dataset, parts)):
        of_dict = " Return the datasets of a dict as such a tuple." * isinstance(made, Mapping)
        raise DataError(
            f"{source.name!r} returns {called(made)}; it must return a torch.utils.data.Dataset, "
            f"or a tuple of them: train, val, and test if there is one.{of_dict}"
        )
    for part in parts:
        if isinstance(part, IterableDataset):
            raise DataError(
                f"{source.name!r} returns {kind(part)}, an IterableDataset, whose examples "
                "cannot be split by their places. Return list(dataset) if it fits into memory, "
                "else a Dataset with __getitem__ and __len__."
            )
        if not getattr(part, "__len__", int)():
            raise DataError(
                f"{source.name!r} returns {kind(part)} of no length; len() must give how many "
                "examples it has."
            )
    return dict(zip(PARTS, parts, strict=False))


def _are_parts(made: object) -> bool:
    """Whether a list is of datasets, as `random_split` gives them, and not of examples."""
    return isinstance(made, list) and bool(made) and all(isinstance(x, Dataset) for x in made)


def _warn_of_layout(name: str, shape: tuple[int, ...]) -> None:
    """Warns of what may be images whose channels stand last; a mlp need not know."""
    if len(shape) == 3 and shape[2] <= 4 < shape[0]:
        _log.warning(
            "%r gives x of shape %s, which a cnn or resnet takes for %d channels of %d x %d. Of "
            "images whose channels stand last, return x.permute(2, 0, 1).",
            name, shape, *shape,
        )  # fmt: skip


def _is_dataset(value: object) -> bool:
    return hasattr(value, "__getitem__") and not isinstance(value, Mapping | str)


class _Pairs(Dataset[tuple[torch.Tensor, Any]]):
    """The examples of a dataset, checked: features as a tensor, and one plain value.

    Args:
        name: What the dataset is called.
        dataset: Gives pairs.
        integers: As `Source` says.

    Attributes:
        name: What it is called.
        dtype: Of features: int64 if they may stay integers and the first example's are; else
            float32.
    """

    def __init__(self, name: str, dataset: Dataset[Any], *, integers: bool) -> None:
        self.name, self._dataset = name, dataset
        stay = integers and is_integer(self._as_tensor(self._pair(0)[0]).dtype)
        self.dtype = torch.int64 if stay else torch.float32

    def __len__(self) -> int:
        return len(self._dataset)  # type: ignore[arg-type]

    def __getitem__(self, row: int) -> tuple[torch.Tensor, Any]:
        x, y = self._pair(row)
        x = self._features(x, row)
        if isinstance(y, torch.Tensor | np.ndarray | np.generic) and tuple(y.shape) in ((), (1,)):
            y = y.item()
        if not isinstance(y, bool | int | float | str):
            sentence = f"y is {called(y)}; it must be one number or text."
            raise DataError(f"{self.name!r}: {sentence}{_to_return(y)}")
        return x.reshape(x.shape or (1,)), y

    def of_shape(self, row: int, shape: tuple[int, ...]) -> tuple[torch.Tensor, Any]:
        """An example whose features have this shape.

        Raises:
            DataError: they have another.
        """
        x, y = self[row]
        if tuple(x.shape) != shape:
            raise DataError(
                f"example {row} has the shape {tuple(x.shape)}, and example 0 {shape}; "
                "all must have one."
            )
        return x, y

    def _pair(self, row: int) -> tuple[Any, Any]:
        try:
            pair = self._dataset[row]
        except Exception as error:
            cause = f"{type(error).__name__}: {error}".rstrip(": ")
            raise CodeError(f"{self.name!r} fails at example {row}: {cause}.") from error
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            of_dict = " Return two of its values as a tuple." * isinstance(pair, Mapping)
            sentence = f"gives {called(pair)}; an example is a pair (x, y).{of_dict}"
            raise DataError(f"{self.name!r} {sentence}")
        x, y = pair
        return x, y

    def _features(self, x: Any, row: int) -> torch.Tensor:
        if self.dtype == torch.float32:
            return self._as_tensor(x, torch.float32)
        found = self._as_tensor(x)
        if not is_integer(found.dtype):
            raise DataError(
                f"{self.name!r}: x of example {row} is of {found.dtype}, and that of example 0 of "
                "integers; all must be of one kind."
            )
        return found.to(self.dtype)

    def _as_tensor(self, x: Any, dtype: torch.dtype | None = None) -> torch.Tensor:
        try:
            found = torch.as_tensor(x, dtype=dtype).detach().cpu()
            return found if found.layout is torch.strided else found.to_dense()
        except (TypeError, ValueError, RuntimeError) as error:
            sentence = f"x is {called(x)}; it must be a tensor or an array of numbers."
            if _is_picture(x):
                sentence += " Return torchvision's ToTensor()(x), or np.asarray(x)."
            raise DataError(f"{self.name!r}: {sentence}") from error


def _read(pairs: _Pairs, shape: tuple[int, ...]) -> tuple[NDArray[Any], NDArray[Any]]:
    x, y = torch.empty((len(pairs), *shape), dtype=pairs.dtype).numpy(), []
    for row in range(len(pairs)):
        features, target = pairs.of_shape(row, shape)
        x[row] = features.numpy()
        y.append(target)
    return x, np.array(y)


def _targets(pairs: _Pairs, shape: tuple[int, ...]) -> NDArray[Any]:
    """All targets, which the split needs, by reading everything once; it is checked, too."""
    loader = DataLoader(
        _Checked(pairs, shape),
        batch_size=_AT_ONCE,
        num_workers=workers_for(len(pairs)),
        collate_fn=list,
        worker_init_fn=ignore_interrupts,
        generator=torch.Generator(),
    )
    return np.array([y for batch in read(loader) for y in batch])


class _Checked(Dataset[Any]):
    """The targets of examples, each of which is finite and of one shape."""

    def __init__(self, pairs: _Pairs, shape: tuple[int, ...]) -> None:
        self._pairs, self._shape = pairs, shape

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, row: int) -> Any:
        x, y = self._pairs.of_shape(row, self._shape)
        check_finite(f"x of example {row} of {self._pairs.name!r}", x.numpy())
        return y


def _to_return(y: Any) -> str:
    """What to return in place of a y that is none."""
    return " Of a one-hot y, return y.argmax()." if len(getattr(y, "shape", ())) == 1 else ""


def _is_picture(value: object) -> bool:
    return type(value).__module__.partition(".")[0] == "PIL"
