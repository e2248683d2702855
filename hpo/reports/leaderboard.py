"""The leaderboard: a study's best trials as a table."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence

from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from hpo.catalog import StudyRecord
from hpo.drivers import named
from hpo.reports import stopping
from hpo.trial import DRIVER, TrialRecord


def leaderboard(
    trials: Sequence[TrialRecord], metric: str, *, limit: int = 10, compact: bool = False
) -> Table:
    """A table of trials in the given order.

    Args:
        trials: The best first.
        metric: Name of the objective, the first of several.
        limit: How many to show, and the baseline, if it is not among them.
        compact: All parameters in one column, instead of a column each.
    """
    shown = list(trials[:limit])
    shown += [trial for trial in trials[limit:] if trial.is_baseline]  # to compare with
    table = _table("#", "trial", metric, *_others(shown))
    names = _add_params(table, shown, compact=compact)
    infeasible = any(trial.violations for trial in shown)
    if infeasible:
        table.add_column("why", overflow="fold")
    for trial in shown:
        table.add_row(
            _rank_of(trial),
            _number_of(trial),
            *map(number, trial.values.values()),
            *_param_cells(trial, names),
            *([_escaped(trial.why)] if infeasible else []),
            style="bold" if trial.rank == 1 else "dim" if trial.rank is None else None,
        )
    return table


def _others(trials: Sequence[TrialRecord]) -> list[str]:
    """Names of the objectives after the first."""
    return list(trials[0].values)[1:] if trials else []


def _rank_of(trial: TrialRecord) -> str:
    return "-" if trial.rank is None else str(trial.rank)


def trials_table(trials: Sequence[TrialRecord], metrics: Sequence[str]) -> Table:
    """All trials in the order of asking, with their state and why they do not count."""
    table = _table("trial", "state", *metrics)
    names = _add_params(table, trials, compact=False)
    table.add_column("steps", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("why", overflow="fold")
    for trial in trials:
        *cells, steps, seconds = _trial_cells(trial, metrics)
        params = _param_cells(trial, names)
        table.add_row(*cells, *params, steps, seconds, _escaped(_why(trial)))
    return table


def trials_list(trials: Sequence[TrialRecord], metrics: Sequence[str]) -> Group:
    """The same where a terminal is too narrow: parameters, and why, in lines below each trial."""
    head = ["trial", "state", *metrics, "steps", "seconds"]
    rows = [_trial_cells(trial, metrics) for trial in trials]
    texts = [[Text.from_markup(cell) for cell in row] for row in [head, *rows]]
    widths = [max(map(len, column)) for column in zip(*texts, strict=True)]
    below = [[*_param_cells(trial, None), _escaped(_why(trial))] for trial in trials]
    lines: list[RenderableType] = []
    for row, notes in zip(texts, [[], *below], strict=True):
        for cell, width in zip(row, widths, strict=True):
            cell.pad_left(width - len(cell))
        lines.append(Text("  ").join(row))
        lines += [Padding(Text.from_markup(note), (0, 0, 0, 4)) for note in notes if note]
    return Group(*lines)


def _trial_cells(trial: TrialRecord, metrics: Sequence[str]) -> list[str]:
    return [
        _number_of(trial),
        f"[{STATE_STYLES[trial.state]}]{trial.state}[/]",
        *(number(trial.values.get(metric)) for metric in metrics),
        str(trial.n_steps),
        "" if trial.wall_seconds is None else f"{trial.wall_seconds:.1f}",
    ]


def _why(trial: TrialRecord) -> str:
    """Why a trial does not count, and whether it was run on although it was condemned."""
    audited = "audited: condemned, and run on" if stopping.is_audited(trial) else ""
    return "; ".join(filter(None, [audited, trial.why]))


def _number_of(trial: TrialRecord) -> str:
    return f"{trial.number} baseline" if trial.is_baseline else str(trial.number)


def _add_params(table: Table, trials: Sequence[TrialRecord], *, compact: bool) -> list[str] | None:
    if compact:
        table.add_column("params", overflow="fold")
        return None
    names = param_names(trials)
    for name in names:
        table.add_column(name, justify="right", no_wrap=True)
    return names


def _param_cells(trial: TrialRecord, names: list[str] | None) -> list[str]:
    if names is None:
        return ["  ".join(f"{name} {number(value)}" for name, value in trial.params.items())]
    return [number(trial.params.get(name)) for name in names]


def as_markdown(study: StudyRecord, limit: int = 10) -> str:
    """The leaderboard in Markdown, for MLflow and pull requests."""
    counts = ", ".join(f"{n} {state}" for state, n in study.counts().items() if n)
    ranked = study.ranked()[:limit]
    names = param_names(ranked)
    metrics = study.aims.metrics
    rows = [
        ["#", "trial", *metrics, *names],
        ["--:"] * (2 + len(metrics) + len(names)),
        *(
            [
                _rank_of(trial),
                _number_of(trial),
                *map(number, trial.values.values()),
                *(number(trial.params.get(name)) for name in names),
            ]
            for trial in ranked
        ),
    ]
    table = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    head = f"**{study.name}**: {counts or 'no trials yet'}."
    if not ranked:
        return f"{head}\n\n"
    note = study.why_no_best()
    return "\n\n".join([head, *([note] if note else []), table])


_LARGEST_COUNT = 1e12

STATE_STYLES = {
    "COMPLETE": "green",
    "PRUNED": "yellow",
    "FAIL": "red",
    "RUNNING": "cyan",
    "WAITING": "dim",
}


def param_names(trials: Iterable[TrialRecord]) -> list[str]:
    """Names of all sampled parameters, in the order they first occur."""
    return list(dict.fromkeys(name for trial in trials for name in trial.params))


def number(value: object) -> str:
    """A value in four significant digits; nothing for a parameter that was not active.

    A count, such as a network's parameters, has all of its digits.
    """
    if value is None:
        return ""
    if isinstance(value, float):
        whole = value.is_integer() and abs(value) < _LARGEST_COUNT
        return str(int(value)) if whole else f"{value:.4g}"
    return _escaped(str(value))


def counted(n: int, what: str) -> str:
    """``1 trial``, ``1,200 trials``."""
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _escaped(text: str) -> str:
    return text.replace("[", r"\[")


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def studies_table(studies: Sequence[StudyRecord]) -> Table:
    """One line a study."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("study", "state", "trials", "best", "metric", "why"):
        table.add_column(column, justify="right" if column in ("trials", "best") else "left")
    for study in studies:
        best = study.best()
        table.add_row(
            study.name,
            study.state,
            str(sum(study.counts().values())),
            number(best.value if best else None),
            ", ".join(study.aims.metrics),
            _escaped(study.state_reason),
        )
    return table


