"""Time and GPU hours are of the whole study, and end what runs when they are spent."""

from __future__ import annotations

import os
import signal
import time
from typing import Any

import pytest

from hpo import catalog
from hpo.storage import open_storage
from hpo.trial import GPU_SECONDS
from tests.acceptance.harness import Folder, Running, Study

OBJECTIVES = """
import os
import sys
import time
from types import SimpleNamespace


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)


def quick(trial):
    time.sleep(0.02)
    return trial.x


def endless(trial):
    \"\"\"Reports every 10 ms, until there is a file named go.\"\"\"
    step = 0
    open(f"began-{trial.number}", "w").close()
    while not os.path.exists("go"):
        step += 1
        time.sleep(0.01)
        trial.report(step, loss=1 / step)
    return {"loss": trial.x}


def silent(trial):
    \"\"\"Reports nothing until there is a file named go.\"\"\"
    open(f"began-{trial.number}", "w").close()
    wait_for("go")
    return {"loss": trial.x}


def on_gpu(trial):
    \"\"\"As much of torch as is asked: it takes a GPU when it begins.\"\"\"
    nothing = lambda *_: 0
    cuda = {name: nothing for name in (
        "device_count", "synchronize", "empty_cache", "max_memory_reserved")}
    cuda["device_count"] = lambda: 1
    cuda["reset_peak_memory_stats"] = nothing
    cuda["is_initialized"] = lambda: True
    sys.modules["torch"] = SimpleNamespace(cuda=SimpleNamespace(**cuda))
    yield from ({"loss": 1 / step} for step in range(1, 3000) if not time.sleep(0.01))
"""


def study(function: str, run: Any = None, **search: Any) -> Study:
    return {
        "name": "s",
        "objective": {"function": f"objectives:{function}", "metric": "loss"},
        "space": {"x": {"float": [0, 1]}},
        "search": {"sampler": "random", "trials": 8, "seed": 3, **search},
        "run": {"lease": 5.0, "grace_period": 5.0, **(run or {})},
    }


def start(folder: Folder, values: Study, **environment: str) -> Running:
    folder.write("objectives.py", OBJECTIVES)
    return folder.start("run", folder.study(values), **environment)


def test_the_timeout_is_of_the_study_and_not_of_each_run(folder: Folder) -> None:
    values = study("quick", trials=None, timeout=1.0)
    del values["search"]["trials"]
    assert start(folder, values).done().code == 0
    n = len(folder.trials("s"))
    assert n > 0

    again = folder.hpo("run", "study.yaml")

    assert again.code == 0
    assert "its timeout was reached" in again.err
    assert len(folder.trials("s")) == n
    folder.hpo("resume", "s", "--set", "search.timeout=2s")
    assert len(folder.trials("s")) > n


@pytest.mark.parametrize("run", [{}, {"workers": 2}], ids=["inline", "processes"])
@pytest.mark.parametrize("function", ["endless", "silent"])
def test_what_runs_at_the_timeout_ends_and_can_be_gone_on_with(
    folder: Folder, function: str, run: dict[str, Any]
) -> None:
    values = study(function, trials=2, timeout=2.0, run={"grace_period": 1.0, **run})

    done = start(folder, values).done()

    assert done.code == 0, done.err
    assert folder.hpo("show", "s", "--json").json["state"] == "finished"
    n = len(folder.trials("s"))
    assert folder.states("s") == {"WAITING": n}
    assert f"its timeout was reached; {n} trial" in done.err
    assert "hpo resume s --set search.timeout=" in done.err
    assert "its timeout was reached" in folder.hpo("why", "s", "0").out
    folder.write("go", "")
    assert folder.hpo("resume", "s", "--set", "search.timeout=1h").code == 0
    assert folder.states("s") == {"COMPLETE": 2}


def with_gpus(folder: Folder) -> str:
    """A PATH with a stand-in for nvidia-smi, by which there are two GPUs."""
    smi = folder.write("nvidia-smi", "#!/bin/sh\necho '0, GPU-0, 1000'\necho '1, GPU-1, 1000'\n")
    smi.chmod(0o755)
    return f"{folder.path}:{os.environ['PATH']}"


def test_gpu_hours_are_of_all_trials(folder: Folder) -> None:
    """What is counted is the time of slots that have a GPU."""
    path = with_gpus(folder)
    values = study("quick", trials=1000, run={"gpus_per_trial": 0.5, "workers": 2}, gpu_hours=5e-5)

    done = start(folder, values, PATH=path).done()

    assert done.code == 0, done.err
    assert "its GPU hours were spent" in done.err
    trials = folder.trials("s")
    spent = sum(trial["wall_seconds"] or 0.0 for trial in trials) * 0.5
    most = max(trial["wall_seconds"] or 0.0 for trial in trials)
    assert 0.18 - 2 * 0.5 * most <= spent <= 0.18 + 2 * 0.5 * most + 0.02
    assert folder.start("resume", "s", PATH=path).done().code == 0
    assert len(folder.trials("s")) == len(trials)


