"""`hpo data-needs`: how much data a configuration needs, measured on nested parts of it."""

from __future__ import annotations

import json
import re
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.acceptance.harness import Folder, Study

# Its error is 0.5 / sqrt(n) of 1,000 examples; it writes a line for each call, and a fit named by
# the file `slow` waits until a file `go` is there, reporting all the while.
OWN = """
import math, time
from pathlib import Path


def train(trial):
    n = round(1000 * trial.train_fraction)
    with open("calls.txt", "a") as calls:
        print(n, trial.seed, file=calls)
    while Path("slow").exists() and n == int(Path("slow").read_text()) and not Path("go").exists():
        trial.report(1, val_error=0.9)
        Path("waiting").touch()
        time.sleep(0.01)
    return {"val_error": 0.5 / math.sqrt(n), "train_error": 0.0}
"""


def trained(**changes: Any) -> Study:
    """A classifier on 341 tumours, which learns in a few epochs."""
    base: Study = {
        "name": "tumours",
        "objective": {
            "trainer": "classifier",
            "data": "breast_cancer",
            "metric": "val_error",
            "epochs": 6,
        },
        "space": {"learning_rate": {"float": [0.01, 1.0], "log": True}, "depth": 1, "width": 16},
        "baseline": {"learning_rate": 0.1},
        "search": {"trials": 3, "sampler": "random"},
        "gate": {"val_error": "<= 0.02"},
    }
    return {**base, **changes}


def own(**objective: Any) -> Study:
    """A function of the user's own."""
    return {
        "name": "own",
        "objective": {
            "function": "own:train",
            "metric": "val_error",
            "train_fraction": True,
            **objective,
        },
        "space": {"x": 1},
    }


def slowly(folder: Folder) -> list[str]:
    """The command that measures four sizes of own code, of which the third waits."""
    wanted = ["--examples", "1000", "--target", "0.01", "--sizes", "100,200,500,1000"]
    return ["data-needs", folder.study(own()), *wanted, "--seeds", "1"]


def kept(folder: Folder) -> list[dict[str, Any]]:
    """The fits in the file."""
    (file,) = folder.path.glob("hpo-runs/*/data-needs/*/fits.jsonl")
    lines = file.read_bytes().splitlines()
    found = []
    for line in lines:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def test_a_baseline_is_measured_and_everything_is_told(folder: Folder) -> None:
    done = folder.hpo("data-needs", folder.study(trained()), "--json")
    assert done.code == 0, done.err
    found = done.json
    assert found["state"] == "finished"
    assert found["of"] == "the baseline"
    assert found["config"]["learning_rate"] == 0.1
    assert (found["metric"], found["target"], found["n"]) == ("val_error", 0.02, 341)
    assert found["verdict"] in ("reached", "reachable", "unreachable", "unclear")
    assert found["sentence"]
    assert found["sizes"] == sorted(set(found["sizes"]))
    assert found["sizes"][-1] == 341
    assert {len(found[key]) for key in ("errors", "train_errors", "seconds")} == {
        len(found["sizes"])
    }
    assert all(1 <= len(errors) <= 3 for errors in found["errors"])
    assert [row["factor"] for row in found["table"]] == [1, 2, 5, 10]
    for row in found["table"]:
        assert 0 <= row["low"] <= row["expected"] <= row["high"] <= 1
    assert set(found["floor"]) == {"low", "expected", "high"}
    assert found["next_size"] > 0
    assert found["diagnosis"]["kind"] in ("reached", "bias", "variance", "both", "unclear")
    assert found["diagnosis"]["sentence"]
    (written, picture) = map(Path, found["files"])
    assert json.loads(written.read_text())["errors"] == found["errors"]
    with Image.open(picture) as image:
        assert image.format == "PNG"
        assert min(image.size) > 300
        assert len(set(image.convert("RGB").get_flattened_data())) > 10  # something is drawn
    folders = [path for path in picture.parent.iterdir() if path.is_dir()]
    assert folders == []  # of fits that are in the file


def test_a_person_reads_a_sentence_a_table_and_a_chart(folder: Folder) -> None:
    done = folder.hpo("data-needs", folder.study(trained()), "--sizes", "10%,50%,100%")
    assert done.code == 0, done.err
    sentence, diagnosis, *rest = done.out.splitlines()
    assert "0.02" in sentence or "n =" in sentence
    assert "training" in diagnosis
    assert [line.split()[0] for line in rest[:10] if line.strip()][:5] == [
        "data",
        "─" * len(rest[2].split()[0]),
        "now",
        "2x",
        "5x",
    ]
    assert "o validation" in done.out
    assert "target 0.02" in done.out
    assert "data-needs.png" in done.err
    fits = [line for line in done.err.splitlines() if line.startswith("n = ")]
    assert len(fits) == 9
    assert "n = 34, seed 0: val_error " in fits[0]


