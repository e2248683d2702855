"""What bounds a model, bias or variance: read from its training and validation errors by size.

The classical reading (A. Ng, Machine Learning Yearning, ch. 20-32; I. Goodfellow et al., Deep
Learning, ch. 11): with the target E, the training error T and the validation error V at the
largest size,

    V - E  =  (T - E)  +  (V - T)
    excess =  bias     +  variance

Bias asks for more capacity, longer training, less regularisation; variance for more data or more
regularisation. What no model could fit, noise in the labels, looks like bias.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike

from hpo.curves.data_needs import Verdict
from hpo.curves.distributions import Array
from hpo.curves.measurements import (
    ROUNDING,
    guessed_bounds,
    natural_best,
    number,
    numbers,
    places,
    qualified,
)
from hpo.curves.scales import meant
from hpo.directions import Direction

Kind = Literal["reached", "bias", "variance", "both", "unclear"]

_MOSTLY = 2 / 3
"""The share of the excess from which on it is called bias, or variance, alone."""

_SURE = 0.8
_LARGEST = 1e100
_NEAR = 4.0  # sizes of at least such a part of the largest have a spread like its own
_DRAWS = 20_000
# Of an error that was measured once everywhere, as a share of it: a guess, with one degree of
# freedom. That is 0.02 of large validation parts, and 0.3 of small ones.
_UNKNOWN_SPREAD = 0.1

_ORDER = ("bias", "variance", "both", "reached").index

_REMEDIES = {
    "bias": "More data will hardly help: train longer, or give the model more capacity or less "
    "regularisation; if none of these lowers the training error, the labels are noisy.",
    "variance": "More data or more regularisation will help; a larger model alone will not.",
    "both": "The model is both too weak and too little constrained: more capacity or longer "
    "training for the one, more data or regularisation for the other.",
    "reached": "",
    "unclear": "More seeds at the largest size would tell.",
}

# What the curve over sizes says of the target wins over the reading at one size.
_REMEDIES_BESIDE = {
    ("unreachable", "variance"): "The gap does not close with data alone: more regularisation will "
    "help; a larger model alone will not.",
    ("unreachable", "both"): "The model is both too weak and too little constrained: more capacity "
    "or longer training for the one, more regularisation for the other.",
    ("reachable", "bias"): "More data is the long way: train longer, or give the model more "
    "capacity or less regularisation; if none of these lowers the training error, the labels are "
    "noisy.",
}


@dataclass(frozen=True)
class Diagnosis:
    """What bounds a model.

    Args:
        kind: reached: the target is met; bias, variance or both: what keeps it from the target;
            unclear: the seeds differ by too much to say.
        probabilities: Of each kind but unclear, by the seeds' spread.
        size: The largest size, at which it is read.
        train: The mean of the metric there on the training part, and its standard error.
        val: The same on the validation part.
        gap_per_doubling: What each doubling of the data has multiplied the gap between them by;
            None where that cannot be told.
        meant: What may be meant by the target, if it seems to be in another unit than the errors.
        verdict: Of `hpo.data_needs` about the same target, if it was asked: what is advised does
            not contradict it.
        target: What is wanted, or the best possible value where nothing was said.
        is_wanted: Whether it was said.
        is_guessed: Whether the standard errors are guesses, since each size was measured once.
    """

    kind: Kind
    probabilities: dict[str, float]
    size: float
    train: tuple[float, float]
    val: tuple[float, float]
    target: float
    is_wanted: bool
    is_guessed: bool = False
    gap_per_doubling: float | None = field(default=None)
    meant: float | None = None
    verdict: Verdict | None = None

    @property
    def sentence(self) -> str:
        """The reading in plain words, with the next thing to do."""
        (t, dt), (v, dv) = self.train, self.val
        goal = f"target {self.target:g}" if self.is_wanted else f"at best {self.target:g}"
        guess = ", ± guessed from one fit" if self.is_guessed else ""
        at = f"training {_measured(t, dt)}, validation {_measured(v, dv)}{guess}, {goal}"
        what = {
            "reached": "Neither bias nor variance: the target is met",
            "bias": "Bias: the training part itself is not learnt well enough",
            "variance": "Variance: validation falls too far behind training",
            "both": "Bias and variance: the training part is not learnt well enough, and "
            "validation falls far behind it",
            "unclear": f"{self._open}: not to be told yet",
        }[self.kind]
        said = f"{what} ({at})."
        remedy = _REMEDIES_BESIDE.get((self.verdict or "", self.kind), _REMEDIES[self.kind])
        text = " ".join(filter(None, (said, self._trend, remedy)))
        text = qualified(text, self.target, self.meant)
        return text[0].upper() + text[1:]

    @property
    def _open(self) -> str:
        """The two kinds between which it is open, if these are as good as sure."""
        first, second = sorted(self.probabilities, key=lambda each: -self.probabilities[each])[:2]
        if self.probabilities[first] + self.probabilities[second] < _SURE:
            return "Bias or variance"
        words = {"both": "both bias and variance", "reached": "the target is met"}
        text = " or ".join(words.get(each, each) for each in sorted((first, second), key=_ORDER))
        return text[0].upper() + text[1:]

    @property
    def _trend(self) -> str:
        factor = self.gap_per_doubling
        if factor is None or self.kind == "reached":
            return ""
        if factor >= 1:
            return "So far the gap does not shrink as data grows."
        return f"So far each doubling of the data leaves {factor:.0%} of the gap."


def _measured(value: float, deviation: float) -> str:
    """0.0199 ± 0.002; without what rounding alone makes of a deviation."""
    return f"{value:.3g} ± {deviation if deviation > ROUNDING * abs(value) else 0:.1g}"


def diagnose(
    sizes: ArrayLike,
    train_errors: ArrayLike,
    val_errors: ArrayLike,
    target: float | None = None,
    *,
    best: float | None = None,
    direction: Direction = "minimize",
) -> Diagnosis:
    """Tells whether bias or variance bounds a model, and how sure that is.

    Standard errors are from the seeds' spread, pooled over the largest sizes, so that one which was
    measured once has the spread of the others. Where all were, a tenth of the error is taken for
    its spread, with as much doubt as of two seeds. The kinds' probabilities are their shares of
    draws of both errors from Student's t, with the covariance that they have.

    Args:
        sizes: Training-set sizes, shape (k,); repeats, of several seeds, allowed.
        train_errors: The metric on the training part, shape (k,); NaN where missing.
        val_errors: The metric on the validation part, shape (k,); NaN where missing.
        target: The value to reach; without it, the reading is against `best`.
        best: The best value that the metric can have; without it, 0 of errors that are never
            negative, and 1 of scores between 0 and 1.
        direction: "maximize" for scores.

    Raises:
        ValueError: the shapes differ, no size has both errors, a size is below 1, an error is
            infinite or beyond 1e100, or there is neither a target nor a best value.
    """
    if direction not in ("minimize", "maximize"):
        raise ValueError(f"direction is 'minimize' or 'maximize', not {direction!r}")
    names = ("sizes", "training errors", "validation errors")
    n, t, v = map(numbers, (sizes, train_errors, val_errors), names)
    if not n.shape == t.shape == v.shape or n.ndim != 1:
        raise ValueError(
            f"shapes differ: sizes {n.shape}, training {t.shape}, validation {v.shape}"
        )
    seen = ~(np.isnan(n) | np.isnan(t) | np.isnan(v))
    n, t, v = n[seen], t[seen], v[seen]
    if not len(n):
        raise ValueError("no size has both a training and a validation error")
    places(n)  # refuses what is none
    goal, best = (
        None if each is None else number(each, name, 0.02)
        for each, name in ((target, "target"), (best, "best value"))
    )
    if not np.all(np.abs([*t, *v, *(x for x in (goal, best) if x is not None)]) <= _LARGEST):
        raise ValueError("errors, target and best value are finite numbers, below 1e100")
    doubt = meant(goal, v, direction) if goal is not None and best is None else None
    best = _best(np.append(t, v), goal, direction) if best is None else best
    goal = best if goal is None else goal
    sign = -1.0 if direction == "maximize" else 1.0
    at, both = n == n.max(), np.stack([t, v])
    excess = sign * (both - goal)
    root, dof = _root_of_covariance(n, sign * both, np.abs(both - best))
    shares = _shares(*_drawn(excess[:, at].mean(1), root, max(1, dof)))
    kind = max(shares, key=lambda each: shares[each])
    (train, val), (se_train, se_val) = both[:, at].mean(1), np.hypot(*root.T)
    return Diagnosis(
        kind=kind if shares[kind] >= _SURE else "unclear",  # type: ignore[arg-type]
        probabilities=shares,
        size=float(n.max()),
        train=(float(train), float(se_train)),
        val=(float(val), float(se_val)),
        target=goal,
        is_wanted=target is not None,
        is_guessed=not dof,
        gap_per_doubling=_per_doubling(n, sign * (v - t)),
        meant=doubt,
    )


def _best(values: Array, target: float | None, direction: Direction) -> float:
    """The best value of a metric of which nobody has said it, beside a target at least a guess.

    Raises:
        ValueError: there is nothing to compare with.
    """
    if target is None and natural_best(values, None, direction) is None:
        raise ValueError("give a target, or the best value that the metric can have, to compare")
    low, high = guessed_bounds(values, target, direction)
    return high if direction == "maximize" else low


def _root_of_covariance(n: Array, values: Array, errors: Array) -> tuple[Array, int]:
    """L, where L L' is the covariance of the means at the largest size, by the spread near it.

    Small sizes differ by more. Its degrees of freedom come second, 0 of a guess.

    Args:
        n: Sizes, shape (k,).
        values: Of training and validation, shape (2, k).
        errors: How far these are from the best value, shape (2, k).
    """
    near = n >= n.max() / _NEAR * (1 - ROUNDING)
    unique, index, counts = np.unique(n[near], return_inverse=True, return_counts=True)
    dof = int(near.sum()) - len(unique)
    if not dof:
        return np.diag(_UNKNOWN_SPREAD * errors[:, np.argmax(n)]), 0
    means = np.stack([np.bincount(index, each) for each in values[:, near]]) / counts
    deviations = values[:, near] - means[:, index]
    deviations[np.abs(deviations) <= ROUNDING * np.abs(values[:, near])] = 0.0
    deviations /= np.sqrt(dof * counts[-1])
    # Of singular ones, too, as where all training errors are 0: X = Q R, so that X' X = R' R.
    return np.asarray(np.linalg.qr(deviations.T, mode="r")).T, dof


def _drawn(means: Array, root: Array, dof: int) -> Array:
    """Draws from Student's t of two dimensions, shape (2, `_DRAWS`)."""
    rng = np.random.default_rng(0)  # fixed, so that the same errors give the same answer
    draws = root @ rng.standard_normal((2, _DRAWS))
    return np.asarray(means[:, None] + draws / np.sqrt(rng.chisquare(dof, _DRAWS) / dof))


def _shares(bias: Array, excess: Array) -> dict[str, float]:
    """How often each kind is drawn: by how much training and validation miss the target."""
    gap = np.maximum(excess - bias, 0.0)
    of_gap = gap / (gap + np.maximum(bias, 0.0) + 1e-300)
    reached = excess <= 0
    found = {
        "reached": reached,
        "bias": ~reached & (of_gap <= 1 - _MOSTLY),
        "variance": ~reached & (of_gap >= _MOSTLY),
    }
    shares = {kind: float(each.mean()) for kind, each in found.items()}
    return {**shares, "both": 1.0 - sum(shares.values())}


def _per_doubling(n: Array, gap: Array) -> float | None:
    """What each doubling multiplies the gap by, by least squares on logarithms of its means."""
    unique, index = np.unique(n, return_inverse=True)
    means = np.bincount(index, gap) / np.bincount(index)
    if len(unique) < 3 or (means <= 0).any():
        return None
    slope = np.polyfit(np.log2(unique), np.log2(means), 1)[0]
    return float(2.0**slope)
