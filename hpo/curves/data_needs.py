"""How many examples a target needs, from errors at some training-set sizes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hpo.curves.distributions import Array, Distribution
from hpo.curves.measurements import ROUNDING, Scale, number, numbers, places, qualified, read
from hpo.curves.next_size import information
from hpo.curves.scales import meant
from hpo.curves.scaling_posterior import FARTHEST, LEAST_FLOOR, Posterior, mixture_cdf, posterior
from hpo.directions import Direction

Verdict = Literal["reached", "reachable", "unreachable", "unclear"]

_LEAST_PLAIN, _LEAST_IN_POWERS = 1e-3, 1e7  # what is written without a power of ten
_WIDEST = 100.0  # an interval over more than this factor is no answer
# A law with a floor has three parameters: fewer sizes, or ones close together, show no floor.
_SIZES_OF_A_FLOOR, _SPAN_OF_A_FLOOR = 4, 4.0
_AHEAD = (1.0, 1.25, 1.5, 2.0, 3.0, 4.0)
# Histograms have bins of equal mass, and finer ones in the tails.
_LEVELS = np.concatenate(
    [[0.0, 0.0005, 0.002], np.linspace(0.005, 0.995, 100), [0.998, 0.9995, 1.0]]
)
_GRID = 160


@dataclass(frozen=True, repr=False)
class DataNeeds:
    """What `data_needs` found out.

    Args:
        posterior: The average over scaling laws, of logarithms of errors.
        scale: How the metric is turned into an error.
        target: The value to reach, if any.
        confidence: The probability that `interval` and the sentence's intervals state.
        meant: What may be meant by the target, if it seems to be in another unit than the errors.
    """

    posterior: Posterior
    scale: Scale
    target: float | None
    confidence: float
    meant: float | None = None

    def __repr__(self) -> str:
        return f"DataNeeds({self.sentence})"

    @cached_property
    def size(self) -> float:
        """The best single guess of the number of examples that the target needs.

        The number near which, within a factor e and the nearer the more, the needed one most
        probably lies: the mode of its density in log n, smoothed by Epanechnikov's kernel. On
        real curves that is within a factor 2 of the truth more often than a median. It is finite
        wherever the target may be reached, even if `quantile(0.5)` is not; it is inf if the
        probability of that is below (1 - confidence) / 2, and the median if the verdict is
        "reached". It is never outside `interval`.
        """
        if self._is_hopeless:
            return np.inf
        if self.verdict != "reached":
            guess = self._mode()
        elif self.is_best_of_all:
            guess = self._met_from
        else:
            guess = float(self.quantile(self.prob_reachable / 2))
        return float(np.clip(guess, *self.interval))

    def _mode(self) -> float:
        """Where, beyond the data, the smoothed density of the needed size in log n is highest."""
        log_n, reached = self._reached_by
        ahead = np.linspace(0.0, log_n[-1], 800)
        masses = np.diff(np.interp(ahead, log_n, reached))
        step = ahead[1] - ahead[0]
        x = np.arange(-np.floor(1 / step), np.floor(1 / step) + 1) * step
        near = np.convolve(masses, 1 - x**2, mode="same")
        return float(self.posterior.n_last * np.exp(ahead[np.argmax(near)] + step / 2))

    def quantile(self, q: ArrayLike) -> Array:
        """Numbers of examples that suffice with probability q; inf where none does.

        Args:
            q: One probability or several, any shape.

        Returns:
            The numbers, in the shape of q, rising with q. The least answer is the largest size
            whose measurements missed the target, or else the smallest that was measured.

        Raises:
            ValueError: there is no target, or q is not between 0 and 1.
        """
        wanted = np.reshape(numbers(q, "probabilities"), np.shape(q))
        if not np.all((wanted >= 0) & (wanted <= 1)):
            raise ValueError(f"a probability lies between 0 and 1, not {q!r}")
        log_n, reached = self._reached_by
        found = self.posterior.n_last * np.exp(np.interp(wanted, reached, log_n))
        found = np.maximum(found, self._least)  # which the logarithm may have rounded down
        return np.where(wanted <= reached[-1], found, np.inf)

    @property
    def prob_reachable(self) -> float:
        """Probability that some number of examples, below 10,000 times the data, is enough."""
        return float(self._reached_by[1][-1])

    @property
    def prob_reached(self) -> float:
        """Probability that the largest size measured, or a smaller one, is enough."""
        return float(np.interp(0.0, *self._reached_by))

    @property
    def is_surely_reached(self) -> bool:
        """Whether the verdict is "reached", and that is as probable as `confidence` asks."""
        sure = not self.is_best_of_all and self.prob_reached >= self.confidence
        return self.verdict == "reached" and sure

    @property
    def is_probably_reached(self) -> bool:
        """Whether the verdict is "reached", and that is less probable."""
        return self.verdict == "reached" and not (self.is_best_of_all or self.is_surely_reached)

    @property
    def interval(self) -> tuple[float, float]:
        """Numbers of examples between which the needed one lies, with probability `confidence`.

        Its upper end is inf where the target may well never be reached.
        """
        reachable = self.prob_reachable
        if reachable < self.confidence or self._is_hopeless:
            outside = min((1 - self.confidence) / 2, reachable / 2)
            return float(self.quantile(outside)), np.inf
        # The shortest one, by ratio: halves of what is left over would reach into the unlikely.
        below = np.linspace(0.0, reachable - self.confidence, 25)
        lows, highs = self.quantile(below), self.quantile(below + self.confidence)
        shortest = int(np.argmin(highs / lows))
        return float(lows[shortest]), float(highs[shortest])

    @cached_property
    def _reached_by(self) -> tuple[Array, Array]:
        """Logarithms of sizes on a grid, and the probability that the target is reached by each.

        They are relative to the largest size measured, which is exactly 0: exp(log(100)) is above
        100, and whether a size is enough must not depend on the unit of sizes.
        """
        last, least = self.posterior.n_last, self._least
        log_n = np.append(
            np.linspace(np.log(least / last), 0.0, 24)[:-1] if least < last else [],
            np.linspace(0.0, np.log(FARTHEST), 100),
        )
        mean, variance = self.posterior.moments(last * np.exp(log_n))
        below = mixture_cdf(self.posterior.weights, mean, variance, self._log_target())
        # A target that was reached stays reached; nothing is sure.
        return log_n, np.clip(np.maximum.accumulate(below), 0.0, 1.0)

    @property
    def _least(self) -> float:
        """Where the measurements were worse than the target, fewer examples are not asked about."""
        evidence = self.posterior.evidence
        missed = evidence.sizes[evidence.z > self._log_target()]
        return float(missed[-1] if len(missed) else evidence.sizes[0])

    def _log_target(self) -> Array:
        if self.target is None:
            raise ValueError("there is no target: give one, data_needs(sizes, errors, target=0.02)")
        return self.scale.log_error(np.asarray(float(self.target)))

    def error_at(self, n: ArrayLike, *, noise: bool = False) -> Distribution:
        """The metric at n examples.

        Args:
            n: Numbers of examples, at least 1, shape (m,) or one.
            noise: Whether one measurement is meant, with its noise, rather than the expected
                value.

        Returns:
            Distributions of m numbers.

        Raises:
            ValueError: there is no number, or one is below 1 or not finite.
        """
        sizes = places(n)
        return self._distribution(*self.posterior.moments(sizes, noise=noise))

    @cached_property
    def floor(self) -> Distribution:
        """The metric with infinitely many examples: one number's distribution."""
        return self._distribution(*self.posterior.floor_moments())

    def _distribution(self, mean: Array, variance: Array) -> Distribution:
        weights = self.posterior.weights
        columns = zip(mean.T, variance.T, strict=True)
        logs = np.array([_quantiles(weights, m, v) for m, v in columns])
        edges = np.sort(self.scale.metric(logs), axis=1)
        # Values at a bound are one; a histogram needs bins of some width.
        least = 1e-12 * np.maximum(np.abs(edges).max(1, keepdims=True), 1e-12)
        edges = edges + least * np.arange(edges.shape[1])
        return Distribution(edges, np.tile(np.diff(_LEVELS), (len(edges), 1)))

    @cached_property
    def verdict(self) -> Verdict:
        """What can be said about the target.

        - "reached": more likely than not, the largest size measured or a smaller one is enough;
          see `prob_reached`. Below `confidence` the sentence says "probably".
        - "unreachable": the probability to reach it, with less than 10,000 times the data, is below
          (1 - confidence) / 2, and at least 4 sizes, the largest at least 4 times the smallest,
          say so: with less, it would be the prior that speaks. So it would of less than a tenth of
          today's error.
        - "reachable": it is at least `confidence`, and `interval` spans less than a factor 100.
        - "unclear": neither, or there is no target. Where no seed's error differs from size to
          size, not even in its last digit, it is neither: nothing shows that sizes were heeded.

        The best value that there is cannot be told from one that is nearly as good: as a target it
        is "reached" if the largest size has it, and never "reachable".
        """
        if self.target is None:
            return "unclear"
        last = self.posterior.n_last * (1 + ROUNDING)
        if (self._met_from if self.is_best_of_all else self.quantile(0.5)) <= last:
            return "reached"
        if self.is_constant:
            return "unclear"
        if self._is_hopeless and self._tells_of_a_floor:
            return "unreachable"
        if self.is_best_of_all:
            return "unclear"
        low, high = self.interval
        return "reachable" if high / low < _WIDEST else "unclear"

    @property
    def is_constant(self) -> bool:
        """Whether no seed's error differs from size to size: were sizes heeded?"""
        return self.posterior.evidence.is_constant

    @property
    def is_best_of_all(self) -> bool:
        """Whether the target is the best value that the metric can take."""
        return self.target == self.scale.best

    @property
    def _met_from(self) -> float:
        """The least size measured from which on all measurements meet the target; else infinity."""
        evidence = self.posterior.evidence
        missed = np.flatnonzero(evidence.z > self._log_target())
        first = missed[-1] + 1 if len(missed) else 0
        return float(np.append(evidence.sizes, np.inf)[first])

    @property
    def _is_hopeless(self) -> bool:
        return self.prob_reachable < (1 - self.confidence) / 2

    @property
    def _tells_of_a_floor(self) -> bool:
        """Whether sizes suffice to show one, and 10,000 times the data leave enough to show."""
        sizes, last = self.posterior.evidence.sizes, self.posterior.n_last
        span = sizes[-1] / sizes[0] * (1 + ROUNDING)
        if len(sizes) < _SIZES_OF_A_FLOOR or span < _SPAN_OF_A_FLOOR:
            return False
        mean, variance = self.posterior.moments(np.array([last, FARTHEST * last]))
        today, far = (
            _quantiles(self.posterior.weights, m, v)
            for m, v in zip(mean.T, variance.T, strict=True)
        )
        least = np.interp((1 - self.confidence) / 2, _LEVELS, far)
        return bool(least - np.interp(0.5, _LEVELS, today) > np.log(LEAST_FLOOR))

    @property
    def _has_shown_a_floor(self) -> bool:
        """Whether there surely is one, and its interval excludes the target."""
        tail = (1 - self.confidence) / 2
        if self.posterior.prob_no_floor > tail:
            return False
        low, high = self.floor.quantile([tail, 1 - tail])[:, 0]
        goal = float(self.target or 0.0)
        return bool(high < goal if self.scale.direction == "maximize" else low > goal)

    def information(self, n: ArrayLike) -> Array:
        """Expected share of the doubt about the answer that one training at n takes away.

        The answer is the size needed or, without a target, the error at 10 times the data.

        Args:
            n: Numbers of examples, shape (m,) or one.

        Returns:
            Shares between 0 and 1, shape (m,).
        """
        sizes = places(n)
        goal = None if self.target is None else float(self._log_target())
        return information(self.posterior, goal, sizes)

    def rank(self, candidates: ArrayLike, seconds: ArrayLike | None = None) -> Array:
        """Candidate sizes, the one that tells most per second of training first.

        Args:
            candidates: Numbers of examples, shape (m,).
            seconds: How long training at each takes, shape (m,); without, as long as there are
                examples.

        Raises:
            ValueError: there are no candidates, or seconds do not fit them or are not positive.
        """
        sizes = places(candidates)
        cost = sizes if seconds is None else numbers(seconds, "seconds")
        if cost.shape != sizes.shape:
            raise ValueError(
                f"{sizes.shape} candidates and {cost.shape} seconds; each candidate needs its own"
            )
        if not np.all(cost > 0):
            raise ValueError("seconds of training are positive numbers")
        return sizes[np.argsort(-self.information(sizes) / cost, kind="stable")]

    @cached_property
    def next_size(self) -> int:
        """Where to train next, between the largest size measured and four times as much.

        For candidates and costs of your own, see `rank`.
        """
        last = self.posterior.n_last
        return int(_rounded(self.rank([last * factor for factor in _AHEAD])[0], last))

    @property
    def sentence(self) -> str:
        """The answer in one sentence."""
        return self.told(lambda size: f"n = {size:,.0f}")

    def told(self, place: Callable[[float], str]) -> str:
        """The answer in one sentence, for sizes that are not numbers of examples.

        Args:
            place: Words a size: ``lambda size: f"{size:.0f}% of the data"``.
        """
        worse = f"; it gets worse with more data: should it {self.scale.direction}?"
        answer = self._answer(place) + (worse if self._gets_worse else "")
        return qualified(answer, self.target, self.meant)

    @property
    def _gets_worse(self) -> bool:
        """Whether errors rise from size to size, as those of the other direction would."""
        z = self.posterior.evidence.z
        return len(z) >= _SIZES_OF_A_FLOOR and bool(np.all(np.diff(z) > 0))

    def _answer(self, place: Callable[[float], str]) -> str:
        last, level = self.posterior.n_last, f"{self.confidence:.0%}"
        if self.target is None:
            middle, interval = self._told(self.error_at(10 * last))
            return f"10x the data gives {middle} ({level} interval {interval})"
        goal = f"{self.target:g}"
        if self.verdict == "reached":
            return self._already(place, goal, level)
        if self.verdict == "reachable":
            middle, low, high = (_times(x / last) for x in (self.size, *self.interval))
            return f"{middle}x the data ({level} interval {low}-{high}x) reaches {goal}"
        if self.verdict == "unreachable":
            if self._has_shown_a_floor:
                middle, interval = self._told(self.floor)
                bound = "ceiling" if self.scale.direction == "maximize" else "floor"
                return f"more data will not get there: the {bound} is {middle} ({interval})"
            middle, interval = self._told(self.error_at(FARTHEST * last))
            return f"more data will not get there: {FARTHEST:,.0f}x gives {middle} ({interval})"
        if self.is_constant:
            return "not enough evidence: each seed has the same error at all sizes"
        return f"not enough evidence: train at {place(self.next_size)} next"

    def _already(self, place: Callable[[float], str], goal: str, level: str) -> str:
        """That the target is reached, no surer than it is."""
        # Sizes come from logarithms: 100.00000000000004 is 100.
        enough, least, most = (np.ceil(n * (1 - ROUNDING)) for n in (self.size, *self.interval))
        if self.is_best_of_all:
            measured = f"already measured: {goal} from {place(self._met_from)} on"
            return f"{measured}; no data is sure to reach the best value"
        if self.is_surely_reached:
            doubt = f" ({level} interval up to {place(most)})" if enough < most else ""
            return f"already reached: {place(enough)} is enough for {goal}{doubt}"
        # The probability is that of all the data: of the best guess, which is less, it is lower.
        enough_for = f"{place(self.posterior.n_last)} is enough for {goal}"
        end = place(most) if most < np.inf else "never"
        interval = f"{level} interval from {place(least)} to {end}"
        chance = f"with {self.prob_reached:.0%} probability"
        return f"probably reached already: {enough_for} {chance} ({interval})"

    def _told(self, found: Distribution) -> tuple[str, str]:
        """Median and interval of one number, with the digits that tell them apart."""
        tail = (1 - self.confidence) / 2
        numbers = found.quantile([0.5, tail, 1 - tail])[:, 0]
        middle, low, high = _apart(numbers)
        return middle, f"{low}-{high}" if numbers[1] >= 0 else f"{low} to {high}"


