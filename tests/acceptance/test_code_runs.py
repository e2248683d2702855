"""What functions and commands log to MLflow by themselves lies under their trials.

Two studies begin at once in a folder without a database, and MLflow is read once.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from dataclasses import dataclass
from typing import Any

import pytest

from tests.acceptance.harness import Folder, Starter, clean_environment

CALLED = """
import mlflow


def train(trial):
    mlflow.log_params(trial.config)
    mlflow.log_param("mine", trial.number)
    for step in range(1, 4):
        mlflow.log_metric("inner", 1 / step, step=step)
        trial.report(step, loss=float(trial.number))
        if trial.number == 1:
            raise RuntimeError("no luck")
"""
SCRIPT = """
import sys
import mlflow

for name in ("first", "second"):
    with mlflow.start_run(run_name=name):
        mlflow.log_metric("inner", 1)
print('{"loss": 1}')
"""
READER = """
import json, sys
from mlflow import MlflowClient

client, found = MlflowClient("sqlite:///mlflow.db"), {}
for experiment in client.search_experiments():
    runs = client.search_runs([experiment.experiment_id])
    names = {run.info.run_id: run.info.run_name for run in runs}
    found[experiment.name] = [
        {
            "name": run.info.run_name,
            "status": run.info.status,
            "under": names.get(run.data.tags.get("mlflow.parentRunId")),
            "params": run.data.params,
            "metrics": run.data.metrics,
        }
        for run in runs
    ]
json.dump(found, sys.stdout)
"""


@dataclass(frozen=True)
class Logged:
    """A run in MLflow."""

    name: str
    status: str
    under: str | None
    params: dict[str, str]
    metrics: dict[str, float]


def study(name: str, objective: dict[str, Any], values: list[int], **run: Any) -> dict[str, Any]:
    return {
        "name": name,
        "objective": {"metric": "loss", "direction": "minimize", **objective},
        "space": {"x": values},
        "search": {"sampler": "grid"},
        "stopping": {"rule": "median", "startup_trials": 1, "warmup_steps": 0},
        "run": run,
    }


@pytest.fixture(scope="module")
def logged(tmp_path_factory: pytest.TempPathFactory, starter: Starter) -> dict[str, list[Logged]]:
    environment = clean_environment()
    del environment["MLFLOW_TRACKING_URI"]
    folder = Folder(tmp_path_factory.mktemp("logged"), starter, environment)
    for name, text in (("called", CALLED), ("script", SCRIPT)):
        folder.write(f"{name}.py", text)
    command = f"{shlex.quote(sys.executable)} script.py {{x}}"
    studies = [
        study("called", {"function": "called:train"}, [0, 1, 2], executor="processes", workers=1),
        study("script", {"command": command}, [0]),
    ]
    running = [folder.start("run", folder.study(each, f"{each['name']}.yaml")) for each in studies]
    for each in running:
        done = each.done()
        assert done.code == 0, done.err
        assert "Traceback" not in done.err
    reader = [sys.executable, "-W", "ignore", "-c", READER]
    read = subprocess.run(reader, cwd=folder.path, env=environment, stdout=-1, check=True)
    return {name: [Logged(**run) for run in runs] for name, runs in json.loads(read.stdout).items()}


def by_code(runs: list[Logged]) -> dict[str | None, list[Logged]]:
    """The runs that hpo has not written, by what they lie under."""
    found: dict[str | None, list[Logged]] = {}
    for run in runs:
        if "inner" in run.metrics:
            found.setdefault(run.under, []).append(run)
    return found


def test_a_functions_runs_lie_under_their_trials_in_the_studys_experiment(
    logged: dict[str, list[Logged]],
) -> None:
    runs = by_code(logged["called"])

    assert set(runs) == {"trial 0", "trial 1", "trial 2"}
    assert {name: len(each) for name, each in runs.items()} == dict.fromkeys(runs, 1)
    assert [runs[f"trial {i}"][0].params["mine"] for i in range(3)] == ["0", "1", "2"]


def test_a_run_that_a_function_leaves_open_is_ended_as_its_trial_was(
    logged: dict[str, list[Logged]],
) -> None:
    runs = by_code(logged["called"])

    assert [runs[f"trial {i}"][0].status for i in range(3)] == ["FINISHED", "FAILED", "KILLED"]


def test_what_code_logs_never_meets_what_hpo_writes(logged: dict[str, list[Logged]]) -> None:
    (trial,) = (run for run in logged["called"] if run.name == "trial 0")

    assert set(trial.params) == {"x"}
    assert set(trial.metrics) == {"loss"}


def test_all_runs_of_a_script_that_prints_its_metrics_do_so(
    logged: dict[str, list[Logged]],
) -> None:
    runs = by_code(logged["script"])

    assert {name: {run.name for run in each} for name, each in runs.items()} == {
        "trial 0": {"first", "second"}
    }
