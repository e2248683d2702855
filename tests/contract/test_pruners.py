"""What a stopping rule promises, whichever it is, in anybody's Optuna study."""

from __future__ import annotations

import inspect
import math
import pickle
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import optuna
import pytest
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage, RDBStorage
from optuna.trial import TrialState

import hpo
from hpo import catalog, pruners, samplers, spec, studyfile
from hpo.directions import Direction
from hpo.pruners import ForecastPruner, Rule
from hpo.pruners.decisions import THRESHOLD
from hpo.reports import stopping
from hpo.spec import RULE_OPTIONS, Plan, RuleName, SamplerName, StoppingSpec
from hpo.storage import open_storage
from hpo.trial import FORECAST

STEPS = 20
RULES: dict[str, dict[str, Any]] = {
    "forecast": {"startup_trials": 2, "min_steps": 3, "audit": 0.0},
    "median": {"startup_trials": 2, "warmup_steps": 2},
    "percentile": {"startup_trials": 2, "percentile": 40, "interval_steps": 2},
    "asha": {"min_steps": 2, "reduction": 2},
    "hyperband": {"min_steps": 2, "reduction": 2},
    "patience": {"patience": 3},
    "patience wrapped": {"patience": 2, "wrapped": "median", "startup_trials": 2},
    "wilcoxon": {"p_threshold": 0.05, "startup_steps": 4},
}


def plan(
    rule: str,
    direction: Direction = "minimize",
    searched_epochs: Sequence[int] = (),
    metric: str = "figure",
    bounds: Any = None,
    **stopping: Any,
) -> Plan:
    space: dict[str, Any] = {"x": {"float": [0, 1]}}
    objective: dict[str, Any] = {
        "function": "objectives:train",
        "metric": metric,
        "direction": direction,
        "bounds": bounds,
    }
    if searched_epochs:
        space["epochs"] = list(searched_epochs)
    else:
        objective["epochs"] = STEPS
    values = {
        "name": "s",
        "objective": objective,
        "space": space,
        "stopping": {"rule": rule.partition(" ")[0], **stopping},
    }
    return spec.check(studyfile.StudyFile("the test", Path.cwd(), values))


def value(x: float, step: int, sign: float) -> float:
    """A loss that falls to x, and rises again where x is bad; or the score that is its negative."""
    overfits = 0.03 * max(0, step - 8) if x > 0.5 else 0.0
    return sign * (x + 2 * math.exp(-step / 3) + overfits)


def searched(rule: Rule, direction: Direction = "minimize", n: int = 12) -> optuna.Study:
    """A study of trials of which the first and the third are good and most others are not."""
    study = optuna.create_study(direction=direction, pruner=rule, study_name="rules")
    sign = 1.0 if direction == "minimize" else -1.0

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(1, STEPS + 1):
            trial.report(value(x, step, sign), step)
            if trial.should_prune():
                frozen = study._storage.get_trial(trial._trial_id)
                trial.set_user_attr("reason", rule.reason(study, frozen))
                raise optuna.TrialPruned
        return value(x, STEPS, sign)

    for x in (0.2, 0.3, 0.1, *(0.95 - 0.02 * k for k in range(n - 3))):
        study.enqueue_trial({"x": x})
    study.optimize(objective, n_trials=n)
    return study


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
@pytest.mark.parametrize("name", RULES)
def test_a_rule_stops_bad_trials_and_no_good_ones_and_says_why(
    name: str, direction: Direction
) -> None:
    rule = pruners.build(plan(name, direction, **RULES[name]))

    study = searched(rule, direction)

    stopped = [trial for trial in study.trials if trial.state is TrialState.PRUNED]
    assert study.trials[0].state is study.trials[2].state is TrialState.COMPLETE
    assert len(stopped) >= 3
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE, TrialState.PRUNED}
    for trial in stopped:
        assert trial.last_step is not None
        assert 0 < trial.last_step < STEPS
        assert trial.params["x"] > 0.25
        unit = "epoch" if name == "forecast" else "step"
        start = f"{rule.name} at {unit} {trial.last_step}"
        assert trial.user_attrs["reason"].startswith(start)


def test_no_rule_stops_nothing() -> None:
    study = searched(pruners.build(plan("none")))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


