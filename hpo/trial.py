"""What a trial is: the job that runs, the events it sends, and the record that stays.

The words (DESIGN: *spec* is what the user wrote): *params* were sampled, the *config* runs.
"""

from __future__ import annotations

import errno
import os
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeAlias

from hpo.errors import close
from hpo.requirements import Check
from hpo.search_spaces import Scalar
from hpo.trainers import CodeError, ConfigError, DataError, Diverged, Report
from hpo.words import shortened

if TYPE_CHECKING:
    from optuna.trial import FrozenTrial

# Where Optuna's tables keep what Optuna has no column for.
METRICS = "metrics"  # a user attribute, since users look for it; the others are system attributes
WALL_SECONDS = "hpo:wall_seconds"
STOPPED_BY = "hpo:stopped_by"
FORECAST = "hpo:forecast"  # of a condemned trial, what was expected of it (`hpo.pruners.Decision`)
FAILURE = "hpo:failure"
ATTEMPTS = "hpo:attempts"
DRIVER = "hpo:driver"
HISTORY = "hpo:history"  # of attempts that did not come to their end
GPU_SECONDS = "hpo:gpu_seconds"
MICRO_BATCH = "hpo:micro_batch"
SUGGESTED = "hpo:suggested"
ENQUEUED = "fixed_params"  # Optuna's own: what somebody enqueued
BASELINE = "hpo:baseline"
MLFLOW_RUN = "hpo:mlflow_run"
N_STEPS = "hpo:n_steps"  # of several objectives; of one, Optuna counts them
CONSTRAINTS = "constraints"  # Optuna's own: above 0 is violated, to its samplers and `best_trial`


_HINTS = {
    "'indices' to have one of the following scalar types": (
        "; a trainer's features are float32, but for integers of its data other than uint8: give "
        "ids as int64"
    ),
    r"same dtype, but got:? [Ll]ong|Input type \(long int\)": (
        "; integers of a trainer's data reach your own network as int64: give floats, or take "
        "`x.float()`"
    ),
}
"""What to type next, by what PyTorch says of features of the other kind."""
_OURS = f"{Path(__file__).parent}{os.sep}"
_OF_A_DATACLASS = re.compile(r'File "<string>", line \d+, in __init__')  # what it generates
_LIBRARY = re.compile(
    r"[/\\](site|dist)-packages[/\\]|[/\\]lib[/\\]python[\d.]+[/\\]|^<(?!stdin>|string>)"
)
_NO_ROOM = errno.ENOSPC, errno.EDQUOT, errno.EFBIG


class FailureKind(StrEnum):
    """Why a trial failed.

    Attributes:
        OUT_OF_MEMORY: It did not fit into the device's memory, or the machine's.
        DIVERGED: A metric became NaN or infinite.
        BAD_CONFIG: Its configuration cannot be trained, or not on this data or device.
        BAD_DATA: The data cannot be had.
        NO_METRIC: It came to its end without what is optimised.
        CRASHED: Its code raised something else, or ended with an exit code.
        TIMED_OUT: It took longer than `run.trial_timeout`.
        LOST: Its process or machine went away.
    """

    OUT_OF_MEMORY = "OUT_OF_MEMORY"
    DIVERGED = "DIVERGED"
    BAD_CONFIG = "BAD_CONFIG"
    BAD_DATA = "BAD_DATA"
    NO_METRIC = "NO_METRIC"
    CRASHED = "CRASHED"
    TIMED_OUT = "TIMED_OUT"
    LOST = "LOST"


_MEANT = MappingProxyType(
    {
        FailureKind.DIVERGED: (Diverged, OverflowError, FloatingPointError),
        FailureKind.BAD_CONFIG: (ConfigError,),
        FailureKind.BAD_DATA: (DataError,),
    }
)
"""The exceptions that mean a kind of failure; of others it is CRASHED."""


