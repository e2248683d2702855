"""What a sampler promises, whichever it is."""

from __future__ import annotations

import math
import pickle
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution, IntDistribution
from optuna.trial import TrialState, create_trial

from hpo import samplers
from hpo.directions import Direction
from hpo.errors import HpoError, SpaceExhaustedError
from hpo.samplers import SpaceSampler
from hpo.samplers.coordinates import coordinates
from hpo.samplers.experience import Experience
from hpo.samplers.memory import Memory
from hpo.samplers.model_based import _Observed, _penalised
from hpo.search_spaces import GridError, SearchSpace, parse
from hpo.spec import SamplerName
from hpo.trial import FAILURE, FORECAST

NAMES = samplers.NAMES

SMALL = parse(
    {
        "optimizer": ["sgd", "adam"],
        "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": "sgd"}},
        "depth": {"int": [1, 3]},
        "constant": 7,
    }
)
"""Nine configurations: three depths x (two of SGD's, one of Adam's)."""

WIDE = {
    "x": {"float": [0.0, 1.0], "points": 4},
    "rate": {"float": [1e-4, 1.0], "log": True, "points": 4},
    "kind": ["a", "b", "c"],
}


RICH = parse(
    {
        "optimizer": ["sgd", "adam"],
        "learning_rate": {"float": [1e-4, 1.0], "log": True, "points": 5, "prior": 0.01},
        "momentum": {"choice": [0.5, 0.9, 0.99], "ordered": True, "when": {"optimizer": "sgd"}},
        "nesterov": {"choice": [True, False], "when": {"momentum": ">= 0.9"}},
        "depth": {"int": [0, 3]},
        "width": {"int": [16, 128], "powers_of": 2, "per": "depth"},
        "dropout": {
            "float": [0.0, 0.4],
            "step": 0.2,
            "per": "depth",
            "taper": ["constant", "pyramid"],
        },
        "norm": {"choice": ["none", "batch"], "when": {"depth": ">= 2"}},
        "batch_size": {"int": [16, 128], "powers_of": 2, "prior": 32},
        "constant": {"fixed": 1, "when": {"optimizer": "!= adam"}},
        "require": ["width_2 <= width_1", "batch_size >= 32 or depth < 3"],
    }
)
"""Conditions by value, by comparison and by another condition; vectors; requirements; priors."""

FINITE = parse(
    {
        "depth": {"int": [0, 2]},
        "width": {"int": [1, 3], "per": "depth"},
        "skip": {"choice": [True, False], "when": {"depth": ">= 2"}},
        "warmup": {"int": [0, 2], "prior": 1},
        "require": ["width_1 >= width_2", "warmup <= depth"],
    }
)
"""Of depth 0: 1 warm-up. 1: 3 widths x 2. 2: 6 pairs x 2 skips x 3. In all 43."""


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> SamplerName:
    chosen: SamplerName = request.param
    return chosen


def _study(sampler: SpaceSampler, direction: Direction = "minimize") -> optuna.Study:
    return optuna.create_study(sampler=sampler, direction=direction)


def _suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """An objective's suggestions, as anybody would write them in Optuna."""
    distributions = space.distributions()
    return space.walk(lambda p: trial._suggest(p.name, distributions[p.name]))


def _value(config: dict[str, Any]) -> float:
    bonus = {"a": 0.0, "b": 0.1, "c": 0.2}
    return float((config["x"] - 0.3) ** 2 + bonus[config["kind"]])


def test_a_sampler_is_optunas(name: SamplerName) -> None:
    assert isinstance(samplers.build(name, SMALL, seed=0), optuna.samplers.BaseSampler)


def test_a_finite_space_is_exhausted_exactly_once(name: SamplerName) -> None:
    study = _study(samplers.build(name, SMALL, seed=0, startup_trials=3))
    study.optimize(lambda t: float(_suggest(t, SMALL)["depth"]), n_trials=30)
    assert sorted(SMALL.key(t.params) for t in study.trials) == sorted(
        SMALL.key(SMALL.free_params(config)) for config in SMALL.grid()
    )
    assert len(study.trials) == SMALL.size == 9


