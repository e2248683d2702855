"""What the network sees of a learning curve: averages over windows of time, noise, trend.

Values are *goodness* here: 0 to 1, higher is better (`hpo.curves.scales`). Whatever depends on a
difference of values is given twice, on a linear scale and on one that tells a difference of 0.0005
from one of 0.001.
"""

from __future__ import annotations

import math

import numpy as np

from hpo.curves.distributions import Array

_RIMS = np.array(
    [
        *(0.0, 0.01, 0.02, 0.04, 0.07, 0.1, 0.15, 0.2, 0.27, 0.35, 0.43),
        *(0.51, 0.59, 0.67, 0.74, 0.8, 0.85, 0.9, 0.94, 0.97, 1.0),
    ]
)
"""Rims of the windows, as shares of the time that was seen; the last ones are narrow."""

N_WINDOWS = len(_RIMS) - 1
N_FEATURES = 2 * N_WINDOWS + 17
"""Numbers that describe a curve."""
N_OF_QUERY = 4
"""Numbers that describe a future step."""
N_OF_PAIR = 2 * N_WINDOWS + 2
"""Numbers that describe another curve beside this one."""

FINEST = 0.005
"""Differences below this are told apart on a linear scale, above it on a logarithmic one."""


def symlog(difference: Array, finest: float = FINEST) -> Array:
    """asinh(d / finest): linear below `finest`, logarithmic above."""
    logged: Array = np.arcsinh(difference / finest)
    return logged


def windows(steps: Array, now: float) -> Array:
    """Weights that average a curve's values over windows of time, shape (n_windows, n).

    A window without a point takes what lies between its neighbours.

    Args:
        steps: Steps of the values, rising, shape (n,).
        now: The step up to which time is divided.
    """
    share = steps / now
    left, right = _RIMS[:-1, None] + 1e-9, _RIMS[1:, None] + 1e-9
    inside = ((share > left) & (share <= right)).astype(float)
    count = inside.sum(axis=1, keepdims=True)
    centres = (_RIMS[:-1] + _RIMS[1:]) / 2
    after = np.clip(np.searchsorted(share, centres), 1, max(len(share) - 1, 1))
    between = np.zeros_like(inside)
    if len(share) == 1:
        between[:, 0] = 1.0
    else:
        gap = share[after] - share[after - 1]
        weight = np.clip((centres - share[after - 1]) / gap, 0.0, 1.0)
        rows = np.arange(N_WINDOWS)
        between[rows, after] = weight
        between[rows, after - 1] = 1.0 - weight
    weights: Array = np.where(count > 0, inside / np.maximum(count, 1.0), between)
    return weights


def noise(v: Array) -> Array:
    """How rough curves are: overall, lately, and lately but for jumps; shape (..., 3).

    From second differences, (v_i - 2 v_(i-1) + v_(i-2)) / sqrt(6), whose standard deviation is
    that of white noise.

    Args:
        v: Goodness, shape (..., n).
    """
    if v.shape[-1] < 3:
        return _log_of_noise(np.full((*v.shape[:-1], 3), 0.003))
    second = (v[..., 2:] - 2 * v[..., 1:-1] + v[..., :-2]) / math.sqrt(6)
    lately = second[..., -max(3, v.shape[-1] // 4) :]
    rough = [
        np.sqrt(np.mean(second**2, axis=-1)),
        np.sqrt(np.mean(lately**2, axis=-1)),
        np.median(np.abs(lately), axis=-1),
    ]
    return _log_of_noise(np.stack(rough, axis=-1))


def _log_of_noise(sigma: Array) -> Array:
    logged: Array = np.log(sigma + 1e-5) / 4 + 1.5
    return logged


def of_curve(v: Array, steps: Array, horizon: float) -> tuple[Array, Array, Array]:
    """Describes curves that were seen at the same steps.

    Args:
        v: Goodness, shape (..., n).
        steps: Steps of these, shape (n,).
        horizon: The last step that there will be.

    Returns:
        Averages over windows, shape (..., n_windows); all features, shape (..., n_features);
        noise, shape (..., 3).
    """
    n, now = v.shape[-1], float(steps[-1])
    averages = v @ windows(steps, now).T
    last = v[..., -1:]
    rough = noise(v)
    lags = np.stack([v[..., max(n - 2 - i, 0)] for i in range(4)], axis=-1)
    best, worst = v.max(axis=-1, keepdims=True), v.min(axis=-1, keepdims=True)
    spacing = float(steps[-1] - steps[0]) / (n - 1) if n > 1 else float(steps[0])
    times = [
        now / horizon,
        math.log(now / horizon) / 2,
        math.log(n) / 3 - 1,
        math.log(horizon / spacing) / 3 - 1,
        float(n >= 3),
    ]
    described = [
        symlog(averages - last) / 4,
        (averages - last) * 3,
        symlog(lags - last) / 4,
        *(last, v[..., :1], best),
        symlog(best - last, 0.01) / 4,
        symlog(last - worst, 0.01) / 4,
        rough,
        np.broadcast_to(times, (*v.shape[:-1], len(times))),
    ]
    return averages, np.concatenate(described, axis=-1), rough


def of_query(now: float, steps: Array, horizon: float) -> Array:
    """Describes future steps, shape (m,) to (m, n_of_query)."""
    ahead = (steps - now) / horizon
    described = [ahead, np.log(steps / now), np.log(20 * ahead + 0.05), steps / horizon]
    return np.stack(described, axis=-1)


def of_pair(averages: Array, last: Array, others: Array, others_last: Array, rough: Array) -> Array:
    """Describes other curves, up to the same share of their horizon, beside a curve.

    Args:
        averages: Of the curves over windows, shape (r, n_windows).
        last: Their last values, shape (r,).
        others: Averages of the others, shape (r, k, n_windows).
        others_last: Values of the others at that time, shape (r, k).
        rough: Noise of the others lately, shape (r, k).

    Returns:
        Shape (r, k, n_of_pair).
    """
    apart = others - averages[:, None]
    described = [
        symlog(apart, 0.01) / 5,
        apart * 3,
        symlog(others_last - last[:, None], 0.01)[..., None] / 5,
        rough[..., None],
    ]
    return np.concatenate(described, axis=-1)
