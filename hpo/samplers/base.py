"""What all samplers share: whole configurations, none of them twice, one seed for each trial."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from hpo.errors import SpaceExhaustedError
from search_spaces import SearchSpace

_DRAWS = 2  # a model that repeats itself once will do so again, and each draw fits it anew
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
    """

    def __init__(self, space: SearchSpace, seed: int) -> None:
        self.space = space
        self.seed = seed
        self._distributions = space.distributions()
        self._keys: dict[int, str] = {}  # of finished trials, by id: their params never change

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
        return self.size is not None and len(self.taken(study)) >= self.size

    def taken(self, study: Study, but: FrozenTrial | None = None) -> set[str]:
        """Keys of the configurations of all trials, except that of one trial."""
        taken = set()
        for trial in study._storage.get_all_trials(study._study_id, deepcopy=False):
            # By number: a draft's id changes when it is written.
            if trial.params and not (but and but.number == trial.number):
                taken.add(self._key(trial))
        return taken

    def _key(self, trial: FrozenTrial) -> str:
        key = self._keys.get(trial._trial_id)
        if key is None:
            # Somebody's own objective may suggest more than the space has.
            known = {k: v for k, v in trial.params.items() if k in self._distributions}
            key = self.space.key(known)
            if trial.state.is_finished():  # before that, plain Optuna adds one at a time
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
        except SpaceExhaustedError:
            # Optuna has made the trial already; without this it would run for ever.
            study._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
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

    def _draw_new(self, study: Study, trial: FrozenTrial) -> dict[str, Any]:
        if self.size is None:
            return self.draw(study, trial, derive_seed(self.seed, trial.number))
        taken = self.taken(study, but=trial)
        if len(taken) < self.size:
            for redraw in range(_DRAWS):
                params = self.draw(study, trial, derive_seed(self.seed, trial.number, redraw))
                if self.space.key(params) not in taken:
                    return params
            return self._any_new(taken, derive_seed(self.seed, trial.number, _DRAWS))
        raise SpaceExhaustedError(
            f"all {self.size:,} configurations of this space have been tried.",
            "Widen the space, or take the best of them: hpo best STUDY",
        )

    def _any_new(self, taken: set[str], seed: int) -> dict[str, Any]:
        """A random configuration that was not tried; for when a model insists on its favourite."""
        rng = np.random.default_rng(seed)
        if self.size is not None and self.size <= LISTED:
            every = (self.space.free_params(config) for config in self.space.grid())
            new = [params for params in every if self.space.key(params) not in taken]
            return new[rng.integers(len(new))]
        while True:  # a space this large is hardly ever half tried
            params = self.space.free_params(self.space.sample(rng))
            if self.space.key(params) not in taken:
                return params


def derive_seed(*parts: int) -> int:
    """One 32-bit seed from several numbers, well mixed (NumPy's SeedSequence)."""
    return int(np.random.SeedSequence(parts).generate_state(1)[0])
