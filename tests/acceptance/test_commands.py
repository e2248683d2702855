"""What each command prints, for people and as JSON, and how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import re
import shlex
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Folder, Starter, Study, imported_by

OBJECTIVES = """
def train(trial):
    if trial.x == 3:
        raise RuntimeError("no luck")
    for step in range(1, 4):
        trial.report(step, loss=trial.x + 1 / step, size=7)
    return {"loss": float(trial.x), "error": trial.x / 10}
"""
RUN_KEYS = {"study", "state", "n_trials", "best", "gate"}
BEST_KEYS = {"trial", "value", "params", "metrics", "mlflow_run_id"}
TRIAL_KEYS = {
    "trial",
    "state",
    "value",
    "params",
    "metrics",
    "n_steps",
    "stopped_by",
    "failure",
    "attempts",
    "wall_seconds",
}
HEAVY = ("torch", "mlflow", "optuna", "numpy", "sqlalchemy", "pydantic", "rich", "sklearn")


def study(**more: Any) -> Study:
    return {
        "name": "s",
        "objective": {"function": "objectives:train", "metric": "loss"},
        "space": {"x": {"int": [0, 3]}, "y": "fixed"},
        "search": {"sampler": "grid"},
        **more,
    }


@pytest.fixture
def file(folder: Folder) -> str:
    """A study file beside its function."""
    folder.write("objectives.py", OBJECTIVES)
    return folder.study(study())


@pytest.fixture(scope="module")
def ran(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with a study that has ended, to be looked at; told.json is what its run printed."""
    folder = Folder(tmp_path_factory.mktemp("ran"), starter)
    folder.write("objectives.py", OBJECTIVES)
    folder.write("told.json", folder.hpo("run", folder.study(study()), "--json").out)
    return folder


# --- run, show, best, trials, studies ---


def test_run_prints_a_leaderboard_on_stdout_and_events_on_stderr(folder: Folder, file: str) -> None:
    done = folder.hpo("run", file)

    assert done.code == 0
    lines = [line.split() for line in done.out.splitlines() if line.strip()]
    assert lines[0] == ["#", "trial", "loss", "x"]
    assert [line[2] for line in lines[2:]] == ["0", "1", "2"]
    assert len(done.events) == 4
    assert sum("FAIL (CRASHED: RuntimeError: no luck)" in line for line in done.events) == 1
    assert "hpo trials s" in done.err


def test_run_as_json_prints_one_document_with_the_stable_keys(folder: Folder, file: str) -> None:
    done = folder.hpo("run", file, "--json")

    told = done.json
    assert told.keys() >= RUN_KEYS
    assert told["study"] == "s"
    assert told["state"] == "finished"
    counts = {"complete": 3, "pruned": 0, "fail": 1, "running": 0, "waiting": 0}
    assert told["n_trials"] == counts
    assert told["best"].keys() >= BEST_KEYS
    assert told["best"]["params"] == {"x": 0}
    assert told["best"]["metrics"] == {"loss": 0.0, "size": 7.0, "error": 0.0}
    assert told["gate"] is None
    assert len(done.events) == 4


@pytest.mark.parametrize("command", ["show", "best"])
def test_show_and_best_as_json_have_the_keys_of_run(ran: Folder, command: str) -> None:
    by_run = json.loads((ran.path / "told.json").read_text())

    told = ran.hpo(command, "s", "--json").json

    assert told == {key: value for key, value in by_run.items() if key != "gate"}


def test_trials_as_json_lists_every_trial_with_the_stable_keys(ran: Folder) -> None:
    trials = ran.hpo("trials", "s", "--json").json

    assert [trial["trial"] for trial in trials] == [0, 1, 2, 3]
    assert all(trial.keys() >= TRIAL_KEYS for trial in trials)
    by_x = {trial["params"]["x"]: trial for trial in trials}
    assert by_x[2]["metrics"] == {"loss": 2.0, "size": 7.0, "error": 0.2}
    assert by_x[2]["n_steps"] == 3
    assert by_x[2]["wall_seconds"] >= 0
    assert by_x[2]["failure"] is None
    assert by_x[3]["failure"] == {"kind": "CRASHED", "message": "RuntimeError: no luck"}
    assert by_x[3]["value"] is None