def test_a_finite_space_is_exhausted_exactly_once_through_ask_and_tell(name: SamplerName) -> None:
    study = _study(samplers.build(name, SMALL, seed=1, startup_trials=3))
    for _ in range(9):
        trial = study.ask()
        study.tell(trial, float(_suggest(trial, SMALL)["depth"]))
    assert len({SMALL.key(t.params) for t in study.trials}) == 9
    with pytest.raises(SpaceExhaustedError) as caught:
        _suggest(study.ask(), SMALL)
    assert caught.value.next_step.endswith(f": hpo best {study.study_name}")
    assert [t.state for t in study.trials][-1] is TrialState.FAIL


def test_an_inactive_parameter_is_never_recorded(name: SamplerName) -> None:
    study = _study(samplers.build(name, SMALL, seed=2, startup_trials=2))
    study.optimize(lambda t: float(_suggest(t, SMALL)["depth"]), n_trials=9)
    for trial in study.trials:
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert SMALL.contains(trial.params)


def test_every_trial_of_a_rich_space_is_a_point_of_it(name: SamplerName) -> None:
    """No parameter is recorded that is not active, and no requirement is broken."""
    study = _study(samplers.build(name, RICH, seed=4, startup_trials=6))

    def objective(trial: optuna.Trial) -> float:
        config = _suggest(trial, RICH)
        if config["depth"] == 3 and trial.number % 2:
            raise ValueError("to be learnt from, too")
        return float(abs(math.log10(config["learning_rate"]) + 2) + config["depth"])

    study.optimize(objective, n_trials=22, catch=ValueError)
    assert len(study.trials) == 22
    for trial in study.trials:
        assert RICH.contains(trial.params), trial.params
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert ("nesterov" in trial.params) == (trial.params.get("momentum", 0) >= 0.9)
        widths = [n for n in trial.params if n.startswith("width_")]
        assert len(widths) == trial.params["depth"]
        assert ("norm" in trial.params) == (trial.params["depth"] >= 2)
        if len(widths) > 1:
            assert trial.params["width_2"] <= trial.params["width_1"]
        assert trial.params["batch_size"] >= 32 or trial.params["depth"] < 3


def test_requirements_leave_a_finite_space_that_is_exhausted_exactly_once(
    name: SamplerName,
) -> None:
    study = _study(samplers.build(name, FINITE, seed=0, startup_trials=36))
    study.optimize(lambda t: float(_suggest(t, FINITE)["warmup"]), n_trials=60)
    keys = [FINITE.key(t.params) for t in study.trials]
    assert sorted(keys) == sorted(FINITE.key(FINITE.free_params(c)) for c in FINITE.grid())
    assert len(keys) == FINITE.size == 1 + 3 * 2 + 6 * 2 * 3


def test_requirements_that_hardly_any_draw_meets_end_a_study_when_all_is_tried(
    name: SamplerName,
) -> None:
    """One draw in 2,500 meets them, and chance alone would not find them all."""
    space = parse({k: {"int": [0, 49]} for k in "abc"} | {"require": ["a == b", "b == c", "a < 6"]})
    assert space.size == 6
    study = _study(samplers.build(name, space, seed=0, startup_trials=4))
    study.optimize(lambda t: float(_suggest(t, space)["a"]), n_trials=9)
    assert sorted(t.params["a"] for t in study.trials) == list(range(6))
    assert all(space.contains(t.params) for t in study.trials)


def test_a_space_too_linked_to_count_ends_all_the_same() -> None:
    names = [f"p{i}" for i in range(10)]
    space = parse({n: {"int": [0, 2]} for n in names} | {"require": [f"{' + '.join(names)} <= 1"]})
    assert space.size == 3**10  # an upper bound: there are 11
    study = _study(samplers.build("random", space, seed=0))
    with pytest.raises(SpaceExhaustedError, match="no further configuration was found") as caught:
        study.optimize(lambda t: float(_suggest(t, space)["p0"]), n_trials=20)
    assert caught.value.next_step.endswith(f": hpo best {study.study_name}")
    tried = [t for t in study.trials if t.params]
    assert len({space.key(t.params) for t in tried}) == len(tried) == 11


