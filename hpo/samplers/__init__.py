"""Samplers: each an `optuna.samplers.BaseSampler`, for hpo's studies and for anybody's."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from hpo import baselines
from hpo.errors import HpoError, nearest
from hpo.samplers.base import SpaceSampler, derive_seed
from hpo.samplers.model_based import Estimator, OptunaSampler, SkoptSampler, gp, tpe
from hpo.samplers.plain import GridSampler, RandomSampler, SobolSampler
from hpo.search_spaces import SearchSpace, parse
from hpo.spec import SamplerName

NAMES: tuple[SamplerName, ...] = get_args(SamplerName)

# A Gaussian process is the better model while it can be: its cost grows with the cube of the
# trials, and it sees only parameters that are active in every trial.
_GP_TRIALS = 200
_GP_DIMENSIONS = 20
_GP_METRICS = 3  # Optuna's takes a second to suggest a point for two metrics, and seven for four


def build(
    name: SamplerName,
    space: SearchSpace | Mapping[str, Any],
    *,
    seed: int = 0,
    startup_trials: int = 10,
    estimator: Estimator = "GP",
    trials: int | None = None,
    metrics: int = 1,
    baseline: Mapping[str, Any] | None = None,
) -> SpaceSampler:
    """Builds a sampler by its name in a study file.

    Args:
        name: grid, random, sobol, tpe, gp, skopt, or bayesian, which chooses between gp (a flat
            space of at most 20 parameters, at most 200 trials and 3 metrics) and tpe.
        space: The space, or what stands under ``space:`` in a study file.
        seed: Equal seeds and equal results give equal suggestions, in any process.
        startup_trials: tpe, gp, skopt: random trials before the model is asked.
        estimator: skopt: GP, RF or ET.
        trials: How many trials are planned; only bayesian looks at it.
        metrics: How many are optimised; only bayesian looks at it.
        baseline: Params to try before anything is drawn.

    Raises:
        HpoError: there is no sampler of that name.
        search_spaces.SpaceError: the space is malformed, or has no grid when one is asked for.
    """
    if not isinstance(space, SearchSpace):
        space = parse(space)
    if name == "bayesian":
        name = _bayesian(space, trials, metrics)
    sampler = _build(name, space, seed, startup_trials, estimator)
    if baseline is not None:
        sampler.baseline, wrong = baselines.read(baseline, space, {})
        if wrong:
            raise HpoError(f"baseline: {wrong[0][0]}: {wrong[0][1]}")
    return sampler


def _build(
    name: SamplerName,
    space: SearchSpace,
    seed: int,
    startup_trials: int,
    estimator: Estimator,
) -> SpaceSampler:
    match name:
        case "grid":
            return GridSampler(space, seed)
        case "random":
            return RandomSampler(space, seed)
        case "sobol":
            return SobolSampler(space, seed)
        case "tpe":
            return tpe(space, seed, startup_trials)
        case "gp":
            return gp(space, seed, startup_trials)
        case "skopt":
            return SkoptSampler(space, seed, startup_trials, estimator)
    raise HpoError(f"unknown sampler '{name}'.", nearest(name, NAMES))


def _bayesian(space: SearchSpace, trials: int | None, metrics: int) -> SamplerName:
    flat = not any(parameter.when for parameter in space.free)
    small = len(space.free) <= _GP_DIMENSIONS and metrics <= _GP_METRICS
    few = trials is not None and trials <= _GP_TRIALS
    return "gp" if flat and small and few else "tpe"


__all__ = [
    "NAMES",
    "GridSampler",
    "OptunaSampler",
    "RandomSampler",
    "SkoptSampler",
    "SobolSampler",
    "SpaceSampler",
    "build",
    "derive_seed",
    "gp",
    "tpe",
]
