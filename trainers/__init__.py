"""How one configuration is trained.

A trainer is a generator: it yields one `Report` per epoch and knows nothing of studies.

    from trainers.loop import fit

    for report in fit({"learning_rate": 0.1, "momentum": 0.9}, "digits", seed=0):
        print(report.step, report.metrics["val_error"])

A study file is checked without PyTorch: this module, `errors`, `report`, `fields`, `config`,
`goals`, `schedules`, `code` and `data` import in milliseconds. These import it, and are imported by
name:

    trainers.loop         fit: the loop, on one screen
    trainers.steps        one step: loss, gradient in micro-batches, precision, penalty, clipping
    trainers.training     what a fit has in hand: network, optimizer, schedule, best weights
    trainers.models       networks
    trainers.dense        their dense layer
    trainers.initialise   how their weights are drawn at first
    trainers.augment      what training examples go through: flips, shifts, noise, mixup
    trainers.optimizers   optimizers, decoupled weight decay, the l2 penalty, clipping
    trainers.second_order conjugate gradients and Newton's method
    trainers.metrics      the metrics that `goals` names
    trainers.checkpoints  where a fit can be taken up again
    trainers.exports      a trained network as files
    trainers.devices      "auto" -> cuda, mps or cpu

Every random number comes from the seed given to `fit`: torch's global generator is never touched,
but for the user's own model, which knows no other.
"""

from trainers.config import TrainerConfig
from trainers.errors import CodeError, ConfigError, DataError, Diverged, Problem
from trainers.goals import Goals
from trainers.report import Report
from trainers.schedules import Schedule

__all__ = [
    "CodeError",
    "ConfigError",
    "DataError",
    "Diverged",
    "Goals",
    "Problem",
    "Report",
    "Schedule",
    "TrainerConfig",
]
