"""What learning rates and momenta must obey: closed forms, PyTorch's schedulers, and bounds."""

import math
import pickle
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import digamma, zeta
from torch import nn
from torch.optim import lr_scheduler

from hpo.trainers import ConfigError, TrainerConfig
from hpo.trainers.config import FIELDS
from hpo.trainers.schedules import READS, SCHEDULES, Schedule, Terms, robbins_monro

ENDING = ("linear", "exponential", "polynomial", "cosine", "one_cycle")
EPS_0 = 0.3


def of(schedule: str, n: int, **config: object) -> Schedule:
    """A schedule of n epochs of one step, so that epochs are steps."""
    config = {"learning_rate": EPS_0, "schedule": schedule, **config}
    return Schedule.of(config, steps_per_epoch=1, epochs=n)


def rates(schedule: Schedule, n: int | None = None) -> list[float]:
    return [schedule.learning_rate(k) for k in range(n or schedule.n_steps)]


# Sums in closed form

lengths = st.integers(2, 100)
fractions = st.floats(0.001, 1)


@given(lengths, fractions)
def test_a_linear_schedule_is_an_arithmetic_series(n: int, f: float) -> None:
    total = sum(rates(of("linear", n, final_lr_fraction=f), n + 1))
    assert total == pytest.approx((n + 1) * EPS_0 * (1 + f) / 2, rel=1e-12)


@given(lengths, st.floats(0.001, 0.99))
def test_an_exponential_schedule_is_a_geometric_series(n: int, f: float) -> None:
    total = sum(rates(of("exponential", n, final_lr_fraction=f)))
    assert total == pytest.approx(EPS_0 * (1 - f) / (1 - f ** (1 / n)), rel=1e-9)


@given(st.integers(1, 20), st.integers(1, 6), st.floats(0.01, 0.99))
def test_a_step_schedule_is_a_geometric_series_of_equal_steps(drop: int, j: int, g: float) -> None:
    schedule = of("step", j * drop, step_epochs=drop, step_factor=g)
    expected = drop * EPS_0 * (1 - g**j) / (1 - g)
    assert sum(rates(schedule)) == pytest.approx(expected, rel=1e-9)


@given(lengths, fractions)
def test_a_cosine_has_the_mean_and_the_square_of_its_ends(n: int, f: float) -> None:
    # The sum of cos(pi k / n) over k = 0..n is 0, and that of its square n / 2 + 1.
    eps = rates(of("cosine", n, final_lr_fraction=f), n + 1)
    mean, half = EPS_0 * (1 + f) / 2, EPS_0 * (1 - f) / 2
    assert sum(eps) == pytest.approx((n + 1) * mean, rel=1e-9)
    square = (n + 1) * mean**2 + (n / 2 + 1) * half**2
    assert sum(x * x for x in eps) == pytest.approx(square, rel=1e-9)


@given(lengths, fractions)
def test_a_quadratic_sums_to_a_pyramid(n: int, f: float) -> None:
    total = sum(rates(of("polynomial", n, final_lr_fraction=f), n + 1))
    pyramid = (n + 1) * (2 * n + 1) / (6 * n)
    assert total == pytest.approx(EPS_0 * (f * (n + 1) + (1 - f) * pyramid), rel=1e-9)


@given(st.integers(1, 40), st.integers(1, 40), fractions, fractions)
def test_one_cycle_is_two_trapezia(rise: int, fall: int, start: float, f: float) -> None:
    n = rise + fall
    schedule = of(
        "one_cycle", n, peak_fraction=rise / n, start_lr_fraction=start, final_lr_fraction=f
    )
    eps = rates(schedule, n + 1)
    area = sum((a + b) / 2 for a, b in pairwise(eps))
    assert area == pytest.approx(EPS_0 * (rise * (start + 1) + fall * (1 + f)) / 2, rel=1e-9)
    assert eps[rise] == pytest.approx(max(eps)) == pytest.approx(EPS_0)


@pytest.mark.parametrize("tau", [1, 7.5, 30])
@pytest.mark.parametrize("n", [10, 1000])
def test_inverse_time_sums_to_digammas_and_zetas(tau: float, n: int) -> None:
    def eps(p: float) -> list[float]:
        return rates(of("inverse_time", n, tau=tau, decay_power=p))

    harmonic = EPS_0 * tau * (digamma(tau + n) - digamma(tau))
    assert sum(eps(1)) == pytest.approx(harmonic, rel=1e-9)
    squares = EPS_0 * tau**2 * (zeta(2, tau) - zeta(2, tau + n))
    assert sum(eps(2)) == pytest.approx(squares, rel=1e-9)
    assert sum(x * x for x in eps(1)) == pytest.approx(EPS_0 * squares, rel=1e-9)
    assert sum(x * x for x in eps(0.5)) == pytest.approx(EPS_0 * harmonic, rel=1e-9)


