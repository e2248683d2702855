"""The baseline: what a person would run without a search."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpo.errors import nearest
from hpo.search_spaces import Domain, Parameter, Scalar, SearchSpace
from hpo.search_spaces.checks import is_number
from hpo.search_spaces.flow import flow
from hpo.search_spaces.vectors import taper_name, tapered

Wrong = list[tuple[str, str]]

_NOTHING = object()  # in no domain; None may be an option


def read(
    given: Mapping[str, Any], space: SearchSpace, defaults: Mapping[str, Any]
) -> tuple[dict[str, Scalar], Wrong]:
    """The params of a baseline, so that it can be a trial of the study.

    A parameter that is left out has its prior, or else its default.

    Args:
        given: What stands under ``baseline:``; a vector is a list.
        space: The space, of which the baseline is a point.
        defaults: What runs where nothing is said, by name.

    Returns:
        The params, and everything wrong with them: names and sentences.
    """
    values, wrong = _flattened(given, space)
    asked: set[str] = set()

    def choose(parameter: Parameter) -> Scalar:
        name, domain = parameter.name, parameter.domain
        asked.add(name)
        if name in values:
            if (value := _as_in(domain, values[name])) is not _NOTHING:
                return domain.snap(value)
            sentence = f"{flow(values[name])} is not in {domain}; widen it, or move this."
            wrong.append((name, sentence))
        elif domain.believed is not None:
            return domain.believed
        elif (value := _as_in(domain, default := _default(name, space, defaults))) is not _NOTHING:
            return domain.snap(value)
        elif default is _NOTHING:
            wrong.append((name, f"it is active here but has no value; give one in {domain}."))
        else:
            sentence = f"the trainer's default, {flow(default)}, is not in {domain}; give a value."
            wrong.append((name, sentence))
        return domain.from_unit(0.5)

    config = space.walk(choose)
    params = space.free_params(config)
    wrong += _idle(values, space, config, asked) + _lengths(given, space, config)
    if not wrong and not space.allows(config):
        unmet = [each.text for each in space.require if not each.holds({**space.known, **config})]
        wrong.append(("", f"it does not meet what the space requires: {unmet[0]}."))
    return params, wrong


def _idle(
    values: Mapping[str, Any], space: SearchSpace, config: Mapping[str, Scalar], asked: set[str]
) -> Wrong:
    """What is said of parameters that are fixed to something else, or not active."""
    wrong = []
    for name, value in values.items():
        if name in asked or name in space.vector_of:
            continue
        if name not in config:
            parents = ", ".join(dict.fromkeys(parent for parent, _ in space.by_name[name].when))
            wrong.append((name, f"it is not active with this {parents}; drop it."))
        elif not space.by_name[name].domain.contains(value):
            wrong.append((name, f"the space fixes it to {flow(config[name])}; drop it."))
    return wrong


def _lengths(given: Mapping[str, Any], space: SearchSpace, config: Mapping[str, Scalar]) -> Wrong:
    """Lists that are not as long as what they have a value for."""
    found = []
    for parameter in space.parameters:
        name, n = parameter.name, config.get(parameter.per or "")
        every = given.get(name)
        if parameter.is_list and isinstance(every, list | tuple) and len(every) != n:
            found.append(
                (name, f"it has {len(every)} values, and {parameter.per} is {n}; give {n}.")
            )
    return found


def _flattened(given: Mapping[str, Any], space: SearchSpace) -> tuple[dict[str, Any], Wrong]:
    """The values by the names of plain parameters: a vector's list in its elements."""
    lists = {p.name: p for p in space.parameters if p.is_list}
    tapers = {p.name: p for p in space.parameters if p.taper}
    known = [*space.by_name, *lists]
    values: dict[str, Any] = {}
    wrong: Wrong = []
    for name, value in given.items():
        if name in lists:
            elements = [e for e, vector in space.vector_of.items() if vector == name]
            every = value if isinstance(value, list | tuple) else [value] * len(elements)
            values |= zip(elements, every, strict=False)
        elif name in tapers and isinstance(value, list | tuple):
            values |= _untapered(tapers[name], value)
        elif name in space.by_name:
            values[name] = value
        else:
            wrong.append((str(name), f"the space has no '{name}'. {nearest(str(name), known)}"))
    return values, wrong


def _untapered(vector: Parameter, every: Sequence[Any]) -> dict[str, Any]:
    """The first value and the rule from which a list follows; the list, if from none."""
    for rule in vector.taper:
        first = _as_in(vector.domain, every[0]) if every else _NOTHING
        if first is not _NOTHING:
            follows = tapered(vector.domain, vector.domain.snap(first), rule, len(every))
            if list(every) == follows:
                chosen = {taper_name(vector.name): rule} if len(vector.taper) > 1 else {}
                return {vector.name: first, **(chosen if len(every) > 1 else {})}
    return {vector.name: list(every)}


def _default(name: str, space: SearchSpace, defaults: Mapping[str, Any]) -> Any:
    vector = space.vector_of.get(name, name)
    if name == taper_name(vector):  # the rule that a single value for all layers means
        return space.by_name[name].domain.from_unit(0.0)
    return defaults.get(vector, _NOTHING)


def _as_in(domain: Domain, value: Any) -> Any:
    """The value as the domain has it: 0 for 0.0 and the other way round; else nothing."""
    for each in (value, *(kind(value) for kind in (int, float) if is_number(value))):
        if each == value and domain.contains(each):
            return each
    return _NOTHING
