"""Commands as objectives: real processes, what they are given, what is read, and how they end."""

from __future__ import annotations

import json
import math
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hpo import objectives, spec, studyfile
from hpo.errors import ObjectiveError
from hpo.objectives.readings import JsonLines, Patterns, Reading, Tail
from hpo.trainers import Report
from hpo.trainers.devices import choose
from hpo.trial import Failure, FailureKind, Job
from tests.acceptance.harness import PATIENCE_SECONDS, Folder

PYTHON = shlex.quote(sys.executable)
WAITS = "import time\nwhile True: time.sleep(0.01)\n"
CHILD = f"""
import subprocess, sys
from pathlib import Path
child = subprocess.Popen([sys.executable, "-c", {WAITS!r}])
Path("child.txt").write_text(str(child.pid) + "\\n")
"""


def objective(folder: Path, script: str, command: str = "{args}", **given: Any) -> Any:
    """The objective `python script.py COMMAND` of a study file in `folder`."""
    (folder / "script.py").write_text(script, encoding="utf-8")
    run = {
        "grace_period": given.pop("grace_period", 10.0),
        "device": given.pop("device", "auto"),
    }
    values = {
        "name": "s",
        "objective": {"command": f"{PYTHON} script.py {command}", "metric": "loss", **given},
        "space": {"x": [1, 2], "y": [1, 2], "text": ["a", "b"]},
        "run": run,
    }
    plan = spec.check(studyfile.from_values(values, "the study", folder))
    return objectives.build(plan, f"sqlite:///{folder}/mlflow.db")


def job(folder: Path, **config: Any) -> Job:
    directory = folder / "trial"
    directory.mkdir(exist_ok=True)
    return Job(3, config, 11, directory)


def ran(steps: objectives.Steps) -> tuple[list[Report], Mapping[str, float] | Failure]:
    """All reports of a trial, and what it came to."""
    reports = []
    while True:
        try:
            reports.append(next(steps))
        except StopIteration as end:
            return reports, end.value


def failure(steps: objectives.Steps) -> Failure:
    _, result = ran(steps)
    assert isinstance(result, Failure)
    return result


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def lives(pid: str) -> bool:
    """Whether a process runs; one that has ended and awaits burial does not."""
    said = subprocess.run(["ps", "-o", "stat=", "-p", pid.strip()], capture_output=True, text=True)
    return said.stdout.strip()[:1] not in ("", "Z")


def test_json_on_stderr_is_named_where_nothing_is_on_stdout(tmp_path: Path) -> None:
    code = """import sys; print('{"step": 1, "loss": 0.5}', file=sys.stderr)"""
    found = failure(objective(tmp_path, code)(Job(0, {"x": 1}, 0, tmp_path)))

    assert found.kind == FailureKind.NO_METRIC
    assert found.message == "nothing was reported on stdout; loss came on stderr, which is not read"


@pytest.mark.parametrize(
    ("code", "line"),
    [
        ("print('loss', 'low', 0.1)\nprint('done')", "loss low 0.1"),
        ("print('loss', 'x' * 1000)", f"loss {'x' * 89} [...]"),
    ],
)
def test_a_line_that_is_nearly_a_metric_is_quoted(tmp_path: Path, code: str, line: str) -> None:
    found = failure(objective(tmp_path, code)(job(tmp_path)))

    assert found.kind == FailureKind.NO_METRIC
    assert found.message == (
        f"no metric 'loss' was reported; it printed `{line}`, and metrics are JSON lines: "
        '{"loss": 0.1}'
    )


