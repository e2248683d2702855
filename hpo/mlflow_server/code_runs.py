"""Runs in MLflow of the user's own code: functions and commands that log there by themselves.

MLflow reads from the environment where to log, into which experiment, and which tags a new run
gets. So code that knows nothing of hpo logs beside the study's mirror, and what it leaves carries
the number of its trial; the mirror nests it under the trial's run. It stays a run of its own: its
params and metrics never meet those that hpo writes.
"""

from __future__ import annotations

import json
import os
import posixpath
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.mlflow_server.uris import sqlite_file

OF_TRIAL = "hpo.logged_by_trial"
"""Tag with the number of the trial whose code has made a run."""

IS_NESTED = "hpo.is_nested"
"""Tag that says whether the mirror has put such a run under its trial's."""

_URI, _EXPERIMENT, _TAGS = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_CONTEXT"
_LONGEST_CODE = 2**20  # bytes; what is longer is data
_CHOSEN = _EXPERIMENT, "MLFLOW_EXPERIMENT_ID"  # by the user, if they are there


@dataclass(frozen=True)
class CodeRuns:
    """Where the code of a study's trials logs, if it logs.

    Args:
        uri: The tracking URI.
        study: Name of the study and of its experiment.
    """

    uri: str
    study: str

    @property
    def absolute_uri(self) -> str:
        """A URI that means the same in another folder."""
        file = sqlite_file(self.uri)
        if file is None or posixpath.isabs(file):
            return self.uri
        head, _, rest = self.uri.partition(":///")
        return f"{head}:///{Path.cwd()}/{rest}"

    def tags(self, trial: int) -> dict[str, str]:
        """What such a run carries."""
        return {"hpo.study": self.study, OF_TRIAL: str(trial), IS_NESTED: "false"}

    def environment(self, trial: int) -> dict[str, str]:
        """What tells MLflow in another process."""
        chosen = any(name in os.environ for name in _CHOSEN)
        return {
            _URI: self.absolute_uri,
            _TAGS: json.dumps(self.tags(trial)),
            **({} if chosen else {_EXPERIMENT: self.study}),
        }

    @contextmanager
    def in_this_thread(
        self, trial: int, *, stops: type[BaseException] = GeneratorExit
    ) -> Iterator[None]:
        """Tells MLflow in this process, and ends the runs that code leaves open in this thread.

        Else the next trial would log to them. One trial at a time can be told of.

        Args:
            trial: Its number.
            stops: What is raised where a trial is stopped, beside GeneratorExit.
        """
        told = self.environment(trial)
        before = {name: os.environ.get(name) for name in told}
        outer, status = _active_run(), "FAILED"
        os.environ.update(told)
        try:
            yield
            status = "FINISHED"
        except (GeneratorExit, stops):
            status = "KILLED"
            raise
        finally:
            _end_runs(until=outer, status=status)
            _restore(told, before)

    def make_ready(self, *files: Path) -> None:
        """Creates a local database before code does, if its files speak of MLflow at all.

        MLflow takes seconds to make its tables, and fails in a second process that looks then.
        """
        file = sqlite_file(self.uri)
        if file is None or file.exists() or not any(map(_speaks_of_mlflow, files)):
            return
        from hpo.mlflow_server.study_runs import create_database  # imports mlflow: 3 seconds

        create_database(self.uri)


def _active_run() -> str | None:
    """The run in which this thread logs."""
    active_run = getattr(sys.modules.get("mlflow"), "active_run", None)
    run = active_run() if active_run else None
    return run.info.run_id if run else None


def _end_runs(until: str | None, status: str) -> None:
    """Ends the runs that were started in this thread since."""
    while _active_run() not in (None, until):
        with suppress(Exception):  # MLflow is away, which no trial fails of
            sys.modules["mlflow"].end_run(status)


def _restore(told: Mapping[str, str], before: Mapping[str, str | None]) -> None:
    """Takes back what was told, unless somebody has changed it meanwhile."""
    for name, value in before.items():
        if os.environ.get(name) != told[name]:
            continue
        if value is None:
            del os.environ[name]
        else:
            os.environ[name] = value


def _speaks_of_mlflow(file: Path) -> bool:
    try:
        with file.open("rb") as text:
            return b"mlflow" in text.read(_LONGEST_CODE).lower()
    except OSError:
        return False
