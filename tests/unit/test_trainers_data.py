import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from trainers.data import Classification, describe, load, load_data, names, split
from trainers.devices import choose
from trainers.errors import ConfigError, DataError


def same(a: Classification, b: Classification) -> bool:
    return torch.equal(a.train_x, b.train_x) and torch.equal(a.test_y, b.test_y)


@pytest.mark.parametrize("name", names())
def test_a_data_set_is_what_it_says(name: str) -> None:
    data = load(name, seed=0)
    assert data.name == name
    for x, y in [
        (data.train_x, data.train_y),
        (data.val_x, data.val_y),
        (data.test_x, data.test_y),
    ]:
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.shape == (len(y), data.n_features)
        assert set(y.tolist()) == set(range(data.n_classes))
        assert x.isfinite().all()


@pytest.mark.parametrize("name", names())
def test_only_the_training_part_sets_mean_and_deviation(name: str) -> None:
    data = load(name, seed=0)
    mean, deviation = data.train_x.mean(dim=0), data.train_x.std(dim=0, correction=0)
    constant = deviation == 0
    assert mean.abs().max() < 1e-5
    assert (deviation[~constant] - 1).abs().max() < 1e-4
    assert data.val_x.mean(dim=0).abs().max() > 1e-3
    assert constant.any() == (name == "digits")  # the corner pixels of digits are never inked


def test_the_parts_are_disjoint_complete_and_stratified() -> None:
    y = np.random.default_rng(0).choice(4, size=1003, p=[0.6, 0.3, 0.08, 0.02])
    parts = split(y, seed=5)
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    for part, share in zip(parts, (0.6, 0.2, 0.2), strict=True):
        expected = np.bincount(y) * share
        assert np.abs(np.bincount(y[part]) - expected).max() < 2


def test_seeds_decide_the_split() -> None:
    assert same(load("iris", seed=3), load("iris", seed=3))
    assert not same(load("iris", seed=3), load("iris", seed=4))
    assert same(load("iris", seed=2**63), load("iris", seed=2**63))


def test_a_data_set_is_loaded_once() -> None:
    assert load_data("iris", 0, "cpu") is load_data("iris", 0, "cpu")
    assert load_data("iris", 0, "cpu") is not load_data("iris", 1, "cpu")


def test_moving_to_where_it_is_copies_nothing() -> None:
    data = load("iris", seed=0)
    assert data.to("cpu").train_x.data_ptr() == data.train_x.data_ptr()


def test_an_unknown_data_set_names_the_nearest() -> None:
    with pytest.raises(DataError, match=r"There is no data set 'digit'\. Did you mean 'digits'\?"):
        load("digit", seed=0)
    with pytest.raises(DataError, match=r"Known: breast_cancer, digits, iris, wine\."):
        load("imagenet", seed=0)
    with pytest.raises(DataError, match=r"There is no data set 'digit'\. Did you mean 'digits'\?"):
        describe("digit")


@pytest.mark.parametrize("name", names())
@pytest.mark.parametrize("seed", [0, 5])
def test_what_is_described_is_what_is_loaded(name: str, seed: int) -> None:
    described, data = describe(name), load(name, seed=seed)
    assert described.n_train == len(data.train_y)
    assert described.image_shape == data.image_shape
    assert data.shape == (data.image_shape or (data.n_features,))
    assert math.prod(data.shape) == data.n_features


def test_the_rows_of_an_image_are_in_order() -> None:
    bunch = load_digits()
    image = bunch.data[7].reshape(describe("digits").image_shape)[0]
    assert (image == bunch.images[7]).all()


def test_devices_are_chosen_by_name() -> None:
    assert choose("cpu") == torch.device("cpu")
    assert choose("auto").type in {"cuda", "mps", "cpu"}


@pytest.mark.parametrize("name", ["tpu", "cuda:99", "cpu:1", "cuda:", "cuda:x", ""])
def test_a_device_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match=r"device: there is no device .* It has: .*cpu\."):
        choose(name)
