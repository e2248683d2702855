"""What a trial of a study runs."""

from __future__ import annotations

from hpo.catalog import StudyRecord
from hpo.samplers import derive_seed
from hpo.trial import Job, TrialRecord

_TRAINING = 1  # keeps a trial's seed apart from its sampler's


def job_of(study: StudyRecord, trial: TrialRecord) -> Job:
    """What a trial of a study runs, or ran; running it again trains the same network.

    Raises:
        ObjectiveError: the study was not made by hpo.
    """
    plan, folder = study.plan, study.directory_of(trial.number)
    assert folder is not None  # noqa: S101 - a study with a plan has one
    seed = derive_seed(plan.spec.search.seed, trial.number, _TRAINING)
    config = plan.config(trial.params)
    if trial.micro_batch is not None:
        config["micro_batch"] = trial.micro_batch
    return Job(trial.number, config, seed, folder)
