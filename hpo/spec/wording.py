"""Pydantic's findings as mistakes of a study file, in its words: with a line and what was meant."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from hpo.errors import Mistake, nearest
from hpo.spec.model import StudySpec
from hpo.studyfile import StudyFile

_SAID_BELOW = ("baseline", "constraints", "gate", "space")

_EITHER: Mapping[tuple[int | str, ...], str] = {
    ("objective", "metric"): "a name, or a list of names",
    ("objective", "direction"): "minimize or maximize, or a list of one for each metric",
    ("objective", "command"): "text, or a list of arguments",
    ("objective", "metrics_from"): "stdout, mlflow, {file: metrics.jsonl} or {regex: ...}",
    ("objective", "positive"): "the name of a class",
    ("run", "checkpoint_every"): "a number of epochs such as 5, or a time such as 60s",
    ("run", "trials_per_gpu"): "auto, or a number such as 2",
    ("run", "workers"): "auto, or a number such as 4",
}
"""What may be given where more than one form may, by path."""


def mistakes_of_form(file: StudyFile, error: ValidationError) -> Iterator[Mistake]:
    """Pydantic's findings, but for those of sections whose mistakes are said better elsewhere."""
    either: set[tuple[int | str, ...]] = set()
    for details in error.errors():
        path = details["loc"]
        if path[0] in _SAID_BELOW and len(path) > 1:
            continue
        if path[:2] not in _EITHER or details["type"] == "missing":
            yield _as_mistake(file, details)
        elif path[:2] not in either:
            # Each of the forms has failed; what was meant is anybody's guess.
            either.add(path[:2])
            value = file.values[str(path[0])][path[1]]
            yield file.mistake(path[:2], f"{value!r} should be {_EITHER[path[:2]]}.")


def _as_mistake(file: StudyFile, details: ErrorDetails) -> Mistake:
    """Pydantic's finding in the words of a study file."""
    path, value = details["loc"], details["input"]
    match details["type"]:
        case "extra_forbidden":
            known = _keys_at(path[:-1])
            message = f"unknown key '{path[-1]}'. {nearest(str(path[-1]), known)}"
        case "missing":
            message = f"'{path[-1]}' is missing."
        case "literal_error":
            known = re.findall(r"'([^']*)'", details.get("ctx", {}).get("expected", ""))
            message = f"unknown {path[-1]} {value!r}. {nearest(str(value), known)}"
        case "string_pattern_mismatch":
            message = f"{value!r}: use letters, digits, '.', '_' and '-'."
        case "model_type" | "dict_type":
            message = f"{value!r} should be a mapping of keys to values."
        case "value_error":
            message = details["msg"].removeprefix("Value error, ") + "."
        case "int_type" | "float_type" | "float_parsing" | "int_from_float":
            kind = "a whole number" if "int" in details["type"] else "a number"
            quoted = isinstance(value, str) and re.fullmatch(r"[-+.\de]+", value)
            message = f"{value!r} should be {kind}{'; remove the quotes' if quoted else ''}."
        case _:
            message = f"{value!r}: {details['msg'][0].lower()}{details['msg'][1:]}."
    return file.mistake(path, message)


def _keys_at(path: tuple[int | str, ...]) -> list[str]:
    model: Any = StudySpec
    for key in path:
        model = model.model_fields[key].annotation
    return list(model.model_fields)
