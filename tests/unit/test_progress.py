"""What a study says when it is taken up."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import hpo
from hpo import api, spec, studyfile
from hpo.cli.progress import LiveProgress, PlainProgress
from hpo.listeners import Outcome
from hpo.reports import stopping
from hpo.reports.trials import trials_list
from hpo.search_spaces import Scalar
from hpo.trial import Failure, FailureKind, TrialRecord


@pytest.fixture
def said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs a study of so many trials; gives what it says first."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "adds.py").write_text("def train(trial):\n    return trial.x\n", encoding="utf-8")

    def run(trials: int, space: object = {"float": [0, 1]}) -> str:
        values = {
            "name": "m",
            "objective": {"function": "adds:train", "metric": "loss"},
            "space": {"x": space},
            "search": {"trials": trials, "sampler": "random"},
            "tracking": "none",
        }
        plan = spec.check(studyfile.StudyFile("m.yaml", tmp_path, values))
        console = Console(file=io.StringIO(), width=1000)
        api.run_plan(plan, listeners=[PlainProgress(console, plan)])
        assert isinstance(console.file, io.StringIO)
        return console.file.getvalue().partition("\n")[0].partition(", in ")[0]

    return run


def test_a_study_says_how_many_trials_it_has_and_is_to_have(said: Any) -> None:
    assert said(1) == "Study 'm': 1 trial, random"
    assert said(3) == "Going on with study 'm': 1 of 3 trials are there"
    assert said(3) == "Study 'm' has its 3 trials; more with --set search.trials=N"
    assert said(2) == "Study 'm' has its 3 trials; more with --set search.trials=N"


def test_a_study_that_has_tried_all_is_not_told_to_try_more(said: Any) -> None:
    said(9, {"choice": [1, 2]})

    assert said(9, {"choice": [1, 2]}) == "Study 'm' has its 2 trials"


def test_nothing_is_said_of_stopping_before_a_trial_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "raises.py").write_text("def train(trial):\n    return 1 / trial.x\n")
    objective = {"function": "raises:train", "metric": "loss"}
    values = {"objective": objective, "space": {"x": [0, 1]}, "tracking": "none"}

    result = hpo.run({**values, "stopping": {"rule": "median"}}, "space.x=0")

    assert result.outcome == Outcome("failed", "every trial failed")
    assert stopping.sentence(result.study) == ""
    more = hpo.run({**values, "name": "n", "stopping": {"rule": "median"}}, "space.x=1")
    assert stopping.sentence(more.study).startswith("median stopped 0 of 1 trial and saved 0%")


def printed(console: Console, what: Any) -> list[str]:
    console.print(what)
    assert isinstance(console.file, io.StringIO)
    return [line.rstrip() for line in console.file.getvalue().splitlines()]


@pytest.mark.parametrize(
    ("width", "fields"),
    [
        (60, ["best", "left"]),
        (80, ["best", "counts", "left"]),
        (160, ["best", "counts", "now", "left"]),
    ],
)
def test_a_live_line_leaves_out_what_it_has_no_room_for(
    tmp_path: Path, width: int, fields: list[str]
) -> None:
    objective = {"function": "adds:train", "metric": "loss"}
    values = {"name": "m", "objective": objective, "space": {"x": {"float": [0, 1]}}}
    plan = spec.check(studyfile.StudyFile("m.yaml", tmp_path, values))
    live = LiveProgress(Console(width=width), plan)
    texts: dict[str, Any] = {
        "best": "best 0.0234 (trial 17)",
        "counts": "9 complete  2 pruned",
        "now": "trial 26 and 1 more step 12/30",
        "left": "12:34 left",
    }
    live._progress.update(live._task, completed=25, **texts)

    (line,) = printed(Console(file=io.StringIO(), width=width), live._progress)

    assert "25/50" in line
    assert [name for name, text in texts.items() if text in line] == fields
    assert "\N{HORIZONTAL ELLIPSIS}" not in line


def test_trials_of_a_narrow_terminal_have_their_parameters_below() -> None:
    params: dict[str, Scalar] = {"learning_rate": 0.1, "batch_size": 64, "schedule": "one_cycle"}
    failure = Failure(FailureKind.CRASHED, "RuntimeError: no [luck] at all")
    done = TrialRecord(
        1, 0, "COMPLETE", {"val_error": 0.5}, params, {}, 3, None, None, 1, 2.0, None
    )
    failed = TrialRecord(2, 10, "FAIL", {}, {"momentum": 0.5}, {}, 0, None, failure, 1, None, None)

    lines = printed(
        Console(file=io.StringIO(), width=80), trials_list([done, failed], ["val_error"])
    )

    assert lines == [
        "trial     state  val_error  steps  seconds",
        "    0  COMPLETE        0.5      3      2.0",
        "    learning_rate 0.1  batch_size 64  schedule one_cycle",
        "   10      FAIL                 0",
        "    momentum 0.5",
        "    CRASHED: RuntimeError: no [luck] at all",
    ]