def test_studies_as_json_lists_every_study(folder: Folder, file: str) -> None:
    folder.hpo("run", file)
    folder.hpo("run", file, "--set", "name=other")

    told = folder.hpo("studies", "--json").json

    assert [one["study"] for one in told] == ["s", "other"]
    assert told[0] == folder.hpo("show", "s", "--json").json


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["studies"], ["s", "finished", "4", "loss"]),
        (["show", "s"], ["finished", "3 complete, 1 fail", "minimize loss", "trial"]),
        (["trials", "s"], ["COMPLETE", "FAIL", "CRASHED: RuntimeError: no luck"]),
        (["best", "s"], ["trial", "loss", "x", "error"]),
    ],
    ids=["studies", "show", "trials", "best"],
)
def test_results_are_tables_on_stdout_and_nothing_on_stderr(
    ran: Folder, arguments: list[str], expected: list[str]
) -> None:
    done = ran.hpo(*arguments)

    assert done.code == 0
    assert done.err == ""
    for text in expected:
        assert text in done.out


def test_a_long_table_is_neither_cut_nor_wrapped_in_a_pipe(folder: Folder) -> None:
    folder.write("objectives.py", "def train(t): raise ValueError('word ' * 100 + 'end')\n")
    space = {f"parameter_number_{i}": {"int": [0, 9]} for i in range(30)}
    folder.hpo("run", folder.study(study(space=space, search={"sampler": "random", "trials": 1})))

    out = folder.hpo("trials", "s").out

    assert "…" not in out
    assert sum(bool(line.strip()) for line in out.splitlines()) == 3
    assert "parameter_number_29" in out
    assert "word word end" in out


def test_the_storage_is_what_the_option_says_else_the_file_else_the_environment(
    folder: Folder, file: str
) -> None:
    folder.hpo("run", file, HPO_STORAGE="sqlite:///environment.db")
    folder.study(study(storage="sqlite:///file.db"))
    folder.hpo("run", file, HPO_STORAGE="sqlite:///environment.db")
    folder.hpo("run", file, "--storage", "sqlite:///option.db")

    names = {path.name for path in folder.path.glob("*.db")}
    assert names == {"environment.db", "file.db", "option.db"}
    assert folder.hpo("studies", "--json", HPO_STORAGE="sqlite:///file.db").json


def test_a_live_line_is_shown_in_a_terminal(folder: Folder, file: str) -> None:
    terminal, child = pty.openpty()
    folder.write(
        "objectives.py", "import time\n" + OBJECTIVES.replace("for", "time.sleep(0.3)\n    for")
    )
    out = folder.path / "out"
    with out.open("w") as stdout:
        environment = {**folder.environment, "COLUMNS": "120"}
        descriptors = (child, stdout.fileno(), child)
        process = folder.starter(["run", file], folder.path, environment, descriptors)
    os.close(child)
    shown = b""
    with contextlib.suppress(OSError):  # Linux's way to say that the other end is closed
        while piece := os.read(terminal, 65536):
            shown += piece
    os.close(terminal)

    assert process.wait() == 0
    assert "\x1b" not in out.read_text()
    text = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", shown.decode())
    assert "4/4" in text
    assert "best 0 " in text
    assert "3 complete  1 failed" in text
    assert re.search(r"\d:\d\d left", text)
    assert "no luck" in text
    assert "MLflow" not in text  # it is off


def test_the_next_command_that_is_suggested_works_as_it_is_printed(
    folder: Folder, file: str
) -> None:
    err = folder.hpo("run", file, "--storage", "sqlite:///elsewhere.db").err

    (suggested,) = re.findall(r"hpo (trials [^\n]*?)(?:    |\n)", err)
    assert folder.hpo(*shlex.split(suggested)).code == 0, suggested


# --- gate ---


