"""The network that forecasts: its arithmetic in NumPy; PyTorch trains it (`hpo.curves.training`).

A prior-data fitted network (Müller et al. 2022; for learning curves Adriaensen et al. 2023):
trained on curves drawn from a prior (`hpo.curves.prior`), it approximates the posterior predictive
distribution in one pass. Other curves of the study are attended to, so what they went on to do
counts as far as they resemble this one.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load

from hpo.curves import features
from hpo.curves.distributions import Array

Floats = NDArray[np.float32]
Weights = Mapping[str, Floats]

N_BINS = 128
WIDTH, WIDTH_OF_PAIR = 256, 64
REACH = 7.15
"""The end of the bins, as asinh(3.18 / FINEST): a curve may fall from 1 to -2."""
RIMS: Array = features.FINEST * np.sinh(np.linspace(-REACH, REACH, N_BINS + 1))
"""Rims of the bins, as differences from the last value: narrow around it, wide far away."""
KERNELS = (1.0, 3.0, 7.0)
"""Widths, in bins, of the bumps around what other curves did."""
KERNEL_REACH = 24
BLUR = 1e-4
"""Share of the probability that every bin has a part of."""


def positions(difference: Array) -> Array:
    """Where differences from the last value lie among the bins, in bins from the first rim."""
    found: Array = (features.symlog(difference) + REACH) / (2 * REACH) * N_BINS
    return found


def kernels() -> Array:
    """Gaussian bumps, rows sum to 1, shape (3, 2 * reach + 1)."""
    away = np.arange(-KERNEL_REACH, KERNEL_REACH + 1.0)
    bumps = np.exp(-0.5 * (away / np.array(KERNELS)[:, None]) ** 2)
    rows: Array = bumps / bumps.sum(axis=1, keepdims=True)
    return rows


@functools.cache
def shipped_weights() -> Weights:
    """The weights that come with the package."""
    file = resources.files("hpo.curves") / "network.safetensors"
    loaded: Weights = {name: w.astype(np.float32) for name, w in load(file.read_bytes()).items()}
    return loaded


def masses(
    weights: Weights,
    curves: Array,
    queries: Array,
    pairs: Array | None = None,
    residuals: Array | None = None,
) -> Array:
    """Probabilities of the bins for r curves at q future steps each, shape (r, q, n_bins).

    Args:
        weights: Of the network.
        curves: Features of the curves, shape (r, n_features).
        queries: Features of the future steps, shape (r, q, n_of_query).
        pairs: Features of k other curves beside each, shape (r, k, n_of_pair).
        residuals: By how much these rose from the same time to the future steps, (r, k, q).
    """
    net = _Layers(weights)
    x = curves.astype(np.float32)
    h = net("inp", x, silu=True)
    h = h + net("b2", net("b1", h, silu=True))
    h = h + net("b4", net("b3", h, silu=True))
    h = h + net("b6", net("b5", h, silu=True))
    q = queries.astype(np.float32)
    if pairs is None or residuals is None or not pairs.shape[1]:
        z = _mix(net, h, q, net("context", np.zeros((1, 1, WIDTH_OF_PAIR + 2), np.float32)))
        p = _softmax(net("out", z))
    else:
        attention, context = _attend(net, h, q, pairs, residuals)
        z = _mix(net, h, q, context)
        p = _with_bumps(net, z, attention, residuals)
    blurred = p.astype(float) * (1 - BLUR) + BLUR / N_BINS
    normed: Array = blurred / blurred.sum(axis=-1, keepdims=True)
    return normed


def _mix(net: _Layers, h: Floats, q: Floats, context: Floats) -> Floats:
    z = h[:, None] + net("query", q) + context
    z = z + net("h2", net("h1", _silu(z), silu=True))
    z = z + net("h4", net("h3", _silu(z), silu=True))
    return _silu(z)


def _attend(
    net: _Layers, h: Floats, q: Floats, pairs: Array, residuals: Array
) -> tuple[Floats, Floats]:
    """Attention over other curves, (r, k, q), and what it gathers, (r, q, width)."""
    (r, k, _), n_queries = pairs.shape, q.shape[1]
    rose = np.stack([features.symlog(residuals) / 4, residuals * 3], axis=-1)
    seen: list[Array | Floats] = [
        np.broadcast_to(pairs[:, :, None], (r, k, n_queries, pairs.shape[-1])),
        rose,
        np.broadcast_to(q[:, None], (r, k, n_queries, q.shape[-1])),
    ]
    e = net("p1", np.concatenate(seen, axis=-1).astype(np.float32), silu=True)
    e = e + net("p2", e, silu=True)
    e = e + net("p4", e, silu=True)
    # The inner product (W_q h) . (W_k e) / sqrt(64), and a bias of e's own
    asked = net("ask", h)
    scores = net("score", e)[..., 0] + np.einsum("rkqc,rc->rkq", net("key", e), asked) / 8
    attention = _softmax(scores, axis=1)
    gathered = np.einsum("rkq,rkqc->rqc", attention, net("p3", e))
    effective = 1 / (np.sum(attention**2, axis=1)[..., None] + 1e-6)
    n_others = np.full_like(effective, k)
    counts = [np.log1p(n_others) / 2, np.log1p(effective) / 2]
    return attention, net("context", np.concatenate([gathered, *counts], axis=-1))


def _with_bumps(net: _Layers, z: Floats, attention: Floats, residuals: Array) -> Floats:
    """(1 - g) p + g sum_k a_k K(. - residual_k): a gated mixture with what other curves did."""
    r, n_queries, _ = z.shape
    at = np.clip(positions(residuals) - 0.5, 0, N_BINS - 1.001).transpose(0, 2, 1)
    low = np.floor(at).astype(int)
    share = (at - low).astype(np.float32)
    a = attention.transpose(0, 2, 1)
    bumps = np.zeros((r, n_queries, N_BINS + 2 * KERNEL_REACH), np.float32)
    where = np.arange(r)[:, None, None], np.arange(n_queries)[None, :, None]
    np.add.at(bumps, (*where, low + KERNEL_REACH), a * (1 - share))
    np.add.at(bumps, (*where, low + 1 + KERNEL_REACH), a * share)
    slid = np.lib.stride_tricks.sliding_window_view(bumps, 2 * KERNEL_REACH + 1, axis=-1)
    smooth = np.einsum("rqbx,wx->rqwb", slid, kernels().astype(np.float32), optimize=True)
    smooth = smooth / (smooth.sum(axis=-1, keepdims=True) + 1e-6)
    gate = net("gate", z)
    g = 1 / (1 + np.exp(-gate[..., :1]))
    mixed = np.einsum("rqw,rqwb->rqb", _softmax(gate[..., 1:]), smooth)
    p: Floats = (1 - g) * _softmax(net("out", z)) + g * mixed
    return p


class _Layers:
    """The network's linear layers by name."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights

    def __call__(self, name: str, x: Floats, *, silu: bool = False) -> Floats:
        y: Floats = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return _silu(y) if silu else y


def _silu(x: Floats) -> Floats:
    y: Floats = x / (1 + np.exp(-np.clip(x, -60, None)))
    return y


def _softmax(x: Floats, axis: int = -1) -> Floats:
    e = np.exp(x - x.max(axis=axis, keepdims=True))
    p: Floats = e / e.sum(axis=axis, keepdims=True)
    return p
