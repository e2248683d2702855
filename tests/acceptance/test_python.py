"""hpo from Python: `hpo.run`, `hpo.search`, `hpo.best` do what the commands do."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import hpo
from tests.acceptance.harness import Folder

SPACE = {"x": {"float": [0, 1]}, "kind": ["a", "b"]}


@pytest.fixture(autouse=True)
def _in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "none")
    monkeypatch.delenv("HPO_STORAGE", raising=False)


def by_attribute(trial: Any) -> float:
    return float((trial.x - 0.3) ** 2 + (trial.kind == "b"))


def by_key(config: Any) -> dict[str, float]:
    return {"value": (config["x"] - 0.3) ** 2 + (config["kind"] == "b"), "size": 3}


def steps(trial: Any) -> Iterator[dict[str, float]]:
    for step in range(1, 4):
        yield {"value": (trial.x - 0.3) ** 2 + 1 / step}


def reports(trial: hpo.Trial) -> float:
    for step in range(1, 4):
        trial.report(step, value=trial.number + 1 / step)
    return float(trial.number)


@pytest.mark.parametrize("function", [by_attribute, by_key, steps])
def test_search_finds_the_best_configuration_of_a_function(function: Any) -> None:
    best = hpo.search(function, space=SPACE, trials=12, sampler="random", name="s")

    assert best.params.keys() == {"x", "kind"}
    assert best.value == min(t["value"] for t in _trials("s") if t["value"] is not None)
    assert hpo.best("s") == best


def test_search_stops_reporting_trials_by_a_rule() -> None:
    stopping = {"rule": "median", "startup_trials": 2}

    best = hpo.search(reports, space=SPACE, trials=6, sampler="random", name="s", stopping=stopping)

    assert best.number == 0
    assert [trial["state"] for trial in _trials("s")] == ["COMPLETE"] * 2 + ["PRUNED"] * 4


def test_search_maximizes_a_named_metric() -> None:
    best = hpo.search(
        lambda trial: {"accuracy": trial.x},
        space={"x": {"int": [0, 4]}},
        metric="accuracy",
        direction="maximize",
        sampler="grid",
        trials=5,
    )

    assert best.params == {"x": 4}
    assert best.metrics == {"accuracy": 4.0}


def test_a_trial_gives_its_config_as_a_dict_and_a_folder_for_checkpoints() -> None:
    seen: list[Any] = []

    def train(trial: hpo.Trial) -> float:
        seen.extend([trial.config, trial.checkpoint_dir, trial.checkpoint_dir.is_dir()])
        return 0.0

    hpo.search(train, space={"x": 1, "kind": ["a"]}, trials=1, name="s")

    folder = Path("hpo-runs/s/trial-00000/checkpoints").resolve()
    assert seen == [{"x": 1, "kind": "a"}, folder, True]


def test_search_again_under_the_same_name_goes_on() -> None:
    hpo.search(by_attribute, space=SPACE, trials=3, sampler="random", name="s")

    hpo.search(by_attribute, space=SPACE, trials=5, sampler="random", name="s")

    assert len(_trials("s")) == 5


def test_search_makes_up_a_new_name_each_time() -> None:
    for _ in range(2):
        hpo.search(by_attribute, space=SPACE, trials=1, sampler="random")

    names = [study.name for study in _studies()]
    assert len(set(names)) == 2
    assert all(name.startswith("by_attribute-") for name in names)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"space": {"x": {"float": [1, 0]}}}, "space.x.float"),
        ({"sampler": "randm"}, "Did you mean 'random'?"),
        ({"direction": "up"}, "direction"),
        ({"trials": 0}, "trials"),
        ({"stopping": "medain"}, "Did you mean 'median'?"),
        ({"storage": "mysql://host/d"}, "not mysql"),
        ({"timeout": "soon"}, "timeout"),
    ],
)
def test_search_with_a_wrong_argument_is_an_hpo_error_that_names_it(
    arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(hpo.HpoError, match=message):
        hpo.search(by_attribute, **{"space": SPACE, "trials": 1, **arguments})


def test_search_without_any_complete_trial_raises_the_last_failure() -> None:
    def fails(trial: Any) -> float:
        raise RuntimeError(f"x is {trial.x}")

    with pytest.raises(hpo.HpoError, match="RuntimeError: x is 1"):
        hpo.search(fails, space={"x": 1}, trials=1, sampler="random")


def test_run_takes_a_mapping_and_gives_a_result_to_read() -> None:
    values = {
        "name": "s",
        "objective": {"function": "objectives:train", "metric": "loss"},
        "space": {"x": {"int": [0, 3]}},
        "search": {"sampler": "grid"},
        "gate": {"loss": "<= 0"},
    }
    before = repr(values)
    Path("objectives.py").write_text("def train(trial): return float(trial.x)\n")

    result = hpo.run(values, "search.trials=4")

    assert result.outcome.state == "finished"
    assert [trial.state for trial in result.trials] == ["COMPLETE"] * 4
    assert result.best is not None
    assert result.best.params == {"x": 0}
    assert result.verdict is not None
    assert result.verdict.passed
    assert repr(values) == before


@pytest.mark.parametrize("as_text", [True, False])
def test_run_takes_a_path_and_overrides_like_the_command(folder: Folder, *, as_text: bool) -> None:
    folder.write("functions.py", "def train(trial): return float(trial.x)\n")
    file = folder.study(
        {
            "objective": {"function": "functions:train", "metric": "loss"},
            "space": {"x": {"int": [0, 9]}},
            "search": {"sampler": "random", "trials": 5},
        },
        "mine.yaml",
    )

    result = hpo.run(file if as_text else Path(file), "search.trials=3")

    told = [(trial["params"], trial["value"]) for trial in folder.trials("mine")]
    assert told == [(trial.params, trial.value) for trial in result.trials]
    assert len(told) == 3
    assert hpo.best("mine") == result.best


def test_two_folders_may_have_functions_of_the_same_name(tmp_path: Path) -> None:
    values = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        folder.mkdir()
        (folder / "same_name.py").write_text(f"def train(trial): return {number}\n")
        (folder / "study.yaml").write_text(
            f"name: s{number}\n"
            "objective: {function: 'same_name:train', metric: loss}\n"
            "space: {x: 1}\n"
        )
        best = hpo.run(folder / "study.yaml").best
        assert best is not None
        values.append(best.value)

    assert values == [1.0, 2.0]


def test_best_of_an_unknown_study_is_an_hpo_error() -> None:
    hpo.search(by_attribute, space=SPACE, trials=1, sampler="random", name="digits")

    with pytest.raises(hpo.HpoError, match="Did you mean 'digits'"):
        hpo.best("digit")


@pytest.mark.parametrize("file", ["my-search.py", "-"])
def test_a_search_may_stand_in_a_file_of_any_name_or_be_piped(tmp_path: Path, file: str) -> None:
    code = """
