"""A network of one's own for the built-in trainer."""

from __future__ import annotations

from itertools import pairwise
from math import prod
from typing import Any

from torch import Tensor, nn


class Maxout(nn.Module):
    """Units that learn their activation: the largest of a few linear pieces.

    Goodfellow, Warde-Farley, Mirza, Courville, Bengio, arXiv:1302.4389 (2013), section 3.
    """

    def __init__(self, n_inputs: int, units: int, pieces: int) -> None:
        super().__init__()
        self.units = units
        self.linear = nn.Linear(n_inputs, units * pieces)

    def forward(self, x: Tensor) -> Tensor:
        """From (n, n_inputs) to (n, units)."""
        return self.linear(x).unflatten(1, (self.units, -1)).amax(dim=2)


def make(config: Any) -> nn.Module:
    """A network of maxout units.

    Args:
        config: All of the trial's configuration: what the trainer knows, what it does not
            (`config.pieces`), the `shape` of an example, and the `n_outputs` that are expected.

    Returns:
        From (n, *config.shape) to logits (n, config.n_outputs).
    """
    sizes = [prod(config.shape), *[config.units] * config.hidden_layers]
    hidden = [
        nn.Sequential(Maxout(n_inputs, units, config.pieces), nn.Dropout(config.dropout))
        for n_inputs, units in pairwise(sizes)
    ]
    return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(config.units, config.n_outputs))
