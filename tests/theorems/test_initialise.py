"""How weights are drawn at the start: laws of each way, and what becomes of a deep network."""

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import nn

from hpo.trainers.config import TrainerConfig
from hpo.trainers.dense import Dense
from hpo.trainers.initialise import INITS
from hpo.trainers.models import build


def network(
    shape: tuple[int, ...] = (400,), n_outputs: int = 10, seed: int = 0, **fields: object
) -> nn.Module:
    config = TrainerConfig.from_mapping({"width": 300, "depth": 1, **fields})
    return build(config, shape, n_outputs, torch.Generator().manual_seed(seed))


def matrices(model: nn.Module) -> list[torch.Tensor]:
    """All weights; of dense layers as (units, inputs)."""
    found = [p.detach() for p in model.parameters() if p.ndim > 1]
    return [w.t() if w.ndim == 2 else w for w in found]


VARIANCES = {
    "glorot_uniform": 2 / (400 + 300),
    "glorot_normal": 2 / (400 + 300),
    "he_uniform": 2 / 400,
    "he_normal": 2 / 400,
    "lecun_normal": 1 / 400,
    "orthogonal": 1 / 400,  # the squares of a row of 400 sum up to 1
    "normal": 0.03**2,
}


def test_every_way_is_known() -> None:
    assert VARIANCES.keys() == INITS.keys()


@pytest.mark.parametrize("init", sorted(INITS))
def test_weights_have_the_mean_and_variance_of_the_paper(init: str) -> None:
    w = matrices(network(init=init, init_std=0.03))[0]
    v = VARIANCES[init]
    assert w.shape == (300, 400)
    # Of 120,000 draws, a mean is beyond 6 sigma with odds of 1 in 500 million. So is a variance:
    # its relative deviation is at most sqrt(2 / 120,000), that of normal draws.
    assert abs(w.mean().item()) < 6 * math.sqrt(v / 120_000)
    assert w.square().mean().item() == pytest.approx(v, rel=6 * math.sqrt(2 / 120_000))


@pytest.mark.parametrize(
    ("init", "r"), [("glorot", math.sqrt(6 / 700)), ("he", math.sqrt(6 / 400))]
)
def test_uniform_weights_fill_their_interval(init: str, r: float) -> None:
    w = matrices(network(init=f"{init}_uniform"))[0]
    assert 0.999 * r < w.max() <= r  # none in the outer 0.05 %: odds e^-60
    assert -r <= w.min() < -0.999 * r
    assert matrices(network(init=f"{init}_normal"))[0].abs().max() > 2 * r


@pytest.mark.parametrize(("model", "shape"), [("mlp", (40,)), ("mlp", (9,)), ("cnn", (2, 4, 4))])
def test_orthogonal_weights_turn_and_do_not_stretch(model: str, shape: tuple[int, ...]) -> None:
    fields: dict[str, Any] = {"model": model, "width": 20, "depth": 2, "init": "orthogonal"}
    for w in matrices(network(shape, **fields)):
        rows = w.flatten(1)
        short = rows if len(rows) <= rows.shape[1] else rows.T
        torch.testing.assert_close(short @ short.T, torch.eye(len(short)), rtol=0, atol=1e-5)


def test_a_convolution_counts_the_pixels_of_its_kernel() -> None:
    fields: dict[str, Any] = {"model": "cnn", "width": 64, "kernel_width": 5}
    m, n = 3 * 25, 64 * 25
    for init, v in [("glorot_uniform", 2 / (m + n)), ("he_normal", 2 / m), ("lecun_normal", 1 / m)]:
        w = matrices(network((3, 8, 8), init=init, **fields))[0]
        # 4,800 draws: 6 sigma, odds of 1 in 500 million.
        assert w.square().mean().item() == pytest.approx(v, rel=6 * math.sqrt(2 / 4800))


