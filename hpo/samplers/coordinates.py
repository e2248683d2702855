"""How a model sees a parameter: as the number in which its results are smoothest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeGuard

from optuna.distributions import BaseDistribution, FloatDistribution, IntDistribution

from hpo.search_spaces import Choice, Domain, Int, Sampled, Scalar, SearchSpace


@dataclass(frozen=True)
class Coordinate:
    """A parameter in a model's eyes, where that is not the parameter itself.

    Args:
        distribution: What the model is told.
        inward: From the parameter's value to the model's.
        outward: And back.
    """

    distribution: BaseDistribution
    inward: Callable[[Any], Any]
    outward: Callable[[Any], Any]


def is_unordered(domain: Domain) -> TypeGuard[Choice]:
    """Whether a domain's values are mere names, of which none is nearer to another."""
    return isinstance(domain, Choice) and not domain.ordered


def coordinates(space: SearchSpace) -> Mapping[str, Coordinate]:
    """The coordinates of the parameters that a model is to see in another way."""
    found = {p.name: _coordinate(p.domain) for p in space.free if isinstance(p.domain, Sampled)}
    return {name: each for name, each in found.items() if each is not None}


def _coordinate(domain: Sampled) -> Coordinate | None:
    if is_unordered(domain):
        return None
    if domain.prior is not None:
        # What is uniform to the model is the user's belief: its random draws follow the prior,
        # and near it the model sees the finer differences.
        unit = FloatDistribution(0.0, 1.0)
        return Coordinate(unit, domain.to_quantile, domain.from_quantile)
    if isinstance(domain, Choice) or (isinstance(domain, Int) and domain.powers_of is not None):
        # Optuna has no distribution over an ordered list; by its places it learns the order.
        assert domain.size is not None  # noqa: S101 - a list of options or powers
        places = IntDistribution(0, domain.size - 1)
        return Coordinate(places, partial(_place, domain), partial(_at_place, domain))
    return None


def _place(domain: Sampled, value: Any) -> int:
    n = domain.size or 1
    return min(int(domain.to_unit(value) * n), n - 1)


def _at_place(domain: Sampled, place: Any) -> Scalar:
    return domain.nth(int(place))
