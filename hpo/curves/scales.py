"""Every metric on one scale: goodness, from 0 to 1, higher is better."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from hpo.curves.distributions import Array
from hpo.directions import Direction

LOWEST = -2.0
"""Goodness of what is as bad as can be told, NaN included."""
_BEYOND = 1e100  # a value of a larger magnitude is as good as infinite
_ALIKE = 0.02  # a study all of whose values lie so close together is looked at in its own range
SHARE, PER_CENT = (0.0, 1.0), (0.0, 100.0)
_ROUNDING = 1e-6  # of a bound, or of the other one where it is 0: what single floats leave
_ENOUGH = 5  # finished curves that are needed to say so
_DECADES = 1000.0  # a ratio of first and last values above which logarithms tell them apart
_OUTLIER = 1e4  # by which the nearest to the best value may be nearer than the second
_LEFT = 10.0  # by which others may yet be nearer to the best value than the nearest that has ended


@dataclass(frozen=True)
class Scale:
    """A monotone map between a metric's values and goodness.

    g = (value - worst) / (best - worst), and -log(1 - g) / stretch below 0, where a diverging loss
    goes.

    Where a metric spans decades it is the logarithm of the distance to the best value that tells:
    g = 1 - u(value) / u(worst), with u(value) = asinh((value - best) / unit), and below 0
    -|u(value) - u(worst)| / stretch.

    Args:
        worst: Value of goodness 0.
        best: Value of goodness 1.
        has_floor: No value is worse than `worst`.
        has_ceiling: No value is better than `best`.
        stretch: At least 1; greater where a curve has gone beyond what `LOWEST` is otherwise.
        unit: How near to the best value goodness is linear; infinite where it is so everywhere.
    """

    worst: float
    best: float
    has_floor: bool
    has_ceiling: bool
    stretch: float = 1.0
    unit: float = math.inf

    def goodness(self, values: Array) -> Array:
        """Goodness of values; NaN and what is infinitely bad have the lowest."""
        clipped: Array = np.clip(self._squeezed(values), 0.0 if self.has_floor else LOWEST, 1.5)
        return clipped

    def values(self, goodness: Array) -> Array:
        """Values of goodness, the inverse."""
        below = np.minimum(-goodness * self.stretch, 500.0)
        if self.is_linear:
            g = np.where(goodness < 0, -np.expm1(below), goodness)
            back: Array = self.worst + g * (self.best - self.worst)
        else:
            g = np.where(goodness < 0, -below / abs(self._folds), goodness)
            back = self.best + self.unit * np.sinh((1.0 - g) * self._folds)
        return back

    def reaching(self, value: float) -> Scale:
        """The same scale, stretched so far that a value is told from others as bad."""
        below = -float(self._squeezed(np.array([value]))[0])
        if self.has_floor or not -LOWEST < below < np.inf:
            return self
        return replace(self, stretch=self.stretch * below / -LOWEST)

    @property
    def is_linear(self) -> bool:
        """Whether equal differences are equal goodness, from the worst to the best value."""
        return math.isinf(self.unit)

    def _squeezed(self, values: Array) -> Array:
        with np.errstate(over="ignore", invalid="ignore"):
            if self.is_linear:
                g = (values - self.worst) / (self.best - self.worst)
            else:
                g = 1.0 - np.arcsinh((values - self.best) / self.unit) / self._folds
        g = np.nan_to_num(g, nan=-np.inf, posinf=1.0, neginf=-np.inf)
        below = -np.log1p(np.maximum(-g, 0.0)) if self.is_linear else g * abs(self._folds)
        squeezed: Array = np.where(g < 0, below / self.stretch, g)
        return squeezed

    @property
    def _folds(self) -> float:
        """How many times by e the worst value is farther from the best than the unit, signed."""
        return float(np.arcsinh((self.worst - self.best) / self.unit))


class Scales:
    """The scales on which curves are compared with finished ones of their study.

    A side that has a finite bound ends there; where the better one does and values span decades,
    the scale is logarithmic. Without bounds, losses that are never negative have 0 as one, scores
    between 0 and 1 have both, and scores that were never above 0 may have 0, as negative losses, or
    not, as rewards. Where the worst value is unknown, it is where curves typically begin; where the
    best one is unknown, so many times as far away again as they have come.

    Args:
        past: Values of the finished curves.
        direction: Whether lower or higher values are better.
        bounds: Lowest and highest possible value; may be infinite.
    """

    def __init__(
        self, past: Sequence[Array], direction: Direction, bounds: tuple[float, float] | None
    ) -> None:
        self._direction: Direction = direction
        self._sign = 1.0 if direction == "maximize" else -1.0
        self._bounds = bounds
        self._n = len(past)
        finite = [_finite(self._sign * values) for values in past]
        self._finite = np.concatenate([np.empty(0), *finite])
        self._firsts = np.concatenate([np.empty(0), *(values[:1] for values in finite)])
        self._lasts = np.concatenate([np.empty(0), *(values[-1:] for values in finite)])

    def may_cross_zero(self, curve: Array) -> bool:
        """Whether nothing but its values so far tells that a score ends at 0."""
        if self._bounds is not None or self._direction == "minimize":
            return False
        return bool(max(self._finite.max(initial=-np.inf), _finite(curve).max()) <= 0)

    def of(self, curve: Array, reach: float = 1.0, *, crosses_zero: bool = False) -> Scale:
        """The scale of a curve, by its values.

        Args:
            curve: The values.
            reach: How many times as far as values have come the best one is, where it is unknown.
            crosses_zero: Whether scores that `may_cross_zero` do.
        """
        sign, own = self._sign, _finite(self._sign * curve)
        finite = np.concatenate([own, self._finite])
        low, high = _bounds(sign * finite, self._direction, self._bounds)
        if crosses_zero and self.may_cross_zero(curve):
            high = np.inf
        worst, best = (low, high) if self._direction == "maximize" else (-high, -low)
        has_floor, has_ceiling = bool(np.isfinite(worst)), bool(np.isfinite(best))
        if not has_floor:
            worst = float(np.median(self._firsts if self._n else own[:1]))
        if has_ceiling and _all_alike(finite, self._n, best - worst):
            has_ceiling = False
        if not has_ceiling:
            best = _out_of_reach(finite, worst, reach)
        if not best - worst > max(1e-12 * max(abs(best), abs(worst)), 1 / _BEYOND):
            worst = best - _unit(best)
            has_floor = False
        unit = math.inf
        if has_ceiling and not has_floor:
            ends = self._lasts if self._n else own[-1:]
            unit = _unit_of_decades(best - ends, best - own[-1], best - worst)
        scale = Scale(sign * worst, sign * best, has_floor, has_ceiling, unit=unit)
        return scale.reaching(float(curve[-1]))


def _finite(values: Array) -> Array:
    return values[np.isfinite(values)]


def _unit_of_decades(ends: Array, own: float, width: float) -> float:
    """The unit of a scale on which curves span decades; infinite where they do not.

    One end that is far beyond all others, such as what rounding has left, does not decide it.

    Args:
        ends: How far curves ended from the best value there is.
        own: How far the curve in question is by now.
        width: How far they typically began.
    """
    nearest = np.sort(ends[ends > 0])[:2]
    if not len(nearest):
        return math.inf
    least = max(nearest[0], nearest[-1] / _OUTLIER)
    if not 0 < least < width / _DECADES:
        return math.inf
    least = min(least, own) if own > 0 else least
    return float(max(least / _LEFT, 1 / _BEYOND))


def within(values: Array, bounds: tuple[float, float]) -> Array:
    """Values, those on a bound that rounding has carried beyond it: an IoU of 1.0000001."""
    low, high = bounds
    other = abs(low + high) if 0 in bounds else 0.0  # by which a bound at 0 is near or far
    sizes = (abs(end) or other for end in bounds)
    below, above = (_ROUNDING * size if math.isfinite(size) else 0.0 for size in sizes)
    is_near = (values >= low - below) & (values <= high + above) & np.isfinite(values)
    held: Array = np.where(is_near, np.clip(values, low, high), values)
    return held


def confirmed(
    bounds: tuple[float, float] | None, values: Sequence[float] | Array
) -> tuple[float, float] | None:
    """Bounds that a metric's name promises, as values confirm them: a share may be in per cent.

    Args:
        bounds: Of a metric of that name; None where nothing is known of it.
        values: Some that were measured; what is not finite says nothing.

    Returns:
        The bounds, 0 to 100 for a share in per cent, or None where it is another metric.
    """
    finite = np.asarray(values, float)
    finite = finite[np.isfinite(finite)]
    for low, high in [bounds, PER_CENT] if bounds == SHARE else [bounds] if bounds else []:
        held = within(finite, (low, high))
        if np.all((held >= low) & (held <= high)):
            return low, high
    return None


def meant(target: float, values: Sequence[float] | Array, direction: Direction) -> float | None:
    """What may be meant by a target in per cent, where values are shares; or by the reverse.

    A small error is a target for errors in per cent, too, and is not doubted.

    Args:
        target: What is wanted.
        values: What was measured, of a metric of which nothing is known.
        direction: Which way is better.
    """
    low, high = float(np.min(values)), float(np.max(values))
    if low >= 0 and high <= SHARE[1] < target <= PER_CENT[1]:
        return target / PER_CENT[1]
    is_per_cent = direction == "maximize" and SHARE[1] < low and high <= PER_CENT[1]
    return PER_CENT[1] * target if is_per_cent and 0 < target < SHARE[1] else None


def _bounds(
    values: Array, direction: Direction, bounds: tuple[float, float] | None
) -> tuple[float, float]:
    if bounds is not None:
        return bounds
    low, high = float(values.min()), float(values.max())
    if direction == "maximize":
        return (0.0, 1.0) if low >= 0 and high <= 1 else (-np.inf, 0.0 if high <= 0 else np.inf)
    return (0.0 if low >= 0 else -np.inf), np.inf


def _all_alike(finite: Array, n_curves: int, width: float) -> bool:
    """Whether a study's values differ so little that its bounds are far away."""
    if n_curves < _ENOUGH:
        return False
    return bool(np.subtract(*np.quantile(finite, [0.98, 0.02])) < _ALIKE * width)


def _out_of_reach(finite: Array, worst: float, reach: float) -> float:
    """A value that is better than all by `reach` times what they are better than the worst ones."""
    best = float(finite.max())
    spread = max(best - worst, float(np.subtract(*np.quantile(finite, [0.9, 0.1]))))
    return best + reach * (max(spread, 1e-9 * abs(best)) if spread > 0 else _unit(best))


def _unit(value: float) -> float:
    """How far values may be apart of which nothing is known but this one."""
    return 1e-3 * abs(value) if abs(value) > 1 / _BEYOND else 1.0


def huge_as_infinite(values: Array) -> Array:
    """Values with those beyond all measure as infinite ones."""
    cleaned: Array = np.where(np.abs(values) > _BEYOND, np.copysign(np.inf, values), values)
    return cleaned
