"""A study as JSON, under keys that stay."""

from __future__ import annotations

import time
from typing import Any

from hpo.catalog import ORIGIN, SPEC, StudyRecord
from hpo.reports.stopping import early_stopping
from hpo.reports.trained_on import trained_on
from hpo.storage import Driver
from hpo.trial import DRIVER, TrialRecord


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
        "early_stopping": early_stopping(study),
        "n_trials": study.counts(),
        "trained_on": trained_on(study),
        "drivers": [_driver_json(driver) for driver in study.drivers()],
        "running": _running_json(study),
        "best": best_json(front[0]) if front else None,
        "why_no_best": study.why_no_best() or None,
        "front": [best_json(trial) for trial in front],
        "hypervolume": aims.hypervolume(ranked),
        "baseline": _baseline_json(study),
        "storage": study.storage.url,
        "directory": str(study.directory) if study.directory else None,
        "origin": study.attrs.get(ORIGIN),
    }


def _driver_json(driver: Driver) -> dict[str, Any]:
    about = {key: driver.about.get(key) for key in ("host", "pid")}
    return {**about, "silent_seconds": driver.silence}


def _running_json(study: StudyRecord) -> list[dict[str, Any]]:
    seconds, told = study.seconds_running(), []
    for trial in study.running():
        record, driver = study.aims.read(trial), trial.system_attrs.get(DRIVER, {})
        since = seconds.get(record.id, time.time() - (record.started_ms or 0) / 1000)
        told.append(
            {
                "trial": trial.number,
                "attempt": record.attempts,
                "seconds": round(since, 3),
                "n_steps": len(trial.intermediate_values),
                **{key: driver.get(key) for key in ("host", "pid", "slot", "gpus")},
            }
        )
    return told


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
