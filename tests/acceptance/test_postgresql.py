"""A study in a real PostgreSQL, as in SQLite."""

from __future__ import annotations

import signal

from tests.acceptance.harness import Folder

_TRAIN = """
import time

def train(trial):
    with open("calls.txt", "a") as calls:
        calls.write(f"{trial.number}\\n")
    for step in range(5):
        time.sleep(0.02)
        yield {"loss": trial.x**2 + 1 / (step + 1)}
"""

_STUDY = {
    "name": "s",
    "objective": {"function": "objectives:train", "metric": "loss"},
    "space": {"x": {"float": [-1, 1]}, "kind": ["a", "b"]},
    "search": {"sampler": "tpe", "trials": 12, "startup_trials": 4},
}


def test_a_killed_study_in_postgresql_ends_as_one_in_sqlite(
    folder: Folder, postgresql_url: str
) -> None:
    folder.write("objectives.py", _TRAIN)
    file = folder.study(_STUDY)
    assert folder.hpo("run", file).code == 0
    expected = [(t["params"], t["value"], t["state"]) for t in folder.trials("s")]
    (folder.path / "calls.txt").unlink()

    running = folder.start("run", file, "--storage", postgresql_url)
    running.wait_for("trial 5 ")
    running.signal(signal.SIGKILL)
    running.done()
    killed = folder.hpo("studies", "--json", HPO_STORAGE=postgresql_url).json
    assert [(s["study"], s["state"]) for s in killed] == [("s", "interrupted")]

    done = folder.hpo("resume", "s", HPO_STORAGE=postgresql_url)

    assert done.code == 0
    trials = folder.hpo("trials", "s", "--json", HPO_STORAGE=postgresql_url).json
    assert [(t["params"], t["value"], t["state"]) for t in trials] == expected
    assert {t["n_steps"] for t in trials} == {5}
    assert len(folder.calls()) <= 12 + 1  # only the trial that was running began again
