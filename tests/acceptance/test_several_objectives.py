"""Several metrics at once, and constraints: the front, the gate, what is infeasible, and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import optuna
import pytest

import hpo
from tests.acceptance.harness import Folder, Study

SCHAFFER = """
import optuna

def train(trial):
    x, y = trial.x, trial.get("y", 0)
    return {"near": x**2 + y, "far": (x - 2)**2 + y, "size": 4 - x}

def steps(trial):
    for step in range(1, 4):
        yield {"near": trial.x + 1 / step, "far": -trial.x}

def faulty(trial):
    return [{"near": 1.0}, {"near": 0.0, "far": float("nan")}, {"near": 1, "far": 2}][trial.x]

def gives_up(trial):
    trial.report(1, near=trial.x, far=-trial.x)
    if trial.number % 3 == 0:
        raise optuna.TrialPruned("seen enough")
    return {"near": trial.x, "far": -trial.x}

def lazy(trial):
    return {"near": trial.x, "size": trial.x} if trial.x else {"near": trial.x}
"""
"""The first is Schaffer's first problem: with y = 0, all of 0 <= x <= 2 and nothing else is on
the front."""

GRID = {"x": {"int": [-1, 4]}, "y": {"int": [0, 1]}}


def study(function: str = "train", **more: Any) -> Study:
    return {
        "name": "s",
        "objective": {
            "function": f"schaffer:{function}",
            "metric": ["near", "far"],
            "direction": "minimize",
        },
        "space": GRID,
        "search": {"sampler": "grid"},
        **more,
    }


def single(function: str = "train", **more: Any) -> Study:
    """x from 0 to 3, the less the better, and a size of 4, 3, 2, 1."""
    objective = {"function": f"schaffer:{function}", "metric": "near"}
    return study(**{"objective": objective, "space": {"x": {"int": [0, 3]}}, **more})


@pytest.fixture(autouse=True)
def _function(folder: Folder) -> None:
    folder.write("schaffer.py", SCHAFFER)


def undominated(trials: Sequence[Mapping[str, Any]]) -> set[int]:
    """Numbers of the COMPLETE trials that no other dominates, by comparing all pairs."""
    complete = [t for t in trials if t["state"] == "COMPLETE"]
    values = {t["trial"]: tuple(t["values"].values()) for t in complete}
    beaten = {
        one
        for one, other in product(values, values)
        if values[one] != values[other]
        and all(b <= a for a, b in zip(values[one], values[other], strict=True))
    }
    return values.keys() - beaten


def rows(table: str) -> list[list[str]]:
    """The cells of a printed table's rows that have no blanks in them."""
    lines = table.splitlines()
    rule = next(i for i, line in enumerate(lines) if "──" in line)
    return [line.split() for line in lines[rule + 1 :] if line.strip()]


def test_the_front_of_a_grid_is_the_known_one(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study()), "--json")

    assert done.code == 0
    front = done.json["front"]
    assert [trial["params"] for trial in front] == [{"x": x, "y": 0} for x in (0, 1, 2)]
    assert [trial["values"] for trial in front] == [
        {"near": x**2, "far": (x - 2) ** 2} for x in (0, 1, 2)
    ]
    assert done.json["best"] == front[0]
    assert done.json["best"]["value"] == 0
    assert done.json["metrics"] == {"near": "minimize", "far": "minimize"}
    # Up to the worst observed, (17, 10): steps of the front's width, each as high as is left.
    assert done.json["hypervolume"] == (1 - 0) * (10 - 4) + (4 - 1) * (10 - 1) + (17 - 4) * 10


@pytest.mark.parametrize("sampler", ["random", "tpe", "gp"])
def test_no_trial_dominates_one_of_the_front_whatever_the_sampler(
    folder: Folder, sampler: str
) -> None:
    space = {"x": {"float": [-4, 4]}, "y": {"float": [0, 1]}}
    search = {"sampler": sampler, "trials": 10, "startup_trials": 7}
    file = folder.study(study(space=space, search=search))

    assert folder.hpo("run", file).code == 0

    trials = folder.trials("s")
    shown = folder.hpo("show", "s", "--json").json
    assert len(trials) == 10
    assert {trial["trial"] for trial in shown["front"]} == undominated(trials)
    nears = [trial["value"] for trial in shown["front"]]
    assert nears == sorted(nears)


def test_each_metric_has_its_direction(folder: Folder) -> None:
    objective = {
        "function": "schaffer:train",
        "metric": ["size", "near"],
        "direction": ["maximize", "minimize"],
    }
    space = {"x": {"int": [-1, 2]}}

    done = folder.hpo("run", folder.study(study(objective=objective, space=space)), "--json")

    assert [trial["params"]["x"] for trial in done.json["front"]] == [-1, 0]
    assert done.json["best"]["values"] == {"size": 5, "near": 1}


