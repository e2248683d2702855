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
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from hpo.mlflow_server.uris import obstacle, sqlite_file

OF_TRIAL = "hpo.logged_by_trial"
"""Tag with the number of the trial whose code has made a run."""

IS_NESTED = "hpo.is_nested"
"""Tag that says whether the mirror has put such a run under its trial's."""

_URI, _EXPERIMENT, _TAGS = "MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_NAME", "MLFLOW_RUN_CONTEXT"

BEYOND_TRIALS = 1_000_000
"""Numbers from here on are of fits beside a study, which have no run to be nested under."""

_IMPATIENT = {"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0", "MLFLOW_HTTP_REQUEST_TIMEOUT": "10"}
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
        """What a run carries that the code of the trial of this number has made."""
        to_nest = {IS_NESTED: "false"} if trial < BEYOND_TRIALS else {}
        return {"hpo.study": self.study, OF_TRIAL: str(trial), **to_nest}

    def environment(self, trial: int) -> dict[str, str]:
        """What tells MLflow in another process of the trial of this number."""
        chosen = any(_told.outside(name) is not None for name in _CHOSEN)
        return {
            _URI: self.absolute_uri,
            _TAGS: json.dumps(self.tags(trial)),
            **({} if chosen else {_EXPERIMENT: self.study}),
        }

    @contextmanager
    def in_this_thread(
        self, trial: int, *, is_stop: Callable[[BaseException], bool] = lambda _: False
    ) -> Iterator[None]:
        """Tells MLflow in this process, and ends the runs that code leaves open in this thread.

        Else the next trial would log to them. One trial at a time can be told of.

        Args:
            trial: Its number.
            is_stop: Whether what was raised means that a trial is stopped, as GeneratorExit does.
        """
        environment = self.environment(trial)
        outer, status = _active_run(), "FAILED"
        _told.begin(environment)
        try:
            yield
            status = "FINISHED"
        except BaseException as raised:
            if isinstance(raised, GeneratorExit) or is_stop(raised):
                status = "KILLED"
            raise
        finally:
            _end_runs(until=outer, status=status)
            _told.end(environment)

    def make_ready(self, *files: Path) -> None:
        """Makes the study's experiment before code does, if its files speak of MLflow at all.

        MLflow looks for an experiment and then makes it, and takes seconds for the tables of a
        local database: a second process that does so at the same time fails. Where MLflow is away
        the mirror says so.

        Args:
            files: What the code is in, as far as that is known; they need not exist.
        """
        if obstacle(self.uri) or not any(map(_speaks_of_mlflow, files)):
            return
        with suppress(Exception), _impatient():
            from hpo.mlflow_server.script_runs import open_experiment  # imports mlflow: 3 seconds

            open_experiment(self)


class _Told:
    """What MLflow is told in this process, and by whom: the trial that began last.

    A function that was stopped and goes on all the same must not take back what the next trial
    has told.
    """

    def __init__(self) -> None:
        self._last: Mapping[str, str] | None = None
        self._before: dict[str, str | None] = {}

    def outside(self, name: str) -> str | None:
        """What the environment has, or had before trials changed it."""
        return os.environ.get(name) if self._last is None else self._before.get(name)

    def begin(self, environment: Mapping[str, str]) -> None:
        """Changes the environment."""
        if self._last is None:
            self._before = {name: os.environ.get(name) for name in (_URI, _TAGS, *_CHOSEN)}
        self._last = environment
        os.environ.update(environment)

    def end(self, environment: Mapping[str, str]) -> None:
        """Takes it back, but for what somebody has changed meanwhile."""
        if self._last is not environment:
            return
        self._last = None
        ours = [name for name, value in environment.items() if os.environ.get(name) == value]
        _restore({name: self._before[name] for name in ours})


_told = _Told()


@contextmanager
def _impatient() -> Iterator[None]:
    """A context in which MLflow does not try for minutes to reach a server."""
    before = {name: os.environ.get(name) for name in _IMPATIENT}
    os.environ.update(_IMPATIENT)
    try:
        yield
    finally:
        _restore(before)


def _restore(before: Mapping[str, str | None]) -> None:
    """Sets variables of the environment as they were."""
    for name, value in before.items():
        os.environ.pop(name, None)
        if value is not None:
            os.environ[name] = value


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


def _speaks_of_mlflow(file: Path) -> bool:
    if not file.is_file():  # a pipe would have us wait
        return False
    try:
        with file.open("rb") as text:
            return b"mlflow" in text.read(_LONGEST_CODE).lower()
    except OSError:
        return False
