"""Each mistake in a domain is named with its value and the next right thing; values are exact."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from hpo.search_spaces import Choice, Domain, Fixed, Float, Int, SpaceError

if TYPE_CHECKING:
    from collections.abc import Callable


def problems(make: Callable[[], Domain]) -> list[tuple[tuple[str | int, ...], str]]:
    with pytest.raises(SpaceError) as caught:
        make()
    return [(problem.path, problem.message) for problem in caught.value.problems]


BAD: list[tuple[Callable[[], Domain], str, str]] = [
    (lambda: Float(1.0, 0.1), "float", "low 1.0 is above high 0.1; swap them: [0.1, 1.0]."),
    (lambda: Int(8, 2), "int", "low 8 is above high 2; swap them: [2, 8]."),
    (
        lambda: Float(0.1, 0.1),
        "float",
        "low and high are both 0.1; write the scalar instead: 0.1.",
    ),
    (lambda: Int(3, 3), "int", "low and high are both 3; write the scalar instead: 3."),
    (
        lambda: Float(0, 1, log=True),
        "float",
        "a log range cannot start at 0; start at a small positive number such as 1e-5.",
    ),
    (
        lambda: Float(1e-40, 1e30, log=True),
        "float",
        "[1e-40, 1e+30] spans more than 60 powers of ten; start higher, such as at 1e+20.",
    ),
    (
        lambda: Int(0, 8, log=True),
        "int",
        "a log range cannot start at 0; start at a positive integer such as 1.",
    ),
    (
        lambda: Float(0.1, 1, log=True, step=0.1),
        "step",
        "`step` and `log` exclude each other; drop `step`, or give `points: 5`.",
    ),
    (
        lambda: Int(1, 9, log=True, step=2),
        "step",
        "`step` and `log` exclude each other; drop one of them.",
    ),
    (lambda: Float(0, 1, step=-0.5), "step", "step -0.5 is not above 0; give one such as 0.1."),
    (lambda: Int(0, 9, step=0), "step", "step 0 is below 1; give 1."),
    (
        lambda: Float(0, 1, step=2),
        "step",
        "step 2 does not fit in [0, 1]; take at most 1.0.",
    ),
    (lambda: Int(0, 4, step=5), "step", "step 5 does not fit in [0, 4]; take at most 4."),
    (
        lambda: Float(0, 1, step=1e-9),
        "step",
        "step 1e-09 is too fine for numbers as large as 1.0; take at least 1e-07, or drop it.",
    ),
    (
        lambda: Float(1e-20, 1, step=0.1),
        "float",
        "1e-20 plus multiples of 0.1 takes more digits than a float has; round the lower bound.",
    ),
    (lambda: Float(_any("1e-4"), 1), "float", '"1e-4" is text; remove the quotes: 1e-4.'),
    (lambda: Float(_any("low"), 1), "float", "low is not a number; give one such as 0.1."),
    (lambda: Float(_any([0]), 1), "float", "[0] is not a number; give one such as 0.1."),
    (
        lambda: Float(0, _any(True)),
        "float",
        "true is not a number; a search over yes and no is [true, false].",
    ),
    (
        lambda: Float(0, float("nan")),
        "float",
        "nan is not a finite number within 1e300; give one such as 1e6.",
    ),
    (
        lambda: Float(0, float("inf")),
        "float",
        "inf is not a finite number within 1e300; give one such as 1e6.",
    ),
    (lambda: Int(1, _any(32.0)), "int", "32.0 is a float; write 32."),
    (
        lambda: Int(1, _any(1.5)),
        "int",
        "1.5 is not a whole number; round it, or search a `float` range.",
    ),
    (
        lambda: Int(0, 2**41),
        "int",
        "2199023255552 is beyond 2**40; search its logarithm as a `float` range instead.",
    ),
    (lambda: Float(0, 1, log=_any("yes")), "log", 'log is true or false, not "yes".'),
    (
        lambda: Float(0, 1, points=1),
        "points",
        "points 1 is not between 2 and 100000; give one such as 5.",
    ),
    (
        lambda: Float(0, 1, step=0.1, points=3),
        "points",
        "`step` makes a grid already; drop `points`.",
    ),
    (
        lambda: Int(1, 64, powers_of=2, points=3),
        "points",
        "`powers_of` makes a grid already; drop `points`.",
    ),
    (lambda: Int(1, 64, powers_of=1), "powers_of", "powers_of 1 is below 2; give 2."),
    (
        lambda: Int(33, 63, powers_of=2),
        "powers_of",
        "no power of 2 lies in [33, 63]; the nearest: 32 and 64.",
    ),
    (
        lambda: Int(-9, 0, powers_of=2),
        "powers_of",
        "no power of 2 lies in [-9, 0]; the nearest: 1.",
    ),
    (
        lambda: Int(20, 40, powers_of=2),
        "powers_of",
        "only one power of 2 lies in [20, 40]; write the scalar: 32.",
    ),
    (
        lambda: Int(1, 64, log=True, powers_of=2),
        "powers_of",
        "`powers_of` says which values there are; drop `log` and `step` beside it.",
    ),
    (lambda: Choice(()), "choice", "the choice is empty; give it at least one option."),
    (lambda: Choice(_any("sgd")), "choice", "a choice is a list of options; write [sgd]."),
    (lambda: Choice(("a", "b", "a")), "choice", "a is listed twice; keep one."),
    (
        lambda: Choice((1, True)),
        "choice",
        (
            "1 and true are equal to Python, and Optuna's storage would mix them up; "
            'keep one, or write one as text: "true".'
        ),
    ),
    (
        lambda: Choice((_any([1, 2]), 3)),
        "choice",
        (
            "[1, 2] is a list; an option is text, a number, true, false or null. Write "
            '"1, 2", and split it in a function of your own, which may return an estimator, '
            "too."
        ),
    ),
    (
        lambda: Choice((float("inf"), 3)),
        "choice",
        "inf is not finite; write null or a large number.",
    ),
    (
        lambda: Float(0, 1, prior=2),
        "prior",
        "2 is not in [0, 1]; move it, or widen the range.",
    ),
    (
        lambda: Int(0, 9, prior=_any(2.5)),
        "prior",
        "2.5 is not a whole number; round it, or search a `float` range.",
    ),
    (
        lambda: Float(0, 1, prior=_any("0.5")),
        "prior",
        '"0.5" is text; remove the quotes: 0.5.',
    ),
    (
        lambda: Float(0, 1, spread=0.1),
        "spread",
        "`spread` belongs to a `prior`; give one, or drop it.",
    ),
    (
        lambda: Float(0, 1, prior=0.5, spread=0),
        "spread",
        "spread 0 is not above 0; give one such as 0.1.",
    ),
    (
        lambda: Float(0.1, 1, log=True, prior=0.5, spread=1),
        "spread",
        "spread 1 is not above 1: on this scale it is a factor; give one such as 10.",
    ),
    (
        lambda: Int(1, 64, powers_of=2, prior=8, spread=0.5),
        "spread",
        "spread 0.5 is not above 1: on this scale it is a factor; give one such as 10.",
    ),
    (
        lambda: Choice(("sgd", "adam"), prior="sdg"),
        "prior",
        "sdg is not among [sgd, adam]; take one of them.",
    ),
    (
        lambda: Choice((1, 2), prior=_any(1.0)),
        "prior",
        "1.0 is not among [1, 2]; take one of them.",
    ),
    (
        lambda: Choice((1, 2), prior=1, spread=1),
        "spread",
        (
            "spread 1 is not between 0.001 and 0.999: it is the share of draws that goes to the "
            "other options; give one such as 0.3."
        ),
    ),
    (
        lambda: Choice((1, 2), spread=0.5),
        "spread",
        "`spread` belongs to a `prior`; give one, or drop it.",
    ),
    (lambda: Choice((1, 2), ordered=_any(1)), "ordered", "ordered is true or false, not 1."),
    (
        lambda: Fixed(_any({"a": 1})),
        "fixed",
        "{a: 1} is a dict; write text in quotes, a number, true, false or null.",
    ),
]


def _any(value: object) -> Any:
    """A value of a type that the annotations forbid."""
    return value


@pytest.mark.parametrize(("make", "key", "message"), BAD)
def test_a_mistake_says_the_value_and_the_next_right_thing(
    make: Callable[[], Domain], key: str, message: str
) -> None:
    assert problems(make) == [((key,), message)]


def test_all_mistakes_of_a_domain_are_told_at_once() -> None:
    found = problems(lambda: Int(_any("1"), 8, log=_any(1), step=0, powers_of=0, points=1))
    assert [path for path, _ in found] == [
        ("int",),
        ("log",),
        ("points",),
        ("points",),
        ("step",),
        ("powers_of",),
        ("powers_of",),
    ]


def test_a_space_error_is_a_value_error_with_a_line_for_each_problem() -> None:
    with pytest.raises(ValueError, match=r"^float: low 2 is above high 1.*\nlog: log is true"):
        Float(2, 1, log=_any(None))


def test_decimal_steps_are_the_numbers_people_write() -> None:
    domain = Float(0.0, 0.7, step=0.1)
    assert domain.grid() == (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7)
    assert domain.size == 8
    assert domain.snap(0.1 + 0.2) == 0.3
    assert not domain.contains(0.35)


def test_a_range_ends_at_the_last_step_that_fits() -> None:
    assert Float(0, 1, step=0.3).high == 0.9
    assert Int(1, 10, step=4).high == 9
    assert Int(30, 300, powers_of=2) == Int(32, 256, powers_of=2)


def test_powers() -> None:
    assert Int(0, 100, powers_of=10).grid() == (1, 10, 100)
    assert Int(32, 256, powers_of=2).grid() == (32, 64, 128, 256)
    assert not Int(32, 256, powers_of=2).contains(48)


def test_points_list_a_continuous_range_evenly_and_it_stays_continuous() -> None:
    assert Float(1e-4, 1, log=True, points=5).grid() == (0.0001, 0.001, 0.01, 0.1, 1.0)
    assert Float(0.1, 0.5, points=5).grid() == (0.1, 0.2, 0.3, 0.4, 0.5)
    assert Float(0, 1, points=5).size is None
    assert Int(0, 1000, points=5).grid() == (0, 250, 500, 750, 1000)
    assert Int(1, 100, log=True, points=3).grid() == (1, 10, 100)
    assert Int(1, 4, points=9).grid() == (1, 2, 3, 4)


def test_a_range_without_a_grid_says_how_to_get_one() -> None:
    with pytest.raises(ValueError, match=r"continuous range has no grid; .*`points: 5`"):
        Float(0, 1).grid()
    with pytest.raises(ValueError, match=r"^1,000,001 values are too many .*`points: 5`"):
        Int(0, 1_000_000).grid()


def test_a_coordinate_outside_the_unit_interval_is_refused() -> None:
    for domain in (Float(0, 1), Float(0, 1, step=0.5), Int(0, 3), Int(1, 3, log=True)):
        for u in (-0.1, 1.1, float("nan")):
            with pytest.raises(ValueError, match="clip it first"):
                domain.from_unit(u)


def test_values_are_told_apart_by_type() -> None:
    assert Choice((1, 2)) != Choice((True, 2))
    assert Fixed(1) != Fixed(1.0)
    assert Fixed(None).contains(None)
    assert not Choice((1, 2)).contains(True)
    assert not Choice((0.0, 1.0)).contains(1)
    assert not Int(0, 3).contains(1.0)
    assert not Int(0, 3).contains(True)
    assert not Float(0, 3).contains(True)
    assert Float(0, 3).contains(1)
    assert len({Choice((1,)), Choice((True,)), Choice((1.0,)), Choice(("1",))}) == 4


def test_numpy_scalars_become_pythons_own() -> None:
    for value in (Int(0, 3).snap(np.int64(2)), Choice((1, 2)).snap(np.int64(2))):
        assert value == 2
        assert type(value) is int
    assert type(Float(0, 3).snap(np.float32(0.5))) is float
    assert Choice((True, False)).snap(np.True_) is True


def test_a_foreign_value_is_named_with_the_domain() -> None:
    with pytest.raises(ValueError, match=r"^7 is not in \{int: \[1, 4\]\}\.$"):
        Int(1, 4).snap(7)
    with pytest.raises(ValueError, match=r"^adam is not in \{choice: \[sgd\]\}\.$"):
        Choice(("sgd",)).to_unit("adam")
    with pytest.raises(ValueError, match=r"is not in \{float: \[0.0, 1.0\]\}\.$"):
        Float(0, 1).snap(1.1)
    with pytest.raises(ValueError, match=r"^2 is not in \{fixed: 1\}\.$"):
        Fixed(1).snap(2)


def test_fixed_is_never_sampled() -> None:
    assert Fixed("x").size == 1
    assert Fixed("x").grid() == ("x",)
    assert Fixed("x").from_unit(0.3) == "x"
    assert not hasattr(Fixed("x"), "to_optuna")


def test_a_log_range_gives_equal_ratios_equal_room() -> None:
    assert Float(1e-4, 1, log=True).from_unit(0.25) == pytest.approx(1e-3)
    assert Int(1, 1000, log=True).from_unit(0.5) < 100
    assert Int(1, 1000, log=False).from_unit(0.5) == 501


def test_the_nearest_value_stays_in_the_domain_however_far_the_number() -> None:
    for domain in (Choice((16, 256, 64)), Int(16, 256, powers_of=2), Float(16, 256, step=16)):
        assert domain.nearest(1e308) == domain.nearest(float("inf")) == 256
        assert domain.nearest(-1e308) == 16
    with pytest.raises(
        ValueError, match=r"^\{choice: \[a, b\]\} has values that are not numbers\.$"
    ):
        Choice(("a", "b")).nearest(1)


def test_an_order_is_told_or_missed() -> None:
    sizes = Choice(("s", "m", "l"), ordered=True)
    assert [sizes.rank(option) for option in sizes.options] == [0, 1, 2]
    assert Choice((64, 8), ordered=True).rank(8) == 8  # numbers have an order of their own
    assert Float(0, 1).rank(7) == 7  # bounds need not be in the domain
    with pytest.raises(
        ValueError, match=r"^xl is not in \{choice: \[s, m, l\], ordered: true\}\.$"
    ):
        sizes.rank("xl")
    with pytest.raises(ValueError, match=r"\[a, b\]\} has no order; say `ordered: true`, or list"):
        Choice(("a", "b")).rank("a")
    with pytest.raises(ValueError, match=r"^\{fixed: a\} has no order; list the values instead\.$"):
        Fixed("a").rank("a")


def test_a_prior_outside_what_a_range_was_cut_to_is_moved_in() -> None:
    assert Float(0, 1, step=0.3, prior=0.95).prior == 0.9
    assert Int(30, 300, powers_of=2, prior=290).prior == 256
    assert Int(30, 300, powers_of=2, prior=31).prior == 32
    assert Int(1, 10, step=4, prior=10).prior == 9


def test_fields_may_be_numpys() -> None:
    one, nine, two = (_any(np.int64(n)) for n in (1, 9, 2))
    assert Int(one, nine, step=two) == Int(1, 9, step=2)
    assert Float(_any(np.float32(0.5)), np.float64(2.0)) == Float(0.5, 2.0)
    assert Choice((one, np.str_("a")), prior=one) == Choice((1, "a"), prior=1)
    assert Fixed(_any(np.bool_(True))) == Fixed(True)
    assert type(Fixed(np.float64(0.5)).value) is float


def test_enumerations_of_text_are_their_text() -> None:
    class Optimizer(str, enum.Enum):  # noqa: UP042 - whose str() is its name
        SGD = "sgd"

    assert Choice((Optimizer.SGD, "adam")) == Choice(("sgd", "adam"))
    assert Choice(("sgd", "adam")).snap(Optimizer.SGD) == "sgd"


def test_the_default_prior_of_a_choice_doubts_itself() -> None:
    # Without a prior the others have (n - 1)/n of the draws; with one, half of that.
    for n in (2, 3, 10):
        domain = Choice(tuple(range(n)), prior=0)
        draws = [domain.from_quantile((i + 0.5) / 1000) for i in range(1000)]
        assert draws.count(0) / 1000 == pytest.approx(1 - (n - 1) / n / 2, abs=2e-3)
    assert Choice((1,), prior=1).from_quantile(0.7) == 1
