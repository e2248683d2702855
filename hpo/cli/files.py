"""Commands about study files: check, schema."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from hpo.cli.app import JsonOption, SetOption, command, only_json, print_json, stderr, stdout
from hpo.errors import HpoError, close
from hpo.words import counted, number

if TYPE_CHECKING:
    from hpo.advice import Advice
    from hpo.search_spaces import SearchSpace
    from hpo.spec import Plan
    from hpo.trainers import Report
    from hpo.trial import Failure, Stopped

_EXAMPLES = 3
_PATIENCE_SECONDS = 5.0
_DRAWS = 10_000  # of grid points, for as many as meet the requirements


@command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file.")],
    overrides: SetOption = None,
    dry: Annotated[bool, typer.Option("--dry", help="Do not try a trial.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a study file: its space, its plan, one step of one trial."""
    from dataclasses import asdict

    from hpo import spec
    from hpo.advice import advise

    plan = spec.load(file, overrides or [])
    advice = advise(plan)
    if as_json:
        with only_json(True):
            tried, more = (None, []) if dry else _try_one_step(plan)
        said = {"advice": [asdict(each) for each in [*advice, *more]]}
        print_json({**_plan_json(plan), **said, "tried": tried})
        return
    out = stdout()
    for line in _plan_lines(plan):
        out.print(line, markup=False)
    for each in advice:
        out.print(f"{each.level:<10} {each}", markup=False)
    if not dry:
        tried, more = _try_one_step(plan)
        for line in [tried, *(f"{each.level:<10} {each}" for each in more)]:
            out.print(line, markup=False)
    stderr().print(f"[green]ok[/green]  Run it: hpo run {file}")


@command("schema")
def schema() -> None:
    """Print the JSON Schema of a study file, for editors."""
    import json

    from hpo import spec

    typer.echo(json.dumps(spec.json_schema(), indent=2))


def _plan_json(plan: Plan) -> dict[str, object]:
    objective, search = plan.spec.objective, plan.spec.search
    return {
        "study": plan.spec.name,
        "metric": objective.metrics[0],
        "direction": objective.directions[0],
        "metrics": dict(zip(objective.metrics, objective.directions, strict=True)),
        "sampler": search.sampler,
        "seed": search.seed,
        "trials": plan.trials,
        "n_free_parameters": len(plan.space.free),
        "n_configurations": plan.space.size,
        "n_grid_points": None if _without_grid(plan.space) else plan.space.grid_size,
        "baseline": plan.baseline,
        "executor": plan.spec.run.executor,
        "examples": _examples(plan),
    }


def _examples(plan: Plan) -> list[dict[str, object]]:
    """A few configurations as they may be drawn."""
    import numpy as np

    rng = np.random.default_rng(plan.spec.search.seed)
    space = plan.space
    if plan.spec.search.sampler == "grid":
        values = {p.name: p.domain.grid() for p in space.free}
        points = (
            space.walk(lambda p: values[p.name][rng.integers(len(values[p.name]))])
            for _ in range(_DRAWS)
        )
        allowed = islice(filter(space.allows, points), _EXAMPLES)
        drawn = [space.free_params(config) for config in allowed]
    else:
        drawn = [space.sample_params(rng) for _ in range(_EXAMPLES)]
    return [plan.config(params) for params in drawn]


def _plan_lines(plan: Plan) -> list[str]:
    from hpo.search_spaces.flow import flow

    spec, space = plan.spec, plan.space
    objective, search = spec.objective, spec.search
    metrics = ", ".join(
        f"{direction} {metric}"
        for direction, metric in zip(objective.directions, objective.metrics, strict=True)
    )
    length = f", {counted(objective.epochs, 'epoch')} a trial" if objective.epochs else ""
    size = "infinitely many configurations"
    if space.size is not None:
        size = counted(space.size, "configuration")
    baseline = [] if plan.baseline is None else [f"baseline   {flow(plan.config(plan.baseline))}"]
    return [
        f"study      {spec.name}",
        f"objective  {metrics} of {objective.what}{length}",
        f"space      {counted(len(space.free), 'free parameter')}, {size}",
        *(f"           {line}" for line in space.to_yaml().splitlines()),
        f"grid       {_grid_line(plan)}",
        f"search     {search.sampler}, {_budget(plan)}, seed {search.seed}",
        f"stopping   {spec.stopping.rule}",
        *_run_lines(plan),
        *baseline,
        *(f"example    {flow(config)}" for config in _examples(plan)),
    ]


