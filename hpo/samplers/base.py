"""What all samplers share: whole configurations, none of them twice, one seed for each trial."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import SpaceExhaustedError
from hpo.samplers.repairs import nearest_allowed
from hpo.search_spaces import Scalar, SearchSpace, SpaceError

_DRAWS = 2  # a model that repeats itself once will do so again, and each draw fits it anew
_TRIES = 100  # in a row that repeat what was tried, and a space counts as exhausted
_DOUBT_EVERY = 5  # so many trials, one is drawn without the priors: all of them may be wrong
LISTED = 100_000  # a finite space of so many configurations is listed, a larger one drawn from


class SpaceSampler(BaseSampler):
    """An Optuna sampler that knows its whole space.

    It draws a configuration at once (active parameters only), draws again when that one was
    tried before and the space is finite, and ends the study when the space is exhausted. What
    it draws is a function of the seed, the trial's number and the finished trials, so a study
    that was interrupted and resumed asks for the same trials as one that was not.

    Args:
        space: The space to draw from.
        seed: Of all of its randomness.

    Attributes:
        baseline: Params to try before anything is drawn; set after construction.
        gave_up: Whether no further configuration was found, though there may be some.
        place: Number of the process that asks, of several that share a study: from the same
            history, each draws something else.
        how: In a few words, how the last configuration was chosen.
    """

    baseline: Mapping[str, Scalar] | None = None
    place: int = 0
    how: str = ""

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.seed = seed
        self._distributions = space.distributions()
        self._keys: dict[int, str | None] = {}  # of finished trials, by id: they never change
        self.gave_up = False

    @abstractmethod
    def draw(self, study: Study, trial: FrozenTrial, seed: int) -> dict[str, Any]:
        """Draws the free parameters of one configuration.

        Args:
            study: The study, for the trials before.
            trial: The trial to be suggested; it has no parameters yet.
            seed: The only source of randomness; differs between trials and between redraws.

        Raises:
            SpaceExhaustedError: there is no configuration left.
        """

    @property
    def size(self) -> int | None:
        """How many configurations there are to draw; None if infinitely many."""
        return self.space.size

    def exhausted(self, study: Study) -> bool:
        """Whether every configuration has been tried or is being tried."""
        if self.gave_up:
            return True
        return self.size is not None and len(self.taken(study)) >= self.size

    def taken(self, study: Study, but: FrozenTrial | None = None) -> set[str]:
        """Keys of the configurations of all trials, except that of one trial."""
        taken = set()
        for trial in study._storage.get_all_trials(study._study_id, deepcopy=False):
            # By number: a draft's id changes when it is written.
            if trial.params and not (but and but.number == trial.number):
                key = self._key(trial)
                if key is not None:
                    taken.add(key)
        return taken

    def _key(self, trial: FrozenTrial) -> str | None:
        """A trial's identity; None if it was made elsewhere and is not a point of the space."""
        if trial._trial_id in self._keys:
            return self._keys[trial._trial_id]
        # Somebody's own objective may suggest more than the space has.
        known = {k: v for k, v in trial.params.items() if k in self._distributions}
        if not trial.state.is_finished():  # plain Optuna adds one at a time
            return self.space.key(known)
        key = self.space.key(known) if self.space.contains(known) else None
        self._keys[trial._trial_id] = key
        return key

    # --- what Optuna calls ---

    def infer_relative_search_space(
        self, study: Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        return self._distributions

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        try:
            return self._draw_new(study, trial)
        except SpaceExhaustedError as error:
            # Optuna has made the trial already. Its loop ends it; else it would run for ever.
            if not study._thread_local.in_optimize_loop:
                study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            error.for_study(study.study_name)
            raise

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        # Only for parameters that the space does not have, in somebody's own Optuna study.
        independent = RandomSampler(seed=derive_seed(self.seed, trial.number))
        return independent.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(
        self,
        study: Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        if self.exhausted(study):
            with suppress(RuntimeError):  # raised when the study is driven by ask and tell
                study.stop()

    def is_baseline(self, params: Mapping[str, Any]) -> bool:
        """Whether these are the params of the baseline."""
        return self.baseline is not None and self.space.key(params) == self.space.key(self.baseline)

    def _draw_new(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        finite = self.size is not None
        taken = self.taken(study, but=trial) if finite or self.baseline else set()
        if self.baseline is not None and self.space.key(self.baseline) not in taken:
            self.how = "the baseline"
            return dict(self.baseline)
        if self.size is not None and len(taken) >= self.size:
            raise SpaceExhaustedError(
                f"all {self.size:,} configurations of this space have been tried.",
                "Widen the space, or take the best of them: hpo best {study}",
            )
        doubts = self._has_priors and trial.number % _DOUBT_EVERY == _DOUBT_EVERY - 1
        for redraw in range(_DRAWS):
            seed = self._derived(trial.number, redraw)
            try:
                if doubts:
                    self.how = "at random, as every fifth trial, in case the priors are wrong"
                    params = self._draw_anywhere(seed)
                else:
                    self.how = self.says(study)
                    params = self.draw(study, trial, seed)
                if not self._allows(params):
                    self.how += ", moved to the nearest point that meets the requirements"
                    params = nearest_allowed(self.space, params, np.random.default_rng(seed))
            except SpaceError:  # hardly any configuration meets the requirements
                break
            if not finite or self.space.key(params) not in taken:
                return params
        self.how = "at random, since the sampler only repeated what was tried"
        return self._any_new(taken, self._derived(trial.number, _DRAWS))

    def says(self, study: Study) -> str:
        """How a configuration is chosen now, in a few words."""
        return type(self).__name__.removesuffix("Sampler").lower()

    def _derived(self, *parts: int) -> int:
        others = (self.place,) if self.place else ()  # alone, the seed decides everything
        return derive_seed(self.seed, *parts, *others)

    def _draw_anywhere(self, seed: int) -> dict[str, Any]:
        """A configuration drawn as if nobody believed anything."""
        rng = np.random.default_rng(seed)
        return self.space.sample_params(rng, by_prior=False)

    @cached_property
    def _has_priors(self) -> bool:
        return any(p.domain.prior is not None for p in self.space.free)

    def _allows(self, params: Mapping[str, Any]) -> bool:
        return not self.space.require or self.space.allows(self.space.complete(params))

    def _any_new(self, taken: set[str], seed: int) -> dict[str, Any]:
        """A random configuration that was not tried; for when a model insists on its favourite.

        Raises:
            SpaceExhaustedError: there is none, or it would take too long to find.
        """
        rng = np.random.default_rng(seed)
        if self.size is not None and self.size <= LISTED and self._is_listed:
            every = (self.space.free_params(config) for config in self.space.grid())
            new = [params for params in every if self.space.key(params) not in taken]
            if new:
                return new[rng.integers(len(new))]
            raise self._give_up()
        for _ in range(_TRIES):  # a space this large is hardly ever half tried
            try:
                params = self.space.sample_params(rng)
            except SpaceError:
                break
            if self.size is None or self.space.key(params) not in taken:
                return params
        raise self._give_up()

    def _give_up(self) -> SpaceExhaustedError:
        """Notes that no configuration is left that can be found, so that the study ends."""
        self.gave_up = True
        return SpaceExhaustedError(
            "no further configuration was found that meets the space's requirements.",
            "Loosen them, or take the best of those that were tried: hpo best {study}",
        )

    @cached_property
    def _is_listed(self) -> bool:
        """Whether the grid has all configurations; `points` may leave some out."""
        return self.space.grid_size == self.space.size


def derive_seed(*parts: int) -> int:
    """One 32-bit seed from several numbers, well mixed (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
