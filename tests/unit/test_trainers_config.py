import dataclasses
import pickle
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpo.trainers import CodeError, ConfigError, Diverged, Problem, Report, TrainerConfig, goals
from hpo.trainers.config import FIELDS, FULL_BATCH, check_value, unread
from hpo.trainers.fields import Field
from hpo.trainers.initialise import INITS
from hpo.trainers.models import ACTIVATIONS, MODELS, NORMS, POOLINGS
from hpo.trainers.optimizers import OPTIMIZERS
from hpo.trainers.schedules import SCHEDULES

ROOT = Path(__file__).parents[2]
NAMES = {*goals.names("classification"), *goals.names("regression"), "val_f0.5"}


def test_the_defaults_are_valid_and_every_field_is_described() -> None:
    config = TrainerConfig()
    assert [*FIELDS, "own"] == [field.name for field in dataclasses.fields(config)]
    assert all(field.why for field in FIELDS.values())
    values = {name: getattr(config, name) for name in FIELDS}
    assert {name: field.default for name, field in FIELDS.items()} == values
    assert TrainerConfig.from_mapping({}) == TrainerConfig.from_mapping(values) == config


@pytest.mark.parametrize(
    ("field", "choices"),
    [
        ("model", MODELS),
        ("optimizer", OPTIMIZERS),
        ("schedule", SCHEDULES),
        ("activation", ACTIVATIONS),
        ("norm", NORMS),
        ("pooling", POOLINGS),
        ("init", INITS),
    ],
)
def test_what_is_allowed_is_what_is_built(field: str, choices: dict[str, object]) -> None:
    assert FIELDS[field].allowed == tuple(choices)


def test_numbers_take_the_kind_of_their_field() -> None:
    config = TrainerConfig.from_mapping({"batch_size": 64.0, "learning_rate": 1, "tau": 5})
    assert (type(config.batch_size), config.batch_size) == (int, 64)
    assert (type(config.learning_rate), config.learning_rate) == (float, 1.0)
    assert (type(config.tau), config.tau) == (float, 5.0)
    assert TrainerConfig(tau=None).tau is None


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("momentm", 0.5, "unknown field 'momentm'. Did you mean 'momentum'?"),
        ("zzz", 0.5, f"unknown field 'zzz'. Known: {', '.join(FIELDS)}."),
        ("optimizer", "agd", "'agd' is not a choice. Did you mean 'sgd'?"),
        (
            "optimizer",
            3,
            f"3 is not a choice. Known: {', '.join(FIELDS['optimizer'].allowed or ())}.",
        ),
        ("norm", None, "None is not a choice. Did you mean 'none'?"),
        (
            "optimizer",
            [],
            f"[] is not a choice. Known: {', '.join(FIELDS['optimizer'].allowed or ())}.",
        ),
        ("schedule", ["linear"], "['linear'] is not a choice. Did you mean 'linear'?"),
        ("nesterov", 1, "1 is not true or false."),
        ("batch_size", "64", "'64' is not a whole number. Did you mean 64, without quotes?"),
        ("learning_rate", "1e-3", "'1e-3' is not a number. Did you mean 1e-3, without quotes?"),
        ("learning_rate", "fast", "'fast' is not a number."),
        ("learning_rate", "nan", "'nan' is not a number."),
        ("learning_rate", True, "True is not a number."),
        ("learning_rate", None, "None is not a number."),
        ("learning_rate", float("nan"), "nan is not a finite number."),
        ("epochs", float("inf"), "inf is not a finite number."),
        ("epochs", 2.5, "2.5 is not a whole number. Did you mean 3?"),
        (
            "epochs",
            0,
            (
                "0 is out of range. It must be at least 1; "
                "it is the passes over the training examples; lbfgs, cg and newton step once in "
                "each."
            ),
        ),
        (
            "learning_rate",
            0,
            (
                "0 is out of range. It must be above 0; "
                "it is how far a step follows the gradient where the schedule is highest."
            ),
        ),
        (
            "dropout",
            1.0,
            (
                "1.0 is out of range. It must be at least 0 and below 1; "
                "it is the probability that a hidden unit is dropped, which at 1 would leave none."
            ),
        ),
        (
            "final_lr_fraction",
            1.5,
            (
                "1.5 is out of range. It must be at least 0 and at most 1; "
                "it is the schedule's last learning rate as a share of the highest."
            ),
        ),
        ("width", [8, "4"], "layer 2: '4' is not a whole number. Did you mean 4, without quotes?"),
        (
            "width",
            (8, 4, 0),
            (
                "layer 3: 0 is out of range. It must be at least 1; "
                "it is the units of a hidden layer, the channels of a convolution or block."
            ),
        ),
        ("width", [[8]], "layer 1: [8] is not a whole number."),
        ("dropout", [None, 0.5], "layer 1: None is not a number."),
        ("depth", [2], "[2] is not a whole number."),
        ("width", {"a": 1}, "{'a': 1} is not a whole number."),
    ],
)
def test_every_mistake_has_its_sentence(field: str, value: object, message: str) -> None:
    assert check_value(field, value) == message
    with pytest.raises(ConfigError) as caught:
        TrainerConfig.from_mapping({field: value})
    assert caught.value.problems == (Problem((field,), message),)
    assert str(caught.value) == f"{field}: {message}"