@dataclass(frozen=True)
class Failure:
    """Why a trial failed: a value, so that the study goes on.

    Args:
        kind: For programs.
        message: One sentence, for people.
        traceback: Python's, where there was one.
    """

    kind: FailureKind
    message: str
    traceback: str = ""

    def __post_init__(self) -> None:
        # Whatever a program said, it is to be stored and shown: no lone surrogates, which have no
        # bytes, and nothing that a terminal would obey.
        object.__setattr__(self, "message", _printable(self.message))
        object.__setattr__(self, "traceback", _printable(self.traceback))

    @classmethod
    def of(cls, error: BaseException) -> Failure:
        """The failure that an exception in a trial means."""
        # torch.OutOfMemoryError by its name: a search must not import torch to find out.
        said = _said(error)
        named = "OutOfMemory" in type(error).__name__ or "can't allocate memory" in said
        if isinstance(error, MemoryError) or named:
            kind = FailureKind.OUT_OF_MEMORY
        else:
            meant = (kind for kind, errors in _MEANT.items() if isinstance(error, errors))
            kind = next(meant, FailureKind.CRASHED)
        # These are sentences already.
        ours = isinstance(error, (CodeError, ConfigError, DataError, Diverged))
        message = said if ours else f"{type(error).__name__}: {said}".rstrip(": ")
        hint = next((hint for said, hint in _HINTS.items() if re.search(said, message)), "")
        text = "".join(traceback.format_exception(error))
        # The traceback has all of it.
        return cls(kind, (message if ours else shortened(message)).rstrip(".") + hint, text)

    @classmethod
    def without(cls, metric: str, metrics: Iterable[str]) -> Failure:
        """The failure of a trial that ended without a metric, and reported others, or none."""
        reported = ", ".join(metrics) or "nothing"
        message = f"no metric '{metric}' was reported; reported was: {reported}"
        return cls(FailureKind.NO_METRIC, message)

    @classmethod
    def diverged(cls, metric: str, value: float, step: int | None = None) -> Failure:
        """The failure of a trial whose metric became NaN or infinite."""
        where = "" if step is None else f" at step {step}"
        return cls(FailureKind.DIVERGED, f"{metric} became {value}{where}")

    @property
    def summary(self) -> str:
        """Kind and message in one line."""
        return f"{self.kind}: {' '.join(self.message.split())}"

    @property
    def sentence(self) -> str:
        """The message to its full stop, or to the mark that it ends with."""
        return self.message if self.message.endswith(("?", "!")) else f"{self.message}."

    @property
    def found_disk_full(self) -> bool:
        """Whether there was no room to write: not the trial's fault, and any other's next."""
        return any(f"[Errno {number}]" in self.traceback for number in _NO_ROOM)

    @property
    def place(self) -> str:
        """The innermost line of the user's code, ``File "train.py", line 4, in train``.

        Of a library's, where none of it is the user's; empty where all of it is hpo's. Of a command
        that is not Python it is the end of what it printed.
        """
        lines = [line.strip() for line in self.traceback.splitlines() if line.startswith("  File ")]
        lines = [line for line in lines if not _OF_A_DATACLASS.fullmatch(line)]
        if not lines:
            return self.traceback.strip("\n")
        others = [line for line in lines if not _file_of(line).startswith(_OURS)]
        own = [line for line in others if not _LIBRARY.search(_file_of(line))]
        return next(reversed(own or others), "")


def _file_of(line: str) -> str:
    """The file in ``File "train.py", line 4, in train``."""
    return line.partition('"')[2].partition('"')[0]


def _said(error: BaseException) -> str:
    """What an exception says; the user's own may fail even in that."""
    try:
        return str(error)
    except Exception as another:  # whose own text may be no better
        return f"its __str__ raises {type(another).__name__}"


def _printable(text: str) -> str:
    return "".join(c if c.isprintable() or c in "\n\t" else "\ufffd" for c in text)


