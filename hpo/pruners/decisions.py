"""Whether a trial is worth going on with: a pure function of learning curves."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeAlias

import numpy as np

from hpo.curves import Curve, Forecast, forecast_batch
from hpo.curves.distributions import Array
from hpo.curves.scales import confirmed, huge_as_infinite
from hpo.directions import Direction

Steps: TypeAlias = tuple[Array, Array]
"""A curve's steps, rising, and its values."""

THRESHOLD = 0.2
"""A trial may be condemned whose probability to beat the incumbent is below this times the share of
the trial's steps that is left.

It was chosen together with how far the past has to agree, below; benchmarks/curves has why.
"""

AUDIT = 0.02
"""The share of condemned trials that is run to the end all the same."""

STARTUP_TRIALS = 3
"""Finished trials before any is condemned; forecasts do without examples, better with some."""

_LEAST_SHARE = 1 / 100  # of the threshold: for a forecast that the past does not confirm
_TIMES = 3.0  # the most that finished trials gained: where so much is needed, all of it holds
_POWER = 5.0  # by which less of it holds where less is needed
_FEWEST = 3  # finished trials that say anything
_ROUNDED = 1e-6  # relative difference of shares of steps that are the same

_LAST = 0.1  # of its steps: a trial that has no more to go is not judged
_TAIL = 0.05  # on either side of a 90% interval
_MIDDLE = np.linspace(0.16, 0.84, 69)  # probabilities whose quantiles stand for the middle
_MOST_LEFT = 0.99  # as it is written, of a trial that has begun
_LEAST_PERCENT, _WHOLE_PERCENT = 0.1, 10  # as percentages are written
_DOUBT = 2.0  # what came true and was expected, before any audit: a in `contradiction`
_EACH_UP_TO = 10  # reports
_PACE = 1.1  # and from there on, a judgement for each so many times as many
_AUDITS = 7  # keeps the lots of audits apart from other randomness of the same seed


@dataclass(frozen=True)
class Past:
    """What the finished trials of a study say.

    Args:
        n_finished: How many there are.
        incumbent: The best of their last reports; None while there is none.
        history: Their curves, or a sample of these.
        audits: Of each trial that was condemned and run to its end all the same: what was expected
            of it, and its last report.
        surplus: What a trial's value is above its last report, typically.
    """

    n_finished: int
    incumbent: float | None
    history: Sequence[Curve] = ()
    audits: Sequence[tuple[Decision, float]] = ()
    surplus: float = 0.0

    @property
    def reported(self) -> Array:
        """All finite values of its curves."""
        curves = (as_arrays(curve)[1] for curve in self.history)
        finite: Array = np.concatenate([np.empty(0), *(v[np.isfinite(v)] for v in curves)])
        return finite


