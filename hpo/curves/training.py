"""Trains the network that forecasts: ``python -m hpo.curves.training``.

It sees nothing but curves drawn from `hpo.curves.prior`, so real curves can test it. Every curve of
a drawn study is forecast from a part of it, with a random number of the others as its history.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional

from hpo.curves import features, network
from hpo.curves.distributions import Array, Mask
from hpo.curves.prior import Prior
from hpo.curves.scales import LOWEST

N_CURVES, N_QUERIES = 16, 3
"""Curves forecast of each study in a batch; future steps of each, the first is the last one."""
SMALL, LARGE = (32, 16), (12, 51)
"""Studies in a batch, and trials in each."""
CRPS_WEIGHT = 10.0
"""Of the CRPS beside the negative log-likelihood, which alone would overlook far misses."""
LEARNING_RATE = 1.5e-3
DrawCurves = Callable[[np.random.Generator, int, int, int], Array]
"""Draws studies' curves: a generator, s, c and n -> goodness, shape (s, c, n)."""
_OF_QUERIES = (1.0, 0.5, 0.5)
_RIMS = torch.tensor(network.RIMS, dtype=torch.float32)


@dataclass(frozen=True)
class Batch:
    """Curves to learn from; r curves with k others and q future steps each.

    Args:
        curves: Features, shape (r, n_features).
        queries: Features of future steps, shape (r, q, n_of_query).
        pairs: Features of the others, shape (r, k, n_of_pair).
        residuals: What the others did, shape (r, k, q).
        mask: Which of the others are seen, shape (r, k).
        outcomes: What happened, as differences from the last value, shape (r, q).
    """

    curves: Tensor
    queries: Tensor
    pairs: Tensor
    residuals: Tensor
    mask: Tensor
    outcomes: Tensor


def draw_curves(rng: np.random.Generator, n_studies: int, n_trials: int, n_steps: int) -> Array:
    """Draws studies from our prior."""
    return Prior(rng, n_studies, n_trials, n_steps).curves()


def draw(rng: np.random.Generator, curves: DrawCurves = draw_curves) -> Batch:
    """Draws a batch whose curves are equally long and seen equally far."""
    n_steps = round(_log_uniform(rng, 6, 220))
    size = LARGE if rng.uniform() < 0.3 else SMALL
    v = curves(rng, *size, n_steps)
    share = rng.uniform() if rng.uniform() < 0.5 else math.exp(-4 * rng.uniform())
    n_seen = int(np.clip(round(share * n_steps), 1, n_steps - 1))
    seen = np.arange(n_seen)
    if rng.uniform() < 0.3:  # steps at uneven distances
        seen = np.flatnonzero(rng.uniform(size=n_seen) < rng.uniform(0.3, 1.0))
        seen = seen if len(seen) else np.array([n_seen - 1])
    own = np.zeros((len(v), 1, 1), bool)
    if rng.uniform() < 0.3:
        v, own = _by_its_beginning(rng, v, int(seen[0]))
    later = rng.integers(n_seen, n_steps, N_QUERIES)
    later[0] = n_steps - 1
    steps = np.arange(1.0, n_steps + 1)
    averages, x, rough = features.of_curve(v[..., seen], steps[seen], float(n_steps))
    last = v[..., seen[-1]]
    rose = v[..., later] - last[..., None]
    others = beside_each(rng, v[..., -1])
    n_others = np.where(own[..., 0], 0, _how_many(rng, *others.shape[::2]))
    beside = np.arange(len(v))[:, None, None], others
    r, k = others.shape[0] * N_CURVES, others.shape[2]
    pairs = features.of_pair(
        averages[:, :N_CURVES].reshape(r, -1),
        last[:, :N_CURVES].reshape(r),
        averages[beside].reshape(r, k, -1),
        last[beside].reshape(r, k),
        rough[..., 1][beside].reshape(r, k),
    )
    query = features.of_query(steps[seen[-1]], steps[later], float(n_steps))
    return Batch(
        _tensor(x[:, :N_CURVES].reshape(r, -1)),
        _tensor(np.broadcast_to(query, (r, *query.shape))),
        _tensor(pairs),
        _tensor(rose[beside].reshape(r, k, -1)),
        torch.from_numpy(np.arange(k) < n_others.reshape(r, 1)),
        _tensor(rose[:, :N_CURVES].reshape(r, -1)),
    )


