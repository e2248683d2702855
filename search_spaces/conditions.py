"""Who depends on whom in a space: the checks, the order, and counting without enumerating."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, TypeAlias

from search_spaces.domains import Scalar
from search_spaces.errors import Problem, did_you_mean
from search_spaces.flow import flow

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping, Sequence

    from search_spaces.space import Parameter, When

# For each parameter, parents before children: the values its parents must have.
Conditions: TypeAlias = dict[str, dict[str, tuple[Scalar, ...]]]

RESERVED = "use"  # names library fragments in a study file, so no parameter can have it


def problems_of(
    parameters: Sequence[Parameter], broken: Mapping[str, When] | None = None
) -> Iterator[Problem]:
    """Everything wrong with the names and conditions of a space.

    Args:
        parameters: of the space, in any order.
        broken: the conditions of those whose domain could not be read; what depends on them
            is not judged.
    """
    broken = broken or {}
    if not parameters and not broken:
        example = "learning_rate: {float: [1e-4, 1.0], log: true}"
        yield Problem((), f"the space is empty; give it a parameter, such as {example}.")
    by_name: dict[str, Parameter] = {}
    sound = True
    for parameter in parameters:
        if sentence := _name_fault(parameter.name, by_name):
            sound = False
            yield Problem((parameter.name,), sentence)
        by_name[parameter.name] = parameter
    for name, when in [*((p.name, p.when) for p in parameters), *broken.items()]:
        for problem in _when_problems(name, when, by_name, broken):
            sound = False
            yield problem
    if sound and not broken:
        yield from _cycle_or_contradiction(by_name)


def _name_fault(name: object, earlier: Collection[str]) -> str:
    if not isinstance(name, str) or not name:
        return f"a parameter's name is text, not {flow(name)}; put it in quotes."
    if name == RESERVED:
        return f"{RESERVED!r} names ready-made spaces; call the parameter something else."
    return f"{name!r} is defined twice; keep one." if name in earlier else ""


def _when_problems(
    child: str, when: When, by_name: Mapping[str, Parameter], broken: Collection[str]
) -> Iterator[Problem]:
    known = [name for name in (*by_name, *broken) if name != child]
    parents = [parent for parent, _ in when]
    for place, (parent, values) in enumerate(when):
        path = (child, "when", parent)
        if parent == child:
            yield Problem(path, f"{parent!r} cannot depend on itself; drop the condition.")
        elif parent not in known:
            yield Problem(path, f"the space has no {parent!r}.{did_you_mean(parent, known)}")
        elif parent in parents[:place]:
            yield Problem(path, f"{parent!r} is named twice; list its values in one condition.")
        elif not values:
            yield Problem(path, f"no value of {parent!r} is listed; give one, or drop it.")
        elif parent not in broken:
            for sentence in _value_faults(by_name[parent], values):
                yield Problem(path, sentence)


def _value_faults(parent: Parameter, values: Sequence[Scalar]) -> Iterator[str]:
    if parent.domain.size is None:
        yield (
            f"{parent.name!r} is continuous and never has one value exactly; "
            "give it `step: ...`, or list its values as a choice."
        )
        return
    for value in values:
        if not parent.domain.contains(value):
            hint = f" It is {parent.domain}: add the value there, or drop the condition."
            options = parent.domain.to_dict().get("choice", ())
            if isinstance(value, str) and isinstance(options, list):
                near = did_you_mean(value, filter(lambda o: isinstance(o, str), options))
                hint = near if near.startswith(" Did") else hint
            yield f"{parent.name!r} is never {flow(value)}.{hint}"


def _cycle_or_contradiction(by_name: Mapping[str, Parameter]) -> Iterator[Problem]:
    order, cycle = _ordered(by_name)
    if cycle:
        chain = " -> ".join((*cycle, cycle[0]))
        yield Problem(
            (cycle[0], "when"), f"the conditions go in a circle: {chain}; drop one of them."
        )
        return
    # What must hold for a parameter to be active: its own conditions and those of its parents.
    needs: dict[str, dict[str, list[Scalar]]] = {}
    for parameter in order:
        need: dict[str, list[Scalar]] = {}
        needs[parameter.name] = need
        for parent, values in parameter.when:
            snapped = [by_name[parent].domain.snap(value) for value in values]
            for name, allowed in (*needs[parent].items(), (parent, snapped)):
                need[name] = [value for value in need.get(name, allowed) if value in allowed]
        if impossible := [name for name, allowed in need.items() if not allowed]:
            yield Problem(
                (parameter.name, "when"),
                f"it can never be active: its conditions, with those of its parents, leave "
                f"{impossible[0]!r} no value; drop one of them.",
            )
            return


def _ordered(by_name: Mapping[str, Parameter]) -> tuple[list[Parameter], list[str]]:
    """The parameters, parents first and else as given; and a cycle, where there is one."""
    waiting, done = dict(by_name), dict[str, "Parameter"]()
    while waiting:
        for name, parameter in waiting.items():
            if all(parent in done for parent, _ in parameter.when):
                done[name] = waiting.pop(name)
                break
        else:  # each waits for another one that waits: following them runs into a circle
            trail = [next(iter(waiting))]
            while trail[-1] not in trail[:-1]:
                trail.append(next(p for p, _ in waiting[trail[-1]].when if p in waiting))
            return list(done.values()), trail[trail.index(trail[-1]) : -1]
    return list(done.values()), []


def in_order(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Sound parameters, parents before children and else as given, conditions in plain values."""
    by_name = {parameter.name: parameter for parameter in parameters}

    def plain(parent: str, values: Sequence[Scalar]) -> tuple[Scalar, ...]:
        return tuple(dict.fromkeys(by_name[parent].domain.snap(value) for value in values))

    return tuple(
        replace(p, when=tuple((parent, plain(parent, values)) for parent, values in p.when))
        for p in _ordered(by_name)[0]
    )


