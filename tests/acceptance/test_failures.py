"""A trial that fails is a value: it is told with its kind and message, and the study goes on."""

from __future__ import annotations

from typing import Any

import pytest

from tests.acceptance.harness import Folder, Study

OBJECTIVES = """
import math
import sys


def raises(trial):
    raise ValueError("it [broke] here")


def raises_nothing_to_say(trial):
    raise ValueError


def returns_nan(trial):
    return math.nan


def returns_infinity(trial):
    return {"loss": -math.inf}


def reports_nan(trial):
    trial.report(1, loss=1.0)
    trial.report(2, loss=math.nan)
    return 1.0


def yields_nan(trial):
    yield {"loss": 1.0}
    yield {"loss": math.nan}


def returns_nothing(trial):
    pass


def returns_text(trial):
    return "good"


def returns_text_beside(trial):
    return {"loss": "good", "accuracy": 0.5}


def returns_none(trial):
    return {"loss": None}


def gives_another_metric(trial):
    return {"accuracy": 1.0}


def exits(trial):
    sys.exit("bye")


def has_no_memory(trial):
    raise MemoryError("nothing left")


def takes_no_argument():
    return 1.0


def misspells(trial):
    return trial.lerning_rate


def in_some(trial):
    if trial.x in (2, 5):
        raise RuntimeError(f"x = {trial.x}")
    return float(trial.x)


def in_two_lines(trial):
    raise ValueError("first line\\nsecond line")


def yields_a_number(trial):
    yield 3


def succeeds(trial):
    return 1.0


def in_a_way(trial):
    return globals()[trial.way](trial)
"""


def study(function: str, **more: Any) -> Study:
    """Ten configurations, in the order of x."""
    return {
        "name": "s",
        "objective": {"function": f"objectives:{function}", "metric": "loss"},
        "space": {"x": {"int": [0, 9]}},
        "search": {"sampler": "grid"},
        **more,
    }


@pytest.fixture(autouse=True)
def _objectives(folder: Folder) -> None:
    folder.write("objectives.py", OBJECTIVES)


WAYS_TO_FAIL = {
    "raises": ("CRASHED", "ValueError: it [broke] here"),
    "raises_nothing_to_say": ("CRASHED", "ValueError"),
    "returns_nan": ("DIVERGED", "loss became nan"),
    "returns_infinity": ("DIVERGED", "loss became -inf"),
    "reports_nan": ("DIVERGED", "loss became nan at step 2"),
    "returns_nothing": ("NO_METRIC", "returned nothing"),
    "returns_text": ("CRASHED", "should be a number, not 'good'"),
    "returns_none": ("CRASHED", "should be a number, not None"),
    "returns_text_beside": ("CRASHED", "metric 'loss' should be a number, not 'good'"),
    "takes_no_argument": ("CRASHED", "takes 0 positional arguments"),
    "gives_another_metric": ("NO_METRIC", "'loss' was reported; reported was: accuracy"),
    "has_no_memory": ("OUT_OF_MEMORY", "nothing left"),
    "misspells": ("CRASHED", "no 'lerning_rate' in this configuration: way"),
}


def test_every_way_to_fail_is_a_fail_with_kind_and_message_and_the_study_goes_on(
    folder: Folder,
) -> None:
    ways = [*WAYS_TO_FAIL, "succeeds"]

    done = folder.hpo("run", folder.study(study("in_a_way", space={"way": ways})))

    assert done.code == 0
    events = {int(line.split()[1]): line for line in done.events}
    trials = {trial["params"]["way"]: trial for trial in folder.trials("s")}
    assert len(trials) == len(events) == len(ways)
    assert trials.pop("succeeds")["state"] == "COMPLETE"
    for way, trial in trials.items():
        kind, message = WAYS_TO_FAIL[way]
        assert (trial["state"], trial["value"]) == ("FAIL", None)
        assert trial["failure"]["kind"] == kind
        assert message in trial["failure"]["message"]
        assert f"FAIL ({kind}: " in events[trial["trial"]]
        assert message in events[trial["trial"]]


@pytest.mark.parametrize(
    ("function", "kind", "message"),
    [
        ("exits", "CRASHED", "SystemExit: bye"),
        ("yields_nan", "DIVERGED", "loss became nan at step 2"),
        ("yields_a_number", "CRASHED", "yield"),
    ],
)
def test_a_function_or_generator_that_always_fails_does_not_end_hpo(
    folder: Folder, function: str, kind: str, message: str
) -> None:
    done = folder.hpo("run", folder.study(study(function, search={"sampler": "grid", "trials": 2})))

    assert done.code == 4
    assert done.out == ""
    assert len(done.events) == 2
    assert all(f"FAIL ({kind}: " in line and message in line for line in done.events)


def test_the_traceback_of_a_failed_trial_is_kept(folder: Folder) -> None:
    import optuna

    folder.hpo("run", folder.study(study("raises", search={"sampler": "grid", "trials": 1})))

    storage = optuna.storages.RDBStorage(f"sqlite:///{folder.path}/hpo.db")
    (trial,) = optuna.load_study(study_name="s", storage=storage).trials
    storage.engine.dispose()
    traceback = trial.system_attrs["hpo:failure"]["traceback"]
    assert "Traceback (most recent call last)" in traceback
    assert "objectives.py" in traceback
    assert 'raise ValueError("it [broke] here")' in traceback


