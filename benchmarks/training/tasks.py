"""What is trained."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo.trainers import TrainerConfig
    from hpo.trainers.data.parts import Data, Tensors

BATCH = 64


@dataclass(frozen=True)
class Task:
    """What is trained.

    Attributes:
        data: digits or synthetic.
        model: mlp or cnn.
        epochs: So many, the first of which warms up.
        n: Training examples of the synthetic data.
    """

    data: str
    model: str
    epochs: int
    n: int = 60_000

    @property
    def n_train(self) -> int:
        """Its training examples."""
        return self.n if self.data == "synthetic" else 1077

    @property
    def config(self) -> TrainerConfig:
        """The network, and SGD with momentum as everybody has it."""
        from hpo.trainers import TrainerConfig

        shape: dict[str, Any] = {"width": [16, 32]} if self.model == "cnn" else {"width": 128}
        return TrainerConfig(
            model=self.model,
            batch_size=BATCH,
            learning_rate=0.05,
            momentum=0.9,
            epochs=self.epochs,
            precision="fp32",
            **shape,
        )

    def load(self) -> Data:
        """The data, on the CPU."""
        from hpo.trainers.data import Source, load

        if self.data == "synthetic":
            return _synthetic(self.n, image=self.model == "cnn")
        (data,) = load(Source(self.data), seed=0)
        return data


def _synthetic(n: int, *, image: bool) -> Data:
    """As large as MNIST: ten blobs in 784 dimensions, far from linearly separable."""
    import torch

    from hpo.trainers.data.parts import Data, Tensors

    generator = torch.Generator().manual_seed(0)
    shape = (1, 28, 28) if image else (784,)
    centres = torch.randn(10, 784, generator=generator) / 4

    def part(m: int) -> Tensors:
        y = torch.randint(10, (m,), generator=generator)
        x = centres[y] + torch.randn(m, 784, generator=generator)
        return Tensors(x.reshape(m, *shape), y)

    classes = tuple(map(str, range(10)))
    return Data("synthetic", "classification", part(n), part(n // 6), part(1), shape, classes)
