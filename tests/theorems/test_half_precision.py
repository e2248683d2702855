"""A step in fp16 is the step in fp32, to fp16's three digits, where the gradient is small, too."""

from collections.abc import Mapping

import pytest
import torch
from torch import nn

from hpo.trainers.config import TrainerConfig
from hpo.trainers.devices import WORTH_BF16, choose, settled
from hpo.trainers.randomness import Randomness
from hpo.trainers.steps import Stepper
from tests.device import DEVICE

HERE = torch.device(DEVICE)
LEAST = 2.0**-24
"""The least number of fp16 above 0."""


def moved(**config: object) -> tuple[list[torch.Tensor], float]:
    """How far one step moves each parameter, and the loss's largest derivative by a hidden unit."""
    drawn = torch.Generator().manual_seed(0)
    last = nn.Linear(7, 3)
    model = nn.Sequential(nn.Linear(5, 7, bias=False), nn.Tanh(), last).to(HERE)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(0.02 * torch.randn(p.shape, generator=drawn))
        last.bias[0] += 12.0  # it is sure of class 0
    x = torch.randn(16, 5, generator=drawn).to(HERE)
    y = torch.zeros(16, dtype=torch.int64).to(HERE)
    fields = {"learning_rate": 1e4, "momentum": 0.0, **config}
    randomness = Randomness(0, HERE, borrows=False)
    stepper = Stepper(TrainerConfig.from_mapping(fields), model, "classification", randomness, HERE)
    hidden = model[:2](x).detach().requires_grad_()
    nn.functional.cross_entropy(last(hidden), y).backward()  # type: ignore[no-untyped-call]
    assert hidden.grad is not None
    before = [p.detach().clone() for p in model.parameters()]
    stepper.step(x, y)
    moves = [(p - a).detach() for p, a in zip(model.parameters(), before, strict=True)]
    return moves, float(hidden.grad.abs().max())


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"l2": 1e-5},
        {"clip_norm": 1e-6},
        {"clip_value": 1e-7},
        {"l2": 1e-5, "clip_norm": 1e-6, "micro_batch": 5},
    ],
    ids=lambda change: "-".join(change),
)
def test_what_fp16_would_take_for_0_is_followed_penalised_and_clipped_as_in_fp32(
    change: Mapping[str, object],
) -> None:
    whole, derivative = moved(precision="fp32", **change)
    assert 0 < derivative < LEAST / 2
    half, _ = moved(precision="fp16", **change)
    for a, b in zip(whole, half, strict=True):
        assert (a - b).norm() < 0.02 * a.norm()
    if change:
        plain, _ = moved(precision="fp16")
        assert any((a - b).norm() > 0.1 * b.norm() for a, b in zip(half, plain, strict=True))


@pytest.mark.parametrize("optimizer", ["sgd", "adagrad", "rmsprop", "adam"])
def test_steps_that_overflow_leave_no_trace(optimizer: str) -> None:
    def trained(precision: str) -> tuple[int, list[torch.Tensor]]:
        """So many steps were skipped, and the weights after three that were not."""
        own = {"momentum": 0.9} if optimizer == "sgd" else {}
        fields = {"optimizer": optimizer, "precision": precision, "learning_rate": 1e-4, **own}
        model = nn.Linear(16, 1).to(HERE)
        with torch.no_grad():
            for p in model.parameters():
                p.fill_(0.01)
        randomness = Randomness(0, HERE, borrows=False)
        config = TrainerConfig.from_mapping(fields)
        stepper = Stepper(config, model, "regression", randomness, HERE)
        x, y = torch.ones(8, 16, device=HERE), torch.full((8,), 100.0, device=HERE)
        n_skipped = n = 0
        while n < 3:
            scale = stepper.scaler.get_scale()
            stepper.step(x, y)
            skipped = stepper.scaler.get_scale() < scale
            n, n_skipped = n + (not skipped), n_skipped + skipped
        return n_skipped, [p.detach() for p in model.parameters()]

    (n_skipped, half), (_, whole) = trained("fp16"), trained("fp32")
    assert n_skipped
    for a, b in zip(half, whole, strict=True):
        assert torch.allclose(a - 0.01, b - 0.01, rtol=0.01)


GPU = torch.device("cuda")


@pytest.mark.parametrize(
    ("has_bf16", "config", "share", "chosen"),
    [
        (True, {}, 1.0, "bf16"),
        (True, {}, 0.9, "fp32"),
        (True, {"micro_batch": 50}, 1.0, "fp32"),
        (True, {"micro_batch": 50}, 2.0, "bf16"),
        (True, {"batch_size": 5000}, 0.09, "fp32"),  # there are 1,000 examples
        (True, {"batch_size": 5000}, 0.1, "bf16"),
        (True, {"optimizer": "lbfgs"}, 10.0, "fp32"),
        (False, {}, 10.0, "fp32"),
        (True, {"precision": "fp16"}, 0.1, "fp16"),
        (True, {"precision": "bf16"}, 0.1, "bf16"),
        (True, {"precision": "fp32"}, 10.0, "fp32"),
    ],
)
def test_auto_is_bf16_where_there_is_enough_to_multiply_at_once(
    monkeypatch: pytest.MonkeyPatch,
    *,
    has_bf16: bool,
    config: Mapping[str, object],
    share: float,
    chosen: str,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **_: has_bf16)
    asked = TrainerConfig.from_mapping({"batch_size": 100, **config})
    of_one = share * WORTH_BF16 / 100 / 3
    assert settled(asked, GPU, 1000, lambda: of_one).precision == chosen
    assert settled(asked, torch.device("cpu"), 1000, lambda: of_one).precision == (
        "fp32" if asked.precision == "auto" else asked.precision
    )


def test_on_this_device_auto_is_what_its_hardware_has() -> None:
    half = HERE.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
    chosen = settled(TrainerConfig(), choose(DEVICE), 1000, lambda: WORTH_BF16).precision
    assert chosen == ("bf16" if half else "fp32")
