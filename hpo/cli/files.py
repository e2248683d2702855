"""Commands about study files: check, schema."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from hpo.cli.app import JsonOption, SetOption, command, only_json, print_json, stderr, stdout
from hpo.cli.tried import try_one_step
from hpo.words import counted

if TYPE_CHECKING:
    from hpo.search_spaces import SearchSpace
    from hpo.spec import Plan

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
        with only_json(True):
            data: list[str] = []
            tried, more = (None, []) if dry else try_one_step(plan, data.append)
        said = {"advice": [asdict(each) for each in [*advice, *more]]}
        print_json({**_plan_json(plan), **said, "data": next(iter(data), None), "tried": tried})
        return
    out = stdout()
    for line in _plan_lines(plan):
        out.print(line, markup=False)
    for each in advice:
        out.print(f"{each.level:<10} {each}", markup=False)
    if not dry:
        tried, more = try_one_step(plan, lambda data: out.print(f"data       {data}", markup=False))
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
