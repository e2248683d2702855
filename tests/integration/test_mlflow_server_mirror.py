"""The mirror against real MLflow: SQLite, servers that are there, away, late, and kill -9.

What MLflow has is read back by a process of its own, which imports mlflow once.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from hpo.mlflow_server import (
    StudyClosed,
    StudyMetric,
    Tracker,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from hpo.mlflow_server.protocol import Param

PATIENCE_SECONDS = 60.0  # importing mlflow and creating its tables can be slow on a busy machine

READER = """
    import json, os, sys
    os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"
    from mlflow import MlflowClient

    def run_of(client, run):
        names = run.data.metrics
        history = {n: [[m.step, m.value, m.timestamp] for m in
                       client.get_metric_history(run.info.run_id, n)] for n in names}
        return {"id": run.info.run_id, "name": run.info.run_name, "status": run.info.status,
                "start": run.info.start_time, "end": run.info.end_time,
                "tags": run.data.tags, "params": run.data.params, "metrics": history,
                "artifacts": sorted(a.path for a in client.list_artifacts(run.info.run_id))}

    for line in sys.stdin:
        uri, study, act = json.loads(line)
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(study)
        if experiment and act == "delete experiment":
            client.delete_experiment(experiment.experiment_id)
        elif experiment and act:
            client.delete_run(act)
        runs = client.search_runs([experiment.experiment_id]) if experiment else []
        print(json.dumps([run_of(client, run) for run in runs]), flush=True)
"""


@dataclass
class Reader:
    """What MLflow has of a study."""

    process: subprocess.Popen[str]

    def runs(self, uri: str, study: str, act: str | None = None) -> list[dict[str, Any]]:
        assert self.process.stdin
        assert self.process.stdout
        self.process.stdin.write(json.dumps([uri, study, act]) + "\n")
        self.process.stdin.flush()
        runs: list[dict[str, Any]] = json.loads(self.process.stdout.readline())
        return runs

    def study(self, uri: str, study: str) -> tuple[dict[str, Any], dict[int, dict[str, Any]]]:
        """The parent run and the nested run of each trial; there must be one of each."""
        runs = self.runs(uri, study)
        (parent,) = (run for run in runs if "hpo.trial" not in run["tags"])
        nested = {int(run["tags"]["hpo.trial"]): run for run in runs if run is not parent}
        assert len(nested) == len(runs) - 1
        assert all(run["tags"]["mlflow.parentRunId"] == parent["id"] for run in nested.values())
        return parent, nested


@pytest.fixture(scope="session")
def reader() -> Iterator[Reader]:
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(READER)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        yield Reader(process)
        assert process.stdin
        process.stdin.close()


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])


@dataclass
class Server:
    """A real one: `mlflow ui` without flags, in a folder where a study was mirrored."""

    folder: Path
    port: int = field(default_factory=free_port)
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true"}
        environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"
        environment.pop("MLFLOW_TRACKING_URI", None)
        command = [sys.executable, "-m", "mlflow", "ui", "--workers", "1", "--port", str(self.port)]
        with (self.folder / "server.log").open("wb") as log:
            self.process = subprocess.Popen(
                command, cwd=self.folder, env=environment, stdout=log, stderr=log, process_group=0
            )
        wait_until(lambda: is_healthy(self.url))

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None


def is_healthy(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=1) as answer:  # noqa: S310
            return bool(answer.status == 200)
    except OSError:
        return False


def wait_until(condition: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


@dataclass
class Driver:
    """A driver's end: its tracker and what it was told."""

    uri: str
    study: str
    uid: str = field(default_factory=lambda: uuid.uuid4().hex)
    log: Path | None = None
    mirrored: dict[int, str] = field(default_factory=dict)
    troubles: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.tracker = Tracker(
            self.uri,
            study=self.study,
            uid=self.uid,
            tags={"hpo.spec": "abc"},
            artifacts={"study.yaml": "name: digits\n"},
            on_mirrored=self.mirrored.__setitem__,
            on_trouble=self.troubles.append,
            log_path=self.log,
        )

    def wait(self, condition: Callable[[], bool]) -> None:
        def polled() -> bool:
            self.tracker.poll()
            return condition()

        wait_until(polled)

    def close(self, timeout: float = PATIENCE_SECONDS) -> bool:
        final = StudyClosed("FINISHED", {"hpo.state": "finished"}, {"report.md": "# Report\n"})
        return self.tracker.close(final, timeout)

    @property
    def pid(self) -> int:
        assert self.tracker._process
        return self.tracker._process.pid


