"""What networks must obey, whatever they are trained on."""

import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.flop_counter import FlopCounterMode

from hpo.trainers.config import TrainerConfig
from hpo.trainers.metrics import n_parameters
from hpo.trainers.models import (
    MODELS,
    NORMS,
    Dropout,
    Residual,
    build,
    convolution,
    operations,
)

DEEP = ("mlp", "cnn", "resnet")


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def network(
    model: str = "mlp", shape: tuple[int, ...] = (2, 5, 5), n_outputs: int = 3, **fields: object
) -> nn.Sequential:
    config = TrainerConfig.from_mapping({"model": model, "width": 4, **fields})
    built = build(config, shape, n_outputs, seeded())
    assert isinstance(built, nn.Sequential)
    return built


def images(n: int = 6, shape: tuple[int, ...] = (2, 5, 5)) -> torch.Tensor:
    return torch.randn(n, *shape, generator=seeded(2), dtype=torch.float64)


def matrices(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.ndim > 1]


def shapes(model: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(p.shape) for p in matrices(model)]


# Dropout


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


# Every network


@pytest.mark.parametrize("model", sorted(MODELS))
@pytest.mark.parametrize("n_outputs", [1, 3])
def test_a_network_draws_from_its_generator_alone(model: str, n_outputs: int) -> None:
    state, x = torch.get_rng_state(), images(5).float()
    a, b = (network(model, n_outputs=n_outputs, dropout=0.5) for _ in "ab")
    assert a(x).shape == (5, n_outputs)
    again = a(x)
    assert torch.equal(torch.get_rng_state(), state)
    b(x)
    assert torch.equal(again, b(x))
    assert torch.equal(again, a(x)) == (model == "linear")  # the dropout of deep ones goes on


@pytest.mark.parametrize("model", sorted(MODELS))
def test_with_depth_0_every_model_is_softmax_regression(model: str) -> None:
    a = network(model, (1, 2, 3), depth=0, width=[], dropout=[], norm="batch")
    x = images(5, (1, 2, 3)).float()
    peer = nn.Linear(6, 3)
    nn.init.xavier_uniform_(peer.weight, generator=seeded())
    nn.init.zeros_(peer.bias)
    torch.testing.assert_close(a(x), peer(x.flatten(1)))
    assert n_parameters(a) == 21


@pytest.mark.parametrize(
    ("model", "choice"),
    [
        ("mlp", {}),
        ("mlp", {"residual": True}),
        ("cnn", {"pooling": "max"}),
        ("cnn", {"pooling": "average"}),
        ("resnet", {}),
    ],
)
@pytest.mark.parametrize("norm", sorted(NORMS))
def test_gradients_are_differences(model: str, choice: dict[str, Any], norm: str) -> None:
    a = network(model, norm=norm, activation="tanh", width=[2, 3], **choice).double()
    x, y = images(4), torch.tensor([0, 1, 2, 1])
    values = {name: p.detach().requires_grad_() for name, p in a.named_parameters()}

    def loss(*parameters: torch.Tensor) -> torch.Tensor:
        named = dict(zip(values, parameters, strict=True))
        return cross_entropy(torch.func.functional_call(a, named, (x,)), y)

    assert torch.autograd.gradcheck(loss, tuple(values.values()), fast_mode=True)


# Norms


@pytest.mark.parametrize("model", DEEP)
@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_norm_before_the_nonlinearity_makes_the_scale_of_weights_irrelevant(
    model: str, norm: str
) -> None:
    a, b = (network(model, norm=norm, activation="tanh").double() for _ in "ab")
    with torch.no_grad():
        for w in matrices(b)[:-1]:
            w.mul_(100)
    x = images()
    torch.testing.assert_close(a(x), b(x), rtol=1e-3, atol=1e-4)
    plain, scaled = (network(model, activation="tanh").double() for _ in "ab")
    with torch.no_grad():
        matrices(scaled)[0].mul_(100)
    assert (plain(x) - scaled(x)).abs().max() > 0.1