@pytest.mark.parametrize(
    ("code", "line", "loss"),
    [
        ("print({'loss': -.1})\nprint('done')", "{'loss': -0.1}", -0.1),
        ("print('loss ... .25 of 9')", "loss ... .25 of 9", 0.25),
        ("print('loss -> -0.3')", "loss -> -0.3", -0.3),
        ("print('train_loss 7 loss: 3e-1')", "train_loss 7 loss: 3e-1", 0.3),
        ("import json; print(json.dumps([{'loss': 0.5}]))", '[{"loss": 0.5}]', 0.5),
        (
            "import logging; logging.basicConfig(level=20); logging.info('{\"loss\": 1}')",
            'INFO:root:{"loss": 1}',
            1.0,
        ),
    ],
)
def test_a_number_that_is_not_in_json_has_a_pattern_that_finds_it(
    tmp_path: Path, code: str, line: str, loss: float
) -> None:
    message = failure(objective(tmp_path, code)(job(tmp_path))).message
    said, _, pattern = message.partition("; or write metrics_from: ")
    patterns = YAML(typ="safe").load(pattern)
    (found,) = objective(tmp_path, code, metrics_from=patterns)(job(tmp_path))

    assert said == (
        f"no metric 'loss' was reported; it printed `{line}`, and metrics are JSON lines: "
        '{"loss": 0.1}'
    )
    assert found.metrics == {"loss": loss}


@pytest.mark.parametrize("value", ["true", '"0.3"', "null", "[0.3]"])
def test_a_value_that_is_no_number_is_told(tmp_path: Path, value: str) -> None:
    line = f'{{"step": 1, "loss": {value}}}'
    found = failure(objective(tmp_path, f"print({line!r})")(job(tmp_path)))

    said = f"it printed `{line}`, where {value} is no number"
    assert found.message == f"no metric 'loss' was reported; {said}"


PATTERN = {"regex": {"loss": "loss: ([0-9.]+)"}}
WRITE_PRETTY = """
with open(os.environ["HPO_TRIAL_DIRECTORY"] + "/m.json", "w") as file:
    file.write('{\\n  "loss": "0.3"\\n}')
"""
FOLDER = "the trial's folder, which is {directory} and $HPO_TRIAL_DIRECTORY"


@pytest.mark.parametrize(
    ("code", "given", "why"),
    [
        (
            "print('loss = 0.5\\ndone')",
            PATTERN,
            "it printed `loss = 0.5`, where `loss: ([0-9.]+)` finds no number",
        ),
        (
            "print('begun\\nerror 0.5')",
            PATTERN,
            "it printed `error 0.5`, where `loss: ([0-9.]+)` finds no number",
        ),
        ("", PATTERN, "it printed nothing, where `loss: ([0-9.]+)` finds no number"),
        (
            "open('m.jsonl', 'w').write('{\"loss\": 1}')",
            {"file": "m.jsonl"},
            f"it wrote no m.jsonl into {FOLDER}",
        ),
        (
            "import os; open(os.environ['HPO_TRIAL_DIRECTORY'] + '/m.csv', 'w').write('loss,1\\n')",
            {"file": "m.csv"},
            "its m.csv ends with `loss,1`, and metrics are rows of numbers below names, by commas",
        ),
        (
            f"import os\n{WRITE_PRETTY}",
            {"file": "m.json"},
            'its m.json says `{ "loss": "0.3" }`, where "0.3" is no number',
        ),
        (
            "import os; open(os.environ['HPO_TRIAL_DIRECTORY'] + '/m.jsonl', 'w')",
            {"file": "m.jsonl"},
            'its m.jsonl is empty, and metrics are JSON lines: {"loss": 0.1}',
        ),
    ],
)
def test_what_there_was_instead_is_told_of_every_source(
    tmp_path: Path, code: str, given: Any, why: str
) -> None:
    found = failure(objective(tmp_path, code, metrics_from=given)(job(tmp_path)))

    assert found.kind == FailureKind.NO_METRIC
    assert found.message == f"no metric 'loss' was reported; {why}"


# --- what it is given ---


def test_a_command_knows_its_trial_by_arguments_and_environment(tmp_path: Path) -> None:
    script = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "environ": dict(os.environ), "cwd": os.getcwd()}))
