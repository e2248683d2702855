"""Backpropagation written out gives what autograd gives."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from hpo.trainers.chain import Chain
from hpo.trainers.config import TrainerConfig
from hpo.trainers.losses import Loss, loss_of
from hpo.trainers.models import Pixels, build
from hpo.trainers.randomness import Randomness
from hpo.trainers.steps import Stepper
from tests.device import DEVICE

HERE = torch.device(DEVICE)
NETWORKS: list[dict[str, Any]] = [
    {"model": "linear"},
    {"model": "mlp", "activation": "relu"},
    {"model": "mlp", "activation": "tanh", "dropout": 0.3},
    {"model": "mlp", "activation": "gelu", "width": [40, 33]},
    {"model": "cnn", "activation": "relu", "dropout": 0.3},
    {"model": "cnn", "activation": "tanh", "pooling": "none"},
    {"model": "cnn", "activation": "gelu", "kernel_width": 5},
    {"model": "cnn", "activation": "relu", "kernel_width": 1},
]
SHAPES = [(1, 6, 6), (1, 7, 5), (3, 9, 4)]


def network(shape: tuple[int, ...], n_outputs: int, **fields: Any) -> nn.Sequential:
    config = TrainerConfig.from_mapping({"width": [5, 4], **fields})
    built = build(config, shape, n_outputs, torch.Generator(HERE).manual_seed(0))
    assert isinstance(built, nn.Sequential)
    return built.double().to(HERE)


def examples(shape: tuple[int, ...], n_outputs: int, n: int = 7) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, *shape, generator=generator, dtype=torch.float64)
    if n_outputs == 1:
        return x.to(HERE), torch.randn(n, generator=generator, dtype=torch.float64).to(HERE)
    return x.to(HERE), torch.randint(n_outputs, (n,), generator=generator).to(HERE)


def losses(n_outputs: int) -> list[Loss]:
    if n_outputs == 1:
        return [loss_of("regression", 0.0)]
    weights = torch.tensor([0.5, 3.0, 1.0], dtype=torch.float64, device=HERE)
    return [
        loss_of("classification", smoothing, some)
        for smoothing in (0.0, 0.1)
        for some in (None, weights)
    ]


@pytest.mark.parametrize("n_outputs", [1, 3])
def test_the_gradient_of_a_loss_is_that_of_autograd(n_outputs: int) -> None:
    _, y = examples((2,), n_outputs)
    for loss in losses(n_outputs):
        outputs = torch.randn(7, n_outputs, dtype=torch.float64, device=HERE, requires_grad=True)
        expected = loss(outputs, y)
        expected.backward()  # type: ignore[no-untyped-call]
        value, gradient = loss.gradient(outputs.detach().clone(), y, 7)
        torch.testing.assert_close(value, expected.detach(), rtol=1e-14, atol=0)
        torch.testing.assert_close(gradient, outputs.grad, rtol=0, atol=1e-15)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("fields", NETWORKS, ids=lambda fields: "-".join(map(str, fields.values())))
def test_the_gradient_is_that_of_autograd(
    fields: dict[str, Any], shape: tuple[int, ...], memory_format: torch.memory_format
) -> None:
    ours, peer = (network(shape, 3, **fields) for _ in range(2))
    for model in (ours, peer):
        model.to(memory_format=memory_format)  # type: ignore[call-overload]
    chain, loss = Chain.of(ours), losses(3)[0]
    assert chain is not None
    x, y = examples(shape, 3)
    x = x.contiguous(memory_format=memory_format)
    for _ in range(2):  # the second is added
        with torch.no_grad():
            value = chain.gradient(x.clone(), y, loss, 7)
        expected = loss(peer(x), y)
        expected.backward()  # type: ignore[no-untyped-call]
        torch.testing.assert_close(value, expected.detach(), rtol=1e-12, atol=0)
    for w, other in zip(ours.parameters(), peer.parameters(), strict=True):
        assert w.grad is not None
        assert w.grad.stride() == w.stride()
        torch.testing.assert_close(w.grad, other.grad, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kernel_width", [1, 3, 5])
def test_of_pixels_that_are_alike_the_first_is_the_largest(kernel_width: int) -> None:
    """Backgrounds are constant: there all four pixels of a pool are."""
    found = []
    x = torch.full((4, 1, 9, 8), 0.7, dtype=torch.float64, device=HERE)
    x[1::2, :, 3:5, 2:6] = -1.5
    y = torch.tensor([0, 1, 0, 2], device=HERE)
    loss = losses(3)[0]
    for by_chain in (True, False):
        model = network((1, 9, 8), 3, model="cnn", kernel_width=kernel_width)
        chain = Chain.of(model)
        assert chain is not None
        if by_chain:
            with torch.no_grad():
                chain.gradient(x.clone(), y, loss, 4)
        else:
            loss(model(x), y).backward()  # type: ignore[no-untyped-call]
        found.append([p.grad for p in model.parameters()])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("micro", [1, 3, 7])
@pytest.mark.parametrize("fields", NETWORKS[:2] + NETWORKS[4:5], ids=lambda f: f["model"])
def test_micro_batches_give_the_gradient_of_the_batch(fields: dict[str, Any], micro: int) -> None:
    x, y = examples((1, 6, 6), 3)
    found = []
    for size in (None, micro):
        model = network((1, 6, 6), 3, **{**fields, "dropout": 0.0})
        config = TrainerConfig.from_mapping({**fields, "micro_batch": size, "precision": "fp32"})
        stepper = Stepper(config, model, "classification", Randomness(0, HERE, borrows=False), HERE)
        with torch.no_grad():
            loss = stepper.gradient([(x, y)], 7)
        found.append([loss, *(p.grad for p in model.parameters())])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


def test_what_has_no_equations_here_is_left_to_autograd() -> None:
    image = (1, 8, 8)
    for fields in ({"norm": "batch"}, {"residual": True}, {"model": "resnet"}):
        assert Chain.of(network(image, 3, **fields)) is None
    assert Chain.of(nn.Linear(3, 2)) is None


def test_pixels_are_in_a_row_one_by_one() -> None:
    x = torch.arange(2 * 3 * 4 * 5.0).view(2, 3, 4, 5)
    assert Pixels()(x).view(2, 4, 5, 3).permute(0, 3, 1, 2).equal(x)
