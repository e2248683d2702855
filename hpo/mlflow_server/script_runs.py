"""Runs that a user's own script logs to, and that hpo reads.

The script finds its run by itself: MLflow reads ``MLFLOW_RUN_ID`` from the environment. It is a
run of its own, as all that code makes (`code_runs`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Mapping

os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_CONFIGURE_LOGGING", "false")

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException

from hpo.mlflow_server.code_runs import CodeRuns
from hpo.mlflow_server.study_runs import create_database

_SYSTEM = "system/"  # MLflow's own metrics of the machine


class ScriptRun:
    """A new run for one trial's script.

    Args:
        runs: Where it logs; the study's experiment is made if it is not there.
        trial: Number of the trial.

    Attributes:
        environment: What tells the script its run, beside where it logs.

    Raises:
        MlflowException: MLflow cannot be reached.
    """

    def __init__(self, runs: CodeRuns, trial: int) -> None:
        self._client, experiment = open_experiment(runs)
        name = f"trial {trial} (script)"
        run = self._client.create_run(experiment, tags=runs.tags(trial), run_name=name)
        self._run_id = run.info.run_id
        self.environment: Mapping[str, str] = {"MLFLOW_RUN_ID": self._run_id}

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
        """Ends the run, unless the script did.

        Args:
            status: FINISHED, FAILED or KILLED.
        """
        with contextlib.suppress(MlflowException):  # what was measured has been read
            if self._client.get_run(self._run_id).info.status == "RUNNING":
                self._client.set_terminated(self._run_id, status)


def open_experiment(runs: CodeRuns) -> tuple[MlflowClient, str]:
    """A client, and the experiment of a study, which its mirror may be making just now.

    Raises:
        MlflowException: MLflow cannot be reached.
    """
    create_database(runs.absolute_uri)
    client = MlflowClient(runs.absolute_uri)
    return client, _experiment(client, runs.study)


def _experiment(client: MlflowClient, name: str) -> str:
    with contextlib.suppress(MlflowException):
        return str(client.create_experiment(name))
    experiment = client.get_experiment_by_name(name)
    if experiment is None:
        raise MlflowException(f"the experiment '{name}' can be neither made nor found")
    if experiment.lifecycle_stage == LifecycleStage.DELETED:
        client.restore_experiment(experiment.experiment_id)
    return str(experiment.experiment_id)