print(json.dumps(json.load(open(sys.argv[-1]))))
"""
    command = "--x {x} --gone {y} --text={text} {args} {trial} {seed} {device} {directory} {config}"

    ran(objective(tmp_path, script, command)(job(tmp_path, x=1e-05, text="a b")))

    said, config = (tmp_path / "trial/stdout.log").read_text().splitlines()
    seen, directory = json.loads(said), str(tmp_path / "trial")
    device = str(choose("auto"))
    shown = ["--x=1e-05", "--text=a b", "3", "11", device, directory, f"{directory}/config.json"]
    assert seen["argv"] == ["--x", "1e-05", "--text=a b", *shown]
    assert seen["cwd"] == str(tmp_path)
    assert json.loads(config) == {"x": 1e-05, "text": "a b"}
    environ = seen["environ"]
    assert json.loads(environ["HPO_TRIAL_CONFIG"]) == {"x": 1e-05, "text": "a b"}
    names = ("HPO_STUDY", "HPO_TRIAL", "HPO_TRIAL_SEED", "HPO_TRIAL_DIRECTORY")
    assert [environ[name] for name in names] == ["s", "3", "11", directory]
    assert Path(environ["HPO_TRIAL_CHECKPOINT_DIR"]).is_dir()


def test_a_device_that_is_not_there_is_named_before_any_trial(tmp_path: Path) -> None:
    with pytest.raises(ObjectiveError, match="there is no device 'cuda:99' on this machine"):
        objective(tmp_path, "", "{device}", device="cuda:99")


@pytest.mark.parametrize("shell", [False, True])
def test_a_value_arrives_as_one_argument_and_runs_nothing(tmp_path: Path, *, shell: bool) -> None:
    nasty = [
        "; touch pwned",
        "$(touch pwned)",
        "`touch pwned`",
        "a'b\"c",
        "two\nlines",
        "*",
        "-",
        "",
    ]
    run = objective(
        tmp_path,
        "import json, sys; print(json.dumps({'argv': sys.argv[1:]}))",
        "--text {text} x{text}" + (" && echo done" if shell else ""),
        shell=shell,
    )
    for text in nasty:
        ran(run(job(tmp_path, text=text)))
        said, *more = (tmp_path / "trial/stdout.log").read_text().splitlines()
        assert json.loads(said)["argv"] == ["--text", text, f"x{text}"]
        assert more == (["done"] if shell else [])
    assert not (tmp_path / "pwned").exists()


# --- what is read ---


def test_json_lines_are_reported_as_they_come(tmp_path: Path) -> None:
    script = """
import json, sys, time
from pathlib import Path
print("begin"); print('{"note": "no number"}'); print("{no json}")
print(json.dumps({"epoch": 1, "loss": 3, "done": True}))
print('{"step": 2, "loss"', end="", flush=True)
while not Path("go").exists(): time.sleep(0.01)
print(": 2, \\"epoch\\": 0.5}")
print('{"loss": 1, "size": 9}', end="")
"""
    steps = objective(tmp_path, script)(job(tmp_path))

    first = next(steps)
    (tmp_path / "go").touch()
    rest, metrics = ran(steps)

    said = [(report.step, dict(report.metrics)) for report in [first, *rest]]
    assert said == [(1, {"loss": 3}), (2, {"loss": 2, "epoch": 0.5})]
    assert metrics == {"loss": 1, "epoch": 0.5, "size": 9}
    assert 0 < first.wall_seconds <= rest[0].wall_seconds


@pytest.mark.parametrize("indent", [None, 2])
def test_one_json_object_that_is_written_anew_is_read_each_time(
    tmp_path: Path, indent: int | None
) -> None:
    script = f"""
import json, os, time
from pathlib import Path
path = Path(os.environ["HPO_TRIAL_DIRECTORY"]) / "metrics.json"
for epoch in (1, 2, 3):
    said = {{"epoch": epoch, "loss": 1 / epoch, "by_class": {{"loss": 7}}}}
    with path.open("w") as file:
        json.dump(said, file, indent={indent})
    while not Path(f"go{{epoch}}").exists(): time.sleep(0.01)
