"""Which trials of a study were trained on the same data, as far as hpo knows."""

from __future__ import annotations

from typing import Any

from hpo.catalog import StudyRecord
from hpo.words import counted

_COMPARED = ("COMPLETE", "PRUNED", "RUNNING")


def trained_on(study: StudyRecord) -> list[dict[str, Any]]:
    """For each data set its digest, how many trials have it, and the first of them."""
    found: dict[str, dict[str, Any]] = {}
    for trial in study.trials():
        if trial.data is None or trial.state not in _COMPARED:
            continue
        first = {"digest": trial.data, "n_trials": 0, "first_trial": trial.number}
        found.setdefault(trial.data, first)["n_trials"] += 1
    return list(found.values())


def sentence(study: StudyRecord) -> str:
    """That trials do not compare; empty where all have the same data."""
    found = trained_on(study)
    if len(found) < 2:
        return ""
    parts = (
        f"that of trial {each['first_trial']} in {counted(each['n_trials'], 'trial')}"
        for each in found
    )
    return f"{', '.join(parts)}; their values do not compare"