def _without_grid(space: SearchSpace) -> list[str]:
    """The parameters that have no grid; none where the space has one."""
    from hpo.search_spaces import GridError

    try:
        space.grid_size  # noqa: B018 - asked for its error
    except GridError as error:
        return [str(problem.path[0]) for problem in error.problems]
    return []


def _grid_line(plan: Plan) -> str:
    missing = _without_grid(plan.space)
    if not missing:
        return counted(plan.space.grid_size, "point")
    verb = "has" if len(missing) == 1 else "have"
    return f"none: {', '.join(missing)} {verb} no list of values (`points: 5` or `step:` gives one)"


def _budget(plan: Plan) -> str:
    trials, timeout = plan.trials, plan.spec.search.timeout
    parts = [counted(trials, "trial")] if trials is not None else []
    if timeout:
        parts.append(f"at most {timeout:.0f} s")
    return ", ".join(parts)


def _run_lines(plan: Plan) -> list[str]:
    """How this machine is divided among trials, where it is."""
    from hpo.executors.slots import layout

    executor = plan.spec.run.executor
    return [f"run        {executor}: {layout(plan)}"] if executor == "processes" else []


@dataclass(frozen=True)
class _Tried:
    """What a trial did until its second report.

    Args:
        params: What was drawn.
        steps: Its reports.
        result: Its end, if it came to that.
        seconds: What the last of it took.
    """

    params: Mapping[str, Any]
    steps: Sequence[Report]
    result: Mapping[str, float] | Stopped | Failure | None
    seconds: float

    @property
    def metrics(self) -> dict[str, float]:
        """All that it reported."""
        metrics = {name: value for step in self.steps for name, value in step.metrics.items()}
        return metrics | dict(self.result if isinstance(self.result, Mapping) else {})


def _try_one_step(plan: Plan) -> tuple[str, list[Advice]]:
    """Tries a trial; says what it did, and what that means for a study.

    Raises:
        HpoError: it failed, or a study could not judge such trials.
    """
    from hpo.search_spaces.flow import flow
    from hpo.trial import ITSELF, Failure, Stopped

    tried = _tried(plan)
    steps, end, seconds = tried.steps, tried.result, tried.seconds
    if isinstance(end, Failure):
        message = f"a trial failed: {end.message}.\n  with {flow(tried.params)}"
        raise HpoError(message, end.place)
    if isinstance(end, Stopped):
        why = "" if end.reason == ITSELF else f": {end.reason}"
        return f"tried      one trial, which stopped itself{why}", []
    if end is not None or plan.spec.objective.trainer:
        # A function may report a loss as it goes and return its metric at the end.
        _demand_metrics(plan, tried)
    shown = steps[0].metrics if steps else tried.metrics
    values = ", ".join(f"{name} {number(value)}" for name, value in shown.items())
    advice = list(_advice_of(plan, tried))
    if not steps:
        return f"tried      one trial, {seconds:.2f} s: {values}", advice
    # A command's steps are read together, so nobody knows what each took.
    pace = f", {seconds:.2f} s" if plan.spec.objective.command is None else ""
    estimate = _estimate(plan, seconds) if pace else ""
    return f"tried      one step{pace}: {values}{estimate}", advice


def _tried(plan: Plan) -> _Tried:
    """Runs a trial to its second report, in a folder that is thrown away.

    The first step pays for what is done once in a process; the second tells what steps cost.
    """
    import tempfile

    import numpy as np

    from hpo import objectives
    from hpo.executors import InlineExecutor
    from hpo.places import tracking_uri
    from hpo.trial import Ended, Job, Reported

    rng = np.random.default_rng(plan.spec.search.seed)
    # The baseline is what is sure to make sense.
    params = plan.baseline or plan.space.sample_params(rng)
    with tempfile.TemporaryDirectory() as folder, _told_to_wait():
        # A command that logs to MLflow does so in there, too.
        mlflow = f"sqlite:///{folder}/mlflow.db" if tracking_uri(plan.spec.tracking) else "none"
        executor = InlineExecutor(objectives.build(plan, mlflow))
        executor.start(Job(0, plan.config(params), plan.spec.search.seed, Path(folder)))
        started = time.perf_counter()
        events = list(executor.events())
        if isinstance(events[0], Reported):
            started = time.perf_counter()
            events += executor.events()
        seconds = time.perf_counter() - started
        executor.stop(0)
    steps = [event.report for event in events if isinstance(event, Reported)]
    end = events[-1].result if isinstance(events[-1], Ended) else None
    return _Tried(params, steps, end, seconds)


