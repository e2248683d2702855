"""Takes turns, looks whether all did the same, prints the tables."""

from __future__ import annotations

import argparse
import gc
import json
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import optuna
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import print_header, versions
from benchmarks.spaces.contestants import (
    Contestant,
    Made,
    building,
    coding,
    configspace,
    sampling,
)
from benchmarks.spaces.examples import GRIDS, Grid, wide
from hpo.search_spaces import SearchSpace, SpaceError, parse

PACKAGES = ("hpo", "ConfigSpace", "optuna", "numpy")

_COLUMNS = 100


@dataclass(frozen=True)
class Sizes:
    """How much is run: so many turns after one to warm up, and how often each does its work."""

    turns: int
    builds: int
    samples: int


FULL = Sizes(turns=10, builds=3, samples=100)
QUICK = Sizes(turns=3, builds=1, samples=20)


@dataclass(frozen=True)
class Score:
    """What a contestant took.

    Attributes:
        title: Who.
        own: Whether it is hpo's.
        ms: For one of what it makes, in each turn.
        made: What it made in the last turn.
    """

    title: str
    own: bool
    ms: list[float] = field(default_factory=list)
    made: Made = ()

    def with_turn(self, ms: float, made: Made) -> Score:
        """The score after another turn."""
        return Score(self.title, self.own, [*self.ms, ms], made)


def compete(contestants: Sequence[Contestant], turns: int, n: int, seed: int) -> list[Score]:
    """Lets all take turns, another one first each time; the first turn is not counted."""
    scores = [Score(each.title, each.own) for each in contestants]
    for turn in range(turns + 1):
        for place in range(turn, turn + len(contestants)):
            i = place % len(contestants)
            work = contestants[i].ready(seed + turn)
            gc.collect()
            started = time.perf_counter()
            made = work(n)
            ms = 1000 * (time.perf_counter() - started) / len(made)
            if turn:
                scores[i] = scores[i].with_turn(ms, made)
    return scores


# --- counting ---


@dataclass(frozen=True)
class Counted:
    """What counting a grid took.

    Attributes:
        grid: Which.
        points: The number that was found.
        reading_ms: To read the space, each time.
        counting_ms: To count its grid, each time.
        estimate: ConfigSpace's; None where it cannot have the space.
        estimate_ms: How long that took, each time.
    """

    grid: Grid
    points: int
    reading_ms: Sequence[float]
    counting_ms: Sequence[float]
    estimate: int | float | None
    estimate_ms: Sequence[float]


def count(grid: Grid, turns: int) -> Counted:
    """Reads and counts a grid, anew each time, and lets ConfigSpace estimate it."""
    times: Mapping[str, list[float]] = defaultdict(list)
    points, estimate = 0, None
    for turn in range(turns + 1):
        started = time.perf_counter()
        space = parse(grid.forms)
        read = time.perf_counter()
        points = space.grid_size
        counted = time.perf_counter()
        estimate, estimate_ms = _estimate(space)
        if turn:
            times["reading"].append(1000 * (read - started))
            times["counting"].append(1000 * (counted - read))
            times["estimate"].append(estimate_ms)
    return Counted(grid, points, times["reading"], times["counting"], estimate, times["estimate"])


def _estimate(space: SearchSpace) -> tuple[int | float | None, float]:
    try:
        theirs = configspace(space)
    except SpaceError:  # it has requirements
        return None, 0.0
    started = time.perf_counter()
    size = theirs.estimate_size()
    return size, 1000 * (time.perf_counter() - started)


# --- printing ---


def counting_table(counted: Sequence[Counted]) -> Table:
    """A row for each grid."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    shown.add_column("grid", no_wrap=True)
    for heading in ("points", "read ms", "count ms", "estimate", "ms"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for each in counted:
        theirs = (
            ("-", "-")
            if each.estimate is None
            else (
                f"{each.estimate:.2e}",
                f"{statistics.median(each.estimate_ms):.2f}",
            )
        )
        shown.add_row(
            each.grid.title,
            f"{each.points:.2e}",
            spread(each.reading_ms),
            spread(each.counting_ms),
            *theirs,
        )
    return shown


def score_table(what: str, scores: Sequence[Score], *, sizes: bool = False) -> Table:
    """A row for each contestant, the first of whom the others are divided by."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column(f"{what:<36}", no_wrap=True)
    headings = ("ms", "times hpo's", *(["parameters in it"] if sizes else []))
    for heading in headings:
        shown.add_column(heading, justify="right", no_wrap=True)
    for score in scores:
        ratios = [a / b for a, b in zip(score.ms, scores[0].ms, strict=True)]
        sized = [f"{statistics.fmean(map(len, score.made)):.0f}"] if sizes else []
        shown.add_row(
            score.title, spread(score.ms), "" if score is scores[0] else spread(ratios), *sized
        )
    return shown