@dataclass(frozen=True)
class Decision:
    """What was expected of a trial at one of its steps.

    All but the mean is about reports, of which a curve is made; a trial may return another number.

    Args:
        step: The last step that it had reported.
        horizon: Its last step, if it is run to the end.
        probability: That its last report beats the incumbent by more than the tolerance.
        mean: Of the trial's value, for samplers: of the middle 68% of the forecast of its last
            report, and the surplus above it that finished trials have. A chance to blow up, to
            which a loss has no bound, would outweigh all else.
        std: Half as far as these reach, which of a normal distribution is one standard deviation.
        median: Of its last report.
        low: Below it, the last report lies with a probability of 5%.
        high: Above it, likewise.
        incumbent: The best last report of a finished trial.
        tolerance: What an improvement has to exceed.
        threshold: The probability below which it is not worth going on, after all that lowers it.
        needed: By how much it has to improve to reach the incumbent, and the tolerance beyond it;
            negative if it has.
        gained: What finished trials gained at most from the same share of their steps on; 0 if
            none has gained anything.
        n_compared: Finished trials of which that is known.
        left: The share of its steps that was to come; None of decisions of an earlier day, whose
            thresholds did not fall with it.
    """

    step: float
    horizon: float
    probability: float
    mean: float
    std: float
    median: float
    low: float
    high: float
    incumbent: float
    tolerance: float
    threshold: float
    needed: float = 0.0
    gained: float = 0.0
    n_compared: int = 0
    left: float | None = None

    @property
    def condemns(self) -> bool:
        """Whether the trial is not worth going on with."""
        return self.probability < self.threshold

    def sentence(self, unit: str) -> str:
        """The reason, for people: ``epoch 7 of 50: 0.8% chance to beat 0.0213 (...)``.

        Args:
            unit: What a step is called.
        """
        beat = f"{self.incumbent:.3g}" + (f" by {self.tolerance:g}" if self.tolerance else "")
        chance, _ = _percents(self.probability, self.threshold)
        return (
            f"{unit} {self.step:g} of {self.horizon:g}: {chance} chance to beat {beat} "
            f"(forecast {self.median:.3g}, 90% interval {self._interval}){self._past}"
        )

    @property
    def _past(self) -> str:
        """What finished trials have to say, if it is against the trial."""
        n = self.n_compared
        if _share_that_holds(self.needed, self.gained, n) == _LEAST_SHARE:
            return ""
        _, threshold = _percents(self.probability, self.threshold)
        left = (
            "" if self.left is None else f"{min(self.left, _MOST_LEFT):.0%} of its steps are left, "
        )
        return (
            f"; the threshold is {threshold}: {left}it has to gain {self.needed:.3g}, and {n} "
            f"finished trials gained {self.gained:.3g} at most from there"
        )

    @property
    def _interval(self) -> str:
        return f"{self.low:.3g}{'-' if self.low >= 0 else ' to '}{self.high:.3g}"

    def beats_incumbent(self, value: float, direction: Direction) -> bool:
        """Whether a last report is better than the incumbent by more than the tolerance."""
        ahead = value - self.incumbent if direction == "maximize" else self.incumbent - value
        return ahead > self.tolerance

    def undersells(self, value: float, direction: Direction) -> bool:
        """Whether a last report is better than the 90% interval, which has a probability of 5%."""
        return value > self.high if direction == "maximize" else value < self.low

    def holds(self, value: float) -> bool:
        """Whether a last report lies in the 90% interval."""
        return self.low <= value <= self.high

    def as_json(self) -> dict[str, Any]:
        """The decision's fields, to be kept with the trial."""
        return asdict(self)

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Decision:
        """The inverse of `as_json`; further keys are ignored."""
        return cls(**{name: kept[name] for name in cls.__dataclass_fields__ if name in kept})