def _apart(numbers: Array) -> list[str]:
    """Numbers with the digits that tell them apart."""
    largest, width = float(np.abs(numbers).max()), float(np.ptp(numbers))
    finest = 1 - np.log10(max(width, 1e-9 * largest, 1e-300))  # decimals
    if not largest or _LEAST_PLAIN <= largest < _LEAST_IN_POWERS:
        return [f"{x:.{int(np.clip(np.ceil(finest), 0, 6))}f}" for x in numbers]
    digits = int(np.clip(np.ceil(finest + np.log10(largest)), 2, 6))
    return [f"{x:.{digits}g}" for x in numbers]


def _times(factor: float) -> str:
    """1.8, 45, 1,200: how many times the data."""
    return f"{factor:.2g}" if factor < 99.5 else f"{factor:,.0f}"


def data_needs(
    sizes: ArrayLike,
    errors: ArrayLike,
    target: float | None = None,
    *,
    direction: Direction = "minimize",
    bounds: tuple[float, float] | None = None,
    confidence: float = 0.9,
) -> DataNeeds:
    """Estimates how error falls with training-set size, and how many examples a target needs.

    A Bayesian average over scaling laws (power law, exponential, logarithmic power law, power law
    with one break, each with a floor; and no progress at all) with noise and with strays from any
    law: see `hpo.curves.scaling_laws` and `hpo.curves.scaling_posterior` for equations, priors and
    sources. Laws are averaged on a grid with amplitudes integrated out, tens of milliseconds a
    call, the same answer each time. How far forecasts are spread was calibrated on LCDB 1.0.

    Errors are taken relative to the best value the metric can have: the bound or, without
    `bounds`, 0 for errors that are never negative, 1 for scores between 0 and 1, and otherwise
    a value three times as far from the measurements as they are apart.

    One size, or constant errors, are answered with much doubt; and where each seed's are constant
    nothing is said of a target that they miss. The order of sizes does not matter; several errors
    of one size are averaged. In rows of several, a column is a seed: what is alike in a seed's
    errors at neighbouring sizes, as where its parts are nested, is no evidence twice. Errors that
    are 0 count as half the smallest other one.

    Args:
        sizes: Training-set sizes, at least 1, shape (k,); repeats allowed.
        errors: Errors at these sizes, shape (k,), or (k, n_seeds) for sizes without repeats;
            NaN where missing.
        target: The value of the metric to reach.
        direction: "maximize" for scores such as accuracy.
        bounds: Lowest and highest value that the metric can take.
        confidence: Probability that intervals hold the truth.

    Returns:
        Sizes needed, errors at any size, the floor, a verdict and a sentence.

    Raises:
        ValueError: sizes and errors do not fit; a size is below 1 or not finite; an error is
            infinite or outside the bounds, or none is a number; the target is not finite, outside
            the bounds or, without bounds, in per cent where all scores lie between 0 and 1; the
            confidence is not between 0 and 1.
    """
    if not 0 < number(confidence, "confidence", 0.9) < 1:
        raise ValueError(f"confidence lies between 0 and 1, such as 0.9, not {confidence}")
    evidence, scale = read(sizes, errors, target, direction, bounds)
    doubt = None
    if target is not None and bounds is None:
        y = numbers(errors, "errors")
        doubt = meant(float(target), y[~np.isnan(y)], direction)
    return DataNeeds(posterior(evidence), scale, target, confidence, doubt)


def _quantiles(weights: Array, mean: Array, variance: Array) -> Array:
    """Quantiles `_LEVELS` of a mixture of Gaussians, on a grid between its extremes."""
    std = np.sqrt(variance)
    x = np.linspace((mean - 4 * std).min(), (mean + 4 * std).max(), _GRID)
    # Most of the mass lies in a small part of that: a second grid between its quantiles.
    rough = np.maximum.accumulate(mixture_cdf(weights, mean[:, None], variance[:, None], x))
    low, high = np.interp([1e-4, 1 - 1e-4], rough, x)
    x = np.concatenate([x[:1], np.linspace(low, high, _GRID), x[-1:]])
    below = mixture_cdf(weights, mean[:, None], variance[:, None], x)
    below = np.maximum.accumulate(np.concatenate([[0.0], below[1:-1], [1.0]]))
    return np.asarray(np.interp(_LEVELS, below, x))


def _rounded(size: float, last: float) -> float:
    """A size with two digits, unless it is the one that was measured."""
    if size <= last:
        return last
    unit = 10.0 ** (np.floor(np.log10(size)) - 1)
    return float(max(np.round(size / unit) * unit, np.floor(last) + 1))
