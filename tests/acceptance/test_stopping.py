"""Stopping rules stop the bad trials, and say which rule it was."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.harness import Folder, Study

# Each trial is worse than all before it, from its first step on.
OBJECTIVES = """
import optuna


def worse_and_worse(trial):
    for step in range(1, 10):
        with open("steps.txt", "a") as steps:
            steps.write(f"{trial.number}\\n")
        trial.report(step, loss=trial.number + 1 / step, accuracy=-trial.number - 1 / step)
    return {"loss": float(trial.number), "accuracy": -float(trial.number)}


def worse_and_worse_steps(trial):
    for step in range(1, 10):
        with open("steps.txt", "a") as steps:
            steps.write(f"{trial.number}\\n")
        yield {"loss": trial.number + 1 / step, "accuracy": -trial.number - 1 / step}


def rises(trial):
    for step in range(1, 10):
        trial.report(step, loss=trial.number + 0.1 * step)
    return {"loss": trial.number + 1.0}


def gives_up(trial):
    trial.report(1, loss=1.0)
    raise optuna.TrialPruned("not worth it")


def reports_another(trial):
    for step in range(1, 10):
        trial.report(step, accuracy=-float(trial.number))
    return {"loss": float(trial.number)}
"""


def study(
    rule: str | dict[str, Any], function: str = "worse_and_worse", metric: str = "loss"
) -> Study:
    return {
        "name": "s",
        "objective": {
            "function": f"objectives:{function}",
            "metric": metric,
            "direction": "minimize" if metric == "loss" else "maximize",
        },
        "space": {"x": {"float": [0, 1]}},
        "search": {"sampler": "random", "trials": 8},
        "stopping": {"rule": rule} if isinstance(rule, str) else rule,
    }


@pytest.fixture(autouse=True)
def _objectives(folder: Folder) -> None:
    folder.write("objectives.py", OBJECTIVES)


@pytest.mark.parametrize(
    ("rule", "kept", "metric", "function"),
    [
        ({"rule": "median", "startup_trials": 3}, 3, "loss", "worse_and_worse"),
        ({"rule": "median", "startup_trials": 3}, 3, "accuracy", "worse_and_worse_steps"),
        ({"rule": "percentile", "percentile": 50}, 5, "accuracy", "worse_and_worse"),
        ({"rule": "asha", "reduction": 2}, 1, "loss", "worse_and_worse_steps"),
        ({"rule": "asha", "reduction": 2}, 1, "accuracy", "worse_and_worse"),
    ],
    ids=["median", "median-max", "percentile-max", "asha", "asha-max"],
)
def test_a_rule_stops_bad_trials_at_once_and_is_named(
    folder: Folder, rule: dict[str, Any], kept: int, metric: str, function: str
) -> None:
    done = folder.hpo("run", folder.study(study(rule, function, metric)))

    assert done.code == 0
    trials = folder.trials("s")
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * kept + ["PRUNED"] * (8 - kept)
    for trial in trials[kept:]:
        assert trial["stopped_by"].startswith(rule["rule"])
        assert trial["n_steps"] == 1
        assert trial["failure"] is None
        assert f"PRUNED {metric} " in done.events[trial["trial"]]
        assert trial["stopped_by"] in done.events[trial["trial"]]
    assert [trial["stopped_by"] for trial in trials[:kept]] == [None] * kept
    steps = (folder.path / "steps.txt").read_text().split()
    assert len(steps) == 9 * kept + (8 - kept)  # nothing runs on after it was stopped


@pytest.mark.parametrize(
    ("rule", "function", "reason"),
    [
        (
            {"rule": "hyperband", "max_steps": 9, "reduction": 2},
            "worse_and_worse",
            "hyperband at step 2: 2.5 is not among the best 1 of 2",
        ),
        (
            {"rule": "patience", "patience": 3},
            "rises",
            "patience at step 5: no better than 2.1 for 4",
        ),
        (
            {"rule": "patience", "patience": 3, "wrapped": "median", "startup_trials": 0},
            "rises",
            "patience at step 5: no better than 2.1 for 4 steps; median at step 5: best so far 2.1",
        ),
        (
            {"rule": "wilcoxon", "p_threshold": 0.05},
            "worse_and_worse",
            "wilcoxon at step 5: mean 2.457, of trial 0 0.4567 over the same steps (p below 0.05)",
        ),
    ],
    ids=["hyperband", "patience", "patience-median", "wilcoxon"],
)
@pytest.mark.parametrize("workers", [None, 2])
def test_optunas_other_rules_stop_trials_and_say_why(
    folder: Folder, rule: dict[str, Any], function: str, reason: str, workers: int | None
) -> None:
    values = study(rule, function)
    if workers:
        values["run"] = {"workers": workers}
    done = folder.hpo("run", folder.study(values))

    stopped = [trial for trial in folder.trials("s") if trial["state"] == "PRUNED"]
    assert stopped
    assert done.code == (1 if len(stopped) == 8 else 0), done.err
    assert all(trial["stopped_by"].startswith(f"{rule['rule']} at step ") for trial in stopped)
    if not workers:
        (second,) = [trial for trial in stopped if trial["trial"] == 2]
        assert second["stopped_by"].startswith(reason)


def test_warmup_steps_are_run_by_every_trial(folder: Folder) -> None:
    rule = {"rule": "median", "startup_trials": 2, "warmup_steps": 4}

    folder.hpo("run", folder.study(study(rule)))

    pruned = [trial for trial in folder.trials("s") if trial["state"] == "PRUNED"]
    assert len(pruned) == 6
    assert {trial["n_steps"] for trial in pruned} <= {4, 5}


def test_none_stops_nothing(folder: Folder) -> None:
    folder.hpo("run", folder.study(study("none")))

    assert {(t["state"], t["n_steps"]) for t in folder.trials("s")} == {("COMPLETE", 9)}


def test_a_trial_that_raises_trial_pruned_is_pruned_by_itself(folder: Folder) -> None:
    folder.hpo("run", folder.study(study("none", "gives_up")))

    trials = folder.trials("s")
    assert {trial["state"] for trial in trials} == {"PRUNED"}
    assert {trial["stopped_by"] for trial in trials} == {"not worth it"}


def test_a_rule_judges_by_the_objectives_metric_alone(folder: Folder) -> None:
    folder.hpo("run", folder.study(study({"rule": "asha"}, "reports_another")))

    assert folder.states("s") == {"COMPLETE": 8}


def test_a_study_whose_trials_were_all_stopped_says_why_there_is_no_best(folder: Folder) -> None:
    values = study({"rule": "patience", "patience": 3}, "rises")
    done = folder.hpo("run", folder.study(values))

    assert done.code == 1
    assert (
        "No best trial: none of 8 trials is complete, as the best has to be: 8 were stopped, "
        "trial 7 by patience at step 5: no better than 7.1 for 4 steps. Let others run to their "
        "end: hpo resume s --set stopping.rule=none --set search.trials=16\n"
    ) in done.err

    more = ("--set", "stopping.rule=none", "--set", "search.trials=16")
    assert folder.hpo("resume", "s", *more).code == 0
    assert folder.states("s") == {"PRUNED": 8, "COMPLETE": 8}


def test_trials_that_all_stopped_themselves_have_no_rule_to_change(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study("none", "gives_up")))

    assert done.code == 1
    assert "8 were stopped, trial 7 by not worth it.\n" in done.err


def test_early_stopping_of_a_trainer_is_its_own_field(folder: Folder) -> None:
    values = study({"rule": "patience", "patience": 1})
    values["objective"] = {
        "trainer": "classifier", "data": "iris", "metric": "val_loss", "epochs": 30
    }  # fmt: skip
    values["space"] = {"learning_rate": 10.0, "patience": 20, "depth": [0, 1]}
    values["search"] = {"sampler": "grid"}
    done = folder.hpo("run", folder.study(values))

    assert done.code == 1
    advice = "Early stopping is the trainer's own field, `space: {patience: 5}`"
    assert done.err.count(advice) == 2  # before the first trial, and at the end
    saved = folder.hpo("show", "s", "--json").json["early_stopping"]
    assert saved["steps_run"] + saved["steps_saved"] == 60  # though none has shown how long one is
