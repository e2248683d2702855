"""What metrics must obey, whatever the outputs."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import one_hot

from hpo.trainers import Goals
from hpo.trainers.data.parts import Data, Tensors
from hpo.trainers.metrics import evaluate, probabilities, threshold

NOTHING = Tensors(torch.zeros(0, 1), torch.zeros(0))


def classes(n: int) -> Data:
    return Data("abc", "classification", NOTHING, NOTHING, NOTHING, (1,), tuple("abcdefgh"[:n]))


def numbers(mean: float = 0.0, deviation: float = 1.0) -> Data:
    parts = (NOTHING,) * 3
    return Data("numbers", "regression", *parts, (1,), target_mean=mean, target_deviation=deviation)


@st.composite
def answers(draw: st.DrawFn) -> tuple[Tensor, Tensor]:
    """Logits (n, n_classes), small integers so that many are equal, and truths (n,)."""
    n, n_classes = draw(st.integers(1, 12)), draw(st.integers(2, 4))
    row = st.lists(st.integers(-2, 2), min_size=n_classes, max_size=n_classes)
    logits = draw(st.lists(row, min_size=n, max_size=n))
    truth = draw(st.lists(st.integers(0, n_classes - 1), min_size=n, max_size=n))
    return torch.tensor(logits, dtype=torch.float32), torch.tensor(truth)


def judged(
    outputs: Tensor,
    truth: Tensor,
    *names: str,
    costs: tuple[tuple[float, ...], ...] | None = None,
    required_accuracy: float | None = None,
    threshold: float | None = None,
) -> tuple[float, ...]:
    goals = Goals(costs=costs, required_accuracy=required_accuracy, threshold=threshold)
    return tuple(evaluate(names, outputs, truth, classes(outputs.shape[1]), goals).values())


# Accuracy and F


@given(answers())
def test_error_and_accuracy_are_1_together(drawn: tuple[Tensor, Tensor]) -> None:
    error, accuracy = judged(*drawn, "val_error", "val_accuracy")
    assert error + accuracy == pytest.approx(1)


@given(answers(), st.sampled_from(["f0.5", "f1", "f2"]))
def test_f_lies_between_precision_and_recall_of_two_classes(
    drawn: tuple[Tensor, Tensor], name: str
) -> None:
    logits, truth = drawn[0][:, :2], drawn[1].clamp(max=1)
    precision, recall, f = judged(logits, truth, "val_precision", "val_recall", f"val_{name}")
    beta = float(name[1:])
    below = beta**2 * precision + recall
    closed = (1 + beta**2) * precision * recall / below if below else 0
    assert f == pytest.approx(closed)
    assert min(precision, recall) <= f + 1e-12
    assert f <= max(precision, recall) + 1e-12


@given(answers())
def test_metrics_do_not_depend_on_the_order_of_examples(drawn: tuple[Tensor, Tensor]) -> None:
    logits, truth = drawn
    n = logits.shape[1]
    costs = tuple(tuple(float(abs(i - j)) for j in range(n)) for i in range(n))
    names = ("val_loss", "val_f1", "val_balanced_accuracy", "val_cost", "val_coverage")
    forth, back = (
        judged(logits[order], truth[order], *names, costs=costs, required_accuracy=0.7)
        for order in (torch.arange(len(truth)), torch.arange(len(truth)).flip(0))
    )
    assert forth == pytest.approx(back, rel=1e-6)


# Costs


@given(answers())
def test_if_every_mistake_costs_1_the_cost_is_the_error(drawn: tuple[Tensor, Tensor]) -> None:
    logits, truth = drawn
    n = logits.shape[1]
    logits = logits + torch.arange(n) / 10  # no two are equal, so that rounding decides nothing
    costs = tuple(tuple(float(i != j) for j in range(n)) for i in range(n))
    cost, error = judged(logits, truth, "val_cost", "val_error", costs=costs)
    assert cost == pytest.approx(error)


@given(st.floats(0.001, 0.999), st.sampled_from([1.0, 10.0, 0.1]))
def test_yes_is_answered_where_p_exceeds_the_share_of_a_false_yes_in_the_costs(
    p: float, missed: float
) -> None:
    # Elkan (2001), equation 2: p* = c10 / (c10 + c01) where right answers are free; so 1/11 where
    # missing one costs ten times as much as a false alarm.
    threshold = 1 / (1 + missed)
    logits = torch.tensor([[0.0, p / (1 - p)]], dtype=torch.float64)
    logits[0, 1].log_()
    costs = ((0.0, 1.0), (missed, 0.0))
    if abs(p - threshold) > 1e-9:
        (of_no,) = judged(logits, torch.tensor([0]), "val_cost", costs=costs)
        (of_yes,) = judged(logits, torch.tensor([1]), "val_cost", costs=costs)
        expected = (1.0, 0.0) if p > threshold else (0.0, missed)
        assert (of_no, of_yes) == expected


@given(answers())
def test_with_costs_answers_are_those_that_cost_least(drawn: tuple[Tensor, Tensor]) -> None:
    logits, truth = drawn[0][:, :2].double(), drawn[1].clamp(max=1)
    costs = ((0.0, 1.0), (10.0, 0.0))
    names = ("val_error", "val_recall", "val_precision", "val_f1", "val_balanced_accuracy")
    answers = (logits.softmax(dim=1)[:, 1] > 1 / 11).double()
    as_logits = torch.stack([1 - answers, answers], dim=1)

    assert judged(logits, truth, *names, costs=costs) == judged(as_logits, truth, *names)


@settings(max_examples=20)
@given(answers())
def test_no_constant_answer_is_expected_to_cost_less(drawn: tuple[Tensor, Tensor]) -> None:
    # The truths are as likely as the model believes: every example once with each truth, weighted.
    logits, _ = drawn
    n = logits.shape[1]
    costs = torch.arange(float(n * n), dtype=torch.float64).view(n, n).fmod(5).fill_diagonal_(0)
    rows = tuple(tuple(row) for row in costs.tolist())
    for row in logits:
        p = probabilities(row[None])[0]
        each = [judged(row[None], torch.tensor([i]), "val_cost", costs=rows)[0] for i in range(n)]
        assert sum(p[i].item() * each[i] for i in range(n)) <= (p @ costs).min().item() + 1e-9


# Coverage


@given(answers(), st.sampled_from([0.3, 0.5, 2 / 3, 0.75, 0.9, 1.0]))
def test_coverage_is_the_best_of_all_thresholds(
    drawn: tuple[Tensor, Tensor], required: float
) -> None:
    logits, truth = drawn
    confidence, right = probabilities(logits).amax(dim=1), logits.argmax(dim=1) == truth
    shares = [0.0]
    for least in confidence:
        answered = confidence >= least
        if right[answered].double().mean() >= required:
            shares.append(answered.double().mean().item())
    (coverage,) = judged(logits, truth, "val_coverage", required_accuracy=required)
    assert coverage == pytest.approx(max(shares))


@given(answers(), st.sampled_from([0.3, 0.5, 2 / 3, 0.75, 0.9, 1.0]))
def test_a_threshold_answers_the_examples_it_was_chosen_on_as_required(
    drawn: tuple[Tensor, Tensor], required: float
) -> None:
    logits, truth = drawn
    names = ("val_coverage", "val_accuracy_answered")
    chosen = threshold(logits, truth, classes(logits.shape[1]), Goals(required_accuracy=required))
    coverage, accuracy = judged(logits, truth, *names, required_accuracy=required)
    assert judged(logits, truth, *names, threshold=chosen, required_accuracy=1.0) == (
        coverage,
        accuracy,
    )
    assert accuracy >= required or (coverage, accuracy) == (0, 0)


def test_a_threshold_answers_others_whether_they_are_right_or_not() -> None:
    sure, unsure, right = [3.0, 0.0], [1.0, 0.0], torch.tensor([0, 0, 0, 1])
    logits = torch.tensor([sure, sure, unsure, unsure])
    chosen = threshold(logits, right, classes(2), Goals(required_accuracy=0.9))
    least, most = (probabilities(torch.tensor([row])).max().item() for row in (unsure, sure))
    assert chosen == pytest.approx((least + most) / 2)
    others = torch.tensor([sure, sure, sure, unsure])
    names = ("val_coverage", "val_accuracy_answered")
    found = judged(
        others, torch.tensor([0, 1, 1, 0]), *names, required_accuracy=0.9, threshold=chosen
    )
    assert found == pytest.approx((3 / 4, 1 / 3))


def test_a_classifier_that_is_accurate_enough_answers_all() -> None:
    truth = torch.arange(20) % 2
    logits = one_hot(truth).float() * torch.linspace(5, 1, 20)[:, None]
    logits[19] = logits[19].flip(0)  # one of 20 is wrong, the least confident
    assert judged(logits, truth, "val_coverage", required_accuracy=0.95) == (1.0,)
    assert judged(logits, truth, "val_coverage", required_accuracy=0.951) == (0.95,)


# Regression


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=12), st.floats(-5, 5))
def test_the_mean_explains_nothing_and_the_truth_all(y: list[int], shift: float) -> None:
    targets = torch.tensor(y, dtype=torch.float32) / 7
    if len(set(y)) == 1:
        return
    mean = targets.double().mean().expand(len(y), 1)
    of_mean, of_truth, of_shifted = (
        evaluate(["val_r2"], outputs, targets, numbers(), Goals())["val_r2"]
        for outputs in (mean, targets[:, None], mean + shift)
    )
    assert of_mean == pytest.approx(0, abs=1e-9)
    assert of_truth == 1
    assert of_shifted <= 1e-9


@given(
    st.lists(st.tuples(st.floats(-3, 3), st.floats(-3, 3)), min_size=2, max_size=12),
    st.floats(-1e3, 1e3),
    st.floats(1e-2, 1e3),
)
def test_a_unit_scales_errors_and_nothing_else(
    pairs: list[tuple[float, float]], mean: float, deviation: float
) -> None:
    outputs, targets = torch.tensor(pairs, dtype=torch.float64).T
    names = ["val_rmse", "val_mae", "val_loss", "val_r2"]
    plain, scaled = (
        list(evaluate(names, outputs[:, None], targets, data, Goals()).values())
        for data in (numbers(), numbers(mean, deviation))
    )
    rmse, mae, *others = plain
    assert scaled == pytest.approx([rmse * deviation, mae * deviation, *others])
    raw_outputs, raw_targets = (each * deviation + mean for each in (outputs, targets))
    raw = (raw_outputs - raw_targets).abs()
    expected = [raw.square().mean().sqrt().item(), raw.mean().item()]
    assert scaled[:2] == pytest.approx(expected, rel=1e-6, abs=1e-9)
