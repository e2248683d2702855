"""Errors at sizes as people have them, checked once and brought into one shape."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hpo.curves.distributions import Array, floats
from hpo.curves.scales import meant, within
from hpo.curves.scaling_posterior import Evidence
from hpo.directions import Direction

_LARGEST = 1e100
_MOST_SIZES = 72
_ALL_ZERO = 1e-3
_PAIRS, _MOST_ALIKE = 4.0, 0.98  # what a correlation is doubted by, and the most that is believed
ROUNDING = 1e-9
"""What logarithms, and other units, make of a ratio."""
_TINY = float(np.finfo(float).tiny)  # half of the least number is 0, which has no logarithm


@dataclass(frozen=True)
class Scale:
    """How a metric is turned into an error u >= 0 that falls towards 0, and back.

    Args:
        direction: Whether lower or higher values are better.
        best: The best value that the metric can take; u is the distance from it.
        worst: The worst; may be infinite.
        resolution: Added to u, so that an error of 0 has a logarithm.
    """

    direction: Direction
    best: float
    worst: float
    resolution: float

    def log_error(self, metric: Array) -> Array:
        """The logarithm of the error; -inf where the metric is at its best or beyond."""
        u = self.best - metric if self.direction == "maximize" else metric - self.best
        with np.errstate(divide="ignore"):
            return np.asarray(np.log(np.maximum(u, 0.0) + self.resolution))

    def metric(self, log_error: Array) -> Array:
        """The metric that has this logarithm of the error, within the bounds."""
        u = np.maximum(np.exp(np.clip(log_error, -700.0, 700.0)) - self.resolution, 0.0)
        if self.direction == "maximize":
            return np.maximum(self.best - u, self.worst)
        return np.minimum(self.best + u, self.worst)


def read(
    sizes: ArrayLike,
    errors: ArrayLike,
    target: float | None,
    direction: Direction,
    bounds: tuple[float, float] | None,
) -> tuple[Evidence, Scale]:
    """Checks and sorts measurements, and averages those of one size.

    Raises:
        ValueError: something is wrong with them; see `hpo.data_needs`.
    """
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction is 'minimize' or 'maximize', not {direction!r}")
    target, bounds = None if target is None else number(target, "target", 0.02), _pair(bounds)
    n, y, seeds = _paired(sizes, errors)
    _check_sizes(n)
    kept = ~np.isnan(y)
    if not kept.any():
        raise ValueError(
            "no error is a number: give at least one, and NaN only where one is missing"
        )
    n, y, seeds = n[kept], y[kept], seeds[kept]
    y = y if bounds is None else within(y, bounds)
    _check_errors(n, y, bounds)
    _check_target(target, bounds, y, direction)
    scale = _scale(y, target, direction, bounds)
    return _thinned(_averaged(n, y, seeds, scale)), scale


def number(value: object, name: str, such_as: float) -> float:
    """One number.

    Raises:
        ValueError: it is not a number.
    """
    if isinstance(value, Real) or (isinstance(value, np.ndarray) and value.ndim == 0):
        return float(numbers(value, name)[0])
    raise ValueError(f"{name} {value!r}: it is one number, such as {such_as}")


def _pair(bounds: object) -> tuple[float, float] | None:
    """Two numbers, or None for None."""
    if bounds is None:
        return None
    try:
        low, high = (number(each, "bound", 0.0) for each in bounds)  # type: ignore[attr-defined]
    except (TypeError, ValueError):
        low = high = np.nan
    if not low < high:
        raise ValueError(
            f"bounds are (lowest, highest), two numbers such as (0, 1), not {bounds!r}; "
            "a metric without end on one side has inf there"
        )
    return low, high


def numbers(values: object, name: str) -> Array:
    """Numbers as an array, of at least one dimension; what is masked is missing.

    Raises:
        ValueError: they are not numbers, too large, or in rows of different lengths.
    """
    try:
        return np.atleast_1d(floats(values))
    except OverflowError:
        raise ValueError(f"{name}: a number is too large, beyond 1e308") from None
    except (TypeError, ValueError):
        raise ValueError(
            f"{name} are numbers, in rows of one length if there are several: give NaN where one "
            "is missing"
        ) from None


def places(n: ArrayLike) -> Array:
    """Numbers of examples that something is asked for at.

    Raises:
        ValueError: there are none, or some are not numbers of examples.
    """
    sizes = numbers(n, "numbers of examples")
    if sizes.ndim != 1 or not len(sizes):
        raise ValueError(f"numbers of examples are one or several, in one row, not {n!r}")
    if not np.all(np.isfinite(sizes) & (sizes >= 1)):
        raise ValueError(f"numbers of examples are finite and at least 1, not {n!r}")
    return sizes


def _paired(sizes: ArrayLike, errors: ArrayLike) -> tuple[Array, Array, NDArray[np.intp]]:
    """One size and one seed for each error, all flat; a seed of its own where none is told."""
    n, y = numbers(sizes, "sizes"), numbers(errors, "errors")
    if n.ndim == 1 and y.ndim == 2 and len(y) == len(n):
        if len(np.unique(n)) < len(n):
            raise ValueError(
                f"errors of shape {y.shape} hold all errors of a size in one row, but sizes "
                "repeat: give each size once, or one size for each error"
            )
        return np.repeat(n, y.shape[1]), y.ravel(), np.tile(np.arange(y.shape[1]), len(n))
    if n.ndim != 1 or n.shape != y.shape:
        raise ValueError(
            f"sizes have shape {n.shape} and errors {y.shape}: give one error for each size, "
            f"or errors of shape ({len(n)}, n_seeds)"
        )
    return n, y, np.arange(len(y))


def _check_sizes(n: Array) -> None:
    wrong = np.flatnonzero(~(np.isfinite(n) & (n >= 1) & (n <= _LARGEST)))
    if len(wrong):
        value = n[wrong[0]]
        share = 0 < value < 1
        advice = "multiply shares by the number of examples" if share else "leave it out"
        raise ValueError(
            f"size {value:g} at position {wrong[0]}: a training-set size is a number of "
            f"examples, at least 1; {advice}"
        )


def _check_errors(n: Array, y: Array, bounds: tuple[float, float] | None) -> None:
    wrong = np.flatnonzero(~(np.abs(y) <= _LARGEST))
    if len(wrong):
        raise ValueError(
            f"error {y[wrong[0]]:g} at size {n[wrong[0]]:,.0f}: an error is a finite number; "
            "give NaN for a training that diverged"
        )
    if bounds is None:
        return
    low, high = bounds
    outside = np.flatnonzero((y < low) | (y > high))
    if len(outside):
        value = y[outside[0]]
        percent = low == 0 and high == 1 < value <= 100
        advice = f"; is it {value:g}%? Then give {value / 100:g}" if percent else ""
        raise ValueError(
            f"error {value:g} at size {n[outside[0]]:,.0f} is outside the bounds "
            f"{low:g} to {high:g}{advice}"
        )


def _check_target(
    target: float | None, bounds: tuple[float, float] | None, y: Array, direction: Direction
) -> None:
    if target is None:
        return
    if not abs(target) <= _LARGEST:
        raise ValueError(f"target {target:g}: a target is a finite number")
    if bounds is not None and not bounds[0] <= target <= bounds[1]:
        raise ValueError(
            f"target {target:g} is outside the bounds {bounds[0]:g} to {bounds[1]:g} of the metric"
        )
    # Of a loss, a target above all errors is merely reached.
    share = meant(target, y, direction) if bounds is None and direction == "maximize" else None
    if share is not None and share < target:
        raise ValueError(
            f"target {target:g}: all scores lie between 0 and 1; is it {target:g}%? Then give "
            f"{share:g}, and else the bounds of the metric, such as bounds=(0, {10 * target:g})"
        )


def qualified(text: str, target: float | None, meant: float | None) -> str:
    """What is said of a target, as long as it may be meant in another unit."""
    if target is None or meant is None:
        return text
    return f"if {target:g} is meant, and not {meant:g}: {text}"


def _scale(
    y: Array, target: float | None, direction: Direction, bounds: tuple[float, float] | None
) -> Scale:
    """The scale of a metric; without bounds, what its values suggest."""
    low, high = bounds if bounds is not None else guessed_bounds(y, target, direction)
    best, worst = (high, low) if direction == "maximize" else (low, high)
    if not np.isfinite(best):
        raise ValueError(
            f"bounds {bounds}: the best value of a metric to {direction} is finite; "
            "leave bounds out where nobody knows it"
        )
    u = np.abs(y - best)
    positive = u[u > 0]
    if len(positive) == len(u):
        resolution = 0.0
    else:  # an error of 0 is below what is told apart
        resolution = max(0.5 * float(positive.min()), _TINY) if len(positive) else _ALL_ZERO
    return Scale(direction, best, worst, resolution)


def natural_best(y: Array, target: float | None, direction: Direction) -> float | None:
    """The best value of errors that are never negative, 0, or of shares, 1; None of others."""
    known = y if target is None else np.append(y, target)
    if direction == "maximize":
        return 1.0 if known.min() >= 0 and known.max() <= 1 else None
    return 0.0 if known.min() >= 0 else None


def guessed_bounds(y: Array, target: float | None, direction: Direction) -> tuple[float, float]:
    """The bounds of a metric of which nobody has said any, by its values."""
    best = natural_best(y, target, direction)
    if direction == "maximize":
        return (0.0, best) if best is not None else (-np.inf, float(y.max()) + _reach(y, target))
    return (best if best is not None else float(y.min()) - _reach(y, target)), np.inf


def _reach(y: Array, target: float | None) -> float:
    """Improvement beyond three times what was seen counts as endless.

    A target changes that only where it lies farther off: what is expected of a size must not
    depend on what is wanted.
    """
    seen = 3.0 * float(np.ptp(y)) or max(abs(float(y[0])), 1.0)
    return seen if target is None else max(seen, 1.5 * float(np.abs(target - y).max()))


def _averaged(n: Array, y: Array, seeds: NDArray[np.intp], scale: Scale) -> Evidence:
    unique, index = np.unique(n, return_inverse=True)
    counts = np.bincount(index).astype(float)
    z = scale.log_error(np.bincount(index, y) / counts)
    luck = scale.log_error(y) - z[index]
    scatter = np.asarray(np.bincount(index, luck**2), float)
    alike = np.eye(len(unique))
    if len(np.unique(seeds)) < len(seeds):  # some were trained at several sizes
        table = np.full((len(unique), int(seeds.max()) + 1), np.nan)
        table[index, seeds] = luck
        alike = _in_common(np.log(unique), table)
    constant = _is_constant(index, y, seeds)
    return Evidence(unique, z, counts, counts - 1, scatter, alike, constant)


def _is_constant(index: NDArray[np.intp], y: Array, seeds: NDArray[np.intp]) -> bool:
    """Whether each seed was measured at several sizes, and has the same error at all of them.

    Where nobody tells seeds apart, all errors are the same.
    """
    if len(np.unique(seeds)) == len(seeds):
        return bool(index.any() and np.ptp(y) == 0)
    of_seeds = [seeds == seed for seed in np.unique(seeds)]
    return all(np.ptp(index[own]) > 0 and np.ptp(y[own]) == 0 for own in of_seeds)


def _in_common(log_n: Array, luck: Array) -> Array:
    """How far the means of the same seeds err alike at several sizes, shape (k, k).

    A seed's noise is taken for a stationary process of log n, whose correlation falls by the same
    factor from each size to the next, on average. That is measured, and doubted as if four more
    pairs of neighbours had shown none.

    Args:
        log_n: Of the sizes, rising, shape (k,).
        luck: What is above the mean of the size, shape (k, n_seeds); NaN where nothing was trained.
    """
    there = ~np.isnan(luck)
    shared = there.astype(float) @ there.T.astype(float)
    both = there[1:] & there[:-1]
    products, squares = (np.where(both, luck[1:] * other, 0.0) for other in (luck[:-1], luck[1:]))
    size = np.sqrt(squares.sum(1) * np.where(both, luck[:-1] ** 2, 0.0).sum(1)).sum()
    pairs = float(np.maximum(both.sum(1) - 1, 0).sum())
    alike = products.sum() / size * pairs / (pairs + _PAIRS) if size > 0 and pairs else 0.0
    if alike <= 0:
        return np.eye(len(log_n))
    gap = float(np.average(np.diff(log_n), weights=both.sum(1)))
    correlation = min(alike, _MOST_ALIKE) ** (np.abs(np.subtract.outer(log_n, log_n)) / gap)
    own = np.sqrt(there.sum(1))
    found: Array = correlation * shared / np.outer(own, own)
    return found


def _thinned(evidence: Evidence) -> Evidence:
    """Neighbours averaged where there are more sizes than a law can tell apart."""
    k = len(evidence.sizes)
    if k <= _MOST_SIZES:
        return evidence
    log_n = np.log(evidence.sizes / evidence.sizes[-1])
    # The largest size stays alone: all laws hang on it. A size on an edge lies above it, whatever
    # other units of sizes make of its last digit.
    edges = np.linspace(log_n[0], log_n[-1], _MOST_SIZES) * (1 + ROUNDING)
    group = np.minimum(np.searchsorted(edges, log_n, side="right") - 1, _MOST_SIZES - 2)
    group[-1] = _MOST_SIZES - 1
    _, group = np.unique(group, return_inverse=True)
    counts = np.asarray(np.bincount(group, evidence.counts), float)
    means = [np.bincount(group, x * evidence.counts) / counts for x in (log_n, evidence.z)]
    sizes = evidence.sizes[-1] * np.exp(means[0])
    sizes[-1] = evidence.sizes[-1]
    replicates, scatter = (
        np.asarray(np.bincount(group, x), float) for x in (evidence.replicates, evidence.scatter)
    )
    # Of the noise of means of m_i measurements, weighted by m_i.
    parts = np.zeros((len(sizes), k))
    parts[group, np.arange(k)] = np.sqrt(evidence.counts)
    alike = parts @ evidence.correlation @ parts.T / np.sqrt(np.outer(counts, counts))
    return Evidence(sizes, means[1], counts, replicates, scatter, alike, evidence.is_constant)
