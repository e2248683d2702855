"""Which way is better of a metric: by its name, as stated, or as its study was made."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest

from hpo import catalog, spec, studyfile
from hpo.advice import advise
from hpo.directions import bounds, natural
from hpo.errors import StudyChangedError
from hpo.storage import open_storage

LARGER = """acc val_acc auc AUC test/AUC score val_score mAP mAP@0.5 mAP50 iou mIoU bleu BLEU-4
    rougeL success_rate reward episode_reward_mean r2 R2 f1_macro macro_f1 f0.5 valAcc hits@10
    val_accuracy neg_mean_squared_error log_likelihood eval_bleu top1_acc"""
SMALLER = """loss trainLoss eval_loss val/loss error err top5_error rmse mae mse perplexity nll wer
    cer time fit_time latency latency_ms brier_score val_log_loss neg_log_likelihood"""
UNTOLD = "value near quality accuracy_loss mapping latent x"


@pytest.mark.parametrize("name", LARGER.split())
def test_more_is_better_of_the_usual_scores(name: str) -> None:
    assert natural(name) == "maximize"


@pytest.mark.parametrize("name", SMALLER.split())
def test_less_is_better_of_the_usual_losses(name: str) -> None:
    assert natural(name) == "minimize"


@pytest.mark.parametrize("name", UNTOLD.split())
def test_other_names_do_not_tell(name: str) -> None:
    assert natural(name) is None


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("val_accuracy", (0, 1)),
        ("test_error", (0, 1)),
        ("val_loss", (0, float("inf"))),
        ("val_r2", (-float("inf"), 1)),
        ("acc", (0, 1)),
        ("mIoU", (0, 1)),
        ("mAP@0.5", (0, 1)),
        ("top1_acc", (0, 1)),
        ("neg_accuracy", None),
        ("accuracy_loss", None),
        ("reward", None),
        ("bleu", None),
        ("my_error", None),
        ("x", None),
    ],
)
def test_a_share_is_known_by_its_name(name: str, expected: tuple[float, float] | None) -> None:
    assert bounds(name) == expected


def plan_of(folder: Path, **objective: Any) -> spec.Plan:
    values = {
        "objective": {"function": "mine:train", **objective},
        "space": {"x": {"float": [0, 1]}},
        "run": {"directory": str(folder / "runs")},
    }
    return spec.check(studyfile.StudyFile("s.yaml", folder, values))


def directions(plan: spec.Plan) -> list[str]:
    return [each.message for each in advise(plan) if each.path == "objective.direction"]


def test_a_direction_that_is_assumed_is_said(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, metric="quality")

    assert plan.spec.objective.directions == ("minimize",)
    (said,) = directions(plan)
    assert "'quality' is minimised; say maximize if more is better" in said


@pytest.mark.parametrize(
    "objective",
    [{"metric": "val_acc"}, {"metric": "loss"}, {"metric": "quality", "direction": "minimize"}],
)
def test_a_direction_that_is_known_or_stated_is_not(
    tmp_path: Path, objective: dict[str, Any]
) -> None:
    assert directions(plan_of(tmp_path, **objective)) == []


@pytest.mark.parametrize("find", [catalog.find_or_create, catalog.beside])
def test_a_study_keeps_the_direction_that_it_was_made_with(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, find: Any
) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'hpo.db'}")
    catalog.find_or_create(storage, plan_of(tmp_path, metric="acc", direction="minimize"))
    later = plan_of(tmp_path, metric="acc")
    assert later.spec.objective.directions == ("maximize",)

    with caplog.at_level(logging.WARNING):
        record = find(storage, later)

    assert record.aims.directions == ("minimize",)
    assert record.plan.spec.objective.directions == ("minimize",)
    assert "was made to minimize acc" in caplog.text


def test_a_direction_that_is_stated_anew_is_another_study(tmp_path: Path) -> None:
    storage = open_storage(f"sqlite:///{tmp_path / 'hpo.db'}")
    catalog.find_or_create(storage, plan_of(tmp_path, metric="acc", direction="minimize"))

    with pytest.raises(StudyChangedError, match="minimize -> maximize"):
        catalog.find_or_create(storage, plan_of(tmp_path, metric="acc", direction="maximize"))
