"""When a parameter is active: what stands under `when:`, and what follows from it."""

from __future__ import annotations

import json
import operator
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo.search_spaces.checks import is_number
from hpo.search_spaces.domains import Choice, Domain, Fixed, Scalar
from hpo.search_spaces.errors import did_you_mean
from hpo.search_spaces.exact import plain
from hpo.search_spaces.flow import flow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "!=": operator.ne,
}
_COMPARISON = re.compile(r"\s*(>=|<=|!=|>|<)\s*(.*\S)\s*", re.DOTALL)
_EQUATION = re.compile(r"\s*==?\s*(.*\S)\s*")
_WORDS: dict[str, Scalar] = {"true": True, "false": False, "null": None}


@dataclass(frozen=True)
class Comparison:
    """One side of an order, `>= 3`, or all values but one, `!= sgd`.

    Args:
        operator: One of >=, <=, >, < and !=.
        bound: What it is compared with.

    Raises:
        ValueError: the operator is another one.
    """

    operator: str
    bound: Scalar

    def __post_init__(self) -> None:
        if self.operator not in _OPERATORS:
            raise ValueError(f"{self.operator!r} is none of {', '.join(_OPERATORS)}.")
        object.__setattr__(self, "bound", plain(self.bound))

    def __str__(self) -> str:
        bare = self.bound and _scalar(str(self.bound)) == self.bound  # else it needs its quotes
        return f"{self.operator} {self.bound if bare else json.dumps(self.bound)}"


Accepted: TypeAlias = Scalar | Comparison
# Each parent with the values that it may have; all of the parents have to have one of theirs.
When: TypeAlias = tuple[tuple[str, tuple[Accepted, ...]], ...]


def _scalar(text: str) -> Scalar:
    """A bound: a number, a word of YAML, or text, in double quotes where it looks like those."""
    if text in _WORDS:
        return _WORDS[text]
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    if text.startswith('"'):
        with suppress(ValueError):
            return str(json.loads(text))
    return text.strip()


@dataclass(frozen=True)
class Condition:
    """Which values of a parent meet one entry of `when`.

    Args:
        parent: Its domain.
        accepted: Values of it, and comparisons; any of them will do. All are settled.
    """

    parent: Domain
    accepted: tuple[Accepted, ...]

    def met(self, value: Scalar) -> bool:
        """Whether the parent's value meets it."""
        if value in self._values:
            return True
        for compare, bound in self._comparisons:  # noqa: SIM110 - any() takes twice as long
            if compare(self._place(value), bound):
                return True
        return False

    def cuts(self) -> list[float]:
        """Where, in the order of a parent of numbers, being met may change."""
        bounds = [each.bound if isinstance(each, Comparison) else each for each in self.accepted]
        return [self.parent.rank(bound) for bound in bounds]

    # A vector of depth 100 asks 100 conditions of each configuration, so what `met` needs is
    # found once.
    @cached_property
    def _values(self) -> tuple[Scalar, ...]:
        return tuple(each for each in self.accepted if not isinstance(each, Comparison))

    @cached_property
    def _comparisons(self) -> list[tuple[Callable[[Any, Any], bool], Scalar]]:
        comparisons = [each for each in self.accepted if isinstance(each, Comparison)]
        return [(_OPERATORS[each.operator], self._place(each.bound)) for each in comparisons]

    def _place(self, value: Scalar) -> Scalar:
        return self.parent.rank(value) if self._by_place else value

    @cached_property
    def _by_place(self) -> bool:
        """Whether the parent's values are compared by their places in an order, not as numbers."""
        parent = self.parent
        return isinstance(parent, Choice) and parent.ordered and not parent.is_numeric()


def settled(domain: Domain, accepted: Sequence[Accepted]) -> tuple[Accepted, ...]:
    """Sound accepted values in the parent's own spelling, none of them twice."""
    found = [_read(domain, each) or domain.snap(each) for each in accepted]
    return tuple(dict.fromkeys(found))


def _read(domain: Domain, each: Accepted) -> Comparison | None:
    """The comparison that is meant, its bound in the parent's spelling; None for a value."""
    if isinstance(each, Comparison):
        bounds, sign = [each.bound], each.operator
    # An option that looks like a comparison is an option: ["<= 1", "> 1"].
    elif domain.contains(each) or not isinstance(each, str):
        return None
    elif match := _COMPARISON.fullmatch(each):
        sign, text = match.groups()
        bounds = [_scalar(text), text]  # the text itself is meant of the options ["1", "2"]
    else:
        return None
    own = [domain.snap(bound) for bound in bounds if domain.contains(bound)]
    return Comparison(sign, [*own, *bounds][0])


def faults(name: str, domain: Domain, accepted: Sequence[Accepted]) -> list[str]:
    """Sentences about accepted values that a parent cannot have."""
    found = []
    for each in accepted:
        read = _read(domain, each)
        fault = _comparison_fault(name, domain, read) if read else _value_fault(name, domain, each)
        if fault:
            found.append(fault)
    if found or len(accepted) == 1:
        return found
    return _span_faults(name, domain, settled(domain, accepted))


