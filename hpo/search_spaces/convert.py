"""Spaces from Python, and to and from the forms of other libraries."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from hpo.search_spaces.checks import MAX_GRID
from hpo.search_spaces.conditions import Comparison, Condition, Values, always
from hpo.search_spaces.domains import Choice, Domain, Fixed, Float, Form, Int
from hpo.search_spaces.errors import Problem, SpaceError
from hpo.search_spaces.flow import flow
from hpo.search_spaces.links import Parameter
from hpo.search_spaces.parse import parse
from hpo.search_spaces.space import SearchSpace

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from optuna.distributions import BaseDistribution

_MOST_LISTED = 10_000  # values of a parent in one of ConfigSpace's conditions


def build(
    *, use: str | Sequence[str] = (), require: str | Sequence[str] = (), **parameters: object
) -> SearchSpace:
    """Makes a space in Python; the same as writing it in YAML.

    Args:
        use: Names of ready-made spaces, merged from left to right.
        require: What must hold between parameters.
        **parameters: Domains (`Float(1e-4, 1, log=True)`, and `.when(...)`, `.per(...)` of them),
            or what stands in YAML: Lists, scalars, `{"float": [0, 1]}`.

    Raises:
        SpaceError: with every problem.
    """
    forms = {
        name: form.to_dict() if isinstance(form, Domain | Form) else form
        for name, form in parameters.items()
    }
    reserved = {"use": use, "require": require}
    return parse({**{key: value for key, value in reserved.items() if value}, **forms})


def from_optuna(distributions: Mapping[str, BaseDistribution]) -> SearchSpace:
    """The space of Optuna's distributions, such as a trial's; a single value becomes fixed.

    Raises:
        SpaceError: a distribution is of a kind that Optuna does not have, or has no such domain.
    """
    domains: dict[str, Domain] = {}
    problems = []
    for name, distribution in distributions.items():
        try:
            domains[name] = _from_optuna(distribution)
        except SpaceError as error:
            problems += [problem.within(name) for problem in error.problems]
    if problems:
        raise SpaceError(problems)
    return parse({name: domain.to_dict() for name, domain in domains.items()})


def _from_optuna(distribution: BaseDistribution) -> Domain:
    from optuna.distributions import (
        CategoricalDistribution,
        FloatDistribution,
        IntDistribution,
    )

    match distribution:
        case CategoricalDistribution(choices=choices):
            return Choice(choices) if len(choices) > 1 else Fixed(choices[0])
        case FloatDistribution(low=low, high=high) if low == high:
            return Fixed(low)
        case FloatDistribution(low=low, high=high, log=log, step=step):
            return Float(low, high, log=log, step=step)
        case IntDistribution(low=low, high=high) if low == high:
            return Fixed(low)
        case IntDistribution(low=low, high=high, log=log, step=step):
            return Int(low, high, log=log, step=step)
    raise SpaceError([Problem((), f"{distribution} is not one of Optuna's distributions.")])


def to_configspace(space: SearchSpace, name: str = "space") -> dict[str, Any]:
    """The space as ConfigSpace's dictionary (format 0.4).

    `ConfigurationSpace.from_serialized_dict` reads it. Vectors are in it as their elements, and a
    prior as the default. Of a continuous parent ConfigSpace compares with < and > alone, so `>=`
    becomes `>`, which differs in one point.

    Raises:
        SpaceError: requirements or conditions for which ConfigSpace has no form.
    """
    if space.require:
        sentence = "ConfigSpace has no form for requirements; drop them."
        raise SpaceError([Problem(("require",), sentence)])
    conditions = (_conditions(parameter, space.by_name) for parameter in space.plain)
    return {
        "name": name,
        "hyperparameters": [_hyperparameter(p.name, p.domain) for p in space.plain],
        "conditions": [each for each in conditions if each],
        "forbiddens": [],
        "format_version": 0.4,
    }


def _hyperparameter(name: str, domain: Domain) -> dict[str, Any]:
    if isinstance(domain, Fixed):
        return {"type": "constant", "name": name, "value": domain.value, "meta": None}
    default = domain.from_unit(0.5) if domain.believed is None else domain.believed
    form = {"name": name, "default_value": default, "meta": None}
    match domain:
        case Choice(options=options, ordered=False):
            return {**form, "type": "categorical", "choices": list(options), "weights": None}
        case Float(step=None, low=low, high=high, log=log):
            return {**form, "type": "uniform_float", "lower": low, "upper": high, "log": log}
        case Int(step=1, powers_of=None, low=low, high=high, log=log):
            return {**form, "type": "uniform_int", "lower": low, "upper": high, "log": log}
    if (domain.size or 0) > MAX_GRID:
        sentence = f"ConfigSpace lists all {domain.size:,} values; take a larger step."
        raise SpaceError([Problem((name, "step"), sentence)])
    return {**form, "type": "ordinal", "sequence": list(domain.grid())}


def _conditions(parameter: Parameter, by_name: Mapping[str, Parameter]) -> dict[str, Any] | None:
    conditions = ((parent, Condition(by_name[parent].domain, ok)) for parent, ok in parameter.when)
    found = [
        _condition(parameter.name, parent, condition)
        for parent, condition in conditions
        if not _is_range(condition.parent) or not always(condition.parent, condition)
    ]
    if len(found) < 2:
        return found[0] if found else None
    return {"type": "AND", "child": parameter.name, "conditions": found}


def _condition(child: str, parent: str, condition: Condition) -> dict[str, Any]:
    form = {"child": child, "parent": parent}
    domain = condition.parent
    if not _is_range(domain):
        values = Values(domain)
        every = (values.nth(place) for place in range(values.n))
        return {**form, "type": "IN", "values": [v for v in every if condition.met(v)]}
    match condition.accepted:
        case (Comparison(operator=sign, bound=int() | float() as bound),) if sign != "!=":
            kind = "GT" if sign.startswith(">") else "LT"
            return {**form, "type": kind, "value": _open_end(domain, sign, bound)}
    accepted = flow([str(each) for each in condition.accepted])
    sentence = f"ConfigSpace has no condition {accepted} on {parent!r}; compare once, or list it."
    raise SpaceError([Problem((child, "when", parent), sentence)])


def _is_range(domain: Domain) -> bool:
    """Whether ConfigSpace has it as a range of which conditions do not list the values."""
    match domain:
        case Float(step=None):
            return True
        case Int(step=1, powers_of=None, size=size):
            return size > _MOST_LISTED
    return False


def _open_end(domain: Domain, sign: str, bound: float) -> float:
    """The bound that a value is above or below, where ConfigSpace has no `>=`."""
    if isinstance(domain, Float):
        return bound
    below, above = math.floor(bound), math.ceil(bound)
    return {">": below, ">=": above - 1, "<": above, "<=": below + 1}[sign]