def test_the_same_command_goes_on_and_afresh_starts_over(folder: Folder) -> None:
    file = folder.study(trained())
    first = folder.hpo("data-needs", file, "--sizes", "50,100", "--seeds", "2", "--json")
    assert first.code == 0, first.err
    before = kept(folder)
    assert len(before) == 4
    again = folder.hpo("data-needs", file, "--sizes", "50,100,341", "--seeds", "2", "--json")
    assert "Going on from 4 fits" in again.err
    assert kept(folder)[:4] == before
    assert len(kept(folder)) == 6
    assert [e[:2] for e in again.json["errors"][:2]] == first.json["errors"]
    anew = folder.hpo("data-needs", file, "--sizes", "50", "--seeds", "1", "--afresh", "--json")
    assert "Going on" not in anew.err
    assert len(kept(folder)) == 1
    assert kept(folder)[0]["metrics"] == before[0]["metrics"]  # one seed, one network


def test_a_study_is_asked_by_its_best_trial_or_another(folder: Folder) -> None:
    file = folder.study(trained(baseline={"learning_rate": 0.1}))
    assert folder.hpo("run", file, "--set", "gate={}").code == 0
    arguments = ("data-needs", "tumours", "--sizes", "30,90", "--seeds", "1", "--json")
    best = folder.hpo("best", "tumours", "--json").json["best"]
    found = folder.hpo(*arguments)
    assert found.code == 0, found.err
    assert found.json["of"] == f"trial {best['trial']}, the best"
    assert found.json["config"]["learning_rate"] == best["params"]["learning_rate"]
    other = folder.hpo(*arguments, "--trial", "0").json
    assert (other["of"], other["config"]["learning_rate"]) == ("trial 0", 0.1)
    assert len(folder.trials("tumours")) == 3  # fits are no trials
    assert folder.hpo("delete", "tumours", "--yes").code == 0
    assert not [*folder.path.glob("hpo-runs/*")]


@pytest.mark.parametrize(
    ("objective", "name"),
    [
        ({"function": "own:train", "train_fraction": True}, "x"),
        ({"estimator": "sklearn.tree.DecisionTreeClassifier", "data": "wine"}, "max_depth"),
    ],
    ids=["function", "estimator"],
)
def test_a_study_of_own_code_or_an_estimator_is_asked_by_its_best_trial(
    folder: Folder, objective: dict[str, Any], name: str
) -> None:
    folder.write("own.py", OWN.replace("0.5 /", "abs(trial.x - 1.9) /"))  # the best x is 2
    values = {"name": "own", "space": {name: [1, 2, 3]}, "search": {"sampler": "grid"}}
    values["objective"] = {**objective, "metric": "val_error"}
    assert folder.hpo("run", folder.study(values)).code == 0
    trials = folder.trials("own")
    best = min(trials, key=lambda trial: trial["value"])  # the first of equals

    found = folder.hpo("data-needs", "own", "--sizes", "50%", "--seeds", "1", "--json")

    assert found.code == 0, found.err
    assert len(trials) == 3
    assert found.json["of"] == f"trial {best['trial']}, the best"
    assert found.json["config"][name] == best["params"][name]
    if name == "x":
        assert best["params"]["x"] == 2
        assert found.json["errors"] == [[pytest.approx(0.1 / 500**0.5)]]
        other = next(trial for trial in trials if trial is not best)
        chosen = ("--trial", str(other["trial"]), "--sizes", "50%", "--seeds", "1", "--json")
        found = folder.hpo("data-needs", "own", *chosen)
        assert found.json["of"] == f"trial {other['trial']}"
        assert found.json["config"]["x"] == other["params"]["x"]


def test_data_needs_before_a_run_leave_the_study_to_it(folder: Folder) -> None:
    file = folder.study(trained())
    assert folder.hpo("data-needs", file, "--sizes", "30,90", "--seeds", "1").code == 0
    assert folder.hpo("run", file, "--set", "gate={}").code == 0
    assert len(folder.trials("tumours")) == 3
    again = folder.hpo("data-needs", file, "--sizes", "30,90", "--seeds", "1")
    assert "Going on from 2 fits" in again.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_keeps_its_fits_and_goes_on(folder: Folder, number: int) -> None:
    folder.write("own.py", OWN)
    folder.write("slow", "500")
    arguments = slowly(folder)
    running = folder.start(*arguments)
    running.wait_for("", folder.path / "waiting")
    running.signal(number)
    done = running.done()
    assert done.code == 128 + number
    assert "2 fits are kept" in done.err
    assert done.out == ""
    assert "Traceback" not in done.err
    calls = folder.calls()
    folder.write("go", "")
    again = folder.hpo(*arguments, "--json")
    assert again.code == 0, again.err
    assert "Going on from 2 fits" in again.err
    assert len(folder.calls()) == len(calls) + 2
    assert again.json["sizes"] == [100, 200, 500, 1000]


