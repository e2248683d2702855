"""Commands about study files: check, schema."""

from __future__ import annotations

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.app import JsonOption, SetOption, command, print_json, stderr, stdout
from hpo.errors import HpoError

if TYPE_CHECKING:
    from hpo.spec import Plan

_EXAMPLES = 3


@command("check")
def check(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The study file.")],
    overrides: SetOption = None,
    dry: Annotated[bool, typer.Option("--dry", help="Do not try a trial.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Check a study file: its space, its plan, one step of one trial."""
    from hpo import spec

    plan = spec.load(file, overrides or [])
    if as_json:
        print_json({**_plan_json(plan), "tried": None if dry else _try_one_step(plan)})
        return
    out = stdout()
    for line in _plan_lines(plan):
        out.print(line, markup=False)
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
        "metric": objective.metric,
        "direction": objective.direction,
        "sampler": search.sampler,
        "seed": search.seed,
        "trials": plan.trials,
        "n_free_parameters": len(plan.space.free),
        "n_configurations": plan.space.size,
    }


def _plan_lines(plan: Plan) -> list[str]:
    import numpy as np

    spec, space = plan.spec, plan.space
    objective, search = spec.objective, spec.search
    what = objective.function or f"{objective.trainer} on {objective.data}"
    length = f", {objective.epochs} epochs a trial" if objective.epochs else ""
    size = "infinitely many" if space.size is None else f"{space.size:,}"
    rng = np.random.default_rng(search.seed)
    return [
        f"study      {spec.name}",
        f"objective  {objective.direction} {objective.metric} of {what}{length}",
        f"space      {len(space.free)} free parameters, {size} configurations",
        *(f"           {p.name}: {_form(p.to_dict())}" for p in space.parameters),
        f"search     {search.sampler}, {_budget(plan)}, seed {search.seed}",
        f"stopping   {spec.stopping.rule}",
        *(f"example    {space.sample(rng)}" for _ in range(_EXAMPLES)),
    ]


def _budget(plan: Plan) -> str:
    trials, timeout = plan.trials, plan.spec.search.timeout
    parts = [f"{trials:,} trials"] if trials is not None else []
    if plan.spec.search.sampler == "grid":
        parts.append(f"a grid of {plan.space.grid_size:,} points")
    if timeout:
        parts.append(f"at most {timeout:.0f} s")
    return ", ".join(parts)


def _form(form: object) -> str:
    return str(form).replace("'", "")


def _try_one_step(plan: Plan) -> str:
    """Runs a trial to its second report, in a folder that is thrown away.

    The first step pays for what is done once in a process; the second tells what steps cost.
    """
    import tempfile

    import numpy as np

    from hpo import objectives
    from hpo.executors import InlineExecutor
    from hpo.trial import Failure, Job, Reported, Stopped

    executor = InlineExecutor(objectives.build(plan))
    params = plan.space.free_params(plan.space.sample(np.random.default_rng(plan.spec.search.seed)))
    with tempfile.TemporaryDirectory() as folder:
        executor.start(Job(0, plan.config(params), plan.spec.search.seed, Path(folder)))
        started = time.perf_counter()
        events = list(executor.events())
        if isinstance(events[0], Reported):
            started = time.perf_counter()
            events += executor.events()
        seconds = time.perf_counter() - started
        executor.stop(0)
    first = events[0]
    if isinstance(first, Reported):
        if plan.spec.objective.trainer:
            # A function may report a loss as it goes and return its metric at the end.
            _demand_metric(plan, first.report.metrics)
        values = ", ".join(f"{k} {v:.4g}" for k, v in first.report.metrics.items())
        return f"tried      one step, {seconds:.2f} s: {values}{_estimate(plan, seconds)}"
    if isinstance(first.result, Failure):
        failure = first.result
        raise HpoError(f"a trial failed: {failure.message}.\n  with {params}", failure.place)
    if isinstance(first.result, Stopped):
        return f"tried      one trial, which stopped itself: {first.result.reason}"
    _demand_metric(plan, first.result)
    values = ", ".join(f"{k} {v:.4g}" for k, v in first.result.items())
    return f"tried      one trial, {seconds:.2f} s: {values}"


def _demand_metric(plan: Plan, metrics: Mapping[str, float]) -> None:
    metric = plan.spec.objective.metric
    if metric not in metrics:
        raise HpoError(
            f"no metric '{metric}' was reported; reported was: {', '.join(metrics) or 'nothing'}.",
            "Name one of them as objective.metric, or report it.",
        )


def _estimate(plan: Plan, seconds: float) -> str:
    trials, epochs = plan.trials, plan.spec.objective.epochs
    if trials is None or epochs is None:
        return ""
    return f"; all trials, at that pace and none stopped: {seconds * trials * epochs / 60:.1f} min"
