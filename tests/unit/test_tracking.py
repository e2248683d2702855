"""What MLflow is told again, from what an earlier run has left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpo
from hpo import catalog, tracking
from hpo.mlflow_server.protocol import TrialReported
from hpo.storage import open_storage

N_STEPS = 3


class Recorder:
    """Stands in for MLflow's process: it keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def __call__(self, *_: object, **__: object) -> Recorder:
        return self

    def send(self, message: object) -> None:
        self.told.append(message)

    def poll(self) -> None: ...

    def close(self, *_: object) -> None: ...


def steps(trial: Any) -> Iterator[dict[str, float]]:
    for step in range(N_STEPS):
        yield {"value": trial.x + step, "other": 1.0 - step}


def test_a_log_that_was_cut_off_is_told_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    url = f"sqlite:///{tmp_path}/studies.db"
    space = {"x": {"float": [0, 1]}}
    hpo.search(steps, space=space, trials=1, name="s", storage=url, tracking="none")
    study = catalog.find(open_storage(url), "s")
    folder = study.directory_of(0)
    assert folder is not None
    log = folder / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-20])  # its process was killed, or the disk was full
    told = Recorder()
    monkeypatch.setattr(tracking, "Tracker", told)

    tracking.sync(study, "http://localhost:1", lambda _: None)

    reported = [each for each in told.told if isinstance(each, TrialReported)]
    assert [set(each.metrics) for each in reported] == [{"value", "other"}] * (N_STEPS - 1)
