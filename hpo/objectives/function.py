"""A user's Python function as an objective.

It is called with the trial, which is also the configuration. It returns a number or a dict of
metrics, or yields dicts, one a step; or it calls ``trial.report(step, val_loss=...)``, which
raises `optuna.TrialPruned` when the trial is to stop.
"""

from __future__ import annotations

import inspect
import logging
import numbers
import operator
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import AbstractContextManager, closing, nullcontext, suppress
from dataclasses import dataclass
from decimal import Decimal
from functools import lru_cache
from pathlib import Path
from typing import Any

from hpo.errors import ObjectiveError
from hpo.mlflow_server import CodeRuns
from hpo.objectives import Steps
from hpo.objectives.readings import MAX_STEP
from hpo.places import CHECKPOINTS
from hpo.trainers import CodeError, Report, code
from hpo.trial import Config, Failure, FailureKind, Job, is_pruned

_LOOK_SECONDS = 0.5
_SECONDS_TO_STOP = 10.0

_log = logging.getLogger(__name__)


class Trial(Config):
    """What a user's function is called with: the configuration, and a few things more.

    A copy, or what is pickled, is the configuration alone.

    Attributes:
        number: Number of the trial in its study, from 0.
        seed: For everything random in this trial.
        directory: The trial's own folder; it exists. A trial taken up again has the same.
    """

    def __init__(self, job: Job, device: str, report: Callable[[Report], None]) -> None:
        super().__init__(job.config)
        self.number = job.trial
        self.seed = job.seed
        self.directory = job.directory
        self._device = device
        self._started = time.monotonic()
        self._report = report

    def __getattr__(self, name: str) -> Any:
        if name not in self.__dict__.get("_values", {}) and (instead := self._instead_of(name)):
            raise AttributeError(f"trial.{name} is Optuna's: {instead}")
        return super().__getattr__(name)

    def _instead_of(self, name: str) -> str | None:
        """What to write for something that Optuna's trials have."""
        names = self.__dict__.get("_values", {})
        example = next(filter(str.isidentifier, names), "x")
        value = f'trial.{example} or trial["{example}"]'
        if name.startswith("suggest_"):
            return f"the range of a parameter stands in `space:`, and its value is {value}"
        return {
            "params": f"a parameter is {value}, and trial.config is a dict of all",
            "should_prune": "leave it out; trial.report(step, loss=...) ends a trial by itself",
        }.get(name)

    def __reduce__(self) -> tuple[type[Config], tuple[dict[str, Any]]]:
        # Libraries copy and save what a model is made with; reports come from this process alone.
        return Config, (self.config,)

    @property
    def device(self) -> str:
        """Where to train: `run.device`, or of ``auto`` the first there is of cuda, mps and cpu.

        Raises:
            ConfigError: this machine has no such device.
        """
        from hpo.trainers.devices import choose  # imports torch, which not every function needs

        return str(choose(self._device))

    @property
    def checkpoint_dir(self) -> Path:
        """A folder for what an attempt leaves to the next; made on first use."""
        folder = self.directory / CHECKPOINTS
        folder.mkdir(exist_ok=True)
        return folder

    def report(self, step: int, *unnamed: object, **metrics: float) -> None:
        """Reports metrics at a step.

        Args:
            step: Epoch or iteration; steps go up.
            *unnamed: Nothing; Optuna's `report` takes a value and a step here.
            **metrics: Numbers by name, among them the study's metric.

        Raises:
            optuna.TrialPruned: the trial is to stop; let it pass.
            TypeError: a metric has no name.
        """
        if unnamed:
            message = "the step comes first and each metric has a name: trial.report(3, loss=0.5)"
            raise TypeError(message)
        self._report(self._as_report(step, metrics))

    def _as_report(self, step: int, metrics: Mapping[str, Any]) -> Report:
        try:
            number = operator.index(step)
        except TypeError:
            number = -1
        if not 0 <= number <= MAX_STEP:
            raise ValueError(f"a step should be a whole number from 0, not {step!r}")
        return Report(number, _numbers(metrics), time.monotonic() - self._started)


@dataclass(frozen=True)
class _Returned:
    value: Any