def test_failures_of_some_configurations_do_not_end_the_study(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study("in_some")))

    assert done.code == 0
    trials = folder.trials("s")
    assert {t["params"]["x"] for t in trials if t["state"] == "FAIL"} == {2, 5}
    assert {t["params"]["x"] for t in trials if t["state"] == "COMPLETE"} == {*range(10)} - {2, 5}
    assert folder.hpo("best", "s", "--json").json["best"]["params"] == {"x": 0}


def test_a_failure_message_of_two_lines_is_one_event_line(folder: Folder) -> None:
    file = folder.study(study("in_two_lines", search={"sampler": "grid", "trials": 1}))

    done = folder.hpo("run", file)

    assert not [line for line in done.err.splitlines() if line.startswith("second line")]
    assert folder.trials("s")[0]["failure"]["message"].startswith("ValueError: first line")


def test_twenty_failures_in_a_row_end_the_study_with_exit_code_4(folder: Folder) -> None:
    file = folder.study(study("raises", space={"x": {"int": [0, 99]}}))

    done = folder.hpo("run", file, "--json")

    assert done.code == 4
    assert "20 trials in a row failed" in done.err
    assert "hpo trials s" in done.err
    assert done.json["state"] == "failed"
    assert done.json["n_trials"]["fail"] == 20
    assert done.json["best"] is None


def test_nineteen_failures_in_a_row_do_not_end_the_study(folder: Folder) -> None:
    # The grid's order is the sampler's own business, so every 20th configuration is good.
    folder.write(
        "objectives.py",
        "def train(trial):\n"
        "    if trial.number % 20 != 19:\n"
        "        raise RuntimeError('no')\n"
        "    return 1.0\n",
    )
    file = folder.study(study("train", space={"x": {"int": [0, 39]}}))

    done = folder.hpo("run", file)

    assert done.code == 0
    assert folder.states("s") == {"FAIL": 38, "COMPLETE": 2}


@pytest.mark.parametrize(("max_failures", "ran"), [(0, 1), (2, 3)])
def test_more_failures_than_max_failures_end_the_study_with_exit_code_4(
    folder: Folder, max_failures: int, ran: int
) -> None:
    done = folder.hpo("run", folder.study(study("raises", run={"max_failures": max_failures})))

    assert done.code == 4
    assert f"more than max_failures = {max_failures}" in done.err
    assert folder.states("s") == {"FAIL": ran}


def test_as_many_failures_as_max_failures_are_allowed(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study("in_some", run={"max_failures": 2})))

    assert done.code == 0
    assert folder.states("s") == {"FAIL": 2, "COMPLETE": 8}


def test_the_last_report_of_a_step_counts(folder: Folder) -> None:
    folder.write(
        "objectives.py",
        "def train(trial):\n"
        "    trial.report(1, other=5.0)\n"
        "    trial.report(1, loss=3.0)\n"
        "    trial.report(1, loss=2.0)\n",
    )
    file = folder.study(
        {
            "name": "s",
            "objective": {"function": "objectives:train", "metric": "loss"},
            "space": {"x": [1]},
        }
    )

    assert folder.hpo("run", file).code == 0

    (trial,) = folder.trials("s")
    assert (trial["value"], trial["metrics"]) == (2.0, {"other": 5.0, "loss": 2.0})


def test_a_study_of_failures_alone_says_so_and_exits_with_4(folder: Folder) -> None:
    done = folder.hpo("run", folder.study(study("raises")))

    assert done.code == 4
    assert "every trial failed" in done.err
    best = folder.hpo("best", "s")
    assert best.code == 1
    assert "no complete trial" in best.err
    assert "hpo trials s" in best.err


def test_debug_shows_the_traceback_of_an_error(folder: Folder) -> None:
    done = folder.start("--debug", "best", "s").done()

    assert done.code == 1
    assert "Traceback" in done.err


@pytest.mark.parametrize(
    "body",
    [
        "trial.report(-1, loss=1.0)",
        "trial.report('a', loss=1.0)",
        "trial.report(2**70, loss=1.0)",
        "yield {'step': -3, 'loss': 1.0}",
    ],
)
def test_a_bad_step_fails_its_trial_alone(folder: Folder, body: str) -> None:
    folder.write(
        "objectives.py",
        f"def bad(trial):\n    {body}\n    return 1.0\ndef good(trial):\n    return 1.0\n",
    )
    values = {
        "name": "s",
        "objective": {"function": "objectives:bad", "metric": "loss"},
        "space": {"x": [1, 2]},
    }

    assert folder.hpo("run", folder.study(values)).code == 4

    trials = folder.trials("s")
    assert [t["state"] for t in trials] == ["FAIL", "FAIL"]
    assert "a step should be a whole number from 0" in trials[0]["failure"]["message"]


def test_a_function_that_swallows_its_stop_is_stopped_all_the_same(folder: Folder) -> None:
    folder.write(
        "objectives.py",
        "def train(trial):\n"
        "    for step in range(30):\n"
        "        try:\n"
        "            trial.report(step, loss=float(trial.x))\n"
        "        except Exception:\n"
        "            pass\n"
        "    return float(trial.x)\n",
    )
    values = {
        "name": "s",
        "objective": {"function": "objectives:train", "metric": "loss"},
        "space": {"x": {"int": [1, 6]}},
        "search": {"sampler": "grid"},
        "stopping": {"rule": "median", "startup_trials": 2},
    }

    assert folder.hpo("run", folder.study(values)).code == 0

    assert folder.states("s")["PRUNED"] > 0
