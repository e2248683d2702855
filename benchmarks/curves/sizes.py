"""How much data: `hpo.data_needs` against fitted laws, on real curves of error versus size.

Protocols, the same for all methods:

- *Error at the largest size* (LCDB 1.1, networks): the sizes up to 10, 20 or 50% of the largest
  are seen; the absolute difference between the predicted (for ours: median) and the real error at
  the largest size.
- *Vision* (few-shot errors): the official split; root mean squared difference of logarithms.
- *Size needed* (the same networks and prefixes): see `SizeCurve.questions`. "Within 2x" says how
  often the estimated size is between half and twice the true one; "never" how often a method says
  that the target, which the curve does reach, is out of reach (a fitted law: not below 10,000
  times the data; ours: the verdict "unreachable"). Half of the data seen, an answer of 1.4x cannot
  be wrong: "always twice" shows what a column is worth.
- *Rounds*: a planner has 10% of the data and a target, the falling curve's error two thirds of
  the way to the end (log n). In each round it collects up to the estimated size (at least 1.2x,
  at most all there is; 2x where the method says never), and measures at every size on the way.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

import hpo
from benchmarks.curves.size_curves import SizeCurve, networks, vision
from benchmarks.curves.size_laws import LAWS, VISION_LAWS, Law, size_for
from hpo.curves.distributions import Array

SHARES = (0.1, 0.2, 0.5)
OURS = "hpo.data_needs"
_ROUNDS = 5
_QUICK = 16

Estimate = Callable[[Array, Array], Callable[[float], float]]
"""Takes sizes and errors, and returns a function from targets to sizes needed."""


def run(console: Console, data: Path, *, quick: bool) -> None:
    """Prints the tables.

    Args:
        console: Where to.
        data: Folder with the real curves.
        quick: A sample of the curves.
    """
    curves, images = networks(data), vision(data)
    if quick:
        rng = np.random.default_rng(0)
        curves = [curves[i] for i in rng.permutation(len(curves))[:_QUICK]]
        images = images[:: len(images) // 4]
    print_final_errors(console, curves)
    print_vision(console, images)
    print_sizes(console, curves)
    print_rounds(console, curves)


def print_final_errors(console: Console, curves: Sequence[SizeCurve]) -> None:
    """Absolute error of the error at the largest size."""
    table = _table(
        f"Error at the largest size, {len(curves)} networks of LCDB 1.1: median absolute error "
        "(90% bootstrap interval), in 90% interval",
        "method",
        *(f"{share:.0%} seen" for share in SHARES),
        "ms",
    )
    methods = {name: partial(_predict, law) for name, law in LAWS.items()} | {OURS: _predict_ours}
    for name, method in methods.items():
        cells, milliseconds = [], []
        for share in SHARES:
            seen = [(c, k) for c in curves if (k := c.n_seen(share)) >= 3]
            found = [_timed(method, c.sizes[:k], c.errors[:k], c.sizes[-1:]) for c, k in seen]
            milliseconds += [f[1] for f in found]
            truth = np.array([c.errors[-1] for c, _ in seen])
            low, middle, high = np.array([f[0][:, 0] for f in found]).T
            held = np.mean((low <= truth) & (truth <= high))
            cell = _with_spread(np.abs(middle - truth), np.median)
            cells.append(f"{cell}, {held:.0%}" if name == OURS else cell)
        table.add_row(name, *cells, f"{np.median(milliseconds):.1f}")
    console.print(table)


def print_vision(console: Console, images: Sequence[tuple[SizeCurve, int]]) -> None:
    """Root mean squared log error on the official split."""
    table = _table(
        f"Vision, {len(images)} few-shot curves, official split: root mean squared log error",
        "method",
        "mean",
        "quartiles",
        "median (90% bootstrap interval)",
        "in 90% interval",
        "ms",
    )
    laws = {name: partial(_predict, law) for name, law in VISION_LAWS.items()}
    for name, method in (laws | {OURS: _predict_ours}).items():
        found = [
            _timed(method, c.sizes[:k], np.maximum(c.errors[:k], 1e-9), c.sizes[k:])
            for c, k in images
        ]
        truths = [c.errors[k:] for c, k in images]
        pairs = [(f[0], y) for f, y in zip(found, truths, strict=True)]
        errors = np.array([np.sqrt(np.mean(np.log(p[1] / y) ** 2)) for p, y in pairs])
        held = np.mean([np.mean((p[0] <= y) & (y <= p[2])) for p, y in pairs])
        low, high = np.quantile(errors, [0.25, 0.75])
        table.add_row(
            name,
            f"{errors.mean():.4f}",
            f"{low:.3f}-{high:.3f}",
            _with_spread(errors, np.median),
            f"{held:.0%}" if name == OURS else "",
            f"{np.median([f[1] for f in found]):.1f}",
        )
    console.print(table)


def print_sizes(console: Console, curves: Sequence[SizeCurve]) -> None:
    """How often the needed size is found within a factor of 2."""
    table = _table(
        "Size needed: within 2x of the truth, all targets (the error at the largest size) / never",
        "method",
        *(f"{share:.0%} seen" for share in SHARES),
        "80% interval holds the truth",
    )
    asked = {
        share: [(c, k, q) for c in curves if (k := c.n_seen(share)) >= 3 and (q := c.questions(k))]
        for share in SHARES
    }
    methods: dict[str, Estimate] = {"always twice the data": lambda n, _: lambda _: 2 * n[-1]}
    methods |= {name: partial(_size_of, law) for name, law in LAWS.items()}
    for name, method in methods.items():
        cells = []
        for problems in asked.values():
            answers = [(q, method(c.sizes[:k], c.errors[:k]), c) for c, k, q in problems]
            found = [(answer(t), true, c.is_last(t)) for q, answer, c in answers for t, true in q]
            cells.append(_size_cell(found, np.mean([np.isinf(f[0]) for f in found])))
        table.add_row(name, *cells, "")
    cells, held = [], []
    for problems in asked.values():
        found, never, within = [], [], []
        for c, k, questions in problems:
            needs = hpo.data_needs(c.sizes[:k], c.errors[:k])
            for target, true in questions:
                asking = replace(needs, target=target)
                low, high = asking.quantile([0.1, 0.9])
                found.append((asking.size, true, c.is_last(target)))
                never.append(asking.verdict == "unreachable")
                within.append(low <= true <= high)
        cells.append(_size_cell(found, np.mean(never)))
        held.append(f"{np.mean(within):.0%}")
    table.add_row(OURS, *cells, " / ".join(held))
    console.print(table)


def print_rounds(console: Console, curves: Sequence[SizeCurve]) -> None:
    """What a planner collects that asks again after each round."""
    table = _table(
        "Rounds: collected / needed, quartiles over curves (share of curves at the target)",
        "method",
        "1 round",
        f"{_ROUNDS} rounds",
    )
    problems = [
        (c, k, questions[-2])
        for c in curves
        if (k := c.n_seen(0.1)) >= 3 and len(questions := c.questions(k)) == 3
    ]
    methods: dict[str, Estimate] = {name: partial(_size_of, law) for name, law in LAWS.items()}
    for name, method in (methods | {OURS: _size_ours}).items():
        paths = [_collect(method, c, k, *question) for c, k, question in problems]
        table.add_row(name, *(_round_cell([p[i] for p in paths]) for i in (0, -1)))
    console.print(table)


def _collect(
    method: Estimate, curve: SizeCurve, k: int, target: float, true: float
) -> list[tuple[float, bool]]:
    """After each round: collected over needed, and whether the target is reached."""
    path, falling = [], curve.falling
    for _ in range(_ROUNDS):
        if falling[k - 1] > target * (1 + 1e-9):
            now = float(curve.sizes[k - 1])
            wanted = method(curve.sizes[:k], curve.errors[:k])(target)
            wanted = 2 * now if np.isinf(wanted) else max(wanted, 1.2 * now)
            k = min(int(np.searchsorted(curve.sizes, wanted)) + 1, len(curve.sizes))
        path.append((curve.sizes[k - 1] / true, bool(falling[k - 1] <= target * (1 + 1e-9))))
    return path


def _predict(law: Law, n: Array, e: Array, wanted: Array) -> Array:
    """A fitted law's errors, three times over, in the shape of a lower, middle and upper one."""
    return np.tile(np.maximum(law(n, e)(wanted), 1e-9), (3, 1))