def test_a_killed_command_keeps_its_fits_even_with_half_a_line(folder: Folder) -> None:
    folder.write("own.py", OWN)
    folder.write("slow", "500")
    arguments = slowly(folder)
    running = folder.start(*arguments)
    running.wait_for("", folder.path / "waiting")
    running.signal(signal.SIGKILL)
    assert running.done().code == -signal.SIGKILL
    (file,) = folder.path.glob("hpo-runs/own/data-needs/*/fits.jsonl")
    with file.open("ab") as log:
        log.write(b'{"size": 500, "seed": 0, "secon')
    folder.write("go", "")
    again = folder.hpo(*arguments, "--json")
    assert "Going on from 2 fits" in again.err
    assert again.json["sizes"] == [100, 200, 500, 1000]
    assert len(kept(folder)) == 4


def test_a_fit_of_a_trainer_that_was_interrupted_goes_on_from_its_checkpoint(
    folder: Folder,
) -> None:
    values = trained(run={"checkpoint_every": 1})
    values["objective"] = {**values["objective"], "epochs": 100_000}
    file = folder.study(values)
    arguments = ("data-needs", file, "--sizes", "100%", "--seeds", "1")
    running = folder.start(*arguments)
    while not [*folder.path.glob("hpo-runs/tumours/data-needs/*/*/checkpoints/*.pt")]:
        assert not running.process.has_ended
        time.sleep(0.01)
    running.signal(signal.SIGINT)
    assert running.done().code == 130
    (checkpoint, *_) = folder.path.glob("hpo-runs/tumours/data-needs/*/*/checkpoints/*.pt")
    epoch = int(checkpoint.stem.partition("-")[2])
    assert epoch >= 1
    # It goes on where it was: the budget ends it again, later.
    done = folder.hpo(*arguments, "--budget", "6")
    assert done.code == 1
    assert "no fit ended within the budget of 6s, not even at n = " in done.err
    assert "nor reported" not in done.err
    assert "--budget 36s" in done.err
    later = max(folder.path.glob("hpo-runs/tumours/data-needs/*/*/checkpoints/*.pt"))
    assert int(later.stem.partition("-")[2]) > epoch


@pytest.mark.parametrize("extra", [(), ("--workers", "2")])
def test_a_function_that_declares_it_is_asked_inline_and_in_processes(
    folder: Folder, extra: tuple[str, ...]
) -> None:
    folder.write("own.py", OWN)
    done = folder.hpo(
        "data-needs",
        folder.study(own()),
        "--examples",
        "1000",
        "--target",
        "0.01",
        "--json",
        *extra,
    )
    assert done.code == 0, done.err
    found = done.json
    assert found["n"] == 1000
    assert found["sizes"][-1] == 1000
    for size, errors in zip(found["sizes"], found["errors"], strict=True):
        assert errors == pytest.approx([0.5 / size**0.5] * len(errors))
    # 0.5 / sqrt(n) is 0.01 at n = 2,500: the data times 2.5.
    assert found["verdict"] == "reachable"
    assert found["prob_reached"] < 0.1 < 0.9 <= found["prob_reachable"]
    assert 1700 < found["needed"]["expected"] < 3700
    assert found["diagnosis"]["kind"] == "variance"


def test_sizes_are_per_cent_where_nobody_knows_how_many_examples_there_are(
    folder: Folder,
) -> None:
    folder.write("own.py", OWN)
    arguments = ("data-needs", folder.study(own()), "--sizes", "5%,20%,100%", "--seeds", "1")
    reached = folder.hpo(*arguments, "--target", "0.1")
    assert reached.code == 0, reached.err
    assert re.search(
        r"already reached: \d+% of the data is enough for 0\.1"
        r"( \(90% interval up to \d+% of the data\))?\n",
        reached.out,
    )
    fits = [line for line in reached.err.splitlines() if ", seed 0: " in line]
    assert [line.split(", ")[0] for line in fits] == [f"{n}% of the data" for n in (5, 20, 100)]
    unclear = folder.hpo(*arguments, "--target", "0.001")
    assert re.search(r"not enough evidence: train at \d+% of the data next", unclear.out)
    assert "n = " not in reached.out + unclear.out + reached.err + unclear.err
    hint = "--examples N says how many it has; with it, fits begin anew."
    assert hint in " ".join(reached.err.split())
    part = folder.hpo(*arguments[:2], "--sizes", "5%,20%", "--seeds", "1", "--afresh")
    assert part.out.startswith("measured up to 20% of the data, and of that: ")
    wrong = folder.hpo(*arguments[:2], "--sizes", "500")
    assert "--sizes: 500% is not between 2% and 100% of the data." in wrong.err


@pytest.mark.parametrize("error", ["0.25", "0.25 + trial.seed % 100 / 1e4"])
def test_code_that_does_not_heed_its_train_fraction_is_told_of_it(
    folder: Folder, error: str
) -> None:
    folder.write("own.py", f"def train(trial):\n    return {{'val_error': {error}}}\n")
    wanted = ("--sizes", "10%,25%,50%,100%", "--seeds", "2", "--target", "0.1", "--json")
    done = folder.hpo("data-needs", folder.study(own()), *wanted)
    same = "Each seed has the same error at all sizes: does the code train on its train_fraction"
    assert same in " ".join(done.json["hints"])
    assert done.json["verdict"] == "unclear"
    assert "more data" not in done.json["sentence"]


