"""Conditions, vectors and requirements: what they mean, and every way to get them wrong."""

from __future__ import annotations

import copy
import pickle
import random
from typing import Any

import numpy as np
import pytest

from hpo.search_spaces import (
    Choice,
    Fixed,
    Float,
    Int,
    Parameter,
    Problem,
    Scalar,
    SearchSpace,
    SpaceError,
    parse,
)
from hpo.search_spaces.conditions import Comparison
from hpo.search_spaces.vectors import tapered


def _any(value: object) -> Any:
    """A value of a type that the annotations forbid."""
    return value


def problems(mapping: Any, **known: Any) -> list[Problem]:
    with pytest.raises(SpaceError) as caught:
        parse(mapping, known=known)
    return list(caught.value.problems)


PARENTS: dict[str, Any] = {
    "depth": {"int": [1, 6]},
    "rate": {"float": [0.0, 1.0]},
    "dropout": {"float": [0.0, 0.5], "step": 0.1},
    "optimizer": ["sgd", "adam"],
    "size": {"choice": ["s", "m", "l"], "ordered": True},
    "version": {"choice": ["1", "1e1", "2"], "ordered": True},
    "batch": {"int": [16, 256], "powers_of": 2},
    "flag": [True, False],
    "nothing": [None, "x"],
    "fixed": 3,
}


def child(**when: Any) -> SearchSpace:
    return parse({**PARENTS, "x": {"choice": [1, 2], "when": when}})


@pytest.mark.parametrize(
    ("parent", "accepted", "met", "not_met"),
    [
        ("depth", ">= 3", [3, 4, 6], [1, 2]),
        ("depth", ">=3", [3], [2]),
        ("depth", "  <  3 ", [2], [3]),
        ("depth", "> 2.5", [3], [2]),
        ("depth", ["< 2", "> 5"], [1, 6], [2, 5]),
        ("depth", [1, "> 5"], [1, 6], [2, 5]),
        ("depth", "!= 3", [1, 2, 4], [3]),
        ("depth", np.int64(3), [3], [2]),
        ("rate", "> 1e-2", [0.011, 1.0], [0.0, 0.01]),
        ("rate", "!= 0.5", [0.0, 0.51], [0.5]),
        ("dropout", 0.1 + 0.2, [0.3], [0.2]),
        ("dropout", f"!= {0.1 + 0.2}", [0.2], [0.3]),
        ("dropout", f">= {0.1 + 0.2}", [0.3], [0.2]),
        ("optimizer", "!= sgd", ["adam"], ["sgd"]),
        ("size", ">= m", ["m", "l"], ["s"]),
        ("size", "!= m", ["s", "l"], ["m"]),
        ("version", ">= 1e1", ["1e1", "2"], ["1"]),
        ("version", "!= 1", ["1e1", "2"], ["1"]),
        ("version", '!= "1"', ["1e1", "2"], ["1"]),
        ("batch", "> 32", [64], [16, 32]),
        ("flag", "!= true", [False], [True]),
        ("flag", False, [False], [True]),
        ("nothing", None, [None], ["x"]),
        ("nothing", "!= null", ["x"], [None]),
        ("fixed", ">= 3", [3], []),
    ],
)
def test_what_meets_a_condition(
    parent: str, accepted: Any, met: list[Any], not_met: list[Any]
) -> None:
    space = child(**{parent: accepted})
    for value in met:
        assert space.is_active("x", {parent: value})
    for value in not_met:
        assert not space.is_active("x", {parent: value})
    assert not space.is_active("x", {})  # the parent is not active
    assert parse(space.to_dict()) == space
    assert pickle.loads(pickle.dumps(space)).is_active("x", {parent: met[0]})  # noqa: S301


def test_an_option_that_looks_like_a_comparison_is_an_option() -> None:
    space = parse(
        {"bound": ["<= 1", "> 1"], "x": {"choice": [1, 2], "when": {"bound": "> 1"}}},
    )
    assert space.is_active("x", {"bound": "> 1"})
    assert not space.is_active("x", {"bound": "<= 1"})


