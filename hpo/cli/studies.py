"""Commands about studies in a storage: studies, show, why, trials, best, stop, delete, sync."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.app import (
    JsonOption,
    StorageOption,
    StudyArgument,
    TrackingOption,
    command,
    only_json,
    print_charts,
    print_json,
    print_leaderboard,
    print_table,
    stderr,
    stdout,
)
from hpo.errors import HpoError
from hpo.words import counted, number

if TYPE_CHECKING:
    from hpo.catalog import StudyRecord
    from hpo.reports.plots import Chart
    from hpo.trial import TrialRecord


_SECONDS_BETWEEN_LOOKS = 0.3


def find(study: str, storage: str | None) -> StudyRecord:
    """The study of that name, or an error that names the nearest."""
    from hpo import catalog
    from hpo.places import storage_url
    from hpo.storage import open_storage

    return catalog.find(open_storage(storage_url(storage), create=False), study)


@command("studies")
def studies(storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """List the studies of a storage."""
    from hpo import catalog
    from hpo.places import storage_url
    from hpo.reports.studies import studies_table
    from hpo.reports.summary import summary
    from hpo.storage import open_storage

    found = catalog.every(open_storage(storage_url(storage), create=False))
    if as_json:
        print_json([summary(study) for study in found])
    elif found:
        print_table(studies_table(found))
    else:
        stderr().print("No studies yet. Run one: hpo run FILE")


@command("show")
def show(study: StudyArgument, storage: StorageOption = None, as_json: JsonOption = False) -> None:
    """Show a study: its state, its counts, what runs where, its best trials."""
    from hpo.reports.studies import overview
    from hpo.reports.summary import summary
    from hpo.reports.trials import running_table

    record = find(study, storage)
    if as_json:
        print_json(summary(record))
        return
    print_table(overview(record))
    if table := running_table(record):
        print_table(table)
    print_leaderboard(record)


@command("why")
def why(
    study: StudyArgument,
    trial: Annotated[int, typer.Argument(metavar="TRIAL", help="Number of the trial.")],
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Explain a trial: how it was suggested, what it reported, how it ended."""
    from hpo.reports import why as explained

    record = find(study, storage)
    told = explained.why(record, trial)
    if as_json:
        print_json(told)
    else:
        print_table(explained.why_table(record, told))


@command("stop")
def stop(
    study: StudyArgument,
    storage: StorageOption = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait until all of them have ended.")
    ] = True,
) -> None:
    """Ask every driver of a study to end after its trials' next reports.

    Trials are put back, with their checkpoints: hpo resume goes on with them.
    """
    record = find(study, storage)
    drivers = record.drivers()
    console = stderr()
    if not drivers:
        console.print(f"Nothing to stop: no process drives study '{study}'; it is {record.state}.")
        return
    record.ask_to_stop()
    console.print(f"Asked {counted(len(drivers), 'driver')} of '{study}' to stop.")
    while wait and record.drivers():
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    if wait:
        console.print(f"Stopped; nothing is lost. Go on: hpo resume {study}")


@command("trials")
def trials(
    study: StudyArgument, storage: StorageOption = None, as_json: JsonOption = False
) -> None:
    """List all trials of a study, with why each one ended."""
    from hpo.reports.trials import trials_list, trials_table

    record = find(study, storage)
    if as_json:
        print_json([trial.as_json() for trial in record.trials()])
    else:
        found, metrics = record.trials(), record.aims.metrics
        print_table(trials_table(found, metrics), trials_list(found, metrics))


@command("best")
def best(
    study: StudyArgument,
    test: Annotated[
        bool,
        typer.Option("--test", help="Judge it by the test part, which nothing else looks at."),
    ] = False,
    plot: Annotated[
        bool, typer.Option("--plot", help="Draw a classifier's precision over recall.")
    ] = False,
    png: Annotated[
        Path | None, typer.Option("--png", metavar="FILE", help="Draw it into a PNG file.")
    ] = None,
    storage: StorageOption = None,
    as_json: JsonOption = False,
) -> None:
    """Show the best trial of a study; of several metrics, all of its front."""
    from hpo.reports.leaderboard import best_table, leaderboard
    from hpo.reports.summary import summary

    record = find(study, storage)
    front, metric = record.front(), record.metric
    if not front:
        raise HpoError(record.why_no_best(), f"See: hpo trials {study}")
    with only_json(as_json):
        tested = _tested(record, front[0]) if test else None
        charts = _charts(record, front[0]) if plot or png else []
    if png:
        from hpo.reports.plots import write_image

        write_image(charts, png)
        stderr().print(f"Written: {png}", markup=False)
    if as_json:
        print_json(summary(record) | ({"test": tested} if tested else {}))
        return
    if record.aims.several:
        every = len(front)
        tables = (leaderboard(front, metric, limit=every, compact=c) for c in (False, True))
        print_table(*tables)
    else:
        print_table(best_table(front[0], metric))
    if tested:
        values = ", ".join(f"{name} {number(value)}" for name, value in tested.items())
        stdout().print(f"Trial {front[0].number} on the test part: {values}", markup=False)
    if plot:
        print_charts(charts)


def _charts(record: StudyRecord, trial: TrialRecord) -> list[Chart]:
    from hpo.winners import Winner

    winner = Winner(record, trial, lambda text: stderr().print(text, markup=False))
    return [winner.precision_over_recall()]


def _tested(record: StudyRecord, trial: TrialRecord) -> dict[str, float]:
    """The trial's metrics on the test part."""
    from hpo.winners import tested

    return tested(record, trial, lambda text: stderr().print(text, markup=False))


@command("delete")
def delete(
    study: StudyArgument,
    storage: StorageOption = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete a study, its trials and its run directory. MLflow keeps its copy."""
    from hpo import catalog
    from hpo.drivers import named

    record = find(study, storage)
    n = counted(sum(record.counts().values()), "trial")
    if not yes:
        if not sys.stdin.isatty():
            raise typer.BadParameter("say --yes to delete without being asked.")
        typer.confirm(f"Delete study '{study}' with {n} and {record.directory}?", abort=True)
    if drivers := record.drivers():
        at_work = ", ".join(named(driver.about) for driver in drivers)
        stderr().print(f"Still at work on it, and to end with an error: {at_work}.", markup=False)
    catalog.delete(record)
    stderr().print(f"Deleted study '{study}' with {n}.")


@command("sync")
def sync(
    study: StudyArgument,
    storage: StorageOption = None,
    tracking: TrackingOption = None,
    as_json: JsonOption = False,
) -> None:
    """Bring MLflow up to date with a study."""
    from hpo import tracking as mirror
    from hpo.mlflow_server.uris import masked
    from hpo.places import tracking_uri

    record = find(study, storage)
    uri = tracking_uri(tracking or record.tracking)
    if uri is None:
        raise HpoError("tracking is 'none'.", "Name MLflow: --tracking http://...")
    missing: list[str] = []
    n = mirror.sync(record, uri, missing.append)
    if as_json:
        print_json({"study": study, "mirrored": n, "tracking": masked(uri)})
    else:
        stdout().print(f"MLflow has {counted(n, 'finished trial')} of '{study}'.")
    if missing:
        raise HpoError(missing[0])
