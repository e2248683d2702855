"""Real learning curves on a scale from 0 to 1, higher is better."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from hpo.curves.distributions import Array

_MOVES = 0.05  # a curve whose values differ by less stays at chance


@dataclass(frozen=True)
class Family:
    """Curves of one problem, of equal length.

    Args:
        name: The problem.
        scores: Shape (n_curves, n_steps); the steps are 1 to n_steps.
    """

    name: str
    scores: Array

    @property
    def moving(self) -> Family:
        """Those that move at all."""
        move = self.scores.max(axis=1) - self.scores.min(axis=1) > _MOVES
        return Family(self.name, self.scores[move])


def deepobs(data: Path) -> list[Family]:
    """Test accuracies of DeepOBS after each of 100 epochs; NaN is 0."""
    table = pd.read_parquet(data / "epochs_deepobs.parquet")
    found = []
    for problem, rows in table.groupby("problem"):
        length = int(rows["test_acc"].map(len).mode()[0])
        curves = [np.array(c, float) for c in rows["test_acc"] if len(c) == length]
        found.append(Family(str(problem), np.nan_to_num(np.stack(curves), nan=0.0)[:, 1:]))
    return found


def taskset(data: Path) -> list[Family]:
    """Validation losses of TaskSet at 51 checkpoints, each task from its best to 1.5 x its first.

    Worse losses, infinite ones and NaN are 0.
    """
    tables = np.load(data / "epochs_taskset.npz")
    found = []
    for task, loss in zip(tables["task"], tables["valid_loss"].astype(float), strict=True):
        worst, best = 1.5 * float(np.nanmedian(loss[:, 0])), float(np.nanmin(loss))
        clipped = np.clip(np.nan_to_num(loss, nan=worst, posinf=worst), best, worst)
        found.append(Family(str(task), (worst - clipped) / (worst - best)))
    return found


GROUPS = {"DeepOBS": deepobs, "TaskSet": taskset}
