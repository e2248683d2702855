"""The built-in trainer as an objective."""

from __future__ import annotations

import torch

from hpo.errors import ObjectiveError
from hpo.objectives import Steps
from hpo.trial import Job
from trainers import ConfigError, DataError
from trainers.classifier import fit
from trainers.data import load_data
from trainers.devices import choose


class TrainerObjective:
    """Trains a classifier; all trials of a study share one split of the data.

    Args:
        data: Name of the data set.
        seed: Of the split: the study's, so that trials are compared on the same examples.
        device: auto, cpu, cuda, cuda:1 or mps.
        threads: CPU threads for PyTorch; more than one can change results in the last bits.

    Raises:
        ObjectiveError: the data or the device is not there.
    """

    def __init__(self, data: str, seed: int, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        self._device = device
        try:
            self._data = load_data(data, seed, str(choose(device)))
        except (ConfigError, DataError) as error:
            raise ObjectiveError(f"cannot load '{data}' on '{device}': {error}.") from error

    def __call__(self, job: Job) -> Steps:
        """Yields one report per epoch and returns the last one's metrics."""
        metrics = {}
        for report in fit(job.config, self._data, seed=job.seed, device=self._device):
            yield report
            metrics = dict(report.metrics)
        return metrics
