"""Optimizers that look at all training examples in each step, and find its length themselves.

They are for small problems whose whole loss can be had often and without noise. Each step asks an
`Objective` for it. A loss that is not finite ends a step: the weights stay where they were.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from math import inf, isfinite
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.optim.lbfgs import _strong_wolfe

from hpo.trainers.eager import Eager

NEWTON_MAX_PARAMETERS = 100_000
"""The most parameters for which `Newton` is of use.

A step costs up to `CG_STEPS` products with the Hessian, each as long as two gradients of all
examples, and more parameters than these need many steps.
"""

CG_STEPS = 250
"""The most products with the Hessian from which a step of `Newton` finds its direction."""

EVALUATIONS = 25
"""The most losses at which one line search looks."""


class Objective(Protocol):
    """The loss of all training examples, penalty included, where the parameters now are."""

    def __call__(self) -> Tensor:
        """The loss, detached, shape (); `grad` of the parameters is its gradient and no more."""

    def loss(self) -> Tensor:
        """The same loss, to be differentiated twice, shape (); `grad` is left alone."""


class LBFGS(Eager, torch.optim.LBFGS):
    """PyTorch's L-BFGS: one iteration a step, with a line search for the strong Wolfe conditions.

    Source: Nocedal & Wright (2006), Numerical Optimization, algorithms 7.4 and 3.5.

    Args:
        parameters: What it moves, on one device.
        history: The last steps from which it sees the curvature.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], history: int) -> None:
        super().__init__(
            parameters,
            max_iter=1,
            max_eval=EVALUATIONS + 1,
            tolerance_grad=0,
            tolerance_change=0,
            history_size=history,
            line_search_fn="strong_wolfe",
        )

    @torch.no_grad()
    def step(self, objective: Objective) -> Tensor:  # type: ignore[override]  # wants more of it
        """Moves the parameters; returns the loss before."""
        parameters = self.param_groups[0]["params"]
        loss, gradient = _evaluate(objective, parameters)
        if not isfinite(loss):
            return loss
        known = [float(loss)]

        def closure() -> float:
            if known:
                return known.pop()
            f, g = _guard(*_evaluate(objective, parameters))
            _set_gradients(parameters, g)
            return f

        _set_gradients(parameters, gradient)
        super().step(closure)  # type: ignore[no-untyped-call]
        return loss


class ConjugateGradients(Eager):
    """Nonlinear conjugate gradients, Polak and Ribiere's beta where it is positive.

        beta = max(g' (g - g_old) / g_old' g_old, 0)
        d = -g + beta d_old;  d = -g where that would not descend
        w <- w + t d, for a t with both strong Wolfe conditions, c1 = 1e-4 and c2 = 0.1

    The search starts at the minimum of the parabola through the slopes at 0 and at a first guess,
    the step that would change the loss as much as the last: on a quadratic loss of n parameters
    this is exact, and n steps are enough. Source: Nocedal & Wright (2006), Numerical
    Optimization, eqs. 5.44, 5.45 and 3.60, algorithm 3.5.

    Args:
        parameters: What it moves, on one device.
    """

    def __init__(self, parameters: Iterable[nn.Parameter]) -> None:
        super().__init__(parameters, {})

    @torch.no_grad()
    def step(self, objective: Objective) -> Tensor:  # type: ignore[override]  # wants more of it
        """Moves the parameters; returns the loss before."""
        parameters = self.param_groups[0]["params"]
        state = self.state[parameters[0]]  # as PyTorch's L-BFGS, whose state is of all of them
        loss, g = _evaluate(objective, parameters)
        if not isfinite(loss) or not g.dot(g):
            return loss
        d = -g
        if state:
            old = state["gradient"]
            beta = (g.dot(g - old) / old.dot(old)).clamp(min=0)
            conjugate = beta * state["direction"] - g
            d = conjugate if -inf < conjugate.dot(g) < 0 else d
        slope = g.dot(d)
        guess = state["decrease"] / float(slope) if state else min(1.0, 1 / float(g.abs().sum()))

        def along(x: Tensor, t: float, d: Tensor) -> tuple[float, Tensor]:
            _place(parameters, x + t * d)
            return _guard(*_evaluate(objective, parameters))

        x = _vector(parameters)
        curvature = float(along(x, guess, d)[1].dot(d) - slope) / guess
        t = -float(slope) / curvature if curvature > 0 else guess
        *_, t, _ = _strong_wolfe(  # type: ignore[no-untyped-call]
            along, x, t, d, float(loss), g, slope, c2=0.1, max_ls=EVALUATIONS
        )
        _place(parameters, x + float(t) * d)
        if t:
            state.update(gradient=g, direction=d, decrease=float(t) * float(slope))
        else:  # no step was of use: the next starts afresh, down the gradient
            state.clear()
        return loss


