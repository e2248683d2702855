"""PyTorch's classes without its compiler."""

from typing import Any

from torch.optim import Optimizer


def as_it_is(method: Any) -> Any:
    """A method without the wrapper that keeps it out of compiled graphs."""
    return getattr(method, "__wrapped__", method)


class Eager(Optimizer):
    """An optimizer that nobody compiles; to be named before PyTorch's class.

    The first call of PyTorch's wrappers imports `torch._dynamo`, 850 modules: over a second of
    every command and worker that trains a network, and more than many a trial takes.
    """

    add_param_group = as_it_is(Optimizer.add_param_group)
    load_state_dict = as_it_is(Optimizer.load_state_dict)
    state_dict = as_it_is(Optimizer.state_dict)
    zero_grad = as_it_is(Optimizer.zero_grad)
