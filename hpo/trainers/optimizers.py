"""Optimizers: PyTorch's steps and ours, and what is done to gradients and weights before them.

PyTorch's `weight_decay` is an L2 penalty in SGD (momentum then averages it, Adam divides it by
the gradient's size) and decay only in AdamW. Here the two are apart. `weight_decay` is always
decay, Loshchilov & Hutter (2019), Decoupled Weight Decay Regularization: w <- (1 - eps_k lambda) w,
then the step. `l2` is always a penalty: the loss has l2 / 2 times the squared weights more. Both
are of weights alone: biases and norms' gains, which have one dimension, are left as they are.
"""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from inspect import unwrap
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim import Adam, Optimizer

from hpo.trainers.config import FULL_BATCH, TrainerConfig
from hpo.trainers.eager import Eager
from hpo.trainers.second_order import LBFGS, ConjugateGradients, Newton
from hpo.trainers.second_order import Objective as Objective

_DECAY = "decoupled_weight_decay"  # not "weight_decay": PyTorch would add its penalty

Groups = list[dict[str, Any]]


class _SGD(Eager, torch.optim.SGD):
    pass


class _Adagrad(Eager, torch.optim.Adagrad):
    pass


class _RMSprop(Eager, torch.optim.RMSprop):
    pass


class _Adam(Eager, Adam):
    pass


def sgd(config: TrainerConfig, groups: Groups) -> Optimizer:
    """Gradient descent with `momentum`, Nesterov's where asked for.

    Without momentum there is nothing to look ahead with, so Nesterov's step is the plain one.
    """
    optimizer = _SGD(
        groups,
        lr=config.learning_rate,
        momentum=config.momentum,
        nesterov=config.nesterov and config.momentum > 0,
        fused=_on(groups, "cpu", "cuda", "mps"),
    )
    if config.momentum:
        # PyTorch's fused kernel makes them without filling them; where fp16's first steps overflow
        # it does not fill them later, either.
        for group in optimizer.param_groups:
            for w in group["params"]:
                _velocity(optimizer, w)
    return optimizer


def adagrad(config: TrainerConfig, groups: Groups) -> Optimizer:
    """AdaGrad: each weight's rate is divided by the root of the sum of its squared gradients.

    Source: Duchi, Hazan & Singer (2011), Adaptive subgradient methods.
    """
    return _Adagrad(groups, lr=config.learning_rate, fused=_on(groups, "cpu"))


def rmsprop(config: TrainerConfig, groups: Groups) -> Optimizer:
    """RMSProp: as AdaGrad, with a running mean, which keeps `rho`, in place of the sum.

    Source: Tieleman & Hinton (2012), Lecture 6.5 of Neural networks for machine learning.
    """
    return _RMSprop(
        groups, lr=config.learning_rate, alpha=config.rho, foreach=_on(groups, "cpu", "cuda")
    )


def adam(config: TrainerConfig, groups: Groups) -> Optimizer:
    """Adam, whose running means keep `beta1` and `beta2`.

    With `weight_decay`, which is decoupled here, this is AdamW: the two names mean one step, and
    adamw is the one that people look for. Source: Kingma & Ba (2015), Adam, algorithm 1.
    """
    return _Adam(
        groups,
        lr=config.learning_rate,
        betas=(config.beta1, config.beta2),
        fused=_on(groups, "cpu", "cuda", "mps"),
    )


def lbfgs(config: TrainerConfig, groups: Groups) -> Optimizer:
    """L-BFGS, see `hpo.trainers.second_order`."""
    return LBFGS(groups[0]["params"], config.history)


def cg(config: TrainerConfig, groups: Groups) -> Optimizer:  # noqa: ARG001
    """Nonlinear conjugate gradients, see `hpo.trainers.second_order`."""
    return ConjugateGradients(groups[0]["params"])


def newton(config: TrainerConfig, groups: Groups) -> Optimizer:
    """Damped Newton, see `hpo.trainers.second_order`."""
    return Newton(groups[0]["params"], config.damping)


OPTIMIZERS: Mapping[str, Callable[[TrainerConfig, Groups], Optimizer]] = MappingProxyType(
    {
        "sgd": sgd,
        "adagrad": adagrad,
        "rmsprop": rmsprop,
        "adam": adam,
        "adamw": adam,
        "lbfgs": lbfgs,
        "cg": cg,
        "newton": newton,
    }
)