def count(
    conditions: Conditions, n_values: Mapping[str, int], has: Callable[[str, Scalar], bool]
) -> int:
    """The number of configurations.

    Parameters that no condition links multiply. Where some are linked, the first of them is
    given each value that a condition mentions, and all its other values at once, for they
    make no difference; what that decides is struck out and the rest is counted anew.

    Args:
        conditions: of all parameters, parents before children.
        n_values: how many values each parameter has.
        has: whether a parameter has a value.
    """
    total = 1
    for group in _independent(conditions):
        name, *others = group
        rest = {other: group[other] for other in others}
        mentioned = {value for when in rest.values() for value in when.get(name, ())}
        mentioned = {value for value in mentioned if has(name, value)}
        n = sum(count(_given(rest, name, value), n_values, has) for value in mentioned)
        if unmentioned := n_values[name] - len(mentioned):
            n += unmentioned * count(_given(rest, name, None, mentioned=False), n_values, has)
        total *= n
    return total


def _given(
    conditions: Conditions, name: str, value: Scalar, *, mentioned: bool = True
) -> Conditions:
    """What is left of the conditions when a parameter has a value, or none that they mention."""
    left: Conditions = {}
    for child, when in conditions.items():
        met = name not in when or (mentioned and value in when[name])
        if met and all(parent == name or parent in left for parent in when):
            left[child] = {parent: values for parent, values in when.items() if parent != name}
    return left


def _independent(conditions: Conditions) -> list[Conditions]:
    """The conditions, parted into groups of parameters that depend on each other."""
    groups: list[Conditions] = []
    for name, when in conditions.items():
        linked = [group for group in groups if any(parent in group for parent in when)]
        merged: Conditions = {}
        for group in linked:
            merged |= group
        groups = [group for group in groups if group not in linked]
        groups.append({**merged, name: when})
    return groups