# Robbins and Monro


def converges(schedule: Schedule, power: int) -> bool:
    """Whether the sum of eps_k^power does: Cauchy's blocks, each twice as long, must shrink."""
    a, b = (
        math.fsum(schedule.learning_rate(k) ** power for k in range(n, 2 * n))
        for n in (2**12, 2**13)
    )
    return b < 0.999 * a or b == 0


@pytest.mark.parametrize(
    ("schedule", "p"),
    [
        ("constant", None),
        ("step", None),
        *(("inverse_time", p) for p in (None, 0.3, 0.5, 0.51, 0.75, 1.0, 1.1, 2.0)),
    ],
)
def test_robbins_and_monros_conditions_are_judged_rightly(schedule: str, p: float | None) -> None:
    endless = of(schedule, 10, decay_power=p)
    travels, settles = not converges(endless, 1), converges(endless, 2)
    sentence = robbins_monro(schedule, p) or ""
    assert ("The sum of eps_k is finite" in sentence) == (not travels)
    assert ("The sum of eps_k^2 is infinite" in sentence) == (not settles)


def test_a_schedule_with_an_end_has_no_verdict_and_the_others_say_why() -> None:
    for schedule in ("linear", "polynomial", "cosine", "cosine_restarts", "one_cycle"):
        assert robbins_monro(schedule) is None
    assert robbins_monro("constant") == (
        "The sum of eps_k^2 is infinite (the rate never falls), so the noise of the minibatches "
        "never dies out: the weights keep wandering about a minimum."
    )
    assert robbins_monro("inverse_time", 2) == (
        "The sum of eps_k is finite (the rate falls as k^-2), so the weights can travel only so "
        "far: training may stop short of a minimum, however long it goes on."
    )
    assert "(continued, the rates form" in (robbins_monro("exponential") or "")
    with pytest.raises(ConfigError, match=r"^schedule: 'stap' .* Did you mean 'step'\?$"):
        robbins_monro("stap")
    with pytest.raises(ConfigError, match=r"^decay_power: 0 is out of range"):
        robbins_monro("inverse_time", 0)


# Step by step as PyTorch


