"""Whatever ends a study early, going on with it gives what it would have given undisturbed."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.harness import Folder, Running, Starter, Study

OBJECTIVES = """
import os
import time


def wait_in(trial):
    \"\"\"Trial 4 waits at its second step until somebody makes a file named go.\"\"\"
    if trial.number == 4 and not os.path.exists("go"):
        open("waiting", "w").close()
        while not os.path.exists("go"):
            time.sleep(0.01)


def train(trial):
    with open("calls.txt", "a") as calls:
        calls.write(f"{trial.number}\\n")
    loss = (trial.x - 0.3) ** 2 + trial.y
    for step in range(1, 4):
        if step == 2:
            wait_in(trial)
        trial.report(step, loss=loss + 1 / step)
    return {"loss": loss}


def steps(trial):
    with open("calls.txt", "a") as calls:
        calls.write(f"{trial.number}\\n")
    try:
        for step in range(1, 4):
            if step == 2:
                wait_in(trial)
            yield {"loss": trial.x + 1 / step}
    finally:
        with open("cleaned.txt", "a") as cleaned:
            cleaned.write(f"{trial.number}\\n")


def stubborn(trial):
    try:
        yield {"loss": 1.0}
        wait_in(trial)
        yield {"loss": 1.0}
    finally:
        if trial.number == 4 and not os.path.exists("go"):
            open("cleaning", "w").close()
            while not os.path.exists("go"):
                time.sleep(0.01)
