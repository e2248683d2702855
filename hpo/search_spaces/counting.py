"""How many configurations there are, without making them."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:
    from hpo.search_spaces.conditions import Condition, Values
    from hpo.search_spaces.domains import Scalar
    from hpo.search_spaces.requirements import Requirement

# For each parameter, parents before children: its conditions, with the name of each one's parent.
Conditions: TypeAlias = Mapping[str, Sequence[tuple[str, "Condition"]]]

_MOST_STEPS = 100_000  # of counting: less than a second


class TooManyToCountError(ValueError):
    """The parameters are linked too closely, and have too many values to be gone through."""


@dataclass
class Count:
    """Counts configurations.

    Parameters that nothing links multiply. Where a condition or a requirement links some, the
    first of them is given each of its values in turn, those together that make no difference;
    what that decides is struck out and the rest is counted anew, or remembered.

    Args:
        values: Of each parameter.
        steps: How often a parameter was given a value so far, or was struck out by one.
    """

    values: Mapping[str, Values]
    steps: int = field(default=0, init=False)
    _counted: dict[Hashable, int] = field(default_factory=dict, init=False)
    _single: dict[str, list[tuple[Scalar, int]]] = field(default_factory=dict, init=False)

    def of(
        self,
        conditions: Conditions,
        require: Sequence[Requirement] = (),
        given: Mapping[str, Scalar] | None = None,
    ) -> int:
        """The number of configurations.

        Args:
            conditions: Of the parameters that have no value yet.
            require: What is not decided yet.
            given: The values of parameters that an undecided requirement names.

        Raises:
            TooManyToCountError: it would take too long.
        """
        total = 1
        for group, linking in independent(conditions, require):
            if total:
                named = {name for each in linking for name in each.names}
                known = {name: v for name, v in (given or {}).items() if name in named}
                key = _key(group, linking, known)
                if key not in self._counted:
                    self._counted[key] = self._of_group(group, linking, known)
                total *= self._counted[key]
        return total

    def _of_group(
        self, group: Conditions, require: Sequence[Requirement], given: Mapping[str, Scalar]
    ) -> int:
        (name, _), *others = group.items()
        rest, known, total = dict(others), dict(given), 0
        classes = self._classes(name, rest, require)
        self.steps += len(classes) * len(group)
        if self.steps > _MOST_STEPS:
            raise TooManyToCountError
        for value, size in classes:
            known[name] = value
            if not rest:  # nothing is left to be decided
                total += size if _all_hold(require, known) else 0
                continue
            left = _given(rest, name, value)
            undecided = _undecided(require, left, known)
            if undecided is not None:
                total += size * self.of(left, undecided, known)
        return total

    def _classes(
        self, name: str, rest: Conditions, require: Sequence[Requirement]
    ) -> list[tuple[Scalar, int]]:
        """The values of a parameter, those together that make no difference to the rest."""
        values = self.values[name]
        if any(name in each.names for each in require):
            if values.n > _MOST_STEPS:
                raise TooManyToCountError
            if name not in self._single:
                self._single[name] = [(values.nth(place), 1) for place in range(values.n)]
            return self._single[name]
        asked = [c for when in rest.values() for parent, c in when if parent == name]
        return values.classes(asked)


def _key(group: Conditions, require: Sequence[Requirement], given: Mapping[str, Scalar]) -> object:
    """What the count of a group depends on; of its conditions only parents have gone."""
    left = tuple((name, tuple(parent for parent, _ in when)) for name, when in group.items())
    known = tuple((name, type(value), value) for name, value in given.items())
    return left, tuple(each.text for each in require), known


def _all_hold(require: Sequence[Requirement], known: Mapping[str, Scalar]) -> bool:
    for each in require:  # noqa: SIM110 - all() takes twice as long
        if not each.holds(known):
            return False
    return True


def _undecided(
    require: Sequence[Requirement], left: Conditions, known: Mapping[str, Scalar]
) -> list[Requirement] | None:
    """The requirements that still name a parameter without a value; None if one is not met.

    One that names a parameter which is neither left nor known is met: that one is not active.
    """
    found = []
    for each in require:
        if all(name in known for name in each.names):
            if not each.holds(known):
                return None
        elif all(name in left or name in known for name in each.names):
            found.append(each)
    return found


def _given(conditions: Conditions, name: str, value: Scalar) -> Conditions:
    """What is left of the conditions when a parameter has a value."""
    left: dict[str, Sequence[tuple[str, Condition]]] = {}
    for child, when in conditions.items():
        met = all(condition.met(value) for parent, condition in when if parent == name)
        if met and all(parent == name or parent in left for parent, _ in when):
            left[child] = [entry for entry in when if entry[0] != name]
    return left


def independent(
    conditions: Conditions, require: Sequence[Requirement]
) -> list[tuple[Conditions, list[Requirement]]]:
    """The parameters, parted into groups that depend on each other, and what links each group."""
    links = [(name, parent) for name, when in conditions.items() for parent, _ in when]
    for each in require:
        left = [name for name in each.names if name in conditions]
        links += [(left[0], other) for other in left[1:]]
    group_of = {name: [name] for name in conditions}
    for one, other in links:
        merged, absorbed = sorted((group_of[one], group_of[other]), key=len, reverse=True)
        if merged is not absorbed:
            merged += absorbed
            group_of |= dict.fromkeys(absorbed, merged)
    groups: dict[int, dict[str, Sequence[tuple[str, Condition]]]] = {}
    for name, when in conditions.items():  # in order: parents before children
        groups.setdefault(id(group_of[name]), {})[name] = when
    return [
        (group, [each for each in require if any(name in group for name in each.names)])
        for group in groups.values()
    ]
