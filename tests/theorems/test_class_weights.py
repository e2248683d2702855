"""Classes that count alike, however rare they are."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from hpo.trainers import ConfigError, Goals
from hpo.trainers.data.parts import Data, Tensors
from hpo.trainers.loop import fit
from hpo.trainers.losses import balanced, loss_of


@given(st.lists(st.integers(0, 3), min_size=1, max_size=50))
def test_balanced_weights_are_scikit_learns_and_1_in_the_mean_of_the_examples(
    classes: list[int],
) -> None:
    y = torch.tensor(classes)
    found = balanced(y, 4)

    occurring = sorted(set(classes))
    expected = compute_class_weight("balanced", classes=np.array(occurring), y=classes)
    assert found[occurring].tolist() == pytest.approx(expected.tolist(), rel=1e-6)
    assert found[y].mean().item() == pytest.approx(1, rel=1e-5)


def test_a_weighted_loss_is_pytorchs_but_for_what_it_is_divided_by() -> None:
    generator = torch.Generator().manual_seed(0)
    outputs = torch.randn(9, 3, generator=generator, dtype=torch.float64)
    y, w = torch.randint(3, (9,), generator=generator), torch.tensor([0.5, 3.0, 1.0]).double()
    for smoothing in (0.0, 0.2):
        ours = loss_of("classification", smoothing, w)(outputs, y)
        peer = torch.nn.CrossEntropyLoss(weight=w, label_smoothing=smoothing)(outputs, y)
        torch.testing.assert_close(ours, peer * w[y].sum() / 9)


def test_a_rare_class_is_found_where_classes_count_alike() -> None:
    """Three in a hundred, overlapping with the rest: without weights none of them is answered."""

    def part(seed: int, n: int = 1500) -> Tensors:
        generator = torch.Generator().manual_seed(seed)
        y = (torch.rand(n, generator=generator) < 0.03).long()
        return Tensors(torch.randn(n, 2, generator=generator) + 1.2 * y[:, None], y)

    classes = ("no", "yes")
    data = Data("rare", "classification", part(1), part(2), part(3), (2,), classes)
    recall = {}
    for weight in ("none", "balanced"):
        config = {"model": "linear", "class_weight": weight, "epochs": 5, "learning_rate": 0.1}
        *_, last = fit(config, data, seed=0, device="cpu", goals=Goals(("val_recall",)))
        recall[weight] = last.metrics["val_recall"]

    assert recall["none"] < 0.2
    assert recall["balanced"] > 0.6


@pytest.mark.parametrize(
    ("field", "value"), [("class_weight", "balanced"), ("label_smoothing", 0.1)]
)
def test_what_is_of_classes_is_refused_in_regression(field: str, value: object) -> None:
    part = Tensors(torch.randn(20, 2), torch.randn(20))
    data = Data("numbers", "regression", part, part, part, (2,))

    with pytest.raises(ConfigError, match=f"{field}: there are no .* in regression"):
        next(fit({field: value, "batch_size": 4}, data, seed=0, device="cpu"))
