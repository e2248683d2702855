"""Metrics against scikit-learn's, and what they say where there is nothing to say."""

from __future__ import annotations

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as peer
from torch import Tensor, nn

from hpo.reports.plots import as_text, precision_over_recall, write_image
from hpo.trainers import ConfigError, Goals, goals
from hpo.trainers.checkpoints import weights_of, write
from hpo.trainers.data.parts import Data, Tensors
from hpo.trainers.metrics import (
    _JUDGES,
    evaluate,
    latency_ms,
    model_bytes,
    n_parameters,
    precision_recall,
    predict,
    probabilities,
    problems,
)

NOTHING = Tensors(torch.zeros(0, 1), torch.zeros(0))


def classes(n: int) -> Data:
    names = tuple("abcdefgh"[:n])
    return Data("letters", "classification", NOTHING, NOTHING, NOTHING, (1,), names)


def numbers(mean: float = 0.0, deviation: float = 1.0) -> Data:
    parts = (NOTHING,) * 3
    return Data("numbers", "regression", *parts, (1,), target_mean=mean, target_deviation=deviation)


def answered(n_classes: int, n_true: int, seed: int, n: int = 60) -> tuple[Tensor, Tensor]:
    """Logits with ties, and truths of the first n_true classes, which they have an idea of."""
    generator = torch.Generator().manual_seed(seed)
    truth = torch.randint(n_true, (n,), generator=generator)
    logits = torch.randn(n, n_classes, generator=generator) + nn.functional.one_hot(
        truth, n_classes
    )
    return (2 * logits).round() / 2, truth


def one(name: str, logits: Tensor, truth: Tensor, goals: Goals = Goals()) -> float:  # noqa: B008
    return evaluate([name], logits, truth, classes(logits.shape[1]), goals)[name]


CLASSES_AND_TRUE = [(2, 2), (3, 3), (6, 6), (6, 4)]


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n_classes", "n_true"), CLASSES_AND_TRUE)
@pytest.mark.filterwarnings("ignore:y_pred contains classes not in y_true")
def test_answers_are_judged_as_by_scikit_learn(n_classes: int, n_true: int, seed: int) -> None:
    logits, truth = answered(n_classes, n_true, seed)
    answers, p = logits.argmax(dim=1), logits.double().softmax(dim=1)
    how = {"average": "binary" if n_classes == 2 else "macro", "zero_division": 0}
    expected = {
        "val_loss": peer.log_loss(truth, p, labels=range(n_classes)),
        "val_log_loss": peer.log_loss(truth, p, labels=range(n_classes)),
        "val_error": peer.zero_one_loss(truth, answers),
        "val_accuracy": peer.accuracy_score(truth, answers),
        "val_balanced_accuracy": peer.balanced_accuracy_score(truth, answers),
        "val_precision": peer.precision_score(truth, answers, **how),
        "val_recall": peer.recall_score(truth, answers, **how),
        "val_f1": peer.f1_score(truth, answers, **how),
        "val_f0.5": peer.fbeta_score(truth, answers, beta=0.5, **how),
        "val_f2": peer.fbeta_score(truth, answers, beta=2, **how),
    }
    found = evaluate(expected, logits, truth, classes(n_classes), Goals())
    assert list(found) == list(expected)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("n_classes", "n_true"), CLASSES_AND_TRUE[1:])
def test_areas_are_means_over_the_classes_in_the_truths(
    n_classes: int, n_true: int, seed: int
) -> None:
    logits, truth = answered(n_classes, n_true, seed)
    p = probabilities(logits).numpy()
    pr, roc = (
        np.mean([area(truth == k, p[:, k]) for k in range(n_true)])
        for area in (peer.average_precision_score, peer.roc_auc_score)
    )
    assert one("val_pr_auc", logits, truth) == pytest.approx(pr)
    assert one("val_roc_auc", logits, truth) == pytest.approx(roc)
    if n_true == n_classes:
        assert roc == pytest.approx(peer.roc_auc_score(truth, p, multi_class="ovr"))


