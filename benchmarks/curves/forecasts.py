"""Forecasts of the final value after 10, 20 and 50% of a curve, beside simple ways."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table
from scipy.optimize import least_squares
from scipy.stats import norm
from scipy.stats import t as student

from benchmarks.curves.real import GROUPS, Family
from hpo.curves import Distribution, forecast_batch
from hpo.curves.distributions import Array
from hpo.curves.prior import Prior

SHARES = (0.1, 0.2, 0.5)
"""Of a curve, that are seen."""
SEED = 0
TIE = 0.003
"""An outcome so near to an interval counts as inside: flat curves repeat their value exactly."""
MOST_LIKELY = 200.0
"""Densities are counted up to this, so that flat curves do not decide the likelihood."""
WIDTH = 118  # of the tables
_MOST, _QUICK = 150, 60  # curves of a problem, drawn at random
_BY_CHAINS = 18  # curves of all problems: these take seconds each

Way = Callable[[Array, int, Sequence[Array]], Sequence[Distribution]]
"""Curves (r, n) seen so far, the horizon, and for each the finished ones -> final values."""


@dataclass(frozen=True)
class Scores:
    """How well the final values of one problem were forecast."""

    crps: float
    log_likelihood: float
    coverage: float
    milliseconds: float


def run(console: Console, data: Path, *, quick: bool) -> None:
    """Prints a table for each group of problems."""
    wide = Console(width=max(WIDTH, console.width), file=console.file)
    for group, load in GROUPS.items():
        families = [f.moving for f in load(data)]
        n_curves = ", ".join(f"{f.name[-24:]} {len(f.scores)}" for f in families)
        console.print(f"{group}, curves that move: {n_curves}", highlight=False, soft_wrap=True)
        families = sampled(families, quick=quick)
        table = table_of(f"{group}: the final value after 10 / 20 / 50% of the curve")
        for name, (way, k) in WAYS.items():
            if quick and name.startswith("least"):
                continue
            add_row(table, name, families, way, k)
        wide.print(table)
        if not quick and find_spec("emcee"):
            wide.print(_beside_chains(group, families))
        elif not quick:
            console.print("Without emcee no Markov chains: pip install -e '.[bench]'", markup=False)
        each = _milliseconds_in_batches(families[0])
        console.print(f"hpo, 30 finished, 100 curves at a time: {each:.2f} ms a curve\n")


def _beside_chains(group: str, families: Sequence[Family]) -> Table:
    """What takes seconds a curve, on a few of them, and others on the same ones."""
    each = _BY_CHAINS // len(families)
    table = table_of(f"{group}, {each} curves of each problem")
    for name, (way, k) in FEW_WAYS.items():
        add_row(table, name, families, way, k, each)
    return table


def _milliseconds_in_batches(family: Family) -> float:
    """Median over halves of curves, of ten turns."""
    history = list(family.scores[:30])
    horizon = family.scores.shape[1]
    rows = np.resize(np.arange(len(family.scores)), 100)
    seen = list(family.scores[rows, : horizon // 2])
    turns = []
    for _ in range(10):
        began = time.perf_counter()
        forecast_batch(seen, horizon, direction="maximize", history=history, bounds=(0, 1))
        turns.append((time.perf_counter() - began) / len(rows) * 1e3)
    return float(np.median(turns))


def sampled(families: Sequence[Family], *, quick: bool) -> list[Family]:
    """Some curves of each problem, drawn at random."""
    rng, most = np.random.default_rng(SEED), _QUICK if quick else _MOST
    rows = [rng.permutation(len(f.scores))[:most] for f in families]
    return [Family(f.name, f.scores[some]) for f, some in zip(families, rows, strict=True)]


def _score(way: Way, family: Family, share: float, k: int, most: int) -> Scores:
    rng = np.random.default_rng(SEED)
    n_others, horizon = family.scores.shape
    scores = family.scores[:most]
    n_curves = len(scores)
    n = max(1, round(share * horizon))
    past = [family.scores[_others(rng, n_others, i)[:k]] for i in range(n_curves)]
    began = time.perf_counter()
    found = way(scores[:, :n], horizon, past)
    took = time.perf_counter() - began
    final = scores[:, -1]
    pairs = list(zip(found, final, strict=True))
    inside = [d.quantile(0.05)[0] - TIE <= y <= d.quantile(0.95)[0] + TIE for d, y in pairs]
    density = np.array([d.density(y)[0] for d, y in pairs])
    return Scores(
        float(np.mean([d.crps(y)[0] for d, y in pairs])),
        float(np.mean(np.log(np.clip(density, 1e-50, MOST_LIKELY)))),
        float(np.mean(inside)),
        took / n_curves * 1e3,
    )


def _others(rng: np.random.Generator, n_curves: int, i: int) -> NDArray[np.intp]:
    order: NDArray[np.intp] = np.arange(n_curves - 1)
    order[i:] += 1
    return rng.permutation(order)


# --- the ways ---


def ours(seen: Array, horizon: int, past: Sequence[Array]) -> list[Distribution]:
    """`hpo.curves`."""
    return [
        forecast_batch([v], horizon, direction="maximize", history=list(h), bounds=(0, 1))[0]
        for v, h in zip(seen, past, strict=True)
    ]


def _last(seen: Array, _: int, __: Sequence[Array]) -> list[Distribution]:
    return [_points(v[-1:]) for v in seen]


def _residuals(seen: Array, _: int, past: Sequence[Array]) -> list[Distribution]:
    n = seen.shape[1]
    return [
        _points(np.clip(v[-1] + h[:, -1] - h[:, n - 1], 0, 1))
        for v, h in zip(seen, past, strict=True)
    ]


def _least_squares(shapes: Sequence[str]) -> Way:
    def way(seen: Array, horizon: int, _: Sequence[Array]) -> list[Distribution]:
        return [_fitted(v, horizon, shapes) for v in seen]

    return way


def _shape(name: str, t: Array, p: Array) -> Array:
    """C - a g(t; b): scores that rise to c."""
    c, a, log_b, d = p
    b = np.exp(np.clip(log_b, -8, 8))
    shapes: dict[str, Callable[[], Array]] = {
        "power": lambda: c - a * t**-b,
        "exponential": lambda: c - a * np.exp(-b * t),
        "weibull": lambda: c - a * np.exp(-((b * t) ** np.clip(d, 0.1, 3))),
        "mmf": lambda: c - a / (1 + (b * t) ** np.clip(d, 0.1, 3)),
        "log power": lambda: c - a / (1 + (t * b) ** 0.5),
        "janoschek": lambda: c - a * np.exp(-b * t ** np.clip(d, 0.1, 2)),
    }
    return shapes[name]()


SHAPES = ("power", "exponential", "weibull", "mmf", "log power", "janoschek")


def _fitted(v: Array, horizon: int, shapes: Sequence[str]) -> Distribution:
    """Normal distributions of the fits' residuals around their predictions, equally mixed."""
    t = np.arange(1.0, len(v) + 1)
    centres, spreads = [], []
    for name in shapes:
        start = np.array([v[-1], v[-1] - v[0] + 1e-3, np.log(0.5), 1.0])

        def off(p: Array, shape: str = name) -> Array:
            return np.nan_to_num(_shape(shape, t, p) - v)

        fit = least_squares(off, start, max_nfev=60)
        centre = float(np.clip(_shape(name, np.array([float(horizon)]), fit.x)[0], 0, 1))
        centres.append(centre)
        spreads.append(max(float(np.sqrt(np.mean(fit.fun**2))), 1e-3))
    return _normals(np.array(centres), np.array(spreads))