def _predict_ours(n: Array, e: Array, wanted: Array) -> Array:
    return hpo.data_needs(n, e).error_at(wanted).quantile([0.05, 0.5, 0.95])


def _size_of(law: Law, n: Array, e: Array) -> Callable[[float], float]:
    curve, sizes = law(n, e), np.geomspace(n[0], 1e4 * n[-1], 2000)
    return lambda target: size_for(curve, sizes, target)


def _size_ours(n: Array, e: Array) -> Callable[[float], float]:
    needs = hpo.data_needs(n, e)
    return lambda target: replace(needs, target=target).size


def _timed(
    method: Callable[[Array, Array, Array], Array], n: Array, e: Array, wanted: Array
) -> tuple[Array, float]:
    started = time.perf_counter()
    found = method(n, e, wanted)
    return found, 1000 * (time.perf_counter() - started)


def _size_cell(found: Sequence[tuple[float, float, bool]], never: np.floating) -> str:
    sizes, true, last = (np.array(column) for column in zip(*found, strict=True))
    right = np.abs(np.log(sizes / true)) <= np.log(2) + 1e-9
    return f"{right.mean():.0%} ({right[last].mean():.0%}) / {never:.0%}"


def _round_cell(ends: Sequence[tuple[float, bool]]) -> str:
    ratios, reached = np.array([e[0] for e in ends]), np.mean([e[1] for e in ends])
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    return f"{middle:.2f}, {low:.2f}-{high:.2f} ({reached:.0%})"


def _with_spread(values: Array, statistic: Callable[[Array], np.floating]) -> str:
    """A statistic with its 90% bootstrap interval over curves."""
    rng = np.random.default_rng(0)
    draws = [statistic(rng.choice(values, len(values))) for _ in range(500)]
    low, high = np.quantile(draws, [0.05, 0.95])
    return f"{statistic(values):.4f} ({low:.3f}-{high:.3f})"


def _table(title: str, *columns: str) -> Table:
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, justify="left" if name == "method" else "right")
    return table
