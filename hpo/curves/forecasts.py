"""Where a learning curve is going: the distribution of its values at future steps."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike

from hpo.curves import features, network
from hpo.curves.distributions import Array, Distribution, mixture
from hpo.curves.scales import LOWEST, Scale, Scales
from hpo.curves.seen import Curve, Seen, bounds_of, check_times, listed, numbers, step_of
from hpo.directions import Direction

MOST_HISTORY = 50
"""Finished curves that are looked at; of more, so many of them, see `spread`."""
_SAME = 1e-6  # goodness that is nearer than this is the same
_AT_ONCE = 64  # curves that the network is given together
_DOUBT = 2.5  # finished curves: what they say weighs against what is so without them
_PARTS = 8  # of a bin, where values span decades
_MOST_STEPS = 1000  # that are forecast where nobody says at which
_KNOTS = 24  # future steps that the network is asked for; between them it is interpolated


@dataclass(frozen=True, repr=False)
class Forecast(Distribution):
    """The distributions of a curve's values at m future steps.

    Args:
        steps: The steps, shape (m,).
        direction: Whether lower or higher values are better.
        same: The lowest and the highest value that are the same as the last one that was seen.
    """

    steps: Array
    direction: Direction
    same: tuple[float, float]

    def __repr__(self) -> str:
        low, median, high = self.final.quantile([0.05, 0.5, 0.95])[:, 0]
        n = len(self.steps)
        ahead = f"; {n} steps" if n > 1 else ""
        return (
            f"Forecast(at step {self.steps.max():g}: {median:.4g}, "
            f"90% interval {low:.4g} to {high:.4g}{ahead})"
        )

    @property
    def final(self) -> Forecast:
        """The forecast of the latest step alone."""
        at = [int(np.argmax(self.steps))]
        return replace(self, edges=self.edges[at], masses=self.masses[at], steps=self.steps[at])

    def prob_better_than(self, x: ArrayLike) -> Array:
        """Probability to be better than x, not just as good, shape (m,)."""
        (low, high), at = self.same, self._each(x)
        is_same = (low <= at) & (at <= high)
        if self.direction == "minimize":
            return self.cdf(np.where(is_same, low, at))
        return 1.0 - self.cdf(np.where(is_same, high, at))

    def sample(self, n: int, rng: np.random.Generator | int) -> Array:
        """Draws n curves, shape (n, m): each keeps its rank among the possible at all steps.

        Args:
            n: How many.
            rng: What draws them, or its seed.

        Raises:
            ValueError: n or rng is something else.
        """
        if not _is_count(n):
            raise ValueError(f"n is how many curves to draw, a whole number, not {n!r}")
        if not (isinstance(rng, np.random.Generator) or _is_count(rng)):
            raise ValueError(
                f"rng is a seed such as 0, or numpy.random.default_rng(0), not {rng!r}"
            )
        return self.quantile(np.random.default_rng(rng).uniform(size=n))


def forecast(
    values: ArrayLike,
    horizon: float,
    *,
    steps: ArrayLike | None = None,
    direction: Direction = "minimize",
    history: Sequence[Curve] | Array | None = None,
    bounds: tuple[float, float] | None = None,
    at: ArrayLike | None = None,
) -> Forecast:
    """Forecasts a learning curve.

    The distributions come from a network that was trained on curves drawn from a broad prior
    (`hpo.curves.prior`). A value that is NaN, or infinite on the bad side, is a run that diverged:
    the worst there is. One that is followed by finite values was not measured, and is left out.
    A loss has no worst value, and may blow up: its mean and standard deviation count that slight
    chance, of which a median and an interval say nothing.

    Args:
        values: What was seen, shape (n,); one point is enough.
        horizon: The last step that there will be.
        steps: Steps of the values, above 0 and rising, shape (n,); without, 1 to n.
        direction: Whether lower or higher values are better.
        history: Finished curves of the same study, each to its own end; at most 50 are looked at.
        bounds: Lowest and highest possible value, infinite where there is none. Without, they are
            guessed: a loss that was never negative stays so, and scores between 0 and 1 stay
            there; scores that were never above 0 stay so or do not, which is as probable; others,
            such as accuracies in per cent, have none.
        at: Steps to forecast, shape (m,); without, all that come after the last one up to the
            horizon, as far apart as those that were seen; of more than 1,000 as many, evenly
            spread.

    Raises:
        ValueError: there is nothing finite among the values, steps do not rise, the horizon has
            passed, or a value is out of bounds; it says which.
    """
    _check(direction)
    horizon = step_of(horizon)
    seen = Seen.of(values if steps is None else (steps, values), direction, "values")
    wanted = _future(seen, horizon) if at is None else np.atleast_1d(numbers(at, "at"))
    return _forecast_all([seen], horizon, direction, history, bounds, wanted)[0]


def forecast_batch(
    curves: Sequence[Curve],
    horizon: float,
    *,
    direction: Direction = "minimize",
    history: Sequence[Curve] | Array | None = None,
    bounds: tuple[float, float] | None = None,
    at: ArrayLike | None = None,
) -> list[Forecast]:
    """Forecasts many curves of one study at once, as `forecast` does each.

    Args:
        curves: What was seen of each.
        horizon: The last step that there will be.
        direction: Whether lower or higher values are better.
        history: Finished curves of the same study.
        bounds: Lowest and highest possible value.
        at: Steps to forecast, shape (m,); without, the horizon alone.

    Raises:
        ValueError: as `forecast` does; it says which curve.
    """
    _check(direction)
    horizon = step_of(horizon)
    listed_curves = enumerate(listed(curves, "curves"))
    seen = [Seen.of(curve, direction, f"curve {i}") for i, curve in listed_curves]
    wanted = np.atleast_1d(numbers(horizon if at is None else at, "at"))
    return _forecast_all(seen, horizon, direction, history, bounds, wanted)


def _forecast_all(
    seen: Sequence[Seen],
    horizon: float,
    direction: Direction,
    history: Sequence[Curve] | Array | None,
    bounds: tuple[float, float] | None,
    wanted: Array,
) -> list[Forecast]:
    check_times(seen, horizon, wanted)
    listed_past = enumerate([] if history is None else listed(history, "history"))
    past = _some([Seen.of(c, direction, f"history {i}") for i, c in listed_past], direction)
    if bounds is not None:
        bounds = bounds_of(bounds)
        seen, past = [c.within(bounds) for c in seen], [c.within(bounds) for c in past]
    study = _Study(past, horizon, direction, Scales([p.values for p in past], direction, bounds))
    parts = (seen[i : i + _AT_ONCE] for i in range(0, len(seen), _AT_ONCE))
    return [found for part in parts for found in study.forecasts(part, wanted)]


@dataclass(frozen=True)
class _Answer:
    """To how good values may become.

    Args:
        power: Of how much farther there is to go, by which the best value is farther off.
        crosses_zero: Whether scores that were never above 0 go beyond.
    """

    power: float
    crosses_zero: bool


@dataclass(frozen=True)
class _Study:
    """What curves of one study have in common.

    Args:
        past: Finished curves.
        horizon: The last step that there will be.
        direction: Whether lower or higher values are better.
        scales: On which curves are compared with these.
    """

    past: Sequence[Seen]
    horizon: float
    direction: Direction
    scales: Scales

    def forecasts(self, curves: Sequence[Seen], wanted: Array) -> list[Forecast]:
        """The forecasts of some curves at the wanted steps, one for each.

        Where nothing tells how good values may become, several guesses are as probable: as far
        from here as they have come, or as much farther as there are more steps to go, or between.
        So are two where scores were never above 0: that they end there, and that they do not.
        """
        answers = [self._answers(c) for c in curves]
        parts: list[list[Forecast]] = [[] for _ in curves]
        for answer in dict.fromkeys(chain.from_iterable(answers)):
            rows = [i for i, those in enumerate(answers) if answer in those]
            found = self._by([self._scaled(curves[i], answer) for i in rows], wanted)
            for i, one in zip(rows, found, strict=True):
                parts[i].append(one)
        return [_mixed(each) for each in parts]

    def _answers(self, curve: Seen) -> list[_Answer]:
        """All that are as probable."""
        crosses = self.scales.may_cross_zero(curve.values)
        found = [_Answer(0.0, each) for each in (False, True)[: 1 + crosses]]
        if not self.past and not self._scaled(curve, found[-1]).scale.has_ceiling:
            found += [_Answer(power, crosses) for power in (0.5, 1.0)]
        return found

    def _scaled(self, curve: Seen, answer: _Answer) -> _Scaled:
        """A curve on a scale."""
        reach = (self.horizon / float(curve.steps[-1])) ** answer.power
        scale = self.scales.of(curve.values, reach, crosses_zero=answer.crosses_zero)
        return _Scaled(curve.steps, scale.goodness(curve.values), scale)

    def _by(self, curves: Sequence[_Scaled], wanted: Array) -> list[Forecast]:
        """The forecasts of curves on these scales."""
        knots = np.stack([_knots(c.now, wanted) for c in curves])
        p = self._masses(curves, knots)
        return [
            self._read(_between(one, at, wanted, c.now), c, wanted)
            for one, at, c in zip(p, knots, curves, strict=True)
        ]

    def _masses(self, curves: Sequence[_Scaled], knots: Array) -> Array:
        """The network's probabilities at knots, shape (r, q), as (r, q, n_bins)."""
        averages, x = _described(curves, self.horizon)
        asked = zip(curves, knots, strict=True)
        queries = np.stack([features.of_query(c.now, at, self.horizon) for c, at in asked])
        weights = network.shipped_weights()
        p = network.masses(weights, x, queries)
        if not (k := len(self.past)):
            return p
        others = self._others(curves, knots)
        pairs = features.of_pair(
            averages,
            np.array([c.v[-1] for c in curves]),
            np.stack([o.averages for o in others]),
            np.stack([o.last for o in others]),
            np.stack([o.rough for o in others]),
        )
        residuals = np.stack([o.residuals for o in others])
        with_others = network.masses(weights, x, queries, pairs, residuals)
        mixed: Array = (k * with_others + _DOUBT * p) / (k + _DOUBT)
        return mixed

    def _others(self, curves: Sequence[_Scaled], knots: Array) -> list[_Others]:
        """The finished curves as they are beside each curve."""
        known: dict[tuple[Scale, float], _Others] = {}
        for c, at in zip(curves, knots, strict=True):
            if (c.scale, c.now) not in known:
                share, shares = c.now / self.horizon, at / self.horizon
                known[c.scale, c.now] = _others(self.past, share, shares, c.scale)
        return [known[c.scale, c.now] for c in curves]

    def _read(self, p: Array, curve: _Scaled, wanted: Array) -> Forecast:
        scale, last = curve.scale, curve.v[-1]
        edges, p = _with_ties(curve.v, p, scale)
        edges, p = _within(last + edges, p, scale)
        if not scale.is_linear:
            edges, p = _finer(edges, p)
        rims = scale.values(edges)
        if self.direction == "minimize":
            rims, p = rims[::-1], p[:, ::-1]
        low, high = sorted(scale.values(last + np.array([-3.0, 3.0]) * _SAME))
        return Forecast(np.tile(rims, (len(wanted), 1)), p, wanted, self.direction, (low, high))


