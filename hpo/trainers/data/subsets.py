"""Nested subsets: the training part cut to a share, of which every smaller share is a part."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from hpo.trainers.data.parts import Data

_LEAST = 2
"""The fewest examples: of one, neither batch norm nor a standard deviation makes anything."""


def nested_rows(targets: NDArray[Any], *, n_classes: int, seed: int) -> NDArray[np.int64]:
    """All rows in an order whose every beginning is a stratified random subset.

    The k-th of a class's m rows, in random order, has its place at (k + 1/2) / m of the whole, so
    that of any beginning each class has its share, to within less than half the number of classes
    and one. Beginnings of one order are nested by themselves.

    Args:
        targets: Numbers of classes, (n,); of a regression anything, (n,).
        n_classes: 0 for a regression, whose subsets are simply random.
        seed: Decides the order.

    Returns:
        The places of the rows, int64, (n,).
    """
    rng = np.random.default_rng(seed)
    shuffled = rng.permutation(len(targets))
    if not n_classes:
        return shuffled
    places = np.empty(len(targets))
    for label in range(n_classes):
        of_class = np.flatnonzero(targets[shuffled] == label)
        places[of_class] = (np.arange(len(of_class)) + 0.5) / max(1, len(of_class))
    # Stable, so that what has the same place stays in the shuffled order.
    return shuffled[np.argsort(places, kind="stable")]


def size_of(fraction: float, n: int) -> int:
    """How many of n training examples a share of them is, at least 2."""
    return min(n, max(_LEAST, round(fraction * n)))


def cut(data: Data, fraction: float, seed: int) -> Data:
    """The same data with a share of its training part; all else stays as it is.

    Features were standardised by the whole training part, and stay so.

    Args:
        data: On its device.
        fraction: Above 0; 1 is the data itself.
        seed: Decides which examples; for one seed, those of a smaller share are among those of
            a larger one.
    """
    if fraction >= 1:
        return data
    order = nested_rows(data.train.targets.cpu().numpy(), n_classes=len(data.classes), seed=seed)
    rows = order[: size_of(fraction, len(order))]
    numbers = {**data.numbers, "train": data.numbers["train"][rows]} if data.numbers else {}
    return replace(data, train=data.train.subset(torch.from_numpy(rows)), numbers=numbers)
