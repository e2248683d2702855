"""What one parameter may be: a range of floats or of ints, a choice, or one fixed value.

A domain has two faces. Outside are values, as a user writes them and a trainer reads them.
Inside is the unit interval, where samplers work: `from_unit` maps every coordinate to a value
and `to_unit` finds the way back, so that `from_unit(to_unit(v)) == v` for each value `v` that
the domain gives out. A domain of k values cuts the interval into k equal cells; a log range
stretches it so that equal lengths are equal ratios.

A `prior` is the user's belief where good values lie. It moves no coordinate; it says how likely
each is to be drawn: `from_quantile` gives the values in their prior's proportions.
"""

from __future__ import annotations

import json
import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

from hpo.search_spaces.checks import (
    MAX_GRID,
    choice_problems,
    float_problems,
    int_problems,
    is_number,
    not_a_number,
    not_a_scalar,
)
from hpo.search_spaces.errors import Problem, SpaceError
from hpo.search_spaces.exact import last_multiple, multiple, plain, powers
from hpo.search_spaces.flow import flow
from hpo.search_spaces.priors import DEFAULT_SPREAD, Bump, Prior, favourite

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from optuna.distributions import BaseDistribution
    from skopt.space import Dimension

Scalar: TypeAlias = str | bool | int | float | None
T = TypeVar("T")


class Random(Protocol):
    """A source of numbers, uniform in [0, 1): `random.Random` or NumPy's `Generator`."""

    def random(self) -> float:
        """The next number."""
        ...


