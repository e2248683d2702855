"""Samplers that learn from results: Optuna's TPE and GP, and scikit-optimize."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.samplers.base import SpaceSampler
from hpo.samplers.experience import Experience
from search_spaces import Choice, Parameter, SearchSpace

Estimator = Literal["GP", "RF", "ET"]


class OptunaSampler(SpaceSampler):
    """One of Optuna's samplers, made anew for each trial so that its seed is the trial's.

    Args:
        space: The space to draw from.
        seed: Of all of its randomness.
        make: Makes Optuna's sampler from a seed.
        knows_pruned: Whether that sampler learns from PRUNED trials by itself.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        make: Callable[[int], BaseSampler],
        *,
        knows_pruned: bool,
    ) -> None:
        super().__init__(space, seed)
        self._make = make
        self._knows_pruned = knows_pruned

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        sampler = self._make(seed)
        study = Experience(study, knows_pruned=self._knows_pruned)
        known = sampler.infer_relative_search_space(study, trial)
        jointly = sampler.sample_relative(study, trial, known)

        def suggested(parameter: Parameter) -> Any:
            name = parameter.name
            if name in jointly:
                return jointly[name]
            # Startup trials, and parameters that are not active in every trial.
            return sampler.sample_independent(study, trial, name, self._distributions[name])

        return self.space.free_params(self.space.walk(suggested))


def tpe(space: SearchSpace, seed: int, startup_trials: int = 10) -> OptunaSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate; Optuna's."""

    def make(trial_seed: int) -> BaseSampler:
        return TPESampler(seed=trial_seed, n_startup_trials=startup_trials, multivariate=True)

    return OptunaSampler(space, seed, make, knows_pruned=True)


def gp(space: SearchSpace, seed: int, startup_trials: int = 10) -> OptunaSampler:
    """Gaussian process with log expected improvement (Ament et al. 2023); Optuna's."""

    def make(trial_seed: int) -> BaseSampler:
        return GPSampler(
            seed=trial_seed, n_startup_trials=startup_trials, warn_independent_sampling=False
        )

    return OptunaSampler(space, seed, make, knows_pruned=False)


class SkoptSampler(SpaceSampler):
    """scikit-optimize's `Optimizer`, told all finished trials and asked for one point.

    It sees every parameter as a number in [0, 1] on the parameter's own scale, or as a
    category. A parameter that is not active in a trial is given its middle value, the same in
    all such trials, so that it says nothing.

    Args:
        space: The space to draw from.
        seed: Of all of its randomness.
        startup_trials: Random trials before the model is asked.
        estimator: GP: Gaussian process; RF: random forest; ET: extra trees.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        startup_trials: int = 10,
        estimator: Estimator = "GP",
    ) -> None:
        super().__init__(space, seed)
        self._startup_trials = startup_trials
        self._estimator = estimator

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        history = self._history(study)
        if len(history) < self._startup_trials or not self.space.free:
            return self.space.free_params(self.space.sample(np.random.default_rng(seed)))
        optimizer = self._optimizer(seed)
        points, values = zip(*history, strict=True)
        with warnings.catch_warnings():
            # It warns when it would repeat itself; the base class draws again in that case.
            warnings.simplefilter("ignore")
            optimizer.tell(list(points), list(values))
            point = optimizer.ask()
        coordinates = dict(zip((p.name for p in self.space.free), point, strict=True))

        def at_point(parameter: Parameter) -> Any:
            coordinate = coordinates[parameter.name]
            if isinstance(parameter.domain, Choice):
                return parameter.domain.options[int(coordinate)]
            return parameter.domain.from_unit(float(np.clip(coordinate, 0.0, 1.0)))

        return self.space.free_params(self.space.walk(at_point))

    def _optimizer(self, seed: int) -> Any:
        from skopt import Optimizer
        from skopt.space import Categorical, Real

        dimensions = [
            # As strings: skopt compares categories with NumPy, which mixes up 1, 1.0 and True.
            Categorical([str(i) for i in range(len(p.domain.options))])
            if isinstance(p.domain, Choice)
            else Real(0.0, 1.0)
            for p in self.space.free
        ]
        # The defaults (a portfolio of acquisition functions, 10,000 candidates) take 0.6 s.
        return Optimizer(
            dimensions,
            base_estimator=self._estimator,
            n_initial_points=0,
            acq_func="EI",
            acq_optimizer_kwargs={"n_points": 1000, "n_restarts_optimizer": 2},
            random_state=seed,
        )

    def _history(self, study: Study) -> list[tuple[list[Any], float]]:
        sign = -1.0 if study.direction is StudyDirection.MAXIMIZE else 1.0
        return [
            ([self._coordinate(p, trial.params) for p in self.space.free], sign * trial.value)
            for trial in Experience(study, knows_pruned=False).get_trials(
                deepcopy=False, states=(TrialState.COMPLETE,)
            )
            if trial.value is not None and math.isfinite(trial.value)
        ]

    def _coordinate(self, parameter: Parameter, params: dict[str, Any]) -> Any:
        domain = parameter.domain
        active = parameter.name in params
        if isinstance(domain, Choice):
            return str(domain.options.index(params[parameter.name]) if active else 0)
        return domain.to_unit(params[parameter.name]) if active else 0.5
