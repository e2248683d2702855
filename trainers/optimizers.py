"""Optimizers: PyTorch's steps, and one weight decay that means the same before each of them.

PyTorch's `weight_decay` is an L2 penalty in SGD (momentum then averages it, Adam divides it by
the gradient's size) and decay only in AdamW. Here it is always decay, Loshchilov & Hutter (2019),
Decoupled Weight Decay Regularization: w <- (1 - eps_k lambda) w, then the step.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any

import torch
from torch import nn
from torch.optim import Adam, Optimizer

from trainers.config import ClassifierConfig

_DECAY = "decoupled_weight_decay"  # not "weight_decay": PyTorch would add its penalty

Groups = list[dict[str, Any]]


def sgd(config: ClassifierConfig, groups: Groups) -> Optimizer:
    """Gradient descent with `momentum`, Nesterov's where asked for.

    Without momentum there is nothing to look ahead with, so Nesterov's step is the plain one.
    """
    return torch.optim.SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        fused=_fused(groups),
    )


def adagrad(config: ClassifierConfig, groups: Groups) -> Optimizer:
    """AdaGrad: each weight's rate is divided by the root of the sum of its squared gradients.

    Source: Duchi, Hazan & Singer (2011), Adaptive subgradient methods.
    """
    return torch.optim.Adagrad(groups, lr=config.learning_rate)


def rmsprop(config: ClassifierConfig, groups: Groups) -> Optimizer:
    """RMSProp: as AdaGrad, with a running mean (0.99) in place of the sum.

    Source: Tieleman & Hinton (2012), Lecture 6.5 of Neural networks for machine learning.
    """
    return torch.optim.RMSprop(groups, lr=config.learning_rate)


def adam(config: ClassifierConfig, groups: Groups) -> Optimizer:
    """Adam with its usual betas, 0.9 and 0.999.

    With `weight_decay`, which is decoupled here, this is AdamW: the two names mean one step, and
    adamw is the one that people look for. Source: Kingma & Ba (2015), Adam, algorithm 1.
    """
    return Adam(groups, lr=config.learning_rate, fused=_fused(groups))


OPTIMIZERS: Mapping[str, Callable[[ClassifierConfig, Groups], Optimizer]] = MappingProxyType(
    {"sgd": sgd, "adagrad": adagrad, "rmsprop": rmsprop, "adam": adam, "adamw": adam}
)


def build(config: ClassifierConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer a configuration names; weights decay, biases and norms' gains do not."""
    parameters = list(parameters)
    groups: Groups = [
        {"params": [p for p in parameters if p.ndim > 1], _DECAY: config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], _DECAY: 0.0},
    ]
    optimizer = OPTIMIZERS[config.optimizer](config, groups)
    if config.weight_decay:
        optimizer.register_step_pre_hook(shrink)
    return optimizer


@torch.no_grad()
def shrink(optimizer: Optimizer, *_: object) -> None:
    """Decays: w <- (1 - eps_k lambda) w, with eps_k the learning rate of the step to come."""
    for group in optimizer.param_groups:
        if group[_DECAY]:
            for w in group["params"]:
                w.mul_(1 - group["lr"] * group[_DECAY])


def _fused(groups: Groups) -> bool | None:
    """One kernel for all parameters, where PyTorch has it; elsewhere it chooses."""
    devices = {p.device.type for group in groups for p in group["params"]}
    return True if devices <= {"cpu", "cuda"} else None


def set_learning_rate(optimizer: Optimizer, rate: float) -> None:
    """Lets the next step use `rate`."""
    for group in optimizer.param_groups:
        group["lr"] = rate


def set_momentum(optimizer: Optimizer, momentum: float) -> None:
    """Lets the next step use `momentum`, where the optimizer was built with any: sgd alone is."""
    for group in optimizer.param_groups:
        if group.get("momentum"):
            # At 0 PyTorch would not keep this step for the next one, whose momentum may not be 0.
            group["momentum"] = max(momentum, sys.float_info.min)
