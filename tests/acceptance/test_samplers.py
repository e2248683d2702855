"""Samplers from outside: a finite space is searched exactly once, and then the study ends.

That one seed gives one study is shown in test_interrupts.py, with and without interruption.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Folder, Starter, Study

SAMPLERS = ("grid", "random", "sobol", "tpe", "gp", "skopt", "bayesian")
FLAT = {"x": {"int": [0, 1]}, "kind": ["a", "b", "c"]}  # 6 configurations
CONDITIONAL = {  # 2 * (2 + 1) = 6
    "x": {"int": [0, 1]},
    "kind": ["a", "b"],
    "y": {"float": [0.0, 0.5], "step": 0.5, "when": {"kind": "a"}},
}
OBJECTIVES = """
def train(trial):
    with open("calls.txt", "a") as calls:
        calls.write(f"{trial.number}\\n")
    penalty = {"a": 0.0, "b": 0.5, "c": 0.7}[trial.get("kind", "a")]
    loss = (trial.x - 0.3) ** 2 + penalty + trial.get("y", 0.2)
    trial.report(1, loss=loss + 1)
    return loss
"""


def study(sampler: str, space: dict[str, Any], **search: Any) -> Study:
    return {
        "name": "s",
        "objective": {"function": "objectives:train", "metric": "loss"},
        "space": space,
        "search": {"sampler": sampler, "startup_trials": 3, **search},
    }


def prepared(folder: Folder, values: Study) -> str:
    folder.write("objectives.py", OBJECTIVES)
    return folder.study(values)


def started(tmp_path: Path, starter: Starter, *several: Study) -> list[Folder]:
    """Runs studies at once, each in a folder of its own."""
    folders = [Folder(tmp_path / str(place), starter) for place in range(len(several))]
    running = []
    for folder, values in zip(folders, several, strict=True):
        folder.path.mkdir()
        running.append(folder.start("run", prepared(folder, values)))
    ended = [process.done() for process in running]
    assert [done.code for done in ended] == [0] * len(several), ended
    return folders


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_finite_space_is_exhausted_without_repeats_and_the_study_ends_by_itself(
    tmp_path: Path, starter: Starter, sampler: str
) -> None:
    spaces = (FLAT, CONDITIONAL)
    folders = started(tmp_path, starter, *(study(sampler, space, trials=100) for space in spaces))

    for folder, space in zip(folders, spaces, strict=True):
        trials = folder.trials("s")
        assert {trial["state"] for trial in trials} == {"COMPLETE"}
        assert len({json.dumps(trial["params"], sort_keys=True) for trial in trials}) == 6
        assert len(trials) == 6 == len(folder.calls())
        for trial in trials:
            conditional = space is CONDITIONAL and trial["params"]["kind"] == "a"
            assert ("y" in trial["params"]) == conditional


def test_another_seed_gives_other_trials(folder: Folder) -> None:
    file = prepared(folder, study("random", {"x": {"float": [0, 1]}}, trials=3))

    folder.hpo("run", file)
    folder.hpo("run", file, "--set", "name=other", "--set", "search.seed=1")

    params = [[trial["params"] for trial in folder.trials(name)] for name in ("s", "other")]
    assert params[0] != params[1]


def test_a_grid_is_exhausted_exactly_once_also_in_two_runs(folder: Folder) -> None:
    file = prepared(folder, study("grid", FLAT, trials=4))
    assert len(folder.hpo("run", file).events) == 4

    more = folder.hpo("resume", "s", "--set", "search.trials=100")
    again = folder.hpo("resume", "s")

    assert more.code == again.code == 0
    assert len(more.events) == 2
    assert again.events == []
    params = [json.dumps(trial["params"]) for trial in folder.trials("s")]
    assert len(params) == len(set(params)) == 6


def test_a_grid_without_trials_takes_all_of_its_points(folder: Folder) -> None:
    done = folder.hpo("run", prepared(folder, study("grid", CONDITIONAL)))

    assert len(done.events) == 6


def test_a_timeout_ends_the_study_without_a_number_of_trials(folder: Folder) -> None:
    values = study("random", {"x": {"float": [0, 1]}}, timeout="0.2s")

    done = folder.hpo("run", prepared(folder, values), "--json")

    assert done.code == 0
    assert done.json["state"] == "finished"
    assert done.json["n_trials"]["complete"] >= 1


def test_maximize_ranks_the_largest_first(folder: Folder) -> None:
    values = study("grid", {"x": {"int": [0, 3]}})
    values["objective"]["direction"] = "maximize"

    done = folder.hpo("run", prepared(folder, values), "--json")

    assert done.json["best"]["params"] == {"x": 3}
    assert done.json["best"]["value"] == max(trial["value"] for trial in folder.trials("s"))


def test_a_space_of_one_configuration_is_one_trial(folder: Folder) -> None:
    done = folder.hpo("run", prepared(folder, study("bayesian", {"x": 2}, trials=5)))

    assert done.code == 0
    assert len(folder.calls()) == 1
    assert folder.states("s") == {"COMPLETE": 1}
