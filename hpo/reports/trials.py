"""A study's trials as tables: all of them, and those that run."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hpo.catalog import StudyRecord
from hpo.drivers import named
from hpo.reports import stopping
from hpo.trial import DRIVER, TrialRecord
from hpo.words import number

_STATE_STYLES = {
    "COMPLETE": "green",
    "PRUNED": "yellow",
    "FAIL": "red",
    "RUNNING": "cyan",
    "WAITING": "dim",
}


def trials_table(trials: Sequence[TrialRecord], metrics: Sequence[str]) -> Table:
    """All trials in the order of asking, with their state and why they do not count."""
    table = table_of("trial", "state", *metrics)
    names = add_params(table, trials, compact=False)
    table.add_column("steps", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("why", overflow="fold")
    for trial in trials:
        *cells, steps, seconds = _trial_cells(trial, metrics)
        params = param_cells(trial, names)
        table.add_row(*cells, *params, steps, seconds, escape(_why(trial)))
    return table


def trials_list(trials: Sequence[TrialRecord], metrics: Sequence[str]) -> Group:
    """All trials for narrow terminals: parameters, and why, in lines below each trial."""
    head = ["trial", "state", *map(escape, metrics), "steps", "seconds"]
    rows = [_trial_cells(trial, metrics) for trial in trials]
    texts = [[Text.from_markup(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    below = [[*param_cells(trial, None), escape(_why(trial))] for trial in trials]
    lines: list[RenderableType] = []
    for row, notes in zip(texts, [[], *below], strict=True):
        for cell, width in zip(row, widths, strict=True):
            cell.pad_left(width - len(cell))
        lines.append(Text("  ").join(row))
        lines += [Padding(Text.from_markup(note), (0, 0, 0, 4)) for note in notes if note]
    return Group(*lines)


def _trial_cells(trial: TrialRecord, metrics: Sequence[str]) -> list[str]:
    return [
        called(trial),
        f"[{_STATE_STYLES[trial.state]}]{trial.state}[/]",
        *(number(trial.values.get(metric)) for metric in metrics),
        str(trial.n_steps),
        "" if trial.wall_seconds is None else f"{trial.wall_seconds:.1f}",
    ]


def _why(trial: TrialRecord) -> str:
    """Why a trial does not count, and whether it was run on although it was condemned."""
    ran_on = "condemned, and run on"
    audited = f"audited: {ran_on}" if stopping.is_audited(trial) else ""
    unheeded = ran_on if trial.is_unheeded else ""
    return "; ".join(filter(None, [audited, unheeded, trial.why]))


def running_table(study: StudyRecord) -> Table | None:
    """What runs where, for how long, on which attempt; None where nothing does."""
    running = study.running()
    if not running:
        return None
    seconds = study.seconds_running()
    dead = {lease.trial_id for lease, _ in study.lapsed()}  # rows of the database
    table = table_of("running", "attempt", "minutes", "steps")
    table.add_column(escape(f"last {study.metric}"), justify="right")
    table.add_column("where", overflow="fold")
    for trial in running:
        record, driver = study.aims.read(trial), trial.system_attrs.get(DRIVER, {})
        since = seconds.get(record.id, time.time() - (record.started_ms or 0) / 1000)
        step = trial.last_step
        where = named(driver) if driver else "not known: hpo did not start it"
        if "slot" in driver:
            where += f", slot {driver['slot']}"
        if driver.get("gpus"):
            where += f", GPU {driver['gpus']}"
        if record.id in dead:
            where += " (dead; the next driver goes on with it)"
        table.add_row(
            str(trial.number),
            str(record.attempts),
            f"{since / 60:.1f}",
            str(len(trial.intermediate_values)),
            number(None if step is None else trial.intermediate_values[step]),
            escape(where),
        )
    return table


# --- what all tables of trials have ---


def table_of(*columns: str) -> Table:
    """An empty table with columns for numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(escape(column), justify="right", no_wrap=True)
    return table


def called(trial: TrialRecord) -> str:
    """A trial's number, and whether it is the baseline."""
    return f"{trial.number} baseline" if trial.is_baseline else str(trial.number)


def param_names(trials: Iterable[TrialRecord]) -> list[str]:
    """Names of all sampled parameters, in the order they first occur."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def add_params(table: Table, trials: Sequence[TrialRecord], *, compact: bool) -> list[str] | None:
    """Gives a table a column for each parameter, or one for all; returns the names of the former.

    Args:
        table: It is changed.
        trials: Whose parameters.
        compact: All in one column.
    """
    if compact:
        table.add_column("params", overflow="fold")
        return None
    names = param_names(trials)
    for name in names:
        table.add_column(escape(name), justify="right", no_wrap=True)
    return names


def param_cells(trial: TrialRecord, names: list[str] | None) -> list[str]:
    """A trial's cells in the columns that `add_params` made, as rich's markup."""
    if names is None:
        params = (f"{name} {number(value)}" for name, value in trial.params.items())
        return [escape("  ".join(params))]
    return [escape(number(trial.params.get(name))) for name in names]
