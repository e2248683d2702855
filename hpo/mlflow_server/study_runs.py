"""How a study lies in MLflow: one experiment, one parent run, one nested run per trial.

One call of MLflow costs 5 to 20 ms on SQLite, so a trial that has ended before anything was written
costs three: create the run with all its tags, log everything in one batch, terminate. Writing
anything twice adds nothing: runs are found again by their tags, and MLflow ignores a metric that is
equal in value, step and time.
"""

from __future__ import annotations

import getpass
import posixpath
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from mlflow import MlflowClient
from mlflow.entities import LifecycleStage, Metric, Param, Run, RunTag
from mlflow.utils.validation import (
    MAX_ENTITY_KEY_LENGTH,
    MAX_PARAM_VAL_LENGTH,
    MAX_TAG_VAL_LENGTH,
)

from hpo.mlflow_server import uris
from hpo.mlflow_server.code_runs import IS_NESTED, OF_TRIAL
from hpo.mlflow_server.pending import PendingTrial, Point
from hpo.mlflow_server.protocol import BesideRun, StudyClosed, StudyOpened

_AT_ONCE = 500  # metrics; MLflow takes 1,000 entities in a batch


class StudyRuns:
    """The runs of one study, found again or created, never doubled.

    Args:
        uri: The tracking URI.
        opened: The study.

    Attributes:
        experiment_id: The study's experiment.
        run_id: The parent run.
        trial_runs: The nested run of each trial that has one.
    """

    def __init__(self, uri: str, opened: StudyOpened) -> None:
        create_database(uri)
        self._client = MlflowClient(uri)
        self._study = opened
        self._opened_ms = _now_ms()
        self.experiment_id = self._open_experiment()
        parents, self.trial_runs = self._find_runs()
        self.run_id = self._resume(parents[0]) if parents else self._create_parent()

    def write_trial(self, pending: PendingTrial, on_run: Callable[[str], None]) -> str:
        """Writes what is pending of a trial.

        Args:
            pending: The trial; what is written is taken out of it.
            on_run: Called with the run's id when the trial has its run.

        Returns:
            The run's id.

        Raises:
            LookupError: the run was deleted in MLflow after a part of the trial was written.
        """
        trial, ended = pending.trial, pending.ended
        if not pending.in_mlflow:
            run_id, tags = self._begin(pending)
            on_run(run_id)
        elif trial in self.trial_runs:
            run_id, tags = self.trial_runs[trial], dict(ended.tags) if ended else {}
        else:
            raise LookupError(f"the run of trial {trial} was deleted in MLflow")
        params = pending.started.params if pending.started and not pending.in_mlflow else {}
        self._client.log_batch(run_id, _metrics(pending.points), _params(params), _tags(tags))
        pending.in_mlflow, pending.replace = True, False
        pending.points.clear()
        if ended:
            self._client.set_terminated(run_id, ended.status, ended.ended_ms)
        return run_id

    def write_points(self, points: Iterable[Point]) -> None:
        """Writes metrics of the parent run."""
        self._client.log_batch(self.run_id, _metrics(points))

    def write_beside(self, beside: BesideRun) -> None:
        """Writes a run that is not a trial, whole, in place of an earlier one of its key."""
        key = f"tags.`hpo.beside` = '{self._study.uid}/{beside.key}'"
        for run in self._client.search_runs([self.experiment_id], key):
            self._client.delete_run(run.info.run_id)
        tags = self._common_tags() | {
            "hpo.beside": f"{self._study.uid}/{beside.key}",
            "mlflow.parentRunId": self.run_id,
            **beside.tags,
        }
        del tags["hpo.study_uid"]  # by which the study's own run and its trials' are found
        run = self._client.create_run(
            self.experiment_id, beside.started_ms, _clean(tags), beside.name
        )
        now, run_id = _now_ms(), run.info.run_id
        points = [Point(name, value, step, now) for name, value, step in beside.points]
        params = _params(beside.params)
        for first in range(0, max(1, len(points)), _AT_ONCE):
            self._client.log_batch(run_id, _metrics(points[first : first + _AT_ONCE]), params)
            params = []
        for file in beside.files:
            self._client.log_artifact(run_id, file)
        self._client.set_terminated(run_id)

    def nest_code_runs(self) -> None:
        """Puts what the trials' own code has logged under the runs of those trials."""
        condition = f"tags.`{IS_NESTED}` = 'false' AND tags.`hpo.study` = '{self._study.study}'"
        for run in self._client.search_runs([self.experiment_id], condition):
            trial = self.trial_runs.get(int(run.data.tags.get(OF_TRIAL, -1)))
            # One that is older is of an earlier study of this name.
            if trial and run.info.start_time >= self._client.get_run(trial).info.start_time:
                tags = {"mlflow.parentRunId": trial, IS_NESTED: "true"}
                self._client.log_batch(run.info.run_id, tags=_tags(tags))

    def write_texts(self, texts: Mapping[str, str]) -> None:
        """Writes text files into the parent run's artifacts."""
        for name, text in texts.items():
            self._client.log_text(self.run_id, text, name)

    def close(self, closed: StudyClosed) -> None:
        """Ends the parent run."""
        self._client.log_batch(self.run_id, tags=_tags(closed.tags))
        self._client.set_terminated(self.run_id, closed.status)

    def _begin(self, pending: PendingTrial) -> tuple[str, dict[str, str]]:
        """Finds, replaces or creates a trial's run; returns it and the tags still to be set."""
        tags = self._tags_of(pending)
        run_id = self._run_of(pending)
        if run_id and pending.replace:
            self._client.delete_run(run_id)
            del self.trial_runs[pending.trial]
        elif run_id:
            if pending.ended is None:
                self._client.update_run(run_id, status="RUNNING")
            return run_id, tags
        run = self._client.create_run(
            self.experiment_id, _start_ms(pending), _clean(tags), f"trial {pending.trial}"
        )
        self.trial_runs[pending.trial] = run.info.run_id
        return run.info.run_id, {}

    def _run_of(self, pending: PendingTrial) -> str | None:
        """The run that a trial has already, if any.

        What started before the study was opened was found then. Later, a trial may be taken up
        from another driver, whose mirror created the run meanwhile: that costs a look.
        """
        trial = pending.trial
        is_new = pending.started is not None and pending.started.is_new
        is_known = is_new or trial in self.trial_runs or _start_ms(pending) < self._opened_ms
        if not is_known:
            for run in self._search(f"tags.`hpo.trial` = '{trial}'"):
                self.trial_runs[trial] = run.info.run_id
        return self.trial_runs.get(trial)

    def _tags_of(self, pending: PendingTrial) -> dict[str, str]:
        return {
            **self._common_tags(),
            "mlflow.parentRunId": self.run_id,
            "hpo.trial": str(pending.trial),
            **(pending.started.tags if pending.started else {}),
            **(pending.ended.tags if pending.ended else {}),
        }

    def _common_tags(self) -> dict[str, str]:
        return {
            "mlflow.user": _user(),
            "mlflow.source.name": "hpo run",
            "mlflow.source.type": "LOCAL",
            "hpo.study": self._study.study,
            "hpo.study_uid": self._study.uid,
        }

    def _open_experiment(self) -> str:
        experiment = self._client.get_experiment_by_name(self._study.study)
        if experiment is None:
            return self._client.create_experiment(
                self._study.study, tags=dict(self._study.experiment_tags)
            )
        if experiment.lifecycle_stage == LifecycleStage.DELETED:
            self._client.restore_experiment(experiment.experiment_id)
        return str(experiment.experiment_id)

    def _find_runs(self) -> tuple[list[str], dict[int, str]]:
        """The study's parent runs, oldest first, and the newest run of each trial."""
        parents: list[str] = []
        trials: dict[int, str] = {}
        for run in self._search():
            trial = run.data.tags.get("hpo.trial")
            if trial is None:
                parents.append(run.info.run_id)
                continue
            if int(trial) in trials:  # a replaced run came back with its restored experiment
                self._client.delete_run(trials[int(trial)])
            trials[int(trial)] = run.info.run_id
        return parents, trials

    def _search(self, condition: str = "") -> Iterator[Run]:
        """The study's active runs in order of their start."""
        uid = f"tags.`hpo.study_uid` = '{self._study.uid}'"
        query: dict[str, Any] = {
            "filter_string": f"{uid} AND {condition}" if condition else uid,
            "order_by": ["attributes.start_time ASC"],
        }
        page = self._client.search_runs([self.experiment_id], **query)
        yield from page
        while page.token:
            page = self._client.search_runs([self.experiment_id], page_token=page.token, **query)
            yield from page

    def _resume(self, run_id: str) -> str:
        self._client.update_run(run_id, status="RUNNING")
        self._client.log_batch(run_id, tags=_tags(self._study.tags))
        return run_id

    def _create_parent(self) -> str:
        """Creates the parent run, unless another driver of the study does just now."""
        tags = _clean({**self._common_tags(), **self._study.tags})
        run = self._client.create_run(self.experiment_id, _now_ms(), tags, self._study.study)
        parents, _ = self._find_runs()
        if parents and parents[0] != run.info.run_id:
            self._client.delete_run(run.info.run_id)
            return parents[0]
        return str(run.info.run_id)