@pytest.mark.parametrize(("positive", "number"), [(None, 1), ("b", 1), ("a", 0)])
def test_with_two_classes_metrics_are_about_the_positive_one(
    positive: str | None, number: int
) -> None:
    logits, truth = answered(2, 2, seed=1)
    p, answers, is_one = probabilities(logits)[:, number], logits.argmax(dim=1), truth == number
    expected = {
        "val_precision": peer.precision_score(truth, answers, pos_label=number),
        "val_recall": peer.recall_score(truth, answers, pos_label=number),
        "val_f2": peer.fbeta_score(truth, answers, beta=2, pos_label=number),
        "val_pr_auc": peer.average_precision_score(is_one, p),
        "val_roc_auc": peer.roc_auc_score(is_one, p),
    }
    found = evaluate(expected, logits, truth, classes(2), Goals(positive=positive))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("seed", range(3))
def test_predictions_are_judged_in_the_targets_unit_as_by_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.normal(150, 40, size=50)
    predicted = y + rng.normal(0, 20, size=50)
    data = numbers(150, 40)
    outputs, targets = (torch.from_numpy((each - 150) / 40) for each in (predicted, y))
    expected = {
        "val_loss": peer.mean_squared_error(targets, outputs),
        "val_rmse": peer.root_mean_squared_error(y, predicted),
        "val_mae": peer.mean_absolute_error(y, predicted),
        "val_r2": peer.r2_score(y, predicted),
    }
    found = evaluate(expected, outputs[:, None], targets, data, Goals())
    assert found == pytest.approx(expected)


def test_every_name_has_a_metric() -> None:
    goals_ = Goals(costs=((0, 1), (1, 0)), required_accuracy=0.9)
    logits, truth = answered(2, 2, seed=0)
    of_classes = [name for name in goals.names("classification") if name.startswith("val_")]
    assert list(evaluate(of_classes, logits, truth, classes(2), goals_)) == of_classes
    of_numbers = [name for name in goals.names("regression") if name.startswith("val_")]
    found = evaluate(of_numbers, logits[:, :1], truth.float(), numbers(), Goals())
    assert list(found) == of_numbers


def test_metrics_bear_the_name_of_the_part() -> None:
    logits, truth = answered(3, 3, seed=0)
    names = [*Goals().reported("classification"), "test_f1", "latency_ms"]
    found = evaluate(names, logits, truth, classes(3), Goals(), part="test")
    assert list(found) == ["test_loss", "test_error", "test_accuracy", "test_f1"]
    train = evaluate(["train_loss"], logits, truth, classes(3), Goals(), part="train")
    assert train == {"train_loss": found["test_loss"]}


@pytest.mark.parametrize("task", ["classification", "regression"])
def test_no_metric_waits_for_the_device_by_itself(task: goals.Task) -> None:
    # A meta tensor has no values, so that whatever asks for one raises.
    goals_ = Goals(costs=((0, 1, 1),) * 3, required_accuracy=0.9)
    data = classes(3) if task == "classification" else numbers()
    truth = torch.zeros(5, dtype=torch.int64 if data.classes else torch.float32, device="meta")
    judge = _JUDGES[task](torch.zeros(5, data.n_outputs, device="meta"), truth, data, goals_)
    for base, metric in goals.OF_PART.items():
        if metric.task in (None, task):
            assert judge.metric(base).shape == ()


# Where there is nothing to say


def test_what_is_asked_of_no_example_is_0() -> None:
    truth, logits = torch.tensor([0, 0, 1]), torch.tensor([[1.0, 0.0]] * 3)
    for name in ("val_precision", "val_recall", "val_f1"):
        assert one(name, logits, truth) == 0
    for name in ("val_precision", "val_recall", "val_f1"):
        assert one(name, logits[:2], truth[:2]) == 0


def test_an_area_without_examples_of_both_kinds_is_nan() -> None:
    logits = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    for truth in (torch.tensor([0, 0]), torch.tensor([1, 1])):
        assert math.isnan(one("val_roc_auc", logits, truth))
    assert math.isnan(one("val_pr_auc", logits, torch.tensor([0, 0])))
    assert one("val_pr_auc", logits, torch.tensor([1, 1])) == 1


