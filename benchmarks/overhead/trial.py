"""The trial that does nothing: 8 parameters, 5 reports, 1 value."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

N_PARAMS = 8
N_REPORTS = 5
METRIC = "loss"

PARAMS = tuple(f"x{i}" for i in range(N_PARAMS))


def loss(config: Mapping[str, float], step: int) -> float:
    """A number that depends on everything, and so can be found again."""
    return sum(config[name] for name in PARAMS) / (step + 1)


def train(config: Mapping[str, float]) -> Iterator[dict[str, float]]:
    """The trial as hpo runs it; its value is what it yields last."""
    for step in range(N_REPORTS):
        yield {"step": step, METRIC: loss(config, step)}
