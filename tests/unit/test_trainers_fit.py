import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import cache, partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from hpo.trainers import ConfigError, DataError, Diverged, Goals, Report, TrainerConfig
from hpo.trainers.checkpoints import Checkpoints
from hpo.trainers.config import FIELDS, FIRST_ORDER
from hpo.trainers.data import BUILT_IN, Source, load
from hpo.trainers.data.parts import Data, Tensors
from hpo.trainers.fit_files import WEIGHTS
from hpo.trainers.goals import ALWAYS as REPORTED
from hpo.trainers.loop import Fit, fit, fit_folds
from hpo.trainers.models import NORMS
from hpo.trainers.optimizers import OPTIMIZERS
from hpo.trainers.training import batch_sizes

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


def loaded(name: str, seed: int) -> Data:
    (data,) = load(Source(name, task=BUILT_IN[name].task or "classification"), seed=seed)
    return data


def tensors(part: object) -> Tensors:
    assert isinstance(part, Tensors)
    return part


def curve(reports: list[Report]) -> list[Mapping[str, float]]:
    return [report.metrics for report in reports]


def test_digits_are_learned() -> None:
    config = {"learning_rate": 0.1, "momentum": 0.9, "batch_size": 64, "epochs": 30}
    reports = list(fit(config, "digits", seed=0))
    assert [report.step for report in reports] == list(range(1, 31))
    assert reports[-1].metrics["val_error"] <= 0.04


@pytest.mark.parametrize("name", BUILT_IN)
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_data_set_is_learned_by_every_optimizer(name: str, optimizer: str) -> None:
    config = {"optimizer": optimizer, "batch_size": 16, "epochs": 10, "width": 32, "depth": 1}
    config["learning_rate"] = 0.05 if optimizer == "adagrad" else 0.01  # whose steps only shrink
    first, *_, last = fit(config, loaded(name, 0), seed=0)
    assert last.metrics["train_loss"] < first.metrics["train_loss"]
    if name == "diabetes":
        assert last.metrics["val_r2"] > 0.2
    else:
        assert last.metrics["val_accuracy"] > 0.8


def test_metrics_agree_with_one_another() -> None:
    data = loaded("digits", 0)
    reports = list(fit({"epochs": 3}, data, seed=0))
    for report in reports:
        metrics = report.metrics
        assert set(metrics) == set(REPORTED["classification"])
        assert all(type(value) is float for value in metrics.values())
        assert metrics["val_accuracy"] == pytest.approx(1 - metrics["val_error"], abs=1e-12)
        n_wrong = round(metrics["val_error"] * len(data.val))
        assert metrics["val_error"] == n_wrong / len(data.val)
    seconds = [report.wall_seconds for report in reports]
    assert 0 < seconds[0] < seconds[1] < seconds[2]


def test_what_is_asked_for_is_reported_and_costs_of_the_model_do_not_change(
    tmp_path: Path,
) -> None:
    goals = Goals(names=("val_f0.5", "val_roc_auc", "latency_ms", "n_parameters", "model_bytes"))
    config = {"epochs": 2, "depth": 1, "width": 7}
    kept = Checkpoints(tmp_path)
    reports = list(fit(config, loaded("wine", 0), seed=0, goals=goals, checkpoints=kept))
    for report in reports:
        assert set(report.metrics) == {*REPORTED["classification"], *goals.names}
        assert report.metrics["n_parameters"] == (13 + 1) * 7 + (7 + 1) * 3
        assert report.metrics["model_bytes"] == (tmp_path / WEIGHTS).stat().st_size
    assert reports[0].metrics["latency_ms"] == reports[1].metrics["latency_ms"] > 0


def test_goals_that_the_data_cannot_meet_are_told_before_training() -> None:
    for goals, message in (
        (Goals(positive="setosa"), r"positive: .* two classes"),
        (Goals(names=("val_cost",), costs=((0, 1), (1, 0))), r"costs: there are 2 rows"),
    ):
        with pytest.raises(ConfigError, match=message):
            next(fit({}, "iris", seed=0, goals=goals))


