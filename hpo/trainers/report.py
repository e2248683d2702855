"""What a trainer says after each epoch."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Report:
    """The state of training after one epoch.

    Args:
        step: Epochs done, from 1.
        metrics: Finite numbers by name; see `hpo.trainers.METRICS`.
        wall_seconds: Seconds since the start of `fit`, the time its caller took included.
    """

    step: int
    metrics: Mapping[str, float]
    wall_seconds: float
