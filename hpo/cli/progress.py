"""What a running study shows on stderr: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TimeElapsedColumn,
)
from rich.table import Column
from rich.text import Text

from hpo.catalog import StudyRecord
from hpo.listeners import Listener, Outcome
from hpo.search_spaces import Scalar
from hpo.spec import Plan
from hpo.trainers import Report
from hpo.trial import TrialRecord
from hpo.words import counted, number

_BAR, _WIDE = 24, 100  # columns of the bar, and of a terminal with room for it
_SHOWN = ("best", "counts", "now", "left")
_LEAST_IMPORTANT = ("now", "counts", "left", "best")


def listener(console: Console, plan: Plan) -> PlainProgress:
    """The progress that suits where `console` writes to."""
    return LiveProgress(console, plan) if console.is_terminal else PlainProgress(console, plan)


class PlainProgress(Listener):
    """One line per event, for logs and CI."""

    def __init__(self, console: Console, plan: Plan) -> None:
        self.console = console
        self.plan = plan
        self.metrics = plan.spec.objective.metrics
        self.study: StudyRecord | None = None

    def warn(self, message: str) -> None:
        """Prints a warning."""
        self.console.print(f"[yellow]warning:[/yellow] {escape(message)}")

    def opened(self, study: StudyRecord) -> None:
        """Says what begins."""
        self.study = study
        text = self._going_on(study) if sum(self.counts().values()) else self._beginning(study)
        self.console.print(f"{escape(text)}, in {escape(study.storage.url)}")

    def _beginning(self, study: StudyRecord) -> str:
        trials = self.plan.trials
        wanted = "trials until its timeout" if trials is None else counted(trials, "trial")
        return f"Study '{study.name}': {wanted}, {self.plan.spec.search.sampler}"

    def _going_on(self, study: StudyRecord) -> str:
        counts, trials = self.counts(), self.plan.trials
        there, unfinished = sum(counts.values()), counts["WAITING"]
        if trials is not None and there >= trials and not unfinished:
            return f"Study '{study.name}' has its {counted(there, 'trial')}{self._more}"
        of = "" if trials is None or there > trials else f" of {counted(trials, 'trial')}"
        waiting = f", {unfinished} of them unfinished" if unfinished else ""
        said = f"{there}{of} are there" if of else f"{counted(there, 'trial')} so far"
        return f"Going on with study '{study.name}': {said}{waiting}"

    @property
    def _more(self) -> str:
        """How to go on with a study that has its trials, where anything is left to try."""
        space, search = self.plan.space, self.plan.spec.search
        size = space.grid_size if search.sampler == "grid" else space.size
        return "" if self.plan.trials == size else "; more with --set search.trials=N"

    def counts(self) -> Counter[str]:
        """How many trials of the study are in each state, whoever ran them."""
        counted = {} if self.study is None else self.study.counts()
        return Counter({state.upper(): n for state, n in counted.items()})

    def waiting(self, n_trials: int) -> None:
        """Says what is waited for."""
        what = (
            "a trial that another driver runs"
            if n_trials == 1
            else (f"{n_trials} trials that other drivers run")
        )
        self.console.print(f"Waiting for {what}; should one die, this driver sees to it.")

    def draining(self, why: str, grace_seconds: float) -> None:
        """Says why it takes a moment, and how not to wait."""
        now = "; Ctrl-C stops them now" if sys.stdin.isatty() else ""
        text = f"{why}: trials go on to their next report, for {grace_seconds:g} s at most{now}"
        self.console.print(escape(text[0].upper() + text[1:]))

    def ended(self, trial: TrialRecord, best: TrialRecord | None) -> None:
        """Says how a trial ended."""
        self.console.print(self.line(trial, best))

    def done(self) -> None:
        """Everything is over, errors included; nothing more is shown."""

    def line(self, trial: TrialRecord, best: TrialRecord | None) -> str:
        """One trial in one line."""
        values = ", ".join(f"{name} {number(value)}" for name, value in trial.values.items())
        seconds = f" in {trial.wall_seconds:.1f} s" if trial.wall_seconds is not None else ""
        after = f" ({trial.why})" if trial.why else seconds
        leader = ""
        if best is not None and best.value is not None:
            what = f" {self.metrics[0]}" if len(self.metrics) > 1 else ""
            leader = (
                f"  best{what} so far"
                if best.number == trial.number
                else f"  best{what} {number(best.value)}, trial {best.number}"
            )
        name = f"trial {trial.number}{' (baseline)' if trial.is_baseline else ''}"
        return escape(f"{name} {trial.state}{values and ' '}{values}{after}{leader}")


class _Fields(ProgressColumn):
    """What is known of a study, but for what a terminal's line has no room for.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        super().__init__(Column(no_wrap=True))
        self._console = console

    def render(self, task: Task) -> Text:
        """The fields that fit, the least important left out first."""
        taken = len(f"{task.completed:g}/{task.total or '?'}") + len(" 0:00:00 ")
        taken += _BAR + 1 if self._console.width >= _WIDE else 0
        shown = [name for name in _SHOWN if task.fields[name]]
        while True:
            line = Text("  ").join(Text.from_markup(task.fields[name]) for name in shown)
            if len(line) <= self._console.width - taken or not shown:
                return line
            shown.remove(next(name for name in _LEAST_IMPORTANT if name in shown))


