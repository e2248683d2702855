"""What a study file says under `space:`, and every way to say it wrong."""

from __future__ import annotations

import datetime
import subprocess
import sys
from typing import Any

import pytest

from hpo.search_spaces import (
    Choice,
    Fixed,
    Float,
    Fragment,
    Int,
    Parameter,
    Problem,
    SearchSpace,
    SpaceError,
    did_you_mean,
    library,
    parse,
)
from hpo.search_spaces.flow import flow


def problems(mapping: Any, **options: Any) -> list[Problem]:
    with pytest.raises(SpaceError) as caught:
        parse(mapping, **options)
    return list(caught.value.problems)


def test_every_form() -> None:
    space = parse(
        {
            "learning_rate": {"float": [1e-4, 1], "log": True, "points": 5},
            "dropout": {"float": [0, 0.7], "step": 0.1},
            "depth": {"int": [1, 6]},
            "batch_size": {"int": [32, 256], "powers_of": 2},
            "optimizer": ["sgd", "adam"],
            "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": "sgd"}},
            "beta": {"fixed": 0.9, "when": {"optimizer": ["adam"], "depth": [1, 2]}},
            "width": 128,
            "seed": None,
        }
    )
    assert space.parameters == (
        Parameter("learning_rate", Float(1e-4, 1, log=True, points=5)),
        Parameter("dropout", Float(0, 0.7, step=0.1)),
        Parameter("depth", Int(1, 6)),
        Parameter("batch_size", Int(32, 256, powers_of=2)),
        Parameter("optimizer", Choice(("sgd", "adam"))),
        Parameter("momentum", Choice((0.5, 0.9)), when=(("optimizer", ("sgd",)),)),
        Parameter("beta", Fixed(0.9), when=(("optimizer", ("adam",)), ("depth", (1, 2)))),
        Parameter("width", Fixed(128)),
        Parameter("seed", Fixed(None)),
    )


