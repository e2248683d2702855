"""The dense layer."""

import torch
from torch import nn


class Dense(nn.Module):
    """x W + b.

    Its weights are (inputs, units), and not PyTorch's (units, inputs): by these, CPUs multiply
    minibatches of some dozens up to twice as fast. Nothing is drawn yet.

    Args:
        inputs: Of each unit.
        units: How many.
        bias: Whether there is b.
    """

    def __init__(self, inputs: int, units: int, *, bias: bool = True) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(inputs, units))
        self.bias = nn.Parameter(torch.empty(units)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """From (n, inputs) to (n, units)."""
        if self.bias is None:
            return x @ self.weight
        return torch.addmm(self.bias, x, self.weight)
