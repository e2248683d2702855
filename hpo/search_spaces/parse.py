"""The `space:` of a study file, read into a `SearchSpace`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from hpo.search_spaces.conditions import Accepted, When, faults
from hpo.search_spaces.domains import Choice, Domain, Fixed, Float, Int, Scalar
from hpo.search_spaces.errors import Problem, SpaceError, did_you_mean
from hpo.search_spaces.flow import flow
from hpo.search_spaces.library import Fragment, load
from hpo.search_spaces.links import (
    RESERVED,
    Parameter,
    possible_names,
    problems_of,
    requirement_problems,
)
from hpo.search_spaces.requirements import Requirement
from hpo.search_spaces.space import SearchSpace
from hpo.search_spaces.vectors import lengths

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

# The forms a parameter may have, and what may stand beside each to say more about its values.
FORMS = {
    "float": ("log", "step", "points", "prior", "spread"),
    "int": ("log", "step", "powers_of", "points", "prior", "spread"),
    "choice": ("ordered", "prior", "spread"),
    "fixed": (),
}
BESIDE = ("when", "per", "taper", "why")  # what may stand beside any of them


def parse(
    mapping: Mapping[str, object],
    library: Callable[[str], Fragment] = load,
    known: Mapping[str, Scalar] | None = None,
) -> SearchSpace:
    """Reads a space.

    A value is `{float: [low, high]}`, `{int: [low, high]}`, `{choice: [...]}` or `{fixed: value}`
    with their options, a list (a choice) or a scalar (fixed). `use: [names]` merges ready-made
    spaces from left to right; the mapping's own keys override theirs. `require: [...]` lists
    what must hold between parameters.

    Args:
        mapping: What stands under `space:`.
        library: Finds a ready-made space by its name.
        known: Values that come from elsewhere and that requirements may name.

    Raises:
        SpaceError: with every problem, its path relative to the mapping.
    """
    problems: list[Problem] = []
    merged = _merged(mapping, library, problems)
    parameters: list[Parameter] = []
    broken: dict[str, When] = {}
    for name, form in merged.forms.items():
        domain = _attempt(partial(_domain, form), problems, name)
        when = _attempt(partial(_when, form), problems, name, "when") or ()
        per, taper, why = _attempt(partial(_beside, form), problems, name) or (None, (), "")
        if domain is None:
            broken[name] = when
        else:
            parameters.append(Parameter(name, domain, when, per, taper, why))
    merged.drop_dead_parts(parameters, broken)
    require = merged.requirements(problems)
    if merged.forms or not problems:
        try:
            space = _space(parameters, broken, list(require.values()), known or {})
            if not problems:
                return space
        except SpaceError as error:
            problems += [_placed(problem, list(require)) for problem in error.problems]
    raise SpaceError(merged.with_source(problem) for problem in problems)


def _space(
    parameters: Sequence[Parameter],
    broken: Mapping[str, When],
    require: Sequence[Requirement],
    known: Mapping[str, Scalar],
) -> SearchSpace:
    """The space; where some parameters are broken, only what is wrong with the others."""
    if not broken:
        return SearchSpace(tuple(parameters), tuple(require), known)
    names = possible_names(parameters, (*broken, *known))
    found = [*problems_of(parameters, broken)]
    found += requirement_problems(require, dict.fromkeys(names, "unknown"))
    raise SpaceError(found)


def _placed(problem: Problem, places: Sequence[int]) -> Problem:
    """A problem with a requirement, at its place among all, those that cannot be read included."""
    match problem.path:
        case ("require", int(place)):
            return Problem(("require", places[place]), problem.message)
    return problem


@dataclass
class _Merged:
    """A space and the ready-made ones that it uses, in one.

    Args:
        forms: Of all parameters.
        source: Of those that come from the library, the name of the fragment.
        require: All requirements, the mapping's own ones first, each with its fragment if any.
        dropped: Parameters from the library that could never be active, with their fragments.
    """

    forms: dict[str, object]
    source: dict[str, str]
    require: list[tuple[object, str]]
    dropped: dict[str, str] = field(default_factory=dict)

    def add(self, part: _Merged, fragment: str) -> None:
        """Puts a ready-made space over what is there."""
        self.forms |= part.forms
        self.source |= dict.fromkeys(part.forms, fragment)
        there = [text for text, _ in self.require]
        self.require += [(text, fragment) for text, _ in part.require if text not in there]

    def drop_dead_parts(self, parameters: list[Parameter], broken: Mapping[str, When]) -> None:
        """Drops what an override has made impossible in the parts from the library.

        With `use: [sgd_momentum, adam]` the optimizer is Adam, and the momentum that is active
        `when: {optimizer: sgd}` goes. What the user wrote stays, and is judged.
        """
        kept = {parameter.name: parameter for parameter in parameters}
        before: dict[str, Parameter] = {}
        while kept != before:  # a parent that goes takes its children along
            before = dict(kept)
            for name in [name for name in before if name in self.source]:
                parameter = _still_possible(before[name], before, broken)
                if parameter is None:
                    del kept[name]
                    self.dropped[name] = self.source[name]
                else:
                    kept[name] = parameter
        parameters[:] = kept.values()

    def requirements(self, problems: list[Problem]) -> dict[int, Requirement]:
        """The readable ones, by their places; without the library's on what was dropped."""
        found = {}
        for place, (text, fragment) in enumerate(self.require):
            read = _attempt(partial(Requirement.of, text), problems, "require", place)
            if read and not (fragment and any(name in self.dropped for name in read.names)):
                found[place] = read
        return found

    def with_source(self, problem: Problem) -> Problem:
        """Says where a parameter or a requirement comes from that the user never wrote."""
        match problem.path:
            case ("require", int(place)) if self.require[place][1]:
                text, where = self.require[place]
                end = f" ({flow(text)} comes from `use: {where}`.)"
            case (name, *_) if name in self.source:
                end = f" ({name!r} comes from `use: {self.source[name]}`.)"
            case _:
                gone = [n for n in self.dropped if f"has no {n!r}" in problem.message]
                end = "".join(
                    f" ({name!r} of `use: {self.dropped[name]}` can never be active here.)"
                    for name in gone
                )
        return Problem(problem.path, problem.message + end)


