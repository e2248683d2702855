"""What links the parameters of a space: the checks, the order, the plain parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from hpo.search_spaces import vectors
from hpo.search_spaces.conditions import Condition, When, faults, possible, settled
from hpo.search_spaces.errors import Problem, did_you_mean
from hpo.search_spaces.flow import flow

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

    from hpo.search_spaces.domains import Domain
    from hpo.search_spaces.requirements import Kind, Requirement

RESERVED = {
    "use": "names ready-made spaces",
    "require": "lists what must hold between parameters",
}  # in the `space:` of a study file, so no parameter can have these names


@dataclass(frozen=True)
class Parameter:
    """One hyperparameter.

    Args:
        name: Its key in configurations.
        domain: The values it may have.
        when: Its conditions, (parent, accepted values) each. It is active where every parent is
            active and has one of the values; where it is not, a configuration lacks it.
        per: The parameter that says how many values it has, if it is a vector.
        taper: Of a vector, the rules by which all values follow from the first.
        why: A word to people; it changes nothing.
    """

    name: str
    domain: Domain
    when: When = ()
    per: str | None = None
    taper: tuple[str, ...] = ()
    why: str = ""

    @property
    def parents(self) -> tuple[str, ...]:
        """The parameters that it depends on."""
        return tuple(parent for parent, _ in self.when) + ((self.per,) if self.per else ())

    @property
    def is_list(self) -> bool:
        """Whether it is a vector whose values are searched one by one, under names of their own."""
        return self.per is not None and not self.taper

    def to_dict(self) -> dict[str, object]:
        """The canonical YAML form."""
        form = self.domain.to_dict()
        if self.per:
            form["per"] = self.per
        if self.taper:
            form["taper"] = self.taper[0] if len(self.taper) == 1 else list(self.taper)
        if self.when:
            form["when"] = {
                parent: spelt[0] if len(spelt := _spelt(accepted)) == 1 else spelt
                for parent, accepted in self.when
            }
        return {**form, "why": self.why} if self.why else form


def _spelt(accepted: Sequence[object]) -> list[object]:
    return [each if isinstance(each, str | int | float | None) else str(each) for each in accepted]


def problems_of(
    parameters: Sequence[Parameter], broken: Mapping[str, When] | None = None
) -> Iterator[Problem]:
    """Everything wrong with the names, conditions and vectors of a space.

    Args:
        parameters: Of the space, in any order.
        broken: The conditions of those whose domain could not be read; what depends on them
            is not judged.
    """
    broken = broken or {}
    if not parameters and not broken:
        example = "learning_rate: {float: [1e-4, 1.0], log: true}"
        yield Problem((), f"the space is empty; give it a parameter, such as {example}.")
    by_name: dict[str, Parameter] = {}
    found = [Problem((name,), sentence) for name in broken if (sentence := _name_fault(name, ()))]
    for parameter in parameters:
        if sentence := _name_fault(parameter.name, by_name):
            found.append(Problem((parameter.name,), sentence))
        by_name[parameter.name] = parameter
    for name, when in [*((p.name, p.when) for p in parameters), *broken.items()]:
        if when:
            found += _when_problems(name, when, by_name, broken)
    for parameter in by_name.values():
        found += _vector_problems(parameter, by_name, broken)
    if not found and not broken:
        found += _cycle_or_contradiction(by_name)
    yield from found


def _name_fault(name: object, earlier: Collection[str]) -> str:
    if not isinstance(name, str) or not name:
        return f"a parameter's name is text, not {flow(name)}; put it in quotes."
    if name in RESERVED:
        return f"{name!r} {RESERVED[name]}; call the parameter something else."
    return f"{name!r} is defined twice; keep one." if name in earlier else ""


def _when_problems(
    child: str, when: When, by_name: Mapping[str, Parameter], broken: Collection[str]
) -> Iterator[Problem]:
    known = [name for name in (*by_name, *broken) if name != child]
    parents = [parent for parent, _ in when]
    for place, (parent, accepted) in enumerate(when):
        path = (child, "when", parent)
        if parent == child:
            yield Problem(path, f"{parent!r} cannot depend on itself; drop the condition.")
        elif parent not in known:
            hint = _is_element(parent, by_name) or did_you_mean(parent, known)
            yield Problem(path, f"the space has no {parent!r}.{hint}")
        elif parent in parents[:place]:
            yield Problem(path, f"{parent!r} is named twice; list its values in one condition.")
        elif not accepted:
            yield Problem(path, f"no value of {parent!r} is listed; give one, or drop it.")
        elif parent not in broken:
            if by_name[parent].is_list:
                sentence = (
                    f"{parent!r} has a value for each {by_name[parent].per}, and a condition needs "
                    "a parameter with one value; depend on another."
                )
                yield Problem(path, sentence)
                continue
            for sentence in faults(parent, by_name[parent].domain, accepted):
                yield Problem(path, sentence)


def _is_element(name: object, by_name: Mapping[str, Parameter]) -> str:
    """The end of a sentence about a condition on a part of a vector."""
    vector, _, part = str(name).rpartition("_")
    if vector in by_name and by_name[vector].per and (part.isdigit() or part == "taper"):
        return f" It is a part of the vector {vector!r}; depend on another parameter."
    return ""


def _vector_problems(
    parameter: Parameter, by_name: Mapping[str, Parameter], broken: Collection[str]
) -> Iterator[Problem]:
    if parameter.per is None:
        if parameter.taper:
            sentence = "`taper` belongs to a vector; say what it has a value for, as in per: depth."
            yield Problem((parameter.name, "taper"), sentence)
        return
    if parameter.per in broken:
        return
    others = {other.name: None if other.per else other.domain for other in by_name.values()}
    found = list(
        vectors.problems(parameter.name, parameter.domain, parameter.per, parameter.taper, others)
    )
    yield from found
    if not found:
        for name, _, _ in _elements(parameter, by_name):
            if name != parameter.name and name in by_name:
                sentence = f"a value of the vector {parameter.name!r} is called so; choose another."
                yield Problem((name,), sentence)


def _elements(
    parameter: Parameter, by_name: Mapping[str, Parameter]
) -> Iterator[tuple[str, Domain, When]]:
    assert parameter.per is not None  # noqa: S101 - asked of vectors alone
    return vectors.elements(
        parameter.name,
        parameter.domain,
        parameter.when,
        _count(parameter.per, by_name),
        parameter.taper,
    )


def _count(name: str, by_name: Mapping[str, Parameter]) -> vectors.Count:
    return vectors.Count(name, by_name[name].domain, always=not by_name[name].when)


def _cycle_or_contradiction(by_name: Mapping[str, Parameter]) -> Iterator[Problem]:
    order, cycle = _ordered(by_name)
    if cycle:
        chain = " -> ".join((*cycle, cycle[0]))
        key = "per" if by_name[cycle[0]].per == (*cycle, cycle[0])[1] else "when"
        yield Problem((cycle[0], key), f"the conditions go in a circle: {chain}; drop one of them.")
        return
    for name, parent in _never_active(order):
        yield Problem(
            (name, "when"),
            f"it can never be active: its conditions, with those of its parents, leave "
            f"{parent!r} no value; drop one of them.",
        )
        return


def _never_active(parameters: Sequence[Parameter]) -> Iterator[tuple[str, str]]:
    """Each parameter that is never active, with a parent that cannot have what that needs.

    Args:
        parameters: Parents first.
    """
    by_name = {parameter.name: parameter for parameter in parameters}
    domains = {parameter.name: parameter.domain for parameter in parameters}
    # What must hold for a parameter to be active: its own conditions and those of its parents.
    needs: dict[str, dict[str, tuple[Condition, ...]]] = {}
    for parameter in parameters:
        need: dict[str, tuple[Condition, ...]] = {}
        needs[parameter.name] = need
        changed: dict[str, None] = {}  # where a parameter needs more than each of its parents does
        for parent in dict.fromkeys(parameter.parents):
            for name, conditions in needs[parent].items():
                if need.setdefault(name, conditions) is not conditions:
                    need[name] += conditions
                    changed[name] = None
        # A vector without a value is as good as none.
        some = _count(parameter.per, by_name).at_least(1) if parameter.per else ()
        for parent, accepted in (*parameter.when, *some):
            condition = Condition(domains[parent], settled(domains[parent], accepted))
            need[parent] = (*need.get(parent, ()), condition)
            changed[parent] = None
        for name in changed:
            if not possible(domains[name], need[name]):
                yield parameter.name, name
                break


def _ordered(by_name: Mapping[str, Parameter]) -> tuple[list[Parameter], list[str]]:
    """The parameters, parents first and else as given; and a cycle, where there is one."""
    waiting, done = dict(by_name), dict[str, "Parameter"]()
    while waiting:
        for name, parameter in waiting.items():
            if all(parent in done for parent in parameter.parents):
                done[name] = waiting.pop(name)
                break
        else:  # each waits for another one that waits: following them runs into a circle
            trail = [next(iter(waiting))]
            while trail[-1] not in trail[:-1]:
                trail.append(next(p for p in waiting[trail[-1]].parents if p in waiting))
            return list(done.values()), trail[trail.index(trail[-1]) : -1]
    return list(done.values()), []


def in_order(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """Sound parameters, parents before children and else as given, conditions settled."""
    by_name = {parameter.name: parameter for parameter in parameters}

    def settle(parent: str, accepted: Sequence[object]) -> When:
        return ((parent, settled(by_name[parent].domain, accepted)),)  # type: ignore[arg-type]

    return tuple(
        replace(p, when=sum((settle(*entry) for entry in p.when), ())) for p in _ordered(by_name)[0]
    )


def plain(parameters: Sequence[Parameter]) -> tuple[Parameter, ...]:
    """The parameters that are sampled one by one: each vector in its elements.

    Args:
        parameters: Sound, parents first.
    """
    if all(parameter.per is None for parameter in parameters):
        return tuple(parameters)
    by_name = {parameter.name: parameter for parameter in parameters}
    found: list[Parameter] = []
    for parameter in parameters:
        if parameter.per is None:
            found.append(parameter)
        else:
            found += [Parameter(*element) for element in _elements(parameter, by_name)]
    # A vector may end before its longest: width_4 where `when: {depth: [1, 2]}` stands beside.
    never = {name for name, _ in _never_active(found)}
    return tuple(parameter for parameter in found if parameter.name not in never)


def vectors_of(parameters: Sequence[Parameter]) -> dict[str, str]:
    """The vector that each plain parameter belongs to, of those that belong to one."""
    by_name = {parameter.name: parameter for parameter in parameters}
    vectors_ = (parameter for parameter in parameters if parameter.per is not None)
    return {element[0]: p.name for p in vectors_ for element in _elements(p, by_name)}


def possible_names(parameters: Sequence[Parameter], others: Iterable[str]) -> list[str]:
    """All that a requirement may name in an unsound space, so that every mistake is told."""
    names = [*(p.name for p in parameters), *others]
    for vector in (p for p in parameters if p.per is not None):
        names.append(vectors.taper_name(vector.name))
        names += [vectors.element_name(vector.name, n + 1) for n in range(vectors.MAX_LENGTH)]
    return names


def requirement_problems(
    require: Sequence[Requirement],
    kinds: Mapping[str, Kind],
    options: Collection[str] = (),
    lists: Mapping[str, str] | None = None,
) -> Iterator[Problem]:
    """Requirements that name what is not there, or compare what cannot be compared.

    Args:
        require: Of a space.
        kinds: Of all that they may name.
        options: Texts that stand somewhere in the space as options.
        lists: The vectors that are searched value by value, with the name of a value of each.
    """
    lists = lists or {}
    for place, each in enumerate(require):
        sentence = each.fault(kinds, options)
        for name in each.names:
            if name in lists:
                sentence = (
                    f"{each.text!r}: {name!r} has several values; "
                    f"name one of them, such as {lists[name]!r}."
                )
        if sentence:
            yield Problem(("require", place), sentence)