with path.open("w") as file:
    json.dump({{"loss": 0.25, "size": 9}}, file, indent={indent})
"""
    steps = objective(tmp_path, script, metrics_from={"file": "metrics.json"})(job(tmp_path))
    for epoch in (1, 2, 3):
        report = next(steps)
        assert (report.step, dict(report.metrics)) == (
            epoch,
            {"loss": 1 / epoch, "by_class/loss": 7},
        )
        (tmp_path / f"go{epoch}").touch()
    rest, metrics = ran(steps)
    assert rest == []
    assert metrics == {"loss": 0.25, "by_class/loss": 7, "size": 9}


def test_a_csv_file_is_read_row_by_row(tmp_path: Path) -> None:
    script = """
import os, time
from pathlib import Path
path = Path(os.environ["HPO_TRIAL_DIRECTORY"]) / "metrics.csv"
with path.open("w") as file:
    print("epoch,loss", file=file)
    for epoch in (1, 2):
        print(f"{epoch},{1 / epoch}", file=file, flush=True)
        while not Path(f"go{epoch}").exists(): time.sleep(0.01)
"""
    steps = objective(tmp_path, script, metrics_from={"file": "metrics.csv"})(job(tmp_path))
    for epoch in (1, 2):
        report = next(steps)
        assert (report.step, dict(report.metrics)) == (epoch, {"loss": 1 / epoch})
        (tmp_path / f"go{epoch}").touch()
    assert ran(steps) == ([], {"loss": 0.5})


def test_a_metrics_file_is_read_as_it_grows_and_an_earlier_attempts_is_put_aside(
    tmp_path: Path,
) -> None:
    script = """
import json, os, time
from pathlib import Path
path = Path(os.environ["HPO_TRIAL_DIRECTORY"]) / "out/m.jsonl"
path.parent.mkdir(exist_ok=True)
with path.open("a") as file:
    for step in (1, 2):
        file.write(json.dumps({"loss": 1 / step}) + "\\n")
        file.flush()
        while not Path("go").exists(): time.sleep(0.01)
"""
    run = objective(tmp_path, script, metrics_from={"file": "out/m.jsonl"})
    for _ in range(2):
        (tmp_path / "go").unlink(missing_ok=True)
        steps = run(job(tmp_path))
        first = next(steps)
        (tmp_path / "go").touch()
        rest, metrics = ran(steps)
        assert [(r.step, r.metrics["loss"]) for r in [first, *rest]] == [(1, 1.0), (2, 0.5)]
        assert metrics == {"loss": 0.5}
    names = {str(path.relative_to(tmp_path / "trial")) for path in tmp_path.glob("trial/**/*-1.*")}
    assert names == {"stdout-1.log", "stderr-1.log", "out/m-1.jsonl"}


def test_patterns_find_metrics_in_output_and_errors(tmp_path: Path) -> None:
    script = """
import sys
for epoch in (1, 2):
    print(f"Epoch {epoch}\\nval error {1 / epoch}%")
    print(f"\\rloss: {epoch}e-2", end="", file=sys.stderr)
