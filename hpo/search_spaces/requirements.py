"""What must hold between parameters: `require: ["warmup_epochs < epochs"]`.

The text is read with Python's own parser and then translated node by node; nothing in it is ever
executed. It may compare, add and multiply parameters and constants, and that is all.
"""

from __future__ import annotations

import ast
import math
import operator
import re
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from hpo.search_spaces.checks import is_number
from hpo.search_spaces.errors import Problem, SpaceError, did_you_mean
from hpo.search_spaces.flow import flow

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from hpo.search_spaces.domains import Scalar

Kind: TypeAlias = Literal["number", "boolean", "text", "other", "unknown"]
Meaning: TypeAlias = Callable[[Mapping[str, "Scalar"]], Any]  # an expression's value, by the config

_LONGEST = 1000  # characters; a parser's memory grows with nested brackets
_DEEPEST = 100  # brackets and operators within one another

_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    # In floats: 9**9**9 overflows at once, where integers would fill the memory first.
    ast.Pow: math.pow,
}
_ORDER: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
}
_EQUALITY: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_MEMBERSHIP: dict[type[ast.cmpop], Callable[[Any, Any], bool]] = {
    ast.In: lambda a, b: a in b,
    ast.NotIn: lambda a, b: a not in b,
}
_COMPARISONS = _ORDER | _EQUALITY | _MEMBERSHIP
_SIGNS: dict[type[ast.unaryop], Callable[[Any], Any]] = {
    ast.Not: operator.not_,
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {"abs": abs, "max": max, "min": min}
_WORDS: dict[str, bool | None] = {"true": True, "false": False, "null": None}  # as YAML has them
_KINDS = {"number": "a number", "boolean": "true or false", "text": "text"}
_ALLOWED = (
    "a requirement compares parameters and numbers with <, <=, >, >=, ==, !=, in, and, or, not, "
    "+, -, *, /, //, %, **, abs, min and max"
)


@dataclass(frozen=True)
class Requirement:
    """A sentence about parameters that every configuration makes true.

    Where one of its parameters is not active, it says nothing and counts as met.

    Args:
        text: As the user wrote it.

    Raises:
        SpaceError: it is not such a sentence.
    """

    text: str

    def __post_init__(self) -> None:
        if problems := tuple(_foreign_parts(self.text, self._tree)):
            raise SpaceError(dict.fromkeys(problems))
        if not self.names:
            raise SpaceError([Problem((), f"{self.text!r} names no parameter; drop it.")])

    @classmethod
    def of(cls, text: object) -> Requirement:
        """Reads an item of `require`.

        Raises:
            SpaceError: it is not such a sentence.
        """
        if isinstance(text, str):
            return cls(str(text))
        example = 'write text such as "warmup_epochs < epochs".'
        sentence = f"{flow(text)} is not a requirement; {example}"
        raise SpaceError([Problem((), sentence)])

    def __reduce__(self) -> tuple[type[Requirement], tuple[str]]:
        return Requirement, (self.text,)  # between processes goes the text alone

    @cached_property
    def _tree(self) -> ast.expr:
        try:
            if len(self.text) > _LONGEST:
                raise ValueError(f"longer than {_LONGEST} characters")  # noqa: TRY301
            with warnings.catch_warnings():  # as of "\d", which is only odd
                warnings.simplefilter("ignore")
                return ast.parse(self.text.strip(), mode="eval").body
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            why = error.msg if isinstance(error, SyntaxError) else str(error) or "too deep"
            if re.search(r"[^<>=!]=[^=]", self.text):
                why = "two values are compared with =="
            sentence = f"cannot read {_cut(self.text)} ({why}); {_ALLOWED}."
            raise SpaceError([Problem((), sentence)]) from None

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The parameters it speaks of."""
        return tuple(dict.fromkeys(_names(self._tree)))

    @cached_property
    def _meaning(self) -> Meaning:
        return _meaning(self._tree)

    def holds(self, config: Mapping[str, Scalar]) -> bool:
        """Whether a configuration meets it; a quotient by zero or an overflow meets nothing."""
        for name in self.names:
            if name not in config:
                return True
        try:
            return bool(self._meaning(config))
        except (ArithmeticError, TypeError, ValueError):  # ValueError: a root of a negative number
            return False

    def fault(self, kinds: Mapping[str, Kind], options: Collection[str] = ()) -> str:
        """A sentence about names and kinds that do not fit, or "".

        Args:
            kinds: Of the values of each known parameter.
            options: Texts that stand somewhere in the space as options.
        """
        for name in self.names:
            if name in kinds:
                continue
            if name in options:
                return f"{self.text!r}: for the text write it in quotes, '{name}'."
            if name == "epochs":
                return f"{self.text!r}: set objective.epochs, or search 'epochs'."
            return f"{self.text!r}: the space has no {name!r}.{did_you_mean(name, kinds)}"
        if any(kinds[name] == "unknown" for name in self.names):
            return ""
        try:
            kind = _kind(self._tree, kinds)
        except TypeError as error:
            return f"{self.text!r}: {error}."
        if kind == "boolean":
            return ""
        what = "a number" if kind == "number" else "a value"
        return f"{self.text!r} is {what}; compare it with something, as in {self.text} < 1."


def _cut(text: str) -> str:
    return repr(text if len(text) <= 80 else f"{text[:77]}...")


def _foreign_parts(text: str, node: ast.expr, depth: int = 0) -> Iterator[Problem]:
    """What is none of a requirement's business."""
    parts, quoted = _parts(node), _cut(text)
    if depth > _DEEPEST:
        yield Problem((), f"{quoted} is nested too deeply; make several requirements of it.")
    elif parts is None:
        part = _cut(ast.get_source_segment(text.strip(), node) or text)
        yield Problem((), f"{part} is not allowed here; {_ALLOWED}.")
    elif isinstance(node, ast.Call) and (sentence := _call_fault(ast.unparse(node.func), parts)):
        yield Problem((), f"{quoted}: {sentence}")
    else:
        for each in parts:
            yield from _foreign_parts(text, each, depth + 1)


def _call_fault(name: str, arguments: Sequence[ast.expr]) -> str:
    if name == "abs":
        return "" if len(arguments) == 1 else "abs takes one number."
    return "" if len(arguments) > 1 else f"{name} takes two numbers or more."


def _parts(node: ast.expr) -> Sequence[ast.expr] | None:
    """The expressions in an expression that may stand in a requirement; None for another one."""
    match node:
        case ast.Constant(value=value) if value is None or type(value) in (bool, int, float, str):
            return []
        case ast.Name():
            return []
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
            return [left, right]
        case ast.UnaryOp(op=op, operand=operand) if type(op) in _SIGNS:
            return [operand]
        case ast.BoolOp(values=values):
            return values
        case ast.Compare(left=left, ops=ops, comparators=others) if all(
            type(op) in _COMPARISONS for op in ops
        ):
            return [left, *others]
        case ast.List(elts=elements) | ast.Tuple(elts=elements):
            return elements
        case ast.Call(func=ast.Name(id=name), args=arguments, keywords=[]) if name in _FUNCTIONS:
            return arguments
    return None


def _names(node: ast.expr) -> Iterator[str]:
    if isinstance(node, ast.Name) and node.id not in _WORDS:
        yield node.id
    for part in _parts(node) or ():
        yield from _names(part)


def _meaning(node: ast.expr) -> Meaning:
    match node:
        case ast.Name(id=name) if name not in _WORDS:
            return operator.itemgetter(name)
        case ast.Constant() | ast.Name():
            constant = _constant(node)
            return lambda _: constant
        case ast.Compare():
            return _meaning_of_comparison(node)
    parts = [_meaning(part) for part in _parts(node) or ()]
    match node:
        case ast.BinOp(op=op):
            combine, (left, right) = _ARITHMETIC[type(op)], parts
            return lambda config: combine(left(config), right(config))
        case ast.UnaryOp(op=sign):
            change, (operand,) = _SIGNS[type(sign)], parts
            return lambda config: change(operand(config))
        case ast.BoolOp(op=word):
            join = all if isinstance(word, ast.And) else any
            return lambda config: join(part(config) for part in parts)
        case ast.Call(func=ast.Name(id=name)):
            function = _FUNCTIONS[name]
            return lambda config: function(*(part(config) for part in parts))
    return lambda config: [part(config) for part in parts]  # a list


def _meaning_of_comparison(node: ast.Compare) -> Meaning:
    """The meaning of a < b < c: a < b and b < c."""
    compared = [_COMPARISONS[type(op)] for op in node.ops]
    first, *others = [_meaning(part) for part in (node.left, *node.comparators)]
    if len(others) == 1:
        (compare,), (second,) = compared, others
        return lambda config: compare(first(config), second(config))

    def meaning(config: Mapping[str, Scalar]) -> bool:
        left = first(config)
        for compare, other in zip(compared, others, strict=True):
            right = other(config)
            if not compare(left, right):
                return False
            left = right
        return True

    return meaning


def _constant(node: ast.expr) -> Any:
    return node.value if isinstance(node, ast.Constant) else _WORDS[ast.unparse(node)]


def _kind(node: ast.expr, kinds: Mapping[str, Kind]) -> Kind:
    """The kind of an expression's value; TypeError with the sentence where it can have none."""
    match node:
        case ast.Name(id=name) if name not in _WORDS:
            return kinds[name]
        case ast.Constant() | ast.Name():
            return kind_of(_constant(node))
        case ast.UnaryOp(op=ast.Not()) | ast.BoolOp():
            return _all("boolean", _parts(node) or (), kinds)
        case ast.Compare():
            return _kind_of_comparison(node, kinds)
        case ast.List() | ast.Tuple():
            raise TypeError(f"{ast.unparse(node)} is a list, which stands only after `in`")
    return _all("number", _parts(node) or (), kinds)


def _kind_of_comparison(node: ast.Compare, kinds: Mapping[str, Kind]) -> Kind:
    left: ast.expr = node.left
    for op, right in zip(node.ops, node.comparators, strict=True):
        if type(op) in _ORDER:
            _all("number", [left, right], kinds)
        elif type(op) in _EQUALITY:
            _refuse_different(left, right, kinds)
        elif isinstance(right, ast.List | ast.Tuple) and right.elts:
            for element in right.elts:
                _refuse_different(left, element, kinds)
        else:
            raise TypeError("`in` is followed by a list, such as [1, 2]")
        left = right
    return "boolean"


def _refuse_different(left: ast.expr, right: ast.expr, kinds: Mapping[str, Kind]) -> None:
    """Refuses a comparison of kinds that are never equal: a number and a text."""
    one, two = _kind(left, kinds), _kind(right, kinds)
    if one != two and "other" not in (one, two):
        raise TypeError(
            f"{ast.unparse(left)} is {_KINDS[one]} and {ast.unparse(right)} is {_KINDS[two]}, so "
            "they are never equal"
        )


def _all(kind: Kind, nodes: Sequence[ast.expr], kinds: Mapping[str, Kind]) -> Kind:
    """The kind, if all the expressions are of it."""
    for node in nodes:
        if _kind(node, kinds) != kind:
            what = (
                "always a number, which <, + and the like need"
                if kind == "number"
                else "true or false, which `and`, `or` and `not` need"
            )
            raise TypeError(f"{ast.unparse(node)} is not {what}")
    return kind


def kind_of(*values: object) -> Kind:
    """The kind that all of some values have."""
    if all(is_number(value) for value in values):
        return "number"
    if all(isinstance(value, bool) for value in values):
        return "boolean"
    return "text" if all(isinstance(value, str) for value in values) else "other"
