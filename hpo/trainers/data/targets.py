"""What is to be predicted: classes by their numbers, or numbers."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hpo.trainers.data.source import Source
from hpo.trainers.errors import DataError, did_you_mean

_MANY = 20

_log = logging.getLogger(__name__)


def encode(
    y: NDArray[Any], source: Source, classes: Sequence[str] = ()
) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Targets as a trainer takes them, and the names of the classes.

    Args:
        y: The targets as they were read, (n,): text, true and false, or numbers.
        source: Says whether they are classes.
        classes: Their names, where `y` are their numbers already.

    Returns:
        (n,): in classification int64, the place of each among the classes, which are sorted, as
        numbers if they are; in regression float64.

    Raises:
        DataError: they are not of that task; some are missing; all are the same; or the positive
            class is none of them.
    """
    what = f"the target {source.target!r} of" if source.target else "the target of"
    what = f"{what} {source.name!r}"
    if y.ndim == 2 and y.shape[1] == 1:
        y = y[:, 0]
    if y.ndim != 1:
        hint = " Of one-hot rows, save y.argmax(axis=1)." if _is_one_hot(y) else ""
        raise DataError(
            f"{what} has the shape {y.shape}; it must have one value for each example.{hint}"
        )
    if y.dtype == object:
        y = np.array([*map(str, y)] if len({*map(type, y)}) > 1 else y.tolist())
    if y.dtype.kind == "f" and (n_missing := int((~np.isfinite(y)).sum())):
        raise DataError(f"{what} is missing or infinite in {n_missing} of {len(y)} examples.")
    if source.task == "regression":
        return _numbers(y, what), ()
    numbers, names = (y, tuple(classes)) if classes else _classes(y, what)
    if len(names) < 2:
        raise DataError(f"{what} is always {''.join(names)!r}; two classes are the least.")
    if source.positive not in (None, *names):
        guess = did_you_mean(source.positive, names)
        raise DataError(f"positive: there is no class {source.positive!r}. {guess}")
    _warn_of_alike(names, what)
    return numbers, names


def _is_one_hot(y: NDArray[Any]) -> bool:
    is_1 = y == 1
    return y.ndim == 2 and bool((is_1 | (y == 0)).all() and (is_1.sum(axis=1) == 1).all())


def _warn_of_alike(names: Sequence[str], what: str) -> None:
    alike = defaultdict(list)
    for name in names:
        alike[name.strip().casefold()].append(name)
    for each in alike.values():
        if len(each) > 1:
            _log.warning(
                "%s has the classes %s, which differ by case or spaces alone: write them alike if "
                "they are one.",
                what,
                ", ".join(map(repr, each)),
            )


def missing(source: Source, n_missing: int, n: int) -> DataError:
    """The error that tells of a target with gaps."""
    in_text = source.path.suffix.lower() != ".parquet"
    said = " In text, ?, NA, None, null and the like say so; a class needs another name."
    said = said if in_text and source.task == "classification" else ""
    return DataError(
        f"the target {source.target!r} of {source.name!r} is missing in {n_missing} of {n} rows. "
        f"Fill them in, or leave them out.{said}"
    )


def _numbers(y: NDArray[Any], what: str) -> NDArray[np.float64]:
    if y.dtype.kind not in "iuf":
        raise DataError(
            f"{what} has values such as {_no_number(y)!r}; regression needs numbers. "
            "For classes use `trainer: classifier`."
        )
    if len(y) > 1 and y.min() == y.max():
        raise DataError(f"{what} is always {y[0]:g}; there is nothing to predict.")
    return y.astype(np.float64)


def _no_number(y: NDArray[Any]) -> object:
    """The first of some values that does not read as a number, else the first; None of none."""
    values = y.tolist()
    for value in values:
        try:
            float(value)
        except (TypeError, ValueError):
            return value
    return values[0] if values else None


def _classes(y: NDArray[Any], what: str) -> tuple[NDArray[np.int64], tuple[str, ...]]:
    if y.dtype.kind == "f":
        fractions = y[y != np.floor(y)]
        if len(fractions):
            raise DataError(
                f"{what} has numbers such as {fractions[0]:g}, which are not classes. "
                "To predict numbers use `trainer: regressor`."
            )
        y = y.astype(np.int64)
    elif y.dtype.kind not in "biu":
        y = y.astype(str)
    found, numbers = np.unique(y, return_inverse=True)
    if y.dtype.kind in "iu" and len(found) > max(_MANY, len(y) / 2):
        raise DataError(
            f"{what} has {len(found)} different numbers in {len(y)} examples, too many for "
            "classes. To predict numbers use `trainer: regressor`."
        )
    return numbers.astype(np.int64), tuple(map(str, found))
