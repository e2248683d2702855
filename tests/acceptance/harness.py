"""What the acceptance tests have in common: a folder, the `hpo` command in it, and its output.

Everything is real: processes, SQLite files, signals. MLflow is off unless a test is about it, since
it costs seconds a process.
"""

from __future__ import annotations

import ast
import itertools
import json
import os
import socket
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

PATIENCE_SECONDS = float(
    os.environ.get("HPO_TEST_PATIENCE", "120")
)  # not a promise: how long a busy machine may take before a test gives up
_numbers = itertools.count(1)
HPO = Path(sys.executable).with_name("hpo")

Study = dict[str, Any]
Starter = Callable[[list[str], Path, dict[str, str], tuple[int, int, int]], "Process"]


@dataclass(frozen=True)
class Done:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, which is one JSON document and nothing else."""
        return json.loads(self.out)

    @property
    def events(self) -> list[str]:
        """The lines about trials that it wrote on stderr."""
        return [line for line in self.err.splitlines() if line.startswith("trial ")]


class Process:
    """A started process, whoever's child it is."""

    def __init__(self, pid: int, wait: Callable[[float], int]) -> None:
        self.pid = pid
        self._wait = wait
        self._code: int | None = None

    @property
    def has_ended(self) -> bool:
        """Whether somebody has waited for its end."""
        return self._code is not None

    def wait(self, timeout: float = PATIENCE_SECONDS) -> int:
        """Its return code, negative when a signal ended it."""
        if self._code is None:
            self._code = self._wait(timeout)
        return self._code


@dataclass
class Running:
    """A command that may still run."""

    process: Process
    out: Path
    err: Path

    def signal(self, number: int) -> None:
        """Sends a signal."""
        os.kill(self.process.pid, number)

    def wait_for(self, text: str, path: Path | None = None) -> None:
        """Waits until `text` stands on stderr, or in another file."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        path = path or self.err
        while not (path.exists() and text in path.read_text(encoding="utf-8")):
            assert time.monotonic() < deadline, f"{text!r} never came: {self.err.read_text()}"
            time.sleep(0.01)

    def done(self) -> Done:
        """Waits for its end."""
        code = self.process.wait()
        return Done(code, self.out.read_text(encoding="utf-8"), self.err.read_text("utf-8"))


@dataclass
class Folder:
    """A folder and the `hpo` command in it.

    Args:
        path: The folder.
        starter: Starts processes.
        environment: Of the commands; MLflow is off in it.
    """

    path: Path
    starter: Starter
    environment: dict[str, str] = field(default_factory=lambda: clean_environment())

    def hpo(self, *arguments: str, **environment: str) -> Done:
        """Runs a command to its end; whatever happens, nobody sees a traceback."""
        done = self.start(*arguments, **environment).done()
        assert "Traceback" not in done.err, done.err
        assert "Traceback" not in done.out, done.out
        return done

    def start(self, *arguments: str, **environment: str) -> Running:
        """Starts a command."""
        number = next(_numbers)
        out, err = self.path / f".out-{number}", self.path / f".err-{number}"
        with out.open("w") as stdout, err.open("w") as stderr, Path(os.devnull).open() as stdin:
            process = self.starter(
                list(arguments),
                self.path,
                {**self.environment, **environment},
                (stdin.fileno(), stdout.fileno(), stderr.fileno()),
            )
        return Running(process, out, err)

    def script(self, *arguments: str) -> list[str]:
        """The lines that `python SCRIPT.py ...` prints, which ends well and silently."""
        done = self.start(*arguments).done()
        assert (done.code, done.err) == (0, ""), done.err
        return done.out.splitlines()

    def write(self, name: str, text: str) -> Path:
        """Writes a file."""
        path = self.path / name
        path.write_text(text, encoding="utf-8")
        return path

    def study(self, values: Mapping[str, Any], name: str = "study.yaml") -> str:
        """Writes a study file (JSON is YAML) and says how to call it."""
        self.write(name, json.dumps(values, indent=1))
        return name

    def trials(self, study: str) -> list[dict[str, Any]]:
        """What `hpo trials --json` lists."""
        listed = self.hpo("trials", study, "--json").json
        assert isinstance(listed, list)
        return listed

    def states(self, study: str) -> Counter[str]:
        """How many trials are in each state."""
        return Counter(trial["state"] for trial in self.trials(study))

    def calls(self) -> list[str]:
        """What the objective wrote into calls.txt: a line for each time it was called."""
        path = self.path / "calls.txt"
        return path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def clean_environment() -> dict[str, str]:
    """This process's environment, without what would change what hpo does, and MLflow off."""
    prefixes = ("HPO_", "MLFLOW_", "PYTEST_")
    ours = {key: value for key, value in os.environ.items() if not key.startswith(prefixes)}
    for key in ("FORCE_COLOR", "COLUMNS", "PYTHONWARNINGS"):
        ours.pop(key, None)
    mlflow = {"MLFLOW_TRACKING_URI": "none", "MLFLOW_DISABLE_TELEMETRY": "true"}
    return {**ours, **mlflow, "TERM": "xterm"}


def start_afresh(
    arguments: list[str],
    folder: Path,
    environment: dict[str, str],
    descriptors: tuple[int, int, int],
) -> Process:
    """Starts the `hpo` script, or Python with another, as a shell does."""
    stdin, stdout, stderr = descriptors
    is_script = any(each.endswith(".py") for each in arguments[:1])
    command = [sys.executable if is_script else str(HPO), *arguments]
    popen = subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        start_new_session=True,
    )
    return Process(popen.pid, lambda timeout: popen.wait(timeout))


def imported_by(
    arguments: Sequence[str], among: Sequence[str], folder: Path
) -> tuple[list[str], str]:
    """Which of some modules a command imports, in a process of its own, and what it printed."""
    code = (
        "import sys\n"
        "from hpo.cli.main import main\n"
        f"sys.argv = ['hpo', *{list(arguments)}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit:\n"
        "    pass\n"
        f"print([name for name in {list(among)} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    *said, modules = done.stderr.splitlines()
    return ast.literal_eval(modules), "\n".join([done.stdout, *said])


@contextmanager
def zygote(folder: Path) -> Iterator[Starter]:
    """A starter that forks a process which has imported everything (see zygote.py)."""
    path = str(folder / "zygote")
    script = Path(__file__).with_name("zygote.py")
    command = [sys.executable, "-W", "ignore", str(script), path]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, cwd=folder) as server:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"

        def start(
            arguments: list[str],
            folder: Path,
            environment: dict[str, str],
            descriptors: tuple[int, int, int],
        ) -> Process:
            request = {
                "arguments": arguments,
                "folder": str(folder),
                "environment": environment,
            }
            connection = socket.socket(socket.AF_UNIX)
            connection.connect(path)
            message = json.dumps(request).encode() + b"\n"
            sent = socket.send_fds(connection, [message], list(descriptors))
            connection.sendall(message[sent:])
            answers = connection.makefile("rb")
            return Process(int(answers.readline()), _waiter(connection, answers))

        yield start  # then its stdin is closed, which ends it


def _waiter(connection: socket.socket, answers: IO[bytes]) -> Callable[[float], int]:
    def wait(timeout: float) -> int:
        connection.settimeout(timeout)
        with connection, answers:
            return int(answers.readline())

    return wait