def test_comparisons_are_counted_in_steps_that_floats_cannot_add() -> None:
    space = parse(
        {
            "dropout": {"float": [0.0, 0.5], "step": 0.1},
            "x": {"choice": [1, 2, 3], "when": {"dropout": f"!= {0.1 + 0.2}"}},
        }
    )
    assert space.size == len(list(space.grid())) == 5 * 3 + 1


def test_a_comparison_is_one_of_five() -> None:
    with pytest.raises(ValueError, match=r"^'~' is none of >=, <=, >, <, !=\.$"):
        Comparison("~", 3)
    assert Comparison(">", _any(np.int64(3))) == Comparison(">", 3)
    assert str(Comparison("!=", "3")) == '!= "3"'
    assert str(Comparison("!=", True)) == "!= true"


BAD_CONDITIONS: list[tuple[str, Any, str]] = [
    (
        "depth",
        ">= 9",
        "'depth' is never >= 9. It is {int: [1, 6]}: widen it, or drop the condition.",
    ),
    (
        "depth",
        "!= 9",
        "'depth' is never 9 anyway. It is {int: [1, 6]}: drop the condition.",
    ),
    (
        "depth",
        ">= three",
        "'>= three' does not fit 'depth': three is not a number; give one such as 0.1.",
    ),
    (
        "depth",
        ">= 2 and < 5",
        (
            "'>= 2 and < 5' does not fit 'depth': \"2 and < 5\" is not a number; "
            "give one such as 0.1."
        ),
    ),
    ("depth", "=> 3", '"=> 3" is not a comparison; write ">= 3".'),
    ("depth", "3", "'depth' is a number and never the text \"3\"; remove the quotes: 3."),
    ("depth", "== 3", '"== 3" is not a comparison; for one value write just that: 3.'),
    (
        "depth",
        [">= 2", "< 5"],
        (
            'every value of \'depth\' meets one of [">= 2", "< 5"], and one is enough; '
            "list the values that are meant, or drop the condition."
        ),
    ),
    (
        "rate",
        0.5,
        (
            "'rate' is continuous and never has one value exactly; compare it, as in "
            '">= 0.5", give it `step: ...`, or list its values as a choice.'
        ),
    ),
    (
        "rate",
        None,
        "'rate' is never null. It is {float: [0.0, 1.0]}: compare it, as in \">= 0.5\".",
    ),
    (
        "rate",
        "> 1",
        "'rate' is never > 1.0. It is {float: [0.0, 1.0]}: widen it, or drop the condition.",
    ),
    (
        "optimizer",
        "> sgd",
        (
            "'> sgd' does not fit 'optimizer': {choice: [sgd, adam]} has no order; "
            "say `ordered: true`, or list the values instead."
        ),
    ),
    (
        "size",
        ">= xl",
        "'>= xl' does not fit 'size': xl is not in {choice: [s, m, l], ordered: true}.",
    ),
    (
        "size",
        "> l",
        (
            "'size' is never > l. It is {choice: [s, m, l], ordered: true}: "
            "widen it, or drop the condition."
        ),
    ),
    ("optimizer", "sdg", "'optimizer' is never sdg. Did you mean 'sgd'?"),
    (
        "flag",
        1,
        (
            "'flag' is never 1. It is {choice: [true, false]}: "
            "add the value there, or drop the condition."
        ),
    ),
    (
        "fixed",
        ">= 4",
        "'fixed' is never >= 4. It is {fixed: 3}: widen it, or drop the condition.",
    ),
]


@pytest.mark.parametrize(("parent", "accepted", "message"), BAD_CONDITIONS)
def test_a_wrong_condition_says_why(parent: str, accepted: Any, message: str) -> None:
    found = problems({**PARENTS, "x": {"choice": [1, 2], "when": {parent: accepted}}})
    assert found == [Problem(("x", "when", parent), message)]


def test_a_contradiction_is_found_whatever_lies_between() -> None:
    mapping = {
        "depth": {"int": [1, 9]},
        "a": {"fixed": 1, "when": {"depth": ">= 5"}},
        "b": {"fixed": 1, "when": {"a": 1}},
        "c": {"fixed": 1, "when": {"b": 1, "depth": "<= 4"}},
    }
    assert problems(mapping) == [
        Problem(
            ("c", "when"),
            "it can never be active: its conditions, with those of its parents, leave 'depth' no "
            "value; drop one of them.",
        )
    ]
    mapping["c"] = {"fixed": 1, "when": {"b": 1, "depth": "<= 5"}}
    assert parse(mapping).size == 9


