"""What a sampler promises, whichever it is."""

from __future__ import annotations

from typing import Any, Literal

import optuna
import pytest
from optuna.trial import TrialState, create_trial

from hpo import samplers
from hpo.errors import HpoError, SpaceExhaustedError
from hpo.samplers import SpaceSampler
from hpo.samplers.experience import Experience
from hpo.trial import FAILURE
from search_spaces import GridError, SearchSpace, parse

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


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _study(
    sampler: SpaceSampler, direction: Literal["minimize", "maximize"] = "minimize"
) -> optuna.Study:
    return optuna.create_study(sampler=sampler, direction=direction)


def _suggest(trial: optuna.Trial, space: SearchSpace) -> dict[str, Any]:
    """An objective's suggestions, as anybody would write them in Optuna."""
    distributions = space.distributions()
    return space.walk(lambda p: trial._suggest(p.name, distributions[p.name]))


def _value(config: dict[str, Any]) -> float:
    bonus = {"a": 0.0, "b": 0.1, "c": 0.2}
    return float((config["x"] - 0.3) ** 2 + bonus[config["kind"]])


def test_a_sampler_is_optunas(name: str) -> None:
    assert isinstance(samplers.build(name, SMALL, seed=0), optuna.samplers.BaseSampler)


def test_a_finite_space_is_exhausted_exactly_once(name: str) -> None:
    study = _study(samplers.build(name, SMALL, seed=0, startup_trials=3))
    study.optimize(lambda t: float(_suggest(t, SMALL)["depth"]), n_trials=30)
    assert sorted(SMALL.key(t.params) for t in study.trials) == sorted(
        SMALL.key(SMALL.free_params(config)) for config in SMALL.grid()
    )
    assert len(study.trials) == SMALL.size == 9


def test_a_finite_space_is_exhausted_exactly_once_through_ask_and_tell(name: str) -> None:
    study = _study(samplers.build(name, SMALL, seed=1, startup_trials=3))
    for _ in range(9):
        trial = study.ask()
        study.tell(trial, float(_suggest(trial, SMALL)["depth"]))
    assert len({SMALL.key(t.params) for t in study.trials}) == 9
    with pytest.raises(SpaceExhaustedError):
        _suggest(study.ask(), SMALL)
    assert [t.state for t in study.trials][-1] is TrialState.FAIL


def test_an_inactive_parameter_is_never_recorded(name: str) -> None:
    study = _study(samplers.build(name, SMALL, seed=2, startup_trials=2))
    study.optimize(lambda t: float(_suggest(t, SMALL)["depth"]), n_trials=9)
    for trial in study.trials:
        assert ("momentum" in trial.params) == (trial.params["optimizer"] == "sgd")
        assert SMALL.contains(trial.params)


def test_equal_seeds_give_equal_trials_and_other_seeds_others(name: str) -> None:
    def trials(seed: int) -> list[dict[str, Any]]:
        study = _study(samplers.build(name, WIDE, seed=seed, startup_trials=4))
        space = parse(WIDE)
        study.optimize(lambda t: _value(_suggest(t, space)), n_trials=7)
        return [t.params for t in study.trials]

    assert trials(5) == trials(5)
    assert trials(5) != trials(6)


def test_what_comes_next_follows_from_the_finished_trials_alone(name: str) -> None:
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


def test_a_parameter_that_the_space_lacks_is_drawn_too(name: str) -> None:
    study = _study(samplers.build(name, SMALL, seed=0))

    def objective(trial: optuna.Trial) -> float:
        _suggest(trial, SMALL)
        return trial.suggest_float("mine", 0.0, 1.0)

    study.optimize(objective, n_trials=3)
    assert all(0.0 <= t.params["mine"] <= 1.0 for t in study.trials)


@pytest.mark.parametrize(
    ("name", "n_trials", "distance"), [("tpe", 80, 0.001), ("gp", 24, 0.003), ("skopt", 24, 0.003)]
)
def test_a_model_finds_what_chance_does_not(name: str, n_trials: int, distance: float) -> None:
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
def test_a_model_learns_where_trials_fail(name: str) -> None:
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


def test_a_trial_lost_with_its_machine_teaches_nothing() -> None:
    study = _study(samplers.build("random", WIDE, seed=0))
    space = parse(WIDE)
    for kind in ("LOST", "DIVERGED", None):
        trial = study.ask()
        _suggest(trial, space)
        if kind is None:
            study.tell(trial, 1.0)
        else:
            study._storage.set_trial_system_attr(trial._trial_id, FAILURE, {"kind": kind})
            study.tell(trial, state=TrialState.FAIL)
    seen = Experience(study, knows_pruned=False).get_trials(states=(TrialState.COMPLETE,))
    assert [t.number for t in seen] == [1, 2]


def test_a_space_without_anything_to_search_has_one_trial(name: str) -> None:
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
    ]
    made = [type(s._make(0)).__name__ for s in chosen if isinstance(s, samplers.OptunaSampler)]
    assert made == ["GPSampler", "TPESampler", "TPESampler"]


def test_a_grid_over_a_continuous_range_is_refused() -> None:
    with pytest.raises(GridError, match="give it `step"):
        samplers.build("grid", {"x": {"float": [0, 1]}})


def test_an_unknown_sampler_is_told_the_nearest() -> None:
    with pytest.raises(HpoError, match="Did you mean 'random'"):
        samplers.build("randon", SMALL)


def test_a_huge_grid_is_not_enumerated_before_it_must_be() -> None:
    space = parse({f"x{i}": {"int": [1, 10]} for i in range(12)})
    study = _study(samplers.build("grid", space, seed=0))
    trial = study.ask()
    assert space.contains(space.free_params(_suggest(trial, space)))