@pytest.mark.parametrize("name", ["tpe", "gp", "skopt"])
def test_a_model_whose_favourite_is_not_allowed_takes_the_nearest(name: SamplerName) -> None:
    """The optimum is where x + y = 1.55 is reached; what the model wants lies beyond.

    One draw in ten is allowed. The best of 20 random ones has a median distance of 0.018 from the
    line (1.55 plus a tenth of 0.45, over 20); moved towards the model's wish, it is on the line.
    """
    space = parse({"x": {"float": [0, 1]}, "y": {"float": [0, 1]}, "require": ["x + y >= 1.55"]})
    study = _study(samplers.build(name, space, seed=0, startup_trials=8))
    study.optimize(lambda t: sum(_suggest(t, space).values()), n_trials=16)
    assert all(space.contains(t.params) for t in study.trials)
    assert study.best_value - 1.55 < 0.002


@pytest.mark.parametrize("name", ["tpe", "gp", "skopt"])
def test_trials_made_elsewhere_do_no_harm(name: SamplerName) -> None:
    space = parse({"x": {"float": [5, 6]}, "y": {"float": [0, 1]}})
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(lambda t: t.suggest_float("x", 0, 10) + t.suggest_float("y", 0, 1), n_trials=5)
    study.sampler = samplers.build(name, space, seed=0, startup_trials=3)

    def objective(trial: optuna.Trial) -> float:
        x = trial.suggest_float("x", 5, 6)
        if trial.number % 4 == 3:
            raise optuna.TrialPruned  # before y is asked for
        return x + trial.suggest_float("y", 0, 1)

    study.optimize(objective, n_trials=8)
    assert len(study.trials) == 13


@pytest.mark.parametrize("name", ["grid", "random"])
def test_trials_that_are_no_points_of_the_space_take_none_of_its_places(name: SamplerName) -> None:
    space = parse({"x": {"int": [1, 5]}})
    study = _study(samplers.build(name, space, seed=0))
    for value in (7, 8, 9):
        study.add_trial(
            create_trial(params={"x": value}, distributions={"x": IntDistribution(1, 9)}, value=0.0)
        )
    study.optimize(lambda t: float(_suggest(t, space)["x"]), n_trials=9)
    assert sorted(t.params["x"] for t in study.trials[3:]) == [1, 2, 3, 4, 5]


def test_a_sampler_survives_pickling(name: SamplerName) -> None:
    sampler = samplers.build(name, RICH, seed=0)
    study, again = _study(sampler), _study(pickle.loads(pickle.dumps(sampler)))  # noqa: S301 - our own
    for each in (study, again):
        each.optimize(lambda t: float(_suggest(t, RICH)["depth"]), n_trials=3)
    assert [t.params for t in study.trials] == [t.params for t in again.trials]


def test_a_partial_baseline_is_refused() -> None:
    with pytest.raises(HpoError, match=r"baseline: y: it is active here but has no value"):
        samplers.build("random", {"x": [1, 2], "y": [1, 2]}, baseline={"x": 1})


def test_a_baseline_comes_first_and_once(name: SamplerName) -> None:
    baseline = {"x": 0.123, "rate": 0.5, "kind": "c"}
    study = _study(samplers.build(name, WIDE, seed=0, startup_trials=3, baseline=baseline))
    space = parse(WIDE)
    study.optimize(lambda t: _value(_suggest(t, space)), n_trials=6)
    assert study.trials[0].params == baseline
    assert [t.params for t in study.trials].count(baseline) == 1


def test_a_baseline_beside_the_grid_takes_none_of_its_points() -> None:
    space = parse({"x": {"float": [0, 1], "points": 3}})
    study = _study(samplers.build("grid", space, seed=0, baseline={"x": 0.3}))
    study.optimize(lambda t: float(_suggest(t, space)["x"]), n_trials=10)
    assert study.trials[0].params["x"] == 0.3
    assert sorted(t.params["x"] for t in study.trials) == [0.0, 0.3, 0.5, 1.0]


