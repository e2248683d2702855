"""Samplers that do not learn from results: grid, random, Sobol."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from hpo.errors import SpaceExhaustedError
from hpo.samplers.base import LISTED, SpaceSampler
from search_spaces import Parameter, SearchSpace


class GridSampler(SpaceSampler):
    """Every point of the grid exactly once, in an order shuffled by the seed.

    Shuffled, so that a search that is cut short has seen some of everything.

    Raises:
        search_spaces.GridError: a parameter has no grid.
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        self._size = space.grid_size

    @property
    def size(self) -> int:
        """How many points the grid has."""
        return self._size

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        taken = self.taken(study, but=trial)
        points = self._points if self.size <= LISTED else self._random_points(seed)
        for params in points:
            if self.space.key(params) not in taken:
                return params
        raise SpaceExhaustedError(f"all {self.size:,} points of the grid have been tried.")

    def _random_points(self, seed: int) -> Iterator[dict[str, Any]]:
        """Points of a grid too large to list; nobody lives to see it half tried."""
        rng = np.random.default_rng(seed)
        values = {p.name: p.domain.grid() for p in self.space.free}
        while True:
            config = self.space.walk(lambda p: values[p.name][rng.integers(len(values[p.name]))])
            yield self.space.free_params(config)

    @cached_property
    def _points(self) -> list[dict[str, Any]]:
        points = [self.space.free_params(config) for config in self.space.grid()]
        order = np.random.default_rng(self.seed).permutation(len(points))
        return [points[i] for i in order]


class RandomSampler(SpaceSampler):
    """Uniform draws, on the scale (linear or logarithmic) of each parameter."""

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return self.space.free_params(self.space.sample(rng))


class SobolSampler(SpaceSampler):
    """Scrambled Sobol points (Owen 1998): random, but spread evenly over the space.

    Point k of the sequence is trial k; categorical parameters take their share of the unit
    interval like any other.
    """

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        from scipy.stats import qmc  # takes a second to import

        if not self.space.free:
            return {}
        sequence = qmc.Sobol(len(self.space.free), scramble=True, rng=self.seed)
        if trial.number:
            sequence.fast_forward(trial.number)
        point = dict(zip((p.name for p in self.space.free), sequence.random(1)[0], strict=True))

        def at_point(parameter: Parameter) -> Any:
            return parameter.domain.from_unit(float(point[parameter.name]))

        return self.space.free_params(self.space.walk(at_point))