"""
    patterns = {"loss": r"loss: (\S+)", "error": "error ([0-9.]+)", "step": r"Epoch (\d+)"}

    reports, metrics = ran(
        objective(tmp_path, script, metrics_from={"regex": patterns})(job(tmp_path))
    )

    assert [(r.step, r.metrics["error"]) for r in reports if "error" in r.metrics] == [
        (1, 1),
        (2, 0.5),
    ]
    assert metrics == {"loss": 0.02, "error": 0.5}


def test_a_megabyte_of_errors_holds_up_nothing(tmp_path: Path) -> None:
    script = "import sys; sys.stderr.write('x' * 2**20); print('{\"loss\": 1}')"

    _, metrics = ran(objective(tmp_path, script)(job(tmp_path)))

    assert metrics == {"loss": 1}
    assert (tmp_path / "trial/stderr.log").stat().st_size == 2**20


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ('{"a": 1}\r\n{"a": 2}', [(None, {"a": 1}), (None, {"a": 2})]),
        ('{"step": 3.0, "epoch": 1, "a": 1}', [(3, {"epoch": 1, "a": 1})]),
        ('{"step": -1, "epoch": 4, "a": 1}', [(4, {"a": 1})]),
        ('{"epoch": 1}\n[1]\n{"a": true}\n{"a": "1"}\n{}\nnull', []),
        ('{\n "a": 1,\n "b": [2]\n}\n', [(None, {"a": 1})]),
        ('{"a": ' * 100_000, []),
        ('{"a": -1' + "0" * 400 + ', "b": Infinity}', [(None, {"a": -math.inf, "b": math.inf})]),
        ("x" * 3_000_000 + '\n{"a": 1}', [(None, {"a": 1})]),
        ("", []),
    ],
    ids=["crlf", "step", "epoch", "no-number", "many-lines", "deep", "huge", "long-line", "empty"],
)
def test_json_objects_are_read_for_their_numbers(
    tmp_path: Path, text: str, readings: list[Reading]
) -> None:
    path = tmp_path / "out"
    path.write_text(text, newline="")

    assert list(JsonLines(path).read(last=True)) == readings


def test_a_file_that_is_written_anew_ends_with_its_last_object(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    source = JsonLines(path)
    assert list(source.read(last=False)) == []  # it is not there yet
    path.write_text('{"a": 1}')
    assert list(source.read(last=False)) == []  # nor is its line complete
    path.write_text('{"a": 2}')

    assert list(source.read(last=True)) == [(None, {"a": 2})]


def test_one_line_is_one_reading(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text('{"a": 1}\n')
    source = JsonLines(path)

    assert [*source.read(last=False), *source.read(last=True)] == [(None, {"a": 1})]


def test_a_file_that_shrinks_is_read_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "out"
    tail = Tail(path)
    path.write_text("one\ntwo\nthr")
    assert list(tail.lines(last=False)) == ["one", "two"]
    path.write_text("four\nfive")

    assert list(tail.lines(last=True)) == ["four", "five"]


def test_without_a_pattern_for_steps_each_metric_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "out"
    path.write_text("a 1\nb 1\na 2\nb 2 of x\na none\na 3 b 3\n")
    source = Patterns({"a": r"a (\S+)", "b": r"b (\S+)"}, [path])

    assert list(source.read(last=True)) == [
        (1, {"a": 1}), (1, {"b": 1}), (2, {"a": 2}), (2, {"b": 2}), (3, {"a": 3, "b": 3})
    ]  # fmt: skip


# --- how it ends ---


def test_a_command_that_exits_with_an_error_fails_with_its_last_words(tmp_path: Path) -> None:
    script = """
import sys
print('{"loss": 1}')
for i in range(30): print(f"line {i}", file=sys.stderr)
print("no such file: data.csv.\\n", file=sys.stderr)
sys.exit(3)
"""
    failed = failure(objective(tmp_path, script)(job(tmp_path)))

    assert failed.kind == FailureKind.CRASHED
    assert failed.message == "the command exited with 3: no such file: data.csv"
    assert failed.traceback.splitlines()[0] == "line 11"
    assert len(failed.traceback.splitlines()) == 20


def test_where_little_is_on_stderr_the_last_lines_of_stdout_are_shown_too(tmp_path: Path) -> None:
    script = """