BAD: list[tuple[Any, tuple[str | int, ...], str]] = [
    (
        {},
        (),
        (
            "the space is empty; give it a parameter, such as "
            "learning_rate: {float: [1e-4, 1.0], log: true}."
        ),
    ),
    (["x"], (), "a space maps names to what may be searched, and [x] does not."),
    (
        {"x": {"flaot": [0, 1], "points": 5}},
        ("x", "flaot"),
        "there is no form 'flaot'. Did you mean 'float'?",
    ),
    (
        {"x": {"min": 0, "max": 1}},
        ("x",),
        (
            "{min: 0, max: 1} does not say what is searched; give it one of `float: [low, high]`, "
            "`int: [low, high]`, `choice: [...]` and `fixed: value`."
        ),
    ),
    (
        {"x": {"int": [0, 1], "float": [0, 1]}},
        ("x",),
        "it has both `float` and `int`; keep one.",
    ),
    (
        {"x": {"float": [0, 1], "stepp": 0.1}},
        ("x", "stepp"),
        "`float` takes no 'stepp'. Did you mean 'step'?",
    ),
    (
        {"x": {"float": [1, 64], "powers_of": 2}},
        ("x", "powers_of"),
        (
            "`float` takes no 'powers_of'. Known: log, step, points, prior, spread, when, per, "
            "taper, why."
        ),
    ),
    (
        {"x": {"float": [0, 1, 2]}},
        ("x", "float"),
        "`float` takes two numbers, [low, high], and [0, 1, 2] has 3.",
    ),
    (
        {"x": {"int": 3}},
        ("x", "int"),
        "`int` takes two numbers, [low, high], not 3; for one value write the scalar: 3.",
    ),
    ({"x": {"float": ["1e-4", 1]}}, ("x", "float"), '"1e-4" is text; remove the quotes: 1e-4.'),
    (
        {"x": [[1], 2]},
        ("x",),
        (
            "[1] is a list; an option is text, a number, true, false or null. Write "
            '"1", and split it in a function of your own, which may return an estimator, '
            "too."
        ),
    ),
    ({"x": []}, ("x",), "the choice is empty; give it at least one option."),
    ({"x": {"choice": "sgd"}}, ("x", "choice"), "a choice is a list of options; write [sgd]."),
    (
        {"x": datetime.date(2024, 1, 1)},
        ("x",),
        "2024-01-01 is a date; write text in quotes, a number, true, false or null.",
    ),
    (
        {"x": {"int": [0, 1], "when": {3: 1}}},
        ("x", "when", 3),
        "the space has no 3.",
    ),
    ({7: 1}, (7,), "a parameter's name is text, not 7; put it in quotes."),
    (
        {"x": {"int": [0, 1], "when": "y"}},
        ("x", "when"),
        'a condition maps parents to values, such as {optimizer: sgd}, and "y" does not.',
    ),
    (
        {"x": {"int": [0, 1], "when": {"y": [[1]]}}, "y": [1, 2]},
        ("x", "when", "y"),
        (
            "[[1]] is neither a value of 'y', nor a list of its values, nor a comparison such "
            'as ">= 3".'
        ),
    ),
    (
        {"x": {"int": [0, 1], "when": {"y": []}}, "y": [1, 2]},
        ("x", "when", "y"),
        "no value of 'y' is listed; give one, or drop it.",
    ),
    (
        {"momentum": {"int": [0, 1], "when": {"optimiser": "sgd"}}, "optimizer": ["sgd"]},
        ("momentum", "when", "optimiser"),
        "the space has no 'optimiser'. Did you mean 'optimizer'?",
    ),
    (
        {"x": {"int": [0, 1], "when": {"optimizer": "sdg"}}, "optimizer": ["sgd", "adam"]},
        ("x", "when", "optimizer"),
        "'optimizer' is never sdg. Did you mean 'sgd'?",
    ),
    (
        {"x": {"int": [0, 1], "when": {"depth": 9}}, "depth": {"int": [1, 4]}},
        ("x", "when", "depth"),
        "'depth' is never 9. It is {int: [1, 4]}: add the value there, or drop the condition.",
    ),
    (
        {"x": {"int": [0, 1], "when": {"y": True}}, "y": [1, 2]},
        ("x", "when", "y"),
        "'y' is never true. It is {choice: [1, 2]}: add the value there, or drop the condition.",
    ),
    (
        {"x": {"int": [0, 1], "when": {"lr": 0.1}}, "lr": {"float": [0, 1]}},
        ("x", "when", "lr"),
        (
            "'lr' is continuous and never has one value exactly; compare it, as in "
            '">= 0.1", give it `step: ...`, or list its values as a choice.'
        ),
    ),
    (
        {"x": {"int": [0, 1], "when": {"x": 1}}},
        ("x", "when", "x"),
        "'x' cannot depend on itself; drop the condition.",
    ),
    (
        {"w": 1, "x": {"fixed": 1, "when": {"y": 1}}, "y": {"fixed": 1, "when": {"x": 1}}},
        ("x", "when"),
        "the conditions go in a circle: x -> y -> x; drop one of them.",
    ),
    (
        {
            "a": [1, 2],
            "b": {"choice": [1, 2], "when": {"a": 1}},
            "c": {"choice": [1, 2], "when": {"a": 2, "b": 1}},
        },
        ("c", "when"),
        (
            "it can never be active: its conditions, with those of its parents, leave 'a' no "
            "value; drop one of them."
        ),
    ),
    ({"use": ["sdg"]}, ("use", 0), "there is no ready-made space 'sdg'. Did you mean 'sgd'?"),
    (
        {"use": 3},
        ("use",),
        "`use` takes a list of ready-made spaces, such as [sgd, mlp], not 3.",
    ),
]


@pytest.mark.parametrize(("mapping", "path", "message"), BAD)
def test_a_mistake_says_where_it_is_and_what_to_do(
    mapping: Any, path: tuple[str | int, ...], message: str
) -> None:
    assert problems(mapping) == [Problem(path, message)]


