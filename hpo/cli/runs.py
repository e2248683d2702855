"""Commands that run trials: run, resume, worker."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.app import (
    GATE_FAILED,
    INTERRUPTED,
    NO_BEST,
    TOO_MANY_FAILURES,
    JsonOption,
    SetOption,
    StorageOption,
    StudyArgument,
    TrackingOption,
    command,
    only_json,
    print_json,
    print_leaderboard,
    stderr,
)
from hpo.cli.studies import find
from hpo.errors import StorageError, StudyChangedError, StudyNotFoundError
from hpo.places import DEFAULT_TRACKING
from hpo.words import counted, number

if TYPE_CHECKING:
    from rich.console import Console

    from hpo.api import Result
    from hpo.catalog import StudyRecord
    from hpo.spec import Plan


_SECONDS_BETWEEN_LOOKS = 1.0  # for a study that is not there yet

WorkersOption = Annotated[
    str | None,
    typer.Option("--workers", metavar="N", help="Trials at once, each in its process; or auto."),
]


@command("run")
def run(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file.")],
    overrides: SetOption = None,
    workers: WorkersOption = None,
    storage: StorageOption = None,
    tracking: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Run a study file, or go on with its study.

    Exits with 0 when done and the gate passed, 1 on an error or when every trial was stopped, so
    that none is the best, 3 when the gate failed, 4 when too many trials failed, and 130 when
    interrupted.
    """
    from hpo import spec

    _run(spec.load(file, said(overrides, workers)), storage, tracking, as_json=as_json)