class LiveProgress(PlainProgress):
    """One line that is rewritten: best value, counts by state, time left."""

    def __init__(self, console: Console, plan: Plan) -> None:
        super().__init__(console, plan)
        self._progress = Progress(
            *([BarColumn(bar_width=_BAR)] if console.width >= _WIDE else []),
            MofNCompleteColumn(),
            _Fields(console),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(
            "", total=plan.trials, best="", counts="", now="", left=""
        )
        self._durations: list[float] = []
        self._running: set[int] = set()
        self._updated = 0.0

    def opened(self, study: StudyRecord) -> None:
        """Starts the live line."""
        super().opened(study)
        best = study.best()
        self._update(best)
        self._progress.start()

    def started(self, trial: TrialRecord, config: Mapping[str, Scalar]) -> None:  # noqa: ARG002
        """Names the trial that runs."""
        self._running.add(trial.number)
        self._progress.update(self._task, now=f"[dim]{self._now(trial.number)}[/dim]")

    def reported(self, number: int, report: Report) -> None:
        """Shows the step, at most ten times a second."""
        if time.monotonic() - self._updated > 0.1:
            self._updated = time.monotonic()
            epochs = self.plan.spec.objective.epochs
            of = f"/{epochs}" if epochs else ""
            now = f"{self._now(number)} step {report.step}{of}"
            self._progress.update(self._task, now=f"[dim]{now}[/dim]")

    def ended(self, trial: TrialRecord, best: TrialRecord | None) -> None:
        """Counts it; only failures and new bests get a line that stays."""
        self._running.discard(trial.number)
        if trial.wall_seconds is not None and trial.state != "WAITING":
            self._durations.append(trial.wall_seconds)
        self._update(best)
        is_best = best is not None and best.number == trial.number
        if trial.failure or is_best:
            style = "red" if trial.failure else "green"
            self.console.print(f"[{style}]{self.line(trial, best)}[/{style}]")

    def closed(self, study: StudyRecord, outcome: Outcome) -> None:  # noqa: ARG002
        """Says what is waited for now."""
        self._progress.update(self._task, now="[dim]finishing[/dim]", left="")

    def done(self) -> None:
        """Removes the live line."""
        self._progress.stop()

    def _update(self, best: TrialRecord | None) -> None:
        counted = self.counts()
        done = counted["COMPLETE"] + counted["PRUNED"] + counted["FAIL"]
        names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        counts = "  ".join(f"{counted[s]} {n}" for s, n in names.items() if counted[s])
        shown = (
            "" if best is None else f"[bold]best {number(best.value)}[/bold] (trial {best.number})"
        )
        self._progress.update(
            self._task, completed=done, best=shown, counts=counts, left=self._left(done)
        )

    def _now(self, number: int) -> str:
        others = len(self._running) - 1
        return f"trial {number}" + (f" and {others} more" if others > 0 else "")

    def _left(self, done: int) -> str:
        trials = self.plan.trials
        if trials is None or not self._durations:
            return ""
        recent = self._durations[-20:]
        at_once = max(1, len(self._running))
        seconds = (trials - done) * sum(recent) / len(recent) / at_once
        minutes, seconds = divmod(int(seconds), 60)
        return f"{minutes}:{seconds:02d} left"
