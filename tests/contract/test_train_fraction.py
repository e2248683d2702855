"""What every kind of objective does with `train_fraction`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from hpo import objectives, spec, studyfile
from hpo.errors import SpecError
from hpo.executors import InlineExecutor
from hpo.spec import Plan
from hpo.trial import Ended, Job

# Each writes down the examples that it trains on: one line a minibatch, or a fit.
CODE = """
import json
from pathlib import Path
from sklearn.neighbors import KNeighborsClassifier
from torch import nn

SEEN = Path(__file__).with_name("seen.jsonl")


def see(rows):
    with SEEN.open("a") as file:
        print(json.dumps(rows), file=file)


class Net(nn.Linear):
    def forward(self, x):
        if self.training:
            see(x.tolist())
        return super().forward(x)


def net(config):
    return Net(config.shape[0], config.n_outputs)


class Neighbours(KNeighborsClassifier):
    def fit(self, x, y):
        see(x.tolist())
        return super().fit(x, y)


def train(trial):
    see([[i] for i in range(round(90 * trial.train_fraction))])
    return {"val_error": 0.5}
"""
COMMAND = """
import json, sys
n = round(90 * float(sys.argv[1]))
with open("seen.jsonl", "a") as file:
    print(json.dumps([[i] for i in range(n)]), file=file)
print(json.dumps({"val_error": 0.5}))
"""

TRAINER = {"trainer": "classifier", "data": "iris", "epochs": 1}
ESTIMATOR = {"estimator": "mine:Neighbours", "data": "iris"}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
    "trainer": (TRAINER, {"model": "mine:net"}, 90),
    "trainer, folds": ({**TRAINER, "folds": 2}, {"model": "mine:net", "batch_size": 20}, 120),
    "estimator": (ESTIMATOR, {"n_neighbors": 1}, 90),
    "estimator, folds": ({**ESTIMATOR, "folds": 2}, {"n_neighbors": 1}, 120),
    "function": ({"function": "mine:train", "train_fraction": True}, {"x": 1}, 90),
    "command": ({"command": [sys.executable, "mine_too.py", "{train_fraction}"]}, {"x": 1}, 90),
}

See = Callable[[float | None], list[tuple[float, ...]]]


@pytest.fixture(params=list(KINDS))
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def _plan(folder: Path, objective: dict[str, Any], space: dict[str, Any]) -> Plan:
    (folder / "mine.py").write_text(CODE)
    (folder / "mine_too.py").write_text(COMMAND)
    values = {"objective": {"metric": "val_error", **objective}, "space": space}
    return spec.check(studyfile.StudyFile("study.yaml", folder, values))


@pytest.fixture
def see(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[See]:
    """Runs one trial on a share; what it was trained on."""
    objective, space, _ = KINDS[kind]
    plan = _plan(tmp_path, objective, space)
    monkeypatch.delitem(sys.modules, "mine", raising=False)
    assert plan.takes_fraction
    executor = InlineExecutor(objectives.build(plan, "none"))

    def run(fraction: float | None) -> list[tuple[float, ...]]:
        config = plan.config({})
        if fraction is not None:
            config["train_fraction"] = fraction
        executor.start(Job(0, config, 5, tmp_path / f"{fraction}"))
        (tmp_path / f"{fraction}").mkdir(exist_ok=True)
        seen = tmp_path / "seen.jsonl"
        seen.unlink(missing_ok=True)
        ended: list[Ended] = []
        while not ended:
            ended += [event for event in executor.events(0.1) if isinstance(event, Ended)]
        assert isinstance(ended[0].result, dict), ended[0].result
        lines = seen.read_text().splitlines()
        return sorted(tuple(row) for line in lines for row in json.loads(line))

    yield run
    executor.close()
    sys.modules.pop("mine", None)


def test_it_trains_on_that_share_alone_and_a_smaller_one_is_a_part(kind: str, see: See) -> None:
    n = KINDS[kind][2]
    small, large, whole = see(0.2), see(0.5), see(None)
    assert [len(small), len(large), len(whole)] == [round(0.2 * n), round(0.5 * n), n]
    assert set(small) < set(large) < set(whole)
    assert see(1.0) == whole
    assert see(0.2) == small


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.5, "half"])
@pytest.mark.parametrize("name", ["trainer", "estimator"])
def test_what_is_no_share_is_refused_in_a_space(
    name: str, fraction: object, tmp_path: Path
) -> None:
    objective, space, _ = KINDS[name]
    with pytest.raises(SpecError, match=r"space\.train_fraction"):
        _plan(tmp_path, objective, {**space, "train_fraction": fraction})


@pytest.mark.parametrize("name", ["trainer", "estimator"])
def test_what_takes_it_anyway_declares_nothing(name: str, tmp_path: Path) -> None:
    objective, space, _ = KINDS[name]
    with pytest.raises(SpecError, match="takes it anyway; remove this key"):
        _plan(tmp_path, {**objective, "train_fraction": True}, space)


def test_a_declaration_makes_no_other_study(tmp_path: Path) -> None:
    objective, space, _ = KINDS["function"]
    declared = _plan(tmp_path, objective, space)
    silent = _plan(tmp_path, {**objective, "train_fraction": False}, space)
    assert declared.fingerprint == silent.fingerprint
    assert not silent.takes_fraction
    assert "train_fraction" not in silent.config({})
    searched = _plan(tmp_path, {**objective, "train_fraction": False}, {"train_fraction": [0.5]})
    assert searched.takes_fraction