@contextmanager
def _told_to_wait() -> Iterator[None]:
    """Says what is waited for, where that takes long."""
    text = "Waiting for a trial's second report; Ctrl-C ends it, and --dry tries none."
    timer = threading.Timer(_PATIENCE_SECONDS, stderr().print, [text])
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _demanded(plan: Plan, tried: _Tried) -> dict[str, str]:
    """The metrics that a study needs, and the keys that name them.

    Without those that a trial tells at its end alone, where it has not come to that.
    """
    objective = plan.spec.objective
    named = {
        "objective.metric": objective.metrics,
        "constraints": plan.spec.constraints,
        "gate": plan.spec.gate,
    }
    keys: dict[str, str] = {}
    for key, names in named.items():
        keys |= {name: key for name in names if name not in keys}
    if tried.result is not None:
        return keys
    if objective.metrics_from == "mlflow":
        return {name: key for name, key in keys.items() if name in objective.metrics}
    if objective.trainer:
        from hpo.objectives.trainer import goals_of

        late = goals_of(plan).at_end
        return {name: key for name, key in keys.items() if name not in late}
    return keys


def _demand_metrics(plan: Plan, tried: _Tried) -> None:
    """Refuses a trial that a study could not judge."""
    from hpo.trial import Failure

    objective, metrics = plan.spec.objective, tried.metrics
    for metric, key in _demanded(plan, tried).items():
        if metric not in metrics:
            near = close(metric, metrics)
            meant = f"Did you mean '{near}'? " if near else ""
            raise HpoError(
                f"{Failure.without(metric, metrics).message}.",
                f"{meant}Name one of them as {key}, or report it."
                if metrics
                else _how_to_report(plan, metric),
            )
        if metric in objective.metrics and not math.isfinite(metrics[metric]):
            raise HpoError(
                f"the metric '{metric}' is {metrics[metric]}, and such trials fail as DIVERGED.",
                "Report a finite number.",
            )


def _how_to_report(plan: Plan, metric: str) -> str:
    objective = plan.spec.objective
    if objective.command is None:
        return f'Return it, {{"{metric}": 0.1}}, or report it.'
    match objective.metrics_from:
        case "stdout":
            return f'Print it on stdout as a line of JSON: {{"{metric}": 0.1}}'
        case "mlflow":
            return f'Log it in the run of $MLFLOW_RUN_ID: mlflow.log_metric("{metric}", 0.1)'
        case elsewhere if elsewhere.file is not None:
            return f"Nothing was found in '{elsewhere.file}' in the trial's folder, {{directory}}."
        case _:
            return "No line that it printed matches objective.metrics_from.regex."


def _advice_of(plan: Plan, tried: _Tried) -> Iterator[Advice]:
    """What the first steps of a trial say of a study that nobody may want."""
    from hpo.advice import Advice

    rule, metrics = plan.spec.stopping.rule, tried.metrics
    judged = "" if rule == "none" else f", and {rule} cannot judge its steps"
    then = {
        "objective.metric": f"a trial that never does fails{judged}",
        "constraints": "a trial that never does breaks it",
        "gate": "the gate fails if the best trial never does",
    }
    demanded = {} if tried.result is not None else _demanded(plan, tried)
    for name in (name for name in demanded if name not in metrics):
        near = close(name, metrics)
        meant = f"; did you mean '{near}'?" if near else "."
        yield Advice(
            "warning",
            demanded[name],
            f"the first steps reported {', '.join(metrics) or 'nothing'}, and no '{name}': "
            f"{then[demanded[name]]}{meant}",
        )
    if rule != "none" and tried.result is not None and len(tried.steps) < 2:
        n = "one step" if tried.steps else "no steps"
        message = f"a trial reports {n}, so {rule} can never stop one before its end."
        yield Advice("note", "stopping.rule", message)


def _estimate(plan: Plan, seconds: float) -> str:
    trials, epochs = plan.trials, plan.spec.objective.epochs
    if trials is None or epochs is None:
        return ""
    return f"; all trials, at that pace and none stopped: {seconds * trials * epochs / 60:.1f} min"