def ended(fitting: Fit) -> tuple[list[Mapping[str, float]], Mapping[str, float]]:
    """All that a fit reports, and what it returns."""
    reports = []
    while True:
        try:
            reports.append(next(fitting).metrics)
        except StopIteration as end:
            return reports, end.value


def test_folds_are_trained_in_turns_and_reported_as_means() -> None:
    folds = load(Source("iris", folds=3), seed=0)
    config = {"epochs": 12, "width": 5, "patience": 1, "learning_rate": 0.5, "batch_size": 20}
    goals = Goals(("train_error",))  # which is judged at the end of each fold alone
    alone = [ended(fit(config, data, seed=0, device="cpu", goals=goals)) for data in folds]
    assert len({len(reports) for reports, _ in alone}) > 1  # some end earlier
    together, means = ended(fit_folds(config, folds, seed=0, device="cpu", goals=goals))
    assert len(together) == max(len(reports) for reports, _ in alone)
    first = together[0]["val_loss"]
    assert first == pytest.approx(np.mean([reports[0]["val_loss"] for reports, _ in alone]))
    assert all("train_error" not in report for report in together)
    for name in ("val_loss", "train_error"):
        assert means[name] == pytest.approx(np.mean([of_fold[name] for _, of_fold in alone]))


def test_the_first_report_of_folds_is_that_of_step_1() -> None:
    folds = load(Source("iris", folds=3), seed=0)
    assert next(fit_folds({"epochs": 1}, folds, seed=0)).step == 1


@pytest.mark.parametrize(
    "config",
    [
        RICH_CNN,
        *({**RICH, "optimizer": optimizer, "noise": 0.1, "mixup": 0.2} for optimizer in OPTIMIZERS),
    ],
)
def test_equal_arguments_give_equal_reports(config: Mapping[str, object]) -> None:
    on_cpu = partial(fit, device="cpu")  # of a GPU `deterministic` asks for it
    once = curve(list(on_cpu(config, "digits", seed=7)))
    assert once == curve(list(on_cpu(config, "digits", seed=7)))
    settled = TrainerConfig.from_mapping(config)
    assert once == curve(list(on_cpu(settled, loaded("digits", 7), seed=7)))
    assert once != curve(list(on_cpu(config, loaded("digits", 7), seed=8)))


