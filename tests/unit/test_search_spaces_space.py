"""A space: order, walking, identity, counting, differences."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from hpo.search_spaces import (
    Choice,
    Fixed,
    Float,
    GridError,
    Int,
    Parameter,
    Problem,
    Scalar,
    SearchSpace,
    SpaceError,
    parse,
)


@pytest.fixture
def space() -> SearchSpace:
    return parse(
        {
            "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": "sgd"}},
            "dropout": {"float": [0, 0.3], "step": 0.1},
            "optimizer": ["sgd", "adam"],
            "nesterov": {"choice": [True, False], "when": {"momentum": 0.9}},
            "beta": {"fixed": 0.99, "when": {"optimizer": "adam"}},
            "width": 128,
        }
    )


def test_parents_come_first_and_else_the_users_order_is_kept(space: SearchSpace) -> None:
    assert space.names == ("dropout", "optimizer", "momentum", "nesterov", "beta", "width")


def test_free_are_those_that_a_sampler_draws(space: SearchSpace) -> None:
    assert [p.name for p in space.free] == ["dropout", "optimizer", "momentum", "nesterov"]
    assert set(space.distributions()) == {"dropout", "optimizer", "momentum", "nesterov"}


def test_walk_asks_for_active_free_parameters_only(space: SearchSpace) -> None:
    asked = []

    def choose(parameter: Parameter) -> Scalar:
        asked.append(parameter.name)
        return parameter.domain.grid()[-1]

    assert space.walk(choose) == {"dropout": 0.3, "optimizer": "adam", "beta": 0.99, "width": 128}
    assert asked == ["dropout", "optimizer"]


def test_walk_speaks_the_domains_spelling(space: SearchSpace) -> None:
    given = {"dropout": np.float64(0.1) + 0.2, "optimizer": np.str_("adam")}
    config = space.walk(lambda p: given[p.name])
    assert config["dropout"] == 0.3
    assert {type(value) for value in config.values()} == {float, str, int}


def test_a_value_outside_its_domain_is_refused(space: SearchSpace) -> None:
    with pytest.raises(SpaceError) as caught:
        space.complete({"dropout": 0.9, "optimizer": "adam"})
    assert caught.value.problems == (
        Problem(("dropout",), "0.9 is not in {float: [0.0, 0.3], step: 0.1}."),
    )


def test_complete_adds_the_fixed_and_free_params_takes_them_away(space: SearchSpace) -> None:
    params = {"dropout": 0.1, "optimizer": "sgd", "momentum": 0.9, "nesterov": True}
    config = space.complete(params)
    assert config == {**params, "width": 128}
    assert space.free_params(config) == params
    assert space.complete({**params, "optimizer": "adam"}) == {
        "dropout": 0.1,
        "optimizer": "adam",
        "beta": 0.99,
        "width": 128,
    }


def test_complete_names_what_is_missing_or_unknown(space: SearchSpace) -> None:
    with pytest.raises(SpaceError, match=r"^momentum: it is active here but has no value; give"):
        space.complete({"dropout": 0.1, "optimizer": "sgd"})
    with pytest.raises(SpaceError, match=r"no 'dropuot'\. Did you mean 'dropout'\?"):
        space.complete({"dropuot": 0.1, "optimizer": "adam"})


def test_contains_wants_exactly_the_sampled_params(space: SearchSpace) -> None:
    params = {"dropout": 0.1, "optimizer": "adam"}
    assert space.contains(params)
    assert not space.contains({**params, "momentum": 0.9})  # inactive
    assert not space.contains({**params, "optimizer": "sgd"})  # momentum is missing
    assert not space.contains({**params, "dropout": 0.15})
    assert not space.contains({**params, "width": 128})  # never sampled
    assert not space.contains({**params, "depth": 1})


def test_key_is_the_identity_of_a_configuration(space: SearchSpace) -> None:
    assert space.key({"optimizer": "adam", "dropout": 0.3}) == (
        '{"dropout": 0.3, "optimizer": "adam"}'
    )
    assert space.key({"dropout": 0.1 + 0.2}) == space.key({"dropout": 0.3})
    anything = parse({"x": {"float": [0, 2]}})
    assert anything.key({"x": 1}) == anything.key({"x": 1.0})  # both are the float 1.0
    unknown = [space.key({"y": value}) for value in (1, 1.0, True, "1")]
    assert len(set(unknown)) == 4


def test_size_and_grid_respect_conditions(space: SearchSpace) -> None:
    # 4 dropouts x (adam, or sgd with 0.5, or sgd with 0.9 and 2 nesterovs)
    assert space.size == space.grid_size == 4 * (1 + 1 + 2)
    assert len(list(space.grid())) == 16
    assert next(space.grid()) == {"dropout": 0.0, "optimizer": "sgd", "momentum": 0.5, "width": 128}


def test_a_huge_space_is_counted_without_enumerating_it() -> None:
    flags = {f"flag_{i}": [True, False] for i in range(40)}
    children = {f"x_{i}": {"int": [1, 9], "when": {f"flag_{i}": True}} for i in range(40)}
    # Enumerated, these would take longer than the universe has; counted, milliseconds.
    assert parse({**flags, **children}).size == 10**40
    assert parse({f"x_{i}": {"int": [1, 10]} for i in range(12)}).grid_size == 10**12


def test_points_count_for_the_grid_but_not_for_the_size() -> None:
    space = parse({"lr": {"float": [1e-3, 1], "log": True, "points": 4}, "depth": {"int": [1, 3]}})
    assert space.size is None
    assert space.grid_size == 12
    assert [config["lr"] for config in space.grid()][::3] == [0.001, 0.01, 0.1, 1.0]


def test_a_condition_on_a_value_that_is_not_on_the_grid_is_never_met_there() -> None:
    space = parse(
        {"depth": {"int": [1, 9], "points": 3}, "x": {"choice": [1, 2], "when": {"depth": [2, 5]}}}
    )
    assert space.size == 7 + 2 * 2
    assert space.grid_size == len(list(space.grid())) == 2 + 2


def test_a_space_without_a_grid_names_every_parameter_at_fault() -> None:
    space = parse({"lr": {"float": [0, 1]}, "depth": {"int": [1, 2]}, "wd": {"float": [0, 1]}})
    for ask in (space.grid, lambda: space.grid_size):
        with pytest.raises(GridError) as caught:
            ask()
        assert [problem.path for problem in caught.value.problems] == [("lr",), ("wd",)]
        assert "points: 5" in str(caught.value)


def test_diff_says_what_changes(space: SearchSpace) -> None:
    old = parse({"lr": {"float": [1e-4, 1]}, "depth": 2, "same": [1, 2]})
    new = parse({"lr": {"float": [1e-3, 1]}, "same": [1, 2], "dropout": {"float": [0, 0.5]}})
    assert old.diff(new) == [
        "lr: {float: [0.0001, 1.0]} -> {float: [0.001, 1.0]}",
        "+ dropout: {float: [0.0, 0.5]}",
        "- depth: {fixed: 2}",
    ]
    assert space.diff(space) == []
    assert parse({"a": 1}).diff(parse({"a": True})) == ["a: {fixed: 1} -> {fixed: true}"]


def test_names_are_checked() -> None:
    for parameters, message in (
        ((Parameter("x", Fixed(1)), Parameter("x", Fixed(2))), "^x: 'x' is defined twice; keep"),
        ((Parameter("use", Fixed(1)),), "^use: 'use' names ready-made spaces"),
        ((Parameter("", Fixed(1)),), "a parameter's name is text"),
        (
            (
                Parameter("x", Int(1, 2)),
                Parameter("y", Fixed(1), when=(("x", (1,)), ("x", (2,)))),
            ),
            "^y.when.x: 'x' is named twice; list its values in one condition.",
        ),
    ):
        with pytest.raises(SpaceError, match=message):
            SearchSpace(parameters)


def test_conditions_are_kept_in_plain_values() -> None:
    x = Parameter("x", Float(0, 0.5, step=0.1))
    y = Parameter("y", Choice((1, 2)), when=(("x", (0.1 + 0.2, 0.3)),))
    assert SearchSpace((y, x)).parameters == (x, Parameter("y", y.domain, (("x", (0.3,)),)))


def test_spaces_and_their_errors_travel_between_processes(space: SearchSpace) -> None:
    assert pickle.loads(pickle.dumps(space)) == space  # noqa: S301
    assert space.size == 16  # cached, and still travelling
    assert hash(pickle.loads(pickle.dumps(space))) == hash(space)  # noqa: S301
    error = SpaceError([Problem(("x",), "it is wrong.")])
    assert pickle.loads(pickle.dumps(error)).problems == error.problems  # noqa: S301