class Domain(ABC):
    """The values one parameter may have. Equal domains have the same values in the same order.

    Construction raises `SpaceError` (a `ValueError`) with every problem; the path of a problem
    is the key it has in YAML: `("float",)` for the bounds, `("step",)` for the step.
    """

    def __post_init__(self) -> None:
        for name, value in list(vars(self).items()):  # NumPy's numbers become Python's
            object.__setattr__(self, name, plain(value))
        if problems := tuple(self._problems()):
            raise SpaceError(problems)
        # Frozen for all but its own construction: equal domains get equal fields.
        for name, value in self._settled().items():
            object.__setattr__(self, name, value)

    @property
    @abstractmethod
    def size(self) -> int | None:
        """How many values there are; None for a continuous range."""

    @abstractmethod
    def to_dict(self) -> dict[str, object]:
        """The canonical YAML form: `parse` makes an equal domain of it."""

    @abstractmethod
    def nth(self, place: int) -> Scalar:
        """The value at a place among the `size` values; in a range they go up."""

    @property
    def prior(self) -> Scalar:
        """Where the user believes that good values lie; None without a belief."""
        return None

    @property
    def believed(self) -> Scalar:
        """The value that the prior names, in the domain's own spelling; None without one."""
        return self.prior

    def contains(self, value: object) -> bool:
        """Whether `snap` takes the value."""
        try:
            self.snap(value)
        except ValueError:
            return False
        return True

    def snap(self, value: object) -> Scalar:
        """The domain's own spelling of a value: a plain Python scalar, 0.3 for 0.1 + 0.2.

        Forgives what floating point and NumPy do to a value, and nothing else.

        Raises:
            ValueError: the value is not in the domain.
        """
        return self.nth(self._cell(value))

    def to_unit(self, value: object) -> float:
        """The coordinate of a value, in [0, 1]: the middle of its cell, or its place in the range.

        Raises:
            ValueError: the value is not in the domain.
        """
        return (self._cell(value) + 0.5) / self._count()

    def from_unit(self, u: float) -> Scalar:
        """The value at a coordinate.

        Raises:
            ValueError: `u` is not in [0, 1].
        """
        return self.nth(_cell_at(u, self._count()))

    def grid(self) -> tuple[Scalar, ...]:
        """The distinct values a grid search visits.

        Raises:
            ValueError: there is no such list, or it is too long to be meant.
        """
        if (n := self._count()) > MAX_GRID:
            raise ValueError(
                f"{n:,} values are too many for a grid; give it `points: 5`, or a larger step, "
                "or list the values."
            )
        return tuple(self.nth(cell) for cell in range(n))

    def sample(self, rng: Random) -> Scalar:
        """A value drawn by the prior; without one uniform, on the domain's scale."""
        return self.from_quantile(rng.random())

    def from_quantile(self, q: float) -> Scalar:
        """The value below which the prior puts a share of `q`; without a prior, `from_unit`.

        Raises:
            ValueError: `q` is not in [0, 1].
        """
        return self.from_unit(self._prior.position(_unit(q)) if self._prior else q)

    def to_quantile(self, value: object) -> float:
        """The inverse: `from_quantile` gives the value again, a continuous one to 9 digits.

        Raises:
            ValueError: the value is not in the domain.
        """
        u = self.to_unit(value)
        return self._prior.quantile(u) if self._prior else u

    @cached_property
    def _prior(self) -> Prior | None:
        return None

    def rank(self, value: object) -> float:
        """Where a value stands when values are compared, as in `when: {depth: ">= 3"}`.

        Numbers stand where they are, in the domain or not; the options of an ordered choice
        stand in their order.

        Raises:
            ValueError: the domain has no order, or no place in it for the value.
        """
        if not self.is_numeric():
            raise ValueError(f"{self} has no order; list the values instead.")
        number = plain(value)
        if sentence := not_a_number(number):
            raise ValueError(sentence)
        assert isinstance(number, int | float)  # noqa: S101 - or there was a sentence
        return float(number)

    def is_numeric(self) -> bool:
        """Whether all of its values are numbers."""
        return True

    @abstractmethod
    def _problems(self) -> Iterable[Problem]:
        """Everything wrong with the fields."""

    @abstractmethod
    def _settled(self) -> dict[str, object]:
        """The fields that construction must still bring into canonical form."""

    @abstractmethod
    def _cell(self, value: object) -> int:
        """The place of a value among the `size` values, or ValueError."""

    def _count(self) -> int:
        if self.size is None:
            raise ValueError(
                "a continuous range has no grid; give it `step: ...`, or `points: 5`, "
                "or list the values."
            )
        return self.size

    def _foreign(self, value: object) -> ValueError:
        return ValueError(f"{flow(value)} is not in {self}.")

    def when(self, **conditions: object) -> Form:
        """The domain, active only where parents have certain values: `when(optimizer="sgd")`."""
        return Form(self).when(**conditions)

    def per(self, count: str, taper: str | Sequence[str] = ()) -> Form:
        """A value of the domain for each of what a parameter counts: `per("depth")`."""
        return Form(self).per(count, taper)

    def because(self, why: str) -> Form:
        """The domain with a word to people."""
        return Form(self).because(why)

    def __str__(self) -> str:
        return self._text

    @cached_property
    def _text(self) -> str:
        return flow(self.to_dict())

    # Compared as JSON, which tells 1, 1.0 and true apart; Python's == does not.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, Domain) and self._identity == other._identity

    def __hash__(self) -> int:
        return hash(self._identity)

    @cached_property
    def _identity(self) -> str:
        return json.dumps(self.to_dict())


class Sampled(Domain):
    """A domain that a sampler draws from: all but `Fixed`."""

    @abstractmethod
    def to_optuna(self) -> BaseDistribution:
        """Optuna's distribution over the same values."""

    @abstractmethod
    def to_skopt(self, name: str | None = None) -> Dimension:
        """scikit-optimize's dimension over the same values."""

    def nearest(self, number: float) -> Scalar:
        """The value that is the nearest to a number, the greater one of two.

        Raises:
            ValueError: the values are not numbers.
        """
        if not self.is_numeric():
            raise ValueError(f"{self} has values that are not numbers.")
        places = {value: self.rank(value) for value in self.grid()}
        # Far outside, all would be equally far in floating point.
        inside = min(max(number, min(places.values())), max(places.values()))
        return min(places, key=lambda value: (abs(places[value] - inside), -places[value]))


