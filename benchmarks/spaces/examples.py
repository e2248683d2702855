"""The spaces: five with 10^12 grid points and more, one with 200 parameters."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import comb
from typing import Any

import optuna

Forms = Mapping[str, Any]


def _tens(n: int) -> Forms:
    """Parameters of ten values each."""
    return {f"x{i}": {"int": [1, 10]} for i in range(n)}


_LAYERS = {
    "depth": {"int": [1, 6]},
    "width": {"int": [16, 512], "powers_of": 2, "per": "depth"},  # six powers
}


@dataclass(frozen=True)
class Grid:
    """A space and the number of its grid points, found with pencil and paper.

    Attributes:
        title: What the table calls it.
        forms: What stands under `space:`.
        points: How many there are.
    """

    title: str
    forms: Forms
    points: int


GRIDS = (
    Grid("12 parameters of 10 values", _tens(12), 10**12),
    Grid(
        'conditions, one is ">= 3"',
        {
            **_tens(10),
            "optimizer": ["sgd", "adam"],
            "momentum": {"choice": [k / 10 for k in range(10)], "when": {"optimizer": "sgd"}},
            "beta": {"choice": [k / 20 for k in range(20)], "when": {"optimizer": "adam"}},
            "depth": {"int": [1, 5]},
            "residual": {"choice": [True, False], "when": {"depth": ">= 3"}},
            "join": {"choice": ["sum", "mean", "gate", "cat"], "when": {"residual": True}},
        },
        10**10 * (10 + 20) * (2 + 3 * (1 + 4)),
    ),
    Grid(
        "widths of up to 6 layers",
        {**_tens(8), **_LAYERS},
        10**8 * sum(6**depth for depth in range(1, 7)),
    ),
    Grid(
        "these and 2 requirements",
        {
            **_tens(6),
            **_LAYERS,
            "warmup": {"int": [0, 9]},
            "epochs": {"int": [1, 10]},
            "require": ["warmup < epochs", "width_1 >= width_2"],
        },
        10**6 * 55 * (6 + sum(comb(7, 2) * 6 ** (depth - 2) for depth in range(2, 7))),
    ),
    Grid(
        "widths that never grow",
        {
            **_tens(10),
            **_LAYERS,
            "require": [f"width_{k} >= width_{k + 1}" for k in range(1, 6)],
        },
        10**10 * sum(comb(5 + depth, depth) for depth in range(1, 7)),
    ),
)

N_BLOCKS = 33
OPTIMIZERS = ("sgd", "adam", "adamw")


def wide(*, priors: bool = False) -> Forms:
    """200 parameters, 66 of them conditional: by value, by comparison, and on conditional ones.

    Args:
        priors: Whether each number has one.
    """

    def form(prior: float, **options: Any) -> Forms:
        return {**options, "prior": prior} if priors else options

    found: dict[str, Any] = {}
    for k in range(N_BLOCKS):
        beside = {f"momentum_{k}": ">= 0.5"} if k % 2 else {f"depth_{k}": ">= 3"}
        found |= {
            f"optimizer_{k}": list(OPTIMIZERS),
            f"momentum_{k}": form(0.9, float=[0.0, 0.99], when={f"optimizer_{k}": ["sgd", "adam"]}),
            f"rate_{k}": form(1e-3, float=[1e-5, 1.0], log=True),
            f"depth_{k}": form(3, int=[1, 8]),
            f"dropout_{k}": form(0.2, float=[0.0, 0.6], when=beside),
            f"width_{k}": form(64, int=[16, 512], log=True),
        }
    return {**found, "decay": form(1e-4, float=[1e-6, 0.1], log=True), "epochs": {"int": [1, 100]}}


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """The same 200 parameters, as people write them for Optuna."""
    found: dict[str, Any] = {}
    for k in range(N_BLOCKS):
        optimizer = trial.suggest_categorical(f"optimizer_{k}", OPTIMIZERS)
        found[f"optimizer_{k}"] = optimizer
        if optimizer in ("sgd", "adam"):
            found[f"momentum_{k}"] = trial.suggest_float(f"momentum_{k}", 0.0, 0.99)
        found[f"rate_{k}"] = trial.suggest_float(f"rate_{k}", 1e-5, 1.0, log=True)
        found[f"depth_{k}"] = trial.suggest_int(f"depth_{k}", 1, 8)
        if found.get(f"momentum_{k}", 0.0) >= 0.5 if k % 2 else found[f"depth_{k}"] >= 3:
            found[f"dropout_{k}"] = trial.suggest_float(f"dropout_{k}", 0.0, 0.6)
        found[f"width_{k}"] = trial.suggest_int(f"width_{k}", 16, 512, log=True)
    found["decay"] = trial.suggest_float("decay", 1e-6, 0.1, log=True)
    found["epochs"] = trial.suggest_int("epochs", 1, 100)
    return found
