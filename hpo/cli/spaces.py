"""Commands about ready-made spaces: spaces list, spaces show."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.app import (
    JsonOption,
    command,
    group,
    print_charts,
    print_json,
    print_table,
    stderr,
    stdout,
)
from hpo.errors import HpoError, nearest

if TYPE_CHECKING:
    from rich.table import Table

    from hpo.reports.plots import Chart
    from hpo.search_spaces import Fragment, Parameter, SearchSpace
    from hpo.trainers.fields import Field

spaces = group("spaces", "Ready-made spaces, for the `use:` of a study file.")

# The first of these fields that a part sets says what it is about.
_KINDS = {
    "momentum_schedule": "momentum",
    "schedule": "schedule",
    "warmup_epochs": "schedule",
    "optimizer": "optimizer",
    "model": "model",
    "dropout": "regularisation",
    "mixup": "regularisation",
    "init": "initialisation",
    "batch_size": "minibatch",
}
_ORDER = (
    "preset",
    "optimizer",
    "schedule",
    "momentum",
    "model",
    "initialisation",
    "regularisation",
    "minibatch",
)
_WHY_WIDTH = 44  # columns, in a terminal
_POWER = re.compile(r"\b(\d(?:\.\d+)?)e([-+])0(\d)\b")


@dataclass(frozen=True)
class _Shown:
    """A space and what is known of it.

    Args:
        name: What was asked for.
        space: What may be searched.
        use: The ready-made spaces that it joins.
        about: What else there is to say, by its name: why, source.
        is_trainers: Whether the built-in trainer reads it.
        epochs: Length of a run.
    """

    name: str
    space: SearchSpace
    use: Sequence[str]
    about: Mapping[str, str]
    is_trainers: bool
    epochs: int


@command("list", of=spaces)
def list_(as_json: JsonOption = False) -> None:
    """List the ready-made spaces."""
    from rich.markup import escape

    from hpo.search_spaces import library

    found = [library.load(name) for name in library.names()]
    found.sort(key=lambda fragment: _ORDER.index(_kind(fragment)))
    if as_json:
        print_json([_about(fragment) for fragment in found])
        return
    table = _table("name", "what", "why")
    for fragment in found:
        table.add_row(fragment.name, _kind(fragment), escape(fragment.why))
    stdout().print(table)
    stderr().print("Look at one: hpo spaces show NAME. Write it into a study file: use: [NAME]")


@command("show", of=spaces)
def show(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A ready-made space, or a file with a space.")
    ],
    plot: Annotated[bool, typer.Option("--plot", help="Draw its learning rate.")] = False,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Draw it into a PNG file.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Show a space: what it searches, where, under which condition, and why."""
    shown = _find(name)
    charts = _charts(shown) if plot or png else []
    if png:
        from hpo.reports.plots import write_image

        write_image(charts, png)
    if as_json:
        print_json(_as_json(shown) | ({"plots": _points(charts)} if plot else {}))
    else:
        _print(shown)
        if plot:
            print_charts(charts)
    if png:
        stderr().print(f"Written: {png}", markup=False)


def _kind(fragment: Fragment) -> str:
    if len(_used(fragment.space)) > 1:
        return "preset"
    return next(kind for field, kind in _KINDS.items() if field in fragment.space)


def _about(fragment: Fragment) -> dict[str, str]:
    return {
        "name": fragment.name,
        "kind": _kind(fragment),
        "why": fragment.why,
        "source": fragment.source,
    }


def _used(space: Mapping[str, object]) -> list[str]:
    use = space.get("use", [])
    return [str(each) for each in use] if isinstance(use, list) else [str(use)]


def _find(name: str) -> _Shown:
    from hpo.search_spaces import library, parse

    if name in library.names():
        fragment = library.load(name)
        about = {key: value for key, value in _about(fragment).items() if key != "name"}
        space = parse({"use": [name]})
        return _Shown(name, space, _used(fragment.space), about, True, _usual_epochs())
    path = Path(name)
    if path.exists() or path.suffix or path.name != name:
        return _read(path)
    raise HpoError(
        f"there is no ready-made space '{name}'. {nearest(name, library.names())}",
        "See them all: hpo spaces list",
    )


def _read(path: Path) -> _Shown:
    """A study file, or a file with nothing but a space."""
    from hpo.spaces import read

    file = read(path)
    is_trainers = not {"function", "command"} & file.objective.keys()
    epochs = file.epochs or _usual_epochs()
    return _Shown(str(path), file.space, file.use, {}, is_trainers, epochs)


def _usual_epochs() -> int:
    from hpo.trainers.config import TrainerConfig

    return TrainerConfig().epochs


