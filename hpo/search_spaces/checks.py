"""Everything that can be wrong with the fields of a domain, in sentences.

A function named `not_...` returns a sentence, or "" where all is well; one named `..._problems`
says also which key is at fault, as the domain is written in YAML.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from hpo.search_spaces.errors import Problem
from hpo.search_spaces.exact import decimal, last_multiple, plain, powers
from hpo.search_spaces.flow import flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hpo.search_spaces.domains import Choice, Float, Int

MAX_GRID = 100_000  # values of one parameter; a longer grid is a mistake, and fills the memory
_MAX_INT = 2**40  # far inside 2**53, so that cells, log cells and Optuna's floats are all exact
_MAX_FLOAT = 1e300  # leaves room for differences and ratios
_MAX_LOG_RATIO = 1e60  # beyond it, 53 bits of coordinate do not hold 13 digits of value
_MIN_SHARE = 0.001  # of a choice's draws: less is never drawn, and lost to rounding
_MAX_STEPS = 1e7  # beyond it, Optuna's own check for a step (within 1e-8) meets rounding errors


def float_problems(domain: Float) -> Iterator[Problem]:
    """What is wrong with a range of floats."""
    low, high = domain.low, domain.high
    bounds = list(_bounds_problems("float", low, high, not_a_number))
    yield from bounds
    yield from _flag_problems("log", domain.log)
    yield from _points_problems(domain.points, "step" if domain.step is not None else "")
    if not bounds and domain.log is True:
        yield from _log_range_problems(low, high)
    if domain.step is not None:
        if domain.log is True:
            sentence = "`step` and `log` exclude each other; drop `step`, or give `points: 5`."
            yield Problem(("step",), sentence)
        if sentence := not_a_number(domain.step):
            yield Problem(("step",), sentence)
        elif domain.step <= 0:
            sentence = f"step {flow(domain.step)} is not above 0; give one such as 0.1."
            yield Problem(("step",), sentence)
        elif not bounds:
            fit = list(_fit_problems(low, high, domain.step))
            bounds += fit
            yield from fit
    if not bounds:
        yield from _belief_problems(domain, not_a_number, by_ratio=domain.log)


def int_problems(domain: Int) -> Iterator[Problem]:
    """What is wrong with a range of integers."""
    low, high, step, base = domain.low, domain.high, domain.step, domain.powers_of
    bounds = list(_bounds_problems("int", low, high, not_whole))
    yield from bounds
    yield from _flag_problems("log", domain.log)
    yield from _points_problems(domain.points, "powers_of" if base is not None else "")
    if not bounds and domain.log is True and low < 1:
        sentence = f"a log range cannot start at {low}; start at a positive integer such as 1."
        yield Problem(("int",), sentence)
    if sentence := _not_positive("step", step, at_least=1):
        yield Problem(("step",), sentence)
    elif domain.log is True and step != 1:
        yield Problem(("step",), "`step` and `log` exclude each other; drop one of them.")
    elif not bounds and step > high - low:
        sentence = f"step {step} does not fit in [{low}, {high}]; take at most {high - low}."
        yield Problem(("step",), sentence)
    if base is not None:
        if domain.log is True or step != 1:
            sentence = "`powers_of` says which values there are; drop `log` and `step` beside it."
            yield Problem(("powers_of",), sentence)
        if sentence := _not_positive("powers_of", base, at_least=2):
            yield Problem(("powers_of",), sentence)
        elif not bounds:
            yield from _powers_problems(low, high, base)
    if not bounds:
        yield from _belief_problems(domain, not_whole, by_ratio=domain.log or base is not None)


def choice_problems(domain: Choice) -> Iterator[Problem]:
    """What is wrong with a choice."""
    options = domain.options
    if not isinstance(options, list | tuple):
        sentence = f"a choice is a list of options; write [{flow(options)}]."
        yield Problem(("choice",), sentence)
        return
    if not options:
        yield Problem(("choice",), "the choice is empty; give it at least one option.")
    for place, option in enumerate(options):
        if sentence := not_a_scalar(option) or _not_new(option, options[:place]):
            yield Problem(("choice",), sentence)
    yield from _flag_problems("ordered", domain.ordered)
    yield from _favourite_problems(domain)


def _favourite_problems(domain: Choice) -> Iterator[Problem]:
    options, prior, spread = [plain(o) for o in domain.options], plain(domain.prior), domain.spread
    if prior is not None and not any(type(o) is type(prior) and o == prior for o in options):
        yield Problem(("prior",), f"{flow(prior)} is not among {flow(options)}; take one of them.")
    if spread is None:
        return
    yield from _spread_problems(prior, spread)
    if not not_a_number(spread) and not _MIN_SHARE <= spread <= 1 - _MIN_SHARE:
        sentence = (
            f"spread {flow(spread)} is not between {_MIN_SHARE} and {1 - _MIN_SHARE}: it is the "
            "share of draws that goes to the other options; give one such as 0.3."
        )
        yield Problem(("spread",), sentence)


def _spread_problems(prior: object, spread: object) -> Iterator[Problem]:
    if prior is None:
        yield Problem(("spread",), "`spread` belongs to a `prior`; give one, or drop it.")
    if sentence := not_a_number(spread):
        yield Problem(("spread",), sentence)


def _belief_problems(
    domain: Float | Int, wrong: Callable[[object], str], *, by_ratio: bool
) -> Iterator[Problem]:
    """What is wrong with the prior and spread of a range."""
    prior, spread = domain.prior, domain.spread
    if prior is not None:
        if sentence := wrong(prior):
            yield Problem(("prior",), sentence)
        elif not domain.low <= prior <= domain.high:
            within = flow([domain.low, domain.high])
            sentence = f"{flow(prior)} is not in {within}; move it, or widen the range."
            yield Problem(("prior",), sentence)
    if spread is None:
        return
    yield from _spread_problems(prior, spread)
    if not_a_number(spread):
        return
    if by_ratio and spread <= 1:
        sentence = (
            f"spread {flow(spread)} is not above 1: on this scale it is a factor; "
            "give one such as 10."
        )
        yield Problem(("spread",), sentence)
    elif spread <= 0:
        yield Problem(("spread",), f"spread {flow(spread)} is not above 0; give one such as 0.1.")


def is_number(value: object) -> bool:
    """Whether a value is a number; true and false are not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def not_a_scalar(value: object) -> str:
    """What an option or a fixed value must be."""
    if isinstance(value, list | tuple):
        return (
            f"{flow(value)} is a list; an option is text, a number, true, false or null. Write "
            f'"{flow(value)[1:-1]}", and split it in a function of your own, which may return an '
            "estimator, too."
        )
    value = plain(value)
    if not (value is None or isinstance(value, str | bool | int | float)):
        kind = type(value).__name__
        return f"{flow(value)} is a {kind}; write text in quotes, a number, true, false or null."
    if isinstance(value, float) and not math.isfinite(value):
        return f"{value} is not finite; write null or a large number."
    return ""


