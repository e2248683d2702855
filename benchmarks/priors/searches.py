"""One search, and how far from the best it is after each trial."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path

import optuna

from benchmarks.priors.beliefs import believed
from benchmarks.priors.problems import problem
from hpo import samplers
from hpo.spec import SamplerName


@dataclass(frozen=True)
class Search:
    """A search to be run.

    Attributes:
        sampler: hpo's name of it.
        problem: Name of the problem.
        belief: What the user believes about it.
        seed: Of the problem, the belief and the sampler; what is compared shares it.
        trials: How many.
        tables: Where the tables of real networks are.
    """

    sampler: SamplerName
    problem: str
    belief: str
    seed: int
    trials: int
    tables: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """What came of a search.

    Attributes:
        search: Which.
        regrets: Of the best trial so far, after each trial.
        seconds: How long it took.
    """

    search: Search
    regrets: tuple[float, ...]
    seconds: float


def run(search: Search) -> Outcome:
    """Runs a search in an Optuna study in memory."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    searched = problem(search.problem, search.seed, search.tables)
    space = believed(searched, search.belief, search.seed)
    distributions = space.distributions()

    def objective(trial: optuna.Trial) -> float:
        suggest = trial._suggest  # noqa: SLF001 - Optuna's only way for any distribution
        return searched.loss(space.walk(lambda p: suggest(p.name, distributions[p.name])))

    started = time.perf_counter()
    study = optuna.create_study(
        sampler=samplers.build(search.sampler, space, seed=search.seed, trials=search.trials)
    )
    study.optimize(objective, search.trials)
    seconds = time.perf_counter() - started
    losses = [trial.value for trial in study.trials if trial.value is not None]
    return Outcome(search, tuple(map(searched.regret, accumulate(losses, min))), seconds)
