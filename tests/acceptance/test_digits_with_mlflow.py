"""The main job: one YAML file, a real study on real data, a leaderboard, and all of it in MLflow.

The digits are run as in a shell, with the default storage and tracking. Since MLflow takes seconds
a process, one folder is made for all tests and read once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Any

import pytest

from tests.acceptance.harness import Done, Folder, Starter, clean_environment, start_afresh

DIGITS = """\
name: digits
objective: {trainer: classifier, data: digits, metric: val_error, epochs: 3}
space:
  learning_rate: {float: [1e-2, 1.0], log: true}
  schedule: [linear, cosine]
  final_lr_fraction: {float: [0.01, 0.1], log: true, when: {schedule: linear}}
  width: 32
search: {sampler: random, trials: 4}
gate: {val_error: "<= 0.5"}
"""
MIXED = """\
name: mixed
objective: {function: "objectives:train", metric: loss}
space: {x: {int: [0, 9]}}
search: {sampler: random, trials: 6}
stopping: {rule: median, startup_trials: 2}
"""
AWAY = """\
name: away
objective: {function: "objectives:returns", metric: loss}
space: {x: {int: [0, 9]}}
search: {sampler: grid}
"""
OBJECTIVES = """
def train(trial):
    if trial.number == 1:
        trial.report(1, loss=0.5)
        raise RuntimeError("no luck")
    for step in range(1, 4):
        trial.report(step, loss=trial.number + 1 / step)


def returns(trial):
    return {"loss": float(trial.x), "size": 3}
"""
NOWHERE = "http://127.0.0.1:9"
READER = """
import json, sys
from mlflow import MlflowClient

client, found = MlflowClient("sqlite:///mlflow.db"), {}
for experiment in client.search_experiments():
    found[experiment.name] = [
        {
            "id": run.info.run_id,
            "status": run.info.status,
            "params": run.data.params,
            "tags": run.data.tags,
            "metrics": {
                name: [[m.step, m.value] for m in client.get_metric_history(run.info.run_id, name)]
                for name in run.data.metrics
            },
            "artifacts": [a.path for a in client.list_artifacts(run.info.run_id)],
        }
        for run in client.search_runs([experiment.experiment_id])
    ]
json.dump(found, sys.stdout)
"""


@dataclass
class Run:
    """A run in MLflow."""

    id: str
    status: str
    params: dict[str, str]
    tags: dict[str, str]
    metrics: dict[str, list[list[float]]]
    artifacts: list[str]


@dataclass
class Story:
    """What was done in the folder, and what MLflow has of it."""

    folder: Folder
    digits: Done
    mixed: Done
    away: Done
    synced: Done
    experiments: dict[str, list[Run]] = field(default_factory=dict)

    def parent(self, study: str) -> Run:
        """The run of a study."""
        parents = [r for r in self.experiments[study] if "mlflow.parentRunId" not in r.tags]
        assert len(parents) == 1
        return parents[0]

    def nested(self, study: str) -> list[Run]:
        """The runs of its trials, by number."""
        runs = [r for r in self.experiments[study] if "mlflow.parentRunId" in r.tags]
        return sorted(runs, key=lambda run: int(run.tags["hpo.trial"]))


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory, starter: Starter) -> Story:
    environment = clean_environment()
    del environment["MLFLOW_TRACKING_URI"]
    shell = Folder(tmp_path_factory.mktemp("story"), start_afresh, environment)
    folder = Folder(shell.path, starter, environment)
    folder.write("objectives.py", OBJECTIVES)
    for name, text in (("digits", DIGITS), ("mixed", MIXED), ("away", AWAY)):
        folder.write(f"{name}.yaml", text)
    # Two at a time, but never two that would make MLflow's tables.
    away = folder.start("run", "away.yaml", "--storage", "sqlite:///a.db", "--tracking", NOWHERE)
    digits, gone = shell.hpo("run", "digits.yaml"), away.done()
    mixed = folder.start("run", "mixed.yaml")
    mlflow = ["--tracking", "sqlite:///mlflow.db"]
    synced = folder.hpo("sync", "away", "--storage", "sqlite:///a.db", *mlflow)
    told = Story(folder, digits, mixed.done(), gone, synced)
    reader = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", READER],
        cwd=folder.path,
        env=environment,
        stdout=subprocess.PIPE,
        check=True,
    )
    told.experiments = {
        name: [Run(**run) for run in runs] for name, runs in json.loads(reader.stdout).items()
    }
    return told


def read(story: Story, *arguments: str) -> Any:
    """A command's JSON; these processes need nothing of MLflow."""
    return story.folder.hpo(*arguments, "--json").json


def test_stdout_has_the_leaderboard_alone_and_stderr_a_line_for_each_event(story: Story) -> None:
    done = story.digits

    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines() if line.strip()]
    assert lines[0][:3] == ["#", "trial", "val_error"]
    assert [line[0] for line in lines[2:]] == ["1", "2", "3", "4"]
    values = [float(line[2]) for line in lines[2:]]
    assert values == sorted(values)
    assert len(done.events) == 4
    assert all("COMPLETE val_error" in line for line in done.events)
    assert "Study 'digits': 4 trials" in done.err
    assert "gate passed: val_error" in done.err
    assert "mlflow ui" in done.err
    assert "\x1b" not in done.out + done.err