@dataclass(frozen=True)
class _Raised:
    error: BaseException


class _FunctionThread(threading.Thread):
    """Runs a function, which waits after each report until it may go on."""

    def __init__(
        self,
        function: Callable[[Trial], Any],
        job: Job,
        device: str,
        logging_: AbstractContextManager[None],
    ) -> None:
        super().__init__(name=f"trial-{job.trial}", daemon=True)
        self._messages: queue.SimpleQueue[Report | _Returned | _Raised] = queue.SimpleQueue()
        self._go_on: queue.SimpleQueue[bool] = queue.SimpleQueue()
        self._stopped = False
        self._turn = threading.Lock()  # the function may have threads of its own
        self._function = function
        self._logging = logging_
        self._trial = Trial(job, device, self._report)
        self.start()

    def run(self) -> None:
        try:
            with self._logging:
                value = self._function(self._trial)
            self._messages.put(_Returned(value))
        except BaseException as error:  # handed over, and raised where the trial is judged
            self._messages.put(_Raised(error))

    def next(self) -> Report | _Returned | _Raised:
        """Waits for a message.

        It looks up now and then: a signal that comes in the moment before a wait begins does not
        end the wait, and its handler would wait as well.
        """
        while True:
            with suppress(queue.Empty):
                return self._messages.get(timeout=_LOOK_SECONDS)

    def go_on(self) -> None:
        """Lets the function go on after its report."""
        self._go_on.put(True)

    def stop(self) -> None:
        """Makes the report that waits, and each one after it, raise TrialPruned."""
        self._stopped = True
        self._go_on.put(False)

    def _report(self, report: Report) -> None:
        with self._turn:
            if not self._stopped:
                self._messages.put(report)
                self._go_on.get()
            if self._stopped:
                from optuna import TrialPruned  # 0.3 s, which a worker that stops nothing saves

                raise TrialPruned


class FunctionObjective:
    """Runs a user's function.

    Args:
        function: Takes a `Trial`.
        metric: Name of the number that it returns.
        device: Handed on as ``trial.device``.
        runs: Where it logs to MLflow, if it does; None leaves that to itself.

    Raises:
        ObjectiveError: it is a coroutine function, or cannot be called with one argument.
    """

    data_digest = None  # it loads what it wants

    def __init__(
        self,
        function: Callable[[Trial], Any],
        metric: str,
        device: str,
        runs: CodeRuns | None = None,
    ) -> None:
        if _is_any(function, inspect.iscoroutinefunction, inspect.isasyncgenfunction):
            name = getattr(function, "__name__", repr(function))
            raise ObjectiveError(
                f"'{name}' is an `async def`, which nothing here awaits.",
                "Call it from a plain one: def train(trial): return asyncio.run(...)",
            )
        _demand_one_argument(function)
        self._function = function
        self._metric = metric
        self._device = device
        self._runs = runs
        if runs is not None:
            runs.make_ready(*_code(function))

    def __call__(self, job: Job) -> Steps:
        """Yields what the function reports and returns what it returns, as metrics."""
        if _is_any(self._function, inspect.isgeneratorfunction):
            return self._generated(job)
        return self._called(job)

    def drain(self) -> None:
        """Does nothing: a function leaves by itself what its next attempt needs."""

    def stop(self) -> None:
        """Does nothing: a function ends at its next report."""

    def _generated(self, job: Job) -> Steps:
        trial = Trial(job, self._device, _refuse_report)
        steps, step = self._function(trial), 0
        metrics: dict[str, float] = {}
        with self._logging(job), closing(steps):
            try:
                while True:
                    yielded = next(steps)
                    if not isinstance(yielded, Mapping):
                        raise TypeError(f"a generator yields dicts of metrics, not {yielded!r}")
                    values = dict(yielded)
                    step = values.pop("step", step + 1)
                    report = trial._as_report(step, values)  # noqa: SLF001 - its own kin
                    metrics.update(report.metrics)
                    yield report
            except StopIteration as end:
                return self._result(metrics, end.value)

    def _called(self, job: Job) -> Steps:
        """A function that calls back, turned into a generator by running it in a thread."""
        thread = _FunctionThread(self._function, job, self._device, self._logging(job))
        metrics: dict[str, float] = {}
        try:
            while True:
                match thread.next():
                    case Report() as reported:
                        metrics.update(reported.metrics)
                        yield reported
                        thread.go_on()
                    case _Returned(value):
                        return self._result(metrics, value)
                    case _Raised(error):
                        raise error
        except GeneratorExit:
            thread.stop()
            thread.join(_SECONDS_TO_STOP)
            if thread.is_alive():
                _log.warning("trial %d was stopped, but its function goes on", job.trial)
            raise
        except KeyboardInterrupt:
            thread.stop()  # its next report ends it; nobody waits for that
            raise

    def _logging(self, job: Job) -> AbstractContextManager[None]:
        """Where MLflow is told to log, while the function runs."""
        if self._runs is None:
            return nullcontext()
        return self._runs.in_this_thread(job.trial, is_stop=is_pruned)

    def _result(self, metrics: dict[str, float], value: Any) -> dict[str, float] | Failure:
        """What a trial came to: its last reports, and above them what the function returned."""
        if value is None and not metrics:
            message = "the function returned nothing and reported nothing"
            return Failure(FailureKind.NO_METRIC, message)
        return metrics | self._final(value)

    def _final(self, value: Any) -> dict[str, float]:
        if value is None:
            return {}
        if isinstance(value, Mapping):
            return _numbers(value, self._metric)
        if isinstance(value, Generator):
            raise TypeError("it returned a generator: let it `yield from` that, and so be one")
        return _numbers({self._metric: value})


