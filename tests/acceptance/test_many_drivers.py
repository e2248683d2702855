"""Several processes at work on one study: totals, limits, stopping, and what people are told."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from typing import Any

import optuna
import pytest

from hpo import catalog
from hpo.catalog import SPEC
from hpo.storage import open_storage
from tests.acceptance.harness import Folder, Running, Study

OBJECTIVES = """
import os
import time


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)


def note(trial, what):
    with open("calls.txt", "a") as calls:
        calls.write(f"{trial.number} {os.getpid()} {what}\\n")


def quick(trial):
    note(trial, "runs")
    time.sleep(0.02)
    return trial.x


def together(trial):
    \"\"\"No trial ends before two processes are at work.\"\"\"
    note(trial, "runs")
    while len({line.split()[1] for line in open("calls.txt")}) < 2:
        time.sleep(0.01)
    time.sleep(0.02)
    return trial.x


def stepwise(trial):
    \"\"\"Goes on from its own checkpoint; its third step waits for a file named go.\"\"\"
    file = trial.checkpoint_dir / "step"
    first = int(file.read_text()) + 1 if file.exists() else 1
    for step in range(first, 7):
        note(trial, step)
        if step == 3:
            open(f"waiting-{trial.number}", "w").close()
            wait_for("go")
        file.write_text(str(step))
        trial.report(step, loss=trial.x + 1 / step)
    return {"loss": trial.x}


def endless(trial):
    \"\"\"Reports every 10 ms, until there is a file named go.\"\"\"
    step = 0
    while not os.path.exists("go"):
        step += 1
        time.sleep(0.01)
        trial.report(step, loss=1 / step)
    return {"loss": trial.x}


def dies(trial):
    note(trial, "runs")
    if trial.number == 1:
        os.kill(os.getpid(), 9)
    return trial.x


def fails_or_waits(trial):
    if trial.number == 0:
        wait_for("go")
    raise ValueError("no")


def fails_beside(trial):
    \"\"\"No trial fails before six are at work.\"\"\"
    note(trial, "runs")
    while len({line.split()[0] for line in open("calls.txt")}) < 6:
        time.sleep(0.01)
    raise ValueError("no")


def fails_together(trial):
    \"\"\"No trial fails before two processes are at work.\"\"\"
    note(trial, "runs")
    while len({line.split()[1] for line in open("calls.txt")}) < 2:
        time.sleep(0.01)
    raise ValueError("no")


def apart(trial):
    \"\"\"Notes when it begins and ends.\"\"\"
    note(trial, f"begins {trial.x}")
    time.sleep(0.05)
    note(trial, f"ends {trial.x}")
    return float(trial.x)


def says(trial):
    raise ValueError("evil \\ud800 \\x1b[2J \\x00")


def fails(trial):
    if trial.x > 0.5:
        raise ValueError("too large")
    return {"loss": trial.x}
