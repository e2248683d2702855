"""What all stopping rules share: they say why."""

from __future__ import annotations

from abc import abstractmethod

from optuna.pruners import BasePruner
from optuna.study import Study
from optuna.trial import FrozenTrial


class Rule(BasePruner):
    """An Optuna pruner that says why it stopped a trial.

    Attributes:
        name: What it is called in a study file.
    """

    name: str

    @abstractmethod
    def reason(self, study: Study, trial: FrozenTrial) -> str:
        """Why a trial was stopped, in one phrase for people that begins with the rule's name.

        Args:
            study: Its study, for the trials that it was compared with.
            trial: The trial that `prune` has just stopped, as it was then.
        """