def not_a_number(value: object) -> str:
    """What a bound or a step must be."""
    if isinstance(value, bool):
        return f"{flow(value)} is not a number; a search over yes and no is [true, false]."
    if isinstance(value, str):
        try:
            float(value)
        except ValueError:
            return f"{flow(value)} is not a number; give one such as 0.1."
        return f'"{value}" is text; remove the quotes: {value}.'
    if not isinstance(value, int | float):
        return f"{flow(value)} is not a number; give one such as 0.1."
    if not abs(value) <= _MAX_FLOAT:  # NaN is not below anything
        return f"{value} is not a finite number within 1e300; give one such as 1e6."
    return ""


def not_whole(value: object) -> str:
    """What an integer must be."""
    if sentence := not_a_number(value):
        return sentence
    if isinstance(value, float):
        if value.is_integer():
            return f"{value} is a float; write {int(value)}."
        return f"{value} is not a whole number; round it, or search a `float` range."
    if isinstance(value, int) and abs(value) > _MAX_INT:
        return f"{value} is beyond 2**40; search its logarithm as a `float` range instead."
    return ""


def _not_positive(name: str, value: int, *, at_least: int) -> str:
    if sentence := not_whole(value):
        return sentence
    return f"{name} {value} is below {at_least}; give {at_least}." if value < at_least else ""