@dataclass(frozen=True, eq=False)
class _Scaled:
    """A curve on its scale.

    Args:
        steps: Its steps, shape (n,).
        v: Goodness at these, shape (n,).
        scale: What made goodness of its values.
    """

    steps: Array
    v: Array
    scale: Scale

    @property
    def now(self) -> float:
        """Its last step."""
        return float(self.steps[-1])


def _described(curves: Sequence[_Scaled], horizon: float) -> tuple[Array, Array]:
    """Averages over windows, (r, n_windows), and features, (r, n_features), of curves."""
    averages = np.empty((len(curves), features.N_WINDOWS))
    x = np.empty((len(curves), features.N_FEATURES))
    for rows in _alike(curves):
        v = np.stack([curves[i].v for i in rows])
        averages[rows], x[rows], _ = features.of_curve(v, curves[rows[0]].steps, horizon)
    return averages, x


def _alike(curves: Sequence[Seen | _Scaled]) -> Iterable[list[int]]:
    """The places of curves that were seen at the same steps, together."""
    places: dict[bytes, list[int]] = defaultdict(list)
    for i, curve in enumerate(curves):
        places[curve.steps.tobytes()].append(i)
    return places.values()


@dataclass(frozen=True)
class _Others:
    """Finished curves up to some share of their horizons, and what came of them."""

    averages: Array
    last: Array
    rough: Array
    residuals: Array


