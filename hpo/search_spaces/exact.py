"""Arithmetic that must come out the same here, in Optuna and on the next machine."""

from __future__ import annotations

from decimal import Decimal

_PLAIN = frozenset((bool, int, float, str, type(None)))


def decimal(number: float) -> Decimal:
    """The number as it is printed, which is what the user wrote."""
    return Decimal(str(float(number)))


def multiple(low: float, step: float, k: int) -> float:
    """`low + k * step` in decimals: 0.3, not 0.1 + 0.2."""
    return float(decimal(low) + k * decimal(step))


def last_multiple(low: float, high: float, step: float) -> float:
    """The largest `low + k * step` up to `high`, by the steps Optuna takes to find it."""
    width = decimal(high) - decimal(low)
    if width % decimal(step) == 0:
        return high
    return float(width // decimal(step) * decimal(step) + decimal(low))


def powers(low: int, high: int, base: int) -> tuple[int, ...]:
    """The powers of `base`, the zeroth included, from `low` to `high`."""
    found, power = [], 1
    while power <= high:
        if power >= low:
            found.append(power)
        power *= base
    return tuple(found)


def plain(value: object) -> object:
    """Python's own scalar for NumPy's, PyTorch's and the subclasses that YAML readers make."""
    if type(value) in _PLAIN:
        return value
    if getattr(value, "shape", None) == ():
        value = value.item()  # type: ignore[attr-defined]  # NumPy is not imported here
    for kind in (bool, int, float):
        if isinstance(value, kind):
            return kind(value)
    return str.__str__(value) if isinstance(value, str) else value  # str() of an enum is its name