@dataclass(frozen=True, eq=False)
class Float(Sampled):
    """A range of floats, both ends included.

    A continuous range gives values of 13 digits (of the value, or of `low` where that is larger).
    Coordinates have 53 bits, about 16 digits, so each such value is found again exactly, and
    people read 0.0316 where full precision would print 0.031600000000000003.

    Args:
        low: The smallest value.
        high: The largest value; with `step`, lowered to the last multiple that fits.
        log: Equal ratios are equally likely, rather than equal differences.
        step: Only `low + k * step`, in decimal arithmetic as Optuna does it: 0.3, not 0.1 + 0.2.
        points: How many values `grid` lists; the range stays continuous.
        prior: Where the user believes that good values lie.
        spread: How sure they are: about two draws in three fall within `prior` plus or minus
            it, or with `log` between `prior` divided and multiplied by it. None is 0.15 of the
            range.
    """

    low: float
    high: float
    log: bool = False
    step: float | None = None
    points: int | None = None
    prior: float | None = None
    spread: float | None = None

    @property
    def size(self) -> int | None:
        """How many steps there are; None without `step`."""
        if self.step is None:
            return None
        return round((self.high - self.low) / self.step) + 1

    def snap(self, value: object) -> float:
        """The nearest step to a value, or the value itself."""
        if self.step is not None:
            return self.nth(self._cell(value))
        number = self._number(value)
        if self.low <= number <= self.high:
            return number
        slack = 1e-12 * max(abs(self.low), abs(self.high))  # Optuna's exp(log(low)) may miss low
        if not self.low - slack <= number <= self.high + slack:
            raise self._foreign(value)
        return min(max(number, self.low), self.high)

    def to_unit(self, value: object) -> float:
        """The place of a value in the range, or the middle of its step."""
        if self.step is not None:
            return super().to_unit(value)
        number = self.snap(value)
        if self.log:
            return min(math.log(number / self.low) / math.log(self.high / self.low), 1.0)
        return min((number - self.low) / (self.high - self.low), 1.0)

    def from_unit(self, u: float) -> float:
        """The value at a place in the range."""
        if self.step is not None:
            return self.nth(_cell_at(u, self._count()))
        u = _unit(u)
        if u in (0.0, 1.0):
            return self.high if u else self.low
        if self.log:
            return self._tidy(self.low * (self.high / self.low) ** u)
        return self._tidy(self.low + u * (self.high - self.low))

    def grid(self) -> tuple[Scalar, ...]:
        """All steps, or `points` values evenly spread in unit coordinates."""
        if self.points is None:
            return super().grid()
        last = self.points - 1
        return tuple(dict.fromkeys(self.from_unit(i / last) for i in range(self.points)))

    def to_optuna(self) -> BaseDistribution:
        """A `FloatDistribution`."""
        from optuna.distributions import FloatDistribution

        return FloatDistribution(self.low, self.high, log=self.log, step=self.step)

    def to_skopt(self, name: str | None = None) -> Dimension:
        """A `Real`; with `step` a `Categorical`, since scikit-optimize knows no steps."""
        from skopt.space import Categorical, Real

        if self.step is not None:
            return Categorical(self.grid(), name=name)
        return Real(self.low, self.high, prior="log-uniform" if self.log else "uniform", name=name)

    def nearest(self, number: float) -> float:
        """The nearest step, or the number itself where it is in the range."""
        inside = min(max(float(number), self.low), self.high)
        if self.step is None:
            return inside
        return self.nth(math.floor((inside - self.low) / self.step + 0.5))

    @property
    def believed(self) -> float | None:
        """The value nearest to the prior, which may lie between two steps."""
        return None if self.prior is None else self.nearest(self.prior)

    def to_dict(self) -> dict[str, object]:
        """`{float: [low, high]}` and the options that are given."""
        options = {
            "log": self.log or None,
            "step": self.step,
            "points": self.points,
            "prior": self.prior,
            "spread": self.spread,
        }
        return {"float": [self.low, self.high], **_given(options)}

    @cached_property
    def _prior(self) -> Prior | None:
        if self.believed is None:
            return None
        width = DEFAULT_SPREAD
        if self.spread is not None and self.log:
            width = math.log(self.spread) / math.log(self.high / self.low)
        elif self.spread is not None:
            width = self.spread / (self.high - self.low + (self.step or 0.0))
        return Bump(self.to_unit(self.believed), width)

    def _tidy(self, value: float) -> float:
        scale = max(abs(value), abs(self.low))
        if scale == 0:
            return 0.0
        tidy = round(value, 12 - math.floor(math.log10(scale)))
        return min(max(tidy, self.low), self.high)

    def _number(self, value: object) -> float:
        number = plain(value)
        if isinstance(number, int | float) and not not_a_number(number):
            return float(number)
        raise self._foreign(value)

    def _cell(self, value: object) -> int:
        place = (self._number(value) - self.low) / (self.step or 1.0)
        cell = round(place)
        if abs(place - cell) < 1e-8 and 0 <= cell < self._count():  # Optuna's own tolerance
            return cell
        raise self._foreign(value)

    def nth(self, place: int) -> float:
        """The step at a place."""
        return multiple(self.low, self.step or 1.0, place)

    def _problems(self) -> Iterable[Problem]:
        return float_problems(self)

    def _settled(self) -> dict[str, object]:
        low, high = float(self.low) + 0.0, float(self.high) + 0.0  # + 0.0 makes -0.0 plain
        step = None if self.step is None else float(self.step)
        if step is not None:
            high = last_multiple(low, high, step)
        prior = None if self.prior is None else min(max(float(self.prior), low), high)
        spread = None if self.spread is None else float(self.spread)
        return {"low": low, "high": high, "step": step, "prior": prior, "spread": spread}