def _others(past: Sequence[Seen], share: float, shares: Array, scale: Scale) -> _Others:
    """Finished curves, each up to the same share of its own horizon.

    Args:
        past: The curves, k of them.
        share: Of the horizon, up to which another curve was seen.
        shares: Those of the future steps, shape (q,).
        scale: The study's.
    """
    k = len(past)
    averages, residuals = np.empty((k, features.N_WINDOWS)), np.empty((k, len(shares)))
    last, rough = np.empty(k), np.empty(k)
    for rows in _alike(past):
        steps = past[rows[0]].steps
        v = scale.goodness(np.stack([past[i].values for i in rows]))
        now, later = share * steps[-1], shares * steps[-1]
        n = max(int(np.searchsorted(steps, now * (1 + 1e-9), side="right")), 1)
        averages[rows] = v[:, :n] @ features.windows(steps[:n], now).T
        rough[rows] = features.noise(v[:, :n])[:, 1]
        last[rows] = _at(now, steps, v)[:, 0]
        residuals[rows] = _at(later, steps, v) - last[rows, None]
    return _Others(averages, last, rough, residuals)


def _at(wanted: float | Array, steps: Array, v: Array) -> Array:
    """Values of curves between their steps, shape (k, q)."""
    where = np.interp(np.atleast_1d(wanted), steps, np.arange(float(len(steps))))
    low = np.minimum(where.astype(int), max(len(steps) - 2, 0))
    share = where - low
    high = np.minimum(low + 1, len(steps) - 1)
    between: Array = (1 - share) * v[:, low] + share * v[:, high]
    return between


