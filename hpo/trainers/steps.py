"""One step of training: loss, gradient in micro-batches, precision, penalty, clipping."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import nullcontext
from functools import partial

import torch
from torch import nn

from hpo.trainers import optimizers
from hpo.trainers.augment import Mixed, augment, mixup
from hpo.trainers.chain import Chain
from hpo.trainers.config import TrainerConfig
from hpo.trainers.data.parts import Batch, Part
from hpo.trainers.fields import is_code
from hpo.trainers.goals import Task
from hpo.trainers.losses import loss_of
from hpo.trainers.randomness import Randomness

_FULL = "out of memory", "can't allocate memory"

_HALVES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Stepper:
    """Takes the steps of one fit.

    Args:
        config: What to train; of its precision, see `devices.settled`.
        model: On its device.
        task: What for.
        randomness: Draws augmentation and mixup; dropout draws by itself.
        device: The model's.
        class_weights: What classes count in the loss, (n_classes,); None is alike.

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
        class_weights: torch.Tensor | None = None,
    ) -> None:
        self.config = config
        self._device = device
        self.randomness = randomness
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self._dtype = _HALVES.get(config.precision)
        self._loss = loss_of(task, config.label_smoothing, class_weights)
        self._channels_last = config.channels_last
        if self._channels_last is None:
            self._channels_last = device.type == "cpu" or self._dtype is not None
        if self._channels_last:
            model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self._network: Callable[[torch.Tensor], torch.Tensor] = (
            torch.compile(model) if config.compile else model
        )
        by_autograd = self._dtype or config.compile or config.full_batch or config.mixup
        self._own = is_code(config.model)
        self._chain = None if by_autograd or self._own else Chain.of(model)
        self.optimizer = optimizers.build(config, self.parameters)
        self.scaler = torch.amp.GradScaler(device.type, enabled=self._dtype is torch.float16)
        self._changes = tuple(self._changes_of_gradient())
        plain = optimizers.plain_step(self.optimizer)
        self._update = self._scaled_update if self.scaler.is_enabled() else plain
        self._least = 2 if config.has_batch_norm else 1  # examples: one has no deviation
        self.at_once = config.micro_batch and max(config.micro_batch, self._least)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The network's outputs, float32, for examples (n, *shape)."""
        # The user's own may change its input in place, and where nothing is shuffled that is the
        # data itself.
        x = self._laid_out(x.clone() if self._own else x)
        if self._dtype is None:
            return self._network(x)
        with torch.autocast(self._device.type, self._dtype):
            outputs = self._network(x)
        return outputs.float()

    def _laid_out(self, x: torch.Tensor) -> torch.Tensor:
        images = self._channels_last and x.ndim == 4
        return x.contiguous(memory_format=torch.channels_last) if images else x

    def step(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        """One step along the gradient of a minibatch.

        Returns:
            Its mean loss before the step, without penalty, on the device.
        """
        # Where the gradient is written out, what autograd would note is but a cost.
        with nullcontext() if self._chain is None else torch.inference_mode():
            n = y.shape[0]
            loss = self.within_memory(lambda: self.gradient([(x, y)], n), n)
            for change in self._changes:
                change()
            self._update()
        return loss

    def _changes_of_gradient(self) -> Iterator[Callable[[], object]]:
        """What is done to the gradient before it is followed."""
        config, parameters = self.config, self.parameters
        if self.scaler.is_enabled():
            yield partial(self.scaler.unscale_, self.optimizer)
        if config.l2:
            yield partial(optimizers.add_penalty_gradient, parameters, config.l2)
        if config.clip_value is not None or config.clip_norm is not None:
            yield partial(optimizers.clip, config, parameters)

    def _scaled_update(self) -> None:
        self.scaler.step(self.optimizer)
        self.scaler.update()

    def step_on_all(self, part: Part) -> torch.Tensor:
        """One step of an optimizer that looks at all examples.

        Returns:
            Their mean loss before the step, without penalty, on the device.
        """
        whole = _WholeLoss(self, part)
        self.optimizer.step(whole)  # type: ignore[arg-type]  # lbfgs takes it for a function
        return whole.first

    def gradient(self, batches: Iterable[Batch], n: int) -> torch.Tensor:
        """Puts the gradient of the mean loss over n examples into `.grad`, batch by batch.

        The mean over n is the sum over micro-batches of m / n times their mean.
        """
        self.forget()
        of_one = self._by_autograd if self._chain is None else self._by_chain
        parts = [of_one(batch, n) for batch in self._micro_batches(batches)]
        return parts[0] if len(parts) == 1 else torch.stack(parts).sum()

    def _by_autograd(self, batch: Mixed, n: int) -> torch.Tensor:
        loss = self._loss_of(batch)
        m = batch[1].shape[0]
        part = loss if m == n else loss * (m / n)
        self.scaler.scale(part).backward()  # type: ignore[no-untyped-call]
        return part.detach()

    def _by_chain(self, batch: Mixed, n: int) -> torch.Tensor:
        assert self._chain is not None  # noqa: S101 - else this is not asked
        x, y, *_ = batch
        return self._chain.gradient(self._laid_out(x), y, self._loss, n)

    def forget(self) -> None:
        """Forgets the gradient; PyTorch's own way takes as long as a small layer."""
        for parameter in self.parameters:
            parameter.grad = None

    def losses(self, batches: Iterable[Batch]) -> Iterator[tuple[torch.Tensor, int]]:
        """The mean loss of each micro-batch, to be differentiated, and its size."""
        for batch in self._micro_batches(batches):
            yield self._loss_of(batch), len(batch[1])

    def _loss_of(self, batch: Mixed) -> torch.Tensor:
        x, y, partners, share = batch
        outputs = self.forward(x)
        loss = self._loss(outputs, y)
        if self.config.mixup:
            loss = share * loss + (1 - share) * self._loss(outputs, partners)
        return loss

    def _micro_batches(self, batches: Iterable[Batch]) -> Iterator[Mixed]:
        for whole_x, whole_y in batches:
            x = augment(self.config, whole_x, self.randomness.generator)
            mixed = mixup(self.config, x, whole_y, self.randomness.generator)
            if self.at_once is None:
                yield mixed
                continue
            x, y, partners, share = mixed
            first = 0
            for m in self.sizes(len(y)):
                rows = slice(first, first + m)
                yield x[rows], y[rows], partners[rows], share
                first += m

    def sizes(self, n: int) -> list[int]:
        """The sizes of the micro-batches of n examples, as equal as they can be."""
        k = min(-(-n // (self.at_once or n)), max(n // self._least, 1))
        return [n // k + (i < n % k) for i in range(k)]

    def within_memory(self, gradient: Callable[[], torch.Tensor], n: int) -> torch.Tensor:
        """Tries again with half as many examples at once, while memory runs out.

        Raises:
            RuntimeError: torch's own, if memory does not suffice for one, or two with batch norm.
        """
        while True:
            try:
                return gradient()
            except RuntimeError as error:
                at_once = min(self.at_once or n, n)
                if at_once <= self._least or not is_out_of_memory(error):
                    raise
            # Out here the error, and with it the tensors of the attempt, is gone.
            self.at_once = max((at_once + 1) // 2, self._least)
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

    def _batches(self) -> Iterator[Batch]:
        self._stepper.randomness.rewind(self._mark)
        return self._part.batches(self._stepper.sizes(len(self._part)))


def is_out_of_memory(error: BaseException) -> bool:
    """Whether torch ran out of a device's memory, or the host's."""
    message = str(error).lower()
    return isinstance(error, torch.OutOfMemoryError) or any(sign in message for sign in _FULL)
