"""What training must obey, whatever the data."""

import math
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.nn.functional import cross_entropy
from torch.optim import lr_scheduler

from trainers.classifier import fit
from trainers.config import ClassifierConfig
from trainers.data import load
from trainers.models import Dropout, dense, mlp
from trainers.optimizers import build, set_learning_rate
from trainers.schedules import SCHEDULES, learning_rate


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Schedules


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [0.5, 0.5, 0.5, 0.5, 0.5, 0.5]),
        ("linear", [0.5, 0.3875, 0.275, 0.1625, 0.05, 0.05]),
        (
            "cosine",
            [0.5, 0.275 + 0.225 / math.sqrt(2), 0.275, 0.275 - 0.225 / math.sqrt(2), 0.05, 0.05],
        ),
    ],
)
def test_schedules_have_closed_forms(schedule: str, expected: list[float]) -> None:
    rates = [learning_rate(k, 0.5, schedule, 4, 0.1) for k in range(6)]
    assert rates == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_schedules_are_those_of_pytorch(schedule: str) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.3)
    peer = (
        lr_scheduler.LinearLR(optimizer, start_factor=1, end_factor=0.01, total_iters=50)
        if schedule == "linear"
        else lr_scheduler.CosineAnnealingLR(optimizer, T_max=50, eta_min=0.003)
    )
    for k in range(51):
        assert learning_rate(k, 0.3, schedule, 50, 0.01) == pytest.approx(
            peer.get_last_lr()[0], rel=1e-9
        )
        optimizer.step()
        peer.step()


@given(
    st.sampled_from(sorted(SCHEDULES)),
    st.floats(1e-6, 10),
    st.floats(0.5, 300),
    st.floats(0, 1),
)
def test_schedules_fall_from_first_to_last_and_stay(
    schedule: str, eps_0: float, horizon: float, fraction: float
) -> None:
    rates = [learning_rate(k, eps_0, schedule, horizon, fraction) for k in range(310)]
    last = eps_0 if schedule == "constant" else eps_0 * fraction
    assert rates[0] == pytest.approx(eps_0)
    assert rates[-1] == pytest.approx(last, abs=1e-12)
    assert all(later <= earlier + 1e-12 for earlier, later in pairwise(rates))
    assert len(set(rates[math.ceil(horizon) :])) == 1


def test_a_schedule_that_ends_where_it_began_is_constant() -> None:
    config = {"epochs": 3, "width": 16, "final_lr_fraction": 1}
    cosine, constant = (
        [r.metrics for r in fit({**config, "schedule": name}, "iris", seed=0)]
        for name in ("cosine", "constant")
    )
    assert cosine == constant


def test_tau_is_the_whole_run_unless_it_is_given() -> None:
    config = {"epochs": 4, "width": 16, "schedule": "linear", "batch_size": 16}
    whole, given_, half = (
        [r.metrics for r in fit({**config, "tau": tau}, "iris", seed=0)] for tau in (None, 4, 2)
    )
    assert whole == given_ != half


# Initial weights and dropout


def test_weights_are_drawn_from_glorots_interval() -> None:
    layer = dense(400, 300, seeded())
    r = math.sqrt(6 / 700)
    assert layer.weight.shape == (300, 400)
    assert 0.999 * r < layer.weight.abs().max() <= r  # misses the outer 0.1 %: odds e^-120
    # The sample deviation of 120,000 uniform draws is within 1 % (7.7 sigma) of r / sqrt(3).
    assert layer.weight.std().item() == pytest.approx(r / math.sqrt(3), rel=0.01)
    assert abs(layer.weight.mean().item()) < 6 * r / math.sqrt(3 * 120_000)
    assert not layer.bias.any()
    assert torch.equal(layer.weight, dense(400, 300, seeded()).weight)


def test_an_mlp_has_the_layers_it_was_asked_for() -> None:
    def shapes(depth: int) -> list[tuple[int, ...]]:
        model = mlp(ClassifierConfig(depth=depth, width=8), 5, 3, seeded())
        return [tuple(p.shape) for p in model.parameters() if p.ndim == 2]

    assert shapes(0) == [(3, 5)]
    assert shapes(2) == [(8, 5), (8, 8), (3, 8)]


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_dropout_drops_with_probability_p_and_keeps_the_mean(p: float) -> None:
    layer, ones = Dropout(p, seeded()), torch.ones(1000, 1000)
    y = layer(ones)
    # A share of 10^6 draws is beyond 5 sigma with odds of 1 in 1.7 million.
    assert abs((y == 0).double().mean().item() - p) < 5 * math.sqrt(p * (1 - p) / 1e6)
    assert y[y != 0].unique().tolist() == pytest.approx([1 / (1 - p)])
    assert not torch.equal(y, layer(ones))
    assert torch.equal(layer.eval()(ones), ones)


def test_dropout_passes_the_gradient_of_what_it_kept() -> None:
    x = torch.ones(64, requires_grad=True)
    y = Dropout(0.5, seeded())(x)
    y.sum().backward()
    assert torch.equal(x.grad if x.grad is not None else torch.zeros(0), y.detach())


