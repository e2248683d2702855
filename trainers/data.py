"""Real data sets that scikit-learn carries, split and standardised.

PyTorch and scikit-learn are imported by `load` alone, so that asking for `names`, or what
`describe` knows, costs nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING

from trainers.errors import DataError, did_you_mean

if TYPE_CHECKING:
    import numpy as np
    import torch
    from numpy.typing import NDArray

    Indices = NDArray[np.int64]

_TENSORS = ("train_x", "train_y", "val_x", "val_y", "test_x", "test_y")


@dataclass(frozen=True)
class Description:
    """What is known of a data set before it is loaded.

    Attributes:
        n_train: Examples in the training part, however it is split.
        image_shape: Channels, height and width of an example; None where it is a row of a table.
    """

    n_train: int
    image_shape: tuple[int, int, int] | None = None


_SETS: Mapping[str, Description] = MappingProxyType(
    {
        "breast_cancer": Description(341),
        "digits": Description(1077, (1, 8, 8)),
        "iris": Description(90),
        "wine": Description(106),
    }
)


@dataclass(frozen=True, eq=False)
class Classification:
    """A classification data set in three parts, on one device.

    Attributes:
        name: What it is called.
        train_x: Features, float32, (n_train, n_features).
        train_y: Classes, int64 in [0, n_classes), (n_train,).
        val_x: As `train_x`, to choose hyperparameters by.
        val_y: As `train_y`.
        test_x: As `train_x`, to judge the chosen ones by; `fit` does not look at it.
        test_y: As `train_y`.
        n_features: Columns of the features.
        n_classes: Number of classes.
        image_shape: Channels, height and width that the features of an example are, in this order;
            None where they are columns of a table.
    """

    name: str
    train_x: torch.Tensor
    train_y: torch.Tensor
    val_x: torch.Tensor
    val_y: torch.Tensor
    test_x: torch.Tensor
    test_y: torch.Tensor
    n_features: int
    n_classes: int
    image_shape: tuple[int, int, int] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one example."""
        return self.image_shape or (self.n_features,)

    def to(self, device: str | torch.device) -> Classification:
        """The same data on `device`; tensors that are there already are shared, not copied."""
        return replace(self, **{part: getattr(self, part).to(device) for part in _TENSORS})


def names() -> tuple[str, ...]:
    """The data sets that `load` knows."""
    return tuple(_SETS)


def describe(name: str) -> Description:
    """What is known of a data set without loading it.

    Raises:
        DataError: If there is no such data set.
    """
    if name not in _SETS:
        raise DataError(f"There is no data set {name!r}. {did_you_mean(name, _SETS)}")
    return _SETS[name]


def load(name: str, *, seed: int, device: str | torch.device = "cpu") -> Classification:
    """Loads a data set, splits it by `split(seed)`, and standardises its features.

    The mean and deviation are those of the training part, so nothing leaks from the other two.
    A feature that is constant there is only centred.

    Args:
        name: One of `names()`.
        seed: Decides the split, not negative; equal seeds split equally in any process.
        device: Where the tensors go.

    Raises:
        DataError: If there is no such data set.
    """
    image_shape = describe(name).image_shape
    import numpy as np
    import torch
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    parts = split(y, seed=seed)
    train = x[parts[0]]
    deviation = np.where(np.ptp(train, axis=0) > 0, train.std(axis=0), 1)
    x = ((x - train.mean(axis=0)) / deviation).astype(np.float32)
    tensors = (torch.from_numpy(part).to(device) for rows in parts for part in (x[rows], y[rows]))
    return Classification(
        name=name,
        n_features=x.shape[1],
        n_classes=int(y.max()) + 1,
        image_shape=image_shape,
        **dict(zip(_TENSORS, tensors, strict=True)),
    )


@lru_cache(maxsize=8)
def load_data(name: str, seed: int, device: str = "cpu") -> Classification:
    """`load`, once per process for equal arguments: the trials of a study share one data set."""
    return load(name, seed=seed, device=device)


def split(y: Indices, *, seed: int) -> tuple[Indices, Indices, Indices]:
    """Rows for training (60 %), validation (20 %) and test (20 %), every class in proportion.

    Args:
        y: The class of each row, (n,).
        seed: Any integer from 0.

    Returns:
        Three disjoint index arrays that together are all rows.
    """
    import numpy as np
    from sklearn.model_selection import train_test_split

    # A bit generator, unlike RandomState(seed), takes seeds beyond 32 bits.
    rng = np.random.RandomState(np.random.MT19937(seed))
    rest, test = train_test_split(np.arange(len(y)), test_size=0.2, stratify=y, random_state=rng)
    train, val = train_test_split(rest, test_size=0.25, stratify=y[rest], random_state=rng)
    return train, val, test