@pytest.mark.parametrize("name", ["random", "sobol", "tpe", "gp", "skopt"])
def test_a_prior_tilts_where_a_sampler_looks(name: SamplerName) -> None:
    """So many of the first draws lie within a factor of 3 of the prior, and of the favourite.

    Uniform draws would be there with probability log(9)/log(1e6) = 0.16, and 0.25 of the choices
    are the favourite. By the prior it is 0.58 and 0.5, and one trial in five ignores it, so that
    of 60 random draws fewer than 19 or 17 are there with probability 0.005; the seed is fixed.
    """
    space = parse(
        {
            "rate": {"float": [1e-6, 1.0], "log": True, "prior": 1e-3, "spread": 3},
            "kind": {"choice": ["a", "b", "c", "d"], "prior": "c"},
        }
    )
    study = _study(samplers.build(name, space, seed=0, startup_trials=60))
    study.optimize(lambda t: float(_suggest(t, space)["rate"]), n_trials=60)
    near = [t for t in study.trials if 1e-3 / 3 <= t.params["rate"] <= 3e-3]
    assert len(near) >= 19
    assert sum(t.params["kind"] == "c" for t in study.trials) >= 17


@pytest.mark.parametrize("name", ["tpe", "gp"])
def test_a_model_sees_ordered_values_in_their_order(name: SamplerName) -> None:
    """What Optuna is told of powers, ordered options and priors are numbers; of others, options."""
    sampler = samplers.build(name, RICH, seed=0)
    assert isinstance(sampler, samplers.OptunaSampler)
    seen = {n: c.distribution for n, c in coordinates(RICH).items()}
    assert seen["momentum"] == IntDistribution(0, 2)
    assert seen["width_1"] == IntDistribution(0, 3)
    assert seen["learning_rate"] == seen["batch_size"] == FloatDistribution(0.0, 1.0)
    assert "optimizer" not in seen
    for name_, coordinate in coordinates(RICH).items():
        for value in RICH.by_name[name_].domain.grid():
            there_and_back = coordinate.outward(coordinate.inward(value))
            assert there_and_back == pytest.approx(value, rel=1e-9)


def test_equal_seeds_give_equal_trials_and_other_seeds_others(name: SamplerName) -> None:
    def trials(seed: int) -> list[dict[str, Any]]:
        study = _study(samplers.build(name, WIDE, seed=seed, startup_trials=4))
        space = parse(WIDE)
        study.optimize(lambda t: _value(_suggest(t, space)), n_trials=7)
        return [t.params for t in study.trials]

    assert trials(5) == trials(5)
    assert trials(5) != trials(6)


def test_what_comes_next_follows_from_the_finished_trials_alone(name: SamplerName) -> None:
    space = parse(WIDE)

    def build() -> SpaceSampler:
        return samplers.build(name, space, seed=3, startup_trials=3)

    whole = _study(build())
    whole.optimize(lambda t: _value(_suggest(t, space)), n_trials=6)
    resumed = _study(build())
    for trial in whole.trials[:5]:
        resumed.add_trial(
            create_trial(params=trial.params, distributions=trial.distributions, value=trial.value)
        )
    resumed.optimize(lambda t: _value(_suggest(t, space)), n_trials=1)
    assert resumed.trials[5].params == whole.trials[5].params


def _stopped_by_forecast(study: optuna.Study, x: float, last: float, mean: float) -> None:
    forecast = {"mean": mean, "std": 0.1, "audited": False}
    study.add_trial(
        create_trial(
            state=TrialState.PRUNED,
            value=last,
            params={"x": x},
            distributions={"x": FloatDistribution(0.0, 1.0)},
            intermediate_values={1: last},
            system_attrs={FORECAST: forecast},
        )
    )


def _completed(study: optuna.Study, x: float) -> None:
    distribution = FloatDistribution(0.0, 1.0)
    study.add_trial(create_trial(params={"x": x}, distributions={"x": distribution}, value=x))


