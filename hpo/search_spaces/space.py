"""A search space: named parameters, some of them searched only where others have certain values."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, TypeAlias

from hpo.search_spaces import exact, vectors
from hpo.search_spaces.conditions import Condition, Values
from hpo.search_spaces.counting import Conditions, Count, TooManyToCountError, independent
from hpo.search_spaces.domains import Choice, Domain, Fixed, Random, Sampled, Scalar
from hpo.search_spaces.errors import GridError, Problem, SpaceError, did_you_mean
from hpo.search_spaces.flow import flow
from hpo.search_spaces.links import (
    Parameter,
    in_order,
    plain,
    possible_names,
    problems_of,
    requirement_problems,
    vectors_of,
)
from hpo.search_spaces.requirements import Kind, Requirement, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from optuna.distributions import BaseDistribution
    from skopt.space import Dimension

_DRAWS = 10_000  # in vain, after which requirements count as impossible
_HINTS = ("prior", "spread", "why")  # they change how a space is searched, not what is in it

Arranged: TypeAlias = Scalar | list[Scalar]


@dataclass(frozen=True)
class SearchSpace:
    """All configurations a study may try.

    A configuration (*config*) maps the name of every active parameter to its value; *params*
    are the part of it that was sampled. Every way to make one goes through `walk`. A vector is
    in them as its elements; `arranged` makes lists of these.

    Args:
        parameters: In the user's order, except that parents come before their children.
        require: What must hold between parameters.
        known: Values that requirements may name and that come from elsewhere, such as `epochs`.

    Raises:
        SpaceError: with every problem of the parameters' names, conditions and requirements.
    """

    parameters: tuple[Parameter, ...]
    require: tuple[Requirement, ...] = ()
    known: Mapping[str, Scalar] = field(default_factory=dict, compare=False)

    def __post_init__(self) -> None:
        if problems := tuple(problems_of(self.parameters)):
            # What requirements mean is not known yet, but whether they name anything is.
            names = possible_names(self.parameters, self.known)
            problems += tuple(requirement_problems(self.require, dict.fromkeys(names, "unknown")))
            raise SpaceError(problems)
        object.__setattr__(self, "parameters", in_order(self.parameters))
        object.__setattr__(self, "require", tuple(self.require))
        known = {name: v for name, v in self.known.items() if name not in self.by_name}
        object.__setattr__(self, "known", known)  # parameters shadow it
        if problems := tuple(self._requirement_problems()):
            raise SpaceError(problems)

    def _requirement_problems(self) -> Iterator[Problem]:
        kinds = {name: kind_of(value) for name, value in self.known.items()}
        kinds |= {p.name: _kind_of(p.domain) for p in self.plain}
        lists = {p.name: vectors.element_name(p.name, 1) for p in self.parameters if p.is_list}
        choices = (p.domain for p in self.plain if isinstance(p.domain, Choice))
        options = {o for choice in choices for o in choice.options if isinstance(o, str)}
        found = list(requirement_problems(self.require, kinds, options, lists))
        yield from found
        if self.require and not found:
            try:
                self.sample(random.Random(0))
            except SpaceError as error:
                yield from error.problems

    @cached_property
    def plain(self) -> tuple[Parameter, ...]:
        """The parameters that are sampled one by one: vectors in their elements."""
        return plain(self.parameters)

    @cached_property
    def by_name(self) -> dict[str, Parameter]:
        """The plain parameters by their names."""
        return {parameter.name: parameter for parameter in self.plain}

    @property
    def names(self) -> tuple[str, ...]:
        """The names of all plain parameters."""
        return tuple(self.by_name)

    @cached_property
    def free(self) -> tuple[Parameter, ...]:
        """The plain parameters that are sampled."""
        return tuple(p for p in self.plain if not isinstance(p.domain, Fixed))

    @cached_property
    def _conditions(self) -> Conditions:
        return {**self._vector_conditions, **self._resolved(self.plain)}

    @cached_property
    def _vector_conditions(self) -> Conditions:
        return self._resolved(p for p in self.parameters if p.per is not None)

    def _resolved(self, parameters: Iterable[Parameter]) -> Conditions:
        """The conditions of each parameter, with the domains of its parents."""
        return {
            p.name: [(parent, Condition(self.by_name[parent].domain, ok)) for parent, ok in p.when]
            for p in parameters
        }

    def is_active(self, name: str, config: Mapping[str, Scalar]) -> bool:
        """Whether a configuration, complete up to this parameter, has it."""
        return _all_met(self._conditions[name], config)

    def walk(self, choose: Callable[[Parameter], object]) -> dict[str, Scalar]:
        """Makes a configuration: asks `choose` for each active free parameter, parents first.

        Returns:
            The configuration, in the domains' own spelling of the values (see `Domain.snap`).

        Raises:
            SpaceError: `choose` gave a value outside the parameter's domain.
        """

        def chosen(parameter: Parameter) -> Scalar:
            value = choose(parameter)
            try:
                return parameter.domain.snap(value)
            except ValueError as error:
                raise SpaceError([Problem((parameter.name,), str(error))]) from None

        return self._walk(self.plain, chosen)

    def _walk(
        self, parameters: Iterable[Parameter], choose: Callable[[Parameter], Scalar]
    ) -> dict[str, Scalar]:
        config: dict[str, Scalar] = {}
        for parameter in parameters:
            name, domain = parameter.name, parameter.domain
            if _all_met(self._conditions[name], config):
                config[name] = domain.value if type(domain) is Fixed else choose(parameter)
        return config

    def sample(self, rng: Random, *, by_prior: bool = True) -> dict[str, Scalar]:
        """A configuration, each parameter of it drawn by its prior, or uniform on its scale.

        Args:
            rng: Where the numbers come from.
            by_prior: Whether priors are heeded.

        Raises:
            SpaceError: none of many draws met the requirements.
        """

        def draw(parameter: Parameter) -> Scalar:
            domain = parameter.domain
            return domain.sample(rng) if by_prior else domain.from_unit(rng.random())

        # What requirements say nothing of is drawn once, after the rest.
        for _ in range(_DRAWS):
            linked = self._walk(self._linked, draw)
            if self.allows(linked):
                break
        else:
            raise SpaceError([self._never_met(linked)])
        return self._walk(self.plain, lambda p: linked[p.name] if p.name in linked else draw(p))

    def sample_params(self, rng: Random, *, by_prior: bool = True) -> dict[str, Scalar]:
        """The sampled part of a configuration that is drawn as `sample` draws it."""
        return self.free_params(self.sample(rng, by_prior=by_prior))

    @cached_property
    def _linked(self) -> tuple[Parameter, ...]:
        """The parameters that requirements name, and all that depend on them or they on."""
        groups = independent(self._resolved(self.plain), self.require)
        linked = {name for group, linking in groups if linking for name in group}
        return tuple(p for p in self.plain if p.name in linked)

    def allows(self, config: Mapping[str, Scalar]) -> bool:
        """Whether a configuration meets all requirements."""
        if not self.require:
            return True
        values = {**self.known, **config}
        return all(each.holds(values) for each in self.require)

    def _never_met(self, config: Mapping[str, Scalar]) -> Problem:
        values = {**self.known, **config}
        place, unmet = next((i, r) for i, r in enumerate(self.require) if not r.holds(values))
        what = "all requirements" if len(self.require) > 1 else f"{unmet.text!r}"
        which = f"{unmet.text!r}, for one," if len(self.require) > 1 else "it"
        sentence = (
            f"no configuration met {what} in {_DRAWS:,} draws; loosen {which} or narrow the "
            "ranges that it names."
        )
        return Problem(("require", place), sentence)

    def arranged(self, config: Mapping[str, Scalar]) -> dict[str, Arranged]:
        """A configuration as a trainer reads it: the elements of each vector in one list."""
        found: dict[str, Arranged] = {n: v for n, v in config.items() if n not in self.vector_of}
        for vector in self._vectors:
            n = config.get(vector.per or "")
            if isinstance(n, int) and _all_met(self._vector_conditions[vector.name], config):
                found[vector.name] = vectors.values(
                    vector.name, vector.domain, n, vector.taper, config
                )
        return found

    @cached_property
    def vector_of(self) -> dict[str, str]:
        """The vector that a plain parameter belongs to, of those that belong to one."""
        return vectors_of(self.parameters)

    @cached_property
    def _vectors(self) -> tuple[Parameter, ...]:
        return tuple(p for p in self.parameters if p.per is not None)

    def complete(self, params: Mapping[str, object]) -> dict[str, Scalar]:
        """The configuration of sampled params: adds the fixed values, leaves out inactive params.

        Raises:
            SpaceError: an active parameter has no value, or one outside its domain, or not the
                one that it is fixed to, or a name is unknown.
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

        config = self.walk(given)
        other = {name: value for name, value in config.items() if name in params}
        wrong = [n for n in other if not self.by_name[n].domain.contains(params[n])]
        if wrong:
            raise SpaceError(
                Problem((n,), f"the space fixes it to {flow(other[n])}, not {flow(params[n])}.")
                for n in wrong
            )
        return config

    def free_params(self, config: Mapping[str, Scalar]) -> dict[str, Scalar]:
        """The sampled part of a configuration."""
        return {p.name: config[p.name] for p in self.free if p.name in config}

    def contains(self, params: Mapping[str, object]) -> bool:
        """Whether params are exactly what a sampler may give: every active one, none inactive."""
        try:
            config = self.complete(params)
        except SpaceError:
            return False
        return self.free_params(config).keys() == params.keys() and self.allows(config)

    def key(self, params: Mapping[str, object]) -> str:
        """The identity of sampled params: equal for two configurations that are the same.

        1, 1.0 and true differ; 0.3 and 0.1 + 0.2 do not where the domain has steps of 0.1.
        """

        def spelt(name: str, value: object) -> object:
            parameter = self.by_name.get(name)
            inside = parameter is not None and parameter.domain.contains(value)
            return parameter.domain.snap(value) if parameter and inside else exact.plain(value)

        return json.dumps({name: spelt(name, params[name]) for name in sorted(params)})

    @cached_property
    def size(self) -> int | None:
        """How many different configurations there are; None for infinitely many.

        Where requirements link too many values to count, it is the number without them; where
        conditions do, the product of all values. Both are upper bounds.
        """
        if any(parameter.domain.size is None for parameter in self.plain):
            return None  # no parameter is without a configuration: see `problems_of`
        return self._count({p.name: Values(p.domain) for p in self.plain})

    @cached_property
    def grid_size(self) -> int:
        """How many configurations `grid` gives, counted without making them.

        Where requirements link too many values to count, it is the number without them; where
        conditions do, the product of all values. Both are upper bounds.

        Raises:
            GridError: naming every parameter without a grid.
        """
        grids = self._grids()
        return self._count({p.name: Values(p.domain, grids[p.name]) for p in self.plain})

    def _count(self, values: Mapping[str, Values]) -> int:
        conditions = self._resolved(self.plain)
        for require in dict.fromkeys((self.require, ())):
            with suppress(TooManyToCountError, RecursionError):
                return Count(values).of(conditions, require, self.known)
        return math.prod(each.n for each in values.values())

    def grid(self) -> Iterator[dict[str, Scalar]]:
        """Every configuration of the grid once, the last parameter changing fastest.

        Raises:
            GridError: naming every parameter without a grid; at once, before the first one.
        """
        return self._grid_from(0, {}, self._grids())

    def _grid_from(
        self, place: int, config: dict[str, Scalar], grids: Mapping[str, tuple[Scalar, ...]]
    ) -> Iterator[dict[str, Scalar]]:
        decided = self._decided_at.get(place, ())
        if decided and not all(each.holds({**self.known, **config}) for each in decided):
            return
        if place == len(self.plain):
            yield config
            return
        parameter = self.plain[place]
        if not self.is_active(parameter.name, config):
            yield from self._grid_from(place + 1, config, grids)
            return
        for value in grids[parameter.name]:
            yield from self._grid_from(place + 1, {**config, parameter.name: value}, grids)

    @cached_property
    def _decided_at(self) -> dict[int, list[Requirement]]:
        """The requirements whose last parameter stands just before a place."""
        places = {name: place for place, name in enumerate(self.names, start=1)}
        found: dict[int, list[Requirement]] = {}
        for each in self.require:
            found.setdefault(max(places.get(name, 0) for name in each.names), []).append(each)
        return found

    def on_grid(self, params: Mapping[str, Scalar]) -> bool:
        """Whether sampled params are a point of the grid."""
        return all(value in self.by_name[name].domain.grid() for name, value in params.items())

    def _grids(self) -> dict[str, tuple[Scalar, ...]]:
        grids: dict[str, tuple[Scalar, ...]] = {}
        problems: dict[str, Problem] = {}
        for parameter in self.plain:
            try:
                grids[parameter.name] = parameter.domain.grid()
            except ValueError as error:
                name = self.vector_of.get(parameter.name, parameter.name)
                problems[name] = Problem((name,), str(error))
        if problems:
            raise GridError(problems.values())
        return grids

    def distributions(self) -> dict[str, BaseDistribution]:
        """Optuna's distributions of the free parameters, active or not."""
        domains = ((p.name, p.domain) for p in self.plain)
        return {name: domain.to_optuna() for name, domain in domains if isinstance(domain, Sampled)}

    def dimensions(self) -> list[Dimension]:
        """scikit-optimize's dimensions of the free parameters, active or not."""
        domains = ((p.name, p.domain) for p in self.plain)
        return [domain.to_skopt(name) for name, domain in domains if isinstance(domain, Sampled)]

    def to_dict(self, *, hints: bool = True) -> dict[str, object]:
        """The canonical YAML form: `parse` makes an equal space of it.

        Args:
            hints: Whether with what only guides a search or a reader: priors and reasons.
        """
        forms: dict[str, object] = {}
        for parameter in self.parameters:
            form = parameter.to_dict()
            forms[parameter.name] = {k: v for k, v in form.items() if hints or k not in _HINTS}
        if self.require:
            forms["require"] = [each.text for each in self.require]
        return forms

    def to_yaml(self) -> str:
        """What to write under `space:`, a line for each parameter."""
        return "".join(
            f"{flow(name)}: {flow(_shortest(form))}\n" for name, form in self.to_dict().items()
        )

    def diff(self, other: SearchSpace) -> list[str]:
        """What changes from this space to another, a line for each parameter that does."""
        old = {name: flow(form) for name, form in self.to_dict(hints=False).items()}
        new = {name: flow(form) for name, form in other.to_dict(hints=False).items()}
        changed = [f"{n}: {old[n]} -> {new[n]}" for n in old if n in new and old[n] != new[n]]
        added = [f"+ {n}: {new[n]}" for n in new if n not in old]
        return changed + added + [f"- {n}: {old[n]}" for n in old if n not in new]


def _all_met(conditions: Sequence[tuple[str, Condition]], config: Mapping[str, Scalar]) -> bool:
    for parent, condition in conditions:  # a loop: all() takes twice as long
        if parent not in config or not condition.met(config[parent]):
            return False
    return True


def _kind_of(domain: Domain) -> Kind:
    if domain.is_numeric():
        return "number"
    return kind_of(*domain.grid())


def _shortest(form: object) -> object:
    """A form as people write it: a bare list for a choice, a bare scalar for a fixed value."""
    match form:
        case {"choice": options, **others} if not others:
            return options
        case {"fixed": value, **others} if not others:
            return value
    return form