def build(config: TrainerConfig, parameters: Iterable[nn.Parameter]) -> Optimizer:
    """The optimizer a configuration names, for those parameters that are to be trained.

    One of `FIRST_ORDER` in `config` has `step()`, after `backward`, `add_penalty_gradient` and
    `clip`. One of `FULL_BATCH` has `step(objective)`, which returns the loss before it.
    """
    parameters = [p for p in parameters if p.requires_grad]
    decays = config.weight_decay > 0 and config.optimizer not in FULL_BATCH
    if not decays:  # one group is one call of a fused step
        return OPTIMIZERS[config.optimizer](config, [{"params": parameters}])
    groups: Groups = [
        {"params": weights(parameters), _DECAY: config.weight_decay},
        {"params": [p for p in parameters if p.ndim <= 1], _DECAY: 0.0},
    ]
    optimizer = OPTIMIZERS[config.optimizer](config, groups)
    optimizer.register_step_pre_hook(shrink)
    return optimizer


def plain_step(optimizer: Optimizer) -> Callable[[], object]:
    """`optimizer.step`, for which nothing is compiled, profiled or hooked; of sgd the kernel alone.

    What PyTorch does around its kernel takes longer than a small network's weights take to change.
    """
    if isinstance(optimizer, torch.optim.SGD) and optimizer.param_groups[0]["fused"]:
        return partial(_sgd_step, optimizer)
    return partial(_step, optimizer, unwrap(type(optimizer).step))


@torch.no_grad()
def _step(optimizer: Optimizer, step: Callable[[Optimizer], object]) -> None:
    shrink(optimizer)
    step(optimizer)


@torch.no_grad()
def _sgd_step(optimizer: torch.optim.SGD) -> None:
    shrink(optimizer)
    for group in optimizer.param_groups:
        ws = [w for w in group["params"] if w.grad is not None]
        mu = group["momentum"]
        if not ws:
            continue
        torch._fused_sgd_(
            ws,
            [w.grad for w in ws],
            [_velocity(optimizer, w) for w in ws] if mu else [],
            weight_decay=0.0,
            momentum=mu,
            lr=group["lr"],
            dampening=0.0,
            nesterov=group["nesterov"],
            maximize=False,
            is_first_step=False,
        )


def _velocity(optimizer: Optimizer, w: Tensor) -> Tensor:
    """Where PyTorch's sgd keeps the momentum of w, at first 0."""
    kept = optimizer.state[w]
    if "momentum_buffer" not in kept:
        kept["momentum_buffer"] = torch.zeros_like(w)
    velocity: Tensor = kept["momentum_buffer"]
    return velocity


def weights(parameters: Iterable[nn.Parameter]) -> list[Tensor]:
    """What decays and is penalised: neither biases nor norms' gains."""
    return [p for p in parameters if p.ndim > 1]


@torch.no_grad()
def shrink(optimizer: Optimizer, *_: object) -> None:
    """Decays: w <- (1 - eps_k lambda) w, with eps_k the learning rate of the step to come."""
    for group in optimizer.param_groups:
        if group.get(_DECAY) and group["params"]:
            torch._foreach_mul_(group["params"], 1 - group["lr"] * group[_DECAY])


def penalty(parameters: Iterable[nn.Parameter], l2: float) -> Tensor | float:
    """l2 / 2 times the sum of the squared weights, differentiable; 0 where l2 is.

    Add it to a loss that a line search compares; elsewhere `add_penalty_gradient` is faster.
    """
    return l2 / 2 * sum(w.square().sum() for w in weights(parameters)) if l2 else 0.0


@torch.no_grad()
def add_penalty_gradient(parameters: Iterable[nn.Parameter], l2: float) -> None:
    """Adds the gradient of `penalty`, l2 w, to the gradients that there are."""
    if l2 and (penalised := [w for w in weights(parameters) if w.grad is not None]):
        gradients = [w.grad for w in penalised]
        torch._foreach_add_(gradients, penalised, alpha=l2)  # type: ignore[arg-type]  # not None


def clip(config: TrainerConfig, parameters: Sequence[nn.Parameter]) -> None:
    """Cuts each gradient to `clip_value`, then shortens all together to the norm `clip_norm`.

    Source: Pascanu, Mikolov & Bengio (2013), On the difficulty of training recurrent neural
    networks, algorithm 1.
    """
    if config.clip_value is not None:
        clip_grad_value_(parameters, config.clip_value)
    if config.clip_norm is not None:
        clip_grad_norm_(parameters, config.clip_norm)


def _on(groups: Groups, *devices: str) -> bool | None:
    """Whether to ask for the implementation that is fastest there; elsewhere PyTorch chooses.

    It is for weights of one kind on one device.
    """
    of = {(p.device, p.dtype) for group in groups for p in group["params"]}
    return True if len(of) == 1 and {device.type for device, _ in of} <= {*devices} else None


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
