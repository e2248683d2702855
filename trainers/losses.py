"""What training minimises, but for penalties."""

from typing import Protocol

from torch import Tensor
from torch.nn.functional import cross_entropy, mse_loss, nll_loss

from trainers.goals import Task


class Loss(Protocol):
    """From outputs (n, n_outputs) and targets (n,) to their mean loss."""

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
        """As `Loss` says."""
        return cross_entropy(outputs, y, label_smoothing=self._s)

    def gradient(self, outputs: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """(softmax(outputs) - q) / n."""
        log_p = outputs.log_softmax(dim=1)
        loss = nll_loss(log_p, y, reduction="sum").div_(n)
        if self._s:
            loss = (1 - self._s) * loss - self._s / n * log_p.mean(dim=1).sum()
        p = log_p.exp_()
        p.scatter_add_(1, y.unsqueeze(1), p.new_full((len(y), 1), self._s - 1))
        if self._s:
            p.sub_(self._s / outputs.shape[1])
        return loss, p.div_(n)


class SquaredError:
    """The mean of the squared errors of one output."""

    def __call__(self, outputs: Tensor, y: Tensor) -> Tensor:
        """As `Loss` says."""
        return mse_loss(outputs.squeeze(1), y)

    def gradient(self, outputs: Tensor, y: Tensor, n: int) -> tuple[Tensor, Tensor]:
        """2 (outputs - y) / n."""
        errors = outputs - y.unsqueeze(1)
        return errors.square().sum() / n, errors.mul_(2 / n)


def loss_of(task: Task, label_smoothing: float) -> Loss:
    """The cross entropy with smoothed labels, or the squared error."""
    return CrossEntropy(label_smoothing) if task == "classification" else SquaredError()
