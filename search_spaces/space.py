"""A search space: named parameters, some of them searched only where others have certain values."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from search_spaces.conditions import count, in_order, problems_of
from search_spaces.domains import Domain, Fixed, Sampled, Scalar
from search_spaces.errors import GridError, Problem, SpaceError, did_you_mean
from search_spaces.flow import flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy as np
    from optuna.distributions import BaseDistribution

When: TypeAlias = tuple[tuple[str, tuple[Scalar, ...]], ...]


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter.

    Attributes:
        name: its key in configurations.
        domain: the values it may have.
        when: its conditions, (parent, values) each. It is active where every parent is active
            and has one of the values; where it is not, a configuration lacks it.
    """

    name: str
    domain: Domain
    when: When = ()

    def is_active(self, config: Mapping[str, object]) -> bool:
        """Whether a configuration, complete up to this parameter, has it."""
        return all(parent in config and config[parent] in values for parent, values in self.when)

    def to_dict(self) -> dict[str, object]:
        """The canonical YAML form."""
        if not self.when:
            return self.domain.to_dict()
        when = {parent: v[0] if len(v) == 1 else list(v) for parent, v in self.when}
        return {**self.domain.to_dict(), "when": when}


@dataclass(frozen=True)
class SearchSpace:
    """All configurations a study may try.

    A configuration (*config*) maps the name of every active parameter to its value; *params*
    are the part of it that was sampled. Every way to make one goes through `walk`.

    Attributes:
        parameters: in the user's order, except that parents come before their children.

    Raises:
        SpaceError: with every problem of the parameters' names and conditions.
    """

    parameters: tuple[Parameter, ...]

    def __post_init__(self) -> None:
        if problems := tuple(problems_of(self.parameters)):
            raise SpaceError(problems)
        object.__setattr__(self, "parameters", in_order(self.parameters))

    @cached_property
    def by_name(self) -> dict[str, Parameter]:
        """The parameters by their names."""
        return {parameter.name: parameter for parameter in self.parameters}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all parameters."""
        return tuple(self.by_name)

    @cached_property
    def free(self) -> tuple[Parameter, ...]:
        """The parameters that are sampled."""
        return tuple(p for p in self.parameters if not isinstance(p.domain, Fixed))

    @property
    def constants(self) -> dict[str, Scalar]:
        """The values that every configuration has."""
        fixed = ((p.name, p.domain) for p in self.parameters if not p.when)
        return {name: domain.value for name, domain in fixed if isinstance(domain, Fixed)}

    def walk(self, choose: Callable[[Parameter], object]) -> dict[str, Scalar]:
        """Makes a configuration: asks `choose` for each active free parameter, parents first.

        Returns:
            The configuration, in the domains' own spelling of the values (see `Domain.snap`).

        Raises:
            SpaceError: `choose` gave a value outside the parameter's domain.
        """
        config: dict[str, Scalar] = {}
        for parameter in self.parameters:
            if not parameter.is_active(config):
                continue
            if isinstance(parameter.domain, Fixed):
                config[parameter.name] = parameter.domain.value
                continue
            value = choose(parameter)
            try:
                config[parameter.name] = parameter.domain.snap(value)
            except ValueError as error:
                raise SpaceError([Problem((parameter.name,), str(error))]) from None
        return config

    def sample(self, rng: np.random.Generator) -> dict[str, Scalar]:
        """A configuration, each parameter of it uniform in unit coordinates."""
        return self.walk(lambda parameter: parameter.domain.from_unit(rng.random()))

    def complete(self, params: Mapping[str, object]) -> dict[str, Scalar]:
        """The configuration of sampled params: adds the fixed values, leaves out inactive params.

        Raises:
            SpaceError: an active parameter has no value, or one outside its domain, or a name is
                unknown.
        """
        unknown = [name for name in params if name not in self.by_name]
        if unknown:
            raise SpaceError(
                Problem((name,), f"the space has no {name!r}.{did_you_mean(name, self.names)}")
                for name in unknown
            )

        def given(parameter: Parameter) -> object:
            if parameter.name in params:
                return params[parameter.name]
            sentence = f"it is active here but has no value; give one in {parameter.domain}."
            raise SpaceError([Problem((parameter.name,), sentence)])

        return self.walk(given)

    def free_params(self, config: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The sampled part of a configuration."""
        return {p.name: config[p.name] for p in self.free if p.name in config}

    def contains(self, params: Mapping[str, object]) -> bool:
        """Whether params are exactly what a sampler may give: every active one, none inactive."""
        try:
            return self.free_params(self.complete(params)).keys() == params.keys()
        except SpaceError:
            return False

    def key(self, params: Mapping[str, object]) -> str:
        """The identity of sampled params: equal for two configurations that are the same.

        1, 1.0 and true differ; 0.3 and 0.1 + 0.2 do not where the domain has steps of 0.1.
        """

        def spelt(name: str, value: object) -> object:
            parameter = self.by_name.get(name)
            inside = parameter is not None and parameter.domain.contains(value)
            return parameter.domain.snap(value) if parameter and inside else value

        return json.dumps({name: spelt(name, params[name]) for name in sorted(params)})

    @cached_property
    def size(self) -> int | None:
        """How many different configurations there are; None for infinitely many."""
        sizes = {p.name: p.domain.size for p in self.parameters}
        finite = {name: size for name, size in sizes.items() if size is not None}
        if len(finite) < len(sizes):  # no parameter is without a configuration: see `problems_of`
            return None
        return count(
            {p.name: dict(p.when) for p in self.parameters},
            n_values=finite,
            has=lambda name, value: self.by_name[name].domain.contains(value),
        )

    @cached_property
    def grid_size(self) -> int:
        """How many configurations `grid` gives, counted without making them.

        Raises:
            GridError: naming every parameter without a grid.
        """
        grids = self._grids()
        return count(
            {p.name: dict(p.when) for p in self.parameters},
            n_values={name: len(values) for name, values in grids.items()},
            has=lambda name, value: value in grids[name],
        )

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Every configuration of the grid once, the last parameter changing fastest.

        Raises:
            GridError: naming every parameter without a grid; at once, before the first one.
        """
        return self._grid_from(0, {}, self._grids())

    def _grid_from(
        self, place: int, config: dict[str, Scalar], grids: Mapping[str, tuple[Scalar, ...]]
    ) -> Iterator[dict[str, Scalar]]:
        if place == len(self.parameters):
            yield config
            return
        parameter = self.parameters[place]
        if not parameter.is_active(config):
            yield from self._grid_from(place + 1, config, grids)
            return
        for value in grids[parameter.name]:
            yield from self._grid_from(place + 1, {**config, parameter.name: value}, grids)

    def _grids(self) -> dict[str, tuple[Scalar, ...]]:
        grids: dict[str, tuple[Scalar, ...]] = {}
        problems = []
        for parameter in self.parameters:
            try:
                grids[parameter.name] = parameter.domain.grid()
            except ValueError as error:
                problems.append(Problem((parameter.name,), str(error)))
        if problems:
            raise GridError(problems)
        return grids

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the free parameters, active or not."""
        domains = ((p.name, p.domain) for p in self.parameters)
        return {name: domain.to_optuna() for name, domain in domains if isinstance(domain, Sampled)}

    def to_dict(self) -> dict[str, dict[str, object]]:
        """The canonical YAML form: `parse` makes an equal space of it."""
        return {parameter.name: parameter.to_dict() for parameter in self.parameters}

    def diff(self, other: SearchSpace) -> list[str]:
        """What changes from this space to another, a line for each parameter that does."""
        old = {name: flow(form) for name, form in self.to_dict().items()}
        new = {name: flow(form) for name, form in other.to_dict().items()}
        changed = [f"{n}: {old[n]} -> {new[n]}" for n in old if n in new and old[n] != new[n]]
        added = [f"+ {n}: {new[n]}" for n in new if n not in old]
        return changed + added + [f"- {n}: {old[n]}" for n in old if n not in new]