def test_people_see_the_front_first(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study()))

    assert done.out.split()[:6] == ["#", "trial", "near", "far", "x", "y"]
    # At x = 0, 1, 2, then with y = 1 there; at x = -1, 3, and with y = 1 there. Ten are shown.
    assert [row[0] for row in rows(done.out)] == ["1"] * 3 + ["2"] * 3 + ["3"] * 2 + ["4"] * 2
    assert done.events[0].startswith("trial 0 COMPLETE near ")
    assert ", far " in done.events[0]
    best = rows(folder.hpo("best", "s").out)
    assert [row[2:4] for row in best] == [["0", "4"], ["1", "1"], ["4", "0"]]
    assert "minimize near, minimize far" in folder.hpo("show", "s").out


@pytest.mark.parametrize(
    ("gate", "code", "sentence"),
    [
        ({"near": "<= 1", "far": "<= 1"}, 0, "gate passed by trial {1}: near 1 is <= 1; far 1 is"),
        ({"far": "<= 0"}, 0, "gate passed by trial {2}: far 0 is <= 0."),
        (
            {"near": "<= 0.5", "far": "<= 3"},
            3,
            "gate failed: no trial of the front passes; of trial {0}, far 4 is not <= 3.",
        ),
    ],
)
def test_a_gate_passes_if_one_trial_of_the_front_does(
    folder: Folder, gate: dict[str, str], code: int, sentence: str
) -> None:
    file = folder.study(study(gate=gate))

    done = folder.hpo("run", file)
    again = folder.hpo("run", file, "--json").json

    assert done.code == code
    by_x = {trial["params"]["x"]: trial["trial"] for trial in again["front"]}
    assert sentence.format(*(by_x[x] for x in range(3))) in done.err
    assert again["gate"]["passed"] == (code == 0)
    assert again["gate"]["trial"] in by_x.values()


def test_a_metric_that_is_missing_or_not_finite_fails_its_trial(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study("faulty", space={"x": {"int": [0, 2]}})), "--json")

    messages = {t["params"]["x"]: t["failure"] for t in folder.trials("s")}
    assert messages[0]["message"] == "no metric 'far' was reported; reported was: near"
    assert messages[1] == {"kind": "DIVERGED", "message": "far became nan"}
    assert [trial["params"]["x"] for trial in done.json["front"]] == [2]


def test_steps_of_several_metrics_are_counted(folder: Folder) -> None:
    folder.hpo("run", folder.study(study("steps", space={"x": {"int": [0, 1]}})))

    assert [trial["n_steps"] for trial in folder.trials("s")] == [3, 3]


def test_a_trial_may_stop_itself_in_a_search_for_several_metrics(folder: Folder) -> None:
    search = {"sampler": "tpe", "trials": 9, "startup_trials": 3}
    values = study("gives_up", space={"x": {"float": [0, 1]}}, search=search)

    assert folder.hpo("run", folder.study(values)).code == 0

    assert folder.states("s") == {"PRUNED": 3, "COMPLETE": 6}


def test_the_best_value_is_not_the_best_where_it_breaks_a_constraint(folder: Folder) -> None:
    values = single(constraints={"size": "<= 2"}, gate={"near": "<= 1"})

    done = folder.hpo("run", folder.study(values), "--json")

    assert done.code == 3  # x = 0 and x = 1 would pass
    assert done.json["best"]["params"] == {"x": 2}
    assert done.json["gate"]["checks"][0]["value"] == 4
    assert done.json["constraints"] == {"size": "<= 2"}
    trials = {trial["params"]["x"]: trial for trial in folder.trials("s")}
    assert [trials[x]["feasible"] for x in range(4)] == [False, False, True, True]
    assert trials[0]["violations"] == [
        {"metric": "size", "requirement": "<= 2", "value": 4.0, "passed": False}
    ]
    listed = folder.hpo("trials", "s").out
    assert "violates size <= 2 (4)" in listed
    assert "violates size <= 2 (3)" in listed
    assert [row[0] for row in rows(folder.hpo("show", "s").out)] == ["1", "2", "-", "-"]


def test_nothing_is_the_best_where_no_trial_keeps_the_constraints(folder: Folder) -> None:
    file = folder.study(single(constraints={"size": "<= 0.5"}, gate={"near": "<= 100"}))
    sentence = "no trial keeps the constraints; the nearest is trial {}: size 1 is not <= 0.5"

    done = folder.hpo("run", file)
    again = folder.hpo("run", file, "--json")

    nearest = next(t["trial"] for t in folder.trials("s") if t["params"]["x"] == 3)
    sentence = sentence.format(nearest)
    assert done.code == again.code == 3
    assert f"gate failed: {sentence}." in done.err
    assert "best so far" not in done.err
    assert again.json["best"] is None
    assert again.json["front"] == []
    assert again.json["why_no_best"] == f"{sentence}."
    assert not again.json["gate"]["passed"]
    assert sentence in folder.hpo("show", "s").out
    best = folder.hpo("best", "s")
    assert best.code == 1
    assert sentence in best.err
    ungated = folder.hpo("run", folder.study(single(constraints={"size": "<= 0.5"})))
    assert ungated.code == 0
    assert f"No best trial: {sentence}." in ungated.err