def test_every_mistake_is_told_at_once() -> None:
    found = problems(
        {
            "use": ["sdg", "mlp"],
            "learning_rate": {"float": ["1e-4", True], "lgo": True, "step": 0},
            "momentum": {"choice": [1, 1], "when": {"optimizr": "sgd", "learning_rate": 1}},
            "optimizer": {"choise": ["sgd"]},
            "dropout": {"float": [0.5, 0.1], "when": {"depth": 99}},
            "extra": {"int": [1, 2], "when": {"widht": 1}},
        }
    )
    assert [problem.path for problem in found] == [
        ("use", 0),
        ("learning_rate", "lgo"),
        ("learning_rate", "float"),
        ("learning_rate", "float"),
        ("learning_rate", "step"),
        ("momentum", "choice"),
        ("optimizer", "choise"),
        ("dropout", "float"),
        ("extra", "when", "widht"),
        ("momentum", "when", "optimizr"),
        ("dropout", "when", "depth"),
    ]


def test_fragments_merge_left_to_right_and_own_keys_override() -> None:
    fragments = {
        "one": Fragment("one", "", "", {"a": 1, "b": [1, 2]}),
        "two": Fragment("two", "", "", {"b": 3, "c": {"fixed": 4, "when": {"b": 3}}}),
    }
    space = parse({"use": ["one", "two"], "a": 9}, library=fragments.__getitem__)
    assert space.complete({}) == {"a": 9, "b": 3, "c": 4}
    assert space.names == ("a", "b", "c")
    assert parse({"use": "one"}, library=fragments.__getitem__).names == ("a", "b")


SPACES: dict[str, dict[str, object]] = {
    "sgd": {
        "optimizer": "sgd",
        "momentum": {"float": [0.0, 0.99], "when": {"optimizer": "sgd"}},
        "nesterov": {"choice": [True, False], "when": {"momentum": ">= 0.5"}},
        "require": ["momentum <= 0.95"],
    },
    "adam": {"optimizer": "adam"},
    "mlp": {
        "depth": {"int": [0, 4]},
        "width": {"int": [16, 64], "powers_of": 2, "per": "depth"},
        "dropout": {"float": [0.0, 0.5], "when": {"depth": ">= 2"}},
        "require": ["depth < epochs"],
    },
    "linear": {
        "schedule": "linear",
        "final": {"float": [0.1, 1.0], "when": {"schedule": ["linear", "cosine"]}},
    },
}
FRAGMENTS = {name: Fragment(name, "", "", space) for name, space in SPACES.items()}


def use(*names: str, **own: Any) -> dict[str, Any]:
    return {"use": list(names), **own}


def fragments(mapping: Any, **known: int) -> SearchSpace:
    return parse(mapping, library=FRAGMENTS.__getitem__, known=known or {"epochs": 30})


def test_an_override_drops_what_it_makes_impossible_in_the_library() -> None:
    # The momentum goes with the optimizer it belongs to, what depends on it, and what is required
    # of it.
    space = fragments(use("sgd", "adam", "mlp"))
    assert space.names == (
        "optimizer",
        "depth",
        *("width_1", "width_2", "width_3", "width_4"),
        "dropout",
    )
    assert [each.text for each in space.require] == ["depth < epochs"]
    assert fragments(use("linear", schedule="constant")).names == ("schedule",)
    assert fragments(use("mlp", depth=1)).names == ("depth", "width_1")
    assert fragments(use("mlp", depth=0)).names == ("depth",)
    assert fragments(use("adam", "sgd")).names == ("optimizer", "momentum", "nesterov")


def test_an_override_drops_impossible_values_one_by_one() -> None:
    space = fragments(use("linear", schedule=["cosine", "constant"]))
    assert space.by_name["final"].when == (("schedule", ("cosine",)),)


