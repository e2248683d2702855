"""What was found of data needs: as a sentence, a table, a chart, and JSON."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich import box
from rich.markup import escape
from rich.table import Table

from hpo.mlflow_server import BesideRun
from hpo.reports.scaling import ScalingChart, write_png
from hpo.reports.strict_json import dumps
from hpo.sizing.fits import FITS, Fit
from hpo.sizing.question import Answer, Question
from hpo.words import counted, number, shortened

FACTORS = (1, 2, 5, 10)
PNG, JSON = "data-needs.png", "data-needs.json"

_QUANTILES = (0.05, 0.5, 0.95)
_POINTS_BEHIND, _POINTS_AHEAD = 20, 40
_SEEDS = 3  # that show how lucky one is
_LONGEST_FAILURE = 200
_FARTHEST = 10.0


@dataclass(frozen=True)
class Row:
    """What is expected of so many times the data.

    Args:
        factor: How many times.
        n: So many examples.
        low: Where the 90% interval begins.
        expected: The median.
        high: Where it ends.
    """

    factor: float
    n: float
    low: float
    expected: float
    high: float


def sentence(answer: Answer) -> str:
    """The answer in one sentence; in two where not all of the data was trained on."""
    question, needs = answer.question, answer.needs
    if needs is None:
        largest = question.place(answer.largest)
        return f"not enough evidence: train at another size than {largest}, too"
    found = _unclear(answer) or needs.told(question.place)
    if question.target is None:
        found += "; name a --target to learn what it needs"
    if answer.largest < question.n:
        if not question.is_counted:
            return f"measured up to {question.place(answer.largest)}, and of that: {found}"
        return f"measured up to {answer.largest:,} of {question.n:,}, and of those: {found}"
    return found


def _unclear(answer: Answer) -> str | None:
    """What is said instead of a size to train at next, where that one cannot be, or was."""
    question, needs = answer.question, answer.needs
    if needs is None or needs.is_constant or not answer.is_unclear:
        return None
    if answer.next_size is None:
        return (
            f"not enough evidence: {question.place(answer.largest)} is the most that did not fail"
        )
    if needs.next_size > question.n:
        return f"{needs.told(question.place)}, which is more than {_all(question)}"
    if answer.state == "finished" and answer.next_size == answer.largest == question.n:
        return "not enough evidence, though all sizes have their seeds"
    return None


def _all(question: Question) -> str:
    return f"the {question.n:,} that there are" if question.is_counted else "there is"


def table(answer: Answer) -> list[Row]:
    """What is expected of one, two, five and ten times the data."""
    if answer.needs is None:
        return []
    sizes = [factor * answer.question.n for factor in FACTORS]
    low, middle, high = answer.needs.error_at(sizes).quantile(_QUANTILES)
    return [
        Row(factor, n, *map(float, each))
        for factor, n, *each in zip(FACTORS, sizes, low, middle, high, strict=True)
    ]


def as_table(answer: Answer) -> Table:
    """One line for each number of times the data."""
    question = answer.question
    found = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for column in ("data", "examples", question.metric, "90% interval"):
        found.add_column(escape(column), justify="right", no_wrap=True)
    for row in table(answer):
        times = "now" if row.factor == 1 else f"{row.factor:g}x"
        n = f"{row.n:,.0f}" if question.is_counted else f"{row.n:.0f}%"
        between = "-" if row.low >= 0 else "to"
        interval = f"{row.low:.3g} {between} {row.high:.3g}"
        found.add_row(times, n, f"{row.expected:.3g}", interval)
    return found


def chart(answer: Answer) -> ScalingChart | None:
    """The chart; None where one size was measured."""
    question, needs = answer.question, answer.needs
    if needs is None:
        return None
    first = min(fit.size for fit in answer.fits)
    behind = np.geomspace(first, answer.largest, _POINTS_BEHIND)
    ahead = np.geomspace(answer.largest, _FARTHEST * question.n, _POINTS_AHEAD)
    n = np.concatenate([behind[:-1], ahead])
    low, expected, high = needs.error_at(n).quantile(_QUANTILES)
    unseen = slice(len(n) - len(ahead), None)
    of_train = question.train_metric or ""
    on_train = [fit for fit in answer.fits if of_train in fit.metrics]
    return ScalingChart(
        question.metric,
        "training examples" if question.is_counted else "per cent of the training data",
        [fit.size for fit in answer.fits],
        [fit.metrics[question.metric] for fit in answer.fits],
        [fit.size for fit in on_train],
        [fit.metrics[of_train] for fit in on_train],
        n.tolist(),
        expected.tolist(),
        ahead.tolist(),
        low[unseen].tolist(),
        high[unseen].tolist(),
        question.n,
        question.target,
        sentence(answer),
        rises=question.direction == "maximize",
    )


def hints(answer: Answer) -> Iterator[str]:
    """What may be meant otherwise, and what would tell more."""
    needs, question = answer.needs, answer.question
    if (doubt := doubted(answer)) is not None:
        yield doubt
    yield from _going_on(answer)
    yield from _failed(answer)
    if answer.state == "finished" and needs is not None and answer.has_one_seed:
        yield f"One seed a size: intervals do not know its luck; --seeds {_SEEDS} would tell."
    if needs is not None and needs.is_constant and not question.is_ours:
        same = "Each seed has the same error at all sizes"
        yield f"{same}: does the code train on its train_fraction alone?"
    yield from _without_diagnosis(answer)


def doubted(answer: Answer) -> str | None:
    """What may be meant by a target in another unit than what was measured."""
    if answer.meant is None:
        return None
    metric = answer.question.metric
    most = max(fit.metrics[metric] for fit in answer.fits)
    return f"Is {number(answer.meant)} meant? {metric} is {number(most)} at most."


def _going_on(answer: Answer) -> Iterator[str]:
    """What the same command needs to find out more."""
    needs = answer.needs
    if answer.state == "budget":
        yield "The budget is spent; with more, the same command goes on from here."
    if answer.state != "finished" or needs is None:
        return
    seeds = 2 * (1 + max(fit.seed for fit in answer.fits))
    if needs.target is not None and needs.is_probably_reached:
        yield f"More seeds would make it surer: --seeds {seeds}"
    if not answer.is_unclear or needs.is_constant:
        return
    wanted, there = answer.next_size, answer.question.n
    if wanted is not None and wanted > there and answer.question.is_counted:
        yield f"Of n = {wanted:,} there are {there:,}: {wanted - there:,} more would tell most."
    if needs.is_best_of_all:
        best = number(answer.question.target)
        yield f"No data is sure to reach the best value there is: name a --target short of {best}."
    if not answer.has_one_seed:
        which = "The other" if answer.failed_sizes else "All"
        yield f"{which} sizes have their seeds; with more of them it goes on: --seeds {seeds}"


def _without_diagnosis(answer: Answer) -> Iterator[str]:
    """What bias and variance need, where they are not told."""
    name = answer.question.train_metric
    if answer.diagnosis is not None or name is None:
        return
    if any(name in fit.metrics for fit in answer.fits):
        yield "Bias or variance: name a --target, or the metric's --bounds, to compare with."
    elif answer.question.is_ours:
        yield f"Bias and variance need {name}, which earlier fits did not measure: --afresh"
    else:
        yield f"Report {name}, too, to learn whether bias or variance bounds the model."


def _failed(answer: Answer) -> Iterator[str]:
    """Where fits failed, and why the last of them did."""
    gone = answer.failed_sizes
    everywhere = [fit for fit in answer.failures if fit.size in gone]
    if everywhere:
        yield f"{_between(answer, gone)} failed in all seeds ({_why(everywhere)})."
    now_and_then = [fit for fit in answer.failures if fit.size not in gone]
    if now_and_then:
        n = counted(len(now_and_then), "fit")
        yield f"{n} failed at sizes where others did not ({_why(now_and_then)})."


def _between(answer: Answer, sizes: Sequence[int]) -> str:
    """Which sizes failed, in words: those above all others are ``50% of the data and more``."""
    place, worked = answer.question.place, [fit.size for fit in answer.fits]
    if len(sizes) == 1:
        return place(sizes[0])
    if worked and sizes[0] > max(worked):
        return f"{place(sizes[0])} and more"
    if worked and sizes[-1] < min(worked):
        return f"{place(sizes[-1])} and less"
    return ", ".join(map(place, sizes))


def _why(failures: Sequence[Fit]) -> str:
    """The last failure in one line."""
    last = failures[-1].failure
    return "" if last is None else shortened(last.summary, _LONGEST_FAILURE)


def by_size(answer: Answer) -> Iterator[tuple[int, list[Fit]]]:
    """The fits of each size, rising."""
    found: defaultdict[int, list[Fit]] = defaultdict(list)
    for fit in answer.fits:
        found[fit.size].append(fit)
    yield from sorted(found.items())


def as_json(answer: Answer) -> dict[str, Any]:
    """Everything, under keys that stay."""
    question = answer.question
    sizes = list(by_size(answer))
    of_train = question.train_metric or ""
    diagnosis = answer.diagnosis
    return {
        "study": question.study.name,
        "of": question.what,
        "config": dict(question.config),
        "metric": question.metric,
        "direction": question.direction,
        "target": question.target,
        "meant": answer.meant,
        "n": question.n,
        "unit": "examples" if question.is_counted else "percent",
        "state": answer.state,
        "sentence": sentence(answer),
        "hints": list(hints(answer)),
        **_needs_json(answer),
        "table": [asdict(row) for row in table(answer)],
        "sizes": [size for size, _ in sizes],
        "errors": [[fit.metrics[question.metric] for fit in fits] for _, fits in sizes],
        "train_errors": [[fit.metrics.get(of_train) for fit in fits] for _, fits in sizes],
        "seconds": [[round(fit.seconds, 4) for fit in fits] for _, fits in sizes],
        "diagnosis": {**asdict(diagnosis), "sentence": diagnosis.sentence} if diagnosis else None,
        "fits": [fit.as_json() for fit in answer.fits],
        "failed_sizes": answer.failed_sizes,
        "failures": [fit.as_json() for fit in answer.failures],
        "directory": str(question.directory),
    }


def _needs_json(answer: Answer) -> dict[str, Any]:
    needs, target = answer.needs, answer.question.target
    none = ("verdict", "needed", "prob_reached", "prob_reachable", "floor", "next_size")
    if needs is None:
        return {**dict.fromkeys(none), "verdict": None if target is None else "unclear"}
    floor = _interval(needs.floor.quantile(_QUANTILES)[:, 0])
    if target is None:
        return {**dict.fromkeys(none), "floor": floor, "next_size": answer.next_size}
    return {
        "verdict": needs.verdict,
        "needed": _interval([needs.interval[0], needs.size, needs.interval[1]]),
        "prob_reached": needs.prob_reached,
        "prob_reachable": needs.prob_reachable,
        "floor": floor,
        "next_size": answer.next_size,
    }


def _interval(quantiles: Sequence[float] | np.ndarray[Any, Any]) -> dict[str, float | None]:
    """A 90% interval; what is infinite is null: no number of examples is enough."""
    low, middle, high = (float(q) if math.isfinite(q) else None for q in quantiles)
    return {"low": low, "expected": middle, "high": high}


def write(answer: Answer, drawn: ScalingChart | None) -> list[Path]:
    """Writes the chart, if there is one, and all numbers beside the fits.

    Raises:
        HpoError: a file cannot be written.
    """
    directory = answer.question.directory
    files = [directory / JSON]
    files[0].write_text(dumps(as_json(answer)), encoding="utf-8")
    if drawn is not None:
        files.append(directory / PNG)
        write_png(drawn, files[-1])
    return files


def as_run(answer: Answer, files: Sequence[Path], started_ms: int) -> BesideRun:
    """The answer as a run in MLflow: metrics have the size as their step, means over seeds."""
    question, needs = answer.question, answer.needs
    points = []
    for size, fits in by_size(answer):
        for name in fits[0].metrics:
            values = [fit.metrics[name] for fit in fits if name in fit.metrics]
            points.append((name, float(np.mean(values)), size))
    largest = answer.largest
    points += [(f"expected_{row.factor:g}x", row.expected, largest) for row in table(answer)]
    if needs is not None:
        points.append(("floor", float(needs.floor.quantile(0.5)[0]), largest))
        if question.target is not None:
            points.append(("prob_reached", needs.prob_reached, largest))
            points.append(("prob_reachable", needs.prob_reachable, largest))
    said = [sentence(answer), *([answer.diagnosis.sentence] if answer.diagnosis else [])]
    note = "\n\n".join([*said, *hints(answer)])
    tags = {
        "mlflow.source.name": "hpo data-needs",
        "mlflow.note.content": note,
        "hpo.sentence": said[0],
    }
    if needs is not None and question.target is not None:
        tags["hpo.verdict"] = needs.verdict
    if answer.diagnosis is not None:
        tags["hpo.diagnosis"] = answer.diagnosis.sentence
    asked = {"of": question.what, "metric": question.metric, "target": question.target}
    params = {**question.config, **asked, "n": question.n}
    paths = [str(file) for file in (*files, question.directory / FITS)]
    target = "" if question.target is None else float(question.target)
    key = f"{question.key} {question.metric} {target}"  # each question has its run
    return BesideRun("data-needs", key, params, tags, points, paths, started_ms)