@pytest.mark.parametrize(
    ("gate", "code", "sentence"),
    [
        ({"loss": "<= 0"}, 0, "gate passed: loss 0 is <= 0."),
        ({"loss": "<= 0", "error": "< 0.5"}, 0, "gate passed: loss 0 is <= 0; error 0 is < 0.5."),
        ({"loss": "> 0.5"}, 3, "gate failed: loss 0 is not > 0.5."),
        ({"loss": "<= 0", "error": ">= 1e-3"}, 3, "gate failed: error 0 is not >= 1e-3."),
        (
            {"speed": ">= 1"},
            3,
            "gate failed: speed should be >= 1, and trial 1 did not report it (",
        ),
    ],
)
def test_the_gate_decides_the_exit_code_and_says_why_in_one_sentence(
    folder: Folder, file: str, gate: dict[str, str], code: int, sentence: str
) -> None:
    folder.study(study(gate=gate))

    done = folder.hpo("run", file, "--json")

    assert done.code == code
    assert sentence in done.err
    assert done.json["gate"]["passed"] == (code == 0)
    checks = done.json["gate"]["checks"]
    assert [check["metric"] for check in checks] == [*gate]
    assert all(check.keys() >= {"metric", "value", "passed"} for check in checks)


def test_a_gate_without_any_complete_trial_is_not_passed(folder: Folder, file: str) -> None:
    folder.study(study(space={"x": 3}, gate={"loss": "<= 9"}))

    done = folder.hpo("run", file, "--json")

    assert done.code == 4
    assert done.json["gate"]["passed"] is False


def test_a_gate_is_asked_again_when_a_finished_study_is_run_again(
    folder: Folder, file: str
) -> None:
    assert folder.hpo("run", file).code == 0

    assert folder.hpo("run", file, "--set", "gate.loss=<= -1").code == 3
    assert folder.hpo("resume", "s", "--set", "gate.loss=<= 1").code == 0


# --- --set ---


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["search.trials=2"], {"n": 2}),
        (["search.sampler=random", "search.trials=3"], {"n": 3, "sampler": "random"}),
        (["stopping.rule=median"], {"n": 4, "stopping": "median"}),
        (["name=other"], {"n": 4, "study": "other"}),
        (["space.x=[0, 2]"], {"n": 2}),
        (["space.x={int: [0, 2], step: 2}"], {"n": 2}),
        (["space.x.int=[0, 1]"], {"n": 2}),
        (["space.z=[a, b]"], {"n": 8}),
        (["space.x=0"], {"n": 1}),
        (["objective.direction=maximize"], {"n": 4, "direction": "maximize"}),
        (["search.timeout=1h", "search.sampler=random", "search.trials=2"], {"n": 2}),
        (["search.trials=3", "search.trials=2"], {"n": 2}),
    ],
)
def test_set_overrides_whatever_the_file_says(
    folder: Folder, file: str, overrides: list[str], expected: dict[str, Any]
) -> None:
    options = [option for override in overrides for option in ("--set", override)]

    done = folder.hpo("run", file, "--json", *options)

    assert done.code == 0
    told = done.json
    assert expected == {"n": sum(told["n_trials"].values())} | {
        key: told[key] for key in expected if key != "n"
    }


def test_yaml_12_numbers_are_numbers_in_a_file_and_in_an_override(folder: Folder) -> None:
    folder.write("objectives.py", "def train(trial): return trial.x + trial.y + trial.z\n")
    folder.write(
        "study.yaml",
        "name: s\n"
        "objective: {function: 'objectives:train', metric: loss}\n"
        "space: {x: 1e-4, y: {choice: [1e-3]}, z: 0}\n"
        "search: {sampler: grid}\n",
    )

    done = folder.hpo("run", "study.yaml", "--json", "--set", "space.z=1e-2")

    assert done.json["best"]["value"] == pytest.approx(0.0111)


# --- check, schema, delete, help ---


def test_check_prints_the_plan_and_tries_one_step_without_making_a_study(
    folder: Folder, file: str
) -> None:
    done = folder.hpo("check", file)

    assert done.code == 0
    for text in ("minimize loss of objectives:train", "4 configurations", "grid", "x: ", "tried"):
        assert text in done.out
    assert "hpo run study.yaml" in done.err
    assert not (folder.path / "hpo.db").exists()
    assert not (folder.path / "hpo-runs").exists()


