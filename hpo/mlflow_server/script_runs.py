"""Runs that a user's own script logs to, and that hpo reads.

The script finds its run by itself: MLflow reads ``MLFLOW_RUN_ID`` from the environment. It is a
run of its own beside the one in which the study is mirrored: what the script logs there, its own
params among it, never meets what hpo writes. When the script has ended, its run is nested under
its trial's.
"""

from __future__ import annotations

import contextlib
import os
import posixpath
from collections.abc import Mapping
from pathlib import Path

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from hpo.mlflow_server.study_runs import _create_database
from hpo.mlflow_server.uris import sqlite_file

_PARENT = "mlflow.parentRunId"
_SYSTEM = "system/"  # MLflow's own metrics of the machine


class ScriptRun:
    """A new run for one trial's script.

    Args:
        uri: The tracking URI.
        study: Name of the study and of its experiment, which is made if it is not there.
        trial: Number of the trial.

    Attributes:
        environment: What tells the script its run.

    Raises:
        MlflowException: MLflow cannot be reached.
    """

    def __init__(self, uri: str, study: str, trial: int) -> None:
        uri = _absolute(uri)
        _create_database(uri)
        self._client = MlflowClient(uri)
        self._study, self._trial = study, trial
        self._experiment = _experiment(self._client, study)
        tags = {"hpo.study": study, "hpo.script_of_trial": str(trial)}
        name = f"trial {trial} (script)"
        run = self._client.create_run(self._experiment, tags=tags, run_name=name)
        self._run_id = run.info.run_id
        self.environment: Mapping[str, str] = {
            "MLFLOW_TRACKING_URI": uri,
            "MLFLOW_EXPERIMENT_ID": self._experiment,
            "MLFLOW_RUN_ID": self._run_id,
        }

    def history(self, metric: str) -> list[tuple[int, float]]:
        """Step and value of all that was logged of a metric, in order of time.

        What was logged without a step, which MLflow takes for step 0, has its place in that order.
        """
        points = self._client.get_metric_history(self._run_id, metric)
        points.sort(key=lambda point: (point.timestamp, point.step))
        return [(point.step or i, point.value) for i, point in enumerate(points)]

    def latest(self) -> dict[str, float]:
        """The last value of each metric."""
        metrics = self._client.get_run(self._run_id).data.metrics
        return {name: value for name, value in metrics.items() if not name.startswith(_SYSTEM)}

    def end(self, status: str) -> None:
        """Ends the run, unless the script did, and nests it under its trial's run.

        Args:
            status: FINISHED, FAILED or KILLED.
        """
        with contextlib.suppress(MlflowException):  # what was measured has been read
            if self._client.get_run(self._run_id).info.status == "RUNNING":
                self._client.set_terminated(self._run_id, status)
            trials = self._client.search_runs(
                [self._experiment],
                f"tags.`hpo.study` = '{self._study}' AND tags.`hpo.trial` = '{self._trial}'",
                max_results=1,
                order_by=["attributes.start_time DESC"],
            )
            for trial in trials:
                self._client.set_tag(self._run_id, _PARENT, trial.info.run_id)


def _experiment(client: MlflowClient, name: str) -> str:
    """The experiment of a study, which its mirror may be making just now."""
    with contextlib.suppress(MlflowException):
        return str(client.create_experiment(name))
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise MlflowException(f"the experiment '{name}' can be neither made nor found")
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)


def _absolute(uri: str) -> str:
    """A URI that means the same in another folder."""
    file = sqlite_file(uri)
    if file is None or posixpath.isabs(file):
        return uri
    head, _, rest = uri.partition(":///")
    return f"{head}:///{Path.cwd()}/{rest}"
