"""The mirror in MLflow: what happens in a study, told to `mlflow_server`.

MLflow is never the truth. What it misses, because it was away or its process died, is told
again from the storage and the run directory: at the start of the next run, or by ``hpo sync``.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from hpo import metrics_log
from hpo.catalog import LOG_NAME, SPEC, StudyRecord
from hpo.listeners import Listener, Outcome
from hpo.mlflow_server import Tracker
from hpo.mlflow_server.protocol import (
    BesideRun,
    Status,
    StudyClosed,
    StudyMetric,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from hpo.reports import stopping
from hpo.reports.leaderboard import as_markdown
from hpo.reports.strict_json import dumps
from hpo.reports.summary import best_json, summary
from hpo.search_spaces import Scalar
from hpo.trainers import Report
from hpo.trial import MLFLOW_RUN, TrialRecord
from hpo.words import counted

_STATUSES: Mapping[str, Status] = {
    "COMPLETE": "FINISHED",
    "PRUNED": "FINISHED",  # MLflow has no such word; the tag hpo.stopped_by says it
    "FAIL": "FAILED",
    "WAITING": "KILLED",
}
_CLOSE_SECONDS = 60.0
_CLOSE_SECONDS_PER_TRIAL = 0.5
_CLOSE_SECONDS_IN_TROUBLE = 10.0


class MlflowListener(Listener):
    """Mirrors a study into MLflow, from a process of its own.

    Args:
        uri: MLflow's tracking URI.
        warn: Called with a sentence when MLflow cannot be reached, or when something is missing
            there at the end.
        in_trouble: What follows from MLflow's being away; ``{study}`` is the study's name.
        everything: Whether to tell of all finished trials at the beginning, and not only of
            those that MLflow is known to miss.
    """

    def __init__(
        self,
        uri: str,
        warn: Callable[[str], None],
        in_trouble: str = "The search goes on without it; nothing is lost. "
        "When it is back: hpo sync {study}",
        *,
        everything: bool = False,
    ) -> None:
        self._everything = everything
        self._consequence = in_trouble
        self._uri = uri
        self._warn = warn
        self._tracker: Tracker | None = None
        self._row_ids: dict[int, int] = {}  # of trials that MLflow does not have yet, by number
        self._logged: dict[int, dict[str, float]] = {}  # last of each metric, by running trial
        self._in_trouble = False
        self.n_mirrored = 0

    def opened(self, study: StudyRecord) -> None:
        """Opens the experiment and tells what MLflow missed of earlier runs."""
        self._study = study
        self._tracker = Tracker(
            self._uri,
            study=study.name,
            uid=study.uid,
            tags=_study_tags(study),
            artifacts={"study.yaml": _as_yaml(study.attrs.get(SPEC, {}))},
            experiment_tags={
                # What MLflow's pages show first: models rather than language models' traces.
                "mlflow.experimentKind": "custom_model_development",
                "mlflow.experiment.primaryMetric.name": study.metric,
                "mlflow.experiment.primaryMetric.greaterIsBetter": str(study.maximize),
            },
            on_mirrored=self._note_mirrored,
            on_trouble=self._note_trouble,
            log_path=study.directory / LOG_NAME if study.directory else None,
        )
        others = self._others(study)
        for trial in study.trials():
            finished = trial.state in ("COMPLETE", "PRUNED", "FAIL") and trial.id not in others
            if finished and (self._everything or trial.mlflow_run_id is None):
                self._tell_again(trial)

    def _others(self, study: StudyRecord) -> set[int]:
        """Trials of which the mirrors of other living drivers tell."""
        if self._everything:
            return set()
        leases = study.storage.leases
        living = {driver.id for driver in study.drivers()}
        ids = [trial.id for trial in study.trials() if trial.mlflow_run_id is None]
        return {i for i, lease in leases.of(ids).items() if lease.driver_id in living}

    def started(self, trial: TrialRecord, config: Mapping[str, Scalar]) -> None:
        """Starts the trial's run, in place of an earlier attempt's."""
        self._start(trial, config, fresh=True)

    def reported(self, number: int, report: Report) -> None:
        """Logs a step."""
        self._logged.setdefault(number, {}).update(report.metrics)
        self._send(TrialReported(number, report.step, dict(report.metrics), _now_ms()))

    def ended(self, trial: TrialRecord, best: TrialRecord | None) -> None:
        """Ends the trial's run, and plots the best value so far."""
        self._row_ids.setdefault(trial.number, trial.id)
        ended_ms = trial.ended_ms or _now_ms()
        logged = self._logged.pop(trial.number, {})
        # What a function returns at its end was not a step.
        returned = {k: v for k, v in trial.metrics.items() if logged.get(k) != v}
        self._send(
            TrialEnded(trial.number, _STATUSES[trial.state], ended_ms, _tags(trial), returned)
        )
        if best is not None and best.value is not None and trial.state == "COMPLETE":
            self._send(StudyMetric("best_value", best.value, trial.number, ended_ms))

    def closed(self, study: StudyRecord, outcome: Outcome) -> None:
        """Writes what was found to the study's run, and waits until MLflow has everything."""
        if self._tracker is None:
            return
        self._tracker.poll()
        statuses: dict[str, Status] = {"interrupted": "KILLED", "failed": "FAILED"}
        final = StudyClosed(
            statuses.get(outcome.state, "FINISHED"), _study_tags(study), _artifacts(study)
        )
        seconds = _CLOSE_SECONDS + _CLOSE_SECONDS_PER_TRIAL * len(self._row_ids)
        try:
            self._tracker.close(final, _CLOSE_SECONDS_IN_TROUBLE if self._in_trouble else seconds)
        except KeyboardInterrupt:  # somebody does not want to wait
            self._tracker.kill()
            self._tracker.poll()
        if self._row_ids and not self._in_trouble:  # else it was said already
            n = counted(len(self._row_ids), "trial")
            self._warn(
                f"MLflow misses {n} of this study. Nothing is lost; "
                f"when it is back: hpo sync {study.name}"
            )

    def tell(self, run: BesideRun) -> None:
        """Writes a run that is not a trial."""
        self._send(run)

    def kill(self) -> None:
        """Ends the mirror at once."""
        if self._tracker is not None:
            self._tracker.kill()

    def _start(self, trial: TrialRecord, config: Mapping[str, Scalar], *, fresh: bool) -> None:
        self._row_ids[trial.number] = trial.id
        started_ms = trial.started_ms or _now_ms()
        is_new = fresh and trial.attempts == 1
        self._send(
            TrialStarted(trial.number, dict(config), started_ms, _tags(trial), fresh, is_new)
        )

    def _send(self, message: Any) -> None:
        if self._tracker is not None:
            self._tracker.send(message)
            self._tracker.poll()

    def _note_mirrored(self, number: int, run_id: str) -> None:
        self._in_trouble = False
        row_id = self._row_ids.pop(number, None)
        self.n_mirrored += 1
        if row_id is not None:
            self._study.storage.annotate(row_id, MLFLOW_RUN, run_id)

    def _note_trouble(self, message: str) -> None:
        if not self._in_trouble:
            self._warn(f"{message} {self._consequence.format(study=self._study.name)}")
        self._in_trouble = True

    def _tell_again(self, trial: TrialRecord) -> None:
        # What MLflow has of it already is not written twice.
        self._start(trial, self._study.plan.flat_config(trial.params), fresh=False)
        for step, time_ms, metrics in _steps(self._study, trial):
            self._logged.setdefault(trial.number, {}).update(metrics)
            self._send(TrialReported(trial.number, step, metrics, time_ms))
        self.ended(trial, None)