def _not_new(option: object, earlier: Sequence[object]) -> str:
    for other in earlier:
        if other == option:
            if type(plain(other)) is type(plain(option)):
                return f"{flow(option)} is listed twice; keep one."
            return (
                f"{flow(other)} and {flow(option)} are equal to Python, and Optuna's storage would "
                f'mix them up; keep one, or write one as text: "{flow(option)}".'
            )
    return ""


def _bounds_problems(
    form: str, low: float, high: float, wrong: Callable[[object], str]
) -> Iterator[Problem]:
    sentences = [sentence for bound in (low, high) if (sentence := wrong(bound))]
    if not sentences and low > high:
        swapped = flow([high, low])
        sentences = [f"low {flow(low)} is above high {flow(high)}; swap them: {swapped}."]
    elif not sentences and low == high:
        sentences = [f"low and high are both {flow(low)}; write the scalar instead: {flow(low)}."]
    for sentence in sentences:
        yield Problem((form,), sentence)


def _flag_problems(name: str, flag: object) -> Iterator[Problem]:
    if not isinstance(flag, bool):
        yield Problem((name,), f"{name} is true or false, not {flow(flag)}.")


def _points_problems(points: object, taken_by: str) -> Iterator[Problem]:
    if points is None:
        return
    if taken_by:
        yield Problem(("points",), f"`{taken_by}` makes a grid already; drop `points`.")
    if sentence := not_whole(points):
        yield Problem(("points",), sentence)
    elif isinstance(points, int) and not 2 <= points <= MAX_GRID:
        sentence = f"points {points} is not between 2 and {MAX_GRID}; give one such as 5."
        yield Problem(("points",), sentence)


def _log_range_problems(low: float, high: float) -> Iterator[Problem]:
    if low <= 0:
        sentence = (
            f"a log range cannot start at {flow(low)}; "
            "start at a small positive number such as 1e-5."
        )
        yield Problem(("float",), sentence)
    elif high / _MAX_LOG_RATIO > low:
        sentence = (
            f"{flow([low, high])} spans more than 60 powers of ten; "
            f"start higher, such as at {flow(high / 1e10)}."
        )
        yield Problem(("float",), sentence)


def _fit_problems(low: float, high: float, step: float) -> Iterator[Problem]:
    width, largest = decimal(high) - decimal(low), float(max(abs(low), abs(high)))
    if width < decimal(step):
        sentence = (
            f"step {flow(step)} does not fit in {flow([low, high])}; "
            f"take at most {flow(float(width))}."
        )
        yield Problem(("step",), sentence)
    elif largest / step > _MAX_STEPS:
        sentence = (
            f"step {flow(step)} is too fine for numbers as large as {flow(largest)}; "
            f"take at least {flow(largest / _MAX_STEPS)}, or drop it."
        )
        yield Problem(("step",), sentence)
    elif (last := last_multiple(low, high, step)) != last_multiple(low, last, step):
        sentence = (
            f"{flow(low)} plus multiples of {flow(step)} takes more digits than a float has; "
            "round the lower bound."
        )
        yield Problem(("float",), sentence)


def _powers_problems(low: int, high: int, base: int) -> Iterator[Problem]:
    found = powers(low, high, base)
    if not found:
        below = powers(1, max(low, 1), base)[-1]
        near = f"{below} and {below * base}" if low > 1 else "1"
        sentence = f"no power of {base} lies in [{low}, {high}]; the nearest: {near}."
        yield Problem(("powers_of",), sentence)
    elif len(found) == 1:
        sentence = (
            f"only one power of {base} lies in [{low}, {high}]; write the scalar: {found[0]}."
        )
        yield Problem(("powers_of",), sentence)
