"""Parameters with one value for each of a number of things: `width: {int: [16, 256], per: depth}`.

A vector is searched as plain parameters with conditions, so that samplers, grids and storages
need not know of it: `width_1`, `width_2` (when depth is at least 2), and so on; or, with a taper
rule, `width` and perhaps `width_taper`, of which the values follow. Only the configuration that a
trainer gets has the list.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpo.search_spaces.conditions import Comparison, When
from hpo.search_spaces.domains import Choice, Domain, Fixed, Sampled, Scalar
from hpo.search_spaces.errors import Problem, did_you_mean
from hpo.search_spaces.flow import flow

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

MAX_LENGTH = 100  # parameters of one vector; nobody searches more
MAX_TAPERED = 1000  # values that follow from one parameter
TAPERS = ("constant", "pyramid", "widening")


def element_name(name: str, place: int) -> str:
    """What the value at a place, from 1, is called."""
    return f"{name}_{place}"


def taper_name(name: str) -> str:
    """What the choice between taper rules is called."""
    return f"{name}_taper"


@dataclass(frozen=True)
class Count:
    """The parameter that says how many values a vector has.

    Args:
        name: Of the parameter.
        domain: Its own, of whole numbers.
        always: Whether every configuration has it.
    """

    name: str
    domain: Domain
    always: bool

    def at_least(self, n: int) -> When:
        """The condition under which there is an n-th value; none where there always is."""
        found = lengths(self.domain)
        if self.always and min(found) >= n:
            return ()
        return ((self.name, (Comparison(">=", n),)),)


def elements(
    name: str, domain: Domain, when: When, count: Count, taper: Sequence[str]
) -> Iterator[tuple[str, Domain, When]]:
    """The plain parameters of a vector: their names, domains and conditions.

    Args:
        name: Of the vector.
        domain: Of each of its values.
        when: Its conditions.
        count: Says how many values it has.
        taper: Rules by which all values follow from the first; none gives each its own.
    """
    if not taper:
        for place in range(1, max(lengths(count.domain)) + 1):
            yield element_name(name, place), domain, (*when, *count.at_least(place))
        return
    yield name, domain, (*when, *count.at_least(1))
    if len(taper) > 1:  # of a single value there is nothing to taper
        yield taper_name(name), Choice(tuple(taper)), (*when, *count.at_least(2))


def lengths(count: Domain) -> list[int]:
    """The options, or the least and the most, that are whole numbers."""
    if count.size is None:
        return []
    some = count.grid() if isinstance(count, Choice) else (count.nth(0), count.nth(count.size - 1))
    return [n for n in some if isinstance(n, int) and not isinstance(n, bool)]


def values(
    name: str, domain: Domain, n: int, taper: Sequence[str], config: Mapping[str, Scalar]
) -> list[Scalar]:
    """The values of a vector of length n in a configuration of plain parameters."""
    if not taper:
        return [config[element_name(name, place)] for place in range(1, n + 1)]
    if not n:
        return []
    rule = config.get(taper_name(name), taper[0])
    return tapered(domain, config[name], str(rule), n)


def tapered(domain: Domain, first: Scalar, rule: str, n: int) -> list[Scalar]:
    """The n values that follow from the first: all equal, each half the one before, or double.

    Each is the domain's nearest value, so a pyramid ends at the domain's least one.
    """
    if rule == "constant" or not isinstance(domain, Sampled):
        return [first] * n
    ratio = 0.5 if rule == "pyramid" else 2.0
    start = domain.rank(first)
    return [first, *(domain.nearest(start * ratio**place) for place in range(1, n))]


def problems(
    name: str,
    domain: Domain | None,
    per: object,
    taper: Sequence[object],
    others: Mapping[str, Domain | None],
) -> Iterator[Problem]:
    """Everything wrong with a vector.

    Args:
        name: Of the vector.
        domain: Of its values, if that is sound.
        per: What is given as the name of the parameter that counts.
        taper: What is given as rules.
        others: The domains of the space's parameters; None for those that are vectors.
    """
    yield from _count_problems(name, per, taper, others)
    for place, rule in enumerate(taper):
        if rule not in TAPERS:
            sentence = f"there is no taper rule {flow(rule)}.{did_you_mean(str(rule), TAPERS)}"
            yield Problem((name, "taper"), sentence)
        elif rule in taper[:place]:
            yield Problem((name, "taper"), f"{flow(rule)} is listed twice; keep one.")
    if isinstance(domain, Fixed):
        sentence = f"{flow(domain.value)} is one value for all; drop `per`, or search a range."
        yield Problem((name, "per"), sentence)
    elif isinstance(domain, Sampled) and taper and not domain.is_numeric():
        yield Problem((name, "taper"), f"only numbers taper, and it is {domain}; drop `taper`.")


def _count_problems(
    name: str, per: object, taper: Sequence[object], others: Mapping[str, Domain | None]
) -> Iterator[Problem]:
    path = (name, "per")
    if not isinstance(per, str) or per not in others or per == name:
        known = [other for other in others if other != name]
        yield Problem(path, f"the space has no {flow(per)}.{did_you_mean(str(per), known)}")
        return
    count = others[per]
    if count is None:
        yield Problem(path, f"{per!r} is a vector itself; name a parameter that counts.")
        return
    found = lengths(count)
    most = MAX_TAPERED if taper else MAX_LENGTH
    if not found or (isinstance(count, Choice) and len(found) < len(count.options)):
        yield Problem(path, f"{per!r} is {count}; a vector needs a whole number to count.")
    elif min(found) < 0:
        yield Problem(path, f"{per!r} may be {min(found)}; a vector needs at least 0 values.")
    elif max(found) == 0:
        yield Problem(path, f"{per!r} is always 0, so it has no values; drop it.")
    elif max(found) > most:
        instead = "" if taper else "give it `taper: constant`, or "
        sentence = (
            f"{per!r} may be {max(found)}, and so many values are too many to search; "
            f"{instead}count at most {most}."
        )
        yield Problem(path, sentence)
