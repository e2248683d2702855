"""The rule `forecast` from outside: whom it stops, what it says, what runs on as an audit."""

from __future__ import annotations

import json
import math
import re
import signal
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from hpo import catalog, spec, studyfile
from hpo.pruners import Decision, ForecastPruner, is_audited
from hpo.reports import stopping
from hpo.storage import open_storage
from hpo.tracking import _study_tags
from hpo.trial import FORECAST
from tests.acceptance.harness import PATIENCE_SECONDS, Folder, Study

OBJECTIVES = """
import math
import os
import time

import optuna


def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)


def loss(trial, step):
    level = 0.1 + 0.01 * (trial.number % 4) if trial.number < 5 else 0.8
    return level + math.exp(-step / 3)


def train(trial):
    for step in range(1, 13):
        with open("calls.txt", "a") as calls:
            calls.write(f"{trial.number} {os.getpid()}\\n")
        trial.report(step, loss=loss(trial, step))
    return {"loss": loss(trial, 12)}


def accuracy(trial):
    for step in range(1, 13):
        yield {"accuracy": 1 - min(1, loss(trial, step))}


def waits(trial):
    \"\"\"Trial 6 waits at its tenth step, if it gets there.\"\"\"
    for step in range(1, 13):
        if trial.number == 6 and step == 10 and not os.path.exists("go"):
            open("waiting", "w").close()
            wait_for("go")
        trial.report(step, loss=loss(trial, step))
    return {"loss": loss(trial, 12)}


def as_long_as_it_says(trial):
    \"\"\"A loss that falls until the trial's own last step.\"\"\"
    for step in range(1, trial.n_steps + 1):
        left = 1 - step / trial.n_steps
        trial.report(step, loss=0.1 + (trial.number >= 5) * 0.7 + left)
    return {"loss": 0.1 + (trial.number >= 5) * 0.7}


def lingers(trial):
    \"\"\"Trial 6 waits when it is told to stop.\"\"\"
    for step in range(1, 13):
        try:
            trial.report(step, loss=loss(trial, step))
        except optuna.TrialPruned:
            if trial.number == 6:
                open("waiting", "w").close()
                wait_for("go")
            raise
    return {"loss": loss(trial, 12)}


def pauses(trial):
    \"\"\"Trial 3, which is as good as others, waits at its sixth step.\"\"\"
    for step in range(1, 13):
        if trial.number == 3 and step == 6:
            open("waiting", "w").close()
            wait_for("go")
        trial.report(step, loss=loss(trial, step))
    return {"loss": loss(trial, 12)}


def together(trial):
    \"\"\"No trial after the fifth ends before two processes are at work.\"\"\"
    with open("calls.txt", "a") as calls:
        calls.write(f"{trial.number} {os.getpid()}\\n")
    while trial.number >= 5 and len({line.split()[1] for line in open("calls.txt")}) < 2:
        time.sleep(0.01)
    for step in range(1, 13):
        trial.report(step, loss=loss(trial, step))
        time.sleep(0.01)
    return {"loss": loss(trial, 12)}
"""
N = 12
REASON = re.compile(
    r"forecast at epoch (\d+) of 12: (less than )?[\d.]+% chance to beat [\d.]+ "
    r"\(forecast \S+, 90% interval \S+( to \S+)?\)"
    r"(; the threshold is [\d.]+%: \d+% of its steps are left, it has to gain \S+, and \d+ "
    r"finished trials gained \S+ at most from there)?"
)


def study(function: str = "train", metric: str = "loss", **stopping: Any) -> Study:
    """A study whose first five trials are good and finish, and whose others are hopeless."""
    return {
        "name": "s",
        "objective": {
            "function": f"objectives:{function}",
            "metric": metric,
            "direction": "minimize" if metric == "loss" else "maximize",
            "epochs": 12,
        },
        "space": {"x": {"float": [0, 1]}},
        "search": {"sampler": "random", "trials": N, "seed": 2},
        "stopping": {"rule": "forecast", "startup_trials": 5, **stopping},
    }


@pytest.fixture(autouse=True)
def _objectives(folder: Folder) -> None:
    folder.write("objectives.py", OBJECTIVES)


