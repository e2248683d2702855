"""Training a classifier: the loop."""

import math
import time
from collections.abc import Generator, Iterator, Mapping

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from trainers.config import ClassifierConfig
from trainers.data import Classification, describe, load_data, names
from trainers.devices import choose
from trainers.errors import ConfigError, Diverged, Problem
from trainers.models import MODELS
from trainers.optimizers import build, set_learning_rate, set_momentum
from trainers.report import Report
from trainers.schedules import Schedule


def fit(
    config: Mapping[str, object] | ClassifierConfig,
    data: str | Classification,
    *,
    seed: int,
    device: str = "auto",
) -> Generator[Report, None, None]:
    """Trains a classifier by minibatch gradient descent on the cross entropy.

    Equal arguments give equal reports, bit for bit, on one device with as many threads, but for
    `wall_seconds` (and a cnn's last bits on a GPU, where PyTorch promises none). Fits may take
    turns in one process. Nothing runs between two reports, so closing the generator stops it.

    Args:
        config: What to train; a mapping is checked first.
        data: One of `trainers.data.names()`, split by `seed`; or the data, split already.
        seed: Decides initial weights, the order of examples, and dropout; not negative.
        device: See `trainers.devices.choose`.

    Yields:
        One report per epoch with the metrics named in `trainers.METRICS`. `train_loss` is the mean
        over the epoch's examples as they were trained on; the `val_` ones are taken at its end.

    Raises:
        ConfigError: If the configuration cannot be used, or not on this data or device, before the
            first report.
        DataError: If there is no such data set.
        Diverged: If a loss is no longer finite, after the report of the epoch before.
    """
    start = time.perf_counter()
    if not isinstance(config, ClassifierConfig):
        config = ClassifierConfig.from_mapping(config)
    where = choose(device)
    data = load_data(data, seed, str(where)) if isinstance(data, str) else data.to(where)
    if problems := list(unfit(config, data)):
        raise ConfigError(problems)
    n, sizes = len(data.train_y), batch_sizes(config, len(data.train_y))
    schedule = Schedule.of(vars(config), steps_per_epoch=len(sizes))

    generator = torch.Generator(where).manual_seed(seed)
    model = MODELS[config.model](config, data.shape, data.n_classes, generator)
    optimizer = build(config, model.parameters())

    for epoch in range(1, config.epochs + 1):
        # Shuffled once, then sliced: two large gathers instead of two small ones per step.
        order = torch.randperm(n, generator=generator, device=where)
        x, y = data.train_x[order], data.train_y[order]
        batches = zip(torch.split(x, sizes), torch.split(y, sizes), strict=True)
        total = torch.zeros((), device=where)  # stays on the device: no waiting within the epoch
        model.train()
        for k, (batch_x, batch_y) in enumerate(batches, start=(epoch - 1) * len(sizes)):
            set_learning_rate(optimizer, schedule.learning_rate(k))
            set_momentum(optimizer, schedule.momentum(k))
            loss = cross_entropy(model(batch_x), batch_y)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total.add_(loss.detach(), alpha=len(batch_y))
        yield Report(epoch, measure(epoch, total / n, model, data), time.perf_counter() - start)


def unfit(config: ClassifierConfig, data: Classification) -> Iterator[Problem]:
    """Why a configuration, though valid, cannot be trained on this data."""
    n = len(data.train_y)
    if config.model == "cnn" and data.image_shape is None:
        images = ", ".join(name for name in names() if describe(name).image_shape)
        sentence = f"cnn needs images, and {data.name!r} is a table. Data sets of images: {images}."
        yield Problem(("model",), sentence)
    if config.batch_size > n:
        sentence = (
            f"{config.batch_size} is more than the {n} training examples of {data.name!r}. "
            f"It must be at most {n}."
        )
        yield Problem(("batch_size",), sentence)


def batch_sizes(config: ClassifierConfig, n: int) -> list[int]:
    """The sizes of an epoch's minibatches, which together are n examples.

    The last may be smaller. Only batch norm cannot train on a last one of 1, which has no
    deviation: there it joins the one before.
    """
    whole, rest = divmod(n, config.batch_size)
    sizes = [config.batch_size] * whole + [rest] * (rest > 0)
    if config.norm == "batch" and config.depth and sizes[-1] == 1:
        sizes[-2:] = [config.batch_size + 1]
    return sizes


@torch.no_grad()
def measure(
    epoch: int, train_loss: torch.Tensor, model: nn.Module, data: Classification
) -> dict[str, float]:
    """The metrics at the end of an epoch.

    Raises:
        Diverged: If a loss is not finite.
    """
    model.eval()
    logits = model(data.val_x)
    val_loss = cross_entropy(logits, data.val_y)
    wrong = (logits.argmax(dim=1) != data.val_y).sum()
    # The one wait for the device in an epoch.
    *losses, n_wrong = torch.stack([train_loss, val_loss, wrong]).tolist()
    metrics = dict(zip(("train_loss", "val_loss"), losses, strict=True))
    for name, value in metrics.items():
        if not math.isfinite(value):
            raise Diverged(epoch, name, value)
    val_error = n_wrong / len(data.val_y)
    return {**metrics, "val_error": val_error, "val_accuracy": 1 - val_error}
