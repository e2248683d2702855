"""Fits the prior of `hpo.data_needs` on LCDB 1.0, and how far its forecasts are to be spread.

    python -m benchmarks.curves.calibrate --data DIR

prints the numbers that stand in `hpo/curves/scaling_laws.py` and `scaling_posterior.py`. The
prior maximises the mean log predictive density of a later error's logarithm, given the errors up
to 2-50% of the largest size, minus a ridge penalty: empirical Bayes by prediction, not by
marginal likelihood, since no curve follows a law at all sizes. Data sets count the same, however
many curves they have. LCDB 1.1 and the vision curves, on which we are measured, are not touched.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax

import hpo
from benchmarks.curves.size_curves import SizeCurve, older
from hpo.curves import scaling_posterior
from hpo.curves.distributions import Array
from hpo.curves.measurements import read
from hpo.curves.scaling_laws import bank, features
from hpo.curves.scaling_posterior import NOISES, STRAYINGS, likelihoods, roughness

_SHARES = (0.02, 0.05, 0.1, 0.1, 0.2, 0.2, 0.5, 0.5)
_SPREADS = (1.0, 1.25, 1.5, 1.75, 2.0)
_WANTED = 0.9
_RIDGE = 3e-3
_SURPRISE = 1e-3  # density of what no law foresees; keeps single curves from deciding

Single = NDArray[np.float32]

Problem = tuple[SizeCurve, int, int]
"""A curve, how many of its sizes are seen, and which is asked for."""


def main() -> None:
    """Parses the command line, fits and prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="folder with the real curves")
    parser.add_argument("--curves", type=int, default=1600, help="how many to draw")
    args = parser.parse_args()
    drawn = problems(older(args.data), args.curves, np.random.default_rng(0))
    design, names = design_matrix()
    theta = fit(*likelihood_matrices(drawn), design)
    for name, value in zip(names, theta, strict=True):
        print(f'    "{name}": {value:.2f},')
    test = problems(older(args.data), 300, np.random.default_rng(1))
    for spread in _SPREADS:
        held = coverage(test, spread)
        # 300 problems tell whole percents at best
        enough = " <- the first that is enough" if round(held, 2) >= _WANTED else ""
        print(f"spread {spread}: 90% intervals (of the present prior) hold {held:.1%}{enough}")
        if enough:
            break


def problems(curves: list[SizeCurve], n: int, rng: np.random.Generator) -> list[Problem]:
    """Draws n problems: a data set, one of its curves, how much is seen, and what is asked."""
    names = sorted({curve.data_set for curve in curves})
    by_name = {name: [c for c in curves if c.data_set == name] for name in names}
    found: list[Problem] = []
    while len(found) < n:
        of_one = by_name[names[rng.integers(len(names))]]
        curve = of_one[rng.integers(len(of_one))]
        k, last = curve.n_seen(rng.choice(_SHARES)), len(curve.sizes) - 1
        if 3 <= k <= last and np.any(curve.errors[:k] > 0):
            found.append((curve, k, last if rng.random() < 0.6 else int(rng.integers(k, last + 1))))
    return found


def design_matrix() -> tuple[Array, list[str]]:
    """What the log prior is linear in, for each noise the laws; and the columns' names."""
    listed = features(bank())
    n_grid = len(NOISES) * len(STRAYINGS)
    laws = np.tile(np.column_stack(list(listed.values())), (n_grid, 1))
    return laws, list(listed)


def likelihood_matrices(drawn: list[Problem]) -> tuple[Single, Single]:
    """Likelihoods of what was seen (scaled by row), and times that of what was asked for."""
    laws = bank()
    seen: Single = np.empty((len(drawn), len(laws) * len(NOISES) * len(STRAYINGS)), np.float32)
    both = np.empty_like(seen)
    for i, (curve, k, asked) in enumerate(drawn):
        evidence, scale = read(curve.sizes[:k], curve.errors[:k], None, "minimize", None)
        t = np.log(evidence.sizes / evidence.sizes[-1])
        then = np.log(curve.sizes[asked : asked + 1] / evidence.sizes[-1])
        z = scale.log_error(np.maximum(curve.errors[asked], 1e-5))
        shapes, ahead = laws.log_error(t), laws.log_error(then)[:, 0]
        logs, densities = [], []
        for s in NOISES:
            for q in STRAYINGS:
                log, a, var_a = likelihoods(evidence, t, shapes, s, q)
                variance = var_a + q**2 * float(roughness(then)[0]) + s**2
                logs.append(log)
                densities.append(-((z - a - ahead) ** 2) / variance / 2 - np.log(variance) / 2)
        score = np.concatenate(logs)
        seen[i] = np.exp(score - score.max())
        both[i] = seen[i] * np.exp(np.concatenate(densities)) / np.sqrt(2 * np.pi)
    return seen, both


def fit(seen: Single, both: Single, design: Array) -> Array:
    """Coefficients of the log-linear prior."""

    def loss(theta: Array) -> tuple[float, Array]:
        w = np.exp(log_softmax(design @ theta))
        evidence = (seen @ w.astype(np.float32)).astype(float) + 1e-30
        joint = (both @ w.astype(np.float32)).astype(float)
        predicted = joint / evidence + _SURPRISE
        by_joint = (1 / (predicted * evidence)).astype(np.float32)
        by_evidence = (-joint / (predicted * evidence**2)).astype(np.float32)
        slope = -(both.T @ by_joint + seen.T @ by_evidence).astype(float) / len(seen)
        through = w * (slope - slope @ w)  # d softmax
        value = -float(np.mean(np.log(predicted))) + _RIDGE * float(theta @ theta)
        return value, design.T @ through + 2 * _RIDGE * theta

    start = np.zeros(design.shape[1])
    return np.asarray(minimize(loss, start, jac=True, method="L-BFGS-B").x)


def coverage(drawn: list[Problem], spread: float) -> float:
    """Share of later errors within the 90% intervals of `hpo.data_needs`."""
    kept, held = scaling_posterior.SPREAD, []
    scaling_posterior.SPREAD = spread
    try:
        for curve, k, asked in drawn:
            needs = hpo.data_needs(curve.sizes[:k], curve.errors[:k])
            ahead = needs.error_at(curve.sizes[asked], noise=True)
            low, high = ahead.quantile([0.05, 0.95])[:, 0]
            held.append(low <= curve.errors[asked] <= high)
    finally:
        scaling_posterior.SPREAD = kept
    return float(np.mean(held))


if __name__ == "__main__":
    main()