def test_parents_that_exclude_each_other_have_no_common_child() -> None:
    mapping = {
        "depth": {"int": [1, 9]},
        "a": {"fixed": 1, "when": {"depth": ">= 5"}},
        "b": {"fixed": 1, "when": {"depth": "<= 4"}},
        "c": {"fixed": 1, "when": {"a": 1, "b": 1}},
    }
    (problem,) = problems(mapping)
    assert problem.path == ("c", "when")
    assert "leave 'depth' no value" in problem.message
    assert parse({**mapping, "b": {"fixed": 1, "when": {"depth": "<= 5"}}}).size == 9


# Vectors ----------------------------------------------------------------------------------------


def test_a_vector_is_searched_value_by_value() -> None:
    space = parse({"depth": {"int": [0, 3]}, "width": {"int": [1, 2], "per": "depth"}})
    assert space.names == ("depth", "width_1", "width_2", "width_3")
    assert space.size == 1 + 2 + 4 + 8
    assert space.arranged({"depth": 0}) == {"depth": 0, "width": []}
    config = space.complete({"depth": 2, "width_1": 1, "width_2": 2, "width_3": 1})
    assert config == {"depth": 2, "width_1": 1, "width_2": 2}
    assert space.arranged(config) == {"depth": 2, "width": [1, 2]}


def test_a_tapered_vector_follows_from_its_first_value() -> None:
    space = parse(
        {
            "depth": {"int": [0, 4]},
            "width": {
                "int": [16, 256],
                "powers_of": 2,
                "per": "depth",
                "taper": ["constant", "pyramid", "widening"],
            },
        }
    )
    assert space.names == ("depth", "width", "width_taper")
    assert space.size == 1 + 5 + 3 * 5 * 3
    assert space.arranged({"depth": 0}) == {"depth": 0, "width": []}
    assert space.arranged({"depth": 1, "width": 64}) == {"depth": 1, "width": [64]}
    for rule, expected in (
        ("constant", [64, 64, 64, 64]),
        ("pyramid", [64, 32, 16, 16]),
        ("widening", [64, 128, 256, 256]),
    ):
        config: dict[str, Scalar] = {"depth": 4, "width": 64, "width_taper": rule}
        assert space.arranged(config) == {"depth": 4, "width": expected}


@pytest.mark.parametrize(
    ("domain", "first", "pyramid", "widening"),
    [
        (Int(10, 100), 50, [50, 25, 13, 10], [50, 100, 100, 100]),
        (Int(10, 100, step=30), 70, [70, 40, 10, 10], [70, 100, 100, 100]),
        (Int(1, 1000, log=True), 100, [100, 50, 25, 13], [100, 200, 400, 800]),
        (Float(0.0, 0.5), 0.4, [0.4, 0.2, 0.1, 0.05], [0.4, 0.5, 0.5, 0.5]),
        (Float(0.0, 0.5, step=0.1), 0.4, [0.4, 0.2, 0.1, 0.1], [0.4, 0.5, 0.5, 0.5]),
        (Float(1e-4, 1, log=True), 0.1, [0.1, 0.05, 0.025, 0.0125], [0.1, 0.2, 0.4, 0.8]),
        (Choice((8, 64, 16)), 64, [64, 16, 16, 8], [64, 64, 64, 64]),
    ],
)
def test_taper_rules(domain: Any, first: Any, pyramid: list[Any], widening: list[Any]) -> None:
    assert tapered(domain, first, "constant", 3) == [first] * 3
    found = tapered(domain, first, "pyramid", 4)
    assert found == pytest.approx(pyramid)
    assert tapered(domain, first, "widening", 4) == pytest.approx(widening)
    for rule in ("constant", "pyramid", "widening"):
        assert all(domain.contains(value) for value in tapered(domain, first, rule, 1000))
        assert {type(value) for value in tapered(domain, first, rule, 9)} == {type(first)}