IN_PER_CENT = """
import math


def train(trial):
    n = 1000 * trial.train_fraction
    return {"val_accuracy": 95 - 150 / math.sqrt(n), "train_accuracy": 99.5,
            "val_score": 237 - 150 / math.sqrt(n), "train_score": 300.0}
"""


def test_own_codes_accuracy_may_be_in_per_cent(folder: Folder) -> None:
    folder.write("own.py", IN_PER_CENT)
    wanted = ("--examples", "1000", "--seeds", "1", "--json")
    told = {}
    for target in ((), ("--target", "93"), ("--target", "99")):
        done = folder.hpo("data-needs", folder.study(own(metric="val_accuracy")), *wanted, *target)
        assert done.code == 0, done.err
        assert all(row["high"] <= 100 for row in done.json["table"])
        assert "target is met" not in done.json["diagnosis"]["sentence"]
        told[target] = done.json
    # What is expected of 10 times the data does not depend on what is wanted.
    assert len({json.dumps(each["table"]) for each in told.values()}) == 1
    assert told["--target", "99"]["verdict"] != "reachable"
    assert "at best 100)" in told[()]["diagnosis"]["sentence"]


@pytest.mark.parametrize(
    ("metric", "target", "meant"),
    [
        ("val_accuracy", "0.93", "Is 93 meant? val_accuracy is 90.26 at most."),
        ("val_accuracy", "93", ""),
        ("val_error", "0.05", ""),
    ],
)
def test_a_target_in_the_other_unit_is_doubted(
    folder: Folder, metric: str, target: str, meant: str
) -> None:
    folder.write("own.py", IN_PER_CENT if metric == "val_accuracy" else OWN)
    wanted = ("--examples", "1000", "--seeds", "1", "--target", target)

    done = folder.hpo("data-needs", folder.study(own(metric=metric)), *wanted)

    assert done.code == 0
    assert (meant in done.err) if meant else ("meant?" not in done.err), done.err
    found = folder.hpo("data-needs", "study.yaml", *wanted, "--json").json
    assert any("meant?" in hint for hint in found["hints"]) == bool(meant)
    assert found["meant"] == (93 if meant else None)
    for said in (found, found["diagnosis"]):  # neither is told as if there were no doubt
        assert ("0.93 is meant, and not 93: " in said["sentence"]) == bool(meant)


@pytest.mark.parametrize(
    ("metric", "target", "said"),
    [
        ("val_accuracy", "105", "val_accuracy cannot be 105; it is between 0 and 100."),
        ("val_error", "-1", "val_error cannot be -1; it is between 0 and 1."),
        ("val_error", "2", "val_error cannot be 2; it is between 0 and 1."),
    ],
)
def test_a_target_that_own_codes_metric_cannot_have_is_refused_once_it_was_measured(
    folder: Folder, metric: str, target: str, said: str
) -> None:
    folder.write("own.py", IN_PER_CENT if metric == "val_accuracy" else OWN)
    wanted = ("--examples", "1000", "--seeds", "1", "--target", target)

    done = folder.hpo("data-needs", folder.study(own(metric=metric)), *wanted)

    assert done.code == 1
    assert said in done.err
    assert done.out == ""


def test_a_metric_without_bounds_gets_no_diagnosis_but_by_a_target_or_bounds(
    folder: Folder,
) -> None:
    folder.write("own.py", IN_PER_CENT)
    file = folder.study(own(metric="val_score", direction="maximize"))
    wanted = ("data-needs", file, "--examples", "1000", "--seeds", "1")

    done = folder.hpo(*wanted)
    assert "variance" not in done.out.lower()
    assert "name a --target, or the metric's --bounds, to compare with" in done.err
    bounded = folder.hpo(*wanted, "--bounds", "0", "400", "--json")
    assert bounded.json["diagnosis"]["target"] == 400
    aimed = folder.hpo(*wanted, "--target", "250", "--json")
    assert aimed.json["diagnosis"]["target"] == 250
    wrong = folder.hpo(*wanted, "--bounds", "0", "inf")
    assert wrong.code == 1
    assert "the better of them finite" in wrong.err
    in_file = own(metric="val_score", direction="maximize", bounds=[0, 400])
    assert folder.study(in_file) == file
    assert folder.hpo(*wanted, "--json").json["diagnosis"]["target"] == 400
    folder.study(own(metric="val_score", direction="maximize", bounds=[0, None]))
    assert folder.hpo(*wanted, "--json").json["diagnosis"] is None


