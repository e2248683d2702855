"""What a study file says of a command: placeholders in its text, and where its metrics are.

``python train.py --lr {learning_rate}`` is split into arguments first and filled afterwards, so a
value is never more than one argument, whatever stands in it. A shell gets the values as its
parameters, beside the text that it reads. Placeholders:

- ``{learning_rate}``: the value of a parameter. Lists are joined by commas, booleans are ``true``
  and ``false``. An argument whose parameter has no value in a trial (it is not active there, or
  null) is left out, together with a flag right before it: ``--momentum {momentum}``. In a shell's
  text it is the empty text.
- ``{nesterov:--nesterov}``: the argument ``--nesterov`` where the parameter is true, else none.
- ``{widths:*}``: one argument for each element of a list.
- ``{args}``: all parameters, ``--learning_rate=0.1 --nesterov=true``, but those without a value.
- ``{flags}``: the same as argparse likes them: ``--learning_rate=0.1 --nesterov --widths 64 32``.
- ``{trial}``, ``{seed}``, ``{device}``, ``{directory}`` (the trial's own folder) and ``{config}``
  (a JSON file with the whole configuration); a parameter of the same name wins.
- ``{train_fraction}``: a command that has it trains on that share of its examples: 1 in a trial.
- ``{{`` and ``}}`` are braces.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import Any, TypeAlias

from hpo.errors import nearest
from hpo.places import CHECKPOINTS, OUTPUT

Command: TypeAlias = str | Sequence[str]

ARGS, FLAGS, CONFIG_FILE = "args", "flags", "config"
ABOUT_TRIAL = ("trial", "seed", "directory", "device", CONFIG_FILE)

CONFIG, STDOUT, STDERR = "config.json", "stdout.log", "stderr.log"
_OURS = ("metrics.jsonl", CONFIG, STDOUT, STDERR, OUTPUT, CHECKPOINTS)  # in a trial's folder

_SEVERAL = "*"  # what follows a parameter's name and a colon, or else the argument if it is true
_FORM = re.compile(r"\*|-\S+")
_BRACES = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{")
_CLOSING = {"": (), "'": ("'", "\\'"), '"': ('"',)}  # in single quotes, a backslash is itself
_OPERATOR = re.compile(r"\|\|?|&&?|;|\d?>.*|<.*")
_PATH = re.compile(r"~(/.*)?|.*(?<!\\)\*.*")
_VARIABLE = re.compile(r"\$\w+|\$\{+\w+\}+|\$\(")
_HIDDEN = "\0"  # stands for a placeholder while text is split; no argument can have it
_QUOTES = re.compile(r"\\[\\'\"]|['\"]|" + _BRACES.pattern)


def placeholders(command: Command) -> list[str]:
    """The names in braces, in the order of their first appearance."""
    texts = [command] if isinstance(command, str) else command
    return list(dict.fromkeys(name for text in texts for name in _names(text)))


def command_problems(
    command: Command, names: Collection[str], *, for_shell: bool = False
) -> list[str]:
    """What is wrong with a command, in sentences.

    Args:
        command: As the study file says it.
        names: The parameters of the space.
        for_shell: Whether a shell reads it.
    """
    if for_shell and not isinstance(command, str):
        return ["a shell reads one text; write the command as text, or drop `shell`."]
    try:
        parts = [str(command)] if for_shell else _parts(command)
    except ValueError as error:
        return [f"it cannot be split into arguments: {str(error).lower()}."]
    if not any(part.strip() for part in parts[:1]):
        return ["it is empty; write `python train.py {args}`."]
    known = (*names, *ABOUT_TRIAL, ARGS, FLAGS)
    found = [_unknown(name, known) for name in placeholders(command) if name not in known]
    found += [_no_form(each) for each in _forms(command, known) if not _is_form(each, names)]
    if for_shell:
        quoted = dict.fromkeys(_quoted(parts[0]))
        quoted = {name: None for name in quoted if name.partition(":")[0] in known}
        found += [f"{{{name}}} is quoted by hpo; drop the quotes around it." for name in quoted]
    else:
        inside = dict.fromkeys(each for part in parts for each in _not_one(part) if each != part)
        hint = "is not one argument; write it by itself, between spaces."
        found += [f"{each} {hint}" for each in inside]
    return found


def shell_words(command: Command) -> list[str]:
    """What only a shell would understand: ``|``, ``&&``, ``> log.txt``, ``*.csv``, ``$HOME``.

    Nothing of a command that is a list: its arguments are meant as they stand.
    """
    if not isinstance(command, str):
        return []
    read = re.sub(r"'[^']*'", "''", command)  # where a shell looks for variables
    unquoted = re.sub(r'"[^"]*"', '""', read)
    words = _BRACES.sub(lambda m: m[0] if m[1] is None else "", unquoted).split()
    operators = [word for word in unquoted.split() if _OPERATOR.fullmatch(word)]
    paths = [word for word in words if _PATH.fullmatch(word)]
    return list(dict.fromkeys([*operators, *paths, *_VARIABLE.findall(read)]))


def file_problem(file: str) -> str | None:
    """What is wrong with the name of a metrics file; None where nothing is."""
    path = PurePath(file)
    if path.is_absolute() or ".." in path.parts or not path.parts:
        return f"'{file}' is looked for in the trial's own folder; give its name there."
    if path.parts[0] in _OURS:
        return f"hpo itself writes '{path.parts[0]}' there; choose another name: results.jsonl."
    return None


def pattern_problems(
    patterns: Mapping[str, str], metrics: Sequence[str]
) -> Iterator[tuple[str | None, str]]:
    """What is wrong with patterns that find metrics: which one, and a sentence."""
    for name, pattern in patterns.items():
        try:
            n_groups = re.compile(pattern).groups
        except re.error as error:
            yield name, f"'{pattern}' is no regular expression: {error}."
            continue
        if n_groups != 1:
            meant = f"it has {n_groups}; write (?:...) where none is meant" if n_groups else ""
            message = f"'{pattern}' should have one group, (...), around the number"
            yield name, f"{message}{meant and '; '}{meant}."
    for metric in metrics:
        if metric not in patterns:
            yield None, f"no pattern finds '{metric}', which is to be optimised."


def fill(
    command: Command,
    config: Mapping[str, Any],
    about: Mapping[str, str],
    *,
    for_shell: bool = False,
) -> list[str]:
    """The arguments that run in a trial, the program first.

    Args:
        command: As the study file says it, and without problems.
        config: The configuration.
        about: A text for each of `ABOUT_TRIAL`.
        for_shell: Whether a shell reads it.
    """
    given = {name: _text(value) for name, value in config.items() if value is not None}
    absent = dict.fromkeys(config)  # null here, and not what the trial has under the same name
    values = {**about, **absent, **given}
    if for_shell:
        return _filled_for_shell(str(command), values, config)
    parts = _parts(command)
    arguments: list[str] = []
    for before, part in zip(["", *parts], parts, strict=False):
        filled = _several(part[1:-1], config) if part in _not_one(part) else _one(part, values)
        if filled is not None:
            arguments += filled
        elif _is_flag(before) and not part.startswith("-"):
            arguments.pop()
    return arguments


def _forms(command: Command, known: Collection[str]) -> list[str]:
    """What stands in braces with a colon, after a known name."""
    texts = [command] if isinstance(command, str) else command
    inside = dict.fromkeys(m[1] for text in texts for m in _BRACES.finditer(text) if m[1])
    return [each for each in inside if ":" in each and each.partition(":")[0] in known]


def _is_form(placeholder: str, names: Collection[str]) -> bool:
    name, _, form = placeholder.partition(":")
    return name in names and _FORM.fullmatch(form) is not None


def _no_form(placeholder: str) -> str:
    name = placeholder.partition(":")[0]
    return (
        f"{{{placeholder}}} is not a placeholder: {{{name}}} is the value and, of a parameter, "
        f"{{{name}:--{name}}} a flag where it is true, {{{name}:*}} an argument for each element."
    )


def _not_one(part: str) -> list[str]:
    """The placeholders in it that are none or several arguments."""
    found = [match for match in _BRACES.finditer(part) if match[1] is not None]
    return [match[0] for match in found if ":" in match[1] or match[1] in (ARGS, FLAGS)]


def _several(placeholder: str, config: Mapping[str, Any]) -> list[str] | None:
    """The arguments that a placeholder is, none or several; None if its parameter has no value."""
    given = {name: value for name, value in config.items() if value is not None}
    name, _, form = placeholder.partition(":")
    if placeholder == ARGS:
        return [f"--{name}={_text(value)}" for name, value in given.items()]
    if placeholder == FLAGS:
        return [argument for item in given.items() for argument in _as_flag(*item)]
    if form != _SEVERAL:
        return [form] if given.get(name) else []
    value = given.get(name)
    return _each(value) if value is not None else None


def _as_flag(name: str, value: Any) -> list[str]:
    if isinstance(value, bool):
        return [f"--{name}"] if value else []
    if _is_list(value):
        return [f"--{name}", *_each(value)] if value else []
    return [f"--{name}={_text(value)}"]


def _each(value: Any) -> list[str]:
    return [_text(element) for element in (value if _is_list(value) else [value])]


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def program(command: Command) -> str | None:
    """The program that a command without a shell starts; None where it differs by trial."""
    first = _parts(command)[0]
    return None if _names(first) else _filled(first, {})


def _parts(command: Command) -> list[str]:
    """The arguments, not filled; a placeholder is of one, whatever stands in a parameter's name."""
    if not isinstance(command, str):
        return list(command)
    found = (match[0] for match in _BRACES.finditer(command) if match[1] is not None)
    hidden = _BRACES.sub(lambda m: m[0] if m[1] is None else _HIDDEN, command)
    return [re.sub(_HIDDEN, lambda _: next(found, _HIDDEN), part) for part in shlex.split(hidden)]


