"""One trial explained: how it was suggested, what it reported, how it ended, what beats it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial
from rich.markup import escape
from rich.table import Table

from hpo.catalog import SPEC, StudyRecord
from hpo.drivers import named
from hpo.errors import HpoError
from hpo.pruners import Decision, forecaster
from hpo.reports import stopping
from hpo.trial import DRIVER, ENQUEUED, HISTORY, SUGGESTED, Failure, TrialRecord
from hpo.words import counted, number, shortened

_LAST_LINES = 20
_HEADING = "Traceback (most recent call last)"


def why(study: StudyRecord, trial: int) -> dict[str, Any]:
    """What ``hpo why --json`` prints.

    Raises:
        HpoError: the study has no such trial.
    """
    ranked = {each.number: each for each in study.ranked()}
    records = {each.number: each for each in study.trials()}
    if trial not in records:
        has = f"it has 0 to {max(records)}" if records else "it has none yet"
        raise HpoError(
            f"study '{study.name}' has no trial {trial}: {has}.", f"See: hpo trials {study.name}"
        )
    record = ranked.get(trial, records[trial])
    frozen = study.storage.get_trial(record.id)
    attrs = frozen.system_attrs
    best, folder = study.best(), study.directory_of(trial)
    return {
        **record.as_json(),
        "suggested": _suggested(record, attrs),
        "steps": {str(step): value for step, value in sorted(frozen.intermediate_values.items())},
        "history": attrs.get(HISTORY, []),
        "put_back": record.put_back,
        "driver": attrs.get(DRIVER),
        "micro_batch": record.micro_batch,
        "traceback": record.failure.traceback if record.failure else None,
        "place": _place_in_code(record.failure),
        "unheeded": record.is_unheeded,
        "outlook": _outlook(study, frozen),
        "rank": record.rank,
        "n_ranked": sum(each.rank is not None for each in ranked.values()),
        "best": None if best is None else {"trial": best.number, "values": dict(best.values)},
        "directory": None if folder is None else str(folder),
    }


def _place_in_code(failure: Failure | None) -> str | None:
    """Where the user's code failed; None where what it printed is all that is known."""
    if failure is None or failure.place == failure.traceback.strip("\n"):
        return None
    return failure.place or None


def _suggested(record: TrialRecord, attrs: Mapping[str, Any]) -> str | None:
    if record.is_baseline:
        return "the baseline"
    return attrs.get(SUGGESTED) or ("by hand, enqueued" if ENQUEUED in attrs else None)


def _outlook(study: StudyRecord, trial: FrozenTrial) -> dict[str, Any] | None:
    """What forecasts say of a trial that has yet to end; None where no rule asks them."""
    by_hpo = SPEC in study.attrs
    if trial.state.is_finished() or not trial.intermediate_values or not by_hpo:
        return None
    rule = forecaster(study.plan)
    if study.aims.several or rule is None:
        return None
    of_optuna = optuna.load_study(study_name=study.name, storage=study.storage)
    expected = rule.outlook(of_optuna, trial)
    return None if expected is None else expected.as_json()