def test_another_process_splits_and_trains_the_same() -> None:
    code = f"""
import json
from hpo.trainers.loop import fit
print(json.dumps([r.metrics for r in fit({RICH!r}, "digits", seed=7, device="cpu")]))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == curve(list(fit(RICH, "digits", seed=7, device="cpu")))


def test_fits_that_take_turns_equal_fits_alone() -> None:
    on_cpu = partial(fit, RICH_CNN, "digits", device="cpu")
    alone = [curve(list(on_cpu(seed=seed))) for seed in (1, 2)]
    turns = list(zip(on_cpu(seed=1), on_cpu(seed=2), strict=True))
    assert [curve(list(reports)) for reports in zip(*turns, strict=True)] == alone


def test_global_random_states_are_left_alone() -> None:
    torch_state, numpy_state = torch.get_rng_state(), repr(np.random.get_state())
    for optimizer, norm, config in product(FIRST_ORDER, NORMS, (RICH, RICH_CNN)):
        fields = {**config, "optimizer": optimizer, "norm": norm, "batch_size": 512}
        next(fit(fields, loaded("digits", 0), seed=0))
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
    data = loaded("iris", 0)
    test = tensors(data.test)
    nothing = Tensors(torch.full_like(test.x, torch.nan), torch.full_like(test.y, -1))
    hidden = replace(data, test=nothing)
    assert curve(list(fit(RICH, hidden, seed=0))) == curve(list(fit(RICH, data, seed=0)))


def test_one_epoch_is_one_report() -> None:
    assert [report.step for report in fit({"epochs": 1}, "iris", seed=0)] == [1]


def test_the_last_smaller_batch_is_trained_on() -> None:
    # 90 examples in batches of 89 and 1. Whichever is last, a wrong label shows in the mean loss.
    data = loaded("iris", 0)
    train = tensors(data.train)
    config = {"epochs": 1, "batch_size": 89, "learning_rate": 1e-30}

    def train_loss(wrong: int) -> float:
        labels = train.y.clone()
        labels[wrong] = (labels[wrong] + 1) % 3
        wronged = replace(data, train=Tensors(train.x, labels))
        return next(fit(config, wronged, seed=0)).metrics["train_loss"]

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
    data = loaded("iris", 0)
    val = tensors(data.val)
    data = replace(data, val=Tensors(torch.full_like(val.x, torch.inf), val.y))
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
        "model: cnn needs images, and the data is a table of 13 features. mlp and linear fit it.\n"
        "batch_size: 200 is more than the 106 training examples of 'wine'. It must be at most 106."
    )


@pytest.mark.parametrize("model", ["mlp", "cnn"])
def test_a_last_batch_of_one_joins_the_one_before_for_batch_norm(model: str) -> None:
    data = shrunk(65)
    config = TrainerConfig(model=model, norm="batch", batch_size=16, epochs=2, width=4)
    assert batch_sizes(config, 65) == [16, 16, 16, 17]
    assert batch_sizes(replace(config, norm="layer"), 65) == [16, 16, 16, 16, 1]
    assert batch_sizes(replace(config, depth=0), 65) == [16, 16, 16, 16, 1]
    assert batch_sizes(config, 66) == [16, 16, 16, 16, 2]
    assert batch_sizes(config, 64) == [16] * 4
    assert batch_sizes(config, 17) == [17]
    assert len(list(fit(config, data, seed=0))) == 2


# Which fields are read

CHANGES: Mapping[str, tuple[object, object]] = {
    "learning_rate": (0.1, 0.2),
    "momentum": (0.9, 0.5),
    "nesterov": (False, True),
    "momentum_schedule": ("constant", "increasing"),
    "low_momentum": (None, 0.2),
    "beta1": (0.9, 0.5),
    "beta2": (0.999, 0.9),
    "rho": (0.99, 0.5),
    "history": (10, 1),
    "damping": (1e-3, 1.0),
    "weight_decay": (0, 0.1),
    "clip_norm": (None, 0.1),
    "clip_value": (None, 0.01),
    "schedule": ("constant", "linear"),
    "final_lr_fraction": (0.01, 0.5),
    "tau": (None, 1),
    "decay_power": (None, 0.7),
    "step_epochs": (None, 0.25),
    "step_factor": (0.1, 0.5),
    "cycle_epochs": (None, 0.5),
    "cycle_growth": (2, 1),
    "peak_fraction": (0.3, 0.6),
    "start_lr_fraction": (0.04, 0.5),
    "warmup_epochs": (0, 1),
    "batch_size": (8, 9),
    "dropout": (0, 0.5),
    "depth": (1, 2),
    "width": (4, 5),
    "activation": ("relu", "tanh"),
    "norm": ("none", "layer"),
    "residual": (False, True),
    "kernel_width": (3, 2),
    "pooling": ("max", "average"),
    "init_std": (0.01, 0.1),
    "bias_init": (0.0, 0.1),
}
ALWAYS: Mapping[str, tuple[object, object]] = {
    "l2": (0, 0.1),
    "epochs": (2, 3),
    "train_fraction": (1.0, 0.5),
    "init": ("glorot_uniform", "he_normal"),
    "last_init": ("same", "zeros"),
    "label_smoothing": (0, 0.1),
    "class_weight": ("none", "balanced"),
    "mixup": (0, 1.0),
    "flip": (False, True),
    "crop": (0, 1),
    "noise": (0, 0.1),
}
CHOICES = ("model", "optimizer")
HOW = {"patience", "micro_batch", "precision", "compile", "channels_last", "deterministic"}
"""Fields that say how long or with what a network is trained; others tell what they do."""


@cache
def shrunk(n: int) -> Data:
    """Digits with n training and 20 validation examples."""
    data = loaded("digits", 0)
    train, val = tensors(data.train), tensors(data.val)
    return replace(
        data, train=Tensors(train.x[:n], train.y[:n]), val=Tensors(val.x[:20], val.y[:20])
    )


@cache
def trained(**config: object) -> tuple[tuple[float, ...], ...]:
    small = {"width": 4, "depth": 1, "batch_size": 8, "epochs": 2, "learning_rate": 0.1}
    reports = fit({**small, **config}, shrunk(64), seed=0, device="cpu")
    return tuple(tuple(report.metrics.values()) for report in reports)


def matters(name: str, change: tuple[object, object], **config: object) -> bool:
    if name == "history":
        config["epochs"] = 5  # the steps before the last two begin to be forgotten
    if name == "residual":
        config["depth"] = 2  # the first layer has nothing to add to
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


@pytest.mark.parametrize("name", ALWAYS)
def test_a_field_that_says_nothing_matters_always(name: str) -> None:
    assert not FIELDS[name].used_when
    for other in CHOICES:
        for value in choices(other):
            assert matters(name, ALWAYS[name], **{other: value}), value


def test_every_choice_trains_in_its_own_way() -> None:
    assert {*CHANGES, *ALWAYS, *CHOICES, *HOW} == set(FIELDS)
    names = ("model", "optimizer", "schedule", "momentum_schedule", "norm", "activation", "init")
    for name in (*names, "last_init"):
        curves = {value: trained(**{name: value}) for value in choices(name)}
        # adamw is adam under another name.
        assert len(set(curves.values())) == len(curves) - (name == "optimizer"), name
    poolings = {trained(model="cnn", pooling=value) for value in choices("pooling")}
    assert len(poolings) == 3


# How a network is trained


@pytest.mark.parametrize("change", [{"channels_last": True}, {"deterministic": True}])
@pytest.mark.parametrize("model", ["cnn", "resnet"])
def test_the_layout_of_memory_and_deterministic_kernels_change_rounding_at_most(
    model: str, change: Mapping[str, object]
) -> None:
    plain, changed = (np.array(trained(model=model, **more)) for more in ({}, change))
    np.testing.assert_allclose(changed, plain, atol=1e-4)
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.parametrize("precision", ["bf16", "fp16"])
def test_half_precision_trains_almost_alike(precision: str) -> None:
    plain, half = (np.array(trained(precision=each)) for each in ("fp32", precision))
    assert not np.array_equal(plain, half)
    np.testing.assert_allclose(half[:, :2], plain[:, :2], rtol=0.05)  # the losses
    assert trained(precision="auto") == trained(precision="fp32")  # on a CPU


@pytest.mark.filterwarnings("ignore:.*script_method:DeprecationWarning")  # PyTorch's own
def test_a_compiled_network_is_the_same_network() -> None:
    config = {"epochs": 1, "model": "linear", "batch_size": 32}
    plain, compiled = (
        next(fit({**config, "compile": each}, shrunk(64), seed=0)).metrics for each in (False, True)
    )
    assert compiled == pytest.approx(plain, rel=1e-4)


def test_too_many_parameters_for_newton_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"optimizer: newton is for small networks, of at most"):
        next(fit({"optimizer": "newton", "width": 4000}, "iris", seed=0))


def test_line_searches_refuse_half_precision() -> None:
    with pytest.raises(ConfigError, match=r"precision: lbfgs compares losses along a line"):
        TrainerConfig(optimizer="lbfgs", precision="bf16")


# The user's own model

NETS = """
import torch
from torch import nn