def test_what_the_user_wrote_is_judged_and_not_dropped() -> None:
    own = {"fixed": 0.9, "when": {"optimizer": "sgd"}}
    (problem,) = problems(use("adam", momentum=own), library=FRAGMENTS.__getitem__)
    assert problem.path == ("momentum", "when", "optimizer")
    assert problem.message.startswith("'optimizer' is never sgd. Did you mean") is False


def test_what_names_a_dropped_parameter_is_told_why_it_is_gone() -> None:
    found = problems(
        use("sgd", "adam", x={"choice": [1, 2], "when": {"momentum": ">= 0.5"}}),
        library=FRAGMENTS.__getitem__,
    )
    assert found == [
        Problem(
            ("x", "when", "momentum"),
            "the space has no 'momentum'. Known: optimizer. "
            "('momentum' of `use: sgd` can never be active here.)",
        )
    ]
    (problem,) = problems(
        use("sgd", "adam", require="momentum < 0.9"), library=FRAGMENTS.__getitem__
    )
    assert problem == Problem(
        ("require", 0),
        "'momentum < 0.9': the space has no 'momentum'. Known: optimizer. "
        "('momentum' of `use: sgd` can never be active here.)",
    )


def test_a_problem_with_a_librarys_part_says_where_it_comes_from() -> None:
    found = problems(
        use("mlp", depth=[1.5, 2]),
        library=FRAGMENTS.__getitem__,
        known={"epochs": 30},
    )
    assert found == [
        Problem(
            ("width", "per"),
            "'depth' is {choice: [1.5, 2]}; a vector needs a whole number to count. "
            "('width' comes from `use: mlp`.)",
        ),
    ]
    (problem,) = problems(use("mlp"), library=FRAGMENTS.__getitem__)  # epochs are not known
    assert problem == Problem(
        ("require", 0),
        "'depth < epochs': set objective.epochs, or search 'epochs'. "
        '("depth < epochs" comes from `use: mlp`.)',
    )


def test_a_broken_parameter_takes_nothing_of_the_library_along() -> None:
    found = problems(
        use("sgd", optimizer={"choise": ["sgd"]}, require=["momentum < 0.9"]),
        library=FRAGMENTS.__getitem__,
    )
    assert [problem.path for problem in found] == [("optimizer", "choise")]


def test_every_part_of_the_library_parses() -> None:
    for name in library.names():
        fragment = library.load(name)
        assert fragment.name == name
        assert parse({"use": [name]}, known={"epochs": 30}) == parse(
            fragment.space, known={"epochs": 30}
        )
    with pytest.raises(SpaceError, match=r"no ready-made space 'nlp'\. Did you mean 'mlp'\?"):
        library.load("nlp")


def test_did_you_mean() -> None:
    assert did_you_mean("optimiser", ["depth", "optimizer"]) == " Did you mean 'optimizer'?"
    assert did_you_mean("xyz", ["a", "b", "c"]) == " Known: a, b, c."
    assert did_you_mean("xyz", []) == ""


def test_flow_style_reads_back_as_the_same_value() -> None:
    from ruamel.yaml import YAML

    value = {
        "float": [1e-5, 1.0, -3, 1e30],
        "text": [
            "sgd",
            "1e-4",
            "true",
            "No",
            "a b",
            "",
            "é",
            'say "x"',
            "null",
            "~",
            "{lr}",
            "a-b",
        ],
        "others": [True, False, None, {"a": [1]}],
    }
    assert YAML(typ="safe", pure=True).load(flow(value)) == value


def test_reading_a_space_imports_nothing_heavy() -> None:
    code = (
        "import sys; from hpo import search_spaces; search_spaces.parse({'x': [1, 2]}).size;"
        "print({'numpy', 'optuna', 'ruamel.yaml', 'torch', 'mlflow'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_a_space_without_parameters_cannot_be() -> None:
    with pytest.raises(SpaceError, match="the space is empty"):
        SearchSpace(())