def condemned(trials: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["forecast"]]


@pytest.mark.parametrize(("function", "metric"), [("train", "loss"), ("accuracy", "accuracy")])
def test_hopeless_trials_are_stopped_and_some_run_on_as_an_audit(
    folder: Folder, function: str, metric: str
) -> None:
    done = folder.hpo("run", folder.study(study(function, metric, audit=0.4)), "--json")

    assert done.code == 0, done.err
    trials = folder.trials("s")
    assert [trial["trial"] for trial in condemned(trials)] == list(range(5, N))
    audited = [number for number in range(5, N) if is_audited(2, number, 0.4)]
    assert 0 < len(audited) < N - 5
    for trial in condemned(trials):
        is_audit = trial["trial"] in audited
        assert trial["forecast"]["audited"] is is_audit
        assert trial["state"] == ("COMPLETE" if is_audit else "PRUNED")
        assert trial["n_steps"] == (12 if is_audit else trial["forecast"]["step"])
        assert bool(trial["stopped_by"]) is not is_audit
        if not is_audit:
            said = REASON.fullmatch(trial["stopped_by"])
            assert said, trial["stopped_by"]
            assert int(said[1]) == trial["n_steps"] < 12
            assert trial["stopped_by"] in done.events[trial["trial"]]

    told = done.json["early_stopping"]
    steps = sum(trial["n_steps"] for trial in trials)
    assert told["rule"] == done.json["stopping"] == "forecast"
    assert told["stopped"] == N - 5 - len(audited)
    assert told["steps_run"] == steps
    assert told["steps_saved"] == 12 * N - steps
    assert told["share_saved"] == pytest.approx(1 - steps / (12 * N))
    assert told["audited"] == len(audited)
    assert told["wrongly_condemned"] == 0
    assert 0 <= told["expected_wrong"] < 0.1 * len(audited)
    assert 0 <= told["coverage"] <= 1
    assert 0 <= told["coverage_finished"] <= 1
    assert told == folder.hpo("show", "s", "--json").json["early_stopping"]


def test_people_are_told_what_was_saved_and_why_a_trial_was_stopped(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study(audit=0.4)))

    trials = folder.trials("s")
    stopped = [trial for trial in trials if trial["stopped_by"]]
    audited = [trial for trial in condemned(trials) if trial["forecast"]["audited"]]
    sentence = f"forecast stopped {len(stopped)} of {N} trials and saved "
    (line,) = [line for line in done.err.splitlines() if line.startswith("Stopping: ")]
    assert line.startswith(f"Stopping: {sentence}")
    assert f"; of {len(audited)} run on as an audit 0 beat the incumbent (" in line
    assert " of the epochs; of " in line
    assert re.search(r"first half of their curves, \d+% ended in their 90% interval", line)
    assert sentence in " ".join(folder.hpo("show", "s").out.split())
    listed = folder.hpo("trials", "s").out
    assert listed.count("audited:") == len(audited)

    why = " ".join(folder.hpo("why", "s", str(stopped[0]["trial"])).out.split())
    assert f"stopped {stopped[0]['stopped_by']}" in why
    why = " ".join(folder.hpo("why", "s", str(audited[0]["trial"])).out.split())
    assert "audited condemned at epoch " in why
    assert "run on all the same, as an audit: it did not beat it, " in why
    assert folder.hpo("why", "s", str(stopped[0]["trial"]), "--json").json["forecast"]["mean"]