def _averaged(seen: Array, horizon: int, _: Sequence[Array]) -> list[Distribution]:
    """A Bayesian average over shapes y = c + a g(t), with c, a and the noise integrated out.

    Under y | c, a, s ~ N(c + a g, s^2), (c, a) | s ~ N(m, s^2 V) and 1 / s^2 ~ Gamma, each shape
    predicts a Student t, and its evidence is closed (Bishop 2006, section 3.5; Murphy 2007).
    """
    n = seen.shape[1]
    t = np.arange(1.0, horizon + 1)
    shapes = np.stack(
        [t**-b for b in (0.1, 0.2, 0.35, 0.5, 0.75, 1.0, 1.5, 2.0)]
        + [np.exp(-((t / (k * horizon)) ** b)) for k in _KS for b in (0.5, 1.0)]
        + [1 / (1 + (t / (k * horizon)) ** b) for k in _KS for b in (0.5, 1.0, 2.0)]
        + [1 / np.log(t + np.e)]
    )
    return [_evidence(v, shapes, n) for v in seen]


_KS = (0.01, 0.03, 0.1, 0.3, 1.0)


def _evidence(v: Array, shapes: Array, n: int) -> Distribution:
    prior_mean, precision = np.array([0.5, -0.3]), np.eye(2) * 1e-3
    a0, b0 = 1.5, 1.5e-4
    logs, centres, spreads, freedoms = [], [], [], []
    for g in shapes:
        x = np.stack([np.ones(n), g[:n]], axis=1)
        posterior = x.T @ x + precision
        mean = np.linalg.solve(posterior, x.T @ v + precision @ prior_mean)
        a = a0 + n / 2
        b = b0 + 0.5 * (v @ v + prior_mean @ precision @ prior_mean - mean @ posterior @ mean)
        log_det = np.linalg.slogdet(posterior)[1]
        logs.append(-0.5 * log_det - a * np.log(max(b, 1e-12)))
        ahead = np.array([1.0, g[-1]])
        centres.append(float(ahead @ mean))
        variance = b / a * (1 + ahead @ np.linalg.solve(posterior, ahead))
        spreads.append(float(np.sqrt(max(variance, 1e-8))))
        freedoms.append(2 * a)
    weights = np.exp(np.array(logs) - max(logs))
    edges = np.concatenate([[-0.5], np.linspace(0, 1, 400), [1.5]])
    z = (edges[:, None] - np.array(centres)) / np.array(spreads)
    below = student.cdf(z, np.array(freedoms)) @ (weights / weights.sum())
    masses = np.maximum(np.diff(below), 0) + 1e-9
    return Distribution(edges[None], (masses / masses.sum())[None])


