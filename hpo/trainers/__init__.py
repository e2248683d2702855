"""How one configuration is trained.

A trainer is a generator: it yields one `Report` per epoch and knows nothing of studies.

    from hpo.trainers.loop import fit

    for report in fit({"learning_rate": 0.1, "momentum": 0.9}, "digits", seed=0):
        print(report.step, report.metrics["val_error"])

A study file is checked without PyTorch: this module, `errors`, `report`, `fields`, `config`,
`goals`, `schedules`, `code`, `fit_files` and `data` import in milliseconds. These import it, and
are imported by name:

    loop          fit: the loop, on one screen
    steps         one step: loss, gradient in micro-batches, precision, penalty, clipping
    training      what a fit has in hand: network, optimizer, schedule, best weights
    models        networks
    dense         their dense layer
    initialise    how their weights are drawn at first
    augment       what training examples go through: flips, shifts, noise, mixup
    optimizers    optimizers, decoupled weight decay, the l2 penalty, clipping
    eager         PyTorch's classes without its compiler
    operations    what a network multiplies and adds
    second_order  conjugate gradients and Newton's method
    metrics       the metrics that `goals` names
    checkpoints   where a fit can be taken up again
    exports       a trained network as files
    devices       "auto" -> cuda, mps or cpu

Every random number comes from the seed given to `fit`: torch's global generator is never touched,
but for the user's own model, which knows no other.
"""

from hpo.trainers.config import TrainerConfig
from hpo.trainers.errors import CodeError, ConfigError, DataError, Diverged, Problem
from hpo.trainers.goals import Goals
from hpo.trainers.report import Report
from hpo.trainers.schedules import Schedule

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