def test_check_of_an_objective_that_fails_says_so_and_exits_with_1(
    folder: Folder, file: str
) -> None:
    folder.study(study(space={"x": 3}))

    done = folder.hpo("check", file)

    assert done.code == 1
    assert "RuntimeError: no luck" in done.err


def test_check_of_an_objective_without_the_metric_says_so(folder: Folder, file: str) -> None:
    folder.write("objectives.py", "def train(trial): return {'accuracy': 1}\n")

    done = folder.hpo("check", file)

    assert done.code == 1
    assert "'loss'" in done.err
    assert "accuracy" in done.err


def test_schema_is_a_json_schema_of_the_study_file(folder: Folder) -> None:
    schema = folder.hpo("schema").json

    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert schema["type"] == "object"
    assert schema["additionalProperties"] is False
    assert {*schema["required"]} == {"objective", "space"}
    assert schema["properties"].keys() >= {
        "name", "objective", "space", "search", "stopping", "run", "storage", "tracking", "gate"
    }  # fmt: skip
    texts = json.dumps(schema)
    for name in ("bayesian", "median", "linear_decay", "powers_of", "max_failures"):
        assert f'"{name}"' in texts

    def references(node: Any) -> list[str]:
        if isinstance(node, dict):
            own = [node["$ref"]] if "$ref" in node else []
            return own + [ref for value in node.values() for ref in references(value)]
        if isinstance(node, list):
            return [ref for value in node for ref in references(value)]
        return []

    for reference in references(schema):
        assert reference.removeprefix("#/$defs/") in schema["$defs"]


def test_delete_removes_the_study_and_its_run_directory_alone(folder: Folder, file: str) -> None:
    folder.hpo("run", file)
    folder.hpo("run", file, "--set", "name=other")

    done = folder.hpo("delete", "s", "--yes")

    assert done.code == 0
    assert [one["study"] for one in folder.hpo("studies", "--json").json] == ["other"]
    assert [path.name for path in (folder.path / "hpo-runs").iterdir()] == ["other"]
    assert len(folder.trials("other")) == 4
    again = folder.hpo("run", file, "--json", "--set", "space.x=[0, 1]")  # the name is free
    assert again.json["n_trials"]["complete"] == 2


def test_delete_without_yes_and_without_a_terminal_is_a_usage_error(ran: Folder) -> None:
    done = ran.hpo("delete", "s")

    assert done.code == 2
    assert "--yes" in done.err
    assert len(ran.trials("s")) == 4


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_names_all_commands_and_how_to_begin(folder: Folder, option: str) -> None:
    done = folder.hpo(option)

    assert done.code == 0
    commands = {line.split()[0] for line in done.out.splitlines() if line.startswith("  ")}
    assert commands >= {"run", "check", "schema", "resume", "delete", "sync"}
    assert commands >= {"studies", "show", "trials", "best"}
    assert "hpo run FILE" in done.out


def test_the_version_is_that_of_the_package(folder: Folder) -> None:
    done = folder.hpo("--version")

    assert (done.code, done.out) == (0, f"hpo {metadata.version('hpo')}\n")


def test_the_command_is_a_module_too(folder: Folder) -> None:
    command = [sys.executable, "-m", "hpo", "--version"]
    done = subprocess.run(command, cwd=folder.path, capture_output=True, text=True, check=True)

    assert done.stdout == f"hpo {metadata.version('hpo')}\n"


@pytest.mark.parametrize("arguments", [["--help"], []])
def test_help_imports_nothing_heavy(folder: Folder, arguments: list[str]) -> None:
    imported, printed = imported_by(arguments, HEAVY, folder.path)

    assert "Usage: hpo" in printed
    assert imported == []


def test_a_study_of_a_function_imports_neither_torch_nor_mlflow(folder: Folder, file: str) -> None:
    imported, _ = imported_by(["run", file], ("torch", "mlflow", "sklearn", "skopt"), folder.path)

    assert imported == []
    assert folder.states("s") == {"COMPLETE": 3, "FAIL": 1}