def test_the_trainer_learns_the_digits(story: Story) -> None:
    best = read(story, "best", "digits")["best"]

    assert best["value"] == best["metrics"]["val_error"] < 0.5
    assert {"train_loss", "val_loss", "val_error", "val_accuracy"} <= best["metrics"].keys()


def test_every_epoch_of_a_trial_is_in_its_run_directory(story: Story) -> None:
    log = story.folder.path / "hpo-runs/digits/trial-00002/metrics.jsonl"

    lines = [json.loads(line) for line in log.read_text().splitlines()]

    assert [line["step"] for line in lines] == [1, 2, 3]
    (trial,) = (t for t in read(story, "trials", "digits") if t["trial"] == 2)
    assert lines[-1]["metrics"] == trial["metrics"]
    assert trial["n_steps"] == 3


def test_a_study_is_one_experiment_with_one_parent_run_and_a_nested_run_for_each_trial(
    story: Story,
) -> None:
    for study, n in (("digits", 4), ("mixed", 6), ("away", 10)):
        parent, nested = story.parent(study), story.nested(study)
        assert {run.tags["mlflow.parentRunId"] for run in nested} == {parent.id}
        assert [run.tags["hpo.trial"] for run in nested] == [str(i) for i in range(n)]
        assert {run.tags["hpo.study"] for run in [parent, *nested]} == {study}
        assert parent.status == "FINISHED"


def test_the_parent_run_has_the_file_the_leaderboard_and_the_best_params(story: Story) -> None:
    parent = story.parent("digits")

    best = read(story, "best", "digits")["best"]
    assert {"study.yaml", "leaderboard.md", "best.json"} <= {*parent.artifacts}
    assert parent.tags["hpo.best_trial"] == str(best["trial"])
    assert parent.tags["best.learning_rate"] == str(best["params"]["learning_rate"])


def test_a_nested_run_has_params_and_metrics_of_every_epoch(story: Story) -> None:
    trials = read(story, "trials", "digits")

    for run, trial in zip(story.nested("digits"), trials, strict=True):
        assert run.status == "FINISHED"
        sampled = {name: str(value) for name, value in trial["params"].items()}
        assert run.params == {**sampled, "width": "32", "epochs": "3"}
        for name, value in trial["metrics"].items():
            assert [step for step, _ in run.metrics[name]] == [1, 2, 3]
            assert run.metrics[name][-1][1] == value


def test_the_run_id_of_the_best_trial_is_that_trials_run(story: Story) -> None:
    for study in ("digits", "mixed"):
        best = read(story, "best", study)["best"]
        run = story.nested(study)[best["trial"]]
        assert best["mlflow_run_id"] == run.id
        assert run.tags["hpo.state"] == "COMPLETE"


def test_a_failed_trial_is_failed_in_mlflow_and_says_why(story: Story) -> None:
    assert story.mixed.code == 0
    run = story.nested("mixed")[1]

    assert run.status == "FAILED"
    assert run.tags["hpo.state"] == "FAIL"
    assert run.tags["hpo.failure"] == "CRASHED: RuntimeError: no luck"
    assert run.metrics["loss"] == [[1, 0.5]]
    others = [other for other in story.nested("mixed") if other is not run]
    assert {other.status for other in others} == {"FINISHED"}
    assert not any("hpo.failure" in other.tags for other in others)


def test_a_pruned_trial_is_tagged_with_the_rule_that_stopped_it(story: Story) -> None:
    states = [trial["state"] for trial in read(story, "trials", "mixed")]
    assert states == ["COMPLETE", "FAIL", "COMPLETE", "PRUNED", "PRUNED", "PRUNED"]

    for state, run in zip(states, story.nested("mixed"), strict=True):
        assert ("hpo.stopped_by" in run.tags) == (state == "PRUNED")
        if state == "PRUNED":
            assert run.tags["hpo.stopped_by"].startswith("median")
            assert run.status == "FINISHED"


def test_without_mlflow_the_search_runs_on_with_one_warning(story: Story) -> None:
    done = story.away

    assert done.code == 0
    assert len(done.events) == 10
    warnings = [line for line in done.err.splitlines() if line.startswith("warning:")]
    assert len(warnings) == 1, done.err
    assert NOWHERE in warnings[0]
    assert "hpo sync away" in done.err


def test_sync_brings_all_trials_to_mlflow_later(story: Story) -> None:
    assert story.synced.code == 0
    assert "10 finished trials" in story.synced.out
    trials = read(story, "trials", "away", "--storage", "sqlite:///a.db")
    assert [trial["mlflow_run_id"] for trial in trials] == [r.id for r in story.nested("away")]


def test_what_a_function_returns_is_a_metric_in_mlflow_so_that_runs_can_be_sorted(
    story: Story,
) -> None:
    trials = read(story, "trials", "away", "--storage", "sqlite:///a.db")

    for run, trial in zip(story.nested("away"), trials, strict=True):
        assert {name: points[-1][1] for name, points in run.metrics.items()} == trial["metrics"]