def test_a_metric_that_own_code_did_not_report_is_named_with_the_nearest(folder: Folder) -> None:
    folder.write("own.py", OWN)
    wanted = ("data-needs", folder.study(own()), "--sizes", "10%,20%", "--seeds", "1")
    assert folder.hpo(*wanted).code == 0

    done = folder.hpo(*wanted, "--metric", "val_eror")

    assert done.code == 1
    assert "no fit has reported 'val_eror'. Did you mean 'val_error'?" in done.err
    assert "Traceback" not in done.err


def test_a_size_beyond_all_data_is_said_to_be_everywhere(folder: Folder) -> None:
    folder.write("own.py", OWN)
    wanted = ("--target", "0.0001", "--sizes", "10%,100%", "--seeds", "1", "--examples", "1000")
    done = folder.hpo("data-needs", folder.study(own()), *wanted, "--json")
    assert (done.json["verdict"], done.json["n"]) == ("unclear", 1000)
    assert done.json["next_size"] > 1000
    n = f"{done.json['next_size']:,}"
    assert done.json["sentence"] == (
        f"not enough evidence: train at n = {n} next, which is more than the 1,000 that there are"
    )
    assert done.json["sentence"] in (folder.hpo("data-needs", "study.yaml", *wanted).out)


def test_advice_does_not_speak_against_the_verdict(folder: Folder) -> None:
    folder.write(
        "own.py",
        "def train(trial):\n"
        "    n = round(1000 * trial.train_fraction)\n"
        "    return {'val_error': 0.2 + 20 / n, 'train_error': 0.0}\n",
    )
    wanted = ("--examples", "1000", "--target", "0.01", "--seeds", "1")
    done = folder.hpo("data-needs", folder.study(own()), *wanted, "--json")
    assert done.code == 0, done.err
    assert done.json["verdict"] == "unreachable"
    assert done.json["diagnosis"]["kind"] == "variance"
    assert "More data or" not in done.json["diagnosis"]["sentence"]
    assert "more regularisation will help" in done.json["diagnosis"]["sentence"]


SCRIPT = """
import argparse, json, math
parser = argparse.ArgumentParser()
parser.add_argument("--train_fraction", type=float, required=True)
parser.add_argument("--x")
n = round(1000 * parser.parse_args().train_fraction)
print(json.dumps({"loss": 3 / n**0.3 + 0.2}))
"""


@pytest.mark.parametrize(
    ("command", "declared"),
    [("--train_fraction {train_fraction}", {}), ("{args}", {"train_fraction": True})],
)
def test_a_command_says_it_by_a_placeholder_or_declares_it(
    folder: Folder, command: str, declared: dict[str, bool]
) -> None:
    folder.write("train.py", SCRIPT)
    values = own()
    command = f"{sys.executable} train.py {command}"
    values["objective"] = {"command": command, "metric": "loss", **declared}
    file = folder.study(values)
    done = folder.hpo("data-needs", file, "--sizes", "10%,30%,100%", "--seeds", "1", "--json")
    assert done.code == 0, done.err
    assert (done.json["n"], done.json["unit"]) == (100, "percent")
    assert [each[0] for each in done.json["errors"]] == pytest.approx(
        [3 / n**0.3 + 0.2 for n in (100, 300, 1000)]
    )
    assert done.json["diagnosis"] is None
    assert "Report train" not in done.err  # `loss` is of nobody knows which part
    # A trial of the study has all of its data.
    assert folder.hpo("run", file).code == 0
    assert folder.trials("own")[0]["value"] == pytest.approx(3 / 1000**0.3 + 0.2)


@pytest.mark.parametrize(
    ("objective", "metric"),
    [
        ({"estimator": "sklearn.linear_model.LogisticRegression", "folds": 3}, "val_error"),
        ({"estimator": "sklearn.linear_model.LogisticRegression"}, "f1_macro"),
        ({"estimator": "sklearn.linear_model.Ridge", "data": "diabetes"}, "val_rmse"),
    ],
)
def test_an_estimator_is_fitted_on_parts(
    folder: Folder, objective: dict[str, Any], metric: str
) -> None:
    values = trained(space={"max_iter": 500})
    del values["baseline"], values["gate"]
    values["objective"] = {"data": "breast_cancer", **objective, "metric": metric}
    done = folder.hpo("data-needs", folder.study(values), "--seeds", "2", "--json")
    assert done.code == 0, done.err
    assert done.json["of"] == "the only configuration"
    assert done.json["sizes"][-1] == done.json["n"]
    assert done.json["target"] is None
    assert done.json["verdict"] is None
    assert done.json["direction"] == ("maximize" if metric == "f1_macro" else "minimize")
    assert (done.json["diagnosis"] is None) == (metric == "f1_macro")