def make(config):
    assert config["units"] == config.units
    assert (config.learning_rate, config.shape, config.n_outputs) == (0.1, (4,), 3)
    return nn.Sequential(nn.Linear(4, config.units), nn.Dropout(0.5), nn.Linear(config.units, 3))

def broken(config):
    return 3
"""


def test_a_users_own_model_is_trained_in_turns_as_alone(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    config = {"model": "nets:make", "units": 9, "learning_rate": 0.1, "epochs": 3}

    def start(seed: int) -> list[Mapping[str, float]]:
        return curve(list(fit(config, "iris", seed=seed, folder=tmp_path)))

    alone = [start(1), start(2)]
    assert alone[0] != alone[1]
    before = torch.get_rng_state()
    fits = [fit(config, "iris", seed=seed, folder=tmp_path) for seed in (1, 2)]
    turns = list(zip(*fits, strict=True))
    assert [curve(list(reports)) for reports in zip(*turns, strict=True)] == alone
    assert torch.equal(before, torch.get_rng_state())
    with pytest.raises(ConfigError, match=r"nets:broken.*3"):
        next(fit({**config, "model": "nets:broken"}, "iris", seed=0, folder=tmp_path))


ODD_NETS = """
import torch
from torch import nn

class Two(nn.Linear):
    def forward(self, x):
        return super().forward(x), x