@pytest.mark.parametrize("knows_pruned", [True, False])
def test_a_model_learns_from_a_stopped_trial_what_was_expected_of_it(knows_pruned: bool) -> None:  # noqa: FBT001
    study = optuna.create_study()
    _stopped_by_forecast(study, 0.5, last=0.9, mean=0.4)
    study.add_trial(
        create_trial(
            state=TrialState.PRUNED,
            value=0.8,
            params={"x": 0.1},
            distributions={"x": FloatDistribution(0.0, 1.0)},
            intermediate_values={1: 0.8},
        )
    )

    by_forecast, by_another = Experience(study, knows_pruned=knows_pruned).trials

    assert (by_forecast.state, by_forecast.value) == (TrialState.COMPLETE, 0.4)
    by_last_value = (TrialState.PRUNED, 0.8) if knows_pruned else (TrialState.COMPLETE, 0.8)
    assert (by_another.state, by_another.value) == by_last_value
    assert study.trials[0].state is TrialState.PRUNED  # to everybody else


def test_of_stopped_trials_those_expected_to_be_good_are_remembered() -> None:
    study = optuna.create_study()
    for number in range(60):  # the later, the better, and all of them the same at their last step
        _stopped_by_forecast(study, number / 60, last=0.9, mean=1 - number / 60)
    recalled = Memory(seed=0, most=30).recall(study.trials, study.direction)
    assert {trial.number for trial in recalled} >= set(range(35, 60))


def test_skopts_gaussian_process_is_told_how_uncertain_a_forecast_is() -> None:
    space = parse({"x": {"float": [0, 1]}})
    sampler = samplers.build("skopt", space, seed=0, startup_trials=2)
    assert isinstance(sampler, samplers.SkoptSampler)
    study = optuna.create_study(direction="maximize")
    for x in (0.0, 0.5, 1.0):
        _completed(study, x)
    _stopped_by_forecast(study, 0.25, last=0.9, mean=0.4)

    history = sampler._history(study)
    model = sampler._told(history, sampler.space.free, seed=0).models[-1]

    assert [observed.value for observed in history] == [0.0, -0.5, -1.0, -0.4]
    assert [observed.variance for observed in history] == pytest.approx([0, 0, 0, 0.01])
    assert list(model.alpha > 1e-9) == [False, False, False, True]


@pytest.mark.parametrize("name", ["tpe", "gp", "skopt"])
def test_what_comes_next_follows_from_forecasts_too(name: SamplerName) -> None:
    space = parse({"x": {"float": [0, 1]}})

    def suggested(mean: float) -> float:
        study = _study(samplers.build(name, space, seed=3, startup_trials=3))
        for x in (0.1, 0.3, 0.5, 0.7):
            _completed(study, x)
        _stopped_by_forecast(study, 0.9, last=5.0, mean=mean)
        return float(_suggest(study.ask(), space)["x"])

    assert suggested(0.9) == suggested(0.9)
    assert suggested(0.9) != suggested(-0.9)


def test_a_parameter_that_the_space_lacks_is_drawn_too(name: SamplerName) -> None:
    study = _study(samplers.build(name, SMALL, seed=0))

    def objective(trial: optuna.Trial) -> float:
        _suggest(trial, SMALL)
        return trial.suggest_float("mine", 0.0, 1.0)

    study.optimize(objective, n_trials=3)
    assert all(0.0 <= t.params["mine"] <= 1.0 for t in study.trials)


@pytest.mark.parametrize(
    ("name", "n_trials", "distance"), [("tpe", 80, 0.001), ("gp", 24, 0.003), ("skopt", 24, 0.003)]
)
def test_a_model_finds_what_chance_does_not(
    name: SamplerName, n_trials: int, distance: float
) -> None:
    """The squared distance to the optimum of the best of so many trials in a cube.

    A uniform draw is that near with probability 4/3 pi distance^(3/2), so the best of as many
    uniform draws would be in one run of a hundred (tpe) or of sixty (gp, skopt).
    """
    space = parse({name: {"float": [0.0, 1.0]} for name in "xyz"})
    study = _study(samplers.build(name, space, seed=0, startup_trials=8), "maximize")
    study.optimize(
        lambda t: -sum((x - 0.3) ** 2 for x in _suggest(t, space).values()), n_trials=n_trials
    )
    assert -study.best_value < distance


