"""Networks, initialised and regularised by the generator they are given.

PyTorch's own layers draw from its global generator; these do not, so that trials trained in
turns in one process equal trials trained alone. The user's own may: see `build`.
"""

import reprlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil, inf, prod
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import nn

from hpo.trainers.checkpoints import unwritable
from hpo.trainers.code import find
from hpo.trainers.config import FIELDS, TrainerConfig
from hpo.trainers.dense import Dense
from hpo.trainers.errors import ConfigError, Problem, called, did_you_mean
from hpo.trainers.initialise import initialised
from hpo.trainers.randomness import kept, seed_all

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
)

_RISING = ("relu", "tanh")

POOLINGS: Mapping[str, Callable[[int], nn.Module] | None] = MappingProxyType(
    {"max": nn.MaxPool2d, "average": nn.AvgPool2d, "none": None}
)
"""Each maps (n, c, h, w) to (n, c, h // 2, w // 2), built from 2."""

Layers = list[nn.Module]
"""Some layers, one after the other; none is the identity."""


class Dropout(nn.Module):
    """While training, zeroes each unit with probability p and divides the others by 1 - p.

    Source: Srivastava et al. (2014), Dropout; the inverted form, so evaluation is the identity.
    """

    def __init__(self, p: float, generator: torch.Generator) -> None:
        super().__init__()
        self.p = p
        self.generator = generator

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Drops units of `x`, of any shape."""
        return x * self.mask(x) if self.training and self.p else x

    def mask(self, x: torch.Tensor) -> torch.Tensor:
        """Draws what `x` is multiplied by: 0 or 1 / (1 - p)."""
        keep = 1 - self.p
        # A uniform draw compared with `keep` takes half the time of PyTorch's Bernoulli draw.
        draw = torch.rand(x.shape, generator=self.generator, device=x.device)
        return draw.lt_(keep).div_(keep)


class Pixels(nn.Module):
    """An image's numbers in a row, pixel by pixel: as they lie where channels lie last."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, c, h, w) to (n, h w c)."""
        return x.permute(0, 2, 3, 1).flatten(1)


