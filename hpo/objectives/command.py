"""A user's command as an objective, in any language.

It runs in the study file's folder. Its parameters stand in its command line (`hpo.templates`) and
in the environment:

- ``HPO_TRIAL_CONFIG``: the configuration as JSON;
- ``HPO_TRIAL``, ``HPO_TRIAL_SEED``, ``HPO_STUDY``: the trial's number, its seed, its study;
- ``HPO_TRIAL_DIRECTORY``: the trial's own folder, with ``stdout.log``, ``stderr.log`` and
  ``config.json``; a trial that is taken up again has the same;
- ``HPO_TRIAL_CHECKPOINT_DIR``: a folder in it for what an attempt leaves to the next.

What it measures is read while it runs (`hpo.objectives.readings`), so that it can be stopped.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from hpo import templates
from hpo.errors import ObjectiveError
from hpo.objectives import Steps
from hpo.objectives.outputs import LAST_LINES, how_it_ended, last_lines, put_aside
from hpo.objectives.process_group import ProcessGroup
from hpo.objectives.readings import (
    JsonLines,
    Logged,
    Patterns,
    Reading,
    Source,
    in_file,
    is_csv,
)
from hpo.places import CHECKPOINTS
from hpo.templates import CONFIG, STDERR, STDOUT
from hpo.trainers import Report
from hpo.trial import Failure, FailureKind, Job
from hpo.words import shortened

if TYPE_CHECKING:
    from hpo.mlflow_server import CodeRuns
    from hpo.spec import Plan

_SECONDS_BETWEEN_READS = 0.1
_MESSAGE_LENGTH = 300
_LINE_LENGTH = 100
_LINES_LOOKED_AT = 1_000
_PARENTS = 3  # of the study file's folder, in which a file that it lacks is looked for
_FILE = re.compile(r"[\w./-]{1,100}")
_WHERE = "commands run in the study file's folder"
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*=")
_EXCEPTION = re.compile(r"[\w.]*(Error|Exception)\b")
_NO_MEMORY = re.compile(
    r"OutOfMemoryError|\bMemoryError|CUDA (error: )?out of memory|RESOURCE_EXHAUSTED|bad_alloc"
    r"|can(not|'t) allocate memory",
    re.IGNORECASE,
)
_OTHER_RUN = {
    r"Cannot start run with ID .* experiment": (
        "leave out `mlflow.set_experiment`: MLFLOW_EXPERIMENT_NAME says it"
    ),
    r"Run (with id=|')\w+'? not found": (
        "leave out `mlflow.set_tracking_uri`: MLFLOW_TRACKING_URI says it"
    ),
}
"""What to do with `metrics_from: mlflow`, by what MLflow says where it cannot find the run."""


class CommandObjective:
    """Runs a command.

    Args:
        plan: The study file that names it.
        runs: Where it logs to MLflow, if it does.

    Raises:
        ObjectiveError: there is no such command, or no MLflow.
    """

    data_digest = None  # it loads what it wants

    def __init__(self, plan: Plan, runs: CodeRuns | None = None) -> None:
        assert plan.spec.objective.command is not None  # noqa: S101 - checked with the file
        self._command = plan.spec.objective.command
        self._objective = plan.spec.objective
        self._wanted = {*plan.spec.objective.metrics, *plan.spec.constraints, *plan.spec.gate}
        self._run = plan.spec.run
        self._study = plan.spec.name
        self._folder = plan.folder
        self._device = _device(self._command, plan.spec.run.device)
        self._runs = runs
        if runs is not None:
            runs.make_ready(*_code(self._command, self._folder))
        self._draining = False
        self._stopped = False
        if not self._objective.shell:
            _demand(templates.program(self._command), self._folder)
        if self._objective.metrics_from == "mlflow" and runs is None:
            raise ObjectiveError(
                "objective.metrics_from is mlflow, and tracking is off.",
                "Give `tracking:` a URI, or let the command print JSON lines.",
            )

    def __call__(self, job: Job) -> Steps:
        """Yields what the command reports and returns its last metrics, or why it failed."""
        started, directory = time.monotonic(), job.directory.resolve()
        self._stopped = False
        for name in filter(None, (STDOUT, STDERR, self._file)):
            put_aside(directory / name)
        source, status = self._source(job, directory), "KILLED"
        group = None
        try:
            try:
                group = self._start(job, directory, source)
            except (OSError, ValueError) as error:
                status = "FAILED"
                reason = getattr(error, "strerror", None) or str(error)
                return Failure(FailureKind.CRASHED, f"the command cannot be started: {reason}")
            metrics: dict[str, float] = {}
            for step, new in _in_steps(self._readings(group, source)):
                metrics.update(new)
                if step is not None:
                    yield Report(step, new, time.monotonic() - started)
            if self._draining or self._stopped:
                return None
            status = "FAILED" if group.code else "FINISHED"
            if group.code:
                logs = self._objective.metrics_from == "mlflow"
                hints = dict(_OTHER_RUN) if logs else {}
                for word, there in _elsewhere(self._command, self._folder):
                    hints[re.escape(word)] = f"{_WHERE}: write {there} for {word}"
                return _failure(group.code, directory, hints)
            return metrics or self._unread(directory) or {}
        finally:
            if group is not None:
                group.end()
            source.end(status)

    def drain(self) -> None:
        """Lets the running command be told by SIGTERM, which it may take for saving its state."""
        self._draining = True

    def stop(self) -> None:
        """Lets the running command be told by SIGTERM; nobody waits for its next report."""
        self._stopped = True

    def _readings(self, group: ProcessGroup, source: Source) -> Iterator[Reading]:
        """What the command measures, until it has ended."""
        while not (group.wait(_SECONDS_BETWEEN_READS) or self._draining or self._stopped):
            yield from source.read(last=False)
        group.end()  # what it has left running
        yield from source.read(last=True)

    def _unread(self, directory: Path) -> Failure | None:
        """Why nothing was read, by what it printed or wrote instead."""
        given, metric = self._objective.metrics_from, self._objective.metrics[0]
        if given == "stdout":
            found = JsonLines(directory / STDERR).read(last=True)
            names = ", ".join(dict.fromkeys(name for each in found for name in each.metrics))
            if names:
                message = (
                    f"nothing was reported on stdout; {names} came on stderr, which is not read"
                )
                return Failure(FailureKind.NO_METRIC, message)
            line = _line_with(metric, directory)
            why = None if line is None else _of_line(line, metric)
        elif isinstance(given, str):
            return None
        elif given.file is not None:
            why = _of_file(directory / given.file, given.file, metric)
        else:
            line = _line_with(metric, directory) or _last_line(directory)
            printed = "it printed nothing" if line is None else f"it printed {_quoted(line)}"
            why = f"{printed}, where `{(given.regex or {})[metric]}` finds no number"
        if why is None:
            return None
        return Failure(FailureKind.NO_METRIC, f"no metric '{metric}' was reported; {why}")

    def _start(self, job: Job, directory: Path, source: Source) -> ProcessGroup:
        checkpoints, config = directory / CHECKPOINTS, json.dumps(dict(job.config))
        checkpoints.mkdir(parents=True, exist_ok=True)
        (directory / CONFIG).write_text(config, encoding="utf-8")
        about = {
            "trial": str(job.trial),
            "seed": str(job.seed),
            "directory": str(directory),
            "device": self._device,
            "config": str(directory / CONFIG),
        }
        environment = {
            **os.environ,
            "PATH": _path(),
            "PYTHONUNBUFFERED": "1",  # what is printed is to be read now
            "HPO_STUDY": self._study,
            "HPO_TRIAL": about["trial"],
            "HPO_TRIAL_SEED": about["seed"],
            "HPO_TRIAL_CONFIG": config,
            "HPO_TRIAL_DIRECTORY": about["directory"],
            "HPO_TRIAL_CHECKPOINT_DIR": str(checkpoints),
            **(self._runs.environment(job.trial) if self._runs else {}),
            **source.environment,
        }
        return ProcessGroup(
            templates.fill(self._command, job.config, about, for_shell=self._objective.shell),
            folder=self._folder,
            environment=environment,
            stdout=directory / STDOUT,
            stderr=directory / STDERR,
            grace_seconds=self._run.grace_period,
        )

    def _source(self, job: Job, directory: Path) -> Source:
        given = self._objective.metrics_from
        if given == "stdout":
            return JsonLines(directory / STDOUT, self._wanted)
        if given == "mlflow":
            from hpo.mlflow_server.script_runs import ScriptRun  # imports mlflow: 3 seconds

            assert self._runs is not None  # noqa: S101 - checked when it was built
            return Logged(ScriptRun(self._runs, job.trial), self._objective.metrics)
        if given.file is not None:
            return in_file(directory / given.file, self._wanted)
        return Patterns(given.regex or {}, [directory / STDOUT, directory / STDERR])

    @property
    def _file(self) -> str | None:
        given = self._objective.metrics_from
        return None if isinstance(given, str) else given.file


def _device(command: templates.Command, name: str) -> str:
    """What stands for ``{device}``; of ``auto`` the first there is of cuda, mps and cpu."""
    if name != "auto" or "device" not in templates.placeholders(command):
        return name
    from hpo.trainers.devices import choose  # imports torch, which not every command needs

    return str(choose(name))


def _in_steps(
    readings: Iterator[Reading],
) -> Iterator[tuple[int | None, Mapping[str, float]]]:
    """Readings with their steps.

    Where no step is ever named, readings count themselves from 1. Else one without a step is
    about the whole trial, and has None.
    """
    are_named = False
    for count, (step, metrics) in enumerate(readings, start=1):
        are_named = are_named or step is not None
        yield step if are_named else count, metrics


def _demand(program: str | None, folder: Path) -> None:
    """Looks whether there is such a program.

    Raises:
        ObjectiveError: there is none.
    """
    if program is None:
        return
    path = folder / program
    found = os.access(path, os.X_OK) if os.sep in program else shutil.which(program, path=_path())
    if found and not path.is_dir():
        return
    if _ASSIGNMENT.match(program):
        raise ObjectiveError(
            f"'{program}' in front of a command is what a shell understands, and none reads it.",
            f"Write `env {program} ...`, or give `shell: true`.",
        )
    if os.sep not in program:
        there = f"Write ./{program}" if path.is_file() else "Is it installed?"
        raise ObjectiveError(f"there is no command '{program}' in $PATH.", there)
    if path.is_file():
        raise ObjectiveError(f"{path} cannot be executed.", f"Type: chmod +x {path}")
    for _, elsewhere in _elsewhere([program], folder):
        raise ObjectiveError(f"there is no program {path}.", f"Write {elsewhere}, since {_WHERE}.")
    raise ObjectiveError(f"there is no program {path}.", "Is its path right, from the study file?")


def _code(command: templates.Command, folder: Path) -> Iterator[Path]:
    """The files and Python modules that a command names."""
    for word in command.split() if isinstance(command, str) else command:
        yield folder / word
        yield folder / f"{word.replace('.', '/')}.py"


def _elsewhere(command: templates.Command, folder: Path) -> Iterator[tuple[str, str]]:
    """Files that a command names and that lie near its folder, with their paths from there."""
    for word in command.split() if isinstance(command, str) else command:
        if not _FILE.fullmatch(word) or (folder / word).exists():
            continue
        for near in (Path.cwd(), *folder.parents[:_PARENTS]):
            if (near / word).is_file():
                yield word, os.path.relpath(near / word, folder)
                break


def _path() -> str:
    """$PATH, and behind it the folder of this Python, whose environment may not be activated."""
    return os.pathsep.join([os.environ.get("PATH", os.defpath), str(Path(sys.executable).parent)])


def _line_with(metric: str, directory: Path) -> str | None:
    """The last line with a metric's name."""
    for name in (STDOUT, STDERR):
        for line in reversed(last_lines(directory / name, _LINES_LOOKED_AT)):
            if re.search(rf"(?<!\w){re.escape(metric)}(?!\w)", line):
                return line.strip()
    return None