class Config(Mapping[str, Any]):
    """A configuration: a mapping whose keys also read as attributes, ``config.learning_rate``."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = dict(values)

    def __getitem__(self, key: str) -> Any:
        return self._values[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_values"][name]
        except KeyError:
            known = self.__dict__.get("_values", {})
            near = close(name, known)
            instead = f"did you mean '{near}'?" if near else "add it to `space`"
            message = f"no '{name}' in this configuration: {', '.join(known)}; {instead}"
            raise AttributeError(message) from None

    def __setattr__(self, name: str, value: Any) -> None:
        if name in self.__dict__.get("_values", ()) and not name.startswith("_"):
            message = f"'{name}' is a parameter, which stays what it is; take a variable instead"
            raise AttributeError(message)
        super().__setattr__(name, value)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._values})"

    @property
    def config(self) -> dict[str, Any]:
        """The configuration as a plain dict, for libraries that want one."""
        return dict(self)


@dataclass(frozen=True)
class Job:
    """One configuration to run, and all that an executor needs to know of it.

    Args:
        trial: Number of the trial in its study, from 0.
        config: What runs.
        seed: Seeds everything random in this trial; follows from the study's seed and `trial`.
        directory: The trial's own folder (metrics.jsonl, checkpoints).
    """

    trial: int
    config: Mapping[str, Scalar]
    seed: int
    directory: Path


@dataclass(frozen=True)
class Expected:
    """What a stopped trial would have come to, as it was forecast.

    Args:
        mean: Of its final value.
        std: Of the same.
    """

    mean: float
    std: float

    @classmethod
    def of(cls, trial: FrozenTrial) -> Expected | None:
        """What a PRUNED trial was stopped for; None of others, and where nobody forecast it."""
        forecast = trial.system_attrs.get(FORECAST)
        if forecast is None or trial.state.name != "PRUNED":
            return None
        return cls(forecast["mean"], forecast["std"])


def is_unheeded(state: str, forecast: Mapping[str, Any] | None, last_step: int | None) -> bool:
    """Whether a trial is complete that was to stop, as its code ran on beyond the verdict.

    One that ended there has heeded it, and returned what there was; an audit was let run on.

    Args:
        state: Optuna's.
        forecast: What it was condemned by, if it was.
        last_step: The last that it reported.
    """
    if state != "COMPLETE" or forecast is None or forecast.get("audited"):
        return False
    return last_step is not None and last_step > forecast["step"]


@dataclass(frozen=True)
class Reported:
    """A running trial measured itself."""

    trial: int
    report: Report


ITSELF = "the trial itself"
"""What stopped a trial that raised TrialPruned and said no more."""


@dataclass(frozen=True)
class Stopped:
    """A trial that ended itself early by raising `optuna.TrialPruned`."""

    reason: str


def is_pruned(raised: BaseException) -> bool:
    """Whether a trial's code has raised `optuna.TrialPruned`.

    Only where Optuna is imported can it have; a worker that need not import it starts in half the
    time.
    """
    kind = getattr(sys.modules.get("optuna.exceptions"), "TrialPruned", ())
    return isinstance(raised, kind)


@dataclass(frozen=True)
class Ended:
    """A trial's code ended: final metrics, or why there are none."""

    trial: int
    result: Mapping[str, float] | Stopped | Failure


@dataclass(frozen=True)
class Lost:
    """The process in which a trial ran died, through no fault of this driver.

    Args:
        trial: Number of the trial.
        failure: What to say of it if it is not tried again.
    """

    trial: int
    failure: Failure


@dataclass(frozen=True)
class Drained:
    """A trial that was asked to drain has ended after a report, to be taken up again later."""

    trial: int


Event: TypeAlias = Reported | Ended | Lost | Drained