def _merged(
    mapping: object, library: Callable[[str], Fragment], problems: list[Problem]
) -> _Merged:
    if not isinstance(mapping, Mapping):
        sentence = f"a space maps names to what may be searched, and {flow(mapping)} does not."
        raise SpaceError([Problem((), sentence)])
    own_require = _listed(mapping, "require", '["a < b"]', problems)
    merged = _Merged({}, {}, [(text, "") for text in own_require])
    for place, name in enumerate(_listed(mapping, "use", "[sgd, mlp]", problems)):
        fragment = _attempt(partial(library, str(name)), problems, "use", place)
        if fragment is not None:
            merged.add(_merged(fragment.space, library, problems), fragment.name)
    own = {name: form for name, form in mapping.items() if name not in RESERVED}
    merged.forms |= own
    merged.source = {name: where for name, where in merged.source.items() if name not in own}
    return merged


def _listed(
    mapping: Mapping[str, object], key: str, example: str, problems: list[Problem]
) -> list[object]:
    """What stands under `use` or `require`: a list, or one item that may stand alone."""
    value = mapping.get(key, [])
    if isinstance(value, list | tuple):
        return list(value)
    if isinstance(value, str):
        return [value]
    what = "ready-made spaces" if key == "use" else "requirements"
    sentence = f"`{key}` takes a list of {what}, such as {example}, not {flow(value)}."
    problems.append(Problem((key,), sentence))
    return []


def _still_possible(
    parameter: Parameter, others: Mapping[str, Parameter], broken: Mapping[str, When]
) -> Parameter | None:
    if parameter.per and parameter.per not in broken:
        count = others.get(parameter.per)
        if count is None or (not count.per and lengths(count.domain) == [0, 0]):
            return None
    when = []
    for parent, accepted in parameter.when:
        if parent not in others and parent not in broken:
            return None
        left = accepted
        if parent in others:
            domain = others[parent].domain
            left = tuple(each for each in accepted if not faults(parent, domain, [each]))
        if not left:
            return None
        when.append((parent, left))
    return replace(parameter, when=tuple(when))


def _attempt(make: Callable[[], T], problems: list[Problem], *path: str | int) -> T | None:
    """What `make` returns, or None, its problems noted under the path."""
    try:
        return make()
    except SpaceError as error:
        problems += [problem.within(*path) for problem in error.problems]
        return None


