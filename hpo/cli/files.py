"""Commands about study files: check, schema."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.app import JsonOption, SetOption, command, print_json, stderr, stdout
from hpo.errors import HpoError

if TYPE_CHECKING:
    from hpo.spec import Plan
    from search_spaces import SearchSpace

_EXAMPLES = 3
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
        said = {"advice": [asdict(each) for each in advice]}
        tried = None if dry else _try_one_step(plan)
        print_json({**_plan_json(plan), **said, "tried": tried})
        return
    out = stdout()
    for line in _plan_lines(plan):
        out.print(line, markup=False)
    for each in advice:
        out.print(f"{each.level:<10} {each}", markup=False)
    if not dry:
        out.print(_try_one_step(plan), markup=False)
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
        drawn = list(islice(filter(space.allows, points), _EXAMPLES))
    else:
        drawn = [space.sample(rng) for _ in range(_EXAMPLES)]
    return [plan.config(space.free_params(config)) for config in drawn]


def _plan_lines(plan: Plan) -> list[str]:
    from search_spaces.flow import flow

    spec, space = plan.spec, plan.space
    objective, search = spec.objective, spec.search
    metrics = ", ".join(
        f"{direction} {metric}"
        for direction, metric in zip(objective.directions, objective.metrics, strict=True)
    )
    length = f", {objective.epochs} epochs a trial" if objective.epochs else ""
    size = "infinitely many" if space.size is None else f"{space.size:,}"
    baseline = [] if plan.baseline is None else [f"baseline   {flow(plan.config(plan.baseline))}"]
    return [
        f"study      {spec.name}",
        f"objective  {metrics} of {objective.what}{length}",
        f"space      {_n(len(space.free), 'free parameter')}, {size} configurations",
        *(f"           {line}" for line in space.to_yaml().splitlines()),
        f"grid       {_grid_line(plan)}",
        f"search     {search.sampler}, {_budget(plan)}, seed {search.seed}",
        f"stopping   {spec.stopping.rule}",
        *_run_lines(plan),
        *baseline,
        *(f"example    {flow(config)}" for config in _examples(plan)),
    ]


def _n(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"


def _without_grid(space: SearchSpace) -> list[str]:
    """The parameters that have no grid; none where the space has one."""
    from search_spaces import GridError

    try:
        space.grid_size  # noqa: B018 - asked for its error
    except GridError as error:
        return [str(problem.path[0]) for problem in error.problems]
    return []


def _grid_line(plan: Plan) -> str:
    missing = _without_grid(plan.space)
    if not missing:
        return _n(plan.space.grid_size, "point")
    verb = "has" if len(missing) == 1 else "have"
    return f"none: {', '.join(missing)} {verb} no list of values (`points: 5` or `step:` gives one)"


def _budget(plan: Plan) -> str:
    trials, timeout = plan.trials, plan.spec.search.timeout
    parts = [f"{trials:,} trials"] if trials is not None else []
    if timeout:
        parts.append(f"at most {timeout:.0f} s")
    return ", ".join(parts)


def _run_lines(plan: Plan) -> list[str]:
    """How this machine is divided among trials, where it is."""
    from hpo.executors.slots import layout

    executor = plan.spec.run.executor
    return [f"run        {executor}: {layout(plan)}"] if executor == "processes" else []


def _try_one_step(plan: Plan) -> str:
    """Runs a trial to its second report, in a folder that is thrown away.

    The first step pays for what is done once in a process; the second tells what steps cost.
    """
    import tempfile

    import numpy as np

    from hpo import objectives
    from hpo.executors import InlineExecutor
    from hpo.places import tracking_uri
    from hpo.trial import Ended, Failure, Job, Reported, Stopped
    from search_spaces.flow import flow

    rng = np.random.default_rng(plan.spec.search.seed)
    # The baseline is what is sure to make sense.
    params = plan.baseline or plan.space.free_params(plan.space.sample(rng))
    with tempfile.TemporaryDirectory() as folder:
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
    metrics = {name: value for step in steps for name, value in step.metrics.items()}
    end = events[-1].result if isinstance(events[-1], Ended) else None
    if isinstance(end, Failure):
        raise HpoError(f"a trial failed: {end.message}.\n  with {flow(params)}", end.place)
    if isinstance(end, Stopped):
        return f"tried      one trial, which stopped itself: {end.reason}"
    metrics |= end or {}
    if end is not None or plan.spec.objective.trainer:
        # A function may report a loss as it goes and return its metric at the end.
        _demand_metrics(plan, metrics)
    values = ", ".join(f"{k} {v:.4g}" for k, v in (steps[0].metrics if steps else metrics).items())
    if not steps:
        return f"tried      one trial, {seconds:.2f} s: {values}"
    # A command's steps are read together, so nobody knows what each took.
    pace = f", {seconds:.2f} s" if plan.spec.objective.command is None else ""
    return f"tried      one step{pace}: {values}{_estimate(plan, seconds) if pace else ''}"


def _demand_metrics(plan: Plan, metrics: Mapping[str, float]) -> None:
    """Refuses a trial that a study could not judge."""
    objective, reported = plan.spec.objective, ", ".join(metrics) or "nothing"
    keys = dict.fromkeys(objective.metrics, "objective.metric")
    keys |= dict.fromkeys(plan.spec.constraints, "constraints")
    keys |= dict.fromkeys(plan.spec.gate, "gate")
    for metric, key in keys.items():
        if metric not in metrics:
            raise HpoError(
                f"no metric '{metric}' was reported; reported was: {reported}.",
                f"Name one of them as {key}, or report it.",
            )
        if metric in objective.metrics and not math.isfinite(metrics[metric]):
            raise HpoError(
                f"the metric '{metric}' is {metrics[metric]}, and such trials fail as DIVERGED.",
                "Report a finite number.",
            )


def _estimate(plan: Plan, seconds: float) -> str:
    trials, epochs = plan.trials, plan.spec.objective.epochs
    if trials is None or epochs is None:
        return ""
    return f"; all trials, at that pace and none stopped: {seconds * trials * epochs / 60:.1f} min"