def _mixed(parts: Sequence[Forecast]) -> Forecast:
    """What is as probable as each of several forecasts of the same steps."""
    if len(parts) == 1:
        return parts[0]
    edges, masses = mixture(parts)
    return replace(parts[0], edges=edges, masses=masses)


def _is_count(value: object) -> bool:
    return isinstance(value, Integral) and int(value) >= 0


def _check(direction: str) -> None:
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction is minimize or maximize, not {direction!r}")


def spread(n: int, always: int) -> list[int]:
    """The places of at most 50 of n finished curves, spread evenly, one of them in any case.

    That should be the best one's: without it, what it reached may seem out of reach.
    """
    if n <= MOST_HISTORY:
        return list(range(n))
    places = np.linspace(0, n - 1, MOST_HISTORY).round().astype(int)
    places[np.argmin(np.abs(places - always))] = always
    return [int(i) for i in places]


def _some(history: list[Seen], direction: Direction) -> list[Seen]:
    """At most 50 of the finished curves."""
    if not history:
        return []
    ends = [float(curve.values[-1]) for curve in history]
    best = int(np.argmin(ends) if direction == "minimize" else np.argmax(ends))
    return [history[i] for i in spread(len(history), best)]


def _future(seen: Seen, horizon: float) -> Array:
    """Steps from the last one to the horizon, which is one of them."""
    gap, last = seen.spacing, float(seen.steps[-1])
    n = (horizon - last) / gap * (1 + 1e-9) if horizon > last else 0
    if n > _MOST_STEPS:
        return np.linspace(last + gap, horizon, _MOST_STEPS)
    steps: Array = last + gap * np.arange(1.0, int(n) + 1)
    if n < 1 or horizon - steps[-1] > 1e-6 * gap:
        return np.append(steps, horizon)
    steps[-1] = horizon
    return steps


