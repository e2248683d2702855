"""Networks, initialised and regularised by the generator they are given.

PyTorch's own layers draw from its global generator; these do not, so that trials trained in
turns in one process equal trials trained alone.
"""

from collections.abc import Callable, Mapping
from math import prod
from types import MappingProxyType

import torch
from torch import nn

from trainers.config import ClassifierConfig

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
)

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
        if not self.training or self.p == 0:
            return x
        keep = 1 - self.p
        # A uniform draw compared with `keep` takes half the time of PyTorch's Bernoulli draw.
        draw = torch.rand(x.shape, generator=self.generator, device=x.device)
        return x * draw.lt_(keep).div_(keep)


def dense(m: int, n: int, generator: torch.Generator) -> nn.Linear:
    """A layer from m to n units, on the generator's device.

    Weights are drawn from U[-r, r] with r = sqrt(6 / (m + n)); biases are zero.

    Source: Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward
    neural networks, eq. 16.
    """
    layer = nn.Linear(m, n, device="meta").to_empty(device=generator.device)  # nothing drawn yet
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)
    return layer


def convolution(m: int, n: int, width: int, generator: torch.Generator) -> Layers:
    """A convolution from m to n channels that keeps the sides, on the generator's device.

    Weights and biases start as those of `dense`, a unit's inputs being its kernel's, m width^2.
    """
    layer = nn.Conv2d(m, n, width, padding=(width - 1) // 2, device="meta")
    layer = layer.to_empty(device=generator.device)
    nn.init.xavier_uniform_(layer.weight, generator=generator)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
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


def mlp(
    config: ClassifierConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator
) -> nn.Sequential:
    """A multilayer perceptron: `depth` times dense, norm, activation, dropout; then the logits.

    Maps float32 (n, n_features) to (n, n_classes), the features of an example having any `shape`.
    With depth 0 it is softmax regression.
    """
    layers: Layers = []
    m = prod(shape)
    for n, dropout in config.layers:
        layers += [dense(m, n, generator), *_hidden(config, n, 1, generator)]
        layers += [Dropout(dropout, generator)]
        m = n
    return nn.Sequential(*layers, dense(m, n_classes, generator))


def cnn(
    config: ClassifierConfig, shape: tuple[int, ...], n_classes: int, generator: torch.Generator
) -> nn.Sequential:
    """`depth` times convolution, norm, activation, pooling, dropout; then flat, to the logits.

    Pooling halves the sides (an odd pixel is left out) and is skipped where one is below 4 already,
    so that where something is in the image still tells: 8 x 8 becomes 4 x 4, 2 x 2, 2 x 2.

    Maps float32 (n, n_features) to (n, n_classes), the features of an example being an image whose
    channels, height and width are `shape`. With depth 0 it is softmax regression.
    """
    pooling = POOLINGS[config.pooling]
    m, *sides = shape
    layers: Layers = [nn.Unflatten(1, shape)]
    for n, dropout in config.layers:
        layers += convolution(m, n, config.kernel_width, generator)
        layers += _hidden(config, n, 3, generator)
        if pooling is not None and min(sides) >= 4:
            layers += [pooling(2)]
            sides = [side // 2 for side in sides]
        layers += [Dropout(dropout, generator)]
        m = n
    return nn.Sequential(*layers, nn.Flatten(), dense(m * prod(sides), n_classes, generator))


def _hidden(config: ClassifierConfig, n: int, rank: int, generator: torch.Generator) -> Layers:
    """What follows n units or channels: norm, then activation."""
    norm = NORMS[config.norm]
    norms = [] if norm is None else [norm(n, rank).to(generator.device)]
    return [*norms, ACTIVATIONS[config.activation]()]


Build = Callable[[ClassifierConfig, tuple[int, ...], int, torch.Generator], nn.Module]

MODELS: Mapping[str, Build] = MappingProxyType({"mlp": mlp, "cnn": cnn})
"""Each is built from a configuration, the shape of an example, the classes and a generator."""