@pytest.mark.parametrize("name", ["tpe", "gp", "skopt"])
def test_a_model_learns_where_trials_fail(name: SamplerName) -> None:
    """Trials above 0.5 fail; uniform draws would put half of the last 16 there."""
    space = parse({"x": {"float": [0.0, 1.0]}, "y": {"float": [0.0, 1.0]}})
    study = _study(samplers.build(name, space, seed=0, startup_trials=8))
    failed = []
    for _ in range(24):
        trial = study.ask()
        config = _suggest(trial, space)
        failed.append(config["x"] > 0.5)
        if failed[-1]:
            study.tell(trial, state=TrialState.FAIL)
        else:
            study.tell(trial, config["y"])
    assert sum(failed[:8]) >= 2
    assert sum(failed[-16:]) <= 4  # 4 or fewer of 16 fair coins: 4 in a hundred


@pytest.mark.parametrize(
    ("name", "n_draws", "n_far"), [("tpe", 60, 21), ("gp", 6, 0), ("skopt", 12, 2)]
)
def test_a_model_learns_where_constraints_are_broken(
    name: SamplerName, n_draws: int, n_far: int
) -> None:
    """The less x, the better, but below 0.6 it is not allowed; the optimum is at 0.6.

    Uniform draws would be below 0.5, far from what is allowed, as often as not, and that seldom
    with probability 0.014 (tpe), 0.016 (gp) or 0.019 (skopt). A model that knew nothing of the
    constraint would hardly be anywhere else.
    """
    space = parse({"x": {"float": [0.0, 1.0]}, "y": {"float": [0.0, 1.0]}})
    study = _study(samplers.build(name, space, seed=0, startup_trials=8))

    def objective(trial: optuna.Trial) -> float:
        config = _suggest(trial, space)
        trial.set_constraint("x", 0.6 - config["x"])
        return float(config["x"] + config["y"])

    study.optimize(objective, n_trials=8 + n_draws)
    assert sum(t.params["x"] < 0.5 for t in study.trials[8:]) <= n_far
    assert study.best_trial.params["x"] >= 0.6


@pytest.mark.parametrize("name", ["tpe", "gp", "skopt"])
def test_a_model_bears_trials_of_which_it_does_not_know_whether_they_keep_constraints(
    name: SamplerName,
) -> None:
    space = parse({"x": {"float": [0.0, 1.0]}})
    study = _study(samplers.build(name, space, seed=0, startup_trials=4))

    def objective(trial: optuna.Trial) -> float:
        config = _suggest(trial, space)
        if trial.number == 0:
            return 0.5  # made before there was a constraint
        if trial.number % 3 == 1:
            raise ValueError("to be learnt from, too")
        if trial.number % 3 == 2:
            trial.report(config["x"], 1)
            raise optuna.TrialPruned
        trial.set_constraint("x", 0.6 - config["x"])
        return float(config["x"])

    study.optimize(objective, n_trials=10, catch=ValueError)
    seen = Experience(study, knows_pruned=False).get_trials(states=(TrialState.COMPLETE,))
    excesses = {t.number: next(iter(t.constraints.values())) for t in seen}
    known = [excesses[number] for number in (3, 6, 9)]
    assert excesses[1] == excesses[4] == max(known)  # failed
    assert excesses[0] == excesses[2] == pytest.approx(sum(known) / 3)


def test_skopt_is_told_that_infeasible_trials_are_worse_than_all_others() -> None:
    history = [_Observed({"x": x}, value) for x, value in enumerate((3.0, 0.0, 5.0, 1.0))]
    told = [observed.value for observed in _penalised(history, [0.0, 0.5, 0.0, 4.0])]
    assert told[0] == 3.0
    assert told[2] == 5.0
    assert 5.0 < told[1] < told[3] < 5.0 + (5.0 - 3.0)