def _knots(now: float, wanted: Array) -> Array:
    """The steps that the network is asked for: the wanted ones, or some between them."""
    if len(wanted) <= _KNOTS:
        return wanted
    first, last = wanted.min() - now, wanted.max() - now
    knots: Array = now + np.geomspace(first, last, _KNOTS)
    knots[0], knots[-1] = wanted.min(), wanted.max()
    return knots


def _between(p: Array, knots: Array, wanted: Array, now: float) -> Array:
    """Probabilities at the wanted steps, shape (m, n_bins), from those at knots."""
    if len(knots) == len(wanted):
        return p
    at = np.interp(np.log(wanted - now), np.log(knots - now), np.arange(len(knots)))
    low = np.minimum(at.astype(int), len(knots) - 2)
    share = (at - low)[:, None]
    mixed: Array = (1 - share) * p[low] + share * p[low + 1]
    return mixed


def _with_ties(v: Array, p: Array, scale: Scale) -> tuple[Array, Array]:
    """Puts what is expected to be exactly as before into a bin of its own.

    The network has two bins beside the last value, and a value that is repeated is in the upper
    one. So as far as a curve has repeated its values lately, what that bin holds beyond the
    lower one is no progress.

    Args:
        v: Goodness so far, shape (n,).
        p: Probabilities of the network's bins, shape (m, n_bins).
        scale: Where bounds are: the bin lies on this side of them, or it would lose a half.

    Returns:
        Rims, shape (n_bins + 2,), and probabilities, shape (m, n_bins + 1).
    """
    lately = v[-max(3, len(v) // 4) - 1 :]
    repeated = float(np.mean(np.abs(np.diff(lately)) < _SAME)) if len(v) > 1 else 0.0
    middle = network.N_BINS // 2
    same = repeated * np.maximum(p[:, middle] - p[:, middle - 1], 0.0)
    low, high = -_SAME, _SAME
    if scale.has_floor and v[-1] < _SAME:
        low, high = 0.0, 2 * _SAME
    elif scale.has_ceiling and v[-1] > 1.0 - _SAME:
        low, high = -2 * _SAME, 0.0
    rims = np.concatenate([network.RIMS[:middle], [low, high], network.RIMS[middle + 1 :]])
    below, above = p[:, :middle].copy(), p[:, middle:].copy()
    above[:, 0] -= same
    # Elsewhere the density stays what it was: the new bin takes its part of both beside it.
    from_below = below[:, -1] * low / network.RIMS[middle - 1]
    from_above = above[:, 0] * high / network.RIMS[middle + 1]
    below[:, -1] -= from_below
    above[:, 0] -= from_above
    within = same + from_below + from_above
    return rims, np.concatenate([below, within[:, None], above], axis=1)


def _finer(edges: Array, p: Array) -> tuple[Array, Array]:
    """Cuts bins into equal parts, which are as probable: on another scale they are not as wide."""
    at = np.arange(_PARTS * (len(edges) - 1) + 1) / _PARTS
    return np.interp(at, np.arange(len(edges)), edges), np.repeat(p / _PARTS, _PARTS, axis=1)


def _within(edges: Array, p: Array, scale: Scale) -> tuple[Array, Array]:
    """Cuts off bins where no value can be.

    Returns:
        The rims that are left, shape (k + 1,), and their bins' probabilities, shape (m, k).
    """
    low = 0.0 if scale.has_floor else LOWEST - 0.2
    high = 1.0 if scale.has_ceiling else np.inf
    cut = np.clip(edges, low, high)
    share = np.diff(cut) / np.diff(edges)
    kept = share > 1e-9
    first, last = np.flatnonzero(kept)[[0, -1]]
    left = (p * share)[:, first : last + 1]
    rims = cut[first : last + 2]
    return rims, left / left.sum(axis=1, keepdims=True)
