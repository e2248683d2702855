"""The Typer application, and what all commands share."""

from __future__ import annotations

import functools
import os
import shutil
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from textwrap import indent
from typing import TYPE_CHECKING, Annotated, ParamSpec

import typer

from hpo.errors import HpoError, SpecError
from hpo.words import counted

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

    from hpo.catalog import StudyRecord
    from hpo.reports.plots import Chart

_P = ParamSpec("_P")

NO_BEST = 1  # an error that is explained, as others
GATE_FAILED = 3
TOO_MANY_FAILURES = 4
INTERRUPTED = 128  # plus the signal's number: 130 for Ctrl-C, 143 for SIGTERM

_STDOUT, _STDERR = 1, 2
_PIPED_WIDTH = 10_000  # nothing is cut off or wrapped in a log
_PLOT_WIDTHS = (40, 110)
_PLOT_HEIGHT = 20

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # a help page laid out by Rich takes twice as long to appear
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Hyperparameter search for deep learning: one YAML file, one command.",
    epilog="Begin with: hpo check FILE, then hpo run FILE.",
)

StorageOption = Annotated[
    str | None,
    typer.Option(
        "--storage", help="Where studies live. [env: HPO_STORAGE; default: sqlite:///hpo.db]"
    ),
]
TrackingOption = Annotated[
    str | None,
    typer.Option(
        "--tracking",
        help="MLflow, or none. [env: MLFLOW_TRACKING_URI; default: sqlite:///mlflow.db]",
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Override the file: search.trials=200"),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
StudyArgument = Annotated[str, typer.Argument(metavar="STUDY", help="Name of the study.")]


def _print_version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        typer.echo(f"hpo {version('hpo')}")
        raise typer.Exit


@app.callback()
def _about(
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[
        bool,
        typer.Option(
            "--version", is_eager=True, callback=_print_version, help="Say which this is."
        ),
    ] = False,
) -> None:
    """Hyperparameter search for deep learning: one YAML file, one command."""
    # `main` looks for --debug itself, so that it may stand anywhere; this line is for --help.


def group(name: str, help_: str) -> typer.Typer:
    """Registers a group of commands: `hpo NAME COMMAND`."""
    found = typer.Typer(no_args_is_help=True, rich_markup_mode=None, help=help_)
    app.add_typer(found, name=name)
    return found


def command(name: str, of: typer.Typer = app) -> Callable[[Callable[_P, None]], Callable[_P, None]]:
    """Registers a command whose interruption exits with 130, at whatever it is interrupted."""

    def register(function: Callable[_P, None]) -> Callable[_P, None]:
        @of.command(name)
        @functools.wraps(function)
        def interruptible(*args: _P.args, **kwargs: _P.kwargs) -> None:
            try:
                function(*args, **kwargs)
            except KeyboardInterrupt:
                raise typer.Exit(INTERRUPTED + 2) from None

        return interruptible

    return register


def stdout() -> Console:
    """Where results go."""
    from rich.console import Console

    return Console(highlight=False, width=None if sys.stdout.isatty() else _PIPED_WIDTH)


def stderr() -> Console:
    """Where talk and progress go."""
    from rich.console import Console

    return Console(
        stderr=True,
        highlight=False,
        soft_wrap=True,
        width=None if sys.stderr.isatty() else _PIPED_WIDTH,
    )


@contextmanager
def only_json(wanted: bool) -> Iterator[None]:
    """Where stdout is to be one document, what the user's own code prints is talk, too."""
    if not wanted:
        yield
        return
    with _descriptor_to_stderr(), redirect_stdout(sys.stderr):
        yield


@contextmanager
def _descriptor_to_stderr() -> Iterator[None]:
    """Sends to stderr what is printed below Python, by libraries in C and by child processes."""
    try:
        saved = os.dup(_STDOUT)
    except OSError:  # it is closed
        yield
        return
    try:
        _flush()
        with suppress(OSError):
            os.dup2(_STDERR, _STDOUT)
        yield
    finally:
        try:
            _flush()  # what was printed until now
        finally:
            os.dup2(saved, _STDOUT)
            os.close(saved)


def _flush() -> None:
    """Writes what Python and C have printed and not yet written."""
    import ctypes

    if sys.stdout is not None:  # where it was closed
        sys.stdout.flush()
    if os.name == "posix":
        ctypes.CDLL(None).fflush(None)


def print_json(document: object) -> None:
    """Prints one JSON document on stdout."""
    from hpo.reports.strict_json import dumps

    typer.echo(dumps(document))


def print_table(table: Table, compact: RenderableType | None = None) -> None:
    """Prints a table on stdout; what is compact if it is wider than the terminal."""
    from rich.measure import Measurement

    console = stdout()
    needed = Measurement.get(console, console.options.update(max_width=_PIPED_WIDTH), table)
    too_wide = compact is not None and needed.maximum > console.width
    console.print(compact if too_wide else table)


def print_charts(charts: Sequence[Chart]) -> None:
    """Draws charts in characters on stdout, as large as the terminal allows."""
    from hpo.reports.plots import as_text

    for chart in charts:
        print_drawing(functools.partial(as_text, chart))


def print_drawing(draw: Callable[..., str]) -> None:
    """Prints what `draw` gives for a `width` and `height`, with or without `colour`."""
    out = stdout()
    colour = out.is_terminal and not out.no_color and out.color_system is not None
    columns, lines = shutil.get_terminal_size()
    least, most = _PLOT_WIDTHS
    width = max(least, min(columns, most))
    height = max(10, min(_PLOT_HEIGHT, lines - 4))
    typer.echo()
    typer.echo(draw(width=width, height=height, colour=colour), color=colour)


def explain(error: HpoError) -> None:
    """Prints an error: what happened, where, and the next step."""
    console = stderr()
    if isinstance(error, SpecError):
        n = counted(len(error.mistakes), "mistake")
        console.print(f"[red]error:[/red] {n} in the study file")
        for mistake in error.mistakes:
            console.print("  " + mistake.located(error.source), markup=False)
        return
    console.print("[red]error:[/red] ", end="")
    console.print(error.message, markup=False)
    if error.next_step:
        console.print(indent(error.next_step.rstrip(), "  "), markup=False)


def error_json(error: HpoError) -> dict[str, object]:
    """What `explain` prints, for programs; of a study file every mistake, with its line."""
    found = error.mistakes if isinstance(error, SpecError) else ()
    mistakes = [
        {
            "line": mistake.line,
            "override": mistake.override,
            "path": list(mistake.path),
            "message": mistake.message,
        }
        for mistake in found
    ]
    said = {"message": error.message, "next_step": error.next_step, "mistakes": mistakes}
    return {"error": said}


def print_leaderboard(study: StudyRecord) -> None:
    """Prints a study's best trials on stdout; nothing if it has none."""
    from hpo.reports.leaderboard import leaderboard

    ranked, metric = study.ranked(), study.metric
    if ranked:
        print_table(leaderboard(ranked, metric), leaderboard(ranked, metric, compact=True))