def test_a_vector_depends_on_its_count_and_on_its_conditions() -> None:
    space = parse(
        {
            "model": ["mlp", "linear"],
            "depth": {"int": [1, 3], "when": {"model": "mlp"}},
            "norm": [True, False],
            "width": {"int": [1, 2], "per": "depth", "when": {"norm": True, "depth": [1, 2]}},
            "units": {"int": [1, 2], "per": "depth", "taper": "pyramid"},
        }
    )
    assert space.names == ("model", "depth", "norm", "width_1", "width_2", "units")
    assert space.arranged({"model": "linear", "norm": True}) == {"model": "linear", "norm": True}
    config: dict[str, Scalar] = {"model": "mlp", "norm": True, "depth": 3, "units": 2}
    assert space.contains({**config})
    assert space.arranged(config) == {**config, "units": [2, 1, 1]}
    # linear; mlp without norm; with norm and 1, 2 or 3 layers
    assert space.size == 2 + 3 * 2 + 2 * (2 + 4 + 1)
    assert space.vector_of == {"width_1": "width", "width_2": "width", "units": "units"} | (
        {"width_3": "width"}
    )


def test_a_vector_of_a_fixed_length_needs_no_conditions() -> None:
    space = parse({"depth": 2, "width": {"int": [1, 2], "per": "depth"}})
    assert all(not parameter.when for parameter in space.plain)
    assert space.size == 4
    choice = parse({"depth": [2, 4], "width": {"int": [1, 2], "per": "depth"}})
    assert choice.size == 4 + 16
    assert not choice.by_name["width_2"].when


VECTOR = {"int": [1, 9], "per": "depth"}
BAD_VECTORS: list[tuple[Any, tuple[str, ...], str]] = [
    (
        {"dpth": {"int": [1, 3]}, "w": VECTOR},
        ("w", "per"),
        "the space has no depth. Did you mean 'dpth'?",
    ),
    (
        {"depth": ["a", "b"], "w": VECTOR},
        ("w", "per"),
        "'depth' is {choice: [a, b]}; a vector needs a whole number to count.",
    ),
    (
        {"depth": [1, 2.0], "w": VECTOR},
        ("w", "per"),
        "'depth' is {choice: [1, 2.0]}; a vector needs a whole number to count.",
    ),
    (
        {"depth": {"float": [1, 3]}, "w": VECTOR},
        ("w", "per"),
        "'depth' is {float: [1.0, 3.0]}; a vector needs a whole number to count.",
    ),
    (
        {"depth": True, "w": VECTOR},
        ("w", "per"),
        "'depth' is {fixed: true}; a vector needs a whole number to count.",
    ),
    (
        {"depth": {"int": [-1, 3]}, "w": VECTOR},
        ("w", "per"),
        "'depth' may be -1; a vector needs at least 0 values.",
    ),
    (
        {"depth": 0, "w": VECTOR},
        ("w", "per"),
        "'depth' is always 0, so it has no values; drop it.",
    ),
    (
        {"depth": {"int": [1, 500]}, "w": VECTOR},
        ("w", "per"),
        (
            "'depth' may be 500, and so many values are too many to search; "
            "give it `taper: constant`, or count at most 100."
        ),
    ),
    (
        {"depth": {"int": [1, 5000]}, "w": {**VECTOR, "taper": "pyramid"}},
        ("w", "per"),
        "'depth' may be 5000, and so many values are too many to search; count at most 1000.",
    ),
    (
        {"depth": 3, "w": VECTOR, "v": {**VECTOR, "per": "w"}},
        ("v", "per"),
        "'w' is a vector itself; name a parameter that counts.",
    ),
    (
        {"depth": 3, "w": {**VECTOR, "taper": "pyramyd"}},
        ("w", "taper"),
        "there is no taper rule pyramyd. Did you mean 'pyramid'?",
    ),
    (
        {"depth": 3, "w": {**VECTOR, "taper": ["pyramid", "pyramid"]}},
        ("w", "taper"),
        "pyramid is listed twice; keep one.",
    ),
    (
        {"depth": 3, "w": {"int": [1, 9], "taper": "pyramid"}},
        ("w", "taper"),
        "`taper` belongs to a vector; say what it has a value for, as in per: depth.",
    ),
    (
        {"depth": 3, "w": {"choice": ["a", "b"], "per": "depth", "taper": "pyramid"}},
        ("w", "taper"),
        "only numbers taper, and it is {choice: [a, b]}; drop `taper`.",
    ),
    (
        {"depth": 3, "w": {"fixed": 3, "per": "depth"}},
        ("w", "per"),
        "3 is one value for all; drop `per`, or search a range.",
    ),
    (
        {"depth": 3, "w": {"int": [1, 9], "per": 3}},
        ("w", "per"),
        "`per` names a parameter that counts, such as depth, not 3.",
    ),
    (
        {"depth": 3, "w": VECTOR, "w_2": 7},
        ("w_2",),
        "a value of the vector 'w' is called so; choose another.",
    ),
    (
        {"depth": 3, "w": VECTOR, "x": {"fixed": 1, "when": {"w": 3}}},
        ("x", "when", "w"),
        (
            "'w' has a value for each depth, and a condition needs a parameter with one value; "
            "depend on another."
        ),
    ),
    (
        {"depth": 3, "w": VECTOR, "x": {"fixed": 1, "when": {"w_1": 3}}},
        ("x", "when", "w_1"),
        "the space has no 'w_1'. It is a part of the vector 'w'; depend on another parameter.",
    ),
    (
        {"depth": {"int": [1, 3], "when": {"w": "> 3"}}, "w": {**VECTOR, "taper": "pyramid"}},
        ("depth", "when"),
        "the conditions go in a circle: depth -> w -> depth; drop one of them.",
    ),
    (
        {"depth": {"int": [0, 3]}, "w": {**VECTOR, "when": {"depth": 0}}},
        ("w", "when"),
        (
            "it can never be active: its conditions, with those of its parents, leave 'depth' no "
            "value; drop one of them."
        ),
    ),
    (
        {"depth": 3, "w": {"int": [1, 9], "why": 3}},
        ("w", "why"),
        "`why` is a sentence for people, not 3.",
    ),
]


