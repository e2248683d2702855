"""Whatever trials report, a forecast decides, and says nothing impossible."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import optuna
from hypothesis import given, settings
from hypothesis import strategies as st

from hpo.directions import Direction
from hpo.pruners import Decision, ForecastPruner, ForecastRule, Past

HORIZON = 12

numbers = st.floats(-1e12, 1e12) | st.sampled_from(
    [0.0, 1.0, 1e-300, math.nan, math.inf, -math.inf]
)
finite = st.floats(-1e12, 1e12)


@st.composite
def curves(draw: st.DrawFn, most: int = HORIZON) -> tuple[np.ndarray, np.ndarray]:
    """What a trial reported, from a first step on, perhaps with gaps; its last value is finite."""
    n = draw(st.integers(1, most))
    steps = draw(st.lists(st.integers(0, most - 1), min_size=n, max_size=n, unique=True))
    values = draw(st.lists(numbers, min_size=n - 1, max_size=n - 1))
    return np.array(sorted(steps), float), np.array([*values, draw(finite)])


@given(
    curve=curves(),
    history=st.lists(curves(), max_size=6),
    incumbent=finite,
    direction=st.sampled_from(["minimize", "maximize"]),
    bounds=st.sampled_from([None, (0.0, 1.0), (0.0, math.inf)]),
    tolerance=st.sampled_from([0.0, 0.1]),
)
@settings(max_examples=150)
def test_a_decision_is_made_of_numbers_that_go_together(
    curve: tuple[np.ndarray, np.ndarray],
    history: list[tuple[np.ndarray, np.ndarray]],
    incumbent: float,
    direction: Direction,
    bounds: tuple[float, float] | None,
    tolerance: float,
) -> None:
    rule = ForecastRule(direction, startup_trials=0, bounds=bounds, tolerance=tolerance)

    (decision,) = rule.decide([curve], 2 * HORIZON, Past(len(history), incumbent, history))

    assert decision is not None
    assert 0 <= decision.probability <= 1
    assert decision.low <= decision.median <= decision.high
    assert all(map(math.isfinite, (decision.mean, decision.std, decision.low, decision.high)))
    assert decision.std >= 0
    assert Decision.from_json(json.loads(json.dumps(decision.as_json()))) == decision
    assert "%" in decision.sentence("epoch")


anything = st.floats() | st.sampled_from(
    [1e99, 1e101, 1e150, 1.7e308, 1e-99, 1e-150, 5e-324, 0.0, -1e99, -1e150, -1.7e308, -5e-324]
)
any_curve = st.lists(anything, min_size=1, max_size=HORIZON)


@given(
    curves=st.lists(any_curve, min_size=1, max_size=3),
    history=st.lists(any_curve, max_size=4),
    incumbent=st.none() | anything,
    horizon=st.sampled_from([0.0, 5.0, float(HORIZON), 1e9, math.inf, math.nan]),
    direction=st.sampled_from(["minimize", "maximize"]),
    bounds=st.sampled_from([None, (0.0, 1.0), (-math.inf, 0.0)]),
)
@settings(max_examples=300)
def test_no_value_makes_a_rule_fail(
    curves: list[list[float]],
    history: list[list[float]],
    incumbent: float | None,
    horizon: float,
    direction: Direction,
    bounds: tuple[float, float] | None,
) -> None:
    rule = ForecastRule(direction, startup_trials=0, bounds=bounds)

    decisions = rule.decide(curves, horizon, Past(len(history), incumbent, history))

    assert len(decisions) == len(curves)
    for decision in filter(None, decisions):
        assert 0 <= decision.probability <= 1
        numbers = (decision.mean, decision.std, decision.low, decision.high)
        assert all(map(math.isfinite, numbers))


@given(
    curves=st.lists(any_curve, min_size=1, max_size=5),
    direction=st.sampled_from(["minimize", "maximize"]),
)
@settings(max_examples=100)
def test_no_report_makes_a_pruner_fail(curves: list[list[float]], direction: Direction) -> None:
    pruner = ForecastPruner(startup_trials=0, threshold=0.5, audit=0.0)
    study = optuna.create_study(direction=direction, pruner=pruner)
    good = [0.9, 0.5, 0.4, 0.35, 0.33]
    for curve in (good, *curves):
        trial = study.ask()
        stopped = False
        for step, value in enumerate(curve, start=1):
            trial.report(value, step)
            stopped = trial.should_prune()
            if stopped:
                frozen = study._storage.get_trial(trial._trial_id)
                assert pruner.reason(study, frozen).startswith("forecast at step ")
                break
        if stopped or math.isnan(curve[-1]):
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            study.tell(trial, curve[-1])


_ANYTHING = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=3)


@given(
    arguments=st.dictionaries(
        st.sampled_from(["threshold", "tolerance", "audit", "startup_trials", "min_steps",
                         "horizon", "seed"]),
        _ANYTHING,
    ),
    bounds=_ANYTHING | st.tuples(_ANYTHING, _ANYTHING),
)  # fmt: skip
@settings(max_examples=300)
def test_a_pruner_takes_its_arguments_or_says_what_is_wrong(
    arguments: dict[str, Any], bounds: Any
) -> None:
    try:
        pruner = ForecastPruner(**arguments, bounds=bounds)
    except ValueError:  # its message is looked at in tests/unit
        return
    study = optuna.create_study(pruner=pruner)
    for _ in range(4):
        trial = study.ask()
        trial.report(0.5, 1)
        trial.should_prune()
        study.tell(trial, 0.5)


@given(values=st.lists(finite, max_size=30), rate=st.floats(0, 0.2))
def test_audits_make_a_rule_more_careful_and_never_bolder(values: list[float], rate: float) -> None:
    decision = Decision(5.0, 10.0, rate, 1.0, 0.5, 1.0, 0.2, 1.8, 0.0, 0.0, 0.2)
    audits = [(decision, value) for value in values]
    rule = ForecastRule("minimize")

    doubt = rule.contradiction(audits)

    assert doubt >= 1
    assert rule.contradiction([*audits, (decision, -1.0)]) >= doubt
    assert rule.contradiction([*audits, (decision, 1.0)]) <= doubt