def spread(numbers: Sequence[float]) -> str:
    """Median (lowest-highest), with three digits."""

    def short(number: float) -> str:
        return f"{number:.{2 if number < 10 else 1 if number < 100 else 0}f}"

    low, high = min(numbers), max(numbers)
    return f"{short(statistics.median(numbers))} ({short(low)}-{short(high)})"


def faults(counted: Sequence[Counted], samples: Sequence[Score], coded: Score) -> list[str]:
    """What would make the times mean nothing."""
    found = [
        f"{each.grid.title}: counted {each.points:,} points, and it has {each.grid.points:,}."
        for each in counted
        if each.points != each.grid.points
    ]
    space = parse(wide())
    found += [
        f"{score.title}: a configuration that the space does not have."
        for score in samples
        if not all(space.contains(config) for config in score.made)
    ]
    if any(config != again for config, again in coded.made):
        found.append("hpo: a configuration did not come back from its coordinates.")
    return found


def print_results(
    console: Console,
    counted: Sequence[Counted],
    built: Sequence[Score],
    sampled: Sequence[Score],
    coded: Sequence[Score],
) -> None:
    """Prints the tables and what they mean."""
    console.print(counting_table(counted))
    console.print(
        "Points: counted without making them, and equal to the number found with pencil and\n"
        "paper. Estimate: ConfigSpace's estimate_size, a product that knows neither conditions\n"
        "nor forbidden combinations; to_configspace has none of these. Optuna's GridSampler takes\n"
        "no conditions and lists the whole grid first, so it has no part in this.\n",
        highlight=False,
    )
    console.print(score_table("reading 200 parameters, 66 conditional", built))
    console.print(score_table("sampling one configuration of them", sampled, sizes=True))
    console.print(score_table("to unit coordinates and back", coded))
    console.print(
        "Median (lowest-highest) over turns, which all took in one process; times hpo's: divided\n"
        "by hpo's ms in the same turn, so above 1 hpo is faster. All samples were in hpo's space.\n"
        "ConfigSpace: the same space through to_configspace; its samples are read out as\n"
        "dictionaries, its coordinates made from and into such. It draws many at once in one go.\n"
        "Optuna: the same conditions as Python ifs, in memory; it has no space to read, and a\n"
        "sample takes a whole trial with it. hpo's sampler in Optuna: the same ask, ifs and tell.",
        highlight=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark; returns 1 if a count or a sample was wrong."""
    options = _parser().parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    console, talk = Console(width=_COLUMNS), Console(stderr=True)
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # a line per trial is not what we time
    started = time.monotonic()
    title = "What a search space costs"
    machine = print_header(console, title, packages=PACKAGES, seeds=[options.seed])
    with talk.status("counting") as status:
        counted = [count(grid, sizes.turns) for grid in GRIDS]
        status.update("reading")
        built = compete(building(), sizes.turns, sizes.builds, options.seed)
        status.update("sampling")
        sampled = compete(sampling(), sizes.turns, sizes.samples, options.seed)
        status.update("to coordinates and back")
        coded = compete(coding(), sizes.turns, sizes.samples, options.seed)
    print_results(console, counted, built, sampled, coded)
    console.print(f"{sizes.turns} turns, {time.monotonic() - started:.0f} s in all.")
    if options.json:
        results = {
            "machine": machine.as_json(),
            "versions": versions(PACKAGES),
            "seed": options.seed,
            "sizes": asdict(sizes),
            "counting": [asdict(each) for each in counted],
            "milliseconds": {
                what: {score.title: score.ms for score in scores}
                for what, scores in (("read", built), ("sample", sampled), ("code", coded))
            },
        }
        options.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")
    problems = faults(counted, sampled, coded[0])
    for problem in problems:
        talk.print(problem, style="red")
    return 1 if problems else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.spaces",
        description="What a search space costs: counting, reading, sampling.",
    )
    parser.add_argument("--quick", action="store_true", help="few turns, half a minute")
    parser.add_argument("--seed", type=int, default=0, help="of the samples (default: 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