@pytest.mark.parametrize(("mapping", "path", "message"), BAD_VECTORS)
def test_a_wrong_vector_says_why(mapping: Any, path: tuple[str, ...], message: str) -> None:
    assert problems(mapping) == [Problem(path, message)]


def test_the_taper_of_a_vector_may_not_clash_either() -> None:
    taper = {**VECTOR, "taper": ["constant", "pyramid"]}
    (problem,) = problems({"depth": 3, "w": taper, "w_taper": 7})
    assert problem.path == ("w_taper",)
    assert parse({"depth": 3, "w": {**taper, "taper": "pyramid"}, "w_taper": 7}).size == 9


# Requirements -----------------------------------------------------------------------------------

NUMBERS: dict[str, Any] = {
    "a": {"int": [1, 9]},
    "f": [True, False],
    "o": ["sgd", "adam"],
    "n": [None, 1],
    "depth": {"int": [1, 3]},
    "w": {"int": [1, 8], "per": "depth"},
}
KNOWN = "a, f, o, n, depth, w_1, w_2, w_3"
BAD_REQUIREMENTS: list[tuple[Any, str]] = [
    ("a + 1", "'a + 1' is a number; compare it with something, as in a + 1 < 1."),
    ("'x' if a else o", "\"'x' if a else o\" is not allowed here; a requirement compares"),
    ("o", "'o' is a value; compare it with something, as in o < 1."),
    ("o == sgd", "'o == sgd': for the text write it in quotes, 'sgd'."),
    ("o < 3", "'o < 3': o is not always a number, which <, + and the like need."),
    ("n < 3", "'n < 3': n is not always a number, which <, + and the like need."),
    ("f + 1 < 3", "'f + 1 < 3': f is not always a number, which <, + and the like need."),
    ("o * 999999999 == 'a'", "\"o * 999999999 == 'a'\": o is not always a number, which"),
    ("not a", "'not a': a is not true or false, which `and`, `or` and `not` need."),
    ("a == 'x'", "\"a == 'x'\": a is a number and 'x' is text, so they are never equal."),
    ("f == 1", "'f == 1': f is true or false and 1 is a number, so they are never equal."),
    ("a in 3", "'a in 3': `in` is followed by a list, such as [1, 2]."),
    ("a in []", "'a in []': `in` is followed by a list, such as [1, 2]."),
    ("[a] == [1]", "'[a] == [1]': [a] is a list, which stands only after `in`."),
    ("b < 3", f"'b < 3': the space has no 'b'. Known: {KNOWN}."),
    ("dept < 3", "'dept < 3': the space has no 'dept'. Did you mean 'depth'?"),
    ("w < 3", "'w < 3': 'w' has several values; name one of them, such as 'w_1'."),
    ("w_4 < 3", "'w_4 < 3': the space has no 'w_4'. Did you mean 'w_3'?"),
    ("1 < 2", "'1 < 2' names no parameter; drop it."),
    ("a = 3", "cannot read 'a = 3' (two values are compared with ==); a requirement compares"),
    ("", "cannot read '' (invalid syntax); a requirement compares parameters and numbers with"),
    ("a.real < 3", "'a.real' is not allowed here; a requirement compares parameters and numbers"),
    ("exec(a) < 3", "'exec(a)' is not allowed here; a requirement compares parameters and"),
    (
        "-" * 900 + "a < 3",
        f"'{'-' * 77}...' is nested too deeply; make several requirements of it.",
    ),
    ("a" * 1001, f"cannot read '{'a' * 77}...' (longer than 1000 characters); a requirement"),
    ("max(a) < 3", "'max(a) < 3': max takes two numbers or more."),
    ("abs(a, 1) < 3", "'abs(a, 1) < 3': abs takes one number."),
    (3, '3 is not a requirement; write text such as "warmup_epochs < epochs".'),
    (
        "a > 9",
        (
            "no configuration met all requirements in 10,000 draws; loosen 'a > 9', for one, or "
            "narrow the ranges that it names."
        ),
    ),
    (
        "a / 0 > 9",
        (
            "no configuration met all requirements in 10,000 draws; loosen 'a / 0 > 9', for one, "
            "or narrow the ranges that it names."
        ),
    ),
]


