"""The dense layer."""

import torch
from torch import nn

_FEW = 32


class Dense(nn.Module):
    """x W + b.

    Its weights are (inputs, units), and not PyTorch's (units, inputs): by these, CPUs multiply
    minibatches of some dozens up to twice as fast. Those of few units, such as logits, nevertheless
    lie in memory unit by unit: else products that narrow take up to four times as long. Nothing is
    drawn yet.

    Args:
        inputs: Of each unit.
        units: How many.
        bias: Whether there is b.
    """

    def __init__(self, inputs: int, units: int, *, bias: bool = True) -> None:
        super().__init__()
        by_units = torch.empty(units, inputs).t()
        self.weight = nn.Parameter(by_units if units < _FEW else torch.empty(inputs, units))
        self.bias = nn.Parameter(torch.empty(units)) if bias else None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps (n, inputs) to (n, units)."""
        if self.bias is None:
            return x @ self.weight
        return torch.addmm(self.bias, x, self.weight)
