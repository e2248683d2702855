"""When a forecast condemns a trial, and how audits make the rule more careful."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from hpo.directions import Direction
from hpo.pruners import Decision, ForecastPruner, ForecastRule, Past, is_audited, is_due
from hpo.pruners.decisions import THRESHOLD

HORIZON = 50


def falling(to: float, at: float = 4.0, noise: float = 0.0) -> np.ndarray:
    """A loss that falls from 1 to a value, most of it within some epochs."""
    steps = np.arange(1, HORIZON + 1)
    wiggle = noise * np.sin(12.9898 * steps) * np.cos(78.233 * steps)
    return np.asarray(to + (1 - to) * np.exp(-steps / at) + wiggle)


FINISHED = [falling(to, at, 0.002) for to, at in ((0.1, 3), (0.3, 5), (0.5, 4), (0.2, 6), (0.4, 3))]
PAST = Past(len(FINISHED), 0.1, FINISHED)
HOPELESS = falling(0.8, 3, 0.002)[:25]
PROMISING = falling(0.02, 3, 0.002)[:25]

DECISION = Decision(
    step=7.0,
    horizon=50.0,
    probability=0.008,
    mean=0.048,
    std=0.01,
    median=0.047,
    low=0.036,
    high=0.071,
    incumbent=0.0213,
    tolerance=0.0,
    threshold=0.05,
)


def only(rule: ForecastRule, curve: Any, horizon: float = HORIZON, past: Past = PAST) -> Decision:
    (decision,) = rule.decide([curve], horizon, past)
    assert decision is not None
    return decision


def turned(direction: Direction, curve: np.ndarray) -> np.ndarray:
    """A loss as it is, or the score that is its negative."""
    return curve if direction == "minimize" else -curve


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_a_hopeless_trial_is_condemned_and_a_promising_one_is_not(direction: Direction) -> None:
    history = [turned(direction, curve) for curve in FINISHED]
    past = Past(5, float(turned(direction, np.array(0.1))), history)
    rule = ForecastRule(direction)

    hopeless = only(rule, turned(direction, HOPELESS), past=past)
    promising = only(rule, turned(direction, PROMISING), past=past)

    assert hopeless.condemns
    assert not promising.condemns
    assert hopeless.probability < promising.probability
    assert hopeless.low < hopeless.mean < hopeless.high
    assert hopeless.std > 0
    assert (hopeless.step, hopeless.horizon, hopeless.incumbent) == (25, 50, past.incumbent)


@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-math.inf, 1.0)])
def test_what_rounding_has_carried_beyond_a_bound_lies_on_it(bounds: tuple[float, float]) -> None:
    rule = ForecastRule("maximize", bounds=bounds)
    within = [np.minimum(1.1 - curve, 1.0) for curve in FINISHED]  # the best comes near 1
    within[0][-5:] = 1.0
    beyond = [curve.copy() for curve in within]
    beyond[0][-5:] += 1e-7
    seen = 0.6 - HOPELESS / 2

    inside, outside = (only(rule, seen, past=Past(5, 1.0, each)) for each in (within, beyond))
    lost = only(rule, seen, past=Past(5, 1.0, [*within[1:], within[0] + 0.2]))

    assert outside == inside
    assert inside.probability == 0  # nothing is better than 1
    assert lost.probability > 0  # where values are beyond, no bounds are known


def test_the_threshold_is_what_a_probability_has_to_reach() -> None:
    """Half of it, with half of the steps left."""
    likely = only(ForecastRule("minimize", threshold=1e-6), HOPELESS).probability
    assert likely > 1e-6
    assert only(ForecastRule("minimize", threshold=2 * likely * 1.01), HOPELESS).condemns
    assert not only(ForecastRule("minimize", threshold=2 * likely * 0.99), HOPELESS).condemns


def judged(finished: Sequence[np.ndarray], direction: Direction = "minimize") -> Decision:
    """A hopeless trial at epoch 25, where it is 0.7 from the incumbent, after these.

    Half of its epochs are left, and so half of the threshold, 0.1.
    """
    history = [turned(direction, curve) for curve in finished]
    past = Past(len(history), float(turned(direction, np.array(0.1))), history)
    rule = ForecastRule(direction, threshold=0.2, startup_trials=0)
    return only(rule, turned(direction, HOPELESS), past=past)


def dropping(at: int, to: float, n: int = HORIZON) -> np.ndarray:
    """0.9 until it is something else."""
    return np.where(np.arange(n) < at, 0.9, to)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize(
    "finished",
    [
        dropping(20, 0.5),  # before
        dropping(30, 0.7),  # too little
        np.where(np.arange(HORIZON) < 30, 0.9, np.nan),
        np.where(np.arange(HORIZON) < 30, 0.9, np.inf),
    ],
)
def test_the_threshold_holds_where_finished_trials_gained_less_than_a_third(
    finished: np.ndarray, direction: Direction
) -> None:
    decision = judged([*FINISHED, finished], direction)

    assert decision.threshold == 0.1
    assert decision.needed == pytest.approx(0.7, abs=0.01)
    assert decision.n_compared == 6
    assert 3 * decision.gained < decision.needed
    assert re.search(
        r"\); the threshold is 10%: 50% of its steps are left, it has to gain 0\.[67]\d*, and 6 "
        r"finished trials gained 0\.\d+ at most from there$",
        decision.sentence("epoch"),
    )


@pytest.mark.parametrize("first", [0, 1])
def test_the_threshold_falls_with_the_share_of_the_steps_that_is_left(first: int) -> None:
    """What stopping saves falls, and what may be lost does not."""
    steps = np.arange(first, HORIZON + first)
    history = [(steps, curve) for curve in FINISHED]
    flat, seen = np.full(HORIZON, 0.9), [1, 10, 25, 40]

    decisions = ForecastRule("minimize", threshold=0.1).decide(
        [(steps[:n], flat[:n]) for n in seen], HORIZON + first - 1, Past(5, -9.0, history)
    )

    for n, decision in zip(seen, decisions, strict=True):
        assert decision is not None
        assert decision.threshold == pytest.approx(0.1 * (1 - n / HORIZON))
        assert f"%: {1 - n / HORIZON:.0%} of its steps are left, " in decision.sentence("epoch")


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("finished", [dropping(30, 0.6), dropping(60, 0.6, 2 * HORIZON)])
def test_less_of_it_holds_where_one_gained_more_from_that_share_on(
    finished: np.ndarray, direction: Direction
) -> None:
    """By the fifth power of what is needed in threes of what was gained."""
    decision = judged([*FINISHED, finished], direction)

    assert decision.gained == pytest.approx(0.3, abs=0.01)
    expected = 0.1 * (decision.needed / (3 * decision.gained)) ** 5
    assert 0.02 < expected < 0.04
    assert decision.threshold == pytest.approx(expected)
    assert "finished trials gained 0.3" in decision.sentence("epoch")


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("to", [0.3, 0.05])
def test_a_hundredth_of_it_holds_where_one_gained_much_of_what_is_needed_or_all(
    to: float, direction: Direction
) -> None:
    decision = judged([*FINISHED, dropping(30, to)], direction)

    assert decision.gained == pytest.approx(0.9 - to, abs=0.01)
    assert decision.threshold == pytest.approx(0.001)
    assert decision.sentence("epoch").endswith(")")


def test_few_trials_or_those_that_reported_later_do_not_tell_what_may_be_gained() -> None:
    assert judged(FINISHED[:2]).threshold == pytest.approx(0.001)
    assert judged(FINISHED[:3]).threshold == 0.1
    ends = [(np.array([30.0, 50.0]), curve[[29, 49]]) for curve in FINISHED]
    (decision,) = ForecastRule("minimize", threshold=0.2).decide(
        [HOPELESS], HORIZON, Past(5, 0.1, ends)
    )
    assert decision is not None
    assert decision.threshold == pytest.approx(0.001)
    assert decision.n_compared == 0


def test_how_gains_are_rounded_changes_little() -> None:
    """Errors of 360 examples: 6 to go, of which another trial gained 2."""
    for wrong in range(8, 60):
        third = np.array([wrong, wrong, wrong - 2]) / 360
        past = Past(3, (wrong - 6) / 360, [third] * 3)
        decision = only(ForecastRule("minimize"), [wrong / 360], horizon=3, past=past)
        assert decision.threshold == pytest.approx(THRESHOLD * 2 / 3), wrong


def test_where_nothing_was_gained_a_trial_that_ties_is_stopped_rather_than_one_that_is_ahead() -> (
    None
):
    rule, flat = ForecastRule("minimize", threshold=0.2), np.full(HORIZON, 0.5)
    past = Past(3, 0.5, [flat] * 3)
    assert only(rule, flat[:25], past=past).threshold == 0.1
    assert only(rule, flat[:25] - 0.1, past=past).threshold == pytest.approx(0.001)


def test_an_improvement_has_to_exceed_the_tolerance() -> None:
    without = only(ForecastRule("minimize"), PROMISING)
    with_it = only(ForecastRule("minimize", tolerance=0.09), PROMISING)

    assert with_it.probability < without.probability
    assert with_it.tolerance == 0.09
    assert not with_it.beats_incumbent(0.05, "minimize")
    assert with_it.beats_incumbent(0.005, "minimize")
    assert without.beats_incumbent(0.05, "minimize")
    assert not without.beats_incumbent(0.05, "maximize")


@pytest.mark.parametrize(
    ("rule", "past", "n"),
    [
        (ForecastRule("minimize", startup_trials=6), PAST, 25),
        (ForecastRule("minimize"), replace(PAST, incumbent=None), 25),
        (ForecastRule("minimize", startup_trials=0), Past(0, None), 25),
        (ForecastRule("minimize", min_steps=26), PAST, 25),
        (ForecastRule("minimize"), PAST, 46),
        (ForecastRule("minimize"), PAST, HORIZON),
    ],
    ids=["startup", "no incumbent", "nothing finished", "too few steps", "last tenth", "end"],
)
def test_there_are_times_when_nothing_is_decided(rule: ForecastRule, past: Past, n: int) -> None:
    assert rule.decide([falling(0.8)[:n]], HORIZON, past) == [None]


@pytest.mark.parametrize("horizon", [2, 5, 9, 10, 30, 100])
@pytest.mark.parametrize("first", [0, 1])
def test_a_tenth_of_the_steps_is_the_least_that_is_saved(horizon: int, first: int) -> None:
    steps = np.arange(first, horizon + first)
    moments = [(steps[:n], falling(0.8)[0] + np.zeros(n)) for n in range(1, horizon + 1)]
    history = [(steps, np.linspace(1, 0.1, horizon))]

    decisions = ForecastRule("minimize", startup_trials=0).decide(
        moments, horizon + first - 1, Past(1, 0.1, history)
    )

    judged = [n for n, decision in enumerate(decisions, start=1) if decision is not None]
    assert judged == [n for n in range(1, horizon) if 10 * (horizon - n) >= horizon]


def test_beyond_its_horizon_nothing_is_decided() -> None:
    assert ForecastRule("minimize").decide([falling(0.8)], 40, PAST) == [None]


def test_moments_of_a_curve_judged_at_once_are_judged_as_one_by_one() -> None:
    rule, moments = ForecastRule("minimize", min_steps=2), [falling(0.8)[:n] for n in (1, 5, 9, 50)]

    at_once = rule.decide(moments, HORIZON, PAST)

    assert [decision is None for decision in at_once] == [True, False, False, True]
    for decision, moment in zip(at_once[1:3], moments[1:3], strict=True):
        assert decision is not None
        assert decision.probability == pytest.approx(only(rule, moment).probability, abs=0.02)


def test_steps_counted_from_zero_are_judged_like_steps_counted_from_one() -> None:
    rule = ForecastRule("minimize")
    history = [(np.arange(HORIZON), curve) for curve in FINISHED]

    from_zero = only(rule, (np.arange(25), HOPELESS), HORIZON - 1, Past(5, 0.1, history))
    from_one = only(rule, HOPELESS)

    assert from_zero.probability == from_one.probability
    assert (from_zero.step, from_zero.horizon) == (24, 49)


def test_bounds_that_values_break_are_another_metrics() -> None:
    rule = ForecastRule("minimize", bounds=(0.0, 1.0))
    percent = Past(5, 10.0, [100 * curve for curve in FINISHED])

    assert only(rule, 100 * HOPELESS, past=percent).mean > 1.0


@pytest.mark.parametrize("n_blown_up", [0, 2, 4])
@pytest.mark.parametrize("far", [2.3, np.nan])
def test_what_samplers_learn_is_not_swayed_by_a_chance_to_blow_up(
    n_blown_up: int, far: float
) -> None:
    steps = np.arange(1.0, HORIZON + 1)
    history = [level + 0.9 * steps**-0.6 for level in np.linspace(0.1, 0.3, 12)]
    best = float(history[0][-1])
    for curve in history[1 : 1 + n_blown_up]:  # which began otherwise
        curve[25:] = far

    decision = only(
        ForecastRule("minimize"), (0.35 + 0.9 * steps**-0.6)[:12], past=Past(12, best, history)
    )

    assert decision.mean == pytest.approx(0.35 + 0.9 * HORIZON**-0.6, abs=0.04)
    assert 0.01 < decision.std < 0.1


def test_a_trial_of_many_reports_is_judged_ever_more_rarely() -> None:
    due = [n for n in range(1, 5001) if is_due(n, n - 1)]
    assert due[:12] == [*range(1, 11), *due[10:12]]
    assert len(due) < 100
    assert all(later <= 1.1 * n + 1 for n, later in itertools.pairwise(due))


# --- words ---


def test_the_reason_says_step_chance_incumbent_and_forecast() -> None:
    assert DECISION.sentence("epoch") == (
        "epoch 7 of 50: 0.8% chance to beat 0.0213 (forecast 0.047, 90% interval 0.036-0.071)"
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"probability": 0.12}, ": 12% chance"),
        ({"probability": 0.00968, "threshold": 0.01}, ": 0.97% chance"),
        ({"probability": 0.0099996, "threshold": 0.01}, ": 0.99996% chance"),
        ({"probability": 0.4999, "threshold": 0.5}, ": 49.99% chance"),
        ({"probability": 0.0005, "threshold": 0.0006}, ": less than 0.06% chance"),
        ({"probability": 7.35e-05, "threshold": 1e-9}, ": 0.0073% chance"),
        ({"mean": 0.08}, "(forecast 0.047, 90% interval 0.036-0.071)"),
        ({"probability": 0.0}, ": less than 0.1% chance"),
        ({"tolerance": 0.001}, "to beat 0.0213 by 0.001 ("),
        ({"low": -0.071, "high": -0.036}, "interval -0.071 to -0.036)"),
        (
            {
                "probability": 0.0567,
                "threshold": 0.05671,
                "needed": 0.06,
                "gained": 0.022,
                "n_compared": 7,
            },
            "0.036-0.071); the threshold is 5.671%: ",
        ),
        (
            {"needed": 0.075, "gained": 0.022, "n_compared": 7},  # of an earlier day
            "; the threshold is 5%: it has to gain 0.075, and 7 finished trials gained 0.022 at",
        ),
        (
            {"needed": 0.075, "gained": 0.022, "n_compared": 7, "left": 0.86},
            "; the threshold is 5%: 86% of its steps are left, it has to gain 0.075, and 7 fin",
        ),
        (
            {"needed": 0.075, "gained": 0.022, "n_compared": 7, "left": 0.999},
            ": 99% of its steps are left, it",
        ),
    ],
)
def test_the_reason_reads_well(changes: dict[str, Any], words: str) -> None:
    assert words in replace(DECISION, **changes).sentence("epoch")


def test_a_decision_survives_being_kept_as_json() -> None:
    kept = json.loads(json.dumps({**DECISION.as_json(), "audited": True}))
    assert Decision.from_json(kept) == DECISION


# --- audits ---


def test_of_condemned_trials_the_audited_share_is_as_asked() -> None:
    """Of 4,000 lots with a share of 5%, fewer than 145 or more than 255 come once in 60,000."""
    audited = sum(is_audited(3, number, 0.05) for number in range(4000))
    assert 145 <= audited <= 255


def test_audits_follow_from_seed_and_number_alone() -> None:
    def chosen(seed: int) -> list[bool]:
        return [is_audited(seed, number, 0.3) for number in range(100)]

    assert chosen(0) == chosen(0)
    assert chosen(0) != chosen(1)
    assert not any(is_audited(0, number, 0.0) for number in range(100))
    assert all(is_audited(0, number, 1.0) for number in range(100))
    # A larger share audits more trials, and those of the smaller share among them.
    assert {n for n in range(100) if is_audited(0, n, 0.1)} <= {
        n for n in range(100) if is_audited(0, n, 0.2)
    }


def audits(*values: float) -> list[tuple[Decision, float]]:
    """Audited trials, each expected as `DECISION` says, that ended with these values."""
    return [(DECISION, value) for value in values]


def test_audits_that_come_out_as_stated_change_nothing() -> None:
    rule = ForecastRule("minimize", threshold=0.2)
    assert rule.contradiction([]) == 1.0
    assert rule.contradiction(audits(0.04, 0.05, 0.06, 0.2)) == 1.0
    past = replace(PAST, audits=audits(0.04, 0.05, 0.06))
    assert only(rule, HOPELESS, past=past).threshold == 0.1


def test_audits_that_beat_the_incumbent_against_the_odds_make_it_careful() -> None:
    """(2 + what came true) / (2 + what was stated), which is 0.8% and 5% for each audit."""
    rule = ForecastRule("minimize", threshold=0.2)
    better_than_stated, beat = 0.03, 0.02  # below the interval; below the incumbent, too

    once = rule.contradiction(audits(0.05, better_than_stated))
    twice = rule.contradiction(audits(beat, better_than_stated))

    assert once == pytest.approx((2 + 1) / (2 + 2 * 0.058))
    assert twice == pytest.approx((2 + 3) / (2 + 2 * 0.058))
    careful = only(rule, HOPELESS, past=replace(PAST, audits=audits(beat, beat)))
    assert careful.threshold == pytest.approx(0.1 / rule.contradiction(audits(beat, beat)))
    assert careful.threshold < 0.05


def test_a_careful_rule_lets_a_trial_go_on_that_it_would_have_stopped() -> None:
    likely = only(ForecastRule("minimize"), HOPELESS).probability
    rule = ForecastRule("minimize", threshold=2 * likely * 1.01)

    assert only(rule, HOPELESS).condemns
    assert not only(rule, HOPELESS, past=replace(PAST, audits=audits(*[0.0] * 4))).condemns


# --- bad input ---


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"threshold": 0.0}, "threshold is a probability between 0 and 1, not 0.0"),
        ({"threshold": 1.0}, "threshold is a probability"),
        ({"threshold": float("nan")}, "threshold is a probability"),
        ({"audit": 1.5}, "audit is a share from 0 to 1, not 1.5"),
        ({"tolerance": -1.0}, "tolerance is 0 or more, not -1.0"),
        ({"tolerance": float("inf")}, "tolerance is 0 or more"),
        ({"threshold": "a"}, "threshold is a probability between 0 and 1, not 'a'"),
        ({"startup_trials": -1}, "startup_trials is a whole number, 0 or more, not -1"),
        ({"min_steps": 0}, "min_steps is a whole number, 1 or more, not 0"),
        ({"min_steps": 1.5}, "min_steps is a whole number, 1 or more, not 1.5"),
        ({"seed": -1}, "seed is a whole number, 0 or more, not -1"),
        ({"seed": None}, "seed is a whole number, 0 or more, not None"),
        ({"bounds": (None, 1)}, r"lowest and the highest value, .*, not \(None, 1\)"),
        ({"bounds": 1.0}, "bounds are the lowest and the highest value, .*, not 1.0"),
        ({"bounds": (0.0, 1.0, 2.0)}, "bounds are the lowest and the highest value"),
        ({"bounds": (float("nan"), 1.0)}, "bounds are the lowest and the highest value"),
        ({"horizon": float("inf")}, "horizon is a trial's last step, not inf"),
        ({"horizon": "50"}, "horizon is a trial's last step, not '50'"),
        ({"bounds": (1.0, 0.0)}, r"lowest and the highest value, .*, not \(1.0, 0.0\)"),
        ({"horizon": 0}, "horizon is a trial's last step, not 0"),
    ],
)
def test_arguments_out_of_range_are_explained(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ForecastPruner(**arguments)


def test_a_pruner_shows_its_settings() -> None:
    pruner = ForecastPruner(horizon=50, seed=3, bounds=(0.0, 1.0), min_steps=2)
    assert repr(pruner) == (
        "ForecastPruner(threshold=0.2, tolerance=0.0, startup_trials=3, min_steps=2, "
        "bounds=(0.0, 1.0), audit=0.02, horizon=50, ends_early=False, seed=3, unit='step')"
    )
