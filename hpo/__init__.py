"""Hyperparameter search for deep learning: one YAML file, one command.

>>> import hpo
>>> study = hpo.run("study.yaml")                                   # the same as the command
>>> best = hpo.search(train, space={"x": {"float": [0, 1]}}, trials=50)
>>> hpo.best("digits-mlp").params
>>> hpo.load_study("digits-mlp").trials()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpo import pruners, samplers
    from hpo.api import Result, best, load_study, measure_data_needs, run, search
    from hpo.catalog import StudyRecord
    from hpo.curves import DataNeeds, Forecast, data_needs, forecast
    from hpo.errors import HpoError
    from hpo.listeners import Listener
    from hpo.objectives.function import Trial
    from hpo.search_spaces import Choice, Fixed, Float, Int, SearchSpace, SpaceError, boolean
    from hpo.spaces import space
    from hpo.trainers import Schedule
    from hpo.trial import TrialRecord

# Imported when they are asked for: `hpo --help` must not wait for torch and Optuna.
_HOMES = {
    "Choice": "hpo.search_spaces",
    "DataNeeds": "hpo.curves",
    "Fixed": "hpo.search_spaces",
    "Float": "hpo.search_spaces",
    "Forecast": "hpo.curves",
    "HpoError": "hpo.errors",
    "Int": "hpo.search_spaces",
    "Listener": "hpo.listeners",
    "Result": "hpo.api",
    "Schedule": "hpo.trainers",
    "SearchSpace": "hpo.search_spaces",
    "SpaceError": "hpo.search_spaces",
    "StudyRecord": "hpo.catalog",
    "Trial": "hpo.objectives.function",
    "TrialRecord": "hpo.trial",
    "best": "hpo.api",
    "boolean": "hpo.search_spaces",
    "data_needs": "hpo.curves",
    "forecast": "hpo.curves",
    "load_study": "hpo.api",
    "measure_data_needs": "hpo.api",
    "run": "hpo.api",
    "search": "hpo.api",
    "space": "hpo.spaces",
    "pruners": "",
    "samplers": "",
}

__all__ = [
    "Choice",
    "DataNeeds",
    "Fixed",
    "Float",
    "Forecast",
    "HpoError",
    "Int",
    "Listener",
    "Result",
    "Schedule",
    "SearchSpace",
    "SpaceError",
    "StudyRecord",
    "Trial",
    "TrialRecord",
    "best",
    "boolean",
    "data_needs",
    "forecast",
    "load_study",
    "measure_data_needs",
    "pruners",
    "run",
    "samplers",
    "search",
    "space",
]


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
