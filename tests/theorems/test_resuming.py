"""A fit that was stopped and taken up again equals one that never was, bit for bit.

On a GPU that is so in deterministic mode.
"""

import random
from collections.abc import Mapping
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import torch

from hpo.trainers import Goals, Report
from hpo.trainers.checkpoints import Checkpoints
from hpo.trainers.config import FIRST_ORDER, FULL_BATCH
from hpo.trainers.data import Source, load
from hpo.trainers.fit_files import WEIGHTS
from hpo.trainers.loop import Fit, fit, fit_folds
from tests.device import DEVICE

EPOCHS = 5
DETERMINISTIC = DEVICE != "cpu"
RICH = {
    "epochs": EPOCHS,
    "deterministic": DETERMINISTIC,
    "batch_size": 32,
    "width": 12,
    "dropout": 0.3,
    "schedule": "cosine",
    "momentum_schedule": "increasing",
    "weight_decay": 0.01,
    "l2": 0.001,
    "clip_norm": 1.0,
    "mixup": 0.4,
    "label_smoothing": 0.1,
}
CNN = {
    **RICH,
    "model": "cnn",
    "norm": "batch",
    "width": [4, 4],
    "flip": True,
    "crop": 1,
    "noise": 0.1,
    "batch_size": 256,
}
OWN = {
    "model": "nets:make",
    "units": 6,
    "epochs": EPOCHS,
    "learning_rate": 0.1,
    "deterministic": DETERMINISTIC,
}
NETS = """
import random

import numpy as np
import torch
from torch import nn

def make(config):
    (n,) = config.shape
    return nn.Sequential(nn.Linear(n, config.units), nn.Dropout(0.5), nn.Linear(config.units, 3))

class Noisy(nn.Linear):
    def forward(self, x):
        y = super().forward(x)
        return y * random.choice([1, 2]) + np.random.normal() if self.training else y

def make_noisy(config):
    net = Noisy(*config.shape, 3)
    with torch.no_grad():
        net.weight[:] = torch.from_numpy(np.random.normal(0, 0.1, net.weight.shape))
        net.bias[:] = random.random()
    return net
"""


def run(fit_: Fit) -> tuple[list[Mapping[str, float]], dict[str, float]]:
    """All reports and what is returned, whatever seconds it took."""
    reports: list[Report] = []
    while True:
        try:
            reports.append(next(fit_))
        except StopIteration as end:
            assert [report.step for report in reports] == list(range(1, len(reports) + 1))
            return [report.metrics for report in reports], end.value


def stopped_after(epochs: int, fit_: Fit) -> None:
    """As if killed there: nothing of a fit runs between two reports."""
    for _ in range(epochs):
        next(fit_)
    fit_.close()


@pytest.mark.parametrize(
    "config",
    [
        *({**RICH, "optimizer": name} for name in FIRST_ORDER),
        *({**RICH, "optimizer": name, "mixup": 0.0} for name in FULL_BATCH),
        CNN,
        {**RICH, "patience": 2, "learning_rate": 0.5},
        {**RICH, "precision": "bf16"},
        {**RICH, "precision": "fp16"},
        OWN,
        {**OWN, "model": "nets:make_noisy"},
    ],
    ids=lambda config: "-".join(
        str(config.get(k, "")) for k in ("model", "optimizer", "precision")
    ),
)
def test_resumed_training_equals_uninterrupted_training(
    config: Mapping[str, object], tmp_path: Path
) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    data = "digits" if config.get("model") == "cnn" else "iris"

    def start(checkpoints: Checkpoints | None) -> Fit:
        return fit(config, data, seed=3, device=DEVICE, checkpoints=checkpoints, folder=tmp_path)

    whole = Checkpoints(tmp_path / "whole", every_epochs=2)
    expected = run(start(whole))
    stopped = Checkpoints(tmp_path / "stopped", every_epochs=2)
    stopped_after(3, start(stopped))  # one epoch after its checkpoint, which is lost
    # Whatever else goes on meanwhile.
    torch.rand(5), np.random.rand(5), random.random()
    state = repr((random.getstate(), np.random.get_state()))
    assert run(start(stopped)) == expected
    assert repr((random.getstate(), np.random.get_state())) == state
    weights = [(folder.directory / WEIGHTS).read_bytes() for folder in (whole, stopped)]
    assert weights[0] == weights[1]
    assert expected == run(start(None))  # and checkpoints change nothing


def test_folds_resume_as_one(tmp_path: Path) -> None:
    folds = load(Source("iris", folds=3), seed=0)
    checkpoints = Checkpoints(tmp_path, every_epochs=1)
    config = {**RICH, "epochs": 3}
    expected = run(fit_folds(config, folds, seed=0, device=DEVICE))
    stopped_after(2, fit_folds(config, folds, seed=0, device=DEVICE, checkpoints=checkpoints))
    assert run(fit_folds(config, folds, seed=0, device=DEVICE, checkpoints=checkpoints)) == expected
    assert {path.parent.name for path in tmp_path.rglob(WEIGHTS)} == {"fold-1", "fold-2", "fold-3"}