class Residual(nn.Module):
    """shortcut(x) + branch(x).

    Source: He et al. (2016), Deep residual learning for image recognition, eq. 1 and 2.
    """

    def __init__(self, branch: nn.Module, shortcut: nn.Module) -> None:
        super().__init__()
        self.branch = branch
        self.shortcut = shortcut

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Adds to `x`, of any shape."""
        y: torch.Tensor = self.branch(x) + self.shortcut(x)
        return y


def convolution(m: int, n: int, width: int, *, stride: int = 1, bias: bool = True) -> Layers:
    """A convolution from m to n channels, of which nothing is drawn yet.

    It keeps the sides of an image, or divides them by its stride and rounds up.
    """
    padding = (width - 1) // 2
    layer = nn.Conv2d(m, n, width, stride=stride, padding=padding, bias=bias, device="meta")
    layer = layer.to_empty(device="cpu")
    # An even kernel has no middle; it sees one pixel more to the right and below.
    return [layer] if width % 2 else [nn.ZeroPad2d((0, 1, 0, 1)), layer]


def batch_norm(n: int, rank: int) -> nn.Module:
    """(x - mean) / deviation, of a minibatch in training and of a running mean in evaluation.

    Source: Ioffe & Szegedy (2015), Batch normalization, algorithms 1 and 2.
    """
    return nn.BatchNorm1d(n) if rank == 1 else nn.BatchNorm2d(n)


def layer_norm(n: int, rank: int) -> nn.Module:
    """(x - mean) / deviation of one example, over its n units or n channels of pixels.

    Source: Ba, Kiros & Hinton (2016), Layer normalization, eq. 3.
    """
    return nn.LayerNorm(n) if rank == 1 else nn.GroupNorm(1, n)


NORMS: Mapping[str, Callable[[int, int], nn.Module] | None] = MappingProxyType(
    {"none": None, "batch": batch_norm, "layer": layer_norm}
)
"""Each is built from the units or channels, and the rank of an example: 1, or 3 for an image.
All draw nothing: gains start as 1 and biases as 0.
"""


def linear(
    config: TrainerConfig, shape: tuple[int, ...], n_outputs: int, generator: torch.Generator
) -> nn.Sequential:
    """Softmax regression, or with one output linear regression.

    Maps float32 (n, *shape) to (n, n_outputs).
    """
    logits = Dense(prod(shape), n_outputs)
    return initialised(nn.Sequential(*_flat(shape), logits), config, generator)


def mlp(
    config: TrainerConfig, shape: tuple[int, ...], n_outputs: int, generator: torch.Generator
) -> nn.Sequential:
    """A multilayer perceptron: `depth` times dense, norm, activation, dropout; then the logits.

    Where it is `residual`, these are the same layers, but a shortcut goes around norm, activation,
    dropout and the dense layer after them: x + dense(dropout(activation(norm(x)))), full
    pre-activation. Where the widths differ, a dense layer without bias takes x there. The first
    dense layer has no shortcut, and needs none, since it is linear in what it was given.

    Maps float32 (n, *shape) to (n, n_outputs). With depth 0 it is `linear`.

    Source of the order: He et al. (2016), Identity mappings in deep residual networks, fig. 4 e.
    """
    layers, m = _flat(shape), prod(shape)
    between: Layers = []  # two dense layers
    for n, dropout in config.layers:
        block = [*between, Dense(m, n)]
        if config.residual and between:
            shortcut = nn.Identity() if m == n else Dense(m, n, bias=False)
            block = [Residual(nn.Sequential(*block), shortcut)]
        layers += block
        between = [*_hidden(config, n, 1, shared=config.residual), *_dropout(dropout, generator)]
        m = n
    return initialised(nn.Sequential(*layers, *between, Dense(m, n_outputs)), config, generator)


def cnn(
    config: TrainerConfig, shape: tuple[int, ...], n_outputs: int, generator: torch.Generator
) -> nn.Sequential:
    """`depth` times convolution, norm, activation, pooling, dropout; then flat, to the logits.

    Pooling halves the sides (an odd pixel is left out) and is skipped where one is below 4 already,
    so that where something is in the image still tells: 8 x 8 becomes 4 x 4, 2 x 2, 2 x 2.

    Maps float32 images (n, channels, height, width), of which `shape` has the last three, to
    (n, n_outputs). With depth 0 it is `linear`.
    """
    pooling = POOLINGS[config.pooling]
    m, *sides = shape
    layers: Layers = []
    for n, dropout in config.layers:
        hidden = _hidden(config, n, 3)
        if pooling is not None and min(sides) >= 4:
            # What rises with its input takes the largest of four pixels to the largest: as well
            # afterwards, for a quarter of the work.
            before = config.pooling == "max" and config.activation in _RISING
            hidden.insert(-1 if before else len(hidden), pooling(2))
            sides = [side // 2 for side in sides]
        layers += [*convolution(m, n, config.kernel_width), *hidden]
        layers += _dropout(dropout, generator)
        m = n
    logits = Dense(m * prod(sides), n_outputs)
    return initialised(nn.Sequential(*layers, Pixels(), logits), config, generator)


def resnet(
    config: TrainerConfig, shape: tuple[int, ...], n_outputs: int, generator: torch.Generator
) -> nn.Sequential:
    """A convolution, norm, activation; `depth` residual blocks; the mean over pixels; the logits.

    The first block of the second and of the last third of the depth halves the sides (an odd pixel
    counts as two), unless one would fall below 4. Each block has its own width, and the first
    convolution that of the first block. What the last block gives is also dropped before the
    logits, by its own dropout.

    Maps float32 images (n, channels, height, width), of which `shape` has the last three, to
    (n, n_outputs). With depth 0 it is `linear`.

    Source: He et al. (2016), Deep residual learning for image recognition, sec. 4.2.
    """
    if not config.depth:
        return linear(config, shape, n_outputs, generator)
    channels, *sides = shape
    m, _ = config.layers[0]
    layers = [*convolution(channels, m, 3), *_hidden(config, m, 3)]
    thirds = {ceil(config.depth / 3), ceil(2 * config.depth / 3)}
    for k, (n, dropout) in enumerate(config.layers):
        stride = 2 if k in thirds and min(sides) >= 7 else 1
        sides = [ceil(side / stride) for side in sides]
        layers += [_block(config, m, n, stride, _dropout(dropout, generator))]
        layers += [ACTIVATIONS[config.activation]()]
        m = n
    _, last = config.layers[-1]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), *_dropout(last, generator)]
    return initialised(nn.Sequential(*layers, *head, Dense(m, n_outputs)), config, generator)


def _block(config: TrainerConfig, m: int, n: int, stride: int, dropout: Layers) -> nn.Module:
    """He et al.'s basic block (2016, fig. 2) up to its last activation.

    A projection is their option B. Dropout between the convolutions: Zagoruyko & Komodakis (2016),
    Wide residual networks, sec. 2.4.
    """
    first = [*convolution(m, n, 3, stride=stride), *_hidden(config, n, 3), *dropout]
    second = [*convolution(n, n, 3), *_norm(config, n, 3)]
    shortcut: Layers = []
    if stride > 1 or m != n:
        shortcut = [*convolution(m, n, 1, stride=stride, bias=False), *_norm(config, n, 3)]
    return Residual(nn.Sequential(*first, *second), nn.Sequential(*shortcut))


def _flat(shape: tuple[int, ...]) -> Layers:
    return [nn.Flatten()] if len(shape) > 1 else []


def _norm(config: TrainerConfig, n: int, rank: int) -> Layers:
    norm = NORMS[config.norm]
    return [] if norm is None else [norm(n, rank)]


def _hidden(config: TrainerConfig, n: int, rank: int, *, shared: bool = False) -> Layers:
    """What follows n units or channels: norm, then activation.

    Args:
        config: Names both.
        n: Units or channels.
        rank: Of an example: 1, or 3 for an image.
        shared: Whether what is activated is needed as it was, by a shortcut around these.
    """
    activation = ACTIVATIONS[config.activation]()
    if isinstance(activation, nn.ReLU):
        activation.inplace = not shared  # saves the memory, and the time to write it
    return [*_norm(config, n, rank), activation]


def _dropout(p: float, generator: torch.Generator) -> Layers:
    return [Dropout(p, generator)] if p else []


Build = Callable[[TrainerConfig, tuple[int, ...], int, torch.Generator], nn.Module]

MODELS: Mapping[str, Build] = MappingProxyType(
    {"mlp": mlp, "cnn": cnn, "resnet": resnet, "linear": linear}
)
"""Each is built from a configuration, the shape of an example, the outputs and a generator."""


def build(
    config: TrainerConfig,
    shape: tuple[int, ...],
    n_outputs: int,
    generator: torch.Generator,
    folder: Path = Path(),
) -> nn.Module:
    """The network that `config.model` names, on the generator's device, with its first weights.

    Args:
        config: One without `problems` for this shape.
        shape: Of one example: (n_features,), or the channels, height and width of an image.
        n_outputs: What it gives for an example: a logit for each class, or 1 number.
        generator: Decides the weights, and whatever the network draws in training.
        folder: Where the user's own code is looked for first.

    Raises:
        CodeError: the user's own code cannot be found.
        ConfigError: it returns something else than a module. What it raises itself, passes.
    """
    if config.model in MODELS:
        return MODELS[config.model](config, shape, n_outputs, generator)
    return _own(config, shape, n_outputs, generator, folder)


class Settings(dict[str, Any]):
    """What the user's own model is made of, by name: ``config["width"]``, ``config.width``."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            message = f"no {name!r} in this configuration. {did_you_mean(name, self)}"
            raise AttributeError(message) from None