"""


def study(function: str, space: Any = None, run: Any = None, **search: Any) -> Study:
    return {
        "name": "s",
        "objective": {"function": f"objectives:{function}", "metric": "loss"},
        "space": space or {"x": {"float": [0, 1]}},
        "search": {"sampler": "random", "trials": 8, "seed": 3, **search},
        "run": {"lease": 5.0, "grace_period": 5.0, **(run or {})},
    }


def start(folder: Folder, values: Study, *arguments: str) -> Running:
    folder.write("objectives.py", OBJECTIVES)
    return folder.start("run", folder.study(values), *arguments)


def until_made(running: Running) -> Running:
    running.wait_for("Study 's'")
    return running


@pytest.mark.parametrize(
    ("space", "sampler", "n"),
    [
        ({"x": {"float": [0, 1]}}, "random", 12),
        ({"x": {"float": [0, 1], "points": 4}, "y": [1, 2, 3]}, "grid", 12),
        ({"x": {"float": [0, 1]}}, "sobol", 12),
        ({"x": {"float": [0, 1]}}, "tpe", 12),
    ],
    ids=["random", "grid", "sobol", "tpe"],
)
def test_two_drivers_run_as_many_trials_as_the_file_says_and_no_configuration_twice(
    folder: Folder, space: Any, sampler: str, n: int
) -> None:
    values = study("together", space, sampler=sampler, trials=n, startup_trials=4)
    first = until_made(start(folder, values))
    second = folder.start("worker", "s")

    assert (first.done().code, second.done().code) == (0, 0)

    assert folder.states("s") == {"COMPLETE": n}
    trials = folder.trials("s")
    assert len({json.dumps(trial["params"], sort_keys=True) for trial in trials}) == n
    numbers, processes, _ = zip(*map(str.split, folder.calls()), strict=True)
    assert Counter(numbers) == Counter(map(str, range(n)))
    assert len(set(processes)) == 2
    assert folder.hpo("show", "s", "--json").json["state"] == "finished"


def test_worker_processes_share_the_trials_of_a_driver(folder: Folder) -> None:
    running = start(folder, study("together"), "--workers", "2")

    assert running.done().code == 0

    numbers, processes, _ = zip(*map(str.split, folder.calls()), strict=True)
    assert Counter(numbers) == Counter(map(str, range(8)))
    assert len(set(processes)) == 2


def test_what_runs_where_is_shown(folder: Folder) -> None:
    running = start(folder, study("stepwise", trials=2), "--workers", "2")
    for number in (0, 1):
        running.wait_for("", folder.path / f"waiting-{number}")

    processes = {int(line.split()[1]) for line in folder.calls()}
    shown: dict[str, Any] = {"running": []}
    while {trial["pid"] for trial in shown["running"]} != processes:  # written within a second
        shown = folder.hpo("show", "s", "--json").json
    text = folder.hpo("show", "s").out

    assert shown["state"] == "running"
    assert [driver["pid"] for driver in shown["drivers"]] == [running.process.pid]
    assert sorted(trial["slot"] for trial in shown["running"]) == [0, 1]
    assert [trial["attempt"] for trial in shown["running"]] == [1, 1]
    assert f"1 driver: process {running.process.pid}" in text
    assert "slot 0" in text
    (line,) = [line for line in folder.hpo("studies").out.splitlines() if " s " in f" {line} "]
    assert "running" in line
    folder.write("go", "")
    assert running.done().code == 0


def test_stop_ends_every_driver_in_peace_and_resume_goes_on_from_the_checkpoints(
    folder: Folder,
) -> None:
    first = until_made(start(folder, study("endless", trials=4)))
    second = folder.start("worker", "s")
    while folder.states("s")["RUNNING"] < 2:
        pass

    stopped = folder.hpo("stop", "s")

    assert stopped.code == 0
    assert "Asked 2 drivers of 's' to stop" in stopped.err
    assert "hpo resume s" in stopped.err
    assert (first.done().code, second.done().code) == (130, 130)
    assert folder.states("s") == {"WAITING": 2}
    shown = folder.hpo("show", "s", "--json").json
    assert (shown["state"], shown["state_reason"]) == ("interrupted", "stopped by hpo stop")
    assert "stopped by hpo stop" in folder.hpo("studies").out
    folder.write("go", "")
    assert folder.hpo("resume", "s").code == 0
    assert folder.states("s") == {"COMPLETE": 4}
    assert [trial["attempts"] for trial in folder.trials("s")] == [2, 2, 1, 1]


def test_nothing_to_stop_is_said(folder: Folder) -> None:
    assert start(folder, study("quick")).done().code == 0

    done = folder.hpo("stop", "s")

    assert done.code == 0
    assert "no process drives study 's'; it is finished" in done.err


def test_an_interrupt_lets_the_running_step_end_and_the_next_attempt_goes_on_after_it(
    folder: Folder,
) -> None:
    running = start(folder, study("stepwise", trials=1))
    running.wait_for("", folder.path / "waiting-0")
    running.signal(signal.SIGTERM)
    folder.write("go", "")

    assert running.done().code == 143

    assert folder.states("s") == {"WAITING": 1}
    assert folder.hpo("resume", "s").code == 0
    (trial,) = folder.trials("s")
    assert (trial["attempts"], trial["n_steps"]) == (2, 6)
    steps = [line.split()[2] for line in folder.calls()]
    assert steps == ["1", "2", "3", "4", "5", "6"]
    log = (folder.path / "hpo-runs/s/trial-00000/metrics.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in log] == [1, 2, 3, 4, 5, 6]


def test_a_trial_whose_process_always_dies_is_given_up_and_the_study_goes_on(
    folder: Folder,
) -> None:
    running = start(folder, study("dies", trials=3, run={"workers": 1, "max_retries": 1}))

    assert running.done().code == 0

    assert [trial["state"] for trial in folder.trials("s")] == ["COMPLETE", "FAIL", "COMPLETE"]
    failure = folder.trials("s")[1]["failure"]
    assert failure["kind"] == "LOST"
    assert "SIGKILL" in failure["message"]
    assert "tried 2 times (max_retries = 1)" in failure["message"]
    assert Counter(line.split()[0] for line in folder.calls())["1"] == 2
    assert "tried 2 times" in folder.hpo("why", "s", "1").out


def test_failures_are_counted_for_the_study(folder: Folder) -> None:
    values = study("fails", trials=200, run={"max_failures": 3})
    first = until_made(start(folder, values))
    second = folder.start("worker", "s")

    codes = first.done().code, second.done().code

    assert codes == (4, 4)
    assert folder.states("s")["FAIL"] == 4


def test_of_failures_at_the_same_moment_one_more_than_max_failures_counts(
    folder: Folder, database_url: str
) -> None:
    folder.environment["HPO_STORAGE"] = database_url
    values = study("fails_beside", trials=200, run={"max_failures": 2, "workers": 3})
    first = until_made(start(folder, values))
    second = folder.start("worker", "s")

    done = first.done(), second.done()

    assert [each.code for each in done] == [4, 4]
    for each in done:
        assert "3 trials failed, more than max_failures = 2" in each.err
    trials = folder.trials("s")
    states = Counter(trial["state"] for trial in trials)
    assert states["FAIL"] == 3
    assert set(states) == {"FAIL", "WAITING"}
    assert all(trial["failure"] is None for trial in trials if trial["state"] == "WAITING")
    shown = folder.hpo("show", "s", "--json").json
    assert (shown["state"], shown["state_reason"]) == (
        "failed",
        "3 trials failed, more than max_failures = 2",
    )
    again = folder.hpo("resume", "s", "--set", "run.max_failures=5")
    assert again.code == 4
    assert folder.states("s")["FAIL"] == 6


def test_failures_in_a_row_are_those_of_all_drivers_since_the_study_was_taken_up(
    folder: Folder, database_url: str
) -> None:
    folder.environment["HPO_STORAGE"] = database_url
    first = until_made(start(folder, study("fails_together", trials=200)))
    second = folder.start("worker", "s")

    done = first.done(), second.done()

    assert [each.code for each in done] == [4, 4]
    for each in done:
        assert "20 trials in a row failed" in each.err
    assert folder.states("s")["FAIL"] == 20
    assert folder.hpo("resume", "s").code == 4
    assert folder.states("s")["FAIL"] == 40


def test_a_worker_needs_a_study_and_changes_nothing_but_how_it_runs(folder: Folder) -> None:
    missing = folder.hpo("worker", "s", "--storage", "sqlite:///hpo.db")
    assert missing.code == 1
    assert start(folder, study("quick")).done().code == 0

    refused = folder.hpo("worker", "s", "--set", "search.trials=20")

    assert refused.code == 2
    assert "run.*" in refused.err
    assert folder.hpo("worker", "s", "--set", "run.grace_period=1s").code == 0
    assert folder.states("s") == {"COMPLETE": 8}
    unknown = folder.hpo("worker", "t")
    assert unknown.code == 1
    assert "no study 't'" in unknown.err


def test_a_worker_waits_for_a_study_that_is_made_later(folder: Folder) -> None:
    worker = folder.start("worker", "s", "--wait", "10m")
    worker.wait_for("Waiting for up to 10m: there is no storage 'sqlite:///hpo.db'")
    other = {**study("quick", trials=1), "name": "other"}
    assert start(folder, other).done().code == 0
    first = until_made(start(folder, study("together")))

    assert (first.done().code, worker.done().code) == (0, 0)

    assert folder.states("s") == {"COMPLETE": 8}
    late = folder.hpo("worker", "t", "--wait", "1s")
    assert late.code == 1
    assert "no study 't'" in late.err
    wrong = folder.hpo("worker", "t", "--wait", "soon")
    assert wrong.code == 2
    assert "'soon' is not a duration" in wrong.err
    nowhere = folder.hpo("worker", "t", "--wait", "10m", "--storage", "nonsense")
    assert nowhere.code == 1
    assert "is not a storage URL" in nowhere.err


def test_a_worker_finds_the_studys_code_where_it_is_told(folder: Folder) -> None:
    assert start(folder, study("quick", trials=2)).done().code == 0
    elsewhere = Folder(folder.path / "elsewhere", folder.starter)
    elsewhere.path.mkdir()
    elsewhere.write("objectives.py", OBJECTIVES.replace("return trial.x", "return 7.0"))
    storage = f"sqlite:///{folder.path}/hpo.db"
    store = open_storage(storage)
    record = catalog.find(store, "s")
    wants_more = {**record.attrs[SPEC], "search": {**record.attrs[SPEC]["search"], "trials": 4}}
    store.set_study_system_attr(record.id, SPEC, wants_more)

    done = elsewhere.hpo("worker", "s", "--folder", ".", "--storage", storage)

    assert done.code == 0
    assert [trial["value"] for trial in folder.trials("s")[2:]] == [7.0, 7.0]
    assert not (elsewhere.path / "hpo-runs").exists()


def test_a_trial_is_explained(folder: Folder) -> None:
    values = study("fails", trials=8)
    values["baseline"] = {"x": 0.25}
    assert start(folder, values).done().code == 0
    trials = folder.trials("s")
    failed = next(trial["trial"] for trial in trials if trial["state"] == "FAIL")
    best = folder.hpo("best", "s", "--json").json["best"]["trial"]
    other = next(
        trial["trial"]
        for trial in trials
        if trial["state"] == "COMPLETE" and trial["trial"] not in (best, 0)
    )

    why_failed = folder.hpo("why", "s", str(failed)).out
    assert "too large" in why_failed
    assert "CRASHED" in why_failed
    assert "objectives.py" in why_failed
    assert "the baseline" in folder.hpo("why", "s", "0").out
    assert "nothing beats it" in folder.hpo("why", "s", str(best)).out
    beaten = folder.hpo("why", "s", str(other)).out
    assert f"trial {best} is better by" in beaten
    assert "random" in beaten
    told = folder.hpo("why", "s", str(other), "--json").json
    assert told["trial"] == other
    assert told["best"]["trial"] == best
    missing = folder.hpo("why", "s", "99")
    assert missing.code == 1
    assert "no trial 99: it has 0 to 7" in missing.err


def enqueue(folder: Folder, *configurations: dict[str, Any]) -> None:
    """Enqueues trials with plain Optuna."""
    url = folder.environment.get("HPO_STORAGE", f"sqlite:///{folder.path}/hpo.db")
    url = url.replace("postgresql://", "postgresql+psycopg2://")
    optunas = optuna.load_study(study_name="s", storage=url)
    for configuration in configurations:
        optunas.enqueue_trial(configuration)


@pytest.mark.filterwarnings("ignore")  # Optuna's, of what is enqueued here on purpose
def test_what_was_enqueued_is_run_and_what_cannot_be_fails_alone(folder: Folder) -> None:
    space = {"x": {"int": [0, 9]}}
    assert start(folder, study("quick", space, trials=2)).done().code == 0
    enqueue(folder, {"x": 7}, {"x": 99}, {"x": "many"})
    assert "enqueued" in folder.hpo("why", "s", "2").out

    done = folder.hpo("resume", "s", "--set", "search.trials=6")

    assert done.code == 0, done.err
    trials = folder.trials("s")
    assert [trial["state"] for trial in trials[2:]] == ["COMPLETE", "FAIL", "FAIL", "COMPLETE"]
    assert trials[2]["params"] == {"x": 7}
    assert "99" in trials[3]["failure"]["message"]
    assert "many" in trials[4]["failure"]["message"]
    assert "by hand, enqueued" in folder.hpo("why", "s", "2").out


def test_what_was_enqueued_twice_runs_twice_and_never_at_once(
    folder: Folder, database_url: str
) -> None:
    folder.environment["HPO_STORAGE"] = database_url
    space, processes = {"x": {"int": [0, 99]}}, {"workers": 2}
    assert start(folder, study("apart", space, run=processes, trials=2)).done().code == 0
    enqueue(folder, *({"x": value} for value in (3, 4, 3) * 4))

    first = folder.start("resume", "s", "--set", "search.trials=18")
    second = folder.start("worker", "s")

    assert (first.done().code, second.done().code) == (0, 0)
    trials = folder.trials("s")
    assert [trial["state"] for trial in trials] == ["COMPLETE"] * len(trials)
    assert Counter(trial["params"]["x"] for trial in trials[2:14]) == {3: 8, 4: 4}
    assert len({trial["params"]["x"] for trial in trials}) == 8  # of 18, the rest are repeats
    assert {trial["attempts"] for trial in trials} == {1}
    running: set[str] = set()
    for line in folder.calls():
        _, _, what, x = line.split()
        assert (x in running) == (what == "ends"), line
        running ^= {x}


def test_what_an_enqueued_trial_waits_for_is_told(folder: Folder) -> None:
    space = {"x": {"int": [0, 99]}}
    first = until_made(start(folder, study("endless", space, trials=1)))
    while not folder.states("s")["RUNNING"]:
        pass
    second = folder.start("worker", "s")
    (trial,) = folder.trials("s")
    enqueue(folder, trial["params"])

    while "for the end of trial 0, which is the same" not in folder.hpo("why", "s", "1").out:
        pass
    assert folder.trials("s")[1]["state"] == "WAITING"
    folder.write("go", "")

    assert (first.done().code, second.done().code) == (0, 0)
    assert folder.states("s") == {"COMPLETE": 2}
    assert "which is the same" not in folder.hpo("why", "s", "1").out


def test_a_study_that_is_deleted_ends_its_drivers_with_one_error(folder: Folder) -> None:
    running = until_made(start(folder, study("endless", run={"lease": 1.0})))
    while not folder.states("s")["RUNNING"]:
        pass

    deleted = folder.hpo("delete", "s", "--yes")

    assert f"process {running.process.pid}" in deleted.err
    done = running.done()
    assert done.code == 1
    assert "Exception in thread" not in done.err
    assert "deleted" in done.err


def test_a_database_file_that_is_deleted_ends_the_run_with_an_error(folder: Folder) -> None:
    running = until_made(start(folder, study("endless", run={"lease": 1.0})))
    while not folder.states("s")["RUNNING"]:
        pass
    for file in folder.path.glob("hpo.db*"):
        file.unlink()

    done = running.done()

    assert done.code == 1
    assert "was deleted while it ran" in done.err


def test_an_interrupt_ends_a_driver_whose_database_is_held_by_somebody(folder: Folder) -> None:
    running = until_made(start(folder, study("quick", trials=10_000, run={"grace_period": 0.5})))
    while not folder.states("s")["COMPLETE"]:
        pass
    holder = sqlite3.connect(folder.path / "hpo.db", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    try:
        running.signal(signal.SIGTERM)
        done = running.done()
    finally:
        holder.execute("ROLLBACK")
        holder.close()

    assert done.code == 143
    assert "hpo resume s" in done.err


def test_failures_that_end_a_study_end_what_runs_beside_them(folder: Folder) -> None:
    values = study("fails_or_waits", trials=20, run={"max_failures": 2, "workers": 2})

    assert start(folder, values).done().code == 4

    states = folder.states("s")
    assert states["FAIL"] == 3
    assert states["WAITING"] == 1


def test_a_message_that_no_terminal_should_see_is_shown_all_the_same(folder: Folder) -> None:
    assert start(folder, study("says", trials=1)).done().code == 4
    for arguments in (["trials", "s"], ["why", "s", "0"]):
        out = folder.hpo(*arguments).out
        assert "evil" in out
        assert "\x1b" not in out
