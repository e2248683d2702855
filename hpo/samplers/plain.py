"""Samplers that do not learn from results: grid, random, Sobol."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import FrozenTrial

from hpo.errors import SpaceExhaustedError
from hpo.samplers.base import LISTED, SpaceSampler
from hpo.search_spaces import Scalar, SearchSpace

_MOST_POINTS = 10_000  # looked at for one that requirements allow


class GridSampler(SpaceSampler):
    """Every point of the grid exactly once, in an order shuffled by the seed.

    Shuffled, so that a search that is cut short has seen some of everything.

    Raises:
        search_spaces.GridError: a parameter has no grid.
    """

    _has_priors = False  # a grid visits every point, whatever anybody believes

    def __init__(self, space: SearchSpace, seed: int) -> None:
        super().__init__(space, seed)
        self._n_points = space.grid_size

    @property
    def size(self) -> int:
        """How many points the grid has, and a baseline beside it."""
        beside = self.baseline is not None and not self.space.on_grid(self.baseline)
        return self._n_points + beside

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        taken = self.taken(study, but=trial)
        points = self._points if self._n_points <= LISTED else self._random_points(seed)
        for params in points:
            if self.space.key(params) not in taken:
                return params
        self.gave_up = True
        raise SpaceExhaustedError(f"all {self._n_points:,} points of the grid have been tried.")

    def _random_points(self, seed: int) -> Iterator[dict[str, Any]]:
        """Points of a grid too large to list; nobody lives to see it half tried."""
        rng = np.random.default_rng(seed)
        values = {p.name: p.domain.grid() for p in self.space.free}
        for _ in range(_MOST_POINTS):
            config = self.space.walk(lambda p: values[p.name][rng.integers(len(values[p.name]))])
            if self.space.allows(config):
                yield self.space.free_params(config)

    @cached_property
    def _points(self) -> list[dict[str, Any]]:
        points = [self.space.free_params(config) for config in self.space.grid()]
        order = np.random.default_rng(self.seed).permutation(len(points))
        return [points[i] for i in order]


class RandomSampler(SpaceSampler):
    """Draws by each parameter's prior; without one uniform, on its scale."""

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        rng = np.random.default_rng(seed)
        return self.space.sample_params(rng)


class SobolSampler(SpaceSampler):
    """Scrambled Sobol points (Owen 1998): random, but spread evenly over the space.

    Trial k is point k of the sequence, of those that meet the space's requirements; categorical
    parameters take their share of the unit interval like any other.
    """

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        if not self.space.free:
            return {}
        start = 0 if self.space.require else trial.number
        points = islice(self._configs(start), _MOST_POINTS + trial.number)
        allowed = filter(self.space.allows, points)
        config = next(islice(allowed, trial.number - start, None), None)
        # Where hardly any point is allowed, chance goes on.
        if config is None:
            return self.space.sample_params(np.random.default_rng(seed))
        return self.space.free_params(config)

    def _configs(self, start: int) -> Iterator[dict[str, Scalar]]:
        """The configurations at the points of the sequence."""
        from scipy.stats import qmc  # takes a second to import

        sequence = qmc.Sobol(len(self.space.free), scramble=True, rng=self.seed)
        if start:
            sequence.fast_forward(start)
        while True:
            at = dict(zip((p.name for p in self.space.free), sequence.random(1)[0], strict=True))
            yield self._config_at(at)

    def _config_at(self, point: Mapping[str, float]) -> dict[str, Scalar]:
        return self.space.walk(lambda p: p.domain.from_quantile(float(point[p.name])))
