"""The learning rate and momentum of every step, as pure functions of the step.

k counts minibatches from 0. eps_0 is the highest learning rate and the first of every schedule
but one_cycle's; eps_tau is the last. Far along the schedule we are: a = min(k / tau, 1), so that
a schedule which ends stays at its last rate.

    schedule = Schedule.of({"learning_rate": 0.1, "schedule": "cosine"}, steps_per_epoch=17)
    for k in range(schedule.n_steps):
        ... schedule.learning_rate(k), schedule.momentum(k)
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

from hpo.trainers.config import TrainerConfig, check_value
from hpo.trainers.errors import ConfigError, Problem

LINEAR_EPOCHS = 100
"""The epochs of an unset tau where the schedule is linear and the run longer.

Source: Goodfellow et al. (2016), 8.3.1: tau is usually some hundreds of passes.
"""

READS = (
    "learning_rate",
    "momentum",
    "momentum_schedule",
    "low_momentum",
    "schedule",
    "final_lr_fraction",
    "tau",
    "decay_power",
    "step_epochs",
    "step_factor",
    "cycle_epochs",
    "cycle_growth",
    "peak_fraction",
    "start_lr_fraction",
    "warmup_epochs",
    "epochs",
)
"""The fields that `Schedule.of` looks at."""


@dataclass(frozen=True)
class Terms:
    """What the equations below are made of; lengths are in steps.

    Args:
        eps_0: The highest learning rate.
        eps_tau: The last one.
        eps_start: The first one, where that is not the highest.
        f: The last one of an exponential schedule as a share of the highest.
        tau: The horizon, or inverse_time's time scale.
        p: The power.
        drop: From one drop to the next.
        gamma: What a drop multiplies the rate by.
        cycle: The first cycle.
        growth: How many times as long each cycle is as the one before.
        peak: The share of the horizon in which the rate rises.
    """

    eps_0: float
    eps_tau: float
    eps_start: float
    f: float
    tau: float
    p: float
    drop: float
    gamma: float
    cycle: float
    growth: int
    peak: float

    def a(self, k: int) -> float:
        """The share of the horizon that lies behind: a = min(k / tau, 1)."""
        return min(k / self.tau, 1.0)


def constant(k: int, t: Terms) -> float:  # noqa: ARG001
    """eps_k = eps_0."""
    return t.eps_0


def linear(k: int, t: Terms) -> float:
    """eps_k = (1 - a) eps_0 + a eps_tau.

    Source: Goodfellow, Bengio & Courville (2016), Deep Learning, eq. 8.14.
    """
    return (1 - t.a(k)) * t.eps_0 + t.a(k) * t.eps_tau


def inverse_time(k: int, t: Terms) -> float:
    """eps_k = eps_0 (1 + k / tau)^-p.

    Source: Robbins & Monro (1951), A stochastic approximation method.
    """
    return t.eps_0 * math.pow(1 + k / t.tau, -t.p)


def step(k: int, t: Terms) -> float:
    """eps_k = eps_0 gamma^floor(k / drop): PyTorch's StepLR."""
    return t.eps_0 * math.pow(t.gamma, k // t.drop)


def exponential(k: int, t: Terms) -> float:
    """eps_k = eps_0 f^a: PyTorch's ExponentialLR with gamma = f^(1 / tau)."""
    return t.eps_0 * math.pow(t.f, t.a(k))


def polynomial(k: int, t: Terms) -> float:
    """eps_k = eps_tau + (eps_0 - eps_tau) (1 - a)^p: PyTorch's PolynomialLR where eps_tau = 0."""
    return t.eps_tau + (t.eps_0 - t.eps_tau) * math.pow(1 - t.a(k), t.p)


def arc(eps_a: float, eps_b: float, a: float) -> float:
    """Half a cosine from eps_a, where a = 0, to eps_b, where a = 1."""
    return eps_b + (eps_a - eps_b) * (1 + math.cos(math.pi * a)) / 2


def cosine(k: int, t: Terms) -> float:
    """eps_k = eps_tau + (eps_0 - eps_tau) (1 + cos(pi a)) / 2.

    Source: Loshchilov & Hutter (2017), SGDR, eq. 5, without restarts.
    """
    return arc(t.eps_0, t.eps_tau, t.a(k))


def cosine_restarts(k: float, t: Terms) -> float:
    """The cosine from eps_0 to eps_tau again and again, cycle i taking growth^i first cycles.

    Source: Loshchilov & Hutter (2017), SGDR, eq. 5; PyTorch's CosineAnnealingWarmRestarts.
    """
    cycle = t.cycle
    while t.growth > 1 and k >= cycle:
        k, cycle = k - cycle, cycle * t.growth
    return arc(t.eps_0, t.eps_tau, k % cycle / cycle)


def one_cycle(k: int, t: Terms) -> float:
    """Half a cosine up from eps_start to eps_0 while a < peak, then half a cosine to eps_tau.

    Source: Smith & Topin (2018), Super-convergence; PyTorch's OneCycleLR.
    """
    if t.a(k) < t.peak:
        return arc(t.eps_start, t.eps_0, t.a(k) / t.peak)
    return arc(t.eps_0, t.eps_tau, (t.a(k) - t.peak) / (1 - t.peak))


SCHEDULES: Mapping[str, Callable[[int, Terms], float]] = MappingProxyType(
    {
        "constant": constant,
        "linear": linear,
        "inverse_time": inverse_time,
        "step": step,
        "exponential": exponential,
        "polynomial": polynomial,
        "cosine": cosine,
        "cosine_restarts": cosine_restarts,
        "one_cycle": one_cycle,
    }
)


def increasing(a: float, low: float, high: float) -> float:
    """Geometric in 1 - mu, as 1 / (1 - mu) steps count: 1 - mu = (1 - low)^(1 - a) (1 - high)^a.

    From 0.5 to 0.99 it passes 0.9. Source: Goodfellow et al. (2016), 8.3.2: a small value first,
    raised later; Sutskever, Martens, Dahl & Hinton (2013), section 3.
    """
    return 1 - math.pow(1 - low, 1 - a) * math.pow(1 - high, a)


def cycled(s: float, low: float, high: float) -> float:
    """Opposite to the learning rate, whose shape is s: mu = high - (high - low) s.

    Source: Smith (2018), A disciplined approach to neural network hyper-parameters, section 4.3.
    """
    return high - (high - low) * s


@dataclass(frozen=True)
class Schedule:
    """Learning rate and momentum of every step of one trial; make one with `Schedule.of`.

    Args:
        name: One of `SCHEDULES`.
        terms: What its equation is made of.
        n_steps: Steps of the whole run, warm-up included.
        n_warmup: Steps before the schedule's own k = 0.
        momenta: constant, increasing or cycled.
        low: The least momentum, where it is not constant.
        high: The greatest.
    """

    name: str
    terms: Terms
    n_steps: int
    n_warmup: int
    momenta: str
    low: float
    high: float

    @classmethod
    def of(
        cls, config: Mapping[str, object], *, steps_per_epoch: int, epochs: int | None = None
    ) -> "Schedule":
        """The schedule that a configuration asks for, the trainer's or your own.

        Args:
            config: The fields in `READS`; those missing have their defaults, others are ignored.
            steps_per_epoch: Minibatches in one epoch.
            epochs: Instead of the configuration's.

        Raises:
            ConfigError: with every value that cannot be taken.
        """
        if isinstance(steps_per_epoch, bool) or steps_per_epoch < 1 or steps_per_epoch % 1:
            sentence = f"{steps_per_epoch!r} is not a whole number of at least 1."
            raise ConfigError([Problem(("steps_per_epoch",), sentence)])
        own = {name: config[name] for name in READS if name in config}
        checked = TrainerConfig.from_mapping(own if epochs is None else {**own, "epochs": epochs})
        n_steps = checked.epochs * int(steps_per_epoch)
        # One step at least is left for the schedule, however few there are in an epoch.
        n_warmup = min(round(checked.warmup_epochs * steps_per_epoch), n_steps - 1)
        low = 0.5 if checked.momentum_schedule == "increasing" else 0.85
        if checked.low_momentum is not None:
            low = checked.low_momentum
        return cls(
            checked.schedule,
            _terms(checked, steps_per_epoch, n_steps - n_warmup),
            n_steps,
            n_warmup,
            checked.momentum_schedule,
            min(low, checked.momentum),
            checked.momentum,
        )

    def learning_rate(self, k: int) -> float:
        """eps_k, the rate of step k from 0, which may lie beyond the run."""
        return self._at(k, self.terms)

    def momentum(self, k: int) -> float:
        """mu_k, the momentum of step k from 0."""
        if self.momenta == "increasing":
            return increasing(min(k / self.n_steps, 1.0), self.low, self.high)
        if self.momenta == "cycled":
            return cycled(self._at(k, _shape(self.terms)), self.low, self.high)
        return self.high

    def _at(self, k: int, terms: Terms) -> float:
        """The schedule's value, climbing to its first on a straight line during the warm-up.

        Source: Goyal et al. (2017), Accurate, large minibatch SGD, section 2.2.
        """
        value, w = SCHEDULES[self.name], self.n_warmup
        return value(0, terms) * (k + 1) / (w + 1) if k < w else value(k - w, terms)


def _shape(terms: Terms) -> Terms:
    """The same schedule between 1, where the rate is highest, and 0."""
    return replace(terms, eps_0=1.0, eps_tau=0.0, eps_start=0.0)


def _terms(config: TrainerConfig, steps_per_epoch: int, n: int) -> Terms:
    """The terms for the n steps that the warm-up leaves."""
    eps_0, m = config.learning_rate, config.cycle_growth

    def steps(epochs: float | None, unset: float) -> float:
        return unset if epochs is None else epochs * steps_per_epoch

    horizons = {"linear": min(n, LINEAR_EPOCHS * steps_per_epoch), "inverse_time": n / 10}
    powers = {"inverse_time": 1.0}
    return Terms(
        eps_0=eps_0,
        eps_tau=config.final_lr_fraction * eps_0,
        eps_start=config.start_lr_fraction * eps_0,
        f=config.final_lr_fraction,
        tau=steps(config.tau, horizons.get(config.schedule, n)),
        p=config.decay_power or powers.get(config.schedule, 2.0),
        # Rounded, as 0.28 epochs of 25 steps are 7.000000000000001, and step 7 is to drop.
        drop=max(round(steps(config.step_epochs, n / 3), 6), 1.0),
        gamma=config.step_factor,
        cycle=max(round(steps(config.cycle_epochs, n / (1 + m + m * m)), 6), 1.0),
        growth=m,
        peak=config.peak_fraction,
    )


def robbins_monro(schedule: str, decay_power: float | None = None) -> str | None:
    """Which condition for convergence a schedule fails, were the run to go on for ever.

    Stochastic gradient descent converges where the sum of eps_k is infinite and the sum of eps_k^2
    is not. Source: Robbins & Monro (1951), A stochastic approximation method; Goodfellow et al.
    (2016), eqs. 8.12 and 8.13.

    Args:
        schedule: A name in `SCHEDULES`.
        decay_power: p, where the schedule is inverse_time.

    Returns:
        A sentence that says which fails and what follows; None where both hold, and where the
        schedule has an end, of which they say nothing.

    Raises:
        ConfigError: one of them cannot be taken.
    """
    given = {"schedule": schedule, "decay_power": decay_power}
    checked = ((name, check_value(name, value)) for name, value in given.items())
    if problems := [Problem((name,), problem) for name, problem in checked if problem]:
        raise ConfigError(problems)
    p = decay_power or 1.0
    if schedule == "constant" or (schedule == "inverse_time" and p <= 1 / 2):
        return (
            f"The sum of eps_k^2 is infinite ({_reason(schedule, p)}), so the noise of the "
            "minibatches never dies out: the weights keep wandering about a minimum."
        )
    if schedule in {"step", "exponential"} or (schedule == "inverse_time" and p > 1):
        return (
            f"The sum of eps_k is finite ({_reason(schedule, p)}), so the weights can travel only "
            "so far: training may stop short of a minimum, however long it goes on."
        )
    return None


def _reason(schedule: str, p: float) -> str:
    """Why a condition fails, in a few words."""
    return {
        "constant": "the rate never falls",
        "inverse_time": f"the rate falls as k^-{p:g}",
        "step": "the rates of equal steps form a geometric series",
        "exponential": "continued, the rates form a geometric series",
    }[schedule]