def _last_line(directory: Path) -> str | None:
    """The last thing that it printed."""
    for name in (STDOUT, STDERR):
        for line in last_lines(directory / name, 1):
            return line.strip()
    return None


def _quoted(line: str) -> str:
    return f"`{shortened(line, _LINE_LENGTH)}`"


def _of_line(line: str, metric: str) -> str:
    """Why a line that was printed has no metric, and how it may be found in there all the same."""
    name = re.escape(metric)
    pattern = rf"\b{name}\W*?([-+]?\.?\d[-+.e\d]*)"
    found = re.search(pattern, line) and _value_in(line, metric) is None
    instead = f"; or write metrics_from: {{regex: {{{metric}: '{pattern}'}}}}" if found else ""
    return f"it printed {_quoted(line)}, {_unlike_json(line, metric)}{instead}"


def _unlike_json(line: str, metric: str) -> str:
    """What a line lacks to be a metric in JSON."""
    value = _value_in(line, metric)
    if value is not None:
        return f"where {value} is no number"
    return f"and metrics are JSON lines: {json.dumps({metric: 0.1})}"


def _value_in(line: str, metric: str) -> str | None:
    """What a line of JSON says of a metric, as JSON; None of other lines."""
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    is_there = isinstance(values, dict) and metric in values
    return shortened(json.dumps(values[metric]), _LINE_LENGTH) if is_there else None