@pytest.mark.parametrize(("text", "message"), BAD_REQUIREMENTS)
def test_a_wrong_requirement_says_why(text: Any, message: str) -> None:
    (problem,) = problems({**NUMBERS, "require": ["a < 9", text]})
    assert problem.path == ("require", 1)
    assert problem.message.startswith(message)
    assert problem.message.endswith((".", "?"))


def test_wrong_requirements_are_told_with_all_else() -> None:
    found = problems(
        {
            **NUMBERS,
            "x": {"flaot": [0, 1]},
            "y": {"int": [0, 1], "when": {"aa": 1}},
            "require": ["a <", "zz < 1", "x < a", "w_9 < 3", "a < 10", "o < 1"],
        }
    )
    assert [problem.path for problem in found] == [
        ("x", "flaot"),
        ("require", 0),
        ("y", "when", "aa"),
        ("require", 1),
    ]
    # With sound parameters, kinds are judged as well.
    found = problems({**NUMBERS, "require": ["a <", "zz < 1", "o < 1", "a < 10"]})
    assert [problem.path for problem in found] == [("require", 0), ("require", 1), ("require", 2)]
    (problem,) = problems({**NUMBERS, "require": {"a": 3}})
    assert problem == Problem(
        ("require",), '`require` takes a list of requirements, such as ["a < b"], not {a: 3}.'
    )


def test_requirements_may_name_what_is_known_from_elsewhere() -> None:
    space = parse({"warmup": {"int": [1, 9]}, "require": "warmup < epochs"}, known={"epochs": 5})
    assert space.size == 4
    assert not space.contains({"warmup": 5})
    assert space == parse(space.to_dict(), known={"epochs": 7})  # no part of the space itself
    assert pickle.loads(pickle.dumps(space)).size == 4  # noqa: S301