def test_no_trial_goes_on_when_the_gpu_hours_of_all_drivers_are_spent(folder: Folder) -> None:
    path = with_gpus(folder)
    values = study("endless", trials=9, run={"gpus_per_trial": 1, "workers": 2}, gpu_hours=2e-3)
    first = start(folder, values, PATH=path)
    first.wait_for("Study 's'")
    second = folder.start("worker", "s", PATH=path)

    codes = first.done().code, second.done().code

    assert codes == (0, 0)
    assert set(folder.states("s")) == {"WAITING"}
    budget, spent = 3600 * 2e-3, sum(gpu_seconds(folder))
    looks = len(folder.trials("s")) * 1.0  # each driver looks twice a second, and hears a report
    assert budget <= spent <= budget + looks


def gpu_seconds(folder: Folder) -> list[float]:
    """What each trial took of GPUs."""
    record = catalog.find(open_storage(f"sqlite:///{folder.path}/hpo.db"), "s")
    return [trial.system_attrs[GPU_SECONDS] for trial in record.frozen_trials()]


def test_what_an_inline_trial_takes_of_a_gpu_counts_from_its_first_report(folder: Folder) -> None:
    done = start(folder, study("on_gpu", gpu_hours=3e-4)).done()

    assert done.code == 0, done.err
    assert "its GPU hours were spent; 1 trial waits" in done.err
    assert folder.states("s") == {"WAITING": 1}


def test_a_driver_whose_trials_have_ended_waits_for_those_of_others(folder: Folder) -> None:
    """The second takes its trial's whole grace, which is longer than the first one's."""
    values = study("silent", timeout=2.0, trials=2, run={"grace_period": 0.5})
    first = start(folder, values)
    first.wait_for("", folder.path / "began-0")
    second = folder.start("worker", "s", "--set", "run.grace_period=4s")
    second.wait_for("", folder.path / "began-1")

    done = first.done()

    assert done.code == 0, done.err
    assert "Waiting for a trial that another driver runs" in done.err
    assert folder.states("s") == {"WAITING": 2}
    assert second.done().code == 0


def test_a_driver_does_not_wait_for_ever_for_one_with_a_larger_budget(folder: Folder) -> None:
    values = study("silent", timeout=2.0, trials=2, run={"lease": 2.0, "grace_period": 0.5})
    first = start(folder, values)
    first.wait_for("", folder.path / "began-0")
    second = folder.start("resume", "s", "--set", "search.timeout=1h")
    second.wait_for("", folder.path / "began-1")

    assert first.done().code == 0

    assert folder.states("s") == {"WAITING": 1, "RUNNING": 1}
    folder.write("go", "")
    assert second.done().code == 0
    assert folder.states("s") == {"COMPLETE": 2}


def test_ctrl_c_while_a_budget_ends_trials_is_an_interrupt(folder: Folder) -> None:
    running = start(folder, study("silent", timeout=1.0, run={"grace_period": 60.0}))
    running.wait_for("Its timeout was reached")

    running.signal(signal.SIGINT)
    running.wait_for("Stopped by SIGINT")
    running.signal(signal.SIGINT)

    assert running.done().code == 130
    shown = folder.hpo("show", "s", "--json").json
    assert (shown["state"], shown["state_reason"]) == ("interrupted", "stopped by SIGINT")


def test_a_study_without_a_result_says_so(folder: Folder) -> None:
    done = start(folder, study("silent", timeout=0.5, run={"grace_period": 0.1})).done()

    assert "No best trial: study 's' has no complete trial yet." in done.err


def test_gpu_hours_stay_spent_though_a_dead_driver_turns_out_to_have_taken_less(
    folder: Folder,
) -> None:
    """Until it is noticed that it is dead, its trial is taken to run."""
    path = with_gpus(folder)
    run = {"gpus_per_trial": 1, "workers": 1, "lease": 30.0, "grace_period": 1.0}
    first = start(folder, study("endless", run, gpu_hours=12 / 3600), PATH=path)
    first.wait_for("Study 's'")
    second = folder.start("worker", "s", PATH=path)
    second.wait_for("", folder.path / "began-1")
    time.sleep(4)
    second.signal(signal.SIGKILL)
    second.process.wait()

    done = first.done()

    assert done.code == 0, done.err
    assert "its GPU hours were spent" in done.err
    assert folder.states("s") == {"WAITING": 2}