@pytest.mark.parametrize(
    ("task", "data", "metric", "target"),
    [
        ("regressor", "diabetes", "val_r2", "0.5"),
        ("regressor", "diabetes", "val_loss", "0.4"),
        ("classifier", "wine", "val_loss", "0.1"),
        ("classifier", "iris", "val_accuracy", "0.99"),
    ],
)
def test_any_metric_of_a_trainer_may_be_asked(
    folder: Folder, task: str, data: str, metric: str, target: str
) -> None:
    values = trained(gate={})
    values["objective"] = {
        **values["objective"],
        "trainer": task,
        "data": data,
        "metric": "val_loss",
    }
    done = folder.hpo(
        "data-needs", folder.study(values), "--metric", metric, "--target", target, "--seeds", "2",
        "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert done.json["metric"] == metric
    assert done.json["diagnosis"]["target"] == float(target)
    assert all(None not in errors for errors in done.json["train_errors"])


def test_a_metric_of_the_training_part_may_be_reported(folder: Folder) -> None:
    values = trained(gate={})
    values["objective"] = {**values["objective"], "report": ["train_error", "train_f1"]}
    assert folder.hpo("run", folder.study(values)).code == 0
    assert {"train_error", "train_f1"} <= folder.trials("tumours")[0]["metrics"].keys()


def test_a_share_of_the_training_part_may_be_searched(folder: Folder) -> None:
    values = trained(gate={}, space={"train_fraction": [0.1, 0.5, 1.0]}, search={"sampler": "grid"})
    values["objective"] = {**values["objective"], "report": ["train_error"]}
    del values["baseline"]
    assert folder.hpo("run", folder.study(values)).code == 0
    trials = folder.trials("tumours")
    assert {trial["params"]["train_fraction"] for trial in trials} == {0.1, 0.5, 1.0}
    assert {trial["state"] for trial in trials} == {"COMPLETE"}
    assert folder.hpo("best", "tumours", "--test").code == 0  # its weights are of the same data
    values["space"]["train_fraction"] = {"float": [0.0, 1.5]}
    done = folder.hpo("check", folder.study(values))
    assert done.code == 1
    assert "space.train_fraction: 0.0 is out of range. It must be above 0 and at most 1" in done.err


BAD = [
    (("nobody",), "no study 'nobody' in sqlite:///hpo.db."),
    (("nobody", "--storage", "sqlite:///no.db"), "there is no storage 'sqlite:///no.db'"),
    (("empty",), "study 'empty' has no complete trial yet."),
    (("empty", "--set", "search.trials=3"), "of a study, run.* alone may be set."),
    (("no.yaml",), "no such file: no.yaml"),
    (("bare.yaml",), "'tumours' has no baseline, and data needs are those of one configuration."),
    (("bare.yaml",), "--set 'baseline={}'"),
    (("study.yaml", "--target", "1.5"), "val_error cannot be 1.5; it is between 0 and 1."),
    (("study.yaml", "--target", "nan"), "val_error cannot be nan"),
    (("study.yaml", "--metric", "val_eror"), "unknown metric 'val_eror'. Did you mean"),
    (("study.yaml", "--metric", "val_cost"), "'val_cost' needs `objective.costs`."),
    (("study.yaml", "--sizes", "10,5000"), "5,000 is not between 2 and the 341 training examples"),
    (("study.yaml", "--bounds", "0", "1"), "hpo knows the bounds of val_error itself."),
    (("study.yaml", "--examples", "9"), "hpo counts the examples itself: 341 to train on."),
    (("study.yaml", "--trial", "7"), "'tumours' has no trial 7."),
    (("function.yaml",), "the function of 'own' does not say that it can train on a part"),
    (("function.yaml",), "--set objective.train_fraction=true"),
    (("command.yaml",), "{train_fraction}"),
]  # fmt: skip


@pytest.mark.parametrize(("arguments", "message"), BAD)
def test_what_cannot_be_answered_is_explained(
    folder: Folder, arguments: tuple[str, ...], message: str
) -> None:
    folder.write("own.py", OWN)
    folder.study(trained())
    folder.study({k: v for k, v in trained().items() if k != "baseline"}, "bare.yaml")
    folder.study(own(train_fraction=False), "function.yaml")
    values = own()
    values["objective"] = {"command": "true {args}", "metric": "loss"}
    folder.study(values, "command.yaml")
    if arguments[0] in ("nobody", "empty"):
        empty = folder.study(trained(name="empty"), "empty.yaml")
        assert folder.hpo("data-needs", empty, "--sizes", "20", "--seeds", "1").code == 0
    done = folder.hpo("data-needs", *arguments)
    assert done.code == 1
    assert message in done.err
    assert done.out == ""


@pytest.mark.parametrize("weight_decay", [[0.0, 0.01], [1e-6, 0.01]])
def test_a_file_without_a_baseline_is_told_what_works(
    folder: Folder, weight_decay: list[float]
) -> None:
    values = {k: v for k, v in trained(gate={}).items() if k != "baseline"}
    values["space"] = {**values["space"], "weight_decay": {"float": weight_decay}}
    file = folder.study(values)
    sizes = ("--sizes", "30,90", "--seeds", "1")
    refused = folder.hpo("data-needs", file, *sizes)
    assert refused.code == 1
    # The trainer's default is 0.0: out of one of the spaces.
    assert ("--set 'baseline={}'" in refused.err) == (weight_decay[0] == 0)
    if weight_decay[0] == 0:
        assert folder.hpo("data-needs", file, *sizes, "--set", "baseline={}").code == 0
    assert f"hpo run {file}, then hpo data-needs tumours" in " ".join(refused.err.split())
    assert folder.hpo("run", file).code == 0
    assert folder.hpo("data-needs", "tumours", *sizes).code == 0


@pytest.mark.parametrize(
    "arguments",
    [
        ("--budget", "0"),
        ("--budget", "soon"),
        ("--sizes", "many"),
        ("--sizes", "1e3"),
        ("--seeds", "0"),
        ("--target", "low"),
    ],
)
def test_wrong_usage_is_exit_code_2(folder: Folder, arguments: tuple[str, ...]) -> None:
    assert folder.hpo("data-needs", folder.study(trained()), *arguments).code == 2


def test_a_budget_too_small_for_one_fit_is_explained(folder: Folder) -> None:
    folder.write("own.py", OWN)
    folder.write("slow", "20")
    done = folder.hpo(
        "data-needs", folder.study(own()), "--budget", "0.5s", "--sizes", "2%", "--target", "0.1"
    )
    assert done.code == 1
    assert (
        "no fit ended within the budget of 0.5s, not even at 2% of the data.\n"
        "  Give it more time: --budget 10s\n"
    ) in done.err
    done = folder.hpo("data-needs", folder.study(own()), "--budget", "0.001s", "--sizes", "2%")
    assert "0.001s, not even at 2% of the data, nor reported a step." in done.err


def test_what_fails_everywhere_is_explained_with_the_last_failure(folder: Folder) -> None:
    folder.write("own.py", "def train(trial):\n    raise RuntimeError('out of luck')\n")
    done = folder.hpo("data-needs", folder.study(own()))
    assert done.code == 1
    assert "all 3 fits failed" in done.err
    assert "RuntimeError: out of luck" in done.err
    assert "own.py" in done.err


def test_what_fails_at_one_size_is_told_and_left_out(folder: Folder) -> None:
    folder.write(
        "own.py",
        "def train(trial):\n"
        "    n = round(1000 * trial.train_fraction)\n"
        "    return {'val_error': float('nan') if n < 50 else 0.5 / n**0.5}\n",
    )
    done = folder.hpo("data-needs", folder.study(own()), "--examples", "1000", "--json")
    assert done.code == 0, done.err
    assert all(fit["failure"]["kind"] == "DIVERGED" for fit in done.json["failures"])
    assert {fit["size"] for fit in done.json["failures"]} < set(range(50))
    assert min(done.json["sizes"]) >= 50


@pytest.mark.parametrize("dies", ["once", "always"])
def test_a_fit_whose_worker_dies_is_trained_again_a_few_times(folder: Folder, dies: str) -> None:
    folder.write("dies", dies)
    folder.write(
        "own.py",
        "import os, signal\nfrom pathlib import Path\n\n"
        "def train(trial):\n"
        "    n = round(1000 * trial.train_fraction)\n"
        "    if n == 500 and Path('dies').exists():\n"
        "        if Path('dies').read_text() == 'once':\n"
        "            Path('dies').unlink()\n"
        "        print('x', file=open('calls.txt', 'a'))\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return {'val_error': 0.5 / n**0.5}\n",
    )
    wanted = ("--examples", "1000", "--sizes", "100,500,1000", "--seeds", "1", "--workers", "1")
    done = folder.hpo("data-needs", folder.study(own()), *wanted, "--json")
    assert done.code == 0, done.err
    assert len(folder.calls()) == (1 if dies == "once" else 3)
    assert done.json["sizes"] == ([100, 500, 1000] if dies == "once" else [100, 1000])
    assert [fit["size"] for fit in done.json["failures"]] == ([] if dies == "once" else [500])
    assert done.json["state"] == "finished"


def test_a_budget_that_ends_it_tells_what_is_known_and_goes_on_later(folder: Folder) -> None:
    folder.write("own.py", OWN)
    folder.write("slow", "1000")
    arguments = ["data-needs", folder.study(own()), "--examples", "1000", "--target", "0.01"]
    arguments += ["--sizes", "100,300,1000", "--seeds", "1"]
    done = folder.hpo(*arguments, "--budget", "2s", "--json")
    assert done.code == 0, done.err
    assert (done.json["state"], done.json["sizes"]) == ("budget", [100, 300])
    assert done.json["sentence"].startswith("measured up to 300 of 1,000, and of those: ")
    assert "The budget is spent" in done.err
    folder.write("go", "")
    again = folder.hpo(*arguments, "--json")
    assert (again.json["state"], again.json["sizes"]) == ("finished", [100, 300, 1000])


def test_a_study_whose_space_has_changed_is_another(folder: Folder) -> None:
    assert folder.hpo("data-needs", folder.study(trained()), "--sizes", "30").code == 0
    changed = trained(space={"learning_rate": {"float": [0.01, 2.0], "log": True}})
    done = folder.hpo("data-needs", folder.study(changed), "--sizes", "30")
    assert done.code == 1
    assert "exists with another space or objective" in done.err


def test_mlflow_has_a_run_with_the_picture_and_the_numbers(folder: Folder) -> None:
    uri = f"sqlite:///{folder.path}/mlflow.db"
    arguments = ("data-needs", folder.study(trained()), "--sizes", "30,90,341", "--tracking", uri)
    for _ in range(2):  # the second takes the place of the first
        done = folder.hpo(*arguments)
        assert done.code == 0, done.err
        assert "warning" not in done.err

    # A run of the study later is not confused by it.
    assert folder.hpo("run", "study.yaml", "--tracking", uri, "--set", "gate={}").code == 0
    runs = _in_mlflow(folder)
    assert sorted(runs) == ["data-needs", "trial 0", "trial 1", "trial 2", "tumours"]
    run = runs["data-needs"]
    assert run["status"] == "FINISHED"
    assert run["tags"]["mlflow.parentRunId"] == runs["tumours"]["id"]
    assert run["tags"]["hpo.sentence"] in done.out
    assert run["params"]["learning_rate"] == "0.1"
    assert run["steps"]["val_error"] == [30, 90, 341]
    assert {"train_error", "expected_1x", "floor"} <= run["steps"].keys()
    assert {"prob_reached", "prob_reachable"} <= run["steps"].keys()
    assert run["files"] == ["data-needs.json", "data-needs.png", "fits.jsonl"]
    with Image.open(run["picture"]) as image:
        image.verify()


_LOOK = """
import json
from mlflow import MlflowClient

client, found = MlflowClient("sqlite:///mlflow.db"), {}
experiment = client.get_experiment_by_name("tumours")
for run in client.search_runs([experiment.experiment_id]):
    id_, data = run.info.run_id, run.data
    assert run.info.run_name not in found
    steps = {k: [p.step for p in client.get_metric_history(id_, k)] for k in data.metrics}
    files = [file.path for file in client.list_artifacts(id_)]
    has = "data-needs.png" in files
    picture = client.download_artifacts(id_, "data-needs.png", ".") if has else None
    found[run.info.run_name] = {
        "id": id_, "status": run.info.status, "tags": data.tags, "params": data.params,
        "steps": steps, "files": files, "picture": picture,
    }
print(json.dumps(found))
"""


def _in_mlflow(folder: Folder) -> dict[str, Any]:
    """The runs of the study's experiment, by name."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", _LOOK],
        cwd=folder.path,
        env=folder.environment,
        capture_output=True,
        text=True,
        check=True,
    )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def test_each_target_has_a_run_in_mlflow_that_is_kept(folder: Folder) -> None:
    wanted = ["data-needs", folder.study(trained()), "--sizes", "30,90", "--seeds", "1"]
    wanted += ["--tracking", f"sqlite:///{folder.path}/mlflow.db"]
    for target in ("0.05", "0.1"):
        assert folder.hpo(*wanted, "--target", target).code == 0

    with closing(sqlite3.connect(folder.path / "mlflow.db")) as database:
        found = database.execute(
            "SELECT value FROM params JOIN runs USING (run_uuid) "
            "WHERE key = 'target' AND lifecycle_stage = 'active'"
        ).fetchall()

    assert sorted(found) == [("0.05",), ("0.1",)]


def test_an_mlflow_that_is_away_fails_nothing(folder: Folder) -> None:
    uri = f"sqlite:///{folder.path}/nowhere/mlflow.db"
    done = folder.hpo(
        "data-needs", folder.study(trained()), "--sizes", "30,90", "--tracking", uri, "--json"
    )
    assert done.code == 0, done.err
    assert "warning: " in done.err
    assert done.json["sizes"] == [30, 90]


def test_it_works_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import hpo

    monkeypatch.chdir(tmp_path)
    Path("study.yaml").write_text(json.dumps(trained()))
    answer = hpo.measure_data_needs("study.yaml", target=0.05, budget="1m", seeds=1)
    assert answer.needs is not None
    assert answer.largest == 341
    assert answer.needs.error_at(682).mean.shape == (1,)
    assert answer.diagnosis is not None
    wrong: list[dict[str, Any]] = [
        {"seeds": 0}, {"seeds": 2.5}, {"examples": 1}, {"examples": 600.5}, {"target": "x"},
        {"target": True}, {"target": [0.1]}, {"bounds": 5}, {"bounds": (0, 1, 2)},
        {"bounds": ("a", "b")},
    ]  # fmt: skip
    for arguments in wrong:
        (name,) = arguments
        with pytest.raises(hpo.HpoError, match=f"^{name} (is|are) .*, not "):
            hpo.measure_data_needs("study.yaml", **arguments)
