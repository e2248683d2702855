"""Moving studies between databases: hpo db export, hpo db import."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Folder, Starter

TRAIN = """
import pathlib
import time

def train(trial):
    for step in range(3):
        if step == 2 and trial.number == 5 and pathlib.Path("hold").exists():
            pathlib.Path("held").touch()
            time.sleep(600)
        yield {"loss": trial.x**2 + 1 / (step + 1)}
"""
STUDY = {
    "name": "s",
    "objective": {"function": "objectives:train", "metric": "loss"},
    "space": {"x": {"float": [-1, 1]}, "kind": ["a", "b"]},
    "search": {"sampler": "tpe", "trials": 8, "startup_trials": 3},
}


@pytest.fixture
def file(folder: Folder) -> str:
    """A study file beside its function."""
    folder.write("objectives.py", TRAIN)
    return folder.study(STUDY)


def _told(folder: Folder, storage: str, study: str = "s") -> list[Any]:
    listed = folder.hpo("trials", study, "--json", "--storage", storage).json
    return [(t["trial"], t["state"], t["params"], t["value"], t["n_steps"]) for t in listed]


def test_a_killed_study_goes_on_in_postgresql_as_if_it_had_never_moved(
    folder: Folder, file: str, postgresql_url: str
) -> None:
    assert folder.hpo("run", file, "--storage", "sqlite:///stayed.db").code == 0
    hold = folder.write("hold", "")
    running = folder.start("run", file)
    running.wait_for("", folder.path / "held")
    running.signal(signal.SIGKILL)
    running.done()
    hold.unlink()

    exported = folder.hpo("db", "export", "s", "--output", "s.jsonl")
    imported = folder.hpo("db", "import", "s.jsonl", "--json", "--storage", postgresql_url)

    assert (exported.code, exported.out) == (0, "")
    directory = folder.hpo("show", "s", "--json").json["directory"]
    assert f"not in it; they are in {directory}" in exported.err
    assert imported.code == 0
    counts = {key: imported.json[key] for key in ("study", "n_put_back", "directory")}
    assert counts == {"study": "s", "n_put_back": 1, "directory": directory}
    assert "1 of them ran when it was exported" in imported.err
    shown = folder.hpo("show", "s", "--json", HPO_STORAGE=postgresql_url).json
    assert (shown["state"], shown["n_trials"]["waiting"]) == ("interrupted", 1)

    assert folder.hpo("resume", "s", "--storage", postgresql_url).code == 0

    assert _told(folder, postgresql_url) == _told(folder, "sqlite:///stayed.db")


def test_a_study_goes_through_a_pipe(folder: Folder, file: str) -> None:
    assert folder.hpo("run", file).code == 0
    exported = folder.hpo("db", "export", "s")
    documents = [json.loads(line) for line in exported.out.splitlines()]
    assert [document.get("trial") for document in documents] == [None, None, *range(8)]

    script = folder.write("export", exported.out)
    environment = {**folder.environment, "HPO_STORAGE": "sqlite:///other.db"}
    with (
        script.open() as stdin,
        (folder.path / "out").open("w") as out,
        (folder.path / "err").open("w") as err,
    ):
        descriptors = (stdin.fileno(), out.fileno(), err.fileno())
        process = folder.starter(["db", "import", "-"], folder.path, environment, descriptors)
    assert process.wait() == 0

    said = (folder.path / "out").read_text()
    assert said == "Imported study 's' with 8 trials into sqlite:///other.db.\n"
    assert (folder.path / "err").read_text() == ""
    here, there = (
        folder.hpo("show", "s", "--json", HPO_STORAGE=f"sqlite:///{name}.db").json
        for name in ("hpo", "other")
    )
    assert {**there, "storage": here["storage"]} == here


def test_a_copy_leaves_the_other_study_alone(folder: Folder, file: str) -> None:
    assert folder.hpo("run", file).code == 0
    folder.hpo("db", "export", "s", "-o", "s.jsonl")

    refused = folder.hpo("db", "import", "s.jsonl")
    copied = folder.hpo("db", "import", "s.jsonl", "--name", "copy", "--json")

    assert refused.code == 1
    assert "there is a study 's' already" in refused.err
    assert "--name NEW" in refused.err
    directory = Path(copied.json["directory"])
    assert not directory.exists()
    assert f"they belong into {directory}" in copied.err
    before = _told(folder, "sqlite:///hpo.db")
    assert _told(folder, "sqlite:///hpo.db", "copy") == before

    assert folder.hpo("resume", "copy", "--set", "search.trials=10").code == 0
    trials = sorted(path.name for path in directory.glob("trial-*"))
    assert trials == ["trial-00008", "trial-00009"]
    assert folder.hpo("delete", "copy", "--yes").code == 0

    assert _told(folder, "sqlite:///hpo.db") == before
    assert len(list((folder.path / "hpo-runs" / "s").glob("trial-*"))) == 8


def test_a_study_whose_run_directory_is_elsewhere_now(folder: Folder, file: str) -> None:
    assert folder.hpo("run", file).code == 0
    folder.hpo("db", "export", "s", "--output", "s.jsonl")
    (folder.path / "hpo-runs" / "s").rename(folder.path / "moved")

    storage = ("--storage", "sqlite:///new.db")
    assert folder.hpo("db", "import", "s.jsonl", "--directory", "moved", *storage).code == 0

    assert folder.hpo("show", "s", "--json", *storage).json["directory"] == str(
        folder.path / "moved"
    )


@pytest.fixture(scope="module")
def moving(starter: Starter, tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """A folder with a study, its export, and the export cut off."""
    folder = Folder(tmp_path_factory.mktemp("moving"), starter)
    folder.write("objectives.py", TRAIN)
    assert folder.hpo("run", folder.study(STUDY)).code == 0
    assert folder.hpo("db", "export", "s", "--output", "s.jsonl").code == 0
    whole = (folder.path / "s.jsonl").read_text()
    folder.write("short.jsonl", whole[: -len(whole.splitlines()[-1]) - 50])
    return folder


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["export", "digits"], "no study 'digits'"),
        (["export", "s", "--storage", "sqlite:///none.db"], "there is no storage"),
        (["export", "s", "--output", "none/s.jsonl"], "cannot write none/s.jsonl: No such file"),
        (["export", "s", "--output", "."], "cannot write .: Is a directory"),
        (["import", "none.jsonl"], "cannot read none.jsonl: No such file"),
        (["import", "."], "cannot read .: Is a directory"),
        (["import", "study.yaml", "--name", "t"], "study.yaml, line 1: no JSON"),
        (["import", "short.jsonl", "--name", "t"], "short.jsonl, line 9: no JSON"),
        (["import", "s.jsonl", "--name", "a b"], "a study cannot be called 'a b'"),
        (["import", "-", "--name", "t"], "stdin is empty or cut off"),
    ],
)
def test_bad_input_is_explained_and_leaves_nothing(
    moving: Folder, arguments: list[str], message: str
) -> None:
    done = moving.hpo("db", *arguments)

    assert (done.code, done.out) == (1, "")
    assert message in done.err
    assert [study["study"] for study in moving.hpo("studies", "--json").json] == ["s"]
    files = {path.name for path in moving.path.glob("[!.]*") if path.suffix in (".db", ".jsonl")}
    assert files == {"hpo.db", "s.jsonl", "short.jsonl"}


def test_an_export_takes_the_place_of_an_older_one(moving: Folder, tmp_path: Path) -> None:
    target, link = tmp_path / "older.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)

    assert moving.hpo("db", "export", "s", "--output", str(link)).code == 0

    assert link.is_symlink()
    assert target.read_text() == (moving.path / "s.jsonl").read_text()
    assert {path.name for path in tmp_path.iterdir()} == {"older.txt", "link.txt"}


def test_an_export_into_a_pipe_leaves_the_pipe(moving: Folder, tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)

    assert moving.hpo("db", "export", "s", "--output", str(pipe)).code == 0

    read = os.read(reader, 2**16)
    os.close(reader)
    assert pipe.is_fifo()
    assert read == (moving.path / "s.jsonl").read_bytes()
