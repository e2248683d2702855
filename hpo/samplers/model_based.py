"""Samplers that learn from results: Optuna's TPE and GP, and scikit-optimize."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, GPSampler, TPESampler
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from hpo.samplers.base import SpaceSampler
from hpo.samplers.coordinates import coordinates, is_unordered
from hpo.samplers.experience import Experience
from hpo.samplers.memory import MOST, Memory
from hpo.search_spaces import Parameter, Scalar, SearchSpace, SpaceError
from hpo.trial import Expected
from hpo.words import counted

Estimator = Literal["GP", "RF", "ET"]


class _Observed(NamedTuple):
    """What is known of a configuration: what is minimised, and the variance of that."""

    params: dict[str, Any]
    value: float
    variance: float = 0.0


History: TypeAlias = Sequence[_Observed]

_LEARNT_FROM = (TrialState.COMPLETE, TrialState.PRUNED)
_CANDIDATES = 1000  # configurations of which skopt's model is asked for the most promising


class OptunaSampler(SpaceSampler):
    """One of Optuna's samplers, made anew for each trial so that its seed is the trial's.

    Args:
        space: The space to draw from.
        seed: Of all of its randomness.
        make: Makes Optuna's sampler from a seed.
        startup_trials: Random trials, drawn by the priors, before that sampler is asked.
        name: What that sampler is called.
        knows_pruned: Whether that sampler learns from PRUNED trials by itself.
        memory: Chooses what that sampler sees of a long history; None for all of it.
    """

    def __init__(
        self,
        space: SearchSpace,
        seed: int,
        make: Callable[[int], BaseSampler],
        startup_trials: int,
        name: str,
        *,
        knows_pruned: bool,
        memory: Memory | None = None,
    ) -> None:
        super().__init__(space, seed)
        self._make = make
        self._memory = memory
        self._name = name
        self._startup_trials = startup_trials
        self._knows_pruned = knows_pruned
        self._coordinates = coordinates(space)
        seen_as = {name: each.distribution for name, each in self._coordinates.items()}
        self._seen_as: dict[str, BaseDistribution] = {**self._distributions, **seen_as}

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        study = Experience(
            study,
            knows_pruned=self._knows_pruned,
            coordinates=self._coordinates,
            memory=self._memory,
        )
        seen = study.get_trials(deepcopy=False, states=_LEARNT_FROM)
        if len(seen) < self._startup_trials:
            return self.space.sample_params(np.random.default_rng(seed))
        sampler = self._make(seed)
        known = {
            name: distribution
            for name, distribution in sampler.infer_relative_search_space(study, trial).items()
            if distribution == self._seen_as.get(name)  # trials made elsewhere may have had others
        }
        # Where one point is better by far than all others, Optuna's GP divides 0 by 0.
        with np.errstate(invalid="ignore"):
            jointly = sampler.sample_relative(study, trial, known)

        def suggested(parameter: Parameter) -> Any:
            name = parameter.name
            coordinate = self._coordinates.get(name)
            if name in jointly:
                value = jointly[name]
            else:  # it is not active in every trial
                value = sampler.sample_independent(study, trial, name, self._seen_as[name])
            return coordinate.outward(value) if coordinate else value

        return self.space.free_params(self.space.walk(suggested))

    def says(self, study: Study) -> str:
        return _said(self._name, study, self._startup_trials)


def _said(name: str, study: Study, startup_trials: int) -> str:
    n = len(study.get_trials(deepcopy=False, states=_LEARNT_FROM))
    if n < startup_trials:
        return f"at random, as one of the first {startup_trials}, from which {name} is to learn"
    return f"{name}, from {counted(n, 'trial')}"


def tpe(space: SearchSpace, seed: int, startup_trials: int = 10) -> OptunaSampler:
    """Tree-structured Parzen estimator (Bergstra et al. 2011), multivariate; Optuna's."""
    make, memory = partial(_tpe, startup_trials), Memory(seed, max(MOST, startup_trials))
    return OptunaSampler(space, seed, make, startup_trials, "tpe", knows_pruned=True, memory=memory)


