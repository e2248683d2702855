"""Training: the loop."""

import math
import time
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean

from hpo.trainers import metrics, models
from hpo.trainers.checkpoints import Checkpoints
from hpo.trainers.config import TrainerConfig, of_another_task
from hpo.trainers.data import Source, load
from hpo.trainers.data.parts import Data
from hpo.trainers.devices import choose
from hpo.trainers.errors import ConfigError, Diverged, Problem
from hpo.trainers.fields import is_code
from hpo.trainers.goals import Goals
from hpo.trainers.report import Report
from hpo.trainers.training import Training

Fit = Generator[Report, None, dict[str, float]]
"""Yields a report at the end of each epoch, and returns the metrics of the weights it ends with."""


def fit(
    config: Mapping[str, object] | TrainerConfig,
    data: str | Source | Data,
    *,
    seed: int,
    device: str = "auto",
    goals: Goals = Goals(),  # noqa: B008 - frozen
    checkpoints: Checkpoints | None = None,
    folder: Path = Path(),
    start: float | None = None,
) -> Fit:
    """Trains a network by gradient descent on the cross entropy or the squared error.

    Equal arguments give equal reports, bit for bit, on one device with as many threads, but for
    `wall_seconds` and `latency_ms` (and a cnn's last bits on a GPU, unless `deterministic`). Fits
    may take turns in one process. Nothing runs between two reports, so closing the generator stops
    it.

    A fit that finds a checkpoint of its own yields again the reports that it made before, at
    once, and goes on from there, as if it had never been stopped.

    Args:
        config: What to train; a mapping is checked first.
        data: A built-in name or a source, split by `seed`; or the data, split already.
        seed: Decides initial weights, the order of examples, and all else that is random; not
            negative.
        device: See `hpo.trainers.devices.choose`.
        goals: What to report besides what always is.
        checkpoints: Where to go on from, and where weights are left; None writes nothing.
        folder: Where a model of the user's own is looked for first.
        start: What `wall_seconds` count from, by `time.perf_counter`; None is now.

    Yields:
        One report per epoch. `train_loss` is the mean over the epoch's examples as they were
        trained on, without penalties; the `val_` ones are taken at its end.

    Returns:
        The metrics of the last epoch; with `patience`, of the best, whose weights are restored.

    Raises:
        ConfigError: the configuration cannot be used, or not on this data or device, before the
            first report.
        DataError: the data cannot be had.
        CodeError: the user's own model cannot be found.
        Diverged: a loss is no longer finite, after the report of the epoch before.
    """
    start = time.perf_counter() if start is None else start
    training = begin(config, data, seed=seed, device=device, goals=goals, folder=folder)
    if checkpoints is not None:
        training.go_on_from(checkpoints.load())
    yield from training.reports
    start -= training.wall_seconds
    for epoch in range(len(training.reports) + 1, training.epochs + 1):
        if training.out_of_patience:
            break
        with training.turn():
            train_loss = training.epoch(epoch)
            evaluated = training.evaluate()
            values = {"train_loss": float(train_loss), **evaluated}
        for name in ("train_loss", "val_loss"):
            if not math.isfinite(values[name]):
                raise Diverged(epoch, name, values[name])
        training.note(Report(epoch, values, time.perf_counter() - start))
        if checkpoints is not None and epoch < training.epochs and checkpoints.due(epoch):
            checkpoints.save(epoch, training.state())
        yield training.reports[-1]
    final = training.finish()
    if checkpoints is not None:
        checkpoints.finish(training.model, training.data_digest)
    return final


def begin(
    config: Mapping[str, object] | TrainerConfig,
    data: str | Source | Data,
    *,
    seed: int,
    device: str = "auto",
    goals: Goals = Goals(),  # noqa: B008 - frozen
    folder: Path = Path(),
) -> Training:
    """A fit before its first epoch; see `fit` for arguments and errors."""
    if not isinstance(config, TrainerConfig):
        config = TrainerConfig.from_mapping(config)
    where = choose(device)
    if not isinstance(data, Data):
        source = data if isinstance(data, Source) else Source(data)
        (data,) = load(replace(source, integers=is_code(config.model)), seed=seed)
    data = data.to(where)
    named = goals.reported(data.task)
    if problems := [*unfit(config, data), *metrics.problems(goals, data, named)]:
        raise ConfigError(problems)
    return Training(config, data, seed, where, goals, folder)


def fit_folds(
    config: Mapping[str, object] | TrainerConfig,
    folds: Sequence[Data],
    *,
    seed: int,
    device: str = "auto",
    goals: Goals = Goals(),  # noqa: B008 - frozen
    checkpoints: Checkpoints | None = None,
    folder: Path = Path(),
) -> Fit:
    """Trains a network on each fold, epoch by epoch in turns, and reports the folds' means.

    So a cross-validated trial can be stopped early as any other. A fold that has ended by
    `patience` stays at its last report. Arguments and errors are those of `fit`.

    Yields:
        One report per epoch, the mean of each metric over the folds, at the end of the last one's.

    Returns:
        The means of what the folds return.
    """
    start = time.perf_counter()
    fits = [
        fit(
            config,
            data,
            seed=seed,
            device=device,
            goals=goals,
            checkpoints=checkpoints.of_fold(i) if checkpoints else None,
            folder=folder,
            start=start,
        )
        for i, data in enumerate(folds, start=1)
    ]
    latest: dict[int, Mapping[str, float]] = {}
    running = dict(enumerate(fits))
    while running:
        reports: list[Report] = []
        for i, each in list(running.items()):
            try:
                reports.append(next(each))
                latest[i] = reports[-1].metrics
            except StopIteration as end:
                latest[i] = end.value
                del running[i]
        if reports:
            seconds = max(report.wall_seconds for report in reports)
            yield Report(reports[0].step, _means(latest), seconds)
    return _means(latest)


def unfit(config: TrainerConfig, data: Data) -> Iterator[Problem]:
    """Why a configuration, though valid, cannot be trained on this data."""
    n = len(data.train)
    yield from models.problems(config, data.shape, data.dtype)
    if config.batch_size > n and not config.full_batch:
        sentence = (
            f"{config.batch_size} is more than the {n} training examples of {data.name!r}. "
            f"It must be at most {n}."
        )
        yield Problem(("batch_size",), sentence)
    yield from of_another_task(config, data.task)


def _means(latest: Mapping[int, Mapping[str, float]]) -> dict[str, float]:
    """The mean of each metric over the folds.

    One that a fold lacks has none: it is told at the end alone, or this fold cannot judge by it.
    """
    folds = list(latest.values())
    names = [name for name in folds[0] if all(name in fold for fold in folds)]
    return {name: fmean(fold[name] for fold in folds) for name in names}
