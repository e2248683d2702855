"""What a person is told of fits on parts of the data."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from hpo import spec, studyfile
from hpo.catalog import StudyRecord
from hpo.cli.needs_progress import LiveProgress
from hpo.errors import HpoError
from hpo.sizing import report
from hpo.sizing.fits import Fit, failed
from hpo.sizing.question import Answer, Question, estimate
from hpo.trial import FailureKind

FALLING = {10: 0.31, 20: 0.22, 40: 0.16}


def question(metric: str = "val_error", target: float | None = 0.05, **more: Any) -> Question:
    """A question about a function that knows nothing of examples."""
    way = {"direction": "maximize"} if metric in ("quality", "rew") else {}
    objective = {"function": "own:train", "metric": metric, "train_fraction": True, **way}
    file = studyfile.StudyFile("s.yaml", Path(), {"objective": objective, "space": {"x": 1}})
    study: Any = StudyRecord
    known = {"n": 100, "is_counted": False, **more}
    return Question(study, spec.check(file), {}, "it", metric, target, **known)


def answer(
    asked: Question,
    errors: Mapping[int, float],
    *,
    seeds: int = 3,
    out_of_memory: Sequence[int] = (),
) -> Answer:
    """What is answered where some sizes were measured, and others failed, each seed of them."""
    metric, each_seed = asked.metric, range(seeds)
    fits = [
        Fit(n, seed, {metric: e * (1 + 0.01 * seed)}, 1.0)
        for n, e in errors.items()
        for seed in each_seed
    ]
    memory, why = FailureKind.OUT_OF_MEMORY, "MemoryError: too large"
    failures = [failed(n, seed, 1.0, memory, why) for seed in each_seed for n in out_of_memory]
    return Answer(asked, fits, failures, estimate(asked, fits), None, "finished")


def test_sizes_that_failed_in_all_seeds_are_told_and_not_recommended() -> None:
    found = answer(question(target=0.01), FALLING, out_of_memory=[50, 71, 100])
    hints = list(report.hints(found))

    assert "train at" not in report.sentence(found)
    assert "40% of the data is the most that did not fail" in report.sentence(found)
    assert (
        "50% of the data and more failed in all seeds (OUT_OF_MEMORY: MemoryError: too large)."
        in hints
    )
    assert not any(hint.startswith("All sizes have") for hint in hints)
    as_json = found.failed_sizes, report._needs_json(found)["next_size"]
    assert as_json == ([50, 71, 100], None)


@pytest.mark.parametrize(
    ("sizes", "which"),
    [
        ([2], "2% of the data failed"),
        ([2, 5], "5% of the data and less failed"),
        ([5, 30], "5% of the data, 30% of the data failed"),
    ],
)
def test_sizes_that_failed_are_named(sizes: list[int], which: str) -> None:
    hints = " ".join(report.hints(answer(question(), FALLING, out_of_memory=sizes)))
    assert f"{which} in all seeds" in hints


def test_a_fit_that_failed_where_others_did_not_is_told() -> None:
    found = answer(question(), FALLING, out_of_memory=[20])
    hints = list(report.hints(found))
    assert found.failed_sizes == []
    said = "3 fits failed at sizes where others did not (OUT_OF_MEMORY: MemoryError: too large)."
    assert said in hints


@pytest.mark.parametrize("seeds", [1, 2])
def test_one_seed_a_size_is_said_to_tell_nothing_of_its_luck(seeds: int) -> None:
    hints = list(report.hints(answer(question(), FALLING, seeds=seeds)))
    said = "One seed a size: intervals do not know its luck; --seeds 3 would tell."
    assert (said in hints) == (seeds == 1)


def test_a_target_in_another_unit_is_doubted_first_also_of_a_metric_that_nobody_knows() -> None:
    asked = question("quality", 90)
    found = answer(asked, {10: 0.6, 20: 0.7, 40: 0.78, 100: 0.83}, seeds=2)
    assert next(report.hints(found)) == "Is 0.9 meant? quality is 0.8383 at most."
    assert report.sentence(found).startswith("if 90 is meant, and not 0.9: ")
    assert asked.meant([60.0, 70.0]) is None
    stated = question("quality", 90, stated_bounds=(0.0, 1000.0))
    assert stated.meant([0.6, 0.7]) is None


def test_a_metric_whose_best_is_said_to_be_open_has_not_that_of_its_name() -> None:
    assert question("val_accuracy").bounds_of([0.5, 0.6]) == (0.0, 1.0)
    stated = question("val_accuracy", stated_bounds=(0.0, math.inf))
    assert stated.bounds_of([0.5, 0.6]) is None


def test_bounds_that_a_fit_breaks_are_told_in_the_metrics_words() -> None:
    asked = question("rew", 190, stated_bounds=(0.0, 200.0))
    with pytest.raises(HpoError) as refused:
        answer(asked, {2: -76.0765, 20: 100.0}, seeds=1)
    said = "rew is -76.08 at 2% of the data, outside its bounds 0 to 200."
    assert refused.value.args[0].startswith(said)
    assert refused.value.next_step.endswith("Without a worst value: --bounds -inf 200")
    with pytest.raises(HpoError, match="rew is 210 at 20% of the data, outside") as beyond:
        answer(asked, {20: 210.0}, seeds=1)
    assert beyond.value.next_step.endswith("can have: state others.")


def test_where_all_sizes_have_their_seeds_none_of_them_is_recommended() -> None:
    asked = question(target=0.0, n=1077, is_counted=True)
    found = answer(asked, {10: 0.31, 100: 0.12, 1077: 0.05}, seeds=2)
    assert found.needs is not None
    assert found.needs.next_size == 1077
    assert report.sentence(found) == "not enough evidence, though all sizes have their seeds"
    hints = " ".join(report.hints(found))
    assert "No data is sure to reach the best value there is: name a --target short of 0." in hints


@pytest.mark.parametrize(
    ("target", "errors", "known"),
    [
        (0.5, FALLING, ", reached"),
        (0.162, FALLING, ", probably reached"),
        (0.0, {5: 0.3, 10: 0.2, 50: 0.1, 100: 0.0}, ", measured"),
    ],
)
def test_the_live_line_is_no_surer_than_the_sentence(
    target: float, errors: dict[int, float], known: str
) -> None:
    found = answer(question(target=target), errors)
    live = LiveProgress(Console(file=io.StringIO()), 60.0)
    live.question = found.question
    live.ended(found.fits[-1], found.needs)
    assert live._known == known
    surer = "More seeds would make it surer: --seeds 6"
    assert (surer in report.hints(found)) == (known == ", probably reached")


@pytest.mark.parametrize(("target", "step"), [(2.0, "--target 0.02; of own"), (-1.0, "--target 0")])
def test_an_error_between_0_and_1_is_no_target_on_either_side(target: float, step: str) -> None:
    with pytest.raises(HpoError, match="val_error cannot be") as refused:
        answer(question(target=target), FALLING)
    assert step in refused.value.next_step
    answer(question(target=2.0, stated_bounds=(0.0, 100.0)), FALLING)
