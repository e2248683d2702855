"""How one configuration is trained.

A trainer is a generator: it yields one `Report` per epoch and knows nothing of studies.

    from trainers.classifier import fit

    for report in fit({"learning_rate": 0.1, "momentum": 0.9}, "digits", seed=0):
        print(report.step, report.metrics["val_error"])

This module, `errors`, `report`, `config`, `schedules` and `data` import in milliseconds, so a
study file is checked without PyTorch. These import it, and are imported by name:

    trainers.classifier   fit: the loop, on one screen
    trainers.models       multilayer perceptrons and convolutional networks
    trainers.optimizers   optimizers with decoupled weight decay
    trainers.devices      "auto" -> cuda, mps or cpu

Every random number comes from the seed given to `fit`: torch's global generator is never touched.
"""

from trainers.config import METRICS, ClassifierConfig
from trainers.errors import ConfigError, DataError, Diverged, Problem
from trainers.report import Report
from trainers.schedules import Schedule

__all__ = [
    "METRICS",
    "ClassifierConfig",
    "ConfigError",
    "DataError",
    "Diverged",
    "Problem",
    "Report",
    "Schedule",
]