@pytest.mark.parametrize("rule", [{}, {"rule": "patience", "wrapped": "forecast", "patience": 2}])
def test_of_a_trial_that_runs_it_is_said_what_to_expect(
    folder: Folder, rule: dict[str, Any]
) -> None:
    values = study("pauses", startup_trials=3, **rule)
    running = folder.start("run", folder.study(values))
    running.wait_for("", folder.path / "waiting")

    deadline = time.monotonic() + PATIENCE_SECONDS  # reports are written some seconds later
    while len((told := folder.hpo("why", "s", "3", "--json").json)["steps"]) < 5:
        assert time.monotonic() < deadline, told
        time.sleep(0.5)
    why = " ".join(folder.hpo("why", "s", "3").out.split())

    (folder.path / "go").touch()
    assert running.done().code == 0
    assert told["state"] == "RUNNING"
    assert told["outlook"]["step"] == 5
    assert told["outlook"]["horizon"] == 12
    assert told["outlook"]["incumbent"] == pytest.approx(0.1 + math.exp(-4))
    assert told["outlook"]["low"] < told["outlook"]["median"] < told["outlook"]["high"]
    assert re.search(r"expected epoch 5 of 12: [\d.]+% chance to beat 0\.118 \(forecast ", why)
    ended = folder.hpo("why", "s", "3", "--json").json
    assert ended["state"] in {"COMPLETE", "PRUNED"}
    assert ended["outlook"] is None


def test_a_running_trial_of_optunas_own_study_is_shown_without_an_outlook(folder: Folder) -> None:
    theirs = optuna.create_study(storage=f"sqlite:///{folder.path}/hpo.db", study_name="theirs")
    theirs.ask().report(0.5, 1)

    told = folder.hpo("why", "theirs", "0", "--json")

    assert told.code == 0, told.err
    assert told.json["outlook"] is None
    assert folder.hpo("why", "theirs", "0").code == 0


def test_of_a_trial_whose_code_ran_on_it_is_said_that_it_was_condemned(folder: Folder) -> None:
    url = f"sqlite:///{folder.path}/hpo.db"
    pruner = ForecastPruner(horizon=12, audit=0.0)
    theirs = optuna.create_study(storage=url, study_name="theirs", pruner=pruner)
    for level in (0.13, 0.12, 0.11, 0.1, 0.8):
        trial = theirs.ask()
        for step in range(1, 13):
            trial.report(level + math.exp(-step / 3), step)
            trial.should_prune()
        theirs.tell(trial, level + math.exp(-4))

    why = " ".join(folder.hpo("why", "theirs", "4").out.split())

    assert re.search(r"condemned condemned at step \d+ of 12: ", why)
    assert "; its code ran on all the same: it did not beat it, " in why
    assert folder.hpo("why", "theirs", "4", "--json").json["unheeded"] is True
    assert "condemned, and run on" in " ".join(folder.hpo("trials", "theirs").out.split())
    shown = " ".join(folder.hpo("show", "theirs").out.split())
    assert "of 1 run on although condemned, 1 by their own code, 0 beat the incumbent" in shown


