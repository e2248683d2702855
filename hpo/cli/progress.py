"""What a running study shows on stderr: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from hpo.catalog import StudyRecord
from hpo.listeners import Listener, Outcome
from hpo.spec import Plan
from hpo.trial import Scalar, TrialRecord
from trainers import Report


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
        counts = self.counts()
        before = sum(counts.values())
        trials = self.plan.trials
        wanted = f"{trials} trials" if trials is not None else "trials until its timeout"
        if before:
            unfinished = f", {counts['WAITING']} of them unfinished" if counts["WAITING"] else ""
            text = f"Going on with study '{study.name}': {before} of {wanted} are there{unfinished}"
        else:
            text = f"Study '{study.name}': {wanted}, {self.plan.spec.search.sampler}"
        self.console.print(f"{escape(text)}, in {escape(study.storage.url)}")

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
        values = ", ".join(f"{name} {value:.4g}" for name, value in trial.values.items())
        seconds = f" in {trial.wall_seconds:.1f} s" if trial.wall_seconds is not None else ""
        after = f" ({trial.why})" if trial.why else seconds
        leader = ""
        if best is not None and best.value is not None:
            what = f" {self.metrics[0]}" if len(self.metrics) > 1 else ""
            leader = (
                f"  best{what} so far"
                if best.number == trial.number
                else f"  best{what} {best.value:.4g}, trial {best.number}"
            )
        name = f"trial {trial.number}{' (baseline)' if trial.is_baseline else ''}"
        return escape(f"{name} {trial.state}{values and ' '}{values}{after}{leader}")


class LiveProgress(PlainProgress):
    """One line that is rewritten: best value, counts by state, time left."""

    def __init__(self, console: Console, plan: Plan) -> None:
        super().__init__(console, plan)
        self._progress = Progress(
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TextColumn("{task.fields[best]}"),
            TextColumn("{task.fields[counts]}"),
            TextColumn("{task.fields[now]}", style="dim"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
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
        self._progress.update(self._task, now=self._now(trial.number))

    def reported(self, number: int, report: Report) -> None:
        """Shows the step, at most ten times a second."""
        if time.monotonic() - self._updated > 0.1:
            self._updated = time.monotonic()
            epochs = self.plan.spec.objective.epochs
            of = f"/{epochs}" if epochs else ""
            now = f"{self._now(number)} step {report.step}{of}"
            self._progress.update(self._task, now=now)

    def ended(self, trial: TrialRecord, best: TrialRecord | None) -> None:
        """Counts it; only failures and new bests get a line that stays."""
        self._running.discard(trial.number)
        if trial.wall_seconds is not None:
            self._durations.append(trial.wall_seconds)
        self._update(best)
        is_best = best is not None and best.number == trial.number
        if trial.failure or is_best:
            style = "red" if trial.failure else "green"
            self.console.print(f"[{style}]{self.line(trial, best)}[/{style}]")

    def closed(self, study: StudyRecord, outcome: Outcome) -> None:  # noqa: ARG002
        """Says what is waited for now."""
        self._progress.update(self._task, now="finishing", left="")

    def done(self) -> None:
        """Removes the live line."""
        self._progress.stop()

    def _update(self, best: TrialRecord | None) -> None:
        counted = self.counts()
        done = counted["COMPLETE"] + counted["PRUNED"] + counted["FAIL"]
        names = {"COMPLETE": "complete", "PRUNED": "pruned", "FAIL": "failed"}
        counts = "  ".join(f"{counted[s]} {n}" for s, n in names.items() if counted[s])
        shown = "" if best is None else f"[bold]best {best.value:.4g}[/bold] (trial {best.number})"
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