def test_no_optimizer_imports_pytorchs_compiler(folder: Folder) -> None:
    values = {
        "name": "net",
        "objective": {"trainer": "classifier", "data": "iris", "metric": "val_loss", "epochs": 2},
        "space": {
            "optimizer": ["sgd", "adagrad", "rmsprop", "adam", "adamw", "lbfgs", "cg", "newton"],
            "width": 4,
        },
        "search": {"sampler": "grid"},
    }
    among = ("torch", "torch._dynamo", "mlflow")
    imported, _ = imported_by(["run", folder.study(values)], among, folder.path)

    assert imported == ["torch"]
    assert folder.states("net") == {"COMPLETE": 8}


def test_precision_that_depends_on_the_network_imports_no_compiler() -> None:
    """It is asked for on GPUs alone."""
    code = """
import sys, torch
from hpo.trainers.models import operations
assert operations(torch.nn.Linear(4, 3), torch.ones(2, 4), 0) == 24
print([name for name in ("torch", "torch._dynamo") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout.split() == ["['torch']"]


# --- two at once ---


def test_two_runs_at_once_share_a_grid_exactly(folder: Folder) -> None:
    folder.write(
        "objectives.py",
        "import time\ndef train(trial):\n    time.sleep(0.01)\n    return trial.x + trial.y\n",
    )
    file = folder.study(
        {
            "name": "shared",
            "objective": {"function": "objectives:train", "metric": "loss"},
            "space": {"x": {"int": [1, 8]}, "y": {"int": [1, 6]}},
            "search": {"sampler": "grid"},
        }
    )

    codes = [running.done().code for running in [folder.start("run", file) for _ in range(3)]]

    assert codes == [0, 0, 0]
    points = [(t["params"]["x"], t["params"]["y"]) for t in folder.trials("shared")]
    assert sorted(points) == [(x, y) for x in range(1, 9) for y in range(1, 7)]


def test_delete_leaves_what_it_did_not_write(folder: Folder) -> None:
    (folder.path / "s").mkdir()
    folder.write("s/code.py", "precious")
    folder.write("objectives.py", "def train(trial): return 1.0\n")
    file = folder.study(
        {
            "name": "s",
            "objective": {"function": "objectives:train", "metric": "loss"},
            "space": {"x": [1, 2]},
            "run": {"directory": "."},
        }
    )
    assert folder.hpo("run", file).code == 0
    directory = Path(folder.hpo("show", "s", "--json").json["directory"])
    assert directory != folder.path / "s"  # it was in use
    (directory / "mine.txt").write_text("mine too")

    assert folder.hpo("delete", "s", "--yes").code == 0

    assert (folder.path / "s" / "code.py").read_text() == "precious"
    assert [path.name for path in directory.iterdir()] == ["mine.txt"]


def test_a_study_of_several_objectives_by_plain_optuna_is_listed(folder: Folder) -> None:
    import optuna

    study = optuna.create_study(
        storage=f"sqlite:///{folder.path}/hpo.db",
        study_name="pareto",
        directions=["minimize", "maximize"],
    )
    study.optimize(lambda t: (t.suggest_float("x", 0, 1), 1.0), n_trials=2)

    (listed,) = folder.hpo("studies", "--json").json
    assert (listed["study"], listed["n_trials"]["complete"]) == ("pareto", 2)
    assert folder.hpo("show", "pareto").code == 0
    found = [trial.values for trial in study.trials]
    assert [list(t["values"].values()) for t in folder.trials("pareto")] == found
    # All values of the second are equal, so the least of the first is the whole front.
    assert listed["best"]["value"] == min(value for value, _ in found)
    assert len(listed["front"]) == 1


def test_check_prints_one_json_document(folder: Folder, file: str) -> None:
    plan = folder.hpo("check", file, "--json").json

    assert (plan["study"], plan["metric"], plan["n_configurations"]) == ("s", "loss", 4)
    assert plan["tried"].startswith("tried ")
    assert folder.hpo("check", file, "--json", "--dry").json["tried"] is None
