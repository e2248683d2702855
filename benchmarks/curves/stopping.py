"""Early stopping: random searches of 50 configurations, replayed on real curves.

Each trial sees what the trials before it have reported, as in a study of one driver. Optuna's rules
run as they are, in plain studies; of ours it is the decision core (`hpo.pruners.ForecastRule`, with
audits), which is told several steps of a trial at once.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import optuna
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from hpo.directions import Direction
from hpo.pruners import Decision, ForecastRule, Past, is_audited, is_due
from hpo.pruners.decisions import AUDIT, THRESHOLD

Array: TypeAlias = NDArray[np.float64]

_TRIALS = 50
_STARTUP = 5  # finished trials before a peer stops any
_NEAR = 0.01  # trials within this of the best are nearly as good
_MOVES = 0.02  # a curve whose best value gains less than this on its first stays where it began
_AT_ONCE = 5  # moments that are judged at once; most trials end in the first few
_MORE_AUDITS = 0.05
_HISTORY = 50  # curves that a study looks at
_THRESHOLDS = (0.1, THRESHOLD, 0.4)
_WIDTH = 124  # of the tables
_SEED_OF_THE_SEARCH = 42  # the others are repetitions of the best
_SEEDS, _QUICK_SEEDS = 24, 1


@dataclass(frozen=True)
class Problem:
    """The curves of many configurations of one task.

    Args:
        name: The task.
        curves: Values at the steps 1, 2, ..., shape (n, horizon), scaled so that regrets compare.
        direction: Which way is better.
        bounds: Of the metric, as far as a user would know them.
    """

    name: str
    curves: Array
    direction: Direction
    bounds: tuple[float, float] | None

    def drawn(self, seed: int) -> Problem:
        """Some of the configurations in some order."""
        chosen = np.random.default_rng(seed).permutation(len(self.curves))[:_TRIALS]
        return Problem(self.name, self.curves[chosen], self.direction, self.bounds)


@dataclass(frozen=True)
class Replay:
    """How a search went.

    Args:
        problem: The curves, in the order in which they were tried.
        n_steps: How many steps of each were run.
        condemned: What forecasts said of trials that they condemned, audited ones included, and
            the values with which these would have ended.
    """

    problem: Problem
    n_steps: Sequence[int]
    condemned: Sequence[tuple[Decision, float]] = ()

    @property
    def share(self) -> float:
        """Of all steps, those that were run."""
        return sum(self.n_steps) / self.problem.curves.size

    @property
    def _losses(self) -> Array:
        """Final values, turned so that less is better, above the best of all."""
        final = self.problem.curves[:, -1]
        losses: Array = final if self.problem.direction == "minimize" else -final
        above: Array = losses - losses.min()
        return above

    @property
    def _stopped(self) -> NDArray[np.bool_]:
        return np.less(self.n_steps, self.problem.curves.shape[1])

    @property
    def regret(self) -> float:
        """By how much the best trial that was finished is worse than the best of all."""
        return float(self._losses[~self._stopped].min())

    @property
    def lost_best(self) -> bool:
        """Whether all trials that are best were stopped."""
        return bool(np.all(self._stopped[self._losses == 0]))

    @property
    def lost_near(self) -> float:
        """Of the trials nearly as good as the best, the share that was stopped."""
        return float(np.mean(self._stopped[self._losses <= _NEAR]))


Replayer: TypeAlias = Callable[[Problem, int], Replay]


def by_optuna(make: Callable[[], optuna.pruners.BasePruner], problem: Problem, seed: int) -> Replay:  # noqa: ARG001
    """Replays a search in a plain Optuna study."""
    study = optuna.create_study(direction=problem.direction, pruner=make())
    n_steps = []
    for curve in problem.curves:
        trial = study.ask()
        for step, value in enumerate(curve, start=1):
            trial.report(float(value), step)
            if step < len(curve) and trial.should_prune():
                study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                break
        else:
            study.tell(trial, float(curve[-1]))
        n_steps.append(step)
    return Replay(problem, n_steps)


def by_residuals(below: float, problem: Problem, seed: int) -> Replay:  # noqa: ARG001
    """Stops when value + (final - value) of finished trials hardly ever beats the incumbent."""
    sign = 1.0 if problem.direction == "minimize" else -1.0
    finished: list[Array] = []
    n_steps = []
    for curve in sign * problem.curves:
        stop = len(curve)
        if len(finished) >= _STARTUP:
            past = np.array(finished)
            final = curve[None, :] + past[:, -1:] - past  # (finished, steps)
            chance = np.mean(final < past[:, -1].min(), axis=0)
            steps = np.arange(1, len(curve) + 1)
            condemned = steps[(chance < below) & (steps >= len(curve) // 10)]
            stop = int(condemned[0]) if len(condemned) else stop
        if stop == len(curve):
            finished.append(curve)
        n_steps.append(stop)
    return Replay(problem, n_steps)


def by_forecasts(threshold: float, audit: float, problem: Problem, seed: int) -> Replay:
    """Replays a search under `ForecastRule`."""
    rule = ForecastRule(problem.direction, threshold, bounds=problem.bounds)
    better = min if problem.direction == "minimize" else max
    horizon = problem.curves.shape[1]
    finished: list[Array] = []
    condemned: list[tuple[Decision, float]] = []
    audited: list[tuple[Decision, float]] = []
    n_steps = []
    for number, curve in enumerate(problem.curves):
        incumbent = better((float(each[-1]) for each in finished), default=None)
        past = Past(len(finished), incumbent, finished[-_HISTORY:], audited)
        decision = _condemned(rule, curve, past)
        if decision is not None:
            condemned.append((decision, float(curve[-1])))
            if not is_audited(seed, number, audit):
                n_steps.append(int(decision.step))
                continue
            audited.append(condemned[-1])
        finished.append(curve)
        n_steps.append(horizon)
    return Replay(problem, n_steps, condemned)


def _condemned(rule: ForecastRule, curve: Array, past: Past) -> Decision | None:
    """The first decision against a trial; None where there is none."""
    if past.n_finished < rule.startup_trials:
        return None
    due = [n for n in range(1, len(curve)) if is_due(n, n - 1)]
    for first in range(0, len(due), _AT_ONCE):
        prefixes = [curve[:n] for n in due[first : first + _AT_ONCE]]
        for decision in rule.decide(prefixes, len(curve), past):
            if decision is not None and decision.condemns:
                return decision
    return None


def rules(horizon: int, *, quick: bool) -> Iterator[tuple[str, Replayer]]:
    """All rules that are compared, by name; peers wait for a tenth of a trial's steps."""
    wait = horizon // 10
    median = partial(optuna.pruners.MedianPruner, _STARTUP, wait)
    halving = partial(optuna.pruners.SuccessiveHalvingPruner, wait, reduction_factor=3)
    yield "median (Optuna)", partial(by_optuna, median)
    yield "ASHA, reduction 3 (Optuna)", partial(by_optuna, halving)
    yield "residuals of finished, 5%", partial(by_residuals, 0.05)
    others = () if quick else ((THRESHOLD, _MORE_AUDITS), *((t, 0.0) for t in _THRESHOLDS))
    for threshold, audit in ((THRESHOLD, AUDIT), *others):
        audited = f"audit {audit:.0%}" if audit else "no audit"
        yield f"forecast (hpo) {threshold:.0%}, {audited}", partial(by_forecasts, threshold, audit)


