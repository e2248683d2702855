"""With what a step calculates: the layout of memory, the compiler, and deterministic kernels."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

from hpo.trainers import models
from hpo.trainers.chain import Chain
from hpo.trainers.config import TrainerConfig
from hpo.trainers.data import Source, load
from hpo.trainers.data.parts import Data
from hpo.trainers.devices import deterministic
from hpo.trainers.loop import fit
from hpo.trainers.randomness import Randomness
from hpo.trainers.steps import Stepper

CPU = torch.device("cpu")
SHAPE = (3, 8, 8)


def made(**config: object) -> tuple[Stepper, nn.Module]:
    checked = TrainerConfig.from_mapping({"model": "cnn", "width": 4, "depth": 2, **config})
    randomness = Randomness(0, CPU, borrows=False)
    model = models.build(checked, SHAPE, 2, randomness.generator)
    return Stepper(checked, model, "classification", randomness, CPU), model


def examples() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(6, *SHAPE, generator=torch.Generator().manual_seed(0)), torch.arange(6) % 2


def lies_channels_last(x: torch.Tensor) -> bool:
    last = x.is_contiguous(memory_format=torch.channels_last)
    assert last != x.is_contiguous()  # one of both
    return last


@pytest.mark.parametrize(("wanted", "is_so"), [(True, True), (False, False), (None, True)])
@pytest.mark.parametrize("model", ["cnn", "resnet"])
def test_weights_and_images_lie_channels_last_where_wanted_and_by_themselves_on_a_cpu(
    model: str, *, wanted: bool | None, is_so: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    gradient = Chain.gradient

    def by_chain(chain: Chain, x: torch.Tensor, *rest: object) -> torch.Tensor:
        seen.append(lies_channels_last(x))
        return gradient(chain, x, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(Chain, "gradient", by_chain)
    stepper, network = made(model=model, channels_last=wanted)
    first, *others = (layer for layer in network.modules() if isinstance(layer, nn.Conv2d))
    first.register_forward_pre_hook(lambda _, args: seen.append(lies_channels_last(args[0])))
    assert [lies_channels_last(first.weight)] == [is_so]
    assert all(lies_channels_last(w.weight) == is_so for w in others if w.kernel_size != (1, 1))
    stepper.step(*examples())
    with torch.inference_mode():
        stepper.forward(examples()[0])
    assert seen == [is_so, is_so]


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # PyTorch's own
def test_a_network_is_compiled_where_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[torch.fx.GraphModule] = []

    def backend(graph: torch.fx.GraphModule, _: object) -> Callable[..., object]:
        compiled.append(graph)
        return graph.forward

    # PyTorch's compiler, but for its last part, which takes long.
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    losses = []
    for wanted in (False, True):
        stepper, network = made(model="mlp", compile=wanted)
        losses.append(float(stepper.step(*examples())))
        assert bool(compiled) == wanted
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)
    n = len(compiled)
    network.eval()
    with torch.inference_mode():
        stepper.forward(examples()[0])
    assert len(compiled) == n + 1  # what is evaluated is compiled, too


# Deterministic mode

NETS = """
import torch
from torch import nn


class Net(nn.Linear):
    def forward(self, x):
        # PyTorch refuses this where results must be the same each time.
        return super().forward(x).put_(torch.tensor([0]).to(x.device), x.new_zeros(1))


def make(config):
    return Net(*config.shape, config.n_outputs)
"""


@pytest.fixture(scope="module")
def iris() -> Data:
    (data,) = load(Source("iris"), seed=0)
    return data


def test_deterministic_mode_refuses_what_is_not(tmp_path: Path, iris: Data) -> None:
    (tmp_path / "puts.py").write_text(NETS)
    config = {"model": "puts:make", "epochs": 1}
    assert len(list(fit(config, iris, seed=0, device="cpu", folder=tmp_path))) == 1
    running = fit({**config, "deterministic": True}, iris, seed=0, device="cpu", folder=tmp_path)
    with pytest.raises(RuntimeError, match="does not have a deterministic implementation"):
        next(running)
    assert not torch.are_deterministic_algorithms_enabled()


def test_deterministic_mode_has_torchs_settings_within_and_puts_them_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def settings() -> tuple[bool, bool]:
        return torch.are_deterministic_algorithms_enabled(), torch.backends.cudnn.benchmark

    monkeypatch.setattr(torch.backends.cudnn, "benchmark", True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)
    with deterministic(wanted=False):
        assert settings() == (False, True)
        assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    with deterministic(wanted=True):
        assert settings() == (True, False)
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    assert settings() == (False, True)