def _is_any(function: Callable[..., Any], *kinds: Callable[[Any], bool]) -> bool:
    """Whether a function, or what calls an object, is of some kind."""
    call = getattr(function, "__call__", function)  # noqa: B004 - to be looked at
    return any(kind(function) or kind(call) for kind in kinds)


def _code(function: Callable[..., Any]) -> Iterator[Path]:
    """The file that a function is written in, if it is in one."""
    with suppress(TypeError):
        yield Path(inspect.getsourcefile(inspect.unwrap(function)) or "")


def _demand_one_argument(function: Callable[..., Any]) -> None:
    try:
        signature = inspect.signature(function)
    except ValueError:  # some that are written in C have none
        return
    except TypeError:
        raise ObjectiveError(f"{function!r} cannot be called.", "Give a function.") from None
    try:
        signature.bind(None)
    except TypeError as error:
        name = getattr(function, "__name__", repr(function))
        raise ObjectiveError(
            f"'{name}{signature}' is called with one argument, the trial: {error}.",
            f"Take what it needs from there: def {name}(trial): ... trial.learning_rate",
        ) from None


def find_function(name: str, folder: Path) -> Callable[[Trial], Any]:
    """Imports ``package.module:function``, looking in `folder` first.

    Raises:
        ObjectiveError: the module cannot be imported or has no such function.
    """
    try:
        return code.find(name, folder)
    except CodeError as error:
        raise ObjectiveError(error.message, error.next_step) from error


def _refuse_report(_: Report) -> None:
    raise TypeError("a generator yields its metrics; do not call trial.report in it")


def _numbers(metrics: Mapping[str, Any], demanded: str | None = None) -> dict[str, float]:
    """The metrics that are numbers, as floats; a warning names the others.

    Raises:
        TypeError: none is a number, or the one that is demanded is not.
    """
    found = {str(name): _number(value) for name, value in metrics.items()}
    kept = {name: number for name, number in found.items() if number is not None}
    for name, value in metrics.items():
        if found[str(name)] is None:
            if not kept or name == demanded:
                raise TypeError(f"metric '{name}' should be a number, not {value!r}")
            _note_left_out(str(name), type(value).__name__)
    return kept


def _number(value: Any) -> float | None:
    """A value as a float, of a tensor or array its only element; None if it is not a number."""
    with suppress(AttributeError, TypeError, ValueError, RuntimeError):
        return float(value if isinstance(value, numbers.Real | Decimal) else value.item())
    return None


@lru_cache(maxsize=100)
def _note_left_out(name: str, kind: str) -> None:
    _log.warning("'%s' is not a number but a %s, and is not kept; told once", name, kind)
