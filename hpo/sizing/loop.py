"""Trains one configuration on parts of the training data: the loop."""

from __future__ import annotations

import math
import shutil
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from hpo import executors
from hpo.curves import DataNeeds
from hpo.errors import HpoError, nearest
from hpo.executors import Executor
from hpo.interrupts import Interrupts
from hpo.mlflow_server.code_runs import BEYOND_TRIALS
from hpo.places import TRAIN_FRACTION
from hpo.samplers import derive_seed
from hpo.sizing.asking import check_count
from hpo.sizing.fits import FITS, Fit, FitsLog, failed
from hpo.sizing.planner import Place, Planner
from hpo.sizing.question import Answer, Question, diagnosis, estimate
from hpo.spec import Plan, as_duration
from hpo.trainers import Report
from hpo.trial import (
    ITSELF,
    Drained,
    Ended,
    Event,
    Failure,
    FailureKind,
    Job,
    Lost,
    Reported,
    Stopped,
)

SEEDS = 3
BUDGET_SECONDS = 600.0

_LOOK_SECONDS = 0.5
_SIZING = 2  # keeps a fit's seed apart from a trial's and its sampler's
_FAILURES_IN_A_ROW = 3
_MORE, _LEAST_SECONDS = 6, 10.0  # times a budget in which nothing ended; a process has to start

_SPENT = "the budget is spent"


class SizingListener:
    """Hears of the fits; a subclass overrides what it cares about."""

    def opened(self, question: Question, fits: Sequence[Fit]) -> None:
        """Training begins; so many fits are there already."""

    def started(self, size: int, seed: int) -> None:
        """A fit starts."""

    def reported(self, size: int, seed: int, report: Report) -> None:
        """A running fit reports a step."""

    def ended(self, fit: Fit, needs: DataNeeds | None) -> None:
        """A fit has ended; what all of them tell now."""

    def draining(self, why: str, grace_seconds: float) -> None:
        """An end was asked for; running fits go on so long."""


@dataclass
class _Running:
    place: Place
    job: Job
    metrics: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.started = time.monotonic()

    @property
    def seconds(self) -> float:
        return time.monotonic() - self.started