def few(config):
    return nn.Linear(4, 2)

def flat(config):
    return nn.Sequential(nn.Linear(4, 1), nn.Flatten(0))

def two(config):
    return Two(4, 3)

class Outputs:
    def __init__(self, logits):
        self.logits = logits

class Wrapped(nn.Linear):
    def forward(self, x):
        return Outputs(super().forward(x))

def wrapped(config):
    return Wrapped(4, 3)

def frozen(config):
    return nn.Linear(4, 3).requires_grad_(False)

class Extra(nn.Linear):
    def get_extra_state(self):
        return {"n": 3}

    def set_extra_state(self, state):
        pass

def extra(config):
    return Extra(4, 3)

def buffered(buffer):
    net = nn.Linear(4, 3)
    net.register_buffer("kept", buffer)
    return net

def double_complex(config):
    return buffered(torch.zeros(2, dtype=torch.complex128))

def sparse(config):
    return buffered(torch.eye(3).to_sparse())

def lazy(config):
    return nn.LazyLinear(config.n_outputs)
"""


@pytest.mark.parametrize(
    ("name", "message"),
    [
        (
            "few",
            r"'odd_nets:few' gives \(2, 2\) for 2 examples; it must give a tensor \(2, 3\), and",
        ),
        ("flat", r"'odd_nets:flat' gives \(2,\) for 2 examples; it must give a tensor \(2, 3\)"),
        ("two", "'odd_nets:two' gives a tuple of 2 for 2 examples; it must give a tensor"),
        (
            "wrapped",
            r"gives an Outputs for 2 examples; it must give .* Return outputs\.logits\.$",
        ),
        ("frozen", "'odd_nets:frozen' has no parameters to train"),
        ("extra", "has among its weights what cannot be written: '_extra_state', a dict. They"),
        ("double_complex", "what cannot be written: 'kept', of torch.complex128. They must be"),
        ("sparse", r"what cannot be written: 'kept', of torch.float32 \(torch.sparse_coo\). They"),
    ],
)
def test_a_users_own_model_that_gives_something_else_is_told(
    tmp_path: Path, name: str, message: str
) -> None:
    (tmp_path / "odd_nets.py").write_text(ODD_NETS)
    with pytest.raises(ConfigError, match=message):
        next(fit({"model": f"odd_nets:{name}"}, "iris", seed=0, folder=tmp_path))


def test_lazy_layers_of_a_users_own_model_are_made_by_the_seed(tmp_path: Path) -> None:
    (tmp_path / "odd_nets.py").write_text(ODD_NETS)
    config = {"model": "odd_nets:lazy", "epochs": 3}
    before = torch.get_rng_state()
    one, again, other = (
        curve(list(fit(config, "iris", seed=seed, folder=tmp_path))) for seed in (1, 1, 2)
    )
    assert one == again != other
    assert one[-1]["train_loss"] < one[0]["train_loss"]
    assert torch.equal(before, torch.get_rng_state())


IN_PLACE = """
from torch import nn

class Halved(nn.Linear):
    def forward(self, x):
        x /= 2
        return super().forward(x)

def halved(config):
    return Halved(4, 3)
