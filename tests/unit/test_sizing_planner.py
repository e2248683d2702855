"""Which size is trained at next."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.curves import data_needs
from hpo.sizing.fits import Fit
from hpo.sizing.planner import Planner, ladder, seconds_by_size


def _fit(size: int, seed: int, seconds: float = 1.0) -> Fit:
    return Fit(size, seed, {"val_error": size**-0.5 * (1 + 0.1 * seed)}, seconds)


def _needs(fits: list[Fit], target: float | None) -> object:
    errors = [fit.metrics["val_error"] for fit in fits]
    return data_needs([fit.size for fit in fits], errors, target)


def _run(planner: Planner, seconds: float = 1e9, target: float | None = 0.01) -> list[Fit]:
    """All fits that are planned, each of a second for 100 examples."""
    fits: list[Fit] = []
    while True:
        needs = _needs(fits, target) if len({fit.size for fit in fits}) > 1 else None
        spent = sum(fit.seconds for fit in fits)
        place = planner.next(fits, [], seconds - spent, needs)  # type: ignore[arg-type]
        if place is None:
            return fits
        fits.append(_fit(*place, seconds=place[0] / 100))


@given(n=st.integers(2, 10**7), classes=st.integers(0, 50))
def test_a_ladder_ends_with_all_of_the_data(n: int, classes: int) -> None:
    sizes = ladder(n, classes)
    assert sizes == sorted(set(sizes))
    assert sizes[-1] == n
    assert sizes[0] >= min(n, 2)
    if n > 100:
        assert sizes[0] >= max(10, min(n, classes), n // 64)


def test_first_come_a_few_sizes_each_with_two_seeds_the_smallest_first() -> None:
    fits = _run(Planner(6400, seeds=3))
    assert [(fit.size, fit.seed) for fit in fits[:8]] == [
        (size, seed) for seed in (0, 1) for size in (100, 400, 1600, 6400)
    ]


def test_then_every_size_gets_all_its_seeds() -> None:
    planner = Planner(6400, seeds=3)
    fits = _run(planner)
    assert len(fits) == planner.n_fits == 3 * len(ladder(6400))
    assert len({(fit.size, fit.seed) for fit in fits}) == len(fits)


@pytest.mark.parametrize(
    ("start", "each", "where"),
    [
        (0.0, 0.01, range(101, 700)),
        (20.0, 0.01, range(500, 1700)),  # what costs little more may as well be larger
        (60.0, 0.0, range(700, 6401)),
    ],
)
def test_after_the_first_sizes_it_goes_where_a_second_tells_most(
    start: float, each: float, where: range
) -> None:
    """All sizes are open; errors are 0.02 + 2 / sqrt(n), 5% more or less."""
    planner, fits = Planner(6400), []
    for seed, strays in enumerate([(1.05, 0.95, 0.95, 1.05), (0.95, 1.05, 1.05, 0.95)]):
        for size, stray in zip((100, 400, 1600, 6400), strays, strict=True):
            error = (0.02 + 2 * size**-0.5) * stray
            fits.append(Fit(size, seed, {"val_error": error}, start + each * size))
    needs = data_needs([fit.size for fit in fits], [fit.metrics["val_error"] for fit in fits], 0.03)

    place = planner.next(fits, [], 1e9, needs)

    sizes = ladder(6400)
    per_second = needs.information(sizes) / [start + each * size for size in sizes]
    assert place is not None
    assert place[0] == sizes[int(np.argmax(per_second))]
    assert place[0] in where


def test_without_a_target_it_goes_on_all_the_same() -> None:
    planner = Planner(640, seeds=2)
    assert len(_run(planner, target=None)) == planner.n_fits


def test_sizes_given_by_hand_are_measured_all_and_no_others() -> None:
    fits = _run(Planner(6400, seeds=2, sizes=[500, 50]))
    assert [(fit.size, fit.seed) for fit in fits] == [(50, 0), (500, 0), (50, 1), (500, 1)]


def test_nothing_is_started_that_would_not_end_in_time() -> None:
    fits = _run(Planner(6400, seeds=3), seconds=70)
    assert sum(fit.seconds for fit in fits) <= 70
    assert max(fit.size for fit in fits) < 6400
    assert len(fits) > 8


def test_what_runs_or_has_failed_is_not_planned_again() -> None:
    planner = Planner(100, seeds=1, sizes=[10, 100])
    assert planner.next([], [(10, 0)], 1e9, None) == (100, 0)
    assert planner.next([_fit(10, 0)], [(100, 0)], 1e9, None) is None


def test_seconds_are_a_constant_and_a_share_of_the_size() -> None:
    cost = seconds_by_size([_fit(n, 0, seconds=2.0 + 0.01 * n) for n in (10, 100, 1000)])
    assert cost is not None
    assert abs(cost[0] - 2.0) < 1e-6
    assert abs(cost[1] - 0.01) < 1e-8
    assert seconds_by_size([]) is None
    assert seconds_by_size([_fit(10, 0, seconds=1.0)]) == (0.0, 0.1)