"""
N = 6
SAMPLERS = ("grid", "random", "sobol", "tpe", "gp", "skopt")


def study(sampler: str = "random", function: str = "train") -> Study:
    return {
        "name": "s",
        "objective": {"function": f"objectives:{function}", "metric": "loss"},
        "space": {"x": {"float": [0, 1], "points": 5}, "y": {"int": [0, 3]}},
        "search": {"sampler": sampler, "trials": N, "seed": 3, "startup_trials": 3},
        "run": {"grace_period": 0.2},  # nobody lets trial 4 reach its next report
    }


def prepared(folder: Folder, values: Study) -> str:
    folder.write("objectives.py", OBJECTIVES)
    return folder.study(values)


def lasting(trials: list[dict[str, Any]]) -> list[list[Any]]:
    """All of trials that should not depend on whether their study was interrupted."""
    keys = ("trial", "state", "value", "params", "metrics", "n_steps")
    return [[trial[key] for key in keys] for trial in trials]


def told(folder: Folder) -> list[list[Any]]:
    return lasting(folder.trials("s"))


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory, starter: Starter) -> list[dict[str, Any]]:
    """The trials of an uninterrupted study."""
    path = tmp_path_factory.mktemp("uninterrupted") / "study"
    folder, running = uninterrupted(path, starter, study())
    assert running.done().code == 0
    return folder.trials("s")


def uninterrupted(path: Path, starter: Starter, values: Study) -> tuple[Folder, Running]:
    """Starts the same study elsewhere, where nothing interrupts it."""
    path.mkdir()
    folder = Folder(path, starter)
    folder.write("go", "")
    return folder, folder.start("run", prepared(folder, values))


def interrupt(folder: Folder, file: str, number: int) -> int:
    """Runs a study until trial 4 is at its second step, and sends a signal."""
    running = folder.start("run", file)
    running.wait_for("", folder.path / "waiting")
    running.signal(number)
    done = running.done()
    assert "Traceback" not in done.err
    return done.code


@pytest.mark.parametrize(
    ("number", "code", "again"),
    [
        (signal.SIGINT, 130, ["resume", "s"]),
        (signal.SIGINT, 130, ["run", "study.yaml"]),
        (signal.SIGTERM, 143, ["resume", "s"]),
        (signal.SIGKILL, -signal.SIGKILL, ["resume", "s"]),
        (signal.SIGKILL, -signal.SIGKILL, ["run", "study.yaml"]),
    ],
    ids=["int-resume", "int-run", "term-resume", "kill-resume", "kill-run"],
)
def test_an_interrupted_study_goes_on_to_the_same_end_without_repeating_trials(
    folder: Folder, expected: list[dict[str, Any]], number: int, code: int, again: list[str]
) -> None:
    file = prepared(folder, study())

    assert interrupt(folder, file, number) == code

    assert folder.hpo("show", "s", "--json").json["state"] == "interrupted"
    folder.write("go", "")
    assert folder.hpo(*again).code == 0
    trials = folder.trials("s")
    assert lasting(trials) == lasting(expected)
    assert [trial["attempts"] for trial in trials] == [1, 1, 1, 1, 2, 1]
    assert Counter(folder.calls()) == Counter([*map(str, range(N)), "4"])


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_one_seed_gives_the_same_trials_in_another_folder_and_after_an_interruption(
    folder: Folder, starter: Starter, sampler: str
) -> None:
    other, running = uninterrupted(folder.path / "other", starter, study(sampler))
    file = prepared(folder, study(sampler))

    assert interrupt(folder, file, signal.SIGINT) == 130
    folder.write("go", "")
    assert folder.hpo("resume", "s").code == 0

    assert running.done().code == 0
    assert told(folder) == told(other)


def test_an_interrupted_study_is_shown_and_says_how_to_go_on(folder: Folder) -> None:
    file = prepared(folder, study())
    running = folder.start("run", file, "--json")
    running.wait_for("", folder.path / "waiting")
    running.signal(signal.SIGINT)

    done = running.done()

    assert done.code == 130
    assert "hpo resume s" in done.err
    assert done.json["state"] == "interrupted"
    counts = {"complete": 4, "pruned": 0, "fail": 0, "running": 0, "waiting": 1}
    assert done.json["n_trials"] == counts
    assert done.json["best"]["trial"] in range(4)
    assert "interrupted" in folder.hpo("studies").out


def test_the_seconds_of_a_trial_are_those_of_all_its_attempts(folder: Folder) -> None:
    assert interrupt(folder, prepared(folder, study()), signal.SIGINT) == 130
    first = folder.trials("s")[4]["wall_seconds"]
    assert first > 0

    folder.write("go", "")
    assert folder.hpo("resume", "s").code == 0
    trial = folder.trials("s")[4]
    assert trial["wall_seconds"] > first
    assert f", in {trial['wall_seconds']:.1f} s" in folder.hpo("why", "s", "4").out


def test_an_interrupted_generator_is_closed_and_runs_its_finally(folder: Folder) -> None:
    file = prepared(folder, study(function="steps"))

    assert interrupt(folder, file, signal.SIGINT) == 130

    cleaned = (folder.path / "cleaned.txt").read_text().split()
    assert cleaned == ["0", "1", "2", "3", "4"]


def test_two_interrupts_end_it_at_once_with_130_and_it_can_be_resumed(folder: Folder) -> None:
    file = prepared(folder, study(function="stubborn"))
    running = folder.start("run", file)
    running.wait_for("", folder.path / "waiting")
    running.signal(signal.SIGINT)
    running.wait_for("", folder.path / "cleaning")
    running.signal(signal.SIGINT)

    done = running.done()

    assert done.code == 130
    assert "Traceback" not in done.err
    folder.write("go", "")
    assert folder.hpo("resume", "s").code == 0
    assert folder.states("s") == {"COMPLETE": N}


def test_a_study_interrupted_twice_counts_its_attempts(folder: Folder) -> None:
    file = prepared(folder, study())
    for _ in range(2):
        (folder.path / "waiting").unlink(missing_ok=True)
        assert interrupt(folder, file, signal.SIGINT) == 130
    folder.write("go", "")

    assert folder.hpo("resume", "s").code == 0

    assert folder.trials("s")[4]["attempts"] == 3
    assert Counter(folder.calls())["4"] == 3
    logs = sorted(path.name for path in (folder.path / "hpo-runs/s/trial-00004").iterdir())
    assert len(logs) == 3  # those of earlier attempts are kept


def test_more_trials_go_on_with_a_finished_study(folder: Folder) -> None:
    folder.write("go", "")
    file = prepared(folder, study())
    folder.hpo("run", file)
    before = told(folder)

    done = folder.hpo("resume", "s", "--set", "search.trials=9")

    assert done.code == 0
    assert len(done.events) == 9 - N
    assert told(folder)[:N] == before
    assert len(folder.calls()) == 9


def test_a_finished_study_run_again_repeats_nothing_and_shows_its_leaderboard(
    folder: Folder,
) -> None:
    folder.write("go", "")
    file = prepared(folder, study())
    first = folder.hpo("run", file)

    again = folder.hpo("run", file)

    assert again.code == 0
    assert again.out == first.out
    assert again.events == []
    assert len(folder.calls()) == N


def test_a_study_is_resumed_from_another_folder(folder: Folder) -> None:
    file = prepared(folder, study())
    assert interrupt(folder, file, signal.SIGINT) == 130
    storage = f"sqlite:///{folder.path}/hpo.db"
    elsewhere = Folder(folder.path / "elsewhere", folder.starter)
    elsewhere.path.mkdir()
    elsewhere.write("go", "")

    assert elsewhere.hpo("resume", "s", "--storage", storage).code == 0

    assert not (elsewhere.path / "hpo-runs").exists()
    assert folder.states("s") == {"COMPLETE": N}


def test_a_study_that_is_deleted_while_it_runs_ends_with_one_explained_error(
    folder: Folder,
) -> None:
    running = folder.start("run", prepared(folder, study()))
    running.wait_for("", folder.path / "waiting")
    assert folder.hpo("delete", "s", "--yes").code == 0
    folder.write("go", "")

    done = running.done()

    assert done.code == 1
    assert "Traceback" not in done.err
    assert "error: " in done.err