def _print(shown: _Shown) -> None:
    from rich.markup import escape
    from rich.table import Table

    out = stdout()
    head = Table(box=None, show_header=False, pad_edge=False)
    rows = {"space": shown.name, **shown.about, "uses": ", ".join(shown.use)}
    for key, value in rows.items():
        if value:
            head.add_row(f"[bold]{key}[/bold]", escape(value))
    out.print(head)
    parameters = [_row(shown, parameter) for parameter in shown.space.parameters]
    print_table(_wide(parameters, is_cut=out.is_terminal), _narrow(parameters))
    for requirement in shown.space.require:
        out.print(f"require  {requirement.text}", markup=False)
    if shown.about:
        out.print(f"use: [{shown.name}]", markup=False)


@dataclass(frozen=True)
class _Row:
    """A parameter as people read it."""

    name: str
    domain: str
    condition: str
    default: str
    why: str


def _row(shown: _Shown, parameter: Parameter) -> _Row:
    field, default = _field(shown, parameter), ""
    if field is not None:
        default = "none" if field.default is None else _spelt(field.default)
    return _Row(
        parameter.name,
        _spelt(_domain(parameter)),
        ", ".join(f"{name}: {_spelt(value)}" for name, value in _condition(parameter).items()),
        default,
        parameter.why or (field.why if field else ""),
    )


def _field(shown: _Shown, parameter: Parameter) -> Field | None:
    """What the trainer says of a parameter that it reads."""
    from hpo.trainers.config import FIELDS

    return FIELDS.get(parameter.name) if shown.is_trainers else None


def _domain(parameter: Parameter) -> object:
    """What is searched, as people write it: a bare list for a choice, a scalar for one value."""
    form = {k: v for k, v in parameter.to_dict().items() if k not in ("when", "why")}
    bare = form.get("choice", form.get("fixed"))
    return form if len(form) > 1 or bare is None else bare


def _condition(parameter: Parameter) -> Mapping[str, object]:
    when = parameter.to_dict().get("when", {})
    assert isinstance(when, Mapping)  # noqa: S101 - the canonical form
    return when


def _spelt(value: object) -> str:
    """A value in YAML's flow style, 1e-5 for Python's 1e-05."""
    from hpo.search_spaces.flow import flow

    return _POWER.sub(r"\1e\2\3", flow(value))


def _wide(rows: Sequence[_Row], *, is_cut: bool) -> Table:
    """A line for each parameter; in a terminal, its reason may take several."""
    from rich.markup import escape

    table = _table("name", "domain", "condition", "default")
    table.add_column("why", max_width=_WHY_WIDTH if is_cut else None)
    for row in rows:
        cells = (row.name, row.domain, row.condition, row.default, row.why)
        table.add_row(*map(escape, cells))
    return table


def _narrow(rows: Sequence[_Row]) -> Table:
    """What else is known of a parameter below what is searched."""
    from rich.markup import escape

    table = _table("name", "domain, condition, default and why")
    for row in rows:
        lines = [row.domain]
        if row.condition:
            lines.append(f"when {row.condition}")
        about = [f"default {row.default}" if row.default else "", row.why]
        lines.append("; ".join(filter(None, about)))
        first, *rest = (escape(line) for line in lines if line)
        what = "\n".join([first, *(f"[dim]{line}[/dim]" for line in rest)])
        table.add_row(escape(row.name), what)
    return table


def _table(*columns: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _charts(shown: _Shown) -> list[Chart]:
    from hpo.reports.schedules import charts

    if found := charts(shown.space, shown.epochs):
        return found
    from hpo.search_spaces import library

    kinds = ((name, _kind(library.load(name))) for name in library.names())
    others = ", ".join(name for name, kind in kinds if kind in ("schedule", "momentum"))
    raise HpoError(
        f"'{shown.name}' has no schedule to draw: its learning rate stays as it is.",
        f"These have one: {others}.",
    )


def _as_json(shown: _Shown) -> dict[str, object]:
    parameters = [
        {
            "name": parameter.name,
            "domain": {k: v for k, v in parameter.to_dict().items() if k not in ("when", "why")},
            "when": _condition(parameter),
            "default": field.default if (field := _field(shown, parameter)) else None,
            "why": parameter.why or (field.why if field else ""),
        }
        for parameter in shown.space.parameters
    ]
    return {
        "name": shown.name,
        **shown.about,
        "use": list(shown.use),
        "parameters": parameters,
        "require": [each.text for each in shown.space.require],
    }


def _points(charts: Sequence[Chart]) -> list[dict[str, object]]:
    return [
        {
            "x": chart.x_label,
            "y": chart.y_label,
            "note": chart.note,
            "curves": {c.name: {"x": list(c.x), "y": list(c.y)} for c in chart.curves},
        }
        for chart in charts
    ]