import sys
for i in range(30): print(f"line {i}")
print("FATAL: no data")
print("UserWarning: deprecated", file=sys.stderr)
sys.exit(1)
"""
    failed = failure(objective(tmp_path, script)(job(tmp_path)))

    assert failed.message == "the command exited with 1: UserWarning: deprecated"
    lines = failed.traceback.splitlines()
    assert len(lines) == 20
    assert lines[0] == "line 12"
    assert lines[-2:] == ["FATAL: no data", "UserWarning: deprecated"]


@pytest.mark.parametrize(
    ("script", "kind", "message"),
    [
        ("print('only here'); exit(1)", "CRASHED", "the command exited with 1: only here"),
        ("exit(2)", "CRASHED", "the command exited with 2 and said nothing"),
        ("import os; os.abort()", "CRASHED", "the command was killed by SIGABRT and said nothing"),
        ("import os; os.kill(os.getpid(), 9)", "CRASHED", "by SIGKILL (did the machine run out"),
        ("raise MemoryError('lots')", "OUT_OF_MEMORY", "exited with 1: MemoryError: lots"),
        (
            "import torch; raise torch.OutOfMemoryError('CUDA out of memory. Tried 2 GiB')",
            "OUT_OF_MEMORY",
            "torch.OutOfMemoryError: CUDA out of memory. Tried 2 GiB",
        ),
        (
            "import sys; print('CUDA error: out of memory\\nAborting.', file=sys.stderr); exit(1)",
            "OUT_OF_MEMORY",
            "exited with 1: Aborting",
        ),
        (
            "import sys; print('note: MemoryError and out of memory', file=sys.stderr); {}['x']",
            "CRASHED",
            "exited with 1: KeyError: 'x'",
        ),
    ],
)
def test_a_failure_says_how_the_command_ended(
    tmp_path: Path, script: str, kind: str, message: str
) -> None:
    failed = failure(objective(tmp_path, script)(job(tmp_path)))

    assert failed.kind == kind
    assert message in failed.message


def test_a_command_that_cannot_be_started_is_a_failed_trial(tmp_path: Path) -> None:
    failed = failure(objective(tmp_path, "", command="{text}")(job(tmp_path, text="a\0b")))

    assert failed.message == "the command cannot be started: embedded null byte"


def test_a_stopped_command_has_its_grace_to_clean_up(tmp_path: Path) -> None:
    script = f"""
import signal, sys
from pathlib import Path
def clean(*_):
    Path("cleaned").touch()
    sys.exit()
signal.signal(signal.SIGTERM, clean)
print('{{"loss": 1}}')
{WAITS}"""
    with closing(objective(tmp_path, script)(job(tmp_path))) as steps:
        next(steps)

    assert (tmp_path / "cleaned").exists()


def test_a_stopped_command_that_will_not_end_is_killed_with_its_children(tmp_path: Path) -> None:
    ignores = "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
    script = f"{ignores}{CHILD}\nprint('{{\"loss\": 1}}')\n{WAITS}"

    with closing(objective(tmp_path, script, grace_period=0.2)(job(tmp_path))) as steps:
        next(steps)
        child = (tmp_path / "child.txt").read_text()
        assert lives(child)

    assert not lives(child)


@pytest.mark.parametrize("session", ["", ", start_new_session=True"])
def test_what_a_command_leaves_running_ends_with_it(tmp_path: Path, session: str) -> None:
    leaves = CHILD.replace("])\n", f"]{session})\n", 1)  # in a session of its own, nobody's child
    assert session in leaves
    _, metrics = ran(objective(tmp_path, leaves + "print('{\"loss\": 1}')")(job(tmp_path)))

    assert metrics == {"loss": 1}
    assert not lives((tmp_path / "child.txt").read_text())


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (
            "PYTHONPATH=src python -m x {args}",
            "'PYTHONPATH=src' in front .* Write `env PYTHONPATH=src ...`, or give `shell: true`",
        ),
        ("no-such-program {args}", "there is no command 'no-such-program' in $PATH. Is it"),
        ("tool {args}", r"there is no command 'tool' in \$PATH. Write ./tool"),
        ("./tool {args}", r"tool cannot be executed. Type: chmod \+x"),
        ("bin/tool {args}", "there is no program .*bin/tool"),
    ],
)
def test_a_program_that_is_not_there_is_told_before_any_trial(
    tmp_path: Path, command: str, message: str
) -> None:
    (tmp_path / "tool").write_text("#!/bin/sh\n")
    values = {"name": "s", "objective": {"command": command, "metric": "m"}, "space": {"x": 1}}
    plan = spec.check(studyfile.from_values(values, "the study", tmp_path))

    with pytest.raises(ObjectiveError, match=message.replace("$PATH. Is", r"\$PATH. Is")):
        objectives.build(plan, "none")
    (tmp_path / "tool").chmod(0o755)
    if command.startswith("./"):
        assert ran(objectives.build(plan, "none")(job(tmp_path)))[1] == {}


def test_python_is_found_even_where_its_environment_is_not_activated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    name = Path(sys.executable).name
    values = {
        "name": "s",
        "objective": {"command": [name, "-c", "print('{{\"loss\": {x}}}')"], "metric": "loss"},
        "space": {"x": 1},
    }
    plan = spec.check(studyfile.from_values(values, "the study", tmp_path))

    assert ran(objectives.build(plan, "none")(job(tmp_path, x=1)))[1] == {"loss": 1}


# --- in a study ---

STUDY = {
    "name": "s",
    "objective": {"command": f"{PYTHON} train.py {{args}}", "metric": "loss"},
    "space": {"x": {"int": [0, 3]}},
    "search": {"sampler": "grid"},
    "run": {"grace_period": 1.0},
}
TRAIN = """
import json, os, sys, time
from pathlib import Path