def _own(
    config: TrainerConfig,
    shape: tuple[int, ...],
    n_outputs: int,
    generator: torch.Generator,
    folder: Path,
) -> nn.Module:
    """What the user's own code returns for this configuration, its weights as it left them.

    It draws from the global generators of PyTorch, on all devices, of Python and of NumPy, which
    are seeded by ours for it, and are afterwards as they were before.
    """
    make = find(config.model, folder)
    fields = {name: getattr(config, name) for name in FIELDS}
    settings = Settings({**fields, **config.own, "shape": shape, "n_outputs": n_outputs})
    # Of one seed a GPU's generator draws other numbers, and the network may be restored elsewhere.
    on_cpu = generator.device.type == "cpu"
    draws = generator if on_cpu else torch.Generator().manual_seed(generator.initial_seed())
    with _own_randomness(int(torch.randint(2**31, (), generator=draws).item())):
        model = make(settings)
    if not isinstance(model, nn.Module):
        sentence = f"{config.model!r} returned {reprlib.repr(model)}; it must be a torch.nn.Module."
        raise ConfigError([Problem(("model",), sentence)])
    return model.to(generator.device)


def try_out(
    config: TrainerConfig, model: nn.Module, x: torch.Tensor, n_outputs: int, seed: int
) -> None:
    """Looks whether a model of the user's own gives what is to be trained; lazy layers are made.

    Args:
        config: Names it.
        model: The model.
        x: Some examples, (n, *shape), where it is.
        n_outputs: What it must give for each.
        seed: Of what is random in making layers.

    Raises:
        ConfigError: it gives something else, has nothing to train, or cannot be written.
    """
    model.eval()
    with _own_randomness(seed), torch.no_grad():
        outputs = model(x.clone())  # which it may change
    wanted = f"it must give a tensor ({len(x)}, {n_outputs})"
    sentence = None
    if not isinstance(outputs, torch.Tensor):
        sentence = f"{config.model!r} gives {called(outputs)}"
    elif outputs.shape != (len(x), n_outputs):
        sentence = f"{config.model!r} gives {tuple(outputs.shape)}"
    if sentence is not None:
        sentence += f" for {len(x)} examples; {wanted}, and finds {n_outputs} in `n_outputs`."
        if hasattr(outputs, "logits"):
            sentence += " Return outputs.logits."
    elif not any(p.requires_grad for p in model.parameters()):
        sentence = f"{config.model!r} has no parameters to train."
    elif (what := unwritable(model)) is not None:
        sentence = (
            f"{config.model!r} has among its weights what cannot be written: {what}. They must be "
            "dense tensors of a common type."
        )
    if sentence is not None:
        raise ConfigError([Problem(("model",), sentence)])