def test_all_mistakes_are_told_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainerConfig.from_mapping({"momentm": 0.5, "depth": -1, "width": 8, "tau": 0})
    assert [problem.path for problem in caught.value.problems] == [
        ("momentm",),
        ("depth",),
        ("tau",),
    ]
    assert str(caught.value).count("\n") == 2


def test_a_wrong_config_cannot_be_made_without_from_mapping_either() -> None:
    with pytest.raises(ConfigError, match=r"dropout: 2 is out of range"):
        TrainerConfig(dropout=2)
    with pytest.raises(ConfigError, match=r"depth: -1"):
        dataclasses.replace(TrainerConfig(), depth=-1)


def test_lists_become_tuples_of_the_kind_of_their_field() -> None:
    config = TrainerConfig.from_mapping({"width": [64.0, 32], "dropout": [0, 0.5]})
    assert (config.width, config.dropout) == ((64, 32), (0.0, 0.5))
    assert [type(value) for pair in config.layers for value in pair] == [int, float] * 2
    assert config.layers == [(64, 0.0), (32, 0.5)]
    assert TrainerConfig(depth=3, width=8, dropout=0.1).layers == [(8, 0.1)] * 3
    assert TrainerConfig(depth=0, width=[]).layers == []
    assert {name for name, field in FIELDS.items() if field.per == "depth"} == {"width", "dropout"}
    assert check_value("width", [64, 32, 16]) is None
    hash(config)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"depth": 3, "width": [8, 4]},
            (
                "width: a list of 2 for a depth of 3. "
                "A list has one value for each hidden layer; a number holds for all."
            ),
        ),
        (
            {"dropout": [0.1]},
            (
                "dropout: a list of 1 for a depth of 2. "
                "A list has one value for each hidden layer; a number holds for all."
            ),
        ),
        (
            {"warmup_epochs": 2.5, "epochs": 2},
            (
                "warmup_epochs: 2.5 is not below the 2 epochs of the whole run, "
                "so that no schedule would begin."
            ),
        ),
        (
            {"schedule": "exponential", "final_lr_fraction": 0},
            (
                "final_lr_fraction: an exponential schedule never reaches 0. "
                "It must be above 0, such as 0.01."
            ),
        ),
        (
            {"norm": "batch", "batch_size": 1},
            (
                "batch_size: batch norm takes the mean and deviation of a minibatch, and 1 "
                "example has no deviation. It must be at least 2 with norm: batch."
            ),
        ),
    ],
)
def test_values_that_cannot_be_taken_together(config: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TrainerConfig.from_mapping(config)
    assert str(caught.value) == message
    field = caught.value.problems[0].path[0]
    assert check_value(str(field), config[str(field)]) is None


def test_what_cannot_be_taken_together_is_told_at_once_too() -> None:
    with pytest.raises(ConfigError) as caught:
        TrainerConfig(width=[1], norm="batch", batch_size=1, warmup_epochs=30)
    paths = [problem.path for problem in caught.value.problems]
    assert paths == [("width",), ("warmup_epochs",), ("batch_size",)]
    with pytest.raises(ConfigError, match="micro_batch: batch norm takes"):
        TrainerConfig(norm="batch", micro_batch=1)
    TrainerConfig(norm="batch", batch_size=1, depth=0)  # nothing there to normalise
    TrainerConfig(schedule="linear", final_lr_fraction=0)


def test_fields_are_used_while_others_have_known_values() -> None:
    for field in FIELDS.values():
        for other, values in field.used_when.items():
            assert set(values) < set(FIELDS[other].allowed or ())
    assert FIELDS["momentum"].used_when == {"optimizer": ("sgd",)}
    assert FIELDS["l2"].used_when == {}
    assert unread("momentum", {"optimizer": "adam"}) == "optimizer"
    assert unread("momentum", {}) is None  # by default
    assert unread("kernel_width", {}) == "model"
    assert unread("kernel_width", {"model": "nets:make"}) is None


def test_a_users_own_model_has_fields_of_its_own() -> None:
    config = TrainerConfig.from_mapping({"model": "pkg.nets:make", "units": 9, "width": 3})
    assert (config.model, config.own, config.width) == ("pkg.nets:make", {"units": 9}, 3)
    with pytest.raises(ConfigError, match=r"units: unknown field"):
        TrainerConfig.from_mapping({"model": "mlp", "units": 9})
    for wrong in ("pkg.nets", "pkg:", "a b:make", ":make", "pkg.:make"):
        assert "is not a choice" in (check_value("model", wrong) or "")


def inside(field: Field) -> st.SearchStrategy[object]:
    if field.kind is bool:
        return st.booleans()
    if field.allowed is not None:
        return st.sampled_from(field.allowed)
    if field.kind is int:
        return st.integers(min_value=int(field.low or 0), max_value=10**6)
    return st.floats(
        min_value=field.low if field.low is not None else -1e6,
        max_value=field.high if field.high is not None else 1e6,
        exclude_min=field.low_open,
        exclude_max=field.high_open,
    )


@given(st.fixed_dictionaries({}, optional={name: inside(field) for name, field in FIELDS.items()}))
def test_every_value_inside_the_bounds_is_taken_as_it_is(values: dict[str, object]) -> None:
    values["warmup_epochs"] = min(
        cast("float", values.get("warmup_epochs", 0)), cast("int", values.get("epochs", 30)) / 2
    )
    if values.get("schedule") == "exponential":
        values["final_lr_fraction"] = 0.5
    if values.get("norm") == "batch":
        values["batch_size"] = values["micro_batch"] = 2
    if values.get("optimizer") in FULL_BATCH:
        values["precision"] = "fp32"
        values["compile"] = False
    config = TrainerConfig.from_mapping(values)
    assert {name: getattr(config, name) for name in values} == values


@given(
    st.sampled_from(sorted(FIELDS.keys() - {"bias_init"})), st.floats(max_value=0, exclude_max=True)
)
def test_no_number_of_ours_is_negative(name: str, value: float) -> None:
    assert check_value(name, value) is not None


def test_errors_and_reports_cross_process_borders() -> None:
    error = ConfigError([Problem(("space", 0, "tau"), "too long.")])
    assert pickle.loads(pickle.dumps(error)).problems == error.problems  # noqa: S301
    assert str(error) == "space.0.tau: too long."
    code = pickle.loads(pickle.dumps(CodeError("no module.", "Make it.")))  # noqa: S301
    assert str(code) == "no module. Make it."
    diverged = pickle.loads(pickle.dumps(Diverged(3, "val_loss", float("inf"))))  # noqa: S301
    assert (diverged.epoch, diverged.metric, diverged.value) == (3, "val_loss", float("inf"))
    report = Report(1, {"val_error": 0.5}, 0.1)
    assert pickle.loads(pickle.dumps(report)) == report  # noqa: S301


def test_metrics_say_which_way_is_better() -> None:
    better = {name: found.direction for name in NAMES if (found := goals.metric(name))}
    assert len(better) == len(NAMES)
    larger = {name for name, direction in better.items() if direction == "maximize"}
    assert larger == {
        "val_accuracy", "val_balanced_accuracy", "val_precision", "val_recall", "val_f1",
        "val_f0.5", "val_pr_auc", "val_roc_auc", "val_coverage", "val_r2",
        "val_accuracy_answered",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "task", "message"),
    [
        ("val_eror", "classification", "unknown metric 'val_eror'. Did you mean 'val_error'?"),
        ("val_f0", "classification", "unknown metric 'val_f0'. Did you mean 'val_f1'?"),
        ("accuracy", "classification", "unknown metric 'accuracy'. Did you mean 'val_accuracy'?"),
        ("test_error", "classification", "unknown metric 'test_error'. Did you mean"),
        (
            "val_r2",
            "classification",
            "'val_r2' has no meaning in classification. Known: train_loss",
        ),
        ("val_f2", "regression", "'val_f2' has no meaning in regression. Known: train_loss"),
    ],
)
def test_a_metric_that_cannot_be_had_is_told(name: str, task: goals.Task, message: str) -> None:
    assert (goals.problem(name, task) or "").startswith(message)


def test_every_metric_can_be_had_in_its_task() -> None:
    for task in ("classification", "regression"):
        assert [goals.problem(name, task) for name in goals.names(task)] == [None] * len(
            goals.names(task)
        )
    assert goals.needs(["val_cost", "val_coverage", "val_f1"]) == ["costs", "required_accuracy"]
    assert goals.needs(["val_coverage", "val_accuracy_answered"]) == ["required_accuracy"]


def test_checking_a_file_needs_no_heavy_import() -> None:
    code = """
import sys
from hpo import trainers
from hpo.trainers import code, config, data, errors, fields, goals, report, schedules
trainers.TrainerConfig.from_mapping({"width": 8})
trainers.data.describe(trainers.data.names()[0])
trainers.Schedule.of({"schedule": "cosine"}, steps_per_epoch=3).learning_rate(2)
print(sorted({"torch", "numpy", "sklearn", "scipy"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
