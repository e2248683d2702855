"""What training minimises, but for penalties."""

from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss

from hpo.trainers.goals import Task

_aten = torch.ops.aten
_SUM, _NO_CLASS = 2, -100  # PyTorch's numbers for reduction="sum" and for examples to be ignored


class Loss(Protocol):
    """Maps outputs (n, n_outputs) and targets (n,) to their mean loss."""

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """The loss, ()."""
        ...

    def gradient(self, outputs: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """The sum of the losses over n, and its gradient by the outputs, without autograd."""
        ...


class CrossEntropy:
    """The cross entropy of softmax(outputs) and q = (1 - s) of the right class + s of all equally.

    Source: Szegedy et al. (2016), Rethinking the Inception architecture, section 7.

    With weights, each class's share of q counts by the class's weight. The sum is divided by the
    number of examples and not, as PyTorch does, by the sum of their weights: so the loss of a
    minibatch is the mean of its micro-batches' losses.

    Args:
        smoothing: s.
        weights: Of the classes, (n_classes,); None is 1 for each.
    """

    def __init__(self, smoothing: float = 0.0, weights: Tensor | None = None) -> None:
        self._s, self._weights = smoothing, weights

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See `Loss.__call__`."""
        if self._weights is None:
            return cross_entropy(outputs, y, label_smoothing=self._s)
        how: dict[str, Any] = {"label_smoothing": self._s, "reduction": "sum"}
        return cross_entropy(outputs, y, self._weights, **how) / len(y)

    def gradient(self, outputs: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """(softmax(outputs) - q) / n, without weights."""
        log_p = outputs.log_softmax(dim=1)
        share = log_p.new_full((), 1 / n)
        of = y, self._weights, _SUM, _NO_CLASS
        loss, weight = _aten.nll_loss_forward(log_p, *of)
        d_log_p = _aten.nll_loss_backward(share, log_p, *of, weight)
        loss *= share
        if self._s:
            each = self._s / (outputs.shape[1] * n)
            to_each = each if self._weights is None else each * self._weights
            loss = (1 - self._s) * loss - (to_each * log_p).sum()
            d_log_p.mul_(1 - self._s).sub_(to_each)
        # Half as long on its way to the kernel as by `aten`.
        return loss, torch._log_softmax_backward_data(d_log_p, log_p, 1, log_p.dtype)  # noqa: SLF001


class SquaredError:
    """The mean of the squared errors of one output."""

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See `Loss.__call__`."""
        return mse_loss(outputs.squeeze(1), y)

    def gradient(self, outputs: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """2 (outputs - y) / n."""
        errors = outputs - y.unsqueeze(1)
        return errors.square().sum() / n, errors.mul_(2 / n)


def loss_of(task: Task, label_smoothing: float, weights: Tensor | None = None) -> Loss:
    """The cross entropy with smoothed labels and weighted classes, or the squared error."""
    if task == "classification":
        return CrossEntropy(label_smoothing, weights)
    return SquaredError()


def balanced(y: Tensor, n_classes: int) -> Tensor:
    """Weights by which each class that occurs counts alike: n / (k n_c), in the mean 1 an example.

    Source: G. King, L. Zeng (2001), Logistic regression in rare events data; scikit-learn's
    `class_weight="balanced"`.

    Args:
        y: Classes, (n,).
        n_classes: How many there are; k of them occur.
    """
    counts = torch.bincount(y, minlength=n_classes)
    return len(y) / (counts.count_nonzero() * counts.clamp(min=1)).float()
