"""Takes turns, reads back, prints the table."""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import Disk, print_header, versions
from benchmarks.overhead import readback
from benchmarks.overhead.trial import N_PARAMS, N_REPORTS

PACKAGES = ("hpo", "optuna", "mlflow", "sqlalchemy")
GOAL = 3.0
"""hpo with MLflow should run trials at least so many times as fast as Optuna with MLflow."""

_COLUMNS = 100
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Entry:
    """A contestant in the table.

    Args:
        name: Under which `contestants` knows it.
        title: What the table calls it.
        tracked: Whether it writes to MLflow.
        peer: Whose rate its own is divided by.
    """

    name: str
    title: str
    tracked: bool = False
    peer: str | None = None

    @property
    def is_hpo(self) -> bool:
        """Whether it is one of ours."""
        return self.name.startswith("hpo")


ENTRIES = (
    Entry("optuna", "Optuna"),
    Entry("optuna+mlflow", "Optuna + MLflow", tracked=True),
    Entry("hpo", "hpo", peer="optuna"),
    Entry("hpo+mlflow", "hpo + MLflow", tracked=True, peer="optuna+mlflow"),
)
WAL_ENTRY = Entry("optuna-wal", "Optuna, WAL", peer="optuna")


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Args:
        turns: How often each contestant has its turn, after one to warm up.
        trials: Trials in a turn of Optuna.
        trials_hpo: Trials in a turn of hpo; more, since a turn lasts until its last trial has
            arrived, and an empty pipeline fills and drains in each.
    """

    turns: int
    trials: int
    trials_hpo: int

    def of(self, entry: Entry) -> int:
        """How many trials a turn of a contestant has."""
        return self.trials_hpo if entry.is_hpo else self.trials


FULL = Sizes(turns=10, trials=10, trials_hpo=100)
QUICK = Sizes(turns=3, trials=3, trials_hpo=40)


@dataclass(frozen=True)
class Score:
    """What one contestant took.

    Args:
        entry: Who.
        n_trials: How many trials each of its turns had.
        seconds: How long each turn took.
        startup_seconds: Imports, new databases, and whatever else comes once.
        closing_seconds: From the end of the last turn to that of the process.
        problems: What was missing when it was read back.
    """

    entry: Entry
    n_trials: int
    seconds: Sequence[float]
    startup_seconds: float
    closing_seconds: float
    problems: Sequence[str]

    @property
    def rates(self) -> list[float]:
        """Trials per second in each turn."""
        return [self.n_trials / seconds for seconds in self.seconds]


@dataclass(frozen=True)
class Spread:
    """A median and how far the repetitions lie apart."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, numbers: Sequence[float]) -> Spread:
        """The spread of some numbers."""
        return cls(statistics.median(numbers), min(numbers), max(numbers))

    def __str__(self) -> str:
        return f"{self.median:.1f} ({self.low:.1f}-{self.high:.1f})"


class ContestantError(RuntimeError):
    """A contestant's process failed."""


class Contestant:
    """One contestant's process.

    Args:
        entry: Who.
        sizes: How much is run.
        seed: Of the sampler.
        folder: Its own, empty; its databases go there.
    """

    def __init__(self, entry: Entry, sizes: Sizes, seed: int, folder: Path) -> None:
        self.entry = entry
        self._n_trials, self._n_turns = sizes.of(entry), 1 + sizes.turns
        self._folder = folder
        self._seconds: list[float] = []
        self._log = folder / "contestant.log"
        numbers = {"--turns": self._n_turns, "--trials": self._n_trials, "--seed": seed}
        started = time.perf_counter()
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.overhead.contestants", entry.name]
                + [str(word) for option in numbers.items() for word in option],
                cwd=folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        self._turn()
        self._warm_seconds = time.perf_counter() - started

    def take_turn(self) -> None:
        """Lets it run as many trials as it has in a turn."""
        self._seconds.append(self._turn())

    def finish(self) -> Score:
        """Lets it close what it has open, and reads back what it wrote."""
        started = time.perf_counter()
        self._process.communicate()
        closing = time.perf_counter() - started
        if self._process.returncode:
            raise self._failed()
        n_trials = self._n_turns * self._n_trials + self.entry.is_hpo
        return Score(
            self.entry,
            self._n_trials,
            self._seconds,
            self._warm_seconds - statistics.median(self._seconds),
            closing,
            readback.missing(self._folder, n_trials, tracked=self.entry.tracked),
        )

    def kill(self) -> None:
        """Ends it, if it still runs."""
        self._process.kill()
        self._process.wait()

    def _turn(self) -> float:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        os.sync()  # what the one before has left to write is not this one's burden
        try:
            self._process.stdin.write("go\n")
            self._process.stdin.flush()
            return float(self._process.stdout.readline())
        except (OSError, ValueError) as error:
            self.kill()
            raise self._failed() from error

    def _failed(self) -> ContestantError:
        log = self._log.read_text(encoding="utf-8", errors="replace")
        return ContestantError(f"{self.entry.title} failed:\n{log[-2000:]}")