@dataclass(frozen=True, eq=False)
class Int(Sampled):
    """A range of integers, both ends included.

    Args:
        low: The smallest value; with `powers_of`, raised to the first power.
        high: The largest value; lowered to the last multiple of `step`, or the last power.
        log: Equal ratios are equally likely, rather than equal differences.
        step: Only `low + k * step`.
        powers_of: Only the powers of this base that lie in the range.
        points: `grid` lists at most so many of the values, evenly spread (evenly in the
            logarithm with `log`); sampling still draws from all of them.
        prior: Where the user believes that good values lie.
        spread: How sure they are; as in `Float`, and with `powers_of` as with `log`.
    """

    low: int
    high: int
    log: bool = False
    step: int = 1
    powers_of: int | None = None
    points: int | None = None
    prior: int | None = None
    spread: float | None = None

    @property
    def size(self) -> int:
        """How many steps or powers there are."""
        if self.powers_of is not None:
            return len(powers(self.low, self.high, self.powers_of))
        return (self.high - self.low) // self.step + 1

    def to_unit(self, value: object) -> float:
        """The middle of a value's cell; with `log`, where the value itself lies in its cell."""
        if not self.log:
            return super().to_unit(value)
        first, ratio = self._log_edges()
        return math.log(self.nth(self._cell(value)) / first) / math.log(ratio)

    def from_unit(self, u: float) -> int:
        """The value whose cell a coordinate is in."""
        if not self.log:
            return self.nth(_cell_at(u, self.size))
        first, ratio = self._log_edges()
        value = int(first * ratio ** _unit(u) + 0.5)
        return min(max(value, self.low), self.high)

    def grid(self) -> tuple[Scalar, ...]:
        """All values, or about `points` of them."""
        if self.points is None:
            return super().grid()
        places = [i / (self.points - 1) for i in range(self.points)]
        if self.log:
            values = [round(self.low * (self.high / self.low) ** place) for place in places]
        else:
            values = [self.nth(round(place * (self.size - 1))) for place in places]
        return tuple(dict.fromkeys(values))

    def to_optuna(self) -> BaseDistribution:
        """An `IntDistribution`, or a `CategoricalDistribution` of powers."""
        from optuna.distributions import CategoricalDistribution, IntDistribution

        # Optuna has no distribution over powers, so it is told the list, without its order.
        if self.powers_of is not None:
            return CategoricalDistribution(powers(self.low, self.high, self.powers_of))
        return IntDistribution(self.low, self.high, log=self.log, step=self.step)

    def to_skopt(self, name: str | None = None) -> Dimension:
        """An `Integer`; with `step` or `powers_of` a `Categorical`."""
        from skopt.space import Categorical, Integer

        if self.step != 1 or self.powers_of is not None:
            return Categorical(self.grid(), name=name)
        prior = "log-uniform" if self.log else "uniform"
        return Integer(self.low, self.high, prior=prior, name=name)

    def nearest(self, number: float) -> int:
        """The nearest step, or the power nearest in the logarithm."""
        inside = min(max(float(number), self.low), self.high)
        if self.powers_of is not None:
            return self.nth(round(math.log(inside / self.low, self.powers_of)))
        return self.nth(math.floor((inside - self.low) / self.step + 0.5))

    @property
    def believed(self) -> int | None:
        """The value nearest to the prior, which may lie between two steps."""
        return None if self.prior is None else self.nearest(self.prior)

    def to_dict(self) -> dict[str, object]:
        """`{int: [low, high]}` and the options that are given."""
        options = {
            "log": self.log or None,
            "step": self.step if self.step != 1 else None,
            "powers_of": self.powers_of,
            "points": self.points,
            "prior": self.prior,
            "spread": self.spread,
        }
        return {"int": [self.low, self.high], **_given(options)}

    @cached_property
    def _prior(self) -> Prior | None:
        if self.believed is None:
            return None
        width = DEFAULT_SPREAD
        if self.spread is not None and self.log:
            width = math.log(self.spread) / math.log(self._log_edges()[1])
        elif self.spread is not None and self.powers_of is not None:
            width = math.log(self.spread, self.powers_of) / self.size
        elif self.spread is not None:
            width = self.spread / (self.step * self.size)
        return Bump(self.to_unit(self.believed), width)

    def _log_edges(self) -> tuple[float, float]:
        """Where the cell of `low` begins, and where that of `high` ends as a multiple of it."""
        first = self.low - 0.5
        return first, (self.high + 0.5) / first

    def _cell(self, value: object) -> int:
        number = plain(value)
        if type(number) is int and self.low <= number <= self.high:
            if self.powers_of is not None:
                cell = len(powers(self.low, number, self.powers_of)) - 1
            else:
                cell = (number - self.low) // self.step
            if self.nth(cell) == number:
                return cell
        raise self._foreign(value)

    def nth(self, place: int) -> int:
        """The step or power at a place."""
        if self.powers_of is not None:
            return self.low * int(self.powers_of**place)
        return self.low + self.step * place

    def _problems(self) -> Iterable[Problem]:
        return int_problems(self)

    def _settled(self) -> dict[str, object]:
        low, high = self.low, self.high - (self.high - self.low) % self.step
        if self.powers_of is not None:
            low, *_, high = powers(self.low, self.high, self.powers_of)
        prior = None if self.prior is None else min(max(self.prior, low), high)
        spread = None if self.spread is None else float(self.spread)
        return {"low": low, "high": high, "prior": prior, "spread": spread}