def _of_file(path: Path, name: str, metric: str) -> str:
    """Why a file has no metrics."""
    if not path.exists():
        where = "the trial's folder, which is {directory} and $HPO_TRIAL_DIRECTORY"
        return f"it wrote no {name} into {where}"
    lines = last_lines(path)
    if is_csv(name):
        rows = "metrics are rows of numbers below names, by commas"
        return (
            f"its {name} {f'ends with {_quoted(lines[-1])}' if lines else 'is empty'}, and {rows}"
        )
    whole = " ".join(line.strip() for line in lines)
    line = whole if _value_in(whole, metric) is not None else lines[-1].strip() if lines else ""
    holds = f"says {_quoted(line)}" if lines else "is empty"
    return f"its {name} {holds}, {_unlike_json(line, metric)}"


def _failure(code: int, directory: Path, hints: Mapping[str, str]) -> Failure:
    """Why the command failed, with its last words, and a hint by what is in them."""
    lines = last_lines(directory / STDERR)
    printed = last_lines(directory / STDOUT)
    # Where it said little on stderr, what is wrong may stand on stdout.
    said = "\n".join([*printed, *lines][-max(len(lines), LAST_LINES) :])
    lines = lines or printed
    ended = how_it_ended(code)
    if code == -signal.SIGKILL:
        ended += " (did the machine run out of memory?)"
    by_exception = bool(lines) and _EXCEPTION.match(lines[-1])  # which the last words are then of
    no_memory = any(map(_NO_MEMORY.search, lines[-1:] if by_exception else lines))
    kind = FailureKind.OUT_OF_MEMORY if no_memory else FailureKind.CRASHED
    last = f": {lines[-1].strip()}" if lines else " and said nothing"
    hint = next((f"; {hint}" for words, hint in hints.items() if re.search(words, said)), "")
    message = shortened(f"the command {ended}{last}", _MESSAGE_LENGTH).rstrip(".")
    return Failure(kind, message + hint, said)