def create_database(uri: str) -> None:
    """Creates a SQLite database whole or not at all.

    MLflow takes seconds to create its tables, and a second process that looks meanwhile, or a
    kill, leaves it with tables that it can never open again.
    """
    file = uris.sqlite_file(uri)
    if file is None or file.exists():
        return
    with tempfile.TemporaryDirectory(dir=file.parent, prefix=f".{file.name}-") as folder:
        new = Path(folder).absolute() / file.name
        MlflowClient(f"sqlite:///{new}")
        try:
            file.hardlink_to(new)
        except FileExistsError:
            pass  # another process was first
        except OSError:  # a file system without hard links
            new.replace(file)


def _metrics(points: Iterable[Point]) -> list[Metric]:
    # MLflow keeps NaN as such and an infinity as the largest float.
    return [Metric(_name(p.name), float(p.value), p.time_ms, p.step) for p in points]


def _params(params: Mapping[str, object]) -> list[Param]:
    texts = {_name(key): _text(str(value), MAX_PARAM_VAL_LENGTH) for key, value in params.items()}
    return [Param(name, text) for name, text in texts.items()]


def _tags(tags: Mapping[str, str]) -> list[RunTag]:
    return [RunTag(key, value) for key, value in _clean(tags).items()]


def _clean(tags: Mapping[str, str]) -> dict[str, str]:
    return {_name(key): _text(value, MAX_TAG_VAL_LENGTH) for key, value in tags.items()}


def _name(name: str) -> str:
    """A name that MLflow takes: its characters only, and no path that means another."""
    name = re.sub(r"[^/\w.\- :]", "_", name)
    if name.startswith(("/", "..")) or name == "." or posixpath.normpath(name) != name:
        name = re.sub(r"[/.]", "_", name) or "_"
    return name[:MAX_ENTITY_KEY_LENGTH]


def _text(text: str, limit: int) -> str:
    """A text that every database takes: no NUL, no lone surrogate, not too long."""
    text = text.replace("\0", "").encode(errors="replace").decode()
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _start_ms(pending: PendingTrial) -> int:
    if pending.started:
        return pending.started.started_ms
    return min((point.time_ms for point in pending.points), default=_now_ms())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):  # a user id without a name, as in some containers
        return "unknown"