def test_folds_together_take_the_time_that_passes(tmp_path: Path) -> None:
    folds = load(Source("iris", folds=5), seed=0)
    checkpoints = Checkpoints(tmp_path, every_epochs=1)
    start = perf_counter()
    first = fit_folds(RICH, folds, seed=0, device=DEVICE, checkpoints=checkpoints)
    seconds = [next(first).wall_seconds for _ in range(3)]
    between = perf_counter()
    first.close()
    assert 0 < seconds[0] < seconds[1] < seconds[2] <= between - start
    again = fit_folds(RICH, folds, seed=0, device=DEVICE, checkpoints=checkpoints)
    resumed = [report.wall_seconds for report in again]
    assert resumed[:3] == seconds
    assert sorted(resumed) == resumed
    assert resumed[-1] <= perf_counter() - start


def test_another_configuration_does_not_go_on_from_it(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_epochs=1)
    stopped_after(3, fit(RICH, "iris", seed=0, device=DEVICE, checkpoints=checkpoints))
    other = {**RICH, "learning_rate": 0.2}
    for config, seed in ((other, 0), (RICH, 1)):
        expected = run(fit(config, "iris", seed=seed, device=DEVICE))
        assert (
            run(fit(config, "iris", seed=seed, device=DEVICE, checkpoints=checkpoints)) == expected
        )


def test_a_damaged_checkpoint_is_told_and_the_one_before_taken(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    config = {**RICH, "epochs": 6}
    expected = run(fit(config, "iris", seed=0, device=DEVICE))
    for damage in (_cut, _flipped, _emptied):
        checkpoints = Checkpoints(tmp_path / damage.__name__, every_epochs=1)
        stopped_after(4, fit(config, "iris", seed=0, device=DEVICE, checkpoints=checkpoints))
        before, newest = sorted(checkpoints.directory.glob("*.pt"))
        damage(newest)
        caplog.clear()
        state = checkpoints.load()
        assert state is not None
        assert len(state["reports"]) == int(before.stem.removeprefix("checkpoint-")) == 3
        assert str(newest) in caplog.text
        assert "is damaged" in caplog.text
        assert run(fit(config, "iris", seed=0, device=DEVICE, checkpoints=checkpoints)) == expected


def test_with_all_checkpoints_damaged_a_fit_starts_again(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, every_epochs=1)
    stopped_after(3, fit(RICH, "iris", seed=0, device=DEVICE, checkpoints=checkpoints))
    for path in tmp_path.glob("*.pt"):
        _cut(path)
    expected = run(fit(RICH, "iris", seed=0, device=DEVICE))
    assert run(fit(RICH, "iris", seed=0, device=DEVICE, checkpoints=checkpoints)) == expected


def test_checkpoints_come_when_due_and_go_at_the_end(tmp_path: Path) -> None:
    def steps(checkpoints: Checkpoints) -> list[list[str]]:
        seen = [
            sorted(path.stem[-1] for path in checkpoints.directory.glob("*.pt"))
            for _ in fit(RICH, "iris", seed=0, device=DEVICE, checkpoints=checkpoints)
        ]
        assert [p.name for p in checkpoints.directory.iterdir()] == [WEIGHTS]
        return seen

    assert steps(Checkpoints(tmp_path / "a", every_epochs=2)) == [
        [],
        ["2"],
        ["2"],
        ["2", "4"],
        ["2", "4"],
    ]
    assert steps(Checkpoints(tmp_path / "b", every_epochs=1))[3] == ["3", "4"]
    assert steps(Checkpoints(tmp_path / "c", every_seconds=0))[3] == ["3", "4"]
    assert steps(Checkpoints(tmp_path / "d", every_seconds=3600))[3] == []


def test_what_is_watched_decides_the_best_epoch_and_its_weights_come_back(tmp_path: Path) -> None:
    config = {"learning_rate": 3.0, "epochs": 40, "patience": 3, "width": 8, "batch_size": 16}
    for watched, best_of in (("val_loss", min), ("val_accuracy", max)):
        checkpoints = Checkpoints(tmp_path / watched)
        goals = Goals(watched=watched)
        reports, final = run(
            fit(config, "wine", seed=1, device=DEVICE, goals=goals, checkpoints=checkpoints)
        )
        values = [report[watched] for report in reports]
        assert final == reports[values.index(best_of(values))]
        assert len(reports) == values.index(best_of(values)) + 1 + 3 < 40
        assert final != reports[-1]


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(bytes(content))


def _emptied(path: Path) -> None:
    path.write_bytes(b"")