def beside_each(rng: np.random.Generator, ends: Array) -> Array:
    """The other trials beside each curve, shape (s, N_CURVES, k), in the order they are seen.

    In some studies those that end well come first: where trials are stopped, few others finish.

    Args:
        rng: Draws the order.
        ends: Last values of the curves, shape (s, c).
    """
    n_studies, n_trials = ends.shape
    listed = (np.arange(N_CURVES)[:, None] + np.arange(1, n_trials)) % n_trials
    rank = np.argsort(np.argsort(ends, axis=1), axis=1) / n_trials
    pull = 2 * rng.uniform(size=(n_studies, 1, 1)) * (rng.uniform(size=(n_studies, 1, 1)) < 0.3)
    key = rng.uniform(size=(n_studies, *listed.shape)) - pull * rank[:, listed]
    every = np.broadcast_to(listed, key.shape)
    return np.take_along_axis(every, np.argsort(key, axis=-1), axis=-1)


def _how_many(rng: np.random.Generator, n_studies: int, k: int) -> Array:
    """How many of k others each curve sees, shape (s, N_CURVES)."""
    size = (n_studies, N_CURVES)
    if k + 1 == LARGE[1]:
        return rng.integers(1, k + 1, size).astype(float)
    some = np.floor((k + 1) ** rng.uniform(size=size))
    return np.where(rng.uniform(size=size) < 0.35, 0, some)


def _by_its_beginning(rng: np.random.Generator, v: Array, first: int) -> tuple[Array, Mask]:
    """Some studies as losses whose worst value nobody knows: 0 is where curves begin.

    Returns:
        The curves, and which studies were scaled each curve by its own beginning, (s, 1, 1).
    """
    linear = np.where(v < 0, -np.expm1(np.minimum(-v, 50.0)), v)
    begin = linear[..., first : first + 1]
    own = rng.uniform(size=(len(v), 1, 1)) < 0.3
    zero = np.minimum(np.where(own, begin, np.median(begin, axis=1, keepdims=True)), 0.98)
    g = (linear - zero) / (1 - zero)
    g = np.where(g < 0, -np.log1p(np.maximum(-g, 0)), g)
    chosen = rng.uniform(size=(len(v), 1, 1)) < 0.6
    scaled: Array = np.where(chosen, np.clip(g, LOWEST, 1), v)
    return scaled, chosen & own


