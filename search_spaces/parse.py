"""The `space:` of a study file, read into a `SearchSpace`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from search_spaces.conditions import RESERVED, problems_of
from search_spaces.domains import Choice, Domain, Fixed, Float, Int, Scalar
from search_spaces.errors import Problem, SpaceError, did_you_mean
from search_spaces.flow import flow
from search_spaces.library import Fragment, load
from search_spaces.space import Parameter, SearchSpace, When

if TYPE_CHECKING:
    from collections.abc import Iterable

T = TypeVar("T")

# The forms a parameter may have, and what may stand beside each (`when` always may).
FORMS = {
    "float": ("log", "step", "points"),
    "int": ("log", "step", "powers_of", "points"),
    "choice": (),
    "fixed": (),
}


def parse(mapping: Mapping[str, object], library: Callable[[str], Fragment] = load) -> SearchSpace:
    """Reads a space.

    A value is `{float: [low, high]}`, `{int: [low, high]}`, `{choice: [...]}` or `{fixed: value}`
    with their options, a list (a choice) or a scalar (fixed). `use: [names]` merges ready-made
    spaces from left to right; the mapping's own keys override theirs.

    Args:
        mapping: what stands under `space:`.
        library: finds a ready-made space by its name.

    Raises:
        SpaceError: with every problem, its path relative to the mapping.
    """
    problems: list[Problem] = []
    forms, source = _merged(mapping, library, problems)
    parameters: list[Parameter] = []
    broken: dict[str, When] = {}
    for name, form in forms.items():
        domain = _attempt(partial(_domain, form), problems, name)
        when = _attempt(partial(_when, form), problems, name, "when") or ()
        if domain is None:
            broken[name] = when
        else:
            parameters.append(Parameter(name, domain, when))
    if forms or not problems:
        problems += problems_of(parameters, broken)
    if problems:
        raise SpaceError(_with_source(problem, source) for problem in problems)
    return SearchSpace(tuple(parameters))


def _merged(
    mapping: object, library: Callable[[str], Fragment], problems: list[Problem]
) -> tuple[dict[str, object], dict[str, str]]:
    """All parameters' forms, and of those from the library the fragment they came with."""
    if not isinstance(mapping, Mapping):
        sentence = f"a space maps names to what may be searched, and {flow(mapping)} does not."
        raise SpaceError([Problem((), sentence)])
    used = mapping.get(RESERVED, [])
    names = [used] if isinstance(used, str) else used
    if not isinstance(names, list | tuple):
        sentence = f"`use` takes a list of ready-made spaces, such as [sgd, mlp], not {flow(used)}."
        problems.append(Problem((RESERVED,), sentence))
        names = []
    forms: dict[str, object] = {}
    source: dict[str, str] = {}
    for place, name in enumerate(names):
        fragment = _attempt(partial(library, name), problems, RESERVED, place)
        if fragment is not None:
            forms |= fragment.space
            source |= dict.fromkeys(fragment.space, fragment.name)
    own = {name: form for name, form in mapping.items() if name != RESERVED}
    return forms | own, {name: where for name, where in source.items() if name not in own}


def _with_source(problem: Problem, source: Mapping[str, str]) -> Problem:
    """Says where a parameter comes from that the user never wrote."""
    name = str(problem.path[0]) if problem.path else ""
    if name not in source:
        return problem
    return Problem(problem.path, f"{problem.message} ({name!r} comes from `use: {source[name]}`.)")


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
    allowed = (*FORMS[kind], "when")
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
        return Choice(form[kind])
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
    when: list[tuple[str, tuple[Scalar, ...]]] = []
    for parent, values in conditions.items():
        listed = tuple(values) if isinstance(values, list | tuple) else (values,)
        if any(isinstance(value, list | tuple | Mapping) for value in listed):
            sentence = f"{flow(values)} is neither a value of {parent!r} nor a list of its values."
            problems.append(Problem((parent,), sentence))
        when.append((parent, listed))
    if problems:
        raise SpaceError(problems)
    return tuple(when)
