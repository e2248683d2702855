"""A study as JSON, under keys that stay."""

from __future__ import annotations

from typing import Any

from hpo.catalog import ORIGIN, SPEC, StudyRecord
from hpo.trial import TrialRecord


def summary(study: StudyRecord) -> dict[str, Any]:
    """What ``hpo show --json`` prints, and the most of ``hpo run --json``."""
    spec = study.attrs.get(SPEC, {})
    aims, ranked = study.aims, study.ranked()
    front = [trial for trial in ranked if trial.rank == 1]
    return {
        "study": study.name,
        "state": study.state,
        "state_reason": study.state_reason,
        "metric": study.metric,
        "direction": "maximize" if study.maximize else "minimize",
        "metrics": dict(zip(aims.metrics, aims.directions, strict=True)),
        "constraints": dict(aims.constraints),
        "sampler": spec.get("search", {}).get("sampler"),
        "stopping": spec.get("stopping", {}).get("rule"),
        "n_trials": study.counts(),
        "best": best_json(front[0]) if front else None,
        "why_no_best": study.why_no_best() or None,
        "front": [best_json(trial) for trial in front],
        "hypervolume": aims.hypervolume(ranked),
        "baseline": _baseline_json(study),
        "storage": study.storage.url,
        "directory": str(study.directory) if study.directory else None,
        "origin": study.attrs.get(ORIGIN),
    }


def _baseline_json(study: StudyRecord) -> dict[str, Any] | None:
    baseline = study.baseline()
    if baseline is None:
        return None
    return {
        "trial": baseline.number,
        "state": baseline.state,
        "value": baseline.value,
        "values": dict(baseline.values),
        "feasible": baseline.feasible,
    }


def best_json(best: TrialRecord) -> dict[str, Any]:
    """What ``hpo best --json`` has under ``best``, and for each trial of ``front``."""
    return {
        "trial": best.number,
        "value": best.value,
        "values": dict(best.values),
        "params": dict(best.params),
        "metrics": dict(best.metrics),
        "mlflow_run_id": best.mlflow_run_id,
    }