class Network(nn.Module):
    """The network of `hpo.curves.network`, with gradients."""

    def __init__(self) -> None:
        super().__init__()
        width, small = network.WIDTH, network.WIDTH_OF_PAIR
        self.inp = nn.Linear(features.N_FEATURES, width)
        self.b1, self.b2 = nn.Linear(width, width), nn.Linear(width, width)
        self.b3, self.b4 = nn.Linear(width, width), nn.Linear(width, width)
        self.b5, self.b6 = nn.Linear(width, width), nn.Linear(width, width)
        self.query = nn.Linear(features.N_OF_QUERY, width)
        self.context = nn.Linear(small + 2, width)
        self.p1 = nn.Linear(features.N_OF_PAIR + 2 + features.N_OF_QUERY, small)
        self.p2, self.p3 = nn.Linear(small, small), nn.Linear(small, small)
        self.p4 = nn.Linear(small, small)
        self.ask, self.key = nn.Linear(width, small), nn.Linear(small, small)
        self.score = nn.Linear(small, 1)
        self.h1, self.h2 = nn.Linear(width, width), nn.Linear(width, width)
        self.h3, self.h4 = nn.Linear(width, width), nn.Linear(width, width)
        self.out = nn.Linear(width, network.N_BINS)
        self.gate = nn.Linear(width, 1 + len(network.KERNELS))
        self.kernels: Tensor
        self.register_buffer("kernels", _tensor(network.kernels())[:, None], persistent=False)
        with torch.no_grad():  # it begins with a broad peak at the last value
            self.out.weight.zero_()
            self.out.bias.copy_(
                -0.05 * torch.linspace(-network.REACH, network.REACH, network.N_BINS).abs()
            )
            self.gate.weight.zero_()
            self.gate.bias[0] = -1

    def forward(self, batch: Batch) -> Tensor:
        """Probabilities of the bins, shape (r, q, n_bins)."""
        h = functional.silu(self.inp(batch.curves))
        h = h + self.b2(functional.silu(self.b1(h)))
        h = h + self.b4(functional.silu(self.b3(h)))
        h = h + self.b6(functional.silu(self.b5(h)))
        attention, context, any_seen = self._attend(h, batch)
        z = h[:, None] + self.query(batch.queries) + context
        z = z + self.h2(functional.silu(self.h1(functional.silu(z))))
        z = z + self.h4(functional.silu(self.h3(functional.silu(z))))
        z = functional.silu(z)
        gate = self.gate(z)
        g = torch.sigmoid(gate[..., :1]) * any_seen
        bumps = self._bumps(attention, batch.residuals)
        mixed = torch.einsum("rqw,rqwb->rqb", torch.softmax(gate[..., 1:], -1), bumps)
        p = (1 - g) * torch.softmax(self.out(z), -1) + g * mixed
        return p * (1 - network.BLUR) + network.BLUR / network.N_BINS

    def _attend(self, h: Tensor, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        residuals, mask = batch.residuals, batch.mask[:, :, None]
        r, k, q = residuals.shape
        rose = torch.stack([torch.asinh(residuals / features.FINEST) / 4, residuals * 3], -1)
        pairs = batch.pairs[:, :, None].expand(r, k, q, -1)
        queries = batch.queries[:, None].expand(r, k, q, -1)
        e = functional.silu(self.p1(torch.cat([pairs, rose, queries], -1)))
        e = e + functional.silu(self.p2(e))
        e = e + functional.silu(self.p4(e))
        asked = torch.einsum("rkqc,rc->rkq", self.key(e), self.ask(h)) / 8
        scores = (self.score(e)[..., 0] + asked).masked_fill(~mask, -1e4)
        attention = torch.softmax(scores, 1) * mask
        any_seen = mask.any(1, keepdim=True).float()
        gathered = torch.einsum("rkq,rkqc->rqc", attention, self.p3(e))
        n_others = mask.sum(1, keepdim=True).float().expand(r, q, 1)
        effective = any_seen / (attention.pow(2).sum(1)[..., None] + 1e-6)
        counts = [torch.log1p(n_others) / 2, torch.log1p(effective) / 2]
        return attention, self.context(torch.cat([gathered, *counts], -1)), any_seen

    def _bumps(self, attention: Tensor, residuals: Tensor) -> Tensor:
        r, _, q = residuals.shape
        at = _positions(residuals) - 0.5
        at = at.clamp(0, network.N_BINS - 1.001).permute(0, 2, 1)
        low = at.floor().long()
        share, a = at - low, attention.permute(0, 2, 1)
        bumps = torch.zeros(r, q, network.N_BINS)
        bumps.scatter_add_(2, low, a * (1 - share))
        bumps.scatter_add_(2, low + 1, a * share)
        flat = bumps.reshape(r * q, 1, -1)
        smooth = functional.conv1d(flat, self.kernels, padding=network.KERNEL_REACH)
        smooth = smooth.reshape(r, q, len(network.KERNELS), -1)
        return smooth / (smooth.sum(-1, keepdim=True) + 1e-6)


def loss_of(p: Tensor, outcomes: Tensor) -> tuple[Tensor, Tensor]:
    """Negative log-likelihood and CRPS, shapes (r, q)."""
    index = _positions(outcomes).floor().long().clamp(0, network.N_BINS - 1)
    nll = -torch.log(torch.gather(p, -1, index[..., None])[..., 0])
    # CRPS = int (F(x) - 1[x >= y])^2 dx; within a bin F is linear from a to b
    below = torch.cumsum(p, -1)
    a, b = below - p, below
    width = _RIMS[1:] - _RIMS[:-1]
    left = torch.clamp((outcomes[..., None] - _RIMS[:-1]) / width, 0, 1)
    c = a + (b - a) * left  # F at y, or where it enters or leaves the bin
    before = left * (a * a + a * c + c * c)
    a, b, c = 1 - a, 1 - b, 1 - c
    after = (1 - left) * (c * c + c * b + b * b)
    crps = (width * (before + after)).sum(-1) / 3
    return nll, crps


def _positions(difference: Tensor) -> Tensor:
    """`network.positions`, of tensors."""
    logged = torch.asinh(difference / features.FINEST)
    return (logged + network.REACH) / (2 * network.REACH) * network.N_BINS


def train(
    n_steps: int,
    seed: int,
    file: Path,
    *,
    start: Path | None = None,
    learning_rate: float = LEARNING_RATE,
    curves: DrawCurves = draw_curves,
) -> None:
    """Trains the network and writes the average of its weights, with a look at it now and then."""
    torch.manual_seed(seed)
    rng = np.random.default_rng(seed)
    net = Network()
    if start is not None:
        net.load_state_dict({k: v.float() for k, v in load_file(start).items()})
    n_weights = sum(w.numel() for w in net.parameters())
    print(f"{n_weights:,} weights, {n_steps:,} steps, seed {seed}")  # noqa: T201 - a script
    optimizer = torch.optim.AdamW(net.parameters(), lr=learning_rate, weight_decay=1e-4)
    average = {name: w.detach().clone() for name, w in net.state_dict().items()}
    importance = torch.tensor(_OF_QUERIES)
    recent, began = [], time.monotonic()
    for step in range(n_steps):
        rate = learning_rate * min(1.0, (step + 1) / 100) * (1 - step / n_steps)
        for group in optimizer.param_groups:
            group["lr"] = rate
        batch = draw(rng, curves)
        nll, crps = loss_of(net(batch), batch.outcomes)
        loss = ((nll + CRPS_WEIGHT * crps) * importance).mean()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        keep = min(0.998, step / (step + 50))
        for name, w in net.state_dict().items():
            average[name].mul_(keep).add_(w, alpha=1 - keep)
        recent.append((nll[:, 0].mean().item(), crps[:, 0].mean().item()))
        if (step + 1) % 500 == 0 or step + 1 == n_steps:
            a, b = np.mean(recent[-500:], axis=0)
            took = (time.monotonic() - began) / 60
            print(f"{step + 1:6,} {took:6.1f} min  nll {a:.4f}  crps {b:.4f}", flush=True)  # noqa: T201
            _write(average, file)


def _write(weights: Mapping[str, Tensor], file: Path) -> None:
    save_file({name: w.half().contiguous() for name, w in weights.items()}, file)


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(low * (high / low) ** rng.uniform())


def _tensor(values: Array) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32))


def main() -> None:
    """Parses the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m hpo.curves.training",
        description=__doc__,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("file", type=Path, help="where to write the weights (.safetensors)")
    parser.add_argument("--steps", type=int, default=12_000, help="batches to learn from")
    parser.add_argument("--seed", type=int, default=0, help="draws curves and first weights")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of PyTorch")
    parser.add_argument("--start", type=Path, help="weights to go on from")
    parser.add_argument(
        "--learning-rate", type=float, default=LEARNING_RATE, help="the highest; it falls to 0"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    train(args.steps, args.seed, args.file, start=args.start, learning_rate=args.learning_rate)


if __name__ == "__main__":
    main()
