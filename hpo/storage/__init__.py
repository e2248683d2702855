"""Studies in Optuna's tables, written one transaction per event.

Optuna commits once for every parameter, report and state change; with eight parameters and
five reports that is fifteen commits a trial, and commits are what a database charges for. Here
a trial that this process asked for is kept in memory and written in one transaction when it
starts (`Storage.flush`), about once a second while it reports, and in one when it ends. The
tables are Optuna's own: every Optuna tool reads what hpo writes, and the other way round.

- `urls`: which databases there are; `database`: patience with a lost connection.
- `schema`: the tables, Optuna's and three of ours; `codings`: what stands in their rows.
- `studies`, `rows`: studies and trials as rows of them.
- `script`: a transaction that is written down before it begins, and sent at once.
- `known`: what this process has read of a study.
- `leases`: who drives a study, and who may write which trial.
- `commits`: what this process has pending of its trials, written one transaction per event.
- `storage`: all of it as an Optuna storage.
"""

from hpo.storage.commits import KEY, TooManyFailuresError
from hpo.storage.database import Database, DatabaseAwayError
from hpo.storage.leases import Driver, Lease, LeaseLostError, Leases
from hpo.storage.rows import FailureLimits
from hpo.storage.schema import upgrade
from hpo.storage.storage import (
    TWIN,
    WRITE_INTERVAL_SECONDS,
    Storage,
    demand_file,
    open_storage,
)
from hpo.storage.urls import masked

__all__ = [
    "KEY",
    "TWIN",
    "WRITE_INTERVAL_SECONDS",
    "Database",
    "DatabaseAwayError",
    "Driver",
    "FailureLimits",
    "Lease",
    "LeaseLostError",
    "Leases",
    "Storage",
    "TooManyFailuresError",
    "demand_file",
    "masked",
    "open_storage",
    "upgrade",
]
