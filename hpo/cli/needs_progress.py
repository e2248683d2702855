"""What `hpo data-needs` shows on stderr: a live line in a terminal, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

from hpo.curves import DataNeeds
from hpo.sizing import Question, SizingListener
from hpo.sizing.fits import Fit
from hpo.words import counted


def listener(console: Console, budget_seconds: float) -> PlainProgress:
    """The progress that suits where `console` writes to."""
    kind = LiveProgress if console.is_terminal else PlainProgress
    return kind(console, budget_seconds)


class PlainProgress(SizingListener):
    """One line for each fit, for logs and CI."""

    def __init__(self, console: Console, budget_seconds: float) -> None:
        self.console = console
        self.budget_seconds = budget_seconds
        self.question: Question | None = None
        self.n_fits = 0

    def warn(self, message: str) -> None:
        """Prints a warning."""
        self.console.print(f"[yellow]warning:[/yellow] {escape(message)}")

    def opened(self, question: Question, fits: Sequence[Fit]) -> None:
        """Says what begins, or goes on."""
        self.question, self.n_fits = question, len(fits)
        size = f"{question.n:,} training examples" if question.is_counted else "all training data"
        text = f"Data needs of {question.what} of '{question.study.name}': {question.metric}"
        goal = "" if question.target is None else f", target {question.target:g}"
        budget = _time(self.budget_seconds)
        self.console.print(f"{escape(text)}{goal}, {size}, for {budget} at most")
        if fits:
            n = counted(len(fits), "fit")
            self.console.print(f"Going on from {n} of earlier (--afresh forgets them)")
        if not question.is_counted:
            hint = "Sizes are per cent of the data; --examples N says how many it has"
            self.console.print(f"{hint}; with it, fits begin anew.")

    def draining(self, why: str, grace_seconds: float) -> None:
        """Says why it takes a moment."""
        text = f"{why}: fits go on to their next report, for {grace_seconds:g} s at most"
        self.console.print(escape(text[0].upper() + text[1:]))

    def ended(self, fit: Fit, needs: DataNeeds | None) -> None:  # noqa: ARG002
        """Says how a fit ended."""
        self.n_fits += fit.failure is None
        self.console.print(self.line(fit))

    def done(self) -> None:
        """Everything is over, errors included; nothing more is shown."""

    def line(self, fit: Fit) -> str:
        """One fit in one line."""
        where = f"{self._place(fit.size)}, seed {fit.seed}"
        if fit.failure is not None:
            return f"{where}: [red]failed[/red] ({escape(fit.failure.summary)})"
        metric = self.question.metric if self.question else ""
        value = fit.metrics.get(metric, float("nan"))
        return f"{where}: {escape(metric)} {value:.4g} in {fit.seconds:.1f} s"

    def _place(self, size: int) -> str:
        return self.question.place(size) if self.question else f"n = {size:,}"


class LiveProgress(PlainProgress):
    """One line that is rewritten: what runs, what is known so far, how much time has passed."""

    def __init__(self, console: Console, budget_seconds: float) -> None:
        super().__init__(console, budget_seconds)
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.fields[now]}"),
            TextColumn("{task.fields[known]}", style="dim"),
            TimeElapsedColumn(),
            TextColumn(f"of {_time(budget_seconds)}"),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task("", total=None, now="", known="")
        self._running: set[tuple[int, int]] = set()
        self._known = ""

    def opened(self, question: Question, fits: Sequence[Fit]) -> None:
        """Starts the live line."""
        super().opened(question, fits)
        self._progress.start()

    def started(self, size: int, seed: int) -> None:
        """Names the fit that runs."""
        self._running.add((size, seed))
        self._show()

    def ended(self, fit: Fit, needs: DataNeeds | None) -> None:
        """Prints a line that stays, and what all fits tell now."""
        self._running.discard((fit.size, fit.seed))
        super().ended(fit, needs)
        if needs is not None and self.question is not None and self.question.target is not None:
            self._known = f", {_so_far(needs)}"
        self._show()

    def done(self) -> None:
        """Removes the live line."""
        self._progress.stop()

    def _show(self) -> None:
        running = ", ".join(f"{self._place(n)} seed {seed}" for n, seed in sorted(self._running))
        known = f"{counted(self.n_fits, 'fit')}{self._known}"
        self._progress.update(self._task, now=running, known=known)


def _so_far(needs: DataNeeds) -> str:
    """The verdict, no surer than its sentence."""
    if needs.is_probably_reached:
        return "probably reached"
    return "measured" if needs.verdict == "reached" and needs.is_best_of_all else needs.verdict


def _time(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 60 else f"{seconds / 60:g} min"
