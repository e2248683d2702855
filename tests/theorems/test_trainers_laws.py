"""What training must obey, whatever the data."""

import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from torch import nn
from torch.nn.functional import cross_entropy

from hpo.trainers import Goals, Report
from hpo.trainers.checkpoints import Checkpoints
from hpo.trainers.config import TrainerConfig
from hpo.trainers.data import Source, load
from hpo.trainers.data.parts import Data, Part, Tensors
from hpo.trainers.dense import Dense
from hpo.trainers.fit_files import WEIGHTS
from hpo.trainers.loop import fit
from hpo.trainers.models import linear
from hpo.trainers.schedules import SCHEDULES, Schedule
from tests.device import DEVICE


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def iris() -> tuple[Data, Tensors, Tensors]:
    """The data set, its training part, and its validation part."""
    (data,) = load(Source("iris"), seed=0)
    assert isinstance(data.train, Tensors)
    assert isinstance(data.val, Tensors)
    return data, data.train, data.val


def first_weights(generator: torch.Generator) -> torch.Tensor:
    """The weights with which softmax regression of iris begins."""
    layers = list(linear(TrainerConfig(), (4,), 3, generator).modules())
    assert isinstance(layers[-1], Dense)
    return layers[-1].weight.detach().t()


# Schedules


def test_a_schedule_that_ends_where_it_began_is_constant() -> None:
    config = {"epochs": 3, "width": 16, "final_lr_fraction": 1}
    cosine, constant = (
        [r.metrics for r in fit({**config, "schedule": name}, "iris", seed=0)]
        for name in ("cosine", "constant")
    )
    assert cosine == constant


def test_tau_is_the_whole_run_unless_it_is_given() -> None:
    config = {"epochs": 4, "width": 16, "schedule": "linear", "batch_size": 16}
    whole, given_, half = (
        [r.metrics for r in fit({**config, "tau": tau}, "iris", seed=0)] for tau in (None, 4, 2)
    )
    assert whole == given_ != half


@pytest.mark.parametrize("momentum_schedule", ["constant", "increasing", "cycled"])
@pytest.mark.parametrize("schedule", sorted(SCHEDULES))
def test_every_step_has_the_rate_and_the_momentum_of_its_schedule(
    schedule: str, momentum_schedule: str
) -> None:
    # Softmax regression by hand, from the same draws: in each of an epoch's three steps
    # v <- mu_k v + gradient, w <- w - eps_k v, with what the schedule says of that step.
    data, train, val = iris()
    config = {
        "schedule": schedule,
        "learning_rate": 0.5,
        "momentum": 0.8,
        "momentum_schedule": momentum_schedule,
        "warmup_epochs": 1,
        "epochs": 7,
    }
    reports = list(fit({**config, "depth": 0, "batch_size": 30}, data, seed=4, device="cpu"))

    terms = Schedule.of(config, steps_per_epoch=3)
    generator = seeded(4)
    w, b = first_weights(generator), torch.zeros(3)
    v_w, v_b = torch.zeros_like(w), torch.zeros_like(b)
    for epoch, report in enumerate(reports):
        for i, (x, y) in enumerate(train.batches([30] * 3, generator)):
            eps, mu = (of(3 * epoch + i) for of in (terms.learning_rate, terms.momentum))
            residual = (x @ w.T + b).softmax(dim=1) - nn.functional.one_hot(y, 3)
            v_w = mu * v_w + residual.T @ x / 30
            v_b = mu * v_b + residual.mean(dim=0)
            w, b = w - eps * v_w, b - eps * v_b
        expected = cross_entropy(val.x @ w.T + b, val.y).item()
        assert report.metrics["val_loss"] == pytest.approx(expected, rel=1e-5)


# The loop


def test_one_epoch_of_one_batch_is_one_step_down_the_gradient() -> None:
    data, train, val = iris()
    n, eps = len(train), 0.7
    config = {"depth": 0, "batch_size": n, "epochs": 1, "momentum": 0, "learning_rate": eps}
    report = next(fit(config, data, seed=4, device="cpu"))

    w = first_weights(seeded(4))
    residual = (train.x @ w.T).softmax(dim=1) - nn.functional.one_hot(train.y)
    w_1, b_1 = w - eps * residual.T @ train.x / n, -eps * residual.mean(dim=0)
    assert report.metrics["train_loss"] == pytest.approx(
        cross_entropy(train.x @ w.T, train.y).item(), rel=1e-5
    )
    assert report.metrics["val_loss"] == pytest.approx(
        cross_entropy(val.x @ w_1.T + b_1, val.y).item(), rel=1e-5
    )


@pytest.mark.parametrize("batch_size", [1, 7, 64, 89, 90])
def test_the_train_loss_is_a_mean_over_examples_not_over_batches(batch_size: int) -> None:
    config = {"epochs": 1, "learning_rate": 1e-30, "width": 16}
    data, _, _ = iris()
    whole, parts = (
        next(fit({**config, "batch_size": size}, data, seed=0)).metrics["train_loss"]
        for size in (90, batch_size)
    )
    assert parts == pytest.approx(whole, rel=1e-5)


@pytest.mark.parametrize("patience", [None, 3])
def test_what_is_reported_is_of_the_weights_that_are_left_without_dropout_and_by_running_averages(
    patience: int | None, tmp_path: Path
) -> None:
    config = {
        "depth": 1,
        "width": 8,
        "norm": "batch",
        "dropout": 0.4,
        "batch_size": 16,
        "learning_rate": 1.0,
        "epochs": 30 if patience else 3,
        "patience": patience,
        "precision": "fp32",
    }
    (data,) = load(Source("wine"), seed=0)
    goals, checkpoints = Goals(names=("train_log_loss",)), Checkpoints(tmp_path)
    running = fit(config, data, seed=1, device=DEVICE, goals=goals, checkpoints=checkpoints)
    reports: list[Report] = []
    try:
        while True:
            reports.append(next(running))
    except StopIteration as end:
        final = end.value

    w = load_file(tmp_path / WEIGHTS)

    def loss(part: Part) -> float:
        ((x, y),) = part.batches([len(part)])
        z = x @ w["0.weight"] + w["0.bias"]
        z = (z - w["1.running_mean"]) / (w["1.running_var"] + 1e-5).sqrt()
        h = (z * w["1.weight"] + w["1.bias"]).relu()
        return cross_entropy(h @ w["4.weight"] + w["4.bias"], y).item()

    assert final["val_loss"] == pytest.approx(loss(data.val), rel=1e-4)
    assert final["train_log_loss"] == pytest.approx(loss(data.train), rel=1e-4)
    best = len(reports) - (patience or 0)
    assert final["val_loss"] == reports[best - 1].metrics["val_loss"]
    assert w["1.num_batches_tracked"] == best * math.ceil(len(data.train) / 16)
