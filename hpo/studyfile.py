"""A study file as text: YAML 1.2 read into plain values, each with the line it stands on."""

from __future__ import annotations

import copy
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpo.errors import HpoError, Mistake, SpecError

if TYPE_CHECKING:
    from ruamel.yaml import YAML, Node
    from ruamel.yaml.error import MarkedYAMLError

KeyPath = tuple[str, ...]


@dataclass(frozen=True)
class StudyFile:
    """What a study file says, not yet understood.

    Args:
        source: Name for messages: the path as the user typed it.
        folder: Where functions and data files named in it are looked for.
        values: The YAML document.
        lines: Line of each key and item, from 1, by its path as strings.
        overrides: The ``--set`` texts, by the path that they set.
    """

    source: str
    folder: Path
    values: Mapping[str, Any]
    lines: Mapping[KeyPath, int] = field(default_factory=dict)
    overrides: Mapping[KeyPath, str] = field(default_factory=dict)

    def mistake(self, path: tuple[str | int, ...], message: str) -> Mistake:
        """A mistake where `path` stands, or the nearest key above it that has a place."""
        names = tuple(map(str, path))
        for length in range(len(names), 0, -1):
            if names[:length] in self.overrides:
                return Mistake(path, message, override=self.overrides[names[:length]])
            if names[:length] in self.lines:
                return Mistake(path, message, self.lines[names[:length]])
        # A key that only an override has brought in: serch in --set serch.trials=3.
        typed = (o for key, o in self.overrides.items() if key[: len(names)] == names)
        return Mistake(path, message, override=next(typed, None) if names else None)


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
    except IsADirectoryError:
        raise HpoError(f"{path} is a folder, not a study file.", _instead_of(path)) from None
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
    places = dict(_override(values, override) for override in overrides)
    return StudyFile(source, folder, values, lines, places)


def from_values(
    values: Mapping[str, Any], source: str, folder: Path, overrides: Sequence[str] = ()
) -> StudyFile:
    """Like `read`, from values that Python code made; they are not changed."""
    mine: dict[str, Any] = copy.deepcopy(dict(values))
    places = dict(_override(mine, override) for override in overrides)
    return StudyFile(source, folder, mine, {}, places)


def _instead_of(path: Path) -> str:
    folder = path if path.is_dir() else path.parent if path.parent.is_dir() else Path()
    others = sorted(str(other) for other in folder.glob("*.y*ml"))
    if others:
        return f"YAML files in {folder.resolve()}: {', '.join(others)}."
    return "See examples/ for study files."


def _yaml() -> YAML:
    from ruamel.yaml import YAML

    # The pure-Python loader: libyaml speaks YAML 1.1, in which 1e-4 is a string.
    return YAML(typ="safe", pure=True)


def _load(text: str, source: str) -> tuple[Any, dict[KeyPath, int]]:
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    lines: dict[KeyPath, int] = {}
    try:
        node = _yaml().compose(text)
        if node is not None:
            _note_lines(node, (), lines, ())
        return _yaml().load(text), lines
    except MarkedYAMLError as error:
        problem, line = _what_and_where(error, text.splitlines() or [""])
        mistake = Mistake((), f"not valid YAML: {problem}.", line)
        raise SpecError(source, [mistake]) from None
    except YAMLError as error:
        raise SpecError(source, [Mistake((), f"not valid YAML: {error}.")]) from None


def _what_and_where(error: MarkedYAMLError, lines: Sequence[str]) -> tuple[str, int | None]:
    """What is wrong, and in which line, from 1."""
    mark, began = error.problem_mark or error.context_mark, error.context_mark
    problem = " ".join((error.problem or error.context or "not YAML").split())
    if mark is None:
        return problem, None
    if "end of stream" in problem or "<stream end>" in problem:
        opened = (
            "" if began is None else "".join(lines[began.line : began.line + 1])[began.column :]
        )
        if began is None or not opened:
            return "a bracket or brace is never closed", len(lines)
        return f"{opened[0]} is never closed", began.line + 1
    if re.search(r"[:=[,]\s*[<>!]=?", "".join(lines[mark.line : mark.line + 1])):
        problem += '; a comparison stands in quotes: ">= 3"'
    return problem, mark.line + 1


def _note_lines(
    node: Node, path: KeyPath, lines: dict[KeyPath, int], above: tuple[Node, ...]
) -> None:
    from ruamel.yaml.composer import ComposerError
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    if any(node is outer for outer in above):
        raise ComposerError(
            problem="an alias refers to what it stands in", problem_mark=node.start_mark
        )
    if isinstance(node, MappingNode):
        for key, value in node.value:
            if not isinstance(key, ScalarNode):
                continue  # the constructor refuses it, and says why
            if (before := lines.get((*path, key.value))) is not None:
                raise ComposerError(
                    problem=f"duplicate key '{key.value}', which line {before} has already",
                    problem_mark=key.start_mark,
                )
            lines[(*path, key.value)] = key.start_mark.line + 1
            _note_lines(value, (*path, key.value), lines, (*above, node))
    elif isinstance(node, SequenceNode):
        for i, item in enumerate(node.value):
            lines[(*path, str(i))] = item.start_mark.line + 1
            _note_lines(item, (*path, str(i)), lines, (*above, node))


def _override(values: dict[str, Any], override: str) -> tuple[KeyPath, str]:
    """Sets what ``a.b=value`` says; returns the path and how it was typed."""
    name, equals, text = override.partition("=")
    typed = f"--set {override}"
    keys = tuple(name.split("."))
    if not equals or not text.strip() or not all(keys):
        raise SpecError(
            typed, [Mistake((), "write --set key.key=value, for example search.trials=5")]
        )
    value, _ = _load(text, typed)
    inner = values
    for depth, key in enumerate(keys[:-1], start=1):
        inner = inner.setdefault(key, {})
        if not isinstance(inner, dict):
            where = ".".join(keys[:depth])
            raise SpecError(typed, [Mistake((), f"'{where}' holds {inner!r}, not keys.")])
    inner[keys[-1]] = value
    return keys, typed
