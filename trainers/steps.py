"""One step of training: loss, gradient in micro-batches, precision, penalty, clipping."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial

import torch
from torch import nn
from torch.nn.functional import cross_entropy, mse_loss

from trainers import optimizers
from trainers.augment import augment, mixup
from trainers.config import TrainerConfig
from trainers.data.parts import Part
from trainers.devices import number_type
from trainers.goals import Task
from trainers.randomness import Randomness

Loss = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""From outputs (n, n_outputs) and targets (n,) to their mean loss."""

_FULL = "out of memory", "can't allocate memory"


class Stepper:
    """Takes the steps of one fit.

    Args:
        config: What to train.
        model: On its device.
        task: What for.
        randomness: Draws augmentation and mixup; dropout draws by itself.
        device: The model's.

    Attributes:
        optimizer: The one that the configuration names.
        scaler: Keeps fp16's small gradients from vanishing; does nothing otherwise.
        at_once: The most examples that pass through the network together; None is no limit.
    """

    def __init__(
        self,
        config: TrainerConfig,
        model: nn.Module,
        task: Task,
        randomness: Randomness,
        device: torch.device,
    ) -> None:
        self.config = config
        self._device = device
        self.randomness = randomness
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._dtype = number_type(config, device)
        self._loss = loss_of(task, config)
        self._channels_last = config.channels_last
        if self._channels_last is None:
            self._channels_last = device.type == "cpu" or self._dtype is not None
        if self._channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(model) if config.compile else model
        )
        self.optimizer = optimizers.build(config, self.parameters)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)
        self.at_once = config.micro_batch

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's outputs, float32, for examples (n, *shape)."""
        if self._channels_last and x.ndim == 4:
            x = x.contiguous(memory_format=torch.channels_last)
        if self._dtype is None:
            return self._network(x)
        with torch.autocast(self._device.type, self._dtype):
            outputs = self._network(x)
        return outputs.float()

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One step along the gradient of a minibatch.

        Returns:
            Its mean loss before the step, without penalty, on the device.
        """
        config = self.config
        loss = self.within_memory(lambda: self.gradient([(x, y)], len(y)), len(y))
        self.scaler.unscale_(self.optimizer)
        if config.l2:
            optimizers.add_penalty_gradient(self.parameters, config.l2)
        optimizers.clip(config, self.parameters)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def step_on_all(self, part: Part) -> torch.Tensor:
        """One step of an optimizer that looks at all examples.

        Returns:
            Their mean loss before the step, without penalty, on the device.
        """
        whole = _WholeLoss(self, part)
        self.optimizer.step(whole)  # type: ignore[arg-type]  # lbfgs takes it for a function
        return whole.first

    def gradient(
        self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]], n: int
    ) -> torch.Tensor:
        """Puts the gradient of the mean loss over n examples into `.grad`, batch by batch.

        The mean over n is the sum over micro-batches of m / n times their mean.
        """
        self.forget()
        parts = []
        for loss, m in self.losses(batches):
            part = loss if m == n else loss * (m / n)
            self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
            parts.append(part.detach())
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()

    def forget(self) -> None:
        """Forgets the gradient; PyTorch's own way takes as long as a small layer."""
        for parameter in self.parameters:
            parameter.grad = None

    def losses(
        self, batches: Iterable[tuple[torch.Tensor, torch.Tensor]]
    ) -> Iterator[tuple[torch.Tensor, int]]:
        """The mean loss of each micro-batch, and its size."""
        for whole_x, whole_y in batches:
            x = augment(self.config, whole_x, self.randomness.generator)
            x, y, partners, share = mixup(self.config, x, whole_y, self.randomness.generator)
            size = self.at_once or len(y)
            for i in range(0, len(y), size):
                rows = slice(i, i + size)
                outputs = self.forward(x[rows])
                loss = self._loss(outputs, y[rows])
                if self.config.mixup:
                    loss = share * loss + (1 - share) * self._loss(outputs, partners[rows])
                yield loss, len(outputs)

    def within_memory(self, gradient: Callable[[], torch.Tensor], n: int) -> torch.Tensor:
        """Tries again with half as many examples at once, while memory runs out.

        Raises:
            RuntimeError: torch's own, if memory does not suffice for one.
        """
        while True:
            try:
                return gradient()
            except RuntimeError as error:
                at_once = min(self.at_once or n, n)
                if at_once == 1 or not is_out_of_memory(error):
                    raise
            # Out here the error, and with it the tensors of the attempt, is gone.
            self.at_once = (at_once + 1) // 2
            self.forget()
            if self._device.type == "cuda":
                torch.cuda.empty_cache()


class _WholeLoss:
    """The penalised mean loss over all examples, as a function of the weights.

    It is the same function whenever it is asked in one step: what is random in it, such as
    dropout, is drawn again from where it was drawn first.
    """

    def __init__(self, stepper: Stepper, part: Part) -> None:
        self._stepper = stepper
        self._part = part
        self._mark = stepper.randomness.mark()
        self._first: torch.Tensor | None = None

    @property
    def first(self) -> torch.Tensor:
        """The loss when it was asked first, without penalty."""
        assert self._first is not None  # noqa: S101 - the optimizer has asked
        return self._first

    def __call__(self) -> torch.Tensor:
        """The loss; its gradient is put into `.grad`."""
        stepper, n = self._stepper, len(self._part)
        loss = stepper.within_memory(lambda: stepper.gradient(self._batches(), n), n)
        self._first = loss if self._first is None else self._first
        if not stepper.config.l2:
            return loss
        optimizers.add_penalty_gradient(stepper.parameters, stepper.config.l2)
        with torch.no_grad():
            return loss + optimizers.penalty(stepper.parameters, stepper.config.l2)

    def loss(self) -> torch.Tensor:
        """The loss, to be differentiated; all examples pass through the network."""
        stepper, n = self._stepper, len(self._part)
        losses = [loss * (m / n) for loss, m in stepper.losses(self._batches())]
        total = torch.stack(losses).sum()
        self._first = total.detach() if self._first is None else self._first
        if not stepper.config.l2:
            return total
        return total + optimizers.penalty(stepper.parameters, stepper.config.l2)

    def _batches(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        stepper, n = self._stepper, len(self._part)
        stepper.randomness.rewind(self._mark)
        size = stepper.at_once or n
        return self._part.batches([min(size, n - i) for i in range(0, n, size)])


def loss_of(task: Task, config: TrainerConfig) -> Loss:
    """What training minimises, but for penalties.

    The cross entropy with smoothed labels, Szegedy et al. (2016), Rethinking the Inception
    architecture, section 7; or the squared error.
    """
    if task == "classification":
        if not config.label_smoothing:
            return cross_entropy
        return partial(cross_entropy, label_smoothing=config.label_smoothing)
    return lambda outputs, y: mse_loss(outputs.squeeze(1), y)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of a device's memory, or the host's."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(sign in message for sign in _FULL)