@pytest.mark.parametrize("model", DEEP)
def test_batch_norm_looks_at_the_batch_in_training_and_at_running_means_after(model: str) -> None:
    a, x = network(model, norm="batch").double(), images(8)
    together, apart = a(x), torch.cat([a(x[:4]), a(x[4:])])
    assert (together - apart).abs().max() > 0.01
    a.eval()
    torch.testing.assert_close(a(x), torch.cat([a(x[:1]), a(x[1:])]))
    before = a(x)
    a.train()(10 * x)
    assert (a.eval()(x) - before).abs().max() > 1e-3


@pytest.mark.parametrize("model", DEEP)
def test_layer_norm_looks_at_one_example(model: str) -> None:
    a, x = network(model, norm="layer").double(), images(8)
    torch.testing.assert_close(a(x), torch.cat([a(row[None]) for row in x]))


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


# Multilayer perceptrons


def test_an_mlp_has_the_layers_it_was_asked_for() -> None:
    assert shapes(network(shape=(5,), depth=0)) == [(5, 3)]
    assert shapes(network(shape=(5,), width=8)) == [(5, 8), (8, 8), (8, 3)]


def test_operations_of_transformers_are_counted_and_recurrent_ones_are_without_limit() -> None:
    layer = nn.TransformerEncoderLayer(16, 2, 32, batch_first=True)
    x = torch.ones(2, 5, 16)
    # The projections in and out, and two dense layers; on a GPU also the products of attention.
    of_layers, of_attention = 2 * 5 * (4 * 16 * 16 + 2 * 16 * 32), 2 * 5 * 2 * 5 * 16
    assert operations(layer, x, 0) in (of_layers, of_layers + of_attention)
    assert torch.backends.mha.get_fastpath_enabled()
    assert operations(nn.LSTM(16, 8, batch_first=True), x, 0) == math.inf
    assert operations(nn.Tanh(), x, 0) == math.inf