def operations(model: nn.Module, x: torch.Tensor, seed: int) -> float:
    """Multiplications and additions of layers as one example passes through.

    Infinite where nobody counts them: PyTorch knows none of recurrent layers.

    Args:
        model: The network.
        x: Some examples, (n, *shape), where it is.
        seed: Of what a model of the user's own draws.
    """
    # Imported where a GPU asks for it: it imports Triton.
    from hpo.trainers.operations import counting

    if any(isinstance(module, nn.RNNBase) for module in model.modules()):
        return inf
    model.eval()
    # The fast path of transformers is one operation, of which nobody counts what it does.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with _own_randomness(seed), torch.no_grad(), counting() as counter:
            model(x.clone())  # which it may change
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return counter.get_total_flops() / len(x) or inf


@contextmanager
def _own_randomness(seed: int) -> Iterator[None]:
    """A context in which own code draws by this seed; the global generators are as before then."""
    accelerator = torch.accelerator.current_accelerator()
    devices = range(torch.accelerator.device_count())
    with kept(devices, accelerator.type if accelerator else "cuda"):
        seed_all(seed)
        yield


def problems(
    config: TrainerConfig, shape: tuple[int, ...], dtype: torch.dtype
) -> Iterator[Problem]:
    """Why a configuration, though valid, cannot be trained on examples of this shape and type."""
    if not dtype.is_floating_point:
        yield from _of_integers(config)
    elif len(shape) == 3:
        yield from _of_images(config, shape)
    else:
        yield from _of_rows(config, shape)
    for name in ("shape", "n_outputs"):
        if name in config.own:
            sentence = "your model gets it from the data under this name. Name yours otherwise."
            yield Problem((name,), sentence)


def _of_integers(config: TrainerConfig) -> Iterator[Problem]:
    for name, nothing in (("flip", "false"), ("crop", "0"), ("noise", "0"), ("mixup", "0")):
        if getattr(config, name):
            sentence = (
                f"{name} changes features, and the data's are integers, which may be ids. "
                f"It must be {nothing}; or let the data have floats."
            )
            yield Problem((name,), sentence)


def _of_images(config: TrainerConfig, shape: tuple[int, ...]) -> Iterator[Problem]:
    side = min(shape[1:])
    if config.crop >= side:
        sentence = (
            f"{config.crop} shifts images of {shape[1]} x {shape[2]} pixels out of sight. "
            f"It must be at most {side - 1}."
        )
        yield Problem(("crop",), sentence)


def _of_rows(config: TrainerConfig, shape: tuple[int, ...]) -> Iterator[Problem]:
    table = f"needs images, and the data is a table of {prod(shape)} features"
    if config.model in ("cnn", "resnet"):
        yield Problem(("model",), f"{config.model} {table}. mlp and linear fit it.")
    if config.flip:
        yield Problem(("flip",), f"flip {table}. It must be false.")
    if config.crop:
        yield Problem(("crop",), f"crop {table}. It must be 0.")