def test_equal_targets_are_explained_wholly_or_not_at_all() -> None:
    targets = torch.full((3,), 0.3)
    for shift, expected in ((0.0, 1), (0.1, 0)):
        found = evaluate(["val_r2"], targets[:, None] + shift, targets, numbers(), Goals())
        assert found["val_r2"] == expected


def test_a_certain_mistake_has_a_finite_log_loss() -> None:
    logits, truth = torch.tensor([[0.0, -torch.inf], [0.0, 0.0]]), torch.tensor([1, 0])
    expected = peer.log_loss(truth, probabilities(logits).numpy())
    assert one("val_log_loss", logits, truth) == pytest.approx(expected)
    assert one("val_loss", logits, truth) == math.inf


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_outputs_that_are_not_finite_raise_nothing_and_show_in_the_loss(value: float) -> None:
    goals_ = Goals(costs=((0, 1, 1),) * 3, required_accuracy=0.9)
    names = [name for name in goals.names("classification") if name.startswith("val_")]
    logits, truth = answered(3, 3, seed=0)
    logits[4, (truth[4] + 1) % 3] = value
    found = evaluate(names, logits, truth, classes(3), goals_)
    assert not math.isfinite(found["val_loss"])
    outputs = torch.tensor([[0.0], [value]])
    found = evaluate(["val_loss", "val_r2"], outputs, torch.tensor([0.0, 1.0]), numbers(), Goals())
    assert not math.isfinite(found["val_loss"])


def test_half_precision_outputs_are_judged_in_full() -> None:
    logits, truth = answered(3, 3, seed=0)  # multiples of a half, which bfloat16 has
    names = ["val_loss", "val_error", "val_roc_auc"]
    halved, full = (
        evaluate(names, outputs, truth, classes(3), Goals())
        for outputs in (logits.bfloat16(), logits)
    )
    assert halved == full


# What cannot be judged


def sentences(goals_: Goals, data: Data, *names: str) -> list[tuple[str, str]]:
    return [(str(p.path[0]), p.message) for p in problems(goals_, data, names)]


def test_goals_that_fit_have_no_problems() -> None:
    fitting = Goals(("val_cost",), costs=((0, 1), (5, 0)), positive="a")
    assert sentences(fitting, classes(2), "val_f1") == []
    assert sentences(Goals(), numbers(), "val_r2") == []


def test_problems_say_what_fits() -> None:
    two = classes(2)
    (found,) = sentences(Goals(positive="bb"), two)
    assert found == ("positive", "'letters' has no class 'bb'. Did you mean 'b'?")
    (found,) = sentences(Goals(positive="b"), classes(3))
    assert found[0] == "positive"
    assert "'letters' has 3 classes" in found[1]
    (found,) = sentences(Goals(positive="b"), numbers())
    assert "'numbers' has numbers to predict" in found[1]
    for costs in (((0, 1),), ((0, 1), (1, 0, 2)), ()):
        (found,) = sentences(Goals(costs=costs), two)
        assert found[0] == "costs"
        assert "must be 2 rows, for the truths, of 2, for the answers" in found[1]
        assert found[1].endswith("in the order a, b.")
    assert sentences(Goals(watched="val_cost"), two) == [("costs", "'val_cost' needs it.")]
    needed = sentences(Goals(), two, "val_coverage")
    assert needed == [("required_accuracy", "'val_coverage' needs it.")]
    ((path, message),) = sentences(Goals(), two, "val_eror")
    assert (path, message.partition(". ")[2]) == ("names", "Did you mean 'val_error'?")


def test_problems_are_raised_rather_than_judged_around() -> None:
    logits, truth = answered(2, 2, seed=0)
    for name, goals_ in (
        ("val_cost", Goals()),
        ("val_cost", Goals(costs=((0, 1, 1),) * 3)),
        ("val_f1", Goals(positive="c")),
        ("val_r2", Goals()),
    ):
        with pytest.raises(ConfigError):
            evaluate([name], logits, truth, classes(2), goals_)


# Outputs of a part


