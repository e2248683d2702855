"""Networks, initialised and regularised by the generator they are given.

PyTorch's own layers draw from its global generator; these do not, so that trials trained in
turns in one process equal trials trained alone.
"""

from collections.abc import Callable, Mapping
from itertools import pairwise
from types import MappingProxyType

import torch
from torch import nn

from trainers.config import ClassifierConfig

ACTIVATIONS: Mapping[str, Callable[[], nn.Module]] = MappingProxyType(
    {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
)


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


def mlp(
    config: ClassifierConfig, n_features: int, n_classes: int, generator: torch.Generator
) -> nn.Sequential:
    """A multilayer perceptron: `depth` hidden layers of `width` units, then the logits.

    Maps float32 (n, n_features) to (n, n_classes). With depth 0 it is softmax regression.
    """
    layers: list[nn.Module] = []
    for m, n in pairwise([n_features, *[config.width] * config.depth]):
        layers += [
            dense(m, n, generator),
            ACTIVATIONS[config.activation](),
            Dropout(config.dropout, generator),
        ]
    last = config.width if config.depth else n_features
    return nn.Sequential(*layers, dense(last, n_classes, generator))


MODELS: Mapping[str, Callable[[ClassifierConfig, int, int, torch.Generator], nn.Module]] = (
    MappingProxyType({"mlp": mlp})
)
