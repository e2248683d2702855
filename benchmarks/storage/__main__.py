"""Takes turns, prints the tables."""

from __future__ import annotations

import argparse
import json
import signal
import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import Disk, print_header, versions
from benchmarks.overhead.trial import N_PARAMS, N_REPORTS
from benchmarks.storage import crowd, growth
from benchmarks.storage.databases import KINDS, Databases, databases
from benchmarks.storage.drivers import CONTESTANTS, environment

PACKAGES = ("hpo", "optuna", "sqlalchemy", "psycopg2-binary")
GOALS = {"PostgreSQL": 5.0, "SQLite": 3.0}
"""With 16 drivers, hpo should finish trials at least so many times as fast as Optuna."""
GROWTH_GOAL = 2.0
"""A trial in the largest study should cost at most so many times that in the smallest one."""

_COLUMNS = 100

Rates = Mapping[tuple[str, int, str], Sequence[float]]
"""Trials a second in each turn, by database, drivers and contestant."""
Costs = Mapping[tuple[str, str, int, str], Sequence[growth.Cost]]
"""Costs in each turn, by database, sampler, trials held and contestant."""


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Args:
        turns: Of each contestant.
        drivers: Numbers of drivers.
        seconds: How long is counted in a turn.
        held: Trials that a study holds.
        samplers: Which choose in these.
        kinds: Databases in which these are.
        timed: Trials that are timed there in a turn.
    """

    turns: int
    drivers: Sequence[int]
    seconds: float
    held: Sequence[int]
    samplers: Sequence[str]
    kinds: Sequence[str]
    timed: int


FULL = Sizes(3, (1, 4, 16), 6.0, (100, 1_000, 10_000), ("random", "tpe"), KINDS, 10)
QUICK = Sizes(1, (4,), 2.0, (100, 1_000), ("random",), ("SQLite",), 5)


def crowds(
    made: Databases, sizes: Sizes, folder: Path, seed: int, talk: Console
) -> tuple[Rates, list[str]]:
    """Lets contestants take turns, another one first each time."""
    rates, problems = defaultdict(list), []
    for turn in range(sizes.turns):
        for kind in KINDS:
            for n in sizes.drivers:
                talk.print(f"turn {turn + 1} of {sizes.turns}: {kind}, {n} drivers")
                for who in CONTESTANTS[:: 1 if turn % 2 else -1]:
                    own = Path(tempfile.mkdtemp(dir=folder))
                    found, wrong = crowd.rate(
                        who, made.new(kind), own, n, seconds=sizes.seconds, seed=seed
                    )
                    rates[kind, n, who].append(found)
                    problems += wrong
    return rates, problems


def costs(made: Databases, sizes: Sizes, folder: Path, talk: Console) -> Costs:
    """Makes studies that hold trials, and adds some to each by turns."""
    found = defaultdict(list)
    for kind in sizes.kinds:
        talk.print(f"{kind}: making studies that hold trials")
        studies = {
            (n, who): growth.make(who, made.new(kind), Path(tempfile.mkdtemp(dir=folder)), n)
            for n in sizes.held
            for who in CONTESTANTS
        }
        for turn in range(sizes.turns):
            talk.print(f"turn {turn + 1} of {sizes.turns}: {kind}, studies that hold trials")
            for sampler in sizes.samplers:
                for (n, who), task in studies.items():
                    cost = growth.cost(task, sampler, sizes.timed)
                    found[kind, sampler, n, who].append(cost)
    return found


def crowd_table(rates: Rates) -> Table:
    """Trials a second, a row for each number of drivers."""
    shown = Table(box=box.SIMPLE_HEAD)
    shown.add_column("database", no_wrap=True)
    for heading in ("drivers", "hpo trials/s", "Optuna trials/s", "ratio"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for kind, n in dict.fromkeys((kind, n) for kind, n, _ in rates):
        ours, theirs = (rates[kind, n, who] for who in CONTESTANTS)
        ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
        shown.add_row(kind, str(n), *map(_spread, (ours, theirs, ratios)))
    return shown


def growth_table(found: Costs, held: Sequence[int]) -> Table:
    """Milliseconds a trial, a row for each contestant."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for column in ("database", "sampler", "ms"):
        shown.add_column(column, no_wrap=True)
    for heading in (*(f"{n:,}" for n in held), f"{held[-1]:,} / {held[0]:,}"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for kind, sampler in dict.fromkeys((kind, sampler) for kind, sampler, _, _ in found):
        for who in CONTESTANTS:
            for part in ("ask", "loop"):
                by_size = [
                    [getattr(cost, part) for cost in found[kind, sampler, n, who]] for n in held
                ]
                ratios = [b / a for a, b in zip(by_size[0], by_size[-1], strict=True)]
                what = f"{who}, {'ask' if part == 'ask' else 'trial'}"
                shown.add_row(kind, sampler, what, *map(_spread, (*by_size, ratios)))
    return shown


def _spread(numbers: Sequence[float]) -> str:
    """The median, and in brackets the lowest and the highest of several."""
    middle, low, high = map(_short, (statistics.median(numbers), min(numbers), max(numbers)))
    return middle if len(numbers) == 1 else f"{middle} ({low}-{high})"


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 9.95 else f"{number:.1f}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if something was missing when it was read back."""
    options = _parser().parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # ends the server that it started, too
    sizes = QUICK if options.quick else FULL
    environment()
    console, talk = Console(width=_COLUMNS), Console(stderr=True)
    started = time.monotonic()
    with (
        tempfile.TemporaryDirectory(dir=options.folder, prefix="hpo-benchmark-") as name,
        databases(Path(name), options.postgresql) as made,
    ):
        folder = Path(name)
        disk, server = Disk.under(folder), made.settings()
        title = "Many drivers, and studies that hold many trials"
        machine = print_header(console, title, packages=PACKAGES, seeds=[options.seed], disk=disk)
        console.print(f"server:   {server}", highlight=False)
        rates: Rates = {}
        problems: list[str] = []
        found: Costs = {}
        if options.part != "large":
            rates, problems = crowds(made, sizes, folder, options.seed, talk)
            console.print(crowd_table(rates))
            _explain_crowd(console, sizes)
        if options.part != "crowd":
            found = costs(made, sizes, folder, talk)
            console.print(growth_table(found, sizes.held))
            _explain_growth(console, sizes)
    console.print(f"{time.monotonic() - started:.0f} s in all.")
    if options.json:
        facts = {"machine": machine.as_json(), "disk": disk.as_json(), "server": server}
        results = {
            **facts,
            "versions": versions(PACKAGES),
            "sizes": asdict(sizes),
            "seed": options.seed,
            **_as_json(rates, found),
        }
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    for problem in problems:
        talk.print(problem, style="red")
    return 1 if problems else 0


def _as_json(rates: Rates, found: Costs) -> dict[str, Any]:
    return {
        "trials_per_second": {" ".join(map(str, key)): each for key, each in rates.items()},
        "ms": {
            " ".join(map(str, key)): [asdict(cost) for cost in each] for key, each in found.items()
        },
    }


def _explain_crowd(console: Console, sizes: Sizes) -> None:
    goals = ", ".join(f"{goal:g} on {kind}" for kind, goal in GOALS.items())
    console.print(
        f"A trial: {N_PARAMS} float parameters, {N_REPORTS} reports, 1 value; random sampler, "
        "nobody prunes.\n"
        "Drivers are processes that share a new study: of hpo its own loop as `hpo worker` runs\n"
        "it, of Optuna study.optimize with its storage's defaults; same server, same disk.\n"
        f"Counted for {sizes.seconds:g} s once each driver has finished two trials; read back from "
        "the tables.\n"
        f"Median (lowest-highest) over {sizes.turns} turn(s). Ratio: hpo's to Optuna's in the same "
        "turn.\n"
        "PostgreSQL's commits are as durable for both. SQLite's are Optuna's default (rollback\n"
        "journal, a full fsync each) and hpo's: WAL, synchronous = NORMAL, no fsync at a commit.\n"
        f"Goal with 16 drivers: {goals}.",
        highlight=False,
    )


def _explain_growth(console: Console, sizes: Sizes) -> None:
    console.print(
        "By the number of finished trials that a study holds, one driver: milliseconds from the\n"
        "end of a trial until the next has its parameters (an ask), and to its end (a trial).\n"
        f"The median of {sizes.timed} trials, after two that read what there is; the median "
        f"(lowest-highest)\nof that over {sizes.turns} turn(s). Goal: not more than "
        f"{GROWTH_GOAL:g} times from the smallest to the largest.",
        highlight=False,
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.storage",
        description="Many drivers at one study, and large studies; hpo beside plain Optuna.",
    )
    parser.add_argument("--quick", action="store_true", help="one turn, under a minute")
    parser.add_argument("--part", choices=("crowd", "large"), help="one of the two tables alone")
    parser.add_argument("--folder", type=Path, help="where the databases go (default: temporary)")
    parser.add_argument("--postgresql", metavar="URL", help="a server to use instead of a new one")
    parser.add_argument("--seed", type=int, default=0, help="of the samplers (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
