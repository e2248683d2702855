"""What is legal in a study file and may not be meant."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

import hpo
from hpo import spec, studyfile
from hpo.advice import Advice, advise
from hpo.templates import shell_words

LR = {"float": [1e-4, 1.0], "log": True}


def advice(objective: dict[str, Any], space: dict[str, Any], **rest: Any) -> list[Advice]:
    values = {"objective": {"metric": "loss", **objective}, "space": space, **rest}
    plan = spec.check(studyfile.StudyFile("s.yaml", Path(), values))
    return [each for each in advise(plan) if each.path != "search.trials"]


def of_space(space: dict[str, Any], **rest: Any) -> list[Advice]:
    return advice({"function": "mine:train"}, space, **rest)


def of_command(command: str | list[str], **rest: Any) -> list[Advice]:
    return advice({"command": command, **rest}, {"lr": LR, "width": {"int": [8, 64]}})


def test_two_numbers_are_a_choice_and_may_have_been_meant_as_a_range() -> None:
    (found,) = of_space({"lr": [1e-4, 1.0]})
    assert (found.level, found.path) == ("note", "space.lr")
    assert "a range is {float: [0.0001, 1.0]}" in found.message

    (found,) = of_space({"width": [16, 512]})
    assert "a range is {int: [16, 512]}" in found.message


@pytest.mark.parametrize(
    "given",
    [
        {"choice": [0.1, 0.9]},
        [32, 64],
        [0, 1],
        [1, 4],
        [32, 64, 128],
        [64, 32],
        [False, True],
        ["sgd", "adam"],
        3,
    ],
)
def test_other_choices_are_meant(given: Any) -> None:
    assert of_space({"x": given}) == []


def test_two_numbers_are_two_points_of_a_grid() -> None:
    assert of_space({"lr": [1e-4, 1.0]}, search={"sampler": "grid"}) == []


def test_a_search_in_python_says_it_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.chdir(tmp_path)

    with caplog.at_level(logging.WARNING):
        hpo.search(lambda trial: trial.lr, space={"lr": [1e-4, 1.0]}, trials=1, tracking="none")

    assert [record.getMessage().partition(":")[0] for record in caplog.records] == ["space.lr"]


def test_a_parameter_that_a_command_line_does_not_have_is_noted() -> None:
    (found,) = of_command("python train.py --lr {lr}")
    assert (found.level, found.path) == ("note", "objective.command")
    assert "it has no {width} and no {args}" in found.message


@pytest.mark.parametrize(
    "command",
    [
        "python train.py {args}",
        "python train.py {flags}",
        "python train.py {config}",
        "python t.py {lr} {width:*}",
    ],
)
def test_a_command_that_has_all_parameters_is_not_noted(command: str) -> None:
    assert of_command(command) == []


@pytest.mark.parametrize(
    ("field", "value"), [("class_weight", "balanced"), ("label_smoothing", 0.1)]
)
def test_what_is_of_classes_is_warned_of_in_a_regressors_space(field: str, value: object) -> None:
    objective = {"trainer": "regressor", "data": "diabetes", "metric": "val_rmse"}
    found = advice(objective, {field: value, "width": {"int": [8, 64]}})
    assert [(each.level, each.path) for each in found] == [("warning", f"space.{field}")]
    assert "every trial will fail: there are no" in found[0].message


@pytest.mark.parametrize(
    ("given", "direction", "message"),
    [
        ({"trainer": "classifier"}, "maximize", "of 'val_error' less is better"),
        ({"estimator": "sklearn.svm.SVC"}, "maximize", "of 'val_error' less is better"),
        ({"estimator": "sklearn.svm.SVC", "metric": "neg_log_loss"}, "minimize", "more is better"),
        (
            {"trainer": "classifier", "metric": ["val_error", "val_f1"]},
            ["minimize", "minimize"],
            "of 'val_f1' more is better, so the worst trial wins; say maximize, or leave it out",
        ),
    ],
)
def test_a_direction_against_what_a_metric_means_is_warned_of(
    given: dict[str, Any], direction: Any, message: str
) -> None:
    objective = {"data": "digits", "metric": "val_error", **given}
    space = {"width": {"int": [8, 64]}}

    (found,) = advice({**objective, "direction": direction}, space)
    assert (found.level, found.path) == ("warning", "objective.direction")
    assert message in found.message
    assert advice(objective, space) == []
    own = {"function": "mine:train", "metric": "val_error", "direction": "maximize"}
    assert advice(own, {"x": [1, 2, 3]}) == []


@pytest.mark.parametrize("rule", ["median", "forecast"])
def test_a_rule_for_a_metric_that_no_epoch_has_is_warned_of(rule: str) -> None:
    def found(metric: str, rule: str) -> list[Advice]:
        objective = {"trainer": "classifier", "data": "digits", "metric": metric}
        said = advice(objective, {"depth": {"int": [1, 9]}}, stopping={"rule": rule})
        return [each for each in said if each.path == "stopping.rule"]

    (late,) = found("train_error", rule)
    assert late.level == "warning"
    assert late.message.startswith(
        f"'train_error' is told at the end of a trial alone, so {rule} can never stop one before; "
        "search for 'val_error'"
    )
    assert [*found("train_error", "none"), *found("train_loss", rule)] == []


def test_epochs_that_a_command_line_does_not_have_are_noted() -> None:
    (found,) = of_command("python t.py {lr} {width}", epochs=3)
    assert "it has no {epochs} and no {args}" in found.message
    assert of_command("python t.py {lr} {width} {epochs}", epochs=3) == []


def test_a_shells_words_without_a_shell_are_noted() -> None:
    (found,) = of_command("python train.py {args} | tee $HOME/log")
    assert found.path == "objective.command"
    assert "so | $HOME reaches the program as text; give `shell: true`" in found.message

    (found,) = of_command("echo ${lr} {width} $HOME")
    assert found.message == (
        "no shell reads it, so $HOME reaches the program as text; ${lr} is a $ and then the value: "
        "write {lr} for that; give `shell: true` where a shell is meant."
    )

    a_shell: dict[str, Any] = {"shell": True}
    assert of_command("python train.py {args} | tee $HOME/log", **a_shell) == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("a && b > x.txt 2>&1", ["&&", ">", "2>&1"]),
        ("a; b < in.txt", ["<"]),
        ("echo '$x | y' \"a | $B\"", ["$B"]),
        ("curl http://a?b&c {lr}", []),
        ("a ~/b.py data/*.csv {w:*} '*' \\* ~", ["~/b.py", "data/*.csv", "~"]),
        (["echo", "|", "$HOME"], []),
    ],
)
def test_quoted_words_are_no_shells(command: Any, words: list[str]) -> None:
    assert shell_words(command) == words


@pytest.mark.parametrize(
    ("stopping", "least"),
    [
        ({"rule": "forecast", "min_steps": 28}, 27),
        ({"rule": "forecast", "startup_trials": 40}, 39),
        ({"rule": "asha", "min_steps": 30}, 29),
        ({"rule": "asha", "min_early_stopping_rate": 4}, 3),
        ({"rule": "median", "warmup_steps": 30}, 29),
        ({"rule": "percentile", "min_trials": 40}, 39),
        ({"rule": "median", "startup_trials": 40}, 39),
        ({"rule": "patience", "patience": 28}, 27),
        ({"rule": "patience", "wrapped": "median", "warmup_steps": 31}, 29),
        ({"rule": "wilcoxon", "startup_steps": 30}, 29),
    ],
    ids=str,
)
def test_a_stopping_option_that_can_never_act_is_noted(
    stopping: dict[str, Any], least: int
) -> None:
    def found(stopping: dict[str, Any], epochs: int | None = 30) -> list[Advice]:
        length = {} if epochs is None else {"epochs": epochs}
        own = {"function": "mine:train", **length}
        rest: dict[str, Any] = {"stopping": stopping, "search": {"trials": 40}}
        return advice(own, {"x": [1, 2, 3], "y": {"float": [0, 1]}}, **rest)

    option = next(reversed(stopping))
    (note,) = found(stopping)
    assert (note.level, note.path) == ("note", f"stopping.{option}")
    assert str(stopping[option]) in note.message
    assert "it stops none" in note.message or "stops none before its end" in note.message
    assert note.message.endswith("; lower it.")
    assert found({**stopping, option: least}) == []
    if "trials" not in option:
        assert found(stopping, None) == []
        # Own code may report iterations beside its epochs.
        assert advice({"function": "mine:train"}, {"epochs": [1, 2, 3]}, stopping=stopping) == []


@pytest.mark.parametrize(
    ("stopping", "objective", "n"),
    [
        ({"rule": "patience"}, {"trainer": "classifier", "data": "digits"}, 1),
        ({"rule": "patience"}, {"function": "mine:train"}, 0),
        ({"rule": "patience", "wrapped": "median"}, {"trainer": "classifier", "data": "digits"}, 0),
        ({"rule": "median"}, {"trainer": "classifier", "data": "digits"}, 0),
    ],
)
def test_a_trainers_trials_are_not_ended_by_a_rule_that_ends_all(
    stopping: dict[str, Any], objective: dict[str, Any], n: int
) -> None:
    found = advice(
        {"metric": "val_loss", "epochs": 30, **objective}, {"learning_rate": LR}, stopping=stopping
    )

    told = [each for each in found if "space: {patience: 5}" in each.message]
    assert [(each.level, each.path) for each in told] == [("warning", "stopping.rule")] * n
