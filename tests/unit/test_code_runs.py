"""Where MLflow is told to log while the user's code runs in this process."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo.mlflow_server.code_runs import OF_TRIAL, CodeRuns
from hpo.objectives.function import FunctionObjective
from hpo.trial import Job

pytestmark = pytest.mark.filterwarnings(  # MLflow's
    "ignore:The ``noload`` loader strategy:DeprecationWarning"
)

NAMES = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_CONTEXT"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*NAMES, "MLFLOW_EXPERIMENT_ID"):
        monkeypatch.delenv(name, raising=False)


def told() -> dict[str, str]:
    return {name: os.environ[name] for name in NAMES if name in os.environ}


def test_mlflow_is_told_while_code_runs_and_not_after(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://elsewhere")

    with CodeRuns("sqlite:////data/m.db", "s").in_this_thread(3):
        uri, experiment, tags = told().values()

    assert (uri, experiment) == ("sqlite:////data/m.db", "s")
    assert json.loads(tags)["hpo.logged_by_trial"] == "3"
    assert told() == {"MLFLOW_TRACKING_URI": "http://elsewhere"}


def test_a_local_database_is_the_same_in_another_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert CodeRuns("sqlite:///m.db", "s").absolute_uri == f"sqlite:///{tmp_path}/m.db"
    assert CodeRuns("http://there:5000", "s").absolute_uri == "http://there:5000"


def test_an_experiment_that_the_user_has_chosen_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_EXPERIMENT_ID", "7")

    assert "MLFLOW_EXPERIMENT_NAME" not in CodeRuns("http://there", "s").environment(0)


def test_what_code_changes_itself_stays_changed() -> None:
    with CodeRuns("http://there", "s").in_this_thread(0):
        os.environ["MLFLOW_TRACKING_URI"] = "http://mine"

    assert told() == {"MLFLOW_TRACKING_URI": "http://mine"}


def test_a_generator_is_told_between_its_steps_too(tmp_path: Path) -> None:
    def train(_: Any) -> Iterator[dict[str, float]]:
        for _step in range(2):
            yield {"trial": float(json.loads(os.environ["MLFLOW_RUN_CONTEXT"])[OF_TRIAL])}

    runs = CodeRuns("http://there", "s")
    steps = FunctionObjective(train, "trial", "cpu", runs)(Job(3, {}, 0, tmp_path))

    assert [report.metrics for report in steps] == [{"trial": 3.0}] * 2
    assert told() == {}


def test_a_stopped_function_that_goes_on_takes_nothing_from_the_next_trial() -> None:
    runs = CodeRuns("http://there", "s")
    first = runs.in_this_thread(0)
    first.__enter__()
    with runs.in_this_thread(1):
        first.__exit__(None, None, None)
        still = told()

    assert json.loads(still["MLFLOW_RUN_CONTEXT"])[OF_TRIAL] == "1"
    assert still["MLFLOW_EXPERIMENT_NAME"] == "s"
    assert told() == {}


@pytest.mark.parametrize(("code", "is_made"), [("import mlflow", True), ("import math", False)])
def test_a_database_is_made_before_code_that_speaks_of_mlflow_makes_it(
    tmp_path: Path, code: str, *, is_made: bool
) -> None:
    (tmp_path / "train.py").write_text(code, encoding="utf-8")

    runs = CodeRuns(f"sqlite:///{tmp_path}/m.db", "s")
    runs.make_ready(tmp_path / "train.py", tmp_path / "none.py", tmp_path)

    assert (tmp_path / "m.db").exists() == is_made
    if is_made:  # and its experiment, which two processes cannot make at once
        from mlflow import MlflowClient

        assert MlflowClient(runs.uri).get_experiment_by_name("s") is not None


def test_what_cannot_be_made_ready_is_left_to_the_mirror_to_tell(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import mlflow", encoding="utf-8")
    os.mkfifo(tmp_path / "pipe")  # which would be waited for

    CodeRuns(f"sqlite:///{tmp_path}/none/m.db", "s").make_ready(tmp_path / "train.py")
    CodeRuns(f"sqlite:///{tmp_path}/m.db", "s").make_ready(tmp_path / "pipe")

    assert not (tmp_path / "m.db").exists()


def test_runs_of_the_callers_own_stay_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import mlflow

    runs = CodeRuns(f"sqlite:///{tmp_path}/m.db", "s")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", runs.uri)
    runs.make_ready(Path(__file__))
    with runs.in_this_thread(0):
        outer = mlflow.start_run()
    assert mlflow.active_run() is None  # it was left open

    with mlflow.start_run(outer.info.run_id):
        with runs.in_this_thread(1):
            mlflow.start_run(nested=True)
        active = mlflow.active_run()
        assert active is not None
        assert active.info.run_id == outer.info.run_id