@dataclass(frozen=True)
class ForecastRule:
    """Condemns trials that will hardly beat the incumbent.

    At the t-th of T steps a trial's odds are held against threshold (1 - t / T): what may be lost,
    against what stopping saves. A forecast is not believed on its own. All of that holds where the
    study's past agrees: where the trial needs three times what any finished one gained from that
    share of its steps on. Where it needs less, less of it holds, by the fifth power, and at least a
    hundredth; all of it where nothing was gained. So a study whose trials are late to improve is
    treated with care. What audits contradict is divided further.

    Args:
        direction: Whether lower or higher values are better.
        threshold: The probability below which a trial is condemned that has all of its steps
            left, if the past agrees.
        tolerance: What an improvement has to exceed, in the metric's unit.
        startup_trials: Finished trials before any is condemned.
        min_steps: Reports of a trial before it may be condemned.
        bounds: Lowest and highest value of the metric, as far as they are known.
    """

    direction: Direction
    threshold: float = THRESHOLD
    tolerance: float = 0.0
    startup_trials: int = STARTUP_TRIALS
    min_steps: int = 1
    bounds: tuple[float, float] | None = None

    def decide(self, curves: Sequence[Curve], horizon: float, past: Past) -> list[Decision | None]:
        """Judges curves, each as it is now; several moments of one curve are as good as several.

        Args:
            curves: What each trial has reported.
            horizon: Their last step.
            past: What is known of the study.

        Returns:
            For each curve a decision; None where there is nothing to decide, since it is too early,
            the trial is in the last tenth of its steps, or its values are beyond all measure.
        """
        decisions: list[Decision | None] = [None] * len(curves)
        known = past.incumbent is not None and math.isfinite(past.incumbent)
        if not known or past.n_finished < self.startup_trials:
            return decisions
        seen = [as_arrays(curve) for curve in curves]
        finished = [c for c in map(as_arrays, past.history) if np.isfinite(c[1]).any()]
        # Steps may be counted from 0; the laws of learning curves count them from 1.
        firsts = [float(steps[0]) for steps, _ in (*seen, *finished) if len(steps)]
        shift = max(0.0, 1.0 - min(firsts, default=1.0))
        undecided = [i for i, curve in enumerate(seen) if self._is_open(curve, horizon, shift)]
        if not undecided:
            return decisions
        judged = [_measured(seen[i], shift) for i in undecided]
        history = [_measured(curve, shift) for curve in finished]
        forecasts = forecast_batch(
            judged,
            horizon + shift,
            direction=self.direction,
            history=history or None,
            bounds=self._bounds([*judged, *history]),
        )
        for i, curve, forecast in zip(undecided, judged, forecasts, strict=True):
            share = float(curve[0][-1] / (horizon + shift))
            decisions[i] = self._decision(
                float(seen[i][0][-1]),
                float(horizon),
                forecast.final,
                past,
                left=1 - share,
                gains=self._gains(share, history),
                needed=self._ahead(self._aim(past), _known(curve)[1][-1]),
            )
        return decisions

    def _is_open(self, curve: Steps, horizon: float, shift: float) -> bool:
        """Whether there is something to decide, and something to decide it by."""
        steps, values = curve
        if len(steps) < max(self.min_steps, 1) or not steps[-1] < horizon < math.inf:
            return False
        least = _LAST * (horizon + shift) * (1 - 1e-9)  # rounded: 0.1 is not a tenth
        if horizon - steps[-1] < least:
            return False
        too_good = math.inf if self.direction == "maximize" else -math.inf
        return bool(values[-1] != too_good and np.isfinite(values).any())

    def _gains(self, share: float, history: Sequence[Steps]) -> list[float]:
        """What finished trials gained from a share of their own steps on, where that is known."""
        measured = [(steps, values) for steps, values in map(_known, history)]
        return [
            self._ahead(values[-1], np.interp(share * steps[-1], steps, values))
            for steps, values in measured
            if steps[0] <= share * steps[-1] * (1 + _ROUNDED)
        ]

    def _ahead(self, value: float, other: float) -> float:
        """By how much a value is better than another."""
        return float(value - other if self.direction == "maximize" else other - value)

    def _aim(self, past: Past) -> float:
        """What a trial has to beat."""
        assert past.incumbent is not None  # noqa: S101 - `decide` has looked
        return past.incumbent + (
            self.tolerance if self.direction == "maximize" else -self.tolerance
        )

    def _decision(
        self,
        step: float,
        horizon: float,
        final: Forecast,
        past: Past,
        *,
        left: float,
        gains: Sequence[float],
        needed: float,
    ) -> Decision:
        incumbent = past.incumbent
        assert incumbent is not None  # noqa: S101 - `decide` has looked
        low, median, high = final.quantile([_TAIL, 0.5, 1 - _TAIL])[:, 0]
        middle = final.quantile(_MIDDLE)[:, 0]
        gained = max([0.0, *gains])
        threshold = self.threshold * left * _share_that_holds(needed, gained, len(gains))
        return Decision(
            step=step,
            horizon=horizon,
            probability=float(final.prob_better_than(self._aim(past))[0]),
            mean=float(middle.mean()) + past.surplus,
            std=float(middle[-1] - middle[0]) / 2,
            median=float(median),
            low=float(low),
            high=float(high),
            incumbent=incumbent,
            tolerance=self.tolerance,
            threshold=threshold / self.contradiction(past.audits),
            needed=needed,
            gained=gained,
            n_compared=len(gains),
            left=left,
        )

    def contradiction(self, audits: Sequence[tuple[Decision, float]]) -> float:
        """How many times as often as stated audited trials did better than stated; at least 1.

        A decision states two chances: p_i to beat the incumbent, and 5% to end better than its
        90% interval. Of all these, which sum to S, n came true: n ~ Poisson(r S), with
        r ~ Gamma(a, a), so that E[r | n] = (a + n) / (a + S).
        """
        stated = sum(decision.probability + _TAIL for decision, _ in audits)
        came_true = sum(
            decision.beats_incumbent(value, self.direction)
            + decision.undersells(value, self.direction)
            for decision, value in audits
        )
        return max(1.0, (_DOUBT + came_true) / (_DOUBT + stated))

    def _bounds(self, curves: Sequence[Steps]) -> tuple[float, float] | None:
        """The metric's bounds, unless values show that it is another of the same name."""
        return confirmed(self.bounds, np.concatenate([values for _, values in curves]))


