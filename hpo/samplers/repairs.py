"""What a model wants and may not have, replaced by the nearest that it may."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from hpo.samplers.coordinates import is_unordered
from hpo.search_spaces import Parameter, Scalar, SearchSpace

_CANDIDATES = 200
_HALVINGS = 12


def nearest_allowed(
    space: SearchSpace, wanted: Mapping[str, Any], rng: np.random.Generator
) -> dict[str, Scalar]:
    """A configuration that meets the space's requirements, near one that does not.

    The nearest of some random ones, moved towards the wanted one as far as the requirements let
    it. Distances are those of the priors' quantiles; two different options are 1 apart.

    Args:
        space: The space.
        wanted: Params that break a requirement.
        rng: Draws the candidates.

    Raises:
        search_spaces.SpaceError: hardly any configuration meets the requirements.
    """
    candidates = [space.sample_params(rng) for _ in range(_CANDIDATES)]
    nearest = min(candidates, key=lambda params: _distance(space, params, wanted))
    low, high = 0.0, 1.0  # shares of the way: allowed, and not
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        moved = _between(space, nearest, wanted, middle)
        low, high = (low, middle) if moved is None else (middle, high)
    return _between(space, nearest, wanted, low) or nearest


def _distance(space: SearchSpace, one: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return sum(
        _apart(space.by_name[name], one[name], other[name]) if name in other else 1.0
        for name in one
    )


def _apart(parameter: Parameter, one: Any, other: Any) -> float:
    domain = parameter.domain
    if is_unordered(domain):
        return float(one != other)
    return abs(domain.to_quantile(one) - domain.to_quantile(other))


def _between(
    space: SearchSpace, start: Mapping[str, Any], end: Mapping[str, Any], share: float
) -> dict[str, Scalar] | None:
    """The params so far on the way from one to another; None if they are not allowed."""

    def choose(parameter: Parameter) -> Any:
        name, domain = parameter.name, parameter.domain
        if name not in start:
            return end.get(name, domain.from_quantile(0.5))
        if name not in end or is_unordered(domain):
            return start[name]
        a, b = domain.to_quantile(start[name]), domain.to_quantile(end[name])
        return domain.from_quantile(a + share * (b - a))

    config = space.walk(choose)
    return space.free_params(config) if space.allows(config) else None
