import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from trainers import METRICS, ClassifierConfig, ConfigError, DataError, Diverged, Report
from trainers.classifier import batch_sizes, fit
from trainers.config import FIELDS
from trainers.data import Classification, load, names
from trainers.models import NORMS
from trainers.optimizers import OPTIMIZERS

ROOT = Path(__file__).parents[2]
RICH = {"epochs": 3, "dropout": 0.3, "schedule": "cosine", "weight_decay": 0.01, "width": 32}
RICH_CNN = {
    **RICH,
    "model": "cnn",
    "norm": "batch",
    "width": [6, 4],
    "schedule": "one_cycle",
    "momentum_schedule": "cycled",
    "warmup_epochs": 0.5,
}


def curve(reports: list[Report]) -> list[Mapping[str, float]]:
    return [report.metrics for report in reports]


def test_digits_are_learned() -> None:
    config = {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 64, "epochs": 30}
    reports = list(fit(config, "digits", seed=0))
    assert [report.step for report in reports] == list(range(1, 31))
    assert reports[-1].metrics["val_error"] <= 0.04


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_data_set_is_learned_by_every_optimizer(name: str, optimizer: str) -> None:
    config = {"optimizer": optimizer, "batch_size": 16, "epochs": 10, "width": 32}
    config["learning_rate"] = 0.05 if optimizer == "adagrad" else 0.01  # whose steps only shrink
    first, *_, last = fit(config, name, seed=0)
    assert last.metrics["train_loss"] < first.metrics["train_loss"]
    assert last.metrics["val_accuracy"] > 0.8


def test_metrics_agree_with_one_another() -> None:
    data = load("digits", seed=0)
    reports = list(fit({"epochs": 3}, data, seed=0))
    for report in reports:
        metrics = report.metrics
        assert set(metrics) == set(METRICS)
        assert all(type(value) is float for value in metrics.values())
        assert metrics["val_accuracy"] == 1 - metrics["val_error"]
        n_wrong = round(metrics["val_error"] * len(data.val_y))
        assert metrics["val_error"] == n_wrong / len(data.val_y)
    seconds = [report.wall_seconds for report in reports]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


@pytest.mark.parametrize(
    "config", [RICH_CNN, *({**RICH, "optimizer": optimizer} for optimizer in OPTIMIZERS)]
)
def test_equal_arguments_give_equal_reports(config: Mapping[str, object]) -> None:
    once = curve(list(fit(config, "digits", seed=7)))
    assert once == curve(list(fit(config, "digits", seed=7)))
    assert once == curve(
        list(fit(ClassifierConfig.from_mapping(config), load("digits", seed=7), seed=7))
    )
    assert once != curve(list(fit(config, load("digits", seed=7), seed=8)))


