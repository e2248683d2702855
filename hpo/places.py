"""Where studies and MLflow are, unless somebody says otherwise; names that all parts know."""

from __future__ import annotations

import os

DEFAULT_STORAGE = "sqlite:///hpo.db"
DEFAULT_TRACKING = "sqlite:///mlflow.db"

CHECKPOINTS = "checkpoints"
"""Folder in a trial's own, for what it can be taken up again from, and its weights."""

TRAIN_FRACTION = "train_fraction"
"""In a configuration, the share of the training examples that is trained on."""

OUTPUT = "output.log"
"""File in a trial's own folder, for what it prints in a worker process."""


def storage_url(given: str | None) -> str:
    """What was given, or $HPO_STORAGE, or the default."""
    return given or os.environ.get("HPO_STORAGE") or DEFAULT_STORAGE


def tracking_uri(given: str | None) -> str | None:
    """What was given, or $MLFLOW_TRACKING_URI, or the default; None for ``none``."""
    uri = given or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_TRACKING
    return None if uri == "none" else uri