@dataclass(frozen=True, eq=False)
class Choice(Sampled):
    """One of a few options, told apart by type and value: `true` is not 1.

    Two options that are equal to Python, such as 1 and true, cannot stand in one choice:
    Optuna's storage finds an option by `==` and would record one for the other.

    Args:
        options: Text, numbers, booleans or None, at least one.
        ordered: The options stand in an order, which models may learn from and conditions may
            compare by.
        prior: The option that the user believes in.
        spread: The share of draws that goes to the other options; None is half of what they
            would have without a prior.
    """

    options: Sequence[Scalar]
    ordered: bool = False
    prior: Scalar = None
    spread: float | None = None

    @property
    def size(self) -> int:
        """How many options there are."""
        return len(self.options)

    def rank(self, value: object) -> float:
        """Where an option stands in the order, or a number among numbers."""
        if self.is_numeric():
            return super().rank(value)
        if self.ordered:
            return float(self._cell(value))
        raise ValueError(f"{self} has no order; say `ordered: true`, or list the values instead.")

    def to_optuna(self) -> BaseDistribution:
        """A `CategoricalDistribution`."""
        from optuna.distributions import CategoricalDistribution

        return CategoricalDistribution(self.options)

    def to_skopt(self, name: str | None = None) -> Dimension:
        """A `Categorical`."""
        from skopt.space import Categorical

        return Categorical(self.options, name=name)

    def to_dict(self) -> dict[str, object]:
        """`{choice: [...]}` and the options that are given."""
        options = {"ordered": self.ordered or None, "prior": self.prior, "spread": self.spread}
        return {"choice": list(self.options), **_given(options)}

    @cached_property
    def _prior(self) -> Prior | None:
        if self.prior is None:
            return None
        return favourite(self._cell(self.prior), self.size, self.spread)

    def is_numeric(self) -> bool:
        """Whether all options are numbers."""
        return all(is_number(option) for option in self.options)

    def _cell(self, value: object) -> int:
        wanted = plain(value)
        for cell, option in enumerate(self.options):
            if type(option) is type(wanted) and option == wanted:
                return cell
        raise self._foreign(value)

    def nth(self, place: int) -> Scalar:
        """The option at a place."""
        return self.options[place]

    def _problems(self) -> Iterable[Problem]:
        return choice_problems(self)

    def _settled(self) -> dict[str, object]:
        spread = None if self.spread is None else float(self.spread)
        return {"options": tuple(map(plain, self.options)), "spread": spread}