class Sizing:
    """Runs fits until all that is planned is measured, or the time is up.

    Args:
        question: What is asked.
        executor: Runs fits.
        planner: Chooses sizes.
        log: Where fits are kept.
        started: When it began, by the monotonic clock.
        budget_seconds: What it may take from then on.
        listener: Hears what happens.
    """

    def __init__(
        self,
        question: Question,
        executor: Executor,
        planner: Planner,
        log: FitsLog,
        started: float,
        budget_seconds: float,
        listener: SizingListener,
    ) -> None:
        self._question, self._executor, self._planner = question, executor, planner
        self._log, self._listener = log, listener
        self._deadline, self._budget_seconds = started + budget_seconds, budget_seconds
        self._running: dict[int, _Running] = {}
        self._failures: list[Fit] = []
        self._n_started = self._n_reports = 0
        self._attempts: Counter[Place] = Counter()
        self._needs = estimate(question, log.fits)
        grace = question.plan.spec.run.grace_period
        self._interrupts = Interrupts(self._drain, lambda: None, grace)

    def run(self) -> Answer:
        """Runs the loop.

        Raises:
            HpoError: fits fail one after another, or none ended in time.
        """
        self._listener.opened(self._question, self._log.fits)
        with self._interrupts.handled():
            try:
                self._interrupts.ask_in(self._seconds_left, _SPENT)
                while not self._done():
                    self._fill()
                    for event in self._wait():
                        self._handle(event)
                    if self._running and self._seconds_left <= 0:
                        self._interrupts.ask(_SPENT, of_budget=True)
            except KeyboardInterrupt:
                pass  # the signal, or the end of the grace
            finally:
                for trial in list(self._running):
                    self._executor.stop(trial)
        return self._answer()

    # --- the steps of the loop ---

    def _done(self) -> bool:
        """Whether nothing runs, and nothing is to run."""
        return not self._running and self._next() is None

    def _fill(self) -> None:
        """Starts as many fits as there is room for."""
        while self._executor.free and (place := self._next()) is not None:
            self._start(place)

    def _next(self) -> Place | None:
        """Where to train next, if anywhere."""
        left = self._seconds_left
        if self._interrupts.why or left <= 0:
            return None
        return self._planner.next(self._log.fits, self._taken, left, self._needs)

    @property
    def _seconds_left(self) -> float:
        return self._deadline - time.monotonic()

    @property
    def _taken(self) -> list[Place]:
        """Places that run or have failed."""
        running = [each.place for each in self._running.values()]
        return [*running, *((fit.size, fit.seed) for fit in self._failures)]

    def _start(self, place: Place) -> None:
        question, (size, seed) = self._question, place
        job = Job(
            BEYOND_TRIALS + self._n_started,
            {**question.config, TRAIN_FRACTION: size / question.n},
            derive_seed(question.plan.spec.search.seed, seed, _SIZING),
            question.directory / f"n-{size:07d}-seed-{seed}",
        )
        job.directory.mkdir(parents=True, exist_ok=True)
        self._n_started += 1
        self._attempts[place] += 1
        self._running[job.trial] = _Running(place, job)
        self._listener.started(size, seed)
        self._executor.start(job)

    def _wait(self) -> Sequence[Event]:
        left = self._seconds_left
        with self._interrupts.allowed():
            return self._executor.events(min(_LOOK_SECONDS, left) if left > 0 else _LOOK_SECONDS)

    def _handle(self, event: Event) -> None:
        running = self._running.get(event.trial)
        if running is None:
            return
        match event:
            case Reported(_, report):
                running.metrics.update(report.metrics)
                self._n_reports += 1
                self._listener.reported(*running.place, report)
            case Ended(_, result):
                self._end(running, result)
            case Lost(_, failure):
                self._lose(running, failure)
            case Drained():
                del self._running[event.trial]

    def _end(self, running: _Running, result: Mapping[str, float] | Stopped | Failure) -> None:
        """Keeps what a fit has come to."""
        del self._running[running.job.trial]
        fit = self._judged(running, result)
        self._log.append(fit)
        if fit.failure is None:
            self._needs = estimate(self._question, self._log.fits)
            if self._question.is_ours:
                shutil.rmtree(running.job.directory, ignore_errors=True)  # all of it is in the log
        else:
            self._failures.append(fit)
        self._listener.ended(fit, self._needs)
        if fit.failure is not None:
            self._give_up_after_many()

    def _judged(self, running: _Running, result: Mapping[str, float] | Stopped | Failure) -> Fit:
        (size, seed), metric, seconds = running.place, self._question.metric, running.seconds
        match result:
            case Failure():
                return Fit(size, seed, {}, seconds, result)
            case Stopped(reason):
                message = "it stopped itself" + (f": {reason}" if reason != ITSELF else "")
                return failed(size, seed, seconds, FailureKind.CRASHED, message)
        metrics = {**running.metrics, **result}
        if metric not in metrics:
            return Fit(size, seed, {}, seconds, Failure.without(metric, metrics))
        if not math.isfinite(metrics[metric]):
            return Fit(size, seed, {}, seconds, Failure.diverged(metric, metrics[metric]))
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        return Fit(size, seed, finite, seconds)

    def _lose(self, running: _Running, failure: Failure) -> None:
        """Leaves what was lost with its process to be planned again, a few times."""
        if self._attempts[running.place] > self._question.plan.spec.run.max_retries:
            self._end(running, failure)
        else:
            del self._running[running.job.trial]

    def _give_up_after_many(self) -> None:
        """Ends all fits where nothing succeeds.

        Raises:
            HpoError: with the last failure.
        """
        if self._log.fits or len(self._failures) < _FAILURES_IN_A_ROW:
            return
        last = self._failures[-1]
        assert last.failure is not None  # noqa: S101 - it is one
        n = len(self._failures)
        raise HpoError(
            f"all {n} fits failed, the last at {self._question.place(last.size)}: "
            f"{last.failure.sentence}",
            last.failure.place,
        )

    def _drain(self, why: str) -> None:
        self._executor.drain()
        if self._running:
            self._listener.draining(why, self._question.plan.spec.run.grace_period)

    def _answer(self) -> Answer:
        received = self._interrupts.received
        is_done = self._planner.is_done(self._log.fits, self._taken)
        state = "interrupted" if received else "finished" if is_done else "budget"
        fits = sorted(self._log.fits, key=lambda fit: (fit.size, fit.seed))
        if not fits and state != "interrupted":
            raise self._nothing()
        found = diagnosis(self._question, fits, self._needs)
        return Answer(self._question, fits, self._failures, self._needs, found, state, received)

    def _nothing(self) -> HpoError:
        if self._failures and self._failures[-1].failure is not None:
            last = self._failures[-1].failure
            return HpoError(f"no fit succeeded; the last failed: {last.sentence}", last.place)
        place = self._question.place(self._planner.smallest)
        budget = as_duration(self._budget_seconds)
        more = as_duration(max(_LEAST_SECONDS, _MORE * self._budget_seconds))
        return HpoError(
            f"no fit ended within the budget of {budget}, not even at {place}"
            f"{'' if self._n_reports else ', nor reported a step'}.",
            f"Give it more time: --budget {more}",
        )


