"""Real curves of error versus training-set size."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.isotonic import IsotonicRegression

from hpo.curves.distributions import Array

NETWORKS = ("MLP", "RealMLP", "TabNet")  # TabPFNv2 is not trained on the n examples
_WHERE = (1 / 3, 2 / 3, 1.0)


@dataclass(frozen=True)
class SizeCurve:
    """One learner on one data set.

    Args:
        data_set: What was learned.
        learner: By what.
        sizes: Training-set sizes, rising, shape (k,).
        errors: Shape (k,).
    """

    data_set: str
    learner: str
    sizes: Array
    errors: Array

    def n_seen(self, share: float) -> int:
        """How many of the sizes are at most this share of the largest."""
        return int(np.sum(self.sizes <= share * self.sizes[-1]))

    @cached_property
    def falling(self) -> Array:
        """The errors as the closest curve that never rises (isotonic regression), shape (k,)."""
        fit = IsotonicRegression(increasing=False)
        return np.asarray(fit.fit_transform(np.log(self.sizes), self.errors), float)

    def is_last(self, target: float) -> bool:
        """Whether a target is the falling curve's error at the largest size."""
        return target == float(self.falling[-1])

    def questions(self, n_seen: int) -> list[tuple[float, float]]:
        """Targets not reached within the first sizes, and the smallest sizes that reach them.

        The targets are the falling curve's own errors at a third, two thirds and the whole of
        the way, in log n, from the last size seen to the largest. The true size is the first at
        which the falling curve is at the target.
        """
        curve, log_n = self.falling, np.log(self.sizes)
        found = []
        for part in _WHERE:
            wanted = log_n[n_seen - 1] + part * (log_n[-1] - log_n[n_seen - 1])
            target = float(curve[np.searchsorted(log_n, wanted - 1e-9)])
            true = int(np.argmax(curve <= target * (1 + 1e-9)))
            if true >= n_seen and target > 0:
                found.append((target, float(self.sizes[true])))
        return found


def networks(data: Path, *, learners: tuple[str, ...] = NETWORKS) -> list[SizeCurve]:
    """LCDB 1.1: neural networks on tables, test errors, means over splits."""
    frame = pd.read_parquet(data / "sizes_lcdb11.parquet").sort_values("n_train")
    frame = frame[frame.learner.isin(learners)]
    return [
        SizeCurve(
            str(name), str(learner), rows.n_train.to_numpy(float), rows.err_test.to_numpy(float)
        )
        for (name, learner), rows in frame.groupby(["dataset_id", "learner"], observed=True)
    ]


def older(data: Path) -> list[SizeCurve]:
    """LCDB 1.0: 20 learners, test errors; what `calibrate` learns from."""
    frame = pd.read_parquet(data / "sizes_lcdb10.parquet")
    means = frame.groupby(["openmlid", "learner", "size_train"]).test.mean().reset_index()
    return [
        SizeCurve(
            str(name), str(learner), rows.size_train.to_numpy(float), 1 - rows.test.to_numpy(float)
        )
        for (name, learner), rows in means.groupby(["openmlid", "learner"])
        if len(rows) >= 6
    ]


def vision(data: Path) -> list[tuple[SizeCurve, int]]:
    """Few-shot errors of vision models, and how many points the official split gives."""
    frame = pd.read_parquet(data / "sizes_image_fewshot.parquet").sort_values("seen_examples")
    found = []
    for (task, model), rows in frame.groupby(["task", "model"]):
        given, hidden = rows[rows.training == 1], rows[rows.training == 0]
        both = pd.concat([given, hidden])
        curve = SizeCurve(
            str(task), str(model), both.seen_examples.to_numpy(float), both.loss.to_numpy(float)
        )
        found.append((curve, len(given)))
    return found