def _domain(form: Any) -> Domain:
    if not isinstance(form, Mapping):
        return _bare(form)
    kinds = [kind for kind in FORMS if kind in form]
    if len(kinds) != 1:
        raise SpaceError(_form_problems(form, kinds))
    kind = kinds[0]
    allowed = (*FORMS[kind], *BESIDE)
    problems = [
        Problem((key,), f"`{kind}` takes no {key!r}.{did_you_mean(key, allowed)}")
        for key in form
        if key not in (kind, *allowed)
    ]
    domain = _attempt(partial(_build, kind, form), problems)
    if problems or domain is None:
        raise SpaceError(problems)
    return domain


def _bare(form: Any) -> Domain:
    try:
        return Choice(tuple(form)) if isinstance(form, list | tuple) else Fixed(form)
    except SpaceError as error:  # there is no key `choice` or `fixed` to point at
        raise SpaceError(Problem((), problem.message) for problem in error.problems) from None


def _form_problems(form: Mapping[str, object], kinds: list[str]) -> Iterable[Problem]:
    if kinds:
        yield Problem((), f"it has both `{kinds[0]}` and `{kinds[1]}`; keep one.")
        return
    misspelt = {}
    for key, value in form.items():
        likely = ("float", "int", "choice") if isinstance(value, list | tuple) else ("fixed",)
        if (hint := did_you_mean(key, likely)).startswith(" Did"):
            misspelt[key] = hint
    for key, hint in misspelt.items():
        yield Problem((key,), f"there is no form {key!r}.{hint}")
    if not misspelt:
        yield Problem(
            (),
            f"{flow(form)} does not say what is searched; give it one of "
            "`float: [low, high]`, `int: [low, high]`, `choice: [...]` and `fixed: value`.",
        )


def _build(kind: str, form: Mapping[str, Any]) -> Domain:
    if kind == "choice":
        return Choice(form[kind], **{key: form[key] for key in FORMS[kind] if key in form})
    if kind == "fixed":
        return Fixed(form[kind])
    bounds, takes = form[kind], f"`{kind}` takes two numbers, [low, high],"
    if not isinstance(bounds, list | tuple):
        what = flow(bounds)
        sentence = f"{takes} not {what}; for one value write the scalar: {what}."
        raise SpaceError([Problem((kind,), sentence)])
    if len(bounds) != 2:
        raise SpaceError([Problem((kind,), f"{takes} and {flow(bounds)} has {len(bounds)}.")])
    options = {key: form[key] for key in FORMS[kind] if key in form}
    return (Float if kind == "float" else Int)(bounds[0], bounds[1], **options)


def _when(form: object) -> When:
    conditions = form.get("when", {}) if isinstance(form, Mapping) else {}
    if not isinstance(conditions, Mapping):
        example = "{optimizer: sgd}"
        what = flow(conditions)
        sentence = f"a condition maps parents to values, such as {example}, and {what} does not."
        raise SpaceError([Problem((), sentence)])
    problems = []
    when: list[tuple[str, tuple[Accepted, ...]]] = []
    for parent, values in conditions.items():
        listed = tuple(values) if isinstance(values, list | tuple) else (values,)
        if any(isinstance(value, list | tuple | Mapping) for value in listed):
            sentence = (
                f"{flow(values)} is neither a value of {parent!r}, nor a list of its values, "
                'nor a comparison such as ">= 3".'
            )
            problems.append(Problem((parent,), sentence))
        when.append((parent, listed))
    if problems:
        raise SpaceError(problems)
    return tuple(when)


def _beside(form: object) -> tuple[str | None, tuple[str, ...], str]:
    """What `per`, `taper` and `why` say."""
    if not isinstance(form, Mapping):
        return None, (), ""
    per, taper, why = form.get("per"), form.get("taper", ()), form.get("why", "")
    problems = []
    if per is not None and not isinstance(per, str):
        sentence = f"`per` names a parameter that counts, such as depth, not {flow(per)}."
        problems.append(Problem(("per",), sentence))
    if not isinstance(why, str):
        problems.append(Problem(("why",), f"`why` is a sentence for people, not {flow(why)}."))
    if problems:
        raise SpaceError(problems)
    rules = tuple(taper) if isinstance(taper, list | tuple) else (taper,)
    return per, rules, str(why)