def test_no_dropout_draws_nothing() -> None:
    generator = seeded()
    before = generator.get_state()
    x = torch.ones(3)
    assert torch.equal(Dropout(0.0, generator)(x), x)
    assert torch.equal(before, generator.get_state())


# Optimizers


def trained(optimizer: torch.optim.Optimizer, model: nn.Module, n_steps: int = 20) -> torch.Tensor:
    generator = seeded(1)
    for _ in range(n_steps):
        x = torch.randn(32, 5, generator=generator, dtype=torch.float64)
        optimizer.zero_grad()
        loss = cross_entropy(model(x), x[:, :3].argmax(dim=1))
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return nn.utils.parameters_to_vector(model.parameters()).detach()


def network() -> nn.Module:
    return mlp(ClassifierConfig(width=8), 5, 3, seeded()).double()


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.ndim == 2]


def biases(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.ndim == 1]


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_without_gradient_weights_decay_geometrically_and_biases_stay(name: str) -> None:
    w, b = (nn.Parameter(torch.ones(shape, dtype=torch.float64)) for shape in ((3, 2), (3,)))
    optimizer = build(ClassifierConfig(optimizer=name, weight_decay=0.5), [w, b])
    w.grad, b.grad = torch.zeros_like(w), torch.zeros_like(b)
    expected = 1.0
    for eps_k in (0.1, 0.05, 0.2):
        set_learning_rate(optimizer, eps_k)
        optimizer.step()
        expected *= 1 - eps_k * 0.5
    assert w.flatten().tolist() == pytest.approx([expected] * 6, rel=1e-12)
    assert b.tolist() == [1.0] * 3


def test_without_momentum_decay_is_the_gradient_of_an_l2_penalty() -> None:
    ours, peer = network(), network()
    config = ClassifierConfig(learning_rate=0.1, momentum=0, weight_decay=0.3)
    penalised = torch.optim.SGD(
        [
            {"params": matrices(peer), "weight_decay": 0.3},
            {"params": biases(peer), "weight_decay": 0.0},
        ],
        lr=0.1,
    )
    a, b = trained(build(config, ours.parameters()), ours), trained(penalised, peer)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_with_momentum_it_is_not() -> None:
    ours, peer = network(), network()
    config = ClassifierConfig(learning_rate=0.1, weight_decay=0.3)
    penalised = torch.optim.SGD(peer.parameters(), lr=0.1, momentum=0.9, weight_decay=0.3)
    a, b = trained(build(config, ours.parameters()), ours), trained(penalised, peer)
    assert (a - b).abs().max() > 1e-3


def test_adam_with_decay_is_adamw() -> None:
    ours, peer = network(), network()
    config = ClassifierConfig(optimizer="adam", learning_rate=0.01, weight_decay=0.3)
    adamw = torch.optim.AdamW(
        [
            {"params": matrices(peer), "weight_decay": 0.3},
            {"params": biases(peer), "weight_decay": 0.0},
        ],
        lr=0.01,
    )
    a, b = trained(build(config, ours.parameters()), ours), trained(adamw, peer)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_is_that_of_pytorch(*, nesterov: bool) -> None:
    ours, peer = network(), network()
    config = ClassifierConfig(learning_rate=0.1, momentum=0.8, nesterov=nesterov)
    sgd = torch.optim.SGD(peer.parameters(), lr=0.1, momentum=0.8, nesterov=nesterov)
    a, b = trained(build(config, ours.parameters()), ours), trained(sgd, peer)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_nesterov_without_momentum_is_plain_descent() -> None:
    plain, nesterov = network(), network()
    a, b = (
        trained(build(ClassifierConfig(momentum=0, nesterov=flag), model.parameters()), model)
        for flag, model in ((False, plain), (True, nesterov))
    )
    assert torch.equal(a, b)


# The loop


def test_one_epoch_of_one_batch_is_one_step_down_the_gradient() -> None:
    data = load("iris", seed=0)
    n, eps = len(data.train_y), 0.7
    config = {"depth": 0, "batch_size": n, "epochs": 1, "momentum": 0, "learning_rate": eps}
    report = next(fit(config, data, seed=4, device="cpu"))

    w = dense(data.n_features, data.n_classes, seeded(4)).weight.detach()
    residual = (data.train_x @ w.T).softmax(dim=1) - nn.functional.one_hot(data.train_y)
    w_1, b_1 = w - eps * residual.T @ data.train_x / n, -eps * residual.mean(dim=0)
    assert report.metrics["train_loss"] == pytest.approx(
        cross_entropy(data.train_x @ w.T, data.train_y).item(), rel=1e-5
    )
    assert report.metrics["val_loss"] == pytest.approx(
        cross_entropy(data.val_x @ w_1.T + b_1, data.val_y).item(), rel=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64, 89, 90])
def test_the_train_loss_is_a_mean_over_examples_not_over_batches(batch_size: int) -> None:
    config = {"epochs": 1, "learning_rate": 1e-30, "width": 16}
    data = load("iris", seed=0)
    whole, parts = (
        next(fit({**config, "batch_size": size}, data, seed=0)).metrics["train_loss"]
        for size in (90, batch_size)
    )
    assert parts == pytest.approx(whole, rel=1e-5)