@pytest.mark.parametrize("sampler", ["grid", "random", "sobol", "tpe", "gp", "skopt"])
@pytest.mark.parametrize("name", ["forecast", "hyperband", "patience wrapped"])
def test_a_rule_goes_with_every_sampler(name: str, sampler: SamplerName) -> None:
    space = {"x": {"int": [0, 11]}}
    rule = pruners.build(plan(name, **RULES[name]))
    chooses = samplers.build(sampler, space, seed=0, startup_trials=4)
    study = optuna.create_study(pruner=rule, sampler=chooses, study_name="rules")

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_int("x", 0, 11) / 11
        for step in range(1, STEPS + 1):
            trial.report(value(x, step, 1.0), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value(x, STEPS, 1.0)

    study.optimize(objective, n_trials=12)

    assert len({trial.params["x"] for trial in study.trials}) == 12
    assert {t.state for t in study.trials} <= {TrialState.COMPLETE, TrialState.PRUNED}


def test_defaults_are_the_same_in_a_file_and_in_python() -> None:
    known = inspect.signature(ForecastPruner).parameters
    for option in set(RULE_OPTIONS["forecast"]) - {"startup_trials"}:
        assert StoppingSpec.model_fields[option].default == known[option].default, option
    assert "of forecast 3." in str(StoppingSpec.model_fields["startup_trials"].description)
    assert known["startup_trials"].default == 3


@pytest.mark.parametrize(
    ("stated", "bounds"),
    [([0, 50], "(0.0, 50.0)"), ([None, 1], "(-inf, 1.0)"), ((0, math.inf), "(0.0, inf)")],
)
def test_a_metric_has_the_bounds_that_the_file_states(stated: Any, bounds: str) -> None:
    rule = pruners.build(plan("forecast", metric="accuracy", bounds=stated))
    assert f"bounds={bounds}" in repr(rule)


def test_a_metric_has_the_bounds_of_its_name_else() -> None:
    assert "bounds=(0.0, 1.0)" in repr(pruners.build(plan("forecast", metric="accuracy")))
    assert "bounds=None" in repr(pruners.build(plan("forecast")))


def test_every_option_belongs_to_a_rule() -> None:
    options = {option for options in RULE_OPTIONS.values() for option in options}
    assert options | {"rule"} == StoppingSpec.model_fields.keys()
    assert RULE_OPTIONS.keys() == set(get_args(RuleName))


def test_each_option_says_first_which_rules_it_is_of() -> None:
    for name, field in StoppingSpec.model_fields.items():
        of = re.findall(r"(?:^|; )((?:\w+, )*\w+): ", str(field.description))
        said = {rule for rules in of for rule in rules.split(", ")}
        assert said == {rule for rule, options in RULE_OPTIONS.items() if name in options}, name


# --- forecasts, in plain Optuna ---


def search(
    study: optuna.Study, xs: list[float], *, steps: int = STEPS, first: int = 1, sign: float = 1.0
) -> None:
    """Runs trials that report from a first step on."""

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(steps):
            trial.report(value(x, step + 1, sign), step + first)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value(x, steps, sign)

    for x in xs:
        study.enqueue_trial({"x": x})
    study.optimize(objective, n_trials=len(xs))


def states(study: optuna.Study) -> str:
    """C for COMPLETE, P for PRUNED."""
    return "".join(trial.state.name[0] for trial in study.trials)


def _storage(name: str, url: str) -> BaseStorage:
    if name == "memory":
        return InMemoryStorage()
    return RDBStorage(url) if name == "optuna" else open_storage(url)


GOOD, BAD = [0.3, 0.25, 0.2, 0.15, 0.1], [0.9, 0.95, 0.85, 0.8]  # better and better, and bad


@pytest.mark.parametrize("storage", ["memory", "optuna", "hpo"])
def test_what_was_expected_of_a_condemned_trial_is_kept_with_it(
    storage: str, tmp_path: Path
) -> None:
    made = _storage(storage, f"sqlite:///{tmp_path}/study.db")
    pruner = hpo.pruners.ForecastPruner(horizon=STEPS, audit=0.5, seed=1)
    study = optuna.create_study(storage=made, pruner=pruner)

    search(study, GOOD + BAD)

    assert states(study)[:5] == "CCCCC"
    condemned = study.trials[5:]
    audited = [pruners.is_audited(1, trial.number, 0.5) for trial in condemned]
    assert set(audited) == {True, False}
    for trial, is_audited in zip(condemned, audited, strict=True):
        kept = trial.system_attrs[FORECAST]
        assert kept["audited"] is is_audited
        assert kept["incumbent"] == study.best_value
        assert kept["horizon"] == STEPS
        assert kept["probability"] < kept["threshold"] <= THRESHOLD * kept["left"]
        assert kept["low"] < kept["mean"] < kept["high"]
        assert trial.state is (TrialState.COMPLETE if is_audited else TrialState.PRUNED)
        assert trial.last_step == (STEPS if is_audited else kept["step"])
    assert all(FORECAST not in trial.system_attrs for trial in study.trials[:5])


def test_without_a_horizon_it_is_the_last_step_of_the_longest_trial() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0))
    search(study, GOOD + BAD)
    assert states(study) == "CCCCCPPPP"
    assert study.trials[-1].system_attrs[FORECAST]["horizon"] == STEPS


