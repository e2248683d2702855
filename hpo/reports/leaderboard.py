"""The leaderboard: a study's best trials, as a table and in Markdown, and the best of them."""

from __future__ import annotations

from collections.abc import Sequence

from rich.markup import escape
from rich.table import Table

from hpo.catalog import StudyRecord
from hpo.reports.trials import add_params, called, param_cells, param_names, table_of
from hpo.trial import TrialRecord
from hpo.words import number


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
    table = table_of("#", "trial", metric, *_others(shown))
    names = add_params(table, shown, compact=compact)
    infeasible = any(trial.violations for trial in shown)
    if infeasible:
        table.add_column("why", overflow="fold")
    for trial in shown:
        table.add_row(
            _rank_of(trial),
            called(trial),
            *map(number, trial.values.values()),
            *param_cells(trial, names),
            *([escape(trial.why)] if infeasible else []),
            style="bold" if trial.rank == 1 else "dim" if trial.rank is None else None,
        )
    return table


def _others(trials: Sequence[TrialRecord]) -> list[str]:
    """Names of the objectives after the first."""
    return list(trials[0].values)[1:] if trials else []


def _rank_of(trial: TrialRecord) -> str:
    return "-" if trial.rank is None else str(trial.rank)


def best_table(trial: TrialRecord, metric: str) -> Table:
    """One trial: its value, parameters and metrics."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_row("[bold]trial[/bold]", str(trial.number))
    table.add_row(f"[bold]{escape(metric)}[/bold]", number(trial.value))
    for name, value in trial.params.items():
        table.add_row(escape(name), escape(number(value)))
    for name, metric_value in trial.metrics.items():
        if name != metric:
            table.add_row(f"[dim]{escape(name)}[/dim]", f"[dim]{number(metric_value)}[/dim]")
    if trial.mlflow_run_id:
        table.add_row("[dim]MLflow run[/dim]", f"[dim]{trial.mlflow_run_id}[/dim]")
    return table


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
                called(trial),
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
