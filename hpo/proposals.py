"""What is to be tried next: a trial that somebody enqueued or put back, or the sampler's."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import optuna

from hpo import retries
from hpo.audience import Audience
from hpo.catalog import StudyRecord
from hpo.errors import SpaceExhaustedError
from hpo.jobs import job_of
from hpo.samplers import SpaceSampler
from hpo.search_spaces import Scalar, SpaceError
from hpo.storage import TooManyFailuresError
from hpo.trial import BASELINE, ENQUEUED, SUGGESTED, Failure, FailureKind, Job, TrialRecord


@dataclass(frozen=True)
class Proposal:
    """A trial that is to be started.

    Args:
        trial: Optuna's, to be told how it ends.
        record: The same, as the storage knows it.
        job: What it runs.
    """

    trial: optuna.Trial
    record: TrialRecord
    job: Job

    @property
    def id(self) -> int:
        """The trial's row in the database, or what stands for one until it is written."""
        return self.trial._trial_id


class Proposals:
    """The trials of a study that are still to be run.

    Args:
        record: The study.
        study: The same, as Optuna sees it.
        sampler: Chooses configurations.
        audience: Hears of what cannot be run.
        about: This driver.
    """

    def __init__(
        self,
        record: StudyRecord,
        study: optuna.Study,
        sampler: SpaceSampler,
        audience: Audience,
        about: Mapping[str, Any],
    ) -> None:
        self._record, self._plan, self._storage = record, record.plan, record.storage
        self._study = study
        self._sampler = sampler
        self._audience = audience
        self._about = about

    @property
    def any(self) -> bool:
        """Whether there is a trial to be started, as far as can be known before it is asked for."""
        if self._storage.n_ready(self._record.id):
            return True
        counts, wanted = self._storage.counts(self._record.id), self._plan.trials
        has_room = wanted is None or sum(counts.values()) < wanted
        return has_room and not self._sampler.exhausted(self._study)

    def next(self) -> Proposal | None:
        """Asks for a trial and writes it; None if another driver was faster, or it has to wait.

        Raises:
            LeaseLostError: it was taken over at once, since this driver was frozen just now.
        """
        trial = self._study.ask()
        trial_id, space = trial._trial_id, self._plan.space
        retries.begin_attempt(self._storage, trial_id, self._about)
        attrs = self._storage.get_trial(trial_id).system_attrs
        try:
            params = self._suggest(trial)
        except SpaceExhaustedError:
            return None
        except TooManyFailuresError as refused:  # it was enqueued in part, and the space exhausted
            retries.put_back(self._storage, trial_id, str(refused))
            return None
        except (SpaceError, TypeError, ValueError) as error:
            if ENQUEUED not in attrs:
                raise
            self._refuse(trial_id, f"it was enqueued with what the space does not have: {error}")
            return None
        if self._sampler.is_baseline(params):
            self._storage.set_trial_system_attr(trial_id, BASELINE, True)
        if SUGGESTED not in attrs:  # it is not taken up again
            how = "by hand, enqueued" if ENQUEUED in attrs else self._sampler.how
            self._storage.set_trial_system_attr(trial_id, SUGGESTED, how)
        if not self._storage.admit(trial_id, key=space.key(params), limit=self._plan.trials):
            return None
        record = self._record.trial(trial_id)
        return Proposal(trial, record, job_of(self._record, record))

    def _suggest(self, trial: optuna.Trial) -> dict[str, Scalar]:
        """The free parameters of a trial.

        Raises:
            SpaceExhaustedError: there is nothing left to suggest.
            SpaceError, TypeError, ValueError: somebody enqueued what the space does not have.
        """
        space, distributions = self._plan.space, self._plan.space.distributions()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Optuna's, of an enqueued value that is out of range
            config = space.walk(lambda p: trial._suggest(p.name, distributions[p.name]))
        return space.free_params(config)

    def _refuse(self, trial_id: int, why: str) -> None:
        """Fails a trial that cannot be run."""
        retries.fail(self._storage, trial_id, Failure(FailureKind.BAD_CONFIG, why))
        self._audience.ended(trial_id)