def signals(activation: str, init: str, depth: int = 20, **fields: Any) -> Iterator[float]:
    """The mean square of what each nonlinearity is given, from the first to the last layer."""
    model = network((200,), depth=depth, width=200, activation=activation, init=init, **fields)
    x = torch.randn(256, 200, generator=torch.Generator().manual_seed(1))
    for layer in model.children():
        x = layer(x)
        if isinstance(layer, Dense):
            yield x.square().mean().item()


@pytest.mark.parametrize("init", ["he_normal", "he_uniform"])
def test_hes_weights_keep_the_signal_through_20_layers_of_relu(init: str) -> None:
    # A layer of 200 changes the mean square by a random factor with deviation about sqrt(5 / 200);
    # 20 layers by exp(0.7 Z), and beyond 20 either way with odds of 1 in 50,000; the seed is fixed.
    first, *_, last, _ = signals("relu", init)
    assert first == pytest.approx(2, rel=0.2)
    assert first / 20 < last < first * 20


def test_small_normal_weights_lose_it() -> None:
    # Each layer keeps a share of 200 x 0.01^2 / 2 = 0.01 of the mean square.
    first, *_, last, _ = signals("relu", "normal", init_std=0.01)
    assert last / first == pytest.approx(0.01**19, rel=20)
    assert last < 1e-30


def test_orthogonal_weights_keep_it_exactly_through_a_linear_network() -> None:
    model = network((50,), depth=20, width=50, init="orthogonal")
    x = torch.randn(8, 50, generator=torch.Generator().manual_seed(1))
    y = x
    for layer in [m for m in model.children() if isinstance(m, Dense)][:-1]:
        y = layer(y)
    torch.testing.assert_close(y.norm(dim=1), x.norm(dim=1))


# Biases and the output layer


@pytest.mark.parametrize("model", ["mlp", "cnn", "resnet"])
@pytest.mark.parametrize("norm", ["none", "layer"])
def test_hidden_biases_start_as_asked_and_the_outputs_at_0(model: str, norm: str) -> None:
    fields: dict[str, Any] = {"model": model, "norm": norm, "width": 6, "depth": 3}
    a = network((2, 8, 8), bias_init=0.25, **fields)
    *hidden, output = [p for name, p in a.named_parameters() if name.endswith("bias")]
    assert len(hidden) >= 3
    assert all((bias == 0.25).all() for bias in hidden)
    assert output.shape == (10,)
    assert not output.any()


def test_last_init_changes_nothing_but_the_last_weights() -> None:
    states = []
    for last_init in ("same", "zeros"):
        generator = torch.Generator().manual_seed(0)
        config = TrainerConfig(width=6, last_init=last_init, bias_init=0.1)
        model = build(config, (4,), 3, generator)
        states.append((matrices(model), generator.get_state()))
    ((*same, output), after), ((*others, zeros), after_zeros) = states
    assert all(torch.equal(a, b) for a, b in zip(same, others, strict=True))
    assert output.any()
    assert not zeros.any()
    assert torch.equal(after, after_zeros)


@pytest.mark.parametrize("init", sorted(INITS))
def test_a_seed_decides_the_weights(init: str) -> None:
    a, again, other = (matrices(network((5,), width=6, init=init, seed=k)) for k in (3, 3, 4))
    assert all(torch.equal(w, v) for w, v in zip(a, again, strict=True))
    assert not any(torch.equal(w, v) for w, v in zip(a, other, strict=True))


def test_by_default_layer_after_layer_is_drawn_from_glorots_interval_and_nothing_else() -> None:
    generator = torch.Generator().manual_seed(7)
    config = TrainerConfig(width=[8, 6], norm="batch", dropout=0.2)
    drawn = matrices(build(config, (5,), 3, generator))
    by_hand = torch.Generator().manual_seed(7)
    for w, (n, m) in zip(drawn, [(8, 5), (6, 8), (3, 6)], strict=True):
        r = math.sqrt(6 / (m + n))
        assert torch.equal(w, torch.empty(n, m).uniform_(-r, r, generator=by_hand))
    assert torch.equal(generator.get_state(), by_hand.get_state())
