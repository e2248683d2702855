"""The user's own networks, and what cannot be trained on which data."""

import itertools
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from hpo.trainers.config import TrainerConfig
from hpo.trainers.errors import CodeError, ConfigError
from hpo.trainers.models import build, problems

_names = itertools.count()

Write = Callable[[str], str]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Write]:
    """Writes a module of the user's, and gives the name of its `make`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    written = []

    def module(source: str) -> str:
        name = f"nets_of_test_{next(_names)}"
        (tmp_path / f"{name}.py").write_text(f"import torch\nfrom torch import nn\n{source}")
        written.append(name)
        return f"{name}:make"

    yield module
    for name in written:
        sys.modules.pop(name, None)


def built(model: str, folder: Path, *, seed: int = 0, **own: object) -> nn.Module:
    config = TrainerConfig.from_mapping({"model": model, "width": 6, **own})
    return build(config, (4,), 3, torch.Generator().manual_seed(seed), folder)


NET = """
def make(config):
    layers = [nn.Linear(*config.shape, config.width), nn.Dropout(config["dropout"])]
    return nn.Sequential(*layers, nn.Linear(config.width, config.n_outputs), nn.Tanh())
"""


def test_own_code_is_called_with_fields_own_values_and_the_shape(
    write: Write, tmp_path: Path
) -> None:
    source = "def make(config):\n    net = nn.Linear(1, 1)\n    net.seen = config\n    return net\n"
    seen = built(write(source), tmp_path, heads=3, learning_rate=0.5).seen
    assert isinstance(seen, dict)
    assert seen["heads"] == seen.heads == 3
    assert seen["shape"] == (4,)
    assert seen["n_outputs"] == 3
    assert (seen["learning_rate"], seen["width"], seen["depth"]) == (0.5, 6, 2)
    with pytest.raises(AttributeError, match=r"no 'head' in .*Did you mean 'heads'\?"):
        _ = seen.head


def test_own_weights_follow_from_the_seed_and_are_left_as_pytorch_drew_them(
    write: Write, tmp_path: Path
) -> None:
    name, state = write(NET), torch.get_rng_state()
    a, again, other = (built(name, tmp_path, seed=k, last_init="zeros") for k in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), state)
    weights = [nn.utils.parameters_to_vector(net.parameters()) for net in (a, again, other)]
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])
    assert all(p.any() for p in a.parameters())  # not even biases are 0, as ours would be


def test_a_class_of_modules_is_code_too(write: Write, tmp_path: Path) -> None:
    source = """
class make(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layer = nn.Linear(*config.shape, config.n_outputs)
    def forward(self, x):
        return self.layer(x)
"""
    assert built(write(source), tmp_path)(torch.zeros(2, 4)).shape == (2, 3)


@pytest.mark.parametrize(("returned", "shown"), [("None", "None"), ("nn.Linear", "Linear")])
def test_what_is_not_a_module_is_told(
    write: Write, tmp_path: Path, returned: str, shown: str
) -> None:
    name = write(f"def make(config):\n    return {returned}\n")
    with pytest.raises(ConfigError, match=rf"model: '{name}' returned .*{shown}.*; it must be a"):
        built(name, tmp_path)


def test_errors_of_own_code_pass_and_leave_the_global_generator_as_it_was(
    write: Write, tmp_path: Path
) -> None:
    state = torch.get_rng_state()
    name = write("def make(config):\n    torch.rand(3)\n    raise KeyError('heads')\n")
    with pytest.raises(KeyError, match="heads"):
        built(name, tmp_path)
    with pytest.raises(CodeError, match=r"nothing to call named 'mke'\. Did you mean 'make'\?"):
        built(name.replace("make", "mke"), tmp_path)
    assert torch.equal(torch.get_rng_state(), state)


def sentences(
    features: tuple[int, ...], dtype: torch.dtype = torch.float32, **fields: object
) -> list[str]:
    config = TrainerConfig.from_mapping(fields)
    return [str(problem) for problem in problems(config, features, dtype)]


def test_what_fits_has_no_problems() -> None:
    for model in ("mlp", "linear", "my.nets:make"):
        assert sentences((4,), model=model, noise=0.1, mixup=0.2) == []
    for model in ("mlp", "linear", "cnn", "resnet", "my.nets:make"):
        assert sentences((1, 8, 9), model=model, flip=True, crop=7) == []


def test_integers_are_not_changed() -> None:
    changes = {"flip": True, "crop": 2, "noise": 0.1, "mixup": 0.2}
    told = "changes features, and the data's are integers, which may be ids. It must be"
    assert sentences((1, 8, 9), torch.int64, model="my.nets:make") == []
    assert sentences((1, 8, 9), torch.int64, model="my.nets:make", **changes) == [
        f"flip: flip {told} false; or let the data have floats.",
        f"crop: crop {told} 0; or let the data have floats.",
        f"noise: noise {told} 0; or let the data have floats.",
        f"mixup: mixup {told} 0; or let the data have floats.",
    ]


def test_a_table_is_not_a_set_of_images() -> None:
    assert sentences((4,), model="resnet", flip=True, crop=2) == [
        "model: resnet needs images, and the data is a table of 4 features. mlp and linear fit it.",
        "flip: flip needs images, and the data is a table of 4 features. It must be false.",
        "crop: crop needs images, and the data is a table of 4 features. It must be 0.",
    ]


def test_no_image_may_be_shifted_out_of_sight() -> None:
    assert sentences((1, 9, 8), crop=8) == [
        "crop: 8 shifts images of 9 x 8 pixels out of sight. It must be at most 7."
    ]


def test_own_fields_do_not_hide_what_the_data_says() -> None:
    assert sentences((4,), model="my.nets:make", shape=3, heads=2) == [
        "shape: your model gets it from the data under this name. Name yours otherwise."
    ]