@dataclass(frozen=True)
class TrialRecord:
    """A trial as the storage knows it, ready to be shown.

    Args:
        id: Its row in the database.
        number: From 0, in the order of asking.
        state: Optuna's: WAITING, RUNNING, COMPLETE, PRUNED or FAIL.
        values: The objectives, by metric; of a PRUNED trial the last one reported.
        params: What was sampled.
        metrics: The last value of each.
        n_steps: How many steps were reported.
        stopped_by: Which rule stopped it and why, when PRUNED.
        forecast: If it was condemned by a forecast, what was expected of it (the fields of
            `hpo.pruners.Decision`), and whether it was `audited`: run to its end all the same.
        failure: Why, when FAIL.
        attempts: 1, and one more for each time it was taken up again.
        wall_seconds: Of all attempts that have ended; None before one has.
        mlflow_run_id: Its run in MLflow, once it is there.
        started_ms: When it started, in ms since the epoch.
        ended_ms: When it ended.
        is_baseline: Whether it is what would be run without a search.
        checks: Its metrics, held against the study's constraints.
        data: The digest of what its last attempt was trained on; None where that is not known.
        put_back: Why its last attempt ended, or why it has to wait, while it is WAITING.
        micro_batch: Examples that are trained at once, since more did not fit into memory.
        last_step: The last that was reported, as it is counted; None without any.
        rank: Its place among the feasible, from 1, where it was asked for (`StudyRecord.ranked`).
    """

    id: int
    number: int
    state: str
    values: Mapping[str, float]
    params: Mapping[str, Scalar]
    metrics: Mapping[str, float]
    n_steps: int
    stopped_by: str | None
    failure: Failure | None
    attempts: int
    wall_seconds: float | None
    mlflow_run_id: str | None
    started_ms: int | None = None
    ended_ms: int | None = None
    is_baseline: bool = False
    checks: tuple[Check, ...] = ()
    rank: int | None = None
    micro_batch: int | None = None
    forecast: Mapping[str, Any] | None = None
    put_back: str | None = None
    data: str | None = None
    last_step: int | None = None

    @property
    def is_unheeded(self) -> bool:
        """See the function of this name."""
        return is_unheeded(self.state, self.forecast, self.last_step)

    @property
    def value(self) -> float | None:
        """The objective, the first of several."""
        return next(iter(self.values.values()), None)

    @property
    def feasible(self) -> bool | None:
        """Whether it keeps the constraints; None while it is not COMPLETE."""
        if self.state != "COMPLETE" or not self.values:
            return None
        return all(check.passed for check in self.checks)

    @property
    def violations(self) -> tuple[Check, ...]:
        """The constraints that it breaks, if it is COMPLETE."""
        return () if self.feasible is None else tuple(c for c in self.checks if not c.passed)

    @property
    def excess(self) -> float:
        """By how much it breaks the constraints in all, as shares of their thresholds."""
        return sum(check.excess for check in self.violations)

    @property
    def why(self) -> str:
        """Why it does not count, in one phrase; empty where it does."""
        if self.stopped_by:
            return self.stopped_by
        if self.failure:
            return self.failure.summary
        if self.put_back:
            return self.put_back
        broken = ", ".join(check.violation for check in self.violations)
        return f"violates {broken}" if broken else ""

    def as_json(self) -> dict[str, Any]:
        """The stable keys of ``hpo trials --json``."""
        failure = self.failure
        return {
            "trial": self.number,
            "state": self.state,
            "value": self.value,
            "values": dict(self.values),
            "feasible": self.feasible,
            "violations": [check.as_json() for check in self.violations],
            "params": dict(self.params),
            "metrics": dict(self.metrics),
            "n_steps": self.n_steps,
            "baseline": self.is_baseline,
            "stopped_by": self.stopped_by,
            "forecast": None if self.forecast is None else dict(self.forecast),
            "failure": {"kind": failure.kind.value, "message": failure.message}
            if failure
            else None,
            "attempts": self.attempts,
            "data": self.data,
            "wall_seconds": self.wall_seconds,
            "mlflow_run_id": self.mlflow_run_id,
        }
