"""What finished trials tell of a trial's length, and of reports that are not what is returned."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import FrozenTrial

from hpo.pruners.lengths import Lengths
from hpo.pruners.returned import Returned


def trial(last: int, every: int = 1, first: int = 1, **params: Any) -> FrozenTrial:
    """A trial that reported every few steps up to a last one."""
    steps = range(last, first - 1, -every)
    return optuna.trial.create_trial(
        value=0.0,
        params=params,
        distributions={name: CategoricalDistribution([value]) for name, value in params.items()},
        intermediate_values=dict.fromkeys(steps, 0.0),
    )


LONG = [10, 40, 25, 31, 17]
OTHER: dict[str, Any] = {"seed": 3, "rate": 0.1, "name": "a", "is_wide": True, "never": None}


def last_step(finished: Sequence[FrozenTrial], **params: Any) -> float | None:
    return Lengths.told_by(finished).of(trial(3, **params))


@pytest.mark.parametrize("offset", [0, 1])
@pytest.mark.parametrize("ratio", [1, 100])
def test_a_parameter_may_be_the_last_step_or_it_is_a_multiple_of_it(
    ratio: int, offset: int
) -> None:
    finished = [trial(ratio * n - offset, first=1 - offset, n=n, **OTHER) for n in LONG]
    assert last_step(finished, n=70, **OTHER) == 70 * ratio - offset
    assert last_step(finished, **OTHER) is None
    assert last_step(finished, n="many") is None


def test_a_trial_may_report_every_few_steps() -> None:
    finished = [trial(n - n % 4, 4, first=4, n=n) for n in (50, 103, 241)]
    assert last_step(finished, n=80) == 79  # these came as near as 1 to it


def test_a_trial_may_have_given_up_but_none_went_beyond() -> None:
    finished = [trial(n, n=n) for n in (20, 50, 80)]
    assert last_step([*finished, trial(2, n=70)], n=60) == 60
    assert last_step([*finished, trial(72, n=70)], n=60) is None


def test_numbers_that_agree_by_chance_tell_nothing() -> None:
    assert last_step([trial(n, n=n) for n in (20, 50)], n=60) is None
    assert last_step([trial(10 * n, n=n) for n in (1, 2, 3)], n=2) is None
    assert last_step([trial(10 * n, n=n) for n in (1, 2, 1, 2, 2, 1)], n=2) is None


def test_where_most_went_as_far_as_the_longest_all_do() -> None:
    finished = [trial(n) for n in (50, 50, 48, 3, 7)]
    lengths = Lengths.told_by(finished)
    assert (lengths.of(trial(3)), lengths.longest, lengths.are_unknown) == (50, 50, False)
    assert Lengths.told_by([]).of(trial(3)) == 0


def test_it_is_said_to_be_unknown_once_enough_have_finished() -> None:
    finished = [trial(n) for n in LONG]
    assert Lengths.told_by(finished).are_unknown
    few = Lengths.told_by(finished[:4])
    assert few.of(trial(3)) is None
    assert not few.are_unknown


# --- values and reports ---


def test_values_that_are_the_last_reports_agree() -> None:
    same = Returned.of([(0.1, 0.1), (0.3, 0.3 + 1e-15), (None, 5.0), (np.inf, 1.0)])
    assert len(same.pairs) == 2
    assert same.agree
    assert (same.differ, same.are_contrary, same.surplus) == (False, False, 0.0)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        ([1, 2, 3, 4], "neither"),
        ([1, 2, 3, 4, 5], "agree"),
        ([5, 4, 3, 2], "neither"),
        ([5, 4, 3, 2, 1], "contrary"),
        ([4, 5, 3, 2, 1], "neither"),
        ([3, 3, 3, 3, 3], "neither"),
        ([9, 10, 7, 8, 5, 6, 3, 4, 1, 2], "contrary"),
        ([10, 3, 8, 7, 6, 9, 4, 5, 2, 1], "neither"),
        ([5, 1, 10, 3, 8, 2, 7, 9, 4, 6], "agree"),
    ],
)
def test_reports_agree_with_values_as_their_ranks_do(values: list[float], found: str) -> None:
    returned = Returned([(float(v), float(i)) for i, v in enumerate(values)])
    assert returned.agree is (found == "agree")
    assert returned.are_contrary is (found == "contrary")


def test_reports_that_say_nothing_are_seldom_called_contrary() -> None:
    """By chance 1 to 2 of 100; more than 40 of 1000 have odds of less than 1 in 1000."""
    rng = np.random.default_rng(0)
    pairs = [rng.normal(size=(n, 2)).tolist() for n in (5, 8, 12, 17, 30) for _ in range(200)]
    assert sum(Returned(each).are_contrary for each in pairs) <= 40