def test_a_horizon_may_follow_from_the_trial() -> None:
    pruner = ForecastPruner(
        audit=0.0, horizon=lambda trial: 40 if trial.params["x"] > 0.5 else None
    )
    study = optuna.create_study(pruner=pruner)
    search(study, GOOD + BAD)
    assert study.trials[-1].system_attrs[FORECAST]["horizon"] == 40


def test_a_trial_is_judged_by_its_own_epochs_where_these_are_searched() -> None:
    rule = pruners.build(plan("forecast", searched_epochs=(10, 40), audit=0.0))
    study = optuna.create_study(pruner=rule)

    def objective(trial: optuna.Trial) -> float:
        x, epochs = trial.suggest_float("x", 0, 1), trial.suggest_categorical("epochs", [10, 40])
        for step in range(1, epochs + 1):
            trial.report(value(x, step, 1.0), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value(x, epochs, 1.0)

    for i, x in enumerate(GOOD + BAD):
        study.enqueue_trial({"x": x, "epochs": (10, 40)[i % 2]})
    study.optimize(objective, n_trials=len(GOOD + BAD))

    assert states(study) == "CCCCCPPPP"
    for trial in study.trials[5:]:
        epochs = trial.params["epochs"]
        assert trial.system_attrs[FORECAST]["horizon"] == epochs
        assert rule.reason(study, trial).startswith(
            f"forecast at epoch {trial.last_step} of {epochs}: "
        )


def test_a_horizon_that_finished_trials_went_beyond_is_farther(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Steps are minibatches, and the horizon counts epochs."""
    pruner = ForecastPruner(audit=0.0, horizon=STEPS / 5)
    study = optuna.create_study(pruner=pruner)
    search(study, GOOD + BAD)
    known = optuna.create_study(pruner=ForecastPruner(audit=0.0, horizon=STEPS))
    search(known, GOOD + BAD)

    assert states(study) == states(known) == "CCCCCPPPP"
    assert study.trials[-1].system_attrs[FORECAST]["horizon"] == STEPS
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("finished trials reported steps up to 5 times as far as their horizon")


def of_length(n: int) -> optuna.trial.FrozenTrial:
    """A finished trial of n steps."""
    values = dict.fromkeys(range(1, n + 1), 0.0)
    return optuna.trial.create_trial(value=0.0, intermediate_values=values)


def test_one_trial_beyond_its_horizon_does_not_move_all_others() -> None:
    finished = [of_length(n) for n in (30, 30, 31, 300)]
    assert pruners.Told.by(finished, lambda _: 30.0).last_step(30.0) == pytest.approx(30.5)
    assert pruners.Told.by(finished[:3], lambda _: 300.0).last_step(30.0) == 30
    assert pruners.Told.by(finished, lambda _: None).last_step(30.0) == 30


@pytest.mark.parametrize(
    ("steps", "last"),
    [
        ([range(5), range(5)], 4),
        ([range(5), range(3)], 4),  # the second gave up
        ([range(5), range(6)], 5),  # before the first epoch there was a report, too
        ([range(5), range(1, 5)], 5),
        ([range(0, 5, 2)], 4),
        ([range(4), range(3)], 5),  # all gave up
        ([range(1, 5)], 5),
        ([range(1, 6)], 5),
    ],
)
def test_five_epochs_that_are_counted_from_zero_end_at_four(
    steps: Sequence[range], last: int
) -> None:
    finished = [
        optuna.trial.create_trial(value=0.0, intermediate_values=dict.fromkeys(each, 0.0))
        for each in steps
    ]
    assert pruners.Told.by(finished, lambda _: 5.0).last_step(5.0) == last


def test_a_trial_that_counts_epochs_from_zero_is_judged_by_where_it_will_end() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0, horizon=STEPS))
    search(study, GOOD + BAD, first=0)
    assert states(study) == "CCCCCPPPP"
    assert study.trials[-1].system_attrs[FORECAST]["horizon"] == STEPS - 1


@pytest.mark.parametrize(("horizon", "n"), [(STEPS * 10, 1), (STEPS, 0), (None, 0)])
def test_a_horizon_that_no_trial_comes_near_is_doubted(
    horizon: float | None, n: int, caplog: pytest.LogCaptureFixture
) -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0, horizon=horizon))
    search(study, GOOD + BAD)

    said = [record.getMessage() for record in caplog.records]
    assert len(said) == n
    assert all(text.startswith("no finished trial reported a step beyond 10%") for text in said)


def test_a_trial_that_may_end_early_ends_no_later_than_the_longest_did() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0, horizon=200, ends_early=True))
    search(study, GOOD + BAD)
    assert study.trials[-1].system_attrs[FORECAST]["horizon"] == STEPS


def searching_lengths(
    pruner: ForecastPruner, *, first: int = 1, every: int = 1, name: str = "n_steps"
) -> optuna.Study:
    """Trials as long as a parameter says, which get good towards their own ends."""
    study = optuna.create_study(pruner=pruner)
    lengths = [10, 14, 20, 30, 12, 15, *[100, 20, 16, 40, 80]]
    levels = [0.5, 0.45, 0.4, 0.35, 0.45, 0.5, *[0.05, 0.9, 0.95, 0.85, 0.9]]

    def objective(trial: optuna.Trial) -> float:
        n, level = lengths[trial.number], levels[trial.number]
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("is_wide", [True, False])
        if name == "n_steps":
            trial.suggest_int(name, 1, 1000)
        ended = math.nan
        for step in range(1, n + 1):
            ended = level + (1 - level) * (1 - step / n)
            if step % every == 0:
                trial.report(ended, step - 1 + first)
                if trial.should_prune():
                    raise optuna.TrialPruned
        return ended

    for n in lengths:
        study.enqueue_trial({name: n})
    study.optimize(objective, n_trials=len(lengths))
    return study


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("every", [1, 2])
def test_a_parameter_that_is_the_last_step_tells_how_long_a_trial_will_be(
    first: int, every: int, caplog: pytest.LogCaptureFixture
) -> None:
    study = searching_lengths(ForecastPruner(audit=0.0), first=first, every=every)

    stopped = [trial for trial in study.trials if trial.state is TrialState.PRUNED]
    assert study.trials[6].state is TrialState.COMPLETE  # the longest, and the best
    assert {trial.number for trial in stopped} >= {7, 9, 10}
    for trial in stopped:
        assert trial.system_attrs[FORECAST]["horizon"] == trial.params["n_steps"] - 1 + first
    assert not caplog.records


def test_a_study_that_ran_can_be_pickled() -> None:
    study = searching_lengths(ForecastPruner(audit=0.0))
    assert states(pickle.loads(pickle.dumps(study))) == states(study)  # noqa: S301 - our own


def test_where_nothing_tells_how_long_a_trial_will_be_none_is_stopped(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = searching_lengths(ForecastPruner(audit=0.0), name="hidden")

    assert states(study) == "C" * 11
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("finished trials differ in length, and no parameter is their last step")
    assert "`epochs`" in said
    assert "`horizon=`" in said


def test_trials_that_may_end_early_differ_in_length_and_are_stopped_all_the_same(
    caplog: pytest.LogCaptureFixture,
) -> None:
    study = searching_lengths(ForecastPruner(audit=0.0, ends_early=True), name="hidden")

    assert "P" in states(study)
    for trial in study.trials:
        finished = [t for t in study.trials[: trial.number] if t.state is TrialState.COMPLETE]
        if trial.state is TrialState.PRUNED:
            longest = max(t.last_step or 0 for t in finished)
            assert trial.system_attrs[FORECAST]["horizon"] == longest
    assert not caplog.records


@pytest.mark.parametrize(
    ("patience", "ends_early"), [(4, True), ({"int": [1, 9]}, True), (None, False)]
)
def test_trials_with_patience_may_end_early(patience: Any, ends_early: bool) -> None:  # noqa: FBT001
    objective = {"trainer": "classifier", "data": "digits", "metric": "val_error"}
    space = {"width": {"int": [8, 32]}} | ({} if patience is None else {"patience": patience})
    values = {"name": "s", "objective": objective, "space": space}
    made = spec.check(studyfile.StudyFile("the test", Path.cwd(), values))
    assert pruners.ends_early(made) is ends_early


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_steps_may_be_counted_from_zero(direction: Direction) -> None:
    study = optuna.create_study(direction=direction, pruner=ForecastPruner(audit=0.0))
    search(study, GOOD + BAD, first=0, sign=1.0 if direction == "minimize" else -1.0)
    assert states(study) == "CCCCCPPPP"


def test_trials_that_report_nothing_or_once_stop_nothing() -> None:
    study = optuna.create_study(pruner=ForecastPruner(startup_trials=0))
    search(study, GOOD + BAD, steps=1)
    study.optimize(lambda trial: float(trial.should_prune()), n_trials=2)
    assert states(study) == "C" * 11


def test_a_trial_that_diverged_is_stopped() -> None:
    pruner = ForecastPruner(horizon=STEPS)
    study = optuna.create_study(pruner=pruner)

    def diverges(trial: optuna.Trial) -> float:
        trial.report(math.nan, 1)
        assert trial.should_prune()
        raise optuna.TrialPruned

    study.optimize(diverges, n_trials=1)
    assert pruner.reason(study, study.trials[0]) == "forecast at step 1: it has diverged, to nan"


def test_a_report_that_is_nan_alone_is_a_gap() -> None:
    study = optuna.create_study(pruner=ForecastPruner(horizon=STEPS, startup_trials=0))

    def with_gaps(trial: optuna.Trial) -> float:
        for step in range(1, STEPS + 1):
            trial.report(math.nan if step % 3 == 0 else 1 / step, step)
            assert not trial.should_prune()
        trial.report(math.nan, STEPS + 1)
        trial.report(math.nan, STEPS + 2)
        assert trial.should_prune()
        raise optuna.TrialPruned

    study.optimize(with_gaps, n_trials=1)


_T = np.arange(1.0, 31.0)
DECADES: dict[str, Callable[[float], np.ndarray]] = {
    "exponential": lambda x: np.exp(-(0.05 + 0.35 * x) * _T),
    "floors": lambda x: 10 ** (-6 + 4 * x) + _T**-3.0,
    "one huge loss": lambda x: (0.1 + x) * (1 + 3 / _T) + 1e5 * (_T == 1),
    "explained variance": lambda x: 0.3 + 0.6 * x - 0.2 / _T - 1e5 * (_T == 1),
}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("kind", DECADES)
def test_where_values_span_decades_the_best_trial_is_not_stopped(kind: str, seed: int) -> None:
    direction: Direction = "maximize" if kind == "explained variance" else "minimize"
    bounds = (-math.inf, 1.0) if kind == "explained variance" else None
    rule = ForecastPruner(horizon=30, audit=0.0, bounds=bounds)
    sampler = optuna.samplers.RandomSampler(seed=seed)
    study = optuna.create_study(direction=direction, pruner=rule, sampler=sampler)
    ends = []

    def objective(trial: optuna.Trial) -> float:
        noise = np.random.default_rng((seed, trial.number)).normal(size=30)
        curve = DECADES[kind](trial.suggest_float("x", 0, 1)) * np.exp(0.01 * noise)
        ends.append(curve[-1])
        for step, reported in enumerate(curve, start=1):
            trial.report(float(reported), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return float(curve[-1])

    study.optimize(objective, n_trials=16)

    assert study.best_value == (max if direction == "maximize" else min)(ends)
    assert "P" in states(study)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_trials_that_can_only_tie_are_stopped(direction: Direction) -> None:
    study = optuna.create_study(
        direction=direction, pruner=ForecastPruner(horizon=STEPS, audit=0.0)
    )

    def constant(trial: optuna.Trial) -> float:
        for step in range(1, STEPS + 1):
            trial.report(0.9, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return 0.9

    study.optimize(constant, n_trials=30)

    assert states(study).startswith("CCC")
    assert states(study).count("P") > 20
    assert study.trials[-1].system_attrs[FORECAST]["step"] < 0.75 * STEPS


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_values_beyond_all_measure_do_not_end_a_study(direction: Direction) -> None:
    study = optuna.create_study(direction=direction, pruner=ForecastPruner(horizon=STEPS))
    search(study, GOOD + BAD, sign=1e150 if direction == "minimize" else -1e150)
    assert states(study) == "CCCCCCCCC"


def test_a_trial_that_rises_beyond_all_measure_is_stopped() -> None:
    pruner = ForecastPruner(horizon=STEPS, audit=0.0, threshold=0.1)
    study = optuna.create_study(pruner=pruner)
    search(study, GOOD)
    trial = study.ask()
    for step, reported in enumerate((1.0, 1e30, 1e150), start=1):
        trial.report(reported, step)
    assert trial.should_prune()


def test_one_pruner_may_serve_several_studies() -> None:
    pruner = ForecastPruner(horizon=STEPS, audit=0.0)
    search(optuna.create_study(pruner=pruner), GOOD)
    another = optuna.create_study(pruner=pruner)  # the first of its storage, too
    search(another, GOOD, sign=100.0)
    trial = another.ask()
    trial.report(50.0, 1)
    assert not trial.should_prune()  # of the first study's trials it would be the worst


@pytest.mark.parametrize("every", [7, 17, 30, 33, 45])
def test_a_trial_is_judged_however_rarely_it_asks(every: int) -> None:
    study = optuna.create_study(pruner=ForecastPruner(horizon=100, audit=0.0))
    for level in (0.1, 0.12, 0.14, 0.16):
        curve = {step: level + 2 / step for step in range(1, 101)}
        study.add_trial(optuna.trial.create_trial(value=curve[100], intermediate_values=curve))
    trial = study.ask()
    asked = []
    for step in range(1, 91):
        trial.report(50.0 + 2 / step, step)
        if step % every == 0:
            asked.append(trial.should_prune())
    assert any(asked)


def test_why_a_trial_of_anybodys_study_was_stopped_is_kept(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/theirs.db")
    study = optuna.create_study(storage=storage, pruner=ForecastPruner(horizon=STEPS, audit=0.0))
    search(study, GOOD + BAD)
    record = catalog.find(storage, study.study_name)
    stopped = [trial for trial in record.trials() if trial.state == "PRUNED"]
    assert len(stopped) == 4
    assert all(trial.stopped_by.startswith("forecast at step ") for trial in stopped)  # type: ignore[union-attr]
    told = stopping.early_stopping(record)
    assert told is not None
    assert (told["rule"], told["stopped"], told["audited"]) == ("forecast", len(stopped), 0)
    assert told["steps_run"] + told["steps_saved"] == STEPS * len(GOOD + BAD)
    saved = f"saved {told['share_saved']:.0%} of the steps"
    assert f"forecast stopped 4 of 9 trials and {saved}" in stopping.sentence(record)
    plain = optuna.create_study(storage=storage)
    search(plain, GOOD)
    assert stopping.early_stopping(catalog.find(storage, plain.study_name)) is None


@pytest.mark.parametrize("horizon", ["50", [50, 60], math.nan, 0, -3.5])
def test_a_horizon_that_is_no_step_is_named(horizon: Any) -> None:
    study = optuna.create_study(pruner=ForecastPruner(horizon=lambda _: horizon))
    with pytest.raises(ValueError, match=r"the horizon is a step(, not | above 0, not )"):
        search(study, GOOD)


@pytest.mark.parametrize("direction", ["minimize", "maximize"])
def test_the_incumbent_is_among_the_finished_trials_that_are_looked_at(
    direction: Direction,
) -> None:
    """It is the only one of 60 whose end has another sign: by the others it is impossible."""
    sign = 1 if direction == "maximize" else -1
    rise = (1 - np.exp(-np.arange(1, 41) / 10)) / (1 - np.exp(-4))

    def reports(end: float) -> dict[int, float]:
        return {step: sign * float(x) for step, x in enumerate(-250 + (end + 250) * rise, start=1)}

    pruner = ForecastPruner(audit=0, horizon=40)
    study = optuna.create_study(direction=direction, pruner=pruner)
    for i in range(60):
        reported = reports(60 if i == 21 else -150 + 2.4 * i)
        study.add_trial(optuna.trial.create_trial(value=reported[40], intermediate_values=reported))
    for end in (70, 90, 120, 200):
        trial = study.ask()
        for step, x in reports(end).items():
            trial.report(x, step)
            assert not trial.should_prune(), (end, step)
        study.tell(trial, state=TrialState.PRUNED)


def test_an_infeasible_trial_is_no_incumbent() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0, threshold=0.3))
    search(study, [0.3, 0.4, 0.35, 0.32])
    study.add_trial(
        optuna.trial.create_trial(
            value=-5.0, intermediate_values={STEPS: -5.0}, system_attrs={"constraints": [1.0]}
        )
    )
    search(study, [0.95])
    assert study.trials[-1].system_attrs[FORECAST]["incumbent"] == value(0.3, STEPS, 1.0)


def returning(study: optuna.Study, xs: list[float], surplus: float) -> None:
    """Runs trials that return another number than they reported last."""

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        for step in range(1, STEPS + 1):
            trial.report(value(x, step, 1.0), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return value(x, STEPS, 1.0) + surplus

    for x in xs:
        study.enqueue_trial({"x": x})
    study.optimize(objective, n_trials=len(xs))


@pytest.mark.parametrize("surplus", [-0.5, 0.0, 0.5])
def test_reports_are_compared_with_reports_whatever_trials_return(surplus: float) -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0))

    returning(study, GOOD + BAD, surplus)

    assert states(study) == "CCCCCPPPP"
    kept = study.trials[-1].system_attrs[FORECAST]
    assert kept["incumbent"] == value(GOOD[-1], STEPS, 1.0)
    # Samplers learn values: the mean is where such a trial's value would have been.
    assert kept["low"] < kept["mean"] - surplus < kept["high"]


def reporting_losses(noise: float, n: int) -> tuple[optuna.Study, dict[int, float]]:
    """Trials that report a loss and return an accuracy, and all these accuracies."""
    study = optuna.create_study(
        direction="maximize",
        pruner=ForecastPruner(horizon=STEPS, audit=0.0),
        sampler=optuna.samplers.RandomSampler(seed=0),
    )
    rng, accuracies = np.random.default_rng(0), {}

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 0, 1)
        accuracies[trial.number] = 0.9 - 0.5 * x + noise * float(rng.normal())
        for step in range(1, STEPS + 1):
            trial.report(value(x, step, 1.0), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return accuracies[trial.number]

    study.optimize(objective, n_trials=n)
    return study, accuracies


@pytest.mark.parametrize("noise", [0.0, 0.05])
def test_reports_that_point_the_other_way_stop_nothing(
    noise: float, caplog: pytest.LogCaptureFixture
) -> None:
    study, accuracies = reporting_losses(noise, n=20)

    assert states(study) == "C" * 20
    assert study.best_value == max(accuracies.values())
    (said,) = [record.getMessage() for record in caplog.records]
    assert said.startswith("finished trials that report more return less")


def test_returning_another_number_waits_for_five_trials_that_agree() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0))
    returning(study, [0.2, 0.3, 0.25, 0.9, 0.95, 0.8, 0.85], surplus=0.5)
    same = optuna.create_study(pruner=ForecastPruner(audit=0.0))
    returning(same, [0.2, 0.3, 0.25, 0.9, 0.95, 0.8, 0.85], surplus=0.0)

    assert states(study) == "CCCCCPP"
    assert states(same) == "CCCPPPP"


def test_a_trial_that_reported_nothing_counts_by_its_value() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0))
    search(study, GOOD)
    study.add_trial(optuna.trial.create_trial(value=0.05))
    search(study, BAD)
    assert study.trials[-1].system_attrs[FORECAST]["incumbent"] == 0.05


def test_an_audit_is_judged_by_what_it_reported_last() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0))
    search(study, GOOD + BAD[:1])
    before = study.trials[-1].system_attrs[FORECAST]
    study.add_trial(
        optuna.trial.create_trial(
            value=-1.0,
            intermediate_values={STEPS: 0.9},
            system_attrs={FORECAST: {**before, "audited": True}},
        )
    )
    ((_, ended),) = pruners.audits(study.trials)
    assert ended == 0.9


def test_a_condemned_trial_that_runs_on_counts_as_an_audit_of_what_was_first_expected(
    tmp_path: Path,
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/theirs.db")
    pruner = ForecastPruner(horizon=STEPS, audit=0.0)
    study = optuna.create_study(storage=storage, pruner=pruner)
    search(study, GOOD)
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    condemned_at = []
    for step in range(1, STEPS + 1):  # hopeless up to the last step, and then the best
        trial.report(value(0.9, step, 1.0) if step < STEPS else 0.0, step)
        if trial.should_prune():
            condemned_at.append(step)
    study.tell(trial, 0.0)

    assert len(condemned_at) > 1
    ((expected, ended),) = pruners.audits(study.trials)
    assert (expected.step, ended) == (condemned_at[0], 0.0)
    assert pruner._know(study).past.audits == [(expected, 0.0)]
    record = catalog.find(storage, study.study_name)
    told = stopping.early_stopping(record)
    assert told is not None
    assert (told["stopped"], told["audited"], told["unheeded"]) == (0, 1, 1)
    assert told["wrongly_condemned"] == 1
    said = "; of 1 run on although condemned, 1 by their own code, 1 beat the incumbent ("
    assert said in stopping.sentence(record)


def test_code_that_heeds_the_verdict_and_returns_what_there_is_has_not_run_on(
    tmp_path: Path,
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path}/theirs.db")
    pruner = ForecastPruner(audit=0.0)  # whose horizon is that of whoever ran to the end
    study = optuna.create_study(storage=storage, pruner=pruner)
    search(study, GOOD)
    space: dict[str, BaseDistribution] = {"x": optuna.distributions.FloatDistribution(0, 1)}
    for _ in range(6):
        trial = study.ask(space)
        for step in range(1, STEPS + 1):
            trial.report(value(0.9, step, 1.0), step)
            if trial.should_prune():
                break
        assert step < STEPS
        study.tell(trial, value(0.9, step, 1.0))

    assert [*pruners.audits(study.trials)] == []
    known = pruner._know(study)
    assert known.lengths.longest == STEPS
    assert not known.lengths.are_unknown
    assert len(known.past.history) == len(GOOD)
    told = stopping.early_stopping(catalog.find(storage, study.study_name))
    assert told is not None
    assert (told["audited"], told["unheeded"]) == (0, 0)


@pytest.mark.parametrize(("length", "judged_by"), [(100, 100), (10, 10), (5, 10)])
def test_a_trial_that_is_to_be_longer_than_all_so_far_is_not_judged_by_their_end(
    length: int, judged_by: int
) -> None:
    """Short trials finish first; a parameter that is less may be there by chance."""
    space: dict[str, BaseDistribution] = {"n_steps": optuna.distributions.IntDistribution(1, 200)}
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0))
    for i in range(6):
        reports = {step: 1 / step**0.8 + 0.01 * i for step in range(1, 11)}
        study.add_trial(
            optuna.trial.create_trial(
                value=reports[10],
                params={"n_steps": 10},
                distributions=space,
                intermediate_values=reports,
            )
        )
    study.enqueue_trial({"n_steps": length})
    trial = study.ask(space)
    trial.report(2.0, 1)
    outlook = study.pruner.outlook(study, study.trials[-1])  # type: ignore[attr-defined]
    assert outlook is not None
    assert outlook.horizon == judged_by


def test_a_trial_that_is_stopped_later_says_why_it_was_then() -> None:
    pruner = ForecastPruner(horizon=STEPS, audit=0.0)
    study = optuna.create_study(pruner=pruner)
    search(study, GOOD)
    trial = study.ask({"x": optuna.distributions.FloatDistribution(0, 1)})
    condemned_at = []
    for step in range(1, 11):
        trial.report(value(0.9, step, 1.0), step)
        if trial.should_prune():
            condemned_at.append(step)

    frozen = study.trials[-1]
    assert frozen.system_attrs[FORECAST]["step"] == condemned_at[0] < condemned_at[-1]
    assert pruner.reason(study, frozen).startswith(f"forecast at step {condemned_at[-1]} of 20: ")
    trial.report(math.nan, 11)
    trial.report(math.nan, 12)
    assert trial.should_prune()
    assert "it has diverged" in pruner.reason(study, study.trials[-1])


@pytest.mark.parametrize("seed", range(3))
def test_the_search_in_the_readme_keeps_its_best_trial(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(trial: hpo.Trial) -> float:
        for step in range(10):
            trial.report(step, value=(trial.x - 0.3) ** 2 + 1 / (step + 1))
        return float((trial.x - 0.3) ** 2)

    def best(rule: RuleName) -> int:
        return hpo.search(
            train,
            space={"x": {"float": [0, 1]}},
            trials=40,
            sampler="random",
            seed=seed,
            name=rule,
            storage=f"sqlite:///{tmp_path}/study.db",
            tracking="none",
            stopping=rule,
        ).number

    monkeypatch.chdir(tmp_path)
    assert best("forecast") == best("none")


def test_audits_that_contradict_the_forecasts_make_the_rule_careful() -> None:
    study = optuna.create_study(pruner=ForecastPruner(audit=0.0))
    search(study, GOOD + BAD[:1])
    before = study.trials[-1].system_attrs[FORECAST]
    for _ in range(3):  # condemned, and then the best of all
        study.add_trial(
            optuna.trial.create_trial(
                value=-1.0,
                intermediate_values={STEPS: -1.0},
                system_attrs={FORECAST: {**before, "audited": True}},
            )
        )
    search(study, BAD[1:2])

    after = study.trials[-1].system_attrs[FORECAST]
    stated = 3 * (before["probability"] + 0.05)
    holds = min((after["needed"] / (3 * after["gained"])) ** 5, 1.0) * (1 - after["step"] / STEPS)
    assert after["threshold"] == pytest.approx(THRESHOLD * holds * (2 + stated) / (2 + 6))


def test_a_long_history_is_gathered_once_for_each_trial_that_ends() -> None:
    pruner = ForecastPruner(audit=0.0)
    study = optuna.create_study(pruner=pruner)
    for number in range(300):
        curve = {step: value(0.3 + number / 1000, step, 1.0) for step in range(1, STEPS + 1)}
        study.add_trial(optuna.trial.create_trial(value=curve[STEPS], intermediate_values=curve))

    known = pruner._know(study)
    assert len(known.past.history) == 50
    assert known.past.n_finished == 300
    assert known.past.incumbent == value(0.3, STEPS, 1.0)
    assert pruner._know(study) is known
    study.add_trial(optuna.trial.create_trial(value=0.0))
    assert pruner._know(study).past.n_finished == 301