def peer(n: int, make: Callable[[torch.optim.Optimizer], Any]) -> list[tuple[float, float]]:
    """The rate and momentum of n steps under one of PyTorch's schedulers."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=EPS_0, momentum=0.9)
    scheduler, seen = make(optimizer), []
    for _ in range(n):
        seen.append((optimizer.param_groups[0]["lr"], optimizer.param_groups[0]["momentum"]))
        optimizer.step()
        scheduler.step()
    return seen


def assert_equal(
    schedule: Schedule, n: int, make: Callable[[torch.optim.Optimizer], object]
) -> None:
    ours = [(schedule.learning_rate(k), schedule.momentum(k)) for k in range(n)]
    for mine, theirs in zip(ours, peer(n, make), strict=True):
        assert mine == pytest.approx(theirs, rel=1e-9, abs=1e-12)


horizons = st.integers(2, 40)
few = settings(max_examples=30)


@few
@given(st.integers(1, 15), st.floats(0.05, 0.95))
def test_step_is_steplr(drop: int, gamma: float) -> None:
    schedule = of("step", 40, step_epochs=drop, step_factor=gamma)
    assert_equal(schedule, 50, lambda o: lr_scheduler.StepLR(o, drop, gamma))


@few
@given(horizons, fractions)
def test_exponential_is_exponentiallr(n: int, f: float) -> None:
    schedule = of("exponential", n, final_lr_fraction=f)
    assert_equal(schedule, n + 1, lambda o: lr_scheduler.ExponentialLR(o, f ** (1 / n)))


@few
@given(horizons, st.floats(0.3, 4))
def test_polynomial_down_to_zero_is_polynomiallr(n: int, p: float) -> None:
    schedule = of("polynomial", n, decay_power=p, final_lr_fraction=0)
    assert_equal(schedule, n + 10, lambda o: lr_scheduler.PolynomialLR(o, n, p))


@few
@given(horizons, fractions)
def test_linear_is_linearlr(n: int, f: float) -> None:
    schedule = of("linear", n, final_lr_fraction=f)
    assert_equal(schedule, n + 10, lambda o: lr_scheduler.LinearLR(o, 1, f, n))


@few
@given(horizons, fractions)
def test_cosine_is_cosineannealinglr(n: int, f: float) -> None:
    schedule = of("cosine", n, final_lr_fraction=f)
    assert_equal(schedule, n + 1, lambda o: lr_scheduler.CosineAnnealingLR(o, n, f * EPS_0))


@few
@given(st.integers(1, 12), st.integers(1, 3), fractions)
def test_cosine_restarts_is_cosineannealingwarmrestarts(cycle: int, growth: int, f: float) -> None:
    schedule = of(
        "cosine_restarts", 40, cycle_epochs=cycle, cycle_growth=growth, final_lr_fraction=f
    )
    assert_equal(
        schedule,
        60,
        lambda o: lr_scheduler.CosineAnnealingWarmRestarts(o, cycle, growth, f * EPS_0),
    )


@few
@given(horizons, st.integers(1, 20))
def test_a_warm_up_is_linearlr(n: int, w: int) -> None:
    schedule = of("constant", n + w, warmup_epochs=w)
    assert_equal(schedule, n + w, lambda o: lr_scheduler.LinearLR(o, 1 / (w + 1), 1, w))


@few
@given(
    horizons,
    st.floats(0.05, 0.95),
    fractions,
    fractions,
    st.floats(0, 0.99),
    st.floats(0, 1),
)
def test_one_cycle_is_onecyclelr(
    n: int, peak: float, start: float, f: float, high: float, share: float
) -> None:
    """PyTorch's phases end at steps pct N - 1 and N - 1; ours at peak n and n.

    So N = n + 1 and pct = (peak n + 1) / (n + 1).
    """
    low = share * high
    schedule = of(
        "one_cycle",
        n,
        peak_fraction=peak,
        start_lr_fraction=start,
        final_lr_fraction=f,
        momentum=high,
        momentum_schedule="cycled",
        low_momentum=low,
    )
    assert_equal(
        schedule,
        n + 1,
        lambda o: lr_scheduler.OneCycleLR(
            o,
            max_lr=EPS_0,
            total_steps=n + 1,
            pct_start=(peak * n + 1) / (n + 1),
            div_factor=1 / start,
            final_div_factor=start / f,
            base_momentum=low,
            max_momentum=high,
        ),
    )


# Bounds, ends, units

runs = st.fixed_dictionaries(
    {
        "schedule": st.sampled_from(sorted(SCHEDULES)),
        "learning_rate": st.floats(1e-6, 10),
        "epochs": st.integers(1, 12),
    },
    optional={
        "final_lr_fraction": st.floats(0, 1),
        "tau": st.floats(0.01, 20),
        "decay_power": st.floats(0.01, 10),
        "step_epochs": st.floats(0.01, 20),
        "step_factor": st.floats(0.001, 0.999),
        "cycle_epochs": st.floats(0.01, 20),
        "cycle_growth": st.integers(1, 5),
        "peak_fraction": st.floats(0.001, 0.999),
        "start_lr_fraction": st.floats(0.001, 1),
        "warmup_epochs": st.floats(0, 11),
        "momentum": st.floats(0, 0.999),
        "momentum_schedule": st.sampled_from(FIELDS["momentum_schedule"].allowed or ()),
        "low_momentum": st.floats(0, 0.999),
    },
)


def valid(run: dict[str, Any]) -> dict[str, Any]:
    assume(run.get("warmup_epochs", 0) < run["epochs"])
    assume(run["schedule"] != "exponential" or run.get("final_lr_fraction") != 0)
    return run


@given(runs, st.integers(1, 9))
def test_rates_and_momenta_stay_within_their_bounds(
    run: dict[str, Any], steps_per_epoch: int
) -> None:
    schedule = Schedule.of(valid(run), steps_per_epoch=steps_per_epoch)
    assert schedule.n_steps == run["epochs"] * steps_per_epoch
    assert pickle.loads(pickle.dumps(schedule)) == schedule  # noqa: S301
    high = run.get("momentum", 0.9)
    low = min(schedule.low, high)
    for k in range(schedule.n_steps + 10):
        assert 0 <= schedule.learning_rate(k) <= run["learning_rate"] * (1 + 1e-12)
        assert max(0, low - 1e-12) <= schedule.momentum(k) <= high + 1e-12


@given(runs, st.integers(1, 9))
def test_a_schedule_that_ends_reaches_its_last_rate_at_tau_and_stays(
    run: dict[str, Any], steps_per_epoch: int
) -> None:
    assume(run["schedule"] in ENDING)
    schedule = Schedule.of(valid(run), steps_per_epoch=steps_per_epoch)
    left = schedule.n_steps - schedule.n_warmup
    horizon = run["tau"] * steps_per_epoch if "tau" in run else left
    end = schedule.n_warmup + math.ceil(horizon)
    last = run["learning_rate"] * run.get("final_lr_fraction", 0.01)
    for k in (end, end + 1, end + 100):
        assert schedule.learning_rate(k) == pytest.approx(last, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_all_but_one_cycle_begin_at_the_learning_rate_and_one_cycle_far_below(
    schedule: str,
) -> None:
    first = of(schedule, 50, start_lr_fraction=0.2).learning_rate(0)
    assert first == pytest.approx(EPS_0 * (0.2 if schedule == "one_cycle" else 1))


@pytest.mark.parametrize("schedule", sorted(set(SCHEDULES) - {"one_cycle", "cosine_restarts"}))
def test_what_has_one_peak_at_the_start_only_falls(schedule: str) -> None:
    eps = rates(of(schedule, 50), 60)
    assert all(later <= earlier + 1e-15 for earlier, later in pairwise(eps))
    assert (eps[-1] < eps[0]) == (schedule != "constant")


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
@pytest.mark.parametrize("w", [1, 3, 20])
def test_after_a_warm_up_comes_the_whole_schedule(schedule: str, w: int) -> None:
    n, settings_ = 50, {"momentum_schedule": "cycled"}
    alone, warmed = of(schedule, n, **settings_), of(schedule, n + w, warmup_epochs=w, **settings_)
    climb = [alone.learning_rate(0) * (k + 1) / (w + 1) for k in range(w)]
    assert rates(warmed) == [*climb, *rates(alone)]
    assert [warmed.momentum(w + k) for k in range(n)] == [alone.momentum(k) for k in range(n)]


def test_a_warm_up_shorter_than_half_a_step_is_none_and_a_long_one_leaves_a_step() -> None:
    assert of("linear", 5, warmup_epochs=0.4) == of("linear", 5)
    assert of("linear", 5, warmup_epochs=4.9).n_warmup == 4


def test_epochs_become_steps() -> None:
    run = {"schedule": "linear", "epochs": 6, "learning_rate": 1.0, "tau": 2, "warmup_epochs": 0.5}
    schedule = Schedule.of(run, steps_per_epoch=10)
    assert (schedule.n_steps, schedule.n_warmup, schedule.terms.tau) == (60, 5, 20)


@pytest.mark.parametrize(
    ("schedule", "n", "field", "given_"),
    [
        ("linear", 80, "tau", 80),
        ("linear", 130, "tau", 100),
        ("cosine", 130, "tau", 130),
        ("one_cycle", 130, "tau", 130),
        ("inverse_time", 80, "tau", 8),
        ("inverse_time", 80, "decay_power", 1),
        ("polynomial", 80, "decay_power", 2),
        ("step", 90, "step_epochs", 30),
        ("cosine_restarts", 70, "cycle_epochs", 10),
    ],
)
def test_what_is_unset_has_the_documented_length(
    schedule: str, n: int, field: str, given_: float
) -> None:
    unset = rates(of(schedule, n))
    assert unset == rates(of(schedule, n, **{field: given_}))
    assert unset != rates(of(schedule, n, **{field: given_ * 1.5}))


@given(st.integers(1, 12), st.integers(1, 4))
def test_three_cycles_fill_the_run(cycle: int, growth: int) -> None:
    n = cycle * (1 + growth + growth**2)
    eps = rates(of("cosine_restarts", n + 7, cycle_growth=growth, warmup_epochs=7))[7:]
    starts = [k for k in range(n) if eps[k] == pytest.approx(EPS_0)]
    assert starts == [0, cycle, cycle * (1 + growth)]


def test_a_drop_that_rounding_would_delay_by_a_step_comes_in_time() -> None:
    assert 0.28 * 25 > 7
    run = {"schedule": "step", "step_epochs": 0.28, "learning_rate": 1.0}
    schedule = Schedule.of(run, steps_per_epoch=25, epochs=2)
    drops = [k for k in range(1, 50) if schedule.learning_rate(k) < schedule.learning_rate(k - 1)]
    assert drops == list(range(7, 50, 7))


# Momentum


@given(st.floats(0, 0.99), st.floats(0, 0.99), lengths)
def test_increasing_momentum_rises_from_low_to_high_geometrically(
    a: float, b: float, n: int
) -> None:
    low, high = sorted((a, b))
    schedule = of("constant", n, momentum=high, low_momentum=low, momentum_schedule="increasing")
    mu = [schedule.momentum(k) for k in range(n + 1)]
    assert [mu[0], mu[-1]] == pytest.approx([low, high])
    assert mu[-1] == pytest.approx(schedule.momentum(n + 50))
    logs = [math.log(1 - x) for x in mu]
    slope = (logs[-1] - logs[0]) / n
    assert [y - x for x, y in pairwise(logs)] == pytest.approx([slope] * n, abs=1e-12)


def test_from_a_half_to_99_hundredths_momentum_passes_nine_tenths() -> None:
    schedule = of("linear", 10_000, momentum=0.99, momentum_schedule="increasing")
    assert schedule.momentum(0) == 0.5
    # 0.5^(1 - a) 0.01^a = 0.1 where a = log 5 / log 50.
    k = round(10_000 * math.log(5) / math.log(50))
    assert schedule.momentum(k) == pytest.approx(0.9, abs=1e-4)


def test_low_momentum_has_a_default_for_each_schedule_and_is_never_above_momentum() -> None:
    def low(**config: object) -> float:
        schedule = of("one_cycle", 10, **config)
        return min(schedule.momentum(k) for k in range(10))

    assert low(momentum_schedule="increasing") == pytest.approx(0.5)
    assert low(momentum_schedule="cycled") == pytest.approx(0.85)
    assert low(momentum_schedule="cycled", low_momentum=0.0) == pytest.approx(0)
    assert low(momentum_schedule="cycled", momentum=0.3) == pytest.approx(0.3)
    assert low(momentum_schedule="increasing", momentum=0.3, low_momentum=0.4) == pytest.approx(0.3)
    assert low(low_momentum=0.1) == 0.9


@given(runs)
def test_cycled_momentum_is_opposite_to_the_rate(run: dict[str, Any]) -> None:
    run = {**valid(run), "momentum_schedule": "cycled", "momentum": 0.9, "low_momentum": 0.1}
    schedule = Schedule.of(run, steps_per_epoch=3)
    unit = replace(schedule, terms=replace(schedule.terms, eps_0=1.0, eps_tau=0.0, eps_start=0.0))
    for k in range(schedule.n_steps):
        assert schedule.momentum(k) == pytest.approx(0.9 - 0.8 * unit.learning_rate(k), abs=1e-12)


# The edge


def test_a_schedule_reads_its_own_fields_and_has_the_trainers_defaults() -> None:
    assert set(READS) <= set(FIELDS)
    own = Schedule.of({"learning_rate": 0.1, "width": "mine", "data": object()}, steps_per_epoch=7)
    assert own == Schedule.of(vars(TrainerConfig(learning_rate=0.1)), steps_per_epoch=7)
    assert own.n_steps == 7 * 30
    assert Schedule.of({"epochs": 3}, steps_per_epoch=7, epochs=4).n_steps == 28


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"schedule": "cosin"}, r"^schedule: 'cosin' is not a choice\. Did you mean 'cosine'\?$"),
        ({"tau": 0}, r"^tau: 0 is out of range"),
        ({"warmup_epochs": 3, "epochs": 3}, r"^warmup_epochs: 3 is not below the 3 epochs"),
        (
            {"schedule": "exponential", "final_lr_fraction": 0},
            r"^final_lr_fraction: an exponential schedule never reaches 0\.",
        ),
    ],
)
def test_values_are_checked(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule.of(config, steps_per_epoch=7)


@pytest.mark.parametrize("steps", [0, -1, True, 16.8, math.nan])
def test_an_epoch_has_whole_steps(steps: int) -> None:
    with pytest.raises(ConfigError, match=r"^steps_per_epoch: .* is not a whole number of at"):
        Schedule.of({}, steps_per_epoch=steps)


def test_every_term_is_read_by_some_schedule() -> None:
    """A term that no equation reads would be a setting without effect."""
    of_all = [of(name, 20) for name in SCHEDULES]
    for term in Terms.__dataclass_fields__:
        changed = [
            replace(s, terms=replace(s.terms, **{term: getattr(s.terms, term) * 0.7}))
            for s in of_all
        ]
        assert any(rates(a, 60) != rates(b, 60) for a, b in zip(of_all, changed, strict=True)), term
