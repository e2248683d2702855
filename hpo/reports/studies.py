"""Studies as tables: one among others, and what there is to know of it before its trials."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.markup import escape
from rich.table import Table

from hpo.catalog import StudyRecord
from hpo.reports import stopping, trained_on
from hpo.words import number


def studies_table(studies: Sequence[StudyRecord]) -> Table:
    """One line a study."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("study", "state", "trials", "best", "metric", "why"):
        table.add_column(column, justify="right" if column in ("trials", "best") else "left")
    for study in studies:
        best = study.best()
        table.add_row(
            escape(study.name),
            study.state,
            str(sum(study.counts().values())),
            number(best.value if best else None),
            escape(", ".join(study.aims.metrics)),
            escape(study.state_reason),
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
    if sentence := trained_on.sentence(study):
        rows["data"] = sentence
    if study.ranked() and (note := study.why_no_best()):
        rows["best"] = note
    for name, value in rows.items():
        table.add_row(f"[bold]{name}[/bold]", escape(value))
    return table