@pytest.fixture(scope="session")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the default database, into which one study was mirrored."""
    folder = tmp_path_factory.mktemp("home")
    with contextlib.chdir(folder):
        driver = Driver("sqlite:///mlflow.db", "digits", "first")
        tell(driver.tracker, 0)
        assert driver.close()
    return folder


@pytest.fixture(scope="session")
def sqlite_uri(home: Path) -> str:
    return f"sqlite:///{home}/mlflow.db"


@pytest.fixture(scope="session")
def server(home: Path) -> Iterator[Server]:
    server = Server(home)
    yield server
    server.stop()


@pytest.fixture
def server_uri(server: Server) -> str:
    if not server.process:
        server.start()
    return server.url


@pytest.fixture
def drive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Driver]]:
    monkeypatch.chdir(tmp_path)  # artifacts of SQLite lie in the current folder
    drivers: list[Driver] = []

    def start(*args: Any, **kwargs: Any) -> Driver:
        drivers.append(Driver(*args, **kwargs))
        return drivers[-1]

    yield start
    for driver in drivers:
        driver.tracker.kill()


def name() -> str:
    return f"study-{uuid.uuid4().hex[:8]}"


def tell(tracker: Tracker, trial: int, *, fresh: bool = True, n_steps: int = 3) -> None:
    start = 1_700_000_000_000 + trial * 1000
    params: dict[str, Param] = {
        "learning_rate": 0.1,
        "optimizer": "sgd",
        "nesterov": True,
        "depth": 2,
        "seed": None,
    }
    tracker.send(TrialStarted(trial, params, start, {"hpo.state": "RUNNING"}, fresh=fresh))
    for step in range(n_steps):
        metrics = {"val_error": 1 / (step + 1), "train_loss": 2.0 - step}
        tracker.send(TrialReported(trial, step, metrics, start + step))
    tracker.send(
        TrialEnded(trial, "FINISHED", start + 99, {"hpo.state": "COMPLETE"}, {"value": 1.0})
    )


def tell_a_story(tracker: Tracker) -> None:
    for trial in range(3):
        tell(tracker, trial)
    tracker.send(TrialStarted(3, {"note": "x" * 9000, "a,b=c": 1}, 1000))
    tracker.send(TrialReported(3, 0, {"train_loss": math.nan, "val_error": math.inf}, 1001))
    tracker.send(TrialEnded(3, "FAILED", 1002, {"hpo.failure": "DIVERGED"}))
    for step, best in enumerate([0.5, 0.4, 0.4]):
        tracker.send(StudyMetric("best_value", best, step, 2000 + step))


def test_a_server_that_comes_late_gets_everything(
    drive: Callable[..., Driver], reader: Reader, server: Server
) -> None:
    server.stop()
    driver = drive(server.url, study := name())
    for trial in range(3):
        tell(driver.tracker, trial)
    driver.wait(lambda: bool(driver.troubles))
    server.start()
    driver.wait(lambda: len(driver.mirrored) == 3)
    assert driver.close()
    assert len(driver.troubles) == 1
    assert set(reader.study(server.url, study)[1]) == {0, 1, 2}


@pytest.mark.parametrize("backend", ["sqlite_uri", "server_uri"])
def test_a_study_lies_in_mlflow_once_however_often_it_is_sent(
    backend: str, drive: Callable[..., Driver], reader: Reader, request: pytest.FixtureRequest
) -> None:
    uri, study = request.getfixturevalue(backend), name()
    first = drive(uri, study)
    tell_a_story(first.tracker)
    first.wait(lambda: 2 in first.mirrored)
    tell(first.tracker, 2)  # a second attempt
    assert first.close()
    assert first.troubles == []
    parent, trials = reader.study(uri, study)
    assert first.mirrored == {trial: run["id"] for trial, run in trials.items()}
    assert first.tracker.parent_run_id == parent["id"]
    assert (first.tracker.url_hint is None) == uri.startswith("sqlite")

    assert (parent["name"], parent["status"]) == (study, "FINISHED")
    assert parent["metrics"] == {"best_value": [[0, 0.5, 2000], [1, 0.4, 2001], [2, 0.4, 2002]]}
    assert parent["artifacts"] == ["report.md", "study.yaml"]
    expected = {"hpo.study": study, "hpo.study_uid": first.uid, "hpo.spec": "abc"}
    assert {**parent["tags"], **expected, "hpo.state": "finished"} == parent["tags"]
    assert parent["tags"]["mlflow.source.name"] == "hpo run"

    run = trials[1]
    assert (run["name"], run["status"]) == ("trial 1", "FINISHED")
    assert (run["start"], run["end"]) == (1_700_000_001_000, 1_700_000_001_099)
    assert run["params"]["learning_rate"] == "0.1"
    assert (run["params"]["nesterov"], run["params"]["seed"]) == ("True", "None")
    assert [value for _, value, _ in run["metrics"]["val_error"]] == [1.0, 1 / 2, 1 / 3]
    assert run["metrics"]["value"] == [[2, 1.0, 1_700_000_001_099]]
    assert (run["tags"]["hpo.state"], run["tags"]["hpo.study"]) == ("COMPLETE", study)

    diverged = trials[3]
    assert (diverged["status"], diverged["tags"]["hpo.failure"]) == ("FAILED", "DIVERGED")
    assert math.isnan(diverged["metrics"]["train_loss"][0][1])
    assert diverged["metrics"]["val_error"][0][1] > 1e308
    assert diverged["params"]["note"] == "x" * 5999 + "…"
    assert diverged["params"]["a_b_c"] == "1"

    reader.runs(uri, study, "delete experiment")  # which brings back what was replaced, too
    again = drive(uri, study, first.uid)
    for trial in (0, 1):
        tell(again.tracker, trial, fresh=False)
    tell(again.tracker, 2, fresh=True, n_steps=1)
    for step, best in enumerate([0.5, 0.4, 0.4]):
        again.tracker.send(StudyMetric("best_value", best, step, 2000 + step))
    tell(again.tracker, 4)
    assert again.close()
    parent_now, trials_now = reader.study(uri, study)
    assert parent_now["id"] == parent["id"]
    assert parent_now["metrics"] == parent["metrics"]
    assert [trials_now[0], trials_now[1]] == [trials[0], trials[1]]
    assert trials_now[2]["id"] != trials[2]["id"]  # replaced
    assert len(trials_now[2]["metrics"]["val_error"]) == 1
    assert set(trials_now) == {0, 1, 2, 3, 4}


def test_a_running_trial_is_seen_live_and_more_than_a_batch_is_taken(
    drive: Callable[..., Driver], reader: Reader, sqlite_uri: str
) -> None:
    driver, study = drive(sqlite_uri, study := name()), study
    now = int(time.time() * 1000)
    driver.tracker.send(TrialStarted(0, {f"p{i}": i for i in range(150)}, now))
    driver.wait(lambda: driver.tracker.run_id(0) is not None)
    for step in range(600):
        driver.tracker.send(TrialReported(0, step, {"loss": 1.0, "val_loss": 2.0}, now + step))

    def n_values() -> int:
        metrics = reader.study(sqlite_uri, study)[1][0]["metrics"]
        return sum(len(history) for history in metrics.values())

    wait_until(lambda: n_values() == 1200)
    parent, trials = reader.study(sqlite_uri, study)
    assert (parent["status"], trials[0]["status"]) == ("RUNNING", "RUNNING")
    assert len(trials[0]["params"]) == 150
    driver.tracker.send(TrialEnded(0, "KILLED", now + 9, {"hpo.state": "PRUNED"}))
    driver.wait(lambda: driver.mirrored == {0: trials[0]["id"]})
    assert reader.study(sqlite_uri, study)[1][0]["status"] == "KILLED"

    # Somebody cleans up in the UI, while a trial runs: that trial is lost, the others are not.
    driver.tracker.send(TrialStarted(1, {}, now + 10))
    driver.wait(lambda: driver.tracker.run_id(1) is not None)
    reader.runs(sqlite_uri, study, driver.tracker.run_id(1))
    driver.tracker.send(TrialEnded(1, "FINISHED", now + 20))
    driver.tracker.send(TrialStarted(2, {}, now + 10))
    driver.tracker.send(TrialEnded(2, "FINISHED", now + 20))
    driver.wait(lambda: 2 in driver.mirrored)
    assert not driver.close()
    assert 1 not in driver.mirrored
    (trouble,) = driver.troubles
    assert "the run of trial 1 was deleted in MLflow" in trouble
    assert reader.study(sqlite_uri, study)[0]["status"] == "FINISHED"


def test_two_drivers_share_a_study_in_a_new_database(
    drive: Callable[..., Driver], reader: Reader, tmp_path: Path
) -> None:
    uri, study = f"sqlite:///{tmp_path}/mlflow.db", name()
    killed = drive(uri, study)  # while it creates the tables, which no one may notice
    wait_until(lambda: any(file.stat().st_size > 0 for file in tmp_path.glob(".*/mlflow.db")))
    os.kill(killed.pid, signal.SIGKILL)

    one = drive(uri, study)
    other = drive(uri, study, one.uid)
    for trial in range(4):
        tell((one, other)[trial % 2].tracker, trial)
    one.wait(lambda: len(one.mirrored) == 2)
    # The other takes up a trial of the first, whose run it has not seen.
    other.wait(lambda: len(other.mirrored) == 2)
    now = int(time.time() * 1000)
    one.tracker.send(TrialStarted(5, {}, now))
    one.wait(lambda: one.tracker.run_id(5) is not None)
    one.tracker.kill()
    other.tracker.send(TrialStarted(5, {}, now + 100_000, fresh=False))
    other.tracker.send(TrialEnded(5, "FINISHED", now + 200_000))
    assert other.close()
    assert one.troubles == other.troubles == []
    assert set(reader.study(uri, study)[1]) == {0, 1, 2, 3, 5}


def test_a_server_that_is_away_costs_one_trouble_and_no_time(
    drive: Callable[..., Driver], tmp_path: Path
) -> None:
    uri = f"http://me:s3cret@127.0.0.1:{free_port()}"
    driver = drive(uri, name(), log=tmp_path / "mirror.log")
    command_line = Path(f"/proc/{driver.pid}/cmdline")
    assert not command_line.exists() or b"s3cret" not in command_line.read_bytes()
    for trial in range(200):
        tell(driver.tracker, trial)
    driver.wait(lambda: bool(driver.troubles))
    assert not driver.close()
    (trouble,) = driver.troubles
    assert trouble.startswith(f"Cannot open the study in MLflow at {uri.replace('s3cret', '***')}:")
    assert trouble.endswith("Connection refused.")
    assert "s3cret" not in (tmp_path / "mirror.log").read_text()
    assert driver.mirrored == {}


def test_a_missing_folder_is_named(drive: Callable[..., Driver], tmp_path: Path) -> None:
    driver = drive("sqlite:///missing/mlflow.db", name())
    assert not driver.close()
    (trouble,) = driver.troubles
    assert trouble.endswith(f"the folder {tmp_path / 'missing'} does not exist.")


@pytest.mark.parametrize("kill", [signal.SIGKILL, signal.SIGTERM])
def test_a_killed_mirror_is_one_trouble(
    kill: signal.Signals, drive: Callable[..., Driver], sqlite_uri: str
) -> None:
    driver = drive(sqlite_uri, name())
    os.kill(driver.pid, kill)
    driver.wait(lambda: bool(driver.troubles))
    tell(driver.tracker, 0)
    assert not driver.close()
    assert driver.troubles == [f"The mirror of MLflow at {sqlite_uri} died (exit status {-kill})."]


def test_a_mirror_that_hangs_is_killed_in_time(
    drive: Callable[..., Driver], sqlite_uri: str
) -> None:
    driver = drive(sqlite_uri, name())
    os.kill(driver.pid, signal.SIGSTOP)
    assert not driver.close(timeout=0.2)
    assert driver.troubles == []  # the driver knows: close said so


DRIVER = """
    import os, signal, sys, time
    from hpo.mlflow_server import StudyClosed, Tracker, TrialEnded, TrialStarted

    uri, study, uid = sys.argv[1:]
    signal.signal(signal.SIGINT, lambda *_: None)
    tracker = Tracker(uri, study=study, uid=uid, tags={}, artifacts={},
                      on_mirrored=lambda *_: None, on_trouble=print)
    tracker.send(TrialStarted(0, {}, 1000))
    if os.fork() == 0:  # a child that inherits the pipe and outlives its parent
        time.sleep(30)
        os._exit(0)
    while tracker.run_id(0) is None:
        tracker.poll()
        time.sleep(0.01)
    os.killpg(0, signal.SIGINT)
    tracker.send(TrialEnded(0, "FINISHED", 2000))
    time.sleep(0.1)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_mirror_outlives_ctrl_c_and_a_killed_driver(reader: Reader, sqlite_uri: str) -> None:
    study = name()
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(DRIVER), sqlite_uri, study]
    process = subprocess.Popen([*command, uuid.uuid4().hex], start_new_session=True)
    try:
        assert process.wait(PATIENCE_SECONDS) == -signal.SIGKILL
        wait_until(lambda: reader.study(sqlite_uri, study)[1][0]["status"] == "FINISHED")
    finally:
        os.killpg(process.pid, signal.SIGKILL)
    assert reader.study(sqlite_uri, study)[0]["status"] == "RUNNING"  # it can be resumed


def test_mlflow_ui_without_flags_shows_the_study(
    reader: Reader, home: Path, sqlite_uri: str, server_uri: str
) -> None:
    assert (home / "mlruns").is_dir()  # artifacts only; MLflow must not take it for its store
    parent, trials = reader.study(server_uri, "digits")
    assert (parent, trials) == reader.study(sqlite_uri, "digits")
    assert trials[0]["status"] == "FINISHED"
    file = f"{server_uri}/get-artifact?path=study.yaml&run_uuid={parent['id']}"
    with urllib.request.urlopen(file, timeout=30) as answer:  # noqa: S310
        assert answer.read() == b"name: digits\n"