def _names(text: str) -> list[str]:
    found = _BRACES.finditer(text)
    inside = (match[1] or "" for match in found if match[0] not in ("{{", "}}"))
    return [name.partition(":")[0] for name in inside]


def _unknown(name: str, known: Iterable[str]) -> str:
    if re.fullmatch(r"\w+", name):
        return f"{{{name}}} is no parameter. {nearest(name, known)}"
    return f"{{{name}}} is no parameter; where a brace is meant, write it twice: {{{{ or }}}}."


def _quoted(text: str) -> Iterator[str]:
    """The placeholders that stand inside a shell's quotes."""
    quote = ""
    for match in _QUOTES.finditer(text):
        if quote and match[1] is not None:
            yield match[1]
        elif match[0] in _CLOSING[quote]:
            quote = ""
        elif not quote and match[0] in _CLOSING:
            quote = match[0]


def _one(part: str, values: Mapping[str, str | None]) -> list[str] | None:
    filled = _filled(part, values)
    return None if filled is None else [filled]


def _filled(part: str, values: Mapping[str, str | None]) -> str | None:
    """A part with its values in it; None if one of them has none."""
    if any(values.get(name) is None for name in _names(part)):
        return None
    return _BRACES.sub(lambda m: m[0][0] if m[1] is None else str(values[m[1]]), part)


def _filled_for_shell(
    text: str, values: Mapping[str, str | None], config: Mapping[str, Any]
) -> list[str]:
    """The text with ``"${1}"``, ``"${2}"``, ... and what these are: nothing to be escaped."""
    parameters: list[str] = []

    def parameter(value: str) -> str:
        parameters.append(value)
        return f'"${{{len(parameters)}}}"'

    def replaced(match: re.Match[str]) -> str:
        if match[1] is None:
            return match[0][0]
        if match[0] in _not_one(match[0]):
            return " ".join(map(parameter, _several(match[1], config) or []))
        return parameter(values.get(match[1]) or "")

    return ["/bin/sh", "-c", _BRACES.sub(replaced, text), "hpo", *parameters]


def _is_flag(part: str) -> bool:
    """Whether an argument is a flag that waits for its value."""
    return re.fullmatch(r"--?\w[^={}]*", part) is not None


def _text(value: Any) -> str:
    match value:
        case bool():
            return str(value).lower()
        case list() | tuple():
            return ",".join(map(_text, value))
        case _:
            return str(value)
