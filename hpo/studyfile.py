"""A study file as text: YAML 1.2 read into plain values, each with the line it stands on."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import HpoError, Mistake, SpecError

if TYPE_CHECKING:
    from ruamel.yaml import YAML, Node

YamlPath = tuple[str | int, ...]


@dataclass(frozen=True)
class StudyFile:
    """What a study file says, not yet understood.

    Args:
        source: Name for messages: the path as the user typed it.
        folder: Where functions and data files named in it are looked for.
        values: The YAML document.
        lines: Line of each key and item, from 1, by its path.
    """

    source: str
    folder: Path
    values: Mapping[str, Any]
    lines: Mapping[YamlPath, int] = field(default_factory=dict)

    def line_of(self, path: YamlPath) -> int | None:
        """The line of `path`, or of the nearest key above it that has one."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None

    def mistake(self, path: YamlPath, message: str) -> Mistake:
        """A mistake with its line."""
        return Mistake(path, message, self.line_of(path))


def read(path: Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Reads a study file.

    Args:
        path: The file.
        overrides: ``a.b=value`` strings, each value itself YAML; they win over the file.

    Raises:
        SpecError: it is not YAML, not a mapping, or an override is malformed.
        HpoError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise HpoError(f"no such file: {path}.", _instead_of(path)) from None
    except (OSError, UnicodeDecodeError) as error:
        raise HpoError(f"cannot read {path}: {error}.") from error
    return parse(text, str(path), path.resolve().parent, overrides)


def parse(text: str, source: str, folder: Path, overrides: Sequence[str] = ()) -> StudyFile:
    """Like `read`, from text."""
    values, lines = _load(text, source)
    if values is None:
        raise SpecError(source, [Mistake((), "the file is empty.")])
    if not isinstance(values, dict):
        raise SpecError(source, [Mistake((), "a study file is a mapping of keys to values.", 1)])
    for override in overrides:
        _override(values, lines, override)
    return StudyFile(source, folder, values, lines)


def from_values(
    values: Mapping[str, Any], source: str, folder: Path, overrides: Sequence[str] = ()
) -> StudyFile:
    """Like `read`, from values that Python code made; they are not changed."""
    mine: dict[str, Any] = copy.deepcopy(dict(values))
    for override in overrides:
        _override(mine, {}, override)
    return StudyFile(source, folder, mine)


def _instead_of(path: Path) -> str:
    folder = path.parent if path.parent.is_dir() else Path()
    others = sorted(str(other) for other in folder.glob("*.y*ml"))
    if others:
        return f"YAML files in {folder.resolve()}: {', '.join(others)}."
    return "See examples/ for study files."


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    # The pure-Python loader: libyaml speaks YAML 1.1, in which 1e-4 is a string.
    return YAML(typ="safe", pure=True)


def _load(text: str, source: str) -> tuple[Any, dict[YamlPath, int]]:
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    lines: dict[YamlPath, int] = {}
    try:
        node = _yaml().compose(text)
        if node is not None:
            _note_lines(node, (), lines)
        return _yaml().load(text), lines
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = " ".join((error.problem or error.context or "not YAML").split())
        mistake = Mistake((), f"not valid YAML: {problem}.", mark.line + 1 if mark else None)
        raise SpecError(source, [mistake]) from None
    except YAMLError as error:
        raise SpecError(source, [Mistake((), f"not valid YAML: {error}.")]) from None


def _note_lines(node: Node, path: YamlPath, lines: dict[YamlPath, int]) -> None:
    from ruamel.yaml.nodes import MappingNode, SequenceNode

    if isinstance(node, MappingNode):
        for key, value in node.value:
            lines[(*path, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*path, key.value), lines)
    elif isinstance(node, SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*path, i)] = item.start_mark.line + 1
            _note_lines(item, (*path, i), lines)


def _override(values: dict[str, Any], lines: dict[YamlPath, int], override: str) -> None:
    name, equals, text = override.partition("=")
    source = f"--set {override}"
    keys = name.split(".")
    if not equals or not all(keys):
        raise SpecError(source, [Mistake((), "write --set key.key=value.")])
    value, _ = _load(text, source)
    inner = values
    for depth, key in enumerate(keys[:-1], start=1):
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            where = ".".join(keys[:depth])
            raise SpecError(source, [Mistake((), f"'{where}' holds {inner!r}, not keys.")])
    inner[keys[-1]] = value
    # What the command line says stands on no line of the file.
    for path in [path for path in lines if path[: len(keys)] == tuple(keys)]:
        del lines[path]
