"""The prior over studies: curves that a study's trials might show, drawn at random.

Curves are goodness (0 to 1, higher is better; below 0 a diverging loss) over the horizon. Those of
a study share a character: each number that shapes a trial's curve is z = W u + e, in which W is the
study's, u two latent numbers of the trial (think of its learning rate and its capacity), and e its
own. So trials that begin alike go on alike, as far as that is so in this study.

A trial begins at chance v0 and approaches an asymptote A, v = v0 + (A - v0) p(t / k), with one of

====================  ========================================================
power law             p(x) = 1 - (1 + x)^-a
Weibull               p(x) = 1 - exp(-x^a)
Hill (MMF)            p(x) = x^a / (1 + x^a)
logistic              p(x) = 1 / (1 + x^-s), which rises late
two speeds            a Weibull and a slower power law
logarithm             p(x) = log(1 + 10 x) / log(1 + 10 / k)
====================  ========================================================

where learning may begin late. Then things happen to it, each in some studies only: a plateau before
the rise, learning-rate drops, gains at the end of a decaying schedule, overfitting, a start that
throws it far off, never learning at all, escapes from that, divergence, sudden or slow, for ever or
for a while, collapses again and again, NaN for good, spikes, noise that is white or autocorrelated,
constant or decaying, drift, and what is measured being cut off, rescaled or rounded. How many of a
study's trials something happens to, and how many recover, is the study's own: so its finished
trials tell of the others. Some studies try two kinds of trials.

The prior is broad on purpose: it mattered more for real curves than the network's size or the
length of its training.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from hpo.curves.distributions import Array, Mask
from hpo.curves.scales import LOWEST

_N_TRAITS = 16
_N_LATENT = 2
_LATE = 0.2  # share of studies in which learning may begin late
_BEYOND = 1e9  # of all measure: it is cut off


@dataclass(frozen=True)
class Prior:
    """Draws studies of curves that are equally long.

    Args:
        rng: Draws everything.
        n_studies: s, how many studies.
        n_trials: c, curves in each.
        n_steps: n, steps in each, the last one is the horizon.
    """

    rng: np.random.Generator
    n_studies: int
    n_trials: int
    n_steps: int

    def curves(self) -> Array:
        """Draws the curves, shape (s, c, n)."""
        time = np.arange(1, self.n_steps + 1) / self.n_steps
        z = self._traits()
        chance, top = self._range()
        asymptote, start = self._ends(z, chance, top)
        v = start + (asymptote - start) * self._progress(z, time)
        v = self._plateau(v, z, start, time)
        v = self._drops(v, z, top, time)
        v, calming = self._annealing(v, z, time)
        v = self._overfitting(v, z, top - chance, time)
        v, rough = self._noise(v, z, top - chance, calming, time)
        v = self._divergence(v, z, start, rough, time)
        v = self._thrown_off(v, z, start, time)
        v = self._in_and_out(v, z, start)
        v = self._flat(v, z, start, asymptote, rough, time)
        v = self._of_two_kinds(v, chance, top)
        v = self._lost(v, z, time)
        return self._measured(v, chance, top)

    # --- the character of a study ---

    def _traits(self) -> Array:
        """Traits z = W u + e, about standard normal, shape (s, c, n_traits)."""
        u = self.rng.normal(size=(self.n_studies, self.n_trials, _N_LATENT))
        w = self.rng.normal(size=(self.n_studies, _N_LATENT, _N_TRAITS)) * 1.2 * self._study()
        e = self.rng.normal(size=(self.n_studies, self.n_trials, _N_TRAITS))
        own = self.rng.uniform(0.1, 0.9, (self.n_studies, 1, _N_TRAITS))
        traits: Array = u @ w + e * own
        return traits

    def _range(self) -> tuple[Array, Array]:
        """Where curves begin and the best that any could reach, shapes (s, 1, 1)."""
        chance = self._either(0.6, self._log_study(0.005, 0.6), 0.3 * self._study())
        missing = self._either(0.5, self._log_study(0.002, 0.6), 0.7 * self._study())
        return chance, np.maximum(1 - missing, chance + 0.02)

    def _ends(self, z: Array, chance: Array, top: Array) -> tuple[Array, Array]:
        span = top - chance
        gap = (np.abs(z[..., 0:1]) + 0.3 * np.maximum(z[..., 1:2], 0)) * self._log_study(0.01, 0.8)
        asymptote = top - span * (1 - np.exp(-gap))
        worse = self._some(0.25) & (z[..., 2:3] > 1)  # than at the start
        asymptote = np.where(worse, chance * (1 - 0.7 * self._trial()), asymptote)
        apart = 0.05 * span * self._study() * self._some(0.4)
        return asymptote, np.clip(chance + apart * z[..., 3:4], 0, 1)

    def _progress(self, z: Array, time: Array) -> Array:
        """p, from 0 towards 1, shape (s, c, n)."""
        log_k = np.log(self._log_study(0.003, 1.5)) + z[..., 4:5] * (0.2 + 2 * self._study())
        k = np.exp(np.clip(log_k, math.log(1e-3), math.log(30)))
        a = np.exp(math.log(0.7) + 0.6 * self._study_normal() + 0.3 * z[..., 5:6])
        a = np.clip(a, 0.15, 4)
        x = (time - self._waiting(z, time)) / k
        weibull = 1 - np.exp(-(x ** np.clip(a, 0.3, 2)))
        hill = x ** np.clip(a, 0.4, 3)
        steep = 3 * np.exp(-0.5 * self._trial_normal())
        share, slower = self._trial(), k * self._log_trial(3, 100)
        shapes = [
            1 - (1 + x) ** -a,
            weibull,
            hill / (1 + hill),
            1 / (1 + np.exp(-np.clip(steep * np.log(np.maximum(x, 1e-6)), -50, 50))),
            share * weibull + (1 - share) * (1 - (1 + time / slower) ** -a),
            np.minimum(np.log1p(10 * x) / np.log1p(10 / k), 1.2),
        ]
        of_study = self.rng.integers(len(shapes), size=(self.n_studies, 1, 1))
        of_trial = self.rng.integers(len(shapes), size=(self.n_studies, self.n_trials, 1))
        chosen = np.where(self._trial() < 0.25, of_trial, of_study)
        p = np.choose(chosen, shapes)
        # In a third of the studies the asymptote is where the curve is at the horizon
        return self._either(0.35, p / np.maximum(p[..., -1:], 0.05), p)

    def _waiting(self, z: Array, time: Array) -> Array:
        """Time in which nearly nothing is learned, as on a saddle, before it begins."""
        wait = np.clip(self._log_study(0.02, 0.5) * np.exp(z[..., 6:7]), 0, 0.9)
        waits = self._some(_LATE) & (self._trial() < self._study() ** 0.5)
        leak = self._log_trial(1e-3, 0.3)
        waited = np.minimum(time, wait) * (1 - leak)
        return np.where(waits, waited, 0.0)

    # --- what happens to a curve ---

    def _plateau(self, v: Array, z: Array, start: Array, time: Array) -> Array:
        waits = self._some(0.15) & (z[..., 6:7] > 0.3)
        width = 0.01 + 0.1 * self._trial() ** 2
        away = np.clip((time - 0.8 * self._trial()) / width, -50, 50)
        return np.where(waits, start + (v - start) / (1 + np.exp(-away)), v)

    def _drops(self, v: Array, z: Array, top: Array, time: Array) -> Array:
        """Learning-rate drops at times that the study's trials share."""
        drops = self._some(0.15)
        for _ in range(2):
            after = np.maximum(time - self._study(), 0)
            height = np.clip(0.6 * self._study() * (1 + 0.2 * z[..., 7:8]), 0, 1)
            gain = (np.maximum(top, v) - v) * height * (1 - np.exp(-after / 0.01))
            v = np.where(drops, v + gain, v)
        return v

    def _annealing(self, v: Array, z: Array, time: Array) -> tuple[Array, Array]:
        """Gains towards the end of a decaying schedule, and how noise calms down."""
        anneals = self._some(0.2)
        strength = 0.5 * self._study() ** 2 * np.exp(0.3 * z[..., 7:8])
        gain = np.clip(strength * time ** self._log_study(1, 5), 0, 0.9)
        return np.where(anneals, v + (1 - v) * gain, v), np.where(anneals, 1 - 0.7 * time, 1.0)

    def _overfitting(self, v: Array, z: Array, span: Array, time: Array) -> Array:
        overfits = self._some(0.3) & (z[..., 8:9] > self._study_normal())
        depth = span * self._log_study(0.01, 1.5) * np.exp(0.5 * z[..., 9:10])
        after = np.maximum(time - self._trial() ** 1.5, 0)
        levels_off = 1 - np.exp(-3 * after / self._log_trial(0.1, 5))
        return np.where(overfits, v - depth * self._either(0.5, after, levels_off), v)

    def _noise(
        self, v: Array, z: Array, span: Array, calming: Array, time: Array
    ) -> tuple[Array, Array]:
        """Adds noise, drift, spikes and instability; returns the noise's size, (s, c, 1), too."""
        size = self._log_study(0.0002, 0.03) * np.exp(0.7 * z[..., 10:11])
        decaying = np.minimum(self._study() * time**-0.5, 6) + 0.3
        shape = self._either(0.4, decaying, np.ones(1)) * calming
        room = np.sqrt(4 * np.maximum(v * (1 - v), 1e-4))  # less where it is saturated
        e = self._autocorrelated()
        noisy = v + size * shape * e * self._either(0.5, room, np.ones(1))
        walk = np.cumsum(self.rng.normal(size=v.shape), axis=-1) / math.sqrt(self.n_steps)
        drift = self._some(0.3) * self._log_study(0.002, 0.15) * np.exp(0.5 * z[..., 11:12])
        noisy = noisy + drift * walk
        often = self._some(0.3) * self._log_study(0.001, 0.08) * np.exp(0.6 * z[..., 12:13])
        spikes = self.rng.uniform(size=v.shape) < often
        height = self._either(0.6, self._study(), self._log_study(0.3, 10))
        noisy = noisy - spikes * span * self.rng.uniform(size=v.shape) ** 2 * height
        unstable = self._some(0.25) & (z[..., 12:13] > 0.8)
        swing = span * self._log_trial(0.02, 0.5) * (0.3 + self._trial())
        return np.where(unstable, noisy - swing * np.abs(e), noisy), size

    def _divergence(self, v: Array, z: Array, start: Array, rough: Array, time: Array) -> Array:
        """Falls to chance or below, for ever or for a while."""
        how_often = self._some(0.35) * self._log_study(0.01, 0.5)
        falls = _sigmoid(1.5 * z[..., 13:14]) > 1 - 0.7 * how_often
        since = time - 1.05 * self._trial() ** 1.5
        below = 0.8 * self._trial() * start - 0.3 * self._study() * self._some(0.3)
        low = np.where(self._trial() < 0.6, start, below)
        returns = 1 - np.exp(-np.maximum(since, 0) / (0.02 + 0.3 * self._trial()))
        back = np.where(self._trial() < self._study() ** 2, returns, 0.0)
        slowly = np.where(self._trial() < self._study(), self._log_trial(0.01, 0.3), 1e-4)
        left = np.exp(-np.maximum(since, 0) / slowly)
        fallen = (
            low + (v - low) * np.maximum(back, left) + 0.1 * rough * self.rng.normal(size=v.shape)
        )
        return np.where(falls & (since > 0), fallen, v)

    def _thrown_off(self, v: Array, z: Array, start: Array, time: Array) -> Array:
        """At the start far below where it began, then back, also only to chance, or never."""
        thrown = self._some(0.3) & (_sigmoid(1.7 * z[..., 15:16]) < 0.7 * self._study())
        speed = self._log_trial(0.01, 1) * np.exp(0.5 * z[..., 13:14])
        waits = 0.8 * self._trial() * (self._trial() < self._study())
        x = np.maximum(time - waits, 0) / speed
        left = np.exp(-(x ** np.exp(0.4 * self._trial_normal())))
        left = np.where(self._trial() < self._study(), 1.0, left)
        first = (time > 1.5 / self.n_steps).astype(float)  # the first point may be before it
        depth = self._log_trial(0.05, 30) * left * self._either(0.5, first, np.ones(1))
        shaken = 1 + 0.3 * self._trial() * self.rng.normal(size=v.shape)
        back = np.where(self._trial() < 0.5 * self._study(), np.minimum(v, start), v)
        return np.where(thrown, back - depth * shaken, v)

    def _in_and_out(self, v: Array, z: Array, start: Array) -> Array:
        """Collapses again and again, and recovers at once: a chain of two states."""
        happens = self._some(0.1) & (_sigmoid(1.7 * z[..., 12:13]) < 0.7 * self._study())
        out = 1 - np.exp(-self._log_trial(0.3, 60) * self._log_study(0.3, 3) / self.n_steps)
        back = 1 - np.exp(-self._log_trial(1, 100) * self._log_study(0.3, 3) / self.n_steps)
        lot = self.rng.uniform(size=v.shape)
        is_out = np.zeros(v.shape, bool)
        is_out[..., 0] = lot[..., 0] < 0.5 * self._study()[..., 0]
        for i in range(1, self.n_steps):
            was = is_out[..., i - 1]
            is_out[..., i] = np.where(was, lot[..., i] > back[..., 0], lot[..., i] < out[..., 0])
        low = np.where(self._trial() < self._study(), start * self._trial(), -_BEYOND)
        low = low - self._log_trial(1e-3, 1) * self.rng.uniform(size=v.shape)
        return np.where(happens & is_out, np.minimum(v, low), v)

    def _flat(
        self, v: Array, z: Array, start: Array, asymptote: Array, rough: Array, time: Array
    ) -> Array:
        """Never learns, or escapes from that late."""
        how_often = self._some(0.5) * 0.8 * self._study() ** 2
        flat = _sigmoid(1.7 * z[..., 14:15]) < how_often
        size = np.where(self._trial() < 0.5, self._log_trial(1e-5, 0.003), 0.3 * rough)
        stuck = start + (asymptote - start) * self._trial()
        level = np.where(self._trial() < 0.8, start, stuck)
        line = level + size * self._autocorrelated()
        after = np.maximum(time - self._trial() ** 1.3, 0)
        rise = (asymptote - level) * (1 - np.exp(-after / (0.02 + 0.3 * self._trial())))
        escaped = np.where(self._trial() < 0.5 * self._study() ** 4, line + rise, line)
        return np.where(flat, escaped, v)

    def _lost(self, v: Array, z: Array, time: Array) -> Array:
        """NaN from some step on, early ones as a rule: as bad as is measured, exactly."""
        lost = self._some(0.1) & (_sigmoid(1.7 * z[..., 13:14]) < 0.7 * self._study())
        return np.where(lost & (time > self._trial() ** 3), -_BEYOND, v)

    def _of_two_kinds(self, v: Array, chance: Array, top: Array) -> Array:
        """Some studies try two kinds of trials, the other as in the study beside it."""
        other = self._some(0.4) & (self._trial() < 0.5 * self._study())
        beside = (np.roll(x, 1, axis=0) for x in (v, chance, top))
        w, low, high = beside
        scaled = chance + (w - low) / (high - low) * (top - chance)
        return np.where(other, scaled, v)

    # --- what is seen of it ---

    def _measured(self, v: Array, chance: Array, top: Array) -> Array:
        """Bounded, or squeezed below 0 as `hpo.curves.scales` does; cut off, rescaled, rounded."""
        bounded = self._some(0.6)
        squeezed = np.where(v < 0, -np.log1p(np.maximum(-v, 0)), v)
        v = np.where(bounded, np.clip(v, 0, 1), np.clip(squeezed, LOWEST, 1))
        low = chance + (top - chance) * (0.9 * self._study() - 0.2)
        high = np.maximum(top + (1 - top) * self._study(), low + 0.02)
        part = np.clip((v - low) / (high - low), 0, 1)
        v = np.where(self._some(0.2) & bounded, part, v)
        untrained = np.clip(chance * (1 + 0.1 * self._trial_normal()), 0, 1)
        v[..., :1] = np.where(self._some(0.15), untrained, v[..., :1])
        share = 0.1 + 0.9 * self._study()
        v = np.where(self._some(0.35), (1 - share) * self._study() + share * v, v)
        full = low + (high - low) * (0.5 + 0.5 * self._study())  # some reach what a metric can show
        v = np.where(self._some(0.08) & bounded, np.minimum(v / np.maximum(full, 0.05), 1), v)
        grain = self._log_study(1e-4, 0.01)
        return np.where(self._some(0.15), np.round(v / grain) * grain, v)

    # --- draws: of a study, shape (s, 1, 1), and of a trial, shape (s, c, 1) ---

    def _study(self) -> Array:
        return self.rng.uniform(size=(self.n_studies, 1, 1))

    def _study_normal(self) -> Array:
        return self.rng.normal(size=(self.n_studies, 1, 1))

    def _trial(self) -> Array:
        return self.rng.uniform(size=(self.n_studies, self.n_trials, 1))

    def _trial_normal(self) -> Array:
        return self.rng.normal(size=(self.n_studies, self.n_trials, 1))

    def _log_study(self, low: float, high: float) -> Array:
        return low * (high / low) ** self._study()

    def _log_trial(self, low: float, high: float) -> Array:
        return low * (high / low) ** self._trial()

    def _some(self, share: float) -> Mask:
        return self._study() < share

    def _either(self, share: float, one: Array, other: Array) -> Array:
        return np.where(self._some(share), one, other)

    def _autocorrelated(self) -> Array:
        """AR(1), e_t = rho e_(t-1) + sqrt(1 - rho^2) w_t; white in most studies."""
        rho = np.where(self._some(0.35), 0.95 * self._study(), 0.0)[..., 0]
        w = self.rng.normal(size=(self.n_studies, self.n_trials, self.n_steps))
        for i in range(1, self.n_steps):
            w[..., i] = rho * w[..., i - 1] + np.sqrt(1 - rho**2) * w[..., i]
        return w


def _sigmoid(x: Array) -> Array:
    y: Array = 1 / (1 + np.exp(-np.clip(x, -50, 50)))
    return y