class Newton(Eager):
    """Newton's method, damped: (H + alpha I) d = -g, then w <- w + t d.

    d is found by conjugate gradients from products with H alone. t is halved from 1 until the loss
    falls by 1e-4 of what the slope promises. alpha is doubled after a step whose change of the loss
    is less than a quarter of what the quadratic model says, halved where it is more than three
    quarters. Sources: Nocedal & Wright (2006), Numerical Optimization, algorithms 7.1 and 3.1;
    Marquardt (1963), An algorithm for least-squares estimation of nonlinear parameters.

    Args:
        parameters: What it moves, on one device, at most `NEWTON_MAX_PARAMETERS`.
        damping: The first alpha.
    """

    def __init__(self, parameters: Iterable[nn.Parameter], damping: float) -> None:
        super().__init__(parameters, {"damping": damping})

    @torch.no_grad()
    def step(self, objective: Objective) -> Tensor:  # type: ignore[override]  # wants more of it
        """Moves the parameters; returns the loss before."""
        group = self.param_groups[0]
        parameters = group["params"]
        with torch.enable_grad():
            loss = objective.loss()
            slopes = torch.autograd.grad(
                loss, parameters, create_graph=True, materialize_grads=True
            )
            gradient = _vector(slopes)
        loss, g = _checked(loss.detach(), gradient.detach())
        if not isfinite(loss) or not g.dot(g):
            return loss
        times_hessian = partial(hessian_product, gradient, parameters)
        d, h_d = damped_direction(times_hessian, g, group["damping"])
        slope, model = float(g.dot(d)), float(g.dot(d) + d.dot(h_d) / 2)

        x, f = _vector(parameters), float(loss)
        changes: list[float] = []  # of the loss, at t = 1, 1/2, 1/4, ...
        for k in range(EVALUATIONS):
            _place(parameters, x + d / 2**k)
            changes.append(float(objective.loss().detach()) - f)
            if changes[k] <= 1e-4 * slope / 2**k:
                break
        else:
            _place(parameters, x)
        # Both are negative; a change that is not a number doubles alpha, too.
        factor = 1 / 2 if changes[0] < 3 / 4 * model else 1 if changes[0] <= model / 4 else 2
        group["damping"] = min(max(group["damping"] * factor, 1e-12), 1e12)
        return loss


def damped_direction(
    times_hessian: Callable[[Tensor], Tensor], g: Tensor, alpha: float
) -> tuple[Tensor, Tensor]:
    """Solves (H + alpha I) d = -g by conjugate gradients, until r' r <= eps g' g.

    Where the curvature along a p is not positive, d is what was found before; at the first p = -g
    it goes along that, as far as the curvature's size says.

    Source: Nocedal & Wright (2006), Numerical Optimization, algorithm 7.1.

    Args:
        times_hessian: v -> H v, both of shape (n,).
        g: The gradient, (n,), not 0.
        alpha: The damping.

    Returns:
        d and H d, both (n,). g' d is negative.
    """
    d, h_d = torch.zeros_like(g), torch.zeros_like(g)
    r = p = -g
    rr = r.dot(r)
    enough = torch.finfo(g.dtype).eps * rr
    for k in range(CG_STEPS):
        h_p = times_hessian(p)
        curvature = p.dot(h_p) + alpha * p.dot(p)
        if curvature <= 0 and k > 0:
            break
        a = rr / (curvature.abs() or 1)
        d, h_d = d + a * p, h_d + a * h_p
        if curvature <= 0:
            break
        r = r - a * (h_p + alpha * p)
        rr, rr_old = r.dot(r), rr
        if rr <= enough:
            break
        p = r + rr / rr_old * p
    return d, h_d


def hessian_product(gradient: Tensor, parameters: Sequence[nn.Parameter], v: Tensor) -> Tensor:
    """H v, as the derivative of g' v.

    Source: Pearlmutter (1994), Fast exact multiplication by the Hessian.

    Args:
        gradient: g, (n,), with the graph that made it of the parameters.
        parameters: n of them in all.
        v: (n,).
    """
    if not gradient.requires_grad:  # the loss is linear
        return torch.zeros_like(v)
    return _vector(
        torch.autograd.grad(gradient, parameters, v, retain_graph=True, materialize_grads=True)
    )


def _evaluate(objective: Objective, parameters: Sequence[nn.Parameter]) -> tuple[Tensor, Tensor]:
    """The loss and its gradient as a vector, 0 where there is none."""
    with torch.enable_grad():
        loss = objective()
    gradients = (torch.zeros_like(p) if p.grad is None else p.grad for p in parameters)
    return _checked(loss, _vector(gradients))


def _checked(loss: Tensor, gradient: Tensor) -> tuple[Tensor, Tensor]:
    """The loss and its gradient; where that has no finite norm, the loss becomes NaN."""
    return loss + 0 * gradient.dot(gradient), gradient


def _guard(loss: Tensor, gradient: Tensor) -> tuple[float, Tensor]:
    """What a line search can compare: from a loss of inf and slope of nan it always turns back."""
    f = float(loss)
    return (f, gradient) if isfinite(f) else (inf, torch.full_like(gradient, torch.nan))


def _vector(tensors: Iterable[Tensor]) -> Tensor:
    """All numbers of some tensors, one after the other."""
    return torch.cat([t.reshape(-1) for t in tensors])


def _parts(vector: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """What `_vector` put together, each part contiguous."""
    parts = torch.split(vector, [p.numel() for p in parameters])
    return [part.view(p.shape) for part, p in zip(parts, parameters, strict=True)]


def _place(parameters: Sequence[nn.Parameter], x: Tensor) -> None:
    """Moves the parameters to x."""
    for p, part in zip(parameters, _parts(x, parameters), strict=True):
        p.copy_(part)


def _set_gradients(parameters: Sequence[nn.Parameter], gradient: Tensor) -> None:
    """Gives PyTorch's L-BFGS gradients that it can view as vectors."""
    for p, part in zip(parameters, _parts(gradient, parameters), strict=True):
        p.grad = part