with Path("calls.txt").open("a") as calls:
    calls.write(os.environ["HPO_TRIAL"] + "\\n")
trial = os.environ["HPO_TRIAL"]
for step in range(1, 6):
    print(json.dumps({"step": step, "loss": int(trial) + 1 / step}))
    while step == 2 and trial == os.environ.get("WAIT"):
        Path("pid.txt").write_text(str(os.getpid()) + "\\n")
        time.sleep(0.01)
"""


def test_a_rule_stops_a_command_in_its_middle(folder: Folder) -> None:
    folder.write("train.py", TRAIN)
    stopping = {"rule": "median", "startup_trials": 1}

    done = folder.hpo("run", folder.study({**STUDY, "stopping": stopping}), WAIT="2")

    assert done.code == 0  # though trial 2 would wait for ever
    trials = folder.trials("s")
    assert [trial["state"] for trial in trials] == ["COMPLETE", *["PRUNED"] * 3]
    assert trials[2]["n_steps"] in (1, 2)


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -signal.SIGKILL)]
)
def test_a_command_ends_with_hpo_however_that_ends_and_its_trial_is_taken_up_again(
    folder: Folder, number: int, code: int
) -> None:
    folder.write("train.py", TRAIN)
    running = folder.start("run", folder.study(STUDY), WAIT="2")
    running.wait_for("\n", folder.path / "pid.txt")
    pid = (folder.path / "pid.txt").read_text()
    running.signal(number)

    assert running.done().code == code

    wait_until(lambda: not lives(pid))
    assert folder.hpo("resume", "s").code == 0
    assert folder.states("s") == {"COMPLETE": 4}
    assert folder.calls() == ["0", "1", "2", "2", "3"]
    trial = folder.path / "hpo-runs/s/trial-00002"
    assert len((trial / "stdout-1.log").read_text().splitlines()) == 2
    assert len((trial / "stdout.log").read_text().splitlines()) == 5


def test_a_failed_command_shows_its_last_words_and_check_tells_them(folder: Folder) -> None:
    folder.write("train.py", "raise ValueError('no luck')")
    file = folder.study(STUDY)

    checked, done = folder.hpo("check", file), folder.hpo("run", file)

    assert checked.code == 1
    assert "the command exited with 1: ValueError: no luck" in checked.err
    assert 'File "' in checked.err  # the place in the script
    assert done.code == 4
    assert "CRASHED: the command exited with 1: ValueError: no luck" in done.err


def test_check_tells_all_mistakes_of_a_command(folder: Folder) -> None:
    wrong = {
        "command": "python train.py --x {y} {x",
        "metrics_from": {"regex": {"lss": "loss .*"}},
        "metric": "loss",
    }

    done = folder.hpo("check", folder.study({**STUDY, "objective": wrong}))

    assert done.code == 1
    assert "objective.command: {y} is no parameter. " in done.err
    assert "objective.command: {} is no parameter; where a brace is meant" in done.err
    assert "objective.metrics_from.regex.lss: 'loss .*' should have one group" in done.err
    assert "objective.metrics_from.regex: no pattern finds 'loss'" in done.err


# --- in MLflow ---


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's
def test_what_a_script_logs_to_mlflow_is_read(tmp_path: Path) -> None:
    script = """
