"""What training minimises, but for penalties."""

from typing import Protocol

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

    Args:
        smoothing: s.
    """

    def __init__(self, smoothing: float = 0.0) -> None:
        self._s = smoothing

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """See `Loss.__call__`."""
        return cross_entropy(outputs, y, label_smoothing=self._s)

    def gradient(self, outputs: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """(softmax(outputs) - q) / n."""
        log_p = outputs.log_softmax(dim=1)
        share = log_p.new_full((), 1 / n)
        of = y, None, _SUM, _NO_CLASS
        loss, weight = _aten.nll_loss_forward(log_p, *of)
        d_log_p = _aten.nll_loss_backward(share, log_p, *of, weight)
        loss *= share
        if self._s:
            k = outputs.shape[1]
            loss = (1 - self._s) * loss - self._s / (k * n) * log_p.sum()
            d_log_p.mul_(1 - self._s).sub_(self._s / (k * n))
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


def loss_of(task: Task, label_smoothing: float) -> Loss:
    """The cross entropy with smoothed labels, or the squared error."""
    return CrossEntropy(label_smoothing) if task == "classification" else SquaredError()
