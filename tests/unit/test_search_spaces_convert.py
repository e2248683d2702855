"""Spaces in Python, and in the forms of Optuna, scikit-optimize and ConfigSpace."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import optuna
import pytest
import skopt
from ConfigSpace import ConfigurationSpace
from ConfigSpace.conditions import Conjunction
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from skopt.learning import RandomForestRegressor

from hpo.search_spaces import (
    Choice,
    Fixed,
    Float,
    Form,
    Int,
    Problem,
    Sampled,
    SearchSpace,
    SpaceError,
    boolean,
    build,
    from_optuna,
    parse,
    to_configspace,
)

FORMS: dict[str, Sampled] = {
    "float": Float(-1.5, 2),
    "float log": Float(1e-5, 3e-1, log=True),
    "float step": Float(0, 1, step=0.1),
    "float prior": Float(0, 1, prior=0.3),
    "int": Int(-3, 9),
    "int log": Int(1, 5000, log=True),
    "int step": Int(1, 20, step=3),
    "powers": Int(16, 256, powers_of=2),
    "powers prior": Int(1, 99, powers_of=3, prior=20),
    "large": Int(1, 2**40),
    "text": Choice(("sgd", "adam")),
    "numbers": Choice((0.5, 0.9, 0.99)),
    "ints": Choice((64, 8, 1)),
    "mixed": Choice((None, True, 3, 0.5, "x", "3")),
    "ordered": Choice(("low", "mid", "high"), ordered=True, prior="mid"),
    "one": Choice(("only",)),
    "boolean": boolean(),
}


def one(domain: Sampled) -> SearchSpace:
    return parse({"x": domain.to_dict()})


@pytest.mark.parametrize("name", FORMS)
def test_scikit_optimize_draws_only_values_of_the_domain(name: str) -> None:
    domain = FORMS[name]
    points = skopt.Space([domain.to_skopt("x")]).rvs(200, random_state=0)
    assert all(domain.contains(value) for (value,) in points)
    if domain.size is not None and domain.size <= 20:  # the odds to miss one: 20 (19/20)^200 = 7e-4
        assert {repr(domain.snap(value)) for (value,) in points} == set(map(repr, domain.grid()))


@pytest.mark.filterwarnings("ignore:The objective has been evaluated at point")
@pytest.mark.parametrize("name", FORMS)
def test_scikit_optimizes_optimizer_asks_only_for_values_of_the_domain(name: str) -> None:
    domain = FORMS[name]
    space = one(domain)
    assert [dimension.name for dimension in space.dimensions()] == ["x"]
    optimizer = skopt.Optimizer(
        space.dimensions(),
        RandomForestRegressor(n_estimators=5),
        n_initial_points=2,
        acq_optimizer_kwargs={"n_points": 20},
        random_state=0,
    )
    for i in range(4):
        (value,) = optimizer.ask()
        assert domain.contains(value)
        optimizer.tell([value], float(i))


@pytest.mark.parametrize("name", FORMS)
def test_optuna_gives_the_domain_back(name: str) -> None:
    domain = FORMS[name]
    again = from_optuna(one(domain).distributions())
    assert again.names == ("x",)
    found = again.by_name["x"].domain
    if isinstance(domain, Int) and domain.powers_of is not None:  # Optuna has no such range
        assert found == Choice(domain.grid())
    elif domain.size == 1:
        assert found == Fixed(domain.grid()[0])
    else:
        form = domain.to_dict()
        hints = ("prior", "spread", "ordered")
        assert found.to_dict() == {key: value for key, value in form.items() if key not in hints}


def test_from_optuna_reads_a_trials_distributions() -> None:
    study = optuna.create_study()
    trial = study.ask()
    trial.suggest_float("learning_rate", 1e-5, 1e-1, log=True)
    trial.suggest_int("units", 4, 128, step=4)
    trial.suggest_categorical("optimizer", ["sgd", "adam"])
    trial.suggest_float("fixed", 0.5, 0.5)
    space = from_optuna(trial.distributions)
    assert space.by_name["learning_rate"].domain == Float(1e-5, 1e-1, log=True)
    assert space.by_name["units"].domain == Int(4, 128, step=4)
    assert space.by_name["optimizer"].domain == Choice(("sgd", "adam"))
    assert space.by_name["fixed"].domain == Fixed(0.5)
    params = {name: value for name, value in trial.params.items() if name != "fixed"}
    assert space.contains(params)


def test_from_optuna_names_all_that_has_no_domain() -> None:
    with pytest.raises(SpaceError) as caught:
        from_optuna(
            {
                "x": CategoricalDistribution((1, True)),
                "y": FloatDistribution(1e-200, 1.0, log=True),
                "z": IntDistribution(0, 2**50),
                "ok": IntDistribution(0, 1),
            }
        )
    assert [problem.path[0] for problem in caught.value.problems] == ["x", "y", "z"]
    assert "1 and true are equal to Python" in str(caught.value)


def test_python_and_yaml_say_the_same() -> None:
    space = build(
        optimizer=Choice(("sgd", "adam"), prior="sgd"),
        learning_rate=Float(1e-4, 1, log=True, prior=1e-2).because("the most important one."),
        momentum=Float(0, 0.99).when(optimizer="sgd"),
        nesterov=boolean().when(optimizer="sgd").when(momentum="> 0.5").because("as it is."),
        depth=Int(1, 4),
        width=Int(16, 64, powers_of=2).per("depth"),
        units=Int(16, 64).per("depth", taper=["constant", "pyramid"]).when(optimizer="adam"),
        batch=[32, 64],
        seed=7,
        raw={"float": [0, 1], "step": 0.5},
        require="width_1 < batch",
    )
    assert space == parse(
        {
            "optimizer": {"choice": ["sgd", "adam"], "prior": "sgd"},
            "learning_rate": {
                "float": [1e-4, 1],
                "log": True,
                "prior": 1e-2,
                "why": "the most important one.",
            },
            "momentum": {"float": [0, 0.99], "when": {"optimizer": "sgd"}},
            "nesterov": {
                "choice": [False, True],
                "when": {"optimizer": "sgd", "momentum": "> 0.5"},
                "why": "as it is.",
            },
            "depth": {"int": [1, 4]},
            "width": {"int": [16, 64], "powers_of": 2, "per": "depth"},
            "units": {
                "int": [16, 64],
                "per": "depth",
                "taper": ["constant", "pyramid"],
                "when": {"optimizer": "adam"},
            },
            "batch": [32, 64],
            "seed": 7,
            "raw": {"float": [0, 1], "step": 0.5},
            "require": ["width_1 < batch"],
        }
    )
    assert build(use="batch_size") == parse({"use": ["batch_size"]})
    assert build(use=["batch_size"], batch_size=4).by_name["batch_size"].domain == Fixed(4)


def test_forms_are_values() -> None:
    domain = Float(0, 1)
    assert domain.when(a=1) == Form(domain, {"when": {"a": 1}})
    assert domain.when(a=1).when(b=[2, 3]).beside == {"when": {"a": 1, "b": [2, 3]}}
    assert domain.per("depth").beside == {"per": "depth"}
    with pytest.raises(SpaceError, match=r"^x\.when\.y: the space has no 'y'"):
        build(x=domain.when(y=1))


# ConfigSpace ------------------------------------------------------------------------------------

CONDITIONAL: dict[str, Any] = {
    "optimizer": {"choice": ["sgd", "adam"], "prior": "adam"},
    "learning_rate": {"float": [1e-4, 1.0], "log": True, "prior": 0.01},
    "momentum": {"float": [0.0, 0.99], "when": {"optimizer": "sgd"}},
    "nesterov": {"choice": [True, False], "when": {"optimizer": "sgd", "momentum": "> 0.5"}},
    "batch_size": {"int": [16, 200], "powers_of": 2, "prior": 100},
    "size": {"choice": ["s", "m", "l"], "ordered": True},
    "dropout": {"float": [0.0, 0.5], "step": 0.1, "prior": 0.27, "when": {"size": ">= m"}},
    "steps": {"int": [1, 1_000_000], "log": True},
    "long": {"choice": ["yes", "no"], "when": {"steps": ">= 1000"}},
    "short": {"choice": ["yes", "no"], "when": {"steps": "< 1000"}},
    "any": {"choice": ["yes", "no"], "when": {"steps": ">= 0"}},
    "depth": {"int": [0, 3]},
    "width": {"int": [4, 32], "per": "depth"},
    "units": {"int": [4, 32], "per": "depth", "taper": ["constant", "pyramid"]},
    "other": {"int": [1, 3], "when": {"depth": "!= 2"}},
    "seed": 7,
    "flag": True,
}


def test_configspace_samples_are_contained() -> None:
    space = parse(CONDITIONAL)
    theirs = ConfigurationSpace.from_serialized_dict(to_configspace(space, "mine"))
    assert theirs.name == "mine"
    theirs.seed(0)
    active = set()
    for sample in theirs.sample_configuration(300):
        params = {
            name: value for name, value in dict(sample).items() if name not in ("seed", "flag")
        }
        assert space.contains(params)
        config = space.complete(params)
        assert config.keys() == dict(sample).keys()
        active.add(frozenset(config))
    assert len(active) > 20
    assert set(theirs.keys()) == set(space.names)


def test_configspace_reads_our_configurations() -> None:
    from ConfigSpace import Configuration

    space = parse(CONDITIONAL)
    theirs = ConfigurationSpace.from_serialized_dict(to_configspace(space))
    rng = np.random.default_rng(0)
    for _ in range(100):
        config = space.sample(rng)
        if config["optimizer"] != "sgd" or config["momentum"] != 0.5:
            Configuration(theirs, values=dict(config)).check_valid_configuration()


def test_configspace_defaults_are_the_priors() -> None:
    theirs = ConfigurationSpace.from_serialized_dict(to_configspace(parse(CONDITIONAL)))
    default = dict(theirs.get_default_configuration())
    assert default["optimizer"] == "adam"
    assert default["learning_rate"] == 0.01
    assert default["batch_size"] == 128
    assert default["dropout"] == 0.3


def test_a_bound_beyond_whole_numbers_cuts_configspaces_range_in_the_same_place() -> None:
    for sign, bound in itertools.product((">", ">=", "<", "<="), ("20", "20.5", "1.5", "49999")):
        mapping: dict[str, Any] = {
            "steps": {"int": [1, 50_000]},
            "x": {"choice": [1, 2], "when": {"steps": f"{sign} {bound}"}},
        }
        space = parse(mapping)
        (condition,) = ConfigurationSpace.from_serialized_dict(to_configspace(space)).conditions
        assert not isinstance(condition, Conjunction)
        for steps in (1, 2, 19, 20, 21, 49_998, 49_999, 50_000):
            is_above = condition.value < steps if ">" in sign else condition.value > steps
            assert is_above == space.is_active("x", {"steps": steps})


@pytest.mark.parametrize(
    ("mapping", "problem"),
    [
        (
            {"a": {"int": [1, 3]}, "require": "a < 3"},
            Problem(("require",), "ConfigSpace has no form for requirements; drop them."),
        ),
        (
            {"a": {"float": [0, 9]}, "x": {"fixed": 1, "when": {"a": ["< 1", "> 2"]}}},
            Problem(
                ("x", "when", "a"),
                """ConfigSpace has no condition ["< 1.0", "> 2.0"] on 'a'; """
                "compare once, or list it.",
            ),
        ),
        (
            {"a": {"float": [0, 9]}, "x": {"fixed": 1, "when": {"a": "!= 1"}}},
            Problem(
                ("x", "when", "a"),
                "ConfigSpace has no condition [\"!= 1.0\"] on 'a'; compare once, or list it.",
            ),
        ),
        (
            {"a": {"int": [0, 900_000], "step": 3}},
            Problem(("a", "step"), "ConfigSpace lists all 300,001 values; take a larger step."),
        ),
    ],
)
def test_what_configspace_cannot_say_is_an_error(mapping: Any, problem: Problem) -> None:
    with pytest.raises(SpaceError) as caught:
        to_configspace(parse(mapping))
    assert caught.value.problems == (problem,)
