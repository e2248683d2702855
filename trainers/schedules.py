"""Learning rates as pure functions of the step.

k counts minibatches from 0, eps_0 is the first learning rate, eps_tau the last, reached at
k = tau and kept from there on. Far along the schedule we are: alpha = min(k / tau, 1).
"""

from collections.abc import Callable, Mapping
from math import cos, pi
from types import MappingProxyType


def constant(alpha: float, eps_0: float, eps_tau: float) -> float:  # noqa: ARG001
    """eps_k = eps_0."""
    return eps_0


def linear(alpha: float, eps_0: float, eps_tau: float) -> float:
    """eps_k = (1 - alpha) eps_0 + alpha eps_tau.

    Source: Goodfellow, Bengio & Courville (2016), Deep Learning, eq. 8.14.
    """
    return (1 - alpha) * eps_0 + alpha * eps_tau


def cosine(alpha: float, eps_0: float, eps_tau: float) -> float:
    """eps_k = eps_tau + (eps_0 - eps_tau) (1 + cos(pi alpha)) / 2.

    Source: Loshchilov & Hutter (2017), SGDR, eq. 5, without restarts.
    """
    return eps_tau + (eps_0 - eps_tau) * (1 + cos(pi * alpha)) / 2


SCHEDULES: Mapping[str, Callable[[float, float, float], float]] = MappingProxyType(
    {"constant": constant, "linear": linear, "cosine": cosine}
)


def learning_rate(
    k: int, eps_0: float, schedule: str, horizon: float, final_fraction: float
) -> float:
    """The learning rate of step k.

    Args:
        k: Minibatches done, from 0.
        eps_0: The learning rate of step 0.
        schedule: A name in `SCHEDULES`.
        horizon: tau, in minibatches, above 0.
        final_fraction: eps_tau / eps_0.
    """
    return SCHEDULES[schedule](min(k / horizon, 1.0), eps_0, final_fraction * eps_0)