def test_another_process_splits_and_trains_the_same() -> None:
    code = f"""
import json
from trainers.classifier import fit
print(json.dumps([r.metrics for r in fit({RICH!r}, "digits", seed=7, device="cpu")]))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == curve(list(fit(RICH, "digits", seed=7, device="cpu")))


def test_fits_that_take_turns_equal_fits_alone() -> None:
    alone = [curve(list(fit(RICH_CNN, "digits", seed=seed))) for seed in (1, 2)]
    turns = list(zip(fit(RICH_CNN, "digits", seed=1), fit(RICH_CNN, "digits", seed=2), strict=True))
    assert [curve(list(reports)) for reports in zip(*turns, strict=True)] == alone


def test_global_random_states_are_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), repr(np.random.get_state())
    for optimizer, norm, config in product(OPTIMIZERS, NORMS, (RICH, RICH_CNN)):
        fields = {**config, "optimizer": optimizer, "norm": norm, "batch_size": 512}
        next(fit(fields, load("digits", seed=0), seed=0))
    assert torch.equal(torch_state, torch.get_rng_state())
    assert numpy_state == repr(np.random.get_state())


def test_closing_stops() -> None:
    running = fit({"epochs": 10**9}, "iris", seed=0)
    assert [next(running).step, next(running).step] == [1, 2]
    running.close()
    with pytest.raises(StopIteration):
        next(running)
    assert torch.is_grad_enabled()


def test_the_test_part_is_never_looked_at() -> None:
    data = load("iris", seed=0)
    hidden = replace(
        data,
        test_x=torch.full_like(data.test_x, torch.nan),
        test_y=torch.full_like(data.test_y, -1),
    )
    assert curve(list(fit(RICH, hidden, seed=0))) == curve(list(fit(RICH, data, seed=0)))


def test_one_epoch_is_one_report() -> None:
    assert [report.step for report in fit({"epochs": 1}, "iris", seed=0)] == [1]


def test_the_last_smaller_batch_is_trained_on() -> None:
    # 90 examples in batches of 89 and 1. Whichever is last, a wrong label shows in the mean loss.
    data = load("iris", seed=0)
    config = {"epochs": 1, "batch_size": 89, "learning_rate": 1e-30}

    def train_loss(wrong: int) -> float:
        labels = data.train_y.clone()
        labels[wrong] = (labels[wrong] + 1) % data.n_classes
        return next(fit(config, replace(data, train_y=labels), seed=0)).metrics["train_loss"]

    right = next(fit(config, data, seed=0)).metrics["train_loss"]
    assert all(train_loss(wrong) != right for wrong in range(90))


def test_a_batch_larger_than_the_training_part_is_refused() -> None:
    assert len(list(fit({"batch_size": 90, "epochs": 1}, "iris", seed=0))) == 1
    with pytest.raises(ConfigError) as caught:
        next(fit({"batch_size": 91}, "iris", seed=0))
    assert str(caught.value) == (
        "batch_size: 91 is more than the 90 training examples of 'iris'. It must be at most 90."
    )


def test_mistakes_are_told_before_training() -> None:
    with pytest.raises(ConfigError, match=r"momentm: unknown field"):
        next(fit({"momentm": 0.5}, "iris", seed=0))
    with pytest.raises(ConfigError, match=r"device: there is no device 'tpu'"):
        next(fit({}, "iris", seed=0, device="tpu"))
    with pytest.raises(DataError, match=r"Did you mean 'iris'"):
        next(fit({}, "irish", seed=0))


def test_a_learning_rate_far_too_large_diverges() -> None:
    with pytest.raises(
        Diverged, match=r"train_loss became nan in epoch 1\. A smaller learning_rate"
    ):
        list(fit({"learning_rate": 1e6}, "digits", seed=0))


def test_the_reports_before_a_divergence_are_finite_and_yielded() -> None:
    # Each step multiplies the weights by 1 - 0.001 * 11000 = -10: beyond float32 in 30-50 steps.
    config = {"depth": 0, "batch_size": 90, "learning_rate": 1e-3, "weight_decay": 11e3}
    reports: list[Report] = []
    with pytest.raises(Diverged) as caught:
        reports.extend(fit({**config, "epochs": 60}, "iris", seed=0))
    assert caught.value.epoch == len(reports) + 1
    assert 30 < caught.value.epoch < 50
    assert all(np.isfinite(list(report.metrics.values())).all() for report in reports)


def test_a_validation_loss_that_is_not_finite_diverges_too() -> None:
    data = load("iris", seed=0)
    data = replace(data, val_x=torch.full_like(data.val_x, torch.inf))
    with pytest.raises(Diverged) as caught:
        list(fit({}, data, seed=0))
    assert (caught.value.epoch, caught.value.metric) == (1, "val_loss")


@pytest.mark.parametrize("norm", NORMS)
def test_a_cnn_learns_digits(norm: str) -> None:
    config = {
        "model": "cnn",
        "norm": norm,
        "width": [16, 32],
        "optimizer": "adam",
        "batch_size": 32,
        "epochs": 5,
    }
    *_, last = fit(config, "digits", seed=0)
    assert last.metrics["val_error"] <= 0.04


def test_a_cnn_of_a_table_is_refused_with_every_other_misfit() -> None:
    with pytest.raises(ConfigError) as caught:
        next(fit({"model": "cnn", "batch_size": 200}, "wine", seed=0))
    assert str(caught.value) == (
        "model: cnn needs images, and 'wine' is a table. Data sets of images: digits.\n"
        "batch_size: 200 is more than the 106 training examples of 'wine'. It must be at most 106."
    )


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_last_batch_of_one_joins_the_one_before_for_batch_norm(model: str) -> None:
    data = shrunk(65)
    config = ClassifierConfig(model=model, norm="batch", batch_size=16, epochs=2, width=4)
    assert batch_sizes(config, 65) == [16, 16, 16, 17]
    assert batch_sizes(replace(config, norm="layer"), 65) == [16, 16, 16, 16, 1]
    assert batch_sizes(replace(config, depth=0), 65) == [16, 16, 16, 16, 1]
    assert batch_sizes(config, 66) == [16, 16, 16, 16, 2]
    assert batch_sizes(config, 64) == [16] * 4
    assert batch_sizes(config, 17) == [17]
    assert len(list(fit(config, data, seed=0))) == 2


# Which fields are read

CHANGES: Mapping[str, tuple[object, object]] = {
    "momentum": (0.9, 0.5),
    "nesterov": (False, True),
    "momentum_schedule": ("constant", "increasing"),
    "low_momentum": (None, 0.2),
    "final_lr_fraction": (0.01, 0.5),
    "tau": (None, 1),
    "decay_power": (None, 0.7),
    "step_epochs": (None, 0.25),
    "step_factor": (0.1, 0.5),
    "cycle_epochs": (None, 0.5),
    "cycle_growth": (2, 1),
    "peak_fraction": (0.3, 0.6),
    "start_lr_fraction": (0.04, 0.5),
    "kernel_width": (3, 2),
    "pooling": ("max", "average"),
}
ALWAYS: Mapping[str, tuple[object, object]] = {
    "learning_rate": (0.1, 0.2),
    "weight_decay": (0, 0.1),
    "warmup_epochs": (0, 1),
    "batch_size": (8, 9),
    "epochs": (2, 3),
    "dropout": (0, 0.5),
    "depth": (1, 2),
    "width": (4, 5),
    "activation": ("relu", "tanh"),
    "norm": ("none", "layer"),
}


@cache
def shrunk(n: int) -> Classification:
    """Digits with n training and 20 validation examples."""
    data = load("digits", seed=0)
    return replace(
        data,
        train_x=data.train_x[:n],
        train_y=data.train_y[:n],
        val_x=data.val_x[:20],
        val_y=data.val_y[:20],
    )


@cache
def trained(**config: object) -> tuple[tuple[float, ...], ...]:
    small = {"width": 4, "depth": 1, "batch_size": 8, "epochs": 2, "learning_rate": 0.1}
    reports = fit({**small, **config}, shrunk(64), seed=0)
    return tuple(tuple(report.metrics.values()) for report in reports)


def matters(name: str, change: tuple[object, object], **config: object) -> bool:
    a, b = (trained(**{**config, name: value}) for value in change)
    return a != b


def choices(name: str) -> set[object]:
    return set(FIELDS[name].allowed or ())


@pytest.mark.parametrize("name", CHANGES)
def test_a_field_matters_where_it_says_so_and_nowhere_else(name: str) -> None:
    used_when = FIELDS[name].used_when
    assert used_when
    for values in product(*used_when.values()):
        config = dict(zip(used_when, values, strict=True))
        assert matters(name, CHANGES[name], **config), config
    for other, used in used_when.items():
        rest = {key: values[0] for key, values in used_when.items()}
        for value in choices(other) - set(used):
            assert not matters(name, CHANGES[name], **{**rest, other: value}), value


CHOICES = ("model", "optimizer", "schedule")


@pytest.mark.parametrize("name", ALWAYS)
def test_a_field_that_says_nothing_matters_always(name: str) -> None:
    assert not FIELDS[name].used_when
    for other in CHOICES:
        for value in choices(other):
            assert matters(name, ALWAYS[name], **{other: value}), value


def test_every_choice_trains_in_its_own_way() -> None:
    assert {*CHANGES, *ALWAYS, *CHOICES} == set(FIELDS)
    for name in ("model", "optimizer", "schedule", "momentum_schedule", "norm", "activation"):
        curves = {value: trained(**{name: value}) for value in choices(name)}
        # adamw is adam under another name.
        assert len(set(curves.values())) == len(curves) - (name == "optimizer"), name
    poolings = {trained(model="cnn", pooling=value) for value in choices("pooling")}
    assert len(poolings) == 3
