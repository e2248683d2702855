"""Three ways to train one network: hpo's, and two loops as people write them."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from types import MappingProxyType

import torch
from torch import nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader, TensorDataset

from benchmarks.training.tasks import BATCH, Task
from hpo.trainers.data.parts import Data
from hpo.trainers.loop import fit

Epoch = tuple[float, float]
"""The seconds of an epoch, and the training loss in it."""


def hpo(task: Task, data: Data, device: str) -> Iterator[Epoch]:
    """`hpo.trainers.loop.fit`."""
    before = time.perf_counter()
    for report in fit(task.config, data, seed=0, device=device):
        yield time.perf_counter() - before, report.metrics["train_loss"]
        before = time.perf_counter()


def network(task: Task, data: Data) -> nn.Module:
    """The network of `task.config` as people write it."""
    if task.model == "mlp":
        n = math.prod(data.shape)
        hidden = (nn.Linear(n, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU())
        return nn.Sequential(nn.Flatten(), *hidden, nn.Linear(128, data.n_outputs))
    side = data.shape[-1] // 4
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * side * side, data.n_outputs),
    )


def plain(task: Task, data: Data, device: str, workers: int = 0) -> Iterator[Epoch]:
    """A hand-written loop: DataLoaders, torch.optim's defaults, the loss summed by `item`."""
    torch.manual_seed(0)
    model = network(task, data).to(device)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    pin = device != "cpu"
    loaders = [
        DataLoader(
            TensorDataset(part.x, part.y),  # type: ignore[attr-defined]
            batch_size=BATCH,
            shuffle=shuffle,
            num_workers=workers,
            pin_memory=pin,
            persistent_workers=workers > 0,
        )
        for part, shuffle in ((data.train, True), (data.val, False))
    ]
    for _ in range(task.epochs):
        start = time.perf_counter()
        model.train()
        total = 0.0
        for x, y in loaders[0]:
            x, y = x.to(device, non_blocking=pin), y.to(device, non_blocking=pin)
            optimizer.zero_grad()
            loss = cross_entropy(model(x), y)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            total += loss.item() * len(y)
        model.eval()
        wrong = 0
        with torch.no_grad():
            for x, y in loaders[1]:
                x, y = x.to(device, non_blocking=pin), y.to(device, non_blocking=pin)
                wrong += int((model(x).argmax(dim=1) != y).sum())
        yield time.perf_counter() - start, total / len(data.train)


def plain_with_workers(task: Task, data: Data, device: str) -> Iterator[Epoch]:
    """The same with two workers that load."""
    return plain(task, data, device, workers=2)


Contestant = Callable[[Task, Data, str], Iterator[Epoch]]

BY_NAME: MappingProxyType[str, Contestant] = MappingProxyType(
    {"hpo": hpo, "plain loop": plain, "plain, 2 workers": plain_with_workers}
)
