"""What better means: constraints by how much they are missed, ranks by who dominates whom."""

from __future__ import annotations

import itertools
import random

import optuna
import pytest

from hpo.aims import Aims
from hpo.requirements import checked
from hpo.tracking import _tags
from hpo.trial import METRICS, TrialRecord


def record(number: int, metrics: dict[str, float], aims: Aims) -> TrialRecord:
    trial = optuna.trial.create_trial(
        values=[metrics[name] for name in aims.metrics], user_attrs={METRICS: metrics}
    )
    trial.number = number
    return aims.read(trial)


@pytest.mark.parametrize(
    ("requirement", "value", "excess"),
    [
        ("<= 5", 6.0, 0.2),
        ("<= 5", 5.0, 0.0),
        ("<= 5", 4.0, -0.2),
        (">= 0.5", 0.25, 0.5),
        (">= -2", -3.0, 0.5),
        ("<= 0", 3.0, 3.0),  # a share of nothing is none: in the metric's own unit
    ],
)
def test_the_excess_of_a_value_is_its_share_of_the_threshold(
    requirement: str, value: float, excess: float
) -> None:
    (check,) = checked({"m": requirement}, {"m": value})
    assert check.excess == pytest.approx(excess)
    assert check.passed == (excess <= 0)


def test_a_strict_requirement_is_missed_where_the_value_is_the_threshold() -> None:
    (check,) = checked({"m": "< 5"}, {"m": 5.0})
    assert not check.passed
    assert 0 < check.excess < 1e-6  # Optuna takes what is not above 0 as kept


def test_a_metric_that_is_not_there_is_missed_by_the_most() -> None:
    near, far, none = (
        checked({"m": "<= 5"}, metrics)[0] for metrics in ({"m": 6.0}, {"m": 1e9}, {})
    )
    assert near.excess < far.excess < none.excess


def test_infeasible_trials_follow_the_feasible_by_what_they_miss_in_all() -> None:
    aims = Aims(("loss",), ("minimize",), {"a": "<= 10", "b": ">= 1"})
    metrics = [
        {"loss": 0.0, "a": 12.0, "b": 0.5},  # 0.2 + 0.5
        {"loss": 3.0, "a": 10.0, "b": 1.0},
        {"loss": 1.0, "a": 16.0, "b": 9.0},  # 0.6: what b has to spare does not help
        {"loss": 2.0, "a": 1.0, "b": 2.0},
        {"loss": -1.0, "a": 1.0},
    ]
    trials = [record(number, values, aims) for number, values in enumerate(metrics)]

    ranked = aims.ranked(trials)

    assert [t.number for t in ranked] == [3, 1, 2, 0, 4]
    assert [t.rank for t in ranked] == [1, 2, None, None, None]
    assert trials[0].why == "violates a <= 10 (12), b >= 1 (0.5)"
    assert trials[1].why == ""


def test_mlflow_is_told_what_is_feasible_where_there_are_constraints() -> None:
    aims = Aims(("loss",), ("minimize",), {"a": "<= 10"})
    kept, broken = (record(0, {"loss": 0.0, "a": a}, aims) for a in (10.0, 11.0))
    free = record(0, {"loss": 0.0}, Aims(("loss",), ("minimize",), {}))

    assert _tags(kept)["hpo.feasible"] == "true"
    assert _tags(broken)["hpo.feasible"] == "false"
    assert "hpo.feasible" not in _tags(free)


def test_ranks_are_those_of_repeatedly_taking_away_the_front() -> None:
    """Compared with all pairs, for three metrics with many ties."""
    aims = Aims(("a", "b", "c"), ("minimize", "maximize", "minimize"), {})
    rng = random.Random(0)
    trials = [record(n, {m: float(rng.randrange(5)) for m in "abc"}, aims) for n in range(60)]

    expected: dict[int, int] = {}
    left = list(trials)
    for rank in itertools.count(1):
        front = [t for t in left if not any(aims.dominates(other, t) for other in left)]
        expected |= {t.number: rank for t in front}
        left = [t for t in left if t not in front]
        if not left:
            break

    ranked = aims.ranked(trials)
    assert {t.number: t.rank for t in ranked} == expected
    assert max(expected.values()) > 3


def test_the_best_so_far_is_the_first_of_the_front_in_any_order() -> None:
    """What the loop keeps, trial by trial, is what reading the study gives."""
    aims = Aims(("a", "b"), ("minimize", "maximize"), {"size": "<= 2"})
    rng = random.Random(1)
    for _ in range(50):
        best, trials = None, []
        for number in range(12):
            values = {name: float(rng.randrange(3)) for name in ("a", "b")}
            trial = record(number, {**values, "size": float(rng.randrange(5))}, aims)
            best = trial if aims.beats(trial, best) else best
            trials.append(trial)
        first = aims.ranked(trials)[0]
        assert (best.number if best else None) == (first.number if first.feasible else None)


def test_the_hypervolume_of_boxes_is_their_union() -> None:
    aims = Aims(("a", "b"), ("minimize", "maximize"), {"size": "<= 2"})
    metrics = [
        {"a": 1.0, "b": 3.0, "size": 1.0},
        {"a": 2.0, "b": 4.0, "size": 1.0},
        {"a": 0.0, "b": 9.0, "size": 3.0},  # infeasible
        {"a": 5.0, "b": 0.0, "size": 1.0},  # the worst in both
    ]
    ranked = aims.ranked([record(number, values, aims) for number, values in enumerate(metrics)])
    # Boxes of 4 x 3 and 3 x 4 up to (5, 0), which overlap in 3 x 3.
    assert aims.hypervolume(ranked) == 4 * 3 + 3 * 4 - 3 * 3
    assert Aims(("a",), ("minimize",), {}).hypervolume(ranked) is None
