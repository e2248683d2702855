"""A study whose trials never have its metric ends at once, and its gate says what is missing."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import hpo
from hpo.limits import WITHOUT_METRIC

Run = Callable[..., hpo.Result]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs a study of a function that ends as it is told, trial by trial."""
    monkeypatch.chdir(tmp_path)

    def run(ways: str, **rest: Any) -> hpo.Result:
        module = f"ends_{ways}"
        text = (
            "import optuna\n\n\ndef train(trial):\n"
            f"    way = {ways!r}[trial.number % {len(ways)}]\n"
            "    if way == 'p':\n        raise optuna.TrialPruned\n"
            "    if way == 'f':\n        raise ValueError\n"
            "    if way == 'n':\n        return None\n"
            "    return {'loss': 1.0} if way == 'c' else {'los': 1.0}\n"
        )
        (tmp_path / f"{module}.py").write_text(text, encoding="utf-8")
        objective = {"function": f"{module}:train", "metric": "loss"}
        values = {"name": module, "objective": objective, "space": {"x": {"float": [0, 1]}}}
        search = {"trials": 8, "sampler": "random"}
        return hpo.run({**values, "search": search, "tracking": "none", **rest})

    return run


def test_trials_that_never_have_the_metric_end_the_study(run: Run) -> None:
    result = run("m")

    assert result.outcome.state == "failed"
    assert result.outcome.reason == "3 trials ended without loss, and none with it"
    assert len(result.trials) == WITHOUT_METRIC
    assert all("reported was: los" in str(trial.failure) for trial in result.trials)


def test_so_do_trials_that_return_nothing(run: Run) -> None:
    result = run("n")

    assert result.outcome.reason == "3 trials ended without loss, and none with it"
    assert len(result.trials) == WITHOUT_METRIC


@pytest.mark.parametrize("ways", ["cmmmmmmm", "pmmmmmmm", "mmfmmfmm"])
def test_a_study_goes_on_that_may_have_it_in_other_trials(run: Run, ways: str) -> None:
    assert len(run(ways).trials) == 8


def test_a_study_that_is_run_again_gets_another_chance(run: Run) -> None:
    assert len(run("mmmcc").trials) == WITHOUT_METRIC

    again = run("mmmcc")

    assert again.outcome.state == "finished"
    assert len(again.trials) == 8
    assert again.study.counts()["complete"] == 2


def test_a_gate_tells_a_metric_that_is_not_there_from_one_that_misses(run: Run) -> None:
    verdict = run("c", gate={"los": "<= 2", "loss": "<= 0.5"}).verdict

    assert verdict is not None
    assert verdict.sentence == (
        "gate failed: los should be <= 2, and trial 0 did not report it (reported was: loss; "
        "did you mean 'loss'?); loss 1 is not <= 0.5."
    )