def _bank(seen: Array, horizon: int, _: Sequence[Array]) -> list[Distribution]:
    """Curves of our prior, re-weighted by how near they come to what was seen.

    Of n residuals r with a noise s^2 ~ InvGamma(a, b) the likelihood is (b + r'r / 2)^-(a + n / 2).
    Of many, fewer count: they are not independent, and soon one curve had all the weight.
    """
    bank = _drawn(horizon)
    n = seen.shape[1]
    found = []
    for v in seen:
        errors = np.mean((bank[:, :n] - v) ** 2, axis=1)
        logs = -(1.5 + min(n, _COUNTED) / 2) * np.log(_LEAST_ERROR + errors)
        weights = np.exp(logs - logs.max())
        best = np.argsort(weights)[-_KEPT:]
        chosen = np.random.default_rng(SEED).choice(
            best, size=_DRAWN, p=weights[best] / weights[best].sum()
        )
        ends = np.clip(v[-1] + bank[chosen, -1] - bank[chosen, n - 1], 0, 1)
        found.append(_normals(ends, np.full(_DRAWN, np.sqrt(_LEAST_ERROR))))
    return found


def _chains(seen: Array, horizon: int, _: Sequence[Array]) -> list[Distribution]:
    from benchmarks.curves.chains import final_values  # emcee is for benchmarks alone

    found = []
    for v in seen:
        ends, noise = final_values(v, horizon, np.random.default_rng(SEED))
        ends = np.clip(np.quantile(ends, np.linspace(0.0025, 0.9975, _DRAWN)), 0, 1)
        found.append(_normals(ends, np.full(_DRAWN, max(noise, 5e-4))))
    return found


_COUNTED, _LEAST_ERROR, _KEPT, _DRAWN, _STUDIES = 8, 4e-4, 1000, 200, 1000


@cache
def _drawn(horizon: int) -> Array:
    """16,000 curves, (16000, horizon)."""
    drawn = Prior(np.random.default_rng(SEED), _STUDIES, 16, horizon).curves()
    return np.clip(drawn.reshape(-1, horizon), 0, 1)


def _points(values: Array) -> Distribution:
    """Each value alike, as narrow bins."""
    return _normals(values, np.full(len(values), 5e-4))


def _normals(centres: Array, spreads: Array) -> Distribution:
    around = np.concatenate(
        [c + s * np.linspace(-4, 4, 33) for c, s in zip(centres, spreads, strict=True)]
    )
    edges = np.unique(np.concatenate([around, [-0.5, 1.5]]))
    below = norm.cdf((edges[:, None] - centres) / spreads).mean(axis=1)
    masses = np.diff(below)
    return Distribution(edges[None], (masses / masses.sum())[None])


WAYS: dict[str, tuple[Way, int]] = {
    "last value": (_last, 0),
    "last value + residuals of 30 finished": (_residuals, 30),
    "least squares, power law": (_least_squares(SHAPES[:1]), 0),
    "least squares, 6 shapes": (_least_squares(SHAPES), 0),
    "Bayesian average over shapes": (_averaged, 0),
    "16,000 curves of the prior, re-weighted": (_bank, 0),
    "hpo, no history": (ours, 0),
    "hpo, 5 finished": (ours, 5),
    "hpo, 30 finished": (ours, 30),
}

FEW_WAYS: dict[str, tuple[Way, int]] = {
    "last value": (_last, 0),
    "least squares, 6 shapes": (_least_squares(SHAPES), 0),
    "Markov chains, 11 shapes": (_chains, 0),
    "hpo, no history": (ours, 0),
    "hpo, 30 finished": (ours, 30),
}


def table_of(title: str) -> Table:
    """A table without rows."""
    table = Table(title=title, box=box.SIMPLE, title_justify="left")
    table.add_column("way")
    for column in ("CRPS", "log-likelihood", "90% covers", "least, most", "ms"):
        table.add_column(column, justify="right")
    return table


def add_row(
    table: Table,
    name: str,
    families: Sequence[Family],
    way: Way,
    k: int = 0,
    most: int = _MOST,
) -> None:
    """A row: means over problems, and the extremes of coverage.

    Args:
        table: Where to.
        name: Of the way.
        families: The problems.
        way: Forecasts.
        k: Finished curves that it knows.
        most: Curves of each problem that are forecast, the first ones.
    """
    scores = [[_score(way, f, share, k, most) for share in SHARES] for f in families]
    covers = [s.coverage for row in scores for s in row]
    table.add_row(
        name,
        _three([np.mean([row[i].crps for row in scores]) for i in range(3)], "{:.3f}"),
        _three([np.mean([row[i].log_likelihood for row in scores]) for i in range(3)], "{:.2f}"),
        _three([np.mean([row[i].coverage for row in scores]) for i in range(3)], "{:.2f}"),
        f"{min(covers):.2f}, {max(covers):.2f}",
        f"{np.mean([s.milliseconds for row in scores for s in row]):.2f}",
    )


def _three(numbers: Sequence[float | np.floating], form: str) -> str:
    return " / ".join(form.format(float(x)) for x in numbers)
