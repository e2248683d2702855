"""How trials are tracked: a study's mirror in MLflow.

MLflow is a mirror, never the truth, and it costs training nothing: a process of its own does
all the writing, and the driver (the process that searches) never imports mlflow.

::

    driver                                          mirror (python -m hpo.mlflow_server.mirror)
    Tracker.send  --- StudyOpened, TrialStarted, ... --->  pending  --->  StudyRuns  --->  MLflow
    Tracker.poll  <-- Ready, Mirrored, Trouble, ... -----

    tracker.py      the driver's end: a process, two pipes, two threads; no call blocks
    protocol.py     what the two say to each other, one JSON line per message
    pending.py      what the driver has said and MLflow does not have yet, by trial
    study_runs.py   the layout in MLflow; imports mlflow, as script_runs.py does
    code_runs.py    where the user's own code logs, and how its runs are found
    script_runs.py  a run that a script is given, and that hpo reads
    mirror.py       the process: when to write, and what to do when MLflow is away
    uris.py         tracking URIs: passwords masked, obstacles explained
"""

from hpo.mlflow_server.code_runs import CodeRuns
from hpo.mlflow_server.protocol import (
    BesideRun,
    Closed,
    Mirrored,
    Ready,
    RunCreated,
    Status,
    StudyClosed,
    StudyMetric,
    StudyOpened,
    TrialEnded,
    TrialReported,
    TrialStarted,
    Trouble,
)
from hpo.mlflow_server.tracker import Tracker
from hpo.mlflow_server.uris import masked

__all__ = [
    "BesideRun",
    "Closed",
    "CodeRuns",
    "Mirrored",
    "Ready",
    "RunCreated",
    "Status",
    "StudyClosed",
    "StudyMetric",
    "StudyOpened",
    "Tracker",
    "TrialEnded",
    "TrialReported",
    "TrialStarted",
    "Trouble",
    "masked",
]