def test_a_budget_of_data_needs_ends_a_fit_that_reports_nothing(folder: Folder) -> None:
    values = study("silent", {"grace_period": 0.5})
    values["objective"]["train_fraction"] = True
    folder.write("objectives.py", OBJECTIVES)
    values["baseline"] = {"x": 0.5}

    done = folder.hpo("data-needs", folder.study(values), "--budget", "1s")

    assert "The budget is spent" in done.err


PYTHON = """
import os
import signal
import sys
import threading
import time

import hpo
from hpo.listeners import Listener

class Slow(Listener):
    def closed(self, study, outcome):
        time.sleep(3)
        print("closed", outcome.state, flush=True)

def run(*listeners):
    result = hpo.run("study.yaml", listeners=listeners)
    print(result.outcome, flush=True)
"""


def python(folder: Folder, values: Study, code: str) -> str:
    """What a program prints that runs a study in its own process."""
    folder.write("objectives.py", OBJECTIVES)
    folder.study(values)
    folder.write("program.py", PYTHON + code)
    done = folder.start("program.py").done()
    assert done.code == 0, done.err
    return done.out


@pytest.mark.parametrize("function", ["quick", "silent"])
def test_no_alarm_rings_while_the_study_is_closed(folder: Folder, function: str) -> None:
    """Neither where all trials had ended before the timeout, nor where it has ended some."""
    run = {"grace_period": 0.5}
    said = python(folder, study(function, run, trials=2, timeout=2.0), "run(Slow())")

    assert said.startswith("closed finished\nOutcome(state='finished'")


@pytest.mark.parametrize(
    ("function", "run"), [("silent", {"workers": 1}), ("endless", {})], ids=["silent", "endless"]
)
def test_in_a_thread_which_gets_no_signals_a_timeout_ends_trials_too(
    folder: Folder, function: str, run: dict[str, Any]
) -> None:
    values = study(function, {"grace_period": 0.5, **run}, trials=2, timeout=2.0)
    code = "thread = threading.Thread(target=run)\nthread.start()\nthread.join()\n"

    assert "reason='its timeout was reached'" in python(folder, values, code)
    assert set(folder.states("s")) == {"WAITING"}


def test_listeners_that_fail_change_nothing_for_the_study_and_for_others(folder: Folder) -> None:
    code = """
class Bad(Listener):
    def draining(self, why, grace_seconds):
        raise RuntimeError("cannot drain")
    def closed(self, study, outcome):
        raise RuntimeError("cannot close")

try:
    run(Bad(), Slow())
except RuntimeError as error:
    print(error)
"""
    said = python(folder, study("silent", {"grace_period": 0.5}, timeout=1.0), code)

    assert said == "closed finished\ncannot close\n"
    assert folder.hpo("show", "s", "--json").json["state"] == "finished"
    assert folder.states("s") == {"WAITING": 1}


def test_ctrl_c_while_a_study_is_closed_ends_what_is_closed_just_then(folder: Folder) -> None:
    code = """
class Impatient(Listener):
    def closed(self, study, outcome):
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(60)

run(Impatient(), Slow())
"""
    said = python(folder, study("quick", trials=2), code)
    assert said.startswith("closed finished\nOutcome(state='finished'")


def test_an_alarm_of_the_callers_own_rings_beside_a_timeout(folder: Folder) -> None:
    code = """
began = time.monotonic()
signal.signal(signal.SIGALRM, lambda *_: print("rang", round(time.monotonic() - began)))
signal.setitimer(signal.ITIMER_REAL, 1.0, 2.0)
run()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    values = study("silent", {"grace_period": 0.5}, timeout=4.0)
    said = python(folder, values, code).splitlines()
    assert said[:2] == ["rang 1", "rang 3"]
    # Under load the alarm rings once more, maybe within what `run` prints.
    assert any("its timeout was reached" in line for line in said[2:])


def test_an_alarm_of_the_callers_own_rings_when_it_should(folder: Folder) -> None:
    code = """
signal.signal(signal.SIGALRM, lambda *_: print("rang", flush=True))
signal.setitimer(signal.ITIMER_REAL, 600)
run()
left, _ = signal.getitimer(signal.ITIMER_REAL)
print(0 < left < 600)
signal.setitimer(signal.ITIMER_REAL, 0.2)
run()
signal.pause() if signal.getitimer(signal.ITIMER_REAL)[0] else None
"""
    said = python(folder, study("quick", trials=2), code).splitlines()
    assert said[1] == "True"
    assert "\n".join(said).count("rang") == 1  # perhaps within another line


def test_a_search_without_a_result_names_the_timeout(folder: Folder) -> None:
    code = """
from objectives import silent
try:
    hpo.search(silent, space={"x": {"float": [0, 1]}}, timeout=1.0, name="t", metric="loss")
except hpo.HpoError as error:
    print(error)
"""
    said = python(folder, study("silent"), code)
    assert said == "no trial of 't' was completed: its timeout was reached.\n"