def log_beside(study: StudyRecord, uri: str, run: BesideRun, warn: Callable[[str], None]) -> None:
    """Writes a run that is not a trial into a study's experiment; no failure of MLflow's is raised.

    Args:
        study: The study, whose trials MLflow is told of, too, if it misses some.
        uri: MLflow's tracking URI.
        run: What to write.
        warn: Called with a sentence when it is not there.
    """
    listener = MlflowListener(uri, warn, "What was found is in the study's folder all the same.")
    try:
        listener.opened(study)
        listener.tell(run)
        listener.closed(study, Outcome(study.state))
    finally:
        listener.kill()


def sync(study: StudyRecord, uri: str, warn: Callable[[str], None]) -> int:
    """Brings MLflow up to date with the storage; what is there already is not written twice.

    Returns:
        How many finished trials MLflow has now.
    """
    listener = MlflowListener(
        uri, warn, "Nothing is lost; try again when it is back.", everything=True
    )
    listener.opened(study)
    listener.closed(study, Outcome(study.state))
    return listener.n_mirrored


def _steps(study: StudyRecord, trial: TrialRecord) -> Iterator[tuple[int, int, dict[str, float]]]:
    """A trial's steps with their times and metrics.

    They come from its run directory; where that is gone, the storage has the objective alone.
    """
    folder = study.directory_of(trial.number)
    entries = None if folder is None else metrics_log.read(folder)
    if entries is not None:
        for entry in entries:
            yield entry["step"], entry["time_ms"], entry["metrics"]
        return
    values = study.storage.get_trial(trial.id).intermediate_values
    for step, value in values.items():
        yield step, trial.ended_ms or _now_ms(), {study.metric: value}


def _tags(trial: TrialRecord) -> dict[str, str]:
    tags = {"hpo.state": trial.state, "hpo.attempts": str(trial.attempts)}
    if trial.is_baseline:
        tags["hpo.baseline"] = "true"
    if trial.checks and trial.feasible is not None:
        tags["hpo.feasible"] = str(trial.feasible).lower()
    if trial.stopped_by:
        tags["hpo.stopped_by"] = trial.stopped_by
    if stopping.is_audited(trial):
        tags["hpo.audited"] = "true"
    if trial.failure:
        tags["hpo.failure"] = f"{trial.failure.kind}: {trial.failure.message}"
    return tags


def _study_tags(study: StudyRecord) -> dict[str, str]:
    seen = summary(study)
    tags = {
        "hpo.state": seen["state"],
        "hpo.metric": ", ".join(seen["metrics"]),
        "hpo.direction": ", ".join(seen["metrics"].values()),
        "hpo.sampler": str(seen["sampler"]),
        "mlflow.note.content": as_markdown(study),
    }
    best = study.best()
    if best:
        tags |= {"hpo.best_trial": str(best.number), "hpo.best_value": str(best.value)}
        tags |= {f"best.{name}": str(value) for name, value in best.params.items()}
    if sentence := stopping.sentence(study):
        tags["hpo.early_stopping"] = sentence
    if study.aims.several:
        tags["hpo.front"] = ", ".join(str(each["trial"]) for each in seen["front"])
    return tags


def _artifacts(study: StudyRecord) -> dict[str, str]:
    best = study.best()
    artifacts = {"leaderboard.md": as_markdown(study), "summary.json": dumps(summary(study))}
    if best:
        artifacts["best.json"] = dumps(best_json(best))
    drawings = sorted(study.directory.glob("*.svg")) if study.directory else []
    return artifacts | {file.name: file.read_text(encoding="utf-8") for file in drawings}


def _as_yaml(values: Mapping[str, Any]) -> str:
    from ruamel.yaml import YAML

    text = io.StringIO()
    yaml = YAML(typ="safe", pure=True)
    yaml.default_flow_style = False
    yaml.dump(dict(values), text)
    return text.getvalue()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