import mlflow
with mlflow.start_run():
    mlflow.log_param("x", "as I write it")
    for step in (1, 2):
        mlflow.log_metric("loss", 1 / step, step=step)
    mlflow.log_metric("size", 9)
"""
    run = objective(tmp_path, script, metrics_from="mlflow")
    steps = run(job(tmp_path, x=1))

    from mlflow import MlflowClient

    reports, metrics = ran(steps)

    said = [(report.step, dict(report.metrics)) for report in reports]
    assert said == [(1, {"loss": 1.0}), (2, {"loss": 0.5})]
    assert metrics == {"loss": 0.5, "size": 9.0}
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    study = client.get_experiment_by_name("s")
    assert study is not None
    (logged,) = client.search_runs([study.experiment_id])
    assert logged.info.run_name == "trial 3 (script)"
    assert logged.info.status == "FINISHED"
    assert logged.data.params == {"x": "as I write it"}
    assert logged.data.tags["hpo.logged_by_trial"] == "3"


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy:DeprecationWarning")  # MLflow's
@pytest.mark.parametrize(
    ("call", "variable"),
    [
        ("set_experiment('mine')", "MLFLOW_EXPERIMENT_NAME"),
        ("set_tracking_uri('sqlite:///mine.db')", "MLFLOW_TRACKING_URI"),
    ],
)
def test_a_script_that_logs_elsewhere_is_told_what_to_leave_out(
    tmp_path: Path, call: str, variable: str
) -> None:
    script = f"import mlflow\nmlflow.{call}\nmlflow.start_run()\n"

    found = failure(objective(tmp_path, script, metrics_from="mlflow")(job(tmp_path)))

    name = call.partition("(")[0]
    assert found.message.endswith(f"; leave out `mlflow.{name}`: {variable} says it")


def test_metrics_from_mlflow_need_mlflow(tmp_path: Path) -> None:
    objective_ = {"command": "python x.py", "metric": "m", "metrics_from": "mlflow"}
    values = {"name": "s", "objective": objective_, "space": {"x": 1}}
    plan = spec.check(studyfile.from_values(values, "the study", tmp_path))

    with pytest.raises(ObjectiveError, match="tracking is off"):
        objectives.build(plan, "none")


@pytest.mark.parametrize("called_in", ["", "tools"])
def test_a_script_beside_the_study_files_folder_is_told_how_to_be_called(
    folder: Folder, called_in: str
) -> None:
    for place in ("tools", "configs"):
        (folder.path / place).mkdir()
    script = folder.path / called_in / "train.py"
    script.write_text("print('{\"loss\": 1}')\n", encoding="utf-8")
    there = "../train.py" if not called_in else "../tools/train.py"
    values = {
        "objective": {"command": "python train.py", "metric": "loss"},
        "space": {"x": {"float": [0, 1]}},
        "tracking": "none",
    }
    (folder.path / "configs/s.yaml").write_text(json.dumps(values), encoding="utf-8")
    at = replace(folder, path=folder.path / called_in)
    file = str(folder.path / "configs/s.yaml")

    told = at.hpo("check", file)
    assert told.code == 1
    assert f"; commands run in the study file's folder: write {there} for train.py" in told.err
    assert at.hpo("check", file, "--set", f"objective.command=python {there}").code == 0

    program = at.hpo("check", file, "--set", "objective.command=./train.py")
    assert f"Write {there}, since commands run in the study file's folder" in program.err