def _comparison_fault(name: str, domain: Domain, read: Comparison) -> str:
    if read.operator == "!=":
        if domain.contains(read.bound):
            return ""
        return f"{name!r} is never {flow(read.bound)} anyway. It is {domain}: drop the condition."
    try:
        domain.rank(read.bound)
    except ValueError as error:
        return f"{str(read)!r} does not fit {name!r}: {error}"
    if not possible(domain, [Condition(domain, (read,))]):
        return f"{name!r} is never {read}. It is {domain}: widen it, or drop the condition."
    return ""


def _value_fault(name: str, domain: Domain, value: Accepted) -> str:
    if domain.contains(value) and domain.size is not None:
        return ""
    if isinstance(value, str) and (equation := _EQUATION.fullmatch(value)):
        if value.lstrip().startswith(("=>", "=<")):
            turned = f"{value.strip()[1]}= {value.strip()[2:].strip()}"
            return f"{flow(value)} is not a comparison; write {flow(turned)}."
        return f"{flow(value)} is not a comparison; for one value write just that: {equation[1]}."
    if isinstance(value, str) and domain.contains(_scalar(value)):
        return f"{name!r} is a number and never the text {flow(value)}; remove the quotes: {value}."
    if domain.size is None and is_number(value):
        return (
            f"{name!r} is continuous and never has one value exactly; compare it, as in "
            f'">= {flow(value)}", give it `step: ...`, or list its values as a choice.'
        )
    hint = f" It is {domain}: add the value there, or drop the condition."
    if domain.size is None:
        hint = f' It is {domain}: compare it, as in ">= {flow(domain.from_unit(0.5))}".'
    elif isinstance(value, str) and isinstance(domain, Choice):
        near = did_you_mean(value, [o for o in domain.options if isinstance(o, str)])
        hint = near if near.startswith(" Did") else hint
    return f"{name!r} is never {flow(value)}.{hint}"


def _span_faults(name: str, domain: Domain, accepted: tuple[Accepted, ...]) -> list[str]:
    """Sentences about `[">= 2", "< 5"]`, which people may take for a span."""
    comparisons = [each for each in accepted if isinstance(each, Comparison)]
    if len(comparisons) < 2 or not always(domain, Condition(domain, accepted)):
        return []
    sentence = (
        f"every value of {name!r} meets one of {flow([str(each) for each in accepted])}, and one "
        "is enough; list the values that are meant, or drop the condition."
    )
    return [sentence]


@dataclass(frozen=True)
class Values:
    """Finitely many values of a domain: all of them, or those of its grid.

    Args:
        domain: Whose they are.
        listed: The values; None for all, which may be too many to list.
    """

    domain: Domain
    listed: tuple[Scalar, ...] | None = None

    @property
    def n(self) -> int:
        """How many values there are."""
        if self.listed is not None:
            return len(self.listed)
        assert self.domain.size is not None  # noqa: S101 - all of finitely many
        return self.domain.size

    def nth(self, place: int) -> Scalar:
        """The value at a place."""
        return self.domain.nth(place) if self.listed is None else self.listed[place]

    def classes(self, conditions: Sequence[Condition]) -> list[tuple[Scalar, int]]:
        """The values, those together that meet the same of the conditions.

        Returns:
            A value of each class and the size of the class.
        """
        if not conditions:
            return [(self.nth(0), self.n)]
        first: dict[tuple[bool, ...], Scalar] = {}
        sizes: Counter[tuple[bool, ...]] = Counter()
        for begin, end in pairwise(self._edges(conditions)):
            value = self.nth(begin)
            met = tuple(condition.met(value) for condition in conditions)
            first.setdefault(met, value)
            sizes[met] += end - begin
        return [(first[met], size) for met, size in sizes.items()]

    def _edges(self, conditions: Sequence[Condition]) -> Sequence[int]:
        """Places, from 0 to n, between which no condition changes."""
        if isinstance(self.domain, Choice | Fixed):  # few, and not always in order
            return range(self.n + 1)
        places, edges = range(self.n), {0, self.n}
        for cut in {cut for condition in conditions for cut in condition.cuts()}:
            edges.add(bisect_left(places, cut, key=self._number))
            edges.add(bisect_right(places, cut, key=self._number))
        return sorted(edges)

    def _number(self, place: int) -> float:
        return float(self.nth(place) or 0)  # of a range, whose values are numbers


def possible(domain: Domain, conditions: Sequence[Condition]) -> bool:
    """Whether some value of a domain meets all conditions."""
    values = _representatives(domain, conditions)
    return any(all(condition.met(value) for condition in conditions) for value in values)


def always(domain: Domain, condition: Condition) -> bool:
    """Whether every value of a domain meets a condition."""
    return all(condition.met(value) for value in _representatives(domain, [condition]))


def _representatives(domain: Domain, conditions: Sequence[Condition]) -> Sequence[Scalar]:
    """Some values of a domain: whatever the conditions make of any of its values, they make of one.

    Those of a continuous range are ends, cuts and the middles between them: nothing else changes.
    """
    if domain.size is not None:
        return [value for value, _ in Values(domain).classes(conditions)]
    low, high = (domain.rank(domain.from_unit(u)) for u in (0.0, 1.0))
    cuts = {cut for c in conditions for cut in c.cuts() if low < cut < high}
    points = sorted({low, high, *cuts})
    return [*points, *((a + b) / 2 for a, b in pairwise(points))]
