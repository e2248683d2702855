"""Each mistake is one message that names the place and the next step; nobody sees a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from tests.acceptance.harness import HPO, Done, Folder, clean_environment

STUDY = """\
name: digits
objective:
  trainer: classifier
  data: digits
  metric: val_error
  epochs: 2
space:
  use: [sgd]
  learning_rate: {float: [0.01, 1.0], log: true}
  dropout: {float: [0.0, 0.5], step: 0.1}
  schedule: [constant, linear]
  final_lr_fraction: {float: [0.01, 0.1], points: 3, when: {schedule: linear}}
search:
  sampler: random
  trials: 2
stopping:
  rule: none
run:
  device: cpu
gate:
  val_error: "<= 0.9"
"""
FUNCTION = """\
name: s
objective: {function: "objectives:train", metric: loss}
space: {x: {float: [0, 1]}}
search: {sampler: random, trials: 2}
"""


def explained(done: Done, code: int = 1) -> str:
    """What was explained, once it is sure that it was explained."""
    assert done.code == code, done
    assert done.out == ""
    errors = [line for line in done.err.splitlines() if line.lower().startswith("error: ")]
    assert len(errors) == 1, done.err
    return done.err


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("  epochs:", "  epoch:", "6: objective.epoch", "unknown key 'epoch'. Did you mean 'epo"),
        ("search:", "serch:", "13: serch", "unknown key 'serch'. Did you mean 'search'?"),
        ("  trials: 2", "  trails: 2", "15: search.trails", "Did you mean 'trials'?"),
        ("random", "randm", "14: search.sampler", "sampler 'randm'. Did you mean 'random'?"),
        ("classifier", "clasifier", "3: objective.trainer", "Did you mean 'classifier'?"),
        ("data: digits", "data: digit", "4: objective.data", "'digit'. Did you mean 'digits'?"),
        ("metric: val_error", "metric: val_eror", "5: objective.metric", "mean 'val_error'?"),
        ("metric: val_error", "metric: speed", "5: objective.metric", "Known: "),
        (
            "  metric: val_error",
            "  costs: [[0, .inf], [1, 0]]\n  metric: val_cost",
            "5: objective.costs.0.1",
            "inf: input should be a finite number.",
        ),
        ("rule: none", "rule: medain", "17: stopping.rule", "Did you mean 'median'?"),
        ("[sgd]", "[sdg]", "8: space.use.0", "ready-made space 'sdg'. Did you mean 'sgd'?"),
        ("dropout:", "dropuot:", "10: space.dropuot", "Did you mean 'dropout'?"),
        ("[0.01, 1.0]", "[1.0, 0.01]", "9: space.learning_rate.float", "[0.01, 1.0]"),
        ("[0.01, 1.0]", "[0, 1.0]", "9: space.learning_rate.float", "log range cannot start at 0"),
        ("[0.01, 1.0]", '["0.01", 1.0]', "9: space.learning_rate.float", "remove the quotes"),
        ("{float: [0.01, 1.0]", "{flot: [0.01, 1.0]", "9: space.learning_rate.flot", "'float'"),
        ("[0.01, 1.0]", "[0.01]", "9: space.learning_rate.float", "[low, high]"),
        ("[0.0, 0.5]", "[0.0, 1.5]", "10: space.dropout", "1.5"),
        (
            "dropout: {float: [0.0, 0.5], step: 0.1}",
            "batch_size: {float: [16, 64.5], log: true}",
            "10: space.batch_size",
            "it takes whole numbers; write {int: [16, 64], log: true}.",
        ),
        (
            "dropout: {float: [0.0, 0.5], step: 0.1}",
            "depth: {float: [1.2, 1.8]}",
            "10: space.depth",
            "it takes whole numbers.",
        ),
        ("{schedule:", "{shedule:", "12: space.final_lr_fraction", "Did you mean 'schedule'?"),
        ("linear}}", "linaer}}", "12: space.final_lr_fraction", "'linear'"),
        ("[constant, linear]", "[]", "11: space.schedule", "empty"),
        ("[constant, linear]", "[linear, cosin]", "11: space.schedule", "cosin"),
        ("sampler: random", "sampler: grid", "9: space.learning_rate", "`points: 5`"),
        ("trials: 2", 'trials: "2"', "15: search.trials", "'2'"),
        (
            "  device: cpu",
            "  executor: inline\n  workers: 2",
            "20: run.workers",
            "`executor: inline` knows no `workers`; drop one of the two.",
        ),
        (
            "  device: cpu",
            "  executor: inline\n  trial_timeout: 10m",
            "20: run.trial_timeout",
            "`executor: inline` knows no `trial_timeout`",
        ),
        (
            "  device: cpu",
            "  gpus_per_trial: 0.5\n  trials_per_gpu: auto",
            "20: run.trials_per_gpu",
            "`gpus_per_trial` says it already; drop one of the two.",
        ),
        ("  device: cpu", "  gpus_per_trial: 1.5", "19: run.gpus_per_trial", "write 1."),
        (
            "  device: cpu",
            "  device: cpu\n  gpus_per_trial: 1",
            "20: run.gpus_per_trial",
            "`device: cpu` has no use for it",
        ),
        ("  device: cpu", "  workers: two", "19: run.workers", "auto, or a number such as 4"),
        ("  device: cpu", "  trials_per_gpu: 0", "19: run.trials_per_gpu", "auto, or a number"),
        ("trials: 2", "trials: 0", "15: search.trials", "0"),
        ("trials: 2", "trials: 2.5", "15: search.trials", "2.5"),
        ("trials: 2", "timeout: 5 minutes", "15: search.timeout", "write 90s, 30m, 1h30m"),
        ("name: digits\n", "name: a/b\n", "1: name", "use letters"),
        ("  metric: val_error\n", "", "objective.metric", "is missing"),
        ("  data: digits\n", "", "objective.data", "or one of: breast_cancer, diabetes, digits"),
        ("  trainer: classifier\n", "", "objective.trainer", "give one of `trainer`, `estimator`"),
        ("val_error: \"", "val_eror: \"", "21: gate.val_eror", "Did you mean 'val_error'?"),
        ("<= 0.9", "=< 0.9", "21: gate.val_error", "write '<= 0.03'"),
        ("\"<= 0.9\"", "0.9", "21: gate.val_error", "'<= "),
    ],
)  # fmt: skip
def test_a_mistake_in_the_study_file_is_named_with_its_line_and_the_next_step(
    folder: Folder, old: str, new: str, place: str, message: str
) -> None:
    assert old in STUDY
    folder.write("study.yaml", STUDY.replace(old, new, 1))

    error = explained(folder.hpo("run", "study.yaml"))

    assert "1 mistake in the study file" in error
    assert place in error
    assert message in error
    assert not (folder.path / "hpo.db").exists()
    assert not (folder.path / "hpo-runs").exists()


def test_all_mistakes_of_a_file_are_told_at_once(folder: Folder) -> None:
    text = STUDY
    changes = [
        ("  data: digits", "  dta: digits", "objective.dta"),
        ("metric: val_error", "metric: val_eror", "objective.metric"),
        ("[sgd]", "[sdg]", "space.use.0"),
        ("[0.01, 1.0]", "[1.0, 0.01]", "space.learning_rate.float"),
        ("dropout:", "dropuot:", "space.dropuot"),
        ("random", "randm", "search.sampler"),
        ("trials: 2", 'trials: "2"', "search.trials"),
        ("rule: none", "rule: medain", "stopping.rule"),
        ("device:", "devise:", "run.devise"),
        ("<= 0.9", "=< 0.9", "gate.val_error"),
    ]
    for old, new, _ in changes:
        text = text.replace(old, new, 1)
    folder.write("study.yaml", text)

    error = explained(folder.hpo("run", "study.yaml"))

    missing = [place for _, _, place in changes if f": {place}: " not in error]
    assert not missing, error
    lines = [int(line.split(":")[1]) for line in error.splitlines() if "study.yaml:" in line]
    assert lines == sorted(lines)


def test_a_commands_memory_cannot_be_measured(folder: Folder) -> None:
    text = FUNCTION.replace('function: "objectives:train"', 'command: "python {x}"')
    folder.write("study.yaml", f"{text}run: {{trials_per_gpu: auto}}\n")

    error = explained(folder.hpo("run", "study.yaml"))

    assert "study.yaml:5: run.trials_per_gpu: nobody can measure a command's memory" in error


def test_all_mistakes_of_a_grid_are_told_at_once(folder: Folder) -> None:
    text = STUDY.replace("random", "grid").replace("metric: val_error", "metric: val_eror")
    folder.write("study.yaml", text)

    error = explained(folder.hpo("run", "study.yaml"))

    assert "objective.metric" in error
    assert "space.learning_rate" in error


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("", ["study.yaml", "is empty"]),
        ("# only a comment\n", ["study.yaml", "is empty"]),
        ("- a\n- b\n", ["study.yaml:1", "a mapping of keys to values"]),
        ("just text\n", ["study.yaml:1", "a mapping of keys to values"]),
        ("name: [a\nobjective: 3\n", ["study.yaml:2", "not valid YAML"]),
        ("name: a\nname: b\n", ["study.yaml:2", "duplicate key", "name"]),
        ("name: a\n\tobjective: 3\n", ["study.yaml:2", "not valid YAML"]),
        ("name: a\nobjective: classifier\nspace: 3\n", ["study.yaml:2", "study.yaml:3", "mapping"]),
        ("name: a\n", ["'objective' is missing", "'space' is missing"]),
        ("1: 2\n", ["study.yaml:1: 1: "]),
        ("{}\n", ["'objective' is missing", "'space' is missing"]),
    ],
)
def test_what_is_no_study_file_is_explained(
    folder: Folder, text: str, fragments: list[str]
) -> None:
    folder.write("study.yaml", text)

    error = explained(folder.hpo("run", "study.yaml"))

    for fragment in fragments:
        assert fragment in error


def test_with_json_an_error_is_a_document_too(folder: Folder) -> None:
    text = STUDY.replace("  epochs:", "  epoch:").replace("rule: none", "rule: medain")
    folder.write("study.yaml", text)

    broken = folder.hpo("check", "study.yaml", "--json")
    missing = folder.hpo("show", "nowhere", "--json")

    mistakes = [(each["line"], each["path"]) for each in broken.json["error"]["mistakes"]]
    assert mistakes == [(6, ["objective", "epoch"]), (17, ["stopping", "rule"])]
    assert broken.err.startswith("error: 2 mistakes in the study file")
    assert broken.code == missing.code == 1
    assert missing.json["error"]["message"] in missing.err


def test_a_file_that_is_not_text_is_explained(folder: Folder) -> None:
    (folder.path / "study.yaml").write_bytes(b"\xff\xfe\x00name")

    assert "study.yaml" in explained(folder.hpo("run", "study.yaml"))


def test_a_missing_file_is_explained_with_the_files_that_are_there(folder: Folder) -> None:
    folder.write("study.yaml", STUDY)

    error = explained(folder.hpo("run", "studdy.yaml"))

    assert "no such file: studdy.yaml" in error
    assert "study.yaml" in error.replace("studdy.yaml", "")


@pytest.mark.parametrize(
    ("override", "fragments"),
    [
        ("search.trals=3", ["--set search.trals=3", "unknown key 'trals'", "mean 'trials'?"]),
        ("search.trials", ["--set search.trials", "=value"]),
        ("=3", ["--set =3", "=value"]),
        ("search.trials=[", ["--set search.trials=[", "not valid YAML"]),
        ("search.trials=many", ["search.trials", "'many'"]),
        ("name.first=3", ["--set name.first=3", "'name'"]),
        ("space.x.float=[1, 0]", ["space.x.float", "swap them"]),
    ],
)
def test_a_wrong_override_is_named_as_it_was_typed(
    folder: Folder, override: str, fragments: list[str]
) -> None:
    folder.write("study.yaml", FUNCTION)

    error = explained(folder.hpo("run", "study.yaml", "--set", override))

    for fragment in fragments:
        assert fragment in error
    assert "study.yaml:4" not in error  # nothing is wrong in the file


def test_an_override_without_a_value_changes_nothing_silently(folder: Folder) -> None:
    folder.write("study.yaml", FUNCTION)
    folder.write("objectives.py", "def train(trial): return trial.x\n")

    done = folder.hpo("run", "study.yaml", "--set", "search.trials=")

    assert "search.trials" in explained(done)


@pytest.mark.parametrize(
    ("function", "module", "fragments"),
    [
        ("nowhere:train", "", ["'nowhere'", "looked in", "No module named 'nowhere'"]),
        ("objectives:trian", "def train(trial): return 1\n", ["'trian'", "mean 'train'?"]),
        ("objectives:train", "train = 3\n", ["'objectives'", "'train'"]),
        ("objectives:train", "raise ValueError('boom')\n", ["'objectives'", "boom"]),
        ("objectives:train", "def train(:\n", ["'objectives'", "objectives.py", "line 1"]),
        ("objectives:train", "import sys\nsys.exit(3)\n", ["'objectives'"]),
        ("objectives:train", "import no_such_module\n", ["'no_such_module'"]),
        ("objectives", "", ["study.yaml:2: objective.function", "package.module:function"]),
    ],
    ids=["module", "name", "no-function", "raises", "syntax", "exits", "import", "no-colon"],
)
def test_a_function_that_cannot_be_loaded_is_explained_before_a_study_is_made(
    folder: Folder, function: str, module: str, fragments: list[str]
) -> None:
    folder.write("objectives.py", module)
    folder.write("study.yaml", FUNCTION.replace("objectives:train", function))

    error = explained(folder.hpo("run", "study.yaml"))

    for fragment in fragments:
        assert fragment in error
    assert not (folder.path / "hpo.db").exists()


@pytest.mark.parametrize("run", [{}, {"workers": 1}], ids=["inline", "processes"])
@pytest.mark.parametrize("function", ["objectives:train", "trainers:train", "search_spaces:train"])
def test_packages_of_the_users_have_what_names_they_like(
    folder: Folder, function: str, run: dict[str, int]
) -> None:
    for package in ("trainers", "search_spaces", "mlflow_server"):
        (folder.path / package).mkdir()
        folder.write(f"{package}/__init__.py", f"from {package}.models import train\n")
        folder.write(f"{package}/models.py", "def train(trial): return trial.x\n")
    folder.write("objectives.py", "from trainers import train\n")
    text = FUNCTION.replace("objectives:train", function)
    folder.write("study.yaml", f"{text}run: {run}\n")

    assert folder.hpo("run", "study.yaml").code == 0

    assert folder.states("s") == {"COMPLETE": 2}


@pytest.mark.parametrize("layout", ["src/", ""])
def test_where_a_package_that_is_not_on_the_path_is_found_is_told(
    folder: Folder, layout: str
) -> None:
    (folder.path / layout / "mypkg").mkdir(parents=True)
    (folder.path / "configs").mkdir()
    folder.write(f"{layout}mypkg/code.py", "def train(trial): return trial.x\n")
    text = FUNCTION.replace("objectives:train", "mypkg.code:train")
    folder.write("configs/study.yaml", text)

    error = explained(folder.hpo("run", "configs/study.yaml"))

    place = str(folder.path / layout).rstrip("/")
    assert f"It is in {place}: pip install -e it, or set PYTHONPATH={place}" in error


def test_a_function_by_its_file_is_told_the_modules_name(folder: Folder) -> None:
    folder.write("study.yaml", FUNCTION.replace("objectives:train", "objectives.py:train"))

    error = explained(folder.hpo("run", "study.yaml"))

    assert "'objectives.py:train' names a file; name the module: objectives:train." in error


@pytest.mark.parametrize(
    ("name", "field"), [("lr", "learning_rate"), ("gradient_accumulation", "micro_batch")]
)
def test_what_other_libraries_call_a_field_has_its_name(
    folder: Folder, name: str, field: str
) -> None:
    folder.write("study.yaml", STUDY.replace("  learning_rate:", f"  {name}:"))

    assert f"Did you mean '{field}'?" in explained(folder.hpo("run", "study.yaml"))


def test_a_time_limit_may_come_with_a_resumption(folder: Folder) -> None:
    folder.write("objectives.py", "def train(trial): return trial.x\n")
    folder.write("study.yaml", FUNCTION)
    assert folder.hpo("run", "study.yaml").code == 0

    more = ("--set", "run.trial_timeout=1m", "--set", "search.trials=3")
    assert folder.hpo("resume", "s", *more).code == 0
    refused = folder.hpo("resume", "s", *more, "--set", "run.executor=inline")

    assert folder.states("s") == {"COMPLETE": 3}
    assert "`executor: inline` knows no `trial_timeout`" in explained(refused)


def test_a_file_of_hpos_own_name_is_refused(folder: Folder) -> None:
    folder.write("hpo.py", "def train(trial): return trial.x\n")
    folder.write("study.yaml", FUNCTION.replace("objectives:train", "hpo:train"))

    assert "would be a part of hpo itself" in explained(folder.hpo("run", "study.yaml"))


@pytest.mark.parametrize(
    ("url", "fragments"),
    [
        ("hpo.db", ["'hpo.db' is not a storage URL", "sqlite:///hpo.db"]),
        ("mysql://u:secret@host/d", ["not mysql", "postgresql://"]),
        ("sqlite:////no/such/folder/x.db", ["/no/such/folder", "mkdir -p /no/such/folder"]),
        ("sqlite:///study.yaml", ["study.yaml", "not a database", "--storage"]),
        ("sqlite:////proc/x.db", ["/proc", "--storage"]),
        ("sqlite:///.", ["cannot open storage 'sqlite:///.'", "--storage"]),
        ("postgresql://me:secret@127.0.0.1:9/d", ["127.0.0.1", "refused", "server runs"]),
        ("postgresql://me:secret@nowhere.invalid/d", ["nowhere.invalid", "host"]),
    ],
    ids=["path", "mysql", "folder", "no-database", "proc", "is-folder", "refused", "unknown-host"],
)
def test_a_storage_that_cannot_be_opened_is_explained_and_no_password_printed(
    folder: Folder, url: str, fragments: list[str]
) -> None:
    folder.write("study.yaml", FUNCTION)
    folder.write("objectives.py", "def train(trial): return trial.x\n")

    error = explained(folder.hpo("run", "study.yaml", "--storage", url))

    assert error.startswith("error: ")
    for fragment in fragments:
        assert fragment in error
    assert "secret" not in error


def test_a_database_of_somebody_elses_is_refused_and_left_alone(folder: Folder) -> None:
    import sqlite3

    path = folder.path / "other.db"
    with sqlite3.connect(path) as connection:
        connection.execute("create table studies (name text)")
    connection.close()
    folder.write("study.yaml", FUNCTION)
    folder.write("objectives.py", "def train(trial): return trial.x\n")

    before = path.read_bytes()

    error = explained(folder.hpo("run", "study.yaml", "--storage", "sqlite:///other.db"))

    assert "sqlite:///other.db" in error
    assert path.read_bytes() == before


def test_reading_where_there_is_no_storage_says_so_and_makes_no_file(folder: Folder) -> None:
    for command in ("show", "trials", "best", "resume", "delete", "sync"):
        error = explained(folder.hpo(command, "s"))
        assert "no storage 'sqlite:///hpo.db'" in error
        assert "--storage" in error
        assert not (folder.path / "hpo.db").exists()


def test_an_unknown_study_is_told_with_the_nearest_one(folder: Folder) -> None:
    folder.write("study.yaml", FUNCTION.replace("name: s", "name: digits-mlp"))
    folder.write("objectives.py", "def train(trial): return trial.x\n")
    folder.hpo("run", "study.yaml")

    for command in ("show", "trials", "best", "resume", "delete", "sync"):
        error = explained(folder.hpo(command, "digit-mlp"))
        assert "no study 'digit-mlp'" in error
        assert "Did you mean 'digits-mlp'?" in error
        assert "hpo studies" in error


def test_a_study_of_that_name_with_another_space_is_refused_with_the_difference(
    folder: Folder,
) -> None:
    folder.write("study.yaml", FUNCTION)
    folder.write("objectives.py", "def train(trial): return trial.x\n")
    folder.hpo("run", "study.yaml")

    for override, difference in (
        ("space.x={float: [0, 2]}", "space: x: {float: [0.0, 1.0]} -> {float: [0.0, 2.0]}"),
        ("space.y=[1, 2]", "y: {choice: [1, 2]}"),
        ("objective.metric=value", "objective.metric: loss -> value"),
        ("objective.direction=maximize", "objective.direction: minimize -> maximize"),
    ):
        error = explained(folder.hpo("run", "study.yaml", "--set", override))
        assert "study 's' exists with another space or objective" in error
        assert difference in error
        assert "--set name=s-2" in error
        assert "hpo delete s" in error
        assert "\n\n" not in error
    resumed = explained(folder.hpo("resume", "s", "--set", "space.y=3"))
    assert "exists with another" in resumed
    assert "run it as another study: hpo run FILE --set name=s-2" in resumed
    assert folder.states("s") == {"COMPLETE": 2}


def test_a_run_directory_under_a_file_is_explained_and_no_study_made(folder: Folder) -> None:
    folder.write("study.yaml", FUNCTION)
    folder.write("objectives.py", "def train(trial): return trial.x\n")
    folder.write("file", "")

    error = explained(folder.hpo("run", "study.yaml", "--set", "run.directory=file"))

    assert f"{folder.path}/file/s" in error
    assert "--set run.directory=" in error
    assert folder.hpo("studies", "--json").json == []


@pytest.fixture
def unprivileged() -> list[str]:
    """What stands before a command that is to respect permissions, even if root runs the tests."""
    if os.geteuid() != 0:
        return []
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        pytest.skip("root may write everywhere, and there is no setpriv to give that up")
    return [setpriv, "--bounding-set=-dac_override,-dac_read_search"]


@pytest.mark.parametrize(
    ("storage", "fragments"),
    [
        ("sqlite:///hpo.db", ["cannot open storage", "can be written"]),
        ("sqlite:///{elsewhere}/hpo.db", ["run directory", "--set run.directory="]),
    ],
    ids=["storage", "run-directory"],
)
def test_a_read_only_folder_is_explained(
    tmp_path: Path, unprivileged: list[str], storage: str, fragments: list[str]
) -> None:
    folder, elsewhere = tmp_path / "folder", tmp_path / "elsewhere"
    folder.mkdir()
    elsewhere.mkdir()
    (folder / "study.yaml").write_text(FUNCTION)
    (folder / "objectives.py").write_text("def train(trial): return trial.x\n")
    folder.chmod(0o555)
    url = storage.format(elsewhere=elsewhere)
    command = [*unprivileged, str(HPO), "run", "study.yaml", "--storage", url]

    done = subprocess.run(
        command, cwd=folder, env=clean_environment(), capture_output=True, text=True, check=False
    )

    folder.chmod(0o755)
    error = explained(Done(done.returncode, done.stdout, done.stderr))
    assert "Traceback" not in error
    assert str(folder) in error
    for fragment in fragments:
        assert fragment in error


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["rnu", "study.yaml"], "Did you mean 'run'?"),
        (["run"], "FILE"),
        (["run", "study.yaml", "--trials", "3"], "--trials"),
        (["best"], "STUDY"),
    ],
)
def test_a_command_line_that_is_wrong_is_a_usage_error(
    folder: Folder, arguments: list[str], message: str
) -> None:
    assert message in explained(folder.hpo(*arguments), code=2)


def test_a_device_that_is_not_there_is_told_before_a_study_is_made(folder: Folder) -> None:
    folder.write("study.yaml", STUDY.replace("device: cpu", "device: cuda:77"))

    error = explained(folder.hpo("run", "study.yaml"))

    assert "'cuda:77'" in error
    assert "cpu" in error
    assert not (folder.path / "hpo.db").exists()


def test_a_batch_larger_than_the_data_is_told_with_the_largest_possible(folder: Folder) -> None:
    folder.write("study.yaml", STUDY.replace("use: [sgd]", "batch_size: 5000"))

    for command in ("run", "check"):
        done = folder.hpo(command, "study.yaml")
        assert done.code in (1, 4)
        assert "batch_size" in done.err
        assert "at most 1078" in done.err or "at most 1077" in done.err


def test_a_password_in_a_postgresql_url_is_never_printed(folder: Folder) -> None:
    folder.write("study.yaml", FUNCTION)

    done = folder.hpo("studies", HPO_STORAGE="postgresql://me:secret@127.0.0.1:9/d")

    assert "secret" not in explained(done)


@pytest.mark.parametrize(
    ("text", "fragments"),
    [
        ("name: s\nspace: &a {x: *a}\n", ["study.yaml:2", "refers to what it stands in"]),
        ("? [a, b]\n: 3\n", ["study.yaml", "keys should be strings"]),
    ],
)
def test_yaml_that_python_cannot_hold_is_explained(
    folder: Folder, text: str, fragments: list[str]
) -> None:
    folder.write("study.yaml", text)

    error = explained(folder.hpo("check", "study.yaml"))

    for fragment in fragments:
        assert fragment in error


@pytest.mark.parametrize("name", ["seed", "number", "device", "directory", "report"])
def test_a_parameter_that_would_hide_what_a_trial_has_is_refused(folder: Folder, name: str) -> None:
    folder.write("study.yaml", FUNCTION)

    error = explained(folder.hpo("check", "study.yaml", "--set", f"space.{name}=[1, 2]"))

    assert f"trial.{name} means something else already" in error


@pytest.fixture
def bad_data(folder: Folder) -> Folder:
    """Data with whatever can be wrong with it, and code of every kind that fails."""
    rows = [f"{i},{i % 2},{'only' if i == 3 else i % 2}" for i in range(40)]
    folder.write("good.csv", "\n".join(["x,y,once", *rows]) + "\n")
    x = np.where(np.arange(80) == 7, np.nan, np.arange(80.0)).reshape(40, 2)
    np.savez(folder.path / "gaps.npz", x=x, y=np.arange(40) % 2)
    for i in range(20):
        image = folder.path / "pictures" / ("cat" if i < 10 else "dog") / f"{i}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        image.write_bytes(b"\x89PNG\r\n\x1a\n, and no more")
    folder.write("broken.py", "import nothing_of_that_name\n")
    folder.write(
        "code_.py", "def nothing(trial):\n    pass\n\ndef other(trial):\n    return {'a': 1}\n"
    )
    return folder


TRAINER = "trainer: classifier, metric: val_error, epochs: 1"


@pytest.mark.parametrize(
    ("objective", "run", "fragments"),
    [
        (f"{TRAINER}, data: good.csv, target: z", "", ["objective.target", "'z'", "x, y, once"]),
        (f"{TRAINER}, data: good.csv, target: once", "", ["the label 'only' appears once"]),
        (f"{TRAINER}, data: gaps.npz", "", ["NaN or infinite in 1 place", "[3, 1]"]),
        (f"{TRAINER}, data: pictures", "", ["the image", "cannot be read"]),
        ("function: 'broken:train', metric: loss", "", ["No module named 'nothing_of_that_name'"]),
        ("function: 'code_:nothing', metric: loss", "", ["the function returned nothing and"]),
        ("command: seq 25; exit 3, shell: true, metric: a", "", ["exited with 3", "\n  6\n  7\n"]),
        ("function: code_:other, metric: loss", "", ["no metric 'loss' was", "reported was: a."]),
        (f"{TRAINER}, data: good.csv, target: y", "batch_size: 64", ["batch", "24"]),
        (f"{TRAINER}, data: iris", "device: 'cuda:9'", ["there is no device 'cuda:9'"]),
    ],
    ids=[
        "target", "once", "nan", "image", "import", "nothing", "exit", "metric", "batch", "gpu"
    ],
)  # fmt: skip
def test_what_can_be_known_before_a_study_is_told_by_check(
    bad_data: Folder, objective: str, run: str, fragments: list[str]
) -> None:
    space = "batch_size: 64" if run.startswith("batch") else "width: [1, 2]"
    device = run if run.startswith("device") else "device: cpu"
    bad_data.write(
        "study.yaml",
        f"objective: {{{objective}}}\nspace: {{{space}}}\nsearch: {{trials: 2}}\n"
        f"run: {{{device}}}\n",
    )

    done = bad_data.hpo("check", "study.yaml")

    assert done.code == 1, done
    assert "Traceback" not in done.err
    for fragment in fragments:
        assert fragment in done.err
    assert not (bad_data.path / "hpo.db").exists()
