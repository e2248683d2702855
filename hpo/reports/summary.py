"""A study as JSON, under keys that stay."""

from __future__ import annotations

from typing import Any

from hpo.catalog import ORIGIN, SPEC, StudyRecord
from hpo.trial import TrialRecord


def summary(study: StudyRecord) -> dict[str, Any]:
    """What ``hpo show --json`` prints, and the most of ``hpo run --json``."""
    spec = study.attrs.get(SPEC, {})
    best = study.best()
    return {
        "study": study.name,
        "state": study.state,
        "state_reason": study.state_reason,
        "metric": study.metric,
        "direction": "maximize" if study.maximize else "minimize",
        "sampler": spec.get("search", {}).get("sampler"),
        "stopping": spec.get("stopping", {}).get("rule"),
        "n_trials": study.counts(),
        "best": best_json(best) if best else None,
        "baseline": _baseline_json(study),
        "storage": study.storage.url,
        "directory": str(study.directory) if study.directory else None,
        "origin": study.attrs.get(ORIGIN),
    }


def _baseline_json(study: StudyRecord) -> dict[str, Any] | None:
    baseline = study.baseline()
    if baseline is None:
        return None
    return {"trial": baseline.number, "state": baseline.state, "value": baseline.value}


def best_json(best: TrialRecord) -> dict[str, Any]:
    """What ``hpo best --json`` has under ``best``."""
    return {
        "trial": best.number,
        "value": best.value,
        "params": dict(best.params),
        "metrics": dict(best.metrics),
        "mlflow_run_id": best.mlflow_run_id,
    }