@command("resume")
def resume(
    study: StudyArgument,
    overrides: SetOption = None,
    workers: WorkersOption = None,
    storage: StorageOption = None,
    tracking: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Go on with an interrupted study.

    With --set search.trials=200 a finished one goes on, too.
    """
    record = find(study, storage)
    plan = record.plan.overridden(said(overrides, workers))
    try:
        _run(plan, storage, tracking or record.tracking, as_json=as_json)
    except StudyChangedError as error:
        raise StudyChangedError(
            error.message,
            "A study keeps them. Change the file, and run it as another study: "
            f"hpo run FILE --set name={study}-2",
        ) from error


@command("worker")
def worker(
    study: StudyArgument,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="For this driver alone: run.device=cpu"),
    ] = None,
    workers: WorkersOption = None,
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where the study's code is, if elsewhere than it was."),
    ] = None,
    storage: StorageOption = None,
    tracking: TrackingOption = None,
    wait: Annotated[
        str | None,
        typer.Option(
            "--wait", metavar="DURATION", help="Wait so long for the study to be there: 10m"
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Help with a study that exists: run trials of it until it is done.

    Any number of these may run, on any machine that reaches the storage. None of them judges the
    gate. With --wait they may be started before the study is.
    """
    record = find(study, storage) if wait is None else _found_in_time(study, storage, wait)
    given = said(overrides, workers)
    for override in given:
        if not override.startswith("run."):
            raise typer.BadParameter(f"{override}: a worker may set run.* alone.")
    plan = record.plan.overridden(given)
    if folder is not None:
        plan = replace(plan, folder=folder.resolve())
    _run(plan, storage, tracking or record.tracking, as_json=as_json, joins=True)


def _found_in_time(study: str, storage: str | None, wait: str) -> StudyRecord:
    """The study of that name, which somebody may be about to make, and its database too."""
    from hpo import catalog, spec
    from hpo.places import storage_url
    from hpo.storage import open_storage
    from hpo.storage.urls import parse

    url = storage_url(storage)
    parse(url)  # what is no URL of a storage will not become one
    try:
        deadline = time.monotonic() + spec.seconds(wait)
    except ValueError as error:
        raise typer.BadParameter(f"--wait: {error}") from error
    store, has_said = None, False
    while True:
        try:
            store = store or open_storage(url, create=False)
            return catalog.find(store, study)
        except (StorageError, StudyNotFoundError) as error:
            if time.monotonic() >= deadline:
                raise
            if not has_said:
                stderr().print(f"Waiting for up to {wait}: {error.message}", markup=False)
            has_said = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def said(overrides: list[str] | None, workers: str | None) -> list[str]:
    """The overrides, with what ``--workers`` means among them."""
    if workers is None:
        return overrides or []
    return [*(overrides or []), f"run.workers={workers}", "run.executor=processes"]


def _run(
    plan: Plan,
    storage: str | None,
    tracking: str | None,
    *,
    as_json: bool,
    joins: bool = False,
) -> None:
    console = stderr()
    with console.status("loading"):  # torch and Optuna take their seconds
        from hpo.advice import advise
        from hpo.api import run_plan
        from hpo.cli.progress import listener

    for each in advise(plan):
        if each.level == "warning":
            console.print("[yellow]warning:[/yellow] ", end="")
            console.print(str(each), markup=False)
    progress = listener(console, plan)
    try:
        with only_json(as_json):
            result = run_plan(
                plan,
                storage=storage,
                tracking=tracking,
                listeners=[progress],
                warn=progress.warn,
                joins=joins,
            )
    finally:
        progress.done()
    if joins:
        result = replace(result, verdict=None)
    elsewhere = storage or plan.spec.storage
    _print(result, console, elsewhere, as_json=as_json)
    if result.outcome.state == "interrupted":
        raise typer.Exit(INTERRUPTED + (result.outcome.signal or 2))
    if result.outcome.state == "failed":
        raise typer.Exit(TOO_MANY_FAILURES)
    if result.verdict and not result.verdict.passed:
        raise typer.Exit(GATE_FAILED)
    if not joins and _ends_without_best(result):
        raise typer.Exit(NO_BEST)


def _print(result: Result, console: Console, storage: str | None, *, as_json: bool) -> None:
    from hpo.reports import stopping
    from hpo.reports.summary import summary

    study = result.study
    if as_json:
        verdict = result.verdict.as_json() if result.verdict else None
        print_json({**summary(study), "gate": verdict})
    else:
        print_leaderboard(study)
    # Typed in the same folder, the next command is to find the same study.
    name = study.name if storage is None else f"{study.name} --storage {study.storage.url}"
    if result.outcome.state == "interrupted":
        console.print(f"Interrupted; nothing is lost. Go on: hpo resume {name}")
        return
    if result.outcome.state == "failed":
        _print_failure(result, console)
    if result.outcome.state == "finished" and result.outcome.reason:
        console.print(f"Finished: {result.outcome.reason}{_to_go_on(result, name)}.", markup=False)
    if _ends_without_best(result) or (
        result.best is None and result.verdict is None and result.outcome.state == "finished"
    ):
        console.print(f"No best trial: {study.why_no_best()}{_to_have_one(study)}", markup=False)
    if sentence := stopping.sentence(study):
        console.print(f"Stopping: {sentence}.", markup=False)
    if sentence := _against_baseline(result):
        console.print(sentence, markup=False)
    if result.verdict:
        style = "green" if result.verdict.passed else "red"
        console.print(f"[{style}]{result.verdict.sentence}[/{style}]")
    console.print(f"All trials: hpo trials {name}{_mlflow_hint(study.tracking)}")


def _ends_without_best(result: Result) -> bool:
    """Whether a study has ended for good, and has no best trial since all were stopped."""
    is_over = result.outcome.state == "finished" and not result.outcome.limit
    return is_over and result.study.all_stopped


def _to_have_one(study: StudyRecord) -> str:
    """How to have a best trial where a rule has stopped all; empty elsewhere."""
    from hpo.advice import instead_of_patience

    if not study.all_stopped or study.plan.spec.stopping.rule == "none":
        return ""
    more = f"--set stopping.rule=none --set search.trials={2 * len(study.trials())}"
    instead = instead_of_patience(study.plan)
    return f" {instead or f'Let others run to their end: hpo resume {study.name} {more}'}"


def _print_failure(result: Result, console: Console) -> None:
    """Why the study failed, and where in the user's code its last trial did."""
    console.print(f"[red]failed:[/red] {result.outcome.reason}.")
    failures = [trial.failure for trial in result.trials if trial.failure]
    if failures:
        console.print(f"  the last: {failures[-1].summary}", markup=False)
        if place := failures[-1].place:
            console.print(indent(place, "  "), markup=False)


def _to_go_on(result: Result, name: str) -> str:
    """How to go on with trials that a limit ended."""
    n, limit = result.study.counts()["waiting"], result.outcome.limit
    if not n or not limit:
        return ""
    trials = f"{counted(n, 'trial')} {'waits' if n == 1 else 'wait'}"
    return f"; {trials} to be resumed: hpo resume {name} --set {limit}=MORE"


def _against_baseline(result: Result) -> str:
    """What the search was worth, in one sentence; nothing without a baseline to compare with."""
    baseline, best = result.study.baseline(), result.best
    plan = result.study.plan
    if plan.baseline is not None and (baseline is None or plan.baseline != baseline.params):
        more = len(result.trials) + 1
        return f"The baseline has not been run yet. Let it: --set search.trials={more}"
    if baseline is None or best is None:
        return ""
    if baseline.value is None or baseline.state != "COMPLETE":
        return f"The baseline (trial {baseline.number}) has no value: it is {baseline.state}."
    if baseline.violations:
        return f"The baseline (trial {baseline.number}) {baseline.why}."
    aims = result.study.aims
    better = next((t for t in result.front if aims.dominates(t, baseline)), None)
    if better is None:
        measured = ", ".join(f"{name} {number(value)}" for name, value in baseline.values.items())
        return f"No trial beats the baseline: {measured}."
    values = ", ".join(
        f"{name} {number(value)} against {number(baseline.values[name])}"
        for name, value in better.values.items()
    )
    return f"Trial {better.number} beats the baseline: {values}."


def _mlflow_hint(tracking: str | None) -> str:
    if tracking in (None, "none"):
        return ""
    if tracking.startswith("http"):
        return f"    curves and more: {tracking}"
    # mlflow looks into mlflow.db by itself
    where = "" if tracking == DEFAULT_TRACKING else f" --backend-store-uri {tracking}"
    return f"    curves and more: mlflow ui{where}"