def compete(
    entries: Sequence[Entry], sizes: Sizes, seed: int, folder: Path, talk: Console
) -> list[Score]:
    """Lets all take turns, another one first each time."""
    contestants: list[Contestant] = []
    try:
        for entry in entries:
            talk.print(f"starting: {entry.title}")
            own = folder / entry.name
            own.mkdir()
            contestants.append(Contestant(entry, sizes, seed, own))
        for turn in range(sizes.turns):
            talk.print(f"turn {turn + 1} of {sizes.turns}")
            first = turn % len(contestants)
            for contestant in (*contestants[first:], *contestants[:first]):
                contestant.take_turn()
        return [contestant.finish() for contestant in contestants]
    finally:
        for contestant in contestants:
            contestant.kill()


def ratios(scores: Mapping[str, Score], name: str) -> list[float]:
    """How many times as fast as its peer a contestant is, turn by turn."""
    peer = scores[name].entry.peer
    if peer is None:
        return []
    pairs = zip(scores[name].rates, scores[peer].rates, strict=True)
    return [mine / theirs for mine, theirs in pairs]


def table(scores: Mapping[str, Score]) -> Table:
    """What was measured, a row for each contestant."""
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("contestant", no_wrap=True)
    headings = ("trials", "trials/s", "ms/trial", "start s", "close s", "ratio to peer")
    for heading in headings:
        shown.add_column(heading, justify="right", no_wrap=True)
    for name, score in scores.items():
        of_peer = ratios(scores, name)
        shown.add_row(
            score.entry.title,
            str(score.n_trials * len(score.seconds)),
            str(Spread.of(score.rates)),
            f"{1000 / statistics.median(score.rates):.1f}",
            f"{score.startup_seconds:.1f}",
            f"{score.closing_seconds:.1f}",
            str(Spread.of(of_peer)) if of_peer else "",
        )
    return shown


def print_results(console: Console, scores: Mapping[str, Score]) -> None:
    """Prints the table, what it means, and the goal."""
    console.print(table(scores))
    console.print(
        f"A trial: {N_PARAMS} float parameters, {N_REPORTS} reports, 1 value; random sampler.\n"
        "Median (lowest-highest) over turns; all contestants took turns on the same disk.\n"
        "With MLflow, a turn lasts until its last trial has arrived there. Everything was\n"
        "read back from the database files. Start: imports and new databases.\n"
        "Ratio: trials/s divided by those of Optuna, or Optuna + MLflow, in the same turn.\n"
        "SQLite commits of Optuna and MLflow are their defaults (rollback journal and\n"
        "synchronous = FULL); hpo's own are WAL with synchronous = NORMAL.",
        highlight=False,
    )
    reached = Spread.of(ratios(scores, "hpo+mlflow"))
    verdict = "reached" if reached.median >= GOAL else "MISSED"
    console.print(
        f"Goal: hpo + MLflow at least {GOAL:g} times as fast as Optuna + MLflow: "
        f"{reached}, {verdict}.",
        highlight=False,
    )


def results_json(
    scores: Mapping[str, Score], sizes: Sizes, seed: int, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Everything, for a file."""
    return {
        **facts,
        "versions": versions(PACKAGES),
        "seed": seed,
        "sizes": asdict(sizes),
        "goal": GOAL,
        "scores": {
            name: {
                **asdict(score),
                "trials_per_second": score.rates,
                "ratios": ratios(scores, name),
            }
            for name, score in scores.items()
        },
    }


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if something was missing when it was read back."""
    options = _parser().parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    entries = (*ENTRIES, WAL_ENTRY) if options.wal else ENTRIES
    console, talk = Console(width=_COLUMNS), Console(stderr=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(dir=options.folder, prefix="hpo-benchmark-") as folder:
        disk = Disk.under(Path(folder))
        title = "What a trial costs that does nothing"
        machine = print_header(console, title, packages=PACKAGES, seeds=[options.seed], disk=disk)
        if disk.in_memory:
            console.print("This is memory, where commits are free: name a disk with --folder.")
        scores = {
            score.entry.name: score
            for score in compete(entries, sizes, options.seed, Path(folder), talk)
        }
    print_results(console, scores)
    console.print(f"{sizes.turns} turns, {time.monotonic() - started:.0f} s in all.")
    if options.json:
        facts = {"machine": machine.as_json(), "disk": disk.as_json()}
        results = results_json(scores, sizes, options.seed, facts)
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    problems = [(name, what) for name, score in scores.items() for what in score.problems]
    for name, what in problems:
        talk.print(f"{name}: {what}", style="red")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.overhead",
        description="What hpo adds to a trial, beside Optuna with MLflow.",
    )
    parser.add_argument("--quick", action="store_true", help="few trials, under a minute")
    parser.add_argument("--wal", action="store_true", help="add Optuna with hpo's SQLite settings")
    parser.add_argument("--folder", type=Path, help="where the databases go (default: temporary)")
    parser.add_argument("--seed", type=int, default=0, help="of the samplers (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    return parser


def _environment() -> dict[str, str]:
    """This one's, without what would send the contestants elsewhere."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("HPO_", "MLFLOW_"))}
    path = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(path), "MLFLOW_DISABLE_TELEMETRY": "true"}


if __name__ == "__main__":
    sys.exit(main())
