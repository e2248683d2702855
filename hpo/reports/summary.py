"""A study as JSON, under keys that stay."""

from __future__ import annotations

import json
import math
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
        "storage": study.storage.url,
        "directory": str(study.directory) if study.directory else None,
        "origin": study.attrs.get(ORIGIN),
    }


def best_json(best: TrialRecord) -> dict[str, Any]:
    """What ``hpo best --json`` has under ``best``."""
    return {
        "trial": best.number,
        "value": best.value,
        "params": dict(best.params),
        "metrics": dict(best.metrics),
        "mlflow_run_id": best.mlflow_run_id,
    }


def dumps(document: object) -> str:
    """Strict JSON: NaN and infinity, which JSON does not have, become null."""
    return json.dumps(_strict(document), indent=2)


def _strict(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: _strict(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_strict(inner) for inner in value]
    return value