def test_a_parameter_shadows_what_is_known() -> None:
    forms = {
        "mode": ["long", "short"],
        "epochs": {"int": [10, 12], "when": {"mode": "long"}},
        "warmup": {"int": [9, 11]},
        "require": ["warmup < epochs"],
    }
    space = parse(forms, known={"epochs": "many"})
    assert space.known == {}
    # Without epochs of its own the requirement says nothing.
    assert space.size == len(list(space.grid())) == 3 + (1 + 2 + 3)
    assert parse({"mode": [1, 2], "require": "mode == 1"}, known={"mode": 9}).size == 1


def test_yamls_words_are_read_in_requirements() -> None:
    space = parse({"f": [True, False], "n": [None, 1], "require": ["f == true or n != null"]})
    assert space.size == 3
    assert parse({"f": [True, False], "require": ["not f"]}).size == 1


def test_parameters_may_be_called_like_functions() -> None:
    space = parse({"max": {"int": [1, 9]}, "min": {"int": [1, 9]}, "require": "min < max"})
    assert space.size == 36
    both = parse({"max": {"int": [1, 9]}, "a": {"int": [1, 9]}, "require": "max(max, a) < 3"})
    assert both.size == 4


def test_a_requirement_between_values_of_vectors() -> None:
    space = parse(
        {
            "depth": {"int": [1, 2]},
            "w": {"int": [1, 3], "per": "depth"},
            "u": {"int": [1, 3], "per": "depth", "taper": ["constant", "pyramid"]},
            "require": ["w_1 >= w_2", "u < 3", "u_taper == 'pyramid' or w_2 == 1"],
        }
    )
    # depth 1: 3 w_1 x 2 u; depth 2: pyramid with 6 pairs, constant with w_2 = 1, x 2 u
    assert space.size == len(list(space.grid())) == 3 * 2 + (6 + 3) * 2


def test_what_is_impossible_is_found_without_drawing_all_the_rest() -> None:
    flags = {f"flag_{i}": [True, False] for i in range(300)}
    (problem,) = problems({**flags, "a": {"int": [1, 9]}, "b": 9, "require": "a > b"})
    assert problem == Problem(
        ("require", 0),
        "no configuration met 'a > b' in 10,000 draws; loosen it or narrow the ranges that it "
        "names.",
    )


# Odd input --------------------------------------------------------------------------------------


def test_a_library_name_that_is_no_text() -> None:
    (problem,) = problems({"use": [None]})
    assert problem.path == ("use", 0)
    assert problem.message.startswith("there is no ready-made space 'None'.")


@pytest.mark.parametrize(
    "mapping",
    [
        {"x": {True: 1}},
        {"x": {None: None}},
        {"x": {}},
        {None: 1},
        {True: {"int": [1, 2]}},
        {1.5: {"flaot": 1}},
        {"": [1, 2]},
        {("a", "b"): 1},
        {"x": {"float": [0, 1], 3: 4}},
        {"x": {"float": None}},
        {"x": {"float": {"low": 0}}},
        {"x": {"float": [None, 1]}},
        {"x": {"float": [0, 1], "log": None}},
        {"x": {"float": [0, 1], "log": "true"}},
        {"x": {"float": [0, 10**400]}},
        {"x": {"int": [0, 10**400]}},
        {"x": {"int": [False, True]}},
        {"x": {"int": ["1", "2"]}},
        {"x": {"int": [1, 2], "step": None}},
        {"x": {"int": [1, 2], "points": "3"}},
        {"x": {"int": [1, 9], "prior": [1]}},
        {"x": {"int": [1, 9], "prior": True}},
        {"x": {"choice": None}},
        {"x": {"choice": {}}},
        {"x": {"choice": [1, 1.0]}},
        {"x": {"choice": [{}, []]}},
        {"x": {"choice": ["a", "b"], "prior": ["a"]}},
        {"x": {"choice": np.array([1, 2])}},
        {"x": {"fixed": [1]}},
        {"x": {"fixed": 1, "log": True}},
        {"x": b"bytes"},
        {"x": {1, 2}},
        {"x": float("nan")},
        {"x": [float("inf"), 1]},
        {"x": {"int": [1, 2], "when": None}},
        {"x": {"int": [1, 2], "when": {None: None}}},
        {"x": {"int": [1, 2], "when": {"y": {}}}, "y": 1},
        {"x": {"int": [1, 2], "when": {"y": {1, 2}}}, "y": 1},
        {"x": {"int": [1, 2], "when": {"y": [b"z"]}}, "y": [1, 2]},
        {"x": {"int": [1, 2], "per": True}},
        {"x": {"int": [1, 2], "per": "x"}},
        {"x": {"int": [1, 2], "per": "y", "taper": {"a": 1}}, "y": 2},
        {"x": {"int": [1, 2], "per": "y", "taper": None}, "y": 2},
        {"x": 1, "require": None},
        {"x": 1, "require": [[]]},
        {"x": 1, "use": {}},
        [],
        None,
        "x",
    ],
)
def test_odd_input_is_told_in_sentences(mapping: Any) -> None:
    for problem in problems(mapping):
        assert problem.message.rstrip("?").endswith((".", "'")), problem
        assert problem.message.count("  ") == 0