@pytest.mark.parametrize(("batch_size", "sizes"), [(4, [4, 4, 2]), (5, [5, 5]), (10, [10])])
def test_a_part_goes_through_in_batches(batch_size: int, sizes: list[int]) -> None:
    part = Tensors(torch.randn(10, 3, generator=torch.Generator().manual_seed(0)), torch.arange(10))
    seen = []

    def forward(x: Tensor) -> Tensor:
        seen.append(len(x))
        return 2 * x

    outputs, targets = predict(forward, part, batch_size)
    assert seen == sizes
    assert torch.equal(outputs, 2 * part.x)
    assert torch.equal(targets, part.y)


def test_a_module_predicts_without_dropout_and_without_gradient() -> None:
    model = nn.Sequential(nn.Linear(3, 2), nn.Dropout(0.5))
    part = Tensors(torch.ones(10, 3), torch.arange(10))
    outputs, _ = predict(model, part, 4)
    torch.testing.assert_close(outputs, model[0](part.x).detach())
    assert not outputs.requires_grad
    model(part.x).sum().backward()  # nothing of the model or the part is lost for training


# Of the model


def test_latency_is_that_of_one_example() -> None:
    shapes = set()

    def forward(x: Tensor) -> Tensor:
        shapes.add(tuple(x.shape))
        return x

    assert 0 < latency_ms(forward, torch.zeros(1, 3, 8, 8)) < math.inf
    assert shapes == {(1, 3, 8, 8)}


def test_parameters_are_the_numbers_that_training_can_change() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2))
    assert n_parameters(model) == (3 * 4 + 4) + (4 + 4) + (4 * 2 + 2)
    model[0].requires_grad_(requires_grad=False)
    assert n_parameters(model) == (4 + 4) + (4 * 2 + 2)


def test_a_models_bytes_are_those_on_disk(tmp_path: Path) -> None:
    layer = nn.Linear(3, 3)
    for model in (nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4)), nn.Sequential(layer, layer)):
        file = tmp_path / "weights"
        write(file, weights_of(model))
        assert model_bytes(model) == file.stat().st_size


# The curve of precision over recall


def by_definition(
    scores: NDArray[np.float64], wanted: NDArray[np.bool_], threshold: float
) -> tuple[float, float]:
    yes = scores >= threshold
    hits = float((yes & wanted).sum())
    return hits / float(yes.sum()), hits / float(wanted.sum())


@pytest.mark.parametrize(("n_classes", "positive"), [(2, None), (2, "a"), (3, None)])
def test_a_curve_is_precision_and_recall_at_each_threshold(
    n_classes: int, positive: str | None
) -> None:
    logits, truth = answered(n_classes, n_classes, seed=2)
    data, goals_ = classes(n_classes), Goals(positive=positive)
    precision, recall, thresholds = precision_recall(logits, truth, data, goals_)
    p, is_class = probabilities(logits).numpy(), nn.functional.one_hot(truth, n_classes).numpy() > 0
    if n_classes == 2:
        p, is_class = (each[:, 0 if positive else 1] for each in (p, is_class))
    points = [by_definition(p.ravel(), is_class.ravel(), t) for t in thresholds]
    assert np.stack([precision, recall], axis=1) == pytest.approx(np.array([*points, (1, 0)]))
    assert (recall[0], precision[0]) == (1, pytest.approx(is_class.mean()))
    assert (np.diff(recall) <= 0).all()
    assert (np.diff(thresholds) > 0).all()


def test_a_curve_with_nothing_to_find_warns_of_nothing() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        logits, truth = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([0, 0])
        precision, recall, _ = precision_recall(logits, truth, classes(2), Goals())
    assert (precision[0], recall[0]) == (0, 1)


def test_a_curve_is_drawn_from_no_recall_to_all(tmp_path: Path) -> None:
    logits, truth = answered(2, 2, seed=0)
    precision, recall, _ = precision_recall(logits, truth, classes(2), Goals())
    chart = precision_over_recall(precision, recall, note="of 'b'")
    (curve,) = chart.curves
    assert (curve.x[0], curve.x[-1]) == (0, 1)
    assert list(curve.x) == sorted(curve.x)
    assert (curve.y[0], curve.y[-1]) == (1, precision[0])
    text = as_text(chart)
    assert text.startswith("precision")
    assert text.endswith("of 'b'")
    write_image([chart], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").stat().st_size > 1000
