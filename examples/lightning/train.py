"""A Lightning module, trained in a function that hpo calls."""

from __future__ import annotations

import logging

import lightning
import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split

import hpo

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)


class Digits(lightning.LightningModule):
    """A small network for 8 x 8 images of digits."""

    def __init__(self, width: int, dropout: float, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.net = nn.Sequential(
            nn.Linear(64, width), nn.ReLU(), nn.Dropout(dropout), nn.Linear(width, 10)
        )

    def training_step(self, batch: list[torch.Tensor], _: int) -> torch.Tensor:
        """The loss of a minibatch."""
        x, y = batch
        return nn.functional.cross_entropy(self.net(x), y)

    def validation_step(self, batch: list[torch.Tensor], _: int) -> None:
        """Logs how many answers are wrong."""
        x, y = batch
        self.log("val_error", (self.net(x).argmax(1) != y).float().mean())

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Adam."""
        return torch.optim.Adam(self.parameters(), lr=self.learning_rate)


class ReportTo(lightning.Callback):
    """Reports each epoch to hpo, which stops the trial by raising `optuna.TrialPruned`."""

    def __init__(self, trial: hpo.Trial) -> None:
        self.trial = trial

    def on_validation_epoch_end(
        self, trainer: lightning.Trainer, _: lightning.LightningModule
    ) -> None:
        """Everything that was logged is a metric."""
        metrics = {name: value.item() for name, value in trainer.callback_metrics.items()}
        self.trial.report(trainer.current_epoch + 1, **metrics)


def train(trial: hpo.Trial) -> None:
    """Trains one configuration."""
    lightning.seed_everything(trial.seed, verbose=False)
    torch.set_num_threads(1)  # a small network is fastest so
    x, y = load_digits(return_X_y=True)
    examples = TensorDataset(torch.tensor(x / 16, dtype=torch.float32), torch.tensor(y))
    # The same split in all trials, so that they can be compared.
    train, val = random_split(examples, [0.8, 0.2], torch.Generator().manual_seed(0))
    trainer = lightning.Trainer(
        max_epochs=trial.epochs,
        callbacks=[ReportTo(trial)],
        default_root_dir=trial.directory,
        num_sanity_val_steps=0,
        log_every_n_steps=1,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
        enable_progress_bar=False,
    )
    trainer.fit(
        Digits(trial.width, trial.dropout, trial.learning_rate),
        DataLoader(train, batch_size=trial.batch_size, shuffle=True),
        DataLoader(val, batch_size=len(val)),
    )
