"""The command about training data: data-needs."""

from __future__ import annotations

import functools
import time
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hpo.cli.app import (
    INTERRUPTED,
    JsonOption,
    SetOption,
    StorageOption,
    TrackingOption,
    command,
    only_json,
    print_drawing,
    print_json,
    print_table,
    stderr,
    stdout,
)
from hpo.cli.runs import WorkersOption, said
from hpo.words import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from hpo.sizing import Answer


_T = TypeVar("_T")


@command("data-needs")
def data_needs(
    what: Annotated[
        str,
        typer.Argument(
            metavar="FILE|STUDY", help="A study file, for its baseline; or a study, for its best."
        ),
    ],
    target: Annotated[
        float | None, typer.Option("--target", help="What to reach; the gate's by default.")
    ] = None,
    metric: Annotated[
        str | None, typer.Option("--metric", help="What to measure; the objective by default.")
    ] = None,
    budget: Annotated[
        str,
        typer.Option(
            "--budget", help="Wall time: 90s, 10m, 1h. What runs then has run.grace_period to end."
        ),
    ] = "10m",
    seeds: Annotated[int, typer.Option("--seeds", min=1, help="Fits at each size, at most.")] = 3,
    sizes: Annotated[
        str | None,
        typer.Option("--sizes", help="Train at these, all of them: 100,1000,50%."),
    ] = None,
    examples: Annotated[
        int | None,
        typer.Option("--examples", min=3, help="How many your own code has to train on."),
    ] = None,
    bounds: Annotated[
        tuple[float, float] | None,
        typer.Option("--bounds", help="Lowest and highest value of your own code's metric: 0 100."),
    ] = None,
    trial: Annotated[
        int | None, typer.Option("--trial", metavar="N", help="Of a study: another trial.")
    ] = None,
    afresh: Annotated[bool, typer.Option("--afresh", help="Forget earlier fits.")] = False,
    overrides: SetOption = None,
    workers: WorkersOption = None,
    storage: StorageOption = None,
    tracking: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Say how much training data a target needs, and what bounds the model.

    One configuration is trained on nested parts of growing size, several seeds each. Every fit is
    kept: the same command goes on after Ctrl-C, or when it is given more time.
    """
    console, started_ms = stderr(), time.time_ns() // 1_000_000
    budget_seconds = _parsed(_seconds, budget, "--budget")
    with console.status("loading"):  # torch and Optuna take their seconds
        from hpo.cli.needs_progress import listener
        from hpo.sizing import ask, measure, sizes_of, subject_of

        subject = subject_of(what, said(overrides, workers), trial=trial, storage=storage)
        question = ask(subject, metric=metric, target=target, examples=examples, bounds=bounds)
        by_hand = None
        if sizes is not None:
            by_hand = _parsed(lambda text: sizes_of(text, question), sizes, "--sizes")
    progress = listener(console, budget_seconds)
    uri = tracking or subject.study.tracking or subject.plan.spec.tracking
    try:
        with only_json(as_json):
            answer = measure(
                question,
                budget_seconds=budget_seconds,
                seeds=seeds,
                sizes=by_hand,
                afresh=afresh,
                tracking=uri,
                listener=progress,
            )
    finally:
        progress.done()
    if answer.state == "interrupted":
        n = len(answer.fits)
        kept = f"{counted(n, 'fit')} {'is' if n == 1 else 'are'} kept"
        console.print(f"Interrupted; {kept}. The same command goes on from there.")
        raise typer.Exit(INTERRUPTED + (answer.signal or 2))
    _report(answer, uri, started_ms, progress.warn, as_json=as_json)


def _report(
    answer: Answer,
    tracking: str | None,
    started_ms: int,
    warn: Callable[[str], None],
    *,
    as_json: bool,
) -> None:
    from hpo.places import tracking_uri
    from hpo.reports.scaling import as_text
    from hpo.sizing import report
    from hpo.tracking import log_beside

    chart = report.chart(answer)
    files, console = report.write(answer, chart), stderr()
    doubt = report.doubted(answer)
    if doubt is not None:  # before the answer to what may not have been asked
        console.print(doubt, markup=False)
    if as_json:
        print_json({**report.as_json(answer), "files": [str(file) for file in files]})
    else:
        out = stdout()
        out.print(report.sentence(answer), markup=False, soft_wrap=True)
        if answer.diagnosis is not None:
            out.print(answer.diagnosis.sentence, markup=False, soft_wrap=True)
        if answer.needs is not None:
            print_table(report.as_table(answer))
        if chart is not None:
            print_drawing(functools.partial(as_text, chart))
    for hint in (hint for hint in report.hints(answer) if hint != doubt):
        console.print(hint, markup=False)
    console.print(f"Written: {', '.join(map(str, files))}", markup=False)
    if (uri := tracking_uri(tracking)) is not None:
        with console.status("telling MLflow"):
            log_beside(answer.question.study, uri, report.as_run(answer, files, started_ms), warn)


def _seconds(text: str) -> float:
    from hpo.spec import seconds

    return seconds(text)


def _parsed(read: Callable[[str], _T], text: str, option: str) -> _T:
    try:
        return read(text)
    except ValueError as error:
        raise typer.BadParameter(f"{option}: {error}.") from None