def gp(space: SearchSpace, seed: int, startup_trials: int = 10) -> OptunaSampler:
    """Gaussian process with log expected improvement (Ament et al. 2023); Optuna's."""
    make = partial(_gp, startup_trials)
    return OptunaSampler(space, seed, make, startup_trials, "gp", knows_pruned=False)


def _tpe(startup_trials: int, seed: int) -> BaseSampler:
    # What others are at work on counts as bad, so that it is not tried twice (Ginsbourger et al.
    # 2010, the constant liar).
    return TPESampler(
        seed=seed, n_startup_trials=startup_trials, multivariate=True, constant_liar=True
    )


def _gp(startup_trials: int, seed: int) -> BaseSampler:
    return GPSampler(seed=seed, n_startup_trials=startup_trials, warn_independent_sampling=False)


class SkoptSampler(SpaceSampler):
    """scikit-optimize's `Optimizer`, told the finished trials and asked for one point.

    It sees every parameter as a number in [0, 1] on the parameter's own scale (its prior's
    quantile), or as a category. A parameter that is not active in every configuration is not part
    of that point: once the others are chosen, a second model, of the trials in which the same
    parameters were active, chooses these. So no model is ever told a value that nobody used.

    It knows no constraints: a trial that breaks them is told as worse than every feasible one,
    the more so the further it is from keeping them (after Deb 2000, "An efficient constraint
    handling method for genetic algorithms").

    What was stopped by a forecast has a mean and a variance; a Gaussian process takes both.

    Args:
        space: The space to draw from.
        seed: Of all of its randomness.
        startup_trials: Random trials before a model is asked.
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
        self._always = [p for p in space.free if not p.when]

    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        history = self._history(study)
        rng = np.random.default_rng(seed)
        by_chance = self.space.sample_params(rng)
        if len(history) < self._startup_trials or not self.space.free:
            return by_chance
        with warnings.catch_warnings():
            # It warns when it would repeat itself; the base class draws again in that case.
            warnings.simplefilter("ignore")
            chosen = self._ask(history, self._always, seed) if self._always else {}
            if len(self._always) == len(self.space.free):
                return chosen
            return self._with_conditional(chosen, history, seed, rng)

    def says(self, study: Study) -> str:
        return _said(f"scikit-optimize's {self._estimator}", study, self._startup_trials)

    def _with_conditional(
        self, chosen: dict[str, Any], history: History, seed: int, rng: np.random.Generator
    ) -> dict[str, Any]:
        """The chosen values, and those of the parameters that are active beside them."""

        def by_prior(parameter: Parameter) -> object:
            if parameter.name in chosen:
                return chosen[parameter.name]
            return parameter.domain.sample(rng)

        drawn = self.space.free_params(self.space.walk(by_prior))
        active = drawn.keys()
        alike = [observed for observed in history if observed.params.keys() == active]
        rest = [name for name in active if name not in chosen]
        if not rest or len(alike) < self._startup_trials:
            return drawn
        parameters = [self.space.by_name[name] for name in active]
        more = (self.space.free_params(self.space.walk(by_prior)) for _ in range(_CANDIDATES))
        candidates = [drawn, *(params for params in more if params.keys() == active)]
        return self._most_promising(candidates, alike, parameters, seed)

    def _ask(self, history: History, parameters: Sequence[Parameter], seed: int) -> dict[str, Any]:
        """The point that scikit-optimize asks for, of these parameters alone."""
        point = self._told(history, parameters, seed).ask()
        return {p.name: _value_at(p, x) for p, x in zip(parameters, point, strict=True)}

    def _most_promising(
        self,
        candidates: Sequence[dict[str, Any]],
        history: History,
        parameters: Sequence[Parameter],
        seed: int,
    ) -> dict[str, Any]:
        """The candidate with the greatest expected improvement."""
        from skopt.acquisition import gaussian_ei

        optimizer = self._told(history, parameters, seed)
        points = [[_coordinate(p, params[p.name]) for p in parameters] for params in candidates]
        improvement = gaussian_ei(
            optimizer.space.transform(points), optimizer.models[-1], min(o.value for o in history)
        )
        return candidates[int(np.argmax(improvement))]

    def _told(self, history: History, parameters: Sequence[Parameter], seed: int) -> Any:
        """An `Optimizer` of some parameters that knows the history."""
        from skopt import Optimizer
        from skopt.space import Categorical, Real

        dimensions = [
            # As strings: skopt compares categories with NumPy, which mixes up 1, 1.0 and True.
            Categorical([str(i) for i in range(len(p.domain.options))])
            if is_unordered(p.domain)
            else Real(0.0, 1.0)
            for p in parameters
        ]
        # The defaults (a portfolio of acquisition functions, 10,000 candidates) take 0.6 s.
        optimizer = Optimizer(
            dimensions,
            base_estimator=self._estimator,
            n_initial_points=0,
            acq_func="EI",
            acq_optimizer_kwargs={"n_points": 1000, "n_restarts_optimizer": 2},
            random_state=seed,
        )
        points = [[_coordinate(p, o.params[p.name]) for p in parameters] for o in history]
        values, variances = [o.value for o in history], np.array([o.variance for o in history])
        if self._estimator == "GP" and variances.any():
            # Values are standardised before alpha is added to their covariance.
            alpha = 1e-10 + variances / (np.var(values) or 1.0)
            optimizer.base_estimator_.set_params(alpha=alpha)
        optimizer.tell(points, values)
        return optimizer

    def _history(self, study: Study) -> History:
        sign = -1.0 if study.direction is StudyDirection.MAXIMIZE else 1.0
        names = {p.name for p in self.space.free}
        expected = {t.number: e for t in study.get_trials(deepcopy=False) if (e := Expected.of(t))}
        history, excesses = [], []
        for trial in Experience(study, knows_pruned=False).get_trials(
            deepcopy=False, states=(TrialState.COMPLETE,)
        ):
            params = {name: v for name, v in trial.params.items() if name in names}
            # A trial made elsewhere may be no point of this space.
            if trial.value is not None and math.isfinite(trial.value) and self._knows(params):
                spread = expected[trial.number].std if trial.number in expected else 0.0
                history.append(_Observed(params, sign * trial.value, spread**2))
                excesses.append(sum(max(v, 0.0) for v in trial.constraints.values()))
        return _penalised(history, excesses)

    def _knows(self, params: dict[str, Any]) -> bool:
        try:
            return self.space.free_params(self.space.complete(params)).keys() == params.keys()
        except SpaceError:
            return False


def _penalised(history: History, excesses: Sequence[float]) -> History:
    """What is minimised, with infeasible trials above the feasible, within as much again."""
    feasible = [o.value for o, excess in zip(history, excesses, strict=True) if excess == 0]
    worst, best = max(feasible, default=0.0), min(feasible, default=0.0)
    spread = (worst - best) or 1.0
    return [
        o if excess == 0 else o._replace(value=worst + spread * excess / (1 + excess))
        for o, excess in zip(history, excesses, strict=True)
    ]


def _coordinate(parameter: Parameter, value: Any) -> Any:
    domain = parameter.domain
    if is_unordered(domain):
        return str(domain.options.index(value))
    return domain.to_quantile(value)


def _value_at(parameter: Parameter, coordinate: Any) -> Scalar:
    domain = parameter.domain
    if is_unordered(domain):
        return domain.options[int(coordinate)]
    return domain.from_quantile(float(np.clip(coordinate, 0.0, 1.0)))