def _share_that_holds(needed: float, gained: float, n: int) -> float:
    """How much of the threshold holds, as far as n finished trials confirm a forecast.

    Where nothing was gained, a trial that ties needs more than that, too.
    """
    if n < _FEWEST:
        return _LEAST_SHARE
    if gained <= 0:
        return 1.0 if needed >= 0 else _LEAST_SHARE
    share = (max(needed, 0.0) / (_TIMES * gained)) ** _POWER if needed < _TIMES * gained else 1.0
    return max(share, _LEAST_SHARE)


def is_due(n_reports: int, n_judged: int) -> bool:
    """Whether a trial is judged after so many reports: after each of the first, then more rarely.

    A tenth more reports tell little more, and a trial of thousands must not cost thousands of
    forecasts.

    Args:
        n_reports: Its reports.
        n_judged: How many they were when it was judged last, 0 if it was not.
    """
    if n_reports <= _EACH_UP_TO or not n_judged:
        return True
    now, before = (math.floor(math.log(n, _PACE)) for n in (n_reports, n_judged))
    return now > before


def is_audited(seed: int, number: int, share: float) -> bool:
    """Whether a trial, if it is condemned, is run to its end all the same.

    It follows from the study's seed and the trial's number alone, so that all drivers say the same,
    also when a trial is taken up again.
    """
    (lot,) = np.random.SeedSequence((seed, number, _AUDITS)).generate_state(1)
    return bool(lot / 2.0**32 < share)


def as_arrays(curve: Curve) -> Steps:
    """Steps and values of a curve; what is beyond all measure is infinite."""
    if isinstance(curve, tuple):
        steps, values = (np.asarray(part, float) for part in curve)
    else:
        values = np.asarray(curve, float)
        steps = np.arange(1.0, len(values) + 1)
    return steps, huge_as_infinite(values)


def _measured(curve: Steps, shift: float) -> Steps:
    """A curve, its steps counted from later on, in which what is infinite was not measured."""
    steps, values = curve
    return steps + shift, np.where(np.isinf(values), np.nan, values)


def _known(curve: Steps) -> Steps:
    """The part of a curve that was measured."""
    steps, values = curve
    known = np.isfinite(values)
    return steps[known], values[known]


def _percents(probability: float, threshold: float) -> tuple[str, str]:
    """12%, 0.8%, less than 0.1%, and a threshold that is seen to lie above it, or not to."""
    percent, bound = 100 * probability, 100 * threshold
    if percent < min(_LEAST_PERCENT, bound):
        return f"less than {min(_LEAST_PERCENT, bound):.2g}%", f"{bound:.2g}%"
    first = f"{percent:.0f}" if percent >= _WHOLE_PERCENT else f"{percent:.1f}"
    texts = [(first, f"{bound:.2g}")]
    texts += [(f"{percent:.{n}g}", f"{bound:.{n}g}") for n in range(2, 8)]
    fitting = ((p, t) for p, t in texts if (float(p) < float(t)) == (percent < bound))
    chance, threshold_text = next(fitting, texts[-1])
    return f"{chance}%", f"{threshold_text}%"