def why_table(study: StudyRecord, told: Mapping[str, Any]) -> Table:
    """What `why` tells, for people."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold", no_wrap=True)
    table.add_column(overflow="fold")
    for name, text in _lines(study, told):
        table.add_row(escape(name), escape(text))
    return table


def _lines(study: StudyRecord, told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "trial", f"{told['trial']} of study '{study.name}': {told['state']}"
    yield "suggested", told["suggested"] or "by something other than hpo"
    yield "params", "  ".join(f"{name} {number(value)}" for name, value in told["params"].items())
    for i, attempt in enumerate(told["history"], start=1):
        until = (
            "before its first step"
            if attempt["last_step"] is None
            else (f"after step {attempt['last_step']}")
        )
        who = f" ({named(attempt['driver'])})" if attempt["driver"] else ""
        yield f"attempt {i}{who}", f"ended {until}: {attempt['ended']}"
    if told["put_back"] and not told["history"]:
        yield "waits", told["put_back"]
    if told["driver"] and told["state"] != "WAITING":
        where = named(told["driver"])
        yield f"attempt {told['attempts']}", f"{_how(told['state'])} in {where}"
    if told["micro_batch"]:
        yield "memory", f"trained {told['micro_batch']} examples at once, since more did not fit"
    yield "reported", _reported(study, told["steps"]) or counted(told["n_steps"], "step")
    if told["metrics"]:
        last = "  ".join(f"{name} {number(value)}" for name, value in told["metrics"].items())
        yield "metrics", last
    yield from _end(study, told)
    if told["directory"]:
        yield "directory", told["directory"]


def _how(state: str) -> str:
    return "runs" if state == "RUNNING" else "ended"


def _reported(study: StudyRecord, steps: Mapping[str, float]) -> str:
    if not steps:
        return ""
    better = max if study.maximize else min
    best = better(steps, key=lambda step: steps[step])
    last = list(steps)[-1]
    return (
        f"{counted(len(steps), 'step')}: best {study.metric} {number(steps[best])} "
        f"at step {best}, last {number(steps[last])} at step {last}"
    )


def _end(study: StudyRecord, told: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    if told["outlook"]:
        yield "expected", Decision.from_json(told["outlook"]).sentence(stopping.unit_of(study))
    if told["stopped_by"]:
        yield "stopped", told["stopped_by"]
    if told["unheeded"]:
        yield "condemned", _judged(study, told, "its code ran on all the same")
    elif told["forecast"] and told["forecast"]["audited"]:
        yield "audited", _judged(study, told, "run on all the same, as an audit")
    if told["failure"]:
        yield "failed", f"{told['failure']['kind']}: {told['failure']['message']}"
        if told["place"]:
            yield "at", told["place"]
        if told["traceback"]:
            yield _last_lines(told["traceback"])
    if told["state"] == "COMPLETE":
        values = ", ".join(f"{name} {number(value)}" for name, value in told["values"].items())
        seconds = told["wall_seconds"]
        yield "value", values + (f", in {seconds:.1f} s" if seconds is not None else "")
        yield "place", _place(study, told)


def _last_lines(said: str) -> tuple[str, str]:
    """What a trial left: of Python's tracebacks without headings and the lines that underline."""
    lines = said.strip("\n").splitlines()
    if not said.startswith(_HEADING):
        return "last lines", "\n".join(map(shortened, lines[-_LAST_LINES:]))
    kept = [line for line in lines if line.strip(" ^~") and not line.startswith(_HEADING)]
    return "traceback", "\n".join(map(shortened, kept[-_LAST_LINES:]))


def _judged(study: StudyRecord, told: Mapping[str, Any], how: str) -> str:
    """What was expected of a trial that was condemned and run on, and whether it came true."""
    expected = Decision.from_json(told["forecast"])
    text = f"condemned at {expected.sentence(stopping.unit_of(study))}; {how}"
    if told["state"] != "COMPLETE":
        return text
    last = list(told["steps"].values())[-1]
    beat = expected.beats_incumbent(last, "maximize" if study.maximize else "minimize")
    within = "within" if expected.holds(last) else "outside"
    return f"{text}: it {'beat' if beat else 'did not beat'} it, {within} the interval"


def _place(study: StudyRecord, told: Mapping[str, Any]) -> str:
    """Which place it has, and by how much it is beaten."""
    if told["violations"]:
        broken = ", ".join(each["metric"] for each in told["violations"])
        return f"none: it breaks the constraint on {broken}"
    best, metric = told["best"], study.metric
    if best is None or told["rank"] is None:
        return "none"
    if told["rank"] == 1:
        return f"1 of {told['n_ranked']}: nothing beats it"
    ahead = abs(best["values"][metric] - told["values"][metric])
    scale = abs(told["values"][metric])
    share = f" ({ahead / scale:.0%})" if scale else ""
    return (
        f"{told['rank']} of {told['n_ranked']}: trial {best['trial']} is better by "
        f"{number(ahead)}{share} in {metric}"
    )
