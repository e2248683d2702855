"""The light half of the mirror: its messages, what is pending, its URIs. No mlflow here."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.mlflow_server import pending as pending_module
from hpo.mlflow_server import protocol, uris
from hpo.mlflow_server.pending import Pending, PendingTrial, Point
from hpo.mlflow_server.protocol import (
    Closed,
    FromDriver,
    FromMirror,
    Mirrored,
    Ready,
    RunCreated,
    StudyClosed,
    StudyMetric,
    StudyOpened,
    TrialEnded,
    TrialReported,
    TrialStarted,
    Trouble,
)

any_text = st.text(st.characters(), max_size=20)  # lone surrogates included
texts = st.dictionaries(any_text, any_text, max_size=4)
numbers = st.floats() | st.integers()
metrics = st.dictionaries(any_text, numbers, max_size=4)
params = st.dictionaries(any_text, any_text | numbers | st.booleans() | st.none(), max_size=4)
statuses = st.sampled_from(["FINISHED", "FAILED", "KILLED"])
counts = st.integers(min_value=0)
times = st.integers(min_value=0, max_value=2**53)

from_driver = st.one_of(
    st.builds(StudyOpened, any_text, any_text, texts, texts),
    st.builds(TrialStarted, counts, params, times, texts, st.booleans()),
    st.builds(TrialReported, counts, counts, metrics, times),
    st.builds(TrialEnded, counts, statuses, times, texts, metrics),
    st.builds(StudyMetric, any_text, numbers, counts, times),
    st.builds(StudyClosed, statuses, texts, texts),
)
from_mirror = st.one_of(
    st.builds(Ready, any_text, any_text, any_text | st.none()),
    st.builds(RunCreated, counts, any_text),
    st.builds(Mirrored, counts, any_text),
    st.builds(Trouble, any_text),
    st.builds(Closed, any_text, counts),
)


@given(from_driver)
def test_a_drivers_message_survives_its_line(message: FromDriver) -> None:
    line = protocol.to_line(message)
    assert line.count(b"\n") == 1
    assert repr(protocol.from_driver(line)) == repr(message)  # repr, because nan != nan


@given(from_mirror)
def test_a_mirrors_message_survives_its_line(message: FromMirror) -> None:
    assert protocol.from_mirror(protocol.to_line(message)) == message


def test_foreign_numbers_and_mappings_become_plain_ones() -> None:
    values: dict[str, Any] = {"loss": np.float32(0.5), "n": np.int64(3), "nan": np.float64("nan")}
    read = protocol.from_driver(protocol.to_line(TrialReported(0, 1, MappingProxyType(values), 5)))
    assert isinstance(read, TrialReported)
    assert read.metrics["loss"] == 0.5
    assert read.metrics["n"] == 3
    assert math.isnan(read.metrics["nan"])


@pytest.mark.parametrize("line", [b"", b"[]", b"{}", b'{"is":"Ready"}', b'{"is":"StudyMetric"}'])
def test_another_line_is_refused(line: bytes) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        protocol.from_driver(line)


def taken(*messages: FromDriver) -> Pending:
    pending = Pending()
    for message in messages:
        pending.take(message)
    return pending


def test_a_whole_trial_becomes_one_thing_to_write() -> None:
    start, end = TrialStarted(3, {"lr": 0.1}, 10), TrialEnded(3, "FINISHED", 30, {}, {"value": 0.5})
    pending = taken(start, TrialReported(3, 7, {"loss": 0.9}, 20), end)
    points = [Point("loss", 0.9, 7, 20), Point("value", 0.5, 7, 30)]
    assert list(pending.due(running=False)) == [
        PendingTrial(3, start, end, points, last_step=7, replace=True)
    ]


def test_a_running_trial_is_due_only_when_asked_for() -> None:
    pending = taken(TrialStarted(0, {}, 1), TrialReported(0, 1, {"loss": 1.0}, 2))
    assert list(pending.due(running=False)) == []
    assert [trial.trial for trial in pending.due(running=True)] == [0]


def test_a_fresh_start_forgets_the_earlier_attempt_and_another_goes_on() -> None:
    report = TrialReported(0, 1, {"loss": 1.0}, 2)
    ended = TrialEnded(0, "KILLED", 3)
    assert taken(report, ended, TrialStarted(0, {}, 4, fresh=True)).trials[0].points == []
    goes_on = taken(report, ended, TrialStarted(0, {}, 4, fresh=False)).trials[0]
    assert goes_on.ended is None
    assert len(goes_on.points) == 1


def test_memory_is_bounded_and_a_part_never_passes_for_the_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pending_module, "MAX_ENDED_TRIALS", 2)
    pending = taken(TrialStarted(9, {}, 1), *(TrialEnded(i, "FINISHED", 1) for i in range(4)))
    pending.bound()
    assert pending.left_behind == {0, 1}
    assert set(pending.trials) == {9, 2, 3}
    pending.take(TrialEnded(0, "FINISHED", 1))
    assert 0 not in pending.trials
    pending.take(TrialStarted(0, {}, 2, fresh=True))
    assert 0 in pending.trials


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("sqlite:///mlflow.db", "sqlite:///mlflow.db"),
        ("http://host:5000", "http://host:5000"),
        ("http://me:secret@host:5000/a", "http://me:***@host:5000/a"),
        ("postgresql://me:p@ss/w:rd@host/db", "postgresql://me:***@host/db"),
        (
            "postgresql://host/db?user=me&password=secret",
            "postgresql://host/db?user=me&password=***",
        ),
    ],
)
def test_passwords_are_masked(uri: str, shown: str) -> None:
    assert uris.masked(uri) == shown


def test_a_password_is_masked_in_others_words_too() -> None:
    uri = "http://me:se%2Fcret@host"
    said = f"GET {uri}/api failed: user me, password se/cret, or se%2Fcret"
    assert (
        uris.scrubbed(said, uri)
        == "GET http://me:***@host/api failed: user me, password ***, or ***"
    )


def test_an_obstacle_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert uris.obstacle("sqlite:///mlflow.db") is None
    assert uris.obstacle(f"sqlite:///{tmp_path}/mlflow.db") is None
    assert uris.obstacle("sqlite:///:memory:") is None
    assert uris.obstacle("http://nowhere") is None
    missing = uris.obstacle("sqlite:///missing/mlflow.db")
    assert missing == f"the folder {tmp_path / 'missing'} does not exist"
    (tmp_path / "folder.db").mkdir()
    assert uris.obstacle("sqlite:///folder.db") == f"{tmp_path / 'folder.db'} is a folder"


def test_a_run_has_a_page_on_a_server_only() -> None:
    page = "https://host:5000/#/experiments/1/runs/abc"
    assert uris.run_url("https://me:secret@host:5000/", "1", "abc") == page
    assert uris.run_url("sqlite:///mlflow.db", "1", "abc") is None


def test_the_drivers_half_imports_no_mlflow() -> None:
    check = "import sys; from hpo import mlflow_server; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0
