"""Studies that go on after their data has changed: they say so, and go on all the same."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import Any

import pytest

from tests.acceptance.harness import Done, Folder

ROWS = [f"{x},{(x * 7) % 5},{int((x * 13) % 10 > 4)}" for x in range(60)]
TABLE = "\n".join(["a,b,y", *ROWS, ""])
MORE = "\n".join(["a,b,y", *ROWS, "60,1,0", "61,2,1", ""])
RELABELLED = TABLE.replace("59,3,1", "59,3,0")
NETWORKS = {
    "name": "s",
    "objective": {
        "trainer": "classifier",
        "data": "d.csv",
        "target": "y",
        "metric": "val_error",
        "epochs": 1,
    },
    "space": {"width": {"int": [1, 64]}, "depth": 1},
    "search": {"sampler": "random"},
}
TREES = {
    **NETWORKS,
    "objective": {
        "estimator": "sklearn.tree.DecisionTreeClassifier",
        "data": "d.csv",
        "target": "y",
        "metric": "val_error",
        "folds": 3,
    },
    "space": {"max_depth": {"int": [1, 64]}},
}
OTHER = "on another 'd.csv', or on another split of it (search.seed)"


def more(folder: Folder, n: int, *arguments: str) -> Done:
    """Goes on with the study until it has n trials."""
    done = folder.hpo("run", "study.yaml", "--set", f"search.trials={n}", *arguments)
    assert done.code == 0, done.err
    return done


def begun(folder: Folder, values: Any, *arguments: str) -> None:
    """A study of two trials."""
    folder.write("d.csv", TABLE)
    folder.study(values)
    assert "warning" not in more(folder, 2, *arguments).err


@pytest.mark.parametrize(
    ("values", "changed", "arguments"),
    [
        (NETWORKS, MORE, []),
        (NETWORKS, RELABELLED, ["--workers", "1"]),
        (TREES, RELABELLED, []),
        (NETWORKS, TABLE, ["--set", "search.seed=1"]),
    ],
    ids=["networks", "networks in processes", "trees", "another split"],
)
def test_a_study_that_goes_on_with_other_data_says_so(
    folder: Folder, values: Any, changed: str, arguments: list[str]
) -> None:
    begun(folder, values)
    folder.write("d.csv", changed)

    done = more(folder, 4, *arguments, "--json")

    (warning,) = (line for line in done.err.splitlines() if line.startswith("warning"))
    assert warning.startswith("warning: study 's' has been trained since 20")
    assert OTHER in warning
    assert warning.endswith("to begin anew: hpo run FILE --set name=s-2")
    by_data = [(each["first_trial"], each["n_trials"]) for each in done.json["trained_on"]]
    assert by_data == [(0, 2), (2, 2)]
    digests = [each["digest"] for each in done.json["trained_on"] for _ in range(2)]
    assert [trial["data"] for trial in folder.trials("s")] == digests
    shown = folder.hpo("show", "s")
    assert "that of trial 0 in 2 trials, that of trial 2 in 2 trials; their values" in shown.out
    assert folder.hpo("show", "s", "--json").json["trained_on"] == done.json["trained_on"]


def test_the_same_data_is_the_same_in_any_process_and_folder(folder: Folder) -> None:
    begun(folder, NETWORKS)
    storage = ["--storage", f"sqlite:///{folder.path}/hpo.db"]
    elsewhere = Folder(folder.path / "elsewhere", folder.starter)
    elsewhere.path.mkdir()
    elsewhere.write("d.csv", TABLE)
    elsewhere.study(NETWORKS)
    folder.write("d.csv", MORE)

    there = more(elsewhere, 4, *storage, "--workers", "2", "--json")

    assert "warning" not in there.err
    (only,) = there.json["trained_on"]
    assert (only["first_trial"], only["n_trials"]) == (0, 4)
    assert "do not compare" not in folder.hpo("show", "s").out


def test_what_a_study_was_trained_on_moves_with_it(folder: Folder) -> None:
    begun(folder, NETWORKS)
    folder.hpo("db", "export", "s", "--output", "s.jsonl")
    storage = ["--storage", "sqlite:///other.db"]
    assert folder.hpo("db", "import", "s.jsonl", *storage).code == 0
    folder.write("d.csv", MORE)

    assert OTHER in more(folder, 3, *storage).err


def test_a_study_that_knows_nothing_of_its_data_begins_to(folder: Folder) -> None:
    begun(folder, NETWORKS)
    with closing(sqlite3.connect(folder.path / "hpo.db")) as database, database:
        database.execute("DELETE FROM study_system_attributes WHERE key = 'hpo:trained_on'")
        database.execute(
            "UPDATE trial_system_attributes SET value_json = json_remove(value_json, '$.data') "
            "WHERE key = 'hpo:driver'"
        )
    folder.write("d.csv", MORE)
    first = more(folder, 3)
    shown = folder.hpo("show", "s")
    folder.write("d.csv", RELABELLED)
    second = more(folder, 4, "--json")

    assert "warning" not in first.err
    assert "do not compare" not in shown.out
    assert OTHER in second.err
    by_data = [(each["first_trial"], each["n_trials"]) for each in second.json["trained_on"]]
    assert by_data == [(2, 1), (3, 1)]


def test_a_study_whose_folder_was_moved_goes_on_there(folder: Folder) -> None:
    old = Folder(folder.path / "old", folder.starter)
    old.path.mkdir()
    begun(old, NETWORKS)
    old.path.rename(folder.path / "new")
    new = Folder(folder.path / "new", folder.starter)

    tested = new.hpo("best", "s", "--test")
    done = more(new, 4)

    assert tested.code == 0
    assert "trained again" not in tested.err  # its weights have moved, too
    assert "warning" not in done.err
    assert new.hpo("resume", "s", "--set", "search.trials=5").code == 0
    runs = new.path / "hpo-runs" / "s"
    assert sorted(path.name for path in runs.glob("trial-*")) == [
        f"trial-{i:05d}" for i in range(5)
    ]
    assert not old.path.exists()
    assert new.hpo("delete", "s", "--yes").code == 0
    assert not runs.exists()


def test_a_moved_study_leaves_another_one_of_its_name_alone(folder: Folder) -> None:
    old, new = (Folder(folder.path / name, folder.starter) for name in ("old", "new"))
    old.path.mkdir()
    begun(old, NETWORKS)
    old.path.rename(new.path)
    old.path.mkdir()
    begun(old, NETWORKS)
    old.write("d.csv", MORE)

    assert str(new.path) in new.hpo("show", "s").out
    resumed = new.hpo("resume", "s", "--set", "search.trials=3")
    assert resumed.code == 0
    assert "warning" not in resumed.err  # its data is its own, too
    assert new.hpo("delete", "s", "--yes").code == 0

    trials = sorted(path.name for path in (old.path / "hpo-runs" / "s").glob("trial-*"))
    assert trials == ["trial-00000", "trial-00001"]
    assert len(old.trials("s")) == 2


def test_a_study_can_be_read_when_its_data_has_gone(folder: Folder) -> None:
    begun(folder, NETWORKS)
    (folder.path / "d.csv").unlink()

    assert [trial["state"] for trial in folder.trials("s")] == 2 * ["COMPLETE"]
    assert folder.hpo("show", "s").code == folder.hpo("why", "s", "1").code == 0
    assert folder.hpo("studies", "--json").json[0]["n_trials"]["complete"] == 2
    resumed = folder.hpo("resume", "s", "--set", "search.trials=3")
    assert resumed.code == 1
    assert "cannot load 'd.csv': there is no file 'd.csv' (looked in " in resumed.err


def test_another_data_in_the_file_is_refused_and_not_warned_of(folder: Folder) -> None:
    begun(folder, NETWORKS)
    folder.write("e.csv", MORE)

    done = folder.hpo("run", "study.yaml", "--set", "objective.data=e.csv")

    assert done.code == 1
    assert "objective.data: d.csv -> e.csv" in done.err
    assert "warning" not in done.err


def test_functions_and_commands_have_data_that_nobody_knows(folder: Folder) -> None:
    folder.write("mine.py", "def train(trial):\n    return trial.x\n")
    objective = {"function": "mine:train", "metric": "loss"}
    file = folder.study({"name": "s", "objective": objective, "space": {"x": {"int": [0, 1]}}})

    done = folder.hpo("run", file, "--json")

    assert json.loads(done.out)["trained_on"] == []
    assert [trial["data"] for trial in folder.trials("s")] == [None, None]