def test_a_constraint_that_was_not_reported_is_broken(folder: Folder) -> None:
    file = folder.study(single("lazy", constraints={"size": "<= 3"}))

    done = folder.hpo("run", file, "--json")

    assert done.json["best"]["params"] == {"x": 1}
    assert "violates size <= 3 (not reported)" in folder.hpo("trials", "s").out


def test_a_changed_constraint_holds_for_the_trials_there_are(folder: Folder) -> None:
    file = folder.study(single(constraints={"size": "<= 2"}))
    folder.hpo("run", file)

    looser = folder.hpo("resume", "s", "--set", "constraints.size='<= 3'", "--json").json
    loosest = folder.hpo("run", folder.study(single()), "--json").json
    optunas = optuna.load_study(study_name="s", storage=f"sqlite:///{folder.path}/hpo.db")

    assert looser["best"]["params"] == {"x": 1}
    assert loosest["best"]["params"] == {"x": 0} == optunas.best_trial.params
    assert sum(loosest["n_trials"].values()) == 4


def test_a_baseline_is_compared_in_all_metrics(folder: Folder) -> None:
    beaten = folder.hpo("run", folder.study(study(baseline={"x": 3, "y": 0})))
    assert "beats the baseline: near 1 against 9, far 1 against 1." in beaten.err

    best = folder.hpo("run", folder.study(study(name="t", baseline={"x": 1, "y": 0})))
    assert "No trial beats the baseline: near 1, far 1." in best.err

    values = single(name="u", baseline={"x": 0}, constraints={"size": "<= 2"})
    infeasible = folder.hpo("run", folder.study(values))
    assert "The baseline (trial 0) violates size <= 2 (4)." in infeasible.err


@pytest.mark.parametrize("sampler", ["tpe", "gp", "skopt"])
def test_plain_optuna_sees_the_constraints(folder: Folder, sampler: str) -> None:
    search = {"sampler": sampler, "trials": 8, "startup_trials": 4}
    space = {"x": {"float": [0, 3]}}
    values = single(constraints={"size": "<= 2.5"}, search=search, space=space)

    best = folder.hpo("run", folder.study(values), "--json").json["best"]

    optunas = optuna.load_study(study_name="s", storage=f"sqlite:///{folder.path}/hpo.db")
    assert optunas.best_trial.number == best["trial"]
    feasible = [t["trial"] for t in folder.trials("s") if t["feasible"]]
    assert feasible == [
        t.number for t in optunas.trials if all(v <= 0 for v in t.constraints.values())
    ]
    assert 0 < len(feasible) < 8


def test_a_study_by_plain_optuna_shows_its_front_and_its_constraints(folder: Folder) -> None:
    url = f"sqlite:///{folder.path}/hpo.db"
    theirs = optuna.create_study(
        study_name="theirs", storage=url, directions=["minimize", "maximize"]
    )

    def objective(trial: optuna.Trial) -> tuple[float, float]:
        x = trial.suggest_int("x", 0, 5)
        trial.set_constraint("memory", float(x - 3))
        return float(x), float(min(x, 4))

    for x in range(6):
        theirs.enqueue_trial({"x": x})
    theirs.optimize(objective, n_trials=6)

    front = folder.hpo("best", "theirs", "--json").json["front"]
    assert [trial["params"]["x"] for trial in front] == [0, 1, 2, 3]
    assert [trial["values"] for trial in front] == [{"value_0": x, "value_1": x} for x in range(4)]
    assert {t.number for t in theirs.best_trials} == {trial["trial"] for trial in front}
    assert "violates memory <= 0 (2)" in folder.hpo("trials", "theirs").out
    for command in ("show", "best"):
        assert folder.hpo(command, "theirs").code == 0


def _python(trial: Any) -> dict[str, float]:
    return {"near": trial.x**2, "far": (trial.x - 2) ** 2, "size": 4 - trial.x}


def test_python_searches_for_several_metrics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    space = {"x": {"int": [-1, 3]}}

    first = hpo.search(
        _python,
        space=space,
        metric=["near", "far"],
        direction="minimize",
        constraints={"size": "<= 3"},
        sampler="grid",
        trials=5,
        name="s",
        tracking="none",
    )
    result = hpo.run(study(name="t", space=space), tracking="none")

    assert first.params == {"x": 1} == hpo.best("s").params
    assert first.values == {"near": 1, "far": 1}
    assert [trial.params["x"] for trial in result.front] == [0, 1, 2]
    assert result.best == result.front[0]


def test_python_is_told_when_no_trial_keeps_the_constraints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    with pytest.raises(hpo.HpoError, match=r"no trial keeps .* trial 0: size 3 is not <= 1"):
        hpo.search(
            _python,
            space={"x": 1},
            metric="near",
            constraints={"size": "<= 1"},
            trials=1,
            tracking="none",
        )