@pytest.mark.parametrize("name", ["random", "sobol", "grid", "tpe", "gp"])
def test_a_sampler_searches_for_several_metrics(name: SamplerName) -> None:
    space = parse(WIDE)
    study = optuna.create_study(
        directions=["minimize", "maximize"],
        sampler=samplers.build(name, space, seed=0, startup_trials=4),
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        config = _suggest(trial, space)
        if trial.number == 2:
            raise ValueError("to be learnt from, too")
        if trial.number == 3:
            raise optuna.TrialPruned
        return _value(config), config["rate"]

    study.optimize(objective, n_trials=7, catch=ValueError)
    assert len({space.key(t.params) for t in study.trials}) == 7
    assert [t.state.name for t in study.trials[2:4]] == ["FAIL", "PRUNED"]


@pytest.mark.parametrize("lost", ["LOST", "BAD_DATA"])
def test_a_trial_lost_with_its_machine_or_data_teaches_nothing(lost: str) -> None:
    study = _study(samplers.build("random", WIDE, seed=0))
    space = parse(WIDE)
    for kind in (lost, "DIVERGED", None):
        trial = study.ask()
        _suggest(trial, space)
        if kind is None:
            study.tell(trial, 1.0)
        else:
            study._storage.set_trial_system_attr(trial._trial_id, FAILURE, {"kind": kind})
            study.tell(trial, state=TrialState.FAIL)
    seen = Experience(study, knows_pruned=False).get_trials(states=(TrialState.COMPLETE,))
    assert [t.number for t in seen] == [1, 2]


def test_a_trial_that_was_refused_leaves_the_space_as_it_is() -> None:
    """What somebody enqueued wrongly has no parameters, and every model wants them."""
    study, space = _study(samplers.build("random", WIDE, seed=0)), parse(WIDE)
    for _ in range(2):
        trial = study.ask()
        _suggest(trial, space)
        study.tell(trial, 1.0)
    refused = study.ask()
    study._storage.set_trial_system_attr(refused._trial_id, FAILURE, {"kind": "BAD_CONFIG"})
    study.tell(refused, state=TrialState.FAIL)

    seen = Experience(study, knows_pruned=False).get_trials(states=(TrialState.COMPLETE,))

    assert [t.number for t in seen] == [0, 1]


def test_a_space_without_anything_to_search_has_one_trial(name: SamplerName) -> None:
    space = parse({"depth": 3})
    trial = _study(samplers.build(name, space, seed=0)).ask()
    assert _suggest(trial, space) == {"depth": 3}


def test_bayesian_is_a_gaussian_process_where_that_is_the_better_model() -> None:
    flat = {"x": {"float": [0, 1]}}
    conditional = {**flat, "k": ["a", "b"], "y": {"float": [0, 1], "when": {"k": "a"}}}
    chosen = [
        samplers.build("bayesian", flat, trials=50),
        samplers.build("bayesian", flat, trials=5000),
        samplers.build("bayesian", conditional, trials=50),
        samplers.build("bayesian", flat, trials=50, metrics=3),
        samplers.build("bayesian", flat, trials=50, metrics=4),
    ]
    made = [type(s._make(0)).__name__ for s in chosen if isinstance(s, samplers.OptunaSampler)]
    assert made == ["GPSampler", "TPESampler", "TPESampler", "GPSampler", "TPESampler"]


def test_a_grid_over_a_continuous_range_is_refused() -> None:
    with pytest.raises(GridError, match="give it `step"):
        samplers.build("grid", {"x": {"float": [0, 1]}})


def test_an_unknown_sampler_is_told_the_nearest() -> None:
    with pytest.raises(HpoError, match="Did you mean 'random'"):
        samplers.build("randon", SMALL)  # type: ignore[arg-type]


def test_a_huge_grid_is_not_enumerated_before_it_must_be() -> None:
    space = parse({f"x{i}": {"int": [1, 10]} for i in range(12)})
    study = _study(samplers.build("grid", space, seed=0))
    trial = study.ask()
    assert space.contains(space.free_params(_suggest(trial, space)))
