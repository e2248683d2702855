"""What each family of scaling laws is good for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pytest

import hpo
from hpo.curves.distributions import Array, Distribution

_SIZES = np.geomspace(100, 6400, 10)
_AHEAD = 10 * _SIZES[-1]


def log_power_law(n0: float, b: float, floor: float = 0.0) -> Callable[[Array], Array]:
    """A plateau at 0.5 and then, from about n0 on, a power law; with a floor it is MMF."""
    return lambda n: floor + 0.5 / (1 + (n / n0) ** b)


def ahead(law: Callable[[Array], Array], noise: float, seed: int) -> Distribution:
    """What is expected of 10 times the data, by three measurements of each size."""
    strays = np.exp(np.random.default_rng(seed).normal(scale=noise, size=(len(_SIZES), 3)))
    return hpo.data_needs(_SIZES, law(_SIZES)[:, None] * strays).error_at(_AHEAD)


@pytest.mark.parametrize("b", [1.0, 1.6])
def test_a_plateau_that_has_only_just_ended_is_told_from_a_slow_law(b: float) -> None:
    """By the other families alone, the middle is 1.6 to 5 times too high."""
    law = log_power_law(_SIZES[-1], b)
    for seed in range(3):
        low, middle, high = ahead(law, 0.003, seed).quantile([0.05, 0.5, 0.95])[:, 0]
        assert middle == pytest.approx(law(_AHEAD), rel=0.1)
        assert low <= law(_AHEAD) <= high


def test_a_plateau_at_the_beginning_does_not_mislead() -> None:
    """Forecasts are off by a tenth of the truth; by the other families alone by a third."""
    off = []
    for n0, floor in product((400, 600, 900), (0.01, 0.03)):
        law = log_power_law(n0, 1.5, floor)
        off += [ahead(law, 0.01, seed).crps(law(_AHEAD))[0] / law(_AHEAD) for seed in range(2)]
    assert np.mean(off) < 0.17
