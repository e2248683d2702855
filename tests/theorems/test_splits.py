"""Splits: each class is in each part, in proportion as far as whole examples go."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from sklearn.model_selection import train_test_split

from hpo.trainers.data.splits import Rows, splits

SEEDS = st.integers(0, 2**63 - 1)
FOLDS = st.sampled_from([None, 2, 3, 5])
NAMES = "abcdef"


@st.composite
def labels(draw: st.DrawFn) -> NDArray[np.int64]:
    """One class of many examples and others of any few, in any order."""
    counts = draw(st.lists(st.integers(6, 30), min_size=1, max_size=4))
    rare = draw(st.integers(3, 6))
    y = np.repeat(range(len(counts) + 2), [draw(st.integers(80, 600)), *counts, rare])
    return np.random.default_rng(draw(st.integers(0, 9))).permutation(y)


def in_proportion(y: NDArray[np.int64], seed: int) -> tuple[Rows, Rows, Rows]:
    """The parts as scikit-learn alone makes them."""
    rng = np.random.RandomState(np.random.MT19937(seed))
    rows = np.arange(len(y))
    rest, test = train_test_split(rows, test_size=0.2, stratify=y, random_state=rng)
    train, val = train_test_split(rest, test_size=0.25, stratify=y[rest], random_state=rng)
    return train, val, test


@settings(deadline=None, max_examples=150)
@given(y=labels(), seed=SEEDS, folds=FOLDS)
def test_each_class_is_in_each_part(y: NDArray[np.int64], seed: int, folds: int | None) -> None:
    if np.bincount(y).min() < (3 if folds is None else folds + 1):
        return  # too few are told, not split
    found = list(splits(y, NAMES, seed=seed, folds=folds))
    for parts in found:
        assert np.array_equal(np.sort(np.concatenate(parts)), np.arange(len(y)))
        for part in parts:
            assert np.array_equal(np.unique(y[part]), np.unique(y))
    again = list(splits(y, NAMES, seed=seed, folds=folds))
    assert all(map(np.array_equal, sum(found, ()), sum(again, ())))


@settings(deadline=None, max_examples=100)
@given(y=labels(), seed=SEEDS)
def test_a_split_with_each_class_in_each_part_is_left_as_it_is(
    y: NDArray[np.int64], seed: int
) -> None:
    y[y == y.max()] = 1  # else the second cut may find too few, which scikit-learn refuses
    plain = in_proportion(y, seed)
    (found,) = splits(y, NAMES, seed=seed)
    assert [*map(len, found)] == [*map(len, plain)]
    if all(len(np.unique(y[part])) == len(np.unique(y)) for part in plain):
        assert all(map(np.array_equal, found, plain))


def test_three_examples_among_a_thousand_are_one_in_each_part() -> None:
    y = np.array([0] * 997 + [1] * 3)
    for seed in range(30):
        ((train, val, test),) = splits(y, "ab", seed=seed)
        assert [int(y[part].sum()) for part in (train, val, test)] == [1, 1, 1]
        assert [*map(len, (train, val, test))] == [600, 200, 200]
