"""The command about training data: data-needs."""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from hpo.cli.app import (
    INTERRUPTED,
    JsonOption,
    SetOption,
    StorageOption,
    TrackingOption,
    command,
    print_drawing,
    print_json,
    print_table,
    stderr,
    stdout,
)
from hpo.cli.runs import WorkersOption, said
from hpo.cli.studies import find
from hpo.errors import HpoError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from hpo.catalog import StudyRecord
    from hpo.sizing import Answer
    from hpo.spec import Plan


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
        str, typer.Option("--budget", help="Wall time for all of it: 90s, 10m, 1h.")
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
        from hpo.sizing import ask, measure, sizes_of

        study, plan, config, which = _chosen(what, trial, said(overrides, workers), storage)
        question = ask(study, plan, config, which, metric=metric, target=target, examples=examples)
        by_hand = None
        if sizes is not None:
            by_hand = _parsed(lambda text: sizes_of(text, question), sizes, "--sizes")
    progress = listener(console, budget_seconds)
    uri = tracking or study.tracking or plan.spec.tracking
    try:
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
        console.print(f"Interrupted; {n} fits are kept. The same command goes on from there.")
        raise typer.Exit(INTERRUPTED + (answer.signal or 2))
    _report(answer, uri, started_ms, progress.warn, as_json=as_json)


def _chosen(
    what: str, trial: int | None, overrides: list[str], storage: str | None
) -> tuple[StudyRecord, Plan, Mapping[str, Any], str]:
    """The study, how and what it trains, and which configuration that is."""
    from hpo import catalog, spec
    from hpo.places import storage_url
    from hpo.sizing import baseline_of, config_of
    from hpo.storage import open_storage

    path = Path(what)
    if path.is_file() or path.suffix in (".yaml", ".yml"):
        if trial is not None:
            raise typer.BadParameter("--trial is of a study; name the study, not its file.")
        plan = spec.load(path, overrides)
        config = baseline_of(plan)
        record = catalog.beside(open_storage(storage_url(storage or plan.spec.storage)), plan)
        return record, plan, config, "the baseline" if plan.baseline else "the only configuration"
    if wrong := [each for each in overrides if not each.startswith("run.")]:
        raise typer.BadParameter(f"{wrong[0]}: of a study, run.* alone may be set.")
    record = find(what, storage)
    plan = record.plan.overridden(overrides)
    if trial is None:
        best = record.best()
        if best is None:
            step = "Of a file, its baseline is taken: hpo data-needs FILE. Or: hpo run FILE"
            raise HpoError(record.why_no_best(), step)
        return record, plan, config_of(record, best), f"trial {best.number}, the best"
    chosen = next((each for each in record.trials() if each.number == trial), None)
    if chosen is None:
        raise HpoError(f"'{what}' has no trial {trial}.", f"See: hpo trials {what}")
    return record, plan, config_of(record, chosen), f"trial {trial}"


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

    files = report.write(answer)
    if as_json:
        print_json({**report.as_json(answer), "files": [str(file) for file in files]})
    else:
        out = stdout()
        out.print(report.sentence(answer), markup=False, soft_wrap=True)
        if answer.diagnosis is not None:
            out.print(answer.diagnosis.sentence, markup=False, soft_wrap=True)
        print_table(report.as_table(answer))
        if (chart := report.chart(answer)) is not None:
            print_drawing(functools.partial(as_text, chart))
    console = stderr()
    if answer.state == "budget":
        console.print("The budget is spent; with more, the same command goes on from here.")
    if answer.diagnosis is None and answer.question.train_metric is not None:
        name = answer.question.train_metric
        console.print(f"Report {name}, too, to learn whether bias or variance bounds the model.")
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