def overview(study: StudyRecord) -> Table:
    """What there is to know of a study before its trials."""
    table = Table(box=None, show_header=False, pad_edge=False)
    counts = ", ".join(f"{n} {state}" for state, n in study.counts().items() if n)
    reason = f" ({study.state_reason})" if study.state_reason else ""
    rows = {
        "study": study.name,
        "state": study.state + reason,
        "trials": counts or "none",
        "objective": ", ".join(
            f"{way} {metric}"
            for way, metric in zip(study.aims.directions, study.aims.metrics, strict=True)
        ),
        "storage": study.storage.url,
        "directory": str(study.directory or ""),
    }
    if study.aims.constraints:
        kept = (f"{metric} {text}" for metric, text in study.aims.constraints.items())
        rows["constraints"] = ", ".join(kept)
    if sentence := stopping.sentence(study):
        rows["stopping"] = sentence
    if study.ranked() and (note := study.why_no_best()):
        rows["best"] = note
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/bold]", _escaped(value))
    return table


def running_table(study: StudyRecord) -> Table | None:
    """What runs where, for how long, on which attempt; None where nothing does."""
    running = study.running()
    if not running:
        return None
    seconds = study.seconds_running()
    dead = {lease.trial_id for lease, _ in study.lapsed()}  # rows of the database
    table = _table("running", "attempt", "minutes", "steps")
    table.add_column("last " + study.metric, justify="right")
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
            _escaped(where),
        )
    return table


def best_table(trial: TrialRecord, metric: str) -> Table:
    """One trial: its value, parameters and metrics."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("[bold]trial[/bold]", str(trial.number))
    table.add_row(f"[bold]{metric}[/bold]", number(trial.value))
    for name, value in trial.params.items():
        table.add_row(name, number(value))
    for name, metric_value in trial.metrics.items():
        if name != metric:
            table.add_row(f"[dim]{name}[/dim]", f"[dim]{number(metric_value)}[/dim]")
    if trial.mlflow_run_id:
        table.add_row("[dim]MLflow run[/dim]", f"[dim]{trial.mlflow_run_id}[/dim]")
    return table
