"""How a network's weights are drawn at the start, from the generator that it is given.

With m inputs and n outputs of a unit's layer (of a convolution: the channels times the pixels of
its kernel), a weight has mean 0 and

    glorot_uniform, _normal   variance 2 / (m + n); uniform is U[-r, r] with r = sqrt(6 / (m + n))
    he_uniform, _normal       variance 2 / m; uniform is U[-r, r] with r = sqrt(6 / m)
    lecun_normal              variance 1 / m
    orthogonal                rows, or columns where there are fewer, of length 1 and at right
                              angles: a gain of 1
    normal                    deviation `init_std`, whatever m and n

He's 2 is a gain of sqrt(2), which makes up for the half of a layer's activity that relu, and about
gelu, cuts away; the others suit tanh.

Sources: Glorot & Bengio (2010), Understanding the difficulty of training deep feedforward neural
networks, eq. 16; He et al. (2015), Delving deep into rectifiers, eq. 10; LeCun et al. (1998),
Efficient BackProp, eq. 16; Saxe, McClelland & Ganguli (2014), Exact solutions to the nonlinear
dynamics of learning in deep linear neural networks.
"""

from collections.abc import Callable, Mapping
from functools import partial
from types import MappingProxyType

import torch
from torch import nn

from hpo.trainers.config import TrainerConfig
from hpo.trainers.dense import Dense

INITS: Mapping[str, Callable[..., torch.Tensor]] = MappingProxyType(
    {
        "glorot_uniform": nn.init.xavier_uniform_,
        "glorot_normal": nn.init.xavier_normal_,
        "he_uniform": partial(nn.init.kaiming_uniform_, nonlinearity="relu"),
        "he_normal": partial(nn.init.kaiming_normal_, nonlinearity="relu"),
        "lecun_normal": partial(nn.init.kaiming_normal_, nonlinearity="linear"),
        "orthogonal": nn.init.orthogonal_,
        "normal": nn.init.normal_,
    }
)
"""Each fills a weight of two or more dimensions, and takes a `generator`."""


@torch.no_grad()
def initialised(
    model: nn.Sequential, config: TrainerConfig, generator: torch.Generator
) -> nn.Sequential:
    """The network on the generator's device, its dense and convolution layers drawn in their order.

    Biases are `bias_init`, those of norms too, which have the last word where there are any. The
    output layer, the last one, has biases 0; it is drawn even if it then starts with weights 0, so
    that `last_init` changes no other number.
    """
    model.to(generator.device)
    draw = INITS[config.init]
    if config.init == "normal":
        draw = partial(draw, std=config.init_std)
    layers = [layer for layer in model.modules() if isinstance(layer, Dense | nn.Conv2d)]
    for layer in layers:
        # `nn.init` takes (units, inputs).
        w = layer.weight.t() if isinstance(layer, Dense) else layer.weight
        w.copy_(
            draw(torch.empty_like(w, memory_format=torch.contiguous_format), generator=generator)
        )
    for name, parameter in model.named_parameters():
        if name.endswith("bias"):
            nn.init.constant_(parameter, config.bias_init)
    output = layers[-1]
    if output.bias is not None:
        nn.init.zeros_(output.bias)
    if config.last_init == "zeros":
        nn.init.zeros_(output.weight)
    return model
