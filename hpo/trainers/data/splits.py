"""Which examples are trained on, which hyperparameters are chosen by, and which are kept back."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedKFold, train_test_split

from hpo.trainers.errors import DataError

Rows = NDArray[np.int64]

_TEST, _VAL = 0.2, 0.25
"""The share of the test part in all examples, and of the validation part in the others."""


def splits(
    y: NDArray[np.int64] | NDArray[np.float64],
    classes: Sequence[str] = (),
    *,
    seed: int,
    folds: int | None = None,
    given: Mapping[str, Rows] | None = None,
) -> Iterator[tuple[Rows, Rows, Rows]]:
    """Rows for training (60 %), validation (20 %) and test (20 %).

    Args:
        y: The target of each row, (n,).
        classes: Their names, where `y` are their numbers: every class is in proportion, then.
        seed: Any integer from 0.
        folds: So many splits with one test part, whose validation parts are, together, all other
            rows.
        given: Rows of parts, `val` or `test`, that the data says by itself. They stay what they
            are; but with folds, those of `val` are rows like others.

    Yields:
        Three disjoint index arrays that together are all rows.

    Raises:
        DataError: there are too few examples, or too few of a class.
    """
    given = given or {}
    # A bit generator, unlike RandomState(seed), takes seeds beyond 32 bits.
    rng = np.random.RandomState(np.random.MT19937(seed))
    kept = {part: rows for part, rows in given.items() if part == "test" or folds is None}
    rest = np.setdiff1d(np.arange(len(y)), np.concatenate([*kept.values(), np.array([], int)]))
    n_needed = 1 + ("test" not in kept) + ("val" not in kept) if folds is None else folds + 1
    _check(rest, y, classes, n_needed, folds)
    for part, rows in kept.items() if classes else ():
        if len(unknown := np.setdiff1d(y[rows], y[rest])):
            label = classes[int(unknown[0])]
            raise DataError(f"the label {label!r} is in the {part} part, and in no training one.")
    if "test" in kept:
        test = kept["test"]
    else:
        rest, test = _cut(rest, y, classes, _TEST, rng, left=n_needed - 1)
    if folds is None:
        train, val = (rest, kept["val"]) if "val" in kept else _cut(rest, y, classes, _VAL, rng)
        yield train, val, test
        return
    _check(rest, y, classes, folds, folds)
    folding = (StratifiedKFold if classes else KFold)(folds, shuffle=True, random_state=rng)
    for train, val in folding.split(rest, y[rest]):
        yield rest[train], rest[val], test


def _cut(
    rows: Rows,
    y: NDArray[np.generic],
    classes: Sequence[str],
    share: float,
    rng: object,
    *,
    left: int = 1,
) -> tuple[Rows, Rows]:
    """Rows without a random share of them, which have so many `left` of each class; and that share.

    Each class is in proportion, and has one example in the share however rare it is.
    """
    n_present = len(np.unique(y[rows])) if classes else 0
    if math.ceil(share * len(rows)) < n_present:
        raise DataError(
            f"{len(rows)} examples of {n_present} classes are too few to split off {share:.0%} "
            f"with one of each class: at least {math.ceil(n_present / share)} are needed."
        )
    stratify = y[rows] if classes else None
    others, cut = train_test_split(rows, test_size=share, stratify=stratify, random_state=rng)
    if classes:
        _exchange(y, of=others, to=cut, least=1)
        _exchange(y, of=cut, to=others, least=left)
    return others, cut


def _exchange(y: NDArray[Any], *, of: Rows, to: Rows, least: int) -> None:
    """Gives rows of classes that have too few, in place, for such of the most frequent one.

    Proportions are rounded, of a rare class perhaps to nothing. Both parts are in random order
    already, so that the first row of a class is any.
    """
    held = np.bincount(y[to], minlength=int(y.max()) + 1)
    for label in np.unique(y[of]):
        while held[label] < least < held.max():
            given = np.flatnonzero(y[of] == label)[0]
            taken = np.flatnonzero(y[to] == held.argmax())[0]
            held[label] += 1
            held[held.argmax()] -= 1
            of[given], to[taken] = to[taken], of[given]


def _check(
    rows: Rows, y: NDArray[np.generic], classes: Sequence[str], n_needed: int, folds: int | None
) -> None:
    """Demands an example for each part, of every class."""
    least = f"{n_needed} is the least"
    if folds is not None:
        least += f" with objective.folds {folds}"
    if len(rows) < n_needed:
        # Of classes, the rarest decides.
        n = len(rows) if not classes else int(np.unique(y[rows], return_counts=True)[1].min())
        fewer = _fewer_folds(n, folds)
        raise DataError(
            f"{len(rows)} examples are too few to split; {least}.{fewer and ' '}{fewer}"
        )
    if not classes or n_needed == 1:
        return
    present, counts = np.unique(y[rows], return_counts=True)
    rarest = int(counts.argmin())
    if counts[rarest] < n_needed:
        fewer = _fewer_folds(int(counts[rarest]), folds)
        times = "once" if counts[rarest] == 1 else f"{counts[rarest]} times"
        raise DataError(
            f"the label {classes[int(present[rarest])]!r} appears {times} among the "
            f"{len(rows)} examples to split; {least}. {f'{fewer} Or leave' if fewer else 'Leave'} "
            "it out, or merge it with another."
        )


def _fewer_folds(n: int, folds: int | None) -> str:
    """How many folds n examples are enough for, when the test part has got its share of them."""
    most = n - math.ceil(_TEST * n)
    return f"Give fewer folds: up to {most} will do." if folds is not None and most > 1 else ""