def run(console: Console, data: Path, *, quick: bool) -> None:
    """Prints a table for each set of curves.

    Args:
        console: Where to.
        data: The folder with the curves.
        quick: Fewer seeds and rules.
    """
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    wide = Console(width=max(_WIDTH, console.width), file=console.file)
    seeds = range(_QUICK_SEEDS if quick else _SEEDS)
    for name, problems in (("TaskSet", taskset(data)), ("DeepOBS", deepobs(data))):
        table = _table(f"{name}: {len(problems)} tasks, {len(seeds)} seeds, {_TRIALS} trials each")
        for rule, replay in rules(problems[0].curves.shape[1], quick=quick):
            began = time.perf_counter()
            replays = [replay(p.drawn(seed), seed) for p in problems for seed in seeds]
            seconds = (time.perf_counter() - began) / len(replays)
            table.add_row(rule, *_cells(replays), f"{seconds:.2f}")
        wide.print(table)


def taskset(data: Path) -> list[Problem]:
    """Validation losses, scaled from 0, the best of the task, to 1, what guessing has."""
    with np.load(data / "epochs_taskset.npz") as file:
        names, losses = file["task"], file["valid_loss"].astype(float)
    guessing = math.log(2)  # two classes
    problems = []
    for name, values in zip(names, losses, strict=True):
        best = np.nanmin(values)
        scaled = np.clip((values - best) / (guessing - best), 0.0, 1.0)
        scaled[np.isnan(scaled)] = 1.0
        moving = scaled[np.ptp(scaled, axis=1) > _MOVES]
        problems.append(Problem(str(name), moving, "minimize", None))
    return problems


def deepobs(data: Path) -> list[Problem]:
    """Test accuracies of 36 learning rates for each of 3 optimizers."""
    import pandas as pd

    frame = pd.read_parquet(data / "epochs_deepobs.parquet")
    searched = frame[frame.seed == _SEED_OF_THE_SEARCH]
    return [
        Problem(str(name), np.nan_to_num(np.stack(list(rows.test_acc))), "maximize", (0.0, 1.0))
        for name, rows in searched.groupby("problem")
    ]


_COLUMNS = ("epochs", "saved", "regret", "worst", "best lost", "near lost", "stated", "came true",
            "held 90%", "s")  # fmt: skip


def _table(title: str) -> Table:
    caption = (
        "epochs: share that was run. saved: epochs of a search. regret: of the best trial that was "
        "finished, scaled. lost: the best trial of all was stopped, and of those within "
        f"{_NEAR:g} of it the share. stated: mean chance to beat the incumbent, of condemned "
        "trials; came true: those that would have. held 90%: those that would have ended in their "
        "interval."
    )
    table = Table(
        box=box.SIMPLE_HEAD, title=title, title_justify="left", caption=caption,
        caption_justify="left", padding=(0, 1, 0, 0),
    )  # fmt: skip
    table.add_column("rule", no_wrap=True)
    for column in _COLUMNS:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _cells(replays: Sequence[Replay]) -> list[str]:
    regrets = [replay.regret for replay in replays]
    saved = [replay.problem.curves.size - sum(replay.n_steps) for replay in replays]
    cells = [
        f"{np.mean([replay.share for replay in replays]):.3f}",
        f"{np.mean(saved):.0f}",
        f"{np.mean(regrets):.4f}",
        f"{np.max(regrets):.4f}",
        f"{np.mean([replay.lost_best for replay in replays]):.1%}",
        f"{np.mean([replay.lost_near for replay in replays]):.1%}",
    ]
    condemned = [
        (decision.probability, decision.beats_incumbent(final, replay.problem.direction),
         decision.holds(final))
        for replay in replays
        for decision, final in replay.condemned
    ]  # fmt: skip
    if not condemned:
        return [*cells, "", "", ""]
    stated, came_true, held = np.mean(condemned, axis=0)
    return [*cells, f"{stated:.2%}", f"{came_true:.2%}", f"{held:.0%}"]
