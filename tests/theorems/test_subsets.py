"""Nested subsets: a smaller one is a part of a larger one, and each has the classes' shares."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from hpo.trainers.data import Source, load
from hpo.trainers.data.parts import Data, HostTensors, Tensors
from hpo.trainers.data.stream import Stream
from hpo.trainers.data.subsets import cut, nested_rows, size_of
from hpo.trainers.loop import fit

SEEDS = st.integers(0, 2**63 - 1)
LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=80).map(np.array)


@given(labels=LABELS, seed=SEEDS)
def test_every_beginning_has_each_class_in_proportion(
    labels: np.typing.NDArray[np.int64], seed: int
) -> None:
    order = nested_rows(labels, n_classes=5, seed=seed)
    assert sorted(order) == [*range(len(labels))]
    n, counts = len(labels), np.bincount(labels, minlength=5)
    for k in range(1, n + 1):
        found = np.bincount(labels[order[:k]], minlength=5)
        assert np.all(np.abs(found - k * counts / n) < 1 + 5 / 2)


@given(labels=LABELS, seed=SEEDS, classes=st.sampled_from([0, 5]))
def test_the_order_follows_from_the_seed(
    labels: np.typing.NDArray[np.int64], seed: int, classes: int
) -> None:
    first, again = (nested_rows(labels, n_classes=classes, seed=seed) for _ in range(2))
    assert np.array_equal(first, again)


def test_seeds_differ_in_their_subsets() -> None:
    # Two of 2^64 orders of 100 rows of two classes are equal with odds far below one in a billion.
    labels = np.arange(100) % 2
    first, second = (nested_rows(labels, n_classes=2, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first, second)


@given(a=st.floats(0.001, 1), b=st.floats(0.001, 1), n=st.integers(1, 10_000))
def test_a_larger_share_is_no_smaller_subset(a: float, b: float, n: int) -> None:
    small, large = sorted((a, b))
    assert min(n, 2) <= size_of(small, n) <= size_of(large, n) <= n


@given(size=st.integers(2, 10_000), n=st.integers(2, 10_000))
def test_a_size_as_a_share_is_that_size(size: int, n: int) -> None:
    size = min(size, n)
    assert size_of(size / n, n) == size


def _rows_of(part: Tensors | HostTensors | Stream) -> set[tuple[float, ...]]:
    ((x, y),) = part.batches([len(part)])
    return {(*map(float, row), float(label)) for row, label in zip(x, y, strict=True)}


def _as_host(data: Data) -> HostTensors:
    assert isinstance(data.train, Tensors)
    return HostTensors(data.train.x, data.train.y, torch.device("cpu"))


class _Pairs(torch.utils.data.Dataset[tuple[torch.Tensor, int]]):
    def __init__(self, x: torch.Tensor) -> None:
        self._x = x

    def __len__(self) -> int:
        return len(self._x)

    def __getitem__(self, row: int) -> tuple[torch.Tensor, int]:
        return self._x[row], 0


@pytest.mark.parametrize("kind", ["tensors", "host", "stream"])
@pytest.mark.parametrize("name", ["iris", "diabetes"])
def test_what_is_cut_is_nested_and_the_rest_stays(name: str, kind: str) -> None:
    task = "regression" if name == "diabetes" else "classification"
    (data,) = load(Source(name, task), seed=0)  # type: ignore[arg-type]
    assert isinstance(data.train, Tensors)
    train: Tensors | HostTensors | Stream = data.train
    if kind == "host":
        train = _as_host(data)
    elif kind == "stream":
        train = Stream(_Pairs(data.train.x), data.train.y, torch.arange(len(data.train)))
    data = Data(**{**vars(data), "train": train})
    parts = [cut(data, fraction, seed=3) for fraction in (0.1, 0.35, 0.7, 1.0)]
    small, medium, large, whole = (_rows_of(part.train) for part in parts)  # type: ignore[arg-type]
    assert small < medium < large < whole
    assert parts[3] is data
    for part in parts:
        assert part.val is data.val
        assert part.test is data.test


@given(labels=LABELS, seed=SEEDS, a=st.floats(0.001, 1), b=st.floats(0.001, 1))
def test_a_smaller_share_is_a_part_of_a_larger_one(
    labels: np.typing.NDArray[np.int64], seed: int, a: float, b: float
) -> None:
    numbers = torch.arange(len(labels), dtype=torch.float32)
    train = Tensors(numbers[:, None], torch.from_numpy(labels))
    data = Data("random", "classification", train, train, train, (1,), tuple("abcde"))
    small, large = ({*cut(data, f, seed).train.x.flatten().tolist()} for f in sorted((a, b)))  # type: ignore[attr-defined]
    assert small <= large
    assert len(small) == size_of(min(a, b), len(labels))


def test_a_fit_on_a_share_is_the_fit_on_that_share_alone() -> None:
    (data,) = load(Source("iris"), seed=0)
    config = {"epochs": 3, "batch_size": 16, "depth": 1, "width": 8, "dropout": 0.2}
    shared = [r.metrics for r in fit({**config, "train_fraction": 0.3}, data, seed=5)]
    alone = [r.metrics for r in fit(config, cut(data, 0.3, seed=5), seed=5)]
    assert shared == alone
    whole = [r.metrics for r in fit(config, data, seed=5)]
    assert shared != whole


def test_a_minibatch_larger_than_the_share_is_all_of_it() -> None:
    config = {"epochs": 2, "batch_size": 64, "train_fraction": 0.1}
    large, exact = (
        [r.metrics for r in fit({**config, "batch_size": size}, "iris", seed=0)] for size in (64, 9)
    )
    assert large == exact


def test_metrics_of_the_training_part_are_those_of_the_share_and_told_at_the_end() -> None:
    from hpo.trainers.goals import Goals

    goals = Goals(names=("train_error", "train_loss"))
    steps = fit({"epochs": 40, "train_fraction": 0.2}, "iris", seed=0, goals=goals)
    reports = []
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as end:
            final = end.value
            break
    assert all("train_error" not in report.metrics for report in reports)
    n = size_of(0.2, 90)
    assert final["train_error"] * n == pytest.approx(round(final["train_error"] * n))
    assert {**final, "train_error": 0} == {**reports[-1].metrics, "train_error": 0}