class Unusual(nn.Module):
    """A layer that nobody differentiates, and another on either branch of a condition."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.layer = nn.Linear(4, 64), nn.Linear(64, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        with torch.inference_mode():
            x = self.frozen(x)
        x = torch.cond(x.sum() > 0, self.layer, lambda x: self.layer(-x), (x.clone(),))
        return torch.tanh(x)


def test_operations_are_counted_as_pytorch_counts_them() -> None:
    model, x = Unusual().eval(), torch.ones(2, 4)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(x)
    assert operations(model, x, 0) == counter.get_total_flops() / 2


@pytest.mark.parametrize(
    ("model", "of_one"),
    [
        ("linear", 2 * 49 * 3),
        ("mlp", 2 * (49 * 8 + 8 * 4 + 4 * 3)),
        # Convolutions of 7 x 7 and, pooled, of 3 x 3 pixels; what is 3 x 3 is not pooled.
        ("cnn", 2 * (49 * 9 * 8 + 9 * 9 * 8 * 4 + 9 * 4 * 3)),
    ],
)
def test_operations_are_those_of_the_layers(model: str, of_one: int) -> None:
    generator = seeded()
    width = {} if model == "linear" else {"width": [8, 4]}
    config = TrainerConfig.from_mapping({"model": model, "dropout": 0.5, **width})
    built = build(config, (1, 7, 7), 3, generator)
    before = generator.get_state(), torch.get_rng_state()
    for n in (1, 6):
        assert operations(built, torch.ones(n, 1, 7, 7), 0) == of_one
    assert torch.equal(before[0], generator.get_state())
    assert torch.equal(before[1], torch.get_rng_state())


def test_a_list_is_one_value_per_layer() -> None:
    a = network(shape=(5,), depth=3, width=[8, 4, 6], dropout=[0.1, 0.0, 0.5])
    assert [units for _, units in shapes(a)] == [8, 4, 6, 3]
    assert [layer.p for layer in a if isinstance(layer, Dropout)] == [0.1, 0.5]
    alike = network(shape=(5,), width=[8, 8], dropout=[0.1, 0.1])
    x = torch.randn(4, 5, generator=seeded(1))
    assert torch.equal(alike(x), network(shape=(5,), width=8, dropout=0.1)(x))


def residuals(model: nn.Module) -> list[Residual]:
    return [module for module in model.modules() if isinstance(module, Residual)]


def zero(layer: nn.Module) -> None:
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_a_residual_mlp_without_its_shortcuts_is_a_plain_one(norm: str) -> None:
    fields: dict[str, Any] = {"depth": 3, "width": [4, 6, 5], "norm": norm, "bias_init": 0.1}
    residual, plain = network(residual=True, **fields), network(**fields)
    for block in residuals(residual):
        assert [name for name, _ in block.shortcut.named_parameters()] == ["weight"]
        zero(block.shortcut)
    x = images().float()
    assert (residual(x) - plain(x)).abs().max() > 0.01  # other weights
    kept = [p for name, p in residual.named_parameters() if "shortcut" not in name]
    with torch.no_grad():
        for ours, theirs in zip(plain.parameters(), kept, strict=True):
            ours.copy_(theirs)
    torch.testing.assert_close(residual(x), plain(x))


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_a_residual_mlp_whose_branches_are_zero_has_one_layer(norm: str) -> None:
    deep, shallow = network(depth=4, residual=True, norm=norm), network(depth=1, norm=norm)
    for block in residuals(deep):
        zero(block.branch)
    for k in (0, -1):
        nn.init.orthogonal_(matrices(deep)[k], generator=seeded(1))
        matrices(shallow)[k].data = matrices(deep)[k].data
    x = images().float()
    assert len(residuals(deep)) == 3
    torch.testing.assert_close(deep(x), shallow(x))


# Convolutions


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel")
@pytest.mark.parametrize("width", [1, 2, 3, 4, 5, 9])
def test_a_convolution_keeps_the_sides_as_padding_same_does(width: int) -> None:
    ours, peer = nn.Sequential(*convolution(2, 4, width)), nn.Conv2d(2, 4, width, padding="same")
    for parameter in ours.parameters():
        nn.init.normal_(parameter, generator=seeded())
    peer.load_state_dict(ours[-1].state_dict())
    x = images().float()
    torch.testing.assert_close(ours(x), peer(x))


def test_a_cnn_has_the_layers_it_was_asked_for() -> None:
    def of(shape: tuple[int, int, int], width: Any = 6, **fields: Any) -> list[tuple[int, ...]]:
        a = network("cnn", shape, 10, width=width, **fields)
        assert a(torch.zeros(2, *shape)).shape == (2, 10)
        return shapes(a)

    digit = (1, 8, 8)
    assert of(digit, depth=1) == [(6, 1, 3, 3), (6 * 4 * 4, 10)]
    assert of(digit, depth=2)[-1] == (6 * 2 * 2, 10)
    assert of(digit, depth=5)[-1] == (6 * 2 * 2, 10)  # not pooled below 2
    assert of(digit, depth=3, pooling="none")[-1] == (6 * 8 * 8, 10)
    assert of((3, 9, 5), depth=3)[-1] == (6 * 4 * 2, 10)  # 9 x 5, 4 x 2, 4 x 2
    stages = of(digit, depth=2, width=[4, 7], kernel_width=2)
    assert stages == [(4, 1, 2, 2), (7, 4, 2, 2), (7 * 2 * 2, 10)]


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_on_images_of_one_pixel_a_cnn_is_an_mlp(norm: str) -> None:
    fields: dict[str, Any] = {"norm": norm, "kernel_width": 1, "width": [8, 6], "dropout": 0.2}
    x = images(20, (4, 1, 1)).float()
    a, b = network("cnn", (4, 1, 1), **fields), network("mlp", (4,), **fields)
    torch.testing.assert_close(a(x), b(x.flatten(1)))


# Residual networks


def sides(depth: int, *shape: int) -> list[tuple[int, ...]]:
    """Those of the map that each block gives."""
    a, seen = network("resnet", (3, *shape), depth=depth), []
    for block in residuals(a):
        block.register_forward_hook(lambda _block, _x, y: seen.append(tuple(y.shape[2:])))
    a(torch.zeros(2, 3, *shape))
    return seen


def test_a_resnet_halves_the_sides_at_each_third_but_never_below_4() -> None:
    assert sides(6, 32, 32) == [(32, 32)] * 2 + [(16, 16)] * 2 + [(8, 8)] * 2
    assert sides(4, 32, 17) == [(32, 17)] * 2 + [(16, 9), (8, 5)]
    assert sides(2, 8, 8) == [(8, 8), (4, 4)]
    assert sides(3, 8, 8) == [(8, 8), (4, 4), (4, 4)]
    assert sides(3, 7, 9) == [(7, 9), (4, 5), (4, 5)]
    assert sides(3, 6, 32) == [(6, 32)] * 3
    assert sides(1, 32, 32) == [(32, 32)]


def test_nine_blocks_are_the_resnet_20_of_the_paper() -> None:
    widths = [16] * 3 + [32] * 3 + [64] * 3
    a = network("resnet", (3, 32, 32), 10, depth=9, width=widths, norm="batch")
    weighted = [w for name, w in a.named_parameters() if w.ndim > 1 and "shortcut" not in name]
    assert len(weighted) == 20
    # 0.27 million in table 6 of He et al. (2016): 269,722 with batch norm. Ours has projections of
    # 2 x (16 x 32 + 32 x 64) numbers and their norms, and a bias for each channel.
    projections = 16 * 32 + 32 * 64 + 2 * (32 + 64)
    assert n_parameters(a) == 269_722 + projections + 16 + 6 * (16 + 32 + 64)


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_blocks_whose_branches_are_zero_pass_on_what_they_are_given(norm: str) -> None:
    deep = network("resnet", depth=5, norm=norm, activation="relu")
    layers = list(deep)
    for block in residuals(deep):
        zero(block.branch)
    stem = 3 if norm != "none" else 2  # convolution, norm, activation; and 3 of the head
    x = images().float()
    torch.testing.assert_close(deep(x), nn.Sequential(*layers[:stem], *layers[-3:])(x))


@pytest.mark.parametrize("norm", sorted(NORMS))
def test_a_block_is_the_equation_of_the_paper(norm: str) -> None:
    a = network("resnet", (2, 8, 8), depth=2, width=[3, 5], norm=norm).eval()
    block = residuals(a)[1]
    assert isinstance(block.branch, nn.Sequential)
    assert isinstance(block.shortcut, nn.Sequential)
    w_1, w_2 = (m.weight for m in block.branch if isinstance(m, nn.Conv2d))
    (w_s,) = (m.weight for m in block.shortcut if isinstance(m, nn.Conv2d))
    x = images(4, (3, 8, 8)).float()

    def conv(w: torch.Tensor, x: torch.Tensor, stride: int = 1) -> torch.Tensor:
        y = nn.functional.conv2d(x, w, stride=stride, padding=w.shape[-1] // 2)
        standard: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
            "none": lambda y: y,
            "batch": lambda y: y / math.sqrt(1 + 1e-5),  # running mean 0 and variance 1
            "layer": lambda y: nn.functional.group_norm(y, 1),
        }
        return standard[norm](y)

    expected = conv(w_s, x, 2) + conv(w_2, conv(w_1, x, 2).relu())
    torch.testing.assert_close(block(x), expected)
    assert expected.shape == (4, 5, 4, 4)


def test_a_resnet_drops_inside_its_blocks_and_before_its_logits() -> None:
    a = network("resnet", depth=2, dropout=[0.1, 0.5])
    assert [m.p for m in a.modules() if isinstance(m, Dropout)] == [0.1, 0.5, 0.5]
