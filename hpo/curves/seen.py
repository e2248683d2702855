"""Curves as they were given, checked once: what is not clear is refused here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from hpo.curves.distributions import Array, floats
from hpo.curves.scales import huge_as_infinite, within
from hpo.directions import Direction

_FARTHEST = 1e100  # times the last step: beyond, numbers overflow

Curve = ArrayLike | tuple[ArrayLike, ArrayLike]
"""Values at the steps 1, 2, ...; or a pair: steps, values."""


@dataclass(frozen=True)
class Seen:
    """A curve whose values are finite, or infinitely bad where it diverged.

    Args:
        steps: Rising, shape (n,).
        values: Shape (n,).
        spacing: Steps between two values, typically.
    """

    steps: Array
    values: Array
    spacing: float

    @classmethod
    def of(cls, curve: Curve, direction: Direction, name: str) -> Seen:
        """Checks a curve and drops what was not measured.

        Raises:
            ValueError: it says what is wrong with it.
        """
        if isinstance(curve, tuple) and len(curve) == 2 and not np.isscalar(curve[0]):
            steps, values = (numbers(part, name) for part in curve)
        else:
            values = numbers(curve, name)
            steps = np.arange(1.0, values.size + 1)
        if values.ndim == 0:
            raise ValueError(f"{name}: a curve is a list of values, not one number, {curve!r}")
        if values.ndim != 1 or steps.shape != values.shape:
            shapes = f"{values.shape} and steps of shape {steps.shape}"
            raise ValueError(f"{name}: one value a step is needed, not values of shape {shapes}")
        if not values.size:
            raise ValueError(f"{name}: there are none; a forecast needs one value")
        if not (np.all(np.isfinite(steps)) and np.all(steps > 0) and np.all(np.diff(steps) > 0)):
            raise ValueError(
                f"{name}: steps are above 0 and rise, each is there once: {few(steps)}"
            )
        values = huge_as_infinite(values)
        good = -np.inf if direction == "minimize" else np.inf
        if np.any(values == good):
            raise ValueError(f"{name}: {good} is too good to be true; leave such values out")
        finite = np.isfinite(values)
        if not finite.any():
            raise ValueError(f"{name}: nothing in it is finite; a forecast needs one value that is")
        ended = np.arange(len(values)) > np.flatnonzero(finite)[-1]
        kept = ~np.isnan(values) | ended
        spacing = float(np.median(np.diff(steps))) if len(steps) > 1 else float(steps[0])
        return cls(steps[kept], np.where(finite, values, -good)[kept], spacing)

    def within(self, bounds: tuple[float, float]) -> Seen:
        """The curve with what rounding has carried beyond bounds on them.

        Raises:
            ValueError: a value lies outside.
        """
        low, high = bounds
        held = within(self.values, bounds)
        out = held[np.isfinite(held) & ((held < low) | (held > high))]
        if out.size:
            raise ValueError(f"{few(out)} lies outside the bounds {low:g} to {high:g}")
        return replace(self, values=held)


def numbers(values: object, name: str) -> Array:
    """Numbers as an array, of any shape; what is masked is missing.

    Raises:
        ValueError: they are not numbers, or too large.
    """
    try:
        return floats(values)
    # A tensor that requires gradients is a RuntimeError.
    except (TypeError, ValueError, RuntimeError, OverflowError) as error:
        raise ValueError(f"{name}: numbers are needed, and no table with gaps: {error}") from None


def check_times(seen: Sequence[Seen], horizon: float, wanted: Array) -> None:
    """Refuses a horizon that has passed, and future steps that are not."""
    if not wanted.size:
        raise ValueError("there are no steps to forecast: `at` is empty")
    for curve in seen:
        last = curve.steps[-1]
        if horizon <= last:
            passed = f"the horizon {horizon:g} has passed: the last step is {last:g}"
            raise ValueError(f"{passed}; there is nothing left to forecast")
        if horizon / _FARTHEST > last:
            far = f"the horizon {horizon:g} is more than {_FARTHEST:g} times the last step {last:g}"
            raise ValueError(f"{far}; nothing can be said of that")
        if wanted.ndim != 1 or not np.all((wanted > last) & (wanted <= horizon)):
            between = f"between the last step {last:g} and the horizon {horizon:g}"
            raise ValueError(f"steps to forecast lie {between}: {few(wanted.ravel())}")


def listed(curves: object, name: str) -> list[Curve]:
    """Curves as a list; those of a table are its rows.

    Raises:
        ValueError: they are not curves.
    """
    rows = curves.to_numpy() if hasattr(curves, "to_numpy") else curves  # of pandas
    is_one = isinstance(rows, str | bytes | Mapping) or getattr(rows, "ndim", 1) == 0
    if is_one or not isinstance(rows, Iterable):
        kind = type(curves).__name__
        raise ValueError(f"{name}: curves in a list are needed, not a {kind}")
    return list(rows)


def bounds_of(bounds: object) -> tuple[float, float]:
    """Bounds as numbers; one that is beyond all measure is none.

    Raises:
        ValueError: they are not bounds.
    """
    try:
        low, high = (number + 0.0 for number in bounds)  # type: ignore[attr-defined]
        right = np.ndim(low) == np.ndim(high) == 0 and low < high
    except (TypeError, ValueError, OverflowError):
        right = False
    if not right:
        told = "bounds are a lower and a higher number, infinite where there is none"
        raise ValueError(f"{told}, not {bounds!r}")
    low, high = huge_as_infinite(np.array([low, high], float)).tolist()
    return low, high


def step_of(horizon: object) -> float:
    """The horizon as a number.

    Raises:
        ValueError: it is not a number, or infinite.
    """
    step = np.nan
    if not isinstance(horizon, str | bytes):
        with suppress(TypeError, ValueError, OverflowError):
            step = floats(horizon).item()  # also of an array with one number
    if not np.isfinite(step):
        raise ValueError(f"the horizon is a step, not {horizon!r}")
    return step


def few(numbers: Array) -> str:
    """Some numbers for a message."""
    shown = ", ".join(f"{x:g}" for x in numbers[:4])
    return f"{shown}, ..." if len(numbers) > 4 else shown