"""


@pytest.mark.parametrize("optimizer", ["sgd", "lbfgs"])
def test_a_users_own_model_that_changes_its_input_leaves_the_data_as_it_was(
    tmp_path: Path, optimizer: str
) -> None:
    (tmp_path / "in_place_nets.py").write_text(IN_PLACE)
    (data,) = load(Source("iris", folder=tmp_path), seed=0)
    before = [tensors(part).x.clone() for part in (data.train, data.val)]
    goals = Goals(names=("train_error", "latency_ms"))
    config = {"model": "in_place_nets:halved", "optimizer": optimizer, "epochs": 2}
    list(fit(config, data, seed=0, goals=goals, folder=tmp_path))
    for part, x in zip((data.train, data.val), before, strict=True):
        assert torch.equal(tensors(part).x, x)


# Integers

BASE = 2**40
"""The least id: as float32, all of them would be one."""

OF_IDS = f"""
import numpy as np
from torch import nn
from torch.utils.data import Dataset

class Net(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embedding = nn.Embedding(30, 8)
        self.logits = nn.Linear(8 * config.shape[0], config.n_outputs)

    def forward(self, x):
        return self.logits(self.embedding(x - {BASE}).flatten(1))

class Ids(Dataset):
    def __init__(self):
        with np.load(__file__.replace("ids.py", "ids.npz")) as arrays:
            self.x, self.y = arrays["x"], arrays["y"]

    def __len__(self):
        return len(self.y)

    def __getitem__(self, i):
        return self.x[i], self.y[i]
"""

EMBEDDED = {"model": "ids:Net", "optimizer": "adam", "learning_rate": 0.05, "epochs": 8}


@pytest.fixture
def ids(tmp_path: Path) -> Path:
    """A folder with the same ids in three forms; of the first of two, some are of class 1."""
    (tmp_path / "ids.py").write_text(OF_IDS)
    rng = np.random.default_rng(0)
    x = rng.integers(30, size=(400, 2))
    y = rng.permutation(30)[x[:, 0]] % 2
    np.savez(tmp_path / "ids.npz", x=BASE + x, y=y)
    torch.save((torch.from_numpy(BASE + x), torch.from_numpy(y)), tmp_path / "ids.pt")
    return tmp_path


def test_ids_are_learned_in_whatever_form_they_come(
    ids: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    goals = Goals(("val_error", "latency_ms"))  # which has to find ids that there are

    def reports(name: str) -> list[Mapping[str, float]]:
        source = Source(name, folder=ids)
        found = list(fit(EMBEDDED, source, seed=0, goals=goals, folder=ids))
        assert all(report.metrics["latency_ms"] > 0 for report in found)
        return [{**report.metrics, "latency_ms": 0} for report in found]

    held = reports("ids.npz")
    assert held[-1]["val_error"] <= 0.05
    assert reports("ids.pt") == reports("ids:Ids") == held
    monkeypatch.setattr("hpo.trainers.data.own.room", lambda device: 0)  # noqa: ARG005
    assert reports("ids:Ids") == held


def test_ids_are_not_mixed_with_others(ids: Path) -> None:
    config = {**EMBEDDED, "mixup": 0.2, "noise": 0.1}
    with pytest.raises(ConfigError) as caught:
        next(fit(config, Source("ids.npz", folder=ids), seed=0, folder=ids))
    assert [problem.path for problem in caught.value.problems] == [("noise",), ("mixup",)]


@pytest.mark.parametrize("shape", [(400, 2), (200, 2, 2), (100, 2, 2, 2)])
def test_a_network_that_is_built_in_calculates_with_integers_as_with_floats(
    ids: Path, shape: tuple[int, ...]
) -> None:
    with np.load(ids / "ids.npz") as arrays:
        x, y = (arrays["x"] - BASE).reshape(shape), arrays["y"][: shape[0]]
    np.savez(ids / "whole.npz", x=x, y=y)
    np.savez(ids / "floats.npz", x=x.astype(float), y=y)
    config = {"width": 8, "batch_size": 16, "epochs": 2}
    whole, floats = (
        curve(list(fit(config, Source(f"{name}.npz", folder=ids), seed=0)))
        for name in ("whole", "floats")
    )
    assert whole == floats