def test_odd_input_that_means_something() -> None:
    space = parse(
        {
            "nothing": None,
            "step": {"float": [0, 1], "step": None, "points": None, "prior": None},
            "int": {"int": [np.int64(1), np.int64(4)], "when": {}},
            "taper": {"int": [1, 2], "taper": [], "per": None},
            "text": {"choice": ["yes", "no", "on", "1", "null"]},
            "mixed": [1, "1", None, 2.5, "true"],
            "require": [],
            "use": [],
        }
    )
    assert space.by_name["nothing"].domain == Fixed(None)
    assert space.by_name["int"].domain == Int(1, 4)
    assert parse(space.to_dict()) == space


def test_spaces_are_values() -> None:
    mapping = {
        "a": {"int": [1, 9], "prior": 3},
        "w": {"int": [1, 3], "per": "depth", "when": {"a": ["> 3", 1]}},
        "depth": {"int": [1, 2]},
        "require": ["a < 9"],
    }
    space = parse(mapping)
    before = hash(space)
    assert space.size == len(list(space.grid()))
    space.sample(random.Random(0))
    for copied in (
        copy.copy(space),
        copy.deepcopy(space),
        pickle.loads(pickle.dumps(space)),  # noqa: S301
        SearchSpace(space.parameters, space.require),
    ):
        assert copied == space
        assert hash(copied) == before
        assert copied.size == space.size
        assert copied.sample(random.Random(1)) == space.sample(random.Random(1))
    assert len({space, parse(mapping), parse({**mapping, "require": ["a < 8"]})}) == 2
    listed: Any = [*space.require]
    assert SearchSpace(space.parameters, listed) == space


def test_complete_refuses_what_is_fixed_to_something_else() -> None:
    space = parse({"a": [1, 2], "b": 3, "c": {"fixed": 4, "when": {"a": 2}}})
    assert space.complete({"a": 1, "b": 3}) == {"a": 1, "b": 3}
    with pytest.raises(SpaceError, match=r"^b: the space fixes it to 3, not 5\.$"):
        space.complete({"a": 1, "b": 5, "c": 9})  # c is not active
    assert not space.contains({"a": 1, "b": 3})


def test_keys_of_anything_are_json() -> None:
    space = parse({"a": [1, 2]})
    assert space.key({"a": np.int64(1)}) == space.key({"a": 1}) == '{"a": 1}'
    assert space.key({"b": np.float64(0.5)}) == '{"b": 0.5}'


def test_conditions_in_python_are_those_of_yaml() -> None:
    space = SearchSpace(
        (
            Parameter("x", Choice((1, 2)), when=(("a", (Comparison(">", np.float64(3)), 1)),)),
            Parameter("a", Int(1, 9)),
        )
    )
    assert space == parse(
        {"x": {"choice": [1, 2], "when": {"a": ["> 3", 1]}}, "a": {"int": [1, 9]}}
    ) or space.to_dict() == {
        "a": {"int": [1, 9]},
        "x": {"choice": [1, 2], "when": {"a": ["> 3.0", 1]}},
    }
