"""Hyperparameter search for deep learning: one YAML file, one command.

>>> import hpo
>>> study = hpo.run("study.yaml")                                   # the same as the command
>>> best = hpo.search(train, space={"x": {"float": [0, 1]}}, trials=50)
>>> hpo.best("digits-mlp").params
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo import pruners, samplers
    from hpo.api import Result, best, run, search
    from hpo.errors import HpoError
    from hpo.objectives.function import Trial

# Imported when they are asked for: `hpo --help` must not wait for torch and Optuna.
_HOMES = {
    "HpoError": "hpo.errors",
    "Result": "hpo.api",
    "Trial": "hpo.objectives.function",
    "best": "hpo.api",
    "run": "hpo.api",
    "search": "hpo.api",
    "pruners": "",
    "samplers": "",
}

__all__ = ["HpoError", "Result", "Trial", "best", "pruners", "run", "samplers", "search"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'hpo' has no attribute '{name}'")
    home = _HOMES[name]
    return (
        getattr(importlib.import_module(home), name)
        if home
        else importlib.import_module(f"hpo.{name}")
    )


def __dir__() -> list[str]:
    return __all__
