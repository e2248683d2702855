"""Spaces in studies: conditions, vectors, requirements, baselines, and what `hpo check` advises."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from hpo.search_spaces import parse
from tests.acceptance.harness import Folder

OBJECTIVES = """
import json
from pathlib import Path

def train(trial):
    with Path("calls.txt").open("a") as calls:
        calls.write(json.dumps(dict(trial)) + "\\n")
    return (trial.get("x", 0) - 0.3) ** 2 + sum(trial.get("width", [])) / 1000

def climb(trial):
    for step in range(1, 6):
        yield {"loss": trial.x + 1 / step}
"""
RICH: dict[str, Any] = {
    "x": {"float": [0, 1], "points": 3, "prior": 0.3},
    "optimizer": ["sgd", "adam"],
    "momentum": {"choice": [0.5, 0.9], "when": {"optimizer": "sgd"}},
    "nesterov": {"choice": [True, False], "when": {"momentum": "> 0.5"}},
    "depth": {"int": [0, 3]},
    "width": {"int": [8, 32], "powers_of": 2, "per": "depth"},
    "dropout": {
        "choice": [0.1, 0.2, 0.4],
        "per": "depth",
        "taper": ["constant", "pyramid"],
    },
    "skip": {"choice": [1, 2], "when": {"depth": ">= 2"}},
    "require": ["width_2 <= width_1", "skip < depth"],
}


def _study(**changes: Any) -> dict[str, Any]:
    study: dict[str, Any] = {
        "name": "s",
        "objective": {"function": "objectives:train", "metric": "loss"},
        "space": RICH,
        "search": {"sampler": "random", "trials": 8},
    }
    return {**copy.deepcopy(study), **changes}


@pytest.fixture
def folder(folder: Folder) -> Folder:
    folder.write("objectives.py", OBJECTIVES)
    return folder


@pytest.mark.parametrize("sampler", ["grid", "random", "sobol", "tpe", "gp", "skopt"])
def test_a_study_over_a_conditional_space_records_no_inactive_parameter(
    folder: Folder, sampler: str
) -> None:
    search = {"sampler": sampler, "trials": 14, "startup_trials": 5}
    done = folder.hpo("run", folder.study(_study(search=search)))
    assert done.code == 0, done.err

    space = parse(RICH)
    trials = folder.trials("s")
    assert [t["state"] for t in trials] == ["COMPLETE"] * 14
    for trial in trials:
        assert space.contains(trial["params"]), trial["params"]


def test_a_trial_gets_its_vectors_as_lists(folder: Folder) -> None:
    folder.hpo("run", folder.study(_study()))

    trials, configs = folder.trials("s"), [json.loads(call) for call in folder.calls()]
    for trial, config in zip(trials, configs, strict=True):
        params = trial["params"]
        depth = params["depth"]
        assert config["width"] == [params[f"width_{i}"] for i in range(1, depth + 1)]
        assert len(config["dropout"]) == depth
        assert not any(name.startswith(("width_", "dropout_")) for name in config)
        if params.get("dropout_taper") == "pyramid":
            halves = [max(0.1, params["dropout"] / 2**i) for i in range(depth)]
            assert config["dropout"] == halves
        elif depth:
            assert config["dropout"] == [params["dropout"]] * depth


# --- baseline ---

BASELINE = {"x": 0.9, "optimizer": "sgd", "momentum": 0.5, "depth": 2, "width": [32, 8]}
REST = {"dropout": 0.4, "dropout_taper": "pyramid", "skip": 1}


def test_a_baseline_is_trial_0_and_what_the_best_is_compared_with(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(_study(baseline={**BASELINE, **REST})))

    assert done.code == 0, done.err
    first, *others = folder.trials("s")
    assert first["baseline"]
    assert not any(trial["baseline"] for trial in others)
    assert first["params"] == {
        "x": 0.9,
        "optimizer": "sgd",
        "momentum": 0.5,
        "depth": 2,
        "width_1": 32,
        "width_2": 8,
        **REST,
    }
    assert json.loads(folder.calls()[0])["width"] == [32, 8]
    shown = folder.hpo("show", "s", "--json").json
    baseline = {"trial": 0, "state": "COMPLETE", "value": first["value"]}
    assert baseline.items() <= shown["baseline"].items()
    assert shown["best"]["value"] <= first["value"]
    assert "trial 0 (baseline) COMPLETE" in done.err
    best = shown["best"]
    sentence = f"Trial {best['trial']} beats the baseline: loss {best['value']:.4g} against"
    assert f"{sentence} {first['value']:.4g}." in done.err
    assert "0 baseline" in done.out


def test_a_baseline_that_nothing_beats_is_the_best(folder: Folder) -> None:
    baseline = {"x": 0.3, "optimizer": "adam", "depth": 0}
    done = folder.hpo("run", folder.study(_study(baseline=baseline)), "--json")
    assert done.json["best"]["trial"] == 0
    assert "No trial beats the baseline: loss 0." in done.err


def test_a_baseline_that_is_added_later_is_the_next_trial(folder: Folder) -> None:
    file = folder.study(_study())
    folder.hpo("run", file, "--set", "search.trials=3")
    folder.study(_study(baseline={"x": 0.3, "optimizer": "adam", "depth": 0}))
    done = folder.hpo("run", file, "--set", "search.trials=5")
    assert done.code == 0, done.err
    assert [t["baseline"] for t in folder.trials("s")] == [False, False, False, True, False]


def test_a_baseline_that_a_finished_study_has_no_room_for_is_told(folder: Folder) -> None:
    file = folder.study(_study(search={"sampler": "random", "trials": 2}))
    folder.hpo("run", file)
    baseline = "baseline={x: 0.3, optimizer: adam, depth: 0}"
    done = folder.hpo("run", file, "--set", baseline)
    assert "The baseline has not been run yet. Let it: --set search.trials=3" in done.err
    assert folder.hpo("run", file, "--set", baseline, "--set", "search.trials=3").code == 0
    assert folder.trials("s")[2]["baseline"]


def test_the_best_is_compared_with_the_baseline_of_today(folder: Folder) -> None:
    file = folder.study(_study(baseline={"x": 0.3, "optimizer": "adam", "depth": 0}))
    folder.hpo("run", file, "--set", "search.trials=2")
    folder.study(_study(baseline={"x": 0.9, "optimizer": "adam", "depth": 0}))
    done = folder.hpo("run", file, "--set", "search.trials=3")
    assert "Trial 0 beats the baseline: loss 0 against 0.36." in done.err


def test_a_study_without_tracking_is_resumed_without_it(folder: Folder) -> None:
    folder.environment.pop("MLFLOW_TRACKING_URI")
    file = folder.study(_study(tracking="none"))
    assert "mlflow" not in folder.hpo("run", file, "--set", "search.trials=2").err
    assert "mlflow" not in folder.hpo("resume", "s", "--set", "search.trials=3").err
    assert not (folder.path / "mlflow.db").exists()


def test_a_baseline_is_run_to_its_end(folder: Folder) -> None:
    """It is the worst there is, and a rule that stops the worst half stops it not."""
    study = _study(
        objective={"function": "objectives:climb", "metric": "loss"},
        space={"x": {"float": [0, 1]}},
        stopping={"rule": "median", "startup_trials": 1},
        baseline={"x": 1.0},
        search={"sampler": "random", "trials": 3},
    )
    file = folder.study({k: v for k, v in study.items() if k != "baseline"})
    assert folder.hpo("run", file).code == 0
    folder.study(study)
    assert folder.hpo("run", file, "--set", "search.trials=5").code == 0
    trials = folder.trials("s")
    assert trials[3]["baseline"]
    assert (trials[3]["state"], trials[3]["n_steps"]) == ("COMPLETE", 5)
    assert "PRUNED" in {t["state"] for t in trials}


def test_a_trainers_baseline_fills_in_priors_and_defaults(folder: Folder) -> None:
    study = {
        "name": "d",
        "objective": {"trainer": "classifier", "data": "iris", "metric": "val_error", "epochs": 1},
        "space": {
            "learning_rate": {"float": [1e-4, 1], "log": True, "prior": 0.05},
            "momentum": {"float": [0, 0.99]},
            "depth": {"int": [1, 3]},
            "width": {"int": [16, 128], "powers_of": 2, "per": "depth"},
            "warmup_epochs": [0, 0.5],
        },
        "baseline": {"depth": 1},
        "search": {"trials": 1, "sampler": "random"},
    }
    assert folder.hpo("run", folder.study(study)).code == 0
    (trial,) = folder.trials("d")
    assert trial["params"] == {
        "learning_rate": 0.05,  # its prior
        "momentum": 0.9,  # the trainer's default
        "depth": 1,
        "width_1": 128,
        "warmup_epochs": 0,
    }


def test_a_tapered_list_and_whole_numbers_are_a_baseline(folder: Folder) -> None:
    space = {
        "x": [0.0, 0.25],
        "depth": {"int": [1, 3]},
        "width": {
            "int": [32, 256],
            "powers_of": 2,
            "per": "depth",
            "taper": ["constant", "pyramid"],
        },
        "steps": {"int": [1, 1000], "step": 7, "prior": 5},
    }
    baseline = {"x": 0, "depth": 2, "width": [128, 64]}
    study = _study(space=space, baseline=baseline, search={"sampler": "random", "trials": 1})
    assert folder.hpo("run", folder.study(study)).code == 0
    (trial,) = folder.trials("s")
    tapered = {"width": 128, "width_taper": "pyramid"}
    assert trial["params"] == {"x": 0.0, "depth": 2, **tapered, "steps": 8}
    assert json.loads(folder.calls()[0])["width"] == [128, 64]


@pytest.mark.parametrize(
    ("baseline", "message"),
    [
        ({"y": 1}, "baseline.y: the space has no 'y'."),
        ({"x": 3}, "baseline.x: 3 is not in {float: [0.0, 1.0], points: 3, prior: 0.3}; widen it"),
        (
            {"optimizer": "adam", "depth": 0, "momentum": 0.5},
            "it is not active with this optimizer",
        ),
        ({"optimizer": "sgd"}, "baseline.momentum: it is active here but has no value; give one"),
        (
            {**BASELINE, **REST, "width": [8, 8, 8]},
            "width: it has 3 values, and depth is 2; give 2.",
        ),
        ({**BASELINE, **REST, "width": [8, 32]}, "what the space requires: width_2 <= width_1."),
        ({**BASELINE, **REST, "width": [8, 9]}, "baseline.width_2: 9 is not in {int: [8, 32]"),
    ],
)
def test_a_baseline_outside_the_space_is_explained(
    folder: Folder, baseline: dict[str, Any], message: str
) -> None:
    done = folder.hpo("check", folder.study(_study(baseline=baseline)))
    assert done.code == 1
    assert message in done.err


def test_a_trainers_default_outside_the_space_is_no_baseline(folder: Folder) -> None:
    done = folder.hpo("check", folder.study(_digits({"learning_rate": [0.1, 1.0]}, baseline={})))
    message = "baseline.learning_rate: the trainer's default, 0.01, is not in {choice: [0.1, 1.0]}"
    assert message in done.err


def test_an_empty_baseline_is_a_mistake(folder: Folder) -> None:
    done = folder.hpo("check", folder.study(_study(baseline=None)))
    assert "baseline: it is empty; write {} for the defaults, or drop it." in done.err


# --- what check says ---


def _digits(space: dict[str, Any], **changes: Any) -> dict[str, Any]:
    return {
        "name": "d",
        "objective": {
            "trainer": "classifier",
            "data": "digits",
            "metric": "val_error",
            "epochs": 9,
        },
        "space": space,
        "search": {"sampler": "random", "trials": 20},
        **changes,
    }


@pytest.mark.parametrize(
    ("study", "level", "path", "message"),
    [
        (
            _digits({"learning_rate": {"float": [1e-4, 1]}}),
            "warning",
            "space.learning_rate",
            "is searched on a linear scale, so 90% of the draws are above 0.1; add `log: true`.",
        ),
        (
            _digits({"learning_rate": {"float": [0, 0.5]}}, objective=_study()["objective"]),
            "warning",
            "space.learning_rate",
            "add `log: true` (and start above 0, such as at 1e-5).",
        ),
        (
            _digits({"batch_size": {"int": [32, 4096], "powers_of": 2}}),
            "warning",
            "space.batch_size",
            "'digits' has 1,077 training examples, so such trials fail; keep it to at most 1024.",
        ),
        (
            _digits({"dropout": {"float": [0, 0.95]}}),
            "warning",
            "space.dropout",
            "it goes up to 0.95, where only 5% of the units are left",
        ),
        (
            _digits({"dropout": {"float": [0, 1.0]}}, objective=_study()["objective"]),
            "warning",
            "space.dropout",
            "it goes up to 1, where no unit is left",
        ),
        (
            _digits(
                {"depth": {"int": [1, 5]}, "width": [16, 32, 64, 128, 256]},
                search={"sampler": "grid", "trials": 20},
            ),
            "warning",
            "search.trials",
            "the grid has 25 points and the study 20 trials: it sees 80.0% of the grid",
        ),
        (
            _digits({"optimizer": ["sgd", "adam"], "momentum": [0.5, 0.9]}),
            "warning",
            "space.momentum",
            "'momentum' changes nothing where optimizer is adam; add `when: {optimizer: sgd}`.",
        ),
        (
            _digits({"step_factor": [0.1, 0.5]}),
            "warning",
            "space.step_factor",
            "'step_factor' changes nothing where schedule is constant, its default; search",
        ),
        (
            _digits({"optimizer": "adam", "nesterov": [True, False]}),
            "warning",
            "space.nesterov",
            "'nesterov' changes nothing: optimizer is never sgd; drop 'nesterov'",
        ),
        (
            _digits({"schedule": "cosine", "warmup_epochs": {"int": [0, 10]}}),
            "warning",
            "space.warmup_epochs",
            "of the trials will fail",
        ),
        (
            _digits({"schedule": "cosine", "warmup_epochs": 9}),
            "warning",
            "space.warmup_epochs",
            "every trial will fail: 9 is not below the 9 epochs",
        ),
        (
            _digits({"schedule": "step", "step_epochs": {"int": [1, 20]}}),
            "warning",
            "space.step_epochs",
            "of its values are 9 or more, and a trial has 9 epochs: the rate never drops; lower",
        ),
        (
            _digits(
                {"momentum_schedule": "increasing", "low_momentum": 0.6, "momentum": [0.5, 0.9]}
            ),
            "warning",
            "space.low_momentum",
            "it is not always below momentum, and there momentum_schedule changes nothing",
        ),
        (
            _digits({"schedule": "inverse_time", "decay_power": {"float": [0.3, 1]}}),
            "warning",
            "space.decay_power",
            "with 0.3 breaks a Robbins-Monro condition. The sum of eps_k^2 is infinite",
        ),
        (
            _digits({"schedule": "inverse_time", "decay_power": {"float": [0.6, 2]}}),
            "warning",
            "space.decay_power",
            "inverse_time with 2 breaks a Robbins-Monro condition. The sum of eps_k is finite",
        ),
        (
            _digits({"schedule": "constant", "depth": [1, 2]}),
            "note",
            "space.schedule",
            "constant: The sum of eps_k^2 is infinite",
        ),
        (
            _digits({"x": {"int": [1, 999]}, "y": {"int": [1, 999]}, "require": "x == y"})
            | {"objective": _study()["objective"]},
            "warning",
            "space.require",
            "of all draws meet it, so most are made in vain; narrow the ranges.",
        ),
        (
            _digits({"schedule": ["linear", "cosine"]}, stopping={"rule": "median"}),
            "note",
            "stopping.rule",
            "schedules run over all 9 epochs, whether median lets the trial get there or not.",
        ),
        (
            _digits({"model": ["mlp", "cnn"]}, search={"trials": 2})
            | {"objective": {**_digits({})["objective"], "data": "wine"}},
            "warning",
            "space.model",
            "a cnn needs images, and 'wine' is a table",
        ),
        (
            _digits({"depth": [1, 2], "width": [16, 32]}, search={"trials": 2}),
            "note",
            "search.trials",
            "2 trials of 2 free parameters give a model little to learn from",
        ),
    ],
)
def test_check_warns(
    folder: Folder, study: dict[str, Any], level: str, path: str, message: str
) -> None:
    done = folder.hpo("check", folder.study(study), "--dry", "--json")
    assert done.code == 0, done.err
    advice = [(a["level"], a["path"]) for a in done.json["advice"]]
    assert (level, path) in advice, done.json["advice"]
    assert message in " ".join(a["message"] for a in done.json["advice"] if a["path"] == path)


@pytest.mark.parametrize(
    "space",
    [
        {"use": ["classic", "mlp"]},
        {
            "learning_rate": {"float": [1e-4, 1], "log": True},
            "schedule": ["constant", "inverse_time"],
            "decay_power": {"float": [0.6, 1.0], "when": {"schedule": "inverse_time"}},
            "warmup_epochs": {"int": [0, 8]},
            "require": ["warmup_epochs < epochs"],
        },
    ],
)
def test_check_has_nothing_against_a_good_space(folder: Folder, space: dict[str, Any]) -> None:
    done = folder.hpo("check", folder.study(_digits(space)), "--dry", "--json")
    assert done.json["advice"] == []


def test_check_counts_and_shows_examples(folder: Folder) -> None:
    study = _study(baseline={"x": 0.3, "optimizer": "adam", "depth": 0})
    done = folder.hpo("check", folder.study(study), "--dry")
    space = parse(RICH)
    lines = done.out.splitlines()
    assert f"space      {len(space.free)} free parameters, infinitely many configurations" in lines
    assert f"grid       {space.grid_size:,} points" in lines
    assert sum(line.startswith("example ") for line in lines) == 3
    assert "baseline   {x: 0.3, optimizer: adam, depth: 0, width: [], dropout: []}" in lines
    assert '           skip: {choice: [1, 2], when: {depth: ">= 2"}}' in lines

    plan = folder.hpo("check", folder.study(study), "--dry", "--json").json
    assert plan["n_grid_points"] == space.grid_size
    assert len(plan["examples"]) == 3
    assert all(len(config["width"]) == config["depth"] for config in plan["examples"])


def test_the_examples_of_a_grid_are_points_of_it(folder: Folder) -> None:
    space = {"x": {"float": [0, 1], "points": 3}, "y": [1, 2, 3], "require": "y > 1"}
    study = _study(space=space, search={"sampler": "grid"})
    plan = folder.hpo("check", folder.study(study), "--dry", "--json").json
    assert len(plan["examples"]) == 3
    assert all(e["x"] in (0.0, 0.5, 1.0) and e["y"] > 1 for e in plan["examples"])


def test_a_grid_without_an_allowed_point_is_a_mistake(folder: Folder) -> None:
    space = {"x": {"float": [0, 1], "points": 3}, "require": "x > 0.6 and x < 0.9"}
    done = folder.hpo("check", folder.study(_study(space=space, search={"sampler": "grid"})))
    assert done.code == 1
    assert "space.require: no point of the grid meets it; loosen it, or give" in done.err


def test_check_says_which_parameters_have_no_grid(folder: Folder) -> None:
    study = _study(space={"x": {"float": [0, 1]}, "y": [1, 2], "z": {"float": [0, 1]}})
    done = folder.hpo("check", folder.study(study), "--dry")
    assert (
        "grid       none: x, z have no list of values (`points: 5` or `step:` gives one)"
        in done.out
    )
    assert folder.hpo("check", folder.study(study), "--dry", "--json").json["n_grid_points"] is None


def test_a_run_warns_once_and_goes_on(folder: Folder) -> None:
    study = _study(space={"x": {"float": [0.001, 1]}}, search={"sampler": "random", "trials": 2})
    done = folder.hpo("run", folder.study(study))
    assert done.code == 0
    assert done.err.count("warning: space.x: [0.001, 1.0] is searched on a linear scale") == 1


# --- mistakes ---


@pytest.mark.parametrize(
    ("space", "mistakes"),
    [
        (
            {"depth": {"int": [1, 3]}, "x": {"float": [0, 1], "when": {"dept": ">= 2"}}},
            ["space.x.when.dept: the space has no 'dept'. Did you mean 'depth'?"],
        ),
        (
            {"depth": {"int": [1, 3]}, "x": {"float": [0, 1], "when": {"depth": "> 3"}}},
            ["space.x.when.depth: 'depth' is never > 3."],
        ),
        (
            {"depth": {"int": [1, 3]}, "x": {"float": [0, 1], "when": {"depth": "=> 3"}}},
            ['space.x.when.depth: "=> 3" is not a comparison; write ">= 3".'],
        ),
        (
            {"depth": {"int": [1, 3]}, "x": {"float": [0, 1], "when": {"depth": "3"}}},
            ["'depth' is a number and never the text \"3\"; remove the quotes: 3."],
        ),
        (
            {"x": {"float": [0, 1]}, "require": ["x < epochs", "x + 1", "x <", "x = 1"]},
            [
                "space.require.0: 'x < epochs': set objective.epochs, or search 'epochs'.",
                "space.require.3: cannot read 'x = 1' (two values are compared with ==)",
                "space.require.1: 'x + 1' is a number; compare it with something",
                "space.require.2: cannot read 'x <'",
            ],
        ),
        (
            {"depth": {"int": [1, 3]}, "x": {"int": [1, 9], "per": "dpth"}},
            ["space.x.per:", "Did you mean 'depth'?"],
        ),
        (
            {"x": {"float": [0, 1], "prior": 2}, "y": {"choice": ["a", "b"], "prior": "c"}},
            ["space.x.prior: 2 is not in [0, 1]", "space.y.prior: c is not among [a, b]"],
        ),
        (
            {"a": {"int": [1, 9], "when": {"b": ">= 2"}}, "b": {"int": [1, 9], "per": "a"}},
            ["space.a.when.b: 'b' has a value for each a"],
        ),
    ],
)
def test_a_mistake_in_a_space_is_named_with_its_place(
    folder: Folder, space: dict[str, Any], mistakes: list[str]
) -> None:
    done = folder.hpo("check", folder.study(_study(space=space)), "--dry")
    assert done.code == 1
    for mistake in mistakes:
        assert mistake in done.err


def test_a_comparison_without_quotes_is_told(folder: Folder) -> None:
    folder.write("study.yaml", "space:\n  x: {float: [0, 1], when: {depth: >= 3}}\n")
    done = folder.hpo("check", "study.yaml")
    assert done.code == 1
    assert "study.yaml:2: not valid YAML: found" in done.err
    assert 'a comparison stands in quotes: ">= 3".' in done.err


@pytest.mark.parametrize(
    ("space", "mistake"),
    [
        (
            {"depth": {"int": [1, 3]}, "learning_rate": {"float": [0.1, 1], "per": "depth"}},
            "space.learning_rate.per: 'learning_rate' has one value in a trial; drop `per`.",
        ),
        (
            {"batch_size": {"int": [1, 3]}, "width": {"int": [8, 16], "per": "batch_size"}},
            "space.width.per: 'width' may have a value for each of 'depth'; write per: depth.",
        ),
    ],
)
def test_a_vector_that_the_trainer_does_not_take_is_a_mistake(
    folder: Folder, space: dict[str, Any], mistake: str
) -> None:
    done = folder.hpo("check", folder.study(_digits(space)), "--dry")
    assert done.code == 1
    assert mistake in done.err