import hpo

def train(trial):
    return trial.x

print(hpo.search(train, space={"x": {"int": [1, 3]}}, trials=3, sampler="grid").value)
"""
    (tmp_path / "my-search.py").write_text(code)
    done = subprocess.run(
        [sys.executable, file],
        cwd=tmp_path,
        input=code,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "1.0\n", done.stderr


def test_a_study_is_loaded_to_be_read() -> None:
    best = hpo.search(by_attribute, space=SPACE, trials=3, sampler="random", name="s")

    study = hpo.load_study("s")

    assert isinstance(study, hpo.StudyRecord)
    assert study.state == "finished"
    assert [trial.number for trial in study.trials()] == [0, 1, 2]
    assert study.best() == best
    with pytest.raises(hpo.HpoError, match="Known: s"):
        hpo.load_study("nowhere")


TALKS = """
import ctypes
import os

print("imported")


def train(trial):
    print("trained")
    os.system("echo said by a child")
    ctypes.CDLL(None).printf(b"said in C\\n")
    return 1 / (1 + trial.train_fraction)
"""


@pytest.mark.parametrize("command", ["run", "check", "data-needs"])
def test_what_a_function_prints_is_not_in_the_document(folder: Folder, command: str) -> None:
    folder.write("talks.py", TALKS)
    objective = {"function": "talks:train", "metric": "val_loss", "train_fraction": True}
    space = {"x": 1}
    file = folder.study({"objective": objective, "space": space, "search": {"trials": 1}})
    more = ("--examples", "100", "--seeds", "1") if command == "data-needs" else ()

    done = folder.hpo(command, file, "--json", *more)

    assert done.code == 0, done.err
    assert isinstance(done.json, dict)
    assert "trained" in done.err
    assert "said by a child" in done.err
    assert "said in C" in done.err


def test_a_search_that_somebody_stops_says_how_it_goes_on(folder: Folder) -> None:
    def train(trial: hpo.Trial) -> float:
        if trial.number == 1:
            assert folder.hpo("stop", "s").code == 0
            for step in range(10_000):  # it is heard within a second or so
                trial.report(step, value=1.0)
                time.sleep(0.01)
        return float(trial.x)

    with pytest.raises(hpo.HpoError, match=r"'s' was stopped by hpo stop\. Go on: search again"):
        hpo.search(train, space=SPACE, trials=3, name="s")

    assert [trial.state for trial in hpo.load_study("s").trials()] == ["COMPLETE", "WAITING"]


def test_a_built_sampler_works_in_a_plain_optuna_study() -> None:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = hpo.samplers.build("grid", {"x": {"int": [0, 4]}}, seed=0)
    study = optuna.create_study(sampler=sampler)

    study.optimize(lambda trial: trial.suggest_int("x", 0, 4), n_trials=100)

    assert sorted(trial.params["x"] for trial in study.trials) == [0, 1, 2, 3, 4]


def _studies() -> list[Any]:
    from hpo import catalog
    from hpo.storage import open_storage

    storage = open_storage("sqlite:///hpo.db")
    found = catalog.every(storage)
    storage.close()
    return found


def _trials(study: str) -> list[dict[str, Any]]:
    from hpo import catalog
    from hpo.storage import open_storage

    storage = open_storage("sqlite:///hpo.db")
    found = [trial.as_json() for trial in catalog.find(storage, study).trials()]
    storage.close()
    return found


def test_a_space_of_python_is_the_space_of_yaml(tmp_path: Path) -> None:
    space = hpo.space(
        use="batch_size",
        optimizer=["sgd", "adam"],
        rate=hpo.Float(1e-4, 1, log=True, prior=1e-2, spread=3).because("mostly this"),
        momentum=hpo.Choice([0.5, 0.9], ordered=True).when(optimizer="sgd"),
        nesterov=hpo.boolean().when(optimizer="sgd", momentum="> 0.5"),
        depth=hpo.Int(1, 3),
        width=hpo.Int(8, 32, powers_of=2).per("depth", taper=["constant", "pyramid"]),
        seed=hpo.Fixed(1),
        require=["width >= 16 or depth < 3"],
    )
    hpo.space.save(space, tmp_path / "space.yaml")
    assert hpo.space.load(tmp_path / "space.yaml") == space
    study = tmp_path / "study.yaml"
    indented = "".join(f"  {line}\n" for line in space.to_yaml().splitlines())
    study.write_text(f"name: s\nobjective: {{function: a:b, metric: m}}\nspace:\n{indented}")
    assert hpo.space.load(study) == space
    assert hpo.space.from_optuna({"x": hpo.Float(0, 1).to_optuna()}) == hpo.space(x=hpo.Float(0, 1))
    assert len(hpo.space.to_configspace(hpo.space(x=[1, 2]))["hyperparameters"]) == 1


def test_a_file_with_a_bad_space_is_explained_with_its_lines(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("x: {float: [0, 1]}\ny: {int: [1, 2], when: {z: 1}}\n")
    with pytest.raises(hpo.HpoError, match=r"space.yaml:2: y.when.z: the space has no 'z'"):
        hpo.space.load(path)
    with pytest.raises(hpo.SpaceError, match=r"y.when.z: the space has no 'z'"):
        hpo.space(y=hpo.Int(1, 2).when(z=1))


def test_search_takes_a_space_and_a_baseline() -> None:
    space = hpo.space(
        x=hpo.Float(0, 1),
        kind=["a", "b"],
        depth=hpo.Int(1, 2),
        width=hpo.Int(1, 4).per("depth"),
    )
    seen: list[list[int]] = []

    def train(trial: Any) -> float:
        seen.append(trial.width)
        return by_attribute(trial)

    baseline = {"x": 0.5, "kind": "b", "depth": 2, "width": [4, 2]}
    best = hpo.search(
        train, space=space, baseline=baseline, trials=6, sampler="random", name="based"
    )
    assert best.value is not None
    first = next(t for t in _trials("based") if t["trial"] == 0)
    assert first["params"] == {"x": 0.5, "kind": "b", "depth": 2, "width_1": 4, "width_2": 2}
    assert first["baseline"]
    assert seen[0] == [4, 2]
    assert best.value <= first["value"]


def test_a_training_loop_of_ones_own_has_the_schedules() -> None:
    rates: list[float] = []

    def train(trial: Any) -> float:
        schedule = hpo.Schedule.of(trial, steps_per_epoch=10, epochs=3)
        rates.extend(schedule.learning_rate(k) for k in range(schedule.n_steps))
        return 0.0

    space = hpo.space(use="one_cycle", learning_rate=0.5, peak_fraction=0.5)
    hpo.search(train, space=space, trials=1, name="own")
    assert len(rates) == 30
    assert max(rates) == rates[15] == 0.5