def measure(
    question: Question,
    *,
    budget_seconds: float = BUDGET_SECONDS,
    seeds: int = SEEDS,
    sizes: Sequence[int] | None = None,
    afresh: bool = False,
    tracking: str | None = None,
    listener: SizingListener | None = None,
) -> Answer:
    """Trains a configuration on nested parts of growing size, and says how much data it needs.

    Fits of earlier calls with the same configuration, seed and data count.

    Args:
        question: What is asked.
        budget_seconds: Wall time for all of it; what runs at its end leaves a checkpoint.
        seeds: How many fits a size may have.
        sizes: Sizes to train at, all of them; None leaves them to `hpo.sizing.planner.Planner`.
        afresh: Whether earlier fits are forgotten.
        tracking: URI of MLflow, for functions and commands that log to it.
        listener: Hears what happens.

    Raises:
        HpoError: nothing could be measured.
    """
    check_count(seeds, "seeds", 1)
    started = time.monotonic()
    if afresh:
        shutil.rmtree(question.directory, ignore_errors=True)
    planner = Planner(question.n, n_classes=question.n_classes, seeds=seeds, sizes=sizes)
    listener = listener or SizingListener()
    with closing(FitsLog(question.directory / FITS, question.metric)) as log:
        _refuse_unreported(question, log)
        plan = _told_to_report(question)
        with closing(executors.build(plan, tracking=tracking, n_jobs=planner.n_fits)) as executor:
            return Sizing(question, executor, planner, log, started, budget_seconds, listener).run()


def _refuse_unreported(question: Question, log: FitsLog) -> None:
    """Refuses a metric that own code, which has reported others, did not report.

    Raises:
        HpoError: with the nearest one that it did.
    """
    metric = question.metric
    if question.is_ours or not log.reported or metric in log.reported:
        return
    raise HpoError(
        f"no fit has reported '{metric}'. {nearest(metric, log.reported)}",
        "If the code reports it by now, begin anew: --afresh",
    )


def _told_to_report(question: Question) -> Plan:
    """The plan whose fits report what is asked, and leave no weights."""
    plan = question.plan
    objective, run = plan.spec.objective, plan.spec.run
    if objective.kind in ("trainer", "estimator"):
        wanted = (*objective.report, question.metric, question.train_metric)
        known = [name for name in wanted if name is not None]
        objective = objective.model_copy(update={"report": list(dict.fromkeys(known))})
    run = run.model_copy(update={"keep_weights": "none"})
    return replace(plan, spec=plan.spec.model_copy(update={"objective": objective, "run": run}))
