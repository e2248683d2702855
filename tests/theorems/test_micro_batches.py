"""k micro-batches give the gradient of one batch, and so a step that ran out of memory its own."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from hpo.trainers.config import FULL_BATCH, TrainerConfig
from hpo.trainers.data.parts import Tensors
from hpo.trainers.randomness import Randomness
from hpo.trainers.steps import Stepper
from tests.device import DEVICE

ROOT = Path(__file__).parents[2]
HERE = torch.device(DEVICE)


def made(
    config: TrainerConfig, weights: torch.Tensor | None = None
) -> tuple[Stepper, nn.Module, Randomness]:
    config = replace(config, precision="fp32")  # GPUs have others
    randomness = Randomness(0, HERE, borrows=False)
    model = nn.Sequential(nn.Linear(5, 7), nn.Tanh(), nn.Linear(7, 3)).double().to(HERE)
    drawn = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=drawn, dtype=p.dtype))
    return Stepper(config, model, "classification", randomness, HERE, weights), model, randomness


def examples(n: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(n, 5, generator=generator, dtype=torch.float64)
    return x.to(HERE), torch.randint(3, (n,), generator=generator).to(HERE)


def gradients(model: nn.Module) -> list[torch.Tensor]:
    return [p.grad.clone() for p in model.parameters() if p.grad is not None]


@pytest.mark.parametrize("micro", [1, 3, 4, 6, 12, 100])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("weights", [None, [0.5, 3.0, 1.0]], ids=["alike", "weighted"])
def test_micro_batches_equal_or_not_give_the_gradient_of_the_batch(
    micro: int, smoothing: float, weights: list[float] | None
) -> None:
    x, y = examples(12)
    w = None if weights is None else torch.tensor(weights, dtype=x.dtype, device=HERE)
    stepper, model, _ = made(TrainerConfig(label_smoothing=smoothing), w)
    loss = stepper.gradient([(x, y)], 12)
    whole = gradients(model)
    cut, same, _ = made(TrainerConfig(label_smoothing=smoothing, micro_batch=micro), w)
    assert cut.gradient([(x, y)], 12).item() == pytest.approx(loss.item(), abs=1e-12)
    assert len(whole) == len(gradients(same)) == 4
    for one, other in zip(whole, gradients(same), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


@pytest.mark.parametrize("n", [2, 3, 63, 64, 137])
@pytest.mark.parametrize("micro", [2, 7, 63, 100])
def test_with_batch_norm_no_micro_batch_has_one_example(n: int, micro: int) -> None:
    config = TrainerConfig(norm="batch", micro_batch=micro)
    stepper, _, _ = made(config)
    sizes = stepper.sizes(n)
    assert sum(sizes) == n
    assert min(sizes) >= 2
    assert max(sizes) <= max(micro, 3)
    assert max(sizes) - min(sizes) <= 1


def test_a_batch_normed_network_that_runs_out_of_memory_is_trained_on_in_parts() -> None:
    class Small(nn.Module):
        """As if more than 40 examples did not fit."""

        def __init__(self) -> None:
            super().__init__()
            self.norm, self.out = nn.BatchNorm1d(5), nn.Linear(5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            if len(x) > 40:
                torch.empty(2**60, device=x.device)  # more than any machine has
            outputs: torch.Tensor = self.out(self.norm(x))
            return outputs

    model = Small().double().to(HERE)
    config = TrainerConfig(norm="batch", batch_size=121, optimizer="sgd", precision="fp32")
    stepper = Stepper(config, model, "classification", Randomness(0, HERE, borrows=False), HERE)
    x, y = examples(121)  # halved twice it would leave one over

    assert 0 < float(stepper.step(x, y)) < 10
    assert stepper.sizes(121) == [31, 30, 30, 30]


@pytest.mark.parametrize("name", FULL_BATCH)
def test_optimizers_of_all_examples_step_alike_in_micro_batches(name: str) -> None:
    part = Tensors(*examples(30))
    ends = []
    for micro in (None, 7):
        stepper, model, _ = made(TrainerConfig(optimizer=name, micro_batch=micro, l2=0.01))
        losses = [float(stepper.step_on_all(part)) for _ in range(3)]
        assert losses[0] > losses[1] > losses[2]
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
    torch.testing.assert_close(ends[0], ends[1], rtol=0, atol=1e-6)


def test_mixed_examples_keep_their_partners_in_micro_batches() -> None:
    x, y = examples(12)
    found = []
    for micro in (None, 5):
        stepper, model, _ = made(TrainerConfig(mixup=0.5, micro_batch=micro))
        stepper.gradient([(x, y)], 12)
        found.append(gradients(model))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-12)


# 100 MB are left; the hidden layer of all 1,024 examples takes 270 MB, and its gradient as much.
_TIGHT = """
import resource, sys
import torch
from tests.device import DEVICE
from hpo.trainers.config import TrainerConfig
from hpo.trainers.randomness import Randomness
from hpo.trainers.steps import Stepper

torch.set_num_threads(1)
torch.manual_seed(0)
here = torch.device(DEVICE)
randomness = Randomness(0, here, borrows=False)
model = torch.nn.Sequential(torch.nn.Linear(4, 65536), torch.nn.ReLU(), torch.nn.Linear(65536, 2))
model.to(here)
config = TrainerConfig(learning_rate=1e-6, momentum=0.0)
stepper = Stepper(config, model, "classification", randomness, here)
x, y = torch.randn(1024, 4).to(here), torch.zeros(1024, dtype=torch.long).to(here)
stepper.step(x[:1], y[:1])  # makes what is made once
if here.type == "cuda":
    torch.cuda.empty_cache()
    room = torch.cuda.memory_reserved() + 100 * 2**20
    torch.cuda.set_per_process_memory_fraction(room / torch.cuda.mem_get_info()[1])
else:
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + 100 * 2**20, resource.RLIM_INFINITY))
print(float(stepper.step(x, y)), stepper.at_once)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux limits a process's memory so")
def test_a_batch_that_does_not_fit_is_trained_on_in_micro_batches() -> None:
    command = [sys.executable, "-c", _TIGHT]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    loss, at_once = done.stdout.split()
    assert 0 < float(loss) < 10
    assert 16 <= int(at_once) <= 256


def test_what_does_not_fit_for_one_example_is_out_of_memory() -> None:
    class Glutton(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(torch.zeros(3, 3))
            self.seen: list[int] = []

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            self.seen.append(len(x))
            return x @ self.w @ torch.empty(2**60, device=HERE)  # more than any machine has

    model = Glutton().to(HERE)
    stepper = Stepper(
        TrainerConfig(), model, "classification", Randomness(0, HERE, borrows=False), HERE
    )
    with pytest.raises(RuntimeError, match=r"can't allocate memory|out of memory"):
        stepper.step(torch.zeros(5, 3).to(HERE), torch.zeros(5, dtype=torch.long).to(HERE))
    assert model.seen == [5, 3, 2, 1]
