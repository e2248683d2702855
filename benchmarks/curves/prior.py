"""What the prior is worth: the same network, trained as long on LC-PFN's prior and on ours.

The prior of LC-PFN (Adriaensen et al. 2023, after Domhan et al. 2015) is of rising curves

    y = w_1 pow3 + w_2 ilog2 + w_3 Janoschek + normal noise

whose weights and parameters are drawn independently, as its published code draws them. Its curves
know nothing of one another, so both networks forecast without history.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from safetensors.numpy import load_file

from benchmarks.curves import forecasts
from benchmarks.curves.real import GROUPS
from hpo.curves import network, training
from hpo.curves.distributions import Array
from hpo.curves.training import DrawCurves, draw_curves

_STEPS, _QUICK_STEPS = 4000, 300
_SEED = 0
_AT_ONCE = 40_000  # points in a draw of which few are allowed


def run(console: Console, data: Path, *, quick: bool) -> None:
    """Trains both, a quarter of an hour each, and prints a table for each group of problems."""
    wide = Console(width=max(forecasts.WIDTH, console.width), file=console.file)
    n_steps = _QUICK_STEPS if quick else _STEPS
    priors: dict[str, DrawCurves] = {"LC-PFN's prior": lcpfn, "hpo's prior": draw_curves}
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / f"{i}.safetensors" for i, name in enumerate(priors)}
        for name, curves in priors.items():
            training.train(n_steps, _SEED, files[name], curves=curves)
        found = {name: load_file(file) for name, file in files.items()}
    for group, load in GROUPS.items():
        drawn = forecasts.sampled([f.moving for f in load(data)], quick=quick)
        table = forecasts.table_of(f"{group}, without history: networks after {n_steps:,} steps")
        for name, weights in found.items():
            with _using({key: w.astype(np.float32) for key, w in weights.items()}):
                forecasts.add_row(table, name, drawn, forecasts.ours)
        forecasts.add_row(table, "what hpo ships", drawn, forecasts.ours)
        wide.print(table)


@contextmanager
def _using(weights: network.Weights) -> Iterator[None]:
    """Forecasts from other weights."""
    shipped = network.shipped_weights
    network.shipped_weights = lambda: weights  # type: ignore[assignment]
    try:
        yield
    finally:
        network.shipped_weights = shipped


def lcpfn(rng: np.random.Generator, n_studies: int, n_trials: int, n_steps: int) -> Array:
    """Draws curves of LC-PFN's prior, shape (s, c, n); most draws are not allowed, and drawn again.

    Allowed are curves that end above their beginning and stay between 0 and 1.
    """
    wanted, found, n_found = n_studies * n_trials, list[Array](), 0
    at_once = max(_AT_ONCE // n_steps, 50)
    while n_found < wanted:
        y = _shapes(rng, at_once, np.arange(1.0, n_steps + 1))
        good = np.isfinite(y).all(1) & (y[:, -1] > y[:, 0]) & (y >= 0).all(1) & (y <= 1).all(1)
        found.append(y[good])
        n_found += int(good.sum())
    curves = np.concatenate(found)[:wanted]
    noise = np.exp(rng.normal(-4, 1, (wanted, 1))) * rng.normal(size=curves.shape)
    return np.clip(curves + noise, 0, 1).reshape(n_studies, n_trials, n_steps)


def _shapes(rng: np.random.Generator, n: int, x: Array) -> Array:
    """Weighted sums of the three shapes, shape (n, len(x))."""

    def uniform(low: float, high: float) -> Array:
        return rng.uniform(low, high, (n, 1))

    def lognormal(mean: float, deviation: float) -> Array:
        return rng.lognormal(mean, deviation, (n, 1))

    pow3 = uniform(0, 1.25) - uniform(-0.6, 0.6) * x ** -lognormal(0, 2)
    ilog2 = uniform(0, 1) - uniform(-0.5, 0.5) / np.log(x + 1)
    top, bottom = uniform(0, 1), uniform(0, 2)
    with np.errstate(over="ignore"):
        janoschek = top - (top - bottom) * np.exp(-lognormal(-2, 1) * x ** lognormal(0, 0.5))
    total: Array = uniform(0, 1) * pow3 + uniform(0, 1) * ilog2 + uniform(0, 1) * janoschek
    return total
