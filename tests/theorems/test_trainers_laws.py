"""What training must obey, whatever the data."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainers.classifier import fit
from trainers.config import ClassifierConfig
from trainers.data import Classification, load
from trainers.models import MODELS, NORMS, Dropout, Layers, cnn, convolution, dense, mlp
from trainers.optimizers import OPTIMIZERS, build, set_learning_rate, set_momentum
from trainers.schedules import SCHEDULES, Schedule


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# Schedules


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


@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_training_steps_at_the_scheduled_rate(schedule: str) -> None:
    # In softmax regression without momentum the bias moves by eps_k times the mean residual; we
    # take the steps by hand, with the rates that the schedule says.
    data = load("iris", seed=0)
    n = len(data.train_y)
    config = {"schedule": schedule, "learning_rate": 0.5, "warmup_epochs": 1, "epochs": 7}
    fields = {**config, "depth": 0, "batch_size": n, "momentum": 0}
    reports = list(fit(fields, data, seed=4, device="cpu"))

    rates = Schedule.of(config, steps_per_epoch=1)
    w, b = dense(data.n_features, data.n_classes, seeded(4)).weight.detach(), torch.zeros(3)
    truth = nn.functional.one_hot(data.train_y)
    for k, report in enumerate(reports):
        residual = (data.train_x @ w.T + b).softmax(dim=1) - truth
        w = w - rates.learning_rate(k) * residual.T @ data.train_x / n
        b = b - rates.learning_rate(k) * residual.mean(dim=0)
        expected = cross_entropy(data.val_x @ w.T + b, data.val_y).item()
        assert report.metrics["val_loss"] == pytest.approx(expected, rel=1e-5)


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
        model = mlp(ClassifierConfig(depth=depth, width=8), (5,), 3, seeded())
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


# Norms and convolutions


def network_of(
    norm: str, model: str = "mlp", shape: tuple[int, ...] = (2, 5, 5), **config: object
) -> nn.Module:
    fields = {"model": model, "norm": norm, "activation": "tanh", "width": 4, **config}
    checked = ClassifierConfig.from_mapping(fields)
    return MODELS[model](checked, shape, 3, seeded()).double()


def images(n: int = 6, shape: tuple[int, ...] = (2, 5, 5)) -> torch.Tensor:
    return torch.randn(n, math.prod(shape), generator=seeded(2), dtype=torch.float64)


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("norm", sorted(NORMS))
@pytest.mark.parametrize("pooling", ["max", "average"])
def test_gradients_are_differences(model: str, norm: str, pooling: str) -> None:
    network = network_of(norm, model, pooling=pooling, width=[3, 2], depth=2)
    x, y = images(), torch.tensor([0, 1, 2, 2, 1, 0])
    values = {name: p.detach().requires_grad_() for name, p in network.named_parameters()}

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(values, parameters, strict=True))
        return cross_entropy(torch.func.functional_call(network, named, (x,)), y)

    assert torch.autograd.gradcheck(loss, tuple(values.values()))


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_norm_before_the_nonlinearity_makes_the_scale_of_weights_irrelevant(
    model: str, norm: str
) -> None:
    a, b = network_of(norm, model), network_of(norm, model)
    with torch.no_grad():
        for w in matrices(b)[:-1]:
            w.mul_(100)
    x = images()
    torch.testing.assert_close(a(x), b(x), rtol=1e-3, atol=1e-4)
    plain, scaled = network_of("none", model), network_of("none", model)
    with torch.no_grad():
        matrices(scaled)[0].mul_(100)
    assert (plain(x) - scaled(x)).abs().max() > 0.1


@pytest.mark.parametrize("model", sorted(MODELS))
def test_batch_norm_looks_at_the_batch_in_training_and_at_running_means_after(model: str) -> None:
    network, x = network_of("batch", model), images(8)
    together, apart = network(x), torch.cat([network(x[:4]), network(x[4:])])
    assert (together - apart).abs().max() > 0.01
    network.eval()
    torch.testing.assert_close(network(x), torch.cat([network(x[:1]), network(x[1:])]))
    before = network(x)
    network.train()(10 * x)
    assert (network.eval()(x) - before).abs().max() > 1e-3


@pytest.mark.parametrize("model", sorted(MODELS))
def test_layer_norm_looks_at_one_example(model: str) -> None:
    network, x = network_of("layer", model), images(8)
    torch.testing.assert_close(network(x), torch.cat([network(row[None]) for row in x]))


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_what_is_normalised_has_mean_0_and_deviation_1(norm: str, rank: int) -> None:
    x = 5 + 3 * torch.randn(200, 30, *[4] * (rank - 1), generator=seeded())
    layer = NORMS[norm]
    assert layer is not None
    y = layer(30, rank)(x)
    over = 1 if norm == "batch" else 0
    y = y.movedim(over, 0).flatten(start_dim=1)
    assert y.mean(dim=1).abs().max() < 1e-5
    assert (y.std(dim=1, correction=0) - 1).abs().max() < 1e-4


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 9])
def test_a_convolution_keeps_the_sides_as_padding_same_does(width: int) -> None:
    layers: Layers = convolution(2, 4, width, seeded())
    ours, peer = nn.Sequential(*layers), nn.Conv2d(2, 4, width, padding="same", device="meta")
    peer.to_empty(device="cpu").load_state_dict(layers[-1].state_dict())
    x = images().float().view(6, 2, 5, 5)
    torch.testing.assert_close(ours(x), peer(x))
    r = math.sqrt(6 / (6 * width**2))
    weight = matrices(ours)[0]
    assert 0.5 * r < weight.abs().max() <= r  # all 8 or more below a half: odds 2^-8, seed fixed
    assert not biases(ours)[0].any()


def test_a_cnn_has_the_layers_it_was_asked_for() -> None:
    def shapes(shape: tuple[int, int, int], **config: object) -> list[tuple[int, ...]]:
        fields = {"model": "cnn", "width": 6, **config}
        network = cnn(ClassifierConfig.from_mapping(fields), shape, 10, seeded())
        assert network(torch.zeros(2, math.prod(shape))).shape == (2, 10)
        return [tuple(p.shape) for p in matrices(network)]

    digit = (1, 8, 8)
    assert shapes(digit, depth=0) == [(10, 64)]
    assert shapes(digit, depth=1) == [(6, 1, 3, 3), (10, 6 * 4 * 4)]
    assert shapes(digit, depth=2)[-1] == (10, 6 * 2 * 2)
    assert shapes(digit, depth=5)[-1] == (10, 6 * 2 * 2)  # not pooled below 2
    assert shapes(digit, depth=3, pooling="none")[-1] == (10, 6 * 8 * 8)
    assert shapes((3, 9, 5), depth=3)[-1] == (10, 6 * 4 * 2)  # 9 x 5, 4 x 2, 4 x 2
    stages = shapes(digit, depth=2, width=[4, 7], kernel_width=2)
    assert stages == [(4, 1, 2, 2), (7, 4, 2, 2), (10, 7 * 2 * 2)]


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_on_images_of_one_pixel_a_cnn_is_an_mlp(norm: str) -> None:
    data = load("iris", seed=0)
    pixels = replace(data, image_shape=(data.n_features, 1, 1))
    config = {"norm": norm, "kernel_width": 1, "width": [8, 6], "dropout": 0.2, "epochs": 2}

    def losses(model: str, data: Classification) -> list[float]:
        reports = fit({**config, "model": model}, data, seed=0)
        return [report.metrics["val_loss"] for report in reports]

    assert losses("cnn", pixels) == pytest.approx(losses("mlp", data), rel=1e-4)


def test_a_list_is_one_value_per_layer() -> None:
    fields = {"depth": 3, "width": [8, 4, 6], "dropout": [0.1, 0.0, 0.5]}
    config = ClassifierConfig.from_mapping(fields)
    network = mlp(config, (5,), 3, seeded())
    assert [w.shape[0] for w in matrices(network)] == [8, 4, 6, 3]
    assert [layer.p for layer in network if isinstance(layer, Dropout)] == [0.1, 0.0, 0.5]
    same = {**fields, "width": [8] * 3, "dropout": [0.1] * 3}
    alike = [
        fit({**f, "epochs": 2}, "iris", seed=0)
        for f in (same, {**same, "width": 8, "dropout": 0.1})
    ]
    assert [r.metrics for r in alike[0]] == [r.metrics for r in alike[1]]


@pytest.mark.parametrize("model", sorted(MODELS))
def test_with_depth_0_every_model_is_softmax_regression(model: str) -> None:
    config = ClassifierConfig(model=model, depth=0, width=[], dropout=[], norm="batch")
    network = MODELS[model](config, (1, 2, 3), 4, seeded())
    layer, x = dense(6, 4, seeded()), images(5, (1, 2, 3)).float()
    assert torch.equal(network(x), layer(x))


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
    return mlp(ClassifierConfig(width=8), (5,), 3, seeded()).double()


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.ndim > 1]


def biases(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.ndim == 1]


@pytest.mark.parametrize("name", sorted(OPTIMIZERS))
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


@pytest.mark.parametrize("name", ["adam", "adamw"])
def test_adam_with_decay_is_adamw(name: str) -> None:
    ours, peer = network(), network()
    config = ClassifierConfig(optimizer=name, learning_rate=0.01, weight_decay=0.3)
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


@pytest.mark.parametrize(
    ("name", "peer"),
    [
        ("adagrad", torch.optim.Adagrad),
        ("rmsprop", torch.optim.RMSprop),
        ("adam", torch.optim.Adam),
        ("adamw", torch.optim.Adam),
    ],
)
def test_an_optimizer_is_that_of_pytorch_with_its_usual_constants(
    name: str, peer: Callable[..., torch.optim.Optimizer]
) -> None:
    ours, theirs = network(), network()
    config = ClassifierConfig(optimizer=name, learning_rate=0.02)
    optimizer = build(config, ours.parameters())
    set_momentum(optimizer, 0.5)  # plays no part
    a, b = trained(optimizer, ours), trained(peer(theirs.parameters(), lr=0.02), theirs)
    torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("nesterov", [False, True])
def test_momentum_may_change_at_every_step_and_come_to_0(*, nesterov: bool) -> None:
    w = nn.Parameter(torch.tensor([[1.0, -2.0]], dtype=torch.float64))
    config = ClassifierConfig(learning_rate=0.1, momentum=0.9, nesterov=nesterov)
    optimizer = build(config, [w])
    x, v = w.detach().clone(), torch.zeros_like(w)
    for mu in (0.0, 0.9, 0.5, 0.0, 0.8):
        g = 3 * x
        v = mu * v + g
        x = x - 0.1 * (g + mu * v if nesterov else v)
        w.grad = 3 * w.detach()
        set_momentum(optimizer, mu)
        optimizer.step()
    torch.testing.assert_close(w.detach(), x, rtol=1e-12, atol=0)


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