def test_what_plain_optunas_code_pruned_by_itself_no_forecast_stopped(folder: Folder) -> None:
    theirs = optuna.create_study(
        storage=f"sqlite:///{folder.path}/hpo.db",
        study_name="theirs",
        pruner=ForecastPruner(horizon=12, audit=0.0),
    )

    def train(trial: optuna.Trial) -> float:
        if trial.number == 5:
            raise optuna.TrialPruned
        level = 0.1 if trial.number < 5 else 0.8
        for step in range(1, 13):
            trial.report(level + math.exp(-step / 3), step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return level + math.exp(-4)

    theirs.optimize(train, n_trials=8)

    told = folder.hpo("show", "theirs", "--json").json["early_stopping"]
    assert (told["stopped"], told["stopped_by"]) == (2, {"forecast": 2})
    shown = " ".join(folder.hpo("show", "theirs").out.split())
    assert "forecast stopped 2 of 8 trials" in shown


def test_a_rule_without_forecasts_says_what_it_saved(folder: Folder) -> None:
    values = {**study(), "stopping": {"rule": "median", "startup_trials": 3}}

    done = folder.hpo("run", folder.study(values), "--json")

    told = done.json["early_stopping"]
    assert told["rule"] == "median"
    assert told["stopped"] == done.json["n_trials"]["pruned"] > 0
    assert 0 < told["share_saved"] < 1
    assert "audited" not in told
    values["stopping"] = {"rule": "none"}
    folder.study(values, "none.yaml")
    assert (
        folder.hpo("run", "none.yaml", "--set", "name=t", "--json").json["early_stopping"] is None
    )


def test_where_nothing_says_epochs_steps_are_called_steps(folder: Folder) -> None:
    values = study(audit=0.4)
    del values["objective"]["epochs"]

    done = folder.hpo("run", folder.study(values))

    assert " of the steps; of " in done.err
    (audited, *_) = [
        trial for trial in condemned(folder.trials("s")) if trial["forecast"]["audited"]
    ]
    why = " ".join(folder.hpo("why", "s", str(audited["trial"])).out.split())
    assert "audited condemned at step " in why


def test_a_trial_is_as_long_as_its_own_parameter_says(folder: Folder) -> None:
    values = study("as_long_as_it_says", audit=0.0)
    del values["objective"]["epochs"]
    values["space"] = {"n_steps": {"int": [8, 100], "log": True}}

    done = folder.hpo("run", folder.study(values), "--json")

    stopped = condemned(folder.trials("s"))
    assert len(stopped) > N / 3
    left = [trial["params"]["n_steps"] - trial["n_steps"] for trial in stopped]
    for trial in stopped:
        assert trial["forecast"]["horizon"] == trial["params"]["n_steps"]
    assert done.json["early_stopping"]["steps_saved"] == sum(left)


def test_a_baseline_is_never_stopped(folder: Folder) -> None:
    folder.hpo("run", folder.study(study(audit=0.0)))

    later = {**study(audit=0.0), "baseline": {"x": 0.5}}
    later["search"] = {**later["search"], "trials": N + 1}
    folder.hpo("run", folder.study(later))

    *others, baseline = folder.trials("s")
    assert baseline["baseline"]
    assert (baseline["state"], baseline["n_steps"]) == ("COMPLETE", 12)
    assert baseline["forecast"] is None
    assert others[-1]["state"] == "PRUNED"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_an_audit_goes_on_where_it_was_interrupted(folder: Folder, number: int) -> None:
    file = folder.study({**study("waits", audit=1.0), "run": {"grace_period": 0.2, "lease": 1}})
    running = folder.start("run", file)
    running.wait_for("", folder.path / "waiting")
    running.signal(number)
    running.done()

    folder.write("go", "")
    assert folder.hpo("resume", "s").code == 0

    trials = folder.trials("s")
    assert {(trial["state"], trial["n_steps"]) for trial in trials} == {("COMPLETE", 12)}
    assert [trial["trial"] for trial in condemned(trials)] == list(range(5, N))
    assert all(trial["forecast"]["audited"] for trial in condemned(trials))
    assert trials[6]["attempts"] == 2


@pytest.mark.parametrize("rule", ["none", "forecast"])
def test_code_that_died_before_it_could_stop_is_judged_anew(folder: Folder, rule: str) -> None:
    file = folder.study({**study("lingers", audit=0.0), "run": {"lease": 1}})
    running = folder.start("run", file)
    running.wait_for("", folder.path / "waiting")
    deadline = time.monotonic() + PATIENCE_SECONDS  # the verdict is written some seconds later
    while folder.trials("s")[6]["forecast"] is None:
        assert time.monotonic() < deadline
    running.signal(signal.SIGKILL)
    running.done()

    folder.write("go", "")
    assert folder.hpo("resume", "s", "--set", f"stopping.rule={rule}").code == 0

    trial, told = folder.trials("s")[6], folder.hpo("show", "s", "--json").json["early_stopping"]
    assert trial["attempts"] == 2
    assert told["unheeded"] == 0
    if rule == "none":  # it came to its end, and nobody had told it not to
        assert (trial["state"], trial["n_steps"], trial["forecast"]) == ("COMPLETE", 12, None)
        assert "ran on" not in folder.hpo("why", "s", "6").out
    else:
        assert trial["state"] == "PRUNED"
        assert trial["stopped_by"].startswith(f"forecast at epoch {trial['forecast']['step']:g} ")


def test_an_interrupted_study_stops_the_same_trials(folder: Folder) -> None:
    def lasting() -> list[list[Any]]:
        keys = ("trial", "state", "params", "n_steps", "stopped_by", "forecast")
        return [[trial[key] for key in keys] for trial in folder.trials("s")]

    # Trial 6 is the first that gets to its tenth step with min_steps: 10; then it is stopped.
    file = folder.study({**study("waits", min_steps=10), "run": {"grace_period": 0.2}})
    running = folder.start("run", file)
    running.wait_for("", folder.path / "waiting")
    running.signal(signal.SIGINT)
    assert running.done().code == 130
    folder.write("go", "")
    assert folder.hpo("resume", "s").code == 0
    resumed = lasting()

    folder.hpo("delete", "s", "--yes")
    assert folder.hpo("run", file).code == 0

    assert lasting() == resumed
    assert "PRUNED" in {state for _, state, *_ in resumed}


def test_two_drivers_condemn_and_audit_by_the_same_lots(folder: Folder) -> None:
    values = study("together", audit=0.4)
    first = folder.start("run", folder.study(values))
    first.wait_for("Study 's'")
    second = folder.start("worker", "s")

    assert (first.done().code, second.done().code) == (0, 0)

    trials = folder.trials("s")
    assert len(trials) == N
    assert len({line.split()[1] for line in folder.calls()}) == 2
    assert {trial["trial"] for trial in condemned(trials)} >= set(range(7, N))
    for trial in condemned(trials):
        assert trial["forecast"]["audited"] is is_audited(2, trial["trial"], 0.4)


def test_networks_in_worker_processes_are_stopped(folder: Folder) -> None:
    values = {
        "name": "s",
        "objective": {"trainer": "classifier", "data": "digits", "metric": "val_error",
                      "epochs": 15},
        "space": {"learning_rate": {"float": [1e-6, 0.5], "log": True}, "width": 32, "depth": 1},
        "search": {"sampler": "random", "trials": 14},
        "stopping": {"rule": "forecast", "startup_trials": 3, "audit": 0.2, "threshold": 0.05},
        "run": {"workers": 2, "device": "cpu"},
    }  # fmt: skip

    done = folder.hpo("run", folder.study(values), "--json")

    assert done.code == 0, done.err
    trials = folder.trials("s")
    stopped = [trial for trial in trials if trial["state"] == "PRUNED"]
    assert stopped
    assert all(trial["stopped_by"].startswith("forecast at epoch ") for trial in stopped)
    assert all(" of 15: " in trial["stopped_by"] for trial in stopped)
    assert done.json["best"]["value"] == min(t["value"] for t in trials if t["state"] == "COMPLETE")
    assert done.json["early_stopping"]["share_saved"] > 0


def test_mlflow_has_a_stopped_trials_reason_audits_and_what_was_saved(folder: Folder) -> None:
    mlflow = {"MLFLOW_TRACKING_URI": "sqlite:///mlflow.db"}
    folder.hpo("run", folder.study(study(audit=0.4)), **mlflow)

    found: dict[str, dict[str, str]] = {}
    with closing(sqlite3.connect(folder.path / "mlflow.db")) as database:
        for run, key, value in database.execute(
            "SELECT run_uuid, tags.key, tags.value FROM tags JOIN runs USING (run_uuid) "
            "JOIN experiments USING (experiment_id) WHERE experiments.name = 's'"
        ):
            found.setdefault(run, {})[key] = value

    runs = [*found.values()]
    (study_run,) = [each for each in runs if "mlflow.parentRunId" not in each]
    assert study_run["hpo.early_stopping"].startswith("forecast stopped ")
    tags = {int(each["hpo.trial"]): each for each in runs if "mlflow.parentRunId" in each}
    for trial in folder.trials("s"):
        assert tags[trial["trial"]].get("hpo.stopped_by") == trial["stopped_by"]
        is_audit = bool(trial["forecast"] and trial["forecast"]["audited"])
        assert ("hpo.audited" in tags[trial["trial"]]) is is_audit


EXPECTED = Decision(
    step=5.0, horizon=12.0, probability=0.02, mean=0.3, std=0.05, median=0.3, low=0.18, high=0.4,
    incumbent=0.2, tolerance=0.0, threshold=0.05,
)  # fmt: skip


def falls_to(end: float, n: int = 12) -> list[float]:
    """The first n epochs of a loss that falls from 1 and ends so after 12."""
    gone = [1 - math.exp(-step / 2) for step in range(1, 13)]
    return [1 - (1 - end) * share / gone[-1] for share in gone[:n]]


# In these studies two trials were stopped, at their fourth and sixth epoch. The others finished as
# their first halves have it, but for strays; some were audits, each with its end and its chance.
@pytest.mark.parametrize(
    ("metric", "finished", "strays", "audits", "found", "sentence"),
    [
        (
            "loss",
            [0.2, 0.3, 0.25, 0.35, 0.28, 0.22],
            [1.9],
            [(0.19, 0.02), (0.3, 0.03), (0.5, 0.04)],  # it beats 0.2; neither; above the interval
            {"stopped": 2, "steps_run": 130, "steps_saved": 14, "audited": 3,
             "unheeded": 0, "wrongly_condemned": 1, "expected_wrong": 0.09, "coverage": 2 / 3,
             "coverage_finished": 0.9},
            (
                "forecast stopped 2 of 12 trials and saved 10% of the epochs; "
                "of 3 run on as an audit 1 beat the incumbent (0.09 expected), "
                "2 ended in the 90% interval; of finished trials, forecast again from the "
                "first half of their curves, 90% ended in their 90% interval"
            ),
        ),
        (
            "accuracy",
            [0.2, 0.3, 0.25, 0.35],
            [],
            [(0.19, 0.001), (0.17, 0.04), (0.35, 0.002), (0.22, 0.007)],
            {"stopped": 2, "steps_run": 106, "steps_saved": 14, "audited": 4,
             "unheeded": 0, "wrongly_condemned": 2, "expected_wrong": 0.05, "coverage": 0.75,
             "coverage_finished": 1.0},
            (
                "forecast stopped 2 of 10 trials and saved 12% of the epochs; "
                "of 4 run on as an audit 2 beat the incumbent (0.05 expected), "
                "3 ended in the 90% interval; of finished trials, forecast again from the "
                "first half of their curves, 100% ended in their 90% interval"
            ),
        ),
        (
            "loss",
            [0.2, 0.3, 0.25, 0.35],
            [],
            [],
            {"stopped": 2, "steps_run": 58, "steps_saved": 14, "audited": 0,
             "unheeded": 0, "wrongly_condemned": 0, "expected_wrong": 0, "coverage": None,
             "coverage_finished": 1.0},
            (
                "forecast stopped 2 of 6 trials and saved 19% of the epochs; "
                "none was run on as an audit; of finished trials, forecast again from the "
                "first half of their curves, 100% ended in their 90% interval"
            ),
        ),
    ],
)  # fmt: skip
def test_what_audits_and_finished_trials_say_of_the_forecasts_is_counted(
    folder: Folder,
    metric: str,
    finished: list[float],
    strays: list[float],
    audits: list[tuple[float, float]],
    found: dict[str, Any],
    sentence: str,
) -> None:
    values = {**study(metric=metric), "run": {"directory": str(folder.path / "hpo-runs")}}
    plan = spec.check(studyfile.StudyFile("the test", folder.path, values))
    storage = open_storage(f"sqlite:///{folder.path}/hpo.db")
    record = catalog.find_or_create(storage, plan)

    def of_metric(loss: float) -> float:
        return loss if metric == "loss" else 1 - loss

    def add(losses: list[float], state: TrialState, chance: float | None = None) -> None:
        curve = {step: of_metric(loss) for step, loss in enumerate(losses, start=1)}
        low, high = sorted(map(of_metric, (EXPECTED.low, EXPECTED.high)))
        expected = replace(
            EXPECTED, low=low, high=high, incumbent=of_metric(EXPECTED.incumbent),
            probability=0.01 if chance is None else chance,
        )  # fmt: skip
        kept = {**expected.as_json(), "audited": chance is not None}
        condemned = chance is not None or state is TrialState.PRUNED
        template = optuna.trial.create_trial(
            state=state,
            value=curve[len(losses)] if state is TrialState.COMPLETE else None,
            params={"x": 0.5},
            distributions={"x": optuna.distributions.FloatDistribution(0, 1)},
            intermediate_values=curve,
            system_attrs={FORECAST: kept} if condemned else {},
        )
        storage.create_new_trial(record.id, template)

    for end in finished:
        add(falls_to(end), TrialState.COMPLETE)
    for end in strays:
        add([*falls_to(0.25, 6), *[end] * 6], TrialState.COMPLETE)
    for end, chance in audits:
        add(falls_to(end), TrialState.COMPLETE, chance)
    for n in (4, 6):
        add(falls_to(0.6, n), TrialState.PRUNED)

    told = folder.hpo("show", "s", "--json").json["early_stopping"]
    assert told.pop("stopped_by") == {"forecast": 2}
    share = found["steps_saved"] / (found["steps_run"] + found["steps_saved"])
    assert told == pytest.approx({"rule": "forecast", "share_saved": share, **found})
    record = catalog.find(storage, "s")
    assert stopping.sentence(record) == sentence
    assert f"stopping {sentence}" in " ".join(folder.hpo("show", "s").out.split())
    assert _study_tags(record)["hpo.early_stopping"] == sentence


# --- the file ---


@pytest.mark.parametrize(
    ("stopping", "place", "message"),
    [
        ({"rule": "forcast"}, "stopping.rule", "Did you mean 'forecast'?"),
        ({"rule": "forecast", "treshold": 0.1}, "stopping.treshold", "mean 'threshold'?"),
        ({"rule": "forecast", "threshold": 0}, "stopping.threshold", "greater than 0"),
        ({"rule": "forecast", "threshold": "5%"}, "stopping.threshold", "should be a number"),
        ({"rule": "forecast", "audit": 1.5}, "stopping.audit", "less than or equal to 1"),
        ({"rule": "forecast", "tolerance": -1}, "stopping.tolerance", "greater than or equal"),
        (
            {"rule": "median", "audit": 0.1},
            "stopping.audit",
            "`rule: median` knows no `audit`, which is of forecast; it takes startup_trials, warm",
        ),
        ({"rule": "forecast", "warmup_steps": 3}, "stopping.warmup_steps", "of median, percent"),
        ({"rule": "median", "threshold": 0.1}, "stopping.threshold", "which is of forecast"),
        ({"rule": "none", "reduction": 4}, "stopping.reduction", "it takes no options."),
        ({"rule": "patience", "percentile": 40}, "stopping.percentile", "of percentile; it takes"),
        ({"rule": "patience", "wrapped": "patience"}, "stopping.wrapped", "unknown wrapped"),
        ({"rule": "hyperband", "min_steps": 20}, "stopping.min_steps", "no more than 12 steps"),
        ({"rule": "wilcoxon", "p_threshold": 2}, "stopping.p_threshold", "less than or equal to 1"),
    ],
    ids=lambda value: json.dumps(value) if isinstance(value, dict) else None,
)  # fmt: skip
def test_a_mistake_in_the_rule_is_explained(
    folder: Folder, stopping: dict[str, Any], place: str, message: str
) -> None:
    done = folder.hpo("check", folder.study({**study(), "stopping": stopping}))

    assert done.code == 1
    assert "1 mistake in the study file" in done.err
    assert place in done.err
    assert message in done.err


@pytest.mark.parametrize(
    "bounds",
    [1, [0], [0, 1, 2], [1, 0], [0, 0], [0, "x"], "01", [0, float("nan")], [None, None], 10**400],
    ids=repr,
)
def test_bounds_are_two_numbers_in_order(folder: Folder, bounds: Any) -> None:
    values = study()
    values["objective"]["bounds"] = bounds

    done = folder.hpo("check", folder.study(values))

    assert done.code == 1
    assert "1 mistake in the study file" in done.err
    assert "objective.bounds: the metric's lowest and highest value are needed, such" in done.err


def test_bounds_are_of_own_codes_one_metric(folder: Folder) -> None:
    several, trained = study(), study()
    several["objective"]["metric"] = ["loss", "cost"]
    several["objective"]["direction"] = "minimize"
    trained["objective"] = {"trainer": "classifier", "data": "iris", "metric": "val_error"}
    for values, message in (
        (several, "they are of one metric; remove this key."),
        (trained, "hpo knows those of its metrics; remove this key."),
    ):
        values["objective"]["bounds"] = [0, 1]
        values["stopping"] = {"rule": "none"}
        assert f"objective.bounds: {message}" in folder.hpo("check", folder.study(values)).err


def test_a_study_goes_on_with_other_bounds_and_wrong_ones_are_told(folder: Folder) -> None:
    folder.hpo("run", folder.study(study()))
    more = ("resume", "s", "--set", "search.trials=13", "--set")

    done = folder.hpo(*more, "objective.bounds=[0.9, 1]")

    assert done.code == 0, done.err
    assert re.search(
        r"a finished trial reported 0\.\d+, and the metric's bounds are 0.9 to 1: "
        "trials are forecast without them",
        " ".join(done.err.split()),
    )
    right = folder.hpo(*more[:3], "search.trials=14", "--set", "objective.bounds=[0, null]")
    assert "bounds" not in right.err


def test_hyperband_must_know_how_long_a_trial_is(folder: Folder) -> None:
    values = study()
    del values["objective"]["epochs"]
    values["stopping"] = {"rule": "hyperband"}

    assert "give max_steps or objective.epochs" in folder.hpo("check", folder.study(values)).err

    values["stopping"]["max_steps"] = 12
    assert folder.hpo("check", folder.study(values)).code == 0


def test_another_rule_may_go_on_with_a_study(folder: Folder) -> None:
    folder.hpo("run", folder.study(study(audit=0.3)))
    before = folder.hpo("show", "s", "--json").json["early_stopping"]
    n = before["stopped"]
    assert (before["stopped_by"], before["audited"]) == ({"forecast": n}, 7 - n)

    more = folder.hpo("resume", "s", "--set", "stopping.rule=median", "--set", "search.trials=14")

    assert more.code == 0, more.err
    trials = folder.trials("s")
    by = [trial["stopped_by"].partition(" ")[0] for trial in trials if trial["stopped_by"]]
    assert by == ["forecast"] * n + ["median"] * 2
    # What forecasts did is told as before, also where nothing stops trials any more.
    told = f"stopping forecast stopped {n} and median stopped 2 of 14 trials and saved "
    folder.hpo("resume", "s", "--set", "stopping.rule=none", "--set", "search.trials=15")
    assert told.replace("14", "15") in " ".join(folder.hpo("show", "s").out.split())
    after = folder.hpo("show", "s", "--json").json["early_stopping"]
    assert (after["rule"], after["stopped_by"]) == ("none", {"forecast": n, "median": 2})
    assert {key: after[key] for key in ("audited", "wrongly_condemned", "coverage")} == {
        key: before[key] for key in ("audited", "wrongly_condemned", "coverage")
    }


def test_audits_are_told_of_where_none_was_stopped_and_no_rule_stops_any_more(
    folder: Folder,
) -> None:
    folder.hpo("run", folder.study(study(audit=1.0)))
    folder.hpo("resume", "s", "--set", "stopping.rule=none", "--set", "search.trials=13")

    told = folder.hpo("show", "s", "--json").json["early_stopping"]

    assert (told["rule"], told["stopped"], told["stopped_by"]) == ("none", 0, {})
    assert told["audited"] == 7
    said = " ".join(folder.hpo("show", "s").out.split())
    assert (
        "stopping forecast stopped 0 of 13 trials and saved 0% of the epochs; of 7 run on" in said
    )


def test_what_own_code_stopped_is_its_own_whatever_it_says(folder: Folder) -> None:
    folder.write(
        "objectives.py",
        "import optuna\n"
        "def train(trial):\n"
        "    trial.report(1, loss=trial.x)\n"
        "    if trial.number % 2:\n"
        "        raise optuna.TrialPruned('patience of 3 epochs is spent')\n"
        "    return {'loss': trial.x}\n",
    )
    stopping = {"rule": "median", "startup_trials": N}
    done = folder.hpo("run", folder.study({**study(), "stopping": stopping}), "--json")

    assert done.json["early_stopping"]["stopped_by"] == {"own code": 6}