def boolean(*, prior: bool | None = None, spread: float | None = None) -> Choice:
    """A choice between false and true."""
    return Choice((False, True), prior=prior, spread=spread)


@dataclass(frozen=True, eq=False)
class Fixed(Domain):
    """One value, part of every configuration and never sampled."""

    value: Scalar

    @property
    def size(self) -> int:
        """How many values there are: one."""
        return 1

    def to_dict(self) -> dict[str, object]:
        """`{fixed: value}`."""
        return {"fixed": self.value}

    def is_numeric(self) -> bool:
        """Whether the value is a number."""
        return is_number(self.value)

    def _cell(self, value: object) -> int:
        wanted = plain(value)
        if type(wanted) is type(self.value) and wanted == self.value:
            return 0
        raise self._foreign(value)

    def nth(self, place: int) -> Scalar:  # noqa: ARG002 (there is only one)
        """The value."""
        return self.value

    def _problems(self) -> Iterable[Problem]:
        sentence = not_a_scalar(self.value)
        return [Problem(("fixed",), sentence)] if sentence else []

    def _settled(self) -> dict[str, object]:
        return {}


@dataclass(frozen=True)
class Form:
    """A domain and what stands beside it, for spaces that are written in Python.

    Args:
        domain: The values.
        beside: `when`, `per`, `taper` and `why`, as in YAML.
    """

    domain: Domain
    beside: Mapping[str, object] = field(default_factory=dict)

    def when(self, **conditions: object) -> Form:
        """The form, active only where parents have certain values; several calls add up."""
        given = self.beside.get("when", {})
        assert isinstance(given, dict)  # noqa: S101 - made here
        return self._with(when={**given, **conditions})

    def per(self, count: str, taper: str | Sequence[str] = ()) -> Form:
        """The form with a value for each that a parameter counts, by a taper rule if given."""
        return self._with(per=count, taper=taper) if taper else self._with(per=count)

    def because(self, why: str) -> Form:
        """The form with a word to people."""
        return self._with(why=why)

    def _with(self, **more: object) -> Form:
        return Form(self.domain, {**self.beside, **more})

    def to_dict(self) -> dict[str, object]:
        """The form in YAML."""
        return {**self.domain.to_dict(), **self.beside}


def _unit(u: float) -> float:
    if not 0 <= u <= 1:
        raise ValueError(f"a coordinate lies between 0 and 1, and {u} does not; clip it first.")
    return float(u)


def _cell_at(u: float, n: int) -> int:
    return min(int(_unit(u) * n), n - 1)


def _given(options: Mapping[str, T | None]) -> dict[str, T]:
    return {name: value for name, value in options.items() if value is not None}
