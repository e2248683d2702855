"""Requirements: as Python would have them, and nothing more than Python's comparisons."""

from __future__ import annotations

import ast
import contextlib
import itertools
import pickle
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from hpo.search_spaces import Requirement, SpaceError, parse
from hpo.search_spaces.requirements import kind_of

Draw: TypeAlias = Callable[[st.SearchStrategy[Any]], Any]

NUMBERS = ["depth", "rate", "k_1"]
FLAGS = ["nesterov"]
TEXTS = ["optimizer"]
numbers = st.integers(-4, 9) | st.sampled_from((0.0, 0.5, 1e-3, 1e300, -2.5))


@st.composite
def arithmetic(draw: Draw, depth: int = 3) -> str:
    """A number: constants, parameters, and what can be made of them."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        return str(draw(st.sampled_from(NUMBERS) | numbers.map(lambda n: f"({n})")))
    a, b = draw(arithmetic(depth - 1)), draw(arithmetic(depth - 1))
    shapes = ["({} + {})", "({} - {})", "({} * {})", "({} / {})", "({} // {})", "({} % {})"]
    shapes += ["max({}, {})", "min({}, {})", "abs({} - {})", "(-{} + {})"]
    return str(draw(st.sampled_from(shapes)).format(a, b))


@st.composite
def sentences(draw: Draw, depth: int = 3) -> str:
    """True or false: comparisons, and what can be made of them."""
    if depth == 0 or draw(st.integers(0, 2)) == 0:
        a, b, c = (draw(arithmetic(2)) for _ in range(3))
        signs = st.sampled_from(["<", "<=", ">", ">=", "==", "!="])
        sign, other = draw(signs), draw(signs)
        text = draw(st.sampled_from(["sgd", "adam", "x y"]))
        shapes = [f"{a} {sign} {b}", f"{a} {sign} {b} {other} {c}", f"{a} in [{b}, {c}]"]
        shapes += [f"{a} not in ({b}, 3)", f"optimizer == '{text}'", f"optimizer != '{text}'"]
        shapes += [f"optimizer in ['{text}', 'sgd']", "nesterov", "nesterov == True"]
        return str(draw(st.sampled_from(shapes)))
    a, b = draw(sentences(depth - 1)), draw(sentences(depth - 1))
    shape = draw(
        st.sampled_from(["({} and {})", "({} or {})", "(not {} or {})", "({} and not {})"])
    )
    return str(shape.format(a, b))


configs = st.fixed_dictionaries(
    {
        "depth": st.integers(0, 6),
        "rate": st.floats(-2, 2) | st.just(0.0),
        "k_1": st.integers(0, 3),
        "nesterov": st.booleans(),
        "optimizer": st.sampled_from(["sgd", "adam"]),
    }
)


def read(text: str) -> Requirement | str:
    """The requirement, or what is wrong with it."""
    try:
        return Requirement(text)
    except SpaceError as error:
        return str(error)


def evaluated(text: str, config: dict[str, Any]) -> bool:
    try:
        return bool(eval(text, {}, config))  # noqa: S307 - the answer that ours must be
    except (ZeroDivisionError, OverflowError):
        return False


@given(sentences(), configs)
@settings(max_examples=100)
def test_a_requirement_means_what_python_means(text: str, config: dict[str, Any]) -> None:
    requirement = read(text)
    if isinstance(requirement, str):
        assert "names no parameter" in requirement
        return
    kinds = {name: kind_of(value) for name, value in config.items()}
    assert requirement.fault(kinds) == ""
    assert requirement.holds(config) == evaluated(text, config)
    assert set(requirement.names) == set(compile(text, "", "eval").co_names) - {"max", "min", "abs"}
    assert pickle.loads(pickle.dumps(requirement)).holds(config) == requirement.holds(config)  # noqa: S301


@given(sentences(), configs, st.sampled_from(NUMBERS + FLAGS + TEXTS))
@settings(max_examples=50)
def test_of_an_inactive_parameter_nothing_is_said(
    text: str, config: dict[str, Any], gone: str
) -> None:
    requirement = read(text)
    if isinstance(requirement, str):
        return
    without = {name: value for name, value in config.items() if name != gone}
    if gone in requirement.names:
        assert requirement.holds(without)
    else:
        assert requirement.holds(without) == requirement.holds(config)


@pytest.mark.parametrize(
    "text",
    [
        *(f"a {sign} b" for sign in ("<", "<=", ">", ">=", "==", "!=")),
        *(f"a {sign} b == 7 {sign} 3" for sign in ("+", "-", "*", "/", "//", "%", "**")),
        *("a < b < c", "a < b > c", "a == a != b < c", "-a < -b", "+a > b", "not a > b"),
        *("a in [b, 7]", "a not in [b, 7]", "a in (1, 2)", "abs(-a) == a", "max(a, b, c) == c"),
        *("min(a, b, c) == b", "a > 0 and b > 5", "a > 9 or b > 2", "a - b - c < 0"),
        *("a / b / c > 1", "2 ** b ** 2 > 500", "-a ** 2 < 0", "a % 4 // 2 == 1"),
    ],
)
def test_every_sign_means_what_python_means(text: str) -> None:
    for a, b, c in itertools.permutations((7, 3, 10)):
        config = {"a": a, "b": b, "c": c}
        assert Requirement(text).holds(config) == bool(eval(text, {}, config))  # noqa: S307


@given(st.integers(-3, 6), st.integers(-3, 6))
def test_powers_are_those_of_real_numbers(a: int, b: int) -> None:
    try:
        expected = float(a) ** b
    except ZeroDivisionError:
        assert not Requirement("a ** b == a ** b").holds({"a": a, "b": b})
    else:
        assert Requirement("a ** b == c").holds({"a": a, "b": b, "c": expected})


@pytest.mark.parametrize(
    "text",
    ["a ** 0.5 < 9", "a / 0 < 1", "a % 0 == 0", "9 ** 9 ** 9 ** -a > 0", "(-9) ** 99999 ** 9 < a"],
)
def test_what_has_no_value_meets_nothing(text: str) -> None:
    config = {"a": -4}
    assert not Requirement(text).holds(config)
    inverse = f"not ({text})"
    assert not Requirement(inverse).holds(config)


WORDS = [
    *(
        "a",
        "b",
        "rate",
        "max",
        "min",
        "abs",
        "lambda",
        "x:",
        ":=",
        "for",
        "in",
        "if",
        "else",
        "not",
    ),
    *("and", "or", "is", "yield", "await", "async", "import", "exec", "print", "__import__"),
    *("(", ")", "[", "]", "{", "}", ",", ".", "*", "**", "//", "%", "@", "~", "<", "==", "!=", "="),
    *("f'{a}'", "'x'", '"', "b'x'", "1", "9e999", "1j", "0x1F", "...", "\\", "\n", "\t", "#", ";"),
    *(
        "__class__",
        "__globals__",
        "_",
        "é",
        "ﬁ",
        "\U0001d4b7",
        "\x00",
        "\ud800",
        "None",
        "True",
        "self",
    ),
]
fuzz = st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join)
fuzz |= st.lists(st.sampled_from(WORDS), max_size=30).map("".join)
fuzz |= st.text(max_size=60)

# What `_parts` lets in; each is evaluated by a line of `requirements.py` that names it.
HARMLESS = (
    *(ast.Constant, ast.Name, ast.BinOp, ast.UnaryOp, ast.BoolOp, ast.Compare),
    *(ast.List, ast.Tuple, ast.Call),
)


@given(fuzz)
@example("(" * 400 + "a" + ")" * 400)
@example("-" * 990 + "a")
@example("not " * 240 + "a")
@example("a" + " + a" * 240)
@example("a" + "[a" * 240 + "]" * 240)
@example("a < b" + " < b" * 200)
@example("9**" * 300 + "a < 1")
@example("(((1 << 99999) << 99999) << 99999) < a")
@example("'x' * 10 ** 9 == a")
@example("a" * 100_000)
@example("a.__class__.__mro__[1].__subclasses__()")
@example("(lambda: a)() < 1")
@example("(a := 3) < 4")
@example("[x for x in a] < 1")
@example("f'{a.real}' == '1'")
@example("max(*a) < 1")
@example("max(a, key=b) < 1")
@example("abs(a)(b) < 1")
@example("a \\\n < b")
@example("'\\d' == a")
@settings(max_examples=300)
def test_no_text_does_more_than_compare(text: str) -> None:
    requirement = read(text)
    if isinstance(requirement, str):
        assert len(requirement) < 5000
        assert requirement.endswith(".")
        return
    for node in ast.walk(requirement._tree):
        assert isinstance(
            node,
            (*HARMLESS, ast.expr_context, ast.operator, ast.unaryop, ast.boolop, ast.cmpop),
        )
        if isinstance(node, ast.Call):
            assert isinstance(node.func, ast.Name)
            assert node.func.id in ("abs", "max", "min")
    config: dict[str, Any] = dict.fromkeys(requirement.names, 3)
    if requirement.fault(dict.fromkeys(config, "number")) == "":
        assert requirement.holds(config) in (True, False)
    mapping = {name: {"int": [1, 3]} for name in requirement.names if name != "use"}
    with contextlib.suppress(SpaceError):
        parse({**mapping, "require": [text]})
